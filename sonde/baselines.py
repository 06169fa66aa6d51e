"""What any model must beat: answers that know the training captures but do not look at the image.

Each takes a set and the indices of its training captures, reads their depth one at a time, and gives a
predictor: any capture in, the same metric depth out, to be resized to the capture's own size. The median alone
holds all of that depth at once. `left_out` makes one of them once a fold, from the captures of the other folds.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from sonde.datasets import Capture, DepthSet
from sonde.types import DepthArray, Prediction


@dataclass(frozen=True)
class ConstantPredictor:
    """The same depth for every image."""

    depth: DepthArray
    """Metres, (h, w)."""

    def __call__(self, capture: Capture) -> Prediction:
        """Metric depth, whatever the capture shows."""
        return Prediction(self.depth, "metric")


Make = Callable[[DepthSet, Iterable[int]], ConstantPredictor]
"""A baseline of a set and the indices of its training captures."""

MOST_BYTES = 2 << 30
"""A median holds all training depth at once: where that is more than this, `median_fits` says so."""


@dataclass(frozen=True)
class LeftOut:
    """For each capture the depth of captures outside its fold."""

    answers: Mapping[str, ConstantPredictor]
    """Capture id -> the baseline of the other folds."""

    def __call__(self, capture: Capture) -> Prediction:
        """Metric depth, whatever the capture shows.

        Raises:
            ValueError: a capture of no fold.
        """
        if capture.id not in self.answers:
            raise ValueError(f"{capture.id} is in no fold: expected one of {', '.join(sorted(self.answers)[:3])} …")
        return self.answers[capture.id](capture)


def left_out(make: Make, captures: DepthSet, folds: Sequence[Sequence[str]]) -> LeftOut:
    """Each capture answered by the baseline of all captures outside its own fold, made once a fold.

    Args:
        make: `mean_map` or another baseline of this file.
        captures: the set.
        folds: capture ids; two folds at least, since the others make the answer.

    Raises:
        ValueError: a capture that the set lacks, or no other fold.
    """
    answers: dict[str, ConstantPredictor] = {}
    for number, fold in enumerate(folds):
        others = [id_ for other in (*folds[:number], *folds[number + 1 :]) for id_ in other]
        answers |= dict.fromkeys(fold, make(captures, positions(captures, others)))
    return LeftOut(answers)


def positions(captures: DepthSet, ids: Sequence[str]) -> list[int]:
    """The indices of captures by their ids.

    Raises:
        ValueError: the set lacks some.
    """
    position = {name: index for index, name in enumerate(captures.ids)}
    absent = [id_ for id_ in ids if id_ not in position]
    if absent:
        raise ValueError(f"{captures.root} lacks {len(absent)} captures of the run's split, first {absent[0]!r}.")
    return [position[id_] for id_ in ids]


def mean_map(captures: DepthSet, indices: Iterable[int]) -> ConstantPredictor:
    """The mean depth of every pixel; pixels never seen get the mean of all."""
    return ConstantPredictor(_means(*_sums(captures, indices)))


def median_map(captures: DepthSet, indices: Iterable[int]) -> ConstantPredictor:
    """The median depth of every pixel over the captures that show it; pixels never seen get the mean of all."""
    depths = list(_depths(captures, indices))
    total, count = float(sum(depth.sum(dtype=np.float64) for depth in depths)), sum(map(np.count_nonzero, depths))
    overall = _mean_of(captures, total, int(count))
    rows = zip(*depths, strict=True)
    return ConstantPredictor(np.stack([_middle(np.stack(row), overall) for row in rows]))


def median_fits(captures: DepthSet, indices: Sequence[int]) -> bool:
    """Whether `median_map` holds no more than MOST_BYTES at once."""
    return not indices or len(indices) * captures.read_depth(indices[0]).size * 4 <= MOST_BYTES


def far_map(captures: DepthSet, indices: Iterable[int]) -> ConstantPredictor:
    """The farthest depth of every pixel; pixels never seen get the mean of all."""
    far, total, count = _nothing(), 0.0, 0
    for depth in _depths(captures, indices):
        far = np.maximum(far, depth) if far.size else depth
        total, count = total + float(depth.sum(dtype=np.float64)), count + int(np.count_nonzero(depth))
    overall = _mean_of(captures, total, count)
    return ConstantPredictor(np.where(far > 0, far, overall).astype(np.float32))


def mean_rows(captures: DepthSet, indices: Iterable[int]) -> ConstantPredictor:
    """A vertical ramp: the mean depth of every row, (h, 1)."""
    total, count = _sums(captures, indices)
    return ConstantPredictor(_means(total.sum(1, keepdims=True), count.sum(1, keepdims=True)))


def mean_depth(captures: DepthSet, indices: Iterable[int]) -> ConstantPredictor:
    """One number, (1, 1): the mean of all trusted pixels."""
    total, count = _sums(captures, indices)
    return ConstantPredictor(_means(total.sum(keepdims=True), count.sum(keepdims=True)))


Plane = Float[np.ndarray, "h w"]


def _sums(captures: DepthSet, indices: Iterable[int]) -> tuple[Plane, Plane]:
    """Sum of depth and number of captures with depth, for each pixel of the first capture's grid."""
    total = count = _nothing()
    for depth in _depths(captures, indices):
        if not total.size:
            total, count = np.zeros(depth.shape), np.zeros(depth.shape)
        total += depth
        count += depth > 0
    _mean_of(captures, float(total.sum()), int(count.sum()))
    return total, count


def _depths(captures: DepthSet, indices: Iterable[int]) -> Iterator[DepthArray]:
    """Depth of one capture after another, on the grid of the first."""
    shape = None
    for index in indices:
        depth = captures.read_depth(index)
        shape = shape or depth.shape
        yield _nearest(depth, shape)


def _nothing() -> Plane:
    return np.zeros((0, 0))


def _mean_of(captures: DepthSet, total: float, count: int) -> float:
    """The mean of all trusted pixels.

    Raises:
        ValueError: there are none.
    """
    if not count:
        raise ValueError(f"No training captures of {captures.root} to take the depth of.")
    return total / count


def _middle(depths: Float[np.ndarray, "n w"], otherwise: float) -> Float[np.ndarray, " w"]:
    """Each column's median over its trusted values; `otherwise` where there are none."""
    count = np.count_nonzero(depths, axis=0)
    ordered = np.sort(np.where(depths > 0, depths, np.inf), axis=0)
    places = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(depths) - 1)])
    return np.where(count > 0, np.take_along_axis(ordered, places, 0).mean(0), otherwise).astype(np.float32)


def _means(total: Plane, count: Plane) -> DepthArray:
    overall = total.sum() / count.sum()
    return np.where(count > 0, total / np.maximum(count, 1), overall).astype(np.float32)


def _nearest(depth: DepthArray, shape: tuple[int, ...]) -> Float[np.ndarray, "H W"]:
    """On another grid without mixing depth with untrusted zeros."""
    if depth.shape == shape:
        return depth
    grid = torch.from_numpy(depth)[None, None]
    return torch.nn.functional.interpolate(grid, size=shape, mode="nearest-exact")[0, 0].numpy()
