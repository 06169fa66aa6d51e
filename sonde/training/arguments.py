"""transformers.TrainingArguments of a recipe, for this machine."""

import logging
import math
import os
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple, get_args

import torch
from transformers import SchedulerType, TrainingArguments

from sonde.files.safely import FAULTS
from sonde.recipes import Recipe, explain_unknown
from sonde.renamed import keep_old_names
from sonde.schedules import SCHEDULES, ScheduledArguments, find_mode
from sonde.spelling import nearest, shorten
from sonde.trainer.muon import Muon
from sonde.trainer.reporting import check_reporters

log = logging.getLogger("sonde")

Settings = dict[str, object]
"""Arguments of TrainingArguments by name, as YAML has them: checked here, or by TrainingArguments."""

DEFAULTS: Settings = {
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
    # True would replace a loss that is not finite in the logs: the step guard must see it, and the user too.
    "logging_nan_inf_filter": False,
}
"""Arguments of transformers.TrainingArguments unless the recipe sets them."""

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "muon": Muon}
"""Names for `train.optim` beside transformers'; `adam` decays the weights in the gradient (L2), as Adam did."""

COUNTS = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "max_steps")
"""Whole numbers of at least 1; `max_steps` may also be transformers' -1, as many as the epochs have."""


class OptimizerChoice(NamedTuple):
    """An optimizer that transformers does not name, as its trainer takes it."""

    kind: type[torch.optim.Optimizer]
    settings: Settings


def build_arguments(recipe: Recipe) -> ScheduledArguments:
    """transformers.TrainingArguments of a recipe, in a precision that this machine has.

    `lr_scheduler_type` may also be one of ours (`SCHEDULES`), and `greater_is_better` follows the metric.

    Raises:
        ValueError: a name that TrainingArguments does not have, or a value that it refuses.
    """
    known = [field.name for field in fields(TrainingArguments)]
    for key in recipe.train:
        if key not in known:
            raise ValueError(explain_unknown(f"train.{key}", recipe.train[key], known))
    settings: Settings = {**DEFAULTS, "seed": recipe.seed, **parse_numbers(recipe).train}
    if settings.pop("fsdp", None) not in (None, False, "", True, "full_shard", ["full_shard"]):
        raise ValueError(f"train.fsdp={recipe.train['fsdp']}: expected full_shard (or true), the kind sonde shards by.")
    if "activation_checkpointing" in known and "gradient_checkpointing" in settings:  # its new name in transformers 5
        settings["activation_checkpointing"] = settings.pop("gradient_checkpointing")
    if takes_no_step(recipe):
        settings["max_steps"] = -1  # TrainingArguments' word for: not counted in steps
    _check_numbers(settings)
    for key in ("eval_strategy", "save_strategy", "logging_strategy"):
        if settings.get(key) is False:
            settings[key] = "no"  # YAML reads `no` as false
    if scores_nothing(recipe):
        settings |= {"eval_strategy": "no", "load_best_model_at_end": False}
    if not recipe.save_model:
        settings |= {"save_strategy": "no", "load_best_model_at_end": False}
    if settings.get("optim") in OPTIMIZERS:
        del settings["optim"]  # `choose_optimizer` makes it: TrainingArguments refuses the name
    kind, options = _take_schedule(settings)
    if settings.get("greater_is_better") is None:
        settings["greater_is_better"] = find_mode(str(settings["metric_for_best_model"] or "loss")) == "max"
    settings["output_dir"] = str(Path(recipe.output_dir) / "checkpoints")
    try:
        args = ScheduledArguments(kind, options, **_join_processes(_settle_precision(settings)))
    # What transformers raises depends on the key: a package that is missing, a file that is none, a backend.
    except (ImportError, *FAULTS) as error:
        raise ValueError(f"train: {shorten(' '.join(str(error).split()), 2000)}") from None
    check_reporters(args.report_to or (), main=args.process_index == 0)
    return args


def takes_no_step(recipe: Recipe) -> bool:
    """Whether a run only fits its head of pixels: `train.max_steps: 0`."""
    return recipe.model.head == "pixels" and recipe.train.get("max_steps") == 0


def scores_nothing(recipe: Recipe) -> bool:
    """Whether every capture trains, and none is left to choose a checkpoint or to score."""
    rules = recipe.data.split
    return not (rules.test or rules.validation or rules.folds or recipe.data.measured)


def parse_numbers(recipe: Recipe) -> Recipe:
    """The recipe with a number wherever `train` expects one and has text, such as '1e-4'.

    Raises:
        ValueError: text that is no number.
    """
    wanted = {field.name for field in fields(TrainingArguments) if float in (field.type, *get_args(field.type))}
    texts = {key: value for key, value in recipe.train.items() if key in wanted and isinstance(value, str)}
    numbers = {key: _parse_number(key, text) for key, text in texts.items()}
    return recipe.model_copy(update={"train": {**recipe.train, **numbers}})


def _parse_number(key: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isfinite(number) or (key, number) == ("max_grad_norm", math.inf):
        return number
    raise ValueError(f"train.{key}={text}: expected a number such as 1e-4.")


def _check_numbers(settings: Settings) -> None:
    """Refuse numbers that TrainingArguments accepts and no run can use."""
    for key in COUNTS:
        value = settings.get(key, 1)
        if not isinstance(value, int) or (value < 1 and (key, value) != ("max_steps", -1)):
            raise ValueError(f"train.{key}={value}: expected a whole number of at least 1.")
    rate = settings.get("learning_rate", 0.0)
    if not isinstance(rate, int | float) or not 0 <= rate < float("inf"):
        raise ValueError(f"train.learning_rate={rate}: expected a number such as 1e-4.")


def choose_optimizer(recipe: Recipe, args: TrainingArguments) -> OptimizerChoice | None:
    """The optimizer that `train.optim` names where it is one of OPTIMIZERS; None for transformers' own."""
    kind = str(recipe.train.get("optim"))
    if kind not in OPTIMIZERS:
        return None
    settings = {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}
    return OptimizerChoice(OPTIMIZERS[kind], {"lr": args.learning_rate, **settings})


def _take_schedule(settings: Settings) -> tuple[str, Settings]:
    """The schedule's name and options; a name that TrainingArguments would refuse becomes `constant` in `settings`."""
    kind, options = str(settings.get("lr_scheduler_type", "linear")), settings.get("lr_scheduler_kwargs") or {}
    if kind not in SCHEDULES:
        raise ValueError(f"Unknown schedule train.lr_scheduler_type={kind}: {nearest(kind, list(SCHEDULES))}")
    if not isinstance(options, dict):
        raise ValueError(f"train.lr_scheduler_kwargs={options}: expected names and values, such as {{power: 0.9}}.")
    if kind not in [own.value for own in SchedulerType]:
        settings |= {"lr_scheduler_type": "constant", "lr_scheduler_kwargs": None}
    return kind, {str(name): value for name, value in options.items()}


def _settle_precision(settings: Settings) -> Settings:
    """Half precision only where the machine has it: a CPU ignores fp16 silently, and emulates bf16 very slowly."""
    if torch.cuda.is_available() and not settings.get("use_cpu"):
        return settings
    wanted = [name for name in ("fp16", "bf16") if settings.get(name)]
    native = torch.cpu._is_avx512_bf16_supported()
    if "fp16" in wanted or ("bf16" in wanted and not native):
        log.warning("no GPU: training in fp32, since this CPU would ignore train.%s or emulate it slowly", wanted[0])
        return settings | {name: False for name in wanted}
    if wanted and not torch.accelerator.is_available():
        return settings | {"use_cpu": True}  # without it TrainingArguments asks for a GPU with bf16
    return settings


def _join_processes(settings: Settings) -> Settings:
    """`use_cpu` for torchrun's processes on a machine without accelerator: without it each trains by itself."""
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1 or torch.accelerator.is_available()
    return settings if alone else settings | {"use_cpu": True}


keep_old_names(
    __name__,
    {"training_arguments": "build_arguments", "with_numbers": "parse_numbers", "optimizer": "choose_optimizer"},
)
