"""k-fold validation: every fold is a run of its own, and their mean score is that of the recipe."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import torch

from sonde import recipes
from sonde.recipes import Recipe
from sonde.training.resuming import is_finished


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
    scores = []
    for number in range(folds):
        run = root / f"fold-{number}"
        fold = recipes.load(recipe, [f"output_dir={run}", f"data.split.fold={number}"])
        if not (resume and is_finished(run, fold)):
            train_fold(fold, resume and (run / "checkpoints").is_dir())
        scores.append(json.loads((run / "metrics.json").read_text())["metrics"])
    summary = {name: _average([score[name] for score in scores]) for name in scores[0]}
    (root / "metrics.json").write_text(json.dumps({"folds": len(scores), "metrics": summary}, indent=1))
    return root


def _average(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation over the folds."""
    tensor = torch.tensor(values, dtype=torch.float64)
    return {"mean": tensor.mean().item(), "std": tensor.std().item()}
