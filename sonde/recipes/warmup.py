"""The warm-up of a run that is shorter than its recipe."""

import logging
from collections.abc import Sequence
from typing import TypeGuard

from sonde.spelling import quantify

log = logging.getLogger("sonde")

KEY = "train.warmup_steps"


def fit_warmup(own: object, fields: dict[str, object], overrides: Sequence[str]) -> dict[str, object]:
    """The fields of a recipe with a warm-up that fits the steps that overrides leave.

    Where overrides give a run fewer steps than its recipe, and the recipe's warm-up would take more than half of them,
    the warm-up is a tenth of them, and the log says so. A warm-up that an override gives stays.

    Args:
        own: the recipe's section `train`, without overrides.
        fields: of the whole recipe, overrides applied.
        overrides: dotted key=value.
    """
    train = fields.get("train")
    if not isinstance(train, dict) or not any(each.startswith("train") for each in overrides):
        return fields
    warmup, steps = train.get("warmup_steps"), train.get("max_steps")
    if not (_is_count(warmup) and _is_count(steps)) or 2 * warmup <= steps:
        return fields
    before = own if isinstance(own, dict) else {}
    fitted = steps // 10
    if (_is_count(before.get("max_steps")) and before["max_steps"] <= steps) or _is_given(overrides):
        if warmup >= steps:
            log.warning(
                "The run of %s is too short for its warm-up of %s: the rate never reaches train.learning_rate; set "
                "%s=%d, or more steps (train.max_steps).",
                quantify(steps, "step"),
                quantify(warmup, "step"),
                KEY,
                fitted,
            )
        return fields
    log.info(
        "The warm-up of this recipe, %s, is too long for a run of %s: it is %s here (%s=%d).",
        quantify(warmup, "step"),
        quantify(steps, "step"),
        quantify(fitted, "step"),
        KEY,
        fitted,
    )
    return {**fields, "train": {**train, "warmup_steps": fitted}}


def _is_count(value: object) -> TypeGuard[int]:
    """Whether it is a number of steps; a warm-up below 1 is a share of the run, and -1 counts no steps."""
    return isinstance(value, int) and value >= 1


def _is_given(overrides: Sequence[str]) -> bool:
    """Whether an override gives the warm-up."""
    return any(each.partition("=")[0] in (KEY, "train") for each in overrides)
