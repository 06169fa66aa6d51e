"""Download one file over HTTP into a `.part`, which a later call continues after any failure.

The bytes received so far are kept and continued by a Range request. If-Range names the version of the file to which the
part belongs, so a file that has changed on the server starts again. It also starts again if the server does not support
ranges or states no version.
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

from sonde.renamed import keep_old_names

CHUNK = 1 << 17
"""Bytes."""
TIMEOUT = 60.0
"""Seconds without a byte."""
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each new attempt; they start over whenever an attempt has received new bytes."""
LONGEST_PAUSE = 300.0
"""Longest pause in seconds, also if a server asks for more."""
AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Status codes after which another attempt may succeed."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk."""
AGENT = "sonde (depth data sets by name)"

Progress = Callable[[int, int | None], None]
"""Called with (bytes so far, total bytes or None if the server does not state them)."""


class BrokenTransfer(Exception):
    """A transfer failed, and another attempt may succeed."""

    def __init__(self, reason: str, pause: float = 0.0):
        super().__init__(reason)
        self.pause = pause
        """Seconds that the server asks to wait."""


class MissingFile(ValueError):
    """The server refuses a file, or does not have it; another attempt does not help."""


def fetch(
    url: str, part: Path, *, size: int | None = None, certain: bool = False, progress: Progress | None = None
) -> None:
    """Download the whole file to `part`, which may already hold its beginning.

    Args:
        url: http or https.
        part: the target; `NAME.version` beside it holds the server's version of the file.
        size: the exact size in bytes, if it is known.
        certain: a checksum is known, so a part without a version may be continued: a mixture would be found.
        progress: called after every chunk.

    Raises:
        ValueError: the file is missing, refused, not reachable or of another size, or the disk is full. The bytes
            received so far are kept.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    if size is not None and count_bytes(part) > size:
        part.unlink()
    furthest, failures = count_bytes(part), 0
    while size is None or count_bytes(part) < size or not part.exists():
        try:
            return _attempt(url, part, size, certain, progress or (lambda done, total: None))
        except (
            BrokenTransfer,
            http.client.HTTPException,
            URLError,
            TimeoutError,
            ConnectionError,
            ssl.SSLError,
        ) as error:
            failures = 0 if count_bytes(part) > furthest else failures
            furthest = max(furthest, count_bytes(part))
            if failures == len(PAUSES):
                raise ValueError(_explain_failure(url, part, error)) from None
            asked = error.pause if isinstance(error, BrokenTransfer) else 0.0
            time.sleep(max(PAUSES[failures], asked))
            failures += 1


def count_bytes(path: Path) -> int:
    """Size of a file in bytes; 0 if it does not exist."""
    return path.stat().st_size if path.is_file() else 0


def read_text(url: str, most: int = 4096) -> str:
    """The beginning of a small file, such as a published checksum.

    Raises:
        ValueError: it cannot be downloaded.
    """
    try:
        with _open(Request(url, headers={"User-Agent": AGENT})) as reply:
            return reply.read(most).decode("utf-8", "replace")
    except (BrokenTransfer, http.client.HTTPException, OSError) as error:
        raise ValueError(f"{url} cannot be read ({_explain_error(error)}): check the network and try again.") from None


def version_path(part: Path) -> Path:
    """The file that holds the server's version of a part."""
    return part.with_name(part.name + ".version")


@contextmanager
def writing(what: Path, remedy: str) -> Iterator[None]:
    """Turn a full disk into a ValueError of one sentence: the folder and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise ValueError(f"The disk of {what.parent} is full: {remedy}") from None


def _attempt(url: str, part: Path, size: int | None, certain: bool, progress: Progress) -> None:
    have, version = count_bytes(part), _read_version(part)
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if have and (version or certain):
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": version} if version else {})
    try:
        with _open(Request(url, headers=headers)) as reply:
            start, total = _read_extent(reply, have, part)
            _check_reply(url, reply.headers, total, size)
            _check_room(part, start, total)
            if start == 0:
                _write_version(part, reply.headers)
            _copy(reply, part, start, total, progress)
    except HTTPError as error:  # 416: the file has no bytes beyond the part
        error.close()
        _require_whole(error, have, part)


def _open(request: Request) -> http.client.HTTPResponse:
    try:
        return urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416:
            raise
        error.close()
        if error.code in AGAIN:
            asked = error.headers.get("Retry-After", "0")
            pause = min(float(asked), LONGEST_PAUSE) if asked.isdecimal() else 0.0
            raise BrokenTransfer(f"the server answers {error.code}", pause) from None
        raise MissingFile(_explain_refusal(request.full_url, error.code)) from None
    except URLError as error:
        raise BrokenTransfer(_explain_error(error)) from None


def _read_extent(reply: http.client.HTTPResponse, have: int, part: Path) -> tuple[int, int | None]:
    """Offset of the reply in the file, and the size of the file, None if unknown."""
    if reply.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", reply.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            part.unlink(missing_ok=True)
            raise BrokenTransfer("the server sent another range than the requested one")
        return have, int(match[2]) if match[2] != "*" else None
    length = reply.headers.get("Content-Length")
    return 0, int(length) if length and length.isdecimal() else None


def _check_reply(url: str, headers: Message, total: int | None, size: int | None) -> None:
    if total is not None and size is not None and total != size:
        raise ValueError(f"{url} is {total} bytes, but {size} are registered: the publisher has changed the file.")
    if headers.get_content_type() == "text/html" and not url.endswith((".html", ".htm")):
        raise ValueError(f"{url} returns a web page instead of the file: download it in a browser.")


def _check_room(part: Path, start: int, total: int | None) -> None:
    free = shutil.disk_usage(part.parent).free + (count_bytes(part) if start == 0 else 0)
    if total is not None and total - start > free:
        raise ValueError(
            f"{part.name.removesuffix('.part')} needs {total - start} more bytes, but the disk of {part.parent} "
            f"has {free}: free some, or choose another folder."
        )


def _copy(reply: http.client.HTTPResponse, part: Path, start: int, total: int | None, progress: Progress) -> None:
    done = start
    with writing(part, f"free some space and run the same command again; what has come is kept in {part}."):
        with _open_part(part, start) as file:
            while chunk := reply.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
    if total is not None and done < total:
        raise BrokenTransfer(f"the connection was closed after {done} of {total} bytes")
    if count_bytes(part) != done:
        raise ValueError(f"Another process writes {part} too: wait until one of them has finished.")


def _open_part(part: Path, start: int) -> BinaryIO:
    return part.open("ab" if start else "wb")


def _require_whole(error: HTTPError, have: int, part: Path) -> None:
    if error.headers.get("Content-Range") != f"bytes */{have}":
        part.unlink(missing_ok=True)
        raise BrokenTransfer("the part was longer than the file")


def _write_version(part: Path, headers: Message) -> None:
    tag = headers.get("ETag", "")  # a weak tag, W/, does not promise equal bytes
    version = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")
    version_path(part).write_text(version, encoding="utf-8")


def _read_version(part: Path) -> str:
    path = version_path(part)
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _explain_refusal(url: str, code: int) -> str:
    if code in (404, 410):
        return f"{url} does not exist (HTTP {code}): the publisher may have moved it; see the set's homepage."
    if code in (401, 403):
        return f"{url} is refused (HTTP {code}): it may need a login or a form; see the set's homepage."
    return f"{url} cannot be downloaded: the server answers HTTP {code}."


def _explain_failure(url: str, part: Path, error: Exception) -> str:
    remedy = "check the network and try again"
    if count_bytes(part):
        remedy = f"check the network and run the same command again; what has come is kept in {part}"
    return f"{url} cannot be downloaded ({_explain_error(error)}): {remedy}."


def _explain_error(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    words = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    return " ".join(words.split()) or type(error).__name__


keep_old_names(
    __name__,
    {
        "Broken": "BrokenTransfer",
        "NotThere": "MissingFile",
        "bytes_of": "count_bytes",
        "text": "read_text",
        "version_of": "version_path",
    },
)
