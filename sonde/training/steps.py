"""Take the steps of a plan, and turn what stops them into a sentence that says what to do."""

import re
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist
from torch import Tensor
from transformers import EarlyStoppingCallback, TrainerCallback

from sonde import models
from sonde.runs import resume_command
from sonde.trainer import DepthTrainer, JsonLines, Objective, Pace, Progress, Results, Stopped
from sonde.trainer.reporting import make_reporters
from sonde.trainer.state import check_state
from sonde.training.arguments import choose_optimizer
from sonde.training.plan import Plan, is_out_of_memory
from sonde.training.resuming import list_checkpoints

LOST = re.compile(r"\bgloo\b|nccl|Connection (?:closed|reset)|Broken pipe", re.IGNORECASE)
"""What torch's back ends say of a process that does not answer any more."""

Listener = Callable[[int, int, dict[str, float]], None]
"""Called with (step, number of steps, newest numbers)."""


def take_steps(plan: Plan, checkpoint: Path | None, listener: Listener | None) -> dict[str, Tensor] | None:
    """Train to the end; the whole weights if they are sharded, else None: they are in the plan's model.

    Args:
        plan: the run.
        checkpoint: where it resumes; None starts it.
        listener: called after each step.

    Raises:
        Stopped: steps that were not finite; the message says what is left and how to go on.
        ValueError: not enough memory, data that a worker process could not read, or a damaged checkpoint.
    """
    if checkpoint is not None:
        check_state(checkpoint)
    trainer = make_trainer(plan, _make_callbacks(plan, listener))
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except Stopped as stopped:
        raise Stopped(f"{stopped}. {_save_what_is_left(plan, trainer)}") from None
    except ValueError as error:
        raise ValueError(_drop_traceback(str(error))) from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(_advise_on_memory(plan)) from None
    return _finish_weights(trainer)


def make_trainer(plan: Plan, callbacks: list[TrainerCallback]) -> DepthTrainer:
    """The trainer of a plan."""
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
        optimizer=choose_optimizer(recipe, plan.args),
        sharded=plan.is_sharded,
        results=results if recipe.save_result else None,
        freeze_norm=recipe.model.freeze_norm,
    )


def _make_callbacks(plan: Plan, listener: Listener | None) -> list[TrainerCallback]:
    recipe = plan.recipe
    pace = Pace(recipe.val_freq, recipe.save_freq)
    callbacks: list[TrainerCallback] = [JsonLines(plan.run / "metrics.jsonl"), pace, *make_reporters(recipe, plan.args)]
    if recipe.early_stopping is not None:
        callbacks.append(EarlyStoppingCallback(recipe.early_stopping))
    if listener and plan.is_main:
        callbacks.append(Progress(listener))
    return callbacks


def _finish_weights(trainer: DepthTrainer) -> dict[str, Tensor] | None:
    """The weights to save; the average replaces the last ones, if the recipe keeps one."""
    if trainer.average is not None:
        trainer.average.apply()
    return trainer.guard.gather_weights()


def _save_what_is_left(plan: Plan, trainer: DepthTrainer) -> str:
    """Save the best checkpoint of a stopped run as `best/`, and say how to go on."""
    explained = f"`sonde doctor {plan.run}` explains the cause"
    if not list_checkpoints(plan.run):
        return f"No checkpoint was written. {explained}; then start again with a new output_dir."
    saved = ""
    if trainer.restore_best():
        # Every process takes part in gathering sharded weights; one writes them.
        weights = _finish_weights(trainer)
        if plan.is_main:
            models.save(plan.model.eval(), plan.run / "best", weights)
        saved = f"{plan.run / 'best'} holds the best checkpoint so far. "
    return f"{saved}{explained}; `{resume_command(plan.run)}` continues from the newest checkpoint."


def has_lost_process(error: RuntimeError) -> bool:
    """Whether an exchange between the processes of a run failed because one of them is gone."""
    return dist.is_initialized() and (isinstance(error, dist.DistError) or LOST.search(str(error)) is not None)


def _drop_traceback(message: str) -> str:
    """The message of an error in a worker process, to which torch adds the worker's whole traceback."""
    return message.strip().rpartition("\nValueError: ")[2] if "\nOriginal Traceback" in message else message


def _advise_on_memory(plan: Plan) -> str:
    """Settings that need less memory, most useful first."""
    advice = ["train.gradient_checkpointing=true (about a third of the memory, a third slower)"]
    if plan.args.per_device_train_batch_size > 1:
        advice.append(
            "train.per_device_train_batch_size=1 with more gradient_accumulation_steps (memory falls with it)"
        )
    if plan.recipe.model.input_size is not None:
        step = plan.model.spec.multiple
        # 0.7 of each side is half of the area.
        height, width = (max(step, round(side * 0.7 / step) * step) for side in plan.recipe.model.input_size)
        advice.append(f"model.input_size=[{height},{width}] (about half the memory)")
    kept = ""
    if list_checkpoints(plan.run):
        kept = f" Its checkpoints are kept: `{resume_command(plan.run, 'KEY=VALUE')}` goes on with what you choose."
    return f"Not enough memory for this run. Try {'; or '.join(advice)}.{kept}"
