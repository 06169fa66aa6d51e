"""LoRA by PEFT on any depth network, under the layer names of transformers 4 or 5, and a fitted start for its output.

Linear layers and convolutions get adapters. For a convolution, PEFT adds one with the same kernel to r channels and a
1x1 convolution back. Depthwise convolutions get none: each of their kernels reads one channel, so there is no rank to
reduce.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import Tensor, nn

from sonde import files
from sonde.align import fit_affine
from sonde.architectures import read_state
from sonde.renamed import keep_old_names
from sonde.spelling import nearest
from sonde.tensors import Depth, Mask

SPELLINGS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "dense": "o_proj"}
"""Layer of DINOv2's attention in transformers 4 → its name in transformers 5; GLPN and DPT keep the old names."""

NUMBERS = frozenset(map(str, range(100)))
"""Names of layers in a sequence, left out of error messages because they say nothing."""

STARTS = (True, False, "gaussian", "orthogonal")
"""Values of PEFT's `init_lora_weights` that leave the base unchanged."""

COPY_AGAIN = "copy the adapter's whole folder again"


def add_lora(network: nn.Module, lora: Mapping[str, object], head: tuple[str, ...] = ()) -> PeftModel:
    """Add trainable adapters to a network, and make the modules of `head` trainable; everything else is frozen.

    Args:
        network: a transformers depth model; changed in place.
        lora: the keys of `peft.LoraConfig`; `target_modules` in either spelling, by default those of `choose_targets`.
        head: names of modules that are trained and saved whole beside the adapters.

    Raises:
        ValueError: an unknown key, targets that the network does not have, or initial weights that alter the base.
    """
    known = list(LoraConfig.__dataclass_fields__)
    for key in lora:
        if key not in known:
            raise ValueError(f"Unknown key lora.{key}: {nearest(key, known)}")
    start = lora.get("init_lora_weights", True)
    if start not in STARTS:
        raise ValueError(
            f"lora.init_lora_weights={start} alters the base, but an adapter is saved without its base: expected "
            f"{', '.join(map(str, STARTS))}."
        )
    asked = _list_names(lora.get("target_modules"))
    settings = {**lora, "target_modules": match_targets(network, asked or choose_targets(network))}
    if head:
        others = _list_names(lora.get("modules_to_save"))
        settings["modules_to_save"] = [*head, *(name for name in others if name not in head)]
    adapted = get_peft_model(network, LoraConfig(**settings))  # pyright: ignore[reportArgumentType]
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            _replace_dropout(module)
    return adapted


def _list_names(value: object) -> list[str]:
    """The module names of a PEFT setting: none, one, or several."""
    if isinstance(value, str):
        return [value]
    return [str(name) for name in value] if isinstance(value, Iterable) else []


def _replace_dropout(layer: LoraLayer) -> None:
    for name, drop in list(layer.lora_dropout.items()):
        if isinstance(drop, nn.Dropout):
            layer.lora_dropout[name] = QuickDropout(drop.p)


class QuickDropout(nn.Dropout):
    """Dropout that draws 16 bits per element on a CPU: torch's own draw runs on one core, 5 % of a training step.

    torch's generator gives the seed, so that a resumed run draws the same masks; the rate is rounded to 1/65536.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Zero elements at random and scale the rest, as `nn.Dropout` does."""
        if not self.training or input.device.type != "cpu" or self.p in (0, 1):
            return super().forward(input)
        count, seed = input.numel(), int(torch.empty((), dtype=torch.int64).random_())
        # Each 64-bit draw serves four elements, as four signed 16-bit integers.
        draws = np.random.SFC64(seed).random_raw(-(-count // 4)).view(np.int16)[:count]
        kept = torch.from_numpy(draws).view(input.shape) >= round(self.p * 2**16) - 2**15
        return input * kept.to(input.dtype).mul_(1 / (1 - self.p))


def match_targets(network: nn.Module, targets: list[str] | str) -> list[str]:
    """Spell targets as the network does: `query` if it has a layer `query`, `q_proj` if it has that one.

    A target is the end of a layer's name, as in PEFT: `query`, or `expand.conv` in a convolutional encoder.

    Raises:
        ValueError: a target that exists in neither spelling.
    """
    layers = _find_layers(network)
    # PEFT would also match modules that it cannot adapt, and fail: an end that names one of those is no target.
    others = {end for name, _ in network.named_modules() if name not in layers for end in _split_ends(name)}
    known = {end for name in layers for end in _split_ends(name)} - others
    other = SPELLINGS | {new: old for old, new in SPELLINGS.items()}
    found = []
    for target in [targets] if isinstance(targets, str) else targets:
        match = next((name for name in (target, other.get(target)) if name in known), None)
        if match is None:
            ends = {name: [end for end in _split_ends(name) if end in known - NUMBERS] for name in layers}
            short = sorted({next(iter(ends[name]), name) for name in layers})
            raise ValueError(f"No layer {target!r} in this network for LoRA; {nearest(target, short)}")
        found.append(match)
    return found


def choose_targets(network: nn.Module) -> list[str]:
    """The default targets of LoRA: query, key and value, or without attention the encoder's 1x1 convolutions.

    Raises:
        ValueError: a network that has neither.
    """
    attention, layers = list(SPELLINGS)[:3], _find_layers(network)
    spellings = {*attention, *(SPELLINGS[name] for name in attention)}
    if any(name.rpartition(".")[2] in spellings for name in layers):
        return attention
    inside = [name for name, layer in layers.items() if "encoder" in name.split(".") and _is_pointwise(layer)]
    if not inside:
        raise ValueError("Neither attention nor 1x1 convolutions in this network's encoder: set lora.target_modules.")
    return sorted({".".join(name.split(".")[-2:]) for name in inside})


def _find_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The layers that can have an adapter, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    }


def _is_pointwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)


def _split_ends(name: str) -> list[str]:
    """Every end of a module's name, shortest first: of a.b.c these are c, b.c and a.b.c."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in reversed(range(len(parts)))]


def load_adapter(network: nn.Module, folder: Path) -> PeftModel:
    """Add the adapter of a PEFT folder to a network; its keys may be spelled by any version of transformers.

    Raises:
        ValueError: a broken file, or an adapter of another architecture.
    """
    with files.reading(folder / "adapter_config.json", COPY_AGAIN):
        config = LoraConfig.from_pretrained(str(folder))
        if not isinstance(config, LoraConfig):
            raise ValueError("it is not the config of a LoRA adapter")
        if not config.target_modules:
            raise ValueError("it names no target_modules")
    config.target_modules = match_targets(network, sorted(config.target_modules))
    config.inference_mode = True
    config.base_model_name_or_path = None  # else peft warns that the base has another name
    adapted = get_peft_model(network, config)  # pyright: ignore[reportArgumentType]
    expected = {name.replace(".default", "") for name, _ in adapted.named_parameters() if "lora_" in name}
    state = {_respell_key(key, expected): value for key, value in _read_tensors(folder).items()}
    result = set_peft_model_state_dict(adapted, state)
    missing = [key for key in result.missing_keys if "lora_" in key]
    if missing or result.unexpected_keys:
        raise ValueError(
            f"{folder} is an adapter of another network: {len(missing)} adapted layers are missing in it and "
            f"{len(result.unexpected_keys)} do not fit; load it with the base it was trained on."
        )
    return adapted


def freeze_norms(network: nn.Module) -> None:
    """Keep the stored statistics of batch norm while adapters train: they belong to the base, which is not saved."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@torch.no_grad()
def fold_affine(layer: nn.Conv2d, scale: float, shift: float) -> None:
    """Fold `scale · x + shift` into the last convolution, so that training starts from a fitted output."""
    layer.weight.mul_(scale)
    assert layer.bias is not None
    layer.bias.mul_(scale).add_(shift)


def fit_start(outputs: Depth, targets: Depth, mask: Mask) -> tuple[float, float]:
    """Least-squares (scale, shift) from the last layer's output to its target, over all trusted pixels."""
    scale, shift = (float(value[0]) for value in fit_affine(outputs, targets, mask))
    if scale > 0:
        return scale, shift
    # A negative scale would reverse the network's order of near and far: then only the shift is fitted.
    return 1.0, float((targets - outputs)[mask].mean()) if mask.any() else 0.0


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    path, older = folder / "adapter_model.safetensors", folder / "adapter_model.bin"
    if older.is_file() and not path.is_file():
        return read_state(older, str(older), "the adapter that PEFT saved")
    with files.reading(path, COPY_AGAIN):
        return load_file(path)


def _respell_key(key: str, expected: set[str]) -> str:
    """An adapter's key under the network's own names, which are `expected`."""
    if "lora_" not in key or not expected.isdisjoint((key, f"{key}.weight")):
        return key
    new = key.replace("attention.attention.", "attention.").replace("attention.output.dense", "attention.o_proj")
    for old, present in SPELLINGS.items():
        new = new.replace(f".{old}.", f".{present}.")
    return new


keep_old_names(__name__, {"affine_start": "fold_affine", "spelled": "match_targets", "usual_targets": "choose_targets"})
