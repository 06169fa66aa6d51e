"""What the API takes and gives, as types: parameters, JSON documents, and how they stand in /openapi.json."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from sonde.serving.refusals import STATUSES
from sonde.types import Space

Number = Annotated[float, Field(allow_inf_nan=False)]
MOST = 1000
"""Pixels, boxes, pairs or known points that one request may name."""


class ImageQuery(BaseModel):
    """Parameters of every route that takes an image."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="A name of /v1/models; by default the first.")
    fx: Number | None = Field(None, gt=0, description="Focal length in pixels; give all of fx, fy, cx, cy or none.")
    fy: Number | None = Field(None, gt=0)
    cx: Number | None = Field(None, description="Centre in pixels; that of the top-left pixel is 0.")
    cy: Number | None = None
    fov: Number | None = Field(None, ge=1, le=170, description="Horizontal field of view in degrees, in their place.")


class AskQuery(ImageQuery):
    """Parameters of the routes that answer depth."""

    calibration: str | None = Field(None, max_length=2000, description="What POST /v1/calibrate answered.")
    unit: Literal["m", "cm", "mm"] | None = Field(None, description="Of metric depth; by default the model's own.")


class DepthQuery(AskQuery):
    """The parameters of POST /v1/depth."""

    format: Literal["png", "npy", "ply", "glb", "preview", "json"] | None = Field(
        None, description="Of the answer; by default what Accept asks for, else png. png and glb stay in metres."
    )
    low: Number | None = Field(None, description="The value at one end of the preview's colours.")
    high: Number | None = Field(None, description="The value at the other end.")


class PointsQuery(AskQuery):
    """The parameters of POST /v1/points."""

    query: str | None = Field(None, description="The pixels, boxes and pairs, where the body is the image itself.")


class CalibrateQuery(ImageQuery):
    """The parameters of POST /v1/calibrate."""

    kind: Literal["identity", "scale", "scale-shift", "log-affine"] | None = Field(
        None, description="Of the formula; by default the one that points left out choose."
    )
    check: bool = Field(True, description="Whether to refuse depths that are certainly of another unit.")
    save: str | None = Field(None, description="A name of letters, digits, - and _ to save it by.")


Point = tuple[Number, Number]
Box = tuple[Number, Number, Number, Number]
KnownPoints = Annotated[
    list[tuple[Number, Number, Annotated[Number, Field(gt=0)]]], Field(min_length=1, max_length=MOST)
]
"""x, y, and metres along the optical axis."""


class Places(BaseModel):
    """What POST /v1/points is asked, as JSON; pixels are (x, y) from the top left, both from 0."""

    model_config = ConfigDict(extra="forbid")

    pixels: list[Point] = Field([], max_length=MOST)
    boxes: list[Box] = Field([], max_length=MOST)
    pairs: list[tuple[Point, Point]] = Field([], max_length=MOST)


class DepthDocument(TypedDict):
    """What is said of an answer of POST /v1/depth, in headers and as JSON."""

    space: Space
    unit: str
    """Of the numbers in the answer, and of `min`, `median` and `max`."""
    scale: NotRequired[float]
    """Of the 16-bit PNG: metres, or the relative quantity, is scale * level + offset."""
    offset: NotRequired[float]
    min: float
    median: NotRequired[float]
    max: float
    valid: NotRequired[float]
    """Share of the pixels that have depth."""
    width: int
    height: int
    intrinsics: list[float] | None
    intrinsics_source: str | None
    model: str
    hash: str
    licence: str
    calibration: str | None
    note: str | None
    seconds: NotRequired[dict[str, float]]
    """Of each stage."""


class PointsDocument(TypedDict):
    """What POST /v1/points answers; null where there is no depth."""

    space: Space
    unit: str
    pixels: list[float | None]
    boxes: list[float | None]
    distances: list[float | None] | None
    intrinsics: list[float] | None
    intrinsics_source: str | None


class CalibrationDocument(TypedDict):
    """What POST /v1/calibrate answers; `calibration` is for the parameter of that name."""

    calibration: str
    kind: str
    formula: str
    scale: float
    shift: float
    error_m: float
    points: int
    method: str
    warnings: list[str]
    saved: str | None


class ModelDocument(TypedDict):
    """A model of the server; until it is loaded for the first time, its name is all that is known."""

    name: str
    loaded: bool
    space: NotRequired[Space]
    unit: NotRequired[str]
    licence: NotRequired[str]
    hash: NotRequired[str]
    parameters: NotRequired[int]
    device: NotRequired[str]
    precision: NotRequired[str]
    runtime: NotRequired[str]
    needs_intrinsics: NotRequired[bool]
    calibrated: NotRequired[bool]
    max_depth: NotRequired[float | None]


class ModelsDocument(TypedDict):
    """GET /v1/models."""

    models: list[ModelDocument]
    limits: dict[str, float]
    formats: list[str]


class QueueDocument(TypedDict):
    """GET /v1/queue; `place` and `state` are those of the request whose id is asked for."""

    waiting: int
    running: int
    limit: int
    seconds_each: float
    place: NotRequired[int | None]
    state: NotRequired[str]


class ErrorDocument(TypedDict):
    """Every error."""

    error: str


BINARY: Mapping[str, object] = {"schema": {"type": "string", "format": "binary"}}
IMAGES = ("image/png", "image/jpeg", "image/tiff", "image/bmp", "image/webp")


def describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for its `responses`."""
    return {status: {"model": ErrorDocument, "description": STATUSES[status]} for status in statuses}


def describe_body(required: Sequence[str] = (), **fields: str) -> dict[str, Any]:
    """The body of a route: an image, or multipart with an image and text fields.

    Args:
        required: fields without which a request is refused, so that a bare image is none.
        fields: name → what it holds.
    """
    texts = {name: {"type": "string", "description": about} for name, about in fields.items()}
    properties = {"image": {"type": "string", "format": "binary"}, **texts}
    schema = {"type": "object", "properties": properties, "required": ["image", *required]}
    content = {"multipart/form-data": {"schema": schema}} | ({} if required else dict.fromkeys(IMAGES, BINARY))
    return {"requestBody": {"required": True, "content": content}}
