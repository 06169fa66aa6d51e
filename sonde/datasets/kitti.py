"""KITTI (Geiger et al., 2013) with annotated depth (Uhrig et al., 2017): real drives, 16-bit depth, level / 256 m.

    root/…/2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000005.png    raw, synced; or .jpg; also image_03
    root/…/2011_09_26/calib_cam_to_cam.txt                                       optional: P_rect_02 and P_rect_03
    root/…/train/2011_09_26_drive_0001_sync/proj_depth/groundtruth/image_02/0000000005.png    also val, or merged

Drives may lie up to three folders deep, so raw and annotated archives may be unpacked into one folder or side by side.
Some frames have no annotated depth (the first and last five of each drive), and some drives have no downloaded images:
both are ignored. If there are no images of drives, the depth benchmark's own selection is read; its frames are already
cropped:

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
from typing import NamedTuple, TypeVar, final

import numpy as np

from sonde.datasets.contract import Capture
from sonde.datasets.pairs import (
    Decode,
    ImageDepthPair,
    Pairs,
    PairSet,
    Size,
    decode_levels,
    index_by_name,
    list_nothing,
    match_pairs,
    pair_by_name,
)
from sonde.files import read_intrinsics, read_text, reading
from sonde.geometry import crop_intrinsics, scale_intrinsics
from sonde.renamed import keep_old_names
from sonde.spelling import quantify
from sonde.types import DepthArray, MatrixArray

LIMITS = (0.0, 80.0)
"""Metres: the field scores KITTI up to 80 m."""

KB_SIZE = (352, 1216)
"""(height, width) of the KB crop: the bottom of the frame, centred horizontally."""

LEVELS_PER_METRE = 256.0
CAMERAS = {"image_02": "02", "image_03": "03"}
"""Folder of the two colour cameras -> their number in calib_cam_to_cam.txt."""

DRIVE = re.compile(r"\d{4}_\d\d_\d\d_drive_\d{4}_sync")
SELECTED = re.compile(rf"({DRIVE.pattern})_(?:image|groundtruth_depth)_(\d+)_(image_0[23])")
"""Names in the benchmark's selection, of images and of depth maps."""

EXPECTED = (
    "DATE/DRIVE/image_02/data/NUMBER.png with train/DRIVE/proj_depth/groundtruth/image_02/NUMBER.png, or "
    "val_selection_cropped with image and groundtruth_depth"
)


class RectifiedCamera(NamedTuple):
    """A rectified camera of a calibration file."""

    matrix: MatrixArray
    size: Size
    """(height, width) of the images to which the matrix belongs."""

    def scale_to(self, size: Size) -> MatrixArray:
        """The matrix for images resized to (height, width)."""
        return scale_intrinsics(self.matrix, self.size, size)


S = TypeVar("S", bound=PairSet)


@final
@dataclass(frozen=True)
class KBSet(PairSet):
    """A PairSet whose captures are cropped by `kb_crop`, after the sizes of image and depth are compared."""

    def read(self, index: int) -> Capture:
        """The KB crop of the capture."""
        return kb_crop(super().read(index))

    def read_depth(self, index: int) -> DepthArray:
        """Only the depth of the crop."""
        return cut_kb_window(super().read_depth(index), self.ids[index])


def open_kitti(root: Path) -> PairSet:
    """The annotated frames below `root`, whole.

    Raises:
        ValueError: there are none, or a calib_cam_to_cam.txt cannot be read.
    """
    return _open_as(PairSet, "kitti", root)


def open_kitti_kb(root: Path) -> KBSet:
    """The annotated frames below `root`, each cropped by `kb_crop`.

    Raises:
        ValueError: as in `open_kitti`; and on reading, a frame smaller than the crop.
    """
    return _open_as(KBSet, "kitti_kb", root)


def kb_crop(capture: Capture) -> Capture:
    """The KB crop of a KITTI capture, 352x1216, in which the field trains and scores: image, depth and intrinsics.

    It ends at the last row of the frame; top = H - 352, left = int((W - 1216) / 2), as in BTS (Lee et al., 2019).

    Raises:
        ValueError: the capture is smaller than the crop, or image and depth differ in size.
    """
    if capture.image.shape[:2] != capture.depth.shape:
        raise ValueError(
            f"{capture.id} has depth of another size than its image: the KB crop is only for frames of KITTI."
        )
    image, depth = cut_kb_window(capture.image, capture.id), cut_kb_window(capture.depth, capture.id)
    camera = capture.intrinsics
    if camera is not None:
        camera = crop_intrinsics(camera, *_find_corner(capture.depth, capture.id))
    return Capture(capture.id, image, depth, cut_kb_window(capture.mask, capture.id), camera)


def cut_kb_window(pixels: np.ndarray, name: str) -> np.ndarray:
    """The KB crop of (h, w, ...) pixels; `name` identifies them in the error."""
    top, left = _find_corner(pixels, name)
    return pixels[top : top + KB_SIZE[0], left : left + KB_SIZE[1]]


def decode_annotated(
    path: Path, size: Size, *, cameras: Mapping[str, RectifiedCamera]
) -> tuple[DepthArray, MatrixArray | None]:
    """Depth of a drive in metres, 0 where not annotated; and the intrinsics from `cameras`: DATE/image_02 -> camera."""
    drive, _, _, camera, _ = path.parts[-5:]
    depth, _ = decode_levels(path, size, levels_per_unit=LEVELS_PER_METRE)
    known = cameras.get(f"{drive[:10]}/{camera}")
    return depth, None if known is None else known.scale_to((depth.shape[0], depth.shape[1]))


def decode_selected(path: Path, size: Size) -> tuple[DepthArray, MatrixArray | None]:
    """Depth of the benchmark's selection in metres; and the intrinsics if their file exists."""
    file = _camera_path(path)
    camera = read_intrinsics(file) if file.is_file() else None
    return decode_levels(path, size, levels_per_unit=LEVELS_PER_METRE, intrinsics=camera)


def read_rectified(path: Path, camera: str) -> RectifiedCamera:
    """One camera of a calibration file in KITTI's format: `S_rect_02: width height`, `P_rect_02:` 3 x 4 numbers.

    Raises:
        ValueError: the file is missing or lacks these lines.
    """
    with reading(path, f"expected the lines S_rect_{camera} of 2 numbers and P_rect_{camera} of 12"):
        fields = dict(line.split(":", 1) for line in read_text(path).splitlines() if ":" in line)
        width, height = map(float, fields[f"S_rect_{camera}"].split())
        projection = np.array(fields[f"P_rect_{camera}"].split(), dtype=np.float64).reshape(3, 4)
        return RectifiedCamera(projection[:, :3], (int(height), int(width)))


def _list_beside(pair: ImageDepthPair) -> tuple[Path, ...]:
    return (_camera_path(pair.depth),)


def _camera_path(depth: Path) -> Path:
    """The file with the intrinsics of a depth map of the benchmark's selection."""
    return depth.parents[1] / "intrinsics" / depth.with_suffix(".txt").name.replace("_groundtruth_depth_", "_image_")


def _find_corner(pixels: np.ndarray, name: str) -> tuple[int, int]:
    """Top and left of the KB crop."""
    height, width = pixels.shape[:2]
    if height < KB_SIZE[0] or width < KB_SIZE[1]:
        raise ValueError(
            f"{name} is {width}x{height}, smaller than the KB crop of {KB_SIZE[1]}x{KB_SIZE[0]}: "
            "read the set as kitti, or download its images at their original size."
        )
    return height - KB_SIZE[0], (width - KB_SIZE[1]) // 2


def _open_as(kind: type[S], layout: str, root: Path) -> S:
    """A set of the drives below `root` or, without images of drives, of the benchmark's selection."""
    drives = _find_drives(root)
    images, twice = index_by_name(
        _list_images(drives), lambda path: _name_capture(path.parts[-4], path.parts[-3], path.stem)
    )
    depths, again = index_by_name(
        _list_depths(drives), lambda path: _name_capture(path.parts[-5], path.parts[-2], path.stem)
    )
    if images:
        pairs, problems = _pair_annotated(images, depths)
        tables, cameras = _read_calibrations(root)
        decode: Decode = partial(decode_annotated, cameras=cameras)
    else:
        (pairs, problems), tables, decode = _pair_selection(root), (), decode_selected
    if not pairs and not problems:
        raise ValueError(
            f"{root} has {quantify(len(images), 'image')} and {quantify(len(depths), 'annotated map')} of KITTI's "
            f"drives, but no pair of both: "
            f"expected {EXPECTED}."
        )
    return kind(
        layout,
        root,
        pairs,
        decode,
        "m",
        LIMITS,
        [*twice, *again, *problems],
        tables,
        beside=list_nothing if images else _list_beside,
        groupings={"folder": {pair.id: pair.id.rsplit("/", 2)[0] for pair in pairs}},
    )


def _find_drives(root: Path) -> list[Path]:
    found = (path for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}*_drive_*_sync"))
    return sorted(path for path in found if DRIVE.fullmatch(path.name))


def _list_images(drives: Iterable[Path]) -> Iterator[Path]:
    for drive in drives:
        for camera in CAMERAS:
            files = (drive / camera / "data").glob("[0-9]*")
            yield from (path for path in files if path.suffix.lower() in (".png", ".jpg"))


def _list_depths(drives: Iterable[Path]) -> Iterator[Path]:
    for drive in drives:
        for camera in CAMERAS:
            yield from (drive / "proj_depth" / "groundtruth" / camera).glob("[0-9]*.png")


def _name_capture(drive: str, camera: str, number: str) -> str:
    return f"{drive[:10]}/{drive}/{camera}/{number}"


def _pair_annotated(images: Mapping[str, Path], depths: Mapping[str, Path]) -> Pairs:
    """Pairs of images with annotated depth; annotations of a drive and camera without images are ignored."""
    fetched = {name.rpartition("/")[0] for name in images}
    wanted = {name: path for name, path in depths.items() if name.rpartition("/")[0] in fetched}
    return match_pairs({name: path for name, path in images.items() if name in wanted}, wanted)


def _pair_selection(root: Path) -> Pairs:
    """Pairs of the first val_selection_cropped at or below `root`."""
    places = [root, *(path for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}val_selection_cropped"))]
    folder = next((path for path in places if (path / "groundtruth_depth").is_dir()), None)
    if folder is None:
        return [], []
    images, depths = (folder / role for role in ("image", "groundtruth_depth"))
    pattern = "*_drive_*_image_0[23].png"
    return pair_by_name(images.glob(pattern), depths.glob(pattern), _name_selected)


def _name_selected(path: Path) -> str:
    match = SELECTED.fullmatch(path.stem)
    return path.stem if match is None else _name_capture(match[1], match[3], match[2])


def _read_calibrations(root: Path) -> tuple[tuple[Path, ...], dict[str, RectifiedCamera]]:
    """Every calib_cam_to_cam.txt, and the cameras in them by DATE/image_02."""
    tables = sorted(path for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}calib_cam_to_cam.txt"))
    return tuple(tables), {
        f"{path.absolute().parent.name}/{folder}": read_rectified(path, number)
        for path in tables
        for folder, number in CAMERAS.items()
    }


keep_old_names(__name__, {"Rectified": "RectifiedCamera", "kb_window": "cut_kb_window"})
