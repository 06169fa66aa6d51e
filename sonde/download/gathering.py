"""What the files that a user names are of a set: found in folders, told by name, and sorted by what becomes of them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from posixpath import commonpath
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from sonde.datasets.pairs import below
from sonde.download.archives import names_in, refuse_broken
from sonde.download.registry import ARCHIVES, Brought, Entry, Source, without_suffix
from sonde.files import reading

OPENED = ".opened"
"""Where the archives in an archive lie until they are dealt with, below the set's folder."""

LINK = re.compile(r"\s*([^\s/\\]+)\s+(https?://\S+)\s*")
"""A line of a list of links: a file's name, and where it is."""


class Found(NamedTuple):
    """A file among those that the user names."""

    path: Path
    called: str
    """`FOLDER/…/NAME`, from the folder that the user names, without the number of a browser's second copy."""
    named: bool
    """Whether the user names it itself, rather than a folder it is in."""


class GatheredFile(NamedTuple):
    """A file that belongs to the set, and what is to become of it."""

    path: Path
    called: str
    """See `Found`."""
    kind: Brought
    into: str
    """Folder below the set's: where it is kept, or what it is unpacked into."""
    source: str = "brought by hand"
    """Where it comes from, in the record: or the address of its link, without the signature."""

    @property
    def name(self) -> str:
        """Where it is kept, below the set's folder; of one that is unpacked, what the record calls it."""
        own, folder = self.called.rpartition("/")[2], Path(self.into)
        beside = self.kind.do == "unpack" and folder.name == without_suffix(own)
        return ((folder.parent if beside else folder) / own).as_posix()

    @property
    def published(self) -> dict[str, str]:
        """Digests that the publisher states, by algorithm."""
        return {name: digest for name in ("md5", "sha256") if (digest := getattr(self.kind, name))}


class Gathered(NamedTuple):
    """What a user's files come to."""

    pieces: list[GatheredFile]
    """In the order in which they are dealt with."""
    left_out: list[str]
    """A line for each kind of file that is not taken."""
    problems: list[str]
    """A line for each file that should be and cannot."""


OPEN = Brought(like=[], do="open", what="an archive of archives")
"""What a drive packs when a folder of archives is downloaded."""
ORDER = ("keep", "unpack", "open", "links")
"""What a program can do before what needs a network."""


def found_in(brought: Sequence[str | Path], out: Path) -> list[Found]:
    """Every file that a user names by folder, name or pattern, each once.

    Files in the set's own folder count only where that folder, or one within, is named.

    Raises:
        ValueError: a name of nothing.
    """
    found: dict[Path, Found] = {}
    for text in brought:
        path = Path(text).expanduser()
        some = [path] if path.exists() else sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if not some:
            raise ValueError(f"--from {text}: there is no such file or folder, and no file is like it.")
        for each in some:
            for one in _files(each, out.resolve()) if each.is_dir() else [alone(each)]:
                found.setdefault(one.path.resolve(), one)
    return list(found.values())


def alone(path: Path) -> Found:
    """A file that is named itself."""
    return Found(path, _called(f"{path.resolve().parent.name}/{path.name}"), True)


def gather(entry: Entry, files: Iterable[Found], only: str) -> Gathered:
    """Sorts files by what the registry says of them; `only` is a pattern of the names they get."""
    pieces, problems, unknown, skipped = [], [], [], dict[str, int]()
    for file in files:
        try:
            piece = _sorted(entry, file)
        except ValueError as error:
            problems.append(str(error))
            continue
        if piece is None:
            unknown.append(file.path.name)
        elif piece.kind.do == "skip":
            skipped[piece.kind.what] = skipped.get(piece.kind.what, 0) + 1
        elif piece.kind.do in ("links", "open") or fnmatch(piece.name, only):
            pieces.append(piece)
    left_out = [f"{what}, which are not needed: {count} files" for what, count in skipped.items()]
    left_out += [f"no files of the set: {len(unknown)}, first {unknown[0]}"] if unknown else []
    return Gathered(sorted(pieces, key=lambda piece: ORDER.index(piece.kind.do)), left_out, problems)


def links_in(entry: Entry, piece: GatheredFile, only: str) -> list[tuple[GatheredFile, str]]:
    """The files of the set that a list names, each with its link.

    Raises:
        ValueError: no line is a name and a link.
    """
    with reading(piece.path, "expected the publisher's list of file names and links"):
        lines = piece.path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = [(match[1], match[2]) for line in lines if (match := LINK.fullmatch(line))]
    listed = [(one, url) for name, url in found if (one := _kept(entry, name, url)) is not None]
    if not listed:
        raise ValueError(
            f"{piece.path} names no file of {entry.title} with a link: expected lines of a name such as "
            f"{entry.brings[0].example} and an https address."
        )
    return [(one, url) for one, url in listed if fnmatch(one.name, only)]


def matched(sources: Sequence[Source], files: Sequence[Found]) -> list[tuple[Source, Path]]:
    """Files that are called like those of an open set, each with what it is.

    Raises:
        ValueError: a name that several of the set's files have, where the user's file does not lie in such folders.
    """
    by_name: dict[str, list[Source]] = {}
    for source in sources:
        by_name.setdefault(Path(source.path).name, []).append(source)
    pairs = []
    for file in files:
        same = by_name.get(file.called.rpartition("/")[2], [])
        exact = [source for source in same if f"/{file.called}".endswith(f"/{source.path}")]
        if len(same) > 1 and not exact:
            raise ValueError(
                f"{file.path} could be any of {len(same)} files, such as {same[0].path}: put it into folders like that,"
                " and give the outermost."
            )
        pairs += [(source, file.path) for source in exact or same]
    return pairs


def strangers(entry: Entry, brought: Sequence[str | Path], left_out: Sequence[str]) -> str:
    """The sentence for files of which none is the set's."""
    known = {source.path: "" for source in entry.sources()[:3]} if entry.access == "open" else {}
    names = [*known, *(f"{kind.example} ({kind.what})" for kind in entry.brings if kind.example)]
    return (
        f"Nothing of {entry.title} is in {', '.join(map(str, brought))} ({'; '.join(left_out) or 'no files'}): "
        f"expected {', '.join(names)}; what is unpacked already needs no --from."
    )


def _files(folder: Path, out: Path) -> Iterator[Found]:
    base = folder.resolve()
    for path in sorted(below(base)):
        own = out in path.parents and out != base and out not in base.parents
        if path.name[0] != "." and path.is_file() and not own:
            yield Found(path, _called(f"{base.name}/{path.relative_to(base).as_posix()}"), False)


def _called(name: str) -> str:
    folder, slash, own = name.rpartition("/")
    return folder + slash + re.sub(r" ?\(\d+\)(?=\.)", "", own)


def _sorted(entry: Entry, file: Found) -> GatheredFile | None:
    """What a file is; None for one that is nothing of the set.

    Raises:
        ValueError: an archive of the set that cannot be looked into, or a name that is not enough to tell.
    """
    archive, within = file.called.lower().endswith(ARCHIVES), file.called
    if archive:
        names = _names(entry, file)
        if names and all(name.lower().endswith(ARCHIVES) for name in names):
            return GatheredFile(file.path, file.called, OPEN, OPENED)
        within += f"/{commonpath([name.lstrip('/').rpartition('/')[0] for name in names])}" if names else ""
    for kind in entry.brings:
        into = kind.place(file.called, within)
        if into is None or (kind.do == "unpack" and not archive) or (kind.do == "links" and not file.named):
            continue
        if kind.do == "unclear":
            raise ValueError(f"{file.path}: {kind.what}.")
        return GatheredFile(file.path, file.called, kind, into)
    return None


def _names(entry: Entry, file: Found) -> list[str]:
    """Files in an archive; none of a broken one that is not the set's or not needed."""
    kind = next((kind for kind in entry.brings if kind.place(file.called, file.called) is not None), None)
    try:
        refuse_broken(file.path, headers=False)
        return names_in(file.path)
    except ValueError:
        if kind is None or kind.do == "skip":
            return []
        raise


def _kept(entry: Entry, name: str, url: str) -> GatheredFile | None:
    """The file of this name and link, if it is one that is kept as it is."""
    called, bare = f"links/{name}", urlunsplit(urlsplit(url)._replace(query="", fragment=""))
    for kind in entry.brings:
        if kind.do == "keep" and (into := kind.place(called, called)) is not None:
            return GatheredFile(Path(name), called, kind, into, bare)
    return None
