"""A web server on this machine that breaks off, lies and changes its mind."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """One file of the server, and how it behaves in the requests to come; after those it is a good server."""

    body: bytes
    etag: str = '"one"'
    moods: list[str] = field(default_factory=list)
    """`cut` half way, `short` by a byte, a status code, `deaf` to ranges, `changed` file, `silent` on its size."""
    kind: str = "application/octet-stream"


class Server(ThreadingHTTPServer):
    """Files by name, and what it was asked for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, str | None, str | None]] = []
        """(path, Range, If-Range) of every request."""

    def url(self, name: str) -> str:
        """The address of a file."""
        return f"http://127.0.0.1:{self.server_port}/{name}"

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of every request."""
        return [header for _, header, _ in self.asked]


class Handler(BaseHTTPRequestHandler):
    """A static server with Range, If-Range and moods."""

    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        """One request, in the mood of the day."""
        self.server.asked.append((self.path, self.headers["Range"], self.headers["If-Range"]))
        served = self.server.files.get(self.path.lstrip("/"))
        mood = served.moods.pop(0) if served and served.moods else ""
        if served is None or mood.isdigit():
            self.send_response(int(mood or 404))
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if mood == "changed":
            served.body, served.etag = served.body[::-1], '"two"'
        start = self._start(served, mood)
        if start is not None and start >= len(served.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(served.body)}")
            return self.end_headers()
        body = served.body[start or 0 :]
        self.send_response(206 if start is not None else 200)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(served.body) - 1}/{len(served.body)}")
        if mood != "silent":
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", served.kind)
        if served.etag:
            self.send_header("ETag", served.etag)
        self.end_headers()
        self.wfile.write(body[: {"cut": len(body) // 2, "short": len(body) - 1}.get(mood, len(body))])

    def _start(self, served: Served, mood: str) -> int | None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        stale = self.headers["If-Range"] not in (None, served.etag)
        return None if asked is None or stale or mood == "deaf" else int(asked[1])


@contextmanager
def serving() -> Iterator[Server]:
    """On loopback, in a thread."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()
