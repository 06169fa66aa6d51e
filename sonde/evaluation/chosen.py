"""Which captures an evaluation scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sonde.datasets import DepthSet, keep_listed, open_set
from sonde.runs import Run, open_captures
from sonde.spelling import nearest


class Chosen(NamedTuple):
    """The captures to score."""

    ids: list[str]
    words: str
    """Which they are."""


def captures_of(
    data: DepthSet | str | Path | None, format: str | None, run: Run | None, listed: str | Path | None = None
) -> DepthSet:
    """The set that `evaluate` is asked to score on; the run's own as the run reads it.

    Raises:
        ValueError: no set was named, or none is there.
    """
    if isinstance(data, str | Path) or data is None:
        data = _open(data, format, run)
    return data if listed is None else keep_listed(data, Path(listed))


def chosen_of(
    captures: DepthSet, run: Run | None, ids: Sequence[str] | None = None, listed: str | Path | None = None
) -> Chosen:
    """Those given by id or by a list; of a run's own set its test captures; else all.

    Raises:
        ValueError: there are none, or one that the set lacks.
    """
    if ids is not None:
        chosen = Chosen(list(ids), "given by id")
    elif listed is not None:
        chosen = Chosen(list(captures.ids), f"those of {listed}")
    elif run is not None and is_own(captures, run):
        if not run.parts["test"]:
            raise ValueError(
                f"{run.folder} kept no captures for a test: give --data ROOT, captures that it did not train on."
            )
        chosen = Chosen(run.parts["test"], f"test captures of {run.folder}")
    else:
        chosen = Chosen(list(captures.ids), "all captures")
    absent = [id_ for id_ in chosen.ids if id_ not in set(captures.ids)]
    if absent:
        raise ValueError(f"{captures.root} has no capture {absent[0]!r}: {nearest(absent[0], list(captures.ids))}")
    if not chosen.ids:
        raise ValueError(f"No captures to score: the {chosen.words} are none; give ids, or the data of another folder.")
    return chosen


def is_own(captures: DepthSet, run: Run) -> bool:
    """Whether these are the captures that a run began with."""
    return _same(captures.root, run.recipe.data.root)


def format_of(format: str | None, run: Run | None) -> str:
    """The layout that is read where none is given: the run's, else zivid."""
    return format or (run.recipe.data.format if run else "zivid")


def _open(root: str | Path | None, format: str | None, run: Run | None) -> DepthSet:
    if run is not None and (root is None or _same(root, run.recipe.data.root)):
        if format in (None, run.recipe.data.format):
            return open_captures(run.recipe)
        root = run.recipe.data.root
    if root is None:
        raise ValueError("No captures to score on: give data=ROOT, the folder of the set.")
    return open_set(format_of(format, run), root)


def _same(one: str | Path, other: str | Path) -> bool:
    return Path(one).resolve() == Path(other).resolve()
