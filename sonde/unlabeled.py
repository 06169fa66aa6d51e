"""Images without depth, wherever they lie: a folder, a list in a text file, or tar shards; read at random by position.

SA-1B comes as tars of sa_N.jpg beside sa_N.json; webdataset shards are alike. Shards are never unpacked: one pass over
their headers finds where each image begins, and reading one is a seek. What decodes and what does not is told later.

Depth maps beside photographs are not among them: `files.roles.depth_maps` tells, and `Images.passed_over` lists them.
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
from sonde.files.roles import depth_maps, mode_of

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
"""Tars that have no random access."""
BLOCK = 512
"""Bytes; a tar is made of such blocks and ends with blocks of zeros."""
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
"""A range in a pattern of shards, as webdataset writes it."""

Members = list[tuple[str, int, int]]
"""(name, offset, size in bytes) of each image in a tar."""


@dataclass(frozen=True)
class Images:
    """Images in a fixed order: files sorted by id, tars sorted by name and each in its own order, as disks like it.

    Picklable; reading is safe from many threads.
    """

    root: Path
    """The folder all lie below, without symbolic links."""
    ids: Sequence[str]
    """Unique: the path below the root without its suffix; SHARD/KEY in tars. Two that would be alike, whatever the
    case of letters, keep their suffix."""
    names: Sequence[str]
    """Paths below the root, or members of a tar."""
    shards: Sequence[str] = ()
    """Tars below the root; none where the images are files."""
    shard: Int[np.ndarray, " n"] | None = None
    """Which tar each image is in."""
    spans: Int[np.ndarray, "n 2"] | None = None
    """Offset and size in bytes of each image in its tar."""
    passed_over: Sequence[tuple[str, str]] = ()
    """Depth maps that the source holds too, in its order: (`path` or `shard.tar#member`, why it is one)."""

    def __len__(self) -> int:
        return len(self.ids)

    def path(self, index: int) -> Path:
        """The file an image is in: its own, or its tar."""
        return self.root / (self.names[index] if self.shard is None else self.shards[int(self.shard[index])])

    def where(self, index: int) -> str:
        """What finds the image again: `path`, or `shard.tar#member`."""
        return str(self.path(index)) + ("" if self.shard is None else f"#{self.names[index]}")

    def span(self, index: int) -> tuple[int, int] | None:
        """Offset and size in bytes inside its tar; None for a file."""
        return None if self.spans is None else (int(self.spans[index, 0]), int(self.spans[index, 1]))

    def read(self, index: int) -> bytes:
        """The encoded image.

        Raises:
            OSError: it is gone, or cannot be read.
        """
        span = self.span(index)
        with self.path(index).open("rb") as file:
            file.seek(span[0] if span else 0)
            return file.read(span[1] if span else -1)

    def take(self, indices: Sequence[int]) -> "Images":
        """These alone, in this order."""
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

    Depth maps are passed over: images of one channel of 16 bits or more, and those whose names say depth and that are
    grey or lie beside a picture of the same name. All else, ids too, is as if they were not there.

    Args:
        source: a folder (with all below it, or of tars), one image, a text file of paths relative to it, a .tar, or a
            pattern of tars such as `sa_{000000..000019}.tar`.
        without: a folder whose files are not taken, such as that of the labels.

    Raises:
        ValueError: no such source, no photograph, a compressed or truncated tar; one sentence with the remedy.
    """
    text, path = str(source), Path(source)
    if BRACES.search(text):
        return _in_tars([Path(name) for name in _expanded(text)])
    if not path.exists():
        raise ValueError(f"{source} does not exist: expected a folder of images, a text file of paths, or tar shards.")
    if path.is_dir():
        return _in_folder(path, None if without is None else Path(without).resolve())
    if _is_tar(path.name):
        return _in_tars([path])
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _as_files([path])
    return _as_files(_listed(path))


def _in_folder(folder: Path, without: Path | None) -> Images:
    tars, images, root = [], [], folder.resolve()
    if without is not None and without == root:
        raise ValueError(f"{folder} is both source and output: give another folder for the output.")
    seen = {root}
    for place, folders, names in os.walk(root, followlinks=True):
        here = Path(place)
        into = {name: (here / name).resolve() for name in sorted(folders) if name[0] != "."}
        folders[:] = [name for name, real in into.items() if real != without and real not in seen]
        seen |= {into[name] for name in folders}  # a link back to a folder above would have no end
        shown = [name for name in sorted(names) if name[0] != "."]
        tars += [here / name for name in shown if _is_tar(name)]
        images += [os.path.relpath(here / name, root) for name in shown if _is_image(name)]
    if tars and images:
        raise ValueError(
            f"{folder} holds both tars ({tars[0].name}) and images ({images[0]}): give a folder of either."
        )
    if not tars and not images:
        known = ", ".join(IMAGE_SUFFIXES)
        raise ValueError(f"No images in {folder}: expected files that end in {known}, or in .tar.")
    return _in_tars(tars) if tars else _as_files([root / name for name in images], linked=True)


def _listed(path: Path) -> list[Path]:
    with reading(path, "expected a text file with one path in each line"):
        lines = path.read_text().splitlines()
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not names:
        raise ValueError(f"{path} names no image: expected one path in each line.")
    foreign = next((name for name in names if not _is_image(name)), None)
    if foreign is not None:
        raise ValueError(f"{path} names {foreign!r}, which is no image: expected {', '.join(IMAGE_SUFFIXES)}.")
    return [path.parent / name for name in names]


def _as_files(paths: Sequence[Path], linked: bool = False) -> Images:
    root, below = _below(paths, linked)
    names = sorted(set(below))
    maps = depth_maps([name.replace(os.sep, "/") for name in names], lambda index: _mode(root / names[index]))
    passed = [(str(root / names[index]), reason) for index, reason in maps.items()]
    if passed:
        photographs = [root / name for index, name in enumerate(names) if index not in maps]
        _refuse_maps_alone(len(photographs), passed)
        root, names = _below(photographs, linked)
    ids = _unique(names)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return Images(root, [ids[index] for index in order], [names[index] for index in order], passed_over=passed)


def _mode(path: Path, span: tuple[int, int] | None = None) -> str:
    """What the header of an image says of its pixels, in a file or a span of bytes of it."""
    try:
        with path.open("rb") as file:
            return mode_of(file if span is None else ContainerIO(file, *span))
    except OSError:
        return "RGB"  # gone, or not to be read: told where it is wanted


def _refuse_maps_alone(photographs: int, passed: Sequence[tuple[str, str]]) -> None:
    if not photographs:
        where, reason = passed[0]
        raise ValueError(
            f"No photographs, only {len(passed)} depth maps, first {where} ({reason}): give a folder of photographs; "
            "those in 16-bit grey must be saved with 8 bits."
        )


def _in_tars(paths: Sequence[Path]) -> Images:
    with ThreadPoolExecutor(16) as pool:  # each waits for its disk most of the time
        contents = list(pool.map(_members, paths))
    root, shards = _below(paths)
    whole = [
        f"{shard.removesuffix('.tar')}/{_inside(paths[number], name)}"
        for number, (shard, members) in enumerate(zip(shards, contents, strict=True))
        for name, _, _ in members
    ]
    if not whole:
        raise ValueError(f"No images in {paths[0]}: expected members that end in {', '.join(IMAGE_SUFFIXES)}.")
    twice = next((name for name, count in Counter(whole).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is there twice: give each tar once, and pack anew a tar that names a file twice.")
    names = [name for members in contents for name, _, _ in members]
    shard = np.repeat(np.arange(len(paths), dtype=np.int32), [len(members) for members in contents])
    spans = np.array([span for members in contents for _, *span in members], np.int64)
    images = Images(root, whole, names, shards, shard, spans)
    maps = depth_maps(whole, lambda index: _mode(images.path(index), images.span(index)))
    if maps:
        passed = [(images.where(index), reason) for index, reason in maps.items()]
        _refuse_maps_alone(len(images) - len(maps), passed)
        images = replace(images.take([k for k in range(len(images)) if k not in maps]), passed_over=passed)
    return replace(images, ids=_unique(images.ids))


def _members(path: Path) -> Members:
    """The images of one tar.

    A tar that ends without its blocks of zeros was cut off or is still being written: refused, for a copy that stopped
    between two members looks whole otherwise.
    """
    if path.name.lower().endswith(COMPRESSED):
        raise ValueError(f"{path} is compressed and has no random access: unpack it to a plain .tar first.")
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
                archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  else every header is kept
            file.seek(archive.offset)
            whole = file.read(BLOCK) == bytes(BLOCK)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist.") from None
    except tarfile.TarError:
        whole = False
    if not whole:
        raise ValueError(
            f"{path} is cut off or damaged (the last whole member is {last}): download or copy it again, or leave it "
            "out."
        )
    return found


def _expanded(pattern: str) -> Iterator[str]:
    """Every name of a pattern with {000000..000019}."""
    found = BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        yield from _expanded(f"{pattern[: found.start()]}{number:0{len(first)}}{pattern[found.end() :]}")


def _below(paths: Sequence[Path], linked: bool = False) -> tuple[Path, list[str]]:
    """The folder all files share, and their paths below it; through symbolic links, or else without them."""
    real = os.path.abspath if linked else os.path.realpath
    whole = [os.path.join(real(path.parent), path.name) for path in paths]  # noqa: PTH118
    root = os.path.commonpath([os.path.dirname(path) for path in whole])  # noqa: PTH120
    return Path(root), [os.path.relpath(path, root) for path in whole]


def _inside(archive: Path, member: str) -> str:
    parts = PurePosixPath(member).parts
    if member.startswith("/") or ".." in parts:
        raise ValueError(f"{archive} holds a member {member!r} that points outside of it: pack it anew.")
    return "/".join(part for part in parts if part != ".")


def _unique(names: Sequence[str]) -> list[str]:
    """Each name without its suffix; those that would be alike then, whatever the case of letters, keep it."""
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
