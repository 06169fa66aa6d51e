"""KITTI (Geiger et al., 2013) with annotated depth (Uhrig et al., 2017): real drives, 16-bit depth, level / 256 m.

    root/…/2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000005.png    raw, synced; .jpg too; also image_03
    root/…/2011_09_26/calib_cam_to_cam.txt                                       optional: P_rect_02 and P_rect_03
    root/…/train/2011_09_26_drive_0001_sync/proj_depth/groundtruth/image_02/0000000005.png    also val, or merged

Drives may lie up to three folders deep, so that raw and annotated archives are unpacked into one folder or side by
side. Frames without annotated depth are normal (the first and last five of each drive have none), and so are drives
whose images were not fetched: neither is a capture. Where there are no images of drives, the depth benchmark's own
selection is read, whose frames are cut already:

    root/…/val_selection_cropped/image/2011_09_26_drive_0002_sync_image_0000000005_image_02.png
    root/…/val_selection_cropped/groundtruth_depth/2011_09_26_drive_0002_sync_groundtruth_depth_0000000005_image_02.png
    root/…/val_selection_cropped/intrinsics/2011_09_26_drive_0002_sync_image_0000000005_image_02.txt      optional

Ids are 2011_09_26/2011_09_26_drive_0001_sync/image_02/0000000005, and `folder` groups both cameras of a drive.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np

from sonde.datasets.contract import Capture
from sonde.datasets.pairs import Decode, ImageDepthPair, PairSet, Size, decode_levels, named, nothing, paired
from sonde.files import read_intrinsics, reading
from sonde.geometry import crop_intrinsics, scale_intrinsics
from sonde.types import DepthArray, MatrixArray

LIMITS = (0.0, 80.0)
"""Metres: the field scores KITTI up to 80 m."""

KB_SIZE = (352, 1216)
"""(height, width) that the field cuts KITTI's frames to: the bottom, and the middle across."""

LEVELS_PER_METRE = 256.0
CAMERAS = {"image_02": "02", "image_03": "03"}
"""Folder of the two colour cameras -> their number in calib_cam_to_cam.txt."""

DRIVE = re.compile(r"\d{4}_\d\d_\d\d_drive_\d{4}_sync")
SELECTED = re.compile(rf"({DRIVE.pattern})_(?:image|groundtruth_depth)_(\d+)_(image_0[23])")
"""The benchmark's names of image and depth alike."""

EXPECTED = (
    "DATE/DRIVE/image_02/data/NUMBER.png with train/DRIVE/proj_depth/groundtruth/image_02/NUMBER.png, or "
    "val_selection_cropped with image and groundtruth_depth"
)

Frames = tuple[list[ImageDepthPair], list[str]]
"""Sound pairs, and what is wrong."""


class Rectified(NamedTuple):
    """A rectified camera of a calibration file."""

    matrix: MatrixArray
    size: Size
    """(height, width) of the images it is for."""

    def at(self, size: Size) -> MatrixArray:
        """The matrix for images brought to (height, width)."""
        return scale_intrinsics(self.matrix, self.size, size)


@final
@dataclass(frozen=True)
class KBSet(PairSet):
    """A PairSet whose captures are cut as `kb_crop` does, image and depth compared before."""

    def read(self, index: int) -> Capture:
        """The capture's window."""
        return kb_crop(super().read(index))

    def read_depth(self, index: int) -> DepthArray:
        """Its depth alone."""
        return kb_window(super().read_depth(index), self.ids[index])


def open_kitti(root: Path) -> PairSet:
    """The annotated frames below `root`, whole.

    Raises:
        ValueError: none there, or a calib_cam_to_cam.txt that is none.
    """
    return PairSet("kitti", root, **_contents(root))


def open_kitti_kb(root: Path) -> KBSet:
    """The annotated frames below `root`, each cut by `kb_crop`.

    Raises:
        ValueError: as `open_kitti`; when read, a frame smaller than the window.
    """
    return KBSet("kitti_kb", root, **_contents(root))


def kb_crop(capture: Capture) -> Capture:
    """The 352x1216 window of a KITTI capture in which the field trains and scores; image, depth, camera together.

    Its last row is the frame's; top = H - 352, left = int((W - 1216) / 2), as in BTS (Lee et al., 2019).

    Raises:
        ValueError: a capture smaller than the window, or whose depth is of another size than its image.
    """
    if capture.image.shape[:2] != capture.depth.shape:
        raise ValueError(
            f"{capture.id} has depth of another size than its image: the KB crop is for frames of KITTI's."
        )
    image, depth = kb_window(capture.image, capture.id), kb_window(capture.depth, capture.id)
    camera = capture.intrinsics
    if camera is not None:
        camera = crop_intrinsics(camera, *_corner(capture.depth, capture.id))
    return Capture(capture.id, image, depth, kb_window(capture.mask, capture.id), camera)


def kb_window(pixels: np.ndarray, name: str) -> np.ndarray:
    """The window alone, of (h, w, ...) pixels; `name` stands for them in the error."""
    top, left = _corner(pixels, name)
    return pixels[top : top + KB_SIZE[0], left : left + KB_SIZE[1]]


def decode_annotated(
    path: Path, size: Size, *, cameras: Mapping[str, Rectified]
) -> tuple[DepthArray, MatrixArray | None]:
    """A drive's depth in metres, 0 where not annotated, and the camera by `cameras`: DATE/image_02 -> camera."""
    drive, _, _, camera, _ = path.parts[-5:]
    depth, _ = decode_levels(path, size, levels_per_unit=LEVELS_PER_METRE)
    known = cameras.get(f"{drive[:10]}/{camera}")
    return depth, None if known is None else known.at((depth.shape[0], depth.shape[1]))


def decode_selected(path: Path, size: Size) -> tuple[DepthArray, MatrixArray | None]:
    """The same of the benchmark's selection, with the camera in the file beside it."""
    file = _camera_of(path)
    camera = read_intrinsics(file) if file.is_file() else None
    return decode_levels(path, size, levels_per_unit=LEVELS_PER_METRE, intrinsics=camera)


def read_rectified(path: Path, camera: str) -> Rectified:
    """One camera of a calibration file in KITTI's form: `S_rect_02: width height`, `P_rect_02:` 3 x 4 numbers.

    Raises:
        ValueError: absent, or without these lines.
    """
    with reading(path, f"expected the lines S_rect_{camera} of 2 numbers and P_rect_{camera} of 12"):
        fields = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        width, height = map(float, fields[f"S_rect_{camera}"].split())
        projection = np.array(fields[f"P_rect_{camera}"].split(), dtype=np.float64).reshape(3, 4)
        return Rectified(projection[:, :3], (int(height), int(width)))


def _beside(pair: ImageDepthPair) -> tuple[Path, ...]:
    return (_camera_of(pair.depth),)


def _camera_of(depth: Path) -> Path:
    """Where the camera of a map of the selection lies."""
    return depth.parents[1] / "intrinsics" / depth.with_suffix(".txt").name.replace("_groundtruth_depth_", "_image_")


def _corner(pixels: np.ndarray, name: str) -> tuple[int, int]:
    """Top and left of the window."""
    height, width = pixels.shape[:2]
    if height < KB_SIZE[0] or width < KB_SIZE[1]:
        raise ValueError(
            f"{name} is {width}x{height}, smaller than the KB crop of {KB_SIZE[1]}x{KB_SIZE[0]}: "
            "read the set as kitti, or fetch its images at their own size."
        )
    return height - KB_SIZE[0], (width - KB_SIZE[1]) // 2


def _contents(root: Path) -> dict[str, Any]:
    """The fields of a PairSet, of drives or of the benchmark's selection."""
    drives = _drives(root)
    images, twice = named(_images(drives), lambda path: _name(path.parts[-4], path.parts[-3], path.stem))
    depths, again = named(_depths(drives), lambda path: _name(path.parts[-5], path.parts[-2], path.stem))
    if images:
        pairs, problems = _annotated(images, depths)
        tables, cameras = _calibrations(root)
        decode: Decode = partial(decode_annotated, cameras=cameras)
    else:
        (pairs, problems), tables, decode = _selection(root), (), decode_selected
    if not pairs and not problems:
        raise ValueError(
            f"{root} has {len(images)} images and {len(depths)} annotated maps of KITTI's drives, but no two that "
            f"belong together: expected {EXPECTED}."
        )
    return {
        "pairs": pairs, "decode": decode, "unit": "m", "limits": LIMITS, "problems": [*twice, *again, *problems],
        "description": tables, "beside": nothing if images else _beside,
        "groupings": {"folder": {pair.id: pair.id.rsplit("/", 2)[0] for pair in pairs}},
    }  # fmt: skip


def _drives(root: Path) -> list[Path]:
    found = (path for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}*_drive_*_sync"))
    return sorted(path for path in found if DRIVE.fullmatch(path.name))


def _images(drives: Iterable[Path]) -> Iterator[Path]:
    for drive in drives:
        for camera in CAMERAS:
            files = (drive / camera / "data").glob("[0-9]*")
            yield from (path for path in files if path.suffix.lower() in (".png", ".jpg"))


def _depths(drives: Iterable[Path]) -> Iterator[Path]:
    for drive in drives:
        for camera in CAMERAS:
            yield from (drive / "proj_depth" / "groundtruth" / camera).glob("[0-9]*.png")


def _name(drive: str, camera: str, number: str) -> str:
    return f"{drive[:10]}/{drive}/{camera}/{number}"


def _annotated(images: Mapping[str, Path], depths: Mapping[str, Path]) -> Frames:
    """Only annotated images count, and only annotations of a drive and camera whose images are there."""
    fetched = {name.rpartition("/")[0] for name in images}
    wanted = {name: path for name, path in depths.items() if name.rpartition("/")[0] in fetched}
    return paired({name: path for name, path in images.items() if name in wanted}, wanted)


def _selection(root: Path) -> Frames:
    places = [root, *(path for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}val_selection_cropped"))]
    folder = next((path for path in places if (path / "groundtruth_depth").is_dir()), None)
    if folder is None:
        return [], []
    images, twice = named((folder / "image").glob("*_drive_*_image_0[23].png"), _selected)
    depths, again = named((folder / "groundtruth_depth").glob("*_drive_*_image_0[23].png"), _selected)
    pairs, problems = paired(images, depths)
    return pairs, [*twice, *again, *problems]


def _selected(path: Path) -> str:
    match = SELECTED.fullmatch(path.stem)
    return path.stem if match is None else _name(match[1], match[3], match[2])


def _calibrations(root: Path) -> tuple[tuple[Path, ...], dict[str, Rectified]]:
    """Every calib_cam_to_cam.txt, and its cameras by DATE/image_02."""
    tables = sorted(path for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}calib_cam_to_cam.txt"))
    return tuple(tables), {
        f"{path.absolute().parent.name}/{folder}": read_rectified(path, number)
        for path in tables
        for folder, number in CAMERAS.items()
    }
