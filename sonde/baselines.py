"""Baselines that any model must beat: predictors that know the training depth but do not look at the image.

Each function takes a set and the indices of its training captures, reads their depth one at a time, and returns a
predictor: the same metric depth for any capture, to be resized to the capture's own size. Only the median holds all of
the depth at once. `fit_left_out` fits a baseline for each fold, to the captures of the other folds.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from sonde.datasets import Capture, DepthSet
from sonde.renamed import keep_old_names
from sonde.spelling import quantify
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
"""Fits a baseline to a set and the indices of its training captures."""

MOST_BYTES = 2 << 30
"""Most depth that a median may hold in memory, see `fits_in_memory`."""

PixelMap = Float[np.ndarray, "h w"]
"""A sum or a count for each pixel, float64."""


@dataclass(frozen=True)
class LeftOut:
    """For each capture, a baseline fitted to the other folds."""

    answers: Mapping[str, ConstantPredictor]
    """Capture id -> the baseline."""

    def __call__(self, capture: Capture) -> Prediction:
        """Metric depth, whatever the capture shows.

        Raises:
            ValueError: the capture is in no fold.
        """
        if capture.id not in self.answers:
            raise ValueError(
                f"Capture {capture.id} is in no fold: expected one of {', '.join(sorted(self.answers)[:3])} …"
            )
        return self.answers[capture.id](capture)


def fit_left_out(make: Make, captures: DepthSet, folds: Sequence[Sequence[str]]) -> LeftOut:
    """Fit a baseline for each fold, to all captures of the other folds.

    Args:
        make: `fit_mean_map` or another baseline of this file.
        captures: the set.
        folds: capture ids; at least two folds.

    Raises:
        ValueError: a capture that the set lacks, or a single fold.
    """
    answers: dict[str, ConstantPredictor] = {}
    for number, fold in enumerate(folds):
        others = [id_ for other in (*folds[:number], *folds[number + 1 :]) for id_ in other]
        answers |= dict.fromkeys(fold, make(captures, find_indices(captures, others)))
    return LeftOut(answers)


def find_indices(captures: DepthSet, ids: Sequence[str]) -> list[int]:
    """The indices of captures in a set, by their ids.

    Raises:
        ValueError: the set lacks some.
    """
    position = {name: index for index, name in enumerate(captures.ids)}
    absent = [id_ for id_ in ids if id_ not in position]
    if absent:
        raise ValueError(
            f"{captures.root} lacks {quantify(len(absent), 'capture')} of the run's split, first {absent[0]!r}."
        )
    return [position[id_] for id_ in ids]


def fit_mean_map(captures: DepthSet, indices: Iterable[int]) -> ConstantPredictor:
    """The mean depth of every pixel; pixels without depth get the mean of all."""
    return ConstantPredictor(_divide(*_sum_depths(captures, indices)))


def fit_median_map(captures: DepthSet, indices: Iterable[int]) -> ConstantPredictor:
    """The median depth of every pixel over the captures that show it; pixels without depth get the mean of all."""
    depths = list(_read_depths(captures, indices))
    total = float(sum(depth.sum(dtype=np.float64) for depth in depths))
    count = sum(map(np.count_nonzero, depths))
    mean = _compute_mean(captures, total, int(count))
    # Row by row, because sorting all captures at once would need their depth twice more.
    rows = zip(*depths, strict=True)
    return ConstantPredictor(np.stack([_compute_medians(np.stack(row), mean) for row in rows]))


def fits_in_memory(captures: DepthSet, indices: Sequence[int]) -> bool:
    """Whether `fit_median_map` would hold at most MOST_BYTES at once, if all captures have the first one's size."""
    return not indices or len(indices) * captures.read_depth(indices[0]).size * 4 <= MOST_BYTES


def fit_farthest_map(captures: DepthSet, indices: Iterable[int]) -> ConstantPredictor:
    """The farthest depth of every pixel; pixels without depth get the mean of all."""
    far, total, count = _make_empty(), 0.0, 0
    for depth in _read_depths(captures, indices):
        far = np.maximum(far, depth) if far.size else depth
        total += float(depth.sum(dtype=np.float64))
        count += int(np.count_nonzero(depth))
    mean = _compute_mean(captures, total, count)
    return ConstantPredictor(np.where(far > 0, far, mean).astype(np.float32))


def fit_mean_rows(captures: DepthSet, indices: Iterable[int]) -> ConstantPredictor:
    """A vertical ramp: the mean depth of every row, (h, 1)."""
    total, count = _sum_depths(captures, indices)
    return ConstantPredictor(_divide(total.sum(1, keepdims=True), count.sum(1, keepdims=True)))


def fit_mean_depth(captures: DepthSet, indices: Iterable[int]) -> ConstantPredictor:
    """One number, (1, 1): the mean of all trusted pixels."""
    total, count = _sum_depths(captures, indices)
    return ConstantPredictor(_divide(total.sum(keepdims=True), count.sum(keepdims=True)))


def _sum_depths(captures: DepthSet, indices: Iterable[int]) -> tuple[PixelMap, PixelMap]:
    """Sum of depth and number of captures with depth, for each pixel of the first capture's grid."""
    total = count = _make_empty()
    for depth in _read_depths(captures, indices):
        if not total.size:
            total, count = np.zeros(depth.shape), np.zeros(depth.shape)
        total += depth
        count += depth > 0
    # For its error: without any depth there is nothing to divide.
    _compute_mean(captures, float(total.sum()), int(count.sum()))
    return total, count


def _read_depths(captures: DepthSet, indices: Iterable[int]) -> Iterator[DepthArray]:
    """Depth of one capture after another, on the grid of the first."""
    shape = None
    for index in indices:
        depth = captures.read_depth(index)
        shape = shape or depth.shape
        yield _resize_nearest(depth, shape)


def _make_empty() -> PixelMap:
    return np.zeros((0, 0))


def _compute_mean(captures: DepthSet, total: float, count: int) -> float:
    """The mean of all trusted pixels.

    Raises:
        ValueError: there are none.
    """
    if not count:
        raise ValueError(f"No training captures of {captures.root} to take the depth of.")
    return total / count


def _compute_medians(depths: Float[np.ndarray, "n w"], otherwise: float) -> Float[np.ndarray, " w"]:
    """Each column's median over its trusted values; `otherwise` where there are none."""
    count = np.count_nonzero(depths, axis=0)
    ordered = np.sort(np.where(depths > 0, depths, np.inf), axis=0)
    places = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(depths) - 1)])
    return np.where(count > 0, np.take_along_axis(ordered, places, 0).mean(0), otherwise).astype(np.float32)


def _divide(total: PixelMap, count: PixelMap) -> DepthArray:
    """The mean of each pixel; pixels without depth get the mean of all."""
    mean = total.sum() / count.sum()
    return np.where(count > 0, total / np.maximum(count, 1), mean).astype(np.float32)


def _resize_nearest(depth: DepthArray, shape: tuple[int, ...]) -> Float[np.ndarray, "H W"]:
    """Depth on another grid by nearest neighbours, which never mix depth with untrusted zeros."""
    if depth.shape == shape:
        return depth
    grid = torch.from_numpy(depth)[None, None]
    return torch.nn.functional.interpolate(grid, size=shape, mode="nearest-exact")[0, 0].numpy()


keep_old_names(
    __name__,
    {
        "left_out": "fit_left_out",
        "positions": "find_indices",
        "mean_map": "fit_mean_map",
        "median_map": "fit_median_map",
        "median_fits": "fits_in_memory",
        "far_map": "fit_farthest_map",
        "mean_rows": "fit_mean_rows",
        "mean_depth": "fit_mean_depth",
    },
)
