"""Whether an image and its depth map fit by their sizes: at which size the image is read, and what EXIF turns."""

import logging
from functools import cache
from pathlib import Path

from sonde.files.images import SIDEWAYS
from sonde.geometry import Size

LOG = logging.getLogger(__name__)

ASPECT = 1.02
"""Largest ratio of the two sides' factors between an image and its depth map; beyond it their views differ."""


def fit_image(image: Size, depth: Size) -> Size | None:
    """The size at which an image is read, a whole multiple of its depth map's; None if the two do not fit.

    An image that is no whole multiple, such as 1920x1440 beside 256x192, is shrunk to the next smaller one.

    Args:
        image: (height, width).
        depth: likewise; of the same view, so that the aspect ratios differ by at most 2 %.
    """
    if min(depth) < 1:
        return None
    down, across = (side / base for side, base in zip(image, depth, strict=True))
    factor = int(min(down, across))
    if factor < 1 or max(down, across) > ASPECT * min(down, across):
        return None
    return factor * depth[0], factor * depth[1]


def find_turn(image: Size, depth: Size, orientation: int, *, sensor: bool) -> int:
    """The EXIF orientation by which a depth map is turned as its image was; 1: it is not turned.

    Args:
        image: (height, width) of the upright image.
        depth: (height, width) of the depth map, as stored.
        orientation: what the image states.
        sensor: the set states that depth is in the order of the sensor. Else depth is turned only by 90 degrees, and
            only if that alone fits the sizes.
    """
    alone = (
        orientation in SIDEWAYS
        and fit_image(image, depth) is None
        and fit_image(image, (depth[1], depth[0])) is not None
    )
    return orientation if sensor or alone else 1


def explain_misfit(path: Path, depth: Size, image: Path, size: Size, orientation: int) -> str:
    """One sentence about a depth map and an image that do not fit."""
    line = (
        f"{path} is {depth[1]}x{depth[0]} but {image.name} is {size[1]}x{size[0]}: expected the same size, or a larger "
        "image of the same shape; export both from one capture"
    )
    if fit_image(size, (depth[1], depth[0])) is None or orientation in SIDEWAYS:
        return f"{line}."
    return f"{line}, or turn one of them by 90 degrees: the image's EXIF states no such turn."


def describe_resize(name: str, depth: Size, image: Size, size: Size) -> str:
    """In words: what was given, the factors, and the size at which the image is read."""
    down, across = (side / base for side, base in zip(image, depth, strict=True))
    factors = f"{across:.4g} times" if round(across, 3) == round(down, 3) else f"{across:.4g} x {down:.4g} times"
    return (
        f"{name} is {image[1]}x{image[0]}, {factors} its depth map of {depth[1]}x{depth[0]} and no whole multiple: it "
        f"is read at {size[1]}x{size[0]}, and its camera follows"
    )


@cache
def _list_told(root: Path) -> list[str]:
    """What this process has told of a set."""
    return []


def tell_resize(root: Path, text: str) -> None:
    """Warn, once for each set, that images are resized to a whole multiple of their depth maps."""
    if not (told := _list_told(root)):
        told.append(text)
        LOG.warning("%s: %s; so is every such image of the set.", root, text)
