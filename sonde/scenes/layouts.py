"""How a render is written: each family in the layout of the real set it stands for.

A layout names picture `index`'s two files, and turns depth into the array its depth file holds. The depth is written
last, so that a depth file means a whole pair.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt16

from sonde.files import atomic_write, read_json
from sonde.files.cameras import write_intrinsics
from sonde.geometry import SKY
from sonde.spelling import shorten
from sonde.types import DepthArray, MatrixArray, RGBArray, XYZArray

PER_FOLDER = 250
"""The most renders in one scene or drive folder; so many hold all folders of a set whose card does not say it."""
FOLDERS = 20
"""Scenes or drives of a set whose folders are not full: whole ones can then be held out, as of a real set."""
QUALITY = 92
"""Of JPEG pictures."""
SAME = ("format", "family", "seed", "size", "rigs", "photographs")
"""What all renders of one folder share."""


class Pair(NamedTuple):
    """Where one render goes."""

    picture: Path
    """Relative to the set's root; .png or .jpg."""
    depth: Path
    """Relative to the set's root; .npy or .png."""
    encode: Callable[[DepthArray, MatrixArray], np.ndarray]
    """Depth in metres and intrinsics -> the array in the depth file."""


def zivid(index: int) -> Pair:
    """images/NAME.png and depth/NAME.npy: (h, w, 3) float32 X, Y, Z in mm, NaN where nothing was seen."""
    name = f"capture_{index:05d}"
    return Pair(Path("images", f"{name}.png"), Path("depth", f"{name}.npy"), xyz_mm)


def nyu(index: int, per_folder: int = PER_FOLDER) -> Pair:
    """The BTS sync layout: SCENE/rgb_NNNNN.jpg and SCENE/sync_depth_NNNNN.png, uint16 mm, 0 where unknown."""
    scene, number = f"scene_{index // per_folder:04d}", f"{index % per_folder:05d}"
    return Pair(Path(scene, f"rgb_{number}.jpg"), Path(scene, f"sync_depth_{number}.png"), _millimetres)


def driving_stereo(index: int, per_folder: int = PER_FOLDER) -> Pair:
    """Half-size folders, DRIVE/NAME in each: uint16 of 1/256 m, 0 where unknown, sky or beyond 250 m."""
    drive, number = f"drive_{index // per_folder:04d}", f"{index % per_folder:06d}"
    left, depth = Path("left-image-half-size", drive), Path("depth-map-half-size", drive)
    return Pair(left / f"{number}.jpg", depth / f"{number}.png", _metres_256)


def folder(index: int) -> Pair:
    """rgb/NAME.jpg and depth/NAME.npy: float32 metres, NaN where unknown; the sky, at SKY, can be learnt from."""
    name = f"{index:06d}"
    return Pair(Path("rgb", f"{name}.jpg"), Path("depth", f"{name}.npy"), _metres)


def arrange(layout: str, per_folder: int = PER_FOLDER) -> Callable[[int], Pair]:
    """A layout of LAYOUTS, with so many renders in each scene or drive; a layout without them stays as it is."""
    place = LAYOUTS[layout]
    for divided in (nyu, driving_stereo):
        if place is divided:
            return partial(divided, per_folder=per_folder)
    return place


def count_per_folder(count: int) -> int:
    """Renders in each scene or drive of a new set: FOLDERS of them, or more where they would hold over PER_FOLDER."""
    return min(PER_FOLDER, max(1, -(-count // FOLDERS)))


def write(root: Path, pair: Pair, image: RGBArray, depth: DepthArray, intrinsics: MatrixArray) -> None:
    """Writes one render; each file appears whole or not at all."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if pair.picture.suffix == ".jpg" else []
    _write_picture(root / pair.picture, image[..., ::-1], settings)
    encoded = pair.encode(depth, intrinsics)
    if pair.depth.suffix == ".npy":
        with atomic_write(root / pair.depth) as tmp_path:
            np.save(tmp_path, encoded)
    else:
        _write_picture(root / pair.depth, encoded, [])


def write_card(root: Path, card: dict[str, Any]) -> dict[str, Any]:
    """render.json: how the set was made; and where one camera took it, intrinsics.txt for layouts that know none else.

    Returns:
        The card as written, with `per_folder`: the renders in each scene or drive. A set goes on as it was begun.

    Raises:
        ValueError: the folder holds renders made otherwise, or anything else, so that two sets would be mixed.
    """
    path = root / "render.json"
    if not path.exists() and root.is_dir() and any(root.iterdir()):
        raise ValueError(f"{root} is not empty, and no set of renders: choose a new folder.")
    remedy = "choose another folder, or remove this one"
    old = read_json(path, dict[str, Any], remedy) if path.exists() else card
    if differing := [f"{key} {old.get(key)!r}, not {card[key]!r}" for key in SAME if old.get(key) != card[key]]:
        raise ValueError(f"{root} holds renders of {'; '.join(differing)}: choose another folder or remove this one.")
    per_folder = old.get("per_folder", PER_FOLDER) if path.exists() else count_per_folder(card["count"])
    if not isinstance(per_folder, int) or per_folder < 1:
        raise ValueError(f"{path}: per_folder is {shorten(per_folder)}, expected a whole number from 1: {remedy}.")
    card = card | {"per_folder": per_folder}
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(json.dumps(card, indent=1) + "\n")
    if card["intrinsics"] is not None and card["format"] != "zivid":
        write_intrinsics(root / "intrinsics.txt", np.array(card["intrinsics"]))
    return card


def xyz_mm(depth: DepthArray, intrinsics: MatrixArray) -> XYZArray:
    """X right, Y down, Z forward in mm, float32; NaN in all three where depth is not finite."""
    v, u = np.indices(depth.shape)
    millimetres = np.where(np.isfinite(depth), depth, np.nan).astype(float) * 1000
    x = (u - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (v - intrinsics[1, 2]) / intrinsics[1, 1]
    return np.stack([x * millimetres, y * millimetres, millimetres], -1).astype(np.float32)


def _millimetres(depth: DepthArray, intrinsics: MatrixArray) -> UInt16[np.ndarray, "h w"]:
    return _levels(depth, 1000, 65.0)


def _metres(depth: DepthArray, intrinsics: MatrixArray) -> DepthArray:
    return np.where(np.isposinf(depth), np.float32(SKY), depth).astype(np.float32)


def _metres_256(depth: DepthArray, intrinsics: MatrixArray) -> UInt16[np.ndarray, "h w"]:
    return _levels(depth, 256, 250.0)


def _levels(depth: DepthArray, per_metre: int, far: float) -> UInt16[np.ndarray, "h w"]:
    known = np.nan_to_num(depth, nan=0, posinf=0)
    return np.rint(np.where(known <= far, known, 0) * per_metre).astype(np.uint16)


def _write_picture(path: Path, pixels: np.ndarray, settings: list[int]) -> None:
    with atomic_write(path) as tmp_path:
        if not cv2.imwrite(str(tmp_path), pixels, settings):
            raise OSError(f"Cannot write {path}: is the disk full?")


LAYOUTS: dict[str, Callable[[int], Pair]] = {
    "zivid": zivid, "nyu": nyu, "driving_stereo": driving_stereo, "folder": folder,
}  # fmt: skip
"""Name -> files and encoding of picture `index`."""
FAMILY_LAYOUT = {
    "bench": "zivid", "room": "nyu", "road": "driving_stereo", "highway": "driving_stereo", "indoor": "folder",
    "street": "folder", "outdoor": "folder", "objects": "folder", "abstract": "folder", "handheld": "folder",
    "bins": "folder", "surround": "folder",
}  # fmt: skip
"""A family's layout where none is asked for; others are written as zivid."""
