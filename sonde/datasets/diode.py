"""DIODE (Vasiljevic et al., 2019): laser depth of rooms and streets, with a mask of the measured pixels.

    root/…/indoors/scene_00019/scan_00183/00019_00183_indoors_000_010.png             1024x768; also outdoor
    root/…/indoors/scene_00019/scan_00183/00019_00183_indoors_000_010_depth.npy       (768, 1024, 1) float32 metres
    root/…/indoors/scene_00019/scan_00183/00019_00183_indoors_000_010_depth_mask.npy  (768, 1024), 1 where measured

Depth without its mask is wrong at every edge, where the laser averaged two returns, so the mask is required. Published
code disagrees about the camera, so none is given. Ids are indoors/scene_00019/scan_00183/NAME; `part` groups into
indoors and outdoor, `folder` by scan.
"""

from pathlib import Path

import numpy as np

from sonde.datasets.pairs import ImageDepthPair, PairSet, Size, pair_by_name
from sonde.files import list_files, reading
from sonde.files.npy import open_npy
from sonde.types import DepthArray, MatrixArray

LIMITS = (0.0, 350.0)
"""Metres: how far the laser reaches."""

PARTS = ("indoors", "outdoor")


def open_diode(root: Path) -> PairSet:
    """The captures of both parts, or of the part that is present."""
    found = list_files(root, (".png", ".npy"))
    files = [path for path in found.match("scene_*/scan_*/*") if path.absolute().parts[-4] in PARTS]
    images = [path for path in files if path.suffix == ".png"]
    depths = [path for path in files if path.name.endswith("_depth.npy")]
    pairs, problems = pair_by_name(images, depths, _name_capture)
    problems = [*found.problems, *problems]
    groupings = {"part": {pair.id: pair.id.partition("/")[0] for pair in pairs}}
    return PairSet(
        "diode", root, pairs, decode_measured, "m", LIMITS, problems, groupings=groupings, beside=_list_beside
    )


def decode_measured(path: Path, size: Size) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in metres, 0 where the mask says that nothing was measured; no intrinsics."""
    mask = _mask_path(path)
    with reading(path, "download it again; expected a float map of shape (h, w, 1)"):
        depth = open_npy(path).reshape(size)
    with reading(mask, "every depth map of DIODE has a mask beside it; download the mask too"):
        return np.where(open_npy(mask).reshape(size) > 0, depth, 0).astype(np.float32), None


def _list_beside(pair: ImageDepthPair) -> tuple[Path, ...]:
    return (_mask_path(pair.depth),)


def _mask_path(depth: Path) -> Path:
    return depth.with_name(depth.name.replace("_depth.npy", "_depth_mask.npy"))


def _name_capture(path: Path) -> str:
    return "/".join([*path.absolute().parts[-4:-1], path.stem.removesuffix("_depth")])
