"""Images and intrinsics of every accepted kind as NumPy arrays. No torch is imported here."""

from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from sonde import files
from sonde.types import MatrixArray, RGBArray


def as_array(image: str | Path | PILImage.Image | RGBArray) -> RGBArray:
    """An image of any accepted kind as (h, w, 3) uint8, contiguous and writeable as torch requires.

    Raises:
        ValueError: neither path nor image, an array of another shape or type, or an array without pixels.
    """
    if isinstance(image, str | Path):
        return files.read_rgb(Path(image))
    # Callers without a type checker also pass lists; they get the sentence below, not a traceback.
    array: object = files.rgb_from_pil(image) if isinstance(image, PILImage.Image) else image
    if not isinstance(array, np.ndarray):
        raise ValueError(
            f"Expected a path, a PIL image or an (h, w, 3) uint8 array, got {type(array).__name__}: "
            "convert a list with numpy.asarray(image, dtype=numpy.uint8)."
        )
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ValueError(f"Expected an (h, w, 3) uint8 image with pixels, got {array.dtype} of shape {array.shape}.")
    return np.require(array, requirements=["C", "W"])


def as_camera(intrinsics: object) -> MatrixArray:
    """Intrinsics, also as nested lists, as a contiguous and writeable (3, 3) array of floats, in pixels.

    Raises:
        ValueError: anything but a (3, 3) matrix of numbers.
    """
    try:
        matrix = np.require(np.asarray(intrinsics), requirements=["C", "W"])
        matrix = matrix if np.issubdtype(matrix.dtype, np.floating) else matrix.astype(np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (3, 3):
        raise ValueError(
            f"Expected intrinsics as the (3, 3) matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels, "
            f"got {intrinsics!r}."
        )
    return matrix
