"""Folders of cached captures: where they are, how large they are, and which records leave first.

A record is a file named by 32 hexadecimal digits and .npy, with a dot before it while it is written. Nothing else in
such a folder is counted or removed, and no link is followed.
"""

import os
import re
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from platformdirs import user_cache_path

AUTO = "auto"
"""The value of data.cache that means the user's own folder."""
ENVIRONMENT = "SONDE_CACHE"
"""Environment variable: another folder in place of the user's own."""
GB = 10**9
"""Bytes; the unit of data.cache_gb."""

NAME = re.compile(r"\.?[0-9a-f]{32}\.npy")
"""The name of a record; with a dot while it is written, or where its writer was killed."""
TOUCH_S = 60.0
"""Seconds after which a record that is used again gets a new time. Each read would be a write else."""
SLICES = 32
"""A folder is measured again when this share of its bound has been written: other processes write to it too."""


class Record(NamedTuple):
    """A file of a folder of records."""

    path: Path
    size: int
    """Bytes."""
    used: float
    """When it was last used, to a minute; seconds since 1970."""


class CacheUse(NamedTuple):
    """How much a folder of records holds."""

    folder: str
    captures: int
    gb: float

    def document(self) -> dict[str, object]:
        """The facts as JSON."""
        return self._asdict()


def find_folder(setting: str | Path | None) -> Path | None:
    """The folder that a value of data.cache names: `auto` for the user's own; None for no cache."""
    if setting is None:
        return None
    return find_user_folder() if setting == AUTO else Path(setting)


def find_user_folder() -> Path:
    """Where decoded captures are cached if a recipe does not name a folder: below SONDE_CACHE, or the user's cache."""
    chosen = os.environ.get(ENVIRONMENT)
    folder = Path(chosen).expanduser() if chosen else user_cache_path("sonde", appauthor=False)
    # Without a home, such as for a nameless user of a container, the path begins with a literal ~.
    home = folder if chosen or folder.is_absolute() else Path(tempfile.gettempdir(), "sonde")
    return home / "captures"


def list_records(folder: Path) -> list[Record]:
    """The records of a folder, in no order; none if there is no such folder."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    found += _describe(entry)
    except OSError:
        pass  # missing, or removed meanwhile
    return found


def measure_folder(folder: Path) -> CacheUse:
    """How many captures a folder holds, and how large they are."""
    records = list_records(folder)
    return CacheUse(str(folder), len(records), round(sum(record.size for record in records) / GB, 6))


def clear_folder(folder: Path) -> CacheUse:
    """Remove every record of a folder, and nothing else; returns what was removed.

    A training run that uses them goes on: it decodes its captures again.
    """
    removed = [record for record in list_records(folder) if _remove(record)]
    return CacheUse(str(folder), len(removed), round(sum(record.size for record in removed) / GB, 6))


def mark_used(path: Path) -> None:
    """Note that a record is used, so that others leave before it."""
    try:
        if time.time() - path.stat().st_mtime > TOUCH_S:
            os.utime(path)
    except OSError:
        pass  # removed meanwhile, or in a folder that this user only reads


class RecordFolder:
    """A folder of records with a bound, as one process writes to it.

    Records that this run uses stay: those used before it began leave, the least recently used first. A run whose
    captures exceed the bound therefore keeps a part of them, and does not write all of them again in every epoch.

    Args:
        path: the folder; need not exist.
        bound: bytes; None for no bound. Several processes may exceed it by a 32th each.
    """

    def __init__(self, path: Path, bound: int | None = None) -> None:
        self.path = path
        self.bound = bound
        self._began = time.time()
        self._room = 0  # bytes that may be written before the folder is measured again

    def make_room(self, size: int) -> bool:
        """Whether a record of this size may be written; removes old records where that makes room."""
        if self.bound is None:
            return True
        if size > self._room:
            self._room = self._measure_room(self.bound, max(size, self.bound // SLICES))
        if size > self._room:
            return False
        self._room -= size
        return True

    def _measure_room(self, bound: int, wanted: int) -> int:
        """Bytes that may be written now, at most `wanted`."""
        records = sorted(list_records(self.path), key=lambda record: record.used)
        total = sum(record.size for record in records)
        for record in records:
            if total + wanted <= bound or record.used > self._began - TOUCH_S:
                break
            total -= record.size if _remove(record) else 0
        return min(wanted, bound - total)


def _describe(entry: os.DirEntry[str]) -> list[Record]:
    """The record of a directory entry; none if it was removed meanwhile."""
    try:
        state = entry.stat(follow_symlinks=False)
    except OSError:
        return []
    return [Record(Path(entry.path), state.st_size, state.st_mtime)]


def _remove(record: Record) -> bool:
    """Remove a record; False if it is gone already, or cannot be removed."""
    try:
        record.path.unlink()
    except OSError:
        return False
    return True
