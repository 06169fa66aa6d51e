"""Unpack archives of unknown origin safely: inside their folder, within the free disk, and completely or not at all.

Every member is checked before it is written. Refused are absolute paths and `..`, links that lead outside or through
other links, devices and pipes, and archives that are too large for the disk. An archive is first unpacked into a
partial folder, so a refused or broken archive leaves nothing behind.
"""

import filecmp
import lzma
import os
import shutil
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal, NamedTuple

from sonde.download.transfer import FULL
from sonde.files.safely import FAULTS
from sonde.renamed import keep_old_names

AGAIN = "download the complete file again"
SHARE = 0.9
"""Share of the free disk that an archive may fill."""


class RefusedArchive(ValueError):
    """An archive is not unpacked, for the reason given."""


Kind = Literal["file", "folder", "symlink", "hardlink", "other"]


class Member(NamedTuple):
    """One member of an archive."""

    name: str
    size: int
    kind: Kind
    target: str = ""
    """Target of a link."""


PAGES = (b"<!doctype html", b"<html", b"<head", b"<?xml")
"""Beginnings of a web page, which a browser may save in place of a file."""


def refuse_broken(path: Path, *, name: str | None = None, headers: bool = True) -> None:
    """Check a downloaded file without unpacking it: its beginning, the end of a zip, every header of a plain tar.

    Args:
        path: the file.
        name: its final name, whose suffix counts; None takes its own name.
        headers: read all headers of a tar, which takes about 0.6 s for 10 GB on a local disk.

    Raises:
        ValueError: a web page, or a file that is empty, truncated or damaged.
    """
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith(PAGES):
        raise ValueError(
            f"{path} is a web page, not the file itself: the site needs a login or a click first; download it again in "
            "a browser, and compare its size."
        )
    name = (name or path.name).lower()
    if not head:
        raise ValueError(f"{path} is empty: {AGAIN}.")
    if name.endswith(".zip") and not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is truncated, or not a zip: {AGAIN}.")
    if headers and name.endswith(".tar"):
        _check_headers(path)


def _check_headers(path: Path) -> None:
    """Read all headers of a plain tar; a ValueError if it is truncated or damaged."""
    last = "none"
    try:
        with tarfile.open(path, "r:") as file:
            for info in _read_members(file):
                last = info.name
    except tarfile.TarError:
        raise ValueError(f"{path} is truncated or damaged (the last complete member is {last}): {AGAIN}.") from None


def list_names(archive: Path) -> list[str]:
    """Names of the files in a zip, from its directory; empty for a tar, which would have to be read to its end."""
    if not archive.name.lower().endswith(".zip"):
        return []
    with _explaining_faults(archive), zipfile.ZipFile(archive) as file:
        return [info.filename for info in file.infolist() if not info.is_dir()]


def extract(archive: Path, folder: Path, partial: Path | None = None) -> int:
    """Unpack a zip or tar into `folder`; return the number of files.

    Args:
        archive: the file.
        folder: the target. An existing folder keeps its files; a file with other content than an existing one is an
            error.
        partial: the folder in which the archive is unpacked first, on the disk of `folder`; None: beside the archive.

    Raises:
        ValueError: the archive is malicious, too large, broken, or contradicts existing files. The archive is kept, and
            nothing is unpacked.
    """
    partial = partial or archive.with_name(f".{archive.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with _explaining_faults(archive):
            partial.mkdir(parents=True)
            count = (_unzip if archive.name.lower().endswith(".zip") else _untar)(archive, partial)
            _settle(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return count


class Gate:
    """Admits the members of one archive, in the order in which they are written."""

    def __init__(self, room: int):
        self.room = room
        """Bytes that the archive may still fill."""
        self.links: set[str] = set()
        """Symbolic links so far: no member may be written, or point, through one of them."""

    def admit(self, member: Member) -> None:
        """Refuse a member that could land outside the folder, or fill the disk.

        Raises:
            RefusedArchive: with the member's name and the reason.
        """
        name = member.name
        self.room -= member.size
        if self.room < 0:
            raise RefusedArchive(f"it would fill more than {SHARE:.0%} of the free disk")
        if _leads_out(name):
            raise RefusedArchive(f"{name!r} would be written outside its folder")
        if self._passes_link(name):
            raise RefusedArchive(f"{name!r} would be written through a link")
        if member.kind == "other":
            raise RefusedArchive(f"{name!r} is neither a file nor a folder nor a link")
        if member.kind in ("symlink", "hardlink"):
            self._admit_link(member)

    def _admit_link(self, member: Member) -> None:
        base = PurePosixPath(member.name).parent if member.kind == "symlink" else PurePosixPath()
        target = os.path.normpath(base / member.target)
        if PureWindowsPath(member.target).anchor or _leads_out(target) or self._passes_link(target):
            raise RefusedArchive(f"{member.name!r} is a link that leads outside, to {member.target!r}")
        if ".." in PurePosixPath(member.target).parts and self._passes_link((base / member.target).as_posix()):
            raise RefusedArchive(f"{member.name!r} is a link through a link, to {member.target!r}")
        if member.kind == "symlink":
            self.links.add(_fold_name(os.path.normpath(member.name)))

    def _passes_link(self, name: str) -> bool:
        path = PurePosixPath(_fold_name(name))
        return any(str(step) in self.links for step in (path, *path.parents))


def _unzip(archive: Path, folder: Path) -> int:
    with zipfile.ZipFile(archive) as file:
        gate, members = Gate(_measure_room(folder)), file.infolist()
        for info in members:
            if info.flag_bits & 1:
                raise RefusedArchive(f"{info.filename!r} is encrypted")
            member = _read_zip_member(file, info)
            gate.admit(member)
            if member.kind == "symlink":
                path = folder / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(member.target)
            else:
                file.extract(info, folder)
    return sum(not info.is_dir() for info in members)


def _read_zip_member(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        if info.file_size > 4096:
            raise RefusedArchive(f"{info.filename!r} is a link of {info.file_size} bytes")
        return Member(info.filename, info.file_size, "symlink", file.read(info).decode("utf-8", "surrogateescape"))
    return Member(info.filename, info.file_size, "folder" if info.is_dir() else "file")


def _untar(archive: Path, folder: Path) -> int:
    gate, count = Gate(_measure_room(folder)), 0
    with tarfile.open(archive, "r:*") as file:
        for info in _read_members(file):
            member = _read_tar_member(info)
            gate.admit(member)
            if member.kind == "hardlink" and not (folder / member.target).is_file():
                raise RefusedArchive(f"{member.name!r} is a link to {member.target!r}, which does not come before it")
            file.extract(info, folder, filter="data")
            count += member.kind != "folder"
    return count


def _read_members(file: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of a tar, one after the other; a TarError at the end of a truncated or damaged one."""
    while (info := file.next()) is not None:
        yield info
        vars(file)["members"].clear()  # tarfile keeps every header, and archives hold millions of images
    _check_end(file)


def _check_end(file: tarfile.TarFile) -> None:
    """A complete tar ends with a block of zeros. `next` returns None at a damaged header too, so the end is checked."""
    assert file.fileobj is not None
    file.fileobj.seek(file.offset)
    if file.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it is truncated or damaged")


def _read_tar_member(info: tarfile.TarInfo) -> Member:
    kind: Kind = "other"
    if info.isreg():
        kind = "file"
    elif info.isdir():
        kind = "folder"
    elif info.issym():
        kind = "symlink"
    elif info.islnk():
        kind = "hardlink"
    return Member(info.name, info.size if info.isreg() else 0, kind, info.linkname)


def _settle(partial: Path, folder: Path) -> None:
    """Move unpacked files to their folder: at once if it is new, else file by file after comparing all of them."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(folder)
        return
    moves = [(path, folder / path.relative_to(partial)) for path in _walk_leaves(partial)]
    for path, place in moves:
        if os.path.lexists(place) and not _is_same(path, place):
            raise RefusedArchive(f"it holds {place.relative_to(folder)}, which {folder} already has with other content")
    for path, place in moves:
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)


def _walk_leaves(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if Path(root, name).is_symlink()]
        yield from (Path(root, name) for name in [*names, *links])


def _is_same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def _measure_room(folder: Path) -> int:
    return int(SHARE * shutil.disk_usage(folder).free)


def _leads_out(name: str) -> bool:
    path = PureWindowsPath(name)  # it understands both kinds of slashes, and drive letters
    return bool(path.anchor) or ".." in path.parts


def _fold_name(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()  # as a file system that ignores case compares names


@contextmanager
def _explaining_faults(archive: Path) -> Iterator[None]:
    """Turn any error into a ValueError of one sentence: the archive, the reason, and that it is kept."""
    try:
        yield
    except RefusedArchive as error:
        raise ValueError(f"{archive} is kept but not unpacked: {error}.") from None
    except (tarfile.TarError, lzma.LZMAError, *FAULTS) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise ValueError(
                f"{archive} is kept but not unpacked: the disk is full; free some space and try again."
            ) from None
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ValueError(
            f"{archive} is kept but cannot be unpacked ({reason}): it may be damaged; download it again."
        ) from None


keep_old_names(__name__, {"Refused": "RefusedArchive", "names_in": "list_names"})
