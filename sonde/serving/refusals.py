"""Requests that are answered with an error: a status, and one sentence."""

import logging
from collections.abc import Mapping

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sonde.prediction.batches import TooLittleMemory
from sonde.spelling import nearest, shorten

log = logging.getLogger(__name__)

STATUSES: Mapping[int, str] = {
    400: "A bad image or a bad parameter.",
    401: "No API key, or a wrong one.",
    403: "A request by a page of another site.",
    404: "No such path, model or calibration.",
    408: "The request took longer than the server allows.",
    413: "More bytes or more pixels than the server allows.",
    415: "The content is no image of a known format.",
    429: "The queue is full: Retry-After says in how many seconds to ask again.",
    500: "A fault of the server.",
    501: "The server lacks a package that this needs.",
    503: "Too little memory, or the server starts or stops.",
}
"""Status of an error → what it means."""


class Refusal(Exception):
    """A request that is not answered: the status, one sentence, and headers of the answer."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None):
        super().__init__(sentence)
        self.status, self.headers = status, dict(headers or {})

    def answer(self) -> JSONResponse:
        """What the client gets."""
        return JSONResponse({"error": " ".join(str(self).split())}, self.status, self.headers)


def make_refusal(error: Exception, request: str, known: list[str]) -> Refusal:
    """What an error means for the client; a fault of the server is logged in one line.

    Args:
        error: as it was raised.
        request: `POST /v1/depth`.
        known: the names of all parameters.
    """
    match error:
        case Refusal():
            return error
        case HTTPException():
            meaning = {404: "no such path", 405: "another method is expected"}.get(error.status_code, error.detail)
            return Refusal(error.status_code, f"{request}: {meaning}; /docs lists what there is.", error.headers)
        case RequestValidationError():
            return Refusal(400, _explain_parameter(error, known))
        case TooLittleMemory():
            return Refusal(503, str(error))
        case MemoryError():
            return Refusal(503, "The server has too little memory for this request: give a smaller image.")
        case ValueError():
            return Refusal(400, str(error))
    log.error("%s failed: %s: %s", request, type(error).__name__, shorten(error))
    log.debug("The error in full:", exc_info=error)
    if isinstance(error, OSError):
        return Refusal(503, f"The server cannot write the answer: {error.strerror or 'the disk failed'}.")
    return Refusal(500, "The server failed on this request: its log says more.")


def _explain_parameter(error: RequestValidationError, known: list[str]) -> str:
    first = error.errors()[0]
    name = str(first["loc"][-1])
    if first["type"] == "extra_forbidden":
        return f"No parameter {shorten(name, 80)!r}: {nearest(name, known)}"
    return f"{name}={shorten(first.get('input'), 80)!r}: {first['msg'][:1].lower()}{first['msg'][1:]}."
