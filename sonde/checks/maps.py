"""Checks of single captures: a map that is flat, clipped, empty or marks gaps by a number; an image of one colour."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from sonde.checks.answers import CheckResult, Fault, SureFault
from sonde.datasets import Capture, DepthSet
from sonde.geometry import SKY
from sonde.renamed import keep_old_names

LEAST_SHARE = 0.01
"""Share of pixels with depth; sparse lidar has about 5 %."""
SHARE_OF_OTHERS = 0.2
"""A capture whose share of depth is below this part of the set's median is an outlier."""
LEAST_SPREAD = 0.005
"""Range from the 1st to the 99th percentile, relative to the median. A board seen 1 degree off head-on has 1 %."""
CLIPPED_SHARE = 0.05
"""Share of trusted pixels at exactly the nearest or farthest depth. Real sensors stay below 0.2 %, rounding
included."""
CLIPPED_RATIO = 4.0
"""Ratio of the pixels at that depth to those at the next value: about 1 for a wall seen head-on in whole
millimetres."""
LEAST_PIXELS = 200
"""A map with fewer trusted pixels is not judged."""
LEAST_LEVELS = 10
"""An image whose values, of 255, differ by no more has one colour."""
CODE_SHARE = 0.001
"""Share of trusted pixels at one extreme value that is separated from all others by a gap."""
CODE_GAP, CODE_STEPS = 1.5, 10
"""Smallest ratio between a code and 99.9 % of the other depths, and smallest gap between them in steps of the file.
Nine tenths of the pixels beyond that ratio must be the code."""


def check_flat(captures: DepthSet, capture: Capture) -> str | None:
    """A line if the map has almost no variation: it was not measured, or teaches nothing."""
    low, median, high = np.percentile(capture.depth[capture.mask], [1, 50, 99])
    if high - low >= LEAST_SPREAD * median:
        return None
    shown = f"{median / captures.unit_m:.4g} {captures.unit} everywhere, within {(high - low) / median:.2%}"
    return f"{capture.id} is {shown}: export its depth again, or remove it."


def find_constant(captures: DepthSet, capture: Capture) -> float | None:
    """The one depth of all trusted pixels, in the set's unit; None if there are several, or too few pixels."""
    depth = capture.depth[capture.mask]
    return float(depth[0]) / captures.unit_m if depth.size >= LEAST_PIXELS and np.ptp(depth) == 0 else None


def judge_constant(captures: DepthSet, seen: Mapping[str, float | None]) -> CheckResult:
    """Maps of one depth; sure where captures share it, since walls at known distances are measured too.

    A bench may be nearly flat: only `check_flat` speaks of that.
    """
    shared = Counter(seen.values())
    faults = [
        (SureFault if shared[depth] > 1 else Fault)(
            name,
            f"{name} is exactly {depth:.6g} {captures.unit} in every trusted pixel: it was not measured; export its "
            "depth again.",
        )
        for name, depth in seen.items()
        if depth is not None
    ]
    return CheckResult(faults, len(seen))


def check_clipped(captures: DepthSet, capture: Capture) -> str | None:
    """A line if many pixels are at exactly the nearest or the farthest depth: a writer cut off everything beyond.

    In labels of a relative teacher the sky has the smallest disparity, correctly: there, only the nearest depth counts.
    """
    depth = _select_solid(captures, capture)
    low, high = depth.min(initial=np.inf), depth.max(initial=0)
    if depth.size < LEAST_PIXELS or low == high or check_code(captures, capture):
        return None
    ends = (low,) if captures.space == "disparity" else (low, high)
    share, end = max((float(np.mean(depth == end)), end) for end in ends)
    if share < CLIPPED_SHARE or share < CLIPPED_RATIO * np.mean(depth == _find_next(depth, end)):
        return None
    value, which = f"{end / captures.unit_m:g} {captures.unit}", "nearest" if end == low else "farthest"
    return (
        f"{capture.id} is exactly {value}, its {which} depth, in {share:.0%} of its trusted pixels: it was clipped; "
        "export it without clipping, or set data.min_depth or data.max_depth inside that value."
    )


def check_code(captures: DepthSet, capture: Capture) -> str | None:
    """A line if many pixels have one extreme value beyond a gap: a code for missing depth that was read as depth."""
    depth = _select_solid(captures, capture)
    if captures.space == "disparity" or depth.size < LEAST_PIXELS:
        return None
    for which, end, values in (("beyond", depth.max(), depth), ("nearer than", depth.min(), 1 / depth)):
        found = _find_code(values)
        if found is None or abs(_find_next(depth, end) - end) < CODE_STEPS * _find_step(depth):
            continue
        share, gap = found
        return (
            f"{capture.id} is exactly {end / captures.unit_m:g} {captures.unit} in {share:.2%} of its trusted pixels, "
            f"{gap:.3g} times {which} nearly all others: a code for invalid pixels, not a depth; write 0 or NaN there, "
            "or set data.min_depth or data.max_depth so that it is left out."
        )
    return None


def measure_coverage(captures: DepthSet, capture: Capture) -> float:
    """The share of pixels with depth."""
    return float(capture.mask.mean())


def judge_coverage(captures: DepthSet, seen: Mapping[str, float]) -> CheckResult:
    """Captures with almost no depth, or far less than the set's median, such as a camera inside an object."""
    usual = float(np.median(list(seen.values()))) if seen else 0.0
    remedy = "check exposure and limits, or remove it."
    faults = []
    for name, share in seen.items():
        if share < LEAST_SHARE:
            faults.append(Fault(name, f"{name} has depth in {share:.2%} of its pixels: {remedy}"))
        elif share < SHARE_OF_OTHERS * usual:
            line = f"{name} has depth in {share:.1%} of its pixels, and the set usually in {usual:.0%}: {remedy}"
            faults.append(Fault(name, line))
    return CheckResult(faults, len(seen))


def check_dark(captures: DepthSet, capture: Capture) -> str | None:
    """A line if the image has one colour: it was not exposed."""
    if measure_levels(captures, capture) > LEAST_LEVELS:
        return None
    return f"{capture.id} has an image of one colour: export it again."


def measure_levels(captures: DepthSet, capture: Capture) -> int:
    """The difference between the brightest and the darkest value of the image, 0 to 255."""
    return int(np.ptp(capture.image))


def judge_levels(captures: DepthSet, seen: Mapping[str, int]) -> CheckResult:
    """Images of one colour; sure where not one pixel differs."""
    faults = [
        (Fault if levels else SureFault)(name, f"{name} has an image of one colour: export it again.")
        for name, levels in seen.items()
        if levels <= LEAST_LEVELS
    ]
    return CheckResult(faults, len(seen))


def _select_solid(captures: DepthSet, capture: Capture) -> Float[np.ndarray, " n"]:
    """The trusted depths, without the sky of renders by sonde, whose depth is a convention."""
    depth = capture.depth[capture.mask]
    return depth[depth != np.float32(SKY)] if (captures.root / "render.json").is_file() else depth


def _find_next(depth: Float[np.ndarray, " n"], end: np.floating) -> np.floating:
    """The value next to the largest or the smallest one."""
    others = depth[depth != end]
    return others.max() if end == depth.max() else others.min()


def _find_step(depth: Float[np.ndarray, " n"]) -> np.floating:
    """The smallest difference between values of a sample: the step of the file, if it has one."""
    return np.diff(np.unique(depth[:: max(1, depth.size // 10_000)])).min(initial=np.inf)


def _find_code(values: Float[np.ndarray, " n"]) -> tuple[float, float] | None:
    """Share of the largest value, and its ratio to the 99.9th percentile of the others; None if it is not a code."""
    most = values.max()
    at = values >= most * (1 - 1e-6)
    share, others = float(at.mean()), values[~at]
    if share < CODE_SHARE or others.size < LEAST_PIXELS:
        return None
    usual = float(np.percentile(others, 99.9))
    beyond = float((others > usual * CODE_GAP).sum())
    lonely = most >= CODE_GAP * usual and beyond <= 0.1 * at.sum()
    return (share, float(most) / usual) if lonely else None


keep_old_names(
    __name__,
    {
        "clipped": "check_clipped",
        "code": "check_code",
        "coverage": "measure_coverage",
        "dark": "check_dark",
        "flat": "check_flat",
        "sparse": "judge_coverage",
    },
)
