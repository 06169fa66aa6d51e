"""Weights of a model folder, read strictly: the config fits the files, and every tensor is there and finite.

transformers draws at random what a file lacks, passes over what it does not know, and takes memory for whatever a
config claims. A model folder may come from anywhere, so sonde looks first.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForDepthEstimation, PreTrainedConfig, PreTrainedModel

from sonde import architectures, files
from sonde.files.safely import refuse_special
from sonde.models.eight_bits import has_eight_bits, unpack

COPY_AGAIN = "copy the whole folder again, or download it again"
LARGEST_NUMBER = 1 << 20
"""The largest whole number that a config may hold: a width, a number of layers or a side of an image."""
MOST_LAYERS = 1000
ALWAYS = 1 << 26
"""Numbers that any config may claim: of a file that lacks some, the names of its tensors say more."""
MOST_NUMBERS = 1 << 33
"""Numbers of a network that is drawn at random; Depth Anything V2 giant has 1.3 billion."""
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
"""The documents of networks in several files: tensor -> file."""


def check_config(document: Mapping[str, Any]) -> None:
    """Refuse a config whose numbers no network has, before one is built by them.

    Raises:
        ValueError: the number, by its key.
    """
    if document.get("quantization_config") is not None:
        raise ValueError("it holds a quantization_config: sonde reads weights of 16 and 32 bits, so load those")
    for key, value in _walk("", document):
        if abs(value) > LARGEST_NUMBER:
            raise ValueError(f"its {key} is {value:,}, expected at most {LARGEST_NUMBER:,}")
        if re.search(r"(^|\.)(num_\w*layers|num_\w*blocks|depths(\.\d+)?)$", key) and value > MOST_LAYERS:
            raise ValueError(f"its {key} is {value:,}, expected at most {MOST_LAYERS:,} layers")


def _walk(key: str, value: object) -> Iterator[tuple[str, int]]:
    """Every whole number of a document, by its key."""
    inside: Mapping[Any, object] = {}
    if isinstance(value, Mapping):
        inside = value
    elif isinstance(value, list):
        if len(value) > MOST_LAYERS:
            raise ValueError(f"its {key} has {len(value):,} entries, expected at most {MOST_LAYERS:,}")
        inside = dict(enumerate(value))
    elif isinstance(value, int):
        yield key, value
    for name, one in inside.items():
        yield from _walk(f"{key}.{name}" if key else str(name), one)


def find_weights(folder: Path) -> list[Path]:
    """The files of weights of a folder, those that transformers reads.

    Raises:
        ValueError: a file of several parts that names a part outside the folder, or that is missing.
    """
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    for index in INDICES:
        if (folder / index).exists() and not (folder / index.removesuffix(".index.json")).exists():
            return sorted(set(weights) | set(_read_parts(folder / index)))
    return weights


def _read_parts(index: Path) -> list[Path]:
    with files.reading(index, COPY_AGAIN):
        document = files.parse_json(files.read_text(index), dict[str, Any])
        named = document.get("weight_map")
        if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
            raise ValueError("it has no weight_map of tensors and files")
        parts = [index.parent / name for name in sorted(set(named.values()))]
        for part in parts:
            if part.name not in named.values() or not part.exists():
                raise ValueError(f"it names {part.relative_to(index.parent)}, which is no file beside it")
        return parts


def read_weights(folder: Path, config: PreTrainedConfig, weights: Sequence[Path]) -> PreTrainedModel:
    """The network of a local folder with its weights, in evaluation mode.

    Args:
        folder: where transformers finds it.
        config: of that folder.
        weights: as `find_weights` lists them.

    Raises:
        ValueError: files that are damaged or no files, tensors that do not fit the config or are not finite, or a
            config that claims more than the files hold.
    """
    for path in weights:
        with files.reading(path, COPY_AGAIN):
            refuse_special(path)
    # transformers does not say which of several parts is broken.
    with files.reading(weights[0] if len(weights) == 1 else folder, COPY_AGAIN):
        held = sum(path.stat().st_size for path in weights)
        claimed = _count_numbers(config)
        if claimed > max(held, ALWAYS):
            raise ValueError(f"it has {held:,} bytes, and config.json claims {claimed:,} numbers")
        if len(weights) == 1 and has_eight_bits(weights[0]):
            return _read_eight_bits(weights[0], config)
        return load_strictly(str(folder), config)


def _read_eight_bits(path: Path, config: PreTrainedConfig) -> PreTrainedModel:
    network = AutoModelForDepthEstimation.from_config(config, trust_remote_code=False)
    network.load_state_dict(architectures.fit_state(unpack(load_file(path)), network.state_dict()))
    return network.eval()


def load_strictly(place: str, config: PreTrainedConfig, local_files_only: bool = True) -> PreTrainedModel:
    """transformers' `from_pretrained`, with an error wherever a tensor is not the network's own or not finite.

    Raises:
        ValueError: with the names of tensors, or with the reason of a file that cannot be read.
    """
    try:
        with architectures.quiet_transformers():
            network, told = AutoModelForDepthEstimation.from_pretrained(
                place,
                config=config,
                local_files_only=local_files_only,
                dtype=torch.float32,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except UnpicklingError:  # torch's own message explains how to run the code in the file
        raise ValueError("it is damaged, or holds more than tensors") from None
    except OSError:
        raise  # of the hub's client, which says what is missing
    except architectures.LOADING_FAULTS as error:
        raise ValueError(re.split(r"\. |\n", str(error).strip())[0] or type(error).__name__) from None
    architectures.complete_network(network, told)
    return network


def draw_network(config: PreTrainedConfig) -> PreTrainedModel:
    """A network of a config, its weights as transformers draws them.

    Raises:
        ValueError: a config that cannot be built, or larger than any network.
    """
    count = _count_numbers(config)
    if count > MOST_NUMBERS:
        raise ValueError(f"it claims a network of {count:,} numbers")
    return AutoModelForDepthEstimation.from_config(config, trust_remote_code=False)


def _count_numbers(config: PreTrainedConfig) -> int:
    """The parameters of a config's network; none is made."""
    try:
        with torch.device("meta"):
            network = AutoModelForDepthEstimation.from_config(config, trust_remote_code=False)
    except architectures.LOADING_FAULTS as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise ValueError(f"config.json describes no network: {reason}") from None
    return sum(parameter.numel() for parameter in network.parameters())
