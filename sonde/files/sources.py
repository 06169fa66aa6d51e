"""The files of a folder that a job reads, and those it passes over, each with its reason.

Every verb and every reader lists its sources here, so one entry that nobody can read neither ends nor hangs a job.
"""

import errno
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from io import BufferedReader
from pathlib import Path
from shlex import quote
from types import MappingProxyType

from sonde.files.absent import explain_absent
from sonde.files.heif import HEIF_REMEDY, HEIF_SUFFIXES, find_heif_library
from sonde.files.safely import KINDS
from sonde.ids import LONGEST_PART
from sonde.spelling import CONTROL, shorten

SYSTEM_FOLDERS = ("lost+found", "System Volume Information", "$RECYCLE.BIN")
"""Folders that a file system keeps for itself; they are hidden in all but name."""

NONE: Mapping[str, str] = MappingProxyType({})
CONVERT = "{} is not among the formats that sonde reads in a folder; convert it to PNG or JPEG{}"
RAW = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".orf", ".pef")
"""Suffixes of what a camera writes beside its JPEG, or alone."""
FOREIGN: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(() if find_heif_library() else HEIF_SUFFIXES, HEIF_REMEDY),
        ".avif": CONVERT.format("AVIF", ", for example with `avifdec`"),
        ".jxl": CONVERT.format("JPEG XL", ", for example with `djxl`"),
        **dict.fromkeys((".jp2", ".j2k"), CONVERT.format("JPEG 2000", ", for example with `opj_decompress`")),
        ".gif": CONVERT.format("GIF", ""),
        ".psd": CONVERT.format("PSD", ""),
        **dict.fromkeys(RAW, CONVERT.format("a camera's raw format", ", for example with `darktable-cli`")),
    }
)
"""Suffix of pictures that no reader of images knows -> the way out."""
VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".3gp", ".mts", ".m2ts", ".flv")
"""Suffixes of videos."""


@dataclass(frozen=True)
class Listing:
    """The files below a folder, by their paths relative to it, with `/`."""

    root: Path
    names: list[str] = field(default_factory=list)
    """Regular files, sorted."""
    passed_over: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason), sorted; the names may hold control characters. A folder's name ends with `/`."""

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [self.root / name for name in self.names]

    @property
    def failed(self) -> list[tuple[Path, str]]:
        """(path, reason) of what was passed over."""
        return [(self.root / name, reason) for name, reason in self.passed_over]

    @property
    def wanted(self) -> list[str]:
        """The files, and those passed over, sorted: for readers that pair files before they open them."""
        return sorted([*self.names, *(name for name, _ in self.passed_over if name[-1] != "/")])

    @property
    def closed(self) -> list[Path]:
        """The folders that were passed over."""
        return [self.root / name for name, _ in self.passed_over if name[-1] == "/"]

    @property
    def problems(self) -> list[str]:
        """A line for each folder that was passed over."""
        return [
            f"{shorten(self.root / name)} is passed over: {why}." for name, why in self.passed_over if name[-1] == "/"
        ]

    def match(self, *patterns: str) -> list[Path]:
        """Those of `wanted` that end in a pattern of parts, such as `images/*.png`: `root.glob("**/images/*.png")`."""
        ends = [[re.compile(translate(part)) for part in pattern.split("/")] for pattern in patterns]
        return [self.root / name for name in self.wanted if any(_fits(name, parts) for parts in ends)]


def list_files(
    root: Path,
    suffixes: Collection[str] = (),
    *,
    without: Path | None = None,
    foreign: Mapping[str, str] = NONE,
) -> Listing:
    """The files below a folder that can be read; hidden files and folders are left out.

    Links are followed. A link to a folder that is listed already, such as one above it, is not entered again.

    Args:
        root: the folder.
        suffixes: in lower case; empty takes every file. Files with other suffixes are left out without a word.
        without: a folder that is not entered, such as that of the output.
        foreign: suffix -> reason for files that are passed over, such as FOREIGN.
    """
    found = Listing(root)
    seen = {os.path.realpath(root)} | ({os.path.realpath(without)} if without is not None else set())
    places = [(os.fspath(root), "")]
    while places:  # a stack: folders may be nested deeper than functions
        place, prefix = places.pop()
        folders = _sort(_scan(place, prefix, found), prefix, tuple(suffixes), foreign, found)
        into = [(entry, os.path.realpath(entry.path)) for entry in folders]
        new = [entry for entry, real in into if real not in seen]
        seen.update(real for _, real in into)
        places += [(entry.path, f"{prefix}{entry.name}/") for entry in reversed(new)]
    found.names.sort()
    found.passed_over[:] = sorted(_without_raw(found) if foreign else found.passed_over)
    return found


def explain_unreadable(path: Path | str) -> str:
    """Why a path is no regular file, in words; empty if it is one."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a name that is not UTF-8 may be a text
    except (OSError, ValueError) as error:
        return _explain_error(path, error)
    return _explain_mode(mode)


def explain_bad_name(name: str) -> str:
    """Why a file's name is no use for an output or a list; empty if it is sound."""
    if name.isascii() and name.isprintable() and len(name) <= LONGEST_PART:
        return ""  # nearly every name; the rest of the function takes five times as long
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        return "its name is not UTF-8; rename it"
    if CONTROL.search(name):
        return "its name has a control character; rename it"
    if len(name.encode()) > LONGEST_PART:
        return f"its name has more than {LONGEST_PART} bytes; rename it"
    return ""


def explain_foreign(path: Path | str) -> str:
    """What to do with a video, or with a HEIC file that nothing here reads, in place of an image; else empty."""
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - as above
    if suffix in HEIF_SUFFIXES:
        return FOREIGN.get(suffix, "")
    return explain_video(path) if suffix in VIDEOS else ""


def explain_video(path: Path | str) -> str:
    """What to do with a video in place of an image."""
    name = quote(os.path.basename(path))  # noqa: PTH119 - as above
    return f"it is a video, and sonde reads images; write its frames with `ffmpeg -i {name} frames/%05d.png`"


def refuse_source(path: Path | str, expected: str = "a file or a folder") -> None:
    """Refuse what was given as a source and is neither file nor folder.

    Args:
        path: what was given.
        expected: what a right source would be, for the message.

    Raises:
        ValueError: it does not exist, is an address, or is a FIFO, a socket, a device, or a link that leads nowhere.
    """
    if not os.path.lexists(path):
        raise ValueError(explain_absent(path, expected))
    reason = explain_unreadable(path)
    if reason and not os.path.isdir(path):  # noqa: PTH112 - as above
        raise ValueError(f"{shorten(path)} cannot be read ({reason}): expected {expected}.")


def open_file(path: Path) -> BufferedReader:
    """A file opened for reading; a FIFO, a socket or a device is refused, and never waited for.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no regular file; the message does not name it.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    if reason := _explain_mode(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(reason)
    return file


def _without_raw(found: Listing) -> list[tuple[str, str]]:
    """What was passed over, but for raw files whose photograph lies beside them in another format."""
    known = {os.path.splitext(name)[0] for name in found.names}  # noqa: PTH122
    parts = [(*os.path.splitext(name), why) for name, why in found.passed_over]  # noqa: PTH122
    return [(stem + end, why) for stem, end, why in parts if end.lower() not in RAW or stem not in known]


def _fits(name: str, parts: list[re.Pattern[str]]) -> bool:
    """Whether the last parts of a name fit; the last one is tried first, since it decides most often."""
    own = name.rsplit("/", len(parts))[-len(parts) :]
    return len(own) == len(parts) and all(part.match(text) for part, text in zip(parts[::-1], own[::-1], strict=True))


def _sort(
    entries: Iterator["os.DirEntry[str]"],
    prefix: str,
    suffixes: tuple[str, ...],
    foreign: Mapping[str, str],
    found: Listing,
) -> list["os.DirEntry[str]"]:
    """Put the files of a folder into the listing; the folders to enter."""
    folders: list[os.DirEntry[str]] = []
    known = (*suffixes, *foreign) if suffixes else ()
    for entry in entries:
        if _is_folder(entry):
            if reason := explain_bad_name(entry.name):
                found.passed_over.append((f"{prefix}{entry.name}/", reason))
            elif entry.name not in SYSTEM_FOLDERS:
                folders.append(entry)
        elif not known or entry.name.lower().endswith(known):
            if reason := _explain_entry(entry, foreign):
                found.passed_over.append((prefix + entry.name, reason))
            else:
                found.names.append(prefix + entry.name)
    return folders


def _scan(place: str, prefix: str, found: Listing) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(place) as entries:
            yield from sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        found.passed_over.append((prefix or "./", _explain_error(place, error)))


def _explain_entry(entry: "os.DirEntry[str]", foreign: Mapping[str, str]) -> str:
    if reason := explain_bad_name(entry.name):
        return reason
    # The system tells a regular file that is no link without a look at it.
    if not entry.is_file(follow_symlinks=False) and (reason := explain_unreadable(entry.path)):
        return reason
    return foreign.get(os.path.splitext(entry.name)[1].lower(), "") if foreign else ""  # noqa: PTH122


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _explain_mode(mode: int) -> str:
    if stat.S_ISREG(mode):
        return ""
    return next((f"it is {words}, not a file" for is_kind, words in KINDS.items() if is_kind(mode)), "it is a folder")


def _explain_error(path: Path | str, error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        return "its name is no name of a file"
    if error.errno == errno.ELOOP:
        return "its links form a loop"
    if error.errno == errno.ENOENT:
        return "it is a link to nothing" if os.path.islink(path) else "it does not exist"  # noqa: PTH114
    return f"it cannot be opened ({error.strerror})"
