"""The recipe and the split that a run folder holds."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sonde import recipes
from sonde.datasets import DepthSet
from sonde.files import reading
from sonde.recipes import Recipe
from sonde.types import Space

OWN = {"zivid": "zivid-mm", "driving_stereo": "driving-stereo"}
"""Layout -> the protocol that a metric run on it is scored under; `metric` for the others."""


class Run(NamedTuple):
    """A run folder that was read."""

    folder: Path
    recipe: Recipe
    parts: dict[str, list[str]]
    """Capture ids for train, validation and test."""


def read_run(folder: str | Path) -> Run | None:
    """The recipe and the split of a run folder; None where the folder is none.

    Raises:
        ValueError: a recipe or a split that cannot be read.
    """
    path = Path(folder)
    if not (path / "recipe.yaml").is_file() or not (path / "split.json").is_file():
        return None
    with reading(path / "split.json", "restore it from a copy of the run, or train again"):
        parts = json.loads((path / "split.json").read_text())
    return Run(path, recipes.load(path), parts)


def own_protocol(recipe: Recipe, space: Space = "metric") -> str:
    """The protocol for a run's own test captures, by the space of its model's answers."""
    return "affine-disparity" if space == "disparity" else OWN.get(recipe.data.format, "metric")


def usual_protocol(run: Run | None, format: str | None) -> str:
    """The protocol where the user names none: that of the run's own test, or that of the layout."""
    if run is None or format is not None:
        return OWN.get(format or "zivid", "metric")
    about = run.folder / "best" / "sonde.json"
    if not about.is_file():
        return own_protocol(run.recipe)
    with reading(about, "restore it from a copy of the run, or train again"):
        space = json.loads(about.read_text())["space"]
    return own_protocol(run.recipe, space)


def count_train_overlap(model: object, captures: DepthSet, ids: Iterable[str]) -> int:
    """How many of these captures trained the model of a run folder, or of its `best/`; 0 for a set of another root."""
    if not isinstance(model, str | Path):
        return 0
    path = Path(model)
    run = read_run(path)
    if run is None and path.name == "best":
        run = read_run(path.parent)
    if run is None or captures.root.resolve() != Path(run.recipe.data.root).resolve():
        return 0
    return len(set(ids) & set(run.parts["train"]))
