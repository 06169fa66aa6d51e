"""Buildings whose fronts stand out: windows, doors, balconies, columns, awnings and signs are geometry, metres.

Each stands on the origin behind its front, which faces -y.
"""

import numpy as np

from sonde.scenes import finishes
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.materials import Colour, Material
from sonde.scenes.shapes import Group, turn
from sonde.scenes.vectors import Real


def terraced(rng: Rng) -> Group:
    """A house in a row: bays of windows in frames, a ground floor with doors or a shop, a roof or a parapet."""
    bays, floors = int(rng.integers(2, 8)), int(rng.integers(1, 7))
    bay, storey = rng.uniform(1.6, 3.2), rng.uniform(2.7, 3.8)
    width, tall, deep = bays * bay + rng.uniform(0.2, 1.5), floors * storey + 0.3, rng.uniform(7, 14)
    colour = _stucco(rng)
    wall, trim = _wall(rng, colour), finishes.plain(rng, any_of(rng, finishes.shaded(colour, 1.4), finishes.grey(rng)))
    group = Group().add("box", wall, at=(0, deep / 2, 0), size=(width, deep, tall))
    x = (np.arange(bays) + 0.5) * bay - bays * bay / 2
    levels = np.arange(1 if floors > 1 else 0, floors) * storey
    _windows(group, rng, np.array([(a, z + storey * 0.3) for z in levels for a in x]), bay, storey, trim)
    if floors > 1:
        _ground_floor(group, rng, x, bay, storey, width, trim)
        if rng.random() < 0.3:
            _balconies(group, rng, x[:: int(rng.integers(1, 3))], levels, bay)
    if rng.random() < 0.5:
        ledges = np.append(levels, tall - 0.2)[:, None] * [0, 0, 1] + [0, -0.08, -0.1]
        group.add("box", trim, at=ledges, size=(width + 0.1, 0.25, rng.uniform(0.1, 0.35)))
    if rng.random() < 0.15:
        group.add("pole", trim, at=[(a - bay / 2, -0.25, 0) for a in x], size=(0.4, 0.4, tall * 0.9))
    return _topped(group, rng, width, deep, tall, trim)


def tower(rng: Rng) -> Group:
    """A high block: a patterned skin on a body or a stack of bodies, for the distance."""
    width, deep, tall = rng.uniform(10, 35), rng.uniform(10, 30), rng.uniform(18, 90)
    wall = Material(
        (0.03, 0.05, 0.07), _stucco(rng), pattern=any_of(rng, "offices", "offices", "facade", "stripes", "tiles"),
        tile=rng.uniform(6, 16), stretch=rng.uniform(0.6, 1.6), gloss=any_of(rng, 0.02, 0.25), sharpness=60.0,
    )  # fmt: skip
    group = Group().add("box", wall, at=(0, deep / 2, 0), size=(width, deep, tall))
    if rng.random() < 0.5:
        group.add("box", wall, at=(0, deep / 2, tall), size=(width * 0.6, deep * 0.6, tall * rng.uniform(0.1, 0.5)))
    return group


def cottage(rng: Rng) -> Group:
    """A detached house with a gable roof, a door and a few windows on all sides."""
    width, deep, storey = rng.uniform(6, 13), rng.uniform(6, 10), rng.uniform(2.5, 3.0)
    floors = int(rng.integers(1, 3))
    tall, colour = floors * storey, _stucco(rng)
    group = Group().add("box", _wall(rng, colour), at=(0, deep / 2, 0), size=(width, deep, tall))
    trim = finishes.plain(rng, finishes.grey(rng, 0.6, 0.95))
    x = np.linspace(-0.5, 0.5, int(width / 2.4) + 2)[1:-1] * width
    spots = np.array([(a, floor * storey + 0.9) for floor in range(floors) for a in x[(0 if floor else 1) :]])
    if len(spots):
        _windows(group, rng, spots, 2.4, storey, trim)
    _door(group, rng, float(x[0]), trim)
    return _topped(group, rng, width, deep, tall, trim, gable=True)


def shed(rng: Rng) -> Group:
    """A garage, a warehouse, a barn, a kiosk, a bus shelter."""
    width, deep, tall = rng.uniform(2.5, 20), rng.uniform(2.5, 14), rng.uniform(2.3, 7)
    ribbed = finishes.metal(rng)._replace(pattern="ribs", tile=3.0, gloss=0.1)
    wall = any_of(rng, ribbed, finishes.wood(rng, True), finishes.masonry(rng), finishes.plain(rng))
    group = Group()
    if rng.random() < 0.25:  # open in front: posts, a roof and a back
        group.add(
            "box", finishes.metal(rng), at=[(s * width * 0.47, 0.1, 0) for s in (-1, 0, 1)], size=(0.12, 0.12, tall)
        )
        group.add("box", wall, at=(0, deep, 0), size=(width, 0.1, tall))
    else:
        group.add("box", wall, at=(0, deep / 2, 0), size=(width, deep, tall))
        gate = min(width * 0.7, 4.5), min(tall * 0.8, 3.8)
        group.add(
            "box", finishes.plain(rng)._replace(pattern="ribs", tile=2.0), at=(0, 0, 0), size=(gate[0], 0.1, gate[1])
        )
    return _topped(group, rng, width, deep, tall, finishes.metal(rng), gable=rng.random() < 0.4)


def _stucco(rng: Rng) -> Colour:
    return any_of(
        rng, finishes.grey(rng, 0.45, 0.95), finishes.hue(rng, (0.08, 0.5), (0.5, 0.95), 0.09, 0.06),
        finishes.hue(rng, (0.4, 0.75), (0.35, 0.65), 0.03, 0.015), finishes.hue(rng, (0.1, 0.5), (0.4, 0.9)),
    )  # fmt: skip


def _wall(rng: Rng, colour: Colour) -> Material:
    pattern = any_of(rng, "rough", "cloud", "bricks", "bricks", "slabs", "planks", "fine")
    tile = {"bricks": rng.uniform(0.9, 1.4), "planks": 1.6, "slabs": rng.uniform(1.5, 5)}.get(
        pattern, rng.uniform(1, 4)
    )
    return Material(
        finishes.shaded(colour, rng.uniform(0.45, 0.9)), colour, finishes.shaded(colour, 0.5), pattern,
        any_of(rng, "blotches", "rough", "glyphs"), tile=tile, marks_tile=rng.uniform(2, 7), shift=rng.random(),
        contrast=rng.uniform(0.4, 1.1), angle=np.pi / 2 if pattern == "planks" and rng.random() < 0.5 else 0.0,
        marked=any_of(rng, 0.0, 0.0, rng.uniform(0, 0.4)), relief=rng.uniform(0, 0.6),
    )  # fmt: skip


def _windows(group: Group, rng: Rng, spots: np.ndarray, bay: Real, storey: Real, trim: Material) -> None:
    """Windows with their middles at x and sills at z; frames, bars and sills stand out of the wall."""
    wide, tall = bay * rng.uniform(0.35, 0.7), storey * rng.uniform(0.4, 0.62)
    at = np.insert(spots, 1, 0.0, axis=1)
    glass = finishes.plain(rng, finishes.hue(rng, (0.1, 0.4), (0.08, 0.35), 0.58, 0.05), 0.25)
    lit = glass._replace(light=(0.9, 0.7, 0.4), glow=1.5)
    on = rng.random(len(at)) < any_of(rng, 0.0, 0.0, 0.4)
    for chosen, finish in ((~on, glass), (on, lit)):
        if chosen.any():
            group.add("box", finish, at=at[chosen], size=(wide, 0.06, tall))
    jambs = np.concatenate([np.add(at, (side * wide / 2, -0.02, 0)) for side in (-1, 1)])
    group.add("box", trim, at=jambs, size=(0.1, 0.14, tall))
    group.add(
        "box",
        trim,
        at=np.concatenate([np.add(at, (0, -0.05, -0.1)), np.add(at, (0, -0.02, tall))]),
        size=(wide + 0.2, 0.26, 0.1),
    )
    if rng.random() < 0.6:
        group.add("box", trim, at=np.add(at, (0, -0.01, 0)), size=(0.05, 0.09, tall))
        group.add("box", trim, at=np.add(at, (0, -0.01, tall * 0.6)), size=(wide, 0.09, 0.05))
    if rng.random() < 0.3:
        shutters = np.concatenate([np.add(at, (side * (wide * 0.75), -0.04, 0)) for side in (-1, 1)])
        group.add(
            "box",
            finishes.plain(rng)._replace(pattern="ribs", tile=1.2, angle=np.pi / 2),
            at=shutters,
            size=(wide / 2, 0.05, tall),
        )


def _ground_floor(group: Group, rng: Rng, x: np.ndarray, bay: Real, storey: Real, width: Real, trim: Material) -> None:
    """A shop with its sign and awning, or a door and windows."""
    door = int(rng.integers(len(x)))
    _door(group, rng, float(x[door]), trim)
    if rng.random() < 0.5:
        glass = any_of(rng, finishes.printed(rng, 2.5), finishes.plain(rng, (0.05, 0.06, 0.07), 0.25))
        group.add("box", glass, at=[(a, 0, 0.5) for a in np.delete(x, door)], size=(bay * 0.85, 0.08, storey * 0.6))
        sign = finishes.plain(rng)._replace(
            marks="glyphs", marked=1.0, mark=finishes.grey(rng, 0.6, 0.97), marks_tile=rng.uniform(1.5, 4)
        )
        group.add("box", sign, at=(0, -0.12, storey * 0.78), size=(width * 0.95, 0.3, storey * 0.18))
        if rng.random() < 0.6:
            cloth = finishes.fabric(rng)._replace(pattern=any_of(rng, "stripes", "weave"), tile=rng.uniform(1, 3))
            group.add("wedge", cloth, at=(0, -0.75, storey * 0.7), size=(width * rng.uniform(0.3, 0.95), 1.4, 0.5))
    else:
        spots = np.array([(a, storey * 0.28) for a in np.delete(x, door)]).reshape(-1, 2)
        if len(spots):
            _windows(group, rng, spots, bay, storey, trim)


def _door(group: Group, rng: Rng, x: Real, trim: Material) -> None:
    wide, tall = rng.uniform(0.9, 1.8), rng.uniform(2.0, 2.5)
    group.add("box", any_of(rng, finishes.wood, finishes.plain)(rng), at=(x, 0, 0.15), size=(wide, 0.1, tall))
    group.add("box", trim, at=[(x + s * wide / 2, -0.03, 0) for s in (-1, 1)], size=(0.14, 0.2, tall + 0.2))
    group.add(
        "box",
        finishes.stone(rng),
        at=[(x, -0.3, 0), (x, -0.15, 0.1)],
        size=[(wide + 0.5, 0.7, 0.1), (wide + 0.3, 0.4, 0.1)],
    )


def _balconies(group: Group, rng: Rng, x: np.ndarray, levels: np.ndarray, bay: Real) -> None:
    """Slabs with railings, or with walls."""
    at = np.array([(a, -0.6, z) for a in x for z in levels])
    group.add("box", finishes.stone(rng), at=at, size=(bay * 0.85, 1.2, 0.14))
    if rng.random() < 0.4:
        group.add("box", finishes.plain(rng), at=np.add(at, (0, -0.57, 0.1)), size=(bay * 0.85, 0.06, 0.9))
        return
    steel = finishes.metal(rng, finishes.grey(rng, 0.05, 0.4))
    group.add("box", steel, at=np.add(at, (0, -0.57, 1.0)), size=(bay * 0.85, 0.05, 0.06))
    bars = np.linspace(-0.4, 0.4, 8) * bay
    group.add("box", steel, at=np.concatenate([np.add(at, (b, -0.57, 0.1)) for b in bars]), size=(0.025, 0.025, 0.95))


def _topped(
    group: Group, rng: Rng, width: Real, deep: Real, tall: Real, trim: Material, gable: bool | None = None
) -> Group:
    """A roof with a chimney or dormers, or a parapet with boxes on it."""
    if gable if gable is not None else rng.random() < 0.5:
        tiles = finishes.masonry(rng)._replace(
            pattern=any_of(rng, "scales", "ribs", "bricks"), tile=rng.uniform(1.5, 3)
        )
        along = rng.random() < 0.7
        size = (deep + 0.9, width + 0.6) if along else (width + 0.9, deep + 0.6)
        rise = rng.uniform(0.25, 0.6) * size[0] / 2
        group.add("roof", tiles, at=(0, deep / 2, tall), size=(*size, rise), yaw=np.pi / 2 if along else 0.0)
        at = (rng.uniform(-0.3, 0.3) * width, deep * 0.6, tall)
        return group.add("box", finishes.masonry(rng), at=at, size=(0.6, 0.6, rise * rng.uniform(0.9, 1.5)))
    group.add("box", trim, at=(0, deep / 2, tall), size=(width + 0.3, deep + 0.3, rng.uniform(0.2, 1.0)))
    spots = rng.uniform((-0.4, 0.2, 0), (0.4, 0.8, 0), (3, 3)) * (width, deep, 0) + (0, 0, tall)
    return group.add("box", finishes.metal(rng), at=spots, size=rng.uniform(0.5, 2.5, (3, 3)))


def bridge(rng: Rng) -> Group:
    """A deck on piers across y with railings, or a truss."""
    long, wide, tall, steel = rng.uniform(25, 60), rng.uniform(4, 10), rng.uniform(4.5, 7), finishes.metal(rng)
    stone = any_of(rng, finishes.stone, finishes.masonry)(rng)
    group = Group().add("box", stone, at=(0, 0, tall), size=(long, wide, 0.8))
    x = np.linspace(-0.45, 0.45, int(rng.integers(2, 6))) * long
    group.add(any_of(rng, "box", "cylinder"), stone, at=[(a, 0, 0) for a in x], size=(1.2, wide * 0.6, tall))
    group.add("box", steel, at=[(0, s * wide / 2, tall + 1.6) for s in (-1, 1)], size=(long, 0.08, 0.08))
    posts = [(a, s * wide / 2, tall + 0.6) for a in np.linspace(-0.5, 0.5, 16) * long for s in (-1, 1)]
    group.add("box", steel, at=posts, size=(0.08, 0.08, 1.0))
    if rng.random() < 0.5:
        lean, rise = rng.uniform(0.5, 0.9), rng.uniform(4, 7)
        for side in (-1, 1):
            group.add("box", steel, at=(0, side * wide / 2, tall + rise), size=(long, 0.3, 0.3))
            for a in np.linspace(-0.5, 0.45, 10) * long:
                tilt = turn(0.0, 0.0, any_of(rng, -1, 1) * lean)
                group.add(
                    "box",
                    steel,
                    at=(a, side * wide / 2, tall + 0.5),
                    size=(0.2, 0.2, rise / np.cos(lean)),
                    rotation=tilt,
                )
    return group
