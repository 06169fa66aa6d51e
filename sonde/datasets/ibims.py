"""iBims-1 (Koch et al., 2018): 100 rooms, scanned by a laser from where the photograph was taken.

    root/…/ibims1_core_raw/rgb/corridor_01.png            640x480
    root/…/ibims1_core_raw/depth/corridor_01.png          16 bit, metres = level * 50 / 65535
    root/…/ibims1_core_raw/mask_invalid/corridor_01.png   0 where nothing was measured
    root/…/ibims1_core_raw/mask_transp/corridor_01.png    0 on glass
    root/…/ibims1_core_raw/calib/corridor_01.txt          optional: the camera

The published readme has the formula upside down. Level 0 and level 65535, where the map ends, are no depth. Both masks
must be there. Ids are the names.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from sonde.datasets.pairs import ImageDepthPair, PairSet, Size, decode_levels, named, paired
from sonde.files import read_intrinsics, reading
from sonde.types import DepthArray, MaskArray, MatrixArray

LIMITS = (0.0, 50.0)
"""Metres: what the levels reach."""

LEVELS_PER_METRE = 65535 / 50
MASKS = ("mask_invalid", "mask_transp")


def open_ibims(root: Path) -> PairSet:
    """The photographs of every ibims1_core_raw at or below `root`."""
    images, twice = named(_pictures(root, "rgb"), lambda path: path.stem)
    depths, again = named(_pictures(root, "depth"), lambda path: path.stem)
    pairs, problems = paired(images, depths)
    faults = [*twice, *again, *problems]
    return PairSet("ibims", root, pairs, decode_scanned, "m", LIMITS, faults, beside=_beside)


def decode_scanned(path: Path, size: Size) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in metres, 0 where a mask says so, and the camera where its file is there."""
    depth, _ = decode_levels(path, size, levels_per_unit=LEVELS_PER_METRE, last=65534)
    *masks, calib = _files(path)
    for mask in masks:
        depth = np.where(_mask(mask, depth.shape), depth, 0)
    return depth.astype(np.float32), read_intrinsics(calib) if calib.is_file() else None


def _beside(pair: ImageDepthPair) -> tuple[Path, ...]:
    return _files(pair.depth)


def _files(depth: Path) -> tuple[Path, ...]:
    """The masks of a depth map and, last, its camera's file."""
    place = depth.parents[1]
    return *(place / name / depth.name for name in MASKS), place / "calib" / f"{depth.stem}.txt"


def _pictures(root: Path, role: str) -> list[Path]:
    places = [root, *root.glob("**/ibims1_core_raw")]
    return [path for place in dict.fromkeys(places) for path in (place / role).glob("*.png")]


def _mask(path: Path, shape: tuple[int, ...]) -> MaskArray:
    with reading(path, "every depth map of iBims-1 has two masks; unpack them beside it"), Image.open(path) as image:
        return (np.asarray(image) > 0).reshape(shape)
