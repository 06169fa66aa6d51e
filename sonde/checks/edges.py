"""Whether depth lies on its picture: where depth breaks, the picture usually changes too.

The breaks of depth are laid over the picture's contrast at every shift. What shifts far off give is chance, and the
unit: a sound capture's best fit is at rest, 5 to 25 deviations high, and 2 pixels of it are what registration leaves.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from sonde.checks.answers import CheckResult, Fault, Seen
from sonde.datasets import Capture, DepthSet
from sonde.types import DepthArray

Picture = UInt8[np.ndarray, "height width 3"]
"""Of the depth's size, or another."""
Fits = Float[np.ndarray, "side side"]
"""By shift of depth down and right, as many pixels each way: deviations from chance."""

LONG_SIDE = 640
"""Larger maps are shrunk to it before they are compared."""
FAR = 36
"""Pixels each way that are laid over, less in small maps: the inner two thirds are tried, the rest is chance."""
SLACK = 2
"""Pixels: cameras of real sets are registered to one or two."""
LEAST_EDGES = 150
"""Fewer edge pixels tell nothing."""
LEAST_FILLED = 0.4
"""Sparse lidar has no edges to speak of."""
BREAK = 0.03
"""Second difference of 1 / depth, of itself: 0 on every plane, however slanted."""
SHADOW = 15
"""Pixels: gaps beside a step that are filled with the farther depth, which is what casts no shadow."""
LEAST_FIT, LEAST_GAIN = 6.0, 2.5
"""Deviations of the best shift, and over rest; sound captures that fit so well gain 0.5 at most."""
MOST_FIT = 6.0
"""What one capture may say for its set, so that none speaks for the others."""
SET_FIT, SET_GAIN, SET_SHARE = 3.5, 1.5, 0.8
"""Likewise of the mean of those, and the share of captures that gain."""
LEAST_CAPTURES = 3


class Overlay(NamedTuple):
    """How a capture's depth fits its picture."""

    fits: Fits
    shrink: float
    """Pixels of the depth for one of the fits."""


def overlay(image: Picture, depth: DepthArray) -> Overlay | None:
    """How well depth lies on its image at every shift; None where too few edges tell.

    Args:
        image: RGB; of the same view, and of any size.
        depth: (h, w), 0 where untrusted.
    """
    shrink = max(1.0, max(depth.shape) / LONG_SIDE)
    height, width = (max(1, round(side / shrink)) for side in depth.shape)
    far = min(FAR, min(height, width) // 5)
    if far < 4 * SLACK or (depth > 0).mean() < LEAST_FILLED:
        return None
    edges = breaks(cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST))[far:-far, far:-far]
    if edges.sum() < LEAST_EDGES:
        return None
    picture = contrast(
        cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (width, height), interpolation=cv2.INTER_AREA)
    )
    under = cv2.matchTemplate(picture - picture.mean(), edges.astype(np.float32), cv2.TM_CCORR)
    away = np.abs(np.mgrid[-far : far + 1, -far : far + 1]).max(0)
    reach = far * 2 // 3
    chance, middle = under[away > reach], slice(far - reach, far + reach + 1)
    if chance.std() < 1e-3:  # a picture of one colour
        return None
    return Overlay((under[middle, middle] - chance.mean()) / chance.std(), shrink)


def edge_shift(image: Picture, depth: DepthArray) -> tuple[int, int] | None:
    """How far depth must move, (down, right) in its pixels, to lie on its image; None where it lies well.

    Args:
        image: RGB; of the same view, and of any size.
        depth: (h, w), 0 where untrusted.
    """
    found = overlay(image, depth)
    return None if found is None else _shift(found, LEAST_FIT, LEAST_GAIN)


def look(captures: DepthSet, capture: Capture) -> Overlay | None:
    """How the capture's depth fits its picture."""
    return overlay(capture.image, capture.depth)


def judge(captures: DepthSet, seen: Seen) -> CheckResult:
    """One fault for a set that is moved throughout, else one for every capture that surely is."""
    telling: dict[str, Overlay] = {name: found for name, found in seen.items() if found is not None}
    together = _moved_together(list(telling.values()))
    if together is not None:
        return CheckResult(
            [Fault("", _line(f"Depth fits its image best in {len(telling)} captures", together))], len(telling)
        )
    moved = {name: _shift(found, LEAST_FIT, LEAST_GAIN) for name, found in telling.items()}
    lines = {name: _line(f"{name} fits its image best", shift) for name, shift in moved.items() if shift}
    return CheckResult(
        [Fault(name, line) for name, line in lines.items()], len(telling), "" if telling else "Too few edges."
    )


def breaks(depth: DepthArray) -> Bool[np.ndarray, "h w"]:
    """Both sides of every step of depth, across a sensor's shadow too."""
    filled = np.where(depth > 0, depth, cv2.dilate(depth, np.ones((SHADOW, SHADOW), np.uint8)))
    inverse = np.where(filled > 0, 1 / np.where(filled > 0, filled, 1), np.nan)
    found = np.zeros(depth.shape, bool)
    with np.errstate(invalid="ignore"):
        for marked, map_ in ((found, inverse), (found.T, inverse.T)):
            bend = np.abs(map_[:-2] - 2 * map_[1:-1] + map_[2:])
            marked[1:-1] |= bend > BREAK * map_[1:-1]
    return found


def contrast(grey: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Root of the gradient over its local mean, so that no strong texture outvotes the rest."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.0)
    gradient = np.sqrt(np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)))
    return gradient / (cv2.blur(gradient, (25, 25)) + 0.1 * gradient.mean() + 1e-6)


def _shift(found: Overlay, least_fit: float, least_gain: float) -> tuple[int, int] | None:
    fits, rest = found.fits, _at_rest(found.fits)
    down, right = (int(place) - len(fits) // 2 for place in np.unravel_index(fits.argmax(), fits.shape))
    if max(abs(down), abs(right)) <= SLACK or fits.max() < least_fit or fits.max() < rest + least_gain:
        return None
    return round(down * found.shrink), round(right * found.shrink)


def _moved_together(every: list[Overlay]) -> tuple[int, int] | None:
    """The shift that most captures share."""
    if len(every) < LEAST_CAPTURES or len({(found.shrink, found.fits.shape) for found in every}) > 1:
        return None
    mean = Overlay(np.mean([one.fits * min(1, MOST_FIT / one.fits.max()) for one in every], axis=0), every[0].shrink)
    best = np.unravel_index(mean.fits.argmax(), mean.fits.shape)
    gaining = np.mean([found.fits[best] > _at_rest(found.fits) for found in every])
    return _shift(mean, SET_FIT, SET_GAIN) if gaining >= SET_SHARE else None


def _at_rest(fits: Fits) -> float:
    near = slice(len(fits) // 2 - SLACK, len(fits) // 2 + SLACK + 1)
    return float(fits[near, near].max())


def _line(what: str, shift: tuple[int, int]) -> str:
    down, right = shift
    return (
        f"{what} with depth moved by {right:+d} pixels to the right and {down:+d} down: register colour and depth "
        "again, or leave it out."
    )
