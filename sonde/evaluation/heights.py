"""Errors of objects and of the bench apart, and by height above the bench, where a fixed camera's bench is known.

A bench that fills most of an image hides in one mean what the objects cost. An object is what `Background.objects`
says; height is the bench's depth less the true one, along the optical axis.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from sonde.background import DEPTH, Background, read_background
from sonde.datasets import Capture
from sonde.evaluation.columns import Row
from sonde.models import DescribedModel
from sonde.types import DepthArray
from sonde.units import UNITS

SHARE = "objects_share"
"""The column of a row that holds the share of scored pixels that are objects."""
OBJECTS, BENCH = "mae_objects_", "mae_bench_"
"""What the columns of their mean absolute errors begin with; the unit follows."""
EDGES = (0.01, 0.025, 0.05, 0.1)
"""Metres above the bench at which one span ends and the next begins."""
FAR = 3.0
"""A bench whose middle is farther than this, metres, holds larger things: its spans are ten times as high."""


Cells = dict[str, float | int | None]
"""Columns of a row by their names; None where there is nothing to measure."""


@dataclass(frozen=True)
class Span:
    """The error in one span of height, over the captures that have a pixel there."""

    error: float | None
    """Mean absolute error, in the unit of the rows."""
    images: int
    """Captures with a pixel there."""
    pixels: int
    """Of all captures."""

    def cells(self, name: str) -> Cells:
        """The three figures, the error called `name`."""
        return {name: self.error, "images": self.images, "pixels": self.pixels}


@dataclass(frozen=True)
class Heights:
    """Errors of objects and of the bench apart: means over the captures whose bench is known."""

    unit: str
    objects: float | None
    """Mean absolute error of objects; None without any."""
    bench: float | None
    """Mean absolute error of the bench."""
    share: float | None
    """Share of the scored pixels that are objects."""
    spans: dict[str, Span]
    """By height above the bench, low to high."""

    def document(self) -> dict[str, object]:
        """What is known, ready for JSON: mae_objects_mm, mae_bench_mm, objects_share and spans."""
        found = {OBJECTS + self.unit: self.objects, BENCH + self.unit: self.bench, SHARE: self.share}
        spans = {name: span.cells(f"mae_{self.unit}") for name, span in self.spans.items()}
        return {**{name: value for name, value in found.items() if value is not None}, "spans": spans}


def bench_of(model: object) -> Background | None:
    """The bench that a model, or a model's or run's folder, knows; None where it knows none.

    Raises:
        ValueError: a folder's background that cannot be read.
    """
    if isinstance(model, DescribedModel):
        return model.background
    folders = (Path(model) / "best", Path(model)) if isinstance(model, str | Path) else ()
    found = next((folder for folder in folders if (folder / DEPTH).is_file()), None)
    return None if found is None else read_background(found)


def edges_of(bench: Background) -> tuple[float, ...]:
    """Where the spans of height above this bench begin and end, metres."""
    return tuple(edge * (10 if np.median(bench.depth) > FAR else 1) for edge in EDGES)


def measure_heights(bench: Background, capture: Capture, prediction: DepthArray, unit: str) -> Cells:
    """The columns that a capture's row gets; without values where the bench has another aspect than the capture.

    Args:
        bench: what the camera sees without objects.
        capture: as the protocol shows it.
        prediction: as scored, metres, at the size of the capture's depth.
        unit: of the errors, a key of UNITS.
    """
    edges = edges_of(bench)
    names = list(_names(edges, unit))
    try:
        wall = bench.depth_at(capture.depth.shape)
    except ValueError:
        row: Cells = dict.fromkeys((OBJECTS + unit, BENCH + unit, SHARE))
        for name in names:
            row |= _span_columns(name, unit, 0, 0.0)
        return row
    error = np.abs(prediction.astype(np.float64) - capture.depth)[capture.mask] / UNITS[unit]
    objects = bench.mask_objects(capture.depth)[capture.mask]
    place = np.digitize((wall - capture.depth)[capture.mask], edges)
    pixels = np.bincount(place, minlength=len(names)).tolist()
    totals = np.bincount(place, error, minlength=len(names)).tolist()
    row = {OBJECTS + unit: _mean(error[objects]), BENCH + unit: _mean(error[~objects]), SHARE: float(objects.mean())}
    for name, count, total in zip(names, pixels, totals, strict=True):
        row |= _span_columns(name, unit, count, total)
    return row


def summarize_heights(rows: Sequence[Row]) -> Heights | None:
    """Means over the captures whose bench is known; None where there are none."""
    unit, known = _known(rows)
    if not known:
        return None
    names = [name[len("pixels_above[") : -1] for name in rows[0] if name.startswith("pixels_above[")]
    spans = {name: _summarize_span(known, f"mae_{unit}[{name}]", f"pixels_above[{name}]") for name in names}
    objects, bench, share = (_mean_of(known, name) for name in (OBJECTS + unit, BENCH + unit, SHARE))
    return Heights(unit, objects, bench, share, spans)


def height_lines(rows: Sequence[Row]) -> dict[str, Cells]:
    """Bench, objects and each span -> heading -> mean, captures, pixels; empty where no bench is known."""
    found, (_, known) = summarize_heights(rows), _known(rows)
    if found is None:
        return {}
    objects = [round(row[SHARE] * row["pixels"]) for row in known]
    bench = [row["pixels"] - count for row, count in zip(known, objects, strict=True)]
    parts = {"bench": Span(found.bench, *_count(bench)), "objects": Span(found.objects, *_count(objects))}
    parts |= {f"height {name}": span for name, span in found.spans.items()}
    return {name: span.cells(f"MAE ({found.unit})") for name, span in parts.items()}


def _known(rows: Sequence[Row]) -> tuple[str, list[Row]]:
    """The unit of the errors, and the rows of captures whose bench is known."""
    unit = next((name.removeprefix(OBJECTS) for name in rows[0] if name.startswith(OBJECTS)), "")
    return unit, [row for row in rows if row.get(SHARE) is not None]


def _names(edges: Sequence[float], unit: str) -> Iterator[str]:
    """What the spans are called, low to high: `under 10 mm`, `10-25 mm`, …, `100+ mm`."""
    values = [f"{edge / UNITS[unit]:g}" for edge in edges]
    yield f"under {values[0]} {unit}"
    yield from (f"{low}-{high} {unit}" for low, high in pairwise(values))
    yield f"{values[-1]}+ {unit}"


def _span_columns(name: str, unit: str, pixels: int, total: float) -> Cells:
    return {f"pixels_above[{name}]": pixels, f"mae_{unit}[{name}]": total / pixels if pixels else None}


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _mean_of(rows: Sequence[Row], name: str) -> float | None:
    """The mean over the captures that have a value."""
    return _mean(np.array([row[name] for row in rows if row[name] is not None], np.float64))


def _count(pixels: Sequence[int]) -> tuple[int, int]:
    """How many captures have a pixel, and the pixels of all."""
    return sum(count > 0 for count in pixels), sum(pixels)


def _summarize_span(rows: Sequence[Row], error: str, pixels: str) -> Span:
    return Span(_mean_of(rows, error), *_count([row[pixels] for row in rows]))
