"""Recipes: the typed schema of a training run, and the packaged YAML files that fill it.

A recipe is a short YAML file. Every key it leaves out has a default that works. `train:` takes the names of
`transformers.TrainingArguments`; `lora:` takes the names of `peft.LoraConfig`. This module does not import torch.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sonde.recipes import rules
from sonde.recipes.bounds import write_key
from sonde.recipes.keys import explain_no_recipe, explain_section, explain_unknown, find_section
from sonde.recipes.overrides import merge, read_output_dir
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
from sonde.recipes.warmup import fit_warmup
from sonde.recipes.words import SHORT
from sonde.renamed import keep_old_names
from sonde.spelling import shorten

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
    "explain_unknown",
    "find_output_dir",
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
KEYS = "expected keys such as model, data and train"
MOST_PROBLEMS = 5
"""Problems of a recipe that a message tells."""


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
    path = _find_file(recipe)
    fields = dict(recipe) if isinstance(recipe, Mapping) else _read(str(recipe), path)
    own = fields.get("train")
    try:
        loaded = _validate(fit_warmup(own, merge(fields, overrides or []), overrides or []), overrides or [])
    except ValueError as error:
        raise ValueError(f"{shorten(path)}: {error}" if path and not overrides else str(error)) from None
    # A run that an earlier version trained must load, even if its recipe breaks a rule of today.
    if path is None or path.name != RECORD or overrides:
        refuse_contradictions(loaded)
    return loaded


def refuse_contradictions(recipe: Recipe) -> None:
    """Check every rule that needs the recipe alone, without data or network.

    Raises:
        ValueError: settings that contradict each other; the message has one sentence for each broken rule.
    """
    if sentences := list(rules.find_broken_rules(recipe)):
        raise ValueError(" ".join(sentences))


def find_output_dir(recipe: RecipeSource, overrides: Sequence[str]) -> str | None:
    """The run folder that a recipe names with its overrides; None where neither names one. Nothing else is checked.

    Raises:
        ValueError: no such recipe, or an override that is no key=value.
    """
    if isinstance(recipe, Recipe):
        recipe = recipe.model_dump()
    fields = dict(recipe) if isinstance(recipe, Mapping) else _read(str(recipe), _find_file(recipe))
    return read_output_dir(fields, overrides)


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


def _find_file(recipe: RecipeSource) -> Path | None:
    """The YAML file of a recipe of the user's own, or that of a run folder; None for a packaged name and for fields."""
    if not isinstance(recipe, str | Path):
        return None
    try:
        path = Path(recipe)
        path = path / RECORD if path.is_dir() else path
        return path if path.exists() else None
    except OSError:  # no name of a file, such as one of 5,000 characters
        return None


def _read(name: str, path: Path | None) -> dict[str, object]:
    """The fields of a YAML file, or of a packaged recipe, not yet validated."""
    # Imported here because reading a recipe's name for `--help` does not need it.
    from sonde import files

    known = list_names()
    if path is None and name not in known:
        raise ValueError(explain_no_recipe(name, known))
    fields = files.read_yaml(path or str(RECIPES / f"{name}.yaml"), KEYS)
    if not isinstance(fields, dict):
        raise ValueError(f"{shorten(path)} holds no recipe: {KEYS}.")
    model = fields.get("model")
    # Earlier versions recorded the default name as well as the size, and a recipe may give only one of them.
    if path is not None and path.name == RECORD and isinstance(model, dict) and model.get("size"):
        model["name"] = None
    return fields


def _validate(fields: dict[str, object], overrides: Sequence[str]) -> Recipe:
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        problems, typed = error.errors(), dict(each.split("=", 1) for each in overrides)
        more = [f"And {len(problems) - MOST_PROBLEMS} more."] if len(problems) > MOST_PROBLEMS else []
        raise ValueError(
            " ".join([*(_explain(problem, typed) for problem in problems[:MOST_PROBLEMS]), *more])
        ) from None


def _explain(problem: ErrorDetails, typed: Mapping[str, str]) -> str:
    """One sentence for a problem that pydantic found, with the dotted name of its field; `typed` are the overrides."""
    where = [str(part) for part in problem["loc"]]
    key = write_key(tuple(where))
    given = typed.get(key, problem["input"])
    if problem["type"] == "extra_forbidden":
        return explain_unknown(key, given, _list_keys(where[:-1]))
    if problem["type"] == "model_type" and (sentence := explain_section(key, given)):
        return sentence
    if problem["type"] == "value_error" and "ctx" in problem:
        return f"{key}: {problem['ctx']['error']}."
    return f"{key}: {problem['msg']}, got {shorten(repr(problem['input']), 200)}."


def _list_keys(path: list[str]) -> list[str]:
    """The keys of the section at this path."""
    section: type[BaseModel] = Recipe
    for part in path:
        # A list index or the name of a loss is no field: its section is the one already found.
        if part in section.model_fields:
            section = find_section(section.model_fields[part].annotation) or section
    return list(section.model_fields)


keep_old_names(__name__, {"names": "list_names", "quick_form": "list_quick_overrides"})
