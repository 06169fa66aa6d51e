"""k-fold validation: every fold is a run of its own, and their mean score is that of the recipe."""

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from pydantic import with_config
from typing_extensions import TypedDict

from sonde import files, recipes
from sonde.recipes import Recipe
from sonde.runs import resume_command
from sonde.strict import EXACT
from sonde.training.resuming import is_finished, read_state


def train_folds(recipe: Recipe, *, resume: bool, train_fold: Callable[[Recipe, bool], Path]) -> Path:
    """Train each fold in its own run folder, and write the mean and spread of their scores into the parent.

    Args:
        recipe: with `data.split.folds`.
        resume: skip finished folds, and continue those that began.
        train_fold: trains one fold: (recipe, resume) to its run folder.

    Raises:
        ValueError: several processes, which would all train every fold.
    """
    root, folds, processes = (
        Path(recipe.output_dir),
        recipe.data.split.folds or 0,
        int(os.environ.get("WORLD_SIZE", "1")),
    )
    if processes > 1:
        raise ValueError(
            f"data.split.folds={folds} trains one fold after the other, and {processes} processes train one run: start "
            f"each fold by itself, as data.split.fold=0 with output_dir={root / 'fold-0'}."
        )
    scores: list[dict[str, float]] = []
    for number in range(folds):
        run = root / f"fold-{number}"
        fold = recipes.load(recipe, [f"output_dir={run}", f"data.split.fold={number}"])
        if not (resume and is_finished(run, fold)):
            train_fold(fold, resume and read_state(run) != "empty")
        scores.append(_read_means(run, scores[0] if scores else ()))
    summary = {name: _average([score[name] for score in scores]) for name in scores[0]}
    (root / "metrics.json").write_text(json.dumps({"folds": len(scores), "metrics": summary}, indent=1))
    return root


@with_config(EXACT)
class FoldMeans(TypedDict):
    """What of a fold's `metrics.json` is averaged."""

    metrics: dict[str, float]


def _read_means(run: Path, names: Collection[str]) -> dict[str, float]:
    """Metric -> mean of a fold's captures; of the names, where there are any."""
    path, remedy = run / "metrics.json", f"remove it, and `{resume_command(run)}` scores the fold again"
    found: FoldMeans = files.read_json(path, FoldMeans, remedy)
    with files.reading(path, remedy):
        if names and set(names) != set(found["metrics"]):
            raise ValueError("its metrics are not those of the first fold")
    return found["metrics"]


def _average(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation over the folds."""
    tensor = torch.tensor(values, dtype=torch.float64)
    return {"mean": tensor.mean().item(), "std": tensor.std().item()}
