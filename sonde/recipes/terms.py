"""How overrides apply to the losses of a recipe. A loss is a number (its weight) or has parts (weight and trim)."""

import json
import re
from collections.abc import Mapping

from sonde.renamed import keep_old_names

PART = re.compile(r"loss\.[^.=]+\.")
"""Start of an override of one part of a loss, such as `loss.silog.trim=0.1`."""
WHOLE = re.compile(r"loss\.[^.=]+")
"""The key of an override of one loss."""


def split_loss_override(override: str) -> list[str]:
    """Split an override of losses so that a number sets the weight alone and keeps the trim. Others do not change."""
    # Imported here because reading a recipe's name for `--help` does not need it.
    from sonde import files

    key, _, value = override.partition("=")
    if key == "loss" and isinstance(losses := files.parse_yaml(value), dict) and losses:
        terms = [f"loss.{name}={json.dumps(term)}" for name, term in losses.items()]
        return [part for term in terms for part in split_loss_override(term)]
    is_number = WHOLE.fullmatch(key) and not value.lstrip().startswith("{")
    return [f"{key}.weight={value}" if is_number else override]


def write_weights(
    fields: dict[str, object], overrides: list[str], default_losses: Mapping[str, object]
) -> dict[str, object]:
    """The fields with each number in `loss` written as {weight: number}, so that an override can add a trim.

    An override of one part applies to the losses of the recipe, or to the default losses if the recipe names none.
    """
    losses = fields.get("loss", default_losses if any(map(PART.match, overrides)) else None)
    if not isinstance(losses, Mapping):
        return fields
    terms = {name: term if isinstance(term, dict) else {"weight": term} for name, term in losses.items()}
    return {**fields, "loss": terms}


keep_old_names(__name__, {"by_parts": "split_loss_override", "weighed": "write_weights"})
