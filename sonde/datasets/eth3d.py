"""ETH3D's multi-view training set (Schöps et al., 2017): photographs of scenes that a laser scanned.

    root/…/courtyard/images/dslr_images/DSC_0286.JPG               6048x4032, with lens distortion
    root/…/courtyard/ground_truth_depth/dslr_images/DSC_0286.JPG   bare little-endian float32 metres of that size

In spite of its name, the second file is not an image: it holds rows of numbers without a header, inf where there is no
scan. The lens is a fisheye, so no pinhole camera is given. Archives may be unpacked side by side (courtyard_dslr_jpg
and courtyard_dslr_depth): captures match by the name of their scene. Ids are courtyard/DSC_0286.
"""

from pathlib import Path

import numpy as np

from sonde.datasets.pairs import PairSet, Size, pair_by_name
from sonde.files import list_files, reading
from sonde.types import DepthArray, MatrixArray

LIMITS = (0.0, 1000.0)
"""Metres: farther than any scan."""


def open_eth3d(root: Path) -> PairSet:
    """The photographs of every scene below `root`."""
    found = list_files(root, (".jpg",))
    images = found.match("images/dslr_images/*.JPG")
    depths = found.match("ground_truth_depth/dslr_images/*.JPG")
    pairs, problems = pair_by_name(images, depths, _name_capture)
    return PairSet("eth3d", root, pairs, decode_bare, "m", LIMITS, [*found.problems, *problems])


def decode_bare(path: Path, size: Size) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in metres at the photograph's size, inf where there is none; no intrinsics."""
    with reading(path, f"expected raw float32 of the photograph's size, {4 * size[0] * size[1]} bytes"):
        if path.stat().st_size != 4 * size[0] * size[1]:
            raise ValueError(f"it has {path.stat().st_size} bytes")
        return np.fromfile(path, "<f4").reshape(size).astype(np.float32), None


def _name_capture(path: Path) -> str:
    return f"{path.absolute().parts[-4]}/{path.stem}"
