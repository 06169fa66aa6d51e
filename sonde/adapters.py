"""LoRA by PEFT on any depth network, in either of transformers' spellings, and a fitted start for its output.

Linear layers and convolutions are adapted: PEFT lays on a convolution another of its kernel to r channels, and a 1x1
back. A depthwise convolution, each of whose kernels sees one channel, has no rank to lower and is left alone.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import Tensor, nn

from sonde.align import fit_affine
from sonde.spelling import nearest
from sonde.tensors import Depth, Mask

SPELLINGS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "dense": "o_proj"}
"""transformers 4 and earlier → transformers 5, for DINOv2's attention; GLPN and DPT keep the old words."""

NUMBERS = frozenset(map(str, range(100)))
"""Layers of a sequence are named by these, which tell a reader nothing."""

STARTS = (True, False, "gaussian", "orthogonal")
"""PEFT's `init_lora_weights` that leave the base as it is."""


def add_lora(network: nn.Module, lora: dict[str, Any], head: tuple[str, ...] = ()) -> PeftModel:
    """The network with trainable adapters (and the modules of `head`), everything else frozen.

    Args:
        network: a transformers depth model; changed in place.
        lora: `peft.LoraConfig`'s names; `target_modules` in either spelling, and by default `usual_targets`.
        head: names of modules trained and saved whole beside the adapters.

    Raises:
        ValueError: an unknown key, targets the network has not, or a start that alters the base.
    """
    known = list(LoraConfig.__dataclass_fields__)
    for key in lora:
        if key not in known:
            raise ValueError(f"Unknown key lora.{key}: {nearest(key, known)}")
    start = lora.get("init_lora_weights", True)
    if start not in STARTS:
        raise ValueError(
            f"lora.init_lora_weights={start} alters the base, which an adapter is saved without: expected "
            f"{', '.join(map(str, STARTS))}."
        )
    targets = spelled(network, lora.get("target_modules") or usual_targets(network))
    settings = {**lora, "target_modules": targets}
    if head:
        settings["modules_to_save"] = [*head, *(name for name in lora.get("modules_to_save") or () if name not in head)]
    adapted = get_peft_model(network, LoraConfig(**settings))  # pyright: ignore[reportArgumentType]
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            module.lora_dropout.update({name: QuickDropout(drop.p) for name, drop in _dropouts(module)})
    return adapted


class QuickDropout(nn.Dropout):
    """Dropout whose luck, on a CPU, is 16 bits an element: torch's takes one core a twentieth of a training step.

    Seeded by torch's generator, so that a resumed run draws as it would have; the rate is rounded to 1/65536.
    """

    def forward(self, input: Tensor) -> Tensor:
        """As torch's."""
        if not self.training or input.device.type != "cpu" or self.p in (0, 1):
            return super().forward(input)
        count, seed = input.numel(), int(torch.empty((), dtype=torch.int64).random_())
        draws = np.random.SFC64(seed).random_raw(-(-count // 4)).view(np.int16)[:count]
        kept = torch.from_numpy(draws).view(input.shape) >= round(self.p * 2**16) - 2**15
        return input * kept.to(input.dtype).mul_(1 / (1 - self.p))


def spelled(network: nn.Module, targets: list[str] | str) -> list[str]:
    """The targets in the network's own spelling: `query` where it has query, `q_proj` where it has that.

    A target is the end of a layer's name, as PEFT takes it: `query`, or `expand.conv` of a convolutional encoder.

    Raises:
        ValueError: a target under neither spelling.
    """
    layers = _layers(network)
    others = {end for name, _ in network.named_modules() if name not in layers for end in _ends(name)}
    known = {end for name in layers for end in _ends(name)} - others
    other = SPELLINGS | {new: old for old, new in SPELLINGS.items()}
    found = []
    for target in [targets] if isinstance(targets, str) else targets:
        match = next((name for name in (target, other.get(target)) if name in known), None)
        if match is None:
            short = sorted({next((end for end in _ends(name) if end in known - NUMBERS), name) for name in layers})
            raise ValueError(f"No layer {target!r} in this network for LoRA; {nearest(target, short)}")
        found.append(match)
    return found


def usual_targets(network: nn.Module) -> list[str]:
    """What LoRA adapts by default: query, key and value, or where there are none the encoder's 1x1 convolutions.

    Raises:
        ValueError: a network that has neither.
    """
    attention, layers = list(SPELLINGS)[:3], _layers(network)
    spellings = {*attention, *(SPELLINGS[name] for name in attention)}
    if any(name.rpartition(".")[2] in spellings for name in layers):
        return attention
    inside = [name for name, layer in layers.items() if "encoder" in name.split(".") and _pointwise(layer)]
    if not inside:
        raise ValueError("Neither attention nor 1x1 convolutions in this network's encoder: set lora.target_modules.")
    return sorted({".".join(name.split(".")[-2:]) for name in inside})


def _layers(network: nn.Module) -> dict[str, nn.Module]:
    """The layers that an adapter may be laid on, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    }


def _pointwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)


def _ends(name: str) -> list[str]:
    """Every end of a module's name, shortest first: of a.b.c these are c, b.c and a.b.c."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in reversed(range(len(parts)))]


def load_adapter(network: nn.Module, folder: Path) -> PeftModel:
    """The network with the adapter of a PEFT folder, whichever transformers spelled its keys.

    Raises:
        ValueError: the adapter is of another architecture.
    """
    config = LoraConfig.from_pretrained(str(folder))
    assert isinstance(config, LoraConfig)
    config.target_modules = spelled(network, sorted(config.target_modules or []))
    config.inference_mode = True
    config.base_model_name_or_path = None  # peft writes the base it meets here, and warns of another
    adapted = get_peft_model(network, config)  # pyright: ignore[reportArgumentType]
    expected = {name.replace(".default", "") for name, _ in adapted.named_parameters() if "lora_" in name}
    state = {_respelled(key, expected): value for key, value in _adapter_state(folder).items()}
    result = set_peft_model_state_dict(adapted, state)
    missing = [key for key in result.missing_keys if "lora_" in key]
    if missing or result.unexpected_keys:
        raise ValueError(
            f"{folder} is an adapter of another network: {len(missing)} of its layers are missing there and "
            f"{len(result.unexpected_keys)} do not fit; load it with the base it was trained on."
        )
    return adapted


def freeze_norms(network: nn.Module) -> None:
    """Keep batch norm's stored statistics while adapters train: they are the base's and are not saved with it."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@torch.no_grad()
def affine_start(layer: nn.Conv2d, scale: float, shift: float) -> None:
    """Fold `scale · x + shift` into the last convolution, so that the first step starts from a fitted output."""
    layer.weight.mul_(scale)
    assert layer.bias is not None
    layer.bias.mul_(scale).add_(shift)


def fit_start(outputs: Depth, targets: Depth, mask: Mask) -> tuple[float, float]:
    """Least-squares (scale, shift) of the last layer's output against its target, over all trusted pixels.

    A scale that is not positive would turn the network's order round, so the fit then only shifts.
    """
    scale, shift = (float(value[0]) for value in fit_affine(outputs, targets, mask))
    if scale > 0:
        return scale, shift
    return 1.0, float((targets - outputs)[mask].mean()) if mask.any() else 0.0


def _dropouts(layer: LoraLayer) -> list[tuple[str, nn.Dropout]]:
    return [(name, drop) for name, drop in layer.lora_dropout.items() if isinstance(drop, nn.Dropout)]


def _adapter_state(folder: Path) -> dict[str, Tensor]:
    path = folder / "adapter_model.safetensors"
    if path.is_file():
        return load_file(path)
    return torch.load(folder / "adapter_model.bin", map_location="cpu", weights_only=True)


def _respelled(key: str, expected: set[str]) -> str:
    """An adapter's key in the present network's names, of which those expected are known."""
    if "lora_" not in key or not expected.isdisjoint((key, f"{key}.weight")):
        return key
    new = key.replace("attention.attention.", "attention.").replace("attention.output.dense", "attention.o_proj")
    for old, present in SPELLINGS.items():
        new = new.replace(f".{old}.", f".{present}.")
    return new
