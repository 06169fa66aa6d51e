"""ETH3D's multi-view training set (Schöps et al., 2017): photographs of scenes that a laser has scanned.

    root/…/courtyard/images/dslr_images/DSC_0286.JPG               6048x4032, as the lens bent it
    root/…/courtyard/ground_truth_depth/dslr_images/DSC_0286.JPG   bare little-endian float32 metres of that size

The second is no picture in spite of its name: rows of numbers without a header, inf where no scan was. The lens is a
fish-eye's, so that no pinhole camera is given. Archives may be unpacked side by side (courtyard_dslr_jpg and
courtyard_dslr_depth): a capture is known by its scene. Ids are courtyard/DSC_0286.
"""

from pathlib import Path

import numpy as np

from sonde.datasets.pairs import PairSet, Size, named, paired
from sonde.files import reading
from sonde.types import DepthArray, MatrixArray

LIMITS = (0.0, 1000.0)
"""Metres: farther than any scan."""


def open_eth3d(root: Path) -> PairSet:
    """The photographs of every scene below `root`."""
    images, twice = named(root.glob("**/images/dslr_images/*.JPG"), _name)
    depths, again = named(root.glob("**/ground_truth_depth/dslr_images/*.JPG"), _name)
    pairs, problems = paired(images, depths)
    return PairSet("eth3d", root, pairs, decode_bare, "m", LIMITS, [*twice, *again, *problems])


def decode_bare(path: Path, size: Size) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in metres of the photograph's size, inf where there is none; no camera."""
    with reading(path, f"expected bare float32 of the photograph's size, {4 * size[0] * size[1]} bytes"):
        return np.fromfile(path, "<f4").reshape(size).astype(np.float32), None


def _name(path: Path) -> str:
    return f"{path.absolute().parts[-4]}/{path.stem}"
