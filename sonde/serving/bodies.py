"""The body of a request: the encoded image, and the fields beside it; all of it in memory, within a limit."""

from collections.abc import AsyncGenerator
from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from sonde.serving.refusals import Refusal
from sonde.spelling import nearest, shorten

IMAGE = "image"
"""The field of the image."""


class Upload(NamedTuple):
    """What a request holds besides its query."""

    image: bytes
    fields: dict[str, str]
    """Field of a multipart body → its text."""


class MemoryParser(MultiPartParser):
    """A parser of multipart bodies that writes no file; `read_upload` bounds what it takes."""

    spool_max_size = 1 << 40


async def read_body(request: Request, most: int) -> bytes:
    """All bytes of a body.

    Raises:
        Refusal: more than `most`.
        ClientDisconnect: the client has gone.
    """
    return b"".join([chunk async for chunk in _count(request, most)])


async def read_upload(request: Request, most: int, *fields: str) -> Upload:
    """Read the body: multipart with the field `image`, or the image itself.

    Args:
        request: whose body nobody has read.
        most: bytes.
        fields: names of the other fields that it may have.

    Raises:
        Refusal: too many bytes, no image, another field, or a body that is no multipart in spite of its header.
        ClientDisconnect: the client has gone.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return Upload(_check_there(await read_body(request, most)), {})
    parser = MemoryParser(request.headers, _count(request, most), max_files=1, max_fields=len(fields) + 1)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = error.message if isinstance(error, MultiPartException) else "its boundary is missing or wrong"
        sentence = f"The multipart body cannot be read ({shorten(reason, 120).rstrip('.')}): expected a field `image`."
        raise Refusal(400, sentence) from None
    try:
        if (name := next((name for name in form if name not in (IMAGE, *fields)), None)) is not None:
            raise Refusal(400, f"No field {shorten(name, 80)!r}: {nearest(name, (IMAGE, *fields))}")
        image = form.get(IMAGE)
        content = await image.read() if isinstance(image, UploadFile) else (image or "").encode("utf-8", "replace")
        texts = {name: text for name, text in form.items() if name != IMAGE and isinstance(text, str)}
        return Upload(_check_there(content), texts)
    finally:
        await form.close()


async def _count(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """The body in pieces, as long as it is within the limit."""
    stated = request.headers.get("content-length", "")
    total = int(stated) if stated.isdecimal() and int(stated) > most else 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > most:
            raise Refusal(413, f"The request has more than {most / 1e6:g} MB, the most that this server takes.")
        yield chunk


def _check_there(content: bytes) -> bytes:
    if not content:
        raise Refusal(400, "There is no image: give it as the body, or as the field `image` of a multipart body.")
    return content
