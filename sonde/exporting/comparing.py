"""What every exporter of folders needs: adapters merged, and the raw answers of before and after compared."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from PIL import Image

from sonde import models
from sonde.models import DepthModel

TOLERANCE = 1e-4
"""Largest difference allowed between the raw outputs of written network and original, relative to the maximum."""


def merge_adapters(model: DepthModel) -> None:
    """Merge the adapters into the network and remove the base from the spec; the model is changed in place."""
    if isinstance(model.network, PeftModel):
        model.network = model.network.merge_and_unload()
    model.spec = replace(model.spec, base=None, fingerprint=None, base_max_depth=None)


def compare_raw(before: torch.Tensor, after: torch.Tensor, name: str, folder: Path) -> None:
    """Refuse raw answers that differ by more than TOLERANCE.

    Raises:
        ValueError: with the difference.
    """
    difference = float((after - before).abs().max() / before.abs().max().clamp_min(1e-6))
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{folder} gives another output than {name} (different by {difference:.2g} of the largest value): nothing "
            "was exported, and the folder is kept for inspection."
        )


def make_picture(height: int, width: int) -> Image.Image:
    """Random colours."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@torch.inference_mode()
def predict_raw(model: DepthModel, image: Image.Image) -> torch.Tensor:
    """The raw answer (H, W) to a picture.

    Raises:
        ValueError: an answer that is not finite.
    """
    rgb = torch.from_numpy(models.as_array(image)).permute(2, 0, 1)[None].float() / 255
    raw = model.forward_raw(model.network, rgb)[0]
    models.check_finite(raw, model.name)
    return raw
