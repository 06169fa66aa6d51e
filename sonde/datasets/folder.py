"""Any folder of images and depth maps: rgb/NAME.jpg with depth/NAME.png, described by dataset.json.

    {"depth_scale": 0.001, "unit": "mm", "rotated_bits": 0,
     "intrinsics": [[619.9, 0, 314.2], [0, 619.9, 238.9], [0, 0, 1]]}

Every key is optional: depth PNGs that sonde wrote and float maps (.npy, .npz, .exr, .pfm; metres) need no scale.
`depth_channel` names the channel of an EXR or the array of an .npz. `"orientation": "sensor"` says that depth was not
turned when EXIF turned the images. Organised clouds (.ply, .pcd) may lie in place of the depth maps, in metres or in
the unit that a comment of a .ply states; `flip` turns their axes. Names may state the role: rgb_0001 belongs to
depth_0001.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from sonde.datasets.matching import match_files
from sonde.datasets.pairs import ImageDepthPair, Orientation, PairSet, Size, list_files
from sonde.datasets.zivid import fit_grid_intrinsics
from sonde.files import (
    IMAGE_SUFFIXES,
    find_near,
    is_camera,
    read_depth,
    read_json,
    read_levels,
    read_stated_unit,
    read_xyz,
    reading,
)
from sonde.files.clouds import CLOUDS, check_flip, holds_cloud
from sonde.files.depths import READERS, UnknownUnit
from sonde.renamed import keep_old_names
from sonde.spelling import shorten
from sonde.strict import Strict
from sonde.types import DepthArray, MatrixArray
from sonde.units import UNITS

IMAGE_FOLDERS = ("rgb", "images", "image", "color")

LIMIT_M = 1000.0
"""Metres; the sky is farther."""


class Description(Strict, strict=True):
    """The content of dataset.json: how the depth maps of a folder are read."""

    depth_scale: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Metres per level of integer maps, or per unit of float maps."""
    unit: Literal["m", "cm", "mm"] = "m"
    """The unit of limits and reports."""
    intrinsics: list[list[float]] | None = None
    """One camera matrix for all depth maps."""
    rotated_bits: int = Field(default=0, ge=0, le=15)
    """Number of bits by which levels are rotated to the left: 3 in SUN RGB-D, which stores millimetres."""
    depth_channel: str | None = None
    """The channel of an .exr, or the array of an .npz, where several could be the depth."""
    flip: str = ""
    """Axes of a cloud that change their sign: `yz` where y points up and z backwards."""
    orientation: Orientation = "image"
    """`sensor`: depth is in the order of the sensor, and is turned as EXIF turns its image, intrinsics too. `image`:
    depth is upright; it is turned only by 90 degrees, where only that fits the sizes."""

    @field_validator("flip")
    @classmethod
    def _check_flip(cls, flip: str) -> str:
        """Check that it names axes."""
        return check_flip(flip)

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
        near = [Path(name).name for folder in ("rgb", "depth") for name in find_near(root / folder)[:1]]
        found = f"; there is {' and '.join(map(shorten, near))}" if near else ""
        raise ValueError(
            f"{root} holds no pairs: expected a folder named {' or '.join(IMAGE_FOLDERS)}, and a folder named "
            f"depth{found}."
        )
    images, twice = list_files(rgb, IMAGE_SUFFIXES)
    depths, again = list_depths(root / "depth", description)
    pairs, problems = match_files(images, depths)
    faults = [*twice, *again, *problems]
    return make_pair_set(root, pairs, description, faults, (note,) if note.is_file() else ())


def list_depths(folder: Path, description: Description) -> tuple[dict[str, Path], list[str]]:
    """Depth maps below a folder, or its clouds if they are to be flipped or if there are no maps; see `list_files`."""
    maps = ({}, []) if description.flip else list_files(folder, READERS)
    return maps if maps[0] else list_files(folder, CLOUDS)


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
    limits, orientation = (0.0, LIMIT_M / UNITS[unit]), description.orientation
    return PairSet("folder", root, pairs, decode, unit, limits, problems, notes, orientation=orientation)


def decode_described(path: Path, size: Size, *, description: Description) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in the description's unit, and the description's intrinsics."""
    bits = description.rotated_bits
    matrix = None if description.intrinsics is None else np.array(description.intrinsics, dtype=np.float64)
    if description.flip or holds_cloud(path):
        return _decode_cloud(path, size, description, matrix)
    if bits:
        levels = read_levels(path)
        metres = ((levels >> bits) | (levels << (16 - bits))) * np.float32(description.depth_scale or 0.001)
    else:
        try:
            metres = read_depth(path, description.depth_scale, metric=True, channel=description.depth_channel)
        except UnknownUnit:
            raise UnknownUnit(
                f'{path} does not state its unit: write {{"depth_scale": 0.001}}, its metres per level (0.001 for '
                "millimetres), into dataset.json beside the folders rgb and depth."
            ) from None
    return metres / np.float32(UNITS[description.unit]), matrix


def _decode_cloud(
    path: Path, size: Size, description: Description, matrix: MatrixArray | None
) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in the description's unit; and the given intrinsics, or those of the cloud's own grid."""
    scale = description.depth_scale or UNITS[read_stated_unit(path) or "m"]
    step = np.float32(scale / UNITS[description.unit])
    xyz = read_xyz(path, size, flip=description.flip, unit_m=scale)
    with reading(path, "export the capture again"):
        if xyz.ndim == 2:
            return xyz.astype(np.float32) * step, matrix
        z = np.ascontiguousarray(xyz[..., 2], dtype=np.float32) * step
        return z, fit_grid_intrinsics(xyz) if matrix is None else matrix


def _read_description(path: Path) -> Description:
    return read_json(path, Description, f"expected JSON with any of the keys {', '.join(Description.model_fields)}")


keep_old_names(__name__, {"pair_set": "make_pair_set"})
