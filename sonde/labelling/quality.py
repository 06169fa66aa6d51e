"""The quality of a label without ground truth: agreement with the label of the mirrored image, and the share of sky."""

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from sonde.models import DepthModel
from sonde.models.bridge import BridgedModel
from sonde.renamed import keep_old_names
from sonde.tensors import Depth, PerImage
from sonde.types import DepthArray

QUARTER = 4
"""The network sees the mirrored image at this fraction of its side: 1/16 of the pixels, about 5 % of the time."""
LEAST = 4
"""The sides of the mirrored image are at least this many of the network's multiples."""
WHOLE = ("dpt", "depth_pro")
"""Networks with one input size: they see the mirrored image at full size, which doubles the time."""
ROUNDING = 1e-5
"""Relief below this share of the map's largest value is rounding, and counts as 0."""
FAR = 0.02
"""Share of the map's robust range that counts as its far end."""


def measure_confidence(model: DepthModel, pixels: Float[Tensor, "b 3 H W"], raw: Depth) -> PerImage:
    """Agreement of a label with the label of the mirrored image, in [0, 1]; float32 on the CPU.

    Let d be the label and m the mirrored image's label, flipped back. Both are resized to the mirrored image's size,
    lose their outermost pixels (where resizing bends a plane), and lose the plane a + b u + c v that fits them best.
    The result is R² = (Σ d m)² / (Σ d² · Σ m²): the share of d's variance that m explains after a least-squares fit of
    its scale. It is 0 where d and m are opposed. Without removing the plane, a network that ignores the image scores
    best: it predicts a tilted floor, which equals its own mirror image.

    Args:
        model: the network, in evaluation mode.
        pixels: its input, as `DepthModel.prepare` returns it.
        raw: its raw output for `pixels`.
    """
    size = choose_mirror_size(model, int(pixels.shape[-2]), int(pixels.shape[-1]))
    small = pixels if size == tuple(pixels.shape[-2:]) else _resize(pixels, size)
    mirrored = predict_raw(model, small.flip(-1).contiguous(memory_format=torch.channels_last)).flip(-1)
    label, other = (_resize(values[:, None], size)[:, 0] for values in (raw, mirrored))
    return explain_share(label, other).float().cpu()


def explain_share(label: Depth, other: Depth) -> PerImage:
    """R² of two maps of one size without their outermost pixels and the plane that fits each best; float64.

    A map without relief agrees with nothing: 0.
    """
    label, other = (_remove_plane(values[:, 1:-1, 1:-1].double()) for values in (label, other))
    together = (label * other).mean((1, 2)).clamp_min(0)
    explained = together.square() / (label.square().mean((1, 2)) * other.square().mean((1, 2)))
    return explained.nan_to_num(0)  # 0 / 0


def choose_mirror_size(model: DepthModel, height: int, width: int) -> tuple[int, int]:
    """(height, width) at which a network with this input size sees the mirrored image."""
    if sees_one_size(model):
        return height, width
    step = model.spec.multiple

    def fit(side: int) -> int:
        return max(LEAST * step, round(side / QUARTER / step) * step)

    return min(fit(height), height), min(fit(width), width)


def predict_raw(model: DepthModel, pixels: Float[Tensor, "b 3 H W"]) -> Depth:
    """The network's raw output for its own input, float32, whatever `model.placement` says that it computes in."""
    with model.cast():
        outputs = model.network(pixel_values=pixels)
    raw = model.read(outputs, pixels.shape[-1])
    return raw.cpu() if raw.device.type == "mps" else raw  # Apple's GPUs have no float64, which what follows needs


def sees_one_size(model: DepthModel) -> bool:
    """Whether a network takes no other input than its usual one."""
    if isinstance(model, BridgedModel):
        return model.size is not None
    return model.network.config.model_type in WHOLE


def measure_sky(disparity: DepthArray) -> float | None:
    """Share of pixels in [0, 1] that are sky in a map of disparity: the far pixels connected to the top edge.

    A pixel is far if it is within 2 % of the robust range (1st to 99th percentile) above the 1st percentile. This is a
    heuristic: a distant wall that touches the top counts as sky, and sky behind branches does not. None where the map
    is constant.
    """
    low, high = np.percentile(disparity, [1, 99])
    if not high > low:
        return None
    far = (disparity <= low + FAR * (high - low)).astype(np.uint8)
    _, parts = cv2.connectedComponents(far, connectivity=4)
    above = np.setdiff1d(parts[0], [0])
    return float(np.isin(parts, above).mean())


def _remove_plane(values: Depth) -> Depth:
    """Each map without the plane that fits it best; 0 where only rounding is left."""
    # On a grid the constant, u and v are orthogonal, so each can be removed on its own.
    noise = ROUNDING * values.abs().amax((1, 2), keepdim=True)
    values = values - values.mean((1, 2), keepdim=True)
    for dim in (1, 2):
        count = values.shape[dim]
        line = torch.arange(count, dtype=values.dtype, device=values.device) - (count - 1) / 2
        line = line.view(1, -1, 1) if dim == 1 else line.view(1, 1, -1)
        values = values - line * (values * line).mean((1, 2), keepdim=True) / line.square().mean().clamp_min(1e-24)
    return torch.where(values.abs().amax((1, 2), keepdim=True) > noise, values, 0)


def _resize(values: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c H W"]:
    return functional.interpolate(values, size, mode="bilinear", align_corners=False, antialias=True)


keep_old_names(
    __name__,
    {
        "confidence": "measure_confidence",
        "mirror_size": "choose_mirror_size",
        "answer": "predict_raw",
        "sky": "measure_sky",
    },
)
