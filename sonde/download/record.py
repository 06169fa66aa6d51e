"""What has come of a set, from where, and its digest: `sources.lock.json` beside the data, which holds later runs."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sonde.files import atomic_write, reading

LOCK = "sources.lock.json"

UNPUBLISHED = "no published checksum"
"""How a file is called whose digest nobody but the lock knows."""

Progress = Callable[[int, int | None, str], None]
"""Called with the bytes that have come, the bytes in all where they are known, and the file's path."""


class State(NamedTuple):
    """One file of a set on this disk."""

    path: Path
    url: str
    """Where it comes from: an address, or the file that the user brings."""
    bytes: int | None
    """Its size; None where it is not known before it has come."""
    here: str
    """`missing`, `part`, `whole`, or `unpacked` where the archive was removed after unpacking or never lay here; of
    what a dry run would do with files that are brought, `to keep`, `to unpack`, `to open` or `to fetch`."""
    checked: str
    """What its bytes were or will be compared with."""

    def line(self) -> str:
        """For people: address, place, size, and how it is checked."""
        return f"{self.url} -> {self.path} ({readable(self.bytes)}, {self.here}, {self.checked})"


class Lock:
    """The record of what has come, on disk after every file."""

    def __init__(self, out: Path, head: Mapping[str, str]):
        self.path = out / LOCK
        self.head = dict(head)
        """What stands above the files: set, licence, homepage."""
        self.files: dict[str, dict[str, Any]] = {}
        if self.path.is_file():
            with reading(self.path, "it is no record of downloads; move it away, and the files are checked anew"):
                self.files = dict(json.loads(self.path.read_text(encoding="utf-8"))["files"])

    def of(self, name: str, url: str | None = None) -> dict[str, Any]:
        """What is recorded of a file; nothing where it came from another address than one that is given."""
        record = self.files.get(name, {})
        return record if url is None or record.get("url") == url else {}

    def note(self, name: str, url: str, **facts: Any) -> None:
        """Adds to the record of a file."""
        self.files[name] = {"url": url} | self.of(name, url) | facts
        with atomic_write(self.path) as path:
            path.write_text(json.dumps(self.head | {"files": self.files}, indent=1) + "\n", encoding="utf-8")

    def holds(self, name: str, path: Path, url: str | None = None) -> bool:
        """Whether the file is the one that was checked: same size, not written to since."""
        record = self.of(name, url)
        return path.is_file() and (record.get("bytes"), record.get("modified")) == stamp(path)


def stamp(path: Path) -> tuple[int, int]:
    """Bytes, and when it was last written to, in nanoseconds."""
    return path.stat().st_size, path.stat().st_mtime_ns


def digests(path: Path, progress: Callable[[int, int | None], None] | None = None) -> dict[str, str]:
    """The md5 and sha256 of a file, in one pass; `progress` is told the bytes read and the bytes in all."""
    found = {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}
    size, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            for digest in found.values():
                digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, size)
    return {name: digest.hexdigest() for name, digest in found.items()}


def fault(path: Path, size: int | None, expected: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """What speaks against a file: its size, or the first digest that differs; None where nothing does."""
    if size is not None and path.stat().st_size != size:
        return f"{path.stat().st_size} bytes, expected {size}"
    wrong = [name for name, digest in expected.items() if found[name] != digest]
    return f"its {wrong[0]} is {found[wrong[0]]}, expected {expected[wrong[0]]}" if wrong else None


def checked(published: list[str], record: Mapping[str, Any]) -> str:
    """What a file's bytes are compared with, for people: published digests by name, or that of the first download."""
    if published:
        return f"published {' and '.join(published)}"
    return UNPUBLISHED + (", the first download's digest" if record.get("sha256") else "")


def readable(size: int | None) -> str:
    """`2.97 GB`; decimal units, as publishers use."""
    if size is None:
        return "size unknown"
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}" if size < 999.5 * unit else f"{size / unit:.0f} {name}"
    return f"{size} B"
