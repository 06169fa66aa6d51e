"""What a label says of itself without ground truth: how far the network agrees with its own mirror image; the sky."""

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from sonde.models import DepthModel
from sonde.tensors import Depth, PerImage
from sonde.types import DepthArray

QUARTER = 4
"""The mirror image is seen at a quarter of the network's side: a sixteenth of the pixels, some 5 % of the time."""
LEAST = 4
"""Its sides are at least so many of the network's multiples."""
WHOLE = ("dpt", "depth_pro")
"""Networks that see one size only: their mirror image is seen whole, which doubles the time."""
ROUNDING = 1e-5
"""Relief below this share of the map's largest value is none."""
FAR = 0.02
"""Share of the map's robust range that counts as its far end."""


def confidence(model: DepthModel, pixels: Float[Tensor, "b 3 H W"], raw: Depth) -> PerImage:
    """Agreement of a label with that of the mirrored image, in [0, 1]; float32 on the CPU.

    Let d be the label and m the mirrored image's, turned back, both at the mirror image's size without its outermost
    pixels (where resizing bends a plane), and both less the plane a + b u + c v that fits them best. Fitted to d by a
    scale (least squares), m leaves the share 1 - R² of d's variance unexplained; R² = (Σ d m)² / (Σ d² · Σ m²), or 0
    where they are opposed, is the answer. Without taking the plane away a network that sees nothing scores best: it
    answers a tilted floor, which is its own mirror image.

    Args:
        model: the network, in evaluation mode.
        pixels: its input, as `DepthModel.prepare` gives it.
        raw: its answer to them.
    """
    size = mirror_size(model, int(pixels.shape[-2]), int(pixels.shape[-1]))
    small = pixels if size == tuple(pixels.shape[-2:]) else _resized(pixels, size)
    mirrored = answer(model, small.flip(-1).contiguous(memory_format=torch.channels_last)).flip(-1)
    label, other = (_relief(_resized(values[:, None], size)[:, 0, 1:-1, 1:-1].double()) for values in (raw, mirrored))
    together = (label * other).mean((1, 2)).clamp_min(0)
    return (together.square() / (label.square().mean((1, 2)) * other.square().mean((1, 2)))).nan_to_num(0).float().cpu()


def mirror_size(model: DepthModel, height: int, width: int) -> tuple[int, int]:
    """(height, width) at which a network of this input size sees the mirror image."""
    if model.network.config.model_type in WHOLE:
        return height, width
    step = model.spec.multiple

    def fit(side: int) -> int:
        return max(LEAST * step, round(side / QUARTER / step) * step)

    return min(fit(height), height), min(fit(width), width)


def answer(model: DepthModel, pixels: Float[Tensor, "b 3 H W"]) -> Depth:
    """The network's raw answer to its own input, float32; bfloat16 inside on a GPU."""
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.device.type == "cuda"):
        outputs = model.network(pixel_values=pixels)
    return model.read(outputs, pixels.shape[-1]).float()


def sky(disparity: DepthArray) -> float | None:
    """Share of pixels taken for sky in a map of disparity: those connected to the top edge at its far end.

    The far end is within 2 % of the robust range (1st to 99th percentile) of its lowest value. A heuristic: it takes a
    distant wall that touches the top for sky, and misses sky behind branches. None where the map is constant.
    """
    low, high = np.percentile(disparity, [1, 99])
    if not high > low:
        return None
    far = (disparity <= low + FAR * (high - low)).astype(np.uint8)
    _, parts = cv2.connectedComponents(far, connectivity=4)
    above = np.setdiff1d(parts[0], [0])
    return float(np.isin(parts, above).mean())


def _relief(values: Depth) -> Depth:
    """Each map less the plane that fits it best, 0 where rounding alone is left.

    On a grid the constant, u and v are at right angles.
    """
    noise = ROUNDING * values.abs().amax((1, 2), keepdim=True)
    values = values - values.mean((1, 2), keepdim=True)
    for dim in (1, 2):
        count = values.shape[dim]
        line = torch.arange(count, dtype=values.dtype, device=values.device) - (count - 1) / 2
        line = line.view(1, -1, 1) if dim == 1 else line.view(1, 1, -1)
        values = values - line * (values * line).mean((1, 2), keepdim=True) / line.square().mean().clamp_min(1e-24)
    return torch.where(values.abs().amax((1, 2), keepdim=True) > noise, values, 0)


def _resized(values: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c H W"]:
    return functional.interpolate(values, size, mode="bilinear", align_corners=False, antialias=True)
