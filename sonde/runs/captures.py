"""The captures that a recipe names, opened as one set."""

from collections.abc import Sequence
from pathlib import Path

from sonde.datasets import DepthSet, JoinedSet, drop_rejected, keep_confident, keep_listed, open_set
from sonde.recipes import Part, Recipe
from sonde.spelling import quantify


def open_captures(recipe: Recipe) -> DepthSet:
    """The captures that a recipe names, under the ids that its split lists; `data.measured` comes last.

    Raises:
        ValueError: a set that is missing, named twice, or that is no measured depth where `data.measured` names it.
    """
    data = recipe.data
    first = _open(data, data.min_depth, data.max_depth)
    if data.min_confidence is not None:
        first = keep_confident(first, data.min_confidence)
    sets = [first, *(_open(part) for part in data.also)]
    counts = [part.repeat for part in (data, *data.also)]
    if data.measured is not None:
        sets.append(_open(data.measured))
        counts.append(1)
        if sets[-1].space != "metric":
            raise ValueError(
                f"data.measured.root={data.measured.root} holds a model's labels: expected measured depth."
            )
    _refuse_twice(sets)
    parts = [one for one, times in zip(sets, counts, strict=True) for _ in range(times)]
    return JoinedSet(parts) if len(parts) > 1 else parts[0]


def measured_ids(recipe: Recipe, captures: DepthSet) -> list[str]:
    """The ids of `data.measured` among those of `open_captures`."""
    # JoinedSet numbers its parts from 0, and `measured` comes after all others.
    prefix = f"{sum(part.repeat for part in (recipe.data, *recipe.data.also))}-"
    return [id_ for id_ in captures.ids if id_.startswith(prefix)]


def _open(part: Part, min_depth: float | None = None, max_depth: float | None = None) -> DepthSet:
    found = open_set(part.format, part.root, min_depth=min_depth, max_depth=max_depth)
    if part.only:
        found = keep_listed(found, Path(part.only))
    if part.reject:
        found = drop_rejected(found, Path(part.reject))
    return found


def _refuse_twice(parts: Sequence[DepthSet]) -> None:
    """Refuse a capture that two parts hold: it could train the model and judge it."""
    seen: set[tuple[Path, str]] = set()
    for part in parts:
        own = {(part.root.resolve(), id_) for id_ in part.ids}
        twice = own & seen
        if twice:
            raise ValueError(
                f"data names {part.root} twice, with {quantify(len(twice), 'shared capture')}, first "
                f"{min(twice)[1]!r}: a capture "
                "could train and be judged. Name the set once, or split it with data.only."
            )
        seen |= own
