"""iBims-1 (Koch et al., 2018): 100 rooms, scanned by a laser from the position of the camera.

    root/…/ibims1_core_raw/rgb/corridor_01.png            640x480
    root/…/ibims1_core_raw/depth/corridor_01.png          16 bit, metres = level * 50 / 65535
    root/…/ibims1_core_raw/mask_invalid/corridor_01.png   0 where nothing was measured
    root/…/ibims1_core_raw/mask_transp/corridor_01.png    0 on glass
    root/…/ibims1_core_raw/calib/corridor_01.txt          optional: the camera

The published readme inverts the formula. Level 0 and level 65535, the end of the range, are no depth. Both masks are
required. Ids are the file names.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from sonde.datasets.pairs import ImageDepthPair, PairSet, Size, decode_levels, pair_by_name
from sonde.files import Listing, list_files, read_intrinsics, reading
from sonde.types import DepthArray, MaskArray, MatrixArray

LIMITS = (0.0, 50.0)
"""Metres: the range of the levels."""

LEVELS_PER_METRE = 65535 / 50
MASKS = ("mask_invalid", "mask_transp")


def open_ibims(root: Path) -> PairSet:
    """The photographs of every ibims1_core_raw at or below `root`."""
    found = list_files(root, (".png",))
    images, depths = (_match_role(found, role) for role in ("rgb", "depth"))
    pairs, problems = pair_by_name(images, depths, lambda path: path.stem)
    return PairSet("ibims", root, pairs, decode_scanned, "m", LIMITS, [*found.problems, *problems], beside=_list_beside)


def decode_scanned(path: Path, size: Size) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in metres, 0 where a mask is 0; and the intrinsics if the camera file exists."""
    depth, _ = decode_levels(path, size, levels_per_unit=LEVELS_PER_METRE, last=65534)
    *masks, calib = _list_files(path)
    for mask in masks:
        depth = np.where(_read_mask(mask, depth.shape), depth, 0)
    return depth.astype(np.float32), read_intrinsics(calib) if calib.is_file() else None


def _list_beside(pair: ImageDepthPair) -> tuple[Path, ...]:
    return _list_files(pair.depth)


def _list_files(depth: Path) -> tuple[Path, ...]:
    """The masks of a depth map and, last, the file of its camera."""
    place = depth.parents[1]
    return *(place / name / depth.name for name in MASKS), place / "calib" / f"{depth.stem}.txt"


def _match_role(found: Listing, role: str) -> list[Path]:
    here = [path for path in found.match(f"{role}/*.png") if path.parent.parent == found.root]
    return [*dict.fromkeys([*here, *found.match(f"ibims1_core_raw/{role}/*.png")])]


def _read_mask(path: Path, shape: tuple[int, ...]) -> MaskArray:
    with reading(path, "every depth map of iBims-1 has two masks; unpack them beside it"), Image.open(path) as image:
        return (np.asarray(image) > 0).reshape(shape)
