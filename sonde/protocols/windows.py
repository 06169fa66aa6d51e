"""The part of a frame that a model sees, and the window in which ground truth is scored."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sonde.datasets import Capture, kb_crop
from sonde.datasets.kitti import cut_kb_window
from sonde.renamed import keep_old_names

SHARES = {
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
}
"""Top, bottom, left and right of named windows, as shares of the frame (Garg et al., 2016; Eigen et al., 2014)."""


class Box(NamedTuple):
    """Half-open bounds in pixels."""

    top: int
    bottom: int
    left: int
    right: int


class Cut(NamedTuple):
    """A part of the frame that a model sees."""

    capture: Callable[[Capture], Capture]
    """Crops image, depth, mask and intrinsics together."""
    pixels: Callable[[np.ndarray, str], np.ndarray]
    """Crops pixels (h, w, …) of the whole frame; the text names them in error messages."""


def find_box(window: str | tuple[int, int, int, int], size: tuple[int, int]) -> Box:
    """The bounds of a window in pixels; shares are rounded down.

    Args:
        window: a name in SHARES, or top, bottom, left and right in pixels.
        size: (height, width) of the frame.

    Raises:
        ValueError: bounds outside the frame.
    """
    height, width = size
    if isinstance(window, str):
        top, bottom, left, right = SHARES[window]
        return Box(int(top * height), int(bottom * height), int(left * width), int(right * width))
    bounds = Box(*window)
    if bounds.bottom > height or bounds.right > width:
        raise ValueError(
            f"The protocol scores rows {bounds.top}:{bounds.bottom} and columns {bounds.left}:{bounds.right}, but the "
            f"ground truth is {width}x{height}: give it in the size that the protocol is for."
        )
    return bounds


def mask_outside(capture: Capture, window: str | tuple[int, int, int, int]) -> Capture:
    """The capture, trusted only inside the window."""
    height, width = capture.depth.shape
    top, bottom, left, right = find_box(window, (height, width))
    mask = np.zeros_like(capture.mask)
    mask[top:bottom, left:right] = capture.mask[top:bottom, left:right]
    return capture._replace(mask=mask)


CUTS: dict[str, Cut] = {"kb": Cut(kb_crop, cut_kb_window)}
"""Name in a protocol's `cut:` → cut."""

keep_old_names(__name__, {"box": "find_box", "within": "mask_outside"})
