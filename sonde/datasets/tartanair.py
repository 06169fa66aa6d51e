"""TartanAir (Wang et al., 2020) and TartanAir V2: rendered flights, depth in metres.

    root/…/ENV/Easy/P000/image_left/000000_left.png        640x480, also Hard, also image_right
    root/…/ENV/Easy/P000/depth_left/000000_left_depth.npy  float32

    root/…/ENV/Data_easy/P000/image_lcam_front/000000_lcam_front.png        640x640; six directions of lcam and rcam
    root/…/ENV/Data_easy/P000/depth_lcam_front/000000_lcam_front_depth.png  its four bytes BGRA are one float32

The field of view of both is 90 degrees wide: the focal length is half the image's width, and the principal point is at
half its width and height (`data_type.md` of tartanair_tools; "Modalities" in V2's documentation). The sky is a sphere
at about 10 km: depth beyond 1000 m is not trusted.

Ids are ENV/…/P000/000000_left, so splitting by folder keeps the cameras of one flight in the same part.
"""

from pathlib import Path

import numpy as np

from sonde.datasets.pairs import PairSet, Size, pair_by_name
from sonde.files import Listing, list_files, read_depth, reading
from sonde.files.images import open_image
from sonde.types import DepthArray, MatrixArray

LIMITS = (0.0, 1000.0)
"""Metres; the sky is farther."""

DIRECTIONS = ("front", "back", "left", "right", "top", "bottom")
CAMERAS = ("left", "right", *(f"{side}cam_{direction}" for side in "lr" for direction in DIRECTIONS))
"""The pinhole cameras; V2's fisheye and panoramic images are ignored."""


def open_tartanair(root: Path) -> PairSet:
    """The frames of every flight and camera below `root`."""
    found = list_files(root, (".npy", ".png"))
    images = _match_role(found, "image", (".png",))
    depths = _match_role(found, "depth", (".npy", ".png"))
    pairs, problems = pair_by_name(images, depths, lambda path: _name_capture(root, path))
    return PairSet("tartanair", root, pairs, decode_metres, "m", LIMITS, [*found.problems, *problems])


def decode_metres(path: Path, size: Size) -> tuple[DepthArray, MatrixArray | None]:
    """Depth in metres, and the intrinsics at the map's size."""
    depth = read_depth(path) if path.suffix == ".npy" else _read_packed(path)
    height, width = depth.shape
    focal = width / 2
    return depth, np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def _match_role(found: Listing, role: str, suffixes: tuple[str, ...]) -> list[Path]:
    folders = {f"{role}_{camera}" for camera in CAMERAS}
    paths = found.match(f"{role}_*/[0-9]*")
    return [path for path in paths if path.parent.name in folders and path.suffix in suffixes]


def _name_capture(root: Path, path: Path) -> str:
    return (path.relative_to(root).parents[1] / path.stem.removesuffix("_depth")).as_posix()


def _read_packed(path: Path) -> DepthArray:
    with reading(path, "download it again; expected a PNG whose four 8-bit channels are one float32"):
        with path.open("rb") as file, open_image(file) as image:
            if image.mode != "RGBA":
                raise ValueError(f"its pixels are {image.mode}")
            red, green, blue, alpha = np.moveaxis(np.asarray(image), -1, 0)
        return np.stack([blue, green, red, alpha], axis=-1).view("<f4")[..., 0].astype(np.float32)
