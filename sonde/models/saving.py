"""Write a model's folder: weights or an adapter, `sonde.json`, and the image processor of plain transformers."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from PIL import Image as PILImage
from torch import Tensor
from transformers import DPTImageProcessorPil, GLPNImageProcessorPil, PreTrainedModel

from sonde.adapters import is_adapted
from sonde.files import read_text
from sonde.models.calibration import CALIBRATION
from sonde.models.exported import GRAPH
from sonde.models.hashing import fingerprint
from sonde.models.loading import ModelSource, find_kind, find_shipped, is_weight_file, load_network
from sonde.models.network import DepthModel
from sonde.models.spec import BASE, BESIDE, SPEC, ModelSpec

log = logging.getLogger("sonde")

CARDS = ("README.md", "LICENSE*", "LICENCE*")
"""Files of a model's folder that say what may be done with it."""


def save(model: DepthModel, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write a folder that `load` reads: an adapter (PEFT's own format) or a whole network, with `sonde.json`.

    The config of a whole network also holds the spec, where transformers keeps it. An adapter whose base is no model of
    the hub gets that base beside it, in `base/`, so that plain PEFT loads the folder too. A calibration is saved too;
    one that already lies in the folder belongs to other weights and is replaced or removed.

    Args:
        model: what is saved.
        folder: created if it does not exist.
        weights: used instead of the network's own tensors, when those are sharded over processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spec = model.spec
    if is_adapted(model.network):
        spec = _save_adapter(model, folder)
    else:
        store_spec(model)
        model.network.save_pretrained(folder, state_dict=weights)
    make_image_processor(spec).save_pretrained(folder)
    (folder / SPEC).write_text(json.dumps(asdict(spec), indent=2) + "\n")
    (folder / GRAPH).unlink(missing_ok=True)  # it ran the weights that lay here before
    if model.background is not None:
        model.background.write(folder)
    if model.calibration is None:
        (folder / CALIBRATION).unlink(missing_ok=True)
    else:
        replace(model.calibration, fingerprint=fingerprint(model.network), base=None).write(folder)


def _save_adapter(model: DepthModel, folder: Path) -> ModelSpec:
    """Write an adapter and, unless the hub has it, its base; returns the spec with the base's name in the folder."""
    spec, name, network = model.spec, model.spec.base or "sonde-tiny", model.network
    kind = _save_base(name, spec, folder / BASE)
    # PEFT would write this machine's path as the base, and look up a vocabulary on the hub.
    network.peft_config["default"].base_model_name_or_path = (
        name if kind == "hub" else Path(name).name if kind is None else BESIDE
    )
    network.save_pretrained(str(folder), save_embedding_layers=False)
    return spec if kind in ("hub", "shipped", None) else replace(spec, base=BESIDE)


def _save_base(name: str, spec: ModelSpec, folder: Path) -> str | None:
    """Write an adapter's base in transformers' format; returns its kind in READERS, None where it cannot be written."""
    try:
        kind = find_kind(ModelSource(name))
        if kind == "shipped":
            _copy_shipped(find_shipped(name), folder)
        elif kind != "hub":
            _write_base(name, spec, folder)
        return kind
    except ValueError as error:
        log.warning("The adapter is saved without its base, so that it loads on this machine only: %s", error)
        return None


def _copy_shipped(shipped: Path, folder: Path) -> None:
    """Copy a packaged model, without the picture of its card."""
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        shutil.copyfile(shipped / name, folder / name)
    card = read_text(shipped / "README.md").splitlines()
    text = "\n".join(line for line in card if not line.startswith("!["))
    (folder / "README.md").write_text(f"{text.rstrip()}\n")


def _write_base(name: str, spec: ModelSpec, folder: Path) -> None:
    """Load a base again and save it: in memory, the start of the head may have changed it.

    Raises:
        ValueError: it cannot be loaded, is no network of transformers, or has changed since the adapter began.
    """
    base = load_network(name, max_depth=spec.base_max_depth if is_weight_file(name) else None)
    if not isinstance(base.network, PreTrainedModel):
        raise ValueError(f"{name} is no network of transformers.")
    if spec.fingerprint not in (None, fingerprint(base.network)):
        raise ValueError(f"{name} has changed since the adapter was made.")
    save(base, folder)
    source = ModelSource(name).path
    for own in (source, source / "best"):
        for path in (path for pattern in CARDS for path in own.glob(pattern) if path.is_file()):
            shutil.copyfile(path, folder / path.name)


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
