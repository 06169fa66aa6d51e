"""A resumed run's optimizer and schedule: the state comes from the checkpoint, the settings from the recipe.

torch's and transformers' own `load_state_dict` bring back the old settings too: the rate, the weight decay, the length
of a cycle. A run would then go on by a plan that is neither shown nor recorded any more.
"""

import warnings
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

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
"""What a schedule driven by a score has seen; the rest of its state are settings."""

Settings = list[dict[str, Any]]
"""Of each group of an optimizer, everything but its weights."""


def settings(optimizer: Optimizer) -> Settings:
    """What the groups of an optimizer are told now."""
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]


def driven(state: dict[str, Any]) -> bool:
    """Whether the state is that of a schedule that waits for scores."""
    return "num_bad_epochs" in state


def go_on(optimizer: Optimizer, scheduler: Any, fresh: Settings, saved: dict[str, Any], step: int) -> None:
    """Bring settings and rates to where the recipe's plan has them after so many steps.

    Args:
        optimizer: with the checkpoint's state, and its settings.
        scheduler: as it was built for the recipe, before its first step.
        fresh: the optimizer's settings beside it.
        saved: the checkpoint's state of its own scheduler, perhaps of another kind.
        step: of the checkpoint.
    """
    reached = settings(optimizer)
    for group, own in zip(optimizer.param_groups, fresh, strict=True):
        group.update(own)
    if not driven(scheduler.state_dict()):
        _walk(scheduler, step if driven(saved) else saved["last_epoch"])
    elif driven(saved):
        _take_up(optimizer, scheduler, reached, saved)


def _walk(scheduler: LRScheduler, steps: int) -> None:
    """As the run itself would have stepped it, so that the rates are the same to the last bit."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # the optimizer's steps were taken before
        for _ in range(steps):
            scheduler.step()


def _take_up(optimizer: Optimizer, scheduler: Any, reached: Settings, saved: dict[str, Any]) -> None:
    """Give the scheduler what it had seen, and each group the share of its rate to which it had come."""
    for group, old in zip(optimizer.param_groups, reached, strict=True):
        began = old.get("initial_lr", group["initial_lr"])
        group["lr"] = old["lr"] * (group["initial_lr"] / began if began else 1.0)
    seen = {name: saved[name] for name in PROGRESS if name in saved}
    rates = [group["lr"] for group in optimizer.param_groups]
    scheduler.load_state_dict({**scheduler.state_dict(), **seen, "_last_lr": rates})
