"""Weights of other projects: encoders by name, renamed tensors, and depth ranges that a config cannot hold."""

import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from re import Match, sub

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from sonde.encoding import check_max_depth

Renames = Mapping[str, str | Callable[[Match[str]], str]]
"""Pattern → replacement, applied in this order, as `re.sub` takes them."""


def load_foreign_encoder(name: str, kind: str, expected: str) -> PreTrainedModel:
    """Load the encoder of a hub id or a local folder, whose `model_type` must be `kind`.

    Raises:
        ValueError: no such encoder, or another kind; the message names what is `expected`.
    """
    try:
        found = AutoModel.from_pretrained(name, local_files_only=Path(name).is_dir(), dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"model.encoder={name} could not be loaded ({reason}): expected {expected}, or its local folder."
        ) from None
    if found.config.model_type != kind:
        raise ValueError(f"model.encoder={name} is a {found.config.model_type} network: expected {expected}.")
    return found


def read_state(path: Path, name: str, expected: str) -> dict[str, Tensor]:
    """Read the tensors of a .pth, .pt or .ckpt file by their names. Code inside the pickle is never run.

    Wrappers of training scripts are removed: an outer dict's `model` or `state_dict`, and a `module.` or `model.` in
    front of every name.

    Args:
        path: the file.
        name: the user's words for it, such as `model.encoder=FILE`.
        expected: what would have worked.

    Raises:
        ValueError: the file is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise ValueError(f"{name}: no such file; expected {expected}.")
    try:
        # torch also warns about a pickle that it refuses; the error below says it in one sentence.
        with warnings.catch_warnings(action="ignore"):
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
    return _strip_prefixes(dict(content))


def _strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove prefixes that all names share: DataParallel's `module.`, and the name of a network inside a trainer."""
    # A trainer may wrap DataParallel, or DataParallel a trainer: `module.` is tried on both sides of `model.`.
    for prefix in ("module.", "model.", "module."):
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def find_misfit(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """Say why a state does not fit a network's own state; None if it fits."""
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


def rename_state(
    state: Mapping[str, Tensor], renames: Renames, splits: Mapping[str, tuple[str, ...]]
) -> dict[str, Tensor]:
    """Rename a state's tensors; a matrix whose new name contains a key of `splits` is cut into equal parts, by rows."""
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


def split_max_depth(max_depth: float | int) -> tuple[int, float]:
    """Split a range's end (metres) into a config's `max_depth` and the factor that remains, for `ModelSpec.scale`.

    The configs of GLPN and Depth Anything accept whole numbers only: 80 gives (80, 1.0), 10.5 gives (1, 10.5).

    Raises:
        ValueError: `max_depth` is not positive and finite.
    """
    check_max_depth(max_depth)
    whole = int(max_depth)
    return (whole, 1.0) if whole == max_depth else (1, float(max_depth))
