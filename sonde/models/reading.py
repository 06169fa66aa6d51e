"""Read networks from folders, weight files and the hub, with the files that belong to them."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import AutoConfig, AutoModelForDepthEstimation, GLPNConfig, PreTrainedConfig, PreTrainedModel

from sonde import architectures, files
from sonde.adapters import load_adapter
from sonde.background import read_background
from sonde.models.calibration import CALIBRATION, Calibration, read_calibration
from sonde.models.hashing import fingerprint
from sonde.models.network import DepthModel, check_family, read_spec, set_max_depth
from sonde.models.pixels import make_pixel_depth
from sonde.models.spec import ModelSpec, spec_from_json
from sonde.models.start import reinit_head

log = logging.getLogger("sonde")

COPY_AGAIN = "copy the whole folder again, or download it again"


def read_folder(folder: Path, init: str) -> DepthModel:
    """A whole network in transformers' format.

    Raises:
        ValueError: a file is missing or broken, or the network is not one that sonde reads.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no model: expected config.json, adapter_config.json or a run folder with best/.")
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if init == "pretrained" and not weights:
        raise ValueError(f"{folder} holds a config but no weights (model.safetensors): the file is missing.")
    config = _read_config(folder)
    if init == "random":
        network = _draw(config)
    else:
        # transformers does not say which of several parts is broken.
        with files.reading(weights[0] if len(weights) == 1 else folder, COPY_AGAIN):
            network = _read_weights(str(folder), config)
    _correct_range(network, folder)
    return DepthModel(network, read_spec(network), str(folder))


def read_hub(name: str, init: str, alternatives: str) -> DepthModel:
    """A network of the Hugging Face hub, from the local cache if the hub cannot be reached.

    Args:
        name: its id.
        init: as `sonde.load` takes it.
        alternatives: a sentence for the error message: what can be loaded instead.

    Raises:
        ValueError: no such network, or no connection and no copy in the cache.
    """
    try:
        offline = not _is_hub_reachable()
        place = snapshot_download(name, local_files_only=True) if offline else name
        config = AutoConfig.from_pretrained(place, local_files_only=offline)
        network = _draw(config) if init == "random" else _read_weights(place, config, local_files_only=offline)
    except LocalEntryNotFoundError:
        reason = "it cannot be reached, and the model is not in the local cache"
        raise ValueError(
            f"{name} could not be downloaded from the Hugging Face hub: {reason}. {alternatives}"
        ) from None
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name} could not be downloaded from the Hugging Face hub: {reason} {alternatives}") from None
    _correct_range(network, Path(name))
    model = DepthModel(network, read_spec(network), name)
    if model.spec.background is not None:
        model.background = read_background(Path(snapshot_download(name, allow_patterns=["background.*"])))
    return model


def read_weight_file(path: Path, init: str, max_depth: float | int | None) -> DepthModel:
    """An official checkpoint of Depth Anything V2 or GLPDepth.

    Raises:
        ValueError: the file is missing or broken, of another network, or of an unknown depth range.
    """
    state = architectures.read_state(path, str(path), "an official depth_anything_v2_*.pth or a GLPDepth .ckpt")
    config, renamed, scale = architectures.from_official(state, path.name, max_depth)
    network = AutoModelForDepthEstimation.from_config(config)
    reason = architectures.find_misfit(renamed, network.state_dict())
    if reason is not None:
        raise ValueError(f"{path} is incomplete, or belongs to a modified network: {reason}; download it again.")
    if init == "random":
        reinit_head(network)
    else:
        network.load_state_dict(renamed)
    return DepthModel(network, replace(read_spec(network), scale=scale, base_max_depth=max_depth), str(path))


def attach_adapter(base: DepthModel, spec: ModelSpec, folder: Path) -> DepthModel:
    """The base with the adapter of a folder.

    Raises:
        ValueError: the adapter was trained on other weights, or a file is broken.
    """
    if spec.encoding is not None:
        # Trained with the sigmoid's own range: metres come from the encoding.
        set_max_depth(base.network, 1)
    if spec.fingerprint not in (None, fingerprint(base.network)):
        raise ValueError(
            f"{folder} was trained on other weights of {spec.base} than those loaded now; its numbers would be "
            "wrong. Use the sonde version or the base it was trained with."
        )
    network = make_pixel_depth(base.network) if spec.head == "pixels" else base.network
    return DepthModel(load_adapter(network, folder), spec, str(folder))


def attach_files(model: DepthModel, folder: Path, *, calibrated: bool) -> DepthModel:
    """Read what lies beside the weights: the bench of a fixed camera and, if `calibrated`, the calibration.

    Returns the model in evaluation mode.

    Raises:
        ValueError: a file is missing or broken, or the calibration belongs to other weights.
    """
    if model.spec.background is not None and model.background is None:
        model.background = read_background(folder)
    if calibrated and (folder / CALIBRATION).is_file():
        model.calibration = _read_own_calibration(folder, model)
    return model.eval()


def _read_own_calibration(folder: Path, model: DepthModel) -> Calibration:
    calibration = read_calibration(folder)
    if calibration.fingerprint != fingerprint(model.network) or calibration.space != model.spec.space:
        raise ValueError(
            f"{folder / CALIBRATION} was measured with other weights than those loaded now, so its metres would be "
            "wrong: calibrate again, or delete it."
        )
    return calibration


def _read_config(folder: Path) -> PreTrainedConfig:
    path = folder / "config.json"
    with files.reading(path, COPY_AGAIN):
        document: object = json.loads(path.read_text())
        # transformers answers a config without a type with the list of all types it knows, some hundred names.
        if not isinstance(document, Mapping) or "model_type" not in document:
            raise ValueError("it names no model_type")
        if document.get("sonde") is not None:
            spec_from_json(document["sonde"])
        check_family(document["model_type"])
        return AutoConfig.from_pretrained(str(folder), local_files_only=True)


def _draw(config: PreTrainedConfig) -> PreTrainedModel:
    network = AutoModelForDepthEstimation.from_config(config)
    reinit_head(network)
    return network


def _read_weights(place: str, config: PreTrainedConfig, local_files_only: bool = True) -> PreTrainedModel:
    try:
        return AutoModelForDepthEstimation.from_pretrained(
            place, config=config, local_files_only=local_files_only, dtype=torch.float32
        )
    except UnpicklingError:  # torch's own message explains how to run the code in the file
        raise ValueError("it is damaged, or holds more than tensors") from None
    except RuntimeError as error:  # tensors of other shapes than the config's, or a file that is cut off
        raise ValueError(re.split(r"\. |\n", str(error).strip())[0]) from None


def _correct_range(network: PreTrainedModel, place: Path) -> None:
    """Set the range that published GLPNs were trained with: their configs hold transformers' default instead."""
    config = network.config
    if not isinstance(config, GLPNConfig) or config.max_depth != GLPNConfig().max_depth:
        return
    if getattr(config, "sonde", None) is not None:  # written by sonde: the range is meant
        return
    written = json.loads((place / "config.json").read_text()).get("_name_or_path") if place.is_dir() else None
    names = {place.name, str(written).rpartition("/")[2]}
    for known, metres in architectures.PUBLISHED.items():
        if known.rpartition("/")[2] in names and config.max_depth != metres:
            log.warning(
                "%s: its config says %d m, but %s was trained with %d m, which is used",
                place,
                config.max_depth,
                known,
                metres,
            )
            set_max_depth(network, metres)


def _is_hub_reachable() -> bool:
    """Whether the hub answers one short request; its own client would retry for most of a minute."""
    try:
        if not HF_HUB_OFFLINE:
            urlopen(Request(ENDPOINT, method="HEAD"), timeout=5).close()
            return True
    except HTTPError:
        return True  # reachable: its own client reports what is wrong with the model
    except OSError:
        pass
    return False
