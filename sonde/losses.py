"""What training minimises. A loss maps (prediction, target, mask) to one value per image: (b h w)³ → (b,).

No loss knows its weight or averages the batch. Prediction and target are the same quantity, which stands with each
loss in LOSSES. Untrusted pixels may hold anything, NaN included: they are replaced before the arithmetic, so they
reach neither value nor gradient. An empty mask gives 0 with a zero gradient; a constant map or a perfect prediction
never gives NaN. Half-precision predictions are raised to float32 first.

Each loss also takes `trim`: the share of each image's largest errors, by the loss's own error, that it leaves out.
What a loss normalises or aligns with is still taken from all trusted pixels.
"""

import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sonde.maps import high_pass, inside, promote, sum_errors, sum_step_errors
from sonde.recipes import LossRecipe
from sonde.renamed import keep_old_names
from sonde.spelling import nearest
from sonde.tensors import Depth, Mask, PerImage

LossFunction = Callable[..., PerImage]
"""(prediction, target, mask) → one value per image; with `trim`, where a recipe may ask for it."""
Quantity = Literal["encoded depth", "depth", "disparity"]
"""What a loss compares: depth as an encoding spreads it, depth above 0, or disparity up to scale and shift."""
Weights = Mapping[str, float | int | LossRecipe]
"""LOSSES by name, with their weights, or with weight and trim."""
Tokens = Float[Tensor, "b tokens channels"]
Map = Literal["ssi", "raw", "log"]


@dataclass(frozen=True)
class Loss:
    """A row of LOSSES: a loss and the quantity for which it is made. Call it as the function itself."""

    function: LossFunction
    quantity: Quantity

    def __call__(self, pred: Depth, target: Depth, mask: Mask, **options: object) -> PerImage:
        """One value per image; `options` are the function's own, such as `trim`."""
        return self.function(pred, target, mask, **options)


def needs_depth(name: str) -> bool:
    """Whether the loss of that name in LOSSES needs depth above 0, so that it cannot score disparity.

    A plain function in LOSSES does not say: it is trusted with any quantity.
    """
    loss = LOSSES.get(name)
    return isinstance(loss, Loss) and loss.quantity == "depth"


def weigh(pred: Depth, target: Depth, mask: Mask, weights: Weights) -> dict[str, PerImage]:
    """Each named loss times its weight; their sum, averaged over the batch, is what a step minimises.

    Raises:
        ValueError: what `check` refuses.
    """
    check(weights)
    terms = {name: LossRecipe.model_validate(given) for name, given in weights.items()}
    return {name: term.weight * LOSSES[name](pred, target, mask, **_read_options(term)) for name, term in terms.items()}


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
        if "trim" not in _list_arguments(LOSSES[name]):
            raise ValueError(
                f"loss.{name}.trim={term.trim:g}: {name} takes no trim; leave it out, or give the function an argument "
                "`trim`."
            )


def _list_arguments(loss: Loss | LossFunction) -> Collection[str]:
    return inspect.signature(loss.function if isinstance(loss, Loss) else loss).parameters


def _read_options(term: LossRecipe) -> dict[str, float]:
    # Without a trim the key is left out, not set to 0: `ssi_trimmed` has a trim of its own, and some losses take none.
    return {} if term.trim is None else {"trim": term.trim}


def masked_l1(pred: Depth, target: Depth, mask: Mask, trim: float = 0.0) -> PerImage:
    """Mean |pred - target| over trusted pixels."""
    if not trim:
        return sum_errors(pred, target, mask) / _count_pixels(mask)
    error, mask = trim_largest(inside(promote(pred) - target, mask), mask, trim)
    return _sum_absolute(error) / _count_pixels(mask)


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
    pairs = [_join_pairs(mask, dim) for dim in (1, 2)]
    weights = [_weigh_steps(target, both, dim, gamma, tau) for dim, both in zip((1, 2), pairs, strict=True)]
    if not trim:
        sums = sum_step_errors(pred, target, mask, *weights)
    else:
        error = inside(promote(pred) - target, mask)
        steps = [error.diff(dim=dim) * weight for dim, weight in zip((1, 2), weights, strict=True)]
        kept = [trim_largest(step, both, trim) for step, both in zip(steps, pairs, strict=True)]
        sums, pairs = [_sum_absolute(step) for step, _ in kept], [both for _, both in kept]
    down, across = (total / (_count_pixels(both, 0) + eps) for total, both in zip(sums, pairs, strict=True))
    return down + across


def _weigh_steps(target: Depth, both: Tensor, dim: int, gamma: float, tau: float) -> Tensor:
    """1 for a step between two trusted pixels, 1 + gamma where the target steps by more than tau, else 0."""
    edges = (target.diff(dim=dim).abs_() > tau).logical_and_(both)
    return both.to(promote(target).dtype).masked_fill_(edges, 1 + gamma)


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
    error = high_pass(promote(pred) - target, mask, share)
    high = high_pass(target, mask, share).abs() > tau
    error, mask = trim_largest(error * (1 + gamma * high), mask, trim)
    return _sum_absolute(error) / _count_pixels(mask)


def silog(pred: Depth, target: Depth, mask: Mask, lambda_: float = 0.5, trim: float = 0.0) -> PerImage:
    """Scale-invariant log error √(mean d² - λ (mean d)²), d = log pred - log target (Eigen et al., 2014).

    λ = 0.5 is GLPDepth's and Depth Anything V2's dialect, whose square root they take of 0 too: NaN in the gradient.
    Only λ = 1 ignores a common scale of the prediction; λ = 0.5 halves the squared error a wrong scale costs,
    and no λ ignores a shift. Depths below a micrometre count as one micrometre and pass no gradient. At a
    perfect prediction, where the square root is infinitely steep, the gradient is 0. Trimmed by |d|, both means are
    of the pixels that stay.
    """
    log_ratio, mask = trim_largest(_take_log(pred, mask) - _take_log(target, mask), mask, trim)
    mean = log_ratio.sum((1, 2)) / _count_pixels(mask)
    spread = inside(log_ratio - mean[:, None, None], mask).square().sum((1, 2)) / _count_pixels(mask)
    square = spread + (1 - lambda_) * mean.square()
    flat = square <= 0  # False for NaN: a step must not hide it
    return torch.where(flat, 0.0, torch.where(flat, 1.0, square).sqrt())


def silog_bts(pred: Depth, target: Depth, mask: Mask, trim: float = 0.0) -> PerImage:
    """BTS's dialect, 10 times `silog` with λ = 0.85; ZoeDepth's too, but for its n - 1 in place of n."""
    return 10 * silog(pred, target, mask, 0.85, trim)


def ssi(pred: Depth, target: Depth, mask: Mask, trim: float = 0.0) -> PerImage:
    """Scale-and-shift-invariant error: mean |normalised pred - normalised target| (MiDaS, 2020)."""
    error, mask = trim_largest(normalise(pred, mask) - normalise(target, mask), mask, trim)
    return _sum_absolute(error) / _count_pixels(mask)


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
        down, across = (inside(coarse.diff(dim=dim), _join_pairs(trusted, dim)) for dim in (1, 2))
        total = total + _average_slopes(down, across, trusted, trim)
    return total


def gradient_matching_sobel(pred: Depth, target: Depth, mask: Mask, on: Map = "ssi", trim: float = 0.0) -> PerImage:
    """Mean |Sobel x of R| + |Sobel y of R| where all nine pixels are trusted, R as in `gradient_matching`.

    The kernels are scaled by 1/8, so that the Sobel of a ramp is its slope per pixel. Trimmed by the sum at a pixel.
    """
    error = _MAPS[on](pred, mask) - _MAPS[on](target, mask)
    whole = _join_pairs(_join_pairs(_join_pairs(_join_pairs(mask, 1), 1), 2), 2)
    box = _add_pairs(_add_pairs(error, 1), 2)  # Sobel's kernels are products of [1, 1] and [-1, 1]
    across, down = (inside(_add_pairs(box, dim).diff(dim=3 - dim), whole) for dim in (1, 2))
    return _average_slopes(across, down, whole, trim) / 8


def aligned_l1(pred: Depth, target: Depth, mask: Mask, trim: float = 0.0) -> PerImage:
    """`masked_l1` of the prediction as protocols align it: by least squares onto the target.

    Unlike `ssi` the prediction's own spread is not divided out: an image whose truth is hard to see pulls less.
    """
    return masked_l1(align_prediction(pred, target, mask), target, mask, trim)


def aligned_edge_gradient(pred: Depth, target: Depth, mask: Mask, trim: float = 0.0) -> PerImage:
    """`edge_gradient` of the prediction aligned as in `aligned_l1`."""
    return edge_gradient(align_prediction(pred, target, mask), target, mask, trim=trim)


def align_prediction(pred: Depth, target: Depth, mask: Mask, least: float = 0.1) -> Depth:
    """The prediction scaled and shifted onto the target by least squares over trusted pixels.

    A prediction that varies less than `least` times as much as the target is stretched as if it varied that much:
    the gradient of a nearly constant one stays bounded. A perfect prediction stays as it is, to the bit. For both, what
    is fitted here is the error, and not as in `align.fit_affine` the target.
    """
    pred = promote(pred)
    count, error = _count_pixels(mask), inside(pred - target, mask)
    offset = error.sum((1, 2)) / count
    centred, wanted = (inside(m - (inside(m, mask).sum((1, 2)) / count)[:, None, None], mask) for m in (pred, target))
    floor = (least**2 * wanted.square().sum((1, 2))).clamp_min(1e-12)
    excess = (centred * error).sum((1, 2)) / centred.square().sum((1, 2)).maximum(floor)  # 1 - the best scale
    return pred - excess[:, None, None] * centred - offset[:, None, None]


def trim_largest(error: Depth, mask: Mask, share: float = 0.1) -> tuple[Depth, Mask]:
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
    cosine = F.cosine_similarity(promote(student), promote(teacher.detach()), dim=-1)
    apart = cosine <= tolerance
    return torch.where(apart, 1 - cosine, 0.0).sum(1) / apart.sum(1).clamp_min(1)


def normalise(values: Depth, mask: Mask) -> Depth:
    """(values - median) / mean absolute deviation, both over trusted pixels; 0 where untrusted or constant.

    The median is the lower of the two middle values, as in MiDaS.
    """
    values = inside(promote(values), mask)
    median = torch.where(mask, values, torch.nan).flatten(1).nanmedian(1).values
    centred = inside(values - median[:, None, None], mask)
    deviation = _sum_absolute(centred) / _count_pixels(mask)
    return centred / deviation.clamp_min(1e-6)[:, None, None]


def _take_log(values: Depth, mask: Mask) -> Depth:
    return inside(promote(values), mask, 1.0).clamp_min(1e-6).log()


def _sum_absolute(values: Depth) -> PerImage:
    return values.abs().sum((1, 2))  # vector_norm would be faster, and wrong in the fourth digit


def _count_pixels(mask: Mask, least: int = 1) -> PerImage:
    return mask.sum((1, 2), dtype=torch.int32).clamp_min(least).float()


def _join_pairs(mask: Tensor, dim: int) -> Tensor:
    """Both a pixel and its next along `dim`: the mask of `diff(dim=dim)`."""
    length = mask.shape[dim] - 1
    return mask.narrow(dim, 0, length) & mask.narrow(dim, 1, length)


def _average_slopes(one: Tensor, other: Tensor, mask: Mask, trim: float) -> PerImage:
    """Mean |slope| along one axis and the other over trusted pixels; those of the last row or column may have none."""
    if not trim:
        return (_sum_absolute(one) + _sum_absolute(other)) / _count_pixels(mask)
    height, width = mask.shape[1:]
    one, other = (F.pad(s.abs(), (0, width - s.shape[2], 0, height - s.shape[1])) for s in (one, other))
    error, mask = trim_largest(one + other, mask, trim)
    return _sum_absolute(error) / _count_pixels(mask)


def _add_pairs(values: Tensor, dim: int) -> Tensor:
    """A pixel plus its next along `dim`."""
    length = values.shape[dim] - 1
    return values.narrow(dim, 0, length) + values.narrow(dim, 1, length)


_MAPS: dict[Map, Callable[[Depth, Mask], Depth]] = {
    "ssi": normalise,
    "raw": lambda values, mask: inside(promote(values), mask),
    "log": _take_log,
}

LOSSES: dict[str, Loss | LossFunction] = {
    "masked_l1": Loss(masked_l1, "encoded depth"),
    "edge_gradient": Loss(edge_gradient, "encoded depth"),
    "relief": Loss(relief, "encoded depth"),
    "silog": Loss(silog, "depth"),
    "silog_bts": Loss(silog_bts, "depth"),
    "ssi": Loss(ssi, "disparity"),
    "ssi_trimmed": Loss(partial(ssi, trim=0.1), "disparity"),
    "aligned_l1": Loss(aligned_l1, "disparity"),
    "aligned_edge_gradient": Loss(aligned_edge_gradient, "disparity"),
    "gradient_matching": Loss(gradient_matching, "disparity"),
    "gradient_matching_raw": Loss(partial(gradient_matching, on="raw"), "disparity"),
    "gradient_matching_log": Loss(partial(gradient_matching, on="log"), "depth"),
    "gradient_matching_sobel": Loss(gradient_matching_sobel, "disparity"),
    "gradient_matching_sobel_raw": Loss(partial(gradient_matching_sobel, on="raw"), "disparity"),
    "gradient_matching_sobel_log": Loss(partial(gradient_matching_sobel, on="log"), "depth"),
}
"""Name → loss, as a recipe's `loss:` spells it. `LOSSES["mine"] = mine` adds a function of yours, and
`LOSSES["mine"] = Loss(mine, "depth")` one that a relative model refuses."""

keep_old_names(
    __name__,
    {"weighted": "weigh", "aligned": "align_prediction", "trimmed": "trim_largest", "normalised": "normalise"},
)
