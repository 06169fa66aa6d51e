"""Organised point clouds: one X, Y, Z for each pixel, read from .npy, .npz, .ply and .pcd; and clouds for viewers.

Values keep the unit of the file, and rows run top to bottom. Pixels that the sensor did not see keep the file's value
(NaN, inf or 0): `sonde.geometry.depth_from_xyz` decides what to trust.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import trimesh
from jaxtyping import Float, UInt8

from sonde.files.safely import reading
from sonde.files.writing import atomic_write
from sonde.types import DepthArray, XYZArray

Points = Float[np.ndarray, "n 3"]
Colours = UInt8[np.ndarray, "n 3"]

ARRAY_NAMES = ("xyz", "points", "point_cloud", "pointcloud", "cloud", "z", "depth")
"""Names of the array in an .npz, in order of preference."""

PLY_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
PLY_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}

SIZE_NOTE = re.compile(r"(?:comment|obj_info)\W+(?:num_?)?(width|height|cols|columns|rows)\W+(\d+)", re.IGNORECASE)
"""How PLY writers note an organised cloud: `comment width 640`, `obj_info num_cols 640`."""


def read_xyz(path: Path | str, size: tuple[int, int] | None = None) -> XYZArray | DepthArray:
    """The organised cloud, (h, w, 3), or (h, w) if the file holds only Z; in the unit of the file.

    A .npy file is memory-mapped: slice what you need, such as `[..., 2]`, and nothing else is read.

    Args:
        path: .npy, .npz (the array named xyz, points, cloud, z, depth …), .ply or .pcd (ascii or binary).
        size: (height, width) of the matching image. It gives rows and columns to a .ply or .pcd that does not state
            its own size, if the image is one, two or four times as large as the cloud.

    Raises:
        ValueError: the file is missing, truncated, pickled, not organised or of another format; the message has the
            remedy.
    """
    path = Path(path)
    if path.suffix.lower() not in CLOUDS:
        raise ValueError(f"{path} is not an organised cloud: expected {', '.join(CLOUDS)}.")
    with reading(path, _suggest_remedy(path)):
        array = CLOUDS[path.suffix.lower()](path)
        if path.suffix.lower() in (".ply", ".pcd") and array.ndim == 2:
            array = _organise(array, size)
        return _check(array)


def read_z(path: Path | str, size: tuple[int, int] | None = None) -> DepthArray:
    """Only the Z of `read_xyz`, (h, w) float32, in the unit of the file."""
    xyz = read_xyz(path, size)
    with reading(path, _suggest_remedy(Path(path))):
        return np.array(xyz if xyz.ndim == 2 else xyz[..., 2], dtype=np.float32, order="C")


def write_ply(path: Path | str, points: Points, colours: Colours | None = None) -> None:
    """Write a binary PLY of the points as they are: metres, x right, y down, z forward."""
    cloud = trimesh.PointCloud(points, colors=colours)
    with atomic_write(path) as tmp_path:
        tmp_path.write_bytes(bytes(cloud.export(file_type="ply")))  # type: ignore[arg-type]  # typed for every format


def write_glb(path: Path | str, points: Points, colours: Colours | None = None) -> None:
    """Write a binary glTF of the points, rotated by 180 degrees about x: glTF viewers look along -z with y up."""
    cloud = trimesh.PointCloud(points * np.array([1, -1, -1], points.dtype), colors=colours)
    with atomic_write(path) as tmp_path:
        tmp_path.write_bytes(bytes(trimesh.Scene([cloud]).export(file_type="glb")))  # type: ignore[arg-type]  # typed for every format


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


def _is_organised(array: np.ndarray) -> bool:
    return (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) and min(array.shape[:2]) > 1


def _read_npy(path: Path) -> np.ndarray:
    return np.lib.format.open_memmap(path, mode="r")


def _read_npz(path: Path) -> np.ndarray:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        named = [name for known in ARRAY_NAMES for name in archive.files if name.lower() == known]
        fitting = (array for name in named or archive.files if _is_organised(array := archive[name]))
        array = next(fitting, None)
        if array is None:
            raise ValueError(f"it holds {', '.join(archive.files)}, none of (height, width, 3) or (height, width)")
        if not named and next(fitting, None) is not None:
            raise ValueError(f"it holds {', '.join(archive.files)}: which is the cloud is not clear; name it xyz")
        return array


def _read_ply(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        header = _read_header(file, "end_header")
        if header[0].strip() != "ply":
            raise ValueError("it does not begin with 'ply'")
        words = [line.split() for line in header]
        order = PLY_ORDERS[next((word[1] for word in words if word[:1] == ["format"]), "none")]
        elements = [index for index, word in enumerate(words) if word[:1] == ["element"]] + [len(words)]
        vertex = words[elements[0]]
        if vertex[1] != "vertex":
            raise ValueError(f"its first element is {vertex[1]}, expected vertex")
        lines = [word for word in words[elements[0] + 1 : elements[1]] if word[:1] == ["property"]]
        fields = [(word[-1], order + PLY_TYPES[word[1]]) for word in lines]
        points = _read_table(file, fields, int(vertex[2]), text=order == "")
    notes = {name.lower(): int(value) for name, value in SIZE_NOTE.findall("\n".join(header))}
    width = notes.get("width", notes.get("cols", notes.get("columns")))
    height = notes.get("height", notes.get("rows"))
    return points if width is None or height is None else _reshape(points, height, width)


def _read_pcd(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        header = {key: values for key, *values in map(str.split, _read_header(file, "DATA")) if values}
        data = header["DATA"][0]
        if data not in ("ascii", "binary"):
            raise ValueError(f"its data is {data}; pcl_convert_pcd_ascii_binary in.pcd out.pcd 1 makes it binary")
        names, kinds = header["FIELDS"], header["TYPE"]
        counts = [int(count) for count in header.get("COUNT", ["1"] * len(names))]
        types = [f"<{kind.lower()}{size}" for kind, size in zip(kinds, header["SIZE"], strict=True)]
        fields = [  # a field of several numbers, such as a descriptor, is several columns; all padding is called _
            (name if count == 1 and name != "_" else f"{name}.{number}.{part}", type_)
            for number, (name, type_, count) in enumerate(zip(names, types, counts, strict=True))
            for part in range(count)
        ]
        width, height = int(header["WIDTH"][0]), int(header["HEIGHT"][0])
        points = _read_table(file, fields, width * height, text=data == "ascii")
    return points if height == 1 else _reshape(points, height, width)


def _read_header(file: BinaryIO, last: str) -> list[str]:
    lines: list[str] = []
    while not (lines and lines[-1].startswith(last)):
        line = file.readline(4096)
        if not line or len(lines) > 1000:
            raise ValueError(f"its header has no {last}")
        text = line.decode("ascii", "replace").rstrip()
        if text and not text.startswith("#"):
            lines.append(text)
    return lines


def _read_table(file: BinaryIO, fields: list[tuple[str, str]], count: int, *, text: bool) -> Points:
    """The x, y and z columns of the next `count` rows."""
    names = [name for name, _ in fields]
    if not {"x", "y", "z"} <= set(names):
        raise ValueError(f"its points have {', '.join(names)}, no x, y and z")
    if text:
        columns = [names.index(name) for name in "xyz"]
        points = np.loadtxt(file, np.float64, comments=None, usecols=columns, max_rows=count, ndmin=2)
    else:
        rows = np.dtype(fields)
        body = file.read(count * rows.itemsize)
        table = np.frombuffer(body, rows, len(body) // rows.itemsize)
        points = np.stack([table[name] for name in "xyz"], axis=-1)
    if len(points) != count:
        raise ValueError(f"it ends after {len(points)} of {count} points")
    return points


def _reshape(points: Points, height: int, width: int) -> np.ndarray:
    if height * width != len(points):
        raise ValueError(f"its header says {width}x{height}, but it holds {len(points)} points")
    return points.reshape(height, width, 3)


def _organise(points: Points, size: tuple[int, int] | None) -> np.ndarray:
    height, width = size or (0, 0)
    for factor in (1, 2, 4):
        if len(points) * factor**2 == height * width and height % factor == width % factor == 0:
            return points.reshape(height // factor, width // factor, 3)
    raise ValueError(f"its {len(points)} points are not organised: no width and height, and no image they fit")


CLOUDS: dict[str, Callable[[Path], np.ndarray]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".ply": _read_ply,
    ".pcd": _read_pcd,
}
"""Reader by suffix."""
