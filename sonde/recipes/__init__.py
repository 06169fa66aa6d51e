"""Recipes: the typed schema of a training run, and the packaged YAML files that fill it.

A recipe is a short YAML file. Every key it leaves out has a default that works. `train:` takes the names of
`transformers.TrainingArguments`; `lora:` takes the names of `peft.LoraConfig`. This module does not import torch.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sonde.recipes import rules
from sonde.recipes.schema import (
    AlignRecipe,
    AugmentRecipe,
    ChooseRecipe,
    DataRecipe,
    LossRecipe,
    ModelRecipe,
    Part,
    Recipe,
    SplitRecipe,
)
from sonde.recipes.terms import split_loss_override, write_weights
from sonde.recipes.words import LOG_DIR, SHORT, expand_word, read_max_depth
from sonde.renamed import keep_old_names
from sonde.spelling import nearest

__all__ = [
    "RECIPES",
    "SHORT",
    "AlignRecipe",
    "AugmentRecipe",
    "ChooseRecipe",
    "DataRecipe",
    "LossRecipe",
    "ModelRecipe",
    "Part",
    "Recipe",
    "RecipeSource",
    "SplitRecipe",
    "dump",
    "list_names",
    "list_quick_overrides",
    "load",
    "refuse_contradictions",
]

RecipeSource = str | Path | Mapping[str, object] | Recipe
"""A packaged name, a YAML file, a run folder, the fields of a recipe, or a recipe."""

RECIPES = files(__name__)
"""The folder of packaged recipes."""

RECORD = "recipe.yaml"
"""Name of the file in a run folder that holds the run's recipe."""


def list_names() -> list[str]:
    """Names of the packaged recipes."""
    return sorted(path.name.removesuffix(".yaml") for path in RECIPES.iterdir() if path.name.endswith(".yaml"))


def load(recipe: RecipeSource, overrides: list[str] | None = None) -> Recipe:
    """Load a recipe, with dotted `key=value` overrides.

    Raises:
        ValueError: an unknown name or key, a value of the wrong type, or settings that contradict each other; the
            message says what to change. The recipe of a run folder without overrides is not checked for contradictions.
    """
    if isinstance(recipe, Recipe):
        recipe = recipe.model_dump()
    if isinstance(recipe, Mapping):
        fields, recorded = dict(recipe), False
    else:
        fields, recorded = _read(str(recipe)), Path(recipe).is_dir() or Path(recipe).name == RECORD
    loaded = _validate(_merge(fields, overrides or []))
    # A run that an earlier version trained must load, even if its recipe breaks a rule of today.
    if not recorded or overrides:
        refuse_contradictions(loaded)
    return loaded


def refuse_contradictions(recipe: Recipe) -> None:
    """Check every rule that needs the recipe alone, without data or network.

    Raises:
        ValueError: settings that contradict each other; the message has one sentence for each broken rule.
    """
    if sentences := list(rules.find_broken_rules(recipe)):
        raise ValueError(" ".join(sentences))


def list_quick_overrides(recipe: str) -> list[str]:
    """The overrides that `--quick` applies to a recipe.

    Raises:
        ValueError: the recipe has no `quick` overrides.
    """
    found = load(recipe).quick
    if not found:
        raise ValueError(f"The recipe {recipe} has no quick overrides: remove --quick, or use the recipe fixed-camera.")
    return found


def dump(recipe: Recipe) -> str:
    """The recipe with all defaults filled in, as YAML that `load` can read."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


class NumberLoader(yaml.SafeLoader):
    """YAML's safe loader that also reads 1e-4 as a number, as overrides and YAML 1.2 do; PyYAML needs 1.0e-4."""


NumberLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _read(name: str) -> dict[str, object]:
    """The fields of a packaged recipe, a YAML file or a run folder, not yet validated."""
    path = Path(name)
    if path.is_dir():
        path = path / RECORD
    source = path if path.is_file() else RECIPES / f"{name}.yaml"
    if not source.is_file():
        raise ValueError(
            f"Recipe {name!r} not found: it is neither a file nor a packaged recipe; {nearest(name, list_names())}"
        )
    try:
        fields = yaml.load(source.read_text(), NumberLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{name} holds no recipe: expected keys such as model, data and train.")
    model = fields.get("model")
    # Earlier versions recorded the default name as well as the size, and a recipe may give only one of them.
    if path.name == RECORD and isinstance(model, dict) and model.get("size"):
        model["name"] = None
    return fields


def _merge(fields: dict[str, object], overrides: list[str]) -> dict[str, object]:
    """The fields with the overrides applied; GLPDepth's words, in both, become the fields that they set."""
    # Imported here because reading a recipe's name for `--help` does not need it.
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    short = [f"{name}={fields.pop(name)}" for name in SHORT if name in fields]
    for override in overrides:
        if "=" not in override:
            raise ValueError(f"Override {override!r}: expected key=value, such as train.learning_rate=1e-4.")
    short += [] if "output_dir" in fields or not short else [f"output_dir={LOG_DIR}"]
    words = [override.partition("=") for override in [*short, *overrides]]
    asked = [field for word, _, value in words for field in expand_word(word, value)]
    if any(word in SHORT for word, _, _ in words[len(short) :]) and not _find_value(asked, "output_dir"):
        asked.append(f"output_dir={LOG_DIR}")
    _drop_replaced_network(fields, asked)
    try:
        merged = OmegaConf.create(write_weights(fields, asked, Recipe.model_fields["loss"].default))
        merged.merge_with_dotlist([part for override in asked for part in split_loss_override(override)])
        resolved = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise ValueError(f"Cannot apply {' '.join(overrides)}: {str(error).splitlines()[0]}") from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


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


def _validate(fields: dict[str, object]) -> Recipe:
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        raise ValueError(" ".join(_explain(problem) for problem in error.errors())) from None


def _explain(problem: ErrorDetails) -> str:
    """One sentence for a problem that pydantic found, with the dotted name of its field."""
    where = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        return f"Unknown key {'.'.join(where)}: {nearest(where[-1], _list_keys(where[:-1]))}"
    if problem["type"] == "value_error" and "ctx" in problem:
        return f"{'.'.join(where)}: {problem['ctx']['error']}."
    return f"{'.'.join(where)}: {problem['msg']}, got {problem['input']!r}."


def _list_keys(path: list[str]) -> list[str]:
    """The keys of the section at this path."""
    section: type[BaseModel] = Recipe
    for part in path:
        # A list index or the name of a loss is no field: its section is the one already found.
        if part in section.model_fields:
            section = _find_section(section.model_fields[part].annotation) or section
    return list(section.model_fields)


def _find_section(annotation: object) -> type[BaseModel] | None:
    """The schema class inside a field's type: `Section`, `Section | None` or `list[Section]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_find_section, get_args(annotation))), None)


keep_old_names(__name__, {"names": "list_names", "quick_form": "list_quick_overrides"})
