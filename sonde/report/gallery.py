"""The captures that a report shows in small, and a sample of their errors, collected while they are scored."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sonde import files
from sonde.datasets import Capture
from sonde.evaluation import WORDS, Row
from sonde.evaluation.columns import is_better_larger
from sonde.types import DepthArray, MaskArray, RGBArray
from sonde.units import UNITS

WIDTH = 420
"""Pixels of a picture's width, at most."""


class Panel(NamedTuple):
    """One capture in small: every n-th pixel, so that invalid pixels stay what they are. Metres."""

    id: str
    scores: Row
    image: RGBArray
    depth: DepthArray
    mask: MaskArray
    prediction: DepthArray


class Gallery:
    """Keeps small pictures of the worst captures as they are scored, and a sample of errors against depth.

    Args:
        worst: how many captures to keep, by mean absolute error (where it is scored).
        width: of a kept picture, at most, in pixels.
        pixels: about how many of each capture enter the sample.
    """

    def __init__(self, worst: int = 10, width: int = WIDTH, pixels: int = 4000):
        self.worst, self.width, self.pixels = worst, width, pixels
        self.panels: list[Panel] = []
        """Worst first."""
        self._errors: list[Float[np.ndarray, "n 2"]] = []

    def add(self, capture: Capture, prediction: DepthArray, row: Row) -> None:
        """Look at one scored capture; `evaluate` calls this."""
        truth = capture.depth[capture.mask]
        pairs = np.stack([truth, prediction[capture.mask] - truth], axis=1)
        self._errors.append(pairs[:: max(1, len(pairs) // self.pixels)])
        step = thinning_step(capture.depth.shape[1], self.width)
        small = capture.depth[::step, ::step]
        image = files.resize_image(capture.image, (small.shape[0], small.shape[1]))
        scores = {name: value for name, value in row.items() if name not in WORDS}
        mask = capture.mask[::step, ::step]
        self.panels.append(Panel(capture.id, scores, image, small, mask, prediction[::step, ::step]))
        self.panels.sort(key=_rate)
        del self.panels[self.worst :]

    @property
    def errors(self) -> Float[np.ndarray, "n 2"]:
        """True depth and signed error (prediction - truth) of the sampled pixels, metres."""
        return np.concatenate([np.zeros((0, 2)), *self._errors])


def thinning_step(width: int, most: int = WIDTH) -> int:
    """Of how many pixels one is kept, so that at most `most` of `width` remain."""
    return max(1, -(-width // most))


def _rate(panel: Panel) -> float:
    """By mean absolute error, or where that is not scored by AbsRel or else by the first metric; larger is better."""
    length = [name for name in panel.scores if name.startswith("mae_") and name[4:] in UNITS]
    name = next(name for name in (*length, "abs_rel", *panel.scores) if name in panel.scores)
    value = panel.scores[name]
    return value if is_better_larger(name) else -value
