"""Protocols: how predictions are scored, as YAML files of frozen constants.

A constant is never overridden in silence: another alignment renames the result, and anything else is another
protocol under another name, in a file of one's own: `--protocol mine.yaml`.
"""

from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

from sonde.align import ALIGN
from sonde.files import reading
from sonde.metrics import METRICS
from sonde.spelling import nearest
from sonde.types import Space

PROTOCOLS = Path(__file__).parent
"""The folder of packaged protocols."""


class Protocol(BaseModel):
    """Every number it takes to score again what a paper scored."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    source: str
    """Whose convention it is."""
    images: str | None
    """Which images the published numbers are of; `--only` takes the list. None: all of the set."""
    count: int | None
    """How many those are: a score of another number says so. None: any."""
    space: Space
    """What predictions must claim to be scored without further ado."""
    align: str
    """A name in ALIGN, fitted to each image."""
    min_depth: float
    """Metres; ground truth at or below is not scored."""
    max_depth: float | None
    """Metres; ground truth at or above is not scored. None: the set's own limit alone."""
    cut: Literal["kb"] | None
    """The part of the frame that the model sees, and that is scored: a name in CUTS. None: all of it."""
    window: Literal["garg", "eigen"] | tuple[int, int, int, int] | None
    """Where ground truth is scored: a name in SHARES, or top, bottom, left, right in pixels. None: everywhere."""
    window_of: Literal["frame", "cut"]
    """What the window is a window of: the frame before the cut, or what the cut left."""
    resize: Literal["bicubic", "bilinear", "nearest"]
    """How a prediction is brought to the ground truth's size."""
    align_corners: bool
    """Whether the corner pixels' centres are held while resizing (torch's word)."""
    fit_side: PositiveInt | None
    """Pixels; the fit alone sees every map thinned to this longer side, by nearest neighbours. None: every pixel."""
    clamp: tuple[float, float | None] | None
    """Metres; the prediction is brought inside after its alignment, and a disparity before it is inverted."""
    average: Literal["image", "pair"]
    """Mean over an image's trusted pixels, then over images; or over all pairs of points (`ordinal_accuracy`)."""
    groups: str | None
    """Means by group beside the mean of all: a name that the set's `groups` takes."""
    scenes: str | None
    """What frames share, likewise: confidence intervals draw a scene whole. None: every image by itself."""
    ranges: tuple[float, ...]
    """Metres; abs_rel, rmse and delta1 also by true depth between each two. Empty: not."""
    unit: Literal["m", "mm"] | None
    """Unit of the reported lengths; None: the set's own."""
    metrics: list[str]
    """Names in METRICS; of an average over pairs `ordinal_accuracy` alone."""

    @model_validator(mode="after")
    def _ordered(self) -> "Protocol":
        """Every pair of bounds runs upwards."""
        bounds = {"max_depth": (self.min_depth, self.max_depth), "clamp": self.clamp, "ranges": self.ranges}
        if isinstance(self.window, tuple):
            bounds |= {"window": (-1, *self.window[:2]), "window's columns": (-1, *self.window[2:])}
        for name, values in bounds.items():
            known = [value for value in values or () if value is not None]
            if any(low >= high for low, high in pairwise(known)):
                raise ValueError(f"{name}: {known} do not run upwards")
        return self

    @property
    def spans(self) -> dict[str, tuple[float, float]]:
        """The ranges by what a report calls them: `0-20` → (0, 20), the first included."""
        return {f"{low:g}-{high:g}": (low, high) for low, high in zip(self.ranges[:-1], self.ranges[1:], strict=True)}


def names() -> list[str]:
    """Names of the packaged protocols."""
    return sorted(path.stem for path in PROTOCOLS.glob("*.yaml"))


def load(name: str, align: str | None = None, max_depth: float | int | None = None) -> Protocol:
    """The protocol of a name, or of a YAML file of one's own.

    Args:
        name: see `names`; or a file.
        align: another alignment than its own makes it NAME+ALIGN.
        max_depth: metres; another end than its own makes it NAME+50m, whose predictions are held within it too.

    Raises:
        ValueError: no such protocol or alignment, with the right ones; an end that is none; or a file of one's own
            that is incomplete, or bears the name of a packaged one.
    """
    rules = _own(Path(name)) if name.endswith((".yaml", ".yml")) else _packaged(name)
    rules = rules if max_depth in (None, rules.max_depth) else _ending_at(float(max_depth), rules)
    if align is None or align == rules.align:
        return rules
    if align not in ALIGN:
        raise ValueError(f"No alignment {align!r}: {nearest(align, list(ALIGN))}")
    return rules.model_copy(update={"name": f"{rules.name}+{align}", "align": align})


def _ending_at(max_depth: float, rules: Protocol) -> Protocol:
    """The protocol as it would be with another end."""
    if not rules.min_depth < max_depth < inf:
        raise ValueError(
            f"max_depth_eval={max_depth:g}: {rules.name} scores depth from {rules.min_depth:g} m; give more than that."
        )
    held = rules.clamp and (rules.clamp[0], None if rules.clamp[1] is None else max_depth)
    return rules.model_copy(update={"name": f"{rules.name}+{max_depth:g}m", "max_depth": max_depth, "clamp": held})


def _packaged(name: str) -> Protocol:
    if name not in names():
        raise ValueError(f"No protocol {name!r}: {nearest(name, names())}")
    return Protocol.model_validate(yaml.safe_load((PROTOCOLS / f"{name}.yaml").read_text()))


def _own(path: Path) -> Protocol:
    """A protocol of one's own, under a name of its own: what a packaged name says is never changed."""
    with reading(path, "expected every key of a packaged protocol, such as sonde/protocols/metric.yaml"):
        rules = Protocol.model_validate(yaml.safe_load(path.read_text()))
    if rules.name in names() or "+" in rules.name:
        raise ValueError(f"{path} is named {rules.name}, a name that is taken: give your protocol another.")
    if rules.align not in ALIGN:
        raise ValueError(f"{path}: no alignment {rules.align!r}: {nearest(rules.align, list(ALIGN))}")
    known = list(METRICS) if rules.average == "image" else ["ordinal_accuracy"]
    wrong = [metric for metric in rules.metrics if metric not in known]
    if wrong or not rules.metrics:
        name = wrong[0] if wrong else ""
        raise ValueError(f"{path}: no metric {name!r}: {nearest(name, known)}")
    return rules
