"""Train: one recipe in, one run folder out. LoRA, a teacher on renders and a student are the same code.

    arguments   the settings of transformers' trainer
    rates       the learning rate of a whole run
    rendering   renders that are missing
    data        the captures, opened, checked and split
    networks    the network that a recipe names
    fixed       the bench of a fixed camera
    targets     what the network learns to predict
    heads       a head of pixels on frozen features
    sidebyside  pieces of work on several cores at once
    choice      leaving captures out, to choose and to estimate the error
    start       the start of a trained head
    build       the network, adapted to the data
    plan        data and network: everything a run needs
    forecast    what a run would do
    resuming    whether a run can start or resume
    progress    how far a run has come
    steps       the steps of a run
    recording   what a run writes about itself
    folds       k-fold validation
    replaying   a skipped step, repeated

A run folder holds `recipe.yaml` (with all defaults), `split.json`, `metrics.jsonl`, `environment.json`,
`checkpoints/`, `best/` (what `sonde.load` reads, and the model's card), `metrics.json` and `report.html`; with
`save_result` also `results/`, the depth maps of each validation.
"""

import logging
import os
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch.distributed as dist
from transformers import TrainingArguments

from sonde import models, recipes, report
from sonde.checks import Screener
from sonde.files import check_output, lock_folder, writing
from sonde.recipes import Recipe, RecipeSource
from sonde.renamed import keep_old_names
from sonde.runs import Origin, find_origin, resume_command
from sonde.training.arguments import DEFAULTS, build_arguments, parse_numbers
from sonde.training.data import check_settings, plan_recipe_rates
from sonde.training.folds import train_folds
from sonde.training.forecast import (
    DryRun,
    count_captures,
    describe_plan,
    explain_missing,
    find_missing_parts,
    forecast_run,
)
from sonde.training.plan import Plan, prepare
from sonde.training.progress import RunProgress, read_progress
from sonde.training.rates import RatePlan, RateRange, compute_rates, plan_rates, refuse_bad_rates
from sonde.training.recording import record_start, write_card
from sonde.training.rendering import PlannedRender, render_missing
from sonde.training.replaying import replay
from sonde.training.resuming import (
    check_resumable,
    clear_unfinished,
    describe_kept,
    find_newest_checkpoint,
    read_chosen_background,
    refuse_existing_run,
)
from sonde.training.steps import Listener, has_lost_process, take_steps

__all__ = [
    "DEFAULTS",
    "DryRun",
    "Listener",
    "Plan",
    "PlannedRender",
    "RatePlan",
    "RateRange",
    "RunProgress",
    "build_arguments",
    "compute_rates",
    "describe_kept",
    "dry_run",
    "plan_lr",
    "prepare",
    "read_progress",
    "refuse_bad_rates",
    "render_missing",
    "replay",
    "train",
]

log = logging.getLogger("sonde")


def train(
    recipe: RecipeSource,
    overrides: list[str] | None = None,
    *,
    resume: bool = False,
    listener: Listener | None = None,
    check: bool = True,
) -> Path:
    """Run a recipe to its end and return the run folder.

    Args:
        recipe: a packaged name, a YAML file, a run folder, the fields of a recipe, or a Recipe.
        overrides: dotted `key=value`, such as `train.learning_rate=1e-4`.
        resume: continue from the newest complete checkpoint, bit-identically on a CPU.
        listener: called after each step.
        check: look at a few captures first, and refuse a set that is certainly not sound; see `sonde.checks.screen`. A
            run that continues at a checkpoint was checked when it began.

    Raises:
        ValueError: whatever is wrong with the recipe, the data or the model, or not enough memory.
    """
    wanted, origin = find_origin(recipe, overrides or [], resume=resume)
    loaded = parse_numbers(recipes.load(wanted.recipe, wanted.overrides))
    check_output(loaded.output_dir, "output_dir=")
    # One screener for all folds: they have the same captures.
    train_one = partial(_train_run, listener=listener, screener=Screener(check), origin=origin)
    if loaded.data.split.folds and loaded.data.split.fold is None:
        return train_folds(loaded, resume=resume, train_fold=train_one)
    return train_one(loaded, resume)


def _train_run(recipe: Recipe, resume: bool, *, listener: Listener | None, screener: Screener, origin: Origin) -> Path:
    """One run, which no other process may write meanwhile."""
    # Of the processes of one run, the first holds the lock for all.
    with lock_folder(Path(recipe.output_dir)) if os.environ.get("RANK", "0") == "0" else nullcontext():
        try:
            return _train_locked(recipe, resume, listener, screener, origin=origin)
        except RuntimeError as error:
            if not has_lost_process(error):
                raise
            raise ValueError(
                f"Another process of this run has ended, so this one ends too. {recipe.output_dir} keeps its "
                f"checkpoints: start all processes again with `{resume_command(Path(recipe.output_dir))}`."
            ) from None


def _train_locked(
    recipe: Recipe, resume: bool, listener: Listener | None, screener: Screener, *, origin: Origin
) -> Path:
    """Check, render, build, record, train, save, score: in this order, so that a mistake is found early."""
    run = Path(recipe.output_dir)
    checkpoint = find_newest_checkpoint(run) if resume else None
    if not resume:
        refuse_existing_run(run, recipe)
    args = _check_before_rendering(recipe)
    with args.main_process_first(desc="rendering"):
        render_missing(recipe)
    if checkpoint is None:
        plan = prepare(recipe, fitting=True, screener=screener)
    else:
        # A resumed run keeps the bench that it chose, and its fitted head is in the checkpoint.
        plan = prepare(recipe, chosen=read_chosen_background(run))
        check_resumable(plan, checkpoint)
    if plan.is_main:
        if checkpoint is None:
            clear_unfinished(run)
        record_start(plan, origin)
    # A recipe without a step ends with the head that `prepare` has fitted.
    weights = take_steps(plan, checkpoint, listener) if plan.steps else None
    if plan.is_main:
        with writing(run / "best"):
            models.save(plan.model.eval(), run / "best", weights)
        report.finish(run)
        write_card(plan)
    if dist.is_initialized():
        dist.destroy_process_group()
    return run


def _check_before_rendering(recipe: Recipe) -> TrainingArguments:
    """Find mistakes that show without the data, before hours of rendering."""
    recipes.refuse_contradictions(recipe)
    args = check_settings(recipe)
    # A run that counts epochs knows its steps only when its data are open.
    if args.max_steps > 0:
        refuse_bad_rates(plan_rates(args, args.max_steps))
    return args


def dry_run(recipe: RecipeSource, overrides: list[str] | None = None, *, check: bool = True) -> DryRun:
    """Build everything a run needs and say what it would do, without a step and without a file.

    If data are missing, the recipe alone says it: what would be rendered, and what must be fetched first. `check` is as
    for `train`.

    Raises:
        ValueError: whatever is wrong with the recipe, the data or the model.
    """
    loaded = recipes.load(recipe, overrides)
    recipes.refuse_contradictions(loaded)
    check_output(loaded.output_dir, "output_dir=")
    if find_missing_parts(loaded):
        return forecast_run(loaded)
    return describe_plan(prepare(loaded, screener=Screener(check)))


def plan_lr(recipe: RecipeSource, overrides: list[str] | None = None) -> RatePlan:
    """The learning rate of the whole run and its complaints, without a model, a step or a file.

    The data are opened only if the recipe counts epochs. If they are missing, the number of captures that the recipe
    would render, or of the published set, replaces them.

    Raises:
        ValueError: a setting that is wrong, or missing data whose size is not known.
    """
    loaded = recipes.load(recipe, overrides)
    args, images = check_settings(loaded), None
    if args.max_steps <= 0 and (missing := find_missing_parts(loaded)):
        counts = count_captures(loaded)
        if counts is None:
            raise ValueError(f"{explain_missing(missing[0])} Without it the number of steps is not known.")
        images = counts["train"]
        log.info("%s is missing: the rate is drawn for %s training captures.", missing[0].root, f"{images:,}")
    return plan_recipe_rates(loaded, args, images)


keep_old_names(__name__, {"learning_rates": "compute_rates", "training_arguments": "build_arguments"})
