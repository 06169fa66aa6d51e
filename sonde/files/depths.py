"""Depth maps on disk: 16-bit PNG that states what its numbers mean, TIFF, PGM, .npy, .npz, EXR and PFM."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from sonde.files.channels import UnclearChannel, find_depth_array
from sonde.files.exr import read_exr, write_exr
from sonde.files.levels import Notes, check_shallow, mark_trusted, read_grey_depth, write_depth_png
from sonde.files.netpbm import read_pfm, read_pgm, write_pfm
from sonde.files.npy import ArrayHeader, open_npy, read_npz
from sonde.files.safely import reading
from sonde.files.stated import name_unit, place_array_note, read_array_note
from sonde.files.writing import atomic_write
from sonde.spelling import shorten
from sonde.types import DepthArray, MaskArray, Space
from sonde.units import UNITS

REMEDY = "expected a 16-bit PNG, TIFF or PGM, or .npy, .npz, .exr or .pfm of one float channel"


class UnknownUnit(ValueError):
    """An integer map does not state the size of one level."""


def read_depth(
    path: Path | str, scale: float | None = None, *, metric: bool = False, channel: str | None = None
) -> DepthArray:
    """Depth, (h, w) float32 metres, NaN where the file has none.

    A PNG that sonde wrote is decoded by its own metadata, a .npy by those beside it; a relative map keeps its own
    quantity. So is a PNG that states near and far, as MoGe writes it.

    Args:
        path: .png, .tif, .pgm, .npy, .npz, .exr or .pfm.
        scale: metres per level or per unit of the file (0.001 for millimetres); replaces the file's own scale. An
            integer file without metadata needs it. A float file without it, or without NAME.npy.json, is in metres.
        metric: refuse a map that states another quantity than depth in metres, such as a relative prediction.
        channel: the channel of an .exr, or the array of an .npz, whose name does not say that it is depth.

    Raises:
        ValueError: the file is missing, corrupt, 8-bit without a scale that fits, of unknown unit, not in metres with
            `metric`, has no channel that can be depth, or more than one, or a .npy states another unit than `scale`.
    """
    path = Path(path)
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path} is not a depth map: {REMEDY}.")
    if scale is not None and not 0 < scale < math.inf:
        raise ValueError(f"scale {scale:g}: expected metres per level, a number above 0, such as 0.001.")
    beside = _read_beside(path, scale)
    try:
        with reading(path, REMEDY):
            array, notes = READERS[path.suffix.lower()](path, channel)
            notes = {**notes, **beside}
            if READERS[path.suffix.lower()] is _read_image:
                check_shallow(array, scale)
            depth = _scale(_drop_axis(array), notes, scale)
    except UnclearChannel as unclear:
        raise ValueError(f"{shorten(path)} {unclear}") from None
    if metric and notes.get("Space", "metric") != "metric":
        raise ValueError(
            f"{path} states that it holds {notes.get('Quantity', notes['Space'])}: expected measured depth in metres, "
            "or the prediction of a metric model."
        )
    if depth is None:
        raise UnknownUnit(f"{path} does not state its unit: give its scale in metres per level, 0.001 for millimetres.")
    return depth


def write_depth(path: Path | str, depth: DepthArray, mask: MaskArray | None = None, *, space: Space = "metric") -> None:
    """Write the format of the suffix; .npy, .exr and .pfm hold float32 with NaN where untrusted.

    Raises:
        ValueError: no writer for the suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".png":
        write_depth_png(path, depth, mask, space=space)
    elif suffix in WRITERS:
        values = np.where(mark_trusted(depth, mask, space), depth, np.nan).astype(np.float32)
        with atomic_write(path) as tmp_path:
            WRITERS[suffix](tmp_path, values)
        if suffix == ".npy" and read_array_note(Path(path)) is not None:
            place_array_note(Path(path)).unlink()  # it states the unit of the array that was replaced
    else:
        raise ValueError(f"{path}: no depth format {suffix!r}; expected one of .png, {', '.join(WRITERS)}.")


def _read_beside(path: Path, scale: float | None) -> Notes:
    """What the note of a .npy states, in the words of a PNG's metadata.

    Raises:
        ValueError: it states another unit than `scale`, or none.
    """
    note = read_array_note(path) if path.suffix.lower() == ".npy" else None
    if note is None:
        return {}
    metres = UNITS[note["unit"]] if note["space"] == "metric" else None
    if scale is not None and (metres is None or not math.isclose(metres, scale, rel_tol=1e-6)):
        own = f"its unit is {note['unit']}" if metres is not None else f"it holds {note['holds']}"
        raise ValueError(
            f"{shorten(path)}: {place_array_note(path).name} beside it states that {own}, and it is declared as "
            f"{name_unit(scale)}: leave the declared scale or unit out, or correct that file."
        )
    notes = {"Space": note["space"], "Quantity": note["holds"]}
    return notes if metres is None else {**notes, "Scale": repr(metres)}


def _scale(array: np.ndarray, notes: Notes, scale: float | None) -> DepthArray | None:
    """The numbers of a file in metres; None if they are levels of an unknown size.

    Raises:
        ValueError: no map of numbers, or a scale or an offset that is no number of use.
    """
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.size:
        raise ValueError(f"it holds {array.dtype} of shape {array.shape}")
    floating = array.dtype.kind == "f"
    if scale is None and not floating and "Scale" not in notes:
        return None
    step = float(notes.get("Scale", "1")) if scale is None else scale
    offset = float(notes.get("Offset", "0")) if scale is None else 0.0
    if not (0 < step < math.inf and math.isfinite(offset)):
        raise ValueError(f"it states the scale {step:g} and the offset {offset:g}, expected a scale above 0")
    with np.errstate(over="ignore"):
        depth = (array.astype(np.float64) * step + offset).astype(np.float32)
    depth[~np.isfinite(depth) if floating else (array == 0) | ~np.isfinite(depth)] = np.nan
    return depth


def _drop_axis(array: np.ndarray) -> np.ndarray:
    """(h, w) of (h, w, 1) or (1, h, w)."""
    if array.ndim == 3 and array.shape[2] == 1:
        return array[..., 0]
    return array[0] if array.ndim == 3 and array.shape[0] == 1 else array


def _read_image(path: Path, channel: str | None) -> tuple[np.ndarray, Notes]:
    return read_grey_depth(path)


def _read_npy(path: Path, channel: str | None) -> tuple[np.ndarray, Notes]:
    return open_npy(path), {}


def _read_npz(path: Path, channel: str | None) -> tuple[np.ndarray, Notes]:
    def choose(headers: Mapping[str, ArrayHeader]) -> str:
        numbers = {name: header.shape for name, header in headers.items() if header.dtype.kind in "fiu"}
        return find_depth_array(numbers, channel)

    return read_npz(path, choose), {}


def _read_exr(path: Path, channel: str | None) -> tuple[np.ndarray, Notes]:
    return read_exr(path, channel), {}


def _read_pfm(path: Path, channel: str | None) -> tuple[np.ndarray, Notes]:
    return read_pfm(path), {}


def _read_pgm(path: Path, channel: str | None) -> tuple[np.ndarray, Notes]:
    return read_pgm(path), {}


def _write_npy(path: Path, depth: DepthArray) -> None:
    np.save(path, depth)


READERS: dict[str, Callable[[Path, str | None], tuple[np.ndarray, Notes]]] = {
    ".png": _read_image,
    ".tif": _read_image,
    ".tiff": _read_image,
    ".pgm": _read_pgm,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".exr": _read_exr,
    ".pfm": _read_pfm,
}
"""Reader by suffix; each takes the name of a channel, where the format has any, and returns the numbers and the text
chunks of the file."""

WRITERS: dict[str, Callable[[Path, DepthArray], None]] = {
    ".npy": _write_npy,
    ".exr": write_exr,
    ".pfm": write_pfm,
}
"""Writer of a float format by suffix."""
