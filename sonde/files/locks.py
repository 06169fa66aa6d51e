"""One writer in a folder at a time."""

import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from sonde.files.documents import read_json
from sonde.files.writing import atomic_write
from sonde.spelling import shorten

LOCK, NOTE = ".lock", ".writer.json"
"""The locked file of a folder, and who locked it. The system frees a lock when its process ends, however it ends."""


PATIENCE = 15.0
"""Seconds to wait for the workers of a killed process, which hold its lock until they see that it is gone."""


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other writers out of a folder while the block runs; the folder is made if it is missing.

    A lock that a killed process left is none: only a living process holds one.

    Raises:
        ValueError: another process writes to the folder; the message names it.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=PATIENCE if _is_orphaned(folder) else 0)
    except Timeout:
        raise ValueError(
            f"{folder} is being written by another sonde{_describe_writer(folder)}: wait until it ends, or choose "
            "another output folder."
        ) from None
    try:
        _write_note(folder)
        yield
    finally:
        (folder / NOTE).unlink(missing_ok=True)
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        _remove_empty(missing)


def find_writer(folder: Path) -> str | None:
    """The process that holds a folder, in words; None where nobody writes to it. Nothing is changed."""
    if not (folder / LOCK).exists():
        return None
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return _describe_writer(folder).strip(" ()") or "another process"
    except OSError:  # a folder that only its owner may write
        return None if _is_orphaned(folder) else _describe_writer(folder).strip(" ()") or None
    lock.release()
    return None


def _remove_empty(folders: list[Path]) -> None:
    """Remove the folders that were made, innermost first, if nothing was written: after a mistake in the settings."""
    for path in folders:
        try:
            path.rmdir()
        except OSError:
            return  # it holds something, or is gone


def _write_note(folder: Path) -> None:
    who = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
    with atomic_write(folder / NOTE) as tmp_path:
        tmp_path.write_text(json.dumps(who), encoding="utf-8")


def _is_orphaned(folder: Path) -> bool:
    """Whether the process that wrote the note ran on this machine and is gone."""
    who = _read_note(folder)
    if who.get("host") != socket.gethostname() or not isinstance(process := who.get("process"), int):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _describe_writer(folder: Path) -> str:
    who = _read_note(folder)
    if not who:
        return ""  # the note of the other process is not there yet
    process, host, since = (shorten(who.get(key, "?"), 80) for key in ("process", "host", "since"))
    return f" (process {process} on {host}, since {since})"


def _read_note(folder: Path) -> dict[str, str | int]:
    try:
        return read_json(folder / NOTE, dict[str, str | int], "")
    except ValueError:
        return {}
