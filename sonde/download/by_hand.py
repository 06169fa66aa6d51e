"""Files that a person downloaded: checked, put where the set's reader looks, and recorded.

The user's files are only read. A file that stays as it is gets a second name (a hard link), or is copied if the disk
differs. Archives are unpacked below the set's folder. The record states what is done, so the same command continues
where it stopped, and a file that has changed since is reported.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sonde.download.archives import extract, refuse_broken
from sonde.download.gathering import OPENED, FoundFile, GatheredFile, explain_strangers, find_files, gather, read_links
from sonde.download.record import (
    FileRecord,
    Lock,
    Progress,
    State,
    compute_digests,
    describe_check,
    find_fault,
    format_bytes,
    read_stamp,
)
from sonde.download.registry import Entry, without_suffix
from sonde.download.transfer import FULL, MissingFile, fetch, version_path
from sonde.renamed import keep_old_names


class BringResult(NamedTuple):
    """What was done, or would be done, with a user's files."""

    states: list[State]
    left_out: list[str]
    """A line for each kind of file that is not taken."""
    problems: list[str]
    """A line for each file that should be taken and cannot."""


class BringJob(NamedTuple):
    """The arguments that all steps share."""

    entry: Entry
    out: Path
    lock: Lock
    progress: Progress
    only: str
    problems: list[str]
    """Every step adds its errors here; the other files continue."""


def bring(
    entry: Entry,
    brought: Sequence[str | Path],
    out: Path,
    lock: Lock,
    progress: Progress,
    *,
    only: str = "*",
    dry_run: bool = False,
) -> BringResult:
    """Process every file that the user names, as the registry describes for a set behind a form.

    Args:
        entry: the set.
        brought: folders, files and patterns of files; a list of links is given as a file.
        out: the set's folder.
        lock: its record.
        progress: called with the bytes read or downloaded.
        only: a pattern of names, such as `sa_00000?.tar`.
        dry_run: only say what would be done.

    Raises:
        ValueError: no file belongs to the set, none could be processed, or the disk is too small.
    """
    pieces, left_out, problems = gather(entry, find_files(brought, out), only)
    if not pieces:
        raise ValueError(problems[0] if problems else explain_strangers(entry, brought, left_out))
    work = BringJob(entry, out, lock, progress, only, problems)
    _refuse_small_disk(work, pieces)
    step = _plan if dry_run else _do
    states = [state for piece in pieces for state in step(work, piece)]
    if problems and not states:
        raise ValueError(problems[0])
    return BringResult(states, left_out, problems)


def put(given: Path, place: Path) -> None:
    """Give a file a second name (a hard link), or copy it if that is not possible.

    Raises:
        ValueError: another file has that name.
    """
    if place.exists():
        if place.samefile(given) or compute_digests(place) == compute_digests(given):
            return
        raise ValueError(f"{place} exists already and is another file than {given}: move one of them away.")
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(given.resolve(), place)
    except OSError as error:
        if error.errno in FULL:
            raise
        part = place.with_name(place.name + ".part")
        shutil.copy2(given, part)
        part.replace(place)


def find_roots(entry: Entry, lock: Lock, out: Path) -> list[Path]:
    """The folders that are each a root for a reader, if they hold any file."""
    inner = [root for root in entry.roots if root]
    names = [name for name in lock.files if not name.startswith(f"{OPENED}/")]
    used = {next((root for root in inner if name.startswith(f"{root}/")), "") for name in names}
    return [out / root for root in entry.roots if root in used]


def _do(work: BringJob, piece: GatheredFile) -> list[State]:
    """Process a file; on an error, return nothing and add a problem."""
    try:
        return _DEEDS[piece.kind.do](work, piece)
    except ValueError as error:
        work.problems.append(str(error))
        return []
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise ValueError(f"The disk of {work.out} is full: free some space and run the same command again.") from None


def _plan(work: BringJob, piece: GatheredFile) -> list[State]:
    """What would be done with a file."""
    if piece.kind.do == "links":
        listed = [one for one, _ in read_links(work.entry, piece, work.only)]
        return [_describe_state(work, one, None if (work.out / one.name).is_file() else "to fetch") for one in listed]
    return [_describe_state(work, piece, None if _is_done(work, piece) else f"to {piece.kind.do}")]


def _keep(work: BringJob, piece: GatheredFile) -> list[State]:
    if not _is_done(work, piece):
        found = _verify(work, piece)
        put(piece.path, work.out / piece.name)
        _record(work, piece, work.out / piece.name, found)
    return [_describe_state(work, piece)]


def _unpack(work: BringJob, piece: GatheredFile) -> list[State]:
    if not _is_done(work, piece):
        found, folder = _verify(work, piece), work.out / piece.into
        if work.lock.find(piece.name).get("unpacked") != piece.into or not folder.is_dir():
            work.lock.note(piece.name, piece.source, {"members": _extract(work, piece, folder)})
        _record(work, piece, piece.path, found, {"unpacked": piece.into})
    return [_describe_state(work, piece)]


def _open(work: BringJob, piece: GatheredFile) -> list[State]:
    """Unpack an archive of archives, and process each inner one as if the user had given it."""
    if _is_done(work, piece):
        return [_describe_state(work, piece)]
    found, problems = _verify(work, piece), len(work.problems)
    outer = without_suffix(piece.called)
    folder = work.out / OPENED / Path(outer).name
    try:
        _extract(work, piece, folder)
        inner = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        files = [FoundFile(path, f"{outer}/{path.relative_to(folder).as_posix()}", False) for path in inner]
        pieces, _, told = gather(work.entry, files, work.only)
        work.problems.extend(told)
        states = [state for one in pieces for state in _do(work, one)]
    finally:
        shutil.rmtree(work.out / OPENED, ignore_errors=True)
    if len(work.problems) == problems and work.only == "*":
        _record(work, piece, piece.path, found, {"opened": [one.name for one in pieces]})
    return states


def _follow(work: BringJob, piece: GatheredFile) -> list[State]:
    """Download the files that a list of links names, one by one; existing files are kept."""
    states = []
    for one, url in read_links(work.entry, piece, work.only):
        place = work.out / one.name
        try:
            if place.is_file() or _fetch_one(work, piece, one, url, place):
                states += _do(work, one._replace(path=place))
        except ValueError as error:
            work.problems.append(str(error))
            break  # no network, no space or no permission: the other files would fail too
    return states


def _fetch_one(work: BringJob, listed: GatheredFile, one: GatheredFile, url: str, place: Path) -> bool:
    """Download a file; False if it is broken, which adds a problem and keeps it as NAME.refused.

    Raises:
        ValueError: the server refuses, as it would refuse the others too; or there is no network.
    """
    part = place.with_name(place.name + ".part")
    known = bool(one.published or work.lock.find(one.name).get("sha256"))
    try:
        fetch(url, part, certain=known, progress=lambda done, total: work.progress(done, total, one.name))
    except MissingFile as error:
        code = re.findall(r"HTTP \d+", str(error))[0]
        raise ValueError(
            f"The server refuses {one.name} ({code}): the links of {listed.path} expire after some days; download a "
            f"new list from {work.entry.homepage} and run the command with it, which continues with the missing files."
        ) from None
    version_path(part).unlink(missing_ok=True)
    try:
        refuse_broken(part, name=one.name)
    except ValueError as error:
        refused = part.replace(place.with_name(place.name + ".refused"))
        work.problems.append(f"{str(error).rstrip('.')}; what came is kept as {refused}.")
        return False
    part.replace(place)
    return True


def _verify(work: BringJob, piece: GatheredFile) -> dict[str, str]:
    """The digests of a file, after all checks.

    Raises:
        ValueError: the file is broken, differs from the published one, or from the one that was here before.
    """
    refuse_broken(piece.path)
    found = compute_digests(piece.path, lambda done, total: work.progress(done, total, piece.name))
    if wrong := find_fault(piece.path, piece.kind.bytes, piece.published, found):
        raise ValueError(f"{piece.path} is not the expected file ({wrong}): download it again.")
    before = work.lock.find(piece.name).get("sha256", found["sha256"])
    if before != found["sha256"]:
        raise ValueError(
            f"{piece.path} is another file than the earlier {piece.name} (its sha256 is {found['sha256']}, not "
            f"{before}): download it again, or remove that entry of {work.lock.path} if the publisher has changed the "
            "file."
        )
    return found


def _is_done(work: BringJob, piece: GatheredFile) -> bool:
    """Whether the record has this very file, and its result still exists."""
    record, lock = work.lock.find(piece.name), work.lock
    if (record.get("bytes"), record.get("modified")) != read_stamp(piece.path):
        return False
    if piece.kind.do == "keep":
        return lock.holds(piece.name, work.out / piece.name)
    if piece.kind.do == "unpack":
        return record.get("unpacked") == piece.into and (work.out / piece.into).is_dir()
    places = [lock.find(name).get("unpacked") or name for name in record.get("opened", [])]
    return "opened" in record and all((work.out / place).exists() for place in places)


def _record(
    work: BringJob, piece: GatheredFile, path: Path, found: Mapping[str, str], facts: FileRecord | None = None
) -> None:
    """Record a file that is done: size, time, digests, how it was checked, and further facts."""
    size, modified = read_stamp(path)
    record: FileRecord = {
        "bytes": size,
        "modified": modified,
        "md5": found["md5"],
        "sha256": found["sha256"],
        "checked": describe_check(list(piece.published), {}),
    }
    work.lock.note(piece.name, piece.source, record | (facts or {}))


def _describe_state(work: BringJob, piece: GatheredFile, here: str | None = None) -> State:
    """The state of a file after processing; or `here`, for a dry run."""
    kept = piece.kind.do == "keep"
    if kept:
        place = work.out / piece.name
    else:
        place = work.out if piece.kind.do == "open" else work.out / piece.into
    path = next((path for path in (piece.path, place) if path.is_file()), None)
    how = describe_check(list(piece.published), work.lock.find(piece.name))
    given = piece.source if piece.path in (place, Path(place.name)) else str(piece.path)
    return State(place, given, path and path.stat().st_size, here or ("whole" if kept else "unpacked"), how)


def _extract(work: BringJob, piece: GatheredFile, folder: Path) -> int:
    return extract(piece.path, folder, work.out / f".{piece.path.name}.partial")


def _refuse_small_disk(work: BringJob, pieces: Sequence[GatheredFile]) -> None:
    """Refuse a disk that is too small: an archive needs at least its own size, and a file of another disk is copied."""
    place = next(folder for folder in (work.out.absolute(), *work.out.absolute().parents) if folder.is_dir())
    device, free = place.stat().st_dev, shutil.disk_usage(place).free
    left = [piece for piece in pieces if piece.kind.do != "links" and not _is_done(work, piece)]
    sizes = [(piece.path.stat(), piece.kind.do == "keep") for piece in left]
    need = sum(state.st_size for state, kept in sizes if not kept or state.st_dev != device)
    if need > free:
        raise ValueError(
            f"{work.entry.title} does not fit into {work.out}: it needs at least {format_bytes(need)}, but its disk "
            f"has {format_bytes(free)} free; free some space, or choose another --out."
        )


_DEEDS: dict[str, Callable[[BringJob, GatheredFile], list[State]]] = {
    "keep": _keep,
    "unpack": _unpack,
    "open": _open,
    "links": _follow,
}

keep_old_names(__name__, {"Brings": "BringResult", "Work": "BringJob", "roots": "find_roots"})
