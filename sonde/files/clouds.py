"""Organised point clouds: one X, Y, Z for each pixel, read from .npy, .npz, .ply and .pcd; and clouds for viewers.

Values keep the unit of the file, and rows run top to bottom. Pixels that the sensor did not see keep the file's value
(NaN, inf or 0): `sonde.geometry.depth_from_xyz` decides what to trust.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from sonde.files.channels import is_map
from sonde.files.npy import ArrayHeader, open_npy, read_headers, read_npz
from sonde.files.pcd import read_pcd
from sonde.files.ply import read_ply
from sonde.files.rows import Points, organise
from sonde.files.safely import reading
from sonde.files.stated import check_stated_unit
from sonde.files.writing import atomic_write
from sonde.spelling import shorten
from sonde.types import DepthArray, XYZArray

Colours = UInt8[np.ndarray, "n 3"]

ARRAY_NAMES = ("xyz", "points", "point_cloud", "pointcloud", "cloud", "z", "depth")
"""Names of the array in an .npz, in order of preference."""

CHECKED_PIXELS = 10_000
"""Approximate number of pixels whose z tells which way it points."""


def read_xyz(
    path: Path | str, size: tuple[int, int] | None = None, *, flip: str = "", unit_m: float | None = None
) -> XYZArray | DepthArray:
    """The organised cloud, (h, w, 3), or (h, w) if the file holds only Z; in the unit of the file.

    A .npy file is memory-mapped: slice what you need, such as `[..., 2]`, and nothing else is read.

    Args:
        path: .npy, .npz (the array named xyz, points, cloud, z, depth …), .ply or .pcd.
        size: (height, width) of the matching image. It gives rows and columns to a .ply or .pcd that does not state
            its own size, if the image is one, two or four times as large as the cloud.
        flip: axes whose numbers change their sign: `yz` for a cloud with y up and z backwards.
        unit_m: metres per unit, as declared: a file that states another unit is refused.

    Raises:
        ValueError: the file is missing, truncated, pickled, not organised, of another format or of another unit, or
            most of its z are negative; the message has the remedy.
    """
    path = Path(path)
    if path.suffix.lower() not in CLOUDS:
        raise ValueError(f"{path} is not an organised cloud: expected {', '.join(CLOUDS)}.")
    if unit_m is not None:
        check_stated_unit(path, unit_m)
    with reading(path, _suggest_remedy(path)):
        array = CLOUDS[path.suffix.lower()](path)
        if path.suffix.lower() in (".ply", ".pcd") and array.ndim == 2:
            array = _organise(array, size)
        array = flip_axes(_check(array), flip)
        behind = lies_behind(array)
    if behind:
        raise ValueError(_explain_axes(path, flip))
    return array


def read_z(
    path: Path | str, size: tuple[int, int] | None = None, *, flip: str = "", unit_m: float | None = None
) -> DepthArray:
    """Only the Z of `read_xyz`, (h, w) float32, in the unit of the file."""
    xyz = read_xyz(path, size, flip=flip, unit_m=unit_m)
    with reading(path, _suggest_remedy(Path(path))):
        return np.array(xyz if xyz.ndim == 2 else xyz[..., 2], dtype=np.float32, order="C")


def write_ply(path: Path | str, points: Points, colours: Colours | None = None, *, unit: str = "m") -> None:
    """Write a binary PLY of the points as they are: x right, y down, z forward; a comment states their unit."""
    import trimesh  # only here and below: it takes half a second, and depth maps need none of it

    cloud = trimesh.PointCloud(points, colors=colours)
    data = bytes(cloud.export(file_type="ply"))  # type: ignore[arg-type]  # typed for every format
    comments = f"comment written by sonde\ncomment unit {unit}\ncomment axes x right, y down, z forward\n"
    with atomic_write(path) as tmp_path:
        tmp_path.write_bytes(data.replace(b"element ", comments.encode("ascii") + b"element ", 1))


def write_glb(path: Path | str, points: Points, colours: Colours | None = None) -> None:
    """Write a binary glTF of points in metres, glTF's unit; `extras` of its asset and its scene state the unit.

    Points are rotated by 180 degrees about x: glTF viewers look along -z with y up.
    """
    import trimesh
    from trimesh.exchange.gltf import export_glb

    cloud = trimesh.PointCloud(points * np.array([1, -1, -1], points.dtype), colors=colours)
    data = export_glb(trimesh.Scene([cloud]), tree_postprocessor=_state_metres)
    with atomic_write(path) as tmp_path:
        tmp_path.write_bytes(data)


def _state_metres(tree: dict[str, Any]) -> None:
    """Add unit and axes to the JSON of a glTF: for programs in `asset`, and in the scene, which viewers show."""
    about = {"software": "sonde", "unit": "m", "axes": "x right, y up, z backward"}
    for place in (tree["asset"], *tree["scenes"]):
        place["extras"] = {**place.get("extras", {}), **about}


def holds_cloud(path: Path) -> bool:
    """Whether a file holds points rather than a depth map: by its suffix, and a .npy or .npz by its shapes.

    Raises:
        ValueError: a .npy or .npz that cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz"):
        return suffix in CLOUDS
    with reading(path, _suggest_remedy(path)):
        shapes = [open_npy(path).shape] if suffix == ".npy" else [each.shape for each in read_headers(path).values()]
    return not any(map(is_map, shapes)) and any(len(shape) == 3 and shape[2] == 3 for shape in shapes)


def check_flip(flip: str) -> str:
    """The axes that are flipped: some of x, y and z, each once; empty for none.

    Raises:
        ValueError: anything else.
    """
    if len(set(flip)) < len(flip) or not set(flip) <= set("xyz"):
        raise ValueError(f"flip {shorten(flip)!r}: expected axes, such as yz for a cloud with y up and z backwards")
    return flip


def flip_axes(array: np.ndarray, flip: str) -> np.ndarray:
    """A cloud, (h, w, 3), or its Z, (h, w), with the signs of some axes changed; itself if there are none."""
    signs = np.array([-1 if axis in check_flip(flip) else 1 for axis in "xyz"], array.dtype)
    if not flip or (array.ndim == 2 and "z" not in flip):
        return array
    return array * (signs[2] if array.ndim == 2 else signs)


def lies_behind(array: np.ndarray) -> bool:
    """Whether more than half of the points that were seen have a negative z, by a sample of rows and columns."""
    stride = max(1, int((array.shape[0] * array.shape[1] / CHECKED_PIXELS) ** 0.5))
    z = np.asarray(array[::stride, ::stride] if array.ndim == 2 else array[::stride, ::stride, 2])
    seen = z[np.isfinite(z) & (z != 0)]
    return bool(2 * np.count_nonzero(seen < 0) > seen.size)


def _explain_axes(path: Path, flip: str) -> str:
    said = (
        f"With flip {flip!r} most z of {shorten(path)} are negative"
        if flip
        else f"Most z of {shorten(path)} are negative"
    )
    if flip:
        return f"{said}: sonde takes x right, y down and z forward; give other axes, or none."
    return (
        f"{said}, as where y points up and z backwards (OpenGL, librealsense): sonde takes x right, y down and z "
        "forward. `sonde data convert IMAGES CLOUDS OUT --flip yz` turns them (with --depth-scale 0.001 if they are in "
        'millimetres); in the folder layout dataset.json does it, with the key flip: "yz".'
    )


def _suggest_remedy(path: Path) -> str:
    if path.suffix.lower() in (".npy", ".npz"):
        save = "np.save(path, xyz" if path.suffix.lower() == ".npy" else "np.savez(path, xyz=xyz"
        return f"save the capture again as a plain (height, width, 3) array with {save}.astype(np.float32))"
    return "export the capture again as an organised cloud"


def _check(array: np.ndarray) -> np.ndarray:
    """The array as float32, or float64 if it holds that; a ValueError if it is not an organised cloud."""
    if array.dtype.kind not in "fiu" or not _is_organised(array):
        raise ValueError(f"it holds {array.dtype} of shape {array.shape}, not numbers of (height, width, 3)")
    wide = np.dtype(np.float64 if array.dtype.itemsize >= 8 and array.dtype.kind == "f" else np.float32)
    return array if array.dtype == wide else array.astype(wide)


def _is_organised(array: np.ndarray | ArrayHeader) -> bool:
    shape = array.shape
    return (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) and min(shape[:2]) > 1


def _read_npz(path: Path) -> np.ndarray:
    return read_npz(path, _choose_cloud)


def _choose_cloud(headers: Mapping[str, ArrayHeader]) -> str:
    named = [name for known in ARRAY_NAMES for name in headers if name.lower() == known]
    fitting = [name for name in named or headers if _is_organised(headers[name])]
    if not fitting:
        raise ValueError(f"it holds {', '.join(headers) or 'no arrays'}, none of (height, width, 3) or (height, width)")
    if not named and len(fitting) > 1:
        raise ValueError(f"it holds {', '.join(headers)}: which is the cloud is not clear; name it xyz")
    return fitting[0]


def _organise(points: Points, size: tuple[int, int] | None) -> np.ndarray:
    height, width = size or (0, 0)
    for factor in (1, 2, 4):
        if len(points) * factor**2 == height * width and height % factor == width % factor == 0:
            return organise(points, height // factor, width // factor)
    raise ValueError(f"its {len(points)} points are not organised: no width and height, and no image they fit")


CLOUDS: dict[str, Callable[[Path], np.ndarray]] = {
    ".npy": open_npy,
    ".npz": _read_npz,
    ".ply": read_ply,
    ".pcd": read_pcd,
}
"""Reader by suffix."""
