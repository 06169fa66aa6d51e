"""MPI Sintel (Butler et al., 2012) with depth: an animated film, rendered again with its true geometry.

    root/…/training/final/alley_1/frame_0001.png          1024x436, with motion blur and haze
    root/…/training/depth/alley_1/frame_0001.dpt          a tag, width, height, float32 metres
    root/…/training/camdata_left/alley_1/frame_0001.cam   optional: a tag, 3x3 float64 intrinsics, 3x4 extrinsics

The archives of film, depth and cameras may be unpacked side by side. Frames of the test set have no depth and are
ignored. Skies and backdrops are painted kilometres away: do not score depth beyond about 70 m. Ids are
alley_1/frame_0001.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from sonde.datasets.pairs import PairSet, Size, pair_by_name
from sonde.files import list_files, reading
from sonde.files.claims import count_rest
from sonde.files.netpbm import check_claim
from sonde.types import DepthArray, MatrixArray

LIMITS = (0.0, 1000.0)
"""Metres."""

TAG = np.float32(202021.25)
"""The first number of every binary file of the set."""

REMEDY = "download it again; expected the tag 202021.25 and what the set's sintel_io.py reads"


def open_sintel(root: Path) -> PairSet:
    """The final pass of every training scene below `root`."""
    found = list_files(root, (".png", ".dpt", ".cam"))
    frames = (path for path in found.match("final/*/frame_*.png") if path.absolute().parts[-4] != "test")
    pairs, problems = pair_by_name(frames, found.match("depth/*/frame_*.dpt"), _name_capture)
    cameras = {_name_capture(path): path for path in found.match("camdata_left/*/frame_*.cam")}
    decode = partial(decode_frame, cameras=cameras)
    return PairSet("sintel", root, pairs, decode, "m", LIMITS, [*found.problems, *problems], tuple(cameras.values()))


def decode_frame(path: Path, size: Size, *, cameras: Mapping[str, Path]) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in metres, and the intrinsics if `cameras`, id -> file, has the frame."""
    camera = cameras.get(_name_capture(path))
    return read_dpt(path), None if camera is None else read_cam(camera)


def read_dpt(path: Path) -> DepthArray:
    """Depth in metres, (h, w) float32.

    Raises:
        ValueError: the file is missing or of another format.
    """
    with reading(path, REMEDY):
        with path.open("rb") as file:
            head = file.read(12)
            _check_tag(head)
            width, height = map(int, np.frombuffer(head, "<i4", 2, offset=4))
            check_claim(width, height, 4, count_rest(file))
            if count_rest(file) > 4 * width * height:
                raise ValueError(f"its header says {width}x{height}, and it holds more")
            return np.frombuffer(file.read(), "<f4").reshape(height, width).astype(np.float32)


def read_cam(path: Path) -> MatrixArray:
    """The intrinsics, (3, 3) in pixels.

    Raises:
        ValueError: the file is missing or of another format.
    """
    with reading(path, REMEDY):
        with path.open("rb") as file:
            content = file.read(4 + 9 * 8)
        _check_tag(content)
        return np.frombuffer(content, "<f8", 9, offset=4).reshape(3, 3).copy()


def _check_tag(content: bytes) -> None:
    if np.frombuffer(content, "<f4", 1)[0] != TAG:
        raise ValueError("it does not begin with the tag")


def _name_capture(path: Path) -> str:
    return f"{path.parts[-2]}/{path.stem}"
