"""The pictures of a report: captures and the bench, in colour, as data URIs."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image

from sonde import files
from sonde.evaluation import Evaluation, bench_of, headings
from sonde.files.images import INVALID_GREY
from sonde.report.gallery import Panel, thinning_step
from sonde.report.numbers import format_number
from sonde.types import DepthArray, MaskArray, RGBArray, Space
from sonde.units import UNITS

ERRORS = "RdBu_r"
"""Error in colour: blue where the prediction is too near, red where it is too far."""
MADE = {"farthest": "the farthest depth on which captures agree", "median": "the median depth of the captures"}
"""How a bench was made, in words; a name that is not here is the file of a capture of the empty bench."""


@dataclass(frozen=True)
class Scale:
    """The colour bar below a picture."""

    kind: str
    """`depth` or `error`: a class of the page's style."""
    low: str
    high: str


@dataclass(frozen=True)
class Picture:
    """A titled picture, as the page holds it."""

    title: str
    uri: str
    scale: Scale | None


@dataclass(frozen=True)
class PanelPictures:
    """The pictures of one capture, and its scores in words."""

    id: str
    scores: str
    pictures: list[Picture]


@dataclass(frozen=True)
class BenchPictures:
    """The bench that a run's model knows."""

    made: str
    """From what, in words."""
    pictures: list[Picture]
    ends: Scale


class PanelColours(NamedTuple):
    """The maps of a panel to colour: depth and its error in metres; for a relative model disparity, and error by depth.

    A relative model's lengths mean nothing, and its far depth would take all colours.
    """

    truth: DepthArray
    answer: DepthArray
    error: DepthArray
    most: float
    """Where the error's colours end at the latest."""


def draw_panels(panels: Sequence[Panel], own: Evaluation) -> list[PanelPictures]:
    """Pictures of captures with their scales; the error's is the same for all, so that captures compare."""
    maps = [_choose_maps(panel, own.relative) for panel in panels]
    errors = [np.abs(each.error)[panel.mask] for panel, each in zip(panels, maps, strict=True) if panel.mask.any()]
    # A few wild pixels must not make every other error white: the colours end at the 98th percentile.
    span = float(f"{np.percentile(np.concatenate(errors), 98):.2g}") if errors else 0.0
    return [_draw_panel(panel, each, min(span, each.most), own) for panel, each in zip(panels, maps, strict=True)]


def draw_bench(folder: Path, unit: str) -> BenchPictures | None:
    """The bench that a run's model knows, as two pictures; None where it knows none.

    Args:
        folder: the run folder.
        unit: of the scale below, a key of UNITS.
    """
    bench = bench_of(folder / "best")
    if bench is None:
        return None
    step = thinning_step(bench.depth.shape[1])
    depth, image = bench.depth[::step, ::step], np.ascontiguousarray(bench.image[::step, ::step])
    low, high = (float(end) for end in np.percentile(depth, [2, 98]))
    colours = files.colour_depth(depth, None, low, high, space="metric")
    scale = _make_scale("depth", low / UNITS[unit], high / UNITS[unit], unit)
    pictures = [_draw_picture("RGB", image), _draw_picture("depth", colours, scale)]
    return BenchPictures(MADE.get(bench.kind, bench.kind), pictures, scale)


def colour_error(error: DepthArray, mask: MaskArray, span: float) -> RGBArray:
    """Signed error in colour, white at 0; full colour at -span and span; untrusted pixels grey."""
    share = np.clip(np.where(mask, error, 0) / (2 * span or 1) + 0.5, 0, 1)
    colours = (colormaps[ERRORS](share)[..., :3] * 255).astype(np.uint8)
    colours[~mask] = INVALID_GREY
    return colours


def list_stops(colour_map: str) -> str:
    """The stops of a CSS gradient in the colours of a map of matplotlib."""
    return ", ".join(to_hex(colormaps[colour_map](share)) for share in np.linspace(0, 1, 17))


def _choose_maps(panel: Panel, relative: bool) -> PanelColours:
    error = panel.prediction - panel.depth
    if not relative:
        return PanelColours(panel.depth, panel.prediction, error, np.inf)
    depth = np.where(panel.mask, panel.depth, 1)
    return PanelColours(1 / depth, 1 / panel.prediction, error / depth, 1.0)


def _draw_panel(panel: Panel, maps: PanelColours, span: float, own: Evaluation) -> PanelPictures:
    values, unit = maps.truth[panel.mask], own.unit
    space: Space = "disparity" if own.relative else "metric"
    low, high = (float(end) for end in np.percentile(values, [2, 98])) if values.size else (0.0, 1.0)
    near, far = (1 / high, 1 / low) if own.relative else (low, high)
    depths = _make_scale("depth", near / UNITS[unit], far / UNITS[unit], unit)
    error_span, error_unit = (100 * span, "%") if own.relative else (span / UNITS[unit], unit)
    errors = _make_scale("error", -error_span, error_span, error_unit)
    truth = files.colour_depth(maps.truth, panel.mask, low, high, space=space)
    prediction = files.colour_depth(maps.answer, None, low, high, space=space)
    pictures = [
        _draw_picture("RGB", panel.image),
        _draw_picture("ground truth", truth, depths),
        _draw_picture("prediction", prediction, depths),
        _draw_picture("prediction \N{MINUS SIGN} ground truth", colour_error(maps.error, panel.mask, span), errors),
    ]
    scores = [f"{label} {format_number(panel.scores[name], 3)}" for label, name in headings(own).items()]
    return PanelPictures(panel.id, " · ".join(scores), pictures)


def _draw_picture(title: str, picture: RGBArray, scale: Scale | None = None) -> Picture:
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=88, method=4)
    return Picture(title, f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode()}", scale)


def _make_scale(kind: str, low: float, high: float, unit: str) -> Scale:
    sign = "+" if kind == "error" else ""
    return Scale(kind, f"{low:{sign}.4g}", f"{high:{sign}.4g} {unit}")
