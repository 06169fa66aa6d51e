"""Colour images in any common format, as (h, w, 3) uint8 RGB; and depth in colour."""

import os
from contextlib import nullcontext, suppress
from io import BufferedReader, BytesIO
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Num, UInt8
from PIL import Image, ImageMode, ImageOps, UnidentifiedImageError
from PIL.GifImagePlugin import GifImageFile
from PIL.TiffImagePlugin import II, IMAGELENGTH, IMAGEWIDTH, MM, OPEN_INFO, TiffImageFile

from sonde.files.claims import check_packed, count_bytes
from sonde.files.heif import HEAD, HEIF_SUFFIXES, find_heif_library, is_film, prepare_heif
from sonde.files.palettes import make_palette
from sonde.files.safely import mute, reading
from sonde.files.writing import atomic_write
from sonde.renamed import keep_old_names
from sonde.types import DepthArray, MaskArray, RGBArray, Space

IMAGE_SUFFIXES: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""Suffixes of the images that a folder may hold; HEIC is among them where a library for it is installed."""
if find_heif_library():
    IMAGE_SUFFIXES += HEIF_SUFFIXES

ORIENTATION = 0x0112
"""The EXIF tag of the camera's orientation."""
SIDEWAYS = (5, 6, 7, 8)
"""Values of `ORIENTATION` that swap width and height."""

NEEDS_A_PROGRAM = ("EPS",)
"""Formats of Pillow that it gives to another program to read."""

# Pillow unpacks 64-bit floats and big-endian whole numbers of 32 bits, but does not know them in a TIFF.
OPEN_INFO.setdefault((II, 1, (3,), 1, (64,), ()), ("F", "F;64F"))
OPEN_INFO.setdefault((MM, 1, (3,), 1, (64,), ()), ("F", "F;64BF"))
OPEN_INFO.setdefault((MM, 1, (1,), 1, (32,), ()), ("I", "I;32B"))

SWAPPED = ("F;32BF", "F;64BF", "I;32B", "I;32BS", "I;16BS")
"""Pillow's names of big-endian numbers in a TIFF; with N for B they are numbers in the machine's order."""

INVALID_GREY = 128
"""The grey level of pixels without depth. No colour of the colour map is grey."""


def read_rgb(path: Path | str) -> RGBArray:
    """The image, upright by its EXIF orientation.

    Transparent pixels are blended over white, as viewers show them: the colour below alpha 0 is arbitrary. 16-bit
    values are scaled to 8 bits (v / 257), never clipped. Grey, palette and CMYK become RGB. An animation gives its
    first frame.

    Raises:
        ValueError: the file is missing, truncated or not an image; the message names it.
    """
    with reading(path, "save it again as a PNG or JPEG"), Path(path).open("rb") as file, open_image(file) as image:
        return rgb_from_pil(image)


def decode_rgb(data: bytes, name: str) -> RGBArray:
    """Decode an encoded image by the rules of `read_rgb`; `name` identifies it in errors."""
    with reading(name, "save it again as a PNG or JPEG"), open_image(BytesIO(data)) as image:
        return rgb_from_pil(image)


def rgb_from_pil(image: Image.Image) -> RGBArray:
    """Convert an open image by the rules of `read_rgb`."""
    load_pixels(image)
    ImageOps.exif_transpose(image, in_place=True)  # most images are upright, and stay without a copy
    if image.mode.startswith("I"):
        return _rgb_from_grey(np.asarray(image), 65535)
    if image.mode == "F":
        return _rgb_from_grey(np.asarray(image), 1)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def image_size(path: Path | str, data: bytes | None = None) -> tuple[int, int]:
    """(height, width) of what `read_rgb` returns, from the header of the file, or of `data` if given."""
    with (
        reading(path, "save it again as a PNG or JPEG"),
        Path(path).open("rb") if data is None else BytesIO(data) as file,
        open_image(file) as image,
    ):
        width, height = _read_stored_size(image)
        return (width, height) if image.getexif().get(ORIENTATION, 1) in SIDEWAYS else (height, width)


def read_orientation(path: Path | str) -> int:
    """EXIF's orientation of an image, from its header: 1 (upright, or not stated) to 8."""
    with reading(path, "save it again as a PNG or JPEG"), Path(path).open("rb") as file, open_image(file) as image:
        stated = image.getexif().get(ORIENTATION, 1)
        return stated if stated in range(1, 9) else 1


def is_animation(path: Path | str) -> bool:
    """Whether a file is a picture of several frames, such as an animated GIF; False for one that cannot be read."""
    with suppress(ValueError), reading(path, "save it again"), Path(path).open("rb") as file, open_image(file) as image:
        return isinstance(image, GifImageFile) and image.is_animated
    return False


def open_image(file: BufferedReader | BytesIO) -> Image.Image:
    """Open an image with Pillow, always from a file object; its size is checked, and no pixel is read yet.

    Given a name, Pillow maps a plain TIFF into memory with the width it has after rotation, which is wrong.

    Raises:
        ValueError: the content is not an image, or claims more pixels than a file of its size can hold.
    """
    head = file.read(HEAD)
    file.seek(-len(head), os.SEEK_CUR)
    prepare_heif(head)
    try:
        image = Image.open(file)
    except UnidentifiedImageError:  # its text holds a memory address, which differs on every run
        raise ValueError(f"its content is {'a video' if is_film(head) else 'not an image'}") from None
    if image.format in NEEDS_A_PROGRAM:
        raise ValueError(f"its content is {image.format}, which is no image of pixels")
    mode = ImageMode.getmode(image.mode)
    check_packed(image.width * image.height * len(mode.bands) * np.dtype(mode.typestr).itemsize, count_bytes(file))
    if isinstance(image, TiffImageFile):
        _mend_byte_order(image)
    return image


def load_pixels(image: Image.Image) -> None:
    """Read the pixels of an open image; libtiff, which speaks on stderr of a damaged file, is not heard."""
    packed = isinstance(image, TiffImageFile) and any(tile.codec_name == "libtiff" for tile in image.tile)
    with mute() if packed else nullcontext():
        image.load()


def write_rgb(path: Path | str, image: RGBArray) -> None:
    """Write the format of the suffix; PNG is lossless."""
    with atomic_write(path) as tmp_path:
        Image.fromarray(image).save(tmp_path)


def resize_image(image: RGBArray, size: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    """The image at (height, width), bicubic and antialiased.

    The result is within one level of `Image.resize(..., BICUBIC)`, of the Hugging Face processors and of the same
    interpolation in float32, and takes an eighth of their time.
    """
    if image.shape[:2] == tuple(size):
        return image
    import torch  # only here, so that files are read and written where torch is not installed

    # A channels-last view selects the fast kernel.
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(pixels, size=size, mode="bicubic", antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def colour_depth(
    depth: DepthArray,
    mask: MaskArray | None = None,
    low: float | None = None,
    high: float | None = None,
    *,
    space: Space = "metric",
) -> RGBArray:
    """Depth in colour: near is red, far is violet (matplotlib's Spectral), untrusted pixels are grey.

    Args:
        depth: (h, w), in any unit; colours run linearly from `low` to `high`.
        mask: True where trusted; None trusts every finite pixel.
        low: the value at one end; None takes the 2nd percentile of the trusted pixels.
        high: the value at the other end; None takes their 98th percentile.
        space: in `disparity` larger is nearer, so the order of the colours is reversed.
    """
    trusted = np.isfinite(depth) if mask is None else mask & np.isfinite(depth)
    whole = bool(trusted.all())  # the usual case, and the fast one
    values = depth if whole else depth[trusted]
    if low is None:
        low = float(np.percentile(values, 2)) if values.size else 0.0
    if high is None:
        high = float(np.percentile(values, 98)) if values.size else 1.0
    share = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    levels = (share * 255).astype(np.uint8)
    table = make_palette("Spectral", reverse=space == "disparity")
    if whole:
        return cv2.applyColorMap(levels, table[:, None])
    colours = np.full((*depth.shape, 3), INVALID_GREY, np.uint8)
    colours[trusted] = table[levels]
    return colours


def _read_stored_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) before rotation. Pillow rotates TIFFs by itself, so their size comes from the tags."""
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2[IMAGEWIDTH]), int(image.tag_v2[IMAGELENGTH])
    return image.size


def _mend_byte_order(image: TiffImageFile) -> None:
    """Let Pillow take the numbers of a compressed big-endian TIFF in the machine's order, in which libtiff gives them.

    Without it they are read with their bytes exchanged, except for 16 bits.
    """
    image.tile = [
        tile._replace(args=(tile.args[0].replace("B", "N", 1), *tile.args[1:]))
        if tile.codec_name == "libtiff" and isinstance(tile.args, tuple) and tile.args[0] in SWAPPED
        else tile
        for tile in image.tile
    ]


def _rgb_from_grey(levels: Num[np.ndarray, "h w"], white: int) -> RGBArray:
    if not (levels.min() >= 0 and levels.max() <= white):
        raise ValueError(f"its grey levels are outside [0, {white}]")
    grey = np.rint(levels * (255 / white)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


keep_old_names(__name__, {"opened": "open_image"})
