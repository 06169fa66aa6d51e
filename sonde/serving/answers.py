"""From a network's answer to what the client gets: the bytes that `sonde predict` writes, headers, and JSON."""

import time
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image
from starlette.responses import JSONResponse, Response

from sonde import files
from sonde.files.levels import mark_trusted
from sonde.prediction import SAVERS, PredictedImage, render_preview
from sonde.serving.documents import DepthDocument, DepthQuery
from sonde.serving.line import STAGES, Answer, Place
from sonde.types import RGBArray


class AnswerFormat(NamedTuple):
    """One form of an answer."""

    media: str
    saver: str
    """A name in SAVERS; of JSON, whose scale and offset it states."""


FORMATS: Mapping[str, AnswerFormat] = {
    "png": AnswerFormat("image/png", "png16"),
    "npy": AnswerFormat("application/x-npy", "npy"),
    "ply": AnswerFormat("application/x-ply", "ply"),
    "glb": AnswerFormat("model/gltf-binary", "glb"),
    "preview": AnswerFormat("image/png", "preview"),
    "json": AnswerFormat("application/json", "png16"),
}
"""Value of `format` → what it means."""


def choose_format(asked: str | None, accept: str) -> str:
    """The format that a client asks for, else the one that it accepts most gladly, else png.

    Args:
        asked: the parameter.
        accept: the header.
    """
    wishes: dict[str, float] = {}
    for part in accept.lower().split(","):
        media, *parameters = (word.strip() for word in part.split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        name = next((name for name, each in FORMATS.items() if each.media == media), None)
        if name is not None and quality.replace(".", "", 1).isdecimal() and float(quality) > 0:
            wishes.setdefault(name, float(quality))
    return asked or max(wishes, key=lambda name: wishes[name], default="png")


def write_answer(
    answer: Answer, image: RGBArray, place: Place, *, name: str, query: DepthQuery, folder: Path
) -> Response:
    """Write an answer as `sonde predict` writes its file.

    Args:
        answer: of the network.
        image: for the colours of a cloud.
        place: of the request, with the seconds of the other stages.
        name: of the format.
        query: the parameters.
        folder: the server's own, for a moment.
    """
    start = time.perf_counter()
    media, saver = FORMATS[name]
    predicted = PredictedImage(image, answer.depth, answer.space, answer.unit, answer.camera.matrix)
    with TemporaryDirectory(dir=folder) as here:
        path = Path(here) / f"answer{SAVERS[saver].suffix}"
        if name == "preview":
            files.write_drawing(path, render_preview(predicted, query.low, query.high))
        else:
            SAVERS[saver].write(path, predicted)
        body = path.read_bytes()
    place.seconds["write"] = time.perf_counter() - start
    if name != "json" and answer.space == "metric":  # of JSON, the numbers are those that it holds
        predicted = replace(predicted, unit=SAVERS[saver].unit or answer.unit)
    facts = _describe(answer, predicted, query.calibration, body if saver == "png16" else None)
    headers = {
        f"X-Sonde-{key.title().replace('_', '-')}": _spell(fact) for key, fact in facts.items() if fact is not None
    }
    headers["X-Sonde-Seconds"] = f"{time.perf_counter() - place.entered:.4f}"
    if name != "json":
        return Response(body, media_type=media, headers=headers)
    facts["median"] = float(np.median(predicted.own))
    facts["valid"] = float(mark_trusted(answer.depth, None, answer.space).mean())
    facts["seconds"] = {stage: place.seconds[stage] for stage in STAGES}
    return JSONResponse(facts, headers=headers)


def _describe(answer: Answer, own: PredictedImage, calibration: str | None, png: bytes | None) -> DepthDocument:
    """What headers and JSON say alike."""
    values, loaded = own.own, answer.loaded
    facts: DepthDocument = {
        "space": answer.space,
        "unit": own.unit,
        "min": float(values.min()),
        "max": float(values.max()),
        "width": values.shape[1],
        "height": values.shape[0],
        "intrinsics": answer.camera.numbers,
        "intrinsics_source": answer.camera.source,
        "model": loaded.model.name,
        "hash": loaded.hash,
        "licence": loaded.licence,
        "calibration": calibration,
        "note": answer.note,
    }
    if png is not None:
        with Image.open(BytesIO(png)) as image:  # its text states both
            facts["scale"], facts["offset"] = float(image.info["Scale"]), float(image.info["Offset"])
    return facts


def _spell(fact: object) -> str:
    """A fact as the text of a header, in ASCII."""
    return ",".join(map(repr, fact)) if isinstance(fact, list) else ascii(str(fact))[1:-1]
