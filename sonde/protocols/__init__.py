"""Protocols: the constants by which predictions are scored, one YAML file each.

The constants are frozen. Another alignment or largest depth renames the result; for any other change write a protocol
file with its own name: `--protocol mine.yaml`.
"""

from itertools import pairwise
from math import inf, isnan
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from sonde.align import ALIGN
from sonde.files import check_type, read_yaml, reading
from sonde.metrics import METRICS
from sonde.renamed import keep_old_names
from sonde.spelling import nearest, shorten
from sonde.types import Space

PROTOCOLS = Path(__file__).parent
"""The folder of packaged protocols."""
REMEDY = "expected every key of a packaged protocol, such as sonde/protocols/metric.yaml"
LONGEST_WORD = 4096
"""Characters of a text in a protocol."""


class Protocol(BaseModel):
    """All constants needed to score predictions as a paper does."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, str_max_length=LONGEST_WORD)

    name: str
    source: str
    """The paper or code that defines it."""
    images: str | None
    """The images of the published numbers; `--only` takes their list. None: all of the set."""
    count: int | None
    """Number of those images; a score on another number has a note. None: any number."""
    space: Space
    """The space of predictions that need no conversion."""
    align: str
    """A name in ALIGN, fitted to each image."""
    min_depth: float = Field(allow_inf_nan=False)
    """Metres; ground truth at or below is not scored."""
    max_depth: float | None
    """Metres; ground truth at or above is not scored. None: only the set's own limit applies."""
    cut: Literal["kb"] | None
    """The part of the frame that the model sees and that is scored: a name in CUTS. None: the whole frame."""
    window: Literal["garg", "eigen"] | tuple[int, int, int, int] | None
    """Where ground truth is scored: a name in SHARES, or top, bottom, left, right in pixels. None: everywhere."""
    window_of: Literal["frame", "cut"]
    """Whether the window is one of the whole frame or of its cut."""
    resize: Literal["bicubic", "bilinear", "nearest"]
    """How a prediction is resized to the ground truth."""
    align_corners: bool
    """Torch's `align_corners` of that resize: whether the centres of the corner pixels stay in place."""
    fit_side: PositiveInt | None
    """Pixels of the longer side to which maps are thinned, by nearest neighbours, for the fit. None: every pixel."""
    clamp: tuple[float, float | None] | None
    """Metres; the aligned prediction is clamped to it, a disparity before its inversion."""
    average: Literal["image", "pair"]
    """Mean over an image's trusted pixels, then over images; or over all pairs of points (`ordinal_accuracy`)."""
    groups: str | None
    """A grouping of the set (an argument of its `groups`), to report the mean of each group too."""
    scenes: str | None
    """Likewise: the frames of one scene, which confidence intervals draw together. None: each image alone."""
    ranges: tuple[float, ...]
    """Metres; abs_rel, rmse and delta1 are also reported by true depth between neighbouring bounds. Empty: not."""
    unit: Literal["m", "mm"] | None
    """Unit of the reported lengths; None: the set's own."""
    metrics: list[str]
    """Names in METRICS; with an average over pairs, only `ordinal_accuracy`."""

    @model_validator(mode="after")
    def _check_order(self) -> "Protocol":
        bounds = {"max_depth": (self.min_depth, self.max_depth), "clamp": self.clamp, "ranges": self.ranges}
        if isinstance(self.window, tuple):
            bounds |= {"window": (-1, *self.window[:2]), "window's columns": (-1, *self.window[2:])}
        for name, values in bounds.items():
            known = [value for value in values or () if value is not None]
            if any(map(isnan, known)) or any(low >= high for low, high in pairwise(known)):
                raise ValueError(f"{name}: {shorten(known)} do not run upwards")
        return self

    @property
    def spans(self) -> dict[str, tuple[float, float]]:
        """The ranges by their names in a report: `0-20` → (0, 20), the lower bound included."""
        return {f"{low:g}-{high:g}": (low, high) for low, high in zip(self.ranges[:-1], self.ranges[1:], strict=True)}


def list_names() -> list[str]:
    """The names of the packaged protocols, sorted."""
    return sorted(path.stem for path in PROTOCOLS.glob("*.yaml"))


def load(name: str, align: str | None = None, max_depth: float | int | None = None) -> Protocol:
    """Load a packaged protocol, or one of your own from a YAML file.

    Args:
        name: one of `list_names`, or a file.
        align: replaces its alignment and makes it NAME+ALIGN.
        max_depth: metres; replaces its largest depth and the upper bound of its clamp, and makes it NAME+50m.

    Raises:
        ValueError: an unknown protocol or alignment, with the nearest known one; a `max_depth` that is not above
            `min_depth`; or a file that is incomplete or has the name of a packaged protocol.
    """
    rules = _load_file(Path(name)) if name.endswith((".yaml", ".yml")) else _load_packaged(name)
    rules = rules if max_depth in (None, rules.max_depth) else _set_max_depth(float(max_depth), rules)
    if align is None or align == rules.align:
        return rules
    if align not in ALIGN:
        raise ValueError(f"No alignment {shorten(align)!r}: {nearest(align, list(ALIGN))}")
    return rules.model_copy(update={"name": f"{rules.name}+{align}", "align": align})


def _set_max_depth(max_depth: float, rules: Protocol) -> Protocol:
    if not rules.min_depth < max_depth < inf:
        raise ValueError(
            f"max_depth_eval={max_depth:g}: {rules.name} scores depth from {rules.min_depth:g} m; give more than that."
        )
    clamp = rules.clamp
    if clamp is not None and clamp[1] is not None:
        clamp = (clamp[0], max_depth)
    return rules.model_copy(update={"name": f"{rules.name}+{max_depth:g}m", "max_depth": max_depth, "clamp": clamp})


def _load_packaged(name: str) -> Protocol:
    if name not in list_names():
        raise ValueError(f"No protocol {shorten(name)!r}: {nearest(name, list_names())}")
    return Protocol.model_validate(read_yaml(PROTOCOLS / f"{name}.yaml", REMEDY))


def _load_file(path: Path) -> Protocol:
    """A protocol of the user's own; its name must differ from every packaged one, whose meaning never changes."""
    document, place = read_yaml(path, REMEDY), shorten(path)
    with reading(path, REMEDY):
        rules = check_type(document, Protocol)
    if rules.name in list_names() or "+" in rules.name:
        raise ValueError(
            f"{place}: the name {shorten(rules.name, 80)} is taken. Give your protocol another name, without '+'."
        )
    if rules.align not in ALIGN:
        raise ValueError(f"{place}: no alignment {shorten(rules.align, 80)!r}: {nearest(rules.align, list(ALIGN))}")
    known = list(METRICS) if rules.average == "image" else ["ordinal_accuracy"]
    wrong = [metric for metric in rules.metrics if metric not in known]
    if wrong or not rules.metrics:
        metric = wrong[0] if wrong else ""
        raise ValueError(f"{place}: no metric {shorten(metric, 80)!r}: {nearest(metric, known)}")
    return rules


keep_old_names(__name__, {"names": "list_names"})
