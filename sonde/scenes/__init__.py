"""Scenes: pictures with exact depth, built from nothing but a seed.

Three families stand for the captures people bring: `bench` (parts before a 3D camera), `room` and `road`. Meshes by
trimesh, rays by Embree. Image i of a family is a function of (seed, family, i) alone: the number of processes that
render, and what was rendered before, change nothing.

A family of your own is a function from a generator to a Scene: `FAMILIES["shelf"] = shelf`.
"""

from collections.abc import Callable
from typing import NamedTuple
from zlib import crc32

import numpy as np

from sonde.recipes import nearest
from sonde.scenes import bench, road, room
from sonde.scenes.sensor import photograph, scanned
from sonde.scenes.shading import radiance, visibility
from sonde.scenes.tracer import Scene, Tracer
from sonde.types import DepthArray, MatrixArray, RGBArray

Builder = Callable[[np.random.Generator], Scene]


class Render(NamedTuple):
    """A picture and the truth about it."""

    image: RGBArray
    depth: DepthArray
    """Metres along the optical axis; inf where there is only sky, NaN where the sensor saw nothing."""
    intrinsics: MatrixArray
    """Pixels; the centre of the top-left pixel is (0, 0)."""


def render(family: str, seed: int, index: int, *, height: int = 168, width: int = 224, rigs: int = 1) -> Render:
    """Picture `index` of a family.

    Args:
        family: a name in FAMILIES.
        seed: any whole number from 0; together with family and index it fixes every byte.
        index: which picture, from 0.
        height: of picture and depth, pixels.
        width: of both, pixels.
        rigs: for a family in RIGS, how many camera set-ups the seed stands for; picture i is taken by rig
            i % rigs, and 0 builds a new one for every picture.

    Raises:
        ValueError: an unknown family.
    """
    build, rng = builder(family, seed, index, rigs)
    return taken(build(rng), rng, height, width)


def taken(scene: Scene, rng: np.random.Generator, height: int, width: int) -> Render:
    """The picture of a scene; `rng` moves only noise and the jitter of shadows."""
    tracer = Tracer(scene)
    hits = tracer.hits(scene.camera.rays(height, width))
    depth = np.full(height * width, np.inf, np.float32)
    depth[hits.ray] = hits.depth
    depth = depth.reshape(height, width)
    light = radiance(tracer, visibility(tracer, hits, height, width, rng), height, width, rng)
    image = photograph(light, scene.photo, rng)
    if scene.scanner is not None:
        depth = scanned(depth, tracer, hits, scene.scanner, rng)
    return Render(image, depth, scene.camera.intrinsics(height, width))


def builder(family: str, seed: int, index: int, rigs: int) -> tuple[Builder, np.random.Generator]:
    """What builds picture `index`'s scene, and the generator to build it from."""
    if family not in FAMILIES:
        raise ValueError(f"Unknown family {family!r}; {nearest(family, list(FAMILIES))}")
    name = crc32(family.encode())
    rng = np.random.default_rng([seed, name, index])
    if rigs and family in RIGS:
        return RIGS[family](np.random.default_rng([seed, name, 2**32 + index % rigs])), rng
    return FAMILIES[family], rng


FAMILIES: dict[str, Builder] = {"bench": bench.scene, "room": room.scene, "road": road.scene}
"""Name -> what builds a scene from a generator."""
RIGS: dict[str, Callable[[np.random.Generator], Builder]] = {"bench": bench.rig}
"""Name -> what draws a fixed set-up from a generator; the set-up then builds scenes."""
