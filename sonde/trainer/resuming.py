"""A resumed run's optimizer and schedule: the state comes from the checkpoint, the settings from the recipe.

torch's and transformers' own `load_state_dict` bring back the old settings too: the rate, the weight decay, the length
of a cycle. The run would then follow a plan that is neither shown nor recorded any more.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch.optim import Optimizer

from sonde.files import read_json
from sonde.runs import advise_other_checkpoint
from sonde.schedules import Scheduler

PROGRESS = (
    "best",
    "num_bad_epochs",
    "num_good_epochs",
    "cooldown_counter",
    "warmup_counter",
    "reset_start",
    "last_epoch",
    "_streaming_avg",
)
"""The scores that a schedule driven by them has seen, as its state names them; the rest of its state are settings."""

Settings = list[dict[str, object]]
"""Of each group of an optimizer, everything but its weights."""


class Rate(NamedTuple):
    """The learning rate of an optimizer's group."""

    now: float
    start: float | None
    """Its highest rate, from which the schedule computes; None before a schedule has written it down."""


def read_settings(optimizer: Optimizer) -> Settings:
    """The settings of an optimizer's groups."""
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]


def has_stopped_early(checkpoint: Path) -> bool:
    """Whether early stopping ended the run at this checkpoint."""
    state = read_json(checkpoint / "trainer_state.json", dict[str, Any], advise_other_checkpoint(checkpoint))
    control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
    return bool(control.get("should_training_stop")) and state.get("global_step", 0) < state.get("max_steps", 0)


def is_driven_by_score(state: Mapping[str, object]) -> bool:
    """Whether the state is that of a schedule that waits for scores."""
    return "num_bad_epochs" in state


def continue_plan(
    optimizer: Optimizer, scheduler: Scheduler, fresh: Settings, saved: Mapping[str, object], step: int
) -> None:
    """Bring settings and rates to where the recipe's plan has them after so many steps.

    Args:
        optimizer: with the checkpoint's state, and its settings.
        scheduler: as it was built for the recipe, before its first step.
        fresh: the optimizer's settings as the recipe gives them.
        saved: the checkpoint's state of its own scheduler, perhaps of another kind.
        step: the number of the checkpoint's step.
    """
    reached = [Rate(group["lr"], group.get("initial_lr")) for group in optimizer.param_groups]
    for group, own in zip(optimizer.param_groups, fresh, strict=True):
        group.update(own)
    if not is_driven_by_score(scheduler.state_dict()):
        # A schedule driven by a score counts validations, not steps: its own counter is of no use here.
        taken = step if is_driven_by_score(saved) else saved["last_epoch"]
        assert isinstance(taken, int)
        _repeat_steps(scheduler, taken)
    elif is_driven_by_score(saved):
        _restore_progress(optimizer, scheduler, reached, saved)


def _repeat_steps(scheduler: Scheduler, steps: int) -> None:
    """Step the scheduler as the run itself stepped it, so that the rates are the same to the last bit."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # the optimizer took its steps before
        for _ in range(steps):
            scheduler.step()


def _restore_progress(
    optimizer: Optimizer, scheduler: Scheduler, reached: list[Rate], saved: Mapping[str, object]
) -> None:
    """Give the scheduler the scores it has seen, and each group the share of its rate to which it had fallen."""
    for group, old in zip(optimizer.param_groups, reached, strict=True):
        start = group["initial_lr"] if old.start is None else old.start
        group["lr"] = old.now * (group["initial_lr"] / start if start else 1.0)
    seen = {name: saved[name] for name in PROGRESS if name in saved}
    rates = [group["lr"] for group in optimizer.param_groups]
    scheduler.load_state_dict({**scheduler.state_dict(), **seen, "_last_lr": rates})
