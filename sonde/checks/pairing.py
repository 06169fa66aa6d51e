"""Whether each depth map belongs to its own image: where depth jumps or ends, the image usually changes too.

The edges of every image are correlated with those of every depth map of the set, on a small grid, after subtracting
their mean. The same maps, shifted and mirrored, measure chance; the unit of a correlation is the deviation of chance.
"""

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float16

from sonde.checks.answers import CheckResult, Fault, SureFault
from sonde.checks.edges import find_breaks, measure_contrast
from sonde.datasets import Capture, DepthSet
from sonde.renamed import keep_old_names

GRID = (48, 64)
LONG_SIDE = 320
"""Pixels; edges are found in maps shrunk to it."""
LEAST_OWN = 4.0
"""Deviations by which the wrong partner must fit better than the own one, for the image and for the depth map."""
LEAST_FIT = 6.0
"""Deviations of the wrong partner's fit from chance. Among 1,000 captures, chance reaches 5."""
MOVES = ((0, 16), (12, 0), (24, 0), (0, 32), (12, 16), (36, 48))
"""Shifts, in cells of the grid, that measure chance."""
TOGETHER = 1000
"""Captures that are compared, all with all. A larger set is divided into such runs: partners are rarely far apart."""


class Edges(NamedTuple):
    """Edges of one capture, on the small grid."""

    image: Float16[np.ndarray, "48 64"]
    depth: Float16[np.ndarray, "48 64"]


def look(captures: DepthSet, capture: Capture) -> Edges | None:
    """Edges of the image, and of depth where it jumps or ends; None if one of them has no edge."""
    shrink = max(1.0, max(capture.depth.shape) / LONG_SIDE)
    height, width = (max(1, round(side / shrink)) for side in capture.depth.shape)
    grey = cv2.cvtColor(capture.image, cv2.COLOR_RGB2GRAY)
    depth = cv2.resize(capture.depth, (width, height), interpolation=cv2.INTER_NEAREST)
    steps = find_breaks(depth) | _find_ends(depth > 0)
    image = _shrink(measure_contrast(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)))
    if not steps.any() or np.ptp(image) == 0:
        return None
    return Edges(image, np.sqrt(_shrink(steps)))


def judge(captures: DepthSet, seen: Mapping[str, Edges | None]) -> CheckResult:
    """Images with the depth of another capture: both fit each other better than their own partners."""
    found_edges = {name: edges for name, edges in seen.items() if edges is not None}
    names = list(found_edges)
    if len(names) < 2:
        return CheckResult([], len(names), "This check needs two captures with edges.")
    faults = []
    for start in range(0, len(names), TOGETHER):
        run = names[start : start + TOGETHER]
        faults += [
            Fault(
                run[image],
                f"{run[image]} has the depth of another capture: its image fits the depth of {run[depth]} by "
                f"{found:.1f} standard deviations and its own by {own:.1f}; pair images and depth again.",
            )
            for image, depth, found, own in find_swapped(_correlate([found_edges[name] for name in run]))
        ]
    # One wrong pair may be chance; that most are is none.
    kind = SureFault if 2 * len(faults) > len(names) else Fault
    return CheckResult([kind(*fault) for fault in faults], len(names))


def find_swapped(fits: Float[np.ndarray, "n n"]) -> list[tuple[int, int, float, float]]:
    """(image, depth, their fit, the fit of the image with its own depth) for every wrong pair.

    Args:
        fits: fit of each image (row) with each depth map (column), in deviations from chance.
    """
    best, own, rows = fits.argmax(1), np.diag(fits), np.arange(len(fits))
    found, better = fits[rows, best], fits[rows, best] - np.maximum(own, own[best])
    wrong = (found >= LEAST_FIT) & (better >= LEAST_OWN)
    # Two captures that swapped their depth give two fits, so each fit may be weaker by the root of 2.
    traded = (best[best] == rows) & (best != rows)
    both = found + found[best], better + better[best]
    wrong |= traded & (both[0] >= np.sqrt(2) * LEAST_FIT) & (both[1] >= np.sqrt(2) * LEAST_OWN)
    return [(int(row), int(best[row]), float(found[row]), float(own[row])) for row in rows[wrong]]


def _correlate(edges: list[Edges]) -> Float[np.ndarray, "n n"]:
    """Correlation of every image with every depth map, in deviations from chance."""
    images = _normalise(np.stack([each.image for each in edges]).astype(np.float32))
    depths = np.stack([each.depth for each in edges]).astype(np.float32)
    few = slice(None, None, -(-len(edges) // 100))
    others = [np.roll(depths[few], move, (1, 2)) for move in MOVES] + [depths[few, :, ::-1], depths[few, ::-1]]
    chance = images[few] @ np.concatenate([_normalise(other) for other in others]).T
    deviation = max(float(chance.std()), 1e-6)  # all fits are 0 if all edges are equal
    return (images @ _normalise(depths).T - chance.mean()) / deviation


def _normalise(maps: Float[np.ndarray, "n 48 64"]) -> Float[np.ndarray, "n cells"]:
    """Each map as a row of mean 0 and length 1; with more than 3 maps, after subtracting their mean."""
    flat = maps.reshape(len(maps), -1)
    flat = flat - flat.mean(0) if len(flat) > 3 else flat
    flat = flat - flat.mean(1, keepdims=True)
    return flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-9)


def _shrink(values: np.ndarray) -> Float16[np.ndarray, "48 64"]:
    return cv2.resize(values.astype(np.float32), GRID[::-1], interpolation=cv2.INTER_AREA).astype(np.float16)


def _find_ends(trusted: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Where trusted and untrusted pixels meet."""
    return cv2.Laplacian(trusted.astype(np.float32), cv2.CV_32F) != 0


keep_old_names(__name__, {"swapped": "find_swapped"})
