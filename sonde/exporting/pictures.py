"""Pictures that an export is compared on: renders at the sizes of a model's images, or the user's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from sonde import files, prediction, scenes
from sonde.models import DescribedModel
from sonde.types import MatrixArray, RGBArray

KINDS = ("indoor", "street", "objects", "outdoor", "room", "road", "handheld", "abstract", "bins", "bench")
"""Families of scenes, one after the other."""
SHAPES = ((168, 224), (224, 168), (192, 192), (144, 288), (126, 224))
"""(height, width) of images of a model that resizes them: landscape, portrait, square, wide, and that of video."""
SHARES = (1.0, 0.75, 0.5, 1.25)
"""Of the bench of a fixed camera: sizes that its images may have."""
LONGEST = 512
"""Pixels of a longer side of a picture from a fixed camera."""
RENDERED = 288
"""Pixels of the longer side of a render, which is enlarged where the network sees more."""
MOST_IMAGES = 64
"""Of the user's, evenly from all of them."""


class GatePicture(NamedTuple):
    """An image, and the camera that a model with a canonical focal length asks for."""

    image: RGBArray
    camera: MatrixArray


def choose_shapes(model: DescribedModel, size: tuple[int, int] | None) -> list[tuple[int, int]]:
    """Four (height, width) of images or more, none of them that of the tracer's example.

    Args:
        model: what is exported.
        size: of the network's input, if the file takes no other.
    """
    spec, step = model.spec, model.spec.multiple
    if model.background is not None:
        rows, columns = model.background.depth.shape
        largest = min(1.0, LONGEST / max(rows, columns))
        return [(round(rows * largest * share), round(columns * largest * share)) for share in SHARES]
    if not spec.pads:
        return list(SHAPES)
    if size is not None:
        inside = ((0, 0), (step - 1, 0), (0, step - 1), (step // 2, step // 3))
        return [(size[0] - rows, size[1] - columns) for rows, columns in inside]
    unit = step * -(-32 // step)
    units = ((5, 7), (7, 5), (6, 6), (4, 9), (8, 5))
    return [(unit * rows - rows % 4, unit * columns - columns % 3) for rows, columns in units]


def render_pictures(
    shapes: Sequence[tuple[int, int]], count: int, *, seed: int, fixed: bool = False
) -> list[GatePicture]:
    """Renders of every kind at these sizes in turn.

    Args:
        shapes: (height, width) of each.
        count: how many.
        seed: of the renders.
        fixed: whether the camera is one above a bench.
    """
    kinds = ("bench",) if fixed else KINDS
    made = []
    for index in range(count):
        height, width = shapes[index % len(shapes)]
        share = min(1.0, RENDERED / max(height, width))
        drawn = max(16, round(height * share)), max(16, round(width * share))
        image = scenes.render(kinds[index % len(kinds)], seed, index, height=drawn[0], width=drawn[1]).image
        made.append(_photograph(files.resize_image(image, (height, width))))
    return made


def read_pictures(folder: Path, shapes: Sequence[tuple[int, int]]) -> list[GatePicture]:
    """The user's images: each as it is, and cut to one of these aspects.

    Args:
        folder: of images, or one image.
        shapes: (height, width) whose aspects are cut; none: images stay whole.

    Raises:
        ValueError: no such folder, or no image that can be read.
    """
    found = list(prediction.gather_images([folder], folder / "none").images)
    chosen = [found[int(place)] for place in np.linspace(0, len(found) - 1, min(len(found), MOST_IMAGES))]
    made, failed = [], ""
    for index, path in enumerate(chosen):
        try:
            image = files.read_rgb(path)
        except ValueError as error:
            failed = str(error)
            continue
        made.append(_photograph(image))
        if shapes:
            made.append(_photograph(_cut(image, shapes[index % len(shapes)])))
    if not made:
        raise ValueError(f"calibrate_on={folder}: none of its images can be read; the first: {failed}")
    return made


def share_pictures(pictures: Sequence[GatePicture], most: int) -> tuple[list[GatePicture], list[GatePicture]]:
    """Pictures that calibrate, and at most so many that judge: others where there are enough, else the same."""
    if len(pictures) < 8:
        return list(pictures), list(pictures)[:most]
    judging = list(pictures)[::4][:most]
    return [each for index, each in enumerate(pictures) if index % 4], judging


def _photograph(image: RGBArray) -> GatePicture:
    height, width = image.shape[:2]
    focal = 0.8 * max(height, width)
    camera = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], np.float32)
    return GatePicture(image, camera)


def _cut(image: RGBArray, shape: tuple[int, int]) -> UInt8[np.ndarray, "rows columns 3"]:
    """The middle of an image with the aspect of a (height, width)."""
    height, width = image.shape[:2]
    share = min(height / shape[0], width / shape[1])
    rows, columns = max(1, int(shape[0] * share)), max(1, int(shape[1] * share))
    top, left = (height - rows) // 2, (width - columns) // 2
    return np.ascontiguousarray(image[top : top + rows, left : left + columns])
