"""The recipe and the split that a run folder holds."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pydantic import with_config
from typing_extensions import TypedDict

from sonde import recipes
from sonde.datasets import DepthSet
from sonde.files import read_json
from sonde.ids import CaptureId
from sonde.recipes import Recipe
from sonde.strict import EXACT
from sonde.types import Space

SPLIT = "split.json"
REMEDY = "restore it from a copy of the run, or train again"

OWN = {"zivid": "zivid-mm", "driving_stereo": "driving-stereo"}
"""Layout -> the protocol that a metric run on it is scored under; `metric` for the others."""


@with_config(EXACT)
class SplitDocument(TypedDict):
    """`split.json`: the captures of each part of a run."""

    train: list[CaptureId]
    validation: list[CaptureId]
    test: list[CaptureId]


@with_config(EXACT)
class StatedSpace(TypedDict):
    """What of a run's `best/sonde.json` its test needs."""

    space: Space


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
    if not (path / "recipe.yaml").is_file() or not (path / SPLIT).is_file():
        return None
    return Run(path, recipes.load(path), read_split(path))


def read_split(run: Path) -> dict[str, list[str]]:
    """Capture ids for train, validation and test, as the folder of a run has them.

    Raises:
        ValueError: a split that cannot be read, or an id that is none.
    """
    split: SplitDocument = read_json(run / SPLIT, SplitDocument, REMEDY)
    return {"train": split["train"], "validation": split["validation"], "test": split["test"]}


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
    stated: StatedSpace = read_json(about, StatedSpace, REMEDY)
    return own_protocol(run.recipe, stated["space"])


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
