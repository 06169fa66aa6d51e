"""The files of a folder that a job reads, and those it passes over, each with its reason.

Every verb and every reader lists its sources here, so one entry that nobody can read neither ends nor hangs a job.
"""

import errno
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from sonde.files.safely import KINDS
from sonde.ids import LONGEST_PART
from sonde.spelling import CONTROL


@dataclass(frozen=True)
class Listing:
    """The files below a folder, by their paths relative to it, with `/`."""

    root: Path
    names: list[str] = field(default_factory=list)
    """Regular files, sorted."""
    passed_over: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason), sorted; the names may hold control characters."""

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [self.root / name for name in self.names]

    def match(self, pattern: str) -> list[Path]:
        """The files that end in a pattern of parts, such as `images/*.png`: what `root.glob("**/images/*.png")` is."""
        return [self.root / name for name in self.names if PurePosixPath(name).match(pattern)]


def list_files(root: Path, suffixes: Collection[str] = (), *, without: Path | None = None) -> Listing:
    """The files below a folder that can be read; hidden files and folders are left out.

    Links are followed. A link to a folder that is listed already, such as one above it, is not entered again.

    Args:
        root: the folder.
        suffixes: in lower case; empty takes every file. Files with other suffixes are left out without a word.
        without: a folder that is not entered, such as that of the output.
    """
    found = Listing(root)
    seen = {root.resolve()} | ({without.resolve()} if without is not None else set())
    _walk(root, "", seen, tuple(suffixes), found)
    found.names.sort()
    found.passed_over.sort()
    return found


def explain_unreadable(path: Path | str) -> str:
    """Why a path is no regular file, in words; empty if it is one."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a name that is not UTF-8 may be a text
    except (OSError, ValueError) as error:
        return _explain_error(path, error)
    if stat.S_ISDIR(mode):
        return "it is a folder"
    return next((f"it is {words}, not a file" for is_kind, words in KINDS.items() if is_kind(mode)), "")


def explain_bad_name(name: str) -> str:
    """Why a file's name is no use for an output or a list; empty if it is sound."""
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        return "its name is not UTF-8; rename it"
    if CONTROL.search(name):
        return "its name has a control character; rename it"
    if len(name.encode()) > LONGEST_PART:
        return f"its name has more than {LONGEST_PART} bytes; rename it"
    return ""


def _walk(place: Path, prefix: str, seen: set[Path], suffixes: tuple[str, ...], found: Listing) -> None:
    folders: list[os.DirEntry[str]] = []
    for entry in _scan(place, prefix, found):
        if _is_folder(entry):
            folders.append(entry)
        elif not suffixes or entry.name.lower().endswith(suffixes):
            reason = explain_bad_name(entry.name) or ("" if _is_plain(entry) else explain_unreadable(entry.path))
            if reason:
                found.passed_over.append((prefix + entry.name, reason))
            else:
                found.names.append(prefix + entry.name)
    into = [(entry, Path(entry.path).resolve()) for entry in folders]
    new = [entry for entry, real in into if real not in seen]
    seen.update(real for _, real in into)
    for entry in new:
        if reason := explain_bad_name(entry.name):
            found.passed_over.append((f"{prefix}{entry.name}/", reason))
        else:
            _walk(Path(entry.path), f"{prefix}{entry.name}/", seen, suffixes, found)


def _scan(place: Path, prefix: str, found: Listing) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            yield from sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        found.passed_over.append((prefix or ".", _explain_error(place, error)))


def _is_plain(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a regular file and no link; the system says it without a look at the file."""
    return entry.is_file(follow_symlinks=False)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _explain_error(path: Path | str, error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        return "its name is no name of a file"
    if error.errno == errno.ELOOP:
        return "its links form a loop"
    if error.errno == errno.ENOENT:
        return "it is a link to nothing" if os.path.islink(path) else "it does not exist"  # noqa: PTH114
    return f"it cannot be opened ({error.strerror})"
