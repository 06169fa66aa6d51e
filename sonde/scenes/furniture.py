"""Furniture: each piece stands on the origin with its back towards +y and its front towards -y, metres."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sonde.scenes import clutter, finishes
from sonde.scenes.catalogue import variant
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.materials import Material
from sonde.scenes.shapes import Group, grid, lathe, turn
from sonde.scenes.vectors import Real


class Piece(NamedTuple):
    """A piece of furniture and where things may stand on it."""

    group: Group
    width: float
    depth: float
    height: float
    top: tuple[float, float] | None = None
    """Width and depth of a free top at `height`, or None."""


def table(rng: Rng) -> Piece:
    """A dining table, a desk, a low or a round one."""
    width, depth = rng.uniform(0.7, 2.0), rng.uniform(0.5, 1.0)
    height = any_of(rng, rng.uniform(0.7, 0.78), rng.uniform(0.35, 0.5), p=[0.75, 0.25])
    top, legs = _board(rng), any_of(rng, finishes.metal, finishes.wood, finishes.plain)(rng)
    group = Group()
    if rng.random() < 0.2:
        depth = width = min(width, 1.3)
        group.add("cylinder", top, at=(0, 0, height - 0.03), size=(width, width, 0.03))
        group.add("pole", legs, size=(0.09, 0.09, height - 0.03)).add(
            "cylinder", legs, size=(width * 0.5, width * 0.5, 0.03)
        )
        return Piece(group, width, depth, height, (width * 0.65, width * 0.65))
    group.add("box", top, at=(0, 0, height - 0.035), size=(width, depth, 0.035))
    thick = rng.uniform(0.025, 0.08)
    _legs(group, legs, width - 0.1, depth - 0.1, height - 0.035, thick)
    if rng.random() < 0.4:
        group.add("box", top, at=(width * 0.32, 0, 0.08), size=(0.4, depth * 0.8, height - 0.15))
        _drawers(group, rng, width * 0.32, -depth * 0.4, 0.1, 0.38, height - 0.2, 3)
    return Piece(group, width, depth, height, (width * 0.9, depth * 0.85))


def chair(rng: Rng) -> Piece:
    """A wooden, a plastic or an office chair."""
    width, seat, tall = rng.uniform(0.4, 0.5), rng.uniform(0.42, 0.5), rng.uniform(0.8, 1.05)
    frame = any_of(rng, finishes.wood, finishes.metal, finishes.plain)(rng)
    soft = any_of(rng, finishes.fabric, finishes.plain, finishes.wood)(rng)
    group = Group().add(any_of(rng, "cushion", "box"), soft, at=(0, 0, seat - 0.06), size=(width, width, 0.07))
    lean = turn(0.0, -rng.uniform(0, 0.25), 0.0)
    if rng.random() < 0.5:
        _legs(group, frame, width * 0.85, width * 0.85, seat - 0.05, 0.035)
        group.add(
            "pole",
            frame,
            at=[(s * width * 0.42, width * 0.43, seat) for s in (-1, 1)],
            size=(0.03, 0.03, tall - seat),
            rotation=lean,
        )
        slats = int(rng.integers(1, 4))
        at = np.linspace(seat + 0.18, tall - 0.12, slats)[:, None] * [0, 0, 1] + [0, width * 0.46, 0]
        group.add("box", soft, at=at, size=(width * 0.9, 0.02, 0.35 / slats), rotation=lean)
    else:
        group.add("pole", frame, size=(0.05, 0.05, seat))
        spokes = np.arange(5) * 1.2566
        at = np.stack([np.cos(spokes) * 0.14, np.sin(spokes) * 0.14, 0 * spokes + 0.05], 1)
        group.add("box", frame, at=at, size=(0.3, 0.04, 0.03), yaw=spokes)
        group.add("pebble", frame, at=at * [2, 2, 0], size=(0.06, 0.06, 0.06))
        group.add("cushion", soft, at=(0, width * 0.45, seat + 0.1), size=(width, 0.08, tall - seat), rotation=lean)
        if rng.random() < 0.5:
            group.add("box", frame, at=[(s * width * 0.55, 0, seat + 0.18) for s in (-1, 1)], size=(0.05, 0.28, 0.03))
            group.add("box", frame, at=[(s * width * 0.55, 0, seat - 0.04) for s in (-1, 1)], size=(0.03, 0.05, 0.22))
    return Piece(group, width, width, tall)


def sofa(rng: Rng) -> Piece:
    """A sofa or an armchair."""
    width, depth, seat = (
        any_of(rng, rng.uniform(0.8, 1.0), rng.uniform(1.4, 2.3)),
        rng.uniform(0.8, 1.0),
        rng.uniform(0.38, 0.46),
    )
    soft, tall, arm = finishes.fabric(rng), rng.uniform(0.7, 0.95), rng.uniform(0.1, 0.24)
    group = Group().add("box", soft, at=(0, 0, 0.06), size=(width, depth, seat - 0.16))
    group.add("cushion", soft, at=(0, depth * 0.38, 0.1), size=(width, 0.28, tall - 0.1))
    group.add("cushion", soft, at=[(s * (width - arm) / 2, 0, 0.08) for s in (-1, 1)], size=(arm, depth, seat + 0.12))
    seats = 1 if width < 1.1 else int(rng.integers(2, 4))
    inner = (width - 2 * arm) / seats
    at = [((i + 0.5) * inner - inner * seats / 2, -0.08, seat - 0.12) for i in range(seats)]
    group.add("cushion", soft, at=at, size=(inner, depth * 0.8, 0.2))
    for _ in range(rng.integers(0, 4)):
        spot = (rng.uniform(-0.4, 0.4) * (width - 2 * arm), depth * 0.12, seat + 0.05)
        group.add(
            "pillow",
            finishes.fabric(rng),
            at=spot,
            size=(0.45, 0.16, 0.42),
            rotation=turn(rng.normal(0, 0.3), -0.3, 0.0),
        )
    return Piece(group, width, depth, tall)


def bed(rng: Rng) -> Piece:
    """A bed with blanket and pillows, its head at the back."""
    width, depth, high = (
        any_of(rng, rng.uniform(0.9, 1.0), rng.uniform(1.4, 1.8)),
        rng.uniform(1.95, 2.1),
        rng.uniform(0.35, 0.6),
    )
    frame = any_of(rng, finishes.wood, finishes.plain, finishes.fabric)(rng)
    group = Group().add("box", frame, at=(0, 0, 0.1), size=(width, depth, high - 0.28))
    group.add(
        "cushion",
        finishes.fabric(rng, finishes.grey(rng, 0.7, 0.95)),
        at=(0, 0, high - 0.22),
        size=(width, depth, 0.26),
    )
    group.add(
        "cushion", finishes.fabric(rng), at=(0, -depth * 0.16, high - 0.16), size=(width * 1.06, depth * 0.7, 0.26)
    )
    count = 1 if width < 1.2 else 2
    at = [((i + 0.5) * width / count - width / 2, depth * 0.36, high) for i in range(count)]
    group.add("pillow", finishes.fabric(rng), at=at, size=(0.6, 0.42, 0.18))
    group.add("box", frame, at=(0, depth / 2, 0), size=(width + 0.06, 0.06, rng.uniform(0.7, 1.2)))
    return Piece(group, width, depth + 0.06, 1.0)


def bookcase(rng: Rng) -> Piece:
    """Open shelves with books and things."""
    width, depth, height = rng.uniform(0.6, 1.6), rng.uniform(0.25, 0.4), rng.uniform(0.9, 2.2)
    board, shelves = _board(rng), int(rng.integers(2, 6))
    group = Group().add(
        "box", board, at=[(s * (width - 0.025) / 2, 0, 0) for s in (-1, 1)], size=(0.025, depth, height)
    )
    levels = np.linspace(0.04, height - 0.02, shelves + 1)
    group.add("box", board, at=levels[:, None] * [0, 0, 1], size=(width - 0.05, depth, 0.02))
    if rng.random() < 0.7:
        group.add("box", board, at=(0, depth / 2 - 0.01, 0.02), size=(width - 0.05, 0.01, height - 0.03))
    gap = levels[1] - levels[0]
    for level in levels[:-1]:
        kind = rng.random()
        if kind < 0.6:
            span = (width - 0.1) * rng.uniform(0.4, 1)
            shift = any_of(rng, -1, 1) * (width - 0.1 - span) / 2
            group.include(clutter.row_of_books(rng, span, min(gap - 0.03, 0.35)), (shift, -0.02, level + 0.02))
        elif kind < 0.9:
            things = (clutter.package, clutter.vessel, clutter.can, clutter.books, clutter.bottle)
            group.include(clutter.scattered(rng, 3, width - 0.1, depth, things), (0, 0, level + 0.02))
    return Piece(group, width, depth, height, (width, depth))


def cupboard(rng: Rng) -> Piece:
    """A wardrobe, a sideboard, a chest of drawers, a fridge, a filing cabinet."""
    width, depth = rng.uniform(0.5, 1.8), rng.uniform(0.35, 0.65)
    height = any_of(rng, rng.uniform(0.6, 1.1), rng.uniform(1.7, 2.2))
    body = any_of(rng, _board(rng), finishes.metal(rng), finishes.plain(rng))
    group = Group().add("box", body, size=(width, depth, height))
    columns, rows = max(int(width / 0.5), 1), any_of(rng, 1, 2, 3, 4) if height < 1.3 else any_of(rng, 1, 1, 2)
    front = body if rng.random() < 0.6 else any_of(rng, _board(rng), finishes.plain(rng))
    for column in range(columns):
        _drawers(
            group,
            rng,
            (column + 0.5) * width / columns - width / 2,
            -depth / 2,
            0.05,
            width / columns,
            height - 0.08,
            rows,
            front,
        )
    return Piece(group, width, depth, height, (width, depth) if height < 1.3 else None)


def kitchen(rng: Rng) -> Piece:
    """A counter with cupboards below and above, and perhaps a cooker."""
    width, depth = rng.uniform(1.5, 3.5), 0.6
    front, group = any_of(rng, _board(rng), finishes.plain(rng)), Group()
    group.add("box", front, at=(0, 0.03, 0.1), size=(width, depth - 0.06, 0.76))
    group.add("box", any_of(rng, finishes.stone, finishes.wood)(rng), at=(0, 0, 0.86), size=(width, depth, 0.04))
    count = int(width / 0.6)
    for i in range(count):
        _drawers(
            group,
            rng,
            (i + 0.5) * width / count - width / 2,
            -depth / 2 + 0.06,
            0.12,
            width / count,
            0.72,
            any_of(rng, 1, 1, 3),
            front,
        )
    if rng.random() < 0.7:
        group.add("box", front, at=(0, depth / 2 - 0.17, 1.45), size=(width * rng.uniform(0.5, 1), 0.34, 0.7))
        for i in range(count):
            _drawers(
                group, rng, (i + 0.5) * width / count - width / 2, depth / 2 - 0.34, 1.46, width / count, 0.66, 1, front
            )
    group.add("panel", finishes.masonry(rng), at=(0, depth / 2 - 0.001, 0.9), size=(width, 1, 0.55))
    if rng.random() < 0.6:
        group.add(
            "box",
            finishes.plain(rng, (0.02, 0.02, 0.02), 0.1),
            at=(rng.uniform(-0.3, 0.3) * width, 0, 0.9),
            size=(0.58, 0.5, 0.006),
        )
    return Piece(group, width, depth, 0.9, (width * 0.9, 0.35))


def floor_lamp(rng: Rng) -> Piece:
    """A lamp on a pole."""
    tall, wide = rng.uniform(1.3, 1.8), rng.uniform(0.25, 0.5)
    shade = finishes.fabric(rng, finishes.hue(rng, (0.05, 0.4), (0.7, 0.95), 0.12, 0.05))._replace(
        glow=any_of(rng, 0.0, 2.0)
    )
    group = (
        Group()
        .add("cylinder", finishes.metal(rng), size=(0.3, 0.3, 0.03))
        .add("pole", finishes.metal(rng), size=(0.03, 0.03, tall))
    )
    return Piece(group.add(lathe(np.array([(wide / 2, tall - 0.3), (wide * 0.35, tall)]), 14), shade), 0.35, 0.35, tall)


def big_plant(rng: Rng) -> Piece:
    """A plant on the floor."""
    group = Group().include(clutter.plant(rng), scale=rng.uniform(1.5, 2.5))
    return Piece(group, 0.5, 0.5, 1.2)


def boxes(rng: Rng) -> Piece:
    """A stack of cartons, totes or bags."""
    group, top = Group(), 0.0
    for _ in range(rng.integers(1, 4)):
        size = rng.uniform((0.25, 0.2, 0.15), (0.6, 0.45, 0.4))
        if rng.random() < 0.3:
            group.include(clutter.tote(rng, size), (*rng.normal(0, 0.03, 2), top), yaw=rng.normal(0, 0.2))
        else:
            group.add(
                "box",
                any_of(rng, finishes.cardboard, finishes.cardboard, finishes.plain)(rng),
                (*rng.normal(0, 0.03, 2), top),
                size,
                rng.normal(0, 0.2),
            )
        top += size[2]
    return Piece(group, 0.55, 0.45, top)


def bin_(rng: Rng) -> Piece:
    """A waste bin or a bucket."""
    return Piece(Group().include(clutter.vessel(rng), scale=rng.uniform(2.5, 4)), 0.4, 0.4, 0.5)


def stool(rng: Rng) -> Piece:
    """A stool, a pouffe, a drum."""
    wide, tall = rng.uniform(0.3, 0.5), rng.uniform(0.35, 0.7)
    if rng.random() < 0.5:
        return Piece(
            Group().add(any_of(rng, "cylinder", "cushion"), finishes.fabric(rng), size=(wide, wide, tall)),
            wide,
            wide,
            tall,
        )
    group = Group().add("cylinder", _board(rng), at=(0, 0, tall - 0.04), size=(wide, wide, 0.04))
    _legs(group, finishes.metal(rng), wide * 0.7, wide * 0.7, tall - 0.04, 0.03)
    return Piece(group, wide, wide, tall)


def rack(rng: Rng) -> Group:
    """A long shelf of goods, open on both sides, along x: a shop's, a library's, a store's."""
    long, deep, tall = rng.uniform(1.5, 3.0), rng.uniform(0.4, 0.9), rng.uniform(1.2, 2.6)
    steel, group = any_of(rng, finishes.metal, finishes.plain, finishes.wood)(rng), Group()
    levels = np.linspace(0.08, tall, int(rng.integers(3, 6)))
    group.add("box", steel, at=levels[:, None] * [0, 0, 1], size=(long, deep, 0.03))
    ends = [(x * long / 2, y * deep / 2, 0) for x in (-1, 1) for y in (-1, 1)]
    group.add("box", steel, at=ends, size=(0.05, 0.05, tall))
    gap = levels[1] - levels[0]
    for level in levels[:-1]:
        kinds = [
            variant(any_of(rng, clutter.package, clutter.bottle, clutter.can, clutter.vessel), rng) for _ in range(3)
        ]
        for x in np.arange(-long / 2 + 0.15, long / 2 - 0.1, 0.24):
            thing = any_of(rng, *kinds)
            scale = 0.85 * gap / float(np.ptp(thing.bounds(), axis=0)[2]) * rng.uniform(0.5, 1)
            group.include(thing, (x, rng.normal(0, 0.05), level + 0.03), rng.normal(0, 0.1), scale=min(scale, 2.0))
    return group


def stairs(rng: Rng) -> Group:
    """A flight of steps rising along y, with or without a banister."""
    count, wide = int(rng.integers(6, 18)), rng.uniform(0.8, 3.0)
    index, finish = np.arange(count), any_of(rng, finishes.wood, finishes.stone, finishes.masonry)(rng)
    at = np.stack([0 * index, index * 0.28, 0 * index], 1)
    size = np.stack([0 * index + wide, 0 * index + 0.28, (index + 1) * 0.17], 1)
    group = Group().add("box", finish, at=at, size=size)
    if rng.random() < 0.7:
        rail, thick = any_of(rng, finishes.metal, finishes.wood, finishes.plain)(rng), rng.uniform(0.02, 0.05)
        slope = turn(0.0, np.arctan2(0.17, 0.28), 0.0)
        for side in (-0.48, 0.48):
            group.add(
                "box", rail, at=at + np.outer(index + 1, [0, 0, 0.17]) + [side * wide, 0, 0], size=(thick, thick, 0.9)
            )
            group.add(
                "box",
                rail,
                at=(side * wide, count * 0.14 - 0.14, count * 0.085 + 0.95),
                size=(0.06, count * 0.33, 0.05),
                rotation=slope,
            )
    return group


def curtain(rng: Rng, width: Real, height: Real) -> Group:
    """Cloth in folds, hanging from z = height to the floor."""
    x = np.linspace(-width / 2, width / 2, max(int(width * 14), 6))
    y = np.stack([0.03 * np.sin(x * 40 + 2 * np.sin(x * 7)), 0.045 * np.sin(x * 40 + 2 * np.sin(x * 7))])
    points = np.stack(np.broadcast_arrays(x, y, np.array([[height], [0.02]])), -1)
    uv = np.stack(np.broadcast_arrays(x * 1.5, np.array([[height], [0.0]])), -1)
    return Group().add(grid(points, uv), finishes.fabric(rng))


def _board(rng: Rng) -> Material:
    return any_of(
        rng,
        finishes.wood(rng),
        finishes.plain(rng, finishes.grey(rng, 0.7, 0.95)),
        finishes.plain(rng),
        p=[0.6, 0.25, 0.15],
    )


def _legs(group: Group, finish: Material, width: Real, depth: Real, height: Real, thick: Real) -> None:
    at = [(sx * width / 2, sy * depth / 2, 0) for sx in (-1, 1) for sy in (-1, 1)]
    group.add("box", finish, at=at, size=(thick, thick, height))


def _drawers(
    group: Group,
    rng: Rng,
    x: Real,
    y: Real,
    z: Real,
    width: Real,
    height: Real,
    rows: int,
    front: Material | None = None,
) -> None:
    """Fronts with handles at (x, y), from z upwards."""
    front, handle = front or _board(rng), finishes.metal(rng)
    tall = height / rows
    level = z + np.arange(rows) * tall
    at = np.stack([0 * level + x, 0 * level + y, level + 0.004], 1)
    group.add("box", front, at=at, size=(width - 0.01, 0.02, tall - 0.008))
    group.add(
        "box",
        handle,
        at=np.add(at, (0 if rows > 1 else width * 0.38, -0.02, tall * 0.5)),
        size=(0.12, 0.02, 0.012) if rows > 1 else (0.012, 0.02, 0.14),
    )


AGAINST_WALLS: tuple[Callable[[Rng], Piece], ...] = (
    bookcase, bookcase, cupboard, cupboard, cupboard, sofa, sofa, bed, table, table, kitchen, floor_lamp,
    big_plant, boxes, bin_, chair,
)  # fmt: skip
"""What stands along walls."""
IN_THE_MIDDLE: tuple[Callable[[Rng], Piece], ...] = (
    table,
    table,
    table,
    chair,
    chair,
    stool,
    sofa,
    boxes,
    bed,
    big_plant,
    bin_,
    floor_lamp,
)
"""What stands in the open."""
