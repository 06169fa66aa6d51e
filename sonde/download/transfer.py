"""One file over HTTP into a `.part` that a later call goes on with, whatever broke the transfer.

What has come is kept and continued by a Range request. If-Range names the version of the file that the part belongs to,
so that a file changed on the server starts anew, as it does where a server knows no ranges or names no version.
"""

import errno
import http.client
import re
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

CHUNK = 1 << 17
"""Bytes."""
TIMEOUT = 60.0
"""Seconds without a byte."""
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each new attempt; they begin again whenever bytes have come that had not come before."""
LONGEST_PAUSE = 300.0
"""Seconds; a server that asks for more is not waited for that long."""
AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Status codes that may pass."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""How a disk says that it is full."""
AGENT = "sonde (depth data sets by name)"

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have come, and the file's bytes where the server tells."""


class Broken(Exception):
    """A transfer that another attempt may mend."""

    def __init__(self, reason: str, pause: float = 0.0):
        super().__init__(reason)
        self.pause = pause
        """Seconds the server asks for."""


class NotThere(ValueError):
    """A server says that it has no such file, or not for us; asking again does not help."""


def fetch(
    url: str, part: Path, *, size: int | None = None, certain: bool = False, progress: Progress | None = None
) -> None:
    """The whole file at `part`, which may hold its beginning already.

    Args:
        url: http or https.
        part: where it goes; beside it `NAME.version` keeps what the server calls this version of the file.
        size: the exact size in bytes, where it is known.
        certain: a checksum is known, so a part without a version may be continued: a mixture would be noticed.
        progress: told after every chunk.

    Raises:
        ValueError: it is not there, not allowed, not reachable, another size, or the disk is full. What has come stays.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    if size is not None and bytes_of(part) > size:
        part.unlink()
    furthest, failures = bytes_of(part), 0
    while size is None or bytes_of(part) < size or not part.exists():
        try:
            return _attempt(url, part, size, certain, progress or (lambda done, total: None))
        except (Broken, http.client.HTTPException, URLError, TimeoutError, ConnectionError, ssl.SSLError) as error:
            failures = 0 if bytes_of(part) > furthest else failures
            furthest = max(furthest, bytes_of(part))
            if failures == len(PAUSES):
                raise ValueError(_given_up(url, part, error)) from None
            time.sleep(max(PAUSES[failures], getattr(error, "pause", 0.0)))
            failures += 1


def bytes_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def text(url: str, most: int = 4096) -> str:
    """The beginning of a small file, such as a published checksum.

    Raises:
        ValueError: it cannot be had.
    """
    try:
        with _opened(Request(url, headers={"User-Agent": AGENT})) as reply:
            return reply.read(most).decode("utf-8", "replace")
    except (Broken, http.client.HTTPException, OSError) as error:
        raise ValueError(f"{url} cannot be read ({_reason(error)}): check the network and try again.") from None


def version_of(part: Path) -> Path:
    """Where the version of a part is kept."""
    return part.with_name(part.name + ".version")


@contextmanager
def writing(what: Path, remedy: str) -> Iterator[None]:
    """Turns a full disk into one sentence: the file and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise ValueError(f"The disk of {what.parent} is full: {remedy}") from None


def _attempt(url: str, part: Path, size: int | None, certain: bool, progress: Progress) -> None:
    have, version = bytes_of(part), _version(part)
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if have and (version or certain):
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": version} if version else {})
    try:
        with _opened(Request(url, headers=headers)) as reply:
            start, total = _extent(reply, have, part)
            _agree(url, reply.headers, total, size)
            _room(part, start, total)
            if start == 0:
                _remember(part, reply.headers)
            _copy(reply, part, start, total, progress)
    except HTTPError as error:  # 416: there is nothing beyond what we have
        error.close()
        _be_whole(error, have, part)


def _opened(request: Request) -> http.client.HTTPResponse:
    try:
        return urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416:
            raise
        error.close()
        if error.code in AGAIN:
            asked = error.headers.get("Retry-After", "0")
            pause = min(float(asked), LONGEST_PAUSE) if asked.isdecimal() else 0.0
            raise Broken(f"the server answers {error.code}", pause) from None
        raise NotThere(_refused(request.full_url, error.code)) from None
    except URLError as error:
        raise Broken(_reason(error)) from None


def _extent(reply: http.client.HTTPResponse, have: int, part: Path) -> tuple[int, int | None]:
    """Where the answer begins in the file, and the size of the file."""
    if reply.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", reply.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            part.unlink(missing_ok=True)
            raise Broken("the server answered with another range than asked for")
        return have, int(match[2]) if match[2] != "*" else None
    length = reply.headers.get("Content-Length")
    return 0, int(length) if length and length.isdecimal() else None


def _agree(url: str, headers: Message, total: int | None, size: int | None) -> None:
    if total is not None and size is not None and total != size:
        raise ValueError(f"{url} is {total} bytes, but {size} are registered: the publisher has changed the file.")
    if headers.get_content_type() == "text/html" and not url.endswith((".html", ".htm")):
        raise ValueError(f"{url} answers with a page instead of the file: fetch it by hand in a browser.")


def _room(part: Path, start: int, total: int | None) -> None:
    free = shutil.disk_usage(part.parent).free + (bytes_of(part) if start == 0 else 0)
    if total is not None and total - start > free:
        raise ValueError(
            f"{part.name.removesuffix('.part')} needs {total - start} more bytes, but the disk of {part.parent} "
            f"has {free}: free some, or choose another folder."
        )


def _copy(reply: http.client.HTTPResponse, part: Path, start: int, total: int | None, progress: Progress) -> None:
    done = start
    with writing(part, f"free some, and the same command goes on; what has come is kept in {part}."):
        with _writer(part, start) as file:
            while chunk := reply.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
    if total is not None and done < total:
        raise Broken(f"the connection was cut after {done} of {total} bytes")
    if bytes_of(part) != done:
        raise ValueError(f"{part} is written by another process too: let one of them finish alone.")


def _writer(part: Path, start: int) -> BinaryIO:
    return part.open("ab" if start else "wb")


def _be_whole(error: HTTPError, have: int, part: Path) -> None:
    if error.headers.get("Content-Range") != f"bytes */{have}":
        part.unlink(missing_ok=True)
        raise Broken("what had come was longer than the file")


def _remember(part: Path, headers: Message) -> None:
    tag = headers.get("ETag", "")
    version = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")
    version_of(part).write_text(version, encoding="utf-8")


def _version(part: Path) -> str:
    path = version_of(part)
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _refused(url: str, code: int) -> str:
    if code in (404, 410):
        return f"{url} is not there (HTTP {code}): the publisher may have moved it; see the set's homepage."
    if code in (401, 403):
        return f"{url} may not be fetched (HTTP {code}): it may want a login or a form; see the set's homepage."
    return f"{url} cannot be fetched: the server answers HTTP {code}."


def _given_up(url: str, part: Path, error: Exception) -> str:
    kept = f"what has come is kept in {part} and the same command goes on from there" if bytes_of(part) else "try again"
    return f"{url} cannot be fetched ({_reason(error)}): check the network; {kept}."


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    return " ".join(str(getattr(reason, "strerror", None) or reason).split()) or type(error).__name__
