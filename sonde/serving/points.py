"""Depth at pixels and in boxes, and distances in space, of one answer."""

from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
from starlette.responses import JSONResponse, Response

from sonde.files.levels import mark_trusted
from sonde.geometry import unproject
from sonde.serving.documents import Box, KnownPoints, Places, Point, PointsDocument
from sonde.serving.line import Answer, Place
from sonde.serving.refusals import Refusal
from sonde.spelling import shorten
from sonde.types import RGBArray
from sonde.units import UNITS

PLACES = '{"pixels": [[10, 20]], "boxes": [[0, 0, 9, 9]], "pairs": [[[10, 20], [30, 40]]]}'
POINTS = "[[412, 300, 1.21], [88, 455, 0.74]]"
"""Fields that are right, for sentences."""


def parse_places(text: str | None) -> Places:
    """What POST /v1/points is asked.

    Raises:
        Refusal: nothing, no JSON, or JSON of another form.
    """
    return _parse(text, Places, "query", PLACES)


def parse_known(text: str | None) -> list[tuple[float, float, float]]:
    """The points of POST /v1/calibrate: x, y and metres.

    Raises:
        Refusal: nothing, no JSON, or JSON of another form.
    """
    return _parse(text, KnownPoints, "points", POINTS)


def _parse(text: str | None, kind: Any, name: str, example: str) -> Any:
    if text is None:
        raise Refusal(400, f"There is no {name}: give the field `{name}` as JSON, such as {example}.")
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = shorten("".join(f"[{part!r}]" for part in first["loc"][:4]), 80)
        reason = shorten(first["msg"][:1].lower() + first["msg"][1:], 120)
        raise Refusal(400, f"{name}{where}: {reason}; expected JSON such as {example}.") from None


def measure(answer: Answer, image: RGBArray, place: Place, *, places: Places) -> Response:
    """Look an answer up at pixels, in boxes and between pairs of pixels.

    Raises:
        ValueError: a pixel outside the image, or distances without metres.
    """
    if places.pairs and answer.space != "metric":
        raise ValueError(
            f"{answer.loaded.model.name} answers relative depth ({answer.space}), and a distance needs metres: "
            "calibrate it with POST /v1/calibrate, or choose a metric model."
        )
    depth = np.where(mark_trusted(answer.depth, None, answer.space), answer.depth, np.nan)
    own = depth / UNITS[answer.unit] if answer.space == "metric" else depth
    found: PointsDocument = {
        "space": answer.space,
        "unit": answer.unit,
        "pixels": [_to_number(own[_find_pixel(point, own.shape)]) for point in places.pixels],
        "boxes": [_find_median(own, box) for box in places.boxes],
        "distances": None,
        "intrinsics": answer.camera.numbers,
        "intrinsics_source": answer.camera.source,
    }
    if places.pairs and answer.camera.matrix is not None:
        cloud = unproject(own.astype(np.float64), answer.camera.matrix)
        ends = [[cloud[_find_pixel(point, own.shape)] for point in pair] for pair in places.pairs]
        found["distances"] = [_to_number(np.linalg.norm(one - other)) for one, other in ends]
    return JSONResponse(found)


def _find_pixel(point: Point, shape: tuple[int, ...]) -> tuple[int, int]:
    """(row, column) of the pixel nearest to (x, y)."""
    column, row = round(point[0]), round(point[1])
    if not (0 <= column < shape[1] and 0 <= row < shape[0]):
        raise ValueError(
            f"The point ({point[0]:g}, {point[1]:g}) is outside the image, {shape[1]} wide and {shape[0]} high: x is "
            "the column from the left and y the row from the top, both from 0."
        )
    return row, column


def _find_median(own: np.ndarray, box: Box) -> float | None:
    (top, left), (bottom, right) = _find_pixel(box[:2], own.shape), _find_pixel(box[2:], own.shape)
    if top > bottom or left > right:
        raise ValueError(f"The box {[*box]} is turned over: expected x0, y0, x1, y1 with x0 <= x1 and y0 <= y1.")
    part = own[top : bottom + 1, left : right + 1]
    part = part[np.isfinite(part)]
    return float(np.median(part)) if part.size else None


def _to_number(value: "np.floating") -> float | None:
    return float(value) if np.isfinite(value) else None
