"""Adapters added to a network for training, and the start of its output."""

from collections.abc import Iterable, Mapping

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear, LoraLayer
from torch import Tensor, nn

from sonde.adapters.quick import QuickLinear, draw_kept
from sonde.adapters.settings import LoraSettings
from sonde.adapters.spelling import choose_targets, respell_settings
from sonde.align import fit_affine
from sonde.files import check_exactly
from sonde.recipes import explain_unknown
from sonde.tensors import Depth, Mask

STARTS = (True, False, "gaussian", "orthogonal")
"""Values of PEFT's `init_lora_weights` that leave the base unchanged."""


def add_lora(network: nn.Module, lora: Mapping[str, object], head: tuple[str, ...] = ()) -> PeftModel:
    """Add trainable adapters to a network, and make the modules of `head` trainable; everything else is frozen.

    Args:
        network: a transformers depth model; changed in place.
        lora: the keys of `peft.LoraConfig`; names of modules in either spelling. By default `target_modules` are those
            of `choose_targets`.
        head: names of modules that are trained and saved whole beside the adapters.

    Raises:
        ValueError: an unknown key or value, modules that the network does not have, or initial weights that alter the
            base.
    """
    check_keys(lora)
    start = lora.get("init_lora_weights", True)
    if start not in STARTS:
        raise ValueError(
            f"lora.init_lora_weights={start} alters the base, but an adapter is saved without its base: expected "
            f"{', '.join(map(str, STARTS))}."
        )
    _check(lora)
    settings = respell_settings(
        network, {**lora, "target_modules": lora.get("target_modules") or choose_targets(network)}, "lora."
    )
    if head:
        others = _list_names(settings.get("modules_to_save"))
        settings["modules_to_save"] = [*head, *(name for name in others if name not in head)]
    adapted = get_peft_model(network, LoraConfig(**settings))  # pyright: ignore[reportArgumentType]
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            _replace_dropout(module)
        if type(module) is Linear:
            module.__class__ = QuickLinear
    return adapted


def check_keys(lora: Mapping[str, object]) -> None:
    """Refuse a key that PEFT does not have, which needs no network.

    Raises:
        ValueError: the key, and the nearest right one.
    """
    known = list(LoraConfig.__dataclass_fields__)
    for key, value in lora.items():
        if key not in known:
            raise ValueError(explain_unknown(f"lora.{key}", value, known))


def _check(lora: Mapping[str, object]) -> None:
    """Values of the kinds that PEFT takes; those keys that sonde does not know are PEFT's to check."""
    plain = {key: sorted(value) if isinstance(value, set | frozenset) else value for key, value in lora.items()}
    try:
        check_exactly({key: plain[key] for key in LoraSettings.model_fields if key in plain}, LoraSettings)
    except ValueError as error:
        raise ValueError(f"lora.{str(error).removeprefix('`').replace('`', '', 1)}.") from None


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
    """Dropout that draws 16 bits per element on a CPU, see `draw_kept`."""

    def forward(self, input: Tensor) -> Tensor:
        """Zero elements at random and scale the rest, as `nn.Dropout` does."""
        if not self.training or input.device.type != "cpu" or self.p in (0, 1):
            return super().forward(input)
        return input * draw_kept(input, self.p).mul_(1 / (1 - self.p))


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
