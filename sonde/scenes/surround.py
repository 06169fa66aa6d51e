"""Rooms and towns all round: pieces of panoramas, and what the cameras on the sides of a vehicle see."""

import numpy as np

from sonde.scenes import indoor, town, viewpoints
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.room import Room
from sonde.scenes.tracer import Camera, Scene
from sonde.scenes.vectors import Real


def scene(rng: Rng) -> Scene:
    """A room from its inside, or a piece of town from a tripod or a vehicle, and several views of it."""
    return indoor.scene(rng, _in_room) if rng.random() < 0.6 else town.scene(rng, _in_town)


def _in_room(room: Room, rng: Rng) -> Camera:
    """From a tripod on a free spot of the floor."""
    return _turned(rng, (*indoor.standing(room, rng), min(rng.normal(1.5, 0.2), room.height - 0.15)))


def _in_town(block: town.Block, rng: Rng, walk: Real) -> Camera:
    """From a tripod, or from a vehicle: ahead, back, aside or between these, through a wide lens."""
    spot = rng.uniform(-0.9, 0.9) * walk, rng.normal(0, 6)
    if rng.random() < 0.35:
        return _turned(rng, (*spot, rng.normal(1.6, 0.3)))
    yaw = any_of(rng, *range(8)) * np.pi / 4 + rng.normal(0, 0.12)
    pitch, roll = np.radians((rng.normal(-4, 6), rng.normal(0, 1.5)))
    return Camera((*spot, rng.uniform(0.9, 2.3)), yaw, float(pitch), float(roll), rng.uniform(75, 120))


def _turned(rng: Rng, eye: tuple[Real, Real, Real]) -> Camera:
    """A piece of a panorama: any direction, and any height between the nadir and the zenith."""
    pitch = any_of(rng, rng.normal(0, 8), rng.uniform(-75, 60), p=[0.45, 0.55])
    roll = viewpoints.roll(rng)
    return Camera(eye, rng.uniform(-np.pi, np.pi), float(np.radians(pitch)), roll, rng.uniform(65, 115))
