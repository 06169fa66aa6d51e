"""Whether each depth map belongs to its own image: where depth jumps or breaks off, the picture usually changes too.

The edges of every image are correlated with those of every depth map of the set, on a small grid, less what all of
them share. What chance gives is measured by the same maps moved and mirrored; a correlation counts in its deviations.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float16

from sonde.checks.answers import CheckResult, Fault, Seen
from sonde.checks.edges import breaks, contrast
from sonde.datasets import Capture, DepthSet

GRID = (48, 64)
LONG_SIDE = 320
"""Edges are found in maps shrunk to it."""
LEAST_OWN = 4.0
"""Deviations by which another image must fit better than a depth map's own, and another depth map than an image's."""
LEAST_FIT = 6.0
"""Deviations of the fit that is found, from chance: among 1,000 captures chance reaches 5."""
MOVES = ((0, 16), (12, 0), (24, 0), (0, 32), (12, 16), (36, 48))
TOGETHER = 1000
"""Captures that are compared, all with all; a larger set is cut into such runs, for partners are rarely far apart."""


class Edges(NamedTuple):
    """Of one capture, on the small grid."""

    image: Float16[np.ndarray, "48 64"]
    depth: Float16[np.ndarray, "48 64"]


def look(captures: DepthSet, capture: Capture) -> Edges | None:
    """Where the image changes, and where depth jumps or ends; None where one of them is without any edge."""
    shrink = max(1.0, max(capture.depth.shape) / LONG_SIDE)
    height, width = (max(1, round(side / shrink)) for side in capture.depth.shape)
    grey = cv2.cvtColor(capture.image, cv2.COLOR_RGB2GRAY)
    depth = cv2.resize(capture.depth, (width, height), interpolation=cv2.INTER_NEAREST)
    steps = breaks(depth) | _ends(depth > 0)
    image = _small(contrast(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)))
    return Edges(image, np.sqrt(_small(steps))) if steps.any() and np.ptp(image) > 0 else None


def judge(captures: DepthSet, seen: Seen) -> CheckResult:
    """Images whose depth is another's: both the image and that depth map fit each other better than their own."""
    names = [name for name, edges in seen.items() if edges is not None]
    if len(names) < 2:
        return CheckResult([], len(names), "Needs two captures with edges.")
    faults = []
    for start in range(0, len(names), TOGETHER):
        run = names[start : start + TOGETHER]
        faults += [
            Fault(
                run[image],
                f"{run[image]} has the depth of another capture: its image fits the depth of {run[depth]} by "
                f"{found:.1f} standard deviations, its own by {own:.1f}; pair images and depth again.",
            )
            for image, depth, found, own in swapped(_fits([seen[name] for name in run]))
        ]
    return CheckResult(faults, len(names))


def swapped(fits: Float[np.ndarray, "n n"]) -> list[tuple[int, int, float, float]]:
    """(image, depth, their fit, the fit of the image with its own depth) of every wrong pair.

    Args:
        fits: of image (row) and depth (column), in deviations from chance.
    """
    best, own, rows = fits.argmax(1), np.diag(fits), np.arange(len(fits))
    found, better = fits[rows, best], fits[rows, best] - np.maximum(own, own[best])
    wrong = (found >= LEAST_FIT) & (better >= LEAST_OWN)
    traded = (best[best] == rows) & (best != rows)  # two that have each other's: their fits tell together
    both = found + found[best], better + better[best]
    wrong |= traded & (both[0] >= np.sqrt(2) * LEAST_FIT) & (both[1] >= np.sqrt(2) * LEAST_OWN)
    return [(int(row), int(best[row]), float(found[row]), float(own[row])) for row in rows[wrong]]


def _fits(edges: list[Edges]) -> Float[np.ndarray, "n n"]:
    images = _unit(np.stack([each.image for each in edges]).astype(np.float32))
    depths = np.stack([each.depth for each in edges]).astype(np.float32)
    few = slice(None, None, -(-len(edges) // 100))
    others = [np.roll(depths[few], move, (1, 2)) for move in MOVES] + [depths[few, :, ::-1], depths[few, ::-1]]
    chance = images[few] @ np.concatenate([_unit(other) for other in others]).T
    return (images @ _unit(depths).T - chance.mean()) / max(float(chance.std()), 1e-6)  # 0 where all edges are alike


def _unit(maps: Float[np.ndarray, "n 48 64"]) -> Float[np.ndarray, "n cells"]:
    """Without what all share, where there are enough to tell; mean 0, length 1."""
    flat = maps.reshape(len(maps), -1)
    flat = flat - flat.mean(0) if len(flat) > 3 else flat
    flat = flat - flat.mean(1, keepdims=True)
    return flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-9)


def _small(values: np.ndarray) -> Float16[np.ndarray, "48 64"]:
    return cv2.resize(values.astype(np.float32), GRID[::-1], interpolation=cv2.INTER_AREA).astype(np.float16)


def _ends(trusted: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Where trusted and untrusted pixels meet."""
    return cv2.Laplacian(trusted.astype(np.float32), cv2.CV_32F) != 0
