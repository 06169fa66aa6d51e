"""Solids of no trade: turned, moulded, bent, latticed and jointed shapes, and creatures; about 1 m, on the origin."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from sonde.scenes import clutter, finishes
from sonde.scenes.catalogue import variant
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.materials import Material
from sonde.scenes.shapes import Group, Mesh, grid, turn
from sonde.scenes.vectors import Real

Solid = Callable[[Rng], Group]


def moulded(
    profile: Float[np.ndarray, "p 2"], outline: Float[np.ndarray, " s"], twist: Real = 0.0, lean: Real = 0.0
) -> Mesh:
    """A body about z: rows of (radius, height) from the bottom up, stretched in each direction by `outline`.

    Args:
        profile: radius and height, metres; rows repeated at a crease keep it sharp.
        outline: factor of the radius in evenly spread directions, counter-clockwise; joined to its start.
        twist: turn of the outline from bottom to top, radians.
        lean: sideways shift from bottom to top, metres.
    """
    radius, height = profile[:, :1], profile[:, 1:]
    share = (height - height.min()) / max(float(np.ptp(height)), 1e-9)
    factor = np.append(outline, outline[0])
    angle = np.linspace(0, 2 * np.pi, len(factor)) + twist * share
    points = np.stack([radius * factor * np.cos(angle) + lean * share, radius * factor * np.sin(angle)], -1)
    points = np.concatenate([points, np.broadcast_to(height[..., None], (*points.shape[:2], 1))], -1)
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(profile, axis=0), axis=1))]
    around = np.linspace(0, 2 * np.pi, len(factor)) * profile[:, 0].max()
    return grid(points, np.stack(np.broadcast_arrays(around, along[:, None]), -1), closed=True)


def turned(rng: Rng) -> Group:
    """A vase, pawn, bulb or bottle: a smooth profile turned about z."""
    knots = rng.uniform(0.12, 0.5, int(rng.integers(3, 7)))
    t = np.linspace(0, len(knots) - 1, 18)
    low = np.minimum(t.astype(int), len(knots) - 2)
    ease = (1 - np.cos(np.pi * (t - low))) / 2
    radius = knots[low] + (knots[low + 1] - knots[low]) * ease
    profile = np.stack([radius, np.linspace(0, rng.uniform(0.4, 1.4), 18)], 1)
    closed = np.concatenate([[(0.0, 0.0)], profile[:1], profile, profile[-1:], [(0.0, profile[-1, 1])]])
    return Group().add(moulded(closed, np.ones(20)), _skin(rng))


def superquadric(rng: Rng) -> Group:
    """Between a box, a ball, a cylinder and a diamond."""
    upright, around = rng.uniform(0.15, 1.8, 2)
    latitude, angle = np.linspace(-np.pi / 2, np.pi / 2, 13), np.linspace(0, 2 * np.pi, 24, endpoint=False)
    height = np.sign(latitude) * np.abs(np.sin(latitude)) ** upright
    profile = np.stack([np.maximum(np.cos(latitude), 0) ** upright, height + 1], 1) / 2
    outline = (np.abs(np.cos(angle)) ** (2 / around) + np.abs(np.sin(angle)) ** (2 / around)) ** (-around / 2)
    return Group().add(moulded(profile, outline), _skin(rng), size=rng.uniform(0.3, 1.0, 3))


def lump(rng: Rng) -> Group:
    """A stone, a fruit, a potato, a crumpled ball."""
    latitude = np.linspace(-np.pi / 2, np.pi / 2, 15)
    angle = np.linspace(0, 2 * np.pi, 25)
    ball = np.stack(
        [
            np.cos(latitude)[:, None] * np.cos(angle),
            np.cos(latitude)[:, None] * np.sin(angle),
            np.broadcast_to(np.sin(latitude)[:, None], (15, 25)),
        ],
        -1,
    )
    waves = rng.normal(0, rng.uniform(0.8, 3.0), (5, 3))
    bumps = 1 + rng.uniform(0.1, 0.7) * np.sin(ball @ waves.T + rng.uniform(0, 6.3, 5)).mean(-1, keepdims=True)
    points = ball * bumps * rng.uniform(0.3, 0.5, 3)
    points -= [0, 0, points[..., 2].min()]
    uv = np.stack(np.broadcast_arrays(angle * 0.5, latitude[:, None] * 0.5), -1)
    return Group().add(grid(points, uv, closed=True), _skin(rng))


def prism(rng: Rng) -> Group:
    """A cut-out: a gear, star, petal, block or blob of even thickness, twisted or tapered now and then."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    lobes, deep = int(rng.integers(2, 11)), rng.uniform(0.1, 0.45)
    wave = np.cos(lobes * angle)
    blob = sum(np.cos(k * angle + rng.uniform(0, 6.3)) / k for k in range(1, 5)) * 0.5
    outline = 1 + deep * any_of(rng, wave, np.sign(wave), np.abs(wave) - 0.5, blob)
    polygon = np.cos(np.pi / lobes) / np.cos((angle % (2 * np.pi / lobes)) - np.pi / lobes) if lobes > 2 else outline
    tall, top = any_of(rng, rng.uniform(0.05, 0.3), rng.uniform(0.4, 1.5)), any_of(rng, 1.0, 1.0, rng.uniform(0.1, 1.3))
    profile = np.array([(0, 0), (1, 0), (1, 0), (top, tall), (top, tall), (0, tall)]) * (0.4, 1)
    profile = np.insert(profile, 3, np.linspace(profile[2], profile[3], 8)[1:-1], axis=0)
    twist = any_of(rng, 0.0, 0.0, rng.uniform(-2, 2))
    return Group().add(moulded(profile, any_of(rng, outline, polygon), twist, any_of(rng, 0.0, 0.2)), _skin(rng))


def bent(rng: Rng) -> Group:
    """A cable, branch, handle or spring: a round bar along a curve."""
    t = np.linspace(0, 1, 28)[:, None]
    if rng.random() < 0.3:
        coil = 2 * np.pi * rng.uniform(1, 4) * t
        path = np.concatenate([0.3 * np.cos(coil), 0.3 * np.sin(coil), t * rng.uniform(0.3, 1)], 1)
    else:
        k = np.arange(1, 4)[:, None, None]
        path = (rng.normal(0, 0.5, (3, 1, 3)) / k * np.sin(k * np.pi * t + rng.uniform(0, 6.3, (3, 1, 3)))).sum(0)
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.cross(along, [0.21, 0.33, 0.92])
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-6)
    angle = np.linspace(0, 2 * np.pi, 9)
    thick = rng.uniform(0.02, 0.09)
    ring = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * np.cross(along, side)[:, None]
    points = path[:, None] + thick * ring
    points -= [0, 0, points[..., 2].min()]
    uv = np.stack(np.broadcast_arrays(angle * thick, 2 * t), -1)
    return Group().add(grid(points, uv, closed=True), _skin(rng))


def lattice(rng: Rng) -> Group:
    """Thin bars: a cage, a grating, a rack, a ladder, a truss."""
    wide, deep, tall = rng.uniform(0.3, 1.0, 3)
    finish, thick, group = _skin(rng), rng.uniform(0.008, 0.03), Group()
    across, up = (
        np.linspace(-wide / 2, wide / 2, int(rng.integers(2, 9))),
        np.linspace(0, tall, int(rng.integers(2, 8))),
    )
    for y in any_of(rng, (0.0,), (-deep / 2, deep / 2)):
        group.add("box", finish, at=[(x, y, 0) for x in across], size=(thick, thick, tall))
        group.add("box", finish, at=[(0, y, z) for z in up], size=(wide + thick, thick, thick))
    if rng.random() < 0.5:
        group.add("box", finish, at=[(x, 0, up[-1]) for x in across], size=(thick, deep, thick))
    return group


def jointed(rng: Rng) -> Group:
    """Several solids joined: a toy, a tool, a machine."""
    group = Group()
    for _ in range(rng.integers(2, 7)):
        part = variant(any_of(rng, turned, superquadric, lump, prism, bent, block), rng)
        tilt = turn(rng.uniform(0, 6.3), any_of(rng, 0.0, np.pi / 2, rng.uniform(0, 3)), 0.0)
        group.include(part, (*rng.normal(0, 0.2, 2), rng.uniform(0.1, 0.8)), rotation=tilt, scale=rng.uniform(0.2, 0.7))
    return Group().include(group, (0, 0, -group.bounds()[0, 2]))


def block(rng: Rng) -> Group:
    """A box, cylinder, cone, ring or tube of any proportions."""
    kind = any_of(
        rng, "box", "box", "box", "cylinder", "cone", "tube", "ring", "wedge", "roof", "capsule", "cushion", "ball"
    )
    return Group().add(kind, _skin(rng), size=rng.uniform(0.15, 1.0, 3))


def creature(rng: Rng) -> Group:
    """A four-legged animal, standing along -y: a cat, a dog, a cow, nobody's in particular."""
    coat = finishes.fur(rng)
    spots = coat if rng.random() < 0.5 else finishes.fur(rng)
    long, girth, legs = rng.uniform(0.6, 1.0), rng.uniform(0.2, 0.42), rng.uniform(0.2, 0.6)
    group = Group().add("pillow", coat, at=(0, 0, legs - 0.05), size=(girth, long, girth * rng.uniform(0.9, 1.3)))
    for y in (-0.36, 0.36):
        at = [(side * girth * 0.3, y * long, 0) for side in (-1, 1)]
        group.add("capsule", coat, at=at, size=(girth * 0.25, girth * 0.28, legs + 0.12))
    head, neck = rng.uniform(0.18, 0.3), turn(0.0, rng.uniform(0.2, 1.2), 0.0)
    nape = np.array([0, -long * 0.42, legs + girth * 0.7])
    group.add("capsule", coat, at=nape - neck @ [0, 0, 0.06], size=(girth * 0.5, girth * 0.5, 0.4), rotation=neck)
    crown = nape + neck @ [0, 0, 0.28]
    group.add("pillow", spots, at=crown - (0, 0.02, 0.08), size=(head, head, head * 0.95))
    group.add("pillow", coat, at=crown - (0, head * 0.55, 0.05), size=(head * 0.5, head * 0.7, head * 0.45))
    dark = finishes.plain(rng, (0.01, 0.01, 0.01), 0.1)
    group.add(
        "pebble",
        dark,
        at=[np.add(crown, (s * head * 0.27, -head * 0.45, 0.06)) for s in (-1, 1)],
        size=[head * 0.16] * 3,
    )
    group.add(
        "cone",
        spots,
        at=[np.add(crown, (s * head * 0.33, 0, head * 0.5)) for s in (-1, 1)],
        size=(head * 0.3, 0.05, head * 0.5),
    )
    tail = turn(0.0, -rng.uniform(0.3, 2.4), 0.0)
    return group.add("pole", coat, at=(0, long * 0.45, legs + girth * 0.6), size=(0.05, 0.05, 0.4), rotation=tail)


def sized(thing: Group, size: Real) -> Group:
    """The thing at a largest side of `size` metres, standing on z = 0 with its middle on the origin."""
    low, high = thing.bounds()
    scale = size / float((high - low).max())
    x, y = -(low + high)[:2] / 2 * scale
    return Group().include(thing, (x, y, -low[2] * scale), scale=scale)


def tumbled(rng: Rng, thing: Group) -> Group:
    """The thing turned any way, standing on z = 0."""
    turned_ = Group().include(thing, rotation=turn(rng.uniform(0, 6.3), rng.uniform(-1.6, 1.6), rng.uniform(-1.6, 1.6)))
    return Group().include(turned_, (0, 0, -turned_.bounds()[0, 2]))


def _skin(rng: Rng) -> Material:
    return any_of(
        rng, finishes.plain, finishes.wood, finishes.metal, finishes.fabric, finishes.stone, finishes.anything,
        p=[0.35, 0.1, 0.12, 0.1, 0.08, 0.25],
    )(rng)  # fmt: skip


SOLIDS: tuple[Solid, ...] = (
    turned,
    turned,
    superquadric,
    lump,
    prism,
    prism,
    bent,
    lattice,
    jointed,
    jointed,
    block,
    block,
)
"""Shapes for themselves."""
THINGS: tuple[Solid, ...] = (*SOLIDS, creature, *clutter.TABLETOP, *clutter.WORKSHOP)
"""What may lie before a camera at arm's length."""
