"""Protocols: how predictions are scored, as YAML files of frozen constants.

A constant is never overridden in silence: another alignment renames the result, and anything else is another
protocol under another name.
"""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from sonde.align import ALIGN
from sonde.recipes import nearest
from sonde.types import Space

PROTOCOLS = Path(__file__).parent
"""The folder of packaged protocols."""


class Protocol(BaseModel):
    """Every number it takes to score again what a paper scored."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    source: str
    """Whose convention it is."""
    space: Space
    """What predictions must claim to be scored without further ado."""
    align: str
    """A name in ALIGN, fitted to each image."""
    min_depth: float
    """Metres; ground truth at or below is not scored."""
    max_depth: float | None
    """Metres; ground truth at or above is not scored. None: the set's own limit alone."""
    resize: Literal["bicubic"]
    """How a prediction is brought to the ground truth's size, align_corners=False."""
    average: Literal["image"]
    """Mean over an image's trusted pixels, then over images."""
    unit: Literal["m", "mm"] | None
    """Unit of the reported lengths; None: the set's own."""
    metrics: list[str]
    """Names in METRICS."""


def names() -> list[str]:
    """Names of the packaged protocols."""
    return sorted(path.stem for path in PROTOCOLS.glob("*.yaml"))


def load(name: str, align: str | None = None) -> Protocol:
    """The protocol of a name; with another alignment than its own it is named NAME+ALIGN.

    Raises:
        ValueError: no such protocol or alignment; the message names the right ones.
    """
    if name not in names():
        raise ValueError(f"No protocol {name!r}: {nearest(name, names())}")
    rules = Protocol.model_validate(yaml.safe_load((PROTOCOLS / f"{name}.yaml").read_text()))
    if align is None or align == rules.align:
        return rules
    if align not in ALIGN:
        raise ValueError(f"No alignment {align!r}: {nearest(align, list(ALIGN))}")
    return rules.model_copy(update={"name": f"{name}+{align}", "align": align})
