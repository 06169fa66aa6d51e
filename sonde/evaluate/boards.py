"""Scores beside each other: a run against what it must beat, and one model on several sets."""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sonde import baselines, models, protocols
from sonde.datasets import DATASETS, DepthSet
from sonde.evaluate.bootstrap import Interval, check_level, paired
from sonde.evaluate.evaluation import Evaluation
from sonde.evaluate.job import Watcher, captures_of, chosen_of, evaluate, recorded, score_set
from sonde.evaluate.predictions import folder_of_answers, predictor_of
from sonde.evaluate.runs import Run, known_to, open_captures, own_protocol, read_run
from sonde.models import DepthModel
from sonde.recipes import Recipe, nearest

MEAN_MAP = "mean depth map of the training set"
MEAN_MAP_OF_JUDGES = "mean depth map of the validation set"
UNADAPTED = "unadapted model, aligned per image"
ADAPTED = "adapted model"
TRAINED = "trained model"
"""What the last row is called where the weights were drawn at random."""

LOG = logging.getLogger(__name__)


class On(NamedTuple):
    """One of several sets to score on."""

    format: str
    """A name in DATASETS."""
    root: Path
    protocol: str | None = None
    """A packaged name; None takes the one given for all."""
    listed: Path | None = None
    """A file of the captures to score; None takes all."""


def parse_on(text: str) -> On:
    """A set as the command line spells it: FORMAT:ROOT[@PROTOCOL][#LIST].

    Raises:
        ValueError: no FORMAT:ROOT, or a format that is not there.
    """
    format_, colon, rest = text.partition(":")
    if not (colon and rest):
        raise ValueError(f"--on {text!r}: expected FORMAT:ROOT[@PROTOCOL][#LIST], such as kitti:data/kitti@kitti-garg.")
    if format_ not in DATASETS:
        raise ValueError(f"--on {text!r}: no dataset format {format_!r}; {nearest(format_, list(DATASETS))}")
    rest, _, listed = rest.partition("#")
    root, _, protocol = (rest, "", "") if Path(rest).is_dir() else rest.partition("@")
    return On(format_, Path(root), protocol or None, Path(listed) if listed else None)


def on_sets(
    model: str | Path,
    sets: Iterable[On],
    protocol: str = "metric",
    *,
    align: str | None = None,
    ci: int | float | None = None,
    out: str | Path | None = None,
    keep: str | Path | None = None,
    watch: Callable[[str], Watcher] | None = None,
) -> dict[str, Evaluation]:
    """One model on several sets: a row for each and, after it, the mean depth map of the run's training captures.

    The mean map is resized to each set, so that it also shows what a change of camera alone costs. It is there for
    runs on metric captures, under protocols of metric depth.

    Args:
        model: a run folder, a name `sonde.load` takes, or a folder of predictions.
        sets: where to score; a set of the run's own root is its test captures.
        protocol: of the sets that name none.
        align: as for `evaluate`; the mean map is then left out.
        ci: the level of intervals in every row, as for `evaluate`.
        out: a folder for `metrics.json` and `per_image.csv` of each set, in a folder of its row's name.
        keep: a folder for the predictions, in folders likewise.
        watch: given a row's name, what is told of every capture that the model itself is scored on for it.

    Raises:
        ValueError: as `evaluate`; or two sets that would be one row.
    """
    check_level(ci)
    out, keep = (None if folder is None else Path(folder) for folder in (out, keep))
    run = read_run(model)
    answering = models.load(model) if run is not None or not Path(model).is_dir() else model
    mean = None if run is None or align is not None else _mean_map(run)
    board: dict[str, Evaluation] = {}
    for each in sets:
        rules = protocols.load(each.protocol or protocol, align)
        row = f"{rules.name} on {each.root.name}"
        if row in board:
            raise ValueError(f"Two sets are both {row!r}: score them one at a time, or name their folders apart.")
        captures = captures_of(each.root, each.format, run, each.listed)
        chosen = chosen_of(captures, run, listed=each.listed)
        place = folder_of(row)
        named = predictor_of(answering, rules.cut, keep / place if keep else None)
        own = {row: score_set(*named, captures, chosen, rules, watch(row) if watch else None)}
        own[row].settings.update(format=each.format, known=known_to(model, captures, chosen.ids))
        if (answers := folder_of_answers(model, keep / place if keep else None)) is not None:
            own[row].settings["predictions"] = recorded(answers, out / place if out else None)
        if mean is not None and rules.space == "metric":
            own[f"{row}: {MEAN_MAP}"] = score_set(mean, MEAN_MAP, captures, chosen, rules)
        if ci is not None:
            for scored in own.values():
                scored.settings["ci"] = ci
        if out is not None:
            own[row].write(out / place, own)
        board |= own
    return board


def folder_of(row: str) -> str:
    """Where `on_sets` writes a row, below the folder it is given."""
    return row.replace(" ", "-")


def scoreboard(folder: Path, *, part: str = "test", watch: Watcher | None = None) -> dict[str, Evaluation]:
    """What a run has gained, on its own test captures: two baselines and, last, its model, by what they are called.

    The baselines are the mean depth map of the training captures (of those that chose the checkpoint, where the
    training depth is not in metres; it is left out where the test captures chose it), and the model before training
    (where it was not drawn at random) after a per-image alignment, which sees the answer.

    Args:
        folder: the run folder.
        part: of the run's split: `test`, or `validation` where nothing was kept for the test.
        watch: told of every capture scored with the run's model.

    Raises:
        ValueError: no run folder, or one that kept no captures for the test.
    """
    run = read_run(folder)
    if run is None:
        raise ValueError(f"{folder} is no run folder: expected recipe.yaml and split.json, as `sonde train` writes.")
    captures, model = open_captures(run.recipe), models.load(folder)
    protocol = own_protocol(run.recipe, model.space)
    ids = run.parts[part]
    row, source = (MEAN_MAP, "train") if captures.space == "metric" else (MEAN_MAP_OF_JUDGES, "validation")
    board: dict[str, Evaluation] = {}
    if run.parts[source]:
        board[row] = evaluate(_mean_of(captures, run.parts[source]), protocol, captures, ids=ids)
    if run.recipe.model.init == "pretrained":
        base = _before(run.recipe)
        align = "disparity" if base.space == "disparity" else "affine"
        board[UNADAPTED] = evaluate(base, protocol, captures, ids=ids, align=align)
    own = ADAPTED if run.recipe.model.init == "pretrained" else TRAINED
    board[own] = evaluate(model, protocol, captures, ids=ids, watch=watch)
    return board


def difference(one: Evaluation, other: Evaluation, level: int | float = 95) -> dict[str, Interval]:
    """Metric -> mean difference of two evaluations of the same images, one - other, and its paired interval.

    Raises:
        ValueError: other images, or another protocol, whose numbers would differ by themselves.
    """
    if one.protocol != other.protocol or one.settings["protocol"] != other.settings["protocol"]:
        raise ValueError(f"Scores under {one.protocol} and {other.protocol} differ by protocol: score both under one.")
    limits = [scored.settings.get("limits") for scored in (one, other)]
    if limits[0] != limits[1]:
        raise ValueError(f"Scores of depth read within {limits[0]} and {limits[1]} differ by that: read both alike.")
    names = [name for name in one.metrics if name in other.metrics]
    return paired(one.rows, other.rows, names, level)


def _before(recipe: Recipe) -> DepthModel:
    size = recipe.model.size
    return models.build(size, init="pretrained") if size else models.load(recipe.model.name, calibrated=False)


def _mean_of(captures: DepthSet, ids: Sequence[str]) -> baselines.Always:
    position = {name: index for index, name in enumerate(captures.ids)}
    absent = [id_ for id_ in ids if id_ not in position]
    if absent:
        raise ValueError(f"{captures.root} lacks {len(absent)} captures of the run's split, first {absent[0]!r}.")
    return baselines.mean_map(captures, [position[id_] for id_ in ids])


def _mean_map(run: Run) -> baselines.Always | None:
    """Of the run's training captures; None, and a warning, where they are gone, and None where they hold no metres."""
    try:
        captures = open_captures(run.recipe)
        return _mean_of(captures, run.parts["train"]) if captures.space == "metric" else None
    except ValueError as error:
        LOG.warning("No row of the %s: %s", MEAN_MAP, error)
        return None
