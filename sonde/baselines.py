"""What any model must beat: answers that know the training captures but do not look at the image.

Each takes a set and the indices of its training captures, reads their depth one at a time, and gives a
predictor: any capture in, the same metric depth out, to be resized to the capture's own size.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from sonde.datasets import Capture, DepthSet
from sonde.types import DepthArray, Prediction


@dataclass(frozen=True)
class Always:
    """The same depth for every image."""

    depth: DepthArray
    """Metres, (h, w)."""

    def __call__(self, capture: Capture) -> Prediction:
        """Metric depth, whatever the capture shows."""
        return Prediction(self.depth, "metric")


def mean_map(captures: DepthSet, indices: Iterable[int]) -> Always:
    """The mean depth of every pixel; pixels never seen get the mean of all."""
    return Always(_means(*_sums(captures, indices)))


def mean_rows(captures: DepthSet, indices: Iterable[int]) -> Always:
    """A vertical ramp: the mean depth of every row, (h, 1)."""
    total, count = _sums(captures, indices)
    return Always(_means(total.sum(1, keepdims=True), count.sum(1, keepdims=True)))


def mean_depth(captures: DepthSet, indices: Iterable[int]) -> Always:
    """One number, (1, 1): the mean of all trusted pixels."""
    total, count = _sums(captures, indices)
    return Always(_means(total.sum(keepdims=True), count.sum(keepdims=True)))


Plane = Float[np.ndarray, "h w"]


def _sums(captures: DepthSet, indices: Iterable[int]) -> tuple[Plane, Plane]:
    """Sum of depth and number of captures with depth, for each pixel of the first capture's grid."""
    total = count = np.zeros((0, 0))
    for index in indices:
        depth = captures.read_depth(index)
        if not total.size:
            total, count = np.zeros(depth.shape), np.zeros(depth.shape)
        depth = _nearest(depth, total.shape)
        total += depth
        count += depth > 0
    if not count.any():
        raise ValueError(f"No training captures of {captures.root} to take the mean depth of.")
    return total, count


def _means(total: Plane, count: Plane) -> DepthArray:
    overall = total.sum() / count.sum()
    return np.where(count > 0, total / np.maximum(count, 1), overall).astype(np.float32)


def _nearest(depth: DepthArray, shape: tuple[int, ...]) -> Float[np.ndarray, "H W"]:
    """On another grid without mixing depth with untrusted zeros."""
    if depth.shape == shape:
        return depth
    grid = torch.from_numpy(depth)[None, None]
    return torch.nn.functional.interpolate(grid, size=shape, mode="nearest-exact")[0, 0].numpy()
