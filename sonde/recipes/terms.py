"""How overrides meet the losses of a recipe, each of which is a bare weight or has parts: weight and trim."""

import json
import re
from typing import Any

import yaml

PART = re.compile(r"loss\.[^.=]+\.")
"""How an override of a part of a loss begins, such as `loss.silog.trim=0.1`."""
WHOLE = re.compile(r"loss\.[^.=]+")
"""The key of an override of one loss."""


def by_parts(override: str) -> list[str]:
    """An override with every bare number of a loss as its weight, so that it leaves the trim; others as they are."""
    key, _, value = override.partition("=")
    if key == "loss" and isinstance(losses := yaml.safe_load(value), dict) and losses:
        return [part for name, term in losses.items() for part in by_parts(f"loss.{name}={json.dumps(term)}")]
    whole = WHOLE.fullmatch(key) and not value.lstrip().startswith("{")
    return [f"{key}.weight={value}" if whole else override]


def weighed(fields: dict[str, Any], overrides: list[str], usual: dict[str, Any]) -> dict[str, Any]:
    """The fields with bare numbers of `loss` as weights, beside which an override of a trim can stand.

    An override of a part is of the losses that run: where the fields name none, of the usual ones.
    """
    losses = fields.get("loss", usual if any(map(PART.match, overrides)) else None)
    if not isinstance(losses, dict):
        return fields
    return {**fields, "loss": {name: t if isinstance(t, dict) else {"weight": t} for name, t in losses.items()}}
