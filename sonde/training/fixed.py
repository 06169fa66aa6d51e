"""The bench of a fixed camera, from the captures of a recipe, and the check that the camera did not move."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sonde import background, files
from sonde.background import Background, Colours, Registration, Stack
from sonde.datasets import DepthSet
from sonde.renamed import keep_old_names
from sonde.spelling import nearest, quantify
from sonde.training.sidebyside import map_side_by_side

log = logging.getLogger("sonde")

KINDS = ("auto", "none", "farthest", "median")
"""What `model.background` accepts besides a file."""
MOST = 64
"""Most captures that a bench is made of, evenly spread: more show nothing new and fill the memory."""
FOLDS = 8
"""Up to this many captures, each is left out alone; of more, a fold of them."""
BUMPED = 0.2
"""Up to this share of captures off the bench are single errors; of more, the camera is taken to have moved."""
LONGEST_SIDE = 1024
"""Longest side, in pixels, of the maps that a bench is made of; larger maps are thinned."""


class Bench(NamedTuple):
    """Captures of one camera, all at one size."""

    ids: list[str]
    images: Colours
    depths: Stack

    def drop(self, ids: Sequence[str]) -> "Bench":
        """The bench without these captures."""
        kept = [index for index, id_ in enumerate(self.ids) if id_ not in set(ids)]
        return Bench([self.ids[index] for index in kept], self.images[kept], self.depths[kept])

    def compute_background(self, kind: str, *, with_colours: bool = True) -> Background:
        """The bench by `farthest` or `median`; its colours are black without `with_colours`, which saves time."""
        depth = {"farthest": background.find_farthest, "median": background.find_median}[kind](self.depths)
        if not with_colours:
            return Background(depth, np.zeros_like(self.images[0]), kind)
        image = background.find_colours(self.images, self.depths, depth)
        usual_match = float(np.median([background.match_edges(image, own)[1] for own in self.images]))
        return Background(depth, image, kind, usual_match)


def read_bench(captures: DepthSet, ids: Sequence[str]) -> Bench | None:
    """Read captures of one size, thinned to LONGEST_SIDE; None if sizes differ, because one camera gives one size."""
    position = {id_: index for index, id_ in enumerate(captures.ids)}
    chosen = spread_evenly(ids, MOST)
    images, depths = [], []
    for id_ in chosen:
        capture = captures.read(position[id_])
        step = -(-max(capture.depth.shape) // LONGEST_SIDE)
        # Depth is thinned, not averaged: a mean across an edge lies on no surface.
        depths.append(capture.depth[::step, ::step])
        images.append(files.resize_image(capture.image, (depths[-1].shape[0], depths[-1].shape[1])))
    if len({depth.shape for depth in depths}) != 1:
        return None
    return Bench(chosen, np.stack(images), np.stack(depths).astype(np.float32))


def spread_evenly(ids: Sequence[str], most: int) -> list[str]:
    """At most `most` of the ids, evenly spread."""
    places = np.linspace(0, len(ids) - 1, min(len(ids), most)).round().astype(int)
    return [ids[int(place)] for place in np.unique(places)]


def register_captures(bench: Bench, folds: Sequence[Sequence[str]]) -> dict[str, Registration]:
    """How well each capture fits the bench that the captures of the other folds show."""
    by_fold = map_side_by_side(partial(_register_fold, bench), folds)
    return {id_: registration for found in by_fold for id_, registration in found.items()}


def _register_fold(bench: Bench, fold: Sequence[str]) -> dict[str, Registration]:
    others = bench.drop(fold).compute_background("farthest")
    index = {id_: bench.ids.index(id_) for id_ in fold if id_ in bench.ids}
    return {id_: background.register(others, bench.images[at], bench.depths[at]) for id_, at in index.items()}


def explain_no_bench(bench: Bench | None, folds: Sequence[Sequence[str]]) -> str | None:
    """A sentence that says why these captures do not show one bench; None if they do."""
    if bench is None:
        return "The captures differ in size, so no fixed camera took them: no background is used."
    if len(bench.ids) < 2:
        return "One capture does not show what is bench and what is object: no background is used."
    found = register_captures(bench, folds)
    moved = {id_: each for id_, each in found.items() if each.moved}
    if not moved:
        return None
    offset = 1000 * float(np.median([each.offset or 0.0 for each in moved.values()]))
    shift = float(np.median([each.shift_px for each in moved.values()]))
    measured = f"{offset:.1f} mm" + (f" and {shift:.0f} pixels" if shift else "")
    lie = "does not lie" if len(moved) == 1 else "do not lie"
    those = f"{len(moved)} of {quantify(len(found), 'capture')}"
    off = f"{those} {lie} on the bench that the others show ({measured} off, first "
    if len(moved) <= BUMPED * len(found):
        log.warning("%s%s): check them, or leave them out with data.reject.", off, min(moved))
        return None
    return f"{off}{min(moved)}): the camera has moved, so no background is used."


def find_background(kind: str, captures: DepthSet, train: Sequence[str], *, known: bool = False) -> Background | None:
    """The bench that `model.background` asks for, from the training captures or a file; None if there is none.

    Args:
        kind: a name in KINDS, or a file. `auto` uses the farthest map if the captures show one bench.
        captures: the set.
        train: the ids to use.
        known: skip the check, because `choose` has found that this kind suits the captures.

    Raises:
        ValueError: an unknown kind, or captures that differ in size with a kind other than `auto`.
    """
    if kind == "none":
        return None
    bench = read_bench(captures, train) if kind in KINDS else None
    if kind in KINDS and not known:
        folds = [[id_] for id_ in train] if len(train) <= FOLDS else deal_folds(train, FOLDS)
        reason = explain_no_bench(bench, folds)
        if reason is not None:
            log.warning("%s", reason if kind == "auto" else f"model.background={kind} is used all the same: {reason}")
        if kind == "auto" and reason is not None:
            return None
    return make_background("farthest" if kind == "auto" else kind, captures, bench)


def make_background(kind: str, captures: DepthSet, bench: Bench | None, left_out: Sequence[str] = ()) -> Background:
    """The bench by `farthest` or `median`, without the captures `left_out`, or from a file.

    Raises:
        ValueError: captures that differ in size, or no such file.
    """
    if kind not in KINDS:
        shape = captures.read_depth(0).shape
        return read_empty_bench(Path(kind), captures, (shape[0], shape[1]))
    if bench is None:
        raise ValueError(
            f"model.background={kind} needs a fixed camera, and the captures differ in size: set model.background=none."
        )
    # A bench that only serves an estimate is never shown, so its colours are not computed.
    return bench.drop(left_out).compute_background(kind, with_colours=not left_out)


def deal_folds(ids: Sequence[str], folds: int) -> list[list[str]]:
    """The ids in `folds` parts of about one size."""
    return [list(ids[number::folds]) for number in range(folds)]


def read_empty_bench(path: Path, captures: DepthSet, size: tuple[int, int]) -> Background:
    """Read a capture of the empty bench: its depth map or cloud, and the image of the same name, if there is one.

    Args:
        path: .npy, .npz, .ply or .pcd in the set's unit, or a depth image in metres.
        captures: the set that it belongs to.
        size: (height, width) of the captures' depth.

    Raises:
        ValueError: no such file, or a file of another size than the captures.
    """
    if not path.is_file():
        raise ValueError(
            f"model.background={path} is no file; {nearest(str(path), list(KINDS))} For an empty bench, give the file "
            "of its capture."
        )
    cloud = path.suffix.lower() in (".npy", ".npz", ".ply", ".pcd")
    depth = files.read_z(path, size, unit_m=captures.unit_m) if cloud else files.read_depth(path)
    depth = np.where(np.isfinite(depth), depth, 0) * (captures.unit_m if cloud else 1.0)
    low, high = (limit * captures.unit_m for limit in captures.limits)
    depth = np.where((depth > low) & (depth < high), depth, 0).astype(np.float32)
    # The aspect is the same up to rounding each side to whole pixels.
    if abs(depth.shape[0] * size[1] - depth.shape[1] * size[0]) > max(*depth.shape, *size):
        raise ValueError(
            f"model.background={path} is {depth.shape[1]}x{depth.shape[0]}, and the captures' depth is "
            f"{size[1]}x{size[0]}: expected a capture of the same camera."
        )
    whole = background.fill_holes(depth, depth > 0)
    beside = [path.parent.parent / "images" / f"{path.stem}{suffix}" for suffix in files.IMAGE_SUFFIXES]
    found = next((image for image in beside if image.is_file()), None)
    if found is not None:
        return Background(whole, files.resize_image(files.read_rgb(found), whole.shape), path.name)
    grey = np.full((*whole.shape, 3), 128, np.uint8)
    return Background(whole, grey, path.name)


keep_old_names(
    __name__,
    {
        "registrations": "register_captures",
        "why_not": "explain_no_bench",
        "deal": "deal_folds",
        "read_empty": "read_empty_bench",
    },
)
