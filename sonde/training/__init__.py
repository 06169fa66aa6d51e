"""Train: one recipe in, one run folder out. Fine-tuning by LoRA, a teacher on renders and a student are the same code.

A run folder holds `recipe.yaml` (every default resolved), `split.json`, `metrics.jsonl`, `environment.json`,
`checkpoints/`, `best/` (what `sonde.load` reads, and the model's card), `metrics.json` and `report.html`; where the
recipe saves them, `results/` holds the depth maps of each validation.
"""

import json
import logging
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import EarlyStoppingCallback, TrainerCallback

from sonde import cards, files, models, recipes, report
from sonde.evaluation.left_out import read_choice
from sonde.recipes import Recipe
from sonde.trainer import (
    BatchTrace,
    DepthTrainer,
    JsonLines,
    Objective,
    Pace,
    Progress,
    Results,
    SkippedStep,
    Stopped,
    blackbox,
)
from sonde.trainer.reporting import reporters
from sonde.training.arguments import DEFAULTS, optimizer, takes_no_step, training_arguments, with_numbers
from sonde.training.data import check_settings, planned_rates
from sonde.training.forecast import absent, count_captures, forecast, how_to_get
from sonde.training.plan import Plan, prepare
from sonde.training.rates import RatePlan, learning_rates, plan_rates, refuse_bad_rates
from sonde.training.rendering import render_missing

__all__ = [
    "DEFAULTS", "Plan", "RatePlan", "dry_run", "learning_rates", "plan_lr", "prepare", "refuse_bad_rates",
    "render_missing", "replay", "train", "training_arguments",
]  # fmt: skip

log = logging.getLogger("sonde")

Listener = Callable[[int, int, dict[str, float]], None]
"""(step, of steps, newest numbers)."""


def train(
    recipe: str | Path | dict[str, Any] | Recipe,
    overrides: list[str] | None = None,
    *,
    resume: bool = False,
    listener: Listener | None = None,
) -> Path:
    """Run a recipe to its end and return the run folder.

    Args:
        recipe: a packaged name, a YAML file, a dictionary or a Recipe.
        overrides: dotted `key=value`, such as `train.learning_rate=1e-4`.
        resume: continue from the newest complete checkpoint, bit-identically on a CPU.
        listener: told every step.

    Raises:
        ValueError: whatever is wrong with the recipe, the data or the model, or memory that does not suffice.
    """
    recipe = with_numbers(recipes.load(recipe, overrides))
    if recipe.data.split.folds and recipe.data.split.fold is None:
        return _all_folds(recipe, resume, listener)
    run = Path(recipe.output_dir)
    checkpoint = _newest(run) if resume else None
    if not resume and any((run / name).exists() for name in ("checkpoints", "best")):
        goes_on = "" if takes_no_step(recipe) else "continue it with --resume, or "
        raise ValueError(f"{run} already holds a run: {goes_on}give another output_dir.")
    recipes.refuse_contradictions(recipe)
    args = check_settings(recipe)
    if args.max_steps > 0:  # known before a render
        refuse_bad_rates(plan_rates(args, args.max_steps))
    with args.main_process_first(desc="rendering"):
        render_missing(recipe)
    plan = prepare(recipe, chosen=_chosen_before(run)) if resume else prepare(recipe, fitting=True)
    if checkpoint is not None:
        _check_continues(plan, checkpoint)
    if plan.main:
        _record(plan)
    weights = _fit(plan, checkpoint, listener) if plan.steps else None
    if plan.main:
        models.save(plan.model.eval(), run / "best", weights)
        report.finish(run)
        _write_card(plan)
    if dist.is_initialized():
        dist.destroy_process_group()
    return run


def dry_run(recipe: str | Path | dict[str, Any] | Recipe, overrides: list[str] | None = None) -> dict[str, Any]:
    """Build everything a run needs and say what it would do, without a step and without a file.

    Where data are not there, what the recipe alone tells: `render` is what would be rendered, `missing` what must be
    fetched first.
    """
    loaded = recipes.load(recipe, overrides)
    if absent(loaded):
        return forecast(loaded)
    plan = prepare(loaded)
    parameters = list(plan.model.network.parameters())
    encoding = plan.model.encoding
    return {
        "model": plan.model.name,
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "total_parameters": sum(p.numel() for p in parameters),
        "steps": plan.steps,
        "learning_rate": plan.rates.summary()["learning_rate"],
        "split": {name: len(ids) for name, ids in plan.parts.items()},
        "chosen_by": "captures left out" if plan.recipe.choose else plan.chooser,
        "range": encoding and [bound / plan.captures.unit_m for bound in (encoding.min_depth, encoding.max_depth)],
        "unit": plan.captures.unit,
        "output_dir": str(plan.run),
    }


def plan_lr(recipe: str | Path | dict[str, Any] | Recipe, overrides: list[str] | None = None) -> RatePlan:
    """The whole run's learning rate and what is wrong with it, without a model, a step or a file.

    The data are opened only where the recipe counts epochs. Where they are not there, the number of captures that the
    recipe would render, or that was published, stands for them.

    Raises:
        ValueError: a setting that is wrong, or data that are not there and whose size is not known.
    """
    loaded = recipes.load(recipe, overrides)
    args, images = check_settings(loaded), None
    if args.max_steps <= 0 and (missing := absent(loaded)):
        counts = count_captures(loaded)
        if counts is None:
            raise ValueError(f"{how_to_get(missing[0])} Without it the number of steps is not known.")
        images = counts["train"]
        log.info("%s is not there: the rate is drawn for %s training captures.", missing[0].root, f"{images:,}")
    return planned_rates(loaded, args, images)


def replay(run: Path | str, step: int | None = None) -> tuple[SkippedStep, list[BatchTrace]]:
    """Take a skipped step again: its recipe, its weights, its samples and its luck, on this machine.

    Args:
        run: the run folder.
        step: one that left a black box; None takes the newest.

    Returns:
        The box, and what its batches show now, up to the first in which something is wrong.

    Raises:
        ValueError: no such box, or one whose weights are no longer kept.
    """
    run = Path(run)
    folder = blackbox.find(run, step)
    box = blackbox.read(folder)
    weights, rng_state = blackbox.state(folder, box)
    recipe = recipes.load(folder, [f"output_dir={run}", "train.fsdp=null"])
    trainer = _trainer(prepare(recipe, chosen=_chosen_before(run)), [])
    missing = trainer.depth_model.network.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys
    trainer.accelerator.prepare_model(
        trainer.depth_model.network, evaluation_mode=True
    )  # half precision, as in the run
    shown = []
    for batch, states in zip(box.batches, rng_state, strict=True):
        shown.append(trainer.trace(trainer.again(batch), states, box.scale))
        if not shown[-1].finite:
            break
    return box, shown


def _trainer(plan: Plan, callbacks: list[TrainerCallback]) -> DepthTrainer:
    recipe = plan.recipe
    by_epoch = plan.args.eval_strategy == "epoch"
    results = Results(plan.run / "results", plan.captures.ids, plan.model, by_epoch=by_epoch)
    return DepthTrainer(
        Objective(plan.model, recipe.loss, recipe.align_features),
        plan.args,
        train=plan.samples("train", augment=True),
        validation=plan.samples(plan.chooser) if plan.chooser else None,
        callbacks=callbacks,
        encoder_learning_rate=recipe.model.encoder_learning_rate,
        ema=recipe.ema,
        clip_value=recipe.clip_value,
        optimizer=optimizer(recipe, plan.args),
        sharded=plan.sharded,
        results=results if recipe.save_result else None,
        freeze_norm=recipe.model.freeze_norm,
    )


def _fit(plan: Plan, checkpoint: Path | None, listener: Listener | None) -> dict[str, torch.Tensor] | None:
    """Train to the end; the whole weights where they are sharded, else they are in the plan's model."""
    pace = Pace(plan.recipe.val_freq, plan.recipe.save_freq)
    callbacks = [JsonLines(plan.run / "metrics.jsonl"), pace, *reporters(plan.recipe, plan.args)]
    if plan.recipe.early_stopping is not None:
        callbacks.append(EarlyStoppingCallback(plan.recipe.early_stopping))
    if listener and plan.main:
        callbacks.append(Progress(listener))
    trainer = _trainer(plan, callbacks)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except Stopped as stopped:
        raise Stopped(f"{stopped}. {_what_is_left(plan, trainer)}") from None
    except ValueError as error:
        raise ValueError(_without_trace(str(error))) from None
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        raise ValueError(_memory_remedy(plan)) from None
    return _weights(trainer)


def _weights(trainer: DepthTrainer) -> dict[str, torch.Tensor] | None:
    if trainer.average is not None:
        trainer.average.apply()
    return trainer.weights()


def _what_is_left(plan: Plan, trainer: DepthTrainer) -> str:
    """Of a run that stopped: keep its best checkpoint as `best/`, and say how to go on."""
    explained = f"`sonde doctor {plan.run}` explains"
    if not list((plan.run / "checkpoints").glob("checkpoint-*")):
        return f"No checkpoint had been written: {explained}; begin again in another output_dir."
    kept = ""
    if trainer.restore_best():
        weights = _weights(trainer)
        if plan.main:
            models.save(plan.model.eval(), plan.run / "best", weights)
        kept = f"{plan.run / 'best'} is the best checkpoint so far; "
    return f"{kept}{explained}; --resume goes on from the newest checkpoint."


def _without_trace(message: str) -> str:
    """What a worker process said; torch hands it on with its whole traceback."""
    return message.strip().rpartition("\nValueError: ")[2] if "\nOriginal Traceback" in message else message


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _memory_remedy(plan: Plan) -> str:
    height, width = plan.recipe.model.input_size or (0, 0)
    step = plan.model.spec.multiple
    smaller = [max(step, round(side * 0.7 / step) * step) for side in (height, width)]
    advice = ["train.gradient_checkpointing=true (about a third of the memory, a third slower)"]
    if plan.args.per_device_train_batch_size > 1:
        advice.append(
            "train.per_device_train_batch_size=1 with more gradient_accumulation_steps (memory falls with it)"
        )
    if height:
        advice.append(f"model.input_size={smaller} (about half the memory)".replace(" ", "", 1))
    return f"Memory does not suffice for this run; its checkpoints are kept. Try {'; or '.join(advice)}."


def _newest(run: Path) -> Path:
    """The newest complete checkpoint; one that was being written never bears its name."""
    found = sorted((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    if not found:
        raise ValueError(f"{run} has no complete checkpoint to resume from: start it without --resume.")
    return found[-1]


def _check_continues(plan: Plan, checkpoint: Path) -> None:
    """What goes on is what began; nothing has been written yet.

    Raises:
        ValueError: the captures are others than the run began with, or what judges it or turns its steps is; a
            finished run is asked for something else; or the checkpoint holds weights alone.
    """
    split = plan.run / "split.json"
    if split.is_file() and json.loads(split.read_text()) != plan.parts:
        raise ValueError(
            f"{plan.run} began with other captures or another split of them than {plan.captures.root} gives now "
            f"({len(plan.captures.ids)} captures): put them back as they were, or train anew with another output_dir."
        )
    step = int(checkpoint.name.rpartition("-")[2])
    if step >= plan.steps and _began_as(plan.run, plan.recipe) != plan.recipe:
        raise ValueError(
            f"{plan.run} is finished after {step} steps, and what you ask for would train nothing: give another "
            "output_dir, or a larger train.max_steps."
        )
    before, now = _kept_through(_began_as(plan.run, plan.recipe)), _kept_through(plan.recipe)
    for name in before:
        if before[name] != now[name]:
            raise ValueError(
                f"{plan.run} began with {name}={before[name]}; its state and scores mean nothing under {now[name]}: "
                "go on as it began, or train anew with another output_dir."
            )
    for name in ("optimizer.pt", "scheduler.pt"):
        if not (checkpoint / name).is_file():
            raise ValueError(
                f"{checkpoint} has no {name} (train.save_only_model leaves it out), so its run cannot go on: train "
                "anew with another output_dir."
            )


def _kept_through(recipe: Recipe) -> dict[str, Any]:
    """What a resumed run may not change: scores must compare with the best before, and an optimizer with its state."""
    return {
        "loss": recipe.model_dump()["loss"],
        "align_features": recipe.align_features,
        "data.max_depth_eval": recipe.data.max_depth_eval,
        "train.metric_for_best_model": recipe.train.get("metric_for_best_model", DEFAULTS["metric_for_best_model"]),
        "train.optim": recipe.train.get("optim"),
        "ema": recipe.ema and "a decay",
    }


def _chosen_before(run: Path) -> str | None:
    """The kind of bench that leaving captures out chose when the run began."""
    kept = read_choice(run)
    return None if kept is None else str(kept.chosen["background"])


def _record(plan: Plan) -> None:
    """Write down the recipe, the split and the environment; scores of a run that goes on are no longer its own."""
    (plan.run / "metrics.json").unlink(missing_ok=True)
    packages = ("sonde", "torch", "transformers", "peft", "accelerate", "numpy")
    environment = {
        "python": platform.python_version(),
        "platform": platform.system(),
        "device": str(plan.args.device),
        **{name: version(name) for name in packages},
    }
    documents = {
        "recipe.yaml": recipes.dump(plan.recipe),
        "split.json": json.dumps(plan.parts, indent=1),
        "environment.json": json.dumps(environment, indent=1),
    }
    if plan.choice is not None:
        plan.choice.write(plan.run, plan.captures.unit_m, plan.captures.unit)
    for name, text in documents.items():
        with files.atomic_write(plan.run / name) as tmp_path:  # another process may be at `_check_continues` still
            tmp_path.write_text(text)


def _write_card(plan: Plan) -> None:
    """Where the result comes from and what it is allowed to be used for, beside its weights."""
    recipe, run = plan.recipe, plan.run
    scores = json.loads((run / "metrics.json").read_text()) if (run / "metrics.json").is_file() else {}
    document = cards.card(
        run.name,
        recipe,
        plan.captures,
        cards.parents(recipe, plan.captures, plan.model.name),
        versions=json.loads((run / "environment.json").read_text()),
        accuracy={key: scores[key] for key in ("protocol", "metrics", "images", "data", "captures") if key in scores},
        weights=models.weights_hash(models.load(run).network),
    )
    bench = plan.model.background
    about = {"background": {"kind": bench.kind, "size": list(bench.depth.shape)}} if bench else {}
    cards.write(run / "best", document | about)


def _all_folds(recipe: Recipe, resume: bool, listener: Listener | None) -> Path:
    """Every fold in its own run folder, and the mean of their scores with its spread in the parent."""
    folds, processes = recipe.data.split.folds or 0, int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise ValueError(
            f"data.split.folds={folds} trains fold after fold, and {processes} processes train one run: give each call "
            f"its fold, as data.split.fold=0 with output_dir={Path(recipe.output_dir) / 'fold-0'}."
        )
    scores = []
    for number in range(folds):
        run = Path(recipe.output_dir) / f"fold-{number}"
        fold = recipes.load(recipe, [f"output_dir={run}", f"data.split.fold={number}"])
        if not (resume and _finished(run, fold)):
            train(fold, resume=resume and (run / "checkpoints").is_dir(), listener=listener)
        scores.append(json.loads((run / "metrics.json").read_text())["metrics"])
    summary = {}
    for name in scores[0]:
        values = torch.tensor([score[name] for score in scores], dtype=torch.float64)
        summary[name] = {"mean": values.mean().item(), "std": values.std().item()}
    (Path(recipe.output_dir) / "metrics.json").write_text(
        json.dumps({"folds": len(scores), "metrics": summary}, indent=1)
    )
    return Path(recipe.output_dir)


def _finished(run: Path, recipe: Recipe) -> bool:
    """Whether a run has come to its end under this very recipe, wherever its folder was then."""
    if not (run / "metrics.json").is_file():
        return False
    return _began_as(run, recipe) == recipe


def _began_as(run: Path, recipe: Recipe) -> Recipe:
    """The recipe in a run folder, as if it had named the same folder as the recipe of now."""
    return recipes.load(run / "recipe.yaml").model_copy(update={"output_dir": recipe.output_dir})
