"""Predictions on disk whose file does not state the size of its levels: who states it, and that nobody disagrees."""

import math
from pathlib import Path
from typing import Annotated

from PIL import Image as PILImage
from pydantic import Field, with_config
from typing_extensions import TypedDict

from sonde import files
from sonde.files.depths import UnknownUnit
from sonde.prediction.manifest import MANIFEST, Manifest
from sonde.strict import EXACT
from sonde.types import DepthArray
from sonde.units import UNITS

NOTE = "dataset.json"
OPTION = "--depth-scale (depth_scale)"


@with_config(EXACT)
class StatedScale(TypedDict, total=False):
    """What is needed of a dataset.json beside predictions."""

    depth_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None


def find_scale(folder: Path, manifest: Manifest, given: int | float | None) -> float | None:
    """Metres per level of a folder's predictions; None if nobody states it.

    Args:
        folder: of predictions; the key `depth_scale` of its predictions.json and of its dataset.json count.
        manifest: its predictions.json.
        given: the option.

    Raises:
        ValueError: two of them differ, a scale that is no number above 0, or predictions that claim no metres.
    """
    stated = {
        OPTION: given,
        f"{folder / MANIFEST}": manifest.get("depth_scale"),
        f"{folder / NOTE}": _read_note(folder),
    }
    scales = {name: scale for name, scale in stated.items() if scale is not None}
    for name, scale in scales.items():
        if not 0 < scale < math.inf:
            raise ValueError(f"{name} states depth_scale {scale:g}: expected metres per level above 0, such as 0.001.")
        first = next(iter(scales))
        if not math.isclose(scale, scales[first], rel_tol=1e-6):
            raise ValueError(f"{first} states {scales[first]:g} m per level, and {name} {scale:g}: keep one.")
    if scales and manifest.get("space", "metric") != "metric":
        raise ValueError(
            f"{folder / MANIFEST} states space {manifest.get('space')}, which has no metres: leave depth_scale out."
        )
    return float(next(iter(scales.values()))) if scales else None


def read_scaled(path: Path, scale: float | None, unit: str | None) -> DepthArray:
    """A prediction of metric depth, or one that states what it is, in metres; see `files.read_depth`.

    Args:
        path: the file.
        scale: metres per level or per unit, where the folder or the user states it.
        unit: of float maps, a key of UNITS, where the folder states it.

    Raises:
        ValueError: it cannot be read, nobody states its scale, or it states another itself.
    """
    if scale is not None:
        _check_stated(path, scale, unit)
        return files.read_depth(path, scale)
    try:
        return files.read_depth(path, None if unit is None or path.suffix == ".png" else UNITS[unit])
    except UnknownUnit:
        raise ValueError(
            f"{path} does not state its unit: give its scale in metres per level with {OPTION}, such as 0.001 for "
            f'millimetres or 0.00390625 for KITTI; or write {{"depth_scale": 0.001}} into {MANIFEST} or {NOTE} beside '
            "the predictions."
        ) from None


def _check_stated(path: Path, scale: float, unit: str | None) -> None:
    """Refuse a scale that differs from what the file, or the folder for float maps, states itself."""
    stated = _read_stated(path) if path.suffix == ".png" else None if unit is None else UNITS[unit]
    if stated is not None and not math.isclose(stated, scale, rel_tol=1e-6):
        own = "its near and far" if math.isnan(stated) else f"{stated:g} m per level"
        raise ValueError(f"{path} states {own} itself, not depth_scale {scale:g}: leave depth_scale out.")


def _read_stated(path: Path) -> float | None:
    """The size of a level that a PNG states; NaN where it has no one size, as in MoGe's logarithm."""
    with files.reading(path, "predict it again"), PILImage.open(path) as image:
        if {"near", "far"} <= image.info.keys():
            return math.nan
        return float(image.info["Scale"]) if "Scale" in image.info else None


def _read_note(folder: Path) -> float | None:
    path = folder / NOTE
    if not path.is_file():
        return None
    note: StatedScale = files.read_json(path, StatedScale, "expected JSON with the key depth_scale, metres per level")
    return note.get("depth_scale")
