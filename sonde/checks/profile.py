"""The depth of a capture as a page shows it: its range, its histogram, and the share of pixels with depth."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from sonde.datasets import Capture, DepthSet
from sonde.renamed import keep_old_names

BINS = np.logspace(-3, 4, 281)
"""Bin edges in metres: 40 bins per decade, from a millimetre to ten kilometres."""


class Profile(NamedTuple):
    """Depth statistics of one capture, in metres."""

    low: float
    """5th percentile."""
    median: float
    high: float
    """95th percentile."""
    valid: float
    """Share of pixels with depth."""
    size: tuple[int, int]
    """(height, width) of the depth map."""
    camera: bool
    """Whether its intrinsics are known."""
    counts: Int[np.ndarray, "280"]
    """Number of pixels in each bin of BINS, of a sample of the map."""


def measure_profile(captures: DepthSet, capture: Capture) -> Profile:
    """The profile of a capture with depth."""
    depth = capture.depth[capture.mask]
    low, median, high = (float(value) for value in np.percentile(depth, [5, 50, 95]))
    height, width = capture.depth.shape
    counts = np.bincount(np.digitize(depth[:: max(1, depth.size // 20_000)], BINS[1:-1]), minlength=len(BINS) - 1)
    return Profile(
        low, median, high, depth.size / capture.depth.size, (height, width), capture.intrinsics is not None, counts
    )


keep_old_names(__name__, {"profile": "measure_profile"})
