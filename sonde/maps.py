"""Operations on depth maps, (b, h, w), that losses, scoring and prediction share.

A training step spends much of its time on maps of the ground truth's size. What it needs there has its gradient
written out, so that each value is read and written a few times only: `resize`, `sum_errors` and `sum_step_errors`.
"""

import warnings
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from sonde.renamed import keep_old_names
from sonde.tensors import Depth, Mask, PerImage

Context = Any
"""What torch gives the two passes of a function to share; its own class does not name what it holds."""


def resize(pred: Depth, size: tuple[int, int]) -> Float[Tensor, "b H W"]:
    """Resize a prediction to the ground truth's (height, width): bicubic, align_corners=False."""
    if tuple(pred.shape[1:]) == tuple(size):
        return pred
    pred = promote(pred)
    if pred.device.type == "cpu" and pred.requires_grad and torch.is_grad_enabled():
        return _Bicubic.apply(pred, size)  # pyright: ignore[reportReturnType]
    # A matrix product would spread one NaN over the whole map.
    if pred.device.type != "cpu" or not pred.isfinite().all():
        return F.interpolate(pred[:, None], size, mode="bicubic", align_corners=False)[:, 0]
    rows, columns = (_make_bicubic(*lengths, pred.dtype) for lengths in zip(pred.shape[1:], size, strict=True))
    return rows @ pred @ columns.T


@lru_cache(16)
def _make_bicubic(length: int, longer: int, dtype: torch.dtype) -> Float[Tensor, "longer length"]:
    """Bicubic interpolation of a line as a matrix: it is linear, and on a CPU a matrix product uses every core."""
    # The matrix is cached. A later caller may need gradients, which inference tensors do not allow.
    with torch.inference_mode(False):
        lines = torch.eye(length, dtype=dtype)[None, None]
        return F.interpolate(lines, (longer, length), mode="bicubic", align_corners=False)[0, 0]


class _Bicubic(torch.autograd.Function):
    """`resize` of a step: by sparse matrices of four weights a row, forward and back."""

    @staticmethod
    def forward(ctx: Context, pred: Depth, size: tuple[int, int]) -> Tensor:
        ctx.lengths = list(zip(pred.shape[1:], size, strict=True))
        rows, columns = (_make_sparse(*lengths, pred.dtype, False) for lengths in ctx.lengths)
        return _multiply(rows, columns, pred)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns = (_make_sparse(*lengths, gradient.dtype, True) for lengths in ctx.lengths)
        return _multiply(rows, columns, gradient), None


def _multiply(rows: Tensor, columns: Tensor, maps: Depth) -> Float[Tensor, "b H W"]:
    """rows · map · columnsᵀ of each map; the larger side is made last, or left first."""
    if rows.shape[0] > rows.shape[1]:
        return torch.stack([rows @ (columns @ each.T).T.contiguous() for each in maps])
    return torch.stack([(columns @ (rows @ each).T.contiguous()).T for each in maps])


@lru_cache(32)
def _make_sparse(length: int, longer: int, dtype: torch.dtype, turned: bool) -> Tensor:
    """`_make_bicubic` without its zeros; `turned`, its transpose."""
    weights = _make_bicubic(length, longer, dtype)
    with torch.inference_mode(False), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls the format a beta; what is used here is as old as it
        return (weights.T.contiguous() if turned else weights).to_sparse_csr()


def sum_errors(pred: Depth, target: Depth, mask: Mask) -> PerImage:
    """Sum of |pred - target| over trusted pixels."""
    return _Errors.apply(promote(pred), target, mask)  # pyright: ignore[reportReturnType]


class _Errors(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, pred: Depth, target: Depth, mask: Mask) -> Tensor:
        error = inside(pred - target, mask)
        ctx.save_for_backward(error)
        return error.abs().sum((1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (error,) = ctx.saved_tensors
        own = error.sgn().mul_(gradient[:, None, None])
        return own, -own if ctx.needs_input_grad[1] else None, None


def sum_step_errors(
    pred: Depth, target: Depth, mask: Mask, down: Float[Tensor, "b h-1 w"], across: Float[Tensor, "b h w-1"]
) -> tuple[PerImage, PerImage]:
    """Weighted sums of |step of pred - step of target| from each row to the next, and from each column to the next.

    Args:
        pred: the prediction.
        target: the ground truth.
        mask: True where it is trusted.
        down: weight of each step between rows: 0 unless both pixels are trusted.
        across: likewise between columns.
    """
    return _StepErrors.apply(promote(pred), target, mask, down, across)  # pyright: ignore[reportReturnType]


class _StepErrors(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Context, pred: Depth, target: Depth, mask: Mask, down: Tensor, across: Tensor
    ) -> tuple[Tensor, ...]:
        error = inside(pred - target, mask)
        signed, sums = [], []
        for dim, weight in ((1, down), (2, across)):
            steps = error.diff(dim=dim)
            signed.append(steps.sgn().mul_(weight))
            sums.append(steps.mul_(signed[-1]).sum((1, 2)))
        ctx.save_for_backward(*signed)
        return tuple(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        down, across = ctx.saved_tensors
        height, width = down.shape[1] + 1, down.shape[2]
        total = down.new_zeros(len(down), height, width)
        for dim, signed, gradient in zip((1, 2), (down, across), gradients, strict=True):
            scaled = signed * gradient[:, None, None]
            total.narrow(dim, 1, scaled.shape[dim]).add_(scaled)
            total.narrow(dim, 0, scaled.shape[dim]).sub_(scaled)
        return total, -total if ctx.needs_input_grad[1] else None, None, None, None


def high_pass(values: Depth, mask: Mask, share: float = 1 / 16) -> Depth:
    """Values minus the mean of the trusted values in a square around each pixel; 0 where untrusted.

    The side of the square is `share` of the height, and at least 3 pixels. Pixels outside the image are not trusted.
    """
    side = max(round(share * mask.shape[1]) // 2 * 2 + 1, 3)
    values = inside(promote(values), mask)
    total, count = (_average_square(maps.to(values.dtype), side) for maps in (values, mask))
    return inside(values - total / count.clamp_min(0.5 / side**2), mask)


def _average_square(values: Depth, side: int) -> Depth:
    """Mean of a square around each pixel, zeros beyond the border. Rows, then columns: far faster on a CPU."""
    rows = F.avg_pool2d(values[:, None], (side, 1), 1, (side // 2, 0))
    return F.avg_pool2d(rows, (1, side), 1, (0, side // 2))[:, 0]


def promote(values: Tensor) -> Tensor:
    """Convert to float32; float64 stays float64."""
    return values if values.dtype == torch.float64 else values.float()


def inside(values: Depth, mask: Mask, fill: float = 0.0) -> Depth:
    """The values where the mask is True, `fill` elsewhere. NaN outside the mask reaches no value and no gradient."""
    return torch.where(mask, values, fill)


keep_old_names(__name__, {"precise": "promote", "resized": "resize", "stands_out": "high_pass"})
