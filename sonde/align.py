"""Alignments: the best-fitting transform of a prediction onto trusted ground truth, one fit per image.

Each maps (prediction, target depth, mask) to depth of the same shape: (b h w)³ → (b h w). Fits run in float64 over
trusted pixels only; the others may hold any value. An alignment uses the ground truth, so scores after it carry its
name. An image without trusted pixels keeps its prediction (with `disparity` it becomes 0), and a constant prediction
becomes the constant that fits best, so that no value is infinite or NaN.

`fit_affine` and `fit_disparity` return the scale itself: below zero, the prediction falls where the target rises, as
disparity taken for depth does.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Concatenate, ParamSpec

import numpy as np
import torch
from torch import Tensor

from sonde.renamed import keep_old_names
from sonde.tensors import Depth, Mask, PerImage

Options = ParamSpec("Options")
Alignment = Callable[[Depth, Depth, Mask], Depth]
Fit = tuple[PerImage, PerImage]
"""(scale, shift) of each image."""

BLOCK = 2**15
"""Pixels that are summed at once."""
PART = 2**22
"""Pixels that are aligned at once: only these are in float64, however large the batch."""


def split_batch(
    alignment: Callable[Concatenate[Depth, Depth, Mask, Options], Depth],
) -> Callable[Concatenate[Depth, Depth, Mask, Options], Depth]:
    """Make an alignment take a few images at a time; every image has its own fit, so the result is the same."""

    @wraps(alignment)
    def align_parts(pred: Depth, target: Depth, mask: Mask, *args: Options.args, **options: Options.kwargs) -> Depth:
        size = max(1, PART // max(1, mask[:1].numel()))
        parts = zip(pred.split(size), target.split(size), mask.split(size), strict=True)
        return torch.cat([alignment(*part, *args, **options) for part in parts])

    return align_parts


def none(pred: Depth, target: Depth, mask: Mask) -> Depth:
    """The prediction as it is."""
    return pred


@split_batch
def median(pred: Depth, target: Depth, mask: Mask) -> Depth:
    """The prediction times the ratio of the medians, target over prediction, as in Monodepth2."""
    return apply_fit(pred, *fit_median(pred, target, mask))


@split_batch
def median_of_ratios(pred: Depth, target: Depth, mask: Mask) -> Depth:
    """The prediction times median(target / pred), which also is called median scaling but differs from `median`."""
    return apply_fit(pred, *fit_median_of_ratios(pred, target, mask))


@split_batch
def scale(pred: Depth, target: Depth, mask: Mask) -> Depth:
    """s pred, with s of least |s pred - target|²."""
    return apply_fit(pred, *fit_scale(pred, target, mask))


@split_batch
def affine(pred: Depth, target: Depth, mask: Mask) -> Depth:
    """s pred + t, with s and t of least |s pred + t - target|² in depth (Marigold)."""
    return apply_fit(pred, *fit_affine(pred, target, mask))


@split_batch
def disparity(pred: Depth, target: Depth, mask: Mask, farthest: float | None = None) -> Depth:
    """Depth from a prediction of disparity: 1 / max(s pred + t, 1 / farthest).

    s and t come from `fit_disparity`. The clamp comes before the inversion, because s pred + t may be negative.
    `farthest` is in metres, as in MiDaS and DAv2; by default it is each image's largest trusted depth, as in MoGe.
    """
    return invert_disparity(apply_fit(pred, *fit_disparity(pred, target, mask)), target, mask, farthest)


@split_batch
def log_affine(pred: Depth, target: Depth, mask: Mask) -> Depth:
    """exp(s log pred + t), s and t by least squares in log depth; predictions below a micrometre count as one."""
    log = pred.double().clamp_min(1e-6).log()
    slope, shift = fit_affine(log, _fill_untrusted(target, mask, 1.0).clamp_min(1e-6).log(), mask)
    return apply_fit(log, slope, shift).exp().to(_promote_dtype(pred))


def fit_median(pred: Depth, target: Depth, mask: Mask) -> Fit:
    """The ratio of the medians, target over prediction; no shift."""
    return _make_scale_fit(masked_median(target, mask) / masked_median(pred, mask))


def fit_median_of_ratios(pred: Depth, target: Depth, mask: Mask) -> Fit:
    """The median of target / pred; no shift."""
    return _make_scale_fit(masked_median(_fill_untrusted(target, mask, 1.0) / _fill_untrusted(pred, mask, 1.0), mask))


def fit_scale(pred: Depth, target: Depth, mask: Mask) -> Fit:
    """The least-squares scale; no shift."""
    x, y = _fill_untrusted(pred, mask), _fill_untrusted(target, mask)
    return _make_scale_fit((x * y).sum((1, 2)) / x.square().sum((1, 2)))


def fit_affine(pred: Depth, target: Depth, mask: Mask) -> Fit:
    """Least-squares (scale, shift) of each image: the s and t of min Σ (s pred + t - target)².

    (0, mean of target) for a constant prediction, (1, 0) for an empty mask.
    """
    count = mask.sum((1, 2)).clamp_min(1)
    nothing = torch.zeros(len(mask), dtype=torch.float64, device=mask.device)
    mean_x, mean_y = nothing, nothing
    for x, y, inside in split_blocks(BLOCK, pred, target, mask):
        mean_x, mean_y = mean_x + _fill_untrusted(x, inside).sum(1), mean_y + _fill_untrusted(y, inside).sum(1)
    mean_x, mean_y = mean_x / count, mean_y / count
    spread, common = nothing, nothing
    for x, y, inside in split_blocks(BLOCK, pred, target, mask):
        # Centred, because the sums of squares of large numbers would cancel.
        centred = _fill_untrusted(x.double() - mean_x[:, None], inside)
        spread = spread + torch.linalg.vecdot(centred, centred)
        common = common + torch.linalg.vecdot(centred, _fill_untrusted(y, inside))
    spread, common = spread / count, common / count
    # A constant prediction: rounding leaves it a tiny spread, so the limit is relative.
    flat = spread <= 1e-20 * mean_x.square()
    slope = torch.where(flat, 0.0, common / torch.where(flat, 1.0, spread))
    shift = mean_y - slope * mean_x
    empty = ~mask.flatten(1).any(1)
    return torch.where(empty, 1.0, slope), torch.where(empty, 0.0, shift)


def fit_disparity(pred: Depth, target: Depth, mask: Mask) -> Fit:
    """Least-squares (scale, shift) of each image in disparity: min Σ (s pred + t - 1/target)², target in depth."""
    return fit_affine(pred, 1 / _fill_untrusted(target, mask, 1.0), mask)


def apply_fit(pred: Depth, slope: PerImage, shift: PerImage) -> Depth:
    """slope pred + shift, each image with its own two numbers."""
    return (slope[:, None, None] * pred + shift[:, None, None]).to(_promote_dtype(pred))


def invert_disparity(fitted: Depth, target: Depth, mask: Mask, farthest: float | None = None) -> Depth:
    """Depth from disparity that a fit has aligned: 1 / max(fitted, 1 / farthest), see `disparity`."""
    if farthest is not None:
        return 1 / fitted.clamp_min(1 / farthest)
    ends = _fill_untrusted(target, mask).amax((1, 2))
    return (1 / fitted.maximum((1 / ends)[:, None, None])).to(fitted.dtype)


def masked_median(values: Depth, mask: Mask) -> PerImage:
    """Median over trusted pixels, (b,); of an even number the mean of the middle two. NaN for an empty mask."""
    return torch.stack([_compute_median(image[inside]) for image, inside in zip(values, mask, strict=True)])


def _compute_median(values: Tensor) -> Tensor:
    """The median of a line of numbers; NaN for none."""
    count = len(values)
    if not count or values.isnan().any():
        return torch.full((), torch.nan, dtype=torch.float64, device=values.device)
    middle = [(count - 1) // 2, count // 2]
    if values.device.type == "cpu":
        # NumPy's partition takes a third of the time of torch's nanmedian. NumPy has no bfloat16.
        known = values.float() if values.dtype == torch.bfloat16 else values
        ordered = torch.from_numpy(np.partition(known.detach().numpy(), middle))
    else:
        ordered = values.sort().values
    return ordered[middle].double().mean()


def split_blocks(pixels: int, *maps: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The maps as blocks (b, n) of about `pixels` pixels of all images, which fit in a processor's cache."""
    width = max(1, pixels // max(1, len(maps[0])))
    return zip(*(values.flatten(1).split(width, dim=1) for values in maps), strict=True)


def _fill_untrusted(values: Tensor, mask: Tensor, fill: float = 0.0) -> Tensor:
    return torch.where(mask, values.double(), fill)


def _promote_dtype(pred: Depth) -> torch.dtype:
    """The prediction's dtype, but at least float32."""
    return torch.promote_types(pred.dtype, torch.float32)


def _make_scale_fit(slope: PerImage) -> Fit:
    """A fit without shift; a scale that is not finite becomes 1, so that the prediction stays."""
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
"""Name in a protocol's `align:` → alignment."""

FITS: dict[str, Callable[[Depth, Depth, Mask], Fit]] = {
    "median": fit_median,
    "median_of_ratios": fit_median_of_ratios,
    "scale": fit_scale,
    "affine": fit_affine,
    "disparity": fit_disparity,
}
"""Name → fit, of the alignments that are a scale and a shift (for disparity: before the inversion)."""

keep_old_names(
    __name__,
    {
        "in_parts": "split_batch",
        "applied": "apply_fit",
        "inverted": "invert_disparity",
        "blocks": "split_blocks",
    },
)
