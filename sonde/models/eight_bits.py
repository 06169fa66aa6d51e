"""Weights of 8 bits in a safetensors file: half the size of 16 bits. They are read as float32.

A matrix or a convolution has a scale for each output channel, `NAME.scale`: its largest number is 127 of it. The other
tensors stay as they are.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sonde import files

SCALE = ".scale"
"""Follows the name of a tensor of 8 bits in the name of its scales."""
FEW = 1024
"""Numbers of a tensor that stays as it is."""


def compress_weights(weights: Path) -> None:
    """Replace the large tensors of a file by tensors of 8 bits, and the others by half precision where it holds them.

    Args:
        weights: a safetensors file; the new one takes its place when it is whole.

    Raises:
        ValueError: a damaged file.
    """
    packed: dict[str, Tensor] = {}
    with files.reading(weights, "copy it again"):
        state = unpack(load_file(weights))
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.ndim > 1 and tensor.numel() > FEW:
            packed |= _pack(name, tensor.float())
        else:
            packed[name] = _halve(tensor)
    with files.atomic_write(weights) as part:
        save_file(packed, part, {"format": "pt"})


def _halve(tensor: Tensor) -> Tensor:
    half = tensor.half() if tensor.is_floating_point() else tensor
    return half if half.isfinite().all() else tensor


def _pack(name: str, tensor: Tensor) -> dict[str, Tensor]:
    largest = tensor.abs().amax(tuple(range(1, tensor.ndim)), keepdim=True)
    scale = (largest / 127).clamp(min=torch.finfo(torch.float32).tiny)
    return {name: (tensor / scale).round().to(torch.int8), f"{name}{SCALE}": scale}


def has_eight_bits(weights: Path) -> bool:
    """Whether a file of weights is a safetensors file with tensors of 8 bits; only its header is read."""
    if weights.suffix != ".safetensors":
        return False
    with safe_open(weights, "pt") as file:
        return any(file.get_slice(name).get_dtype() == "I8" for name in file.keys())


def unpack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file as float32 where they have 8 bits; the others as they are.

    Raises:
        ValueError: a tensor of 8 bits without a scale for each of its channels.
    """
    found = dict(state)
    for name in [name for name, tensor in state.items() if tensor.dtype == torch.int8]:
        tensor, scale = state[name], found.pop(f"{name}{SCALE}", None)
        if scale is None or scale.shape != (*tensor.shape[:1], *[1] * (tensor.ndim - 1)):
            raise ValueError(f"its {name} has 8 bits and no scale for each channel")
        found[name] = tensor.float() * scale
    return found
