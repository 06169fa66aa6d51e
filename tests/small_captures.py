"""A small bench whose geometry is known exactly: a plane, seen by a pinhole camera."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

INTRINSICS = np.array([[40.0, 0, 15.2], [0, 41.0, 11.7], [0, 0, 1]])
NORMAL, OFFSET = np.array([0.1, -0.3, 1.0]), 0.8  # normal . point = offset, metres


def plane_depth(height: int, width: int, intrinsics: np.ndarray = INTRINSICS) -> np.ndarray:
    """Z in metres of the plane, (height, width) float64."""
    v, u = np.mgrid[:height, :width]
    ray_x = (u - intrinsics[0, 2]) / intrinsics[0, 0]
    ray_y = (v - intrinsics[1, 2]) / intrinsics[1, 1]
    return OFFSET / (NORMAL[0] * ray_x + NORMAL[1] * ray_y + NORMAL[2])


def cloud(depth: np.ndarray, intrinsics: np.ndarray = INTRINSICS) -> np.ndarray:
    """X, Y, Z of a depth map, in its unit."""
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]]
    x = (u - intrinsics[0, 2]) / intrinsics[0, 0] * depth
    y = (v - intrinsics[1, 2]) / intrinsics[1, 1] * depth
    return np.stack([x, y, depth], axis=-1)


def bench_cloud(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    """A Zivid file's content: mm, float32, NaN in a corner; every seed a little farther."""
    depth = plane_depth(height, width) * 1000 + seed
    depth[: height // 4, : width // 4] = np.nan
    return cloud(depth).astype(np.float32)


def picture(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    """(height, width, 3) uint8 of random levels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_bench(root: Path, count: int, height: int = 24, width: int = 32) -> Path:
    """A Zivid set of `count` captures c00, c01, …"""
    (root / "images").mkdir(parents=True)
    (root / "depth").mkdir()
    for index in range(count):
        Image.fromarray(picture(index, height, width)).save(root / "images" / f"c{index:02}.png")
        np.save(root / "depth" / f"c{index:02}.npy", bench_cloud(index, height, width))
    return root


def unpack(data: bytes) -> bytes:
    """The size, notes and pixels of a PNG, which ISA-L may pack in two ways; any other bytes as they are."""
    try:
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            return repr((image.mode, image.size, sorted(image.info.items()))).encode() + image.tobytes()
    except OSError:  # another file, or a part of one
        return data
