"""Small things that lie on tables, shelves, floors and benches; each stands on the origin, metres."""

from collections.abc import Callable

import numpy as np

from sonde.scenes import finishes
from sonde.scenes.catalogue import variant
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.shapes import Group, lathe, turn
from sonde.scenes.vectors import Real

Thing = Callable[[Rng], Group]


def bottle(rng: Rng) -> Group:
    """A bottle with a cap and a label."""
    radius, height = rng.uniform(0.025, 0.05), rng.uniform(0.16, 0.34)
    neck, shoulder = radius * rng.uniform(0.3, 0.5), height * rng.uniform(0.5, 0.75)
    profile = [(0, 0), (radius, 0), (radius, shoulder), (neck, shoulder + radius), (neck, height), (0, height)]
    group = Group().add(lathe(np.array(profile), 12), finishes.plain(rng, gloss=0.06))
    group.add("cylinder", finishes.plain(rng), at=(0, 0, height), size=(neck * 2.4, neck * 2.4, 0.02))
    wide = radius * 2.04
    return group.add(
        "cylinder", finishes.printed(rng, 0.1), at=(0, 0, shoulder * 0.3), size=(wide, wide, shoulder * 0.5)
    )


def vessel(rng: Rng) -> Group:
    """A cup, bowl, vase, pot or bin: turned, open at the top."""
    low, high = rng.uniform(0.03, 0.07, 2)
    waist, height = rng.uniform(0.03, 0.09), rng.uniform(0.05, 0.22)
    wall = 0.9
    outside = [(0, 0), (low, 0), (waist, height * 0.5), (high, height)]
    inside = [(high * wall, height), (waist * wall, height * 0.5), (low * wall, 0.006), (0, 0.006)]
    group = Group().add(lathe(np.array(outside + inside), 14), finishes.plain(rng, gloss=any_of(rng, 0.0, 0.05, 0.1)))
    if rng.random() < 0.4:
        size = height * 0.55
        upright = turn(0.0, np.pi / 2, 0.0)
        group.add(
            "ring",
            group.batches[0].material,
            (max(waist, high), size / 2, height * 0.5),
            (size, size, 0.06),
            rotation=upright,
        )
    return group


def can(rng: Rng) -> Group:
    """A tin or a paper cup with a print."""
    radius, height = rng.uniform(0.03, 0.06), rng.uniform(0.07, 0.18)
    group = Group().add("cylinder", finishes.printed(rng, 0.12), size=(radius * 2, radius * 2, height))
    return group.add("cylinder", finishes.metal(rng), at=(0, 0, height), size=(radius * 1.85, radius * 1.85, 0.003))


def package(rng: Rng) -> Group:
    """A carton with a print."""
    size = rng.uniform((0.05, 0.03, 0.03), (0.3, 0.22, 0.25))
    finish = any_of(rng, finishes.printed(rng, 0.2), finishes.cardboard(rng), finishes.plain(rng))
    return Group().add("box", finish, size=size)


def books(rng: Rng) -> Group:
    """A pile of books or papers, each turned a little."""
    group, top = Group(), 0.0
    for _ in range(rng.integers(1, 6)):
        size = rng.uniform((0.12, 0.17, 0.004), (0.22, 0.3, 0.05))
        group.add(
            "box", finishes.printed(rng, 0.25), at=(*rng.normal(0, 0.01, 2), top), size=size, yaw=rng.normal(0, 0.25)
        )
        top += size[2]
    return group


def row_of_books(rng: Rng, width: Real = 0.4, height: Real = 0.28) -> Group:
    """Books side by side, spines to the front."""
    thick = rng.uniform(0.015, 0.05, max(int(width / 0.034), 1))
    left = np.cumsum(thick) - thick / 2 - thick.sum() / 2
    tall = height * rng.uniform(0.65, 0.95, len(thick))
    group = Group()
    for part in np.array_split(rng.permutation(len(thick)), min(5, len(thick))):
        at = np.stack([left[part], rng.uniform(0, 0.03, len(part)), np.zeros(len(part))], 1)
        group.add(
            "box", finishes.printed(rng, 0.15), at=at, size=np.stack([thick[part], 0 * part + 0.17, tall[part]], 1)
        )
    return group


def screen(rng: Rng) -> Group:
    """A monitor or television on its foot."""
    width = rng.uniform(0.4, 0.75)
    height, case = width * rng.uniform(0.55, 0.75), finishes.plain(rng, finishes.grey(rng, 0.05, 0.6))
    face = finishes.printed(rng, width)._replace(glow=any_of(rng, 0.0, 0.0, 1.5), gloss=0.05)
    if rng.random() < 0.4:
        face = finishes.plain(rng, (0.01, 0.01, 0.012), gloss=0.08)
    group = Group().add("box", case, at=(0, 0, 0.1), size=(width, 0.04, height))
    group.add("panel", face, at=(0, -0.0205, 0.115), size=(width - 0.03, 1, height - 0.03))
    group.add("box", case, at=(0, 0.03, 0.01), size=(0.05, 0.03, 0.2))
    return group.add("box", case, size=(width * 0.4, 0.18, 0.015))


def laptop(rng: Rng) -> Group:
    """A laptop, open."""
    width, depth = rng.uniform(0.28, 0.38), rng.uniform(0.2, 0.26)
    case, lean = finishes.plain(rng, finishes.grey(rng, 0.1, 0.75)), rng.uniform(-0.5, 0.1)
    group = Group().add("box", case, size=(width, depth, 0.018))
    group.add(
        "box",
        finishes.printed(rng, 0.3)._replace(pattern="tiles", tile=0.08),
        at=(0, 0.03, 0.018),
        size=(width * 0.9, depth * 0.5, 0.002),
    )
    lid = turn(0.0, lean, 0.0)
    group.add("box", case, at=(0, depth / 2, 0.018), size=(width, 0.008, depth), rotation=lid)
    face = finishes.printed(rng, width)._replace(glow=1.2)
    return group.add("panel", face, at=(0, depth / 2 - 0.006, 0.028), size=(width * 0.94, 1, depth * 0.9), rotation=lid)


def keyboard(rng: Rng) -> Group:
    """A keyboard, and often a mouse."""
    case = finishes.plain(rng, finishes.grey(rng, 0.06, 0.85))
    keys = finishes.plain(rng)._replace(pattern="tiles", tile=0.075, dark=(0.02, 0.02, 0.02), contrast=2.0)
    group = (
        Group().add("box", case, size=(0.44, 0.15, 0.02)).add("box", keys, at=(0, 0, 0.02), size=(0.42, 0.13, 0.006))
    )
    return group.add("pillow", case, at=(0.32, 0, 0), size=(0.06, 0.1, 0.035))


def ball(rng: Rng) -> Group:
    """A ball, a fruit, a globe."""
    size = rng.uniform(0.05, 0.24)
    return Group().add(
        "ball",
        any_of(rng, finishes.plain, finishes.fabric)(rng) if rng.random() < 0.7 else finishes.printed(rng, size),
        size=[size] * 3,
    )


def roll(rng: Rng) -> Group:
    """A roll of tape, a ring, a short pipe."""
    size, height = rng.uniform(0.06, 0.16), rng.uniform(0.015, 0.2)
    upright = turn(rng.uniform(0, 6.3), 0, np.pi / 2) if rng.random() < 0.4 else np.eye(3)
    lift = size / 2 if upright[2, 2] < 0.5 else 0
    return Group().add(
        "tube", any_of(rng, finishes.plain, finishes.metal)(rng), (0, 0, lift), (size, size, height), rotation=upright
    )


def plant(rng: Rng) -> Group:
    """A pot with leaves."""
    pot, tall = rng.uniform(0.08, 0.2), rng.uniform(0.15, 0.7)
    group = Group().add(
        lathe(np.array([(0, 0), (pot * 0.35, 0), (pot * 0.5, pot), (pot * 0.4, pot), (0, pot * 0.85)]), 12),
        finishes.plain(rng),
    )
    green = finishes.foliage(rng)
    for _ in range(rng.integers(2, 5)):
        group.add(
            any_of(rng, "sprig", "sprig", "tuft"),
            green,
            at=(0, 0, pot * 0.8),
            size=tall * rng.uniform(0.6, 1.2, 3),
            yaw=rng.uniform(0, 6.3),
        )
    return group


def lamp(rng: Rng) -> Group:
    """A table lamp with a shade."""
    tall, wide = rng.uniform(0.3, 0.55), rng.uniform(0.15, 0.35)
    shade = finishes.fabric(rng, finishes.hue(rng, (0.05, 0.4), (0.7, 0.95), 0.12, 0.05))._replace(
        glow=any_of(rng, 0.0, 2.0)
    )
    group = Group().add("cylinder", finishes.metal(rng), size=(wide * 0.5, wide * 0.5, 0.02))
    group.add("pole", finishes.metal(rng), size=(0.02, 0.02, tall))
    return group.add(lathe(np.array([(wide / 2, tall * 0.6), (wide * 0.3, tall)]), 14), shade)


def bag(rng: Rng) -> Group:
    """A cushion, a bag, a bundle of cloth, a soft toy."""
    size = rng.uniform((0.15, 0.1, 0.1), (0.5, 0.35, 0.4))
    return Group().add(any_of(rng, "pillow", "cushion", "heap"), finishes.fabric(rng), size=size)


def tool(rng: Rng) -> Group:
    """A handle with a head, lying: a hammer, a brush, a screwdriver, a spoon."""
    length, thick = rng.uniform(0.12, 0.35), rng.uniform(0.01, 0.03)
    lying = turn(0.0, -np.pi / 2, 0.0)
    group = Group().add(
        "capsule", finishes.plain(rng), at=(0, 0, thick / 2), size=(thick, thick, length), rotation=lying
    )
    head = any_of(rng, "box", "capsule", "bolt", "pillow")
    return group.add(head, finishes.metal(rng), at=(0, length * 1.0, 0), size=rng.uniform(thick, thick * 4, 3))


def part(rng: Rng) -> Group:
    """A machine part: a bolt, a nut, a bracket, a flange, a pin, a gear."""
    size = rng.uniform(0.02, 0.09)
    finish = any_of(rng, finishes.metal, finishes.metal, finishes.plain)(rng)
    kind = rng.integers(6)
    group = Group()
    if kind == 0:
        group.add("bolt", finish, size=(size, size, size * 0.5))
        return group.add(
            "cylinder", finish, at=(0, 0, size * 0.5), size=(size * 0.55, size * 0.55, size * rng.uniform(1, 3))
        )
    if kind == 1:
        return group.add("nut", finish, size=(size, size, size * 0.6))
    if kind == 2:
        long = size * rng.uniform(1.5, 3)
        group.add("box", finish, size=(size, long, size * 0.12))
        return group.add("box", finish, at=(0, long / 2, 0), size=(size, size * 0.12, long * 0.7))
    if kind == 3:
        group.add("tube", finish, size=(size * 2, size * 2, size * 0.25))
        return group.add("tube", finish, size=(size * 1.2, size * 1.2, size))
    if kind == 4:
        return group.add(
            "capsule",
            finish,
            at=(0, 0, size / 2),
            size=(size * 0.5, size * 0.5, size * rng.uniform(1.5, 4)),
            rotation=turn(rng.uniform(0, 6), np.pi / 2, 0.0),
        )
    teeth = np.arange(12) * np.pi / 6
    at = np.stack([np.cos(teeth) * size, np.sin(teeth) * size, 0 * teeth], 1)
    group.add("tube", finish, size=(size * 2, size * 2, size * 0.4))
    return group.add("box", finish, at=at, size=(size * 0.3, size * 0.25, size * 0.4), yaw=teeth)


def tote(rng: Rng, size=(0.4, 0.3, 0.2), finish=None) -> Group:
    """An open box with thick walls, a rim and ribs."""
    width, depth, height = size
    finish, wall = finish or finishes.plain(rng), 0.012
    group = Group().add("box", finish, size=(width, depth, wall))
    for sign in (-1, 1):
        group.add("box", finish, at=(0, sign * (depth - wall) / 2, wall), size=(width, wall, height - wall))
        group.add("box", finish, at=(sign * (width - wall) / 2, 0, wall), size=(wall, depth - 2 * wall, height - wall))
        group.add(
            "box", finish, at=(0, sign * (depth / 2 + wall), height - wall), size=(width + 4 * wall, 2 * wall, wall)
        )
        group.add("box", finish, at=(sign * (width / 2 + wall), 0, height - wall), size=(2 * wall, depth, wall))
    ribs = np.linspace(-0.5, 0.5, int(rng.integers(3, 9)))[1:-1] * width
    for sign in (-1, 1):
        at = np.stack([ribs, 0 * ribs + sign * (depth / 2 + wall / 2), 0 * ribs], 1)
        group.add("box", finish, at=at, size=(wall, wall, height - wall))
    return group


def heaped(rng: Rng, things: list[Group], area, floor: Real = 0.012, ceiling: Real = 1.0) -> Group:
    """Copies of things dropped at random on an area, each on top of what lies there, tumbled a little."""
    cells = np.full((12, 12), floor)
    group = Group()
    for thing in things:
        low, high = thing.bounds()
        spot = rng.uniform(-0.5, 0.5, 2) * np.maximum(np.subtract(area, (high - low)[:2] * 0.8), 0.01)
        first = np.floor((spot + low[:2] * 0.7) / area * 12 + 6).astype(int).clip(0, 11)
        last = np.floor((spot + high[:2] * 0.7) / area * 12 + 6).astype(int).clip(0, 11)
        under = cells[first[0] : last[0] + 1, first[1] : last[1] + 1]
        rest = float(under.mean() * 0.5 + under.max() * 0.5)
        lean = rng.normal(0, 0.35 if rest > floor + 0.01 else 0.05, 2)
        if rest + high[2] - low[2] > ceiling:
            continue
        group.include(thing, (*spot, rest - low[2]), rotation=turn(rng.uniform(0, 6.3), *lean))
        under[:] = np.maximum(under, rest + (high[2] - low[2]) * 0.8)
    return group


def scattered(rng: Rng, count: int, width: Real, depth: Real, things: tuple[Thing, ...] = ()) -> Group:
    """Different things spread over a rectangle centred on the origin, seldom overlapping."""
    group, taken = Group(), []
    for _ in range(count):
        thing = variant(any_of(rng, *(things or TABLETOP)), rng)
        low, high = thing.bounds()
        radius = float(np.hypot(*(high - low)[:2]) / 2)
        for _ in range(4):
            room = np.maximum(np.array([width, depth]) / 2 - radius * 0.7, 0.01)
            spot = rng.uniform(-room, room)
            if all(np.hypot(*(spot - other)) > 0.8 * (radius + reach) for other, reach in taken):
                yaw = rng.normal(0, 0.5) if rng.random() < 0.7 else rng.uniform(0, 6.3)
                group.include(thing, (*spot, -low[2]), yaw=yaw)
                taken.append((spot, radius))
                break
    return group


TABLETOP: tuple[Thing, ...] = (
    bottle, bottle, vessel, vessel, can, package, package, books, books, laptop, screen, keyboard, ball, roll,
    plant, lamp, bag, tool,
)  # fmt: skip
"""What stands on tables."""
WORKSHOP: tuple[Thing, ...] = (package, package, can, roll, tool, tool, part, part, part, bottle, vessel, ball, bag)
"""What lies on workbenches."""
