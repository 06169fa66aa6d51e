"""The plain alternatives: what one writes with torch, PIL, transformers and NumPy alone."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sonde import models
from sonde.types import DepthArray, MaskArray

RANGE_MM = (251.74, 3907.45)
"""Nearest and farthest depth of the published captures."""


class PlainCaptures(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Captures read as in the published notebook: point cloud, PIL and transformers' image processor at every access.

    Args:
        root: a set in the layout `zivid`.
        size: (height, width) of the network's input.
    """

    def __init__(self, root: Path, size: tuple[int, int]):
        self.images = sorted((root / "images").glob("*.png"))
        self.depths = [root / "depth" / f"{path.stem}.npy" for path in self.images]
        spec = models.ModelSpec("disparity", None, 14, input_size=size)
        self.processor = models.make_image_processor(spec)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        xyz = np.load(self.depths[index], allow_pickle=False).astype(np.float32)
        depth = xyz[..., 2]
        mask = np.isfinite(depth) & (depth > 0) & (depth < 10_000)
        image = Image.open(self.images[index]).convert("RGB")
        pixels = self.processor(images=image, return_tensors="pt")["pixel_values"][0]
        inverse = 1 / (np.where(mask, depth, 1.0) + 1e-6)
        low, high = 1 / RANGE_MM[1], 1 / RANGE_MM[0]
        target = np.clip((inverse - low) / (high - low), 0, 1).astype(np.float32)
        return {
            "pixel_values": pixels,
            "depth": torch.from_numpy(np.where(mask, target, 0).astype(np.float32)),
            "mask": torch.from_numpy(mask),
        }


def compute_published_loss(pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The published loss in torch: masked L1 + 3 x edge-weighted gradient error.

    Args:
        pred: (b, h, w) in [0, 1], of any size.
        target: (b, H, W) in [0, 1].
        mask: (b, H, W), True where the target is trusted.
    """
    pred = nn.functional.interpolate(pred[:, None], target.shape[-2:], mode="bicubic", align_corners=False)[:, 0]
    total = (pred[mask] - target[mask]).abs().mean()
    for dim in (1, 2):
        valid = mask.narrow(dim, 1, mask.shape[dim] - 1) & mask.narrow(dim, 0, mask.shape[dim] - 1)
        step, truth = pred.diff(dim=dim), target.diff(dim=dim)
        weight = 1 + 10.0 * (truth.abs() > 0.02).float()
        error = (step - truth).abs() * weight * valid.float()
        total = total + 3 * error.sum() / (valid.float().sum() + 1e-6)
    return total


def score_in_numpy(pred: DepthArray, target: DepthArray, mask: MaskArray) -> dict[str, float]:
    """An affine fit and every metric, one line for each formula; boundary F1 as in Depth Pro's repository."""
    x, g = pred[mask].astype(np.float64), target[mask].astype(np.float64)
    slope, shift = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1), g, rcond=None)[0]
    p = slope * x + shift
    limits = {"delta1": 1.25, "delta2": 1.25**2, "delta3": 1.25**3, "delta105": 1.05}
    scores = {
        "abs_rel": np.mean(np.abs(p - g) / g),
        "sq_rel": np.mean((p - g) ** 2 / g),
        "mae": np.mean(np.abs(p - g)),
        "rmse": np.sqrt(np.mean((p - g) ** 2)),
        "rmse_log": np.sqrt(np.mean((np.log(p) - np.log(g)) ** 2)),
        "rmse_log10": np.sqrt(np.mean((np.log10(p) - np.log10(g)) ** 2)),
        "log10": np.mean(np.abs(np.log10(p) - np.log10(g))),
        "irmse": np.sqrt(np.mean((1 / p - 1 / g) ** 2)),
        **{name: np.mean(np.maximum(p / g, g / p) < limit) for name, limit in limits.items()},
        "silog": 100 * np.std(np.log(p) - np.log(g)),
        "silog_half": np.sqrt(np.mean((np.log(p) - np.log(g)) ** 2) - np.mean(np.log(p) - np.log(g)) ** 2 / 2),
        "silog_unbiased": 100 * np.std(np.log(p) - np.log(g), ddof=1),
        "silog_log10": np.std(np.log10(p) - np.log10(g)),
        "boundary_f1": _compute_boundary_f1(slope * pred.astype(np.float64) + shift, target, mask),
    }
    return {name: float(value) for name, value in scores.items()}


def _compute_boundary_f1(pred: np.ndarray, target: np.ndarray, mask: np.ndarray) -> float:
    limits, total = np.linspace(1.05, 1.25, 10), 0.0
    near = [1 / np.where(mask, depth, 1).clip(1e-6) for depth in (pred, target)]
    for limit in limits:
        precision, recall = [], []
        # Quarter turns, so that one comparison of horizontal neighbours finds edges of all four directions.
        for turns in range(4):
            both = np.rot90(mask, turns)
            both = both[:, 1:] & both[:, :-1]
            turned = (np.rot90(maps, turns) for maps in near)
            found, true = (both & (maps[:, 1:] / maps[:, :-1] > limit) for maps in turned)
            hits = np.count_nonzero(found & true)
            precision.append(hits / max(np.count_nonzero(found), 1))
            recall.append(hits / max(np.count_nonzero(true), 1))
        p, r = np.mean(precision), np.mean(recall)
        total += limit * (2 * p * r / (p + r) if p + r else 0.0)
    return float(total / limits.sum())
