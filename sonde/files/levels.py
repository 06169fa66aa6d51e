"""Depth as whole numbers in an image: 16-bit PNG that states what its levels mean, and grey images of any writer."""

import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt16
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, SAMPLEFORMAT, TiffImageFile

from sonde.files.images import load_pixels, open_image
from sonde.files.png import GREY, encode_png
from sonde.files.safely import reading
from sonde.files.writing import atomic_write
from sonde.types import DepthArray, MaskArray, Space

LEVELS = 65535
"""The largest code of a 16-bit PNG. Code 0 marks pixels without depth."""

LEAST_REACH = 1.0
"""Metres: 8-bit levels that end nearer at their stated scale are those of a preview beside maps of that scale."""
SHALLOW = "8-bit is a preview, or depth in 256 levels; export 16-bit or float"

QUANTITIES: dict[Space, tuple[str, str]] = {
    "metric": ("depth", "m"),
    "scale": ("depth up to a scale", "1"),
    "affine": ("depth up to scale and shift", "1"),
    "disparity": ("inverse depth up to scale and shift", "1"),
}
"""Quantity and unit of each space, as the metadata of a PNG name them."""
UNIT_WORDS = {"m": "in metres", "1": "without unit"}

Notes = dict[str, str]
"""The text chunks of a PNG."""


def read_levels(path: Path | str) -> UInt16[np.ndarray, "h w"]:
    """The raw numbers of a 16-bit grey PNG or TIFF, (h, w).

    Raises:
        ValueError: the file is missing, truncated, or not 16-bit grey, such as a colour preview.
    """
    with reading(path, "expected a 16-bit grey PNG"):
        levels = _read_levels(Path(path))[0]
        if levels.dtype != np.uint16:
            raise ValueError(f"it holds {levels.dtype}")
        return levels


def decode_levels_png(data: bytes, name: str) -> tuple[UInt16[np.ndarray, "h w"], dict[str, str]]:
    """The codes of an encoded PNG, (h, w), and its text chunks; `name` identifies it in errors."""
    with reading(name, "expected a 16-bit grey PNG"):
        return _read_levels(BytesIO(data))


def read_grey_depth(path: Path) -> tuple[np.ndarray, Notes]:
    """The levels of a grey PNG or TIFF, or its floats, (h, w); and its text chunks, if they are left to be applied.

    An 8-bit image is given as uint8, see `check_shallow`.

    Raises:
        ValueError: not grey, or below 0.
    """
    levels, notes = _read_grey(path, shallow=True)
    return (_decode_logarithm(levels, notes), {}) if {"near", "far"} <= notes.keys() else (levels, notes)


def write_depth_png(
    path: Path | str,
    depth: DepthArray,
    mask: MaskArray | None = None,
    *,
    space: Space = "metric",
    step: float | None = None,
) -> float:
    """Write a 16-bit PNG, value = Scale * code + Offset, whose text chunks state both; return the step.

    Nothing is clipped. The step is the smallest power of ten, 1e-5 m or more, whose codes reach the farthest trusted
    pixel (1e-4 m up to 6.55 m). The codes of a relative map span its own range. Code 0 marks pixels that are masked,
    not finite, or, in `metric` and `scale`, not positive. Trusted pixels are rounded to the nearest code from 1 up.

    Raises:
        ValueError: the given `step` is too small for the farthest pixel; the message has one that fits.
    """
    data, step = encode_depth_png(depth, mask, space=space, step=step, name=str(path))
    with atomic_write(path) as tmp_path:
        tmp_path.write_bytes(data)
    return step


def encode_depth_png(
    depth: DepthArray, mask: MaskArray | None = None, *, space: Space, step: float | None = None, name: str = "The map"
) -> tuple[bytes, float]:
    """The bytes that `write_depth_png` writes, and the step; `name` identifies the map in errors."""
    trusted = mark_trusted(depth, mask, space)
    whole = bool(trusted.all())  # the usual case, and the fast one
    known = depth if whole else depth[trusted]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    positive = space in ("metric", "scale")
    fitting = _choose_step(high) if space == "metric" else _span_step(0.0 if positive else low, high)
    step = fitting if step is None else step
    offset = 0.0 if positive else low - step  # the lowest trusted value takes code 1
    codes = (depth if whole else np.where(trusted, depth, offset)).astype(np.float64)
    codes -= offset
    codes /= step
    np.rint(codes, out=codes)
    if codes.max(initial=0) > LEVELS:
        raise ValueError(
            f"{name}: depth reaches {high:g}, and 16 bits in steps of {step:g} end at {step * LEVELS:g}: "
            f"use a step of {fitting:g}, or write .npy."
        )
    np.maximum(codes, 1, out=codes)
    codes = (codes if whole else np.where(trusted, codes, 0)).astype(np.uint16)
    return _encode_png(codes, _describe(space, step, offset)), step


def mark_trusted(depth: DepthArray, mask: MaskArray | None, space: Space) -> MaskArray:
    """Where a map is written: where the mask is True and depth finite and, in `metric` and `scale`, positive."""
    trusted = np.isfinite(depth) if mask is None else mask & np.isfinite(depth)
    return trusted & (depth > 0) if space in ("metric", "scale") else trusted


def _choose_step(high: float) -> float:
    exponent = math.ceil(math.log10(high / LEVELS)) if high > 0 else -5
    return float(f"1e{max(exponent, -5)}")


def _span_step(low: float, high: float) -> float:
    """The step whose codes 1 to 65535 span the range; 1 for a map of one value."""
    return (high - low) / (LEVELS - 1) or 1.0


def _describe(space: Space, step: float, offset: float) -> dict[str, str]:
    quantity, unit = QUANTITIES[space]
    return {
        "Quantity": quantity,
        "Unit": unit,
        "Scale": repr(step),
        "Offset": repr(offset),
        "Invalid": "0",
        "Space": space,
        "Software": "sonde",
        "Description": f"{quantity} = {step!r} * code + {offset!r}, {UNIT_WORDS[unit]}; code 0: none",
    }


def _encode_png(codes: UInt16[np.ndarray, "h w"], notes: dict[str, str]) -> bytes:
    """A 16-bit grey PNG whose rows are stored as differences from the row above.

    For smooth depth the file is smaller than Pillow's, which chooses a filter for each row, and takes a seventh of
    its time.
    """
    return encode_png(codes.astype(">u2").view(np.uint8), codes.shape[1], bits=16, kind=GREY, up=True, notes=notes)


def _read_levels(source: Path | BytesIO) -> tuple[np.ndarray, Notes]:
    """Levels of 16 bits, or floats; and the text chunks."""
    levels, notes = _read_grey(source)
    if levels.dtype.kind != "f" and levels.max() > LEVELS:
        raise ValueError(f"its levels are outside [0, {LEVELS}]")
    return levels if levels.dtype.kind == "f" else levels.astype(np.uint16), notes


def check_shallow(levels: np.ndarray, scale: float | None) -> None:
    """Refuse 8-bit levels, uint8, that are no depth as far as their scale says.

    Args:
        levels: as read from an image.
        scale: metres per level as the user states it; 8 bits are depth where they reach 1 m, with steps above 4 mm.

    Raises:
        ValueError: the sentence has the remedy.
    """
    if levels.dtype != np.uint8 or (scale is not None and 255 * scale >= LEAST_REACH):
        return
    what = f"its pixels are 8-bit grey, not 16-bit: {SHALLOW}"
    if scale is None:
        raise ValueError(f"{what}; if it really is depth, give its metres per level, such as --depth-scale 0.04")
    raise ValueError(f"{what}; and {scale:g} m per level, as stated, would end at {255 * scale:.3g} m")


def _read_grey(source: Path | BytesIO, *, shallow: bool = False) -> tuple[np.ndarray, Notes]:
    """Levels of any whole number of bits, or floats; and the text chunks; of 8 bits only if `shallow`."""
    with source.open("rb") if isinstance(source, Path) else source as file, open_image(file) as image:
        load_pixels(image)
        levels = np.asarray(image)
        if image.mode == "F":
            return levels, {}
        if image.mode == "L":
            if not shallow:
                raise ValueError(f"its pixels are 8-bit grey, not 16-bit: {SHALLOW}")
            return levels, {}
        if not image.mode.startswith("I"):
            raise ValueError(f"its pixels are {image.mode}, not 16-bit grey: a preview is not a depth map")
        if _is_unsigned(image):
            levels = levels.view(np.uint32)
        if levels.min() < 0:
            raise ValueError(f"its levels run from {levels.min()}, below 0")
        return levels, dict(image.text) if isinstance(image, PngImageFile) else {}


def _is_unsigned(image: Image.Image) -> bool:
    """Whether Pillow holds whole numbers of 32 bits without a sign, as if they had one."""
    if image.mode != "I" or not isinstance(image, TiffImageFile):
        return False
    return image.tag_v2.get(BITSPERSAMPLE) == (32,) and image.tag_v2.get(SAMPLEFORMAT, (1,)) == (1,)


def _decode_logarithm(levels: np.ndarray, notes: Mapping[str, str]) -> DepthArray:
    """The depth of a PNG of MoGe: levels 1 to 65534 run from near to far by equal ratios; 0 and 65535 are none."""
    near, far, unit = (float(notes.get(key, "1")) for key in ("near", "far", "unit"))
    if not (0 < near <= far < math.inf and 0 < unit < math.inf):
        raise ValueError(f"it states near {near:g}, far {far:g} and unit {unit:g}, expected 0 < near <= far")
    depth = unit * near * (far / near) ** ((levels.astype(np.float64) - 1) / (LEVELS - 2))
    return np.where((levels == 0) | (levels == LEVELS), np.nan, depth)
