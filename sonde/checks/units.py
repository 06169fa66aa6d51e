"""Whether depth has the declared unit: compared with the range of the set's camera, and with the other captures."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sonde.checks.answers import CheckResult, Fault, SureFault
from sonde.datasets import Capture, DepthSet, PairSet
from sonde.datasets.rejects import DepthSubset
from sonde.renamed import keep_old_names

Range = tuple[float, float]

PLAUSIBLE: dict[str, Range] = {
    "zivid": (0.15, 6.0),
    "nyu": (0.4, 12.0),
    "nyu_labeled": (0.4, 12.0),
    "kitti": (0.5, 100.0),
    "kitti_kb": (0.5, 100.0),
    "driving_stereo": (0.5, 100.0),
}
"""Layout -> range of the median depth of a set, in metres, for its camera."""
ANY_CAMERA: Range = (0.02, 200.0)
USUAL: Range = (0.3, 40.0)
"""The range, in metres, from which a wrong factor is guessed for an unknown camera."""
FACTORS = (1000.0, 100.0, 10.0)
"""Factors between units that are proposed."""
SURELY_OUTSIDE = 10.0
"""A usual depth is surely wrong if it is this many times outside the range, and one of FACTORS brings it inside."""
TAPED: Range = (0.02, 100.0)
"""Metres: outside it, what somebody measured by hand is likely of another unit."""
SURELY_TAPED: Range = (0.002, 1000.0)
"""The same, where it surely is."""
LEAST_MM = 20.0
"""Millimetres: on a bench, nothing is nearer."""
LEAST_CAPTURES = 4
"""With fewer captures, none is compared with the others."""
LEAST_RATIO = 40.0
"""Ratio of a capture's median depth to the set's. A camera in front of a wall reaches 26, another unit 100 and more."""
TIGHT_RATIO, TIGHT, TIGHT_CAPTURES = 7.0, 1.5, 6
"""The same ratio for a set of at least 6 captures whose medians, without the outer tenths, span a ratio of 1.5 at
most."""
INSIDE = (0.1, 0.9)
"""Range of the principal point, relative to width and height; a crop rarely moves it outside."""
VIEW = (5.0, 150.0)
"""Range of the horizontal field of view of a pinhole camera, in degrees."""


class Reach(NamedTuple):
    """Median and farthest depth of one capture, in metres."""

    median: float
    farthest: float


def look(captures: DepthSet, capture: Capture) -> Reach | None:
    """Median and farthest depth; None if the set has no metric unit."""
    if captures.space != "metric":
        return None
    depth = capture.depth[capture.mask]
    return Reach(float(np.median(depth)), float(depth.max()))


def judge(captures: DepthSet, seen: Mapping[str, Reach | None]) -> CheckResult:
    """A fault if the usual depth is outside the range of the set's camera, or one for each capture of another unit."""
    reach = {name: found for name, found in seen.items() if found is not None}
    if not reach:
        return CheckResult([], 0, "No capture has a metric unit.")
    usual = float(np.median([found.median for found in reach.values()]))
    range_ = find_range(captures)
    near = {name: _check_near(captures, name, found) for name, found in reach.items()}
    own: dict[str, Fault] = {name: SureFault(name, line) for name, line in near.items() if line}
    for name in _find_apart({name: found.median for name, found in reach.items()}, usual):
        own.setdefault(name, Fault(name, _explain_unlike(captures, name, reach[name].median, usual)))
    if range_[0] <= usual <= range_[1] or len(own) > len(reach) / 2:
        note = "" if len(reach) >= LEAST_CAPTURES else "Too few captures to compare."
        return CheckResult([own[name] for name in reach if name in own], len(reach), note)
    return CheckResult([_explain_implausible(captures, list(reach), usual, range_)], len(reach))


def find_range(captures: DepthSet) -> Range:
    """The range of the median depth of a set, in metres, for the camera of its layout."""
    while isinstance(captures, DepthSubset):
        captures = captures.captures
    return PLAUSIBLE.get(captures.layout, ANY_CAMERA) if isinstance(captures, PairSet) else ANY_CAMERA


def judge_lengths(lengths: Float[np.ndarray, " n"]) -> Fault | None:
    """A fault if all lengths that somebody measured, in metres, are outside what a usual camera sees.

    It is sure beyond what anybody measures from a camera; or if all are whole numbers that millimetres would explain.
    """
    low, high, usual = float(lengths.min()), float(lengths.max()), float(np.median(lengths))
    far = low > TAPED[1]
    if not far and high >= TAPED[0]:
        return None
    corrected = {factor: usual / factor if far else usual * factor for factor in FACTORS}
    factor = next((factor for factor, depth in corrected.items() if USUAL[0] <= depth <= USUAL[1]), None)
    whole = far and factor == FACTORS[0] and bool((lengths == np.round(lengths)).all())
    kind = SureFault if whole or low > SURELY_TAPED[1] or high < SURELY_TAPED[0] else Fault
    where = f"farther than {TAPED[1]:g} m" if far else f"nearer than {TAPED[0]:g} m"
    way = "divided" if far else "multiplied"
    likely = "" if factor is None else f" ({corrected[factor]:.4g} m if {way} by {factor:g})"
    line = f"All known depths are {where}, usually {usual:.4g} m{likely}: their unit looks wrong"
    return kind("", f"{line}; correct --unit, or for a depth map --depth-scale.")


def check_intrinsics(captures: DepthSet, capture: Capture) -> str | None:
    """A line if the intrinsics belong to another size than the depth map's, or to no camera."""
    if capture.intrinsics is None:
        return None
    height, width = capture.depth.shape
    (fx, _, cx), (_, _, cy) = capture.intrinsics[:2]
    across = float(np.degrees(2 * np.arctan(width / 2 / fx)))
    centred = INSIDE[0] < cx / width < INSIDE[1] and INSIDE[0] < cy / height < INSIDE[1]
    if centred and VIEW[0] < across < VIEW[1]:
        return None
    return (
        f"{capture.id} is {width}x{height}, but its intrinsics give a field of view of {across:.0f} degrees and an "
        f"optical axis at ({cx:.0f}, {cy:.0f}): they may belong to another size; scale them like the images."
    )


def _check_near(captures: DepthSet, name: str, found: Reach) -> str | None:
    farthest = found.farthest / captures.unit_m
    if captures.unit != "mm" or farthest >= LEAST_MM:
        return None
    return f"{name} ends at {farthest:g} mm: it looks like metres; multiply X, Y and Z by 1000."


def _find_apart(medians: dict[str, float], usual: float) -> list[str]:
    """Captures whose median depth is far from the set's."""
    if len(medians) < LEAST_CAPTURES:
        return []
    ordered = sorted(medians.values())
    few = max(1, len(ordered) // 10)
    tight = len(ordered) >= TIGHT_CAPTURES and ordered[-1 - few] <= TIGHT * ordered[few]
    least = TIGHT_RATIO if tight else LEAST_RATIO
    return [name for name, median in medians.items() if max(median / usual, usual / median) >= least]


def _explain_unlike(captures: DepthSet, name: str, median: float, usual: float) -> str:
    ratio = max(median, usual) / min(median, usual)
    factor = min(FACTORS, key=lambda factor: abs(np.log(factor / ratio)))
    return (
        f"{name} has a median depth of {median / captures.unit_m:.4g} {captures.unit}, and the set usually "
        f"{usual / captures.unit_m:.4g}; that is {ratio:.3g} times {'more' if median > usual else 'less'}, like "
        f"another unit: {'divide' if median > usual else 'multiply'} it by {factor:g}, or remove it."
    )


def _explain_implausible(captures: DepthSet, names: list[str], usual: float, range_: Range) -> Fault:
    low, high = USUAL if range_ == ANY_CAMERA else range_
    far = usual > high
    corrected = {factor: usual / factor if far else usual * factor for factor in FACTORS}
    factor = next((factor for factor, depth in corrected.items() if low <= depth <= high), None)
    remedy = "check its unit" if factor is None else f"{'divide' if far else 'multiply'} it by {factor:g}"
    outside = usual / range_[1] if far else range_[0] / usual
    kind = SureFault if factor is not None and outside >= SURELY_OUTSIDE else Fault
    line = (
        f"The usual depth of this set is {usual / captures.unit_m:.4g} {captures.unit} ({usual:.4g} m), but such a "
        f"camera sees {range_[0]:g} to {range_[1]:g} m: the unit, or the number of levels per unit, is wrong; {remedy}."
    )
    return kind("" if len(names) > 1 else names[0], line)


keep_old_names(__name__, {"camera": "check_intrinsics"})
