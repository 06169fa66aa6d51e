"""What surrounds a network, in NumPy and OpenCV: its input from pixels, and depth from its raw answer.

`DepthModel.prepare` and `DepthModel.postprocess` do the same in torch; tests compare the two. A file that was exported
holds the network alone and needs no torch.
"""

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from sonde.background import Background
from sonde.encoding import from_dict
from sonde.models.calibration import Calibration
from sonde.models.spec import ModelSpec
from sonde.types import DepthArray, RGBArray

Line = Float[np.ndarray, "longer length"]
Part = Float[np.ndarray, "_ _"]
"""Some rows of a Line, and the columns that they use."""
Values = Float[np.ndarray, "rows columns"] | UInt8[np.ndarray, "rows columns"]
Input = Float[np.ndarray, "3 H W"]
Colours = Float[np.ndarray, "H W 3"]
Raw = Float[np.ndarray, "H W"]
"""A network's answer, at a size of its own."""
BAND = 16
"""Rows of a resized image that are computed together: each needs only some rows of the image."""
ALONE = 1 << 18
"""Multiplications of a matrix product that OpenBLAS does in one thread: its others would take the network's cores."""


def prepare(rgb: RGBArray, spec: ModelSpec, size: tuple[int, int] | None = None) -> Input:
    """The network's input: resized (bicubic, antialiased) or padded, and standardised.

    Args:
        rgb: the image.
        spec: of the model.
        size: (height, width) of the input; by default the one that the network usually sees.
    """
    height, width = rgb.shape[:2]
    size = size or spec.network_size(height, width)
    if size != (height, width) and spec.pads:
        # Right and below, so that intrinsics stay valid; by the edge, since mirroring fails on small images.
        rgb = np.pad(rgb, ((0, size[0] - height), (0, size[1] - width), (0, 0)), mode="edge")
    colours = rgb.astype(np.float32) if rgb.shape[:2] == size else resize_antialiased(rgb, size).clip(0, 255)
    # One factor and one addition for each colour: (rgb / 255 - mean) / std.
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    colours *= 1 / (255 * std)
    colours -= mean / std
    return np.ascontiguousarray(colours.transpose(2, 0, 1))


def resize_antialiased(rgb: RGBArray, size: tuple[int, int]) -> Colours:
    """An image at another (height, width), as float32: bicubic, and smoothed where it becomes smaller.

    The weights are those of Pillow and of torch's `antialias=True`.
    """
    height, width = rgb.shape[:2]
    lines = _resize_lines(rgb.reshape(height, -1), size[0])
    turned = lines.reshape(size[0], width, 3).transpose(1, 0, 2).reshape(width, -1)
    return _resize_lines(turned, size[1]).reshape(size[1], size[0], 3).transpose(1, 0, 2)


def _resize_lines(values: Values, longer: int) -> Float[np.ndarray, "{longer} columns"]:
    """The rows of a matrix resized to so many rows."""
    line = _make_line(len(values), longer)
    resized = np.empty((longer, values.shape[1]), np.float32)
    for start in range(0, longer, BAND):
        part, first, last = _cut_band(line, start)
        step = max(1, ALONE // part.size)
        for left in range(0, values.shape[1], step):
            place = slice(left, left + step)
            seen = values[first:last, place].astype(np.float32, copy=False)
            np.matmul(part, seen, out=resized[start : start + BAND, place])
    return resized


def _cut_band(line: Line, start: int) -> tuple[Part, int, int]:
    """Rows of a matrix from `start` on, and the range of columns that they use: the part, its start and its end."""
    rows = line[start : start + BAND]
    used = np.flatnonzero(rows.any(0))
    first, last = int(used[0]), int(used[-1]) + 1
    return rows[:, first:last], first, last


@lru_cache(16)
def _make_line(length: int, longer: int) -> Line:
    """Antialiased bicubic resizing of a line of `length` pixels to `longer` pixels, as a matrix."""
    scale = length / longer
    step = max(scale, 1.0)
    centres = (np.arange(longer) + 0.5) * scale
    first = np.maximum((centres - 2 * step + 0.5).astype(np.int64), 0)
    last = np.minimum((centres + 2 * step + 0.5).astype(np.int64), length)
    places = np.arange(length)
    inside = (places >= first[:, None]) & (places < last[:, None])
    weights = np.where(inside, _weigh_bicubic((places + 0.5 - centres[:, None]) / step), 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _weigh_bicubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    """Keys' cubic kernel."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def postprocess(
    raw: Raw,
    size: tuple[int, int],
    spec: ModelSpec,
    *,
    seen: tuple[int, int] | None = None,
    focal: float | None = None,
    background: Background | None = None,
    calibration: Calibration | None = None,
) -> DepthArray:
    """Depth (h, w) float32 from a network's raw answer: resize, decode, scale by focal length, calibrate.

    Args:
        raw: (H, W), padded or not, times `spec.scale`.
        size: (height, width) of the image.
        spec: of the model.
        seen: (height, width) of the network's input, where it is not the one that the network usually sees.
        focal: focal length fx in the image's pixels; required by a canonical focal length.
        background: the bench of a fixed camera.
        calibration: applied last.

    Raises:
        ValueError: the model belongs to a fixed camera, and the image has another aspect than that camera.
    """
    if spec.pads:
        raw = _remove_padding(raw, size, seen or spec.network_size(*size))
    columns = raw.shape[1]
    depth = _resize(raw, size)
    if spec.encoding is not None:
        depth = from_dict(spec.encoding).decode(depth)
    if spec.canonical_focal is not None:
        assert focal is not None
        depth = depth * np.float32(focal * columns / size[1] / spec.canonical_focal)
    if spec.background is not None:
        assert background is not None
        depth = depth + (background.depth_at(size) - np.float32(spec.background))
    depth = depth if calibration is None else calibration.apply(depth)
    return np.ascontiguousarray(depth, np.float32)


def _remove_padding(raw: Raw, size: tuple[int, int], padded: tuple[int, int]) -> DepthArray:
    """The part of raw output that shows the image; a network may answer at another size than its input's."""
    raw = raw if raw.shape in (size, padded) else _resize(raw, padded)
    return raw[: size[0], : size[1]]


def _resize(raw: Raw, size: tuple[int, int]) -> DepthArray:
    """Bicubic, as torch's `interpolate`; it overshoots, so the result is kept within the range of `raw`."""
    if raw.shape == size:
        return raw
    resized = cv2.resize(raw, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(resized, raw.min(), raw.max(), out=resized)
