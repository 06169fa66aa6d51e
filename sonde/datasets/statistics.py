"""Ranges and per-capture figures of a set, read one capture at a time."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from sonde.datasets.contract import DepthSet


class Figures(NamedTuple):
    """Of one capture; depths in the set's unit."""

    id: str
    height: int
    width: int
    valid: float
    """Share of trusted pixels."""
    min: float
    median: float
    max: float
    mean: float


def depth_range(captures: DepthSet, indices: Iterable[int]) -> tuple[float, float]:
    """Smallest and largest trusted depth of these captures, metres.

    Raises:
        ValueError: a capture that cannot be read, or no depth at all.
    """
    low, high = np.inf, 0.0
    for index in indices:
        depth = captures.read_depth(index)
        trusted = depth[depth > 0]
        low, high = min(low, float(trusted.min(initial=np.inf))), max(high, float(trusted.max(initial=0.0)))
    if low > high:
        raise ValueError(
            f"No captures of {captures.root} to take the depth range of, or none with depth in its limits."
        )
    return low, high


def figures(captures: DepthSet, index: int) -> Figures:
    """The figures of one capture, from its depth alone.

    Raises:
        ValueError: it cannot be read, or has no depth within the set's limits.
    """
    depth = captures.read_depth(index)
    trusted = depth[depth > 0] / captures.unit_m
    if not trusted.size:
        raise ValueError(empty(captures, index))
    low, median, high = np.percentile(trusted, [0, 50, 100])
    height, width = depth.shape
    share = trusted.size / depth.size
    return Figures(
        captures.ids[index], height, width, share, float(low), float(median), float(high), float(trusted.mean())
    )


def empty(captures: DepthSet, index: int) -> str:
    """What to say of a capture without depth, which only sets of labels let through: all of it may be too far."""
    low, high = captures.limits
    return (
        f"{captures.ids[index]} has no depth between {low:g} and {high:g} {captures.unit}: check data.max_depth, or "
        "leave the capture out (sonde data check --reject, data.reject)."
    )


def describe(captures: DepthSet) -> dict[str, Any]:
    """The figures of the whole set and of every capture, in the set's unit, ready for JSON.

    `mean` and `std` are of the means of the captures, so that each counts alike.

    Raises:
        ValueError: a capture that cannot be read.
    """
    rows = [figures(captures, index) for index in range(len(captures))]
    return {
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
