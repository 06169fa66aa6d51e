"""Write a predicted image: depth maps, pictures and point clouds. No torch is imported here, except for a relief."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont, ImageOps

from sonde import files
from sonde.geometry import Colours, Points, point_cloud
from sonde.types import DepthArray, MatrixArray, RGBArray, Space
from sonde.units import UNITS

TILE = (220, 165)
"""(width, height) of an image on the sheet, and of its depth."""
CLOUDS = ("ply", "glb")
"""Names in SAVERS that need metric depth and intrinsics."""


class PredictedImage(NamedTuple):
    """One image and its depth, ready to be written."""

    image: RGBArray | None
    """Colours of the point cloud."""
    depth: DepthArray
    """(h, w), the image's size; metres if the space is metric."""
    space: Space
    unit: str
    """Unit of the written values: a key of UNITS for metric depth, else `1`."""
    intrinsics: MatrixArray | None

    @property
    def own(self) -> DepthArray:
        """The depth in `unit`."""
        return self.depth / np.float32(UNITS[self.unit]) if self.space == "metric" else self.depth


def render_preview(answer: PredictedImage) -> RGBArray:
    """Depth in colour, near red and far violet, above a bar with the scale."""
    low, high = (float(end) for end in np.percentile(answer.own, [2, 98]))
    picture = files.colour_depth(answer.own, None, low, high, space=answer.space)
    if answer.space == "metric":
        labels = [f"{value:.4g} {answer.unit}" for value in np.linspace(low, high, 2 + picture.shape[1] // 240)]
    else:
        labels = ["near", "far"]
    return np.concatenate([picture, _draw_bar(picture.shape[1], labels)])


def render_relief(answer: PredictedImage) -> RGBArray:
    """Bright where depth is nearer than its surroundings, dark where it is deeper: steps too small for a preview.

    `maps.high_pass` subtracts the surroundings; black and white are 1 % of the median depth, or disparity.

    Raises:
        ValueError: torch is not installed.
    """
    if find_spec("torch") is None:
        raise ValueError("A relief needs torch, which is not installed: leave `relief` out of --save.")
    import torch

    from sonde.maps import high_pass

    depth = torch.from_numpy(answer.own)[None]
    nearer = high_pass(depth, torch.ones_like(depth, dtype=torch.bool))[0].numpy()
    nearer = nearer if answer.space == "disparity" else -nearer
    span = max(abs(float(np.median(answer.own))) / 100, 1e-6)
    picture = (np.clip(nearer / span / 2 + 0.5, 0, 1) * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    size = f"{span:.3g} {answer.unit}" if answer.space == "metric" else "1 %"
    return np.concatenate([picture, _draw_bar(picture.shape[1], [f"{size} deeper", f"{size} nearer"], "gray")])


def tile_images(tiles: Sequence[RGBArray], columns: int = 4) -> UInt8[np.ndarray, "_ _ 3"]:
    """Arrange tiles of one size in rows; a last row that is not full ends in white."""
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    blank = np.full_like(tiles[0], 255)
    width = min(columns, len(tiles))
    return np.concatenate([np.concatenate([*row, *[blank] * (width - len(row))], axis=1) for row in rows])


def draw_tile(answer: PredictedImage) -> RGBArray:
    """An image and its depth side by side, each fitted into TILE."""
    assert answer.image is not None
    maps = (answer.image, files.colour_depth(answer.own, space=answer.space))
    halves = [ImageOps.pad(Image.fromarray(each), TILE, Image.Resampling.LANCZOS, "white") for each in maps]
    return np.concatenate([np.asarray(half) for half in halves], axis=1)


def _draw_bar(width: int, labels: list[str], colours: str = "Spectral") -> RGBArray:
    """A strip (height, width, 3) with all colours from left to right, and labels at equal steps below."""
    size = max(10, min(18, width // 40))
    canvas = Image.new("RGB", (width, 3 * size), "white")
    ramp = colormaps[colours](np.linspace(0, 1, width), bytes=True)[None, :, :3]
    canvas.paste(Image.fromarray(np.repeat(ramp, size, axis=0)), (0, size // 4))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size)
    for place, label in zip(np.linspace(0, width, len(labels)), labels, strict=True):
        length = draw.textlength(label, font)
        left = min(max(place - length / 2, 4), width - length - 4)
        draw.text((left, 1.4 * size), label, "black", font)
    return np.array(canvas)


def _save_png16(path: Path, answer: PredictedImage) -> None:
    files.write_depth_png(path, answer.depth, space=answer.space)


def _save_npy(path: Path, answer: PredictedImage) -> None:
    with files.atomic_write(path) as tmp_path:
        np.save(tmp_path, answer.own)


def _save_preview(path: Path, answer: PredictedImage) -> None:
    files.write_rgb(path, render_preview(answer))


def _save_relief(path: Path, answer: PredictedImage) -> None:
    files.write_rgb(path, render_relief(answer))


def _save_ply(path: Path, answer: PredictedImage) -> None:
    files.write_ply(path, *_make_cloud(answer))


def _save_glb(path: Path, answer: PredictedImage) -> None:
    files.write_glb(path, *_make_cloud(answer))


def _make_cloud(answer: PredictedImage) -> tuple[Points, Colours | None]:
    assert answer.intrinsics is not None
    return point_cloud(answer.depth, answer.intrinsics, rgb=answer.image)


class Saver(NamedTuple):
    """One kind of output."""

    suffix: str
    write: Callable[[Path, PredictedImage], None]


SAVERS: dict[str, Saver] = {
    "png16": Saver(".depth.png", _save_png16),
    "npy": Saver(".npy", _save_npy),
    "preview": Saver(".preview.png", _save_preview),
    "relief": Saver(".relief.png", _save_relief),
    "ply": Saver(".ply", _save_ply),
    "glb": Saver(".glb", _save_glb),
}
"""Name in `save` → its saver."""
