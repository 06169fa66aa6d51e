"""Any depth network as RGB → Prediction: loading by name, and the preprocessing that belongs to the network.

A `DepthModel` takes RGB in [0, 1] at any size and answers at that size. Training, prediction and export all
read the network through it, so they cannot disagree on sizes, means or units.
"""

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from math import isclose
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE
from huggingface_hub.errors import LocalEntryNotFoundError
from peft import PeftModel
from PIL import Image as PILImage
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForDepthEstimation,
    DPTImageProcessorPil,
    GLPNConfig,
    GLPNImageProcessorPil,
    PreTrainedConfig,
    PreTrainedModel,
)

from sonde import architectures
from sonde.adapters import load_adapter
from sonde.background import read_background
from sonde.models.calibration import CALIBRATION, CANDIDATES, KINDS, Calibration, only_calibration, read_calibration
from sonde.models.decoding import decoded_as
from sonde.models.network import (
    FAMILIES,
    IMAGENET,
    PLAIN,
    DepthModel,
    Family,
    ModelSpec,
    as_array,
    as_camera,
    set_max_depth,
    spec_from_json,
    spec_of,
)
from sonde.models.pixels import PixelDepth, pixel_depth
from sonde.models.start import answer_evenly, deepened, level, reinit_head
from sonde.renamed import aliases
from sonde.spelling import nearest

__all__ = [
    "CALIBRATION",
    "CANDIDATES",
    "FAMILIES",
    "IMAGENET",
    "KINDS",
    "PLAIN",
    "WEIGHTS",
    "WEIGHT_FILES",
    "Calibration",
    "DepthModel",
    "Family",
    "ModelSpec",
    "PixelDepth",
    "answer_evenly",
    "as_array",
    "as_camera",
    "build",
    "decoded_as",
    "deepened",
    "fingerprint",
    "image_processor",
    "load",
    "max_depth_of",
    "only_calibration",
    "pixel_depth",
    "read_calibration",
    "reinit_head",
    "save",
    "set_max_depth",
    "spec_of",
    "store_spec",
    "weights_hash",
]

log = logging.getLogger("sonde")

WEIGHTS = Path(__file__).parents[1] / "weights"
"""The shipped model's folder: sonde-tiny."""

WEIGHT_FILES = (".pth", ".pt", ".ckpt")
"""What the names of files of weights end in."""


def load(
    name: str | Path, *, init: str = "pretrained", calibrated: bool = True, max_depth: float | int | None = None
) -> DepthModel:
    """The depth model of a name, in evaluation mode.

    Args:
        name: `sonde-tiny`, a hub id, a Hugging Face folder, a run folder (base + adapter, or whole), a folder of
            `sonde calibrate`, an official `depth_anything_v2_*.pth`, or a `.ckpt` that GLPDepth's scripts wrote.
        init: `random` keeps the architecture and draws new weights from torch's generator.
        calibrated: whether a calibration beside the weights is applied.
        max_depth: metres at which a `.ckpt` of GLPDepth ends, which it does not hold; None reads them from its name,
            where kitti (80) or nyu (10) is in it. Any other model must end there by itself.

    Raises:
        ValueError: nothing of that name, or metres that contradict the model; the message names what would work.
    """
    if max_depth is not None:
        architectures.held(max_depth)
    path = Path(name)
    if str(name) == "sonde-tiny":
        model = _from_folder(WEIGHTS, init)
    elif not str(name):
        raise ValueError(f"The model's name is empty. {ALTERNATIVES}")
    elif path.suffix in WEIGHT_FILES:
        model = _from_official(path, init, max_depth)
    elif (path / "best").is_dir():
        model = load(path / "best", init=init, calibrated=calibrated)
    elif (path / "adapter_config.json").is_file():
        model = _from_adapter(path, init)
    elif only_calibration(path):
        model = _calibrated_base(path, init, max_depth)
    elif path.is_dir():
        model = _from_folder(path, init)
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)):
        model = _from_hub(str(name), init)
    else:
        raise ValueError(f"No model {str(name)!r}: {nearest(str(name), ['sonde-tiny'])} {ALTERNATIVES}")
    if model.spec.background is not None and model.background is None:
        model.background = read_background(path)
    if calibrated and init == "pretrained" and str(name) != "sonde-tiny" and (path / CALIBRATION).is_file():
        model.calibration = _calibration(path, model)
    model.name = str(name)
    if max_depth is not None:
        _agree(model, max_depth)
    return model.eval()


def max_depth_of(model: DepthModel) -> float | None:
    """Metres at which a model's own answer ends, whatever the image; None for a relative one, or one without an end."""
    if model.spec.encoding is not None:
        return None if model.spec.background is not None else float(model.spec.encoding["max_depth"])
    end = getattr(model.network.config, "max_depth", None)
    return None if end is None or model.spec.space != "metric" else float(end * model.spec.scale)


def _agree(model: DepthModel, max_depth: float | int) -> None:
    own = max_depth_of(model)
    if own is None:
        kind = "has no one end" if model.spec.space == "metric" else "is relative, and ends at no metres"
        raise ValueError(f"max_depth={max_depth:g}: {model.name} {kind}; leave it out.")
    if not isclose(own, max_depth, rel_tol=1e-6):
        raise ValueError(
            f"max_depth={max_depth:g}: {model.name} ends at {own:g} m by itself; leave it out, or give that."
        )


def build(
    size: str, *, init: str = "random", encoder: str | None = None, max_depth: float | int | None = None
) -> DepthModel:
    """Depth Anything V2, GLPN or EfficientNet-Lite of a size.

    Args:
        size: small, base, large or giant; b0 to b5 are GLPN's, after its encoder; lite0 to lite2 EfficientNet-Lite's.
        init: `pretrained` takes the released relative weights from the hub; `random` draws them from torch's generator.
        encoder: weights that a random start's encoder has. DINOv2's or SegFormer's: a hub id or a local folder.
            EfficientNet-Lite's: `imagenet`, or a .pth file.
        max_depth: metres at which a random start's metric head ends; None: a relative one, which GLPN has not.

    Raises:
        ValueError: weights that were never released or cannot be had, or settings that contradict each other.
    """
    if size in architectures.MIT_SIZES:
        return _glpn(size, init, encoder, max_depth)
    if size in architectures.LITE_SIZES:
        return _lite(size, init, encoder, max_depth)
    released = architectures.SIZES[size].released
    if init == "pretrained":
        if encoder is not None or max_depth is not None:
            raise ValueError("model.encoder and model.max_depth are for a size drawn anew: set model.init=random.")
        if released is None:
            raise ValueError(f"Depth Anything V2 {size} was never released: set model.init=random and model.encoder.")
        return load(released)
    model = _drawn(architectures.depth_anything(size, max_depth=max_depth), max_depth, f"Depth Anything V2 {size}")
    if encoder is not None:
        architectures.load_encoder(model.network.backbone, encoder)
        level(model.network, model.network.head.conv3)
    return model


def _glpn(size: str, init: str, encoder: str | None, max_depth: float | int | None) -> DepthModel:
    if init == "pretrained":
        known = " or ".join(architectures.PUBLISHED)
        raise ValueError(f"GLPN {size} has no one release: set model.name={known}, or model.init=random.")
    if max_depth is None:
        raise ValueError(
            f"model.size={size} answers metres and needs model.max_depth, such as 80 (road) or 10 (rooms)."
        )
    model = _drawn(architectures.glpn(size, max_depth=max_depth), max_depth, f"GLPN {size}")
    if encoder is not None:
        architectures.load_mit(model.network.glpn, encoder)
    return model


def _lite(size: str, init: str, encoder: str | None, max_depth: float | int | None) -> DepthModel:
    if init == "pretrained":
        raise ValueError(
            f"model.size={size} has no released depth weights: set model.init=random, with model.encoder=imagenet for "
            "a pretrained encoder."
        )
    model = _drawn(architectures.lite(size, max_depth=max_depth), max_depth, f"EfficientNet-{size.capitalize()}")
    if encoder is not None:
        architectures.load_imagenet(model.network.encoder, size, encoder)
        level(model.network, model.network.head.conv3)
    return model


def _drawn(config: PreTrainedConfig, max_depth: float | int | None, name: str) -> DepthModel:
    """A network of new weights; what its config cannot hold of its range is kept in its meaning."""
    network = AutoModelForDepthEstimation.from_config(config)
    reinit_head(network)
    scale = 1.0 if max_depth is None else architectures.held(max_depth)[1]
    return DepthModel(network, replace(spec_of(network), scale=scale), name).eval()


def fingerprint(network: nn.Module) -> str:
    """A short hash that changes with any tensor: an adapter must meet the base it was trained on."""
    digest = sha256()
    for key, value in sorted(network.state_dict().items()):
        flat = value.detach().reshape(-1)
        sampled = flat[:: max(1, flat.numel() // 64)].to("cpu", torch.float32)
        digest.update(key.encode() + sampled.numpy().tobytes())
    return digest.hexdigest()[:16]


def weights_hash(network: nn.Module) -> str:
    """SHA-256 over the name, type, shape and bytes of every tensor, in the order of their names."""
    digest = sha256()
    for name, value in sorted(network.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save(model: DepthModel, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write a folder `load` takes back: an adapter (PEFT's own format) or a whole network, with `sonde.json`.

    A whole network also carries the meaning in its config, where transformers keeps it. A calibration goes with it;
    one that lay there was of other weights. `weights` stand for the network's own, where those are spread over
    processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model.network, PeftModel):
        # The base by its name, not by a machine's path; and no look-up of a vocabulary on the hub.
        model.network.peft_config["default"].base_model_name_or_path = model.spec.base
        model.network.save_pretrained(str(folder), save_embedding_layers=False)
    else:
        store_spec(model)
        model.network.save_pretrained(folder, state_dict=weights)
        image_processor(model.spec).save_pretrained(folder)
    (folder / MEANING).write_text(json.dumps(asdict(model.spec), indent=2) + "\n")
    if model.background is not None:
        model.background.write(folder)
    if model.calibration is None:
        (folder / CALIBRATION).unlink(missing_ok=True)
    else:
        replace(model.calibration, fingerprint=fingerprint(model.network), base=None).write(folder)


def store_spec(model: DepthModel) -> None:
    """Write a whole network's meaning into its config, from where every folder it is saved to has it."""
    model.network.config.sonde = asdict(model.spec)


def image_processor(spec: ModelSpec) -> DPTImageProcessorPil | GLPNImageProcessorPil:
    """transformers' image processor that prepares an image as `DepthModel.prepare` does.

    transformers cannot pad to a multiple and cut the answer: where `DepthModel` pads, its processor makes the image
    smaller, and the two agree only where the sides are multiples already.
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


def _from_folder(folder: Path, init: str) -> DepthModel:
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no model: expected config.json, adapter_config.json or a run folder with best/.")
    if init == "pretrained" and not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise ValueError(f"{folder} holds a config but no weights (model.safetensors): the file is missing.")
    network = _network(str(folder), init, local_files_only=True)
    _correct_range(network, folder)
    return DepthModel(network, spec_of(network), str(folder))


def _from_hub(name: str, init: str) -> DepthModel:
    try:
        if _hub_answers():
            network = _network(name, init)
        else:
            network = _network(snapshot_download(name, local_files_only=True), init, local_files_only=True)
    except LocalEntryNotFoundError:
        reason = "it cannot be reached, and the model is not in the local cache"
        raise ValueError(f"{name} could not be had from the Hugging Face hub: {reason}. {ALTERNATIVES}") from None
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name} could not be had from the Hugging Face hub: {reason} {ALTERNATIVES}") from None
    _correct_range(network, Path(name))
    model = DepthModel(network, spec_of(network), name)
    if model.spec.background is not None:
        model.background = read_background(Path(snapshot_download(name, allow_patterns=["background.*"])))
    return model


def _correct_range(network: PreTrainedModel, place: Path) -> None:
    """Published GLPNs were converted with transformers' default range, whatever they were trained for."""
    config: Any = network.config
    if getattr(config, "sonde", None) is not None or getattr(config, "max_depth", None) != GLPNConfig().max_depth:
        return
    written = json.loads((place / "config.json").read_text()).get("_name_or_path") if place.is_dir() else None
    names = {place.name, str(written).rpartition("/")[2]}
    for known, metres in architectures.PUBLISHED.items():
        if known.rpartition("/")[2] in names and config.max_depth != metres:
            log.warning(
                "%s: its config says %d m, and %s ends at %d m: read as that", place, config.max_depth, known, metres
            )
            set_max_depth(network, metres)


def _hub_answers() -> bool:
    """Asked once and briefly: the hub's own client would retry for most of a minute."""
    try:
        if not HF_HUB_OFFLINE:
            urlopen(Request(ENDPOINT, method="HEAD"), timeout=5).close()
            return True
    except HTTPError:
        return True  # what it says of the model, its own client will tell
    except OSError:
        pass
    return False


def _network(name: str, init: str, local_files_only: bool = False) -> PreTrainedModel:
    if init == "random":
        config = AutoConfig.from_pretrained(name, local_files_only=local_files_only)
        network = AutoModelForDepthEstimation.from_config(config)
        reinit_head(network)
        return network
    return AutoModelForDepthEstimation.from_pretrained(name, local_files_only=local_files_only, dtype=torch.float32)


def _from_official(path: Path, init: str, max_depth: float | int | None) -> DepthModel:
    state = architectures.read_state(path, str(path), "an official depth_anything_v2_*.pth or a GLPDepth .ckpt")
    config, renamed, scale = architectures.from_official(state, path.name, max_depth)
    network = AutoModelForDepthEstimation.from_config(config)
    reason = architectures.misfit(renamed, network.state_dict())
    if reason is not None:
        raise ValueError(f"{path} is not whole, or of a changed network: {reason}; download it anew.")
    if init == "random":
        reinit_head(network)
    else:
        network.load_state_dict(renamed)
    return DepthModel(network, replace(spec_of(network), scale=scale, base_max_depth=max_depth), str(path))


def _from_adapter(folder: Path, init: str) -> DepthModel:
    path = folder / MEANING
    if not path.is_file():
        raise ValueError(f"{folder} is a plain adapter without {MEANING}: load it with peft on its base network.")
    spec = spec_from_json(json.loads(path.read_text()))
    if init == "random":
        raise ValueError(
            f"{folder} is an adapter, which means nothing on weights drawn anew: draw its base anew with "
            f"model.name={spec.base or 'sonde-tiny'}."
        )
    name = spec.base or "sonde-tiny"
    base = load(name, max_depth=spec.base_max_depth if Path(name).suffix in WEIGHT_FILES else None)
    if spec.encoding is not None:
        set_max_depth(base.network, 1)
    if spec.fingerprint not in (None, fingerprint(base.network)):
        raise ValueError(
            f"{folder} was trained on other weights of {spec.base} than those loaded now; its numbers would be "
            "wrong. Use the sonde version or the base it was trained with."
        )
    network = pixel_depth(base.network) if spec.head == "pixels" else base.network
    return DepthModel(load_adapter(network, folder), spec, str(folder))


def _calibrated_base(folder: Path, init: str, max_depth: float | int | None) -> DepthModel:
    """The model whose calibration is all that a folder holds; a local one by its place seen from there."""
    base = read_calibration(folder).base
    if base is None:
        raise ValueError(f"{folder} holds a calibration and no model: put it back beside the weights it is of.")
    beside = Path(os.path.normpath(folder / base))
    name = beside if base != "sonde-tiny" and beside.exists() else base
    return load(name, init=init, calibrated=False, max_depth=max_depth)


def _calibration(folder: Path, model: DepthModel) -> Calibration:
    calibration = read_calibration(folder)
    if calibration.fingerprint != fingerprint(model.network) or calibration.space != model.spec.space:
        raise ValueError(
            f"{folder / CALIBRATION} was measured with other weights than those loaded now, so its metres would be "
            "wrong: calibrate again, or delete it."
        )
    return calibration


ALTERNATIVES = (
    "Without a network: sonde-tiny, a local Hugging Face folder, a run folder, or a depth_anything_v2_*.pth"
    " or GLPDepth .ckpt file."
)
MEANING = "sonde.json"

__getattr__ = aliases(
    __name__, {"Meaning": "ModelSpec", "meaning_of": "spec_of", "inscribe": "store_spec", "revive": "reinit_head"}
)
