"""Whether the numbers are metres, or millimetres, as declared: by what the set's camera can see, and by the others."""

from typing import NamedTuple

import numpy as np

from sonde.checks.answers import CheckResult, Fault, Seen
from sonde.datasets import Capture, DepthSet, PairSet

Range = tuple[float, float]

PLAUSIBLE: dict[str, Range] = {
    "zivid": (0.15, 6.0),
    "nyu": (0.4, 12.0),
    "nyu_labeled": (0.4, 12.0),
    "kitti": (0.5, 100.0),
    "kitti_kb": (0.5, 100.0),
    "driving_stereo": (0.5, 100.0),
}
"""Layout -> metres between which the median depth of a set by such a camera lies."""
ANY_CAMERA: Range = (0.02, 200.0)
USUAL: Range = (0.3, 40.0)
"""What a wrong factor is guessed by, where the camera is unknown."""
FACTORS = (1000.0, 100.0, 10.0)
LEAST_MM = 20.0
"""Nothing on a bench is nearer, in millimetres."""
LEAST_CAPTURES = 4
"""Fewer cannot say what is usual."""
LEAST_RATIO = 40.0
"""Of a capture's median depth to its set's: a camera at a wall comes to 26, another unit to 100 and more."""
TIGHT_RATIO, TIGHT, TIGHT_CAPTURES = 7.0, 1.5, 6
"""Likewise in a set of so many captures whose medians, but for the outer tenths, span no more than a ratio of 1.5."""
INSIDE = (0.1, 0.9)
"""Of width and height: where the optical axis meets the image; a crop rarely moves it beyond."""
VIEW = (5.0, 150.0)
"""Degrees across that a pinhole camera sees."""


class Reach(NamedTuple):
    """Of one capture, metres."""

    median: float
    farthest: float


def look(captures: DepthSet, capture: Capture) -> Reach | None:
    """Median and farthest depth; None where the set's unit is unknown by its nature."""
    if captures.space != "metric":
        return None
    depth = capture.depth[capture.mask]
    return Reach(float(np.median(depth)), float(depth.max()))


def judge(captures: DepthSet, seen: Seen) -> CheckResult:
    """A set whose usual depth no camera of its layout sees, or captures of another unit than the rest."""
    reach: dict[str, Reach] = {name: found for name, found in seen.items() if found is not None}
    if not reach:
        return CheckResult([], 0, "No capture of a known unit.")
    usual = float(np.median([found.median for found in reach.values()]))
    range_ = PLAUSIBLE.get(captures.layout, ANY_CAMERA) if isinstance(captures, PairSet) else ANY_CAMERA
    lines = {name: _near(captures, name, found) for name, found in reach.items()}
    for name in _apart({name: found.median for name, found in reach.items()}, usual):
        lines[name] = lines[name] or _unlike(captures, name, reach[name].median, usual)
    own = [Fault(name, line) for name, line in lines.items() if line]
    if range_[0] <= usual <= range_[1] or len(own) > len(reach) / 2:
        return CheckResult(own, len(reach), "" if len(reach) >= LEAST_CAPTURES else "Too few captures to compare.")
    return CheckResult(
        [Fault("" if len(reach) > 1 else next(iter(reach)), _implausible(captures, usual, range_))], len(reach)
    )


def camera(captures: DepthSet, capture: Capture) -> str | None:
    """Intrinsics of another size than the depth map's, or of no camera."""
    if capture.intrinsics is None:
        return None
    height, width = capture.depth.shape
    (fx, _, cx), (_, _, cy) = capture.intrinsics[:2]
    across = float(np.degrees(2 * np.arctan(width / 2 / fx)))
    if INSIDE[0] < cx / width < INSIDE[1] and INSIDE[0] < cy / height < INSIDE[1] and VIEW[0] < across < VIEW[1]:
        return None
    return (
        f"{capture.id} is {width}x{height} but its intrinsics see {across:.0f} degrees across, with the optical axis "
        f"at ({cx:.0f}, {cy:.0f}): are they those of another size? Scale them as the images were."
    )


def _near(captures: DepthSet, name: str, found: Reach) -> str | None:
    farthest = found.farthest / captures.unit_m
    if captures.unit != "mm" or farthest >= LEAST_MM:
        return None
    return f"{name} ends at {farthest:g} mm: it looks like metres; multiply X, Y and Z by 1000."


def _apart(medians: dict[str, float], usual: float) -> list[str]:
    """Captures whose depth is out of the others' scale."""
    if len(medians) < LEAST_CAPTURES:
        return []
    ordered = sorted(medians.values())
    few = max(1, len(ordered) // 10)
    tight = len(ordered) >= TIGHT_CAPTURES and ordered[-1 - few] <= TIGHT * ordered[few]
    least = TIGHT_RATIO if tight else LEAST_RATIO
    return [name for name, median in medians.items() if max(median / usual, usual / median) >= least]


def _unlike(captures: DepthSet, name: str, median: float, usual: float) -> str:
    ratio = max(median, usual) / min(median, usual)
    factor = min(FACTORS, key=lambda factor: abs(np.log(factor / ratio)))
    return (
        f"{name} has a median depth of {median / captures.unit_m:.4g} {captures.unit} where this set usually has "
        f"{usual / captures.unit_m:.4g}, {ratio:.3g} times {'more' if median > usual else 'less'}: it looks like "
        f"another unit; {'divide' if median > usual else 'multiply'} it by {factor:g}, or remove it."
    )


def _implausible(captures: DepthSet, usual: float, range_: Range) -> str:
    low, high = USUAL if range_ == ANY_CAMERA else range_
    far = usual > high
    fitting = (factor for factor in FACTORS if low <= (usual / factor if far else usual * factor) <= high)
    factor = next(fitting, None)
    remedy = "check its unit" if factor is None else f"{'divide' if far else 'multiply'} it by {factor:g}"
    return (
        f"The usual depth of this set is {usual / captures.unit_m:.4g} {captures.unit} ({usual:.4g} m), where such a "
        f"camera sees {range_[0]:g} to {range_[1]:g} m: the unit, or the levels per unit, is wrong; {remedy}."
    )
