"""BlendedMVS and BlendedMVG (Yao et al., 2020): photographs blended with renders of their own reconstruction.

    root/…/PID/blended_images/00000000.jpg       768x576 or 2048x1536; 00000000_masked.jpg is ignored
    root/…/PID/rendered_depth_maps/00000000.pfm  float32, 0 where the mesh has a hole or ends, as in the sky
    root/…/PID/cams/00000000_cam.txt             optional: "extrinsic" and 4 rows, "intrinsic" and 3 rows, depth range

A reconstruction from photographs has no metric scale: depth is correct up to one scale per project (`space` is `scale`,
the unit is only nominal), so train on it only with losses that ignore scale. The mesh may be missing from a whole view:
such a map has no depth, and `sonde data check` names it.
"""

import math
from pathlib import Path

import numpy as np

from sonde.datasets.pairs import ImageDepthPair, PairSet, Size, pair_by_name
from sonde.files import is_camera, list_files, read_depth, read_text, reading
from sonde.types import DepthArray, MatrixArray

LIMITS = (0.0, math.inf)
"""In the unit of each project."""


def open_blendedmvs(root: Path) -> PairSet:
    """The unmasked images of every project below `root`."""
    found = list_files(root, (".jpg", ".pfm"))
    blended = (path for path in found.match("blended_images/*.jpg") if not path.stem.endswith("_masked"))
    pairs, problems = pair_by_name(blended, found.match("rendered_depth_maps/*.pfm"), _name_capture)
    problems = [*found.problems, *problems]
    return PairSet(
        "blendedmvs", root, pairs, decode_rendered, "m", LIMITS, problems, space="scale", beside=_list_beside
    )


def decode_rendered(path: Path, size: Size) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in the project's unit, 0 where there is no mesh; and the intrinsics if the camera file exists."""
    camera = _camera_path(path)
    return read_depth(path), _read_camera(camera) if camera.is_file() else None


def _list_beside(pair: ImageDepthPair) -> tuple[Path, ...]:
    return (_camera_path(pair.depth),)


def _camera_path(depth: Path) -> Path:
    return depth.parents[1] / "cams" / f"{depth.stem}_cam.txt"


def _name_capture(path: Path) -> str:
    return f"{path.absolute().parents[1].name}/{path.stem}"


def _read_camera(path: Path) -> MatrixArray:
    with reading(path, "expected the word intrinsic and the three rows of the matrix"):
        words = read_text(path).split()
        start = words.index("intrinsic") + 1
        matrix = np.array(words[start : start + 9], dtype=np.float64).reshape(3, 3)
        if not is_camera(matrix):
            raise ValueError("it is not a camera matrix")
        return matrix
