"""Write a predicted image: depth maps, pictures and point clouds. No torch is imported here, except for a relief."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sonde import files
from sonde.files.palettes import draw_ramp
from sonde.geometry import Colours, Points, point_cloud
from sonde.prediction.manifest import FileKind
from sonde.types import DepthArray, MatrixArray, RGBArray, Space
from sonde.units import UNITS

CLOUDS = ("ply", "glb")
"""Names in SAVERS that need metric depth and intrinsics."""


@dataclass(frozen=True)
class PredictedImage:
    """One image and its depth, ready to be written."""

    image: RGBArray | None
    """Colours of the point cloud."""
    depth: DepthArray
    """(h, w), the image's size; metres if the space is metric."""
    space: Space
    unit: str
    """Unit of the written values: a key of UNITS for metric depth, else `1`."""
    intrinsics: MatrixArray | None
    source: str | None = None
    """The image's file, for what is written to name it."""

    @property
    def own(self) -> DepthArray:
        """The depth in `unit`."""
        return self.depth / np.float32(UNITS[self.unit]) if self.space == "metric" else self.depth

    @cached_property
    def quantiles(self) -> list[float]:
        """The smallest value of `own`, its 2nd, 50th and 98th percentile, and the largest."""
        return np.percentile(self.own, [0, 2, 50, 98, 100]).tolist()


def render_preview(answer: PredictedImage, low: float | None = None, high: float | None = None) -> RGBArray:
    """Depth in colour, near red and far violet, above a bar with the scale.

    Args:
        answer: the image and its depth.
        low: the value at one end of the colours, in the answer's unit; None: as `find_ends` says.
        high: the value at the other end.
    """
    nearest, farthest = find_ends(answer)
    low, high = nearest if low is None else low, farthest if high is None else high
    picture = files.colour_depth(answer.own, None, low, high, space=answer.space)
    if answer.space == "metric":
        marks = np.linspace(low, high, 2 + picture.shape[1] // 240)
        labels = tuple(f"{spell_value(value)} {answer.unit}" for value in marks)
    else:
        labels = ("near", "far")
    return np.concatenate([picture, _draw_bar(picture.shape[1], labels)])


def render_relief(answer: PredictedImage) -> RGBArray:
    """Bright where depth is nearer than its surroundings, dark where it is deeper: steps too small for a preview.

    `maps.high_pass` subtracts the surroundings; black and white are 1 % of the median depth, or disparity.

    Raises:
        ValueError: torch is not installed.
    """
    check_installed(["relief"])
    import torch

    from sonde.maps import high_pass

    depth = torch.from_numpy(answer.own)[None]
    nearer = high_pass(depth, torch.ones_like(depth, dtype=torch.bool))[0].numpy()
    nearer = nearer if answer.space == "disparity" else -nearer
    span = max(abs(float(np.median(answer.own))) / 100, 1e-6)
    picture = (np.clip(nearer / span / 2 + 0.5, 0, 1) * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    size = f"{spell_value(span, 3)} {answer.unit}" if answer.space == "metric" else "1 %"
    return np.concatenate([picture, _draw_bar(picture.shape[1], (f"{size} deeper", f"{size} nearer"), "gray")])


def check_installed(save: Sequence[str]) -> None:
    """Refuse what cannot be written here, before anything is predicted: a relief without torch.

    Raises:
        ValueError: torch is not installed.
    """
    if "relief" in save and find_spec("torch") is None:
        raise ValueError(
            'A relief needs torch, which is not installed: pip install "sonde[train]", or leave `relief` out of --save.'
        )


def find_ends(answer: PredictedImage) -> tuple[float, float]:
    """The values at the ends of the colours, in the answer's unit: the 2nd and the 98th percentile."""
    return answer.quantiles[1], answer.quantiles[3]


def spell_value(value: float, digits: int = 4) -> str:
    """A number in so many digits, and never as a power of ten: `0.4123`, `71230`."""
    text = f"{value:.{digits}g}"
    return f"{float(text):.0f}" if "e+" in text else text


def describe_files(save: Sequence[str], unit: str) -> dict[str, FileKind]:
    """What each kind of output holds, by its name in SAVERS, if metric depth is written in `unit`; else in `1`."""
    relative = unit == "1"
    return {
        name: {
            "suffix": SAVERS[name].suffix,
            "unit": unit if relative else SAVERS[name].unit or unit,
            "holds": SAVERS[name].holds,
        }
        for name in save
    }


@lru_cache(16)
def _draw_bar(width: int, labels: tuple[str, ...], colours: str = "Spectral") -> RGBArray:
    """A strip (height, width, 3) with all colours from left to right, and labels at equal steps below."""
    size = max(10, min(18, width // 40))
    canvas = Image.new("RGB", (width, 3 * size), "white")
    ramp = draw_ramp(width, colours)[None]
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
    files.write_npy(path, answer.own, answer.space, answer.unit, answer.source)


def _save_preview(path: Path, answer: PredictedImage) -> None:
    files.write_drawing(path, render_preview(answer))


def _save_relief(path: Path, answer: PredictedImage) -> None:
    files.write_drawing(path, render_relief(answer))


def _save_ply(path: Path, answer: PredictedImage) -> None:
    files.write_ply(path, *_make_cloud(answer, answer.own), unit=answer.unit)


def _save_glb(path: Path, answer: PredictedImage) -> None:
    files.write_glb(path, *_make_cloud(answer, answer.depth))


def _make_cloud(answer: PredictedImage, depth: DepthArray) -> tuple[Points, Colours | None]:
    """The points in the unit of `depth`."""
    assert answer.intrinsics is not None
    return point_cloud(depth, answer.intrinsics, rgb=answer.image)


class Saver(NamedTuple):
    """One kind of output."""

    suffix: str
    write: Callable[[Path, PredictedImage], None]
    holds: str = ""
    """What a file holds, for the manifest."""
    unit: str | None = None
    """The unit of metric depth, where the format or its standard fixes it; None: `PredictedImage.unit`."""
    beside: Sequence[str] = ()
    """Suffixes of other files that it writes for the same image."""


SAVERS: dict[str, Saver] = {
    "png16": Saver(".depth.png", _save_png16, "16-bit levels: Scale * level + Offset, as its text states", unit="m"),
    "npy": Saver(".npy", _save_npy, "float32; NAME.npy.json states quantity and unit", beside=(".npy.json",)),
    "preview": Saver(".preview.png", _save_preview, "depth in colour; its bar has the numbers"),
    "relief": Saver(".relief.png", _save_relief, "what is nearer or deeper than its surroundings, in grey"),
    "ply": Saver(".ply", _save_ply, "points: x right, y down, z forward; a comment states the unit"),
    "glb": Saver(".glb", _save_glb, "points: x right, y up, z backward; metres, as glTF demands", unit="m"),
}
"""Name in `save` → its saver."""
