"""Alignments: the best-fitting transform of a prediction onto trusted ground truth, one fit per image.

Each maps (prediction, target depth, mask) to depth of the same shape: (b h w)³ → (b h w). Fits run in float64 over
trusted pixels alone; the rest may hold anything. Scores after an alignment have seen the answer, so they are named
by it. An image without trusted pixels keeps its prediction (`disparity`: gets 0), and a constant prediction gets
the constant that fits best, so that no answer is infinite or NaN.

A scale below zero says that the prediction runs the other way, such as disparity taken for depth: ask
`fit_affine` or `fit_disparity` for it.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Concatenate, ParamSpec

import numpy as np
import torch
from torch import Tensor

from sonde.tensors import Depth, Mask, PerImage

Options = ParamSpec("Options")
Alignment = Callable[[Depth, Depth, Mask], Depth]
Fit = tuple[PerImage, PerImage]
"""(scale, shift) of each image."""

BLOCK = 2**15
"""Pixels that are summed at once."""
PART = 2**22
"""Pixels that are fitted at once: what is in float64 meanwhile is of these, however large the batch."""


def in_parts(
    alignment: Callable[Concatenate[Depth, Depth, Mask, Options], Depth],
) -> Callable[Concatenate[Depth, Depth, Mask, Options], Depth]:
    """The same alignment of a few images at a time."""

    @wraps(alignment)
    def cut(pred: Depth, target: Depth, mask: Mask, *args: Options.args, **options: Options.kwargs) -> Depth:
        size = max(1, PART // max(1, mask[:1].numel()))
        parts = zip(pred.split(size), target.split(size), mask.split(size), strict=True)
        return torch.cat([alignment(*part, *args, **options) for part in parts])

    return cut


def none(pred: Depth, target: Depth, mask: Mask) -> Depth:
    """Metric depth: the prediction as it is."""
    return pred


@in_parts
def median(pred: Depth, target: Depth, mask: Mask) -> Depth:
    """Scaled by the ratio of the medians, target over prediction, as Monodepth2 does."""
    return applied(pred, *fit_median(pred, target, mask))


@in_parts
def median_of_ratios(pred: Depth, target: Depth, mask: Mask) -> Depth:
    """Scaled by median(target / pred): the other "median scaling", and not the same."""
    return applied(pred, *fit_median_of_ratios(pred, target, mask))


@in_parts
def scale(pred: Depth, target: Depth, mask: Mask) -> Depth:
    """Scaled by the least-squares s of |s pred - target|²."""
    return applied(pred, *fit_scale(pred, target, mask))


@in_parts
def affine(pred: Depth, target: Depth, mask: Mask) -> Depth:
    """Scaled and shifted by the least squares of |s pred + t - target|², in depth (Marigold)."""
    return applied(pred, *fit_affine(pred, target, mask))


@in_parts
def disparity(pred: Depth, target: Depth, mask: Mask, farthest: float | None = None) -> Depth:
    """Depth from a prediction of disparity: 1 / max(s pred + t, 1 / farthest).

    s and t are `fit_disparity`'s. The clamp comes before the inversion, since s pred + t may well be negative.
    `farthest` is a number of metres as in MiDaS and DAv2, or else each image's largest trusted depth as in MoGe.
    """
    return inverted(applied(pred, *fit_disparity(pred, target, mask)), target, mask, farthest)


@in_parts
def log_affine(pred: Depth, target: Depth, mask: Mask) -> Depth:
    """exp(s log pred + t), s and t by least squares in log depth; predictions below a micrometre count as one."""
    log = pred.double().clamp_min(1e-6).log()
    slope, shift = fit_affine(log, _inside(target, mask, 1.0).clamp_min(1e-6).log(), mask)
    return applied(log, slope, shift).exp().to(_result(pred))


def fit_median(pred: Depth, target: Depth, mask: Mask) -> Fit:
    """The ratio of the medians, target over prediction; no shift."""
    return _scaling(masked_median(target, mask) / masked_median(pred, mask))


def fit_median_of_ratios(pred: Depth, target: Depth, mask: Mask) -> Fit:
    """The median of target / pred; no shift."""
    return _scaling(masked_median(_inside(target, mask, 1.0) / _inside(pred, mask, 1.0), mask))


def fit_scale(pred: Depth, target: Depth, mask: Mask) -> Fit:
    """The least-squares scale; no shift."""
    x, y = _inside(pred, mask), _inside(target, mask)
    return _scaling((x * y).sum((1, 2)) / x.square().sum((1, 2)))


def fit_affine(pred: Depth, target: Depth, mask: Mask) -> Fit:
    """Least-squares (scale, shift) of each image: the s and t of min Σ (s pred + t - target)².

    (0, mean of target) for a constant prediction, (1, 0) for an empty mask.
    """
    count = mask.sum((1, 2)).clamp_min(1)
    nothing = torch.zeros(len(mask), dtype=torch.float64, device=mask.device)
    mean_x, mean_y = nothing, nothing
    for x, y, inside in blocks(BLOCK, pred, target, mask):
        mean_x, mean_y = mean_x + _inside(x, inside).sum(1), mean_y + _inside(y, inside).sum(1)
    mean_x, mean_y = mean_x / count, mean_y / count
    spread, common = nothing, nothing
    for x, y, inside in blocks(BLOCK, pred, target, mask):
        centred = _inside(x.double() - mean_x[:, None], inside)  # so that the normal equations do not cancel
        spread = spread + torch.linalg.vecdot(centred, centred)
        common = common + torch.linalg.vecdot(centred, _inside(y, inside))
    spread, common = spread / count, common / count
    flat = spread <= 1e-20 * mean_x.square()
    slope = torch.where(flat, 0.0, common / torch.where(flat, 1.0, spread))
    shift = mean_y - slope * mean_x
    empty = ~mask.flatten(1).any(1)
    return torch.where(empty, 1.0, slope), torch.where(empty, 0.0, shift)


def fit_disparity(pred: Depth, target: Depth, mask: Mask) -> Fit:
    """Least-squares (scale, shift) of each image in disparity: min Σ (s pred + t - 1/target)², target in depth."""
    return fit_affine(pred, 1 / _inside(target, mask, 1.0), mask)


def applied(pred: Depth, slope: PerImage, shift: PerImage) -> Depth:
    """slope pred + shift, each image by its own."""
    return (slope[:, None, None] * pred + shift[:, None, None]).to(_result(pred))


def inverted(fitted: Depth, target: Depth, mask: Mask, farthest: float | None = None) -> Depth:
    """Depth from fitted disparity, which ends at 1 / `farthest`, or else at that of the farthest trusted target."""
    if farthest is not None:
        return 1 / fitted.clamp_min(1 / farthest)
    ends = _inside(target, mask).amax((1, 2))
    return (1 / fitted.maximum((1 / ends)[:, None, None])).to(fitted.dtype)


def masked_median(values: Depth, mask: Mask) -> PerImage:
    """Median over trusted pixels, the mean of the middle two where their number is even; NaN for an empty mask."""
    return torch.stack([_median(image[inside]) for image, inside in zip(values, mask, strict=True)])


def _median(values: Tensor) -> Tensor:
    """Of a line of numbers; on a CPU by NumPy's partition, which takes a third of the time of torch's nanmedian."""
    count = len(values)
    if not count or values.isnan().any():
        return torch.full((), torch.nan, dtype=torch.float64, device=values.device)
    middle = [(count - 1) // 2, count // 2]
    if values.device.type == "cpu":
        known = values.float() if values.dtype == torch.bfloat16 else values  # which NumPy has not
        ordered = torch.from_numpy(np.partition(known.detach().numpy(), middle))
    else:
        ordered = values.sort().values
    return ordered[middle].double().mean()


def blocks(pixels: int, *maps: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The maps' pixels (b, n), about so many of all images at a time: what stays in a processor's cache."""
    width = max(1, pixels // max(1, len(maps[0])))
    return zip(*(values.flatten(1).split(width, dim=1) for values in maps), strict=True)


def _inside(values: Tensor, mask: Tensor, fill: float = 0.0) -> Tensor:
    return torch.where(mask, values.double(), fill)


def _result(pred: Depth) -> torch.dtype:
    return torch.promote_types(pred.dtype, torch.float32)


def _scaling(slope: PerImage) -> Fit:
    """A fit without shift; where there is nothing to fit, the prediction stays."""
    return torch.where(slope.isfinite(), slope, 1.0), torch.zeros_like(slope)


ALIGN: dict[str, Alignment] = {
    "none": none,
    "median": median,
    "median_of_ratios": median_of_ratios,
    "scale": scale,
    "affine": affine,
    "disparity": disparity,
    "log_affine": log_affine,
}
"""Name → alignment, as a protocol's `align:` spells it."""

FITS: dict[str, Callable[[Depth, Depth, Mask], Fit]] = {
    "median": fit_median,
    "median_of_ratios": fit_median_of_ratios,
    "scale": fit_scale,
    "affine": fit_affine,
    "disparity": fit_disparity,
}
"""Of those alignments that are a scale and a shift (of disparity: before the inversion), how both are found."""
