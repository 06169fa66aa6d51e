"""The right key for a wrong one: every key of a recipe by its full dotted name, those of other libraries too."""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import get_args, get_origin

from pydantic import BaseModel

from sonde.recipes.schema import Recipe
from sonde.recipes.words import SHORT
from sonde.spelling import nearest, shorten

MEANT = {
    "rank": "lora.r",
    "alpha": "lora.lora_alpha",
    "dropout": "lora.lora_dropout",
    "steps": "train.max_steps",
    "warmup": "train.warmup_steps",
    "num_epochs": "train.num_train_epochs",
    "scheduler": "train.lr_scheduler_type",
    "output": "output_dir",
    "out": "output_dir",
    "run": "output_dir",
    "data": "data.root",
    "captures": "data.root",
    "model": "model.name",
}
"""Words that are no key by themselves, or a whole section, and the key that they mean."""
FIRST = "lora-few"
"""The recipe that a newcomer's captures suit."""
WEIGHTS = (".pth", ".pt", ".ckpt", ".safetensors")
MODEL_FILES = ("config.json", "adapter_config.json", "best")
KEY_VALUE = re.compile(r"[\w.\[\]]+=")
NEAR = 0.6
"""Least likeness of a key, of 1 for the same letters, to be offered in place of another."""
ELSEWHERE = 0.75
"""The same for a key of another section."""


def find_key(wrong: str) -> str | None:
    """The full dotted key nearest to a wrong one, such as `train.max_steps` for `max_steps`; None if none is near."""
    section, _, word = wrong.rpartition(".")
    if word in MEANT:
        return MEANT[word]
    found = _find_nearest(section, word)
    # Of another project's word that sets one field, that field says more.
    return SHORT[found][0] if found in SHORT and found != "dataset" else found


def _find_nearest(section: str, word: str) -> str | None:
    known, wrong = list(_list_keys()), f"{section}.{word}" if section else word
    same = [key for key in known if key.rpartition(".")[2] == word]
    # Of several, such as data.root and data.measured.root, that of the section that was named, or the shortest.
    if same:
        return min(same, key=lambda key: (not key.startswith(f"{section}."), key.count(".")))

    def rate(key: str) -> float:
        least = NEAR if key.rpartition(".")[0] == section else ELSEWHERE
        own = SequenceMatcher(None, word, key.rpartition(".")[2]).ratio()
        return max(own - least, SequenceMatcher(None, wrong, key).ratio() - ELSEWHERE)

    best = max(known, key=rate)
    return best if rate(best) >= 0 else None


def explain_section(section: str, given: object) -> str | None:
    """The sentence for a section that was given one value, such as `data=captures`; None where no key is meant."""
    if section not in MEANT or isinstance(given, Mapping | list | None):
        return None
    shown = f"{MEANT[section]}={shorten(given, 80)}"
    return f"{section}={shorten(given, 80)}: {section} is a section of settings; did you mean {shown}?"


def explain_unknown(wrong: str, value: object = None, known: Collection[str] = ()) -> str:
    """The sentence for a key that does not exist, with the right one as it is typed.

    Args:
        wrong: the full dotted key.
        value: what it was given; it is repeated unless it is a section.
        known: the keys of its section, told if no key is near; none: the sections.
    """
    while isinstance(value, Mapping) and value:  # a section that does not exist: its first key tells more
        wrong, value = f"{wrong}.{next(iter(value))}", next(iter(value.values()))
        known = ()
    section, _, word = wrong.rpartition(".")
    near = get_close_matches(word, known, n=1, cutoff=ELSEWHERE)
    right = f"{section}.{near[0]}".lstrip(".") if near else find_key(wrong)
    right = MEANT.get(right, right) if right is not None else None
    if right is not None:
        shown = f"{right}={shorten(value, 80)}" if isinstance(value, str | int | float) else right
        return f"Unknown key {shorten(wrong)}: did you mean {shown}?"
    return f"Unknown key {shorten(wrong)}: expected one of: {', '.join(sorted(known or Recipe.model_fields))}."


def explain_no_recipe(name: str, known: Collection[str]) -> str:
    """The sentence for a recipe that does not exist: a folder of captures, a model, an override, or a name misspelt.

    Args:
        name: what was given.
        known: the names of the packaged recipes.
    """
    from sonde.files import find_near  # here, because reading a recipe's name for `--help` does not need it

    shown, path = shorten(name), Path(name)
    is_folder = os.path.isdir(name)  # noqa: PTH112 - the name may be too long
    if KEY_VALUE.match(name):
        return f"{shown} stands where a recipe is expected, as in `sonde train {FIRST} {shown}`: {nearest('', known)}"
    if path.suffix in WEIGHTS or (is_folder and any((path / part).exists() for part in MODEL_FILES)):
        return f"{shown} is a model, and training begins with a recipe: `sonde train {FIRST} model.name={shown}`."
    if is_folder:
        return (
            f"{shown} is a folder without recipe.yaml: captures are given to a recipe, as in `sonde train {FIRST} "
            f"data.root={shown}`."
        )
    near = nearest(name, [*known, *find_near(path)])
    return f"Recipe {shown!r} not found: it is neither a file nor a packaged recipe; {near}"


def _list_keys() -> Iterator[str]:
    """Every key of a recipe; of `train` and `lora`, the names of the libraries that take them."""
    # Imported here, after a mistake: reading a recipe needs neither.
    from peft import LoraConfig
    from transformers import TrainingArguments

    yield from SHORT
    yield from _walk(Recipe, "")
    yield from (f"train.{field.name}" for field in fields(TrainingArguments))
    yield from (f"lora.{field.name}" for field in fields(LoraConfig))


def _walk(section: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, about in section.model_fields.items():
        # The keys of a dictionary or of a list are names and numbers of the user's own.
        inner = None if get_origin(about.annotation) in (dict, list) else find_section(about.annotation)
        yield from [f"{prefix}{name}"] if inner is None else _walk(inner, f"{prefix}{name}.")


def find_section(annotation: object) -> type[BaseModel] | None:
    """The schema class inside a field's type: `Section`, `Section | None` or `list[Section]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(find_section, get_args(annotation))), None)
