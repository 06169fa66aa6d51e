"""Scores beside each other: a run against what it must beat, and one model on several sets."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sonde import baselines, models, protocols
from sonde.datasets import DATASETS, DepthSet
from sonde.evaluation.bootstrap import check_level
from sonde.evaluation.evaluation import Evaluation
from sonde.evaluation.heights import bench_of
from sonde.evaluation.job import Watcher, captures_of, chosen_of, evaluate, recorded, score_set
from sonde.evaluation.left_out import ANSWERS, LeftOutChoice, judged, read_choice
from sonde.evaluation.predictions import Predictor, as_asked, folder_of_answers, make_predictor
from sonde.evaluation.runs import Run, count_train_overlap, open_captures, read_run, usual_protocol
from sonde.evaluation.verdict import (
    ADAPTED,
    CONSTANT,
    FAR_MAP,
    LEFT_OUT,
    MEAN_MAP,
    MEAN_MAP_OF_JUDGES,
    MEDIAN_MAP,
    TRAINED,
    UNADAPTED,
    verdict,
)
from sonde.models import DepthModel
from sonde.recipes import Recipe
from sonde.spelling import nearest

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


def evaluate_many(
    model: str | Path,
    sets: Iterable[On],
    protocol: str = "metric",
    *,
    align: str | None = None,
    max_depth_eval: int | float | None = None,
    max_depth: int | float | None = None,
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
        max_depth_eval: as for `evaluate`, of every protocol.
        max_depth: as for `evaluate`.
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
    named = run is not None or not Path(model).is_dir()
    answering = models.load(model, max_depth=max_depth) if named else as_asked(model, max_depth, None)
    mean = None if run is None or align is not None else _mean_map(run)
    bench = bench_of(answering)
    scoreboard: dict[str, Evaluation] = {}
    for each in sets:
        rules = protocols.load(each.protocol or protocol, align, max_depth_eval)
        row = f"{rules.name} on {each.root.name}"
        if row in scoreboard:
            raise ValueError(f"Two sets are both {row!r}: score them one at a time, or name their folders apart.")
        captures = captures_of(each.root, each.format, run, each.listed)
        chosen = chosen_of(captures, run, listed=each.listed)
        place = folder_of(row)
        predictor = make_predictor(answering, rules.cut, keep / place if keep else None)
        own = {row: score_set(*predictor, captures, chosen, rules, watch(row) if watch else None, bench)}
        own[row].settings.update(format=each.format, known=count_train_overlap(model, captures, chosen.ids))
        if (answers := folder_of_answers(model, keep / place if keep else None)) is not None:
            own[row].settings["predictions"] = recorded(answers, out / place if out else None)
        if mean is not None and rules.space == "metric":
            own[f"{row}: {MEAN_MAP}"] = score_set(mean, MEAN_MAP, captures, chosen, rules, bench=bench)
        if ci is not None:
            for scored in own.values():
                scored.settings["ci"] = ci
        if out is not None:
            own[row].write(out / place, own)
        scoreboard |= own
    return scoreboard


def folder_of(row: str) -> str:
    """Where `evaluate_many` writes a row, below the folder it is given."""
    return row.replace(" ", "-")


def score_with_baselines(
    folder: Path, *, part: str | None = None, watch: Watcher | None = None
) -> dict[str, Evaluation]:
    """What a run has gained, on captures that did not train it: baselines and, last, its own row, by their names.

    The baselines do not look at the image: one constant depth, and each pixel's mean, median and farthest depth over
    the training captures. A run of random weights meets the mean map alone, unless it asks for a bench or was chosen
    by leaving captures out. Where training depth is not in metres, that is the mean map of the captures that chose the
    checkpoint, or none where the test captures chose it. The model before training (where it was not drawn at random)
    follows, after a per-image alignment, which sees the answer.

    Where every capture trained, the last row is that of the answers to captures left out, by which the run was
    chosen, and each baseline is made from the captures of the other folds.

    Args:
        folder: the run folder.
        part: of the run's split: `test`, or `validation`; by default what `judged` gives.
        watch: told of every capture scored for the last row.

    Raises:
        ValueError: no run folder, or one that kept no captures to be scored on.
    """
    run = read_run(folder)
    if run is None:
        raise ValueError(f"{folder} is no run folder: expected recipe.yaml and split.json, as `sonde train` writes.")
    part = part or judged(run)
    if part is None:
        raise ValueError(f"{folder} kept no captures to be scored on: set data.split.test, or score others by --data.")
    choice = read_choice(folder) if part == ANSWERS else None
    captures, drawn = open_captures(run.recipe), run.recipe.model.init != "pretrained"
    score = partial(
        evaluate,
        protocol=usual_protocol(run, None),
        data=captures,
        ids=run.parts[part] if choice is None else choice.ids,
        bench=bench_of(folder),
    )
    scoreboard = {row: score(answers) for row, answers in _trivial(run, captures, choice)}
    if not drawn:
        base = _before(run.recipe)
        scoreboard[UNADAPTED] = score(base, align="disparity" if base.space == "disparity" else "affine")
    if choice is not None:
        scoreboard[LEFT_OUT] = evaluate(folder, usual_protocol(run, None), captures, watch=watch)
        scoreboard[LEFT_OUT].settings["predictions"] = ANSWERS  # below the run, wherever it is moved
    else:
        scoreboard[TRAINED if drawn else ADAPTED] = score(models.load(folder), watch=watch)
    list(scoreboard.values())[-1].settings["headline"] = verdict(scoreboard, run.recipe)
    return scoreboard


def _trivial(run: Run, captures: DepthSet, choice: LeftOutChoice | None) -> Iterator[tuple[str, Predictor]]:
    """Row and predictor of each baseline that does not look at the image."""
    if captures.space != "metric":
        if ids := run.parts["validation"]:
            yield MEAN_MAP_OF_JUDGES, baselines.mean_map(captures, baselines.positions(captures, ids))
        return
    ids = run.parts["train"] if choice is None else choice.ids
    indices = baselines.positions(captures, ids)
    for row, make in _makers(run, captures, indices).items() if indices else ():
        if choice is None:
            yield row, make(captures, indices)
        else:
            yield row, baselines.left_out(make, captures, choice.folds)


def _makers(run: Run, captures: DepthSet, indices: Sequence[int]) -> dict[str, baselines.Make]:
    """The baselines that a run on metric captures meets, by their rows."""
    if run.recipe.model.init != "pretrained" and run.recipe.model.background == "none" and not read_choice(run.folder):
        return {MEAN_MAP: baselines.mean_map}
    makers = {
        CONSTANT: baselines.mean_depth,
        MEAN_MAP: baselines.mean_map,
        MEDIAN_MAP: baselines.median_map,
        FAR_MAP: baselines.far_map,
    }
    if not baselines.median_fits(captures, indices):
        LOG.warning("No row of the %s: %d captures do not fit into memory at once.", MEDIAN_MAP, len(indices))
        del makers[MEDIAN_MAP]
    return makers


def _before(recipe: Recipe) -> DepthModel:
    wanted = recipe.model
    if wanted.size is not None:
        return models.build(wanted.size, init="pretrained")
    return models.load(wanted.origin, calibrated=False, max_depth=wanted.max_depth)


def _mean_map(run: Run) -> baselines.ConstantPredictor | None:
    """Of the run's training captures; None, and a warning, where they are gone, and None where they hold no metres."""
    try:
        captures = open_captures(run.recipe)
        indices = baselines.positions(captures, run.parts["train"])
        return baselines.mean_map(captures, indices) if captures.space == "metric" else None
    except ValueError as error:
        LOG.warning("No row of the %s: %s", MEAN_MAP, error)
        return None
