"""Which of a few formulas turns a model's answer into metres, judged by points it was not fitted to."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import least_squares
from scipy.stats import theilslopes

from sonde.models import CANDIDATES, KINDS, Calibration
from sonde.types import Space

Values = Float[np.ndarray, " n"]
Rows = Int[np.ndarray, " _"]

NOISE = 0.05
"""Relative error from which on a point pulls by its size, not by its square."""
REACH = 10.0
"""Answers end at a tenth of the nearest point and at ten times the farthest."""
PER_PARAMETER, SPREAD = 3, 1.25
"""Asked of the points for a formula of two numbers: how many for each, and how far the farthest over the nearest."""
PER_PARAMETER_LEFT, SPREAD_LEFT = 2, 1.1
"""The same of what is left when a part of them is left out: its error then tells the rest."""
ALONE = 50
"""Up to so many points of one image are left out one by one; more in ten bands of rows, as neighbours are alike."""
PAIRED = 300
"""Points among which slopes are taken two by two."""
NEGLIGIBLE = 1e-6
"""Errors that differ by less are equal: float32."""


class PointSet(NamedTuple):
    """Points, in the order of images and rows."""

    answer: Values
    """The model's."""
    depth: Values
    """Metres."""
    image: Int[np.ndarray, " n"]
    """Number of its image."""

    def at(self, rows: np.ndarray) -> "PointSet":
        """Some of them."""
        return PointSet(self.answer[rows], self.depth[rows], self.image[rows])


class Score(NamedTuple):
    """How a kind did on points left out."""

    errors: Values
    """Mean |ln(answer / depth)| of each part left out."""
    residuals: Values
    """ln(answer / depth) of each point when it was left out."""

    @property
    def mean(self) -> float:
        """Over the parts."""
        return float(self.errors.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean."""
        return float(self.errors.std(ddof=1) / np.sqrt(len(self.errors)))


class KindChoice(NamedTuple):
    """The kind chosen, and why."""

    calibration: Calibration
    scores: dict[str, Score]
    refused: dict[str, str]
    """Kind → what it lacks."""
    method: str
    """How points were left out, in words."""
    constant: Score | None
    """Of the other points' median depth, which looks at nothing: what a model must beat to be worth calibrating."""


def choose(space: Space, sample: PointSet, kind: str | None = None) -> KindChoice:
    """The simplest kind whose error on points left out is within one standard error of the best kind's.

    Of two kinds as simple, the better; see Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 7.10.

    Args:
        space: what the model claims.
        sample: the points.
        kind: a name in KINDS, to have that one.

    Raises:
        ValueError: too few points for any kind (or for `kind`), or a model that runs against them.
    """
    names = CANDIDATES[space]
    if kind is not None and kind not in names:
        raise ValueError(f"No kind {kind!r} for a model that answers {space}: expected {', '.join(names)}.")
    method, parts = _parts(sample)
    fitted, scores, refused = {}, {}, {}
    for name in names:
        try:
            fitted[name] = fit(name, space, sample)
            if parts:
                scores[name] = _judged(partial(_fit_rest, name, space), sample, parts)
        except ValueError as error:
            refused[name] = str(error)
    if kind is None:
        backwards = [why for name, why in refused.items() if name not in fitted and BACKWARDS in why]
        if backwards and not any(KINDS[name] > 1 for name in fitted):
            raise ValueError(f"Nothing was calibrated: {backwards[0]}.")
        kind = _simplest(scores) if scores else next((name for name in ("scale", *fitted) if name in fitted), names[0])
    if kind not in fitted:
        raise ValueError(f"No {kind} from these points: {refused[kind]}.")
    return KindChoice(fitted[kind], scores, refused, method, _judged(_constant, sample, parts) if parts else None)


def fit(
    kind: str, space: Space, sample: PointSet, per_parameter: int = PER_PARAMETER, spread: float = SPREAD
) -> Calibration:
    """The formula of least relative error, ln(answer / depth): squared below 5 %, as it is above (soft L1).

    `sonde.align` fits thousands of exact pixels by squares of depth or disparity, where the far or the near ones rule
    and one mistyped value of ten would decide. So here; from Theil and Sen's median of slopes, which it cannot move.

    Raises:
        ValueError: too few points, or too much alike; or farther would become nearer.
    """
    if lack := lacking(kind, sample, per_parameter, spread):
        raise ValueError(lack)
    bounded = KINDS[kind] > 1 or space == "disparity"
    limits = (float(sample.depth.min() / REACH), float(sample.depth.max() * REACH))
    start = Calibration(kind, space, limits=limits if bounded else None)
    if kind == "identity":
        return start

    def formula(numbers: np.ndarray) -> Calibration:
        return replace(start, scale=float(numbers[0]), shift=float(numbers[1]) if len(numbers) > 1 else 0.0)

    found = least_squares(
        lambda numbers: residuals(formula(numbers), sample),
        _median_line(kind, space, sample)[: KINDS[kind]],
        loss="soft_l1",
        f_scale=NOISE,
        x_scale="jac",
        ftol=1e-9,
        xtol=1e-9,
        gtol=1e-9,
    )
    result = formula(found.x)
    if (result.scale > 0) == (kind == "log-affine" and space == "disparity"):
        raise ValueError(f"where the model sees nearer, the points are farther ({BACKWARDS})")
    return result


def _median_line(kind: str, space: Space, sample: PointSet) -> tuple[float, float]:
    """Scale and shift that half of the points agree with."""
    step = -(-len(sample.depth) // PAIRED)
    x, target = sample.answer[::step], sample.depth[::step]
    if kind == "log-affine":
        x, target = np.log(x.clip(1e-6)), np.log(target)
    elif space == "disparity":
        target = 1 / target
    if KINDS[kind] == 1:
        return float(np.median(target / x.clip(1e-6))), 0.0
    slope, shift = np.asarray(theilslopes(target, x), dtype=np.float64)[:2]
    return float(slope), float(shift)


def lacking(kind: str, sample: PointSet, per_parameter: int, spread: float) -> str:
    """What the points lack for a kind, in words; empty where they will do."""
    count, numbers = len(sample.depth), KINDS[kind]
    least = numbers if numbers < 2 else per_parameter * numbers
    if count < least:
        return f"{count} point{'s'[: count != 1]} allow a scale only; {kind} needs {least} or more"
    if numbers < 2:
        return ""
    found = float(sample.depth.max() / sample.depth.min())
    if found < spread:
        return f"the farthest point is {found:.2f} times as far as the nearest; {kind} needs {spread:g} times or more"
    if np.ptp(sample.answer) <= 1e-6 * np.abs(sample.answer).max():
        return f"the model answers the same at every point, which tells {kind} nothing"
    return ""


def residuals(calibration: Calibration, sample: PointSet) -> Values:
    """ln(answer / depth) of each point; an answer below a micrometre counts as one."""
    answer = calibration.apply(torch.from_numpy(sample.answer)[None, None])[0, 0].numpy()
    return np.log(answer.clip(1e-6) / sample.depth)


def _judged(fitted: Callable[[PointSet], Calibration], sample: PointSet, parts: list[Rows]) -> Score:
    """Each part by what the rest gives."""
    found = np.empty(len(sample.depth))
    for part in parts:
        rest = np.setdiff1d(np.arange(len(found)), part)
        found[part] = residuals(fitted(sample.at(rest)), sample.at(part))
    return Score(np.array([np.abs(found[part]).mean() for part in parts]), found)


def _fit_rest(kind: str, space: Space, rest: PointSet) -> Calibration:
    try:
        return fit(kind, space, rest, PER_PARAMETER_LEFT, SPREAD_LEFT)
    except ValueError as error:
        raise ValueError(f"it cannot be judged by points left out: without one part, {error}") from None


def _constant(rest: PointSet) -> Calibration:
    return Calibration("scale-shift", "metric", 0.0, float(np.median(rest.depth)))


def _parts(sample: PointSet) -> tuple[str, list[Rows]]:
    """What is left out in turn."""
    count, images = len(sample.depth), np.unique(sample.image)
    if count == 1:
        return "one point, and nothing to judge it by", []
    if len(images) > 1:
        return "one image left out at a time", [np.flatnonzero(sample.image == image) for image in images]
    if count <= ALONE:
        return "one point left out at a time", [np.array([row]) for row in range(count)]
    return "one of ten bands of rows left out at a time", np.array_split(np.arange(count), 10)


def _simplest(scores: dict[str, Score]) -> str:
    best = min(scores.values(), key=lambda score: score.mean)
    limit = best.mean + best.standard_error + NEGLIGIBLE
    allowed = [name for name, score in scores.items() if score.mean <= limit]
    return min(allowed, key=lambda name: (KINDS[name], scores[name].mean))


BACKWARDS = (
    "a scale below 0: are x and y swapped, do the points belong to this image, are they depth and not disparity?"
)
