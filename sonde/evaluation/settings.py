"""What an evaluation records beside its scores: all it takes to score again. Built once, never changed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, ValidationError, with_config
from typing_extensions import TypedDict

from sonde.checks import ScreeningDocument
from sonde.files import check_type
from sonde.ids import CaptureId
from sonde.models import Placement
from sonde.protocols import Protocol
from sonde.runs import LeftOutRecord
from sonde.spelling import shorten
from sonde.strict import EXACT


@with_config(EXACT)
class PlacementDocument(TypedDict):
    """Where a model ran; see the fields of `Placement`."""

    device: str
    precision: str
    runtime: str


@with_config(EXACT)
class SettingsDocument(TypedDict):
    """The settings in `metrics.json`; see the fields of `Settings`, which names each of these keys."""

    protocol: dict[str, Any]
    model: str
    data: str
    captures: str
    ids: list[CaptureId]
    versions: dict[str, str]
    limits: NotRequired[Annotated[list[float], Field(min_length=2, max_length=2)] | None]
    unit: NotRequired[Literal["m", "cm", "mm"] | None]
    moved: NotRequired[dict[str, Any]]
    known: NotRequired[int | None]
    encoding: NotRequired[str | None]
    format: NotRequired[str | None]
    predictions: NotRequired[str | None]
    depth_scale: NotRequired[int | float | None]
    left_out: NotRequired[dict[str, Any] | None]
    headline: NotRequired[str | None]
    ci: NotRequired[int | float | None]
    checks: NotRequired[ScreeningDocument | None]
    placement: NotRequired[PlacementDocument | None]


@with_config(EXACT)
class MetricsDocument(TypedDict):
    """What a reader needs of `metrics.json`."""

    protocol: str
    metrics: dict[str, int | float]
    settings: SettingsDocument
    skipped: NotRequired[dict[str, str]]
    headline: NotRequired[str]


@with_config(EXACT)
class RunScores(TypedDict):
    """What the command line shows of the `metrics.json` of a run, or of the mean over its folds."""

    metrics: dict[str, int | float | dict[str, int | float]]
    headline: NotRequired[str]
    table: NotRequired[dict[str, dict[str, int | float | None]]]
    images: NotRequired[int]
    settings: NotRequired[SettingsDocument]


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
    depth_scale: int | float | None = None
    """Metres per level of the predictions, as the user stated it."""
    left_out: LeftOutRecord | None = None
    """For answers by which a run was chosen."""
    headline: str | None = None
    """What a comparison with trivial answers says against the model; empty where the model beats them."""
    ci: int | float | None = None
    """The level of the intervals, in %."""
    checks: ScreeningDocument | None = None
    """What the checks said of the captures, or that they were switched off; None where nobody asked them."""
    placement: Placement | None = None
    """Where the model ran; None for answers on disk, and for what is no model."""

    def document(self) -> dict[str, object]:
        """Everything that is known, ready for JSON."""
        order = ("model", "data", "limits", "unit", "captures", "ids", "versions", "moved", "known", "encoding")
        order += ("format", "predictions", "depth_scale", "left_out", "headline", "ci", "checks", "placement")
        values = asdict(self)
        # An empty `moved` means that no bench was known, or that no capture had moved: neither is worth a line.
        shown = {name: values[name] for name in order if values[name] is not None and values[name] != {}}
        if self.limits is not None:
            shown["limits"] = list(self.limits)
        if self.placement is not None:
            shown["placement"] = self.placement._asdict()
        return {"protocol": self.protocol.model_dump(), **shown}

    @classmethod
    def from_document(cls, document: Mapping[str, Any], result: str) -> "Settings":
        """What `document` wrote.

        Args:
            document: as JSON reads it.
            result: the name of the evaluation, for the message.

        Raises:
            ValueError: a key of another type; or a protocol that lacks a constant, as one that an earlier sonde wrote
                may.
        """
        checked: SettingsDocument = check_type(document, SettingsDocument)
        known: dict[str, Any] = {name: value for name, value in checked.items() if name in cls.__dataclass_fields__}
        try:
            known["protocol"] = Protocol.model_validate(checked["protocol"])
        except ValidationError as error:
            name = shorten(".".join(map(str, error.errors()[0]["loc"])))
            raise ValueError(f"The settings of {result} do not fit this sonde at {name!r}: score again.") from None
        if known.get("limits") is not None:
            known["limits"] = tuple(known["limits"])
        if (place := checked.get("placement")) is not None:
            known["placement"] = Placement(**place)
        known["moved"] = check_type(checked.get("moved", {}), dict[str, Displacement])
        known["left_out"] = check_type(checked.get("left_out"), LeftOutRecord | None)
        return cls(**known)
