"""What losses, scoring and prediction do to maps of depth, (b, h, w)."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sonde.renamed import aliases
from sonde.tensors import Depth, Mask


def resized(pred: Depth, size: tuple[int, int]) -> Float[Tensor, "b H W"]:
    """The prediction at the ground truth's (height, width): bicubic, align_corners=False."""
    if tuple(pred.shape[1:]) == tuple(size):
        return pred
    pred = precise(pred)
    if pred.device.type != "cpu" or not pred.isfinite().all():  # in a product one NaN would be everywhere
        return F.interpolate(pred[:, None], size, mode="bicubic", align_corners=False)[:, 0]
    rows, columns = (_bicubic(*lengths, pred.dtype) for lengths in zip(pred.shape[1:], size, strict=True))
    return rows @ pred @ columns.T


@lru_cache(16)
def _bicubic(length: int, longer: int, dtype: torch.dtype) -> Float[Tensor, "longer length"]:
    """Bicubic interpolation of a line: it is linear, so a matrix, and on a CPU its products use every core."""
    with torch.inference_mode(False):  # kept for whoever asks next, who may want gradients
        lines = torch.eye(length, dtype=dtype)[None, None]
        return F.interpolate(lines, (longer, length), mode="bicubic", align_corners=False)[0, 0]


def high_pass(values: Depth, mask: Mask, share: float = 1 / 16) -> Depth:
    """Values less the mean of the trusted ones in a square about each; 0 where untrusted.

    The square's side is `share` of the height, and at least 3 pixels. What lies outside the image is not trusted.
    """
    side = max(round(share * mask.shape[1]) // 2 * 2 + 1, 3)
    values = inside(precise(values), mask)
    total, count = (_box(maps.to(values.dtype), side) for maps in (values, mask))
    return inside(values - total / count.clamp_min(0.5 / side**2), mask)


def _box(values: Depth, side: int) -> Depth:
    """Mean of a square about each pixel, zeros beyond the border; rows, then columns, which is far quicker on a CPU."""
    rows = F.avg_pool2d(values[:, None], (side, 1), 1, (side // 2, 0))
    return F.avg_pool2d(rows, (1, side), 1, (0, side // 2))[:, 0]


def precise(values: Tensor) -> Tensor:
    """Raised to float32; float64 stays."""
    return values if values.dtype == torch.float64 else values.float()


def inside(values: Depth, mask: Mask, fill: float = 0.0) -> Depth:
    """The values where the mask is True, and `fill` elsewhere; NaN outside reaches neither value nor gradient."""
    return torch.where(mask, values, fill)


__getattr__ = aliases(__name__, {"stands_out": "high_pass"})
