"""DrivingStereo (Yang et al., 2019): left-image-*/DRIVE/NAME.jpg with depth-map-*/DRIVE/NAME.png, metres = level / 256.

Level 0 and levels above 65500 are no depth. Half-size folders are taken first, then full-size, then the names of the
published archives (train-left-image). The subsets by weather, ROOT/sunny/left-image-half-size and so on for cloudy,
foggy and rainy, are read together and grouped by `weather`; any one of them is a root by itself too.

Published files are named DRIVE_TIME, in a folder per drive or, as test and weather sets are, in none. Ids are
DRIVE/DRIVE_TIME either way, so that splitting by folder keeps a drive on one side.

Intrinsics are those of ROOT/…/half-image-calib/DRIVE.txt (for full-size images, full-image-calib) where it is there,
else of an optional intrinsics.txt in the root.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from sonde.datasets.kitti import Rectified, read_rectified
from sonde.datasets.pairs import PairSet, Size, decode_levels, named, one_camera, paired
from sonde.files import IMAGE_SUFFIXES
from sonde.types import DepthArray, MatrixArray

LIMITS = (0.0, 80.0)
"""Metres: the field scores driving up to 80 m."""

FOLDERS = (
    ("left-image-half-size", "depth-map-half-size"),
    ("left-image-full-size", "depth-map-full-size"),
    ("train-left-image", "train-depth-map"),
    ("test-left-image", "test-depth-map"),
)
WEATHERS = ("sunny", "cloudy", "foggy", "rainy")

LEFT = "101"
"""The left camera in calibration files."""

DATED = re.compile(r"(\d{4}(?:-\d\d){5})_.+")
"""A published name, which begins with its drive: 2018-07-11-14-48-52_2018-07-11-14-50-08-769."""

Place = tuple[str, Path, Path]
"""Weather, or nothing; folder of left images; folder of depth maps."""


def open_driving_stereo(root: Path) -> PairSet:
    """The frames of every drive below `root`.

    Raises:
        ValueError: none of the pairs of folders is there, or a calibration file that is none.
    """
    places = _places(root)
    if not places or not all(depth.is_dir() for _, _, depth in places):
        expected = " or ".join(" with ".join(pair) for pair in FOLDERS)
        raise ValueError(
            f"{root} is no DrivingStereo set: expected {expected}, each with one folder per drive; or the first pair "
            f"in folders {', '.join(WEATHERS)}."
        )
    images, twice = _collected([left for _, left, _ in places], IMAGE_SUFFIXES)
    depths, again = _collected([depth for _, _, depth in places], (".png",))
    pairs, problems = paired(images, depths)
    tables = _calibrations(root, "full" if "full" in places[0][1].name else "half")
    note, intrinsics = one_camera(root)
    cameras = {drive: read_rectified(path, LEFT) for drive, path in tables.items()}
    decode = partial(decode_drive, cameras=cameras, otherwise=intrinsics)
    weathers = {pair.id: next(name for name, left, _ in places if left in pair.image.parents) for pair in pairs}
    return PairSet(
        "driving_stereo", root, pairs, decode, "m", LIMITS, [*twice, *again, *problems], (*note, *tables.values()),
        groupings={"weather": weathers} if places[0][0] else {},
    )  # fmt: skip


def decode_drive(
    path: Path, size: Size, *, cameras: Mapping[str, Rectified], otherwise: MatrixArray | None
) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in metres, and the camera of its drive at the map's size, or else the one of all."""
    depth, _ = decode_levels(path, size, levels_per_unit=256.0, last=65500)
    known = cameras.get(_drive(path))
    return depth, otherwise if known is None else known.at((depth.shape[0], depth.shape[1]))


def _places(root: Path) -> list[Place]:
    """Where images and depth lie: in the root, or in folders of weathers, which archives may hold twice."""
    if here := _pair(root):
        return [("", *here)]
    folders = [(weather, root / path) for weather in WEATHERS for path in (weather, f"{weather}/{weather}")]
    return [(weather, *pair) for weather, folder in folders if (pair := _pair(folder))]


def _pair(folder: Path) -> tuple[Path, Path] | None:
    found = ((folder / left, folder / depth) for left, depth in FOLDERS if (folder / left).is_dir())
    return next(found, None)


def _collected(folders: Iterable[Path], suffixes: tuple[str, ...]) -> tuple[dict[str, Path], list[str]]:
    """Files below the folders by capture id, and a line for each id held twice."""
    names = {
        path: _name(folder, path)
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and path.name[0] != "."
    }
    return named(names, names.__getitem__)


def _name(folder: Path, path: Path) -> str:
    if DATED.fullmatch(path.stem):
        return f"{_drive(path)}/{path.stem}"
    return path.relative_to(folder).with_suffix("").as_posix()


def _drive(path: Path) -> str:
    """What a published name begins with; else the folder."""
    dated = DATED.fullmatch(path.stem)
    return dated[1] if dated else path.parent.name


def _calibrations(root: Path, size: str) -> dict[str, Path]:
    """Drive -> its calibration file."""
    found = (path for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}{size}-image-calib/*.txt"))
    return {path.stem: path for path in sorted(found)}
