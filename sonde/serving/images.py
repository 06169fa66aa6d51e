"""From the bytes of a request to pixels, and the camera that belongs to them; the header is checked first."""

import math
from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from sonde import files
from sonde.files.heif import HEAD, find_heif_library, is_heif, prepare_heif
from sonde.geometry import check_camera
from sonde.prediction.sources import make_matrix
from sonde.serving.refusals import Refusal
from sonde.types import MatrixArray, RGBArray

NAME = "The image"
"""What stands for the image in sentences: no name of a client is used."""
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
"""Pillow's names of the formats that are read, besides HEIC where a library for it is installed."""
EXPECTED = "expected PNG, JPEG, TIFF, BMP or WebP"
MILLION = 1_000_000

EXIF, FOCAL_35MM = 0x8769, 0xA405
"""The tags of EXIF's own directory, and of the focal length as if the film were 36 mm wide and 24 mm high."""
FILM_DIAGONAL = math.hypot(36, 24)
ASSUMED_FOV = 60.0
"""Degrees of the horizontal field of view where nothing is known of the camera."""


class Photograph(NamedTuple):
    """A decoded image."""

    pixels: RGBArray
    focal: float | None
    """Focal length in pixels, as EXIF says it."""


class Camera(NamedTuple):
    """Intrinsics, and where they come from."""

    matrix: MatrixArray | None
    source: str | None
    """given, fov, exif or assumed."""

    @property
    def numbers(self) -> list[float] | None:
        """fx, fy, cx, cy in pixels of the image."""
        if self.matrix is None:
            return None
        return [float(self.matrix[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2))]


UNKNOWN = Camera(None, None)


def read_photograph(data: bytes, megapixels: float | int) -> Photograph:
    """Decode an image by the rules of `sonde predict`.

    Args:
        data: the encoded image.
        megapixels: that it may have at most.

    Raises:
        Refusal: another format (415), or too many pixels (413), as its header says.
        ValueError: damaged.
    """
    focal35 = _check_header(data, megapixels)
    pixels = files.decode_rgb(data, NAME)
    focal = focal35 / FILM_DIAGONAL * math.hypot(*pixels.shape[:2]) if focal35 else None
    return Photograph(pixels, focal)


def _check_header(data: bytes, megapixels: float | int) -> float:
    """Refuse by the header alone; the focal length of EXIF in mm of 35 mm film, 0 where it is not stated."""
    with files.reading(NAME, "save it again as a PNG or JPEG"):
        if is_heif(data[:HEAD]) and find_heif_library() is None:
            raise Refusal(415, f"{NAME} is HEIC, which this server does not read: {EXPECTED}.")
        prepare_heif(data[:HEAD])
        try:
            image = Image.open(BytesIO(data), formats=("HEIF",) if is_heif(data[:HEAD]) else FORMATS)
        except UnidentifiedImageError:
            raise Refusal(415, f"The content is no image that is read here: {EXPECTED}.") from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise _refuse_pixels("so many", megapixels) from None
        with image:
            if image.width * image.height > megapixels * MILLION:
                raise _refuse_pixels(f"{image.width}x{image.height}", megapixels)
            stated = image.getexif().get_ifd(EXIF).get(FOCAL_35MM, 0)
            return float(stated) if isinstance(stated, int | float) and 1 <= stated <= 10_000 else 0.0


def _refuse_pixels(size: str, megapixels: float | int) -> Refusal:
    return Refusal(413, f"{NAME} has {size} pixels, and this server takes {megapixels:g} million at most.")


def choose_camera(
    pixels: tuple[int, ...], given: Sequence[float | None], fov: float | None, focal: float | None
) -> Camera:
    """The intrinsics of an image: given, from a field of view, from EXIF, or unknown.

    Args:
        pixels: (height, width, 3).
        given: fx, fy, cx, cy.
        fov: degrees, horizontal.
        focal: pixels, from EXIF.

    Raises:
        ValueError: some of the four alone, both ways at once, or a centre outside the image.
    """
    numbers = [number for number in given if number is not None]
    if numbers and (len(numbers) != 4 or fov is not None):
        raise ValueError("Give all of fx, fy, cx and cy in pixels of the image, or fov in degrees, or none of them.")
    height, width = pixels[:2]
    if numbers:
        matrix = make_matrix(numbers)
        check_camera(matrix, height, width)
        return Camera(matrix, "given")
    if fov is not None:
        return Camera(_make_centred(_find_focal(width, fov), height, width), "fov")
    return UNKNOWN if focal is None else Camera(_make_centred(focal, height, width), "exif")


def assume_camera(pixels: tuple[int, ...]) -> Camera:
    """The intrinsics of ASSUMED_FOV for an image of (height, width, 3)."""
    height, width = pixels[:2]
    return Camera(_make_centred(_find_focal(width, ASSUMED_FOV), height, width), "assumed")


def _find_focal(width: int, fov: float) -> float:
    return width / 2 / math.tan(math.radians(fov) / 2)


def _make_centred(focal: float, height: int, width: int) -> MatrixArray:
    return np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])
