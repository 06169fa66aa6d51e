"""DrivingStereo (Yang et al., 2019): left-image-*/DRIVE/NAME.jpg with depth-map-*/DRIVE/NAME.png, metres = level / 256.

Level 0 and levels above 65500 are no depth. Half-size folders are preferred, then full-size ones, then the names of the
published archives (train-left-image). The subsets by weather, ROOT/sunny/left-image-half-size and likewise cloudy,
foggy and rainy, are read together and grouped by `weather`; each of them also works as a root.

Published files are named DRIVE_TIME. Training files lie in one folder per drive, test and weather files do not. Ids are
DRIVE/DRIVE_TIME in both cases, so splitting by folder keeps a drive in the same part.

Intrinsics come from ROOT/…/half-image-calib/DRIVE.txt (full-image-calib for full-size images) if it exists, else from
an optional intrinsics.txt in the root.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from sonde.datasets.kitti import RectifiedCamera, read_rectified
from sonde.datasets.pairs import PairSet, Size, decode_levels, index_by_name, match_pairs, read_one_camera
from sonde.files import IMAGE_SUFFIXES, list_files
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
"""A published name begins with its drive: 2018-07-11-14-48-52_2018-07-11-14-50-08-769."""

Place = tuple[str, Path, Path]
"""(weather or an empty string, folder of left images, folder of depth maps)."""


def open_driving_stereo(root: Path) -> PairSet:
    """The frames of every drive below `root`.

    Raises:
        ValueError: none of the pairs of folders exists, or a calibration file cannot be read.
    """
    places = _find_places(root)
    if not places or not all(depth.is_dir() for _, _, depth in places):
        expected = " or ".join(" with ".join(pair) for pair in FOLDERS)
        raise ValueError(
            f"{root} is not a DrivingStereo set: expected {expected}, each with one folder per drive; or the first "
            f"pair in the folders {', '.join(WEATHERS)}."
        )
    images, twice = _collect([left for _, left, _ in places], IMAGE_SUFFIXES)
    depths, again = _collect([depth for _, _, depth in places], (".png",))
    pairs, problems = match_pairs(images, depths)
    tables = _find_calibrations(root, "full" if "full" in places[0][1].name else "half")
    note, intrinsics = read_one_camera(root)
    cameras = {drive: read_rectified(path, LEFT) for drive, path in tables.items()}
    decode = partial(decode_drive, cameras=cameras, otherwise=intrinsics)
    weathers = {pair.id: next(name for name, left, _ in places if left in pair.image.parents) for pair in pairs}
    return PairSet(
        "driving_stereo",
        root,
        pairs,
        decode,
        "m",
        LIMITS,
        [*twice, *again, *problems],
        (*note, *tables.values()),
        groupings={"weather": weathers} if places[0][0] else {},
    )


def decode_drive(
    path: Path, size: Size, *, cameras: Mapping[str, RectifiedCamera], otherwise: MatrixArray | None
) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in metres; and the intrinsics of its drive at the map's size, or `otherwise` if `cameras` has none."""
    depth, _ = decode_levels(path, size, levels_per_unit=256.0, last=65500)
    known = cameras.get(_name_drive(path))
    return depth, otherwise if known is None else known.scale_to((depth.shape[0], depth.shape[1]))


def _find_places(root: Path) -> list[Place]:
    """Folders of images and depth: in the root, or in folders by weather. An archive may nest that folder in itself."""
    here = _find_pair(root)
    if here is not None:
        return [("", *here)]
    folders = [(weather, root / path) for weather in WEATHERS for path in (weather, f"{weather}/{weather}")]
    pairs = [(weather, _find_pair(folder)) for weather, folder in folders]
    return [(weather, *pair) for weather, pair in pairs if pair is not None]


def _find_pair(folder: Path) -> tuple[Path, Path] | None:
    """The first of FOLDERS whose images exist."""
    found = ((folder / left, folder / depth) for left, depth in FOLDERS if (folder / left).is_dir())
    return next(found, None)


def _collect(folders: Iterable[Path], suffixes: tuple[str, ...]) -> tuple[dict[str, Path], list[str]]:
    """Files below the folders by capture id, and a line for each duplicate id."""
    names = {path: _name_capture(folder, path) for folder in folders for path in _list_frames(folder, suffixes)}
    return index_by_name(names, names.__getitem__)


def _list_frames(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    listing = list_files(folder, suffixes)
    return [*(folder / name for name in listing.wanted), *listing.closed]


def _name_capture(folder: Path, path: Path) -> str:
    if DATED.fullmatch(path.stem):
        return f"{_name_drive(path)}/{path.stem}"
    return path.relative_to(folder).with_suffix("").as_posix()


def _name_drive(path: Path) -> str:
    """The start of a published name; the folder for other names."""
    dated = DATED.fullmatch(path.stem)
    return dated[1] if dated else path.parent.name


def _find_calibrations(root: Path, size: str) -> dict[str, Path]:
    """Drive -> its calibration file, up to two folders deep."""
    found = (path for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}{size}-image-calib/*.txt"))
    return {path.stem: path for path in sorted(found)}
