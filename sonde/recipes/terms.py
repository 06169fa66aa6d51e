"""How overrides apply to the losses of a recipe. A loss is a number (its weight) or has parts (weight and trim)."""

import json
import re
from typing import Any

import yaml

PART = re.compile(r"loss\.[^.=]+\.")
"""Start of an override of one part of a loss, such as `loss.silog.trim=0.1`."""
WHOLE = re.compile(r"loss\.[^.=]+")
"""The key of an override of one loss."""


def by_parts(override: str) -> list[str]:
    """Split an override of losses so that a number sets the weight alone and keeps the trim. Others do not change."""
    key, _, value = override.partition("=")
    if key == "loss" and isinstance(losses := yaml.safe_load(value), dict) and losses:
        return [part for name, term in losses.items() for part in by_parts(f"loss.{name}={json.dumps(term)}")]
    whole = WHOLE.fullmatch(key) and not value.lstrip().startswith("{")
    return [f"{key}.weight={value}" if whole else override]


def weighed(fields: dict[str, Any], overrides: list[str], usual: dict[str, Any]) -> dict[str, Any]:
    """The fields with each number in `loss` written as {weight: number}, so that an override can add a trim.

    An override of one part applies to the losses of the recipe, or to the `usual` losses if the recipe names none.
    """
    losses = fields.get("loss", usual if any(map(PART.match, overrides)) else None)
    if not isinstance(losses, dict):
        return fields
    return {**fields, "loss": {name: t if isinstance(t, dict) else {"weight": t} for name, t in losses.items()}}
