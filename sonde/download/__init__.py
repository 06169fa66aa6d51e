"""Public data sets by name: their licences, sizes and files, fetched so that nothing is lost or taken on trust.

    sonde data download --list
    sonde data download nyu --out data/nyu --yes
    sonde data download sa-1b --from ~/Downloads/sa-1b-links.txt

A file bears its name only once it is whole and its checksum agrees. Where nobody has published a checksum, the digest
of the first download is written to `sources.lock.json` beside the data, and later runs are checked against that. The
registry is registry.yaml; `python -m sonde.download` prints docs/data_manifest.json.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from sonde.download.archives import extract, refuse_broken
from sonde.download.by_hand import bring, put, roots
from sonde.download.gathering import found_in, matched, strangers
from sonde.download.record import Lock, Progress, State, checked, digests, fault, readable, stamp
from sonde.download.registry import Entry, Source, find, known, licence_of, load, manifest
from sonde.download.transfer import bytes_of, fetch, text, version_of, writing

__all__ = [
    "DownloadResult",
    "Entry",
    "Source",
    "State",
    "digests",
    "download",
    "find",
    "known",
    "licence_of",
    "listing",
    "load",
    "manifest",
]


class DownloadResult(NamedTuple):
    """A set on this disk: as it would be fetched (dry run), or as it was."""

    entry: Entry
    out: Path
    files: list[State]
    to_fetch: int | None
    """Bytes still missing, as published; None where the sizes are not known."""
    free: int
    """Bytes free on the disk of `out`."""
    roots: Sequence[Path] = ()
    """Of files that the user brings: the folders that a reader takes each by itself."""
    left_out: Sequence[str] = ()
    """Of files that the user brings: a line for each kind that is not taken."""
    problems: Sequence[str] = ()
    """Of files that the user brings: a line for each that should be taken and cannot."""

    def document(self) -> dict[str, Any]:
        """For other programs: names, numbers and nulls."""
        facts = self.entry.model_dump(mode="json", exclude={"files"})
        files = [state._asdict() | {"path": str(state.path)} for state in self.files]
        brought = {
            "roots": [str(root) for root in self.roots],
            "left_out": [*self.left_out],
            "problems": [*self.problems],
        }
        here = {"out": str(self.out), "to_fetch": self.to_fetch, "free": self.free}
        return facts | here | {"files": files} | brought

    def summary(self) -> dict[str, Any]:
        """For people: the same, readable."""
        entry = self.entry
        return {
            "set": f"{entry.name}: {entry.title}",
            "licence": f"{entry.licence}: {entry.allows}",
            "to": str(self.out),
            "to fetch": readable(self.to_fetch),
            "free": readable(self.free),
            "data.format": entry.format or "no reader",
            "unverified": entry.doubt or "nothing",
            "left to do": entry.then or "nothing",
            "files": [state.line() for state in self.files],
            **({"left out": [*self.left_out]} if self.left_out else {}),
            **({"problems": [*self.problems]} if self.problems else {}),
        }


def download(
    name: str,
    out: Path | str,
    *,
    accept_licence: bool = False,
    dry_run: bool = False,
    only: str = "*",
    brought: str | Path | Sequence[str | Path] = (),
    progress: Progress | None = None,
    registry: Mapping[str, Entry] | None = None,
) -> DownloadResult:
    """Fetches a set into a folder, goes on where an earlier call stopped, checks every file and unpacks archives.

    With `brought` it takes files that the user has fetched, and asks no server but for what a list of links names.

    Args:
        name: a name in the registry.
        out: the set's folder.
        accept_licence: the user has read the licence; without it nothing is asked of any server.
        dry_run: only say what would be fetched.
        only: a pattern of paths, such as `ai_001_*`, where a part of the set is enough.
        brought: a folder, a file or a pattern of files that the user has fetched, or several; they stay as they are.
        progress: told after every chunk.
        registry: other entries than the packaged ones.

    Raises:
        ValueError: an unknown name, a set that only a person can fetch, a licence not accepted, too little disk, a file
            that cannot be had or is not what it should be, an archive that is refused. What has come is kept. Where the
            user brings several files and some can be taken, those that cannot are the outcome's `problems`.
    """
    entry, out = find(name, registry), Path(out)
    lock = Lock(out, {"set": entry.name, "licence": entry.licence, "homepage": entry.homepage})
    tell: Progress = progress or (lambda done, total, path: None)
    if brought:
        take = _by_hand if entry.access == "form" else _from_elsewhere
        given = [brought] if isinstance(brought, str | Path) else brought
        return take(entry, given, out, lock, tell, only, dry_run)
    if entry.access == "form":
        raise ValueError(entry.by_hand)
    sources = [source for source in entry.sources() if fnmatch(source.path, only)]
    if not sources:
        raise ValueError(f"No file of {entry.title} is like {only!r}: `--dry-run` shows all of them.")
    plan = _outcome(entry, sources, out, lock)
    if dry_run:
        return plan
    if not accept_licence:
        raise ValueError(
            f"{entry.title} is under {entry.licence} ({entry.allows.rstrip('.')}): read the licence and pass --yes."
        )
    if plan.to_fetch is not None and plan.to_fetch > plan.free:
        need = f"{readable(plan.to_fetch)} are missing, but its disk has {readable(plan.free)} free"
        raise ValueError(f"{entry.title} does not fit into {out}: {need}; free some, or choose another --out.")
    for source in sources:
        _obtain(source, out, lock, tell)
    return _outcome(entry, sources, out, lock)


def listing(registry: Mapping[str, Entry] | None = None) -> list[dict[str, str]]:
    """One row for each set, for a table."""
    entries = known() if registry is None else registry
    return [
        {
            "set": entry.name,
            "role": entry.role,
            "images": f"{entry.images:,}",
            "size": readable(entry.size_bytes) if entry.size_is else "unknown",
            "licence": entry.licence,
            "access": entry.access,
            "format": entry.format or "",
            "unverified": "yes" if entry.unverified else "",
        }
        for entry in entries.values()
    ]


def _by_hand(
    entry: Entry, brought: Sequence[str | Path], out: Path, lock: Lock, progress: Progress, only: str, dry_run: bool
) -> DownloadResult:
    """Files of a set behind a form."""
    came = bring(entry, brought, out, lock, progress, only=only, dry_run=dry_run)
    fetching = None if any(state.here == "to fetch" for state in came.states) else 0
    places = roots(entry, lock, out)
    return DownloadResult(entry, out, came.states, fetching, _free(out), places, came.left_out, came.problems)


def _from_elsewhere(
    entry: Entry, brought: Sequence[str | Path], out: Path, lock: Lock, progress: Progress, only: str, dry_run: bool
) -> DownloadResult:
    """Files of an open set that the user has fetched in another way; the others are not fetched."""
    files = found_in(brought, out)
    pairs = [(source, path) for source, path in matched(entry.sources(), files) if fnmatch(source.path, only)]
    others = {file.path for file in files} - {path for _, path in pairs}
    left_out = [f"no files of the set: {len(others)}, first {min(others).name}"] if others else []
    if not pairs:
        raise ValueError(strangers(entry, brought, left_out))
    problems = []
    for source, path in [] if dry_run else pairs:
        try:
            _take(source, path, out, lock, progress)
            _obtain(source, out, lock, progress)
        except ValueError as error:
            problems.append(str(error))
    if len(problems) == len(pairs):
        raise ValueError(problems[0])
    states = [_state(source, out, lock)._replace(url=str(path)) for source, path in pairs]
    if dry_run:
        deeds = [f"to {'unpack' if source.extract else 'keep'}" for source, _ in pairs]
        states = [
            state._replace(here=deed, bytes=path.stat().st_size) if state.here in ("missing", "part") else state
            for state, deed, (_, path) in zip(states, deeds, pairs, strict=True)
        ]
    return DownloadResult(entry, out, states, 0, _free(out), [out], left_out, problems)


def _take(source: Source, given: Path, out: Path, lock: Lock, progress: Progress) -> None:
    """A user's file under its name in the set, once nothing speaks against it."""
    place, record = out / source.path, lock.of(source.path, source.url)
    same = (record.get("bytes"), record.get("modified")) == stamp(given)
    if same and (lock.holds(source.path, place, source.url) or _is_unpacked(source, out, lock)):
        return
    refuse_broken(given)
    found = digests(given, lambda done, total: progress(done, total, source.path))
    if wrong := fault(given, source.bytes, _expected(source, lock), found):
        raise ValueError(f"{given} is not what it should be ({wrong}): fetch it again.")
    with writing(place, "free some, and the same command goes on."):
        put(given, place)
    _record(source, place, found, lock)


def _outcome(entry: Entry, sources: list[Source], out: Path, lock: Lock) -> DownloadResult:
    files = [_state(source, out, lock) for source in sources]
    whole_set = len(sources) == len(entry.sources())
    return DownloadResult(entry, out, files, _missing(files, entry.size_bytes if whole_set else None), _free(out))


def _missing(files: list[State], size: int | None) -> int | None:
    """Bytes still to come: by the files' own sizes, or else by that of the whole set."""
    missing = [state for state in files if state.here in ("missing", "part")]
    if all(state.bytes is not None for state in missing):
        return sum((state.bytes or 0) - bytes_of(_part(state.path)) for state in missing)
    if size is None or any(state.here == "unpacked" for state in files):
        return None
    return max(0, size - sum(bytes_of(state.path) + bytes_of(_part(state.path)) for state in files))


def _state(source: Source, out: Path, lock: Lock) -> State:
    path, record = out / source.path, lock.of(source.path, source.url)
    here = "whole" if path.is_file() else "part" if _part(path).is_file() else "missing"
    if here == "missing" and _is_unpacked(source, out, lock):
        here = "unpacked"
    return State(path, source.url, source.bytes or record.get("bytes"), here, _checked(source, record))


def _checked(source: Source, record: Mapping[str, Any]) -> str:
    published = [name for name in ("md5", "sha256") if getattr(source, name)] or ["md5"] * bool(source.md5_url)
    return checked(published, record)


def _obtain(source: Source, out: Path, lock: Lock, progress: Progress) -> None:
    path = out / source.path
    if not path.is_file() and _is_unpacked(source, out, lock):
        return
    if not path.is_file():
        part, expected = _part(path), _expected(source, lock)
        fetch(
            source.url,
            part,
            size=source.bytes,
            certain=bool(expected),
            progress=lambda done, total: progress(done, total, source.path),
        )
        _accept(source, part, expected, lock)
    elif not lock.holds(source.path, path, source.url):
        _look(source, path, lock)
    if source.extract and not _is_unpacked(source, out, lock):
        lock.note(source.path, source.url, unpacked=source.into, members=extract(path, out / source.into))


def _accept(source: Source, part: Path, expected: Mapping[str, str], lock: Lock) -> None:
    """Gives a whole part its name, if it is what it should be; else another, so that it is neither used nor lost."""
    path, found = part.with_name(part.name.removesuffix(".part")), digests(part)
    if wrong := fault(part, source.bytes, expected, found):
        refused = path.with_name(path.name + ".refused")
        part.replace(refused)
        version_of(part).unlink(missing_ok=True)
        raise ValueError(f"{source.url} is not what it should be ({wrong}): it is kept as {refused}; try again.")
    part.replace(path)
    version_of(part).unlink(missing_ok=True)
    _record(source, path, found, lock)


def _look(source: Source, path: Path, lock: Lock) -> None:
    """Checks a file that was there before: put by hand, or written to since."""
    found = digests(path)
    if wrong := fault(path, source.bytes, _expected(source, lock), found):
        raise ValueError(f"{path} is not what it should be ({wrong}): move it away, and run the same command again.")
    _record(source, path, found, lock)


def _record(source: Source, path: Path, found: Mapping[str, str], lock: Lock) -> None:
    size, modified = stamp(path)
    before = lock.of(source.path, source.url).get("sha256", found["sha256"])
    changed = {"unpacked": None} if before != found["sha256"] else {}
    lock.note(source.path, source.url, bytes=size, modified=modified, **found, checked=_checked(source, {}), **changed)


def _expected(source: Source, lock: Lock) -> dict[str, str]:
    """Digests by algorithm: published ones, or that of the first download."""
    published = {name: digest for name in ("md5", "sha256") if (digest := getattr(source, name))}
    if not published and source.md5_url:
        found = re.search(r"\b[0-9a-fA-F]{32}\b", text(source.md5_url))
        if found is None:
            raise ValueError(f"{source.md5_url} holds no MD5: the publisher has changed it; see the set's homepage.")
        published = {"md5": found[0].lower()}
    first = lock.of(source.path, source.url).get("sha256")
    return published or ({"sha256": first} if first else {})


def _is_unpacked(source: Source, out: Path, lock: Lock) -> bool:
    unpacked = lock.of(source.path, source.url).get("unpacked")
    return source.extract and unpacked == source.into and (out / source.into).is_dir()


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _free(out: Path) -> int:
    """Bytes free where `out` is or will be."""
    place = out.absolute()
    return shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.is_dir())).free
