"""Where in a frame the field looks: the cut that a model sees, and the window whose ground truth is scored."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sonde.datasets import Capture, kb_crop
from sonde.datasets.kitti import kb_window

SHARES = {
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
}
"""Of the height and of the width where a window by name begins and ends (Garg et al., 2016; Eigen et al., 2014)."""


class Box(NamedTuple):
    """Half-open bounds in pixels."""

    top: int
    bottom: int
    left: int
    right: int


class Cut(NamedTuple):
    """A part of the frame that is all a model sees."""

    capture: Callable[[Capture], Capture]
    """Image, depth, mask and camera together."""
    pixels: Callable[[np.ndarray, str], np.ndarray]
    """Of (h, w, …) pixels of the whole frame; the name stands for them in the error."""


def box(window: str | tuple[int, int, int, int], size: tuple[int, int]) -> Box:
    """A window, by its name in SHARES or by its bounds, in a frame of (height, width); shares are rounded down.

    Raises:
        ValueError: bounds that leave the frame.
    """
    height, width = size
    if isinstance(window, str):
        top, bottom, left, right = SHARES[window]
        return Box(int(top * height), int(bottom * height), int(left * width), int(right * width))
    bounds = Box(*window)
    if bounds.bottom > height or bounds.right > width:
        raise ValueError(
            f"Rows {bounds.top}:{bounds.bottom} and columns {bounds.left}:{bounds.right} are scored, and the ground "
            f"truth is {width}x{height}: give it at the size that the protocol is for."
        )
    return bounds


def within(capture: Capture, window: str | tuple[int, int, int, int]) -> Capture:
    """The capture, trusted inside the window alone."""
    height, width = capture.depth.shape
    top, bottom, left, right = box(window, (height, width))
    mask = np.zeros_like(capture.mask)
    mask[top:bottom, left:right] = capture.mask[top:bottom, left:right]
    return capture._replace(mask=mask)


CUTS: dict[str, Cut] = {"kb": Cut(kb_crop, kb_window)}
"""Name → cut, as a protocol's `cut:` spells it."""
