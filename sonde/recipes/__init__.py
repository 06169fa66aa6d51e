"""Recipes: the typed schema of a training run, and the packaged YAML files that fill it.

A recipe is a short YAML file. Every key it leaves out has a default that works. `train:` takes the names of
`transformers.TrainingArguments`; `lora:` takes the names of `peft.LoraConfig`. This module does not import torch.
"""

import re
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

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
from sonde.recipes.terms import by_parts, weighed
from sonde.recipes.words import LOG_DIR, SHORT, range_of, spelled
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
    "SplitRecipe",
    "dump",
    "load",
    "names",
    "quick_form",
    "refuse_contradictions",
]

RECIPES = files(__name__)
"""The folder of packaged recipes."""

RECORD = "recipe.yaml"
"""Name of the file in a run folder that holds the run's recipe."""


def names() -> list[str]:
    """Names of the packaged recipes."""
    return sorted(path.name.removesuffix(".yaml") for path in RECIPES.iterdir() if path.name.endswith(".yaml"))


def load(recipe: str | Path | dict[str, Any] | Recipe, overrides: list[str] | None = None) -> Recipe:
    """Load a recipe from a packaged name, a YAML file, a dictionary or a recipe, with dotted `key=value` overrides.

    Raises:
        ValueError: an unknown name or key, a value of the wrong type, or settings that contradict each other; the
            message says what to change. The recipe of a run folder without overrides is not checked for contradictions.
    """
    if isinstance(recipe, Recipe):
        recipe = recipe.model_dump()
    recorded = not isinstance(recipe, dict) and (Path(recipe).is_dir() or Path(recipe).name == RECORD)
    fields = dict(recipe) if isinstance(recipe, dict) else _read(str(recipe))
    loaded = _validated(_merged(fields, overrides or []))
    if not recorded or overrides:
        refuse_contradictions(loaded)
    return loaded


def refuse_contradictions(recipe: Recipe) -> None:
    """Check every rule that needs the recipe alone, without data or network.

    Raises:
        ValueError: settings that contradict each other; the message has one sentence for each broken rule.
    """
    if sentences := list(rules.broken(recipe)):
        raise ValueError(" ".join(sentences))


def quick_form(recipe: str) -> list[str]:
    """The overrides that `--quick` applies to a recipe.

    Raises:
        ValueError: the recipe has no `quick` overrides.
    """
    found = load(recipe).quick
    if not found:
        raise ValueError(f"{recipe} has no quick form: remove --quick, or use the recipe fixed-camera.")
    return found


def dump(recipe: Recipe) -> str:
    """The recipe with all defaults filled in, as YAML that `load` can read."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


class Numbers(yaml.SafeLoader):
    """YAML's safe loader that also reads 1e-4 as a number, as overrides and YAML 1.2 do; PyYAML needs 1.0e-4."""


Numbers.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _read(name: str) -> dict[str, Any]:
    path = Path(name)
    if path.is_dir():
        path = path / RECORD  # a run folder repeats its own run
    of_run = path.name == RECORD
    source = path if path.is_file() else RECIPES / f"{name}.yaml"
    if not source.is_file():
        raise ValueError(f"No recipe {name!r}: it is neither a file nor a packaged recipe; {nearest(name, names())}")
    try:
        fields = yaml.load(source.read_text(), Numbers)
    except yaml.YAMLError as error:
        raise ValueError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{name} holds no recipe: expected keys such as model, data and train.")
    model = fields.get("model")
    if of_run and isinstance(model, dict) and model.get("size"):
        model["name"] = None  # earlier versions recorded the default name as well as the size
    return fields


def _merged(fields: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    short = [f"{name}={fields.pop(name)}" for name in SHORT if name in fields]
    for override in overrides:
        if "=" not in override:
            raise ValueError(f"Override {override!r}: expected key=value, such as train.learning_rate=1e-4.")
    short += [] if "output_dir" in fields or not short else [f"output_dir={LOG_DIR}"]
    words = [override.partition("=") for override in [*short, *overrides]]
    asked = [field for word, _, value in words for field in spelled(word, value)]
    if any(word in SHORT for word, _, _ in words[len(short) :]) and not _sets(asked, "output_dir"):
        asked.append(f"output_dir={LOG_DIR}")
    _give_way(fields, asked)
    try:
        merged = OmegaConf.create(weighed(fields, asked, Recipe.model_fields["loss"].default))
        merged.merge_with_dotlist([part for override in asked for part in by_parts(override)])
        resolved = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise ValueError(f"Cannot apply {' '.join(overrides)}: {str(error).splitlines()[0]}") from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _sets(asked: list[str], field: str) -> str | None:
    """The last value that the overrides give a field; None if they give none, or null."""
    values = [each.partition("=")[2] for each in asked if each.partition("=")[0] == field]
    return values[-1] if values and values[-1] not in ("null", "None", "") else None


def _give_way(fields: dict[str, Any], asked: list[str]) -> None:
    """Remove the recipe's own network if an override names another; a name also removes the keys of a size."""
    name, size = _sets(asked, "model.name"), _sets(asked, "model.size")
    if not isinstance(fields.get("model"), dict) or (name and size):
        return
    gone = ["name"] if size else []
    if name:
        says_how_far = not name.endswith(".ckpt") or range_of(name) is not None
        gone = ["size", "encoder", "init", *(["max_depth"] if says_how_far else [])]
    fields["model"] = {field: value for field, value in fields["model"].items() if field not in gone}


def _validated(fields: dict[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        raise ValueError(" ".join(_sentence(problem) for problem in error.errors())) from None


def _sentence(problem: Any) -> str:
    where = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        return f"Unknown key {'.'.join(where)}: {nearest(where[-1], _keys(where[:-1]))}"
    if problem["type"] == "value_error":
        return f"{'.'.join(where)}: {problem['ctx']['error']}."
    return f"{'.'.join(where)}: {problem['msg']}, got {problem['input']!r}."


def _keys(path: list[str]) -> list[str]:
    schema: Any = Recipe
    for part in path:
        if part not in schema.model_fields:  # a list index or the name of a loss
            continue
        schema = _section(schema.model_fields[part].annotation)
    return list(schema.model_fields)


def _section(annotation: Any) -> Any:
    """The schema class inside a field's type: `Section`, `Section | None` or `list[Section]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section, get_args(annotation))), None)
