"""Errors of objects and of the bench apart, and by height above the bench, where a fixed camera's bench is known.

A bench that fills most of an image hides in one mean what the objects cost. An object is what `Background.objects`
says; height is the bench's depth less the true one, along the optical axis.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sonde.background import DEPTH, Background, read_background
from sonde.datasets import Capture
from sonde.models import DepthModel
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


def bench_of(model: object) -> Background | None:
    """The bench that a model, or a model's or run's folder, knows; None where it knows none.

    Raises:
        ValueError: a folder's background that cannot be read.
    """
    if isinstance(model, DepthModel):
        return model.background
    folders = (Path(model) / "best", Path(model)) if isinstance(model, str | Path) else ()
    found = next((folder for folder in folders if (folder / DEPTH).is_file()), None)
    return None if found is None else read_background(found)


def edges_of(bench: Background) -> tuple[float, ...]:
    """Where the spans of height above this bench begin and end, metres."""
    return tuple(edge * (10 if np.median(bench.depth) > FAR else 1) for edge in EDGES)


def by_height(bench: Background, capture: Capture, prediction: DepthArray, unit: str) -> dict[str, Any]:
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
        none = dict.fromkeys((OBJECTS + unit, BENCH + unit, SHARE))
        return none | {name: value for span in names for name, value in _span(span, unit, 0, 0.0).items()}
    error = np.abs(prediction.astype(np.float64) - capture.depth)[capture.mask] / UNITS[unit]
    objects = bench.objects(capture.depth)[capture.mask]
    place = np.digitize((wall - capture.depth)[capture.mask], edges)
    pixels = np.bincount(place, minlength=len(names)).tolist()
    totals = np.bincount(place, error, minlength=len(names)).tolist()
    row = {OBJECTS + unit: _mean(error[objects]), BENCH + unit: _mean(error[~objects]), SHARE: float(objects.mean())}
    for name, count, total in zip(names, pixels, totals, strict=True):
        row |= _span(name, unit, count, total)
    return row


def summarized(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the captures whose bench is known; empty where there are none.

    Of objects, of the bench, of the share of objects; and under `spans` span -> mean, number of captures with a pixel
    there, and the pixels of all.
    """
    unit, known = _known(rows)
    if not known:
        return {}
    names = [name[len("pixels_above[") : -1] for name in rows[0] if name.startswith("pixels_above[")]
    found = {name: _over(known, name) for name in (OBJECTS + unit, BENCH + unit, SHARE)}
    spans = {span: _over_span(known, f"mae_{unit}[{span}]", f"pixels_above[{span}]") for span in names}
    return {name: value for name, value in found.items() if value is not None} | {"spans": spans}


def lines(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Bench, objects and each span -> heading -> mean, captures, pixels; empty where no bench is known."""
    found, (unit, known) = summarized(rows), _known(rows)
    if not known:
        return {}
    objects = [round(row[SHARE] * row["pixels"]) for row in known]
    bench = [row["pixels"] - count for row, count in zip(known, objects, strict=True)]
    parts = {"bench": (BENCH, bench), "objects": (OBJECTS, objects)}
    table = {
        name: {f"mae_{unit}": found.get(prefix + unit), "images": sum(map(bool, counts)), "pixels": sum(counts)}
        for name, (prefix, counts) in parts.items()
    }
    table |= {f"height {span}": values for span, values in found["spans"].items()}
    heading = {f"mae_{unit}": f"MAE ({unit})"}
    return {part: {heading.get(name, name): value for name, value in cells.items()} for part, cells in table.items()}


def _known(rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[Mapping[str, Any]]]:
    """The unit of the errors, and the rows of captures whose bench is known."""
    unit = next((name.removeprefix(OBJECTS) for name in rows[0] if name.startswith(OBJECTS)), "")
    return unit, [row for row in rows if row.get(SHARE) is not None]


def _names(edges: Sequence[float], unit: str) -> Iterator[str]:
    """What the spans are called, low to high: `under 10 mm`, `10-25 mm`, …, `100+ mm`."""
    values = [f"{edge / UNITS[unit]:g}" for edge in edges]
    yield f"under {values[0]} {unit}"
    yield from (f"{low}-{high} {unit}" for low, high in pairwise(values))
    yield f"{values[-1]}+ {unit}"


def _span(name: str, unit: str, pixels: int, total: float) -> dict[str, Any]:
    return {f"pixels_above[{name}]": pixels, f"mae_{unit}[{name}]": total / pixels if pixels else None}


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _over(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The mean over the captures that have a value."""
    return _mean(np.array([row[name] for row in rows if row[name] is not None], np.float64))


def _over_span(rows: Sequence[Mapping[str, Any]], error: str, pixels: str) -> dict[str, Any]:
    counts = [row[pixels] for row in rows]
    return {error.partition("[")[0]: _over(rows, error), "images": sum(map(bool, counts)), "pixels": sum(counts)}
