"""A run beside what it must beat: baselines that do not look at the image, and the model before training."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from sonde import baselines, models
from sonde.checks import read_screening
from sonde.datasets import DepthSet
from sonde.evaluation.evaluation import Evaluation
from sonde.evaluation.heights import bench_of
from sonde.evaluation.job import evaluate
from sonde.evaluation.predictions import Predictor
from sonde.evaluation.rows import Watcher
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
from sonde.runs import ANSWERS, LeftOutChoice, Run, judged, open_captures, read_choice, read_run, usual_protocol

LOG = logging.getLogger(__name__)


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
        check=False,
    )
    scoreboard = {row: score(answers) for row, answers in _trivial(run, captures, choice)}
    if not drawn:
        base = _before(run.recipe)
        scoreboard[UNADAPTED] = score(base, align="disparity" if base.space == "disparity" else "affine")
    if choice is not None:
        last, scored = LEFT_OUT, evaluate(folder, usual_protocol(run, None), captures, check=False, watch=watch)
        scored = scored.record(predictions=ANSWERS)  # relative to the run, so that the run can be moved
    else:
        last, scored = TRAINED if drawn else ADAPTED, score(models.load_network(folder), watch=watch)
    headline = verdict({**scoreboard, last: scored}, run.recipe)
    # The captures were screened when the run began.
    rows = {**scoreboard, last: scored.record(headline=headline)}
    return {name: each.record(checks=read_screening(folder)) for name, each in rows.items()}


def _trivial(run: Run, captures: DepthSet, choice: LeftOutChoice | None) -> Iterator[tuple[str, Predictor]]:
    """Row and predictor of each baseline that does not look at the image."""
    if captures.space != "metric":
        if ids := run.parts["validation"]:
            yield MEAN_MAP_OF_JUDGES, baselines.fit_mean_map(captures, baselines.find_indices(captures, ids))
        return
    ids = run.parts["train"] if choice is None else choice.ids
    indices = baselines.find_indices(captures, ids)
    for row, make in _makers(run, captures, indices).items() if indices else ():
        if choice is None:
            yield row, make(captures, indices)
        else:
            yield row, baselines.fit_left_out(make, captures, choice.folds)


def _makers(run: Run, captures: DepthSet, indices: Sequence[int]) -> dict[str, baselines.Make]:
    """The baselines that a run on metric captures meets, by their rows."""
    if run.recipe.model.init != "pretrained" and run.recipe.model.background == "none" and not read_choice(run.folder):
        return {MEAN_MAP: baselines.fit_mean_map}
    makers = {
        CONSTANT: baselines.fit_mean_depth,
        MEAN_MAP: baselines.fit_mean_map,
        MEDIAN_MAP: baselines.fit_median_map,
        FAR_MAP: baselines.fit_farthest_map,
    }
    if not baselines.fits_in_memory(captures, indices):
        LOG.warning("No row of the %s: %d captures do not fit into memory at once.", MEDIAN_MAP, len(indices))
        del makers[MEDIAN_MAP]
    return makers


def _before(recipe: Recipe) -> DepthModel:
    wanted = recipe.model
    if wanted.size is not None:
        return models.build(wanted.size, init="pretrained")
    return models.load_network(wanted.origin, calibrated=False, max_depth=wanted.max_depth)
