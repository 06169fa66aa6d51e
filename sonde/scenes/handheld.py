"""Rooms and streets as most people photograph them: upright, from the height of the eyes, into the distance."""

import numpy as np

from sonde.scenes import indoor, town, viewpoints
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.room import Room
from sonde.scenes.tracer import Camera, Scene
from sonde.scenes.vectors import Real


def scene(rng: Rng) -> Scene:
    """A room or, less often, a piece of town, and several views of it."""
    return indoor.scene(rng, _in_room) if rng.random() < 0.75 else town.scene(rng, _in_street)


def _in_room(room: Room, rng: Rng) -> Camera:
    """Across the room from a free spot, or down on a table top from beside it."""
    rise = any_of(rng, rng.normal(1.5, 0.12), rng.uniform(0.8, 1.4), p=[0.7, 0.3])
    eye = np.array([*indoor.standing(room, rng), min(rise, room.height - 0.15)])
    if not room.tops or rng.random() < 0.75:
        return viewpoints.held(rng, eye, indoor.farthest(room, rng, eye))
    x, y, z, _ = any_of(rng, *room.tops)
    away = eye[:2] - (x, y)
    eye[:2] = np.add((x, y), away / max(float(np.hypot(*away)), 1e-3) * rng.uniform(0.7, 1.6))
    eye[:2] = np.clip(eye[:2], *(np.outer((-0.5, 0.5), (room.width, room.length)) * 0.95))
    return viewpoints.at(rng, (*eye[:2], min(z + rng.uniform(0.35, 0.9), room.height - 0.15)), (x, y, z + 0.05))


def _in_street(block: town.Block, rng: Rng, walk: Real) -> Camera:
    """Along the street, or towards something in it."""
    eye = np.array([rng.uniform(-0.95, 0.95) * walk, rng.normal(0, 6), rng.normal(1.6, 0.12)])
    along = np.array([rng.normal(0, 0.3), any_of(rng, -1.0, 1.0)])
    goal = any_of(rng, *block.things)[:2] if block.things and rng.random() < 0.4 else eye[:2] + 30 * along
    return viewpoints.held(rng, eye, goal)
