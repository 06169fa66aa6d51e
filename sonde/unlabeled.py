"""Images without depth: a folder, a list in a text file, or tar shards; read by position, in any order.

SA-1B comes as tars of sa_N.jpg and sa_N.json; webdataset shards are similar. Shards are never unpacked: one pass over
their headers finds where each image begins, and reading one is a seek. Images are not decoded here.

Depth maps beside photographs are skipped: `files.roles.find_depth_maps` recognises them, and `Images.passed_over` lists
them.
"""

import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int
from PIL.ContainerIO import ContainerIO

from sonde.files import IMAGE_SUFFIXES, reading
from sonde.files.roles import find_depth_maps, read_mode

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
"""Suffixes of tars without random access."""
BLOCK = 512
"""Bytes in a block of a tar; a complete tar ends with blocks of zeros."""
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
"""A range in a pattern of shards, in webdataset's notation."""

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
    """Depth maps in the source, in its order: (`path` or `shard.tar#member`, why it counts as a depth map)."""

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
        """
        span = self.span(index)
        with self.path(index).open("rb") as file:
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
            own folder, a .tar, or a pattern of tars such as `sa_{000000..000019}.tar`.
        without: a folder whose files are skipped, such as the folder of the labels.

    Raises:
        ValueError: no such source, no photograph, or a compressed or truncated tar; the message has the remedy.
    """
    text, path = str(source), Path(source)
    if BRACES.search(text):
        return _open_tars([Path(name) for name in _expand(text)])
    if not path.exists():
        raise ValueError(f"{source} does not exist: expected a folder of images, a text file of paths, or tar shards.")
    if path.is_dir():
        return _open_folder(path, None if without is None else Path(without).resolve())
    if _is_tar(path.name):
        return _open_tars([path])
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _open_files([path])
    return _open_files(_read_list(path))


def _open_folder(folder: Path, without: Path | None) -> Images:
    root = folder.resolve()
    if without is not None and without == root:
        raise ValueError(f"{folder} is both source and output: choose another output folder.")
    tars, images = _walk(root, without)
    if tars and images:
        raise ValueError(
            f"{folder} holds both tars ({tars[0].name}) and images ({images[0]}): give a folder of one kind."
        )
    if not tars and not images:
        known = ", ".join(IMAGE_SUFFIXES)
        raise ValueError(f"No images in {folder}: expected files with the suffix {known}, or .tar.")
    return _open_tars(tars) if tars else _open_files([root / name for name in images], linked=True)


def _walk(root: Path, without: Path | None) -> tuple[list[Path], list[str]]:
    """Tars below a folder, and images by their paths below it; hidden files and `without` are skipped."""
    tars, images = [], []
    seen = {root}
    for place, folders, names in os.walk(root, followlinks=True):
        here = Path(place)
        into = {name: (here / name).resolve() for name in sorted(folders) if name[0] != "."}
        # Assigned in place: os.walk descends only into these. A link to a parent folder would have no end.
        folders[:] = [name for name, real in into.items() if real != without and real not in seen]
        seen |= {into[name] for name in folders}
        shown = [name for name in sorted(names) if name[0] != "."]
        tars += [here / name for name in shown if _is_tar(name)]
        images += [os.path.relpath(here / name, root) for name in shown if _is_image(name)]
    return tars, images


def _read_list(path: Path) -> list[Path]:
    with reading(path, "expected a text file with one path per line"):
        lines = path.read_text().splitlines()
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not names:
        raise ValueError(f"{path} names no image: expected one path per line.")
    foreign = next((name for name in names if not _is_image(name)), None)
    if foreign is not None:
        raise ValueError(f"{path} names {foreign!r}, which is not an image: expected {', '.join(IMAGE_SUFFIXES)}.")
    return [path.parent / name for name in names]


def _open_files(paths: Sequence[Path], linked: bool = False) -> Images:
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
    return Images(root, [ids[index] for index in order], [names[index] for index in order], passed_over=passed)


def _read_mode(path: Path, span: tuple[int, int] | None = None) -> str:
    """`files.roles.read_mode` of an image: of a whole file, or of a span (offset, size) of a tar."""
    try:
        with path.open("rb") as file:
            return read_mode(file if span is None else ContainerIO(file, *span))
    except OSError:
        return "RGB"  # missing or unreadable: the error comes when the image itself is read


def _refuse_maps_alone(photographs: int, passed: Sequence[tuple[str, str]]) -> None:
    if not photographs:
        where, reason = passed[0]
        raise ValueError(
            f"No photographs, only {len(passed)} depth maps, first {where} ({reason}): give a folder of photographs. "
            "Save 16-bit grey photographs with 8 bits."
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
    if not whole:
        raise ValueError(f"No images in {paths[0]}: expected members with the suffix {', '.join(IMAGE_SUFFIXES)}.")
    twice = next((name for name, count in Counter(whole).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} occurs twice: give each tar once, and repack a tar that holds a name twice.")
    names = [name for members in contents for name, _, _ in members]
    shard = np.repeat(np.arange(len(paths), dtype=np.int32), [len(members) for members in contents])
    spans = np.array([span for members in contents for _, *span in members], np.int64)
    images = Images(root, whole, names, shards, shard, spans)
    maps = find_depth_maps(whole, lambda index: _read_mode(images.path(index), images.span(index)))
    if maps:
        passed = [(images.where(index), reason) for index, reason in maps.items()]
        _refuse_maps_alone(len(images) - len(maps), passed)
        images = replace(images.take([k for k in range(len(images)) if k not in maps]), passed_over=passed)
    return replace(images, ids=_shorten(images.ids))


def _list_members(path: Path) -> Members:
    """The images of one tar.

    A tar without its final blocks of zeros was cut off, or is still being written. It is refused: a copy that stopped
    between two members looks complete in every other way.
    """
    if path.name.lower().endswith(COMPRESSED):
        raise ValueError(f"{path} is compressed, so it has no random access: decompress it to a plain .tar first.")
    last, found = "none", []
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            length = path.stat().st_size
            for member in archive:
                if member.offset_data + member.size > length:
                    break
                if member.isfile() and _is_image(member.name):
                    found.append((member.name, member.offset_data, member.size))
                last = member.name
                archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  else tarfile keeps every header
            file.seek(archive.offset)
            whole = file.read(BLOCK) == bytes(BLOCK)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist.") from None
    except tarfile.TarError:
        whole = False
    if not whole:
        raise ValueError(
            f"{path} is truncated or damaged (the last complete member is {last}): download or copy it again, or leave "
            "it out."
        )
    return found


def _expand(pattern: str) -> Iterator[str]:
    """Every name that a pattern with {000000..000019} stands for."""
    found = BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    first, last = found.groups()
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
        raise ValueError(f"{archive} holds a member {member!r} that points outside of the archive: repack it.")
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
