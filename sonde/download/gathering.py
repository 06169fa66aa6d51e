"""Find the files that a user names, recognise those of a set by name, and sort them by what is done with them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from posixpath import commonpath
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from sonde.datasets.pairs import walk_files
from sonde.download.archives import list_names, refuse_broken
from sonde.download.registry import ARCHIVES, BroughtFile, Entry, Source, without_suffix
from sonde.files import reading
from sonde.renamed import keep_old_names
from sonde.spelling import quantify

OPENED = ".opened"
"""Temporary folder for the archives in an archive, below the set's folder."""

LINK = re.compile(r"\s*([^\s/\\]+)\s+(https?://\S+)\s*")
"""A line of a list of links: the name of a file, and its address."""


class FoundFile(NamedTuple):
    """A file that the user names, or one in a folder that the user names."""

    path: Path
    called: str
    """`FOLDER/…/NAME`, from the folder that the user names, without a browser's copy number such as (1)."""
    named: bool
    """Whether the user names the file itself, not its folder."""


class GatheredFile(NamedTuple):
    """A file that belongs to the set, and what is done with it."""

    path: Path
    called: str
    """See `FoundFile`."""
    kind: BroughtFile
    into: str
    """Folder below the set's in which it is kept, or into which it is unpacked."""
    source: str = "brought by hand"
    """Its source, for the record; or the address of its link, without the signature."""

    @property
    def name(self) -> str:
        """Its path below the set's folder; for an archive that is unpacked, its name in the record."""
        own, folder = self.called.rpartition("/")[2], Path(self.into)
        beside = self.kind.do == "unpack" and folder.name == without_suffix(own)
        return ((folder.parent if beside else folder) / own).as_posix()

    @property
    def published(self) -> dict[str, str]:
        """Digests that the publisher states, by algorithm."""
        return self.kind.published


class GatherResult(NamedTuple):
    """A user's files, sorted."""

    pieces: list[GatheredFile]
    """In the order of processing."""
    left_out: list[str]
    """A line for each kind of file that is not taken."""
    problems: list[str]
    """A line for each file that should be taken and cannot."""


OPEN = BroughtFile(like=[], do="open", what="an archive of archives")
"""An archive that an online drive makes of a folder of archives."""
ORDER = ("keep", "unpack", "open", "links")
"""Order of processing: links need the network, so they come last."""


def find_files(brought: Sequence[str | Path], out: Path) -> list[FoundFile]:
    """Every file that a user names by folder, name or pattern, each once.

    Files in the set's own folder count only where that folder, or one within, is named.

    Raises:
        ValueError: a name that matches no file.
    """
    found: dict[Path, FoundFile] = {}
    for text in brought:
        path = Path(text).expanduser()
        some = [path] if path.exists() else sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if not some:
            raise ValueError(f"--from {text}: no such file or folder, and no file matches it as a pattern.")
        for each in some:
            for one in _walk_folder(each, out.resolve()) if each.is_dir() else [make_found(each)]:
                found.setdefault(one.path.resolve(), one)
    return list(found.values())


def make_found(path: Path) -> FoundFile:
    """A file that the user names directly."""
    return FoundFile(path, _strip_copy_number(f"{path.resolve().parent.name}/{path.name}"), True)


def gather(entry: Entry, files: Iterable[FoundFile], only: str) -> GatherResult:
    """Sort files by the registry's description of them; `only` is a pattern of the names they get."""
    pieces, problems, unknown, skipped = [], [], [], dict[str, int]()
    for file in files:
        try:
            piece = _classify(entry, file)
        except ValueError as error:
            problems.append(str(error))
            continue
        if piece is None:
            unknown.append(file.path.name)
        elif piece.kind.do == "skip":
            skipped[piece.kind.what] = skipped.get(piece.kind.what, 0) + 1
        elif piece.kind.do in ("links", "open") or fnmatch(piece.name, only):
            pieces.append(piece)
    left_out = [f"{what}, which are not needed: {quantify(count, 'file')}" for what, count in skipped.items()]
    left_out += [f"no files of the set: {len(unknown)}, first {unknown[0]}"] if unknown else []
    return GatherResult(sorted(pieces, key=lambda piece: ORDER.index(piece.kind.do)), left_out, problems)


def read_links(entry: Entry, piece: GatheredFile, only: str) -> list[tuple[GatheredFile, str]]:
    """The files of the set that a list of links names, each with its link.

    Raises:
        ValueError: the list names no file of the set with a link.
    """
    with reading(piece.path, "expected the publisher's list of file names and links"):
        lines = piece.path.read_text(encoding="utf-8", errors="replace").splitlines()
    matches = [LINK.fullmatch(line) for line in lines]
    named = [(_match_link(entry, match[1], match[2]), match[2]) for match in matches if match is not None]
    listed = [(one, url) for one, url in named if one is not None]
    if not listed:
        raise ValueError(
            f"{piece.path} names no file of {entry.title} with a link: expected lines with a name such as "
            f"{entry.brings[0].example} and an https address."
        )
    return [(one, url) for one, url in listed if fnmatch(one.name, only)]


def match_sources(sources: Sequence[Source], files: Sequence[FoundFile]) -> list[tuple[Source, Path]]:
    """The user's files that have names of an open set's files, each with its source.

    Raises:
        ValueError: several files of the set have this name, and the user's file is not in one of their folders.
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
                f"{file.path} could be any of {len(same)} files, such as {same[0].path}: put it into such folders, and "
                "give the outermost folder."
            )
        pairs += [(source, file.path) for source in exact or same]
    return pairs


def explain_strangers(entry: Entry, brought: Sequence[str | Path], left_out: Sequence[str]) -> str:
    """The message for files that all do not belong to the set."""
    known = {source.path: "" for source in entry.sources()[:3]} if entry.access == "open" else {}
    names = [*known, *(f"{kind.example} ({kind.what})" for kind in entry.brings if kind.example)]
    return (
        f"{', '.join(map(str, brought))} holds nothing of {entry.title} ({'; '.join(left_out) or 'no files'}): "
        f"expected {', '.join(names)}; files that are already unpacked need no --from."
    )


def _walk_folder(folder: Path, out: Path) -> Iterator[FoundFile]:
    base = folder.resolve()
    for path in sorted(walk_files(base)):
        own = out in path.parents and out != base and out not in base.parents
        if path.name[0] != "." and path.is_file() and not own:
            yield FoundFile(path, _strip_copy_number(f"{base.name}/{path.relative_to(base).as_posix()}"), False)


def _strip_copy_number(name: str) -> str:
    """A path whose file name has no copy number of a browser: `a (1).tar` becomes `a.tar`."""
    folder, slash, own = name.rpartition("/")
    return folder + slash + re.sub(r" ?\(\d+\)(?=\.)", "", own)


def _classify(entry: Entry, file: FoundFile) -> GatheredFile | None:
    """The file with its kind; None if it does not belong to the set.

    Raises:
        ValueError: an archive of the set cannot be read, or the name does not tell which file it is.
    """
    archive, within = file.called.lower().endswith(ARCHIVES), file.called
    if archive:
        names = _list_archive(entry, file)
        if names and all(name.lower().endswith(ARCHIVES) for name in names):
            return GatheredFile(file.path, file.called, OPEN, OPENED)
        if names:
            within += f"/{commonpath([name.lstrip('/').rpartition('/')[0] for name in names])}"
    for kind in entry.brings:
        into = kind.place(file.called, within)
        if into is None or (kind.do == "unpack" and not archive) or (kind.do == "links" and not file.named):
            continue
        if kind.do == "unclear":
            raise ValueError(f"{file.path}: {kind.what}.")
        return GatheredFile(file.path, file.called, kind, into)
    return None


def _list_archive(entry: Entry, file: FoundFile) -> list[str]:
    """Names of the files in an archive; empty for a broken archive that is not needed."""
    kind = next((kind for kind in entry.brings if kind.place(file.called, file.called) is not None), None)
    try:
        refuse_broken(file.path, headers=False)
        return list_names(file.path)
    except ValueError:
        if kind is None or kind.do == "skip":
            return []
        raise


def _match_link(entry: Entry, name: str, url: str) -> GatheredFile | None:
    """The file with this name and link, if the set keeps it as it is; else None."""
    called = f"links/{name}"
    bare = urlunsplit(urlsplit(url)._replace(query="", fragment=""))  # without the signature, which is a secret
    for kind in entry.brings:
        into = kind.place(called, called)
        if kind.do == "keep" and into is not None:
            return GatheredFile(Path(name), called, kind, into, bare)
    return None


keep_old_names(
    __name__,
    {
        "Found": "FoundFile",
        "Gathered": "GatherResult",
        "alone": "make_found",
        "found_in": "find_files",
        "links_in": "read_links",
        "matched": "match_sources",
        "strangers": "explain_strangers",
    },
)
