"""Adapters read from a PEFT folder: checked against the network before any memory is taken."""

import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn

from sonde import files
from sonde.adapters.settings import StoredLora
from sonde.adapters.spelling import list_spellings, respell_settings
from sonde.architectures import list_names, read_state, refuse_not_finite

COPY_AGAIN = "copy the adapter's whole folder again"
CONFIG = "adapter_config.json"


def load_adapter(network: nn.Module, folder: Path) -> PeftModel:
    """Add the adapter of a PEFT folder to a network; its keys may be spelled by any version of transformers.

    Raises:
        ValueError: a broken file, or an adapter of another architecture.
    """
    settings = _read_settings(folder / CONFIG, network)
    state = _read_tensors(folder)
    with files.reading(folder / CONFIG, COPY_AGAIN):
        expected = _list_expected(network, settings)
    state = {_respell_key(key, expected): value for key, value in state.items()}
    reason = _find_misfit(state, expected)
    if reason is not None:
        raise ValueError(
            f"{folder} is an adapter of another network: {reason}; load it with the base it was trained on, or copy it "
            "again."
        )
    with files.reading(folder / CONFIG, COPY_AGAIN):
        adapted = get_peft_model(network, _make_config(settings))  # pyright: ignore[reportArgumentType]
    set_peft_model_state_dict(adapted, state)
    return adapted


def _read_settings(path: Path, network: nn.Module) -> dict[str, Any]:
    with files.reading(path, COPY_AGAIN):
        document = files.parse_json(files.read_text(path), dict[str, Any])
        files.check_exactly(document, StoredLora)
        if not document.get("target_modules"):
            raise ValueError("it names no target_modules")
        named = document["target_modules"]
        settings = respell_settings(network, {**document, "target_modules": _sort(named)})
        return settings | {"inference_mode": True, "base_model_name_or_path": None}


def _sort(names: list[str] | str) -> list[str] | str:
    return names if isinstance(names, str) else sorted(names)


def _make_config(settings: Mapping[str, Any]) -> LoraConfig:
    config = LoraConfig.from_peft_type(**settings)
    assert isinstance(config, LoraConfig)
    return config


def _list_expected(network: nn.Module, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors that such an adapter saves, without memory: a rank may be a billion."""
    held = {id(value): nn.Parameter(value.detach().to("meta"), value.requires_grad) for value in network.parameters()}
    held |= {id(value): value.to("meta") for value in network.buffers()}
    # A copy whose tensors are replaced as they are copied; its adapters follow their device.
    skeleton = deepcopy(network, held)  # pyright: ignore[reportArgumentType]
    config = _make_config({**settings, "init_lora_weights": True})
    adapted = get_peft_model(skeleton, config)  # pyright: ignore[reportArgumentType]
    # `state_dict` is given so that PEFT does not warn of biases.
    return get_peft_model_state_dict(adapted, state_dict=adapted.state_dict(), save_embedding_layers=False)


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    path, older = folder / "adapter_model.safetensors", folder / "adapter_model.bin"
    if older.is_file() and not path.exists():
        state = read_state(older, str(older), "the adapter that PEFT saved")
    else:
        with files.reading(path, COPY_AGAIN):
            state = load_file(path)
    with files.reading(path if path.exists() else older, COPY_AGAIN):
        refuse_not_finite(state)
    return state


def _find_misfit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """Which tensors do not fit, by their names in the network and their number; None if all do."""
    found = {
        "it lacks": [key for key in expected if key not in state],
        "it holds the foreign": [key for key in state if key not in expected],
        "of another shape is": [
            key for key, value in state.items() if key in expected and value.shape != expected[key].shape
        ],
    }
    return next((f"{what} {list_names(keys)}" for what, keys in found.items() if keys), None)


def _respell_key(key: str, expected: Mapping[str, Tensor]) -> str:
    """An adapter's key under the network's own names, which are `expected`."""
    if key in expected:
        return key
    ways = [way for name in list_spellings(key) for way in (name, re.sub(r"(magnitude_vector)\.weight$", r"\1", name))]
    return next((way for way in ways if way in expected), key)
