"""Inputs of the performance table: captures, photographs and maps as large as real ones, and a network.

Everything comes from fixed seeds, so that every run measures the same work.
"""

from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from sonde import architectures, models
from sonde.types import DepthArray, MaskArray


def make_maps(size: tuple[int, int]) -> tuple[DepthArray, DepthArray, MaskArray]:
    """A prediction up to scale and shift, a target with edges in metres, and a mask with drop-outs.

    Args:
        size: (height, width).
    """
    rng, (height, width) = np.random.default_rng(0), size
    v, u = np.mgrid[:height, :width].astype(np.float32)
    target = (0.9 + 0.0003 * v + 0.08 * np.sin(u / 90)) * np.where((u // 300 + v // 300) % 2 > 0, 0.8, 1.0)
    soft = cv2.resize(rng.normal(0, 0.05, (height // 40, width // 40)), (width, height), interpolation=cv2.INTER_CUBIC)
    pred = 0.5 * target * np.exp(soft + rng.normal(0, 0.003, size)) + 0.2
    mask = rng.random(size) > 0.05
    return pred.astype(np.float32), np.where(mask, target, 0).astype(np.float32), mask


def write_captures(root: Path, size: tuple[int, int], count: int) -> Path:
    """Write captures in the layout `zivid`: smooth depth with drop-outs, textured colour; returns the root.

    Args:
        root: a new folder.
        size: (height, width).
        count: number of captures.
    """
    height, width = size
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "depth").mkdir()
    v, u = np.mgrid[:height, :width].astype(np.float32)
    for index in range(count):
        z = 900 + 0.3 * v + 80 * np.sin(u / 90 + index)
        xyz = np.stack([(u - width / 2) / 1800 * z, (v - height / 2) / 1800 * z, z], -1).astype(np.float32)
        xyz[rng.random(size) < 0.05] = np.nan
        np.save(root / "depth" / f"{index:03}.npy", xyz)
        grain = rng.integers(0, 255, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
        image = cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(root / "images" / f"{index:03}.png"), image)
    return root


def write_photographs(root: Path, size: tuple[int, int], count: int) -> Path:
    """Write JPEGs as large on disk as photographs, of soft colours and a little grain; returns the folder.

    Args:
        root: a new folder.
        size: (height, width).
        count: number of photographs.
    """
    height, width = size
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    for index in range(count):
        coarse = rng.integers(0, 255, (height // 48, width // 48, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) + rng.normal(0, 6, (*size, 3))
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / f"{index:03}.jpg", quality=90)
    return root


def save_random_network(folder: Path) -> Path:
    """Save Depth Anything V2 Small with random weights: the arithmetic of the real one without a download."""
    from transformers import AutoModelForDepthEstimation

    torch.manual_seed(0)
    network = AutoModelForDepthEstimation.from_config(architectures.depth_anything("small"))
    models.reinit_head(network)
    network.save_pretrained(folder)
    return folder
