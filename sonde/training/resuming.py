"""Whether a run folder can start a run, or resume one; nothing is written here."""

import logging
import shlex
import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Literal

from sonde import recipes
from sonde.cards import CARD
from sonde.recipes import RECORD, Recipe, RecipeSource
from sonde.runs import find_run, read_choice, read_split, resume_command
from sonde.spelling import quantify
from sonde.training.arguments import DEFAULTS, takes_no_step
from sonde.training.plan import Plan

log = logging.getLogger("sonde")

RunState = Literal["empty", "stopped", "finished"]
"""No run, or one that was stopped before its first checkpoint; one with checkpoints; one that ended."""

NEW_FOLDER = "choose a new output_dir"
STEPS = "STEPS"
"""What stands for a larger number in a command."""

LEFTOVERS = ("best", "blackbox", "checkpoints", "choice.json", "left-out", "metrics.jsonl", "results", "tensorboard")
"""What a run writes before its first checkpoint, below its folder."""


def read_state(run: Path) -> RunState:
    """What a folder holds of a run.

    A run that ended has the card of its model, which is written last. A folder without a complete checkpoint and
    without a model has nothing that a new run could lose.
    """
    if any((run / name).exists() for name in (f"best/{CARD}", "metrics.json", "report.html")):
        return "finished"
    return "stopped" if list_checkpoints(run) else "empty"


def list_checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints, oldest first; an incomplete one has another name."""
    found = (path for path in (run / "checkpoints").glob("checkpoint-*") if (path / "trainer_state.json").is_file())
    return sorted(found, key=read_step)


def refuse_existing_run(run: Path, recipe: Recipe) -> None:
    """Refuse a folder that holds a run, which a new run would overwrite.

    Raises:
        ValueError: the folder has checkpoints or a result.
    """
    state = read_state(run)
    if state == "empty":
        return
    folder = f"{NEW_FOLDER}, such as output_dir={suggest_folder(run)}"
    # A run without a step has no checkpoint to resume from.
    if takes_no_step(recipe):
        raise ValueError(f"{run} already holds a run: {folder}.")
    if state == "finished":
        more = resume_command(run, f"train.max_steps={STEPS}")
        raise ValueError(f"{run} already holds a finished run: `{more}` gives it more steps; for a new run {folder}.")
    raise ValueError(
        f"{run} already holds a run that stopped after step {read_step(list_checkpoints(run)[-1])}: "
        f"`{resume_command(run)}` continues it; for a new run {folder}."
    )


def suggest_folder(run: Path) -> Path:
    """The first free name beside a run folder: runs/x-2 for runs/x."""
    return next(path for number in count(2) if not (path := run.with_name(f"{run.name}-{number}")).exists())


def describe_kept(recipe: RecipeSource, overrides: Sequence[str]) -> str:
    """What a run that was interrupted keeps, and the command that goes on.

    Raises:
        ValueError: no such recipe, or an override that is none.
    """
    run = find_run(recipe, overrides)
    if list_checkpoints(run) or (run / "fold-0" / RECORD).is_file():
        return f"Complete checkpoints are kept: `{resume_command(run)}` goes on from the newest."
    if read_state(run) == "finished":
        return f"The trained model is kept: `{shlex.join(('sonde', 'eval', str(run)))}` scores it."
    return "No checkpoint was complete yet: give the same command again."


def find_newest_checkpoint(run: Path) -> Path | None:
    """The newest complete checkpoint; None for a run that was stopped before its first one, which starts again.

    Raises:
        ValueError: the folder has no run, or a finished one without checkpoints.
    """
    if found := list_checkpoints(run):
        return found[-1]
    if read_state(run) == "finished":
        raise ValueError(f"Cannot resume {run}: it is finished, and its checkpoints are gone; {NEW_FOLDER}.")
    if not any((run / name).exists() for name in (RECORD, "checkpoints")):
        raise ValueError(f"Cannot resume {run}: it holds no run. Start it without --resume.")
    log.info("%s has no complete checkpoint yet: the run starts from its first step.", run)
    return None


def clear_unfinished(run: Path) -> None:
    """Remove what a run left that was stopped before its first checkpoint: a new run would add to it."""
    if (run / RECORD).is_file() and read_state(run) == "empty":
        for name in LEFTOVERS:
            path = run / name
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


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
    step = read_step(checkpoint)
    if step >= plan.steps and began != plan.recipe:
        raise ValueError(
            f"{plan.run} is finished after {quantify(step, 'step')}, and the changed recipe would train nothing. "
            f"Give it more (`{resume_command(plan.run, f'train.max_steps={STEPS}')}`), or {NEW_FOLDER}."
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
    return recipes.load(run / RECORD).model_copy(update={"output_dir": recipe.output_dir})


def read_step(checkpoint: Path) -> int:
    """The step of a checkpoint, by its name."""
    return int(checkpoint.name.rpartition("-")[2])


def _check_captures(plan: Plan) -> None:
    """A run must keep its split: otherwise a capture that trained it could judge it."""
    if (plan.run / "split.json").is_file() and read_split(plan.run) != plan.parts:
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
