"""Depth maps on disk: 16-bit PNG that states what its numbers mean, .npy, EXR and PFM."""

import math
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import OpenEXR
from jaxtyping import UInt16
from PIL.PngImagePlugin import PngImageFile

from sonde.files.images import open_image
from sonde.files.safely import reading
from sonde.files.writing import atomic_write
from sonde.types import DepthArray, MaskArray, Space

LEVELS = 65535
"""The largest code of a 16-bit PNG. Code 0 marks pixels without depth."""

QUANTITIES: dict[Space, tuple[str, str]] = {
    "metric": ("depth", "m"),
    "scale": ("depth up to a scale", "1"),
    "affine": ("depth up to scale and shift", "1"),
    "disparity": ("inverse depth up to scale and shift", "1"),
}
"""Quantity and unit of each space, as the metadata of a PNG name them."""

EXR_CHANNELS = ("Z", "depth", "Y", "V", "R")
"""Names of the depth channel in an EXR, in order of preference."""

REMEDY = "expected a 16-bit PNG, or .npy, .exr or .pfm of one float channel"


class UnknownUnit(ValueError):
    """An integer map does not state the size of one level."""


def read_depth(path: Path | str, scale: float | None = None, *, metric: bool = False) -> DepthArray:
    """Depth, (h, w) float32 metres, NaN where the file has none.

    A PNG that sonde wrote is decoded by its own metadata; a relative map keeps its own quantity.

    Args:
        path: .png, .tif, .npy, .exr or .pfm.
        scale: metres per level or per unit of the file (0.001 for millimetres); replaces the file's own scale. An
            integer file without metadata needs it. A float file without it is in metres.
        metric: refuse a map that states another quantity than depth in metres, such as a relative prediction.

    Raises:
        ValueError: the file is missing, corrupt, 8-bit, of unknown unit, or not in metres with `metric`.
    """
    path = Path(path)
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path} is not a depth map: {REMEDY}.")
    with reading(path, REMEDY):
        array, notes = READERS[path.suffix.lower()](path)
        if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.size:
            raise ValueError(f"it holds {array.dtype} of shape {array.shape}")
        floating = array.dtype.kind == "f"
        step = scale if scale is not None else float(notes.get("Scale", "1" if floating else "nan"))
        offset = 0.0 if scale is not None else float(notes.get("Offset", "0"))
    if metric and notes.get("Space", "metric") != "metric":
        raise ValueError(
            f"{path} states that it holds {notes.get('Quantity', notes['Space'])}: expected measured depth in metres, "
            "or the prediction of a metric model."
        )
    if math.isnan(step):
        raise UnknownUnit(f"{path} does not state its unit: give its scale in metres per level, 0.001 for millimetres.")
    depth = (array.astype(np.float64) * step + offset).astype(np.float32)
    depth[~np.isfinite(depth) if floating else array == 0] = np.nan
    return depth


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


def write_depth(path: Path | str, depth: DepthArray, mask: MaskArray | None = None, *, space: Space = "metric") -> None:
    """Write the format of the suffix; .npy, .exr and .pfm hold float32 with NaN where untrusted.

    Raises:
        ValueError: no writer for the suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".png":
        write_depth_png(path, depth, mask, space=space)
    elif suffix in WRITERS:
        values = np.where(_mark_trusted(depth, mask, space), depth, np.nan).astype(np.float32)
        with atomic_write(path) as tmp_path:
            WRITERS[suffix](tmp_path, values)
    else:
        raise ValueError(f"{path}: no depth format {suffix!r}; expected one of .png, {', '.join(WRITERS)}.")


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
    trusted = _mark_trusted(depth, mask, space)
    low, high = (float(depth[trusted].min()), float(depth[trusted].max())) if trusted.any() else (0.0, 0.0)
    positive = space in ("metric", "scale")
    fitting = _choose_step(high) if space == "metric" else _span_step(0.0 if positive else low, high)
    step = fitting if step is None else step
    offset = 0.0 if positive else low - step  # the lowest trusted value takes code 1
    codes = np.rint((np.where(trusted, depth, offset).astype(np.float64) - offset) / step)
    if codes.max(initial=0) > LEVELS:
        raise ValueError(
            f"{name}: depth reaches {high:g}, and 16 bits in steps of {step:g} end at {step * LEVELS:g}: "
            f"use a step of {fitting:g}, or write .npy."
        )
    codes = np.where(trusted, np.maximum(codes, 1), 0).astype(np.uint16)
    return _encode_png(codes, _describe(space, step, offset)), step


def _mark_trusted(depth: DepthArray, mask: MaskArray | None, space: Space) -> MaskArray:
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
        "Description": f"{quantity} = {step!r} * code + {offset!r} [{unit}]; code 0: none",
    }


def _encode_png(codes: UInt16[np.ndarray, "h w"], notes: dict[str, str]) -> bytes:
    """A 16-bit grey PNG whose rows are stored as differences from the row above, at zlib's fastest level.

    For smooth depth the file is smaller than Pillow's, which chooses a filter for each row, and takes a seventh of
    its time.
    """
    height, width = codes.shape
    levels = codes.astype(">u2").view(np.uint8)
    rows = np.full((height, 1 + 2 * width), 2, np.uint8)  # the first byte of a row is its filter; 2 is PNG's "up"
    rows[:1, 1:] = levels[:1]
    np.subtract(levels[1:], levels[:-1], out=rows[1:, 1:])
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)),
        *((b"tEXt", f"{key}\0{value}".encode("latin-1")) for key, value in notes.items()),
        (b"IDAT", zlib.compress(rows.data, 1)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _read_levels(source: Path | BytesIO) -> tuple[np.ndarray, dict[str, str]]:
    with source.open("rb") if isinstance(source, Path) else source as file, open_image(file) as image:
        levels = np.asarray(image)
        if image.mode == "F":
            return levels, {}
        if not image.mode.startswith("I"):
            raise ValueError(f"its pixels are {image.mode}, not 16-bit grey: a preview is not a depth map")
        if levels.min() < 0 or levels.max() > LEVELS:
            raise ValueError(f"its levels are outside [0, {LEVELS}]")
        return levels.astype(np.uint16), dict(image.text) if isinstance(image, PngImageFile) else {}


def _read_npy(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    return np.lib.format.open_memmap(path, mode="r"), {}


def _read_exr(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            channels = {name: np.array(channel.pixels) for name, channel in file.channels().items()}
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    known = [name for name in EXR_CHANNELS if name in channels] or list(channels)
    return channels[known[0]], {}


def _read_pfm(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    with path.open("rb") as file:
        kind, size, scale = (file.readline(256).strip() for _ in range(3))
        if kind != b"Pf":
            raise ValueError(f"it begins with {kind[:8]!r}, expected b'Pf', one channel")
        width, height = map(int, size.split())
        order = "<" if float(scale) < 0 else ">"  # only the sign counts: it is the byte order
        pixels = np.frombuffer(file.read(width * height * 4), f"{order}f4").reshape(height, width)
    return pixels[::-1], {}  # rows run bottom to top


def _write_npy(path: Path, depth: DepthArray) -> None:
    np.save(path, depth)


def _write_exr(path: Path, depth: DepthArray) -> None:
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"Z": np.ascontiguousarray(depth)}).write(str(path))


def _write_pfm(path: Path, depth: DepthArray) -> None:
    height, width = depth.shape
    path.write_bytes(f"Pf\n{width} {height}\n-1.0\n".encode() + depth[::-1].astype("<f4").tobytes())


READERS: dict[str, Callable[[Path], tuple[np.ndarray, dict[str, str]]]] = {
    ".png": _read_levels,
    ".tif": _read_levels,
    ".tiff": _read_levels,
    ".npy": _read_npy,
    ".exr": _read_exr,
    ".pfm": _read_pfm,
}
"""Reader by suffix; each returns the numbers and the metadata of the file."""

WRITERS: dict[str, Callable[[Path, DepthArray], None]] = {
    ".npy": _write_npy,
    ".exr": _write_exr,
    ".pfm": _write_pfm,
}
"""Writer of a float format by suffix."""
