"""Write a model's folder: weights or an adapter, `sonde.json`, and the image processor of plain transformers."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from peft import PeftModel
from PIL import Image as PILImage
from torch import Tensor
from transformers import DPTImageProcessorPil, GLPNImageProcessorPil

from sonde.models.calibration import CALIBRATION
from sonde.models.hashing import fingerprint
from sonde.models.network import DepthModel
from sonde.models.spec import SPEC, ModelSpec


def save(model: DepthModel, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write a folder that `load` reads: an adapter (PEFT's own format) or a whole network, with `sonde.json`.

    The config of a whole network also holds the spec, where transformers keeps it. A calibration is saved too; one
    that already lies in the folder belongs to other weights and is replaced or removed.

    Args:
        model: what is saved.
        folder: created if it does not exist.
        weights: used instead of the network's own tensors, when those are sharded over processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model.network, PeftModel):
        # PEFT would write this machine's path as the base, and look up a vocabulary on the hub.
        model.network.peft_config["default"].base_model_name_or_path = model.spec.base
        model.network.save_pretrained(str(folder), save_embedding_layers=False)
    else:
        store_spec(model)
        model.network.save_pretrained(folder, state_dict=weights)
        make_image_processor(model.spec).save_pretrained(folder)
    (folder / SPEC).write_text(json.dumps(asdict(model.spec), indent=2) + "\n")
    if model.background is not None:
        model.background.write(folder)
    if model.calibration is None:
        (folder / CALIBRATION).unlink(missing_ok=True)
    else:
        replace(model.calibration, fingerprint=fingerprint(model.network), base=None).write(folder)


def store_spec(model: DepthModel) -> None:
    """Write a whole network's spec into its config; every folder it is saved to then holds it."""
    model.network.config.sonde = asdict(model.spec)


def make_image_processor(spec: ModelSpec) -> DPTImageProcessorPil | GLPNImageProcessorPil:
    """transformers' image processor that prepares an image as `DepthModel.prepare` does.

    transformers cannot pad to a multiple and crop the output. Where `DepthModel` pads, this processor makes the image
    smaller, so the two agree only if both sides are multiples already.
    """
    if spec.pads:
        return GLPNImageProcessorPil(
            size_divisor=spec.multiple,
            resample=PILImage.Resampling.BICUBIC,
            do_normalize=True,
            image_mean=list(spec.mean),
            image_std=list(spec.std),
        )
    side = spec.short_side or spec.multiple
    height, width = spec.input_size or (side, side)
    return DPTImageProcessorPil(
        size={"height": height, "width": width},
        keep_aspect_ratio=spec.input_size is None,
        ensure_multiple_of=1 if spec.input_size else spec.multiple,
        resample=PILImage.Resampling.BICUBIC,
        image_mean=list(spec.mean),
        image_std=list(spec.std),
    )
