"""Zivid and other structured-light captures: images/*.png and depth/*.npy, X, Y, Z in millimetres.

    root/images/NAME.png   RGB, also .jpg; as large as the depth map, or larger by a whole factor
    root/depth/NAME.npy    (H, W, 3) float32 or float64, NaN where nothing was measured; also only Z, (H, W),
                           and organised .npz, .ply and .pcd

Names may end in the role of the file, as in Zivid's samples: NAME_color.png belongs to NAME_rawDepth.npy. Subfolders
count: images/day1/NAME.png belongs to depth/day1/NAME.npy.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from sonde.datasets.pairs import PairSet, Size, list_files, match_pairs
from sonde.files import IMAGE_SUFFIXES, explain_absent, read_xyz, reading
from sonde.files.clouds import CLOUDS
from sonde.files.roles import strip_role
from sonde.geometry import fit_intrinsics
from sonde.types import DepthArray, MatrixArray, XYZArray
from sonde.units import UNITS

LIMITS = (0.0, 10_000.0)
"""Millimetres."""

FIT_PIXELS = 10_000
"""Approximate number of pixels that intrinsics are fitted to: a clean grid needs no more."""


def open_zivid(root: Path) -> PairSet:
    """The captures below `root`.

    Raises:
        ValueError: no such folders; the message shows the layout.
    """
    for folder in (root / "images", root / "depth"):
        if not folder.is_dir():
            layout = "images/NAME.png with depth/NAME.npy in mm, a Zivid set"
            raise ValueError(explain_absent(folder, f"{layout}, which `sonde data convert` makes of other layouts"))
    images, twice = list_files(root / "images", IMAGE_SUFFIXES)
    depths, again = list_files(root / "depth", CLOUDS)
    pairs, problems = match_pairs(*_unify_names(images, depths))
    return PairSet("zivid", root, pairs, read_millimetres, "mm", LIMITS, [*twice, *again, *problems])


def _unify_names(images: dict[str, Path], depths: dict[str, Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """The same files; a file whose name has no partner goes by its name without role words if that gives it one.

    The short name must be clear: exactly one such image, one such depth map, and no pair that has the name already.
    """
    short_images = {name: strip_role(name) for name in images if name not in depths}
    short_depths = {name: strip_role(name) for name in depths if name not in images}
    image_counts, depth_counts = Counter(short_images.values()), Counter(short_depths.values())
    shared = {name for name, count in image_counts.items() if count == depth_counts[name] == 1}
    shared -= images.keys() & depths.keys()
    return _rename(images, short_images, shared), _rename(depths, short_depths, shared)


def _rename(files: dict[str, Path], short: dict[str, str], shared: set[str]) -> dict[str, Path]:
    """Files under their short name if it is one of `shared`, else under their own."""
    return {short[name] if short.get(name) in shared else name: path for name, path in files.items()}


def read_millimetres(path: Path, size: Size) -> tuple[DepthArray, MatrixArray | None]:
    """Z in mm; and, from a full cloud, the intrinsics of its pixel grid."""
    xyz = read_xyz(path, size, unit_m=UNITS["mm"])
    if xyz.ndim == 2:
        return xyz.astype(np.float32), None
    with reading(path, "export the capture again"):
        return np.ascontiguousarray(xyz[..., 2], dtype=np.float32), fit_grid_intrinsics(xyz)


def fit_grid_intrinsics(xyz: XYZArray) -> MatrixArray | None:
    """Intrinsics fitted to every n-th row and column, so little of a mapped file is read; None if no camera fits."""
    stride = max(1, int((xyz.shape[0] * xyz.shape[1] / FIT_PIXELS) ** 0.5))
    grid = np.array(xyz[::stride, ::stride], dtype=np.float64)
    matrix = fit_intrinsics(grid)
    return None if matrix is None else np.diag([stride, stride, 1.0]) @ matrix  # pixel u of the grid is u * stride
