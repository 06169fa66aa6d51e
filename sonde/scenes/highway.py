"""Motorways from one car: a rig of its own (focal length 0.58 of the width, 1.65 m above the road), other roads.

With `road` it makes a pair of driving sets that differ in camera, lanes and surroundings.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from sonde.scenes import buildings, finishes, street, weather
from sonde.scenes.catalogue import variant
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.road import Street, surroundings
from sonde.scenes.room import photo
from sonde.scenes.shapes import Group
from sonde.scenes.tracer import Camera, Photo, Scene
from sonde.scenes.vectors import Numbers, Real, three

FOV_DEG = float(np.degrees(2 * np.arctan(0.5 / 0.58)))
"""Horizontal field of view of a focal length of 0.58 widths."""
HEIGHT = 1.65
"""Of the camera above the road, metres."""
LANE = 3.6
"""Width of a lane, metres."""


class Mount(NamedTuple):
    """How a car carries its camera."""

    yaw: float
    pitch: float
    roll: float
    """Radians from straight ahead."""
    photo: Photo


def rig(rng: Rng):
    """A car with its camera, as a function from a generator to one moment of a drive."""
    yaw, pitch, roll = rng.normal(0, (0.01, 0.008, 0.005)).tolist()
    return partial(drive, Mount(yaw, pitch, roll, photo(rng)))


def scene(rng: Rng) -> Scene:
    """One moment in a car of its own."""
    return rig(rng)(rng)


def drive(mount: Mount, rng: Rng) -> Scene:
    """What the car's camera sees somewhere else; it nods and sways a little."""
    lanes = int(rng.integers(2, 5))
    road = Street(rng.normal(0, 9), rng.normal(0, 1.5), rng.normal(0, 0.4), lanes * LANE / 2 + rng.uniform(0.3, 1.5))
    shoulder = any_of(rng, 0.0, rng.uniform(1.5, 3))
    _carriageway(road, rng, 0.0, lanes, shoulder)
    middle = -2 * road.half - rng.uniform(1.5, 8)
    _carriageway(road, rng, middle, lanes, shoulder)
    road.ribbon(any_of(rng, finishes.earth, finishes.stone)(rng), middle + road.half, -road.half, 0.02)
    for lateral in (-road.half - 0.5, road.half + shoulder + 0.5, middle - road.half - shoulder - 0.5):
        if rng.random() < 0.75:
            any_of(rng, _rail, _rail, _kerb_wall)(road, rng, lateral)
    _verges(road, rng, road.half + shoulder + 1.5, middle - road.half - shoulder - 1.5)
    _over(road, rng, middle)
    for _ in range(rng.integers(1, 14)):
        _vehicle(road, rng, any_of(rng, *_lanes(lanes)), 0.0)
    for _ in range(rng.integers(0, 14)):
        _vehicle(road, rng, middle + any_of(rng, *_lanes(lanes)), np.pi)
    surroundings(road, rng, any_of(rng, 0.0, rng.uniform(2, 50)))
    x, y, z = road.at(0.0, any_of(rng, *_lanes(lanes)) + rng.normal(0, 0.15), HEIGHT)
    yaw, pitch, roll = np.add(mount[:3], rng.normal(0, (0.01, 0.004, 0.003))).tolist()
    camera = Camera(three((x, y, z)), yaw, pitch, roll, FOV_DEG)
    lights, sky = weather.outside(rng, camera)
    return Scene(road.group, camera, lights, sky, mount.photo)


def _lanes(lanes: int) -> list[float]:
    """Lateral offsets of the middles of the lanes."""
    return ((np.arange(lanes) - (lanes - 1) / 2) * LANE).tolist()


def _along(road: Street, kind: str, finish, y: Numbers, lateral: Real, lift: Real, size: Numbers) -> None:
    """Copies of a unit shape along the road, each turned with it."""
    y = np.asarray(y, float)
    road.group.add(kind, finish, at=road.at(y, lateral, lift), size=size, yaw=[road.heading(one) for one in y])


def _carriageway(road: Street, rng: Rng, middle: Real, lanes: int, shoulder: Real) -> None:
    """Asphalt or concrete, solid lines at the edges, dashes between the lanes."""
    tone = finishes.grey(rng, 0.25, 0.65)
    asphalt = finishes.stone(rng)._replace(
        dark=finishes.shaded(tone, 0.85), light=tone, gloss=float(any_of(rng, 0.0, 0.0, 0.1))
    )
    outer = road.half + shoulder
    left, right = (-road.half, outer) if middle == 0 else (-outer, road.half)
    road.ribbon(asphalt, middle + left, middle + right, 0.0, -12, 300)
    white, dashes = finishes.plain(rng, finishes.grey(rng, 0.75, 0.95), 0.0), np.arange(rng.uniform(-9, 0), 130, 12.0)
    for edge in (-1, 1):
        lateral = middle + edge * (lanes * LANE / 2 + 0.1)
        road.ribbon(white, lateral - 0.1, lateral + 0.1, 0.008, -8, 250)
    for lane in _lanes(lanes)[:-1]:
        _along(road, "box", white, dashes, middle + lane + LANE / 2, -0.09, (0.15, rng.uniform(3, 6), 0.1))


def _rail(road: Street, rng: Rng, lateral: Real) -> None:
    """A guard rail on its posts."""
    steel = finishes.metal(rng, finishes.grey(rng, 0.4, 0.75))
    y = np.arange(-10.0, 160.0, 4.0)
    _along(road, "box", steel, y, lateral, -0.1, (0.1, 0.1, 0.8))
    _along(road, "box", steel, y, lateral, 0.45, (0.06, 4.06, 0.3))


def _kerb_wall(road: Street, rng: Rng, lateral: Real) -> None:
    """A barrier of concrete, or a noise wall."""
    tall = any_of(rng, 0.9, 0.9, rng.uniform(2.5, 4.5))
    wall = any_of(rng, finishes.stone, finishes.masonry, finishes.plain, finishes.wood)(rng)
    _along(road, "box", wall, np.arange(-10.0, 200.0, 5.0), lateral, -0.1, (0.4 if tall < 1 else 0.2, 5.1, tall))


def _verges(road: Street, rng: Rng, right: Real, left: Real) -> None:
    """What stands beside: delineators, lamps, signs, bushes, woods, sheds, towers."""
    for side, edge in ((1, right), (-1, left)):
        road.ribbon(finishes.earth(rng), edge - side * 1.4, edge + side * 9, -0.04)
        _along(
            road,
            "box",
            finishes.plain(rng, (0.85, 0.85, 0.85)),
            np.arange(4.0, 150, rng.uniform(15, 50)),
            edge,
            0,
            (0.12, 0.08, 1.0),
        )
        if rng.random() < 0.4:
            lamp = variant(street.street_lamp, rng)
            for y in np.arange(rng.uniform(0, 30), 180, rng.uniform(25, 50)):
                road.put(lamp, y, edge + side * 0.8, 0.0 if side > 0 else np.pi)
        for _ in range(rng.poisson(any_of(rng, 2, 12, 30))):
            y, out = rng.uniform(3, 220), edge + side * (3 + rng.exponential(12))
            kind = any_of(rng, street.bush, street.far_tree, street.tree if y < 35 else street.far_tree)
            road.put(variant(kind, rng), y, out, rng.uniform(0, 6))
        for _ in range(rng.integers(0, 5)):
            kind = any_of(rng, buildings.shed, buildings.tower, street.house, buildings.cottage)
            road.put(variant(kind, rng), rng.uniform(20, 260), edge + side * rng.uniform(18, 90), -side * np.pi / 2)
        for _ in range(rng.integers(0, 4)):
            road.put(_board(rng), rng.uniform(8, 140), edge + side * 1.5)


def _over(road: Street, rng: Rng, middle: Real) -> None:
    """Gantries with signs, and bridges across."""
    wide = 2 * road.half + 5
    for y in rng.uniform(12, 200, rng.integers(0, 3)):
        gantry, steel = Group(), finishes.metal(rng)
        gantry.add("box", steel, at=[(side * wide / 2, 0, 0) for side in (-1, 1)], size=(0.35, 0.35, 6.2))
        gantry.add("box", steel, at=(0, 0, 6.2), size=(wide, 0.5, 0.6))
        for x in rng.uniform(-0.3, 0.3, rng.integers(1, 4)) * wide:
            gantry.add("box", _sign(rng), at=(x, -0.35, 5.4), size=(rng.uniform(2, 4), 0.1, rng.uniform(1.5, 2.6)))
        road.put(gantry, y, 1.0)
    if rng.random() < 0.3:
        road.put(variant(buildings.bridge, rng), rng.uniform(25, 160), middle / 2, 0.0, 0.6)


def _board(rng: Rng) -> Group:
    """A large sign on two posts."""
    wide, tall = rng.uniform(0.8, 4), rng.uniform(0.8, 2.5)
    group = Group().add(
        "pole", finishes.metal(rng), at=[(s * wide * 0.35, 0, 0) for s in (-1, 1)], size=(0.12, 0.12, 2.2 + tall)
    )
    return group.add("box", _sign(rng), at=(0, -0.1, 2.0), size=(wide, 0.06, tall))


def _sign(rng: Rng):
    """White words on blue, green, brown, or black on white and yellow."""
    ground = any_of(rng, (0.02, 0.08, 0.45), (0.01, 0.25, 0.08), (0.2, 0.1, 0.03), (0.85, 0.85, 0.85), (0.8, 0.6, 0.05))
    ink = (0.9, 0.9, 0.9) if max(ground) < 0.5 else (0.03, 0.03, 0.03)
    return finishes.plain(rng, ground, 0.02)._replace(
        mark=ink, marks=any_of(rng, "glyphs", "text"), marked=1.0, marks_tile=rng.uniform(1.5, 4)
    )


def _vehicle(road: Street, rng: Rng, lateral: Real, yaw: Real) -> None:
    """A car, a van or a lorry in its lane, ahead."""
    model = variant(any_of(rng, street.car, street.car, street.van), rng)
    road.put(model, 8 + rng.exponential(35), lateral + rng.normal(0, 0.2), yaw + np.pi)
