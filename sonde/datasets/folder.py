"""Any folder of images and depth maps: rgb/NAME.jpg with depth/NAME.png, described by dataset.json.

    {"depth_scale": 0.001, "unit": "mm", "rotated_bits": 0,
     "intrinsics": [[619.9, 0, 314.2], [0, 619.9, 238.9], [0, 0, 1]]}

Every key is optional: depth PNGs that sonde wrote and float maps (.npy, .exr, .pfm; metres) need no scale. Names may
state the role: rgb_0001 belongs to depth_0001.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from sonde.datasets.pairs import ImageDepthPair, PairSet, Size, list_files, match_pairs, strip_roles
from sonde.files import IMAGE_SUFFIXES, is_camera, read_depth, read_levels, reading
from sonde.files.depths import READERS, UnknownUnit
from sonde.renamed import keep_old_names
from sonde.strict import Strict
from sonde.types import DepthArray, MatrixArray
from sonde.units import UNITS

IMAGE_FOLDERS = ("rgb", "images", "image", "color")

LIMIT_M = 1000.0
"""Metres; the sky is farther."""


class Description(Strict):
    """The content of dataset.json: how the depth maps of a folder are read."""

    depth_scale: float | None = None
    """Metres per level of integer maps, or per unit of float maps."""
    unit: Literal["m", "cm", "mm"] = "m"
    """The unit of limits and reports."""
    intrinsics: list[list[float]] | None = None
    """One camera matrix for all depth maps."""
    rotated_bits: int = Field(default=0, ge=0, le=15)
    """Number of bits by which levels are rotated to the left: 3 in SUN RGB-D, which stores millimetres."""

    @field_validator("intrinsics")
    @classmethod
    def _check_camera(cls, rows: list[list[float]] | None) -> list[list[float]] | None:
        """Check the rows as in an intrinsics.txt."""
        if rows is not None and ([len(row) for row in rows] != [3, 3, 3] or not is_camera(np.array(rows))):
            raise ValueError("expected the matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels")
        return rows


def open_folder(root: Path) -> PairSet:
    """The pairs below `root`.

    Raises:
        ValueError: no such folders, or an invalid dataset.json.
    """
    note = root / "dataset.json"
    description = _read_description(note) if note.is_file() else Description()
    rgb = next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), None)
    if rgb is None or not (root / "depth").is_dir():
        raise ValueError(
            f"{root} holds no pairs: expected a folder named {' or '.join(IMAGE_FOLDERS)}, and a folder named depth."
        )
    images, twice = list_files(rgb, IMAGE_SUFFIXES)
    depths, again = list_files(root / "depth", READERS)
    pairs, problems = match_pairs(images, depths)
    if not pairs:
        pairs, problems = match_pairs(strip_roles(images), strip_roles(depths))
    faults = [*twice, *again, *problems]
    return make_pair_set(root, pairs, description, faults, (note,) if note.is_file() else ())


def make_pair_set(
    root: Path,
    pairs: Sequence[ImageDepthPair],
    description: Description,
    problems: list[str],
    notes: tuple[Path, ...] = (),
) -> PairSet:
    """Pairs of any folders, read as a description states."""
    unit = description.unit
    decode = partial(decode_described, description=description)
    return PairSet("folder", root, pairs, decode, unit, (0.0, LIMIT_M / UNITS[unit]), problems, notes)


def decode_described(path: Path, size: Size, *, description: Description) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in the description's unit, and the description's intrinsics."""
    bits = description.rotated_bits
    if bits:
        levels = read_levels(path)
        metres = ((levels >> bits) | (levels << (16 - bits))) * np.float32(description.depth_scale or 0.001)
    else:
        try:
            metres = read_depth(path, description.depth_scale, metric=True)
        except UnknownUnit:
            raise UnknownUnit(
                f'{path} does not state its unit: write {{"depth_scale": 0.001}}, its metres per level (0.001 for '
                "millimetres), into dataset.json beside the folders rgb and depth."
            ) from None
    matrix = None if description.intrinsics is None else np.array(description.intrinsics, dtype=np.float64)
    return metres / np.float32(UNITS[description.unit]), matrix


def _read_description(path: Path) -> Description:
    with reading(path, f"expected JSON with any of the keys {', '.join(Description.model_fields)}"):
        return Description.model_validate_json(path.read_text())


keep_old_names(__name__, {"pair_set": "make_pair_set"})
