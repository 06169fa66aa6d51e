"""IRS (Wang et al., 2021): rendered interiors for stereo, disparity in pixels.

    root/…/Home/ArchVizInterior03Data/l_00001.png  960x540, the left camera; also Office, Restaurant and Store
    root/…/Home/ArchVizInterior03Data/d_00001.exr  disparity of the left image

depth = focal length x baseline / disparity, with 480 pixels and 0.1 m: `disp2pcd.py` of the authors' repository
HKBU-HPML/IRS, which also puts the principal point in the middle of the image. 480 is half the published width; at
another size, disparity and focal length are assumed to be scaled by the same factor. Zero or negative disparity is no
depth. Beyond 100 m, where disparity falls below half a pixel (backdrops behind windows), depth is not trusted.
"""

from pathlib import Path

import numpy as np

from sonde.datasets.pairs import PairSet, Size, pair_by_name
from sonde.files import list_files, read_depth
from sonde.types import DepthArray, MatrixArray

LIMITS = (0.0, 100.0)
"""Metres."""

BASELINE = 0.1
"""Metres between the two cameras."""


def open_irs(root: Path) -> PairSet:
    """The left images of every folder below `root`."""
    found = list_files(root, (".png", ".exr"))
    pairs, problems = pair_by_name(
        found.match("l_*.png"), found.match("d_*.exr"), lambda path: _name_capture(root, path)
    )
    return PairSet("irs", root, pairs, decode_disparity, "m", LIMITS, [*found.problems, *problems])


def decode_disparity(path: Path, size: Size) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in metres, NaN where there is no disparity; and the intrinsics at the map's size."""
    disparity = read_depth(path)
    height, width = disparity.shape
    focal = width / 2
    depth = focal * BASELINE / np.where(disparity > 0, disparity, np.nan)
    camera = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    return depth.astype(np.float32), camera


def _name_capture(root: Path, path: Path) -> str:
    return (path.relative_to(root).parent / path.stem[2:]).as_posix()
