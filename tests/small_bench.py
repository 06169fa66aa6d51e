"""A tilted bench under a fixed camera, with boxes whose colour tells their height, at other places in every capture."""

from pathlib import Path

import numpy as np
from PIL import Image

from sonde.types import DepthArray, RGBArray

COLOURS = np.array([[200, 40, 40], [40, 180, 60], [60, 80, 220]])
HEIGHTS = (0.03, 0.06, 0.09)
"""Of red, green and blue boxes, metres."""


def bench_depth(height: int = 48, width: int = 64) -> DepthArray:
    """The empty bench, metres."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return (0.8 + 0.1 * rows / height - 0.05 * columns / width).astype(np.float32)


def capture(seed: int, height: int = 48, width: int = 64, boxes: int = 4) -> tuple[RGBArray, DepthArray]:
    """An image and its depth in metres; the bench has stripes, so that it can be recognised."""
    random = np.random.default_rng(seed)
    depth = bench_depth(height, width)
    columns = np.arange(width)
    image = np.zeros((height, width, 3), np.uint8)
    image[:] = (30 + 25 * (columns // 5 % 2) + 15 * (np.arange(height)[:, None] // 7 % 2))[..., None]
    for _ in range(boxes):
        kind = random.integers(3)
        top, left = random.integers(2, height - 14), random.integers(2, width - 16)
        tall, wide = random.integers(8, 13), random.integers(8, 15)
        part = np.s_[top : top + tall, left : left + wide]
        image[part] = COLOURS[kind]
        depth[part] = bench_depth(height, width)[part] - np.float32(HEIGHTS[kind])
    noise = random.normal(0, 3, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8), depth


def write(root: Path, count: int, *, first: int = 0, moving: bool = False, size: tuple[int, int] = (48, 64)) -> Path:
    """A Zivid set b00, b01, … of Z in mm, NaN in a corner; `moving` tilts and lifts the camera anew each time."""
    (root / "images").mkdir(parents=True)
    (root / "depth").mkdir()
    for index in range(first, first + count):
        image, depth = capture(index, *size)
        if moving:
            random = np.random.default_rng(index)
            depth = depth * np.float32(random.uniform(0.6, 1.6))
        millimetres = depth * 1000
        millimetres[:4, :4] = np.nan
        Image.fromarray(image).save(root / "images" / f"b{index:02}.png")
        np.save(root / "depth" / f"b{index:02}.npy", millimetres)
    return root
