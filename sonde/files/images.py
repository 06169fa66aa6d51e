"""Colour images: anything a camera or an editor writes, as (h, w, 3) uint8 RGB; and depth shown in colour."""

from io import BufferedReader, BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Num, UInt8
from matplotlib import colormaps
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from sonde.files.safely import atomic_write, reading
from sonde.types import DepthArray, MaskArray, RGBArray, Space

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""What a folder of images may hold."""

ORIENTATION = 0x0112
"""The EXIF tag of a camera's orientation."""
SIDEWAYS = (5, 6, 7, 8)
"""Its values where width and height change places."""

INVALID_GREY = 128
"""The colour of pixels without depth; no colour of the map is grey."""


def read_rgb(path: Path | str) -> RGBArray:
    """The image as it is meant to be seen, upright by its EXIF orientation.

    Transparent pixels are laid over white, as viewers show them: the colour beneath alpha 0 is arbitrary.
    16-bit values are scaled to 8 (v / 257), never clipped; grey, palette and CMYK become RGB; of an
    animation, the first frame.

    Raises:
        ValueError: the file is absent, truncated or no image; one sentence naming it.
    """
    with reading(path, "save it again as a PNG or JPEG"), Path(path).open("rb") as file, opened(file) as image:
        return rgb_from_pil(image)


def decode_rgb(data: bytes, name: str) -> RGBArray:
    """An image's bytes by the rules of `read_rgb`; `name` stands for the file in errors."""
    with reading(name, "save it again as a PNG or JPEG"), opened(BytesIO(data)) as image:
        return rgb_from_pil(image)


def rgb_from_pil(image: Image.Image) -> RGBArray:
    """An opened image, by the rules of `read_rgb`."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return _grey(np.asarray(image), 65535)
    if image.mode == "F":
        return _grey(np.asarray(image), 1)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def image_size(path: Path | str, data: bytes | None = None) -> tuple[int, int]:
    """(height, width) that `read_rgb` will return, from the header alone: the file's, or that of its bytes."""
    with (
        reading(path, "save it again as a PNG or JPEG"),
        Path(path).open("rb") if data is None else BytesIO(data) as file,
        opened(file) as image,
    ):
        width, height = _stored_size(image)
        return (width, height) if image.getexif().get(ORIENTATION, 1) in SIDEWAYS else (height, width)


def opened(file: BufferedReader | BytesIO) -> Image.Image:
    """An image by Pillow. Never by its name: Pillow maps plain TIFFs into memory by the width they have once turned.

    Raises:
        ValueError: no image.
    """
    try:
        return Image.open(file)
    except UnidentifiedImageError:  # whose text holds an address in memory
        raise ValueError("its content is no image") from None


def write_rgb(path: Path | str, image: RGBArray) -> None:
    """Writes the format of the suffix; PNG is lossless."""
    with atomic_write(path) as tmp_path:
        Image.fromarray(image).save(tmp_path)


def resize_image(image: RGBArray, size: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    """The image at (height, width), bicubic and antialiased.

    Within one level of `Image.resize(..., BICUBIC)`, of the Hugging Face processors and of the same
    interpolation in float32, at an eighth of their time.
    """
    if image.shape[:2] == tuple(size):
        return image
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]  # channels last: the fast kernel
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
        mask: True where trusted; by default every finite pixel.
        low: the value at one end; by default the 2nd percentile of the trusted pixels.
        high: the value at the other end; by default their 98th percentile.
        space: in `disparity` larger is nearer, so the colours run the other way.
    """
    trusted = np.isfinite(depth) if mask is None else mask & np.isfinite(depth)
    values = depth[trusted]
    if low is None:
        low = float(np.percentile(values, 2)) if values.size else 0.0
    if high is None:
        high = float(np.percentile(values, 98)) if values.size else 1.0
    share = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    table = colormaps["Spectral_r" if space == "disparity" else "Spectral"](np.arange(256), bytes=True)[:, :3]
    colours = np.full((*depth.shape, 3), INVALID_GREY, np.uint8)
    colours[trusted] = table[(share * 255).astype(np.uint8)]
    return colours


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) before the orientation is followed, as Pillow does by itself in TIFFs, and in them alone."""
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2[IMAGEWIDTH]), int(image.tag_v2[IMAGELENGTH])
    return image.size


def _grey(levels: Num[np.ndarray, "h w"], white: int) -> RGBArray:
    if not (levels.min() >= 0 and levels.max() <= white):
        raise ValueError(f"its grey levels leave [0, {white}]")
    grey = np.rint(levels * (255 / white)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
