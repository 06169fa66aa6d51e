"""Images without depth: a folder, a list in a text file, or tar shards; read by position, in any order.

SA-1B comes as tars of sa_N.jpg and sa_N.json; webdataset shards are similar. Shards are never unpacked: one pass over
their headers finds where each image begins, and reading one is a seek. Images are not decoded here.

Depth maps beside photographs are skipped: `files.roles.find_depth_maps` recognises them, and `Images.passed_over` lists
them. A file that cannot be read keeps its place and its id: reading it says why. What gets no id, such as a picture of
a format that sonde does not read or a file whose name is not UTF-8, is in `Images.unread`.
"""

import math
import os
import re
import tarfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NoReturn

import numpy as np
from jaxtyping import Int
from PIL.ContainerIO import ContainerIO

from sonde.files import (
    FOREIGN,
    IMAGE_SUFFIXES,
    expand_sources,
    explain_foreign,
    list_files,
    read_text,
    reading,
)
from sonde.files.roles import find_depth_maps, read_mode
from sonde.files.sources import explain_bad_name, open_file, refuse_source
from sonde.ids import find_fault
from sonde.spelling import shorten

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
"""Suffixes of tars without random access."""
BLOCK = 512
"""Bytes in a block of a tar; a complete tar ends with blocks of zeros."""
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
"""A range in a pattern of shards, in webdataset's notation."""
MOST_SHARDS = 1_000_000
"""Names that the ranges of a pattern may stand for."""

Members = list[tuple[str, int, int]]
"""(name, offset, size in bytes) of each image in a tar."""


@dataclass(frozen=True)
class Images:
    """Images in a fixed order: files sorted by id; or tars sorted by name, each in its own order, for sequential reads.

    Picklable. Many threads may read at once.
    """

    root: Path
    """The folder above all of them, without symbolic links."""
    ids: Sequence[str]
    """Unique: the path below the root without its suffix; SHARD/KEY in tars. Ids that would otherwise be equal,
    ignoring case, keep their suffix."""
    names: Sequence[str]
    """Paths below the root, or names of tar members."""
    shards: Sequence[str] = ()
    """Paths of the tars below the root; empty if the images are files."""
    shard: Int[np.ndarray, " n"] | None = None
    """Index of each image's tar."""
    spans: Int[np.ndarray, "n 2"] | None = None
    """Offset and size in bytes of each image in its tar."""
    passed_over: Sequence[tuple[str, str]] = ()
    """What is not labelled: (`path` or `shard.tar#member`, why). Depth maps first, in the source's order."""
    unread: Sequence[tuple[str, str]] = ()
    """What may hold photographs that nobody reads, without a place here: (path, why)."""

    def __len__(self) -> int:
        return len(self.ids)

    def path(self, index: int) -> Path:
        """The file that holds an image: its own file, or its tar."""
        return self.root / (self.names[index] if self.shard is None else self.shards[int(self.shard[index])])

    def where(self, index: int) -> str:
        """The address of an image: `path`, or `shard.tar#member`."""
        return str(self.path(index)) + ("" if self.shard is None else f"#{self.names[index]}")

    def span(self, index: int) -> tuple[int, int] | None:
        """Offset and size of an image in its tar, in bytes; None if it is a file."""
        return None if self.spans is None else (int(self.spans[index, 0]), int(self.spans[index, 1]))

    def read(self, index: int) -> bytes:
        """The encoded image.

        Raises:
            OSError: the file is missing or cannot be read.
            ValueError: it is no regular file.
        """
        span = self.span(index)
        with open_file(self.path(index)) as file:
            file.seek(span[0] if span else 0)
            return file.read(span[1] if span else -1)

    def take(self, indices: Sequence[int]) -> "Images":
        """Only the images at these positions, in this order."""
        some = np.asarray(indices, np.int64)
        return replace(
            self,
            ids=[self.ids[index] for index in some],
            names=[self.names[index] for index in some],
            shard=None if self.shard is None else self.shard[some],
            spans=None if self.spans is None else self.spans[some],
        )

    def digest(self) -> str:
        """A hash of all ids in their order."""
        digest = sha256()
        for id_ in self.ids:
            digest.update(id_.encode() + b"\0")
        return digest.hexdigest()


def open_images(source: str | Path, *, without: str | Path | None = None) -> Images:
    """The photographs of a source.

    Depth maps are skipped: images with one channel of 16 bits or more, and images whose names say depth and that are
    grey or have a partner of the same name. They change nothing else, not even the ids of the photographs.

    Args:
        source: a folder (of images, including subfolders, or of tars), one image, a text file of paths relative to its
            own folder, a .tar, a pattern of tars such as `sa_{000000..000019}.tar`, or one of files such as
            `photos/**/*.jpg`.
        without: a folder whose files are skipped, such as the folder of the labels.

    Raises:
        ValueError: no such source, no photograph, or a compressed or truncated tar; the message has the remedy.
    """
    text = str(source)
    if BRACES.search(text):
        return _open_tars(_list_shards(text))
    outside = None if without is None else Path(os.path.realpath(without))
    (path, *more) = expand_sources([source])
    if more or path != Path(source):
        return _open_matched(text, [path, *more], outside)
    refuse_source(path, "a folder of images, a text file of paths, or tar shards")
    if path.is_dir():
        return _open_folder(path, outside)
    if _is_tar(path.name):
        return _open_tars([path])
    if reason := explain_foreign(path) or FOREIGN.get(path.suffix.lower()):
        raise ValueError(f"{shorten(path)} cannot be labelled: {reason}.")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _open_files([path])
    return _open_files(_read_list(path))


def _open_matched(pattern: str, paths: Sequence[Path], without: Path | None) -> Images:
    """The images or the tars that a pattern stands for."""
    tars = [path for path in paths if _is_tar(path.name) and path.is_file()]
    images = [path for path in paths if _is_image(path.name) and without not in Path(os.path.realpath(path)).parents]
    if not images and not tars:
        raise ValueError(f"{shorten(pattern)} stands for no image: end it as '{shorten(pattern)}/**/*.jpg' does.")
    if tars and images:
        raise ValueError(f"{shorten(pattern)} stands for tars and images: give a pattern of one kind.")
    return _open_tars(tars) if tars else _open_files(images, True)


def _open_folder(folder: Path, without: Path | None) -> Images:
    root = Path(os.path.realpath(folder))
    if without is not None and without == root:
        raise ValueError(f"{folder} is both source and output: choose another output folder.")
    listing = list_files(root, (*IMAGE_SUFFIXES, ".tar", *COMPRESSED), without=without, foreign=FOREIGN)
    tars = sorted(filter(_is_tar, listing.names), key=_place_shard)
    # A file that cannot be read keeps its id among files, but is no reason to doubt a folder of tars.
    images = list(filter(_is_image, listing.names if tars else listing.wanted))
    unread = [(str(root / name), why) for name, why in listing.passed_over if tars or not _is_image(name)]
    if tars and images:
        raise ValueError(
            f"{folder} holds both tars ({shorten(Path(tars[0]).name)}) and images ({shorten(images[0])}): give a "
            "folder of one kind."
        )
    if not tars and not images:
        _refuse_nothing(folder, unread)
    found = _open_tars([root / name for name in tars]) if tars else _open_files([root / name for name in images], True)
    return replace(found, unread=[*unread, *found.unread])


def _refuse_nothing(folder: Path, unread: Sequence[tuple[str, str]]) -> NoReturn:
    known = ", ".join(IMAGE_SUFFIXES)
    also = f"; {shorten(unread[0][0])} is passed over: {unread[0][1]}" if unread else ""
    raise ValueError(f"No images in {folder}: expected files with the suffix {known}, or .tar{also}.")


def _place_shard(name: str) -> list[tuple[bool, str]]:
    """The order of shards: the files of a folder by name, then its folders by name."""
    *folders, last = name.split("/")
    return [*((True, folder) for folder in folders), (False, last)]


def _read_list(path: Path) -> list[Path]:
    with reading(path, "expected a text file with one path per line"):
        lines = read_text(path).splitlines()
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not names:
        raise ValueError(f"{path} names no image: expected one path per line.")
    foreign = next((name for name in names if not _is_image(name) or "\0" in name), None)
    if foreign is not None:
        known = ", ".join(IMAGE_SUFFIXES)
        raise ValueError(f"{path} names {shorten(foreign)!r}, which is not an image: expected {known}.")
    return [path.parent / name for name in names]


def _open_files(paths: Sequence[Path], linked: bool = False) -> Images:
    root, below = _split_root(paths, linked)
    bad = {index: why for index, name in enumerate(below) if (why := _explain_bad_id(name.replace(os.sep, "/")))}
    unread = [(str(root / below[index]), why) for index, why in bad.items()]
    if bad:
        paths = [path for index, path in enumerate(paths) if index not in bad]
        if not paths:
            _refuse_nothing(root, unread)
        root, below = _split_root(paths, linked)
    names = sorted(set(below))
    maps = find_depth_maps([name.replace(os.sep, "/") for name in names], lambda index: _read_mode(root / names[index]))
    passed = [(str(root / names[index]), reason) for index, reason in maps.items()]
    if passed:
        photographs = [root / name for index, name in enumerate(names) if index not in maps]
        _refuse_maps_alone(len(photographs), passed)
        root, names = _split_root(photographs, linked)
    ids = _shorten(names)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    ids, names = [ids[index] for index in order], [names[index] for index in order]
    return Images(root, ids, names, passed_over=passed, unread=unread)


def _explain_bad_id(name: str) -> str:
    """Why a path below the root gives no id, in words; empty if it gives one."""
    if not (fault := find_fault(name)):
        return ""
    return next(filter(None, map(explain_bad_name, name.split("/"))), f"its name {fault}; rename it")


def _read_mode(path: Path, span: tuple[int, int] | None = None) -> str:
    """`files.roles.read_mode` of an image: of a whole file, or of a span (offset, size) of a tar."""
    try:
        with open_file(path) as file:
            return read_mode(file if span is None else ContainerIO(file, *span))
    except (OSError, ValueError):
        return "RGB"  # missing or unreadable: the error comes when the image itself is read


def _refuse_maps_alone(photographs: int, passed: Sequence[tuple[str, str]]) -> None:
    if not photographs:
        where, reason = passed[0]
        raise ValueError(
            f"No photographs, only {len(passed)} depth maps, first {shorten(where)} ({reason}): give a folder of "
            "photographs. Save 16-bit grey photographs with 8 bits."
        )


def _open_tars(paths: Sequence[Path]) -> Images:
    with ThreadPoolExecutor(16) as pool:  # each thread waits for the disk most of the time
        contents = list(pool.map(_list_members, paths))
    root, shards = _split_root(paths)
    whole = [
        f"{shard.removesuffix('.tar')}/{_clean_member(paths[number], name)}"
        for number, (shard, members) in enumerate(zip(shards, contents, strict=True))
        for name, _, _ in members
    ]
    bad = {index: why for index, name in enumerate(whole) if (why := _explain_bad_id(name))}
    names = [name for members in contents for name, _, _ in members]
    shard = np.repeat(np.arange(len(paths), dtype=np.int32), [len(members) for members in contents])
    spans = np.array([span for members in contents for _, *span in members], np.int64).reshape(-1, 2)
    images = Images(root, whole, names, shards, shard, spans)
    unread = [(shorten(images.where(index)), why) for index, why in bad.items()]
    if len(bad) == len(whole):
        _refuse_nothing(paths[0], unread)
    images = _drop(images, bad)
    twice = next((name for name, count in Counter(images.ids).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} occurs twice: give each tar once, and repack a tar that holds a name twice.")
    maps = find_depth_maps(images.ids, lambda index: _read_mode(images.path(index), images.span(index)))
    passed = [(images.where(index), reason) for index, reason in maps.items()]
    _refuse_maps_alone(len(images) - len(maps), passed)
    images = _drop(images, maps)
    return replace(images, ids=_shorten(images.ids), passed_over=passed, unread=unread)


def _drop(images: Images, indices: Collection[int]) -> Images:
    return images.take([index for index in range(len(images)) if index not in indices]) if indices else images


def _list_members(path: Path) -> Members:
    """The images of one tar.

    A tar without its final blocks of zeros was cut off, or is still being written. It is refused: a copy that stopped
    between two members looks complete in every other way.
    """
    if path.name.lower().endswith(COMPRESSED):
        raise ValueError(
            f"{shorten(path)} is compressed, so it has no random access: decompress it to a plain .tar first."
        )
    last, found = "none", []
    with reading(path, "download or copy it again, or leave it out"), open_file(path) as file:
        length = os.fstat(file.fileno()).st_size
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    if not 0 <= member.size <= length - member.offset_data:
                        break
                    if member.isfile() and _is_image(member.name):
                        found.append((member.name, member.offset_data, member.size))
                    last = member.name
                    archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  else it keeps every header
                file.seek(min(archive.offset, length))
                whole = file.read(BLOCK) == bytes(BLOCK)
        except tarfile.TarError:
            whole = False
    if not whole:
        raise ValueError(
            f"{shorten(path)} is truncated or damaged (the last complete member is {shorten(last)}): download or copy "
            "it again, or leave it out."
        )
    return found


def _list_shards(pattern: str) -> list[Path]:
    """Every tar that a pattern with {000000..000019} stands for.

    Raises:
        ValueError: a range that runs backwards, too many names, or a tar that does not exist.
    """
    shown = shorten(pattern)
    ranges = BRACES.findall(pattern)
    long = any(len(number.lstrip("0")) > len(str(MOST_SHARDS)) for ends in ranges for number in ends)
    if not long:
        long = math.prod(max(1, int(last) - int(first) + 1) for first, last in ranges) > MOST_SHARDS
    names = [] if long else list(islice(_expand(pattern), MOST_SHARDS + 1))
    if long or len(names) > MOST_SHARDS:  # a range may stand in a range
        raise ValueError(f"{shown} stands for more than {MOST_SHARDS:,} tars: expected fewer; give a folder of tars.")
    absent = next((name for name in names if not os.path.lexists(name)), None)
    if absent is not None:
        raise ValueError(f"{shorten(absent)} does not exist.")
    return [Path(name) for name in names]


def _expand(pattern: str) -> Iterator[str]:
    """Every name that a pattern stands for."""
    found = BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    first, last = found.groups()
    if int(first) > int(last):
        raise ValueError(f"{shorten(pattern)}: the range {found[0]} runs backwards; write {{{last}..{first}}}.")
    for number in range(int(first), int(last) + 1):
        yield from _expand(f"{pattern[: found.start()]}{number:0{len(first)}}{pattern[found.end() :]}")


def _split_root(paths: Sequence[Path], linked: bool = False) -> tuple[Path, list[str]]:
    """The common folder of all files, and their paths below it; `linked` keeps symbolic links in folders."""
    real = os.path.abspath if linked else os.path.realpath
    whole = [os.path.join(real(path.parent), path.name) for path in paths]  # noqa: PTH118
    root = os.path.commonpath([os.path.dirname(path) for path in whole])  # noqa: PTH120
    return Path(root), [os.path.relpath(path, root) for path in whole]


def _clean_member(archive: Path, member: str) -> str:
    """A member's path without `.`; a ValueError if it would leave the archive."""
    parts = PurePosixPath(member).parts
    if member.startswith("/") or ".." in parts:
        raise ValueError(
            f"{shorten(archive)} holds a member {shorten(member)!r} that points outside of the archive: repack it."
        )
    return "/".join(part for part in parts if part != ".")


def _shorten(names: Sequence[str]) -> list[str]:
    """Each name without its suffix; names that would then be equal, ignoring case, keep it."""
    chosen = [name.rpartition(".")[0] for name in names]
    while True:
        count = Counter(name.lower() for name in chosen)
        alike = [k for k, name in enumerate(chosen) if count[name.lower()] > 1 and name != names[k]]
        if not alike:
            return chosen
        for k in alike:
            chosen[k] = names[k]


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.rpartition("/")[2].startswith(".")


def _is_tar(name: str) -> bool:
    return name.lower().endswith((".tar", *COMPRESSED))
