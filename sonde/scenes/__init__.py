"""Scenes: pictures with exact depth, built from nothing but a seed.

Four families stand for the captures people bring: `bench` (parts before a 3D camera), `room`, `road` and `highway`.
Five show the world at large from any viewpoint: `indoor`, `street`, `outdoor`, `objects` and `abstract`. `handheld`
and `bins` show rooms, streets and totes as most cameras see them; `surround` shows rooms and streets as panoramas and
vehicles do. Meshes by trimesh, rays by Embree. Image i of a family is a function of (seed, family, i) alone: the
number of processes that render, and what was rendered before, change nothing.

A family of your own is a function from a generator to a Scene: `FAMILIES["shelf"] = shelf`.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import cv2
import numpy as np

from sonde import __version__
from sonde.recipes.bounds import LONGEST_SIDE, MOST_RENDER_PIXELS, MOST_RENDERS, MOST_WORKERS
from sonde.scenes import (
    abstract,
    bench,
    bins,
    handheld,
    highway,
    indoor,
    layouts,
    objects,
    outdoor,
    road,
    room,
    surround,
    town,
)
from sonde.scenes.layouts import FAMILY_LAYOUT, LAYOUTS, Pair
from sonde.scenes.prints import describe_photographs, draw_prints
from sonde.scenes.sensor import photograph, scanned
from sonde.scenes.shading import radiance, surfaces
from sonde.scenes.shapes import Group
from sonde.scenes.tracer import Camera, Light, Photo, Scanner, Scene, Sky, Tracer, look_at
from sonde.scenes.viewpoints import settle
from sonde.spelling import nearest
from sonde.types import DepthArray, MatrixArray, RGBArray
from sonde.workers import begin_worker

__all__ = [
    "FAMILIES", "LAYOUTS", "RIGS", "Camera", "Group", "Light", "Photo", "Render", "Scanner", "Scene", "Sky",
    "look_at", "photographed", "render", "synth",
]  # fmt: skip

Builder = Callable[[np.random.Generator], Scene]

BLOCK = 10_000
"""Renders that are given to the processes together."""


class Render(NamedTuple):
    """A picture and the truth about it."""

    image: RGBArray
    depth: DepthArray
    """Metres along the optical axis; inf where there is only sky, NaN where the sensor saw nothing."""
    intrinsics: MatrixArray
    """Pixels; the centre of the top-left pixel is (0, 0)."""


def render(
    family: str,
    seed: int,
    index: int,
    *,
    height: int = 168,
    width: int = 224,
    rigs: int = 1,
    photographs: Path | str | None = None,
) -> Render:
    """Picture `index` of a family.

    Args:
        family: a name in FAMILIES.
        seed: any whole number from 0; together with family and index it fixes every byte.
        index: which picture, from 0.
        height: of picture and depth, pixels.
        width: of both, pixels.
        rigs: for a family in RIGS, how many camera set-ups the seed stands for; picture i is taken by rig
            i % rigs, and 0 builds a new one for every picture.
        photographs: a folder of images that posters, other surfaces and skies wear. They too then fix the bytes.

    Raises:
        ValueError: an unknown family, a folder without images, or an image that cannot be read.
    """
    return _job(family, seed, index, rigs, photographs).render(height, width)


def photographed(
    scene: Scene, rng: np.random.Generator, height: int, width: int, photographs: Path | None = None
) -> Render:
    """The picture of a scene; `rng` moves the noise and the jitter of shadows, and chooses among `photographs`."""
    tracer = Tracer(scene)
    if photographs is not None:
        tracer.prints = draw_prints(tracer.table, photographs, float(np.mean(scene.sky.horizon)), rng)
    if scene.others:
        settle(tracer, height, width)
        scene = tracer.scene
    v, u = np.divmod(np.arange(height * width, dtype=np.float32), np.float32(width))
    hits = tracer.hits(scene.camera.rays(u, v, height, width))
    depth = np.full(height * width, np.inf, np.float32)
    depth[hits.ray] = hits.depth
    depth = depth.reshape(height, width)
    surface = surfaces(hits, tracer, width, rng)
    image = photograph(radiance(tracer, hits, surface, height, width, rng), depth, scene.photo, rng)
    if scene.scanner is not None:
        depth = scanned(depth, tracer, hits, surface, scene.scanner, rng)
    return Render(image, depth, scene.camera.intrinsics(height, width))


def synth(
    family: str,
    out: Path | str,
    count: int,
    *,
    seed: int = 0,
    height: int = 168,
    width: int = 224,
    layout: str | None = None,
    workers: int | None = None,
    rigs: int = 1,
    photographs: Path | str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Writes `count` renders as a dataset and answers its folder; pairs already there are kept.

    Args:
        family: a name in FAMILIES.
        out: the folder; made where absent.
        count: how many pictures.
        seed: of the whole set.
        height: of the pictures, pixels.
        width: of the pictures, pixels.
        layout: a name in LAYOUTS; by default the family's own.
        workers: processes; by default one per core. The bytes do not depend on it.
        rigs: as in `render`.
        photographs: as in `render`.
        progress: called with the number of pictures done.

    Raises:
        ValueError: an unknown family or layout, more renders, pixels or processes than a machine can take, a folder
            that holds renders of another kind, `photographs` without images, or processes that died.
    """
    _check_amounts(count, height, width, workers)
    out, layout = Path(out), layout or FAMILY_LAYOUT.get(family, "zivid")
    if layout not in LAYOUTS:
        raise ValueError(f"Unknown layout {layout!r}; {nearest(layout, list(LAYOUTS))}")
    first = _job(family, seed, 0, rigs, photographs)
    camera = first.scene().camera if family in RIGS and rigs == 1 else None
    card = {
        "format": layout, "family": family, "seed": seed, "count": count, "size": [height, width],
        "rigs": rigs, "intrinsics": camera.intrinsics(height, width).tolist() if camera else None,
        "photographs": describe_photographs(first.photographs) if first.photographs else None, "sonde": __version__,
    }  # fmt: skip
    place = layouts.arrange(layout, layouts.write_card(out, card)["per_folder"])
    todo = [index for index in range(count) if not _is_written(out, place(index))]
    done = count - len(todo)
    try:
        with _mapping(workers, len(todo)) as mapped:
            # A pool takes all its jobs at once: a million of them would fill the memory.
            for block in (todo[start : start + BLOCK] for start in range(0, len(todo), BLOCK)):
                jobs = [_Write(_job(family, seed, i, rigs, photographs), out, place(i), height, width) for i in block]
                for _ in mapped(_Write.__call__, jobs):
                    done += 1
                    if progress:
                        progress(done)
    except BrokenProcessPool:
        raise ValueError(
            f"The processes that render stopped; what {out} holds is whole. A script that renders must do so under "
            "`if __name__ == '__main__':`, or pass workers=1; on a machine short of memory, fewer workers."
        ) from None
    return out


def _check_amounts(count: int, height: int, width: int, workers: int | None) -> None:
    if not 0 <= count <= MOST_RENDERS:
        raise ValueError(f"count={count}: expected at most {MOST_RENDERS:,} renders.")
    if not (1 <= min(height, width) and max(height, width) <= LONGEST_SIDE and height * width <= MOST_RENDER_PIXELS):
        raise ValueError(
            f"size={height},{width}: expected a height and a width of 1 to {LONGEST_SIDE:,} pixels, and at most "
            f"{MOST_RENDER_PIXELS:,} pixels in all."
        )
    if workers is not None and not 0 <= workers <= MOST_WORKERS:
        raise ValueError(f"workers={workers}: expected at most {MOST_WORKERS:,} processes.")


def _is_written(root: Path, pair: Pair) -> bool:
    return (root / pair.depth).exists() and (root / pair.picture).exists()


class _Job(NamedTuple):
    """What renders one picture; holds functions, not names, so that a user's family reaches every process."""

    family: Builder
    rig: Callable[[np.random.Generator], Builder] | None
    seeds: tuple[list[int], list[int]]
    """Of the picture, and of its rig."""
    photographs: Path | None

    def scene(self, rng: np.random.Generator | None = None) -> Scene:
        rng = rng or np.random.default_rng(self.seeds[0])
        build = self.rig(np.random.default_rng(self.seeds[1])) if self.rig else self.family
        return build(rng)

    def render(self, height: int, width: int) -> Render:
        rng = np.random.default_rng(self.seeds[0])
        return photographed(self.scene(rng), rng, height, width, self.photographs)


class _Write(NamedTuple):
    job: _Job
    root: Path
    pair: Pair
    height: int
    width: int

    def __call__(self) -> None:
        layouts.write(self.root, self.pair, *self.job.render(self.height, self.width))


def _job(family: str, seed: int, index: int, rigs: int, photographs: Path | str | None = None) -> _Job:
    if family not in FAMILIES:
        raise ValueError(f"Unknown family {family!r}; {nearest(family, list(FAMILIES))}")
    name = crc32(family.encode())
    rig_seed = [seed, name, 2**32 + (index % rigs if rigs else index)]
    folder = None if photographs is None else Path(photographs)
    return _Job(FAMILIES[family], RIGS.get(family) if rigs else None, ([seed, name, index], rig_seed), folder)


@contextmanager
def _mapping(workers: int | None, jobs: int) -> Iterator[Callable]:
    """A `map` over processes of one thread each; in this process where one is enough."""
    workers = min(workers or os.cpu_count() or 1, -(-jobs // 4))
    if workers <= 1:
        yield map
        return
    # threads of torch do not survive fork: a fresh server is forked instead, where the system has one
    method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
    context = get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool:
        yield lambda function, items: pool.map(function, items, chunksize=4)


def _begin() -> None:
    begin_worker()
    cv2.setNumThreads(1)


FAMILIES: dict[str, Builder] = {
    "bench": bench.scene, "room": room.scene, "road": road.scene, "highway": highway.scene,
    "indoor": indoor.scene, "street": town.scene, "outdoor": outdoor.scene, "objects": objects.scene,
    "abstract": abstract.scene, "handheld": handheld.scene, "bins": bins.scene,
    "surround": surround.scene,
}  # fmt: skip
"""Name -> what builds a scene from a generator."""
RIGS: dict[str, Callable[[np.random.Generator], Builder]] = {
    "bench": bench.rig, "road": road.rig, "highway": highway.rig,
}  # fmt: skip
"""Name -> what draws a fixed set-up from a generator; the set-up then builds scenes."""
