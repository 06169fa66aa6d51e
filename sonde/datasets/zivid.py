"""Zivid and other structured-light captures: images/*.png and depth/*.npy, X, Y, Z in millimetres.

    root/images/NAME.png   RGB, also .jpg; of the depth's size, or a whole multiple of it
    root/depth/NAME.npy    (H, W, 3) float32 or float64, NaN where nothing was seen; also Z alone, (H, W),
                           and organised .npz, .ply and .pcd

Names may also end in what the file is, as Zivid's samples do: NAME_color.png belongs to NAME_rawDepth.npy.
Subfolders are kept: images/day1/NAME.png belongs to depth/day1/NAME.npy.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from sonde.datasets.pairs import PairSet, Size, listed, paired
from sonde.files import IMAGE_SUFFIXES, read_xyz, reading
from sonde.files.clouds import CLOUDS
from sonde.files.roles import without_role
from sonde.geometry import fit_intrinsics
from sonde.types import DepthArray, MatrixArray, XYZArray

LIMITS = (0.0, 10_000.0)
"""Millimetres."""

FIT_PIXELS = 10_000
"""About how many pixels the intrinsics are fitted to: a clean grid needs no more."""


def open_zivid(root: Path) -> PairSet:
    """The captures below `root`.

    Raises:
        ValueError: no such folders, or no pair in them; the message shows the layout.
    """
    for folder in (root / "images", root / "depth"):
        if not folder.is_dir():
            raise ValueError(
                f"{folder} does not exist: a Zivid set is images/NAME.png with depth/NAME.npy in mm; "
                "`sonde data convert` makes one of other layouts."
            )
    images, twice = listed(root / "images", IMAGE_SUFFIXES)
    depths, again = listed(root / "depth", CLOUDS)
    pairs, problems = paired(*_under_one_name(images, depths))
    return PairSet("zivid", root, pairs, read_millimetres, "mm", LIMITS, [*twice, *again, *problems])


def _under_one_name(images: dict[str, Path], depths: dict[str, Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Files without a partner of their own name, under their name without its role, where that is another's alone."""
    alone = [{name: without_role(name) for name in files if name not in other} for files, other in
             ((images, depths), (depths, images))]  # fmt: skip
    counts = [Counter(names.values()) for names in alone]
    shared = {name for name in counts[0] if counts[0][name] == counts[1][name] == 1} - (images.keys() & depths.keys())
    renamed = [
        {names[name] if names.get(name) in shared else name: path for name, path in files.items()}
        for names, files in zip(alone, (images, depths), strict=True)
    ]
    return renamed[0], renamed[1]


def read_millimetres(path: Path, size: Size) -> tuple[DepthArray, MatrixArray | None]:
    """Z in mm and, from a full cloud, the intrinsics of its grid."""
    xyz = read_xyz(path, size)
    if xyz.ndim == 2:
        return xyz.astype(np.float32), None
    with reading(path, "export the capture again"):
        return np.ascontiguousarray(xyz[..., 2], dtype=np.float32), _grid_intrinsics(xyz)


def _grid_intrinsics(xyz: XYZArray) -> MatrixArray | None:
    """Fitted to every n-th row and column, so that a mapped file is hardly read; None where it cannot be."""
    stride = max(1, int((xyz.shape[0] * xyz.shape[1] / FIT_PIXELS) ** 0.5))
    grid = np.array(xyz[::stride, ::stride], dtype=np.float64)
    matrix = fit_intrinsics(grid)
    return None if matrix is None else np.diag([stride, stride, 1.0]) @ matrix  # pixel u of the grid is u * stride
