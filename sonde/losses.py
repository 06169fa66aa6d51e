"""What training minimises. A loss maps (prediction, target, mask) to one value per image: (b h w)³ → (b,).

No loss knows its weight or averages the batch. Prediction and target are the same quantity: encoded depth for
`masked_l1`, `edge_gradient` and `relief`, depth for `silog`, disparity for `ssi`, `gradient_matching` and what is
`aligned`. Untrusted pixels may hold anything, NaN included: they are replaced before the arithmetic, so they reach
neither value nor gradient. An empty mask gives 0 with a zero gradient; a constant map or a perfect prediction never
gives NaN. Half-precision predictions are raised to float32 first.

Each loss also takes `trim`: the share of each image's largest errors, by the loss's own error, that it leaves out.
What a loss normalises or aligns with is still taken from all trusted pixels.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sonde.maps import high_pass, inside, precise
from sonde.recipes import LossRecipe
from sonde.spelling import nearest
from sonde.tensors import Depth, Mask, PerImage

Loss = Callable[..., PerImage]
"""(prediction, target, mask) → one value per image; with `trim`, where a recipe may ask for it."""
Weights = Mapping[str, float | int | LossRecipe]
"""LOSSES by name, with their weights, or with weight and trim."""
Tokens = Float[Tensor, "b tokens channels"]
Map = Literal["ssi", "raw", "log"]


def weighted(pred: Depth, target: Depth, mask: Mask, weights: Weights) -> dict[str, PerImage]:
    """Each named loss times its weight; their sum, averaged over the batch, is what a step minimises.

    Raises:
        ValueError: what `check` refuses.
    """
    check(weights)
    terms = {name: LossRecipe.model_validate(given) for name, given in weights.items()}
    return {name: term.weight * LOSSES[name](pred, target, mask, **_options(term)) for name, term in terms.items()}


def check(weights: Weights) -> None:
    """Refuse weights that no step can be made of.

    Raises:
        ValueError: a name that is not in LOSSES, a weight below 0, a trim outside [0, 1), or one of a loss that takes
            none.
    """
    for name, given in weights.items():
        if name not in LOSSES:
            raise ValueError(f"Unknown loss {name!r}: {nearest(name, list(LOSSES))}")
        term = LossRecipe.model_validate(given)
        if not 0 <= term.weight < math.inf:
            raise ValueError(f"loss.{name}={term.weight}: expected a weight of 0 or more.")
        if term.trim is None:
            continue
        if not 0 <= term.trim < 1:
            raise ValueError(f"loss.{name}.trim={term.trim:g}: expected a share of each image, from 0 to below 1.")
        if "trim" not in inspect.signature(LOSSES[name]).parameters:
            raise ValueError(
                f"loss.{name}.trim={term.trim:g}: {name} takes no trim; leave it out, or give the function an argument "
                "`trim`."
            )


def _options(term: LossRecipe) -> dict[str, Any]:
    return {} if term.trim is None else {"trim": term.trim}


def masked_l1(pred: Depth, target: Depth, mask: Mask, trim: float = 0.0) -> PerImage:
    """Mean |pred - target| over trusted pixels."""
    error, mask = trimmed(inside(precise(pred) - target, mask), mask, trim)
    return _absolute_sum(error) / _count(mask)


def edge_gradient(
    pred: Depth,
    target: Depth,
    mask: Mask,
    gamma: float = 10.0,
    tau: float = 0.02,
    eps: float = 1e-6,
    trim: float = 0.0,
) -> PerImage:
    """Error of finite differences, 1 + gamma times dearer where the target steps by more than tau.

    For x and for y: Σ M (1 + gamma [|∂target| > tau]) |∂pred - ∂target| / (Σ M + eps), where M asks that both
    neighbours be trusted; the two are added, each trimmed by itself.
    """
    error = inside(precise(pred) - target, mask)
    total = error.new_zeros(len(error))
    for dim in (1, 2):
        both = _pairs(mask, dim)
        edges = (target.diff(dim=dim).abs_() > tau).logical_and_(both)
        weight = both.to(error.dtype).masked_fill_(edges, 1 + gamma)
        slope, both = trimmed(error.diff(dim=dim) * weight, both, trim)
        total = total + _absolute_sum(slope) / (_count(both, 0) + eps)
    return total


def relief(
    pred: Depth,
    target: Depth,
    mask: Mask,
    share: float = 1 / 16,
    gamma: float = 10.0,
    tau: float = 0.002,
    trim: float = 0.0,
) -> PerImage:
    """Error of what stands out from its surroundings, 1 + gamma times dearer where the target does by more than tau.

    Σ M (1 + gamma [|r(target)| > tau]) |r(pred - target)| / Σ M, r being `high_pass`. Ours: for grooves and small
    steps, which `edge_gradient` smooths away, since the likeliest step at any one pixel is none.
    """
    error = high_pass(precise(pred) - target, mask, share)
    high = high_pass(target, mask, share).abs() > tau
    error, mask = trimmed(error * (1 + gamma * high), mask, trim)
    return _absolute_sum(error) / _count(mask)


def silog(pred: Depth, target: Depth, mask: Mask, lambda_: float = 0.5, trim: float = 0.0) -> PerImage:
    """Scale-invariant log error √(mean d² - λ (mean d)²), d = log pred - log target (Eigen et al., 2014).

    λ = 0.5 is GLPDepth's and Depth Anything V2's dialect, whose square root they take of 0 too: NaN in the gradient.
    Only λ = 1 ignores a common scale of the prediction; λ = 0.5 halves the squared error a wrong scale costs,
    and no λ ignores a shift. Depths below a micrometre count as one micrometre and pass no gradient. At a
    perfect prediction, where the square root is infinitely steep, the gradient is 0. Trimmed by |d|, both means are
    of the pixels that stay.
    """
    log_ratio, mask = trimmed(_log(pred, mask) - _log(target, mask), mask, trim)
    mean = log_ratio.sum((1, 2)) / _count(mask)
    spread = inside(log_ratio - mean[:, None, None], mask).square().sum((1, 2)) / _count(mask)
    square = spread + (1 - lambda_) * mean.square()
    flat = square <= 0  # of what is not a number neither: it stays one
    return torch.where(flat, 0.0, torch.where(flat, 1.0, square).sqrt())


def silog_bts(pred: Depth, target: Depth, mask: Mask, trim: float = 0.0) -> PerImage:
    """BTS's dialect, 10 times `silog` with λ = 0.85; ZoeDepth's too, but for its n - 1 in place of n."""
    return 10 * silog(pred, target, mask, 0.85, trim)


def ssi(pred: Depth, target: Depth, mask: Mask, trim: float = 0.0) -> PerImage:
    """Scale-and-shift-invariant error: mean |normalised pred - normalised target| (MiDaS, 2020)."""
    error, mask = trimmed(normalised(pred, mask) - normalised(target, mask), mask, trim)
    return _absolute_sum(error) / _count(mask)


def gradient_matching(
    pred: Depth,
    target: Depth,
    mask: Mask,
    on: Map = "ssi",
    strides: Iterable[int] = (1, 2, 4, 8),
    trim: float = 0.0,
) -> PerImage:
    """Σ over strides of Σ (|∂x R| + |∂y R|) / Σ M, R = pred - target (MiDaS, Ranftl et al., 2020).

    Args:
        pred: the prediction.
        target: the ground truth, in the prediction's quantity.
        mask: True where it is trusted.
        on: what R compares: maps normalised as in `ssi`, the maps themselves, or their logarithms.
        strides: R and M are taken at every n-th pixel; a difference needs both neighbours trusted.
        trim: at each stride by itself, of the pixels' own |∂x R| + |∂y R|.
    """
    error = _MAPS[on](pred, mask) - _MAPS[on](target, mask)
    total = error.new_zeros(len(error))
    for stride in strides:
        coarse, trusted = error[:, ::stride, ::stride], mask[:, ::stride, ::stride]
        down, across = (inside(coarse.diff(dim=dim), _pairs(trusted, dim)) for dim in (1, 2))
        total = total + _slopes(down, across, trusted, trim)
    return total


def gradient_matching_sobel(pred: Depth, target: Depth, mask: Mask, on: Map = "ssi", trim: float = 0.0) -> PerImage:
    """Mean |Sobel x of R| + |Sobel y of R| where all nine pixels are trusted, R as in `gradient_matching`.

    The kernels are scaled by 1/8, so that the Sobel of a ramp is its slope per pixel. Trimmed by the sum at a pixel.
    """
    error = _MAPS[on](pred, mask) - _MAPS[on](target, mask)
    whole = _pairs(_pairs(_pairs(_pairs(mask, 1), 1), 2), 2)
    box = _sums(_sums(error, 1), 2)  # Sobel's kernels are products of [1, 1] and [-1, 1]
    across, down = (inside(_sums(box, dim).diff(dim=3 - dim), whole) for dim in (1, 2))
    return _slopes(across, down, whole, trim) / 8


def aligned_l1(pred: Depth, target: Depth, mask: Mask, trim: float = 0.0) -> PerImage:
    """`masked_l1` of the prediction as protocols align it: by least squares onto the target.

    Unlike `ssi` the prediction's own spread is not divided out: an image whose truth is hard to see pulls less.
    """
    return masked_l1(aligned(pred, target, mask), target, mask, trim)


def aligned_edge_gradient(pred: Depth, target: Depth, mask: Mask, trim: float = 0.0) -> PerImage:
    """`edge_gradient` of the prediction aligned as in `aligned_l1`."""
    return edge_gradient(aligned(pred, target, mask), target, mask, trim=trim)


def aligned(pred: Depth, target: Depth, mask: Mask, least: float = 0.1) -> Depth:
    """The prediction scaled and shifted onto the target by least squares over trusted pixels.

    A prediction that varies less than `least` times as much as the target is stretched as if it varied that much:
    the gradient of a nearly constant one stays bounded. A perfect prediction stays as it is, to the bit. For both, what
    is fitted here is the error, and not as in `align.fit_affine` the target.
    """
    pred = precise(pred)
    count, error = _count(mask), inside(pred - target, mask)
    offset = error.sum((1, 2)) / count
    centred, wanted = (inside(m - (inside(m, mask).sum((1, 2)) / count)[:, None, None], mask) for m in (pred, target))
    floor = (least**2 * wanted.square().sum((1, 2))).clamp_min(1e-12)
    excess = (centred * error).sum((1, 2)) / centred.square().sum((1, 2)).maximum(floor)  # 1 - the best scale
    return pred - excess[:, None, None] * centred - offset[:, None, None]


def trimmed(error: Depth, mask: Mask, share: float = 0.1) -> tuple[Depth, Mask]:
    """The error and its mask without the largest `share` of each image's trusted pixels, by size; 0 leaves both alone.

    The error is 0 where it is left out, and so is its gradient. Pixels, and per image, are our choice: what Depth
    Anything V2 trims is not published. Ties with the largest error kept are kept; NaN is too, since a step must not
    hide it.
    """
    if not share:
        return error, mask
    size = error.detach().abs()
    ordered = inside(size, mask, torch.inf).flatten(1).sort(1).values
    trusted = mask.sum((1, 2))
    last = (trusted - (trusted * share).long() - 1).clamp_min(0)
    keep = mask & ~(size > ordered.gather(1, last[:, None])[:, None])
    return inside(error, keep), keep


def feature_alignment(student: Tokens, teacher: Tokens, tolerance: float = 0.85) -> PerImage:
    """Mean 1 - cos of student and frozen teacher tokens, those already above `tolerance` left alone.

    Depth Anything (Yang et al., 2024): near-equal tokens are skipped so that parts of one object may differ
    in depth though their meaning is the same.
    """
    cosine = F.cosine_similarity(precise(student), precise(teacher.detach()), dim=-1)
    apart = cosine <= tolerance
    return torch.where(apart, 1 - cosine, 0.0).sum(1) / apart.sum(1).clamp_min(1)


def normalised(values: Depth, mask: Mask) -> Depth:
    """(values - median) / mean absolute deviation, both over trusted pixels; 0 where untrusted or constant.

    The median is the lower of the two middle values, as in MiDaS.
    """
    values = inside(precise(values), mask)
    median = torch.where(mask, values, torch.nan).flatten(1).nanmedian(1).values
    centred = inside(values - median[:, None, None], mask)
    deviation = _absolute_sum(centred) / _count(mask)
    return centred / deviation.clamp_min(1e-6)[:, None, None]


def _log(values: Depth, mask: Mask) -> Depth:
    return inside(precise(values), mask, 1.0).clamp_min(1e-6).log()


def _absolute_sum(values: Depth) -> PerImage:
    return values.abs().sum((1, 2))  # vector_norm would be faster, and wrong in the fourth digit


def _count(mask: Mask, least: int = 1) -> PerImage:
    return mask.sum((1, 2), dtype=torch.int32).clamp_min(least).float()


def _pairs(mask: Tensor, dim: int) -> Tensor:
    """Both a pixel and its next along `dim`: the mask of `diff(dim=dim)`."""
    length = mask.shape[dim] - 1
    return mask.narrow(dim, 0, length) & mask.narrow(dim, 1, length)


def _slopes(one: Tensor, other: Tensor, mask: Mask, trim: float) -> PerImage:
    """Mean |slope| along one axis and the other over trusted pixels; those of the last row or column may have none."""
    if not trim:
        return (_absolute_sum(one) + _absolute_sum(other)) / _count(mask)
    height, width = mask.shape[1:]
    one, other = (F.pad(s.abs(), (0, width - s.shape[2], 0, height - s.shape[1])) for s in (one, other))
    error, mask = trimmed(one + other, mask, trim)
    return _absolute_sum(error) / _count(mask)


def _sums(values: Tensor, dim: int) -> Tensor:
    """A pixel plus its next along `dim`."""
    length = values.shape[dim] - 1
    return values.narrow(dim, 0, length) + values.narrow(dim, 1, length)


_MAPS: dict[Map, Callable[[Depth, Mask], Depth]] = {
    "ssi": normalised,
    "raw": lambda values, mask: inside(precise(values), mask),
    "log": _log,
}

LOSSES: dict[str, Loss] = {
    "masked_l1": masked_l1,
    "edge_gradient": edge_gradient,
    "relief": relief,
    "silog": silog,
    "silog_bts": silog_bts,
    "ssi": ssi,
    "ssi_trimmed": partial(ssi, trim=0.1),
    "aligned_l1": aligned_l1,
    "aligned_edge_gradient": aligned_edge_gradient,
    "gradient_matching": gradient_matching,
    "gradient_matching_raw": partial(gradient_matching, on="raw"),
    "gradient_matching_log": partial(gradient_matching, on="log"),
    "gradient_matching_sobel": gradient_matching_sobel,
    "gradient_matching_sobel_raw": partial(gradient_matching_sobel, on="raw"),
    "gradient_matching_sobel_log": partial(gradient_matching_sobel, on="log"),
}
"""Name → loss, as a recipe's `loss:` spells it."""

METRIC = ("silog", "silog_bts", "gradient_matching_log", "gradient_matching_sobel_log")
"""Those that compare logarithms: for depth in metres, not for disparity up to scale and shift."""
