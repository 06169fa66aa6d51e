"""Things out of doors: vehicles, trees, houses, street furniture; each stands on the origin, metres."""

from collections.abc import Callable

import numpy as np

from sonde.scenes import finishes
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.materials import Material
from sonde.scenes.people import person
from sonde.scenes.shapes import Group, extrusion, turn
from sonde.scenes.vectors import Real


def car(rng: Rng) -> Group:
    """A car along y, its front at -y: a body, a glazed cabin, wheels and lamps."""
    long, wide, tall = rng.uniform(3.6, 4.9), rng.uniform(1.65, 1.9), rng.uniform(1.4, 1.75)
    colour = any_of(rng, finishes.grey(rng, 0.05, 0.95), finishes.hue(rng, (0.5, 0.95), (0.2, 0.8)), p=[0.7, 0.3])
    body = finishes.plain(rng, colour, 0.08)._replace(sharpness=80.0, marked=0.0)
    glass, dark = finishes.plain(rng, (0.015, 0.02, 0.025), 0.12), finishes.plain(rng, (0.02, 0.02, 0.02), 0.0)
    belt, nose, tail = tall * 0.58, rng.uniform(0.2, 0.3), any_of(rng, 0.02, rng.uniform(0.1, 0.2))
    half = long / 2
    side = [
        (-half, 0.35, 0.62),
        (-half + 0.12, 0.2, 0.75),
        (-half + nose * long, 0.2, belt),
        (half - 0.15, 0.2, belt),
        (half, 0.35, belt * 0.85),
    ]
    group = Group().add(extrusion(np.array(side), wide), body)
    front, back = -half + nose * long, half - tail * long
    cabin = [
        (front - 0.05, belt - 0.02, belt),
        (front + 0.55, belt - 0.02, tall - 0.05),
        (back - 0.35, belt - 0.02, tall - 0.05),
        (back, belt - 0.02, belt),
    ]
    group.add(extrusion(np.array(cabin), wide * 0.86), glass)
    roof = [
        (front + 0.5, tall - 0.06, tall - 0.03),
        (front + 0.9, tall - 0.06, tall),
        (back - 0.5, tall - 0.06, tall),
        (back - 0.25, tall - 0.08, tall - 0.04),
    ]
    group.add(extrusion(np.array(roof), wide * 0.88), body)
    group.add(
        "box",
        body,
        at=[(s * wide * 0.43, (front + back) / 2, belt) for s in (-1, 1)],
        size=(0.03, 0.1, tall - belt - 0.05),
    )
    _wheels(group, rng, wide, [-half * 0.62, half * 0.6], rng.uniform(0.6, 0.68))
    for y, lamp in ((-half + 0.04, (0.9, 0.9, 0.85)), (half - 0.04, (0.5, 0.02, 0.02))):
        at = [(s * wide * 0.37, y, 0.6) for s in (-1, 1)]
        group.add(
            "box",
            finishes.plain(rng, lamp, 0.1)._replace(glow=float(any_of(rng, 0.0, 0.0, 2.0))),
            at=at,
            size=(0.32, 0.12, 0.15),
        )
        group.add("box", finishes.plain(rng, (0.8, 0.8, 0.7)), at=(0, y * 1.012, 0.45), size=(0.5, 0.02, 0.12))
    return group.add("box", dark, at=(0, -half + 0.03, 0.42), size=(wide * 0.6, 0.1, 0.14))


def van(rng: Rng) -> Group:
    """A van, a lorry or a bus along y, its front at -y."""
    long, wide, tall = rng.uniform(5, 11), rng.uniform(1.9, 2.5), rng.uniform(2.1, 3.6)
    body = any_of(
        rng, finishes.plain(rng), finishes.plain(rng, finishes.grey(rng, 0.7, 0.97)), finishes.printed(rng, 3.0)
    )
    glass = finishes.plain(rng, (0.015, 0.02, 0.025), 0.12)
    group, half = Group(), long / 2
    side = [
        (-half, 0.4, 1.0),
        (-half + 0.3, 0.35, tall * 0.55),
        (-half + 0.9, 0.35, tall * 0.9),
        (-half + 1.2, 0.35, tall),
        (half, 0.35, tall),
    ]
    group.add(extrusion(np.array(side), wide), body)
    group.add("box", glass, at=(0, -half + 0.55, tall * 0.52), size=(wide * 1.005, 0.8, tall * 0.28))
    if rng.random() < 0.5:
        group.add("box", glass, at=(0, 0.8, tall * 0.52), size=(wide * 1.005, long * 0.7, tall * 0.28))
    group.add(
        "box",
        finishes.plain(rng, (0.4, 0.02, 0.02)),
        at=[(s * wide * 0.42, half, 0.7) for s in (-1, 1)],
        size=(0.15, 0.03, 0.3),
    )
    group.add("panel", glass, at=(0, half + 0.01, tall * 0.55), size=(wide * 0.8, 1, tall * 0.25))
    _wheels(group, rng, wide, [-half * 0.65, half * 0.6], 0.85)
    return group


def bicycle(rng: Rng) -> Group:
    """A bicycle along y, sometimes ridden."""
    paint, black = finishes.plain(rng), finishes.plain(rng, (0.02, 0.02, 0.02))
    upright = turn(0.0, 0.0, np.pi / 2)
    at = [(-0.0, y, 0.34) for y in (-0.52, 0.52)]
    group = Group().add(
        "hoop", black, at=np.subtract(at, upright @ [0, 0, 0.02]), size=(0.68, 0.68, 0.04), rotation=upright
    )
    for start, stop in (
        ((-0.5, 0.34), (-0.4, 0.95)),
        ((-0.42, 0.8), (0.12, 0.32)),
        ((0.12, 0.32), (0.22, 0.9)),
        ((-0.42, 0.82), (0.2, 0.8)),
        ((0.12, 0.32), (0.52, 0.34)),
        ((0.2, 0.8), (0.52, 0.34)),
    ):
        _rod(group, paint, (0, *start), (0, *stop), 0.035)
    _rod(group, black, (-0.28, -0.4, 0.98), (0.28, -0.4, 0.98), 0.03)
    group.add("pillow", black, at=(0, 0.24, 0.9), size=(0.16, 0.26, 0.07))
    if rng.random() < 0.4:
        group.include(person(rng), (0, 0.12, 0.12))
    return group


def tree(rng: Rng) -> Group:
    """A broad tree, a conifer, a bare tree or a palm, 3 to 14 m."""
    tall, bark = rng.uniform(3, 14), finishes.wood(rng)._replace(gloss=0.0)
    thick, green = tall * rng.uniform(0.02, 0.045), finishes.foliage(rng)
    kind = any_of(rng, "broad", "conifer", "bare", "palm", p=[0.65, 0.18, 0.12, 0.05])
    group = Group().add(
        "pole", bark, size=(thick, thick, tall * 0.75), rotation=turn(0.0, rng.normal(0, 0.03), rng.normal(0, 0.03))
    )
    if kind == "conifer":
        levels = np.linspace(0.12, 0.75, 5)
        size = np.stack([(1 - levels) * tall * 0.45, (1 - levels) * tall * 0.45, 0 * levels + tall * 0.3], 1)
        return group.add("cone", green, at=levels[:, None] * [0, 0, tall], size=size, yaw=rng.uniform(0, 6, 5))
    if kind == "palm":
        return group.add("sprig", green, at=(0, 0, tall * 0.72), size=(2.5, 2.5, 1.2), yaw=[0.0])
    for _ in range(rng.integers(4, 9)):
        start, lean = tall * rng.uniform(0.3, 0.65), turn(rng.uniform(0, 6.3), rng.uniform(0.3, 1.0), 0.0)
        group.add(
            "pole",
            bark,
            at=(0, 0, start),
            size=(thick * 0.4, thick * 0.4, tall * rng.uniform(0.25, 0.4)),
            rotation=lean,
        )
    if kind == "bare":
        return group
    count, wide = int(rng.integers(4, 8)), tall * rng.uniform(0.2, 0.32)
    at = rng.normal(0, 1, (count, 3)) * (wide * 0.75, wide * 0.75, tall * 0.12) + (0, 0, tall * 0.62)
    size = wide * rng.uniform(0.7, 1.5, (count, 1)) * (1.15, 1.15, 0.9)
    group.add("crown", green, at=at, size=size * 0.8, yaw=rng.uniform(0, 6, count))
    return group.add("tuft", green, at=at - (0, 0, 0.1 * wide), size=size * 1.25, yaw=rng.uniform(0, 6, count))


def far_tree(rng: Rng) -> Group:
    """A tree for the distance: a trunk and a few lumps, or a cone."""
    tall, green = rng.uniform(3, 14), finishes.foliage(rng)
    wide = tall * rng.uniform(0.3, 0.6)
    group = Group().add("pole", finishes.wood(rng), size=(tall * 0.03, tall * 0.03, tall * 0.6))
    if rng.random() < 0.25:
        return group.add("cone", green, at=(0, 0, tall * 0.1), size=(wide * 0.8, wide * 0.8, tall * 0.9))
    at = rng.normal(0, 0.22, (2, 3)) * (wide, wide, tall * 0.4) + (0, 0, tall * 0.38)
    return group.add("crown", green, at=at, size=(wide * 0.95, wide * 0.95, tall * 0.55), yaw=rng.uniform(0, 6, 2))


def bush(rng: Rng) -> Group:
    """A bush, a clump of grass or flowers."""
    wide, tall, green = rng.uniform(0.4, 2.0), rng.uniform(0.3, 1.6), finishes.foliage(rng)
    if rng.random() < 0.3:
        return Group().add("grass", green, size=(wide, wide, tall), yaw=[0.0, 1.0, 2.0])
    at = rng.normal(0, 0.2, (3, 3)) * (wide, wide, 0)
    group = Group().add("crown", green, at=at, size=(wide * 0.8, wide * 0.8, tall * 0.85), yaw=rng.uniform(0, 6, 3))
    return group.add("tuft", green, at=at, size=(wide * 1.1, wide * 1.1, tall * 1.1), yaw=rng.uniform(0, 6, 3))


def flower(rng: Rng) -> Group:
    """A tall flower: a stem, leaves, a disc of petals facing somewhere."""
    tall, wide = rng.uniform(0.4, 1.7), rng.uniform(0.1, 0.35)
    green, petal = finishes.foliage(rng), finishes.plain(rng, finishes.hue(rng, (0.6, 1.0), (0.7, 0.95)), 0.0)
    face = turn(rng.uniform(0, 6.3), -rng.uniform(0.2, 1.3), 0.0)
    group = (
        Group()
        .add("pole", green, size=(0.02, 0.02, tall))
        .add("sprig", green, at=(0, 0, tall * 0.15), size=(0.5, 0.5, tall * 0.6))
    )
    group.add("sprig", petal, at=(0, 0, tall), size=(wide * 1.6, wide * 1.6, wide * 0.3), rotation=face)
    return group.add(
        "pillow",
        finishes.plain(rng, (0.08, 0.04, 0.01), 0.0),
        at=(0, 0, tall),
        size=(wide * 0.5, wide * 0.5, wide * 0.3),
        rotation=face,
    )


def house(rng: Rng) -> Group:
    """A building whose front faces -y: a facade with ledges, a ground floor, a roof."""
    floors = int(rng.integers(1, 7)) if rng.random() < 0.85 else int(rng.integers(7, 22))
    storey = rng.uniform(2.8, 3.6)
    width, depth, tall = rng.uniform(7, 24), rng.uniform(8, 16), floors * storey
    pattern = any_of(rng, "facade", "shutters", "offices", p=[0.5, 0.3, 0.2])
    stucco = any_of(
        rng,
        finishes.grey(rng, 0.5, 0.95),
        finishes.hue(rng, (0.1, 0.45), (0.5, 0.95), 0.09, 0.06),
        finishes.hue(rng, (0.4, 0.7), (0.4, 0.65), 0.03, 0.015),
    )
    wall = Material(
        (0.03, 0.04, 0.05), stucco, finishes.shaded(stucco, 0.5), pattern,
        any_of(rng, "blotches", "rough", "bricks"), tile=4 * rng.uniform(1.8, 3.2), stretch=1.0,
        marks_tile=rng.uniform(1, 6), marked=rng.uniform(0, 0.4), gloss=0.02, relief=0.15,
    )  # fmt: skip
    wall = wall._replace(stretch=4 * storey / wall.tile)
    group = Group().add("box", wall, at=(0, depth / 2, 0), size=(width, depth, tall))
    trim = finishes.plain(rng, finishes.shaded(stucco, rng.uniform(0.5, 1.2)))
    levels = np.arange(1, floors + 1) * storey
    if rng.random() < 0.6:
        group.add("box", trim, at=levels[:, None] * [0, 0, 1] + [0, -0.06, -0.1], size=(width + 0.1, 0.2, 0.18))
    if rng.random() < 0.5:
        shop = finishes.printed(rng, 3.0) if rng.random() < 0.6 else finishes.masonry(rng)
        group.add("box", shop, at=(0, -0.03, 0), size=(width * 0.96, 0.12, storey * 0.85))
        if rng.random() < 0.5:
            group.add(
                "wedge",
                finishes.fabric(rng),
                at=(0, -0.7, storey * 0.8),
                size=(width * rng.uniform(0.2, 0.9), 1.4, 0.5),
            )
    if rng.random() < 0.3 and floors > 1:
        bays = max(int(width / 4), 1)
        at = [((i + 0.5) * width / bays - width / 2, -0.6, level) for i in range(bays) for level in levels[:-1][:5]]
        group.add("box", trim, at=at, size=(width / bays * 0.55, 1.2, 0.12))
        group.add("box", finishes.metal(rng), at=np.add(at, (0, -0.57, 0)), size=(width / bays * 0.55, 0.04, 1.0))
    if floors < 5 and rng.random() < 0.75:
        turned = np.pi / 2 if rng.random() < 0.6 else 0.0
        size = (depth + 0.8, width + 0.6) if turned else (width + 0.6, depth + 0.8)
        group.add(
            "roof", finishes.masonry(rng), at=(0, depth / 2, tall), size=(*size, rng.uniform(1.5, 4.5)), yaw=turned
        )
        group.add("box", finishes.masonry(rng), at=(width * 0.3, depth / 2, tall), size=(0.7, 0.7, rng.uniform(2, 5)))
    else:
        group.add("box", trim, at=(0, depth / 2, tall), size=(width + 0.2, depth + 0.2, rng.uniform(0.2, 0.9)))
    if rng.random() < 0.5:
        group.add("box", finishes.wood(rng), at=(rng.uniform(-0.4, 0.4) * width, -0.02, 0), size=(1.1, 0.1, 2.1))
    return group


def street_lamp(rng: Rng) -> Group:
    """A lamp post with its arm over -x, or a bare mast."""
    tall, steel = rng.uniform(4, 9), finishes.metal(rng, finishes.grey(rng, 0.1, 0.6))
    group = Group().add("pole", steel, size=(0.16, 0.16, tall))
    if rng.random() < 0.7:
        _rod(group, steel, (0, 0, tall - 0.05), (-1.4, 0, tall + 0.25), 0.08)
        group.add("pillow", finishes.plain(rng), at=(-1.6, 0, tall + 0.15), size=(0.7, 0.25, 0.18))
    return group


def sign(rng: Rng) -> Group:
    """A traffic sign, a street name or a board, facing -y."""
    tall, wide = rng.uniform(2.0, 3.0), rng.uniform(0.45, 0.9)
    group = Group().add("pole", finishes.metal(rng), size=(0.07, 0.07, tall))
    face = (
        finishes.printed(rng, 1.0)
        if rng.random() < 0.5
        else finishes.plain(rng, finishes.hue(rng, (0.7, 1), (0.4, 0.95)))
    )
    kind = any_of(rng, "cylinder", "box", "cone")
    if kind == "box":
        return group.add("box", face, at=(0, -0.05, tall - wide), size=(wide * rng.uniform(0.7, 2.5), 0.03, wide))
    front = turn(0.0, np.pi / 2, 0.0)
    group.add(
        "bolt" if kind == "cone" else "cylinder",
        face,
        at=(0, -0.04, tall - wide / 2),
        size=(wide, wide, 0.03),
        rotation=front,
    )
    return group.add(
        "cylinder",
        finishes.plain(rng, (0.85, 0.85, 0.85)),
        at=(0, -0.075, tall - wide / 2),
        size=(wide * 0.7, wide * 0.7, 0.012),
        rotation=front,
    )


def traffic_light(rng: Rng) -> Group:
    """A signal on its post."""
    group = Group().add("pole", finishes.metal(rng), size=(0.12, 0.12, 3.2))
    group.add("box", finishes.plain(rng, (0.02, 0.02, 0.02)), at=(0, -0.12, 2.4), size=(0.3, 0.22, 0.9))
    lit = int(rng.integers(3))
    for i, colour in enumerate(((0.02, 0.8, 0.3), (0.9, 0.5, 0.02), (0.9, 0.02, 0.02))):
        group.add(
            "pebble",
            finishes.glowing(finishes.shaded(colour, 1.0 if i == lit else 0.15), 3.0 if i == lit else 0.0),
            at=(0, -0.24, 2.48 + i * 0.27),
            size=(0.2, 0.06, 0.2),
        )
    return group


def street_bench(rng: Rng) -> Group:
    """A seat, a litter bin, a planter, a bollard or a crate."""
    kind, finish = rng.integers(4), any_of(rng, finishes.wood, finishes.metal, finishes.plain, finishes.stone)(rng)
    if kind == 0:
        slats = [(0, y, 0.44) for y in (-0.15, 0.0, 0.15)] + [(0, 0.27, z) for z in (0.6, 0.75)]
        group = Group().add("box", finish, at=slats, size=(1.6, 0.11, 0.04))
        return group.add("box", finishes.metal(rng), at=[(s * 0.65, 0.05, 0) for s in (-1, 1)], size=(0.06, 0.4, 0.44))
    if kind == 1:
        return (
            Group()
            .add("cylinder", finish, size=(0.45, 0.45, 0.9))
            .add("cylinder", finishes.plain(rng), at=(0, 0, 0.9), size=(0.5, 0.5, 0.06))
        )
    if kind == 2:
        return Group().add("box", finish, size=(1.2, 0.6, 0.5)).include(bush(rng), (0, 0, 0.45), scale=0.6)
    at = np.arange(5)[:, None] * [1.5, 0, 0] - [3, 0, 0]
    return Group().add("pole", finish, at=at, size=(0.14, 0.14, 0.9))


def fence(rng: Rng, length: Real) -> Group:
    """A fence, a wall, a hedge or a guard rail along y, centred on the origin."""
    tall, kind = rng.uniform(0.7, 1.9), rng.integers(4)
    if kind == 0:
        return Group().add("box", finishes.masonry(rng), size=(0.25, length, tall))
    if kind == 1:
        count = max(int(length / 2.2), 2)
        at = np.linspace(-0.5, 0.5, count)[:, None] * [0, length, 0]
        return Group().add(
            "crown", finishes.foliage(rng), at=at, size=(rng.uniform(0.7, 1.2), 3.4, tall), yaw=rng.uniform(0, 6, count)
        )
    posts = np.linspace(-0.5, 0.5, max(int(length / 2.5), 2))[:, None] * [0, length, 0]
    finish = any_of(rng, finishes.wood, finishes.metal)(rng)
    rails = np.array([0.35, 0.85])[:, None] * [0, 0, tall]
    group = (
        Group()
        .add("box", finish, at=posts, size=(0.1, 0.1, tall))
        .add("box", finish, at=rails, size=(0.04, length, 0.1 if kind == 2 else 0.3))
    )
    if kind == 2 and length < 40:
        pickets = np.linspace(-0.5, 0.5, int(length / 0.25))[:, None] * [0, length, 0]
        group.add("box", finish, at=pickets, size=(0.02, 0.07, tall * 0.95))
    return group


def _wheels(group: Group, rng: Rng, wide: Real, axles: list[float], size: Real) -> None:
    sideways = turn(0.0, 0.0, np.pi / 2)
    for side in (-1, 1):
        at = np.array([(side * (wide / 2 - 0.1) - 0.11, y, size / 2) for y in axles])
        group.add("cylinder", finishes.rubber(rng), at=at, size=(size, size, 0.22), rotation=sideways)
        out = np.add(at, (0.105 + side * 0.115, 0, 0))
        group.add("bolt", finishes.metal(rng), at=out, size=(size * 0.62, size * 0.62, 0.01), rotation=sideways)


def _rod(group: Group, finish: Material, start, stop, thick: Real) -> None:
    """A thin cylinder from one point to another."""
    along = np.subtract(stop, start)
    length = float(np.linalg.norm(along))
    flat = float(np.hypot(along[0], along[1]))
    rotation = turn(float(np.arctan2(-along[0], along[1])) if flat else 0.0, -float(np.arctan2(flat, along[2])), 0)
    group.add("pole", finish, at=start, size=(thick, thick, length), rotation=rotation)


ROADSIDE: tuple[Callable[[Rng], Group], ...] = (
    tree, tree, tree, bush, bush, street_lamp, street_lamp, sign, sign, traffic_light, person, person, person,
    street_bench, bicycle,
)  # fmt: skip
"""What stands beside a street."""
