"""Whether depth lies on its picture: where depth jumps, the picture usually changes too."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from sonde.types import DepthArray

Picture = UInt8[np.ndarray, "height width 3"]
"""Of the depth's size, or another."""

LONG_SIDE = 640
"""Larger maps are shrunk to it before they are compared."""
REACH = 10
"""Pixels each way that are tried."""
LEAST_SHIFT = 3
"""Pixels: cameras of real sets are registered to one or two."""
LEAST_EDGES = 200
"""Fewer edge pixels tell nothing."""
LEAST_RISE = 1.15
"""Of the mean gradient under the edges, by the best shift."""
JUMP = 1.05
"""Ratio of neighbouring depths at an edge."""
MOST_EDGES = 5000
"""Edge pixels that are asked, evenly taken."""
TILES = 4
"""Rows and columns of tiles, each of which says whether it agrees."""


def edge_shift(image: Picture, depth: DepthArray) -> tuple[int, int] | None:
    """How far depth must move, (down, right) in its pixels, to lie on its image; None where it lies well.

    The mean image gradient under the depth edges is compared over all shifts. The best one counts where it is three
    pixels long, its mean is 15 % above that of no shift, and the tiles of the image agree: at least five have edges,
    four of five of those gain, and the gain is three standard errors from zero. Sparse or smooth depth has no edges to
    speak of, and gets None.

    Args:
        image: RGB; of the same view, and of any size.
        depth: (h, w), 0 where untrusted.
    """
    shrink = max(1.0, max(depth.shape) / LONG_SIDE)
    height, width = (round(side / shrink) for side in depth.shape)
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (width, height), interpolation=cv2.INTER_AREA)
    small = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST)
    row, column = np.nonzero(_jumps(small)[REACH : height - REACH, REACH : width - REACH])
    if len(row) < LEAST_EDGES:
        return None
    few = slice(None, None, -(-len(row) // MOST_EDGES))
    row, column = row[few], column[few]
    tile = row * TILES // (height - 2 * REACH) * TILES + column * TILES // (width - 2 * REACH)
    gradient = _contrast(grey)
    down, right = (steps.ravel() for steps in np.mgrid[: 2 * REACH + 1, : 2 * REACH + 1])
    under = gradient[row[:, None] + down, column[:, None] + right]  # (edges, shifts)
    best, still = int(under.mean(0).argmax()), len(down) // 2
    moved = np.array([down[best] - REACH, right[best] - REACH])
    if np.abs(moved).max() < LEAST_SHIFT or under[:, best].mean() < LEAST_RISE * under[:, still].mean():
        return None
    if not _agreed(under[:, best] - under[:, still], tile):
        return None
    return round(moved[0] * shrink), round(moved[1] * shrink)


def _jumps(depth: DepthArray) -> Bool[np.ndarray, "h w"]:
    """Both sides of every step between trusted neighbours."""
    log, trusted = np.log(np.where(depth > 0, depth, 1)), depth > 0
    edge = np.zeros(depth.shape, bool)
    for one, next_ in (((slice(-1),), (slice(1, None),)), ((slice(None), slice(-1)), (slice(None), slice(1, None)))):
        step = trusted[one] & trusted[next_] & (np.abs(log[one] - log[next_]) > np.log(JUMP))
        edge[one] |= step
        edge[next_] |= step
    return edge


def _contrast(grey: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Root of the gradient over its local mean, so that no strong texture outvotes the rest."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.0)
    gradient = np.sqrt(np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)))
    around = cv2.blur(gradient, (2 * REACH + 5, 2 * REACH + 5))
    return gradient / (around + 0.1 * gradient.mean() + 1e-6)


def _agreed(gain: Float[np.ndarray, " n"], tile: Int[np.ndarray, " n"]) -> bool:
    gains = np.array([gain[tile == number].mean() for number in np.unique(tile) if (tile == number).sum() >= 20])
    if len(gains) < 5 or (gains > 0).mean() < 0.8:
        return False
    return bool(gains.mean() >= 3 * gains.std(ddof=1) / np.sqrt(len(gains)))
