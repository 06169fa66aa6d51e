"""Operations on depth maps, (b, h, w), that losses, scoring and prediction share."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sonde.renamed import keep_old_names
from sonde.tensors import Depth, Mask


def resize(pred: Depth, size: tuple[int, int]) -> Float[Tensor, "b H W"]:
    """Resize a prediction to the ground truth's (height, width): bicubic, align_corners=False."""
    if tuple(pred.shape[1:]) == tuple(size):
        return pred
    pred = promote(pred)
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
