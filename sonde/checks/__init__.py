"""What is wrong with a set of captures: each is read once and asked every question of CHECKS, then compared with all.

A check answers one line, naming the capture and the remedy, or None. It must find what it is made for and say nothing
of sound captures, real or rendered, dense or sparse; each constant below stands far from both.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sonde.checks.edges import edge_shift
from sonde.checks.twins import Twins
from sonde.datasets import Capture, DepthSet

__all__ = ["CHECKS", "Check", "Problem", "Twins", "check", "edge_shift"]


class Problem(NamedTuple):
    """One fault of a dataset."""

    capture: str
    """Its id; empty where the fault is the set's."""
    check: str
    message: str
    """What is wrong and what to do, one line."""

    def __str__(self) -> str:
        return self.message


Check = Callable[[DepthSet, Capture], str | None]
"""What is wrong with a capture that can be read, or None."""

LEAST_SHARE = 0.01
"""Of pixels with depth: sparse lidar has some 5 %."""
SHARE_OF_OTHERS = 0.2
"""A capture with less than this share of the depth its set usually has is an outlier."""
LEAST_SPREAD = 0.005
"""Of the median, between the 1st and 99th percentile: a board seen head-on by 1 degree off varies by 1 %."""
CLIPPED_SHARE = 0.05
"""Of trusted pixels exactly at the nearest or farthest depth: real sensors stay below 0.2 %, rounding included."""
LEAST_PIXELS = 200
"""Fewer trusted pixels tell nothing of clipping."""


def check(captures: DepthSet, progress: Callable[[int], None] | None = None) -> list[Problem]:
    """Every fault of a set, capture by capture.

    Args:
        captures: the set, opened with `strict=False` so that its missing partners are told too.
        progress: called with the number of captures done.
    """
    problems = [Problem("", "pairs", line) for line in captures.problems]
    shares: dict[str, float] = {}
    twins = Twins()
    for index, name in enumerate(captures.ids):
        try:
            capture = captures.read(index)
        except ValueError as error:
            problems.append(Problem(name, "files", str(error)))
        else:
            answers = {known: answer(captures, capture) for known, answer in CHECKS.items()}
            answers["duplicate"] = twins.met(capture)
            problems += [Problem(name, known, message) for known, message in answers.items() if message]
            shares[name] = float(capture.mask.mean())
        if progress:
            progress(index + 1)
    return problems + sparse(shares)


def flat(captures: DepthSet, capture: Capture) -> str | None:
    """A map of hardly any variation was not measured, or teaches nothing."""
    low, median, high = np.percentile(capture.depth[capture.mask], [1, 50, 99])
    if high - low >= LEAST_SPREAD * median:
        return None
    shown = f"{median / captures.unit_m:.4g} {captures.unit} everywhere, within {(high - low) / median:.2%}"
    return f"{capture.id} is {shown}: export its depth again, or remove it."


def clipped(captures: DepthSet, capture: Capture) -> str | None:
    """Many pixels at exactly the nearest or the farthest depth: a writer cut off what lay beyond.

    A relative teacher's sky is its smallest disparity, and rightly so: the farthest depth is not asked there.
    """
    depth = capture.depth[capture.mask]
    low, high = depth.min(), depth.max()
    if depth.size < LEAST_PIXELS or low == high:
        return None
    ends = (low,) if captures.space == "disparity" else (low, high)
    share, end = max((float(np.mean(depth == end)), end) for end in ends)
    if share < CLIPPED_SHARE:
        return None
    value, which = f"{end / captures.unit_m:g} {captures.unit}", "nearest" if end == low else "farthest"
    return (
        f"{capture.id} is exactly {value}, its {which} depth, in {share:.0%} of its trusted pixels: it was clipped; "
        "export it unclipped, or set a limit inside that."
    )


def unit(captures: DepthSet, capture: Capture) -> str | None:
    """Metres where millimetres are expected: nothing on a bench is nearer than 20 mm."""
    farthest = float(capture.depth.max()) / captures.unit_m
    if captures.unit != "mm" or farthest >= 20:
        return None
    return f"{capture.id} ends at {farthest:g} mm: it looks like metres; multiply X, Y and Z by 1000."


def coverage(captures: DepthSet, capture: Capture) -> str | None:
    """A map with hardly any depth teaches nothing and scores noise."""
    share = float(capture.mask.mean())
    if share >= LEAST_SHARE:
        return None
    return f"{capture.id} has depth in {share:.2%} of its pixels: check exposure and limits, or remove it."


def sparse(shares: dict[str, float]) -> list[Problem]:
    """Captures with far less depth than their set usually has, as where a camera was inside a thing.

    Args:
        shares: capture id -> share of pixels with depth.
    """
    usual = float(np.median(list(shares.values()))) if shares else 0.0
    return [
        Problem(
            name,
            "coverage",
            f"{name} has depth in {share:.1%} of its pixels where this set usually has {usual:.0%}: check exposure and "
            "limits, or remove it.",
        )
        for name, share in shares.items()
        if LEAST_SHARE <= share < SHARE_OF_OTHERS * usual
    ]


def dark(captures: DepthSet, capture: Capture) -> str | None:
    """An image of one colour was not exposed."""
    if np.ptp(capture.image) > 10:
        return None
    return f"{capture.id} has an image of one colour: export it again."


def misaligned(captures: DepthSet, capture: Capture) -> str | None:
    """Colour and depth that are not of one view."""
    shift = edge_shift(capture.image, capture.depth)
    if shift is None:
        return None
    down, right = shift
    return (
        f"{capture.id} fits its image best with depth moved by {right:+d} pixels to the right and {down:+d} down: "
        "register colour and depth again, or remove it."
    )


CHECKS: dict[str, Check] = {
    "flat": flat,
    "clipped": clipped,
    "unit": unit,
    "coverage": coverage,
    "dark": dark,
    "misaligned": misaligned,
}
"""Per-capture checks by name; `files`, `pairs`, `duplicate` and the set's own `coverage` are `check`'s."""
