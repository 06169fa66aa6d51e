"""Read networks from folders, weight files and the hub, with the files that belong to them."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, getproxies, urlopen

from huggingface_hub import snapshot_download
from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE
from huggingface_hub.errors import LocalEntryNotFoundError, StrictDataclassError
from transformers import (
    CONFIG_MAPPING,
    AutoModelForDepthEstimation,
    GLPNConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils.hub import cached_file

from sonde import architectures, files
from sonde.adapters import is_adapted
from sonde.background import read_background
from sonde.files.safely import describe_fault
from sonde.models.hashing import fingerprint
from sonde.models.network import DepthModel, check_family, read_spec, reads_squares, set_max_depth
from sonde.models.pixels import make_pixel_depth
from sonde.models.preprocessing import PREPROCESSOR, apply_preprocessor
from sonde.models.spec import SPEC, ModelSpec, spec_from_json
from sonde.models.start import reinit_head
from sonde.models.weights import COPY_AGAIN, check_config, draw_network, find_weights, load_strictly, read_weights
from sonde.spelling import shorten

log = logging.getLogger("sonde")


def read_folder(folder: Path, init: str) -> DepthModel:
    """A whole network in transformers' format.

    Raises:
        ValueError: a file is missing or broken, or the network is not one that sonde reads.
    """
    weights = find_weights(folder)
    if init == "pretrained" and not weights:
        raise ValueError(f"{folder} holds a config but no weights (model.safetensors): the file is missing.")
    document = _read_document(folder / "config.json")
    config = _make_config(folder / "config.json", document)
    network = _draw(config) if init == "random" else read_weights(folder, config, weights)
    _correct_range(network, folder.name, document.get("_name_or_path"))
    return DepthModel(network, _find_spec(network, folder / PREPROCESSOR), str(folder))


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
        path = Path(cached_file(place, "config.json", local_files_only=offline) or "config.json")
        config = _make_config(path, _read_document(path))
        network = _draw(config) if init == "random" else load_strictly(place, config, local_files_only=offline)
        settings = cached_file(
            place, PREPROCESSOR, local_files_only=offline, _raise_exceptions_for_missing_entries=False
        )
    except LocalEntryNotFoundError:
        raise ValueError(_explain_hub(name, _explain_unreachable(), alternatives)) from None
    except OSError as error:
        raise ValueError(_explain_hub(name, str(error).splitlines()[0].rstrip("."), alternatives)) from None
    _correct_range(network, Path(name).name, None)
    model = DepthModel(network, _find_spec(network, Path(settings) if settings else None), name)
    if model.spec.background is not None:
        model.background = read_background(Path(snapshot_download(name, allow_patterns=["background.*"])))
    return model


def read_weight_file(path: Path, init: str, max_depth: float | int | None, version: str | None) -> DepthModel:
    """An official checkpoint of Depth Anything or GLPDepth.

    Raises:
        ValueError: the file is missing or broken, of another network, or of an unknown depth range or version.
    """
    state = architectures.read_state(path, str(path), "an official depth_anything_*.pth or a GLPDepth .ckpt")
    try:
        config, renamed, scale = architectures.from_official(state, path.name, max_depth, version)
        network = AutoModelForDepthEstimation.from_config(config, trust_remote_code=False)
        fitted = architectures.fit_state(renamed, network.state_dict())
    except ValueError as error:
        if shorten(path.name) in str(error):
            raise
        raise ValueError(
            f"{path} is incomplete, or belongs to a modified network: {error}; download it again."
        ) from None
    except (LookupError, RuntimeError, ArithmeticError, TypeError) as error:  # tensors of shapes that no network has
        raise ValueError(f"{path} belongs to a modified network: {describe_fault(error)}.") from None
    if init == "random":
        reinit_head(network)
    else:
        network.load_state_dict(fitted)
    return DepthModel(network, replace(read_spec(network), scale=scale, base_max_depth=max_depth), str(path))


def attach_adapter(base: DepthModel, spec: ModelSpec, folder: Path) -> DepthModel:
    """The base with the adapter of a folder.

    Raises:
        ValueError: the adapter was trained on other weights, or a file is broken.
    """
    if is_adapted(base.network):
        raise ValueError(f"{folder / SPEC} names the base {shorten(str(spec.base))}, which is an adapter itself.")
    from sonde.adapters import load_adapter

    if spec.encoding is not None:
        # Trained with the sigmoid's own range: metres come from the encoding.
        set_max_depth(base.network, 1)
    if spec.fingerprint not in (None, fingerprint(base.network)):
        raise ValueError(
            f"{folder} was trained on other weights of {spec.base} than those loaded now ({SPEC}); its numbers would "
            "be wrong. Use the sonde version or the base it was trained with."
        )
    network = make_pixel_depth(base.network) if spec.head == "pixels" else base.network
    return DepthModel(load_adapter(network, folder), spec, str(folder))


def _read_document(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder."""
    with files.reading(path, COPY_AGAIN):
        document = files.parse_json(files.read_text(path), dict[str, Any])
        check_config(document)
        return document


def _make_config(path: Path, document: Mapping[str, Any]) -> PreTrainedConfig:
    """The config of a document; code that it names is never run."""
    with files.reading(path, COPY_AGAIN):
        # transformers answers a config without a type with the list of all types it knows, some hundred names.
        if "model_type" not in document:
            raise ValueError("it names no model_type")
        if document.get("sonde") is not None:
            spec_from_json(document["sonde"])
        kind = document["model_type"]
        check_family(kind)
        fields = {key: value for key, value in document.items() if key != "auto_map"}
        try:
            return CONFIG_MAPPING[kind].from_dict(fields)
        except (StrictDataclassError, ImportError, AssertionError) as error:
            raise ValueError(str(error)) from None


def _find_spec(network: PreTrainedModel, settings: Path | None) -> ModelSpec:
    """What a network's numbers mean: as sonde stored it, else as its image processor's settings and its family say."""
    spec = read_spec(network)
    if getattr(network.config, "sonde", None) is not None or settings is None or not settings.exists():
        return spec
    with files.reading(settings, COPY_AGAIN):
        document = files.parse_json(files.read_text(settings), dict[str, Any])
        return apply_preprocessor(document, spec, square=reads_squares(network.config))


def _draw(config: PreTrainedConfig) -> PreTrainedModel:
    network = draw_network(config)
    reinit_head(network)
    return network


def _correct_range(network: PreTrainedModel, name: str, written: object) -> None:
    """Set the range that published GLPNs were trained with: their configs hold transformers' default instead.

    Args:
        network: changed in place.
        name: the last part of the network's name.
        written: the name that its config holds, if any.
    """
    config = network.config
    if not isinstance(config, GLPNConfig) or config.max_depth != GLPNConfig().max_depth:
        return
    if getattr(config, "sonde", None) is not None:  # written by sonde: the range is meant
        return
    names = {name, str(written).rpartition("/")[2]}
    for known, metres in architectures.PUBLISHED.items():
        if known.rpartition("/")[2] in names and config.max_depth != metres:
            log.warning(
                "%s: its config says %d m, but %s was trained with %d m, which is used",
                name,
                config.max_depth,
                known,
                metres,
            )
            set_max_depth(network, metres)


def _explain_hub(name: str, reason: str, alternatives: str) -> str:
    """Why an id of the hub gave no model, and what else there is."""
    here = " There is no such folder here either." if Path(name).parent.is_dir() else ""
    return f"{name} could not be downloaded from the Hugging Face hub: {reason}.{here} {alternatives}"


def _explain_unreachable() -> str:
    """Why the hub was not asked or did not answer, for a model that is not in the local cache."""
    local = "and the model is not in the local cache"
    if HF_HUB_OFFLINE:
        return f"HF_HUB_OFFLINE is set, so the network is not used, {local}; unset it to download the model"
    if proxy := getproxies().get("https"):
        # Only the host: a proxy's address may hold a password.
        return f"it cannot be reached through the proxy {urlsplit(proxy).hostname} (HTTPS_PROXY), {local}"
    return f"it cannot be reached over the network (behind a proxy set HTTPS_PROXY), {local}"


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
