"""What an evaluation records beside its scores: all it takes to score again. Built once, never changed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import ValidationError

from sonde.protocols import Protocol
from sonde.runs import LeftOutRecord


@dataclass(frozen=True)
class Displacement:
    """How far a capture lies off the bench that the model knows."""

    offset_mm: float
    """In depth."""
    shift_px: float
    """In the image."""


@dataclass(frozen=True)
class Settings:
    """How, on what and by what a model was scored."""

    protocol: Protocol
    model: str
    data: str
    """The folders of the set."""
    captures: str
    """Which captures of it, in words."""
    ids: list[str]
    """The captures that were scored, in the order of the rows."""
    versions: dict[str, str]
    """Of the packages that compute scores."""
    limits: tuple[float, float] | None = None
    """The depth that the set reads, in its unit; None for pairs of points."""
    unit: str | None = None
    """Of the set, a key of UNITS; None for pairs of points."""
    moved: dict[str, Displacement] = field(default_factory=dict)
    """Captures that do not lie on the model's bench."""
    known: int | None = None
    """How many of the captures trained the model; None where nobody counted."""
    encoding: str | None = None
    """The encoding that decoded the answers in place of the model's own."""
    format: str | None = None
    """The layout that read the set; None where the caller opened it."""
    predictions: str | None = None
    """The folder of the answers, relative to the folder of metrics.json where it lies below."""
    left_out: LeftOutRecord | None = None
    """For answers by which a run was chosen."""
    headline: str | None = None
    """What a comparison with trivial answers says against the model; empty where the model beats them."""
    ci: int | float | None = None
    """The level of the intervals, in %."""

    def document(self) -> dict[str, object]:
        """Everything that is known, ready for JSON."""
        order = ("model", "data", "limits", "unit", "captures", "ids", "versions", "moved", "known", "encoding")
        order += ("format", "predictions", "left_out", "headline", "ci")
        values = asdict(self)
        # An empty `moved` means that no bench was known, or that no capture had moved: neither is worth a line.
        shown = {name: values[name] for name in order if values[name] is not None and values[name] != {}}
        if self.limits is not None:
            shown["limits"] = list(self.limits)
        return {"protocol": self.protocol.model_dump(), **shown}

    @classmethod
    def from_document(cls, document: Mapping[str, Any], result: str) -> "Settings":
        """What `document` wrote.

        Args:
            document: as JSON reads it.
            result: the name of the evaluation, for the message.

        Raises:
            ValueError: its protocol lacks a constant, as one that an earlier sonde wrote may.
        """
        known = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        try:
            known["protocol"] = Protocol.model_validate(document["protocol"])
        except ValidationError as error:
            name = ".".join(map(str, error.errors()[0]["loc"]))
            raise ValueError(f"The settings of {result} do not fit this sonde at {name!r}: score again.") from None
        if "limits" in known:
            known["limits"] = tuple(known["limits"])
        if "moved" in known:
            known["moved"] = {id_: Displacement(**found) for id_, found in known["moved"].items()}
        if "left_out" in known:
            known["left_out"] = LeftOutRecord(**known["left_out"])
        return cls(**known)
