"""Whether depth is registered with its image: where depth has an edge, the image usually changes too.

The depth edges are compared with the contrast of the image at every shift. The fits at large shifts are chance, and
their standard deviation is the unit of a fit. In a sound capture the best fit, 5 to 25 deviations, is at shift zero, or
within the 2 pixels that registration leaves.
"""

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from sonde.checks.answers import CheckResult, Fault
from sonde.datasets import Capture, DepthSet
from sonde.renamed import keep_old_names
from sonde.spelling import quantify
from sonde.types import DepthArray

Picture = UInt8[np.ndarray, "height width 3"]
"""RGB, of the depth's size or another."""
Fits = Float[np.ndarray, "side side"]
"""Fit by the shift of depth down and right, from -reach to +reach pixels each: deviations from chance."""

LONG_SIDE = 640
"""Pixels; larger maps are shrunk to it."""
FAR = 36
"""Largest shift in pixels, less in small maps. The inner two thirds are candidates, the rest measures chance."""
SLACK = 2
"""Pixels of shift that count as registered: real sets are accurate to one or two."""
LEAST_EDGES = 150
"""A map with fewer edge pixels is not judged."""
LEAST_FILLED = 0.4
"""Share of pixels with depth; sparse lidar has almost no edges."""
BREAK = 0.03
"""Second difference of 1 / depth at an edge, relative to 1 / depth. It is 0 on every plane, however slanted."""
SHADOW = 15
"""Pixels: gaps beside a step are filled with the farther depth, since the sensor's shadow falls on the far side."""
LEAST_FIT, LEAST_GAIN = 6.0, 2.5
"""Deviations of the best fit, and its gain over the fit at rest. A sound capture that fits so well gains 0.5 at
most."""
MOST_FIT = 6.0
"""Upper limit of one capture's fit in the mean of the set, so that none dominates."""
SET_FIT, SET_GAIN, SET_SHARE = 3.5, 1.5, 0.8
"""The same limits for the mean of a set, and the share of captures that must gain."""
LEAST_CAPTURES = 3
"""A set of fewer captures is not judged as a whole."""


class Overlay(NamedTuple):
    """How well a capture's depth fits its image at every shift."""

    fits: Fits
    shrink: float
    """Pixels of the depth map per pixel of `fits`."""


def overlay(image: Picture, depth: DepthArray) -> Overlay | None:
    """Fit depth to its image at every shift; None if there are too few edges.

    Args:
        image: RGB; of the same view, and of any size.
        depth: (h, w), 0 where untrusted.
    """
    shrink = max(1.0, max(depth.shape) / LONG_SIDE)
    height, width = (max(1, round(side / shrink)) for side in depth.shape)
    far = min(FAR, min(height, width) // 5)
    if far < 4 * SLACK or (depth > 0).mean() < LEAST_FILLED:
        return None
    small = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST)
    edges = find_breaks(small)[far:-far, far:-far]
    if edges.sum() < LEAST_EDGES:
        return None
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (width, height), interpolation=cv2.INTER_AREA)
    picture = measure_contrast(grey)
    under = cv2.matchTemplate(picture - picture.mean(), edges.astype(np.float32), cv2.TM_CCORR)
    away = np.abs(np.mgrid[-far : far + 1, -far : far + 1]).max(0)
    reach = far * 2 // 3
    chance, middle = under[away > reach], slice(far - reach, far + reach + 1)
    if chance.std() < 1e-3:  # an image of one colour
        return None
    return Overlay((under[middle, middle] - chance.mean()) / chance.std(), shrink)


def find_edge_shift(image: Picture, depth: DepthArray) -> tuple[int, int] | None:
    """The shift of depth, (down, right) in its pixels, that registers it with its image; None if it is registered.

    Args:
        image: RGB; of the same view, and of any size.
        depth: (h, w), 0 where untrusted.
    """
    found = overlay(image, depth)
    return None if found is None else _find_shift(found, LEAST_FIT, LEAST_GAIN)


def find_rest_fit(image: Picture, depth: DepthArray) -> float | None:
    """How well depth fits its image where it is, in deviations from chance; None if there are too few edges."""
    found = overlay(image, depth)
    return None if found is None else _fit_at_rest(found.fits)


def look(captures: DepthSet, capture: Capture) -> Overlay | None:
    """How well the capture's depth fits its image."""
    return overlay(capture.image, capture.depth)


def judge(captures: DepthSet, seen: Mapping[str, Overlay | None]) -> CheckResult:
    """One fault if the whole set is shifted, else one for every capture that clearly is."""
    fitted = {name: found for name, found in seen.items() if found is not None}
    common = _find_common_shift(list(fitted.values()))
    if common is not None:
        line = _explain_shift(f"Depth fits its image best in {quantify(len(fitted), 'capture')}", common)
        return CheckResult([Fault("", line)], len(fitted))
    shifts = {name: _find_shift(found, LEAST_FIT, LEAST_GAIN) for name, found in fitted.items()}
    faults = [
        Fault(name, _explain_shift(f"{name} fits its image best", shift))
        for name, shift in shifts.items()
        if shift is not None
    ]
    return CheckResult(faults, len(fitted), "" if fitted else "Too few edges.")


def find_breaks(depth: DepthArray) -> Bool[np.ndarray, "h w"]:
    """Pixels on both sides of every depth step, also across a sensor's shadow."""
    filled = np.where(depth > 0, depth, cv2.dilate(depth, np.ones((SHADOW, SHADOW), np.uint8)))
    inverse = np.where(filled > 0, 1 / np.where(filled > 0, filled, 1), np.nan)
    found = np.zeros(depth.shape, bool)
    with np.errstate(invalid="ignore"):
        for marked, map_ in ((found, inverse), (found.T, inverse.T)):
            bend = np.abs(map_[:-2] - 2 * map_[1:-1] + map_[2:])
            marked[1:-1] |= bend > BREAK * map_[1:-1]
    return found


def measure_contrast(grey: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Root of the gradient, relative to its local mean, so that a strong texture does not dominate."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.0)
    gradient = np.sqrt(np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)))
    return gradient / (cv2.blur(gradient, (25, 25)) + 0.1 * gradient.mean() + 1e-6)


def _find_shift(found: Overlay, least_fit: float, least_gain: float) -> tuple[int, int] | None:
    """The shift of the best fit, (down, right) in depth pixels; None if it is small or not clearly better."""
    fits, rest = found.fits, _fit_at_rest(found.fits)
    down, right = (int(place) - len(fits) // 2 for place in np.unravel_index(fits.argmax(), fits.shape))
    if max(abs(down), abs(right)) <= SLACK or fits.max() < least_fit or fits.max() < rest + least_gain:
        return None
    return round(down * found.shrink), round(right * found.shrink)


def _find_common_shift(every: list[Overlay]) -> tuple[int, int] | None:
    """The shift that most captures share; None if there is none."""
    if len(every) < LEAST_CAPTURES or len({(found.shrink, found.fits.shape) for found in every}) > 1:
        return None
    limited = [one.fits * min(1, MOST_FIT / one.fits.max()) for one in every]
    mean = Overlay(np.mean(limited, axis=0), every[0].shrink)
    best = np.unravel_index(mean.fits.argmax(), mean.fits.shape)
    gaining = np.mean([found.fits[best] > _fit_at_rest(found.fits) for found in every])
    return _find_shift(mean, SET_FIT, SET_GAIN) if gaining >= SET_SHARE else None


def _fit_at_rest(fits: Fits) -> float:
    """The best fit within SLACK of shift zero."""
    near = slice(len(fits) // 2 - SLACK, len(fits) // 2 + SLACK + 1)
    return float(fits[near, near].max())


def _explain_shift(what: str, shift: tuple[int, int]) -> str:
    down, right = shift
    return (
        f"{what} with depth moved by {right:+d} pixels to the right and {down:+d} down: register colour and depth "
        "again, or leave it out."
    )


keep_old_names(__name__, {"breaks": "find_breaks", "contrast": "measure_contrast", "edge_shift": "find_edge_shift"})
