"""transformers.TrainingArguments of a recipe, settled for this machine."""

import logging
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import torch
from transformers import SchedulerType, TrainingArguments

from sonde.recipes import Recipe
from sonde.schedules import SCHEDULES, ScheduledArguments, plateau_mode
from sonde.spelling import nearest
from sonde.trainer.muon import Muon
from sonde.trainer.reporting import check_reporters

log = logging.getLogger("sonde")

DEFAULTS: dict[str, Any] = {
    "remove_unused_columns": False,
    "label_names": ["depth"],
    "prediction_loss_only": True,
    "report_to": "none",
    "disable_tqdm": True,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
    "save_total_limit": 2,
    "logging_steps": 10,
    "dataloader_pin_memory": False,
    "logging_nan_inf_filter": False,  # it would hide in the logs what the flight recorder is there to tell
}
"""What every run asks of transformers.TrainingArguments unless its recipe says otherwise."""

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "muon": Muon}
"""Names that `train.optim` takes beside transformers'; `adam` decays the weights in the gradient (L2), as Adam did."""

COUNTS = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "max_steps")
"""Whole numbers of at least 1; `max_steps` may also be transformers' -1, as many as the epochs have."""


def training_arguments(recipe: Recipe) -> ScheduledArguments:
    """transformers.TrainingArguments of a recipe, with precision settled for this machine.

    `lr_scheduler_type` may also be one of ours (`SCHEDULES`), and `greater_is_better` follows the metric.

    Raises:
        ValueError: a name TrainingArguments has not, or a value it refuses.
    """
    known = [field.name for field in fields(TrainingArguments)]
    for key in recipe.train:
        if key not in known:
            raise ValueError(f"Unknown key train.{key}: {nearest(key, known)}")
    settings = {**DEFAULTS, "seed": recipe.seed, **with_numbers(recipe).train}
    if settings.pop("fsdp", None) not in (None, False, "", True, "full_shard", ["full_shard"]):
        raise ValueError(f"train.fsdp={recipe.train['fsdp']}: expected full_shard (or true), the kind sonde shards by.")
    if "activation_checkpointing" in known and "gradient_checkpointing" in settings:  # its new name in transformers 5
        settings["activation_checkpointing"] = settings.pop("gradient_checkpointing")
    if takes_no_step(recipe):
        settings["max_steps"] = -1  # what TrainingArguments says for: not counted in steps
    _check_numbers(settings)
    for key in ("eval_strategy", "save_strategy", "logging_strategy"):
        settings |= {key: "no"} if settings.get(key) is False else {}  # as YAML reads no
    if scores_nothing(recipe):
        settings |= {"eval_strategy": "no", "load_best_model_at_end": False}
    if not recipe.save_model:
        settings |= {"save_strategy": "no", "load_best_model_at_end": False}
    if settings.get("optim") in OPTIMIZERS:
        del settings["optim"]  # `optimizer` makes it: TrainingArguments' own names know neither
    kind, options = _schedule(settings)
    if settings.get("greater_is_better") is None:
        settings["greater_is_better"] = plateau_mode(settings["metric_for_best_model"] or "loss") == "max"
    settings["output_dir"] = str(Path(recipe.output_dir) / "checkpoints")
    try:
        args = ScheduledArguments(kind, options, **_together(_precision(settings)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"train: {' '.join(str(error).split())}") from None
    check_reporters(args.report_to or (), main=args.process_index == 0)
    return args


def takes_no_step(recipe: Recipe) -> bool:
    """Whether the fit of a head of pixels is all that a run does: `train.max_steps: 0`."""
    return recipe.model.head == "pixels" and recipe.train.get("max_steps") == 0


def scores_nothing(recipe: Recipe) -> bool:
    """Whether every capture trains and none is kept to choose a checkpoint or to score."""
    rules = recipe.data.split
    return not (rules.test or rules.validation or rules.folds or recipe.data.measured)


def with_numbers(recipe: Recipe) -> Recipe:
    """The recipe with a number wherever `train` wants one, though it was given as text, such as '1e-4'.

    Raises:
        ValueError: text that is no number.
    """
    wanted = {field.name for field in fields(TrainingArguments) if float in (field.type, *get_args(field.type))}
    texts = {key: value for key, value in recipe.train.items() if key in wanted and isinstance(value, str)}
    numbers = {key: _number(key, text) for key, text in texts.items()}
    return recipe.model_copy(update={"train": {**recipe.train, **numbers}})


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"train.{key}={text}: expected a number such as 1e-4.") from None


def _check_numbers(settings: dict[str, Any]) -> None:
    """What TrainingArguments would take and nobody means."""
    for key in COUNTS:
        value = settings.get(key, 1)
        if not isinstance(value, int) or (value < 1 and (key, value) != ("max_steps", -1)):
            raise ValueError(f"train.{key}={value}: expected a whole number of at least 1.")
    rate = settings.get("learning_rate", 0.0)
    try:
        good = 0 <= float(rate) < float("inf")
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ValueError(f"train.learning_rate={rate}: expected a number such as 1e-4.")


def optimizer(recipe: Recipe, args: TrainingArguments) -> tuple[type[torch.optim.Optimizer], dict[str, Any]] | None:
    """What `train.optim` asks for where it is one of OPTIMIZERS; None for transformers' own."""
    kind = str(recipe.train.get("optim"))
    if kind not in OPTIMIZERS:
        return None
    settings = {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}
    return OPTIMIZERS[kind], {"lr": args.learning_rate, **settings}


def _schedule(settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The schedule's name and options; where the name is none of TrainingArguments' own, they are told `constant`."""
    kind, options = str(settings.get("lr_scheduler_type", "linear")), settings.get("lr_scheduler_kwargs") or {}
    if kind not in SCHEDULES:
        raise ValueError(f"Unknown schedule train.lr_scheduler_type={kind}: {nearest(kind, list(SCHEDULES))}")
    if not isinstance(options, dict):
        raise ValueError(f"train.lr_scheduler_kwargs={options}: expected names and values, such as {{power: 0.9}}.")
    if kind not in [own.value for own in SchedulerType]:
        settings |= {"lr_scheduler_type": "constant", "lr_scheduler_kwargs": None}
    return kind, {str(name): value for name, value in options.items()}


def _precision(settings: dict[str, Any]) -> dict[str, Any]:
    """Half precision only where it is real: a CPU ignores fp16 silently, and emulates bf16 at a crawl."""
    if torch.cuda.is_available() and not settings.get("use_cpu"):
        return settings
    wanted = [name for name in ("fp16", "bf16") if settings.get(name)]
    native = torch.cpu._is_avx512_bf16_supported()
    if "fp16" in wanted or ("bf16" in wanted and not native):
        log.warning("no GPU: training in fp32 (%s is asked for, which this CPU would ignore or crawl in)", wanted[0])
        return settings | {name: False for name in wanted}
    if wanted and not torch.accelerator.is_available():
        return settings | {"use_cpu": True}  # without it TrainingArguments wants a GPU for bf16
    return settings


def _together(settings: dict[str, Any]) -> dict[str, Any]:
    """Processes started by torchrun where there is no accelerator: each would train by itself unless told `use_cpu`."""
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1 or torch.accelerator.is_available()
    return settings if alone else settings | {"use_cpu": True}
