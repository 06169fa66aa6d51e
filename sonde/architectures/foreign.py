"""Weights from elsewhere: encoders by name, other names for the same tensors, and metres that a config cannot hold."""

import pickle
import warnings
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


def read_state(path: Path, name: str, expected: str) -> dict[str, Tensor]:
    """The tensors of a .pth, .pt or .ckpt file by their names, without running what it may hold beside them.

    What training scripts put around them is left out: an outer dict's `model` or `state_dict`, and the `module.` or
    `model.` that stands before every name.

    Args:
        path: the file.
        name: what the user called it, such as `model.encoder=FILE`.
        expected: what would have worked.

    Raises:
        ValueError: no such file, a damaged one, or one that holds something else.
    """
    if not path.is_file():
        raise ValueError(f"{name}: no such file; expected {expected}.")
    try:
        with warnings.catch_warnings(action="ignore"):  # a foreign pickle is refused below, in our words
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        if isinstance(error, pickle.UnpicklingError):  # torch's own words advise to run what is in it
            reason = "it is damaged, or holds more than tensors"
        raise ValueError(f"{name} cannot be read as weights ({reason}): expected {expected}.") from None
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    named = isinstance(content, Mapping) and all(isinstance(key, str) for key in content)
    if not named or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{name} holds no state_dict, tensors by name: expected {expected}.")
    return _bare(dict(content))


def _bare(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes that all names share: DataParallel's, and that of a network inside a trainer's module."""
    for prefix in ("module.", "model.", "module."):
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def misfit(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """Why a state does not fit a network's own, in its names; None where it fits."""
    shared = given.keys() & own.keys()
    found = {
        "it lacks": own.keys() - given.keys(),
        "it holds the foreign": given.keys() - own.keys(),
        "of another shape is": {key for key in shared if given[key].shape != own[key].shape},
    }
    for what, keys in found.items():
        if keys:
            return f"{what} {min(keys)}" + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
    return None


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


def held(max_depth: float | int) -> tuple[int, float]:
    """Split a range's end (metres) into what a transformers config holds and the rest, for `ModelSpec.scale`.

    GLPN's and Depth Anything's `max_depth` take whole numbers alone: 80 is (80, 1.0), 10.5 is (1, 10.5).

    Raises:
        ValueError: not a positive length.
    """
    if not (isfinite(max_depth) and max_depth > 0):
        raise ValueError(f"max_depth={max_depth}: expected metres above zero, such as 10 or 80.")
    whole = int(max_depth)
    return (whole, 1.0) if whole == max_depth else (1, float(max_depth))
