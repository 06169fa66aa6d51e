"""Write a whole folder, or a file with its parts, or none of it; two writers of one leave each other alone."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from sonde.files.locks import LOCK
from sonde.files.writing import check_output, writing

PARTIAL = ".partial"
"""The end of the name of a folder that is being written: `.NAME.8f3a91c2.partial`, beside its place."""

NEW = "choose a new folder"
"""What a user can do about a folder that is not empty."""
NEW_FILE = "choose a new file"
"""What a user can do about a file that exists."""


@contextmanager
def write_folder(folder: Path, remedy: str = NEW) -> Iterator[Path]:
    """A new folder of this process alone: it gets the name `folder` if the block succeeds, and is removed if it fails.

    What a killed process left is removed first. An empty `folder` is filled, not replaced: a shell may be in it.

    Raises:
        ValueError: `folder` holds something, from the start or from another process meanwhile.
    """
    refuse_filled(folder, remedy)
    check_output(folder)
    place = folder.resolve()  # "." has no name
    with _making_partial(place) as partial, writing(folder, partial):
        yield partial
        (partial / LOCK).unlink(missing_ok=True)
        refuse_filled(folder, remedy)
        _publish(partial, place)


@contextmanager
def write_parts(path: Path, remedy: str = NEW_FILE) -> Iterator[Path]:
    """A path of the same name in a new folder beside `path`, for a file and those that belong to it.

    All that the folder holds gets its place beside `path` if the block succeeds, the file itself last; it is removed if
    the block fails.

    Raises:
        ValueError: `path` exists, from the start or from another process meanwhile.
    """
    refuse_existing(path, remedy)
    check_output(path.parent)
    place = path.absolute()
    with _making_partial(place) as partial, writing(path, partial):
        yield partial / path.name
        (partial / LOCK).unlink(missing_ok=True)
        refuse_existing(path, remedy)
        for part in sorted(partial.iterdir(), key=lambda part: part.name == path.name):
            part.replace(place.with_name(part.name))


@contextmanager
def _making_partial(place: Path) -> Iterator[Path]:
    """A new folder beside a place, locked by this process; what a killed process left is removed first."""
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove_orphans(place)
    partial = place.with_name(f".{place.name}.{uuid4().hex[:8]}{PARTIAL}")
    partial.mkdir()
    lock = FileLock(partial / LOCK)
    lock.acquire()
    try:
        yield partial
    finally:
        lock.release()
        shutil.rmtree(partial, ignore_errors=True)


def refuse_existing(path: Path, remedy: str = NEW_FILE) -> None:
    """Refuse an output file that is there already.

    Raises:
        ValueError: the message ends with the remedy.
    """
    if path.exists() or path.is_symlink():
        raise ValueError(f"{path} exists already: {remedy}; nothing is overwritten.")


def refuse_filled(folder: Path, remedy: str = NEW) -> None:
    """Refuse an output folder that is a file or holds something.

    Raises:
        ValueError: it is not empty; the message ends with the remedy.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty: {remedy}; nothing is overwritten.")


def _remove_orphans(place: Path) -> None:
    """Remove the partial folders of processes that are gone: a living one holds the lock inside."""
    for partial in place.parent.glob(f".{escape(place.name)}.*{PARTIAL}"):
        try:
            with FileLock(partial / LOCK, timeout=0):
                shutil.rmtree(partial, ignore_errors=True)
        except (Timeout, OSError):
            continue


def _publish(partial: Path, place: Path) -> None:
    if not place.exists():
        partial.replace(place)
        return
    for entry in sorted(partial.iterdir()):
        shutil.move(entry, place)
