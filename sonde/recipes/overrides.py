"""Overrides, dotted key=value, applied to the fields of a recipe; and references such as ${seed}, resolved."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sonde.recipes.bounds import MOST_REFERENCES, check_values, walk_values, write_key
from sonde.recipes.schema import Recipe
from sonde.recipes.terms import split_loss_override, write_weights
from sonde.recipes.words import LOG_DIR, SHORT, expand_word, read_max_depth
from sonde.spelling import shorten

KEY = re.compile(r"(?:[^.\[\]=\\]|\\.)+(?:\.(?:[^.\[\]=\\]|\\.)+|\[[^\[\]=]+\]){0,19}", re.DOTALL)
"""A dotted key: loss.silog.weight, or model.input_size[0]."""
REFERENCE = re.compile(r"\$\{[^${}:\\'\"]*\}")
"""A reference to another key. One with a colon would call a function, such as the one that reads the environment."""


def merge(fields: dict[str, object], overrides: list[str]) -> dict[str, object]:
    """The fields with the overrides applied; GLPDepth's words, in both, become the fields that they set.

    Raises:
        ValueError: an override that is no key=value, or a value that cannot be there; the message names it.
    """
    # Imported here because reading a recipe's name for `--help` does not need them.
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from sonde import files

    for override in overrides:
        if "=" not in override or not KEY.fullmatch(override.partition("=")[0]):
            hint = _hint(override)
            raise ValueError(
                f"Override {shorten(override)!r}: expected key=value, such as train.learning_rate=1e-4{hint}."
            )
    check_values(fields)
    asked = _expand_words(fields, overrides)
    _drop_replaced_network(fields, asked)
    fields = write_weights(fields, asked, Recipe.model_fields["loss"].default)
    try:
        references = _count_references(fields)
        merged = OmegaConf.create(fields)
        for override in asked:
            for key, _, text in (part.partition("=") for part in split_loss_override(override)):
                references += _count_references({key: (value := files.parse_yaml(text))})
                OmegaConf.update(merged, key, value)
        if references > MOST_REFERENCES:
            raise ValueError(f"it has {references} references to other keys; expected at most {MOST_REFERENCES}")
        resolved = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, ValueError, RecursionError) as error:
        what = f"Cannot apply {shorten(' '.join(overrides))}: " if overrides else ""
        raise ValueError(f"{what}{shorten(str(error).splitlines()[0])}") from None
    assert isinstance(resolved, dict)
    check_values(named := {str(key): value for key, value in resolved.items()})
    return named


def read_output_dir(fields: dict[str, object], overrides: Sequence[str]) -> str | None:
    """The run folder that fields with overrides name, without a check of the others; None where neither names one.

    Raises:
        ValueError: an override that is no key=value, or a reference that cannot be resolved.
    """
    asked = _expand_words(dict(fields), list(overrides))
    found = _find_value(asked, "output_dir") or fields.get("output_dir")
    if found is not None and "${" in str(found):
        found = merge(dict(fields), list(overrides)).get("output_dir")
    return None if found is None else str(found)


def _hint(override: str) -> str:
    """What a word that is no override may have been meant for: captures, or the model to start from."""
    if not os.path.isdir(override):  # noqa: PTH112 - the name may be too long
        return ""
    known = any((Path(override) / name).exists() for name in ("best", "config.json", "adapter_config.json"))
    key = "model.name" if known else "data.root"
    return f"; a {'model' if known else 'folder of captures'} is given as {key}={shorten(override)}"


def _count_references(fields: Mapping[str, object]) -> int:
    """Number of references to other keys.

    Raises:
        ValueError: a reference that is none to a key; the message names where it is.
    """
    found = 0
    for path, value in walk_values(fields):
        if isinstance(value, str) and "${" in value:
            rest, count = value, 1
            while count:
                rest, count = REFERENCE.subn("x", rest)
                found += count
            if "${" in rest:
                raise ValueError(f"{write_key(path)}={shorten(value, 80)}: expected ${{key}}, the value of another key")
    return found


def _expand_words(fields: dict[str, object], overrides: list[str]) -> list[str]:
    """The overrides in the names of the schema, after those that the fields' GLPDepth words stand for."""
    short = [f"{name}={fields.pop(name)}" for name in SHORT if name in fields]
    short += [] if "output_dir" in fields or not short else [f"output_dir={LOG_DIR}"]
    words = [override.partition("=") for override in [*short, *overrides]]
    asked = [field for word, _, value in words for field in expand_word(word, value)]
    if any(word in SHORT for word, _, _ in words[len(short) :]) and not _find_value(asked, "output_dir"):
        asked.append(f"output_dir={LOG_DIR}")
    return asked


def _find_value(asked: list[str], field: str) -> str | None:
    """The last value that the overrides give a field; None if they give none, or null."""
    values = [each.partition("=")[2] for each in asked if each.partition("=")[0] == field]
    return values[-1] if values and values[-1] not in ("null", "None", "") else None


def _drop_replaced_network(fields: dict[str, object], asked: list[str]) -> None:
    """Remove the recipe's own network if an override names another; a name also removes the keys of a size."""
    name, size = _find_value(asked, "model.name"), _find_value(asked, "model.size")
    model = fields.get("model")
    # With both a name and a size the validation reports the conflict.
    if not isinstance(model, dict) or (name and size):
        return
    dropped = ["name"] if size else []
    if name:
        # A .ckpt without a range in its name still needs the max_depth of the recipe.
        knows_max_depth = not name.endswith(".ckpt") or read_max_depth(name) is not None
        dropped = ["size", "encoder", "init", *(["max_depth"] if knows_max_depth else [])]
    fields["model"] = {field: value for field, value in model.items() if field not in dropped}
