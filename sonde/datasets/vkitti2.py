"""Virtual KITTI 2 (Cabon et al., 2020): rendered drives, 16-bit depth in centimetres.

    root/…/Scene01/15-deg-left/frames/rgb/Camera_0/rgb_00000.jpg      1242x375
    root/…/Scene01/15-deg-left/frames/depth/Camera_0/depth_00000.png
    root/…/Scene01/15-deg-left/intrinsic.txt      optional: frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]

The archives of colour, depth and text may be unpacked into one folder or side by side. Depth is valid up to and
including 80 m, unless `max_depth` is set. Level 65535 is the sky and everything else beyond 655.35 m; it is never
trusted.

Ids are SCENE/CONDITION_CAMERA_FRAME. The ten conditions and two cameras of a scene show one place, so splitting by
folder keeps them in the same part.
"""

from functools import partial
from pathlib import Path

import numpy as np

from sonde.datasets.pairs import PairSet, Size, decode_levels, pair_by_name
from sonde.files import is_camera, list_files, read_text, reading
from sonde.types import DepthArray, MatrixArray

LIMITS = (0.0, 80.00001)
"""Metres. The upper limit is the next float32 after 80, because 80 itself is valid."""

CAMERA = (725.0087, 725.0087, 620.5, 187.0)
"""fx fy cx cy of every published frame, in pixels."""

COLUMNS = "frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]"

Cameras = dict[str, tuple[float, float, float, float]]
"""Capture id -> fx fy cx cy, for frames whose intrinsics differ from CAMERA."""


def open_vkitti2(root: Path) -> PairSet:
    """The frames of every scene, condition and camera below `root`.

    Raises:
        ValueError: an intrinsic.txt is not a table of intrinsics.
    """
    found = list_files(root, (".jpg", ".png", ".txt"))
    images = found.match("Scene*/*/frames/rgb/Camera_*/rgb_*.jpg")
    depths = found.match("Scene*/*/frames/depth/Camera_*/depth_*.png")
    pairs, problems = pair_by_name(images, depths, _name_capture)
    tables = sorted(found.match("Scene*/*/intrinsic.txt"))
    cameras: Cameras = {}
    for table in tables:
        cameras |= _read_table(table)
    decode = partial(decode_centimetres, cameras=cameras)
    return PairSet("vkitti2", root, pairs, decode, "m", LIMITS, [*found.problems, *problems], tuple(tables))


def decode_centimetres(path: Path, size: Size, *, cameras: Cameras) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in metres, 0 in the sky; and the intrinsics of the frame, which are CAMERA if `cameras` has none."""
    fx, fy, cx, cy = cameras.get(_name_capture(path), CAMERA)
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    return decode_levels(path, size, levels_per_unit=100.0, last=65534, intrinsics=matrix)


def _name_capture(path: Path) -> str:
    """`Scene01/15-deg-left_Camera_0_00000` for both colour and depth."""
    scene, condition, _, _, camera, file = path.parts[-6:]
    return f"{scene}/{condition}_{camera}_{Path(file).stem.rpartition('_')[2]}"


def _read_table(path: Path) -> Cameras:
    """The rows of an intrinsic.txt that differ from CAMERA."""
    scene, condition, _ = path.parts[-3:]
    cameras: Cameras = {}
    with reading(path, f"expected the columns {COLUMNS}"):
        rows = [line.split() for line in read_text(path).splitlines()[1:] if line.strip()]
        for frame, camera, *numbers in rows:
            fx, fy, cx, cy = map(float, numbers)
            if not is_camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])):
                raise ValueError(f"frame {frame}: {' '.join(numbers)} is no camera")
            if (fx, fy, cx, cy) != CAMERA:
                cameras[f"{scene}/{condition}_Camera_{camera}_{int(frame):05}"] = fx, fy, cx, cy
    return cameras
