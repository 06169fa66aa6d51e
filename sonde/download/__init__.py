"""Public data sets by name: their licences, sizes and files, fetched so that nothing is lost or taken on trust.

    sonde data download --list
    sonde data download nyu --out data/nyu --yes

A file bears its name only once it is whole and its checksum agrees. Where nobody has published a checksum, the digest
of the first download is written to `sources.lock.json` beside the data, and later runs are checked against that. The
registry is registry.yaml; `python -m sonde.download` prints docs/data_manifest.json.
"""

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from sonde import Verb
from sonde.download.archives import extract
from sonde.download.registry import Entry, Source, find, known, licence_of, load, manifest
from sonde.download.transfer import bytes_of, fetch, text, version_of
from sonde.files import atomic_write, reading

__all__ = [
    "Entry",
    "Outcome",
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

LOCK = "sources.lock.json"
"""What came from where, and its digest: beside the data."""

UNPUBLISHED = "no published checksum"
"""How a file is called whose digest nobody but the lock knows."""

Progress = Callable[[int, int | None, str], None]
"""Called with the bytes that have come, the bytes in all where they are known, and the file's path."""


class State(NamedTuple):
    """One file of a set on this disk."""

    path: Path
    url: str
    bytes: int | None
    """Its size; None where it is not known before it has come."""
    here: str
    """`missing`, `part`, `whole`, or `unpacked` where the archive was removed after unpacking."""
    checked: str
    """What its bytes were or will be compared with."""

    def line(self) -> str:
        """For people: address, place, size, and how it is checked."""
        return f"{self.url} -> {self.path} ({readable(self.bytes)}, {self.here}, {self.checked})"


class Outcome(NamedTuple):
    """A set on this disk: as it would be fetched (dry run), or as it was."""

    entry: Entry
    out: Path
    files: list[State]
    to_fetch: int | None
    """Bytes still missing, as published; None where the sizes are not known."""
    free: int
    """Bytes free on the disk of `out`."""

    def document(self) -> dict[str, Any]:
        """For other programs: names, numbers and nulls."""
        facts = self.entry.model_dump(mode="json", exclude={"files"})
        files = [state._asdict() | {"path": str(state.path)} for state in self.files]
        return facts | {"out": str(self.out), "to_fetch": self.to_fetch, "free": self.free, "files": files}

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
        }


def download(
    name: str,
    out: Path | str,
    *,
    accept_licence: bool = False,
    dry_run: bool = False,
    only: str = "*",
    progress: Progress | None = None,
    registry: Mapping[str, Entry] | None = None,
) -> Outcome:
    """Fetches a set into a folder, goes on where an earlier call stopped, checks every file and unpacks archives.

    Args:
        name: a name in the registry.
        out: the set's folder.
        accept_licence: the user has read the licence; without it nothing is asked of any server.
        dry_run: only say what would be fetched.
        only: a pattern of paths, such as `ai_001_*`, where a part of the set is enough.
        progress: told after every chunk.
        registry: other entries than the packaged ones.

    Raises:
        ValueError: an unknown name, a set that only a person can fetch, a licence not accepted, too little disk, a file
            that cannot be had or is not what it should be, an archive that is refused. What has come is kept.
    """
    entry, out = find(name, registry), Path(out)
    if entry.access == "form":
        raise ValueError(entry.by_hand)
    sources = [source for source in entry.sources() if fnmatch(source.path, only)]
    if not sources:
        raise ValueError(f"No file of {entry.title} is like {only!r}: `--dry-run` shows all of them.")
    lock = _Lock(out, entry)
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
        _obtain(source, out, lock, progress or (lambda done, total, path: None))
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


def digests(path: Path) -> dict[str, str]:
    """The md5 and sha256 of a file, in one pass."""
    found = {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            for digest in found.values():
                digest.update(chunk)
    return {name: digest.hexdigest() for name, digest in found.items()}


def readable(size: int | None) -> str:
    """`2.97 GB`; decimal units, as publishers use."""
    if size is None:
        return "size unknown"
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}" if size < 999.5 * unit else f"{size / unit:.0f} {name}"
    return f"{size} B"


class _Lock:
    """The record of what has come, on disk after every file."""

    def __init__(self, out: Path, entry: Entry):
        self.path = out / LOCK
        self.head = {"set": entry.name, "licence": entry.licence, "homepage": entry.homepage}
        self.files: dict[str, dict[str, Any]] = {}
        if self.path.is_file():
            with reading(self.path, "it is no record of downloads; move it away, and the files are checked anew"):
                self.files = dict(json.loads(self.path.read_text(encoding="utf-8"))["files"])

    def of(self, source: Source) -> dict[str, Any]:
        """What is recorded of a file; nothing where it came from another address."""
        record = self.files.get(source.path, {})
        return record if record.get("url") == source.url else {}

    def note(self, source: Source, **facts: Any) -> None:
        """Adds to the record of a file."""
        self.files[source.path] = {"url": source.url} | self.of(source) | facts
        with atomic_write(self.path) as path:
            path.write_text(json.dumps(self.head | {"files": self.files}, indent=1) + "\n", encoding="utf-8")

    def holds(self, source: Source, path: Path) -> bool:
        """Whether the file is the one that was checked: same size, not written to since."""
        record = self.of(source)
        return path.is_file() and (record.get("bytes"), record.get("modified")) == _stamp(path)


def _outcome(entry: Entry, sources: list[Source], out: Path, lock: _Lock) -> Outcome:
    files = [_state(source, out, lock) for source in sources]
    whole_set = len(sources) == len(entry.sources())
    return Outcome(entry, out, files, _missing(files, entry.size_bytes if whole_set else None), _free(out))


def _missing(files: list[State], size: int | None) -> int | None:
    """Bytes still to come: by the files' own sizes, or else by that of the whole set."""
    missing = [state for state in files if state.here in ("missing", "part")]
    if all(state.bytes is not None for state in missing):
        return sum((state.bytes or 0) - bytes_of(_part(state.path)) for state in missing)
    if size is None or any(state.here == "unpacked" for state in files):
        return None
    return max(0, size - sum(bytes_of(state.path) + bytes_of(_part(state.path)) for state in files))


def _state(source: Source, out: Path, lock: _Lock) -> State:
    path, record = out / source.path, lock.of(source)
    here = "whole" if path.is_file() else "part" if _part(path).is_file() else "missing"
    if here == "missing" and _is_unpacked(source, out, lock):
        here = "unpacked"
    return State(path, source.url, source.bytes or record.get("bytes"), here, _checked(source, record))


def _checked(source: Source, record: Mapping[str, Any]) -> str:
    published = [name for name in ("md5", "sha256") if getattr(source, name)] or ["md5"] * bool(source.md5_url)
    if published:
        return f"published {' and '.join(published)}"
    return UNPUBLISHED + (", the first download's digest" if record.get("sha256") else "")


def _obtain(source: Source, out: Path, lock: _Lock, progress: Progress) -> None:
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
    elif not lock.holds(source, path):
        _look(source, path, lock)
    if source.extract and not _is_unpacked(source, out, lock):
        lock.note(source, unpacked=source.into, members=extract(path, out / source.into))


def _accept(source: Source, part: Path, expected: Mapping[str, str], lock: _Lock) -> None:
    """Gives a whole part its name, if it is what it should be; else another, so that it is neither used nor lost."""
    path, found = part.with_name(part.name.removesuffix(".part")), digests(part)
    if fault := _fault(source, part, expected, found):
        refused = path.with_name(path.name + ".refused")
        part.replace(refused)
        version_of(part).unlink(missing_ok=True)
        raise ValueError(f"{source.url} is not what it should be ({fault}): it is kept as {refused}; try again.")
    part.replace(path)
    version_of(part).unlink(missing_ok=True)
    _record(source, path, found, lock)


def _look(source: Source, path: Path, lock: _Lock) -> None:
    """Checks a file that was there before: put by hand, or written to since."""
    found = digests(path)
    if fault := _fault(source, path, _expected(source, lock), found):
        raise ValueError(f"{path} is not what it should be ({fault}): move it away, and run the same command again.")
    _record(source, path, found, lock)


def _record(source: Source, path: Path, found: Mapping[str, str], lock: _Lock) -> None:
    size, modified = _stamp(path)
    changed = {"unpacked": None} if lock.of(source).get("sha256", found["sha256"]) != found["sha256"] else {}
    lock.note(source, bytes=size, modified=modified, **found, checked=_checked(source, {}), **changed)


def _expected(source: Source, lock: _Lock) -> dict[str, str]:
    """Digests by algorithm: published ones, or that of the first download."""
    published = {name: digest for name in ("md5", "sha256") if (digest := getattr(source, name))}
    if not published and source.md5_url:
        found = re.search(r"\b[0-9a-fA-F]{32}\b", text(source.md5_url))
        if found is None:
            raise ValueError(f"{source.md5_url} holds no MD5: the publisher has changed it; see the set's homepage.")
        published = {"md5": found[0].lower()}
    first = lock.of(source).get("sha256")
    return published or ({"sha256": first} if first else {})


def _fault(source: Source, path: Path, expected: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    if source.bytes is not None and path.stat().st_size != source.bytes:
        return f"{path.stat().st_size} bytes, expected {source.bytes}"
    wrong = [name for name, digest in expected.items() if found[name] != digest]
    return f"its {wrong[0]} is {found[wrong[0]]}, expected {expected[wrong[0]]}" if wrong else None


def _is_unpacked(source: Source, out: Path, lock: _Lock) -> bool:
    return source.extract and lock.of(source).get("unpacked") == source.into and (out / source.into).is_dir()


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _stamp(path: Path) -> tuple[int, int]:
    return path.stat().st_size, path.stat().st_mtime_ns


def _free(out: Path) -> int:
    """Bytes free where `out` is or will be."""
    place = out.absolute()
    return shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.is_dir())).free


sys.modules[__name__].__class__ = Verb
