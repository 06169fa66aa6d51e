"""Bin picking: goods and parts in totes, crates and cartons, seen from above by a camera that stands anywhere."""

import numpy as np

from sonde.scenes import clutter, finishes, objects, solids, viewpoints
from sonde.scenes.catalogue import variant
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.materials import Material
from sonde.scenes.shapes import Group
from sonde.scenes.tracer import Camera, Scene, look_at
from sonde.scenes.vectors import Real, three

GOODS = (
    clutter.package, clutter.package, clutter.package, clutter.bottle, clutter.can, clutter.vessel, clutter.bag,
    clutter.books, clutter.ball, clutter.roll, clutter.tool, clutter.part, *solids.SOLIDS,
)  # fmt: skip
"""What lies in a bin."""


def scene(rng: Rng) -> Scene:
    """A bin with things in it, what stands around it, and several views of it."""
    size = rng.uniform((0.3, 0.22, 0.08), (0.7, 0.5, 0.35))
    group = Group().include(filled(rng, size), yaw=int(rng.integers(4)) * np.pi / 2 + rng.normal(0, 0.12))
    _around(rng, group, float(size[0]))
    finishes.repainted(rng, group, any_of(rng, 0.0, 0.15, 0.5), 0.2)
    cameras = [_above(rng, size) for _ in range(5)]
    lights, sky = objects.lamps(rng, float(size[0]))
    photo = viewpoints.snapshot(rng, any_of(rng, 0.0, 0.0, rng.uniform(0.4, 1.2)))
    return Scene(group, cameras[0], lights, sky, photo, others=tuple(cameras[1:]))


def filled(rng: Rng, size: np.ndarray) -> Group:
    """A container of (width, depth, height) metres with a few things in it, or many, now and then all of one kind."""
    count = any_of(rng, int(rng.integers(0, 4)), int(rng.integers(3, 11)), int(rng.integers(10, 36)), p=[0.2, 0.4, 0.4])
    same = _good(rng) if rng.random() < 0.25 else None
    things = [same or _good(rng) for _ in range(count)]
    group = clutter.tote(rng, three(size), _sides(rng))
    return group.include(clutter.heaped(rng, things, size[:2] - 0.04, ceiling=float(size[2] * rng.uniform(0.7, 1.5))))


def _good(rng: Rng) -> Group:
    thing = solids.sized(variant(any_of(rng, *GOODS), rng), float(np.exp(rng.normal(np.log(0.13), 0.45))))
    return solids.tumbled(rng, thing) if rng.random() < 0.4 else thing


def _sides(rng: Rng) -> Material:
    """Moulded plastic, carton, sheet metal or wood."""
    plastic = finishes.plain(rng, gloss=rng.uniform(0, 0.08))
    return any_of(
        rng, plastic, finishes.cardboard(rng), finishes.metal(rng), finishes.wood(rng), p=[0.6, 0.16, 0.12, 0.12]
    )


def _around(rng: Rng, group: Group, wide: Real) -> None:
    """The table, rollers or floor under the bin, and other bins beside it."""
    low = any_of(rng, 0.0, -rng.uniform(0.05, 0.9), p=[0.6, 0.4])
    group.add("box", objects.ground(rng, 0.4), at=(0, 0, low - 0.03), size=(8, 8, 0.03))
    if low < 0:
        group.add("box", objects.surface(rng), at=(0, 0, -0.04), size=(wide * 1.1, wide * 1.1, 0.04))
    for _ in range(any_of(rng, 0, 1, 4)):
        spot = rng.uniform(1.15, 2.2) * wide * np.array(any_of(rng, (1, 0), (-1, 0), (0, 1), (0, -1)))
        group.include(filled(rng, rng.uniform((0.3, 0.22, 0.08), (0.6, 0.5, 0.3))), (*spot, low), rng.normal(0, 0.1))


def _above(rng: Rng, size: np.ndarray) -> Camera:
    """Down into the bin, upright or slanting, so near that it fills the picture or so far that its rim is seen."""
    fov, slant = float(rng.uniform(38, 75)), np.radians(np.clip(rng.normal(62, 16), 25, 90))
    target = np.array([0, 0, size[2] * 0.3]) + rng.normal(0, 0.12, 3) * size
    away = size[0] * rng.uniform(0.35, 0.9) / np.tan(np.radians(fov) / 2) + size[2] * 0.7
    around = int(rng.integers(4)) * np.pi / 2 + rng.normal(0, 0.15)
    ahead = np.array([np.sin(around) * np.cos(slant), -np.cos(around) * np.cos(slant), np.sin(slant)])
    return look_at(target + away * ahead, target, fov, viewpoints.roll(rng))
