"""IRS (Wang et al., 2021): rendered interiors for stereo, disparity in pixels.

    root/…/Home/ArchVizInterior03Data/l_00001.png  960x540, the left camera; also Office, Restaurant and Store
    root/…/Home/ArchVizInterior03Data/d_00001.exr  disparity of the left picture

depth = focal length x baseline / disparity, with 480 pixels and 0.1 m: `disp2pcd.py` of the authors' repository
HKBU-HPML/IRS, which also puts the centre in the middle of the picture. 480 is half the published width; at another
size disparity and focal length are taken to have been scaled alike. Zero or negative disparity is nothing. Beyond
100 m, where disparity falls below half a pixel (backdrops behind windows), depth is not trusted.
"""

from pathlib import Path

import numpy as np

from sonde.datasets.pairs import PairSet, Size, named, paired
from sonde.files import read_depth
from sonde.types import DepthArray, MatrixArray

LIMITS = (0.0, 100.0)
"""Metres."""

BASELINE = 0.1
"""Metres between the two cameras."""


def open_irs(root: Path) -> PairSet:
    """The left pictures of every folder below `root`."""
    images, twice = named(root.glob("**/l_*.png"), lambda path: _name(root, path))
    disparities, again = named(root.glob("**/d_*.exr"), lambda path: _name(root, path))
    pairs, problems = paired(images, disparities)
    return PairSet("irs", root, pairs, decode_disparity, "m", LIMITS, [*twice, *again, *problems])


def decode_disparity(path: Path, size: Size) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in metres, NaN where there is no disparity, and the camera at the map's size."""
    disparity = read_depth(path)
    height, width = disparity.shape
    focal = width / 2
    depth = focal * BASELINE / np.where(disparity > 0, disparity, np.nan)
    camera = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    return depth.astype(np.float32), camera


def _name(root: Path, path: Path) -> str:
    return (path.relative_to(root).parent / path.stem[2:]).as_posix()
