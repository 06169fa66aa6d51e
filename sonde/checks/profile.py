"""What a page shows of a capture's depth: its range, its histogram, and how much of the map has any."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from sonde.datasets import Capture, DepthSet

BINS = np.logspace(-3, 4, 281)
"""Metres: 40 to a decade, from a millimetre to ten kilometres."""


class Profile(NamedTuple):
    """Of one capture; metres."""

    low: float
    """5th percentile."""
    median: float
    high: float
    """95th percentile."""
    valid: float
    """Share of pixels with depth."""
    size: tuple[int, int]
    """Height and width of the depth map."""
    camera: bool
    """Whether its intrinsics are known."""
    counts: Int[np.ndarray, "280"]
    """Pixels in each step of BINS."""


def profile(captures: DepthSet, capture: Capture) -> Profile:
    """Measured once, when the capture is read."""
    depth = capture.depth[capture.mask]
    low, median, high = (float(value) for value in np.percentile(depth, [5, 50, 95]))
    height, width = capture.depth.shape
    counts = np.bincount(np.digitize(depth[:: max(1, depth.size // 20_000)], BINS[1:-1]), minlength=len(BINS) - 1)
    return Profile(
        low, median, high, depth.size / capture.depth.size, (height, width), capture.intrinsics is not None, counts
    )
