"""Unpacking what came from elsewhere: nothing lands outside its folder, nothing fills the disk, nothing is half there.

Every member is admitted before it is written. Refused are absolute paths and `..`, links that lead out or through other
links, devices and pipes, and archives larger than the disk bears. All goes into a partial folder first, so that a
refused or broken archive leaves nothing but itself.
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

SHARE = 0.9
"""Of the free disk, which an archive may fill."""


class Refused(ValueError):
    """An archive that is not unpacked, and why."""


Kind = Literal["file", "folder", "symlink", "hardlink", "other"]


class Member(NamedTuple):
    """One thing in an archive."""

    name: str
    size: int
    kind: Kind
    target: str = ""
    """What a link points to."""


PAGES = (b"<!doctype html", b"<html", b"<head", b"<?xml")
"""How a web page begins that a browser saved in place of a file."""


def refuse_broken(path: Path, *, name: str | None = None, headers: bool = True) -> None:
    """Looks at a file that was fetched, without unpacking it: its beginning, a zip's end, every header of a plain tar.

    Args:
        path: the file.
        name: what it is to be called; its own name by default.
        headers: look through a tar, which takes some 0.6 s for 10 GB on a local disk.

    Raises:
        ValueError: a web page, an empty file, one that is cut off or damaged.
    """
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith(PAGES):
        raise ValueError(
            f"{path} is a web page, not the file it is called after: the site wants a login or a click first; fetch it "
            "again in a browser, and look at its size."
        )
    name, remedy = (name or path.name).lower(), "fetch it again, to its end"
    if not head or (name.endswith(".zip") and not zipfile.is_zipfile(path)):
        raise ValueError(f"{path} {'is cut off, or no zip' if head else 'is empty'}: {remedy}.")
    if headers and name.endswith(".tar"):
        last = "none"
        try:
            with tarfile.open(path, "r:") as file:
                while (info := file.next()) is not None:
                    last = info.name
                    vars(file)["members"].clear()
                _check_end(file)
        except tarfile.TarError:
            raise ValueError(f"{path} is cut off or damaged (the last whole member is {last}): {remedy}.") from None


def names_in(archive: Path) -> list[str]:
    """Files in a zip, by its directory; of a tar none, which would have to be read to its end."""
    if not archive.name.lower().endswith(".zip"):
        return []
    with _faults(archive), zipfile.ZipFile(archive) as file:
        return [info.filename for info in file.infolist() if not info.is_dir()]


def extract(archive: Path, folder: Path, partial: Path | None = None) -> int:
    """Unpacks a zip or tar into `folder`, and says how many files there were.

    A folder that is there already is added to; a file that would take the place of another one is a fault. `partial`
    is where it is unpacked first, on the disk of `folder`; beside the archive by default.

    Raises:
        ValueError: the archive is malicious, too large, broken or at odds with what is there; it is kept, and nothing
            of it is left.
    """
    partial = partial or archive.with_name(f".{archive.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with _faults(archive):
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
        """Bytes the archive may take."""
        self.links: set[str] = set()
        """Symbolic links so far: nothing may be written, or point, through one of them."""

    def admit(self, member: Member) -> None:
        """Refuses whatever could land outside, or fill the disk.

        Raises:
            Refused: with the member's name and the reason.
        """
        name = member.name
        self.room -= member.size
        if self.room < 0:
            raise Refused(f"unpacked it would fill more than {SHARE:.0%} of the free disk")
        if _leads_out(name):
            raise Refused(f"{name!r} would be written outside its folder")
        if self._through_link(name):
            raise Refused(f"{name!r} would be written through a link")
        if member.kind == "other":
            raise Refused(f"{name!r} is neither file nor folder nor link")
        if member.kind in ("symlink", "hardlink"):
            self._admit_link(member)

    def _admit_link(self, member: Member) -> None:
        base = PurePosixPath(member.name).parent if member.kind == "symlink" else PurePosixPath()
        target = os.path.normpath(base / member.target)
        if PureWindowsPath(member.target).anchor or _leads_out(target) or self._through_link(target):
            raise Refused(f"{member.name!r} is a link that leads out, to {member.target!r}")
        if ".." in PurePosixPath(member.target).parts and self._through_link((base / member.target).as_posix()):
            raise Refused(f"{member.name!r} is a link through a link, to {member.target!r}")
        if member.kind == "symlink":
            self.links.add(_folded(os.path.normpath(member.name)))

    def _through_link(self, name: str) -> bool:
        path = PurePosixPath(_folded(name))
        return any(str(step) in self.links for step in (path, *path.parents))


def _unzip(archive: Path, folder: Path) -> int:
    with zipfile.ZipFile(archive) as file:
        gate, members = Gate(_room(folder)), file.infolist()
        for info in members:
            if info.flag_bits & 1:
                raise Refused(f"{info.filename!r} is encrypted")
            gate.admit(member := _zip_member(file, info))
            if member.kind == "symlink":
                path = folder / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(member.target)
            else:
                file.extract(info, folder)
    return sum(not info.is_dir() for info in members)


def _zip_member(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        if info.file_size > 4096:
            raise Refused(f"{info.filename!r} is a link of {info.file_size} bytes")
        return Member(info.filename, info.file_size, "symlink", file.read(info).decode("utf-8", "surrogateescape"))
    return Member(info.filename, info.file_size, "folder" if info.is_dir() else "file")


def _untar(archive: Path, folder: Path) -> int:
    gate, count = Gate(_room(folder)), 0
    with tarfile.open(archive, "r:*") as file:
        while (info := file.next()) is not None:
            gate.admit(member := _tar_member(info))
            if member.kind == "hardlink" and not (folder / member.target).is_file():
                raise Refused(f"{member.name!r} is a link to {member.target!r}, which does not come before it")
            file.extract(info, folder, filter="data")
            count += member.kind != "folder"
            vars(file)["members"].clear()  # millions of images would stay in memory as headers
        _check_end(file)
    return count


def _check_end(file: tarfile.TarFile) -> None:
    """A tar ends in a block of zeros; at a damaged header, too, `next` says that there is none."""
    assert file.fileobj is not None
    file.fileobj.seek(file.offset)
    if file.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it is cut off or damaged")


def _tar_member(info: tarfile.TarInfo) -> Member:
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
    """Gives what was unpacked its name: at one stroke where the folder is new, else file by file after a look."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(folder)
        return
    moves = [(path, folder / path.relative_to(partial)) for path in _leaves(partial)]
    for path, place in moves:
        if os.path.lexists(place) and not _same(path, place):
            raise Refused(f"it holds {place.relative_to(folder)}, which {folder} has with other content")
    for path, place in moves:
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)


def _leaves(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if Path(root, name).is_symlink()]
        yield from (Path(root, name) for name in [*names, *links])


def _same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def _room(folder: Path) -> int:
    return int(SHARE * shutil.disk_usage(folder).free)


def _leads_out(name: str) -> bool:
    path = PureWindowsPath(name)  # it takes both kinds of slashes, and drives
    return bool(path.anchor) or ".." in path.parts


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()  # as disks that do not tell a from A see it


@contextmanager
def _faults(archive: Path) -> Iterator[None]:
    """One sentence for whatever is wrong: the archive, the reason, and that it is kept."""
    try:
        yield
    except Refused as error:
        raise ValueError(f"{archive} is kept but not unpacked: {error}.") from None
    except (tarfile.TarError, lzma.LZMAError, *FAULTS) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise ValueError(
                f"{archive} is kept but not unpacked: the disk is full; free some and try again."
            ) from None
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ValueError(
            f"{archive} is kept but cannot be unpacked ({reason}): it may be damaged; fetch it again."
        ) from None
