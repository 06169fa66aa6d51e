"""A fixed camera's bench in a recipe's captures: read, and checked that the camera did not move."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sonde import background, files
from sonde.background import Background, Colours, Registration, Stack
from sonde.datasets import DepthSet
from sonde.spelling import nearest

log = logging.getLogger("sonde")

KINDS = ("auto", "none", "farthest", "median")
"""What `model.background` may say beside a file."""
MOST = 64
"""Captures that a bench is made of at most, evenly spread: more show nothing new and fill the memory."""
FOLDS = 8
"""Up to so many captures each is left out alone, and of more a fold of them."""
BUMPED = 0.2
"""Up to this share of captures off the bench are errors of their own; of more the camera is taken to move."""
LONGEST_SIDE = 1024
"""Of the maps it is made of, pixels: larger ones are thinned."""


class Bench(NamedTuple):
    """What captures of one camera show, all at one size."""

    ids: list[str]
    images: Colours
    depths: Stack

    def without(self, ids: Sequence[str]) -> "Bench":
        """The other captures."""
        kept = [index for index, id_ in enumerate(self.ids) if id_ not in set(ids)]
        return Bench([self.ids[index] for index in kept], self.images[kept], self.depths[kept])

    def background(self, kind: str, *, painted: bool = True) -> Background:
        """The bench by `farthest` or `median`; its colours only where they are asked for, since painting takes time."""
        depth = {"farthest": background.farthest, "median": background.median}[kind](self.depths)
        if not painted:
            return Background(depth, np.zeros_like(self.images[0]), kind)
        image = background.colours(self.images, self.depths, depth)
        usual = float(np.median([background.matched(image, own)[1] for own in self.images]))
        return Background(depth, image, kind, usual)


def read_bench(captures: DepthSet, ids: Sequence[str]) -> Bench | None:
    """Captures of one size, thinned to LONGEST_SIDE; None where sizes differ, since one camera gives one size."""
    position = {id_: index for index, id_ in enumerate(captures.ids)}
    chosen = spread_evenly(ids, MOST)
    images, depths = [], []
    for id_ in chosen:
        capture = captures.read(position[id_])
        step = -(-max(capture.depth.shape) // LONGEST_SIDE)
        depths.append(capture.depth[::step, ::step])
        images.append(files.resize_image(capture.image, (depths[-1].shape[0], depths[-1].shape[1])))
    if len({depth.shape for depth in depths}) != 1:
        return None
    return Bench(chosen, np.stack(images), np.stack(depths).astype(np.float32))


def spread_evenly(ids: Sequence[str], most: int) -> list[str]:
    """At most so many of them, evenly spread."""
    places = np.linspace(0, len(ids) - 1, min(len(ids), most)).round().astype(int)
    return [ids[int(place)] for place in np.unique(places)]


def registrations(bench: Bench, folds: Sequence[Sequence[str]]) -> dict[str, Registration]:
    """How each capture lies on the bench that those of the other folds show."""
    found: dict[str, Registration] = {}
    for fold in folds:
        others = bench.without(fold).background("farthest")
        for id_ in fold:
            if id_ in bench.ids:
                index = bench.ids.index(id_)
                found[id_] = background.register(others, bench.images[index], bench.depths[index])
    return found


def why_not(bench: Bench | None, folds: Sequence[Sequence[str]]) -> str | None:
    """Why these captures show no one bench, in a sentence; None where they do."""
    if bench is None:
        return "The captures differ in size, so no fixed camera took them: no background is used."
    if len(bench.ids) < 2:
        return "One capture does not show what is bench and what is object: no background is used."
    found = registrations(bench, folds)
    moved = {id_: each for id_, each in found.items() if each.moved}
    if not moved:
        return None
    offset = 1000 * float(np.median([each.offset or 0.0 for each in moved.values()]))
    shift = float(np.median([each.shift_px for each in moved.values()]))
    measured = f"{offset:.1f} mm" + (f" and {shift:.0f} pixels" if shift else "")
    some = f"{len(moved)} of {len(found)} captures do not lie on the bench that the others show ({measured} off, first "
    if len(moved) <= BUMPED * len(found):
        log.warning("%s%s): check them, or leave them out with data.reject.", some, min(moved))
        return None
    return f"{some}{min(moved)}): the camera has moved, so no background is used."


def find_background(kind: str, captures: DepthSet, train: Sequence[str], *, known: bool = False) -> Background | None:
    """The bench that `model.background` asks for, from the training captures or a file; None where there is none.

    `auto` takes the farthest map where the captures show one bench; `choose` asks more of it. Where a kind is `known`
    to suit them, that is not checked again.

    Raises:
        ValueError: a kind that does not exist, or captures that show no one bench where one is asked for by name.
    """
    if kind == "none":
        return None
    bench = read_bench(captures, train) if kind in KINDS else None
    if kind in KINDS and not known:
        reason = why_not(bench, [[id_] for id_ in train] if len(train) <= FOLDS else deal(train, FOLDS))
        if reason is not None:
            log.warning("%s", reason if kind == "auto" else f"model.background={kind} is asked for, though: {reason}")
        if kind == "auto" and reason is not None:
            return None
    return make_background("farthest" if kind == "auto" else kind, captures, bench)


def make_background(kind: str, captures: DepthSet, bench: Bench | None, left_out: Sequence[str] = ()) -> Background:
    """The bench by farthest or median of what captures show, some left out, or from a file.

    Raises:
        ValueError: captures that differ in size, or no such file.
    """
    if kind not in KINDS:
        shape = captures.read_depth(0).shape
        return read_empty(Path(kind), captures, (shape[0], shape[1]))
    if bench is None:
        raise ValueError(f"model.background={kind}: the captures differ in size, so no fixed camera took them.")
    return bench.without(left_out).background(kind, painted=not left_out)


def deal(ids: Sequence[str], folds: int) -> list[list[str]]:
    """The captures in `folds` parts of about one size."""
    return [list(ids[number::folds]) for number in range(folds)]


def read_empty(path: Path, captures: DepthSet, size: tuple[int, int]) -> Background:
    """The bench from a capture of it without objects: its depth map or cloud, and its image where one lies beside it.

    Args:
        path: a file of depth, in the set's unit; .npy, .npz, .ply and .pcd, or a depth image in metres.
        captures: the set it belongs to.
        size: (height, width) of the captures' depth.

    Raises:
        ValueError: no such file, or of another size than the captures.
    """
    if not path.is_file():
        raise ValueError(
            f"model.background={path}: {nearest(str(path), list(KINDS))} The empty bench is given as a capture's file."
        )
    cloud = path.suffix.lower() in (".npy", ".npz", ".ply", ".pcd")
    depth = files.read_z(path, size) if cloud else files.read_depth(path)
    depth = np.where(np.isfinite(depth), depth, 0) * (captures.unit_m if cloud else 1.0)
    low, high = (limit * captures.unit_m for limit in captures.limits)
    depth = np.where((depth > low) & (depth < high), depth, 0).astype(np.float32)
    if abs(depth.shape[0] * size[1] - depth.shape[1] * size[0]) > max(*depth.shape, *size):
        raise ValueError(
            f"model.background={path} is {depth.shape[1]}x{depth.shape[0]}, and the captures' depth is "
            f"{size[1]}x{size[0]}: expected a capture of the same camera."
        )
    whole = background.filled(depth, depth > 0)
    beside = [path.parent.parent / "images" / f"{path.stem}{suffix}" for suffix in files.IMAGE_SUFFIXES]
    found = next((image for image in beside if image.is_file()), None)
    if found is not None:
        return Background(whole, files.resize_image(files.read_rgb(found), whole.shape), path.name)
    grey = np.full((*whole.shape, 3), 128, np.uint8)
    return Background(whole, grey, path.name)
