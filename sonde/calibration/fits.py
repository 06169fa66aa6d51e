"""Choose the formula that turns a model's prediction into metres, judged by points it was not fitted to.

Errors are ln(prediction / depth), so that 0.05 is about 5 %.
"""

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
"""The loss is squared below this error and linear above it."""
REACH = 10.0
"""Predictions are clamped to a tenth of the nearest point and ten times the farthest."""
PER_PARAMETER, SPREAD = 3, 1.25
"""Least number of points per parameter, and least ratio of the farthest to the nearest, for a formula of two."""
PER_PARAMETER_LEFT, SPREAD_LEFT = 2, 1.1
"""The same for the points that remain when a part is left out."""
ALONE = 50
"""Up to this number, points of one image are left out one by one; more are left out in ten bands of rows.

A neighbour predicts a point nearly as well as the point itself: without bands, the error would be too small.
"""
PAIRED = 300
"""Largest number of points among which all pairs give a slope."""
NEGLIGIBLE = 1e-6
"""Errors that differ by less are equal: predictions are float32."""


class PointSet(NamedTuple):
    """Points, in the order of images and rows."""

    answer: Values
    """The model's prediction."""
    depth: Values
    """Metres."""
    image: Int[np.ndarray, " n"]
    """Number of its image."""

    def at(self, rows: np.ndarray) -> "PointSet":
        """The points of these row numbers."""
        return PointSet(self.answer[rows], self.depth[rows], self.image[rows])


class Score(NamedTuple):
    """The errors of a kind at points left out."""

    errors: Values
    """Mean absolute error of each part left out."""
    residuals: Values
    """Error of each point when it was left out."""

    @property
    def mean(self) -> float:
        """Mean error over the parts."""
        return float(self.errors.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; NaN for a single part."""
        return float(self.errors.std(ddof=1) / np.sqrt(len(self.errors)))


class KindChoice(NamedTuple):
    """The kind chosen, and why."""

    calibration: Calibration
    scores: dict[str, Score]
    """Kind → its score; empty for a single point."""
    refused: dict[str, str]
    """Kind → what the points lack for it."""
    method: str
    """How points were left out, in words."""
    constant: Score | None
    """The score of the other points' median depth, which ignores the image: a useful model is better."""


def choose(space: Space, sample: PointSet, kind: str | None = None) -> KindChoice:
    """The simplest kind whose error at points left out is within one standard error of the best kind's.

    Of two equally simple kinds it takes the better one. The rule is that of Hastie, Tibshirani and Friedman, The
    Elements of Statistical Learning, 7.10.

    Args:
        space: the space of the model's predictions.
        sample: the points.
        kind: a name in KINDS, to fit that one.

    Raises:
        ValueError: too few points for any kind (or for `kind`), or predictions that fall where depth rises.
    """
    names = CANDIDATES[space]
    if kind is not None and kind not in names:
        raise ValueError(f"No kind {kind!r} for a model that predicts {space}: expected {', '.join(names)}.")
    method, parts = _split_points(sample)
    fitted: dict[str, Calibration] = {}
    scores: dict[str, Score] = {}
    refused: dict[str, str] = {}
    for name in names:
        try:
            fitted[name] = fit(name, space, sample)
            if parts:
                scores[name] = _cross_validate(partial(_fit_rest, name, space), sample, parts)
        except ValueError as error:
            refused[name] = str(error)
    if kind is None:
        _refuse_backwards(fitted, refused)
        kind = _choose_simplest(scores) if scores else _choose_unjudged(fitted, names)
    if kind not in fitted:
        raise ValueError(f"Cannot fit {kind} to these points: {refused[kind]}.")
    constant = _cross_validate(_fit_constant, sample, parts) if parts else None
    return KindChoice(fitted[kind], scores, refused, method, constant)


def _refuse_backwards(fitted: dict[str, Calibration], refused: dict[str, str]) -> None:
    """Refuse points against which a kind of two numbers runs backwards.

    A scale alone may still fit them, but it would hide that x and y are swapped or that depth is disparity.
    """
    backwards = [why for name, why in refused.items() if name not in fitted and BACKWARDS in why]
    if backwards and not any(KINDS[name] > 1 for name in fitted):
        raise ValueError(f"Nothing was calibrated: {backwards[0]}.")


def fit(
    kind: str, space: Space, sample: PointSet, per_parameter: int = PER_PARAMETER, spread: float = SPREAD
) -> Calibration:
    """The formula of least error, squared below 5 % and linear above (soft L1).

    `sonde.align` minimises squares of depth or disparity over thousands of exact pixels. Here there are few points, and
    with squares one mistyped value would decide the fit. The search starts at Theil and Sen's median of slopes, which
    one wrong point does not move either.

    Args:
        kind: a name in KINDS.
        space: the space of the model's predictions.
        sample: the points.
        per_parameter: least number of points for each number of the formula.
        spread: least ratio of the farthest point to the nearest.

    Raises:
        ValueError: too few points, points too much alike, or predictions that fall where depth rises.
    """
    lack = describe_lack(kind, sample, per_parameter, spread)
    if lack:
        raise ValueError(lack)
    bounded = KINDS[kind] > 1 or space == "disparity"
    limits = (float(sample.depth.min() / REACH), float(sample.depth.max() * REACH))
    start = Calibration(kind, space, limits=limits if bounded else None)
    if kind == "identity":
        return start

    def formula(numbers: np.ndarray) -> Calibration:
        return replace(start, scale=float(numbers[0]), shift=float(numbers[1]) if len(numbers) > 1 else 0.0)

    found = least_squares(
        lambda numbers: compute_residuals(formula(numbers), sample),
        _fit_median_line(kind, space, sample)[: KINDS[kind]],
        loss="soft_l1",
        f_scale=NOISE,
        x_scale="jac",
        ftol=1e-9,
        xtol=1e-9,
        gtol=1e-9,
    )
    result = formula(found.x)
    # The scale must be above 0, except in log-affine from a disparity: there nothing but its sign inverts.
    if (result.scale > 0) == (kind == "log-affine" and space == "disparity"):
        raise ValueError(f"where the model sees nearer, the points are farther ({BACKWARDS})")
    return result


def _fit_median_line(kind: str, space: Space, sample: PointSet) -> tuple[float, float]:
    """Scale and shift by medians, which fewer than a quarter of wrong points cannot move far."""
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


def describe_lack(kind: str, sample: PointSet, per_parameter: int, spread: float) -> str:
    """What the points lack for a kind, in words that calibration.json keeps; empty where they suffice."""
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


def compute_residuals(calibration: Calibration, sample: PointSet) -> Values:
    """ln(prediction / depth) of each point; predictions below a micrometre count as one."""
    answer = calibration.apply(torch.from_numpy(sample.answer)[None, None])[0, 0].numpy()
    return np.log(answer.clip(1e-6) / sample.depth)


def _cross_validate(fit_to: Callable[[PointSet], Calibration], sample: PointSet, parts: list[Rows]) -> Score:
    """The errors of each part when the formula is fitted to the others."""
    residuals = np.empty(len(sample.depth))
    for part in parts:
        rest = np.setdiff1d(np.arange(len(residuals)), part)
        residuals[part] = compute_residuals(fit_to(sample.at(rest)), sample.at(part))
    return Score(np.array([np.abs(residuals[part]).mean() for part in parts]), residuals)


def _fit_rest(kind: str, space: Space, rest: PointSet) -> Calibration:
    try:
        return fit(kind, space, rest, PER_PARAMETER_LEFT, SPREAD_LEFT)
    except ValueError as error:
        raise ValueError(f"it cannot be judged by points left out: without one part, {error}") from None


def _fit_constant(rest: PointSet) -> Calibration:
    return Calibration("scale-shift", "metric", 0.0, float(np.median(rest.depth)))


def _split_points(sample: PointSet) -> tuple[str, list[Rows]]:
    """How points are left out, in words, and the parts that are left out in turn."""
    count, images = len(sample.depth), np.unique(sample.image)
    if count == 1:
        return "one point, and nothing to judge it by", []
    if len(images) > 1:
        return "one image left out at a time", [np.flatnonzero(sample.image == image) for image in images]
    if count <= ALONE:
        return "one point left out at a time", [np.array([row]) for row in range(count)]
    return "one of ten bands of rows left out at a time", np.array_split(np.arange(count), 10)


def _choose_unjudged(fitted: dict[str, Calibration], names: tuple[str, ...]) -> str:
    """The kind to take where no points could be left out: a scale if there is one."""
    return next((name for name in ("scale", *fitted) if name in fitted), names[0])


def _choose_simplest(scores: dict[str, Score]) -> str:
    best = min(scores.values(), key=lambda score: score.mean)
    limit = best.mean + best.standard_error + NEGLIGIBLE
    allowed = [name for name, score in scores.items() if score.mean <= limit]
    return min(allowed, key=lambda name: (KINDS[name], scores[name].mean))


BACKWARDS = (
    "a scale below 0: are x and y swapped, do the points belong to this image, are they depth and not disparity?"
)
