"""Calibrations that clients measure: an id holds its formula, so that no server has to remember it."""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from starlette.responses import JSONResponse, Response

from sonde import files
from sonde.extras import explain_missing
from sonde.models import Calibration
from sonde.models.calibration import calibration_from_json
from sonde.serving.documents import CalibrateQuery, CalibrationDocument
from sonde.serving.line import Answer, Place
from sonde.serving.refusals import Refusal
from sonde.spelling import shorten
from sonde.types import RGBArray

IMAGE = Path("the image")
"""What stands for the image in sentences and records."""
NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
KEPT = ("kind", "space", "scale", "shift", "limits", "fingerprint")
"""Fields of a calibration that its id holds."""


def encode(calibration: Calibration) -> str:
    """The id of a calibration: its formula, and the fingerprint of the model that it belongs to."""
    text = json.dumps([getattr(calibration, name) for name in KEPT], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(name: str | None) -> Calibration | None:
    """The calibration of an id, on every server that has the model.

    Raises:
        Refusal: no id that `encode` gave.
    """
    if name is None:
        return None
    try:
        text = base64.b64decode(name + "=" * (-len(name) % 4), b"-_", validate=True).decode()
        values = files.parse_json(text, list[Any])
        if len(values) != len(KEPT):
            raise ValueError
        return calibration_from_json(dict(zip(KEPT, values, strict=True)))
    except (binascii.Error, ValueError, TypeError, KeyError):
        raise Refusal(
            404, f"No calibration {shorten(name, 40)!r}: give an id that POST /v1/calibrate answered."
        ) from None


def check_name(name: str | None, place: Path | None) -> None:
    """Refuse a name to save by, before any work.

    Raises:
        ValueError: nothing may be saved here, the name is no plain one, or it is taken.
    """
    if name is None:
        return
    if place is None:
        raise ValueError("This server saves no calibrations: leave save out, or start it with --allow-save FOLDER.")
    if not NAMES.fullmatch(name):
        raise ValueError(f"save={shorten(name, 80)!r}: expected letters, digits, - and _, at most 64.")
    if (place / name).exists():
        raise ValueError(f"save={name!r}: a calibration of that name exists; choose another name.")


def calibrate(
    answer: Answer,
    image: RGBArray,
    place: Place,
    *,
    known: Sequence[tuple[float, float, float]],
    query: CalibrateQuery,
    folder: Path | None,
) -> Response:
    """Find the formula that `sonde calibrate` chooses for the same points.

    Args:
        answer: of the model without calibration.
        image: is not looked at.
        place: of the request.
        known: (x, y, metres).
        query: the parameters.
        folder: to save to, if that is allowed.

    Raises:
        ValueError: points outside the image, too few of them, or depths that are certainly of another unit.
        Refusal: torch or scipy is not installed.
    """
    start = perf_counter()
    try:
        from sonde import calibration as room
    except ModuleNotFoundError as error:
        missing = explain_missing(error, "POST /v1/calibrate")
        raise (error if missing is None else Refusal(501, str(missing))) from None
    name = answer.loaded.model.name
    x, y, depth = np.array(known, dtype=np.float64).T
    measured = [room.Measured(IMAGE, np.rint(x).astype(int), np.rint(y).astype(int), depth, "points of a request")]
    screening = room.screen_points(measured, query.check)
    sampled = room.sample_points([answer.depth], measured)
    found = replace(room.fit_points(name, answer.space, sampled, query.kind), fingerprint=answer.loaded.fingerprint)
    found.record["checks"] = screening.document()
    if query.save is not None and folder is not None:
        room.save_calibration(found, name, folder / query.save)
    useless = room.warn_if_useless(room.CalibrationRecord(**found.record))
    place.seconds["write"] = perf_counter() - start
    document: CalibrationDocument = {
        "calibration": encode(found),
        "kind": found.kind,
        "formula": found.formula("answer"),
        "scale": found.scale,
        "shift": found.shift,
        "error_m": float(np.abs(found.apply(sampled.points.answer) - sampled.points.depth).mean()),
        "points": len(known),
        "method": found.record["method"],
        "warnings": [*found.record["outliers"], *([useless] if useless else [])],
        "saved": query.save,
    }
    return JSONResponse(document)
