"""Depth range and statistics of a set, read one capture at a time."""

from collections.abc import Iterable
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np

from sonde.datasets.contract import DepthSet
from sonde.renamed import keep_old_names
from sonde.spelling import quantify


class CaptureStatistics(NamedTuple):
    """Statistics of one capture; depths in the set's unit."""

    id: str
    height: int
    width: int
    valid: float
    """Share of trusted pixels."""
    min: float
    median: float
    max: float
    mean: float


class SetStatistics(TypedDict):
    """Statistics of a set, ready for JSON; depths in the set's unit."""

    captures: int
    unit: str
    sizes: list[str]
    """WIDTHxHEIGHT of the depth maps, each size once."""
    valid: float
    """Mean share of trusted pixels."""
    min: float
    median: float
    """Median of the captures' medians."""
    max: float
    mean: float
    """Mean of the captures' means, so that every capture has the same weight."""
    std: float
    """Standard deviation of the captures' means."""
    per_capture: list[dict[str, str | float]]
    """A `CaptureStatistics` as a dict, for every capture that can be read."""
    failed: NotRequired[dict[str, str]]
    """Capture id -> why it could not be read; the other values are of the rest."""


def find_depth_range(captures: DepthSet, indices: Iterable[int]) -> tuple[float, float]:
    """Smallest and largest trusted depth of these captures, in metres.

    Raises:
        ValueError: a capture cannot be read, or there is no depth at all.
    """
    low, high = np.inf, 0.0
    for index in indices:
        depth = captures.read_depth(index)
        trusted = depth[depth > 0]
        low, high = min(low, float(trusted.min(initial=np.inf))), max(high, float(trusted.max(initial=0.0)))
    if low > high:
        raise ValueError(
            f"No depth range: {captures.root} has no training captures, or none with depth inside its limits. Check "
            "data.split, data.min_depth and data.max_depth."
        )
    return low, high


def measure_capture(captures: DepthSet, index: int) -> CaptureStatistics:
    """The statistics of one capture; only its depth is read.

    Raises:
        ValueError: it cannot be read, or has no depth inside the set's limits.
    """
    depth = captures.read_depth(index)
    trusted = depth[depth > 0] / captures.unit_m
    if not trusted.size:
        raise ValueError(explain_empty(captures, index))
    low, median, high = np.percentile(trusted, [0, 50, 100])
    height, width = depth.shape
    share = trusted.size / depth.size
    return CaptureStatistics(
        captures.ids[index], height, width, share, float(low), float(median), float(high), float(trusted.mean())
    )


def explain_empty(captures: DepthSet, index: int) -> str:
    """The message for a capture without depth. Only sets of pseudo-labels return such a capture: all may be too far."""
    low, high = captures.limits
    return (
        f"{captures.ids[index]} has no depth between {low:g} and {high:g} {captures.unit}: check data.max_depth, or "
        "leave the capture out (sonde data check --reject, data.reject)."
    )


def describe(captures: DepthSet) -> SetStatistics:
    """The statistics of the whole set and of every capture, in the set's unit.

    Captures that cannot be read are left out and listed.

    Raises:
        ValueError: no capture can be read.
    """
    rows: list[CaptureStatistics] = []
    failed: dict[str, str] = {}
    for index, name in enumerate(captures.ids):
        try:
            rows.append(measure_capture(captures, index))
        except ValueError as error:
            failed[name] = str(error)
    if not rows:
        raise ValueError(
            f"None of {quantify(len(failed), 'capture')} can be read: {next(iter(failed.values()), 'there are none')}"
        )
    found: SetStatistics = {
        "captures": len(rows),
        "unit": captures.unit,
        "sizes": sorted({f"{row.width}x{row.height}" for row in rows}),
        "valid": float(np.mean([row.valid for row in rows])),
        "min": min(row.min for row in rows),
        "median": float(np.median([row.median for row in rows])),
        "max": max(row.max for row in rows),
        "mean": float(np.mean([row.mean for row in rows])),
        "std": float(np.std([row.mean for row in rows])),
        "per_capture": [row._asdict() for row in rows],
    }
    if failed:
        found["failed"] = failed
    return found


keep_old_names(
    __name__,
    {
        "Figures": "CaptureStatistics",
        "depth_range": "find_depth_range",
        "empty": "explain_empty",
        "figures": "measure_capture",
    },
)
