"""Checks of one capture by itself: a map that is flat, clipped, empty or marks gaps by a number; a dark image."""

import numpy as np
from jaxtyping import Float

from sonde.checks.answers import CheckResult, Fault, Seen
from sonde.datasets import Capture, DepthSet
from sonde.scenes.layouts import SKY

LEAST_SHARE = 0.01
"""Of pixels with depth: sparse lidar has some 5 %."""
SHARE_OF_OTHERS = 0.2
"""A capture with less than this share of the depth its set usually has is an outlier."""
LEAST_SPREAD = 0.005
"""Of the median, between the 1st and 99th percentile: a board seen head-on by 1 degree off varies by 1 %."""
CLIPPED_SHARE = 0.05
"""Of trusted pixels exactly at the nearest or farthest depth: real sensors stay below 0.2 %, rounding included."""
CLIPPED_RATIO = 4.0
"""Of pixels at that depth to those at the next value: a wall seen head-on in whole millimetres has as many there."""
LEAST_PIXELS = 200
"""Fewer trusted pixels tell nothing of clipping."""
CODE_SHARE = 0.001
"""Of trusted pixels at one extreme value, with a gap beside it."""
CODE_GAP, CODE_STEPS = 1.5, 10
"""Ratio of a code to all but a thousandth of the other depths, and steps of the file between them; nine tenths of what
is beyond that ratio are the code."""


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
    depth = _solid(captures, capture)
    low, high = depth.min(initial=np.inf), depth.max(initial=0)
    if depth.size < LEAST_PIXELS or low == high or code(captures, capture):
        return None
    ends = (low,) if captures.space == "disparity" else (low, high)
    share, end = max((float(np.mean(depth == end)), end) for end in ends)
    if share < CLIPPED_SHARE or share < CLIPPED_RATIO * np.mean(depth == _next(depth, end)):
        return None
    value, which = f"{end / captures.unit_m:g} {captures.unit}", "nearest" if end == low else "farthest"
    return (
        f"{capture.id} is exactly {value}, its {which} depth, in {share:.0%} of its trusted pixels: it was clipped; "
        "export it unclipped, or set a limit inside that."
    )


def code(captures: DepthSet, capture: Capture) -> str | None:
    """One extreme value, alone beyond a gap, in many pixels: a mark for no depth that was read as depth."""
    depth = _solid(captures, capture)
    if captures.space == "disparity" or depth.size < LEAST_PIXELS:
        return None
    for which, end, values in (("beyond", depth.max(), depth), ("nearer than", depth.min(), 1 / depth)):
        found = _code(values)
        if found is None or abs(_next(depth, end) - end) < CODE_STEPS * _step(depth):
            continue
        share, gap = found
        return (
            f"{capture.id} is exactly {end / captures.unit_m:g} {captures.unit} in {share:.2%} of its trusted pixels, "
            f"{gap:.3g} times {which} nearly all others: a mark for invalid pixels, not a depth; write 0 or NaN there, "
            "or set a limit that leaves it out."
        )
    return None


def coverage(captures: DepthSet, capture: Capture) -> float:
    """The share of pixels with depth."""
    return float(capture.mask.mean())


def sparse(captures: DepthSet, seen: Seen) -> CheckResult:
    """Captures with hardly any depth, or far less than their set usually has, as where a camera was inside a thing."""
    usual = float(np.median(list(seen.values()))) if seen else 0.0
    remedy = "check exposure and limits, or remove it."
    faults = []
    for name, share in seen.items():
        if share < LEAST_SHARE:
            faults.append(Fault(name, f"{name} has depth in {share:.2%} of its pixels: {remedy}"))
        elif share < SHARE_OF_OTHERS * usual:
            line = f"{name} has depth in {share:.1%} of its pixels where this set usually has {usual:.0%}: {remedy}"
            faults.append(Fault(name, line))
    return CheckResult(faults, len(seen))


def dark(captures: DepthSet, capture: Capture) -> str | None:
    """An image of one colour was not exposed."""
    if np.ptp(capture.image) > 10:
        return None
    return f"{capture.id} has an image of one colour: export it again."


def _solid(captures: DepthSet, capture: Capture) -> Float[np.ndarray, " n"]:
    """The trusted depths, without the sky of our own renders, which has a depth by convention."""
    depth = capture.depth[capture.mask]
    return depth[depth != np.float32(SKY)] if (captures.root / "render.json").is_file() else depth


def _next(depth: Float[np.ndarray, " n"], end: np.floating) -> np.floating:
    """The value beside the largest or the smallest."""
    others = depth[depth != end]
    return others.max() if end == depth.max() else others.min()


def _step(depth: Float[np.ndarray, " n"]) -> np.floating:
    """The smallest difference of a sample's values: a file's step, where it has one."""
    return np.diff(np.unique(depth[:: max(1, depth.size // 10_000)])).min(initial=np.inf)


def _code(values: Float[np.ndarray, " n"]) -> tuple[float, float] | None:
    """Share of the largest value and its ratio to what nearly all others stay below, where it is a code."""
    most = values.max()
    at = values >= most * (1 - 1e-6)
    share, others = float(at.mean()), values[~at]
    if share < CODE_SHARE or others.size < LEAST_PIXELS:
        return None
    usual = float(np.percentile(others, 99.9))
    beyond = float((others > usual * CODE_GAP).sum())
    lonely = most >= CODE_GAP * usual and beyond <= 0.1 * at.sum()
    return (share, float(most) / usual) if lonely else None
