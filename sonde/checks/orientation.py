"""Whether EXIF turned an image and not its depth, or depth and image apart: the way their edges agree is measured.

Also told, as no fault: images whose size is no whole multiple of their depth map's, which are read at another size.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sonde.checks.answers import CheckResult, Fault
from sonde.checks.edges import (
    LEAST_CAPTURES,
    LEAST_FIT,
    LEAST_GAIN,
    MOST_FIT,
    SET_FIT,
    SET_GAIN,
    SET_SHARE,
    find_rest_fit,
)
from sonde.datasets import Capture, DepthSet, PairSet
from sonde.datasets.sizes import describe_resize
from sonde.files.images import SIDEWAYS, read_rgb
from sonde.geometry import turn_upright
from sonde.spelling import quantify

BACK = {6: 8, 8: 6}
"""The orientation that undoes another one; all others undo themselves."""


class TurnFit(NamedTuple):
    """A capture whose image EXIF turned, and how well its depth fits both ways."""

    orientation: int
    turned: bool
    """Whether its depth is turned with the image."""
    here: float | None
    """Fit of the depth as it is read, in deviations from chance; None: too few edges."""
    other: float | None
    """Fit of the depth the other way; None: too few edges, or that way has another size."""


def look(captures: DepthSet, capture: Capture) -> TurnFit | None:
    """How well depth fits both ways; None where EXIF turned nothing."""
    found = _find_photo(captures, capture)
    if found is None:
        return None
    source, index = found
    orientation = source.read_orientation(index)
    if orientation == 1:
        return None
    turned = source.read_turn(index) > 1
    other = turn_upright(capture.depth, BACK.get(orientation, orientation) if turned else orientation)
    if other.shape != capture.depth.shape:
        return TurnFit(orientation, turned, None, None)
    here, there = find_rest_fit(capture.image, capture.depth), find_rest_fit(capture.image, other)
    return TurnFit(orientation, turned, here, there)


def judge(captures: DepthSet, seen: Mapping[str, TurnFit | None]) -> CheckResult:
    """One fault if the whole set fits better the other way, else one for every capture that clearly does."""
    known = {name: fit for name, fit in seen.items() if fit is not None}
    if not known:
        return CheckResult([], len(seen))
    fits = {name: (fit.here, fit.other) for name, fit in known.items()}
    measured = {name: (here, other) for name, (here, other) in fits.items() if here is not None and other is not None}
    gain = _find_common_gain(list(measured.values()))
    if gain is not None:
        what = f"Depth fits its image better in {quantify(len(measured), 'capture')}"
        faults = [Fault("", _explain(what, next(known[name] for name in measured), *gain))]
    else:
        faults = [
            Fault(name, _explain(f"{name} fits its image better", known[name], here, other))
            for name, (here, other) in measured.items()
            if other >= max(LEAST_FIT, here + LEAST_GAIN)
        ]
    return CheckResult(faults, len(seen), told=_tell(known, len(measured)))


def look_at_size(captures: DepthSet, capture: Capture) -> str | None:
    """In words, how an image is resized that is no whole multiple of its depth map; None where it is one."""
    found = _find_photo(captures, capture)
    if found is None:
        return None
    source, index = found
    path, read = source.pairs[index].image, (capture.image.shape[0], capture.image.shape[1])
    size, depth = source.size_of(path), (capture.depth.shape[0], capture.depth.shape[1])
    return None if size == read else describe_resize(path.name, depth, size, read)


def judge_sizes(captures: DepthSet, seen: Mapping[str, str | None]) -> CheckResult:
    """No faults; the number of resized images, and the first in words."""
    resized = [line for line in seen.values() if line]
    told = (
        f"{len(resized)} of {quantify(len(seen), 'image')} {'is' if len(resized) == 1 else 'are'} resized; "
        f"{resized[0]}."
        if resized
        else ""
    )
    return CheckResult([], len(seen), told=told)


def _find_photo(captures: DepthSet, capture: Capture) -> tuple[PairSet, int] | None:
    """The set and the index of a capture whose image is an ordinary file that is still there."""
    if not isinstance(captures, PairSet) or captures.read_image is not read_rgb:
        return None
    index = captures.positions.get(capture.id)
    return None if index is None or not captures.pairs[index].image.is_file() else (captures, index)


def _find_common_gain(fits: list[tuple[float, float]]) -> tuple[float, float] | None:
    """The mean fits, as read and the other way, where most captures agree that the other is better."""
    if len(fits) < LEAST_CAPTURES:
        return None
    here, other = np.minimum(np.array(fits), MOST_FIT).T
    means = float(here.mean()), float(other.mean())
    agreed = (other > here).mean() >= SET_SHARE
    return means if agreed and means[1] >= max(SET_FIT, means[0] + SET_GAIN) else None


def _explain(what: str, fit: TurnFit, here: float, other: float) -> str:
    numbers = f"(fit {other:.1f}, as read {here:.1f})"
    stated = f"EXIF orientation {fit.orientation} turned the image"
    if fit.turned:
        return (
            f'{what} if it is not turned {numbers}: {stated}, and depth was upright already; take "orientation": '
            '"sensor" out of dataset.json, or leave --orientation out.'
        )
    return (
        f'{what} if it is turned too {numbers}: {stated}, and depth is in the order of the sensor; write "orientation":'
        ' "sensor" into dataset.json of a folder, or convert with --orientation sensor.'
    )


def _tell(known: Mapping[str, TurnFit], measured: int) -> str:
    """What EXIF turned, and what could not be measured."""
    orientations = ", ".join(map(str, sorted({fit.orientation for fit in known.values()})))
    turned = sum(fit.turned for fit in known.values())
    line = f"Images turned by EXIF orientation {orientations}: {len(known)}; depth maps turned with them: {turned}"
    sure = sum(fit.orientation in SIDEWAYS and fit.other is None and fit.here is None for fit in known.values())
    left = len(known) - measured - sure
    return f"{line}; with too few edges to tell which way they agree: {left}; look at them." if left > 0 else f"{line}."
