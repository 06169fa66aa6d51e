"""Files that a person fetched: checked, brought to where the set's reader looks, and recorded.

What the user names is only read. Files that stay as they are get a second name (a hard link), or are copied where the
disk differs; archives are unpacked below the set's folder. The record says what is done, so that the same command goes
on where it stopped, and a file that has changed since is told.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sonde.download.archives import extract, refuse_broken
from sonde.download.gathering import OPENED, Found, GatheredFile, found_in, gather, links_in, strangers
from sonde.download.record import Lock, Progress, State, checked, digests, fault, readable, stamp
from sonde.download.registry import Entry, without_suffix
from sonde.download.transfer import FULL, NotThere, fetch, version_of


class Brings(NamedTuple):
    """What became, or would become, of a user's files."""

    states: list[State]
    left_out: list[str]
    """A line for each kind of file that is not taken."""
    problems: list[str]
    """A line for each file that should be and cannot."""


class Work(NamedTuple):
    """What every step needs to know."""

    entry: Entry
    out: Path
    lock: Lock
    progress: Progress
    only: str
    problems: list[str]
    """Added to by whatever fails; the rest goes on."""


def bring(
    entry: Entry,
    brought: Sequence[str | Path],
    out: Path,
    lock: Lock,
    progress: Progress,
    *,
    only: str = "*",
    dry_run: bool = False,
) -> Brings:
    """Deals with every file that the user names, as the registry says of a set behind a form.

    Args:
        entry: the set.
        brought: folders, files and patterns of files; of a list of links, the file itself.
        out: the set's folder.
        lock: its record.
        progress: told of bytes read or fetched.
        only: a pattern of names, such as `sa_00000?.tar`.
        dry_run: only say what would be done.

    Raises:
        ValueError: none of the files is the set's, or nothing could be done with any; too little disk.
    """
    pieces, left_out, problems = gather(entry, found_in(brought, out), only)
    if not pieces:
        raise ValueError(problems[0] if problems else strangers(entry, brought, left_out))
    work = Work(entry, out, lock, progress, only, problems)
    _refuse_small_disk(work, pieces)
    states = [state for piece in pieces for state in (_planned if dry_run else _done)(work, piece)]
    if problems and not states:
        raise ValueError(problems[0])
    return Brings(states, left_out, problems)


def put(given: Path, place: Path) -> None:
    """Gives a file a second name, or copies it where that cannot be.

    Raises:
        ValueError: another file is there.
    """
    if place.exists():
        if place.samefile(given) or digests(place) == digests(given):
            return
        raise ValueError(f"{place} is there already and is another file than {given}: move one of them away.")
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(given.resolve(), place)
    except OSError as error:
        if error.errno in FULL:
            raise
        part = place.with_name(place.name + ".part")
        shutil.copy2(given, part)
        part.replace(place)


def roots(entry: Entry, lock: Lock, out: Path) -> list[Path]:
    """The folders that a reader takes each by itself, of those that hold anything."""
    inner = [root for root in entry.roots if root]
    names = [name for name in lock.files if not name.startswith(f"{OPENED}/")]
    used = {next((root for root in inner if name.startswith(f"{root}/")), "") for name in names}
    return [out / root for root in entry.roots if root in used]


def _done(work: Work, piece: GatheredFile) -> list[State]:
    """What a piece came to; nothing, and a problem told, where it could not be."""
    try:
        return _DEEDS[piece.kind.do](work, piece)
    except ValueError as error:
        work.problems.append(str(error))
        return []
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise ValueError(f"The disk of {work.out} is full: free some, and the same command goes on.") from None


def _planned(work: Work, piece: GatheredFile) -> list[State]:
    """What would be done with a piece."""
    if piece.kind.do == "links":
        listed = [one for one, _ in links_in(work.entry, piece, work.only)]
        return [_state(work, one, None if (work.out / one.name).is_file() else "to fetch") for one in listed]
    return [_state(work, piece, None if _is_done(work, piece) else f"to {piece.kind.do}")]


def _keep(work: Work, piece: GatheredFile) -> list[State]:
    if not _is_done(work, piece):
        found = _verified(work, piece)
        put(piece.path, work.out / piece.name)
        _record(work, piece, work.out / piece.name, found)
    return [_state(work, piece)]


def _unpack(work: Work, piece: GatheredFile) -> list[State]:
    if not _is_done(work, piece):
        found, folder = _verified(work, piece), work.out / piece.into
        if work.lock.of(piece.name).get("unpacked") != piece.into or not folder.is_dir():
            work.lock.note(piece.name, piece.source, members=_extract(work, piece, folder))
        _record(work, piece, piece.path, found, unpacked=piece.into)
    return [_state(work, piece)]


def _open(work: Work, piece: GatheredFile) -> list[State]:
    """An archive of archives: each is dealt with as though it were brought, in a folder of the outer one's name."""
    if _is_done(work, piece):
        return [_state(work, piece)]
    found, problems = _verified(work, piece), len(work.problems)
    outer = without_suffix(piece.called)
    folder = work.out / OPENED / Path(outer).name
    try:
        _extract(work, piece, folder)
        inner = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        files = [Found(path, f"{outer}/{path.relative_to(folder).as_posix()}", False) for path in inner]
        pieces, _, told = gather(work.entry, files, work.only)
        work.problems.extend(told)
        states = [state for one in pieces for state in _done(work, one)]
    finally:
        shutil.rmtree(work.out / OPENED, ignore_errors=True)
    if len(work.problems) == problems and work.only == "*":
        _record(work, piece, piece.path, found, opened=[one.name for one in pieces])
    return states


def _follow(work: Work, piece: GatheredFile) -> list[State]:
    """Fetches what a list of links names, file by file; what is there already is left alone."""
    states = []
    for one, url in links_in(work.entry, piece, work.only):
        place = work.out / one.name
        try:
            if place.is_file() or _fetched(work, piece, one, url, place):
                states += _done(work, one._replace(path=place))
        except ValueError as error:
            work.problems.append(str(error))
            break  # no network, no room or no leave: the others would fare alike
    return states


def _fetched(work: Work, listed: GatheredFile, one: GatheredFile, url: str, place: Path) -> bool:
    """Whether a file has come whole; a broken one is put aside and told.

    Raises:
        ValueError: the server refuses, so that it would refuse the others too; or no network.
    """
    part = place.with_name(place.name + ".part")
    known = bool(one.published or work.lock.of(one.name).get("sha256"))
    try:
        fetch(url, part, certain=known, progress=lambda done, total: work.progress(done, total, one.name))
    except NotThere as error:
        code = re.findall(r"HTTP \d+", str(error))[0]
        raise ValueError(
            f"The server refuses {one.name} ({code}): the links of {listed.path} expire after some days; fetch a new "
            f"list from {work.entry.homepage} and give that, and the same command goes on with what is missing."
        ) from None
    version_of(part).unlink(missing_ok=True)
    try:
        refuse_broken(part, name=one.name)
    except ValueError as error:
        refused = part.replace(place.with_name(place.name + ".refused"))
        work.problems.append(f"{str(error).rstrip('.')}; what came is kept as {refused}.")
        return False
    part.replace(place)
    return True


def _verified(work: Work, piece: GatheredFile) -> dict[str, str]:
    """The digests of a file, once nothing speaks against it.

    Raises:
        ValueError: it is broken, not what is published, or not what was there before.
    """
    refuse_broken(piece.path)
    found = digests(piece.path, lambda done, total: work.progress(done, total, piece.name))
    if wrong := fault(piece.path, piece.kind.bytes, piece.published, found):
        raise ValueError(f"{piece.path} is not what it should be ({wrong}): fetch it again.")
    before = work.lock.of(piece.name).get("sha256", found["sha256"])
    if before != found["sha256"]:
        raise ValueError(
            f"{piece.path} is another file than the {piece.name} brought before (its sha256 is {found['sha256']}, not "
            f"{before}): fetch it again, or remove that entry of {work.lock.path} if its publisher has changed it."
        )
    return found


def _is_done(work: Work, piece: GatheredFile) -> bool:
    """Whether the record says so of this very file, and what came of it is still there."""
    record, lock = work.lock.of(piece.name), work.lock
    if (record.get("bytes"), record.get("modified")) != stamp(piece.path):
        return False
    if piece.kind.do == "keep":
        return lock.holds(piece.name, work.out / piece.name)
    if piece.kind.do == "unpack":
        return record.get("unpacked") == piece.into and (work.out / piece.into).is_dir()
    places = [lock.of(name).get("unpacked", name) for name in record.get("opened", [])]
    return "opened" in record and all((work.out / place).exists() for place in places)


def _record(work: Work, piece: GatheredFile, path: Path, found: Mapping[str, str], **facts: Any) -> None:
    size, modified = stamp(path)
    how = checked(list(piece.published), {})
    work.lock.note(piece.name, piece.source, bytes=size, modified=modified, **found, checked=how, **facts)


def _state(work: Work, piece: GatheredFile, here: str | None = None) -> State:
    """A piece for people and programs; as it is once it is done, or else as `here` says."""
    kept = piece.kind.do == "keep"
    place = work.out / (piece.name if kept else "" if piece.kind.do == "open" else piece.into)
    path = next((path for path in (piece.path, place) if path.is_file()), None)
    how = checked(list(piece.published), work.lock.of(piece.name))
    given = piece.source if piece.path in (place, Path(place.name)) else str(piece.path)
    return State(place, given, path and path.stat().st_size, here or ("whole" if kept else "unpacked"), how)


def _extract(work: Work, piece: GatheredFile, folder: Path) -> int:
    return extract(piece.path, folder, work.out / f".{piece.path.name}.partial")


def _refuse_small_disk(work: Work, pieces: Sequence[GatheredFile]) -> None:
    """Archives unpack to their own size at least, and what is on another disk is copied."""
    place = next(folder for folder in (work.out.absolute(), *work.out.absolute().parents) if folder.is_dir())
    device, free = place.stat().st_dev, shutil.disk_usage(place).free
    left = [piece for piece in pieces if piece.kind.do != "links" and not _is_done(work, piece)]
    sizes = [(piece.path.stat(), piece.kind.do == "keep") for piece in left]
    need = sum(state.st_size for state, kept in sizes if not kept or state.st_dev != device)
    if need > free:
        raise ValueError(
            f"{work.entry.title} does not fit into {work.out}: {readable(need)} are needed at least, but its disk has "
            f"{readable(free)} free; free some, or choose another --out."
        )


_DEEDS: dict[str, Callable[[Work, GatheredFile], list[State]]] = {
    "keep": _keep,
    "unpack": _unpack,
    "open": _open,
    "links": _follow,
}
