"""What a run folder says of itself: its recipe, its split, its captures, its protocol."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sonde import recipes
from sonde.datasets import DepthSet, Joined, confident, only, open_set, without
from sonde.recipes import Part, Recipe
from sonde.types import Space

OWN = {"zivid": "zivid-mm", "driving_stereo": "driving-stereo"}
"""Layout -> the protocol that a metric run on it is scored under; `metric` for the others."""


class Run(NamedTuple):
    """What a run folder says of itself."""

    folder: Path
    recipe: Recipe
    parts: dict[str, list[str]]
    """Capture ids for train, validation and test."""


def own_protocol(recipe: Recipe, space: Space = "metric") -> str:
    """The protocol that a run's own test is scored under, by what its model answers."""
    return "affine-disparity" if space == "disparity" else OWN.get(recipe.data.format, "metric")


def usual_protocol(run: Run | None, format: str | None) -> str:
    """What scores a run's own test, or captures of another layout, where nobody says how."""
    if run is None or format is not None:
        return OWN.get(format or "zivid", "metric")
    about = run.folder / "best" / "sonde.json"
    return own_protocol(run.recipe, json.loads(about.read_text())["space"] if about.is_file() else "metric")


def read_run(folder: str | Path) -> Run | None:
    """The recipe and the split of a run folder; None where the folder is none."""
    path = Path(folder)
    if not (path / "recipe.yaml").is_file() or not (path / "split.json").is_file():
        return None
    return Run(path, recipes.load(path), json.loads((path / "split.json").read_text()))


def count_train_overlap(model: object, captures: DepthSet, ids: Iterable[str]) -> int:
    """How many of these captures a run, or the best weights in one, was trained on; 0 where the set is another's."""
    path = Path(model) if isinstance(model, str | Path) else None
    run = path and (read_run(path) or (read_run(path.parent) if path.name == "best" else None))
    if not run or captures.root.resolve() != Path(run.recipe.data.root).resolve():
        return 0
    return len(set(ids) & set(run.parts["train"]))


def open_captures(recipe: Recipe) -> DepthSet:
    """The captures a recipe names, under the ids its split lists; those that judge it come last."""
    data = recipe.data
    first = _opened(data, data.min_depth, data.max_depth)
    if data.min_confidence is not None:
        first = confident(first, data.min_confidence)
    parts = [first, *map(_opened, data.also)]
    if data.measured is not None:
        parts.append(_opened(data.measured))
        if parts[-1].space != "metric":
            raise ValueError(
                f"data.measured.root={data.measured.root} holds labels of a model: expected measured depth."
            )
    _refuse_twice(parts)
    return Joined(parts) if len(parts) > 1 else parts[0]


def _refuse_twice(parts: Sequence[DepthSet]) -> None:
    """A capture that two parts hold would train and be judged."""
    seen: set[tuple[Path, str]] = set()
    for part in parts:
        own = {(part.root.resolve(), id_) for id_ in part.ids}
        if twice := own & seen:
            raise ValueError(
                f"{part.root} is named twice in data, and {len(twice)} captures with it, first {min(twice)[1]!r}: they "
                "could train and be judged; name it once, or cut it by data.only."
            )
        seen |= own


def measured_ids(recipe: Recipe, captures: DepthSet) -> list[str]:
    """The ids of `data.measured` among those of `open_captures`."""
    return [id_ for id_ in captures.ids if id_.startswith(f"{len(recipe.data.also) + 1}-")]


def _opened(part: Part, min_depth: float | None = None, max_depth: float | None = None) -> DepthSet:
    found = open_set(part.format, part.root, min_depth=min_depth, max_depth=max_depth)
    found = only(found, Path(part.only)) if part.only else found
    return without(found, Path(part.reject)) if part.reject else found
