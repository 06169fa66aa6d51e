"""The record of a set's files, `sources.lock.json` beside the data: where each came from, and its digest."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import with_config
from typing_extensions import TypedDict

from sonde.files import atomic_write, check_type, read_json, reading
from sonde.renamed import keep_old_names
from sonde.strict import EXACT

LOCK = "sources.lock.json"

UNPUBLISHED = "no published checksum"
"""The description of a file whose digest only the lock knows."""

Progress = Callable[[int, int | None, str], None]
"""Called with (bytes so far, total bytes or None if unknown, path of the file)."""


@with_config(EXACT)
class FileRecord(TypedDict, total=False):
    """What sources.lock.json holds of one file."""

    url: str
    bytes: int
    modified: int
    """Time of the last change, in nanoseconds."""
    md5: str
    sha256: str
    checked: str
    """See `describe_check`."""
    unpacked: str | None
    """Folder into which the archive is unpacked, below the set's."""
    members: int
    """Number of files in the archive."""
    opened: list[str]
    """Names of the files of an archive of archives."""


@with_config(EXACT)
class LockDocument(TypedDict):
    """What of sources.lock.json is read; what is above the files is written again."""

    files: dict[str, FileRecord]


class State(NamedTuple):
    """One file of a set on this disk."""

    path: Path
    url: str
    """Its source: an address, or a file of the user."""
    bytes: int | None
    """Its size; None if it is unknown before the download."""
    here: str
    """`missing`, `part`, `whole`; or `unpacked` if the archive was removed after unpacking or was never here. In a dry
    run with files of the user: `to keep`, `to unpack`, `to open` or `to fetch`."""
    checked: str
    """What its bytes are compared with; see `describe_check`."""

    def line(self) -> str:
        """For people: address, place, size, and how it is checked."""
        return f"{self.url} -> {self.path} ({format_bytes(self.bytes)}, {self.here}, {self.checked})"


class Lock:
    """The record of all files of a set, written after every file."""

    def __init__(self, out: Path, head: Mapping[str, str]):
        self.path = out / LOCK
        self.head = dict(head)
        """The entries above the files: set, licence, homepage."""
        self.files: dict[str, FileRecord] = {}
        if self.path.is_file():
            remedy = "it is not a record of downloads; move it away, and the files are checked again"
            document = read_json(self.path, dict[str, Any], remedy)
            with reading(self.path, remedy):
                check_type(document, LockDocument)
            self.files = document["files"]  # as it is, so that its keys keep their order

    def find(self, name: str, url: str | None = None) -> FileRecord:
        """The record of a file; empty if there is none, or if the file came from another address than `url`."""
        record = self.files.get(name, FileRecord())
        return record if url is None or record.get("url") == url else FileRecord()

    def note(self, name: str, url: str, facts: FileRecord) -> None:
        """Add facts to the record of a file, and write all records."""
        self.files[name] = FileRecord(url=url) | self.find(name, url) | facts
        with atomic_write(self.path) as path:
            path.write_text(json.dumps(self.head | {"files": self.files}, indent=1) + "\n", encoding="utf-8")

    def holds(self, name: str, path: Path, url: str | None = None) -> bool:
        """Whether the file is the one that was checked: the same size, and not changed since."""
        record = self.find(name, url)
        return path.is_file() and (record.get("bytes"), record.get("modified")) == read_stamp(path)


def read_stamp(path: Path) -> tuple[int, int]:
    """(size in bytes, time of the last change in nanoseconds)."""
    return path.stat().st_size, path.stat().st_mtime_ns


def compute_digests(path: Path, progress: Callable[[int, int | None], None] | None = None) -> dict[str, str]:
    """The md5 and sha256 of a file, in one pass; `progress` is called with the bytes read and the total bytes."""
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


def find_fault(path: Path, size: int | None, expected: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """What is wrong with a file: its size, or the first digest that differs; None if nothing is wrong."""
    if size is not None and path.stat().st_size != size:
        return f"{path.stat().st_size} bytes, expected {size}"
    wrong = [name for name, digest in expected.items() if found[name] != digest]
    if not wrong:
        return None
    return f"its {wrong[0]} is {found[wrong[0]]}, expected {expected[wrong[0]]}"


def describe_check(published: Sequence[str], record: FileRecord) -> str:
    """What a file's bytes are compared with, in words: published digests, or the digest of the first download."""
    if published:
        return f"published {' and '.join(published)}"
    return UNPUBLISHED + (", the first download's digest" if record.get("sha256") else "")


def format_bytes(size: int | None) -> str:
    """`2.97 GB`, in decimal units, as publishers use."""
    if size is None:
        return "size unknown"
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}" if size < 999.5 * unit else f"{size / unit:.0f} {name}"
    return f"{size} B"


keep_old_names(
    __name__,
    {
        "checked": "describe_check",
        "digests": "compute_digests",
        "fault": "find_fault",
        "readable": "format_bytes",
        "stamp": "read_stamp",
    },
)
