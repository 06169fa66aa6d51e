"""Whether a run folder can start a run, or resume one; nothing is written here."""

import json
from pathlib import Path

from sonde import recipes
from sonde.recipes import Recipe
from sonde.runs import read_choice
from sonde.training.arguments import DEFAULTS, takes_no_step
from sonde.training.plan import Plan

NEW_FOLDER = "choose a new output_dir"


def refuse_existing_run(run: Path, recipe: Recipe) -> None:
    """Refuse a folder that holds a run, which a new run would overwrite.

    Raises:
        ValueError: the folder has checkpoints or a result.
    """
    if any((run / name).exists() for name in ("checkpoints", "best")):
        # A run without a step has no checkpoint to resume from.
        resume = "" if takes_no_step(recipe) else "continue it with --resume, or "
        raise ValueError(f"{run} already holds a run: {resume}{NEW_FOLDER}.")


def find_newest_checkpoint(run: Path) -> Path:
    """The newest complete checkpoint; an incomplete one has another name.

    Raises:
        ValueError: there is none.
    """
    found = sorted((run / "checkpoints").glob("checkpoint-*"), key=_read_step)
    if not found:
        raise ValueError(f"Cannot resume {run}: it has no complete checkpoint. Start it without --resume.")
    return found[-1]


def read_chosen_background(run: Path) -> str | None:
    """The kind of bench that leaving captures out chose when the run began; None if nothing was chosen."""
    choice = read_choice(run)
    return None if choice is None else str(choice.chosen["background"])


def check_resumable(plan: Plan, checkpoint: Path) -> None:
    """Check that a plan continues the run that began in its folder.

    Raises:
        ValueError: other captures, a changed setting that must stay, a finished run that is asked for anything but
            more steps, or a checkpoint of weights alone.
    """
    _check_captures(plan)
    began = read_recorded_recipe(plan.run, plan.recipe)
    step = _read_step(checkpoint)
    if step >= plan.steps and began != plan.recipe:
        raise ValueError(
            f"{plan.run} is finished after {step} steps, and the changed recipe would train nothing. Raise "
            f"train.max_steps, or {NEW_FOLDER}."
        )
    _check_fixed_settings(plan, began)
    for name in ("optimizer.pt", "scheduler.pt"):
        if not (checkpoint / name).is_file():
            raise ValueError(
                f"Cannot resume {plan.run}: {checkpoint} has no {name}, which train.save_only_model leaves out. "
                f"Restore the file, or {NEW_FOLDER}."
            )


def is_finished(run: Path, recipe: Recipe) -> bool:
    """Whether a run has ended with exactly this recipe."""
    return (run / "metrics.json").is_file() and read_recorded_recipe(run, recipe) == recipe


def read_recorded_recipe(run: Path, recipe: Recipe) -> Recipe:
    """The recipe in a run folder, with the output folder of `recipe`: the folder may have been moved since."""
    return recipes.load(run / "recipe.yaml").model_copy(update={"output_dir": recipe.output_dir})


def _read_step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _check_captures(plan: Plan) -> None:
    """A run must keep its split: otherwise a capture that trained it could judge it."""
    split = plan.run / "split.json"
    if split.is_file() and json.loads(split.read_text()) != plan.parts:
        raise ValueError(
            f"Cannot resume {plan.run}: the captures or their split have changed; {plan.captures.root} now has "
            f"{len(plan.captures.ids)} captures. Restore them, or {NEW_FOLDER}."
        )


def _check_fixed_settings(plan: Plan, began: Recipe) -> None:
    before, now = _list_fixed_settings(began), _list_fixed_settings(plan.recipe)
    for name in before:
        if before[name] != now[name]:
            raise ValueError(
                f"Cannot resume {plan.run}: {name} changed from {before[name]} to {now[name]}. "
                f"Restore {name}={before[name]}, or {NEW_FOLDER}."
            )


def _list_fixed_settings(recipe: Recipe) -> dict[str, object]:
    """The settings that a resumed run must keep: its scores are compared with earlier ones, its optimizer has state."""
    return {
        "loss": recipe.model_dump()["loss"],
        "align_features": recipe.align_features,
        "data.max_depth_eval": recipe.data.max_depth_eval,
        "train.metric_for_best_model": recipe.train.get("metric_for_best_model", DEFAULTS["metric_for_best_model"]),
        "train.optim": recipe.train.get("optim"),
        # The decay may change; an average that did not run from the start cannot be continued.
        "ema": recipe.ema and "a decay",
    }
