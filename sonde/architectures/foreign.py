"""Weights from elsewhere: encoders by name, other names for the same tensors, and metres that a config cannot hold."""

from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from re import Match, sub

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

Renames = Mapping[str, str | Callable[[Match[str]], str]]
"""Pattern → replacement, applied in this order, as `re.sub` takes them."""


def encoder(name: str, kind: str, expected: str) -> PreTrainedModel:
    """The encoder of a hub id or a local folder, whose `model_type` is `kind`.

    Raises:
        ValueError: nothing of that name, or another kind; the message says what is `expected`.
    """
    try:
        found = AutoModel.from_pretrained(name, local_files_only=Path(name).is_dir(), dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"model.encoder={name} could not be had ({reason}): expected {expected}, or its local folder."
        ) from None
    if found.config.model_type != kind:
        raise ValueError(f"model.encoder={name} is a {found.config.model_type} network: expected {expected}.")
    return found


def renamed(state: Mapping[str, Tensor], renames: Renames, splits: Mapping[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """A state under other names; a matrix whose new name holds a key of `splits` becomes its equal parts, by rows."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        for pattern, name in renames.items():
            key = sub(pattern, name, key)
        fused = next((fused for fused in splits if fused in key), None)
        if fused is None:
            found[key] = value
            continue
        parts = torch.chunk(value, len(splits[fused]))
        found |= {key.replace(fused, name): part.clone() for name, part in zip(splits[fused], parts, strict=True)}
    return found


def one_less(name: str) -> Callable[[Match[str]], str]:
    """A replacement whose `{}` is the pattern's first group less 1: counted from 0 where the original counts from 1."""
    return lambda found: name.format(int(found[1]) - 1)


def held(max_depth: float | int) -> tuple[int, float]:
    """What of a range's end (metres) a transformers config holds, and the factor that is left over for `Meaning.scale`.

    GLPN's and Depth Anything's `max_depth` take whole numbers alone: 80 is (80, 1.0), 10.5 is (1, 10.5).

    Raises:
        ValueError: not a positive length.
    """
    if not (isfinite(max_depth) and max_depth > 0):
        raise ValueError(f"max_depth={max_depth}: expected metres above zero, such as 10 or 80.")
    whole = int(max_depth)
    return (whole, 1.0) if whole == max_depth else (1, float(max_depth))
