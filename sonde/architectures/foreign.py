"""Weights of other projects: encoders by name, renamed tensors, and depth ranges that a config cannot hold."""

import pickle
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from re import Match, sub
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging as transformers_logging

from sonde.encoding import check_max_depth
from sonde.files.safely import FAULTS, describe_fault, refuse_special
from sonde.spelling import shorten

Renames = Mapping[str, str | Callable[[Match[str]], str]]
"""Pattern → replacement, applied in this order, as `re.sub` takes them."""


UNREAD = re.compile(
    r"(\.|^)(mask_token|position_ids|relative_position_index|num_batches_tracked)$"
    r"|^dpt\.pooler\.|neck\.fusion_stage\.layers\.0\.residual_layer1\."
)
"""Tensors that no answer depends on: a file may lack them or hold them. The first fusion layer has nothing to add."""
CLASSIFIERS = re.compile(r"^(classifier|decode_head|auxiliary_head|head|pooler)\.")
"""Heads of other tasks in the files of encoders."""
WRAPPERS = ("state_dict", "model", "model_state_dict", "teacher", "ema", "ema_state_dict")
"""Keys under which training scripts keep the tensors; where a file has several, the first of these is read."""
MOST_WRAPPERS = 4
"""Wrappers inside each other."""
TORCH_SUFFIXES, SAFETENSORS = (".pth", ".pt", ".ckpt"), ".safetensors"
"""Suffixes of files of weights."""
LOADING_FAULTS = (*FAULTS, StrictDataclassError, ImportError, AssertionError)
"""Exceptions of transformers for folders that are damaged, or whose settings cannot be."""
SHOWN = 3
"""Names of tensors that a message holds."""


def load_foreign_encoder(name: str, kind: str, expected: str) -> PreTrainedModel:
    """Load the encoder of a hub id or a local folder, whose `model_type` must be `kind`.

    Raises:
        ValueError: no such encoder, another kind, or weights that do not fit it or are not finite.
    """
    try:
        found, told = _load_encoder(name)
        if found.config.model_type == kind:
            complete_network(found, told)
    except LOADING_FAULTS as error:
        reason = shorten(str(error).partition("\n")[0])
        raise ValueError(
            f"model.encoder={shorten(name)} could not be loaded ({reason}): expected {expected}, or its local folder."
        ) from None
    if found.config.model_type != kind:
        raise ValueError(f"model.encoder={name} is a {found.config.model_type} network: expected {expected}.")
    return found


def _load_encoder(name: str) -> tuple[PreTrainedModel, dict[str, Collection[Any]]]:
    with quiet_transformers():
        found, told = AutoModel.from_pretrained(
            name,
            local_files_only=Path(name).is_dir(),
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
        )
    told["unexpected_keys"] = {key for key in told["unexpected_keys"] if not CLASSIFIERS.search(key)}
    return found, told


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from logging what it found amiss in weights: sonde refuses such weights in its own words."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


def complete_network(network: PreTrainedModel, told: Mapping[str, Collection[Any]]) -> None:
    """Check what transformers tells of loading, and set what a file may lack to zero, so that nothing is random.

    Args:
        network: as `from_pretrained` returns it with `output_loading_info=True`; changed in place.
        told: what that returns beside it.

    Raises:
        ValueError: tensors are missing, unexpected or of another shape, or not finite.
    """
    reason = describe_misfit(
        told["missing_keys"], told["unexpected_keys"], [key for key, *_ in told["mismatched_keys"]]
    )
    if reason is not None:
        raise ValueError(reason)
    for key in told["missing_keys"]:
        network.state_dict()[key].zero_()
    refuse_not_finite(network.state_dict())


def refuse_not_finite(state: Mapping[str, Tensor]) -> None:
    """Refuse tensors that hold NaN or an infinity: every answer of such a network is wrong.

    Raises:
        ValueError: with the first of their names and their number.
    """
    found = [name for name, value in state.items() if not _is_finite(value)]
    if found:
        raise ValueError(f"not finite: {list_names(found)}")


def _is_finite(value: Tensor) -> bool:
    if not value.is_floating_point() or not value.numel():
        return True
    # A NaN is passed on as both ends; unlike isfinite, this needs no memory.
    return all(bool(end.isfinite()) for end in value.detach().aminmax())


def read_state(path: Path, name: str, expected: str) -> dict[str, Tensor]:
    """Read the tensors of a .pth, .pt, .ckpt or .safetensors file by their names. Code in a pickle is never run.

    What training scripts add is removed: dictionaries around the tensors (WRAPPERS), and a `module.`, `model.` or
    `_orig_mod.` before every name.

    Args:
        path: the file.
        name: the user's words for it, such as `model.encoder=FILE`.
        expected: what would have worked.

    Raises:
        ValueError: the file is missing, damaged, or holds something else.
    """
    if not path.exists():
        raise ValueError(f"{shorten(name)}: no such file; expected {expected}.")
    try:
        refuse_special(path)
        content = load_file(path) if path.suffix == SAFETENSORS else _unpickle(path)
    except Exception as error:  # a damaged file may raise nearly anything
        reason = shorten(describe_fault(error).partition(". ")[0])
        raise ValueError(f"{shorten(name)} cannot be read as weights ({reason}): expected {expected}.") from None
    for _ in range(MOST_WRAPPERS):
        content = _unwrap(content)
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise ValueError(f"{shorten(name)} holds no state_dict, tensors by name: expected {expected}.")
    return _strip_prefixes({str(key): value for key, value in content.items()})


def _unpickle(path: Path) -> object:
    try:
        # torch also warns about a pickle that it refuses; the error below says it in one sentence.
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own words advise to run what is in it
        raise ValueError("it is damaged, or holds more than tensors") from None


def _unwrap(content: object) -> object:
    """What the first wrapper holds; the content itself if it has none."""
    if not isinstance(content, Mapping):
        return content
    return next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)


def _strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove what all names begin with: prefixes of DataParallel and torch.compile, a network's name in a trainer."""
    # They come in any order: a trainer may wrap DataParallel, or DataParallel a trainer.
    for _ in range(MOST_WRAPPERS):
        for prefix in ("module.", "model.", "_orig_mod."):
            if all(key.startswith(prefix) for key in state):
                state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def fit_state(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file as a network's own state, with zeros for those that no answer depends on.

    Raises:
        ValueError: they do not fit the network, or are not finite.
    """
    kept = {key: value for key, value in given.items() if key in own or not UNREAD.search(key)}
    missing = {key: torch.zeros_like(own[key]) for key in own.keys() - kept.keys() if UNREAD.search(key)}
    whole = kept | missing
    reason = find_misfit(whole, own)
    if reason is not None:
        raise ValueError(reason)
    refuse_not_finite(whole)
    return whole


def find_misfit(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """Say why a state does not fit a network's own state; None if it fits."""
    other = [key for key in given.keys() & own.keys() if given[key].shape != own[key].shape]
    return describe_misfit(own.keys() - given.keys(), given.keys() - own.keys(), other)


def describe_misfit(missing: Iterable[str], foreign: Iterable[str], misshapen: Iterable[str]) -> str | None:
    """Say which tensors do not fit, by name and number; None if all do. Those of UNREAD count only by their shape."""
    found = {
        "it lacks": [key for key in missing if not UNREAD.search(key)],
        "it holds the foreign": [key for key in foreign if not UNREAD.search(key)],
        "of another shape is": list(misshapen),
    }
    return next((f"{what} {list_names(keys)}" for what, keys in found.items() if keys), None)


def list_names(names: Collection[str]) -> str:
    """The first names in order, and how many more there are."""
    shown = ", ".join(shorten(name, 80) for name in sorted(names)[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


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
