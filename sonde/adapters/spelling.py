"""Names of layers in the spelling of transformers 4 or 5, in every setting of LoRA that holds names."""

import re
from collections.abc import Iterable, Mapping

from torch import nn

from sonde.adapters.settings import check_pattern
from sonde.spelling import nearest, shorten

SPELLINGS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "dense": "o_proj"}
"""Layer of DINOv2's attention in transformers 4 → its name in transformers 5; GLPN and DPT keep the old names."""

NUMBERS = frozenset(map(str, range(100)))
"""Names of layers in a sequence, left out of error messages because they say nothing."""

EVERY = "all-linear"
"""PEFT's word for every linear layer."""


def respell_settings(network: nn.Module, settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """LoRA's settings with all names of modules as the network spells them.

    Args:
        network: without adapters.
        settings: keys of `peft.LoraConfig`, `target_modules` among them.
        prefix: what stands before a key in messages. With one the names come from a user: one that fits nothing is an
            error everywhere. In a stored adapter it is one only where it would change the adapter.

    Raises:
        ValueError: a name that the network has in neither spelling, two that are one layer's, or an unsafe pattern.
    """
    found = dict(settings)
    layers, modules = list(find_layers(network)), [name for name, _ in network.named_modules() if name]
    targets = settings["target_modules"]
    if isinstance(targets, str) and not _is_name(targets):
        found["target_modules"] = _respell_pattern(targets, layers, f"{prefix}target_modules")
    else:
        found["target_modules"] = match_targets(network, targets if isinstance(targets, str) else _sorted(targets))
    excluded = settings.get("exclude_modules")
    if isinstance(excluded, str) and not _is_name(excluded):
        found["exclude_modules"] = _respell_pattern(excluded, modules, f"{prefix}exclude_modules")
    elif excluded:
        names = [excluded] if isinstance(excluded, str) else _sorted(excluded)
        found["exclude_modules"] = [
            _respell(name, modules, f"{prefix}exclude_modules", strict=bool(prefix)) for name in names
        ]
    if saved := settings.get("modules_to_save"):
        names = [saved] if isinstance(saved, str) else list(_iterate(saved))
        found["modules_to_save"] = [_respell(name, modules, f"{prefix}modules_to_save") for name in names]
    for key in ("rank_pattern", "alpha_pattern"):
        if given := settings.get(key):
            found[key] = _respell_keys(given, layers, f"{prefix}{key}")
    for pattern in _iterate(settings.get("layers_pattern") or []):
        check_pattern(pattern)
    return found


def match_targets(network: nn.Module, targets: list[str] | str) -> list[str]:
    """Spell targets as the network does: `query` if it has a layer `query`, `q_proj` if it has that one.

    A target is the end of a layer's name, as in PEFT: `query`, or `expand.conv` in a convolutional encoder.

    Raises:
        ValueError: a target that exists in neither spelling.
    """
    layers = find_layers(network)
    # PEFT would also match modules that it cannot adapt, and fail: an end that names one of those is no target.
    others = {end for name, _ in network.named_modules() if name not in layers for end in _split_ends(name)}
    known = {end for name in layers for end in _split_ends(name)} - others
    found = []
    for target in [targets] if isinstance(targets, str) else targets:
        match = next((name for name in list_spellings(target) if name in known), None)
        if match is None:
            raise ValueError(
                f"No layer {shorten(target)!r} in this network for LoRA; {_suggest(target, layers, known)}"
            )
        found.append(match)
    return found


def choose_targets(network: nn.Module) -> list[str]:
    """The default targets of LoRA: query, key and value, or without attention the encoder's 1x1 convolutions.

    Raises:
        ValueError: a network that has neither.
    """
    attention, layers = list(SPELLINGS)[:3], find_layers(network)
    spellings = {*attention, *(SPELLINGS[name] for name in attention)}
    if any(name.rpartition(".")[2] in spellings for name in layers):
        return attention
    inside = [name for name, layer in layers.items() if "encoder" in name.split(".") and _is_pointwise(layer)]
    if not inside:
        raise ValueError("Neither attention nor 1x1 convolutions in this network's encoder: set lora.target_modules.")
    return sorted({".".join(name.split(".")[-2:]) for name in inside})


def find_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The layers that can have an adapter, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    }


def list_spellings(name: str) -> list[str]:
    """A name or a pattern of names as it is, as transformers 5 spells it, and as transformers 4 does."""
    newer = re.sub(r"attention(\\?\.)attention(?=\\?\.)", "attention", name)
    newer = re.sub(r"attention(\\?\.)output\\?\.dense\b", r"attention\1o_proj", newer)
    older = re.sub(r"attention(\\?\.)o_proj\b", r"attention\1output\1dense", name)
    deeper = re.sub(r"attention(\\?\.)(?=[qkv]_proj\b)", r"attention\1attention\1", older)
    back = {new: old for old, new in SPELLINGS.items()}
    ways = [name, _swap(newer, SPELLINGS), _swap(name, SPELLINGS), _swap(older, back), _swap(deeper, back)]
    return list(dict.fromkeys(ways))


def _swap(name: str, words: Mapping[str, str]) -> str:
    return re.sub(r"(?<![A-Za-z0-9_])[a-z_]+(?![A-Za-z0-9_])", lambda found: words.get(found[0], found[0]), name)


def _respell(name: str, known: list[str], key: str, *, strict: bool = True) -> str:
    """A module's name, or the end of one, as the network spells it."""
    for way in list_spellings(name):
        if any(one == way or one.endswith(f".{way}") for one in known):
            return way
    if not strict:
        return name
    ends = sorted({one.rpartition(".")[2] for one in known} - NUMBERS)
    raise ValueError(f"{key} names no module {shorten(name)!r} of this network; {nearest(name, ends)}")


def _respell_pattern(pattern: str, known: list[str], key: str) -> str:
    """A pattern of whole names as the network spells them."""
    if pattern == EVERY:
        return pattern
    check_pattern(pattern)
    for way in list_spellings(pattern):
        if any(re.fullmatch(way, name) for name in known):
            return way
    raise ValueError(f"{key}: the pattern {shorten(pattern)!r} fits no module of this network")


def _respell_keys(given: object, known: list[str], key: str) -> dict[str, object]:
    """The values of patterns, under the network's own names; PEFT takes a pattern as the end of a name."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{key} is {shorten(repr(given))}, expected names of layers with a number each")
    found: dict[str, object] = {}
    for name, value in given.items():
        check_pattern(name)
        fits = (way for way in list_spellings(name) if any(re.match(rf"(.*\.)?({way})$", one) for one in known))
        own = next(fits, None)
        if own is None:
            ends = sorted({one.rpartition(".")[2] for one in known} - NUMBERS)
            raise ValueError(f"{key} names no layer {shorten(name)!r} of this network; {nearest(name, ends)}")
        if own in found:
            raise ValueError(f"{key} names {own!r} twice, in two spellings")
        found[own] = value
    return found


def _is_name(text: str) -> bool:
    """Whether a word is the end of a name, rather than a pattern."""
    return text != EVERY and re.fullmatch(r"[\w.-]+", text) is not None


def _iterate(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(name) for name in value] if isinstance(value, Iterable) else []


def _sorted(value: object) -> list[str]:
    """Names in the order given; a set has none."""
    return sorted(_iterate(value)) if isinstance(value, set | frozenset) else _iterate(value)


def _suggest(target: str, layers: Mapping[str, nn.Module], known: set[str]) -> str:
    ends = {name: [end for end in _split_ends(name) if end in known - NUMBERS] for name in layers}
    return nearest(target, sorted({next(iter(ends[name]), name) for name in layers}))


def _is_pointwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)


def _split_ends(name: str) -> list[str]:
    """Every end of a module's name, shortest first: of a.b.c these are c, b.c and a.b.c."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in reversed(range(len(parts)))]
