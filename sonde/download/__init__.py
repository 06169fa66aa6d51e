"""Public data sets by name: their licences, sizes and files; downloads that resume and are checked.

    sonde data download --list
    sonde data download nyu --out data/nyu --yes
    sonde data download sa-1b --from ~/Downloads/sa-1b-links.txt

A file gets its name only when it is complete and its checksum agrees. If no checksum is published, the digest of the
first download is written to `sources.lock.json` beside the data, and later downloads are checked against it. The
registry is registry.yaml; `python -m sonde.download` prints docs/data_manifest.json.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from sonde.download.archives import extract, refuse_broken
from sonde.download.by_hand import bring, find_roots, put
from sonde.download.gathering import explain_strangers, find_files, match_sources
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
from sonde.download.registry import Entry, Source, find, find_licence, format_manifest, load, load_known
from sonde.download.transfer import count_bytes, fetch, read_text, version_path, writing
from sonde.renamed import keep_old_names

__all__ = [
    "DownloadResult",
    "Entry",
    "Source",
    "State",
    "compute_digests",
    "download",
    "find",
    "find_licence",
    "format_manifest",
    "list_sets",
    "load",
    "load_known",
]


class DownloadResult(NamedTuple):
    """A set on this disk: after a download, or as planned by a dry run."""

    entry: Entry
    out: Path
    files: list[State]
    to_fetch: int | None
    """Missing bytes, by the published sizes; None if the sizes are unknown."""
    free: int
    """Bytes free on the disk of `out`."""
    roots: Sequence[Path] = ()
    """For the user's files: the folders that are each a root for a reader."""
    left_out: Sequence[str] = ()
    """For the user's files: a line for each kind that is not taken."""
    problems: Sequence[str] = ()
    """For the user's files: a line for each file that should be taken and cannot."""

    def document(self) -> dict[str, object]:
        """The result for other programs: names, numbers and nulls."""
        facts: dict[str, object] = self.entry.model_dump(mode="json", exclude={"files"})
        files = [state._asdict() | {"path": str(state.path)} for state in self.files]
        brought = {
            "roots": [str(root) for root in self.roots],
            "left_out": [*self.left_out],
            "problems": [*self.problems],
        }
        here = {"out": str(self.out), "to_fetch": self.to_fetch, "free": self.free}
        return facts | here | {"files": files} | brought

    def summary(self) -> dict[str, str | list[str]]:
        """The result for people."""
        entry = self.entry
        lines: dict[str, str | list[str]] = {
            "set": f"{entry.name}: {entry.title}",
            "licence": f"{entry.licence}: {entry.allows}",
            "to": str(self.out),
            "to fetch": format_bytes(self.to_fetch),
            "free": format_bytes(self.free),
            "data.format": entry.format or "no reader",
            "unverified": entry.doubt or "nothing",
            "left to do": entry.then or "nothing",
            "files": [state.line() for state in self.files],
        }
        if self.left_out:
            lines["left out"] = [*self.left_out]
        if self.problems:
            lines["problems"] = [*self.problems]
        return lines


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
    """Download a set into a folder, resume earlier downloads, check every file and unpack archives.

    With `brought` it takes files that the user has downloaded; then it only downloads the files of a list of links.

    Args:
        name: a name in the registry.
        out: the set's folder.
        accept_licence: the user has read and accepts the licence; without it nothing is downloaded.
        dry_run: only report what would be done.
        only: a pattern of paths, such as `ai_001_*`, for a part of the set.
        brought: a folder, a file or a pattern of files that the user has downloaded, or several. They are not changed.
        progress: called after every chunk.
        registry: entries to use instead of the packaged ones.

    Raises:
        ValueError: an unknown name, a set that only a person can download, a licence not accepted, a disk that is too
            small, a file that cannot be downloaded or has a wrong checksum, or an archive that is refused. Downloaded
            bytes are kept. With several files of the user, those that cannot be taken become the result's `problems`,
            if at least one can.
    """
    entry, out = find(name, registry), Path(out)
    lock = Lock(out, {"set": entry.name, "licence": entry.licence, "homepage": entry.homepage})
    tell: Progress = progress or (lambda done, total, path: None)
    if brought:
        take = _bring_form_set if entry.access == "form" else _bring_open_set
        given = [brought] if isinstance(brought, str | Path) else brought
        return take(entry, given, out, lock, tell, only, dry_run)
    if entry.access == "form":
        raise ValueError(entry.by_hand)
    sources = [source for source in entry.sources() if fnmatch(source.path, only)]
    if not sources:
        raise ValueError(f"No file of {entry.title} matches {only!r}: `--dry-run` lists all of them.")
    plan = _inspect_all(entry, sources, out, lock)
    if dry_run:
        return plan
    if not accept_licence:
        raise ValueError(
            f"{entry.title} has the licence {entry.licence} ({entry.allows.rstrip('.')}): read it and pass --yes to "
            "accept."
        )
    if plan.to_fetch is not None and plan.to_fetch > plan.free:
        need = f"{format_bytes(plan.to_fetch)} are missing, but its disk has {format_bytes(plan.free)} free"
        raise ValueError(f"{entry.title} does not fit into {out}: {need}; free some space, or choose another --out.")
    for source in sources:
        _obtain(source, out, lock, tell)
    return _inspect_all(entry, sources, out, lock)


def list_sets(registry: Mapping[str, Entry] | None = None) -> list[dict[str, str]]:
    """One row per set, for a table."""
    entries = load_known() if registry is None else registry
    return [
        {
            "set": entry.name,
            "role": entry.role,
            "images": f"{entry.images:,}",
            "size": format_bytes(entry.size_bytes) if entry.size_is else "unknown",
            "licence": entry.licence,
            "access": entry.access,
            "format": entry.format or "",
            "unverified": "yes" if entry.unverified else "",
        }
        for entry in entries.values()
    ]


def _bring_form_set(
    entry: Entry, brought: Sequence[str | Path], out: Path, lock: Lock, progress: Progress, only: str, dry_run: bool
) -> DownloadResult:
    """Take the user's files of a set behind a form."""
    came = bring(entry, brought, out, lock, progress, only=only, dry_run=dry_run)
    fetching = None if any(state.here == "to fetch" for state in came.states) else 0
    places = find_roots(entry, lock, out)
    return DownloadResult(entry, out, came.states, fetching, _measure_free(out), places, came.left_out, came.problems)


def _bring_open_set(
    entry: Entry, brought: Sequence[str | Path], out: Path, lock: Lock, progress: Progress, only: str, dry_run: bool
) -> DownloadResult:
    """Take the user's files of an open set; the other files are not downloaded."""
    files = find_files(brought, out)
    pairs = [(source, path) for source, path in match_sources(entry.sources(), files) if fnmatch(source.path, only)]
    others = {file.path for file in files} - {path for _, path in pairs}
    left_out = [f"no files of the set: {len(others)}, first {min(others).name}"] if others else []
    if not pairs:
        raise ValueError(explain_strangers(entry, brought, left_out))
    problems = []
    for source, path in [] if dry_run else pairs:
        try:
            _take(source, path, out, lock, progress)
            _obtain(source, out, lock, progress)
        except ValueError as error:
            problems.append(str(error))
    if len(problems) == len(pairs):
        raise ValueError(problems[0])
    states = [_inspect(source, out, lock)._replace(url=str(path)) for source, path in pairs]
    if dry_run:
        deeds = [f"to {'unpack' if source.extract else 'keep'}" for source, _ in pairs]
        states = [
            state._replace(here=deed, bytes=path.stat().st_size) if state.here in ("missing", "part") else state
            for state, deed, (_, path) in zip(states, deeds, pairs, strict=True)
        ]
    return DownloadResult(entry, out, states, 0, _measure_free(out), [out], left_out, problems)


def _take(source: Source, given: Path, out: Path, lock: Lock, progress: Progress) -> None:
    """Check a user's file, and give it its name in the set."""
    place, record = out / source.path, lock.find(source.path, source.url)
    same = (record.get("bytes"), record.get("modified")) == read_stamp(given)
    if same and (lock.holds(source.path, place, source.url) or _is_unpacked(source, out, lock)):
        return
    refuse_broken(given)
    found = compute_digests(given, lambda done, total: progress(done, total, source.path))
    if wrong := find_fault(given, source.bytes, _find_digests(source, lock), found):
        raise ValueError(f"{given} is not the expected file ({wrong}): download it again.")
    with writing(place, "free some space and run the same command again."):
        put(given, place)
    _record(source, place, found, lock)


def _inspect_all(entry: Entry, sources: list[Source], out: Path, lock: Lock) -> DownloadResult:
    files = [_inspect(source, out, lock) for source in sources]
    whole_set = len(sources) == len(entry.sources())
    return DownloadResult(
        entry, out, files, _count_missing(files, entry.size_bytes if whole_set else None), _measure_free(out)
    )


def _count_missing(files: list[State], size: int | None) -> int | None:
    """Missing bytes: by the sizes of the files, or else by the size of the whole set; None if both are unknown."""
    missing = [state for state in files if state.here in ("missing", "part")]
    if all(state.bytes is not None for state in missing):
        return sum((state.bytes or 0) - count_bytes(_part_path(state.path)) for state in missing)
    if size is None or any(state.here == "unpacked" for state in files):
        return None
    return max(0, size - sum(count_bytes(state.path) + count_bytes(_part_path(state.path)) for state in files))


def _inspect(source: Source, out: Path, lock: Lock) -> State:
    path, record = out / source.path, lock.find(source.path, source.url)
    if path.is_file():
        here = "whole"
    elif _part_path(path).is_file():
        here = "part"
    else:
        here = "unpacked" if _is_unpacked(source, out, lock) else "missing"
    return State(path, source.url, source.bytes or record.get("bytes"), here, _describe_check(source, record))


def _describe_check(source: Source, record: FileRecord) -> str:
    published = list(source.published)
    if not published and source.md5_url:
        published = ["md5"]
    return describe_check(published, record)


def _obtain(source: Source, out: Path, lock: Lock, progress: Progress) -> None:
    path = out / source.path
    if not path.is_file() and _is_unpacked(source, out, lock):
        return
    if not path.is_file():
        part, expected = _part_path(path), _find_digests(source, lock)
        fetch(
            source.url,
            part,
            size=source.bytes,
            certain=bool(expected),
            progress=lambda done, total: progress(done, total, source.path),
        )
        _accept(source, part, expected, lock)
    elif not lock.holds(source.path, path, source.url):
        _verify(source, path, lock)
    if source.extract and not _is_unpacked(source, out, lock):
        facts: FileRecord = {"unpacked": source.into, "members": extract(path, out / source.into)}
        lock.note(source.path, source.url, facts)


def _accept(source: Source, part: Path, expected: Mapping[str, str], lock: Lock) -> None:
    """Give a complete part its name if it is the expected file; else NAME.refused, so it is neither used nor lost."""
    path, found = part.with_name(part.name.removesuffix(".part")), compute_digests(part)
    if wrong := find_fault(part, source.bytes, expected, found):
        refused = path.with_name(path.name + ".refused")
        part.replace(refused)
        version_path(part).unlink(missing_ok=True)
        raise ValueError(f"{source.url} is not the expected file ({wrong}): it is kept as {refused}; try again.")
    part.replace(path)
    version_path(part).unlink(missing_ok=True)
    _record(source, path, found, lock)


def _verify(source: Source, path: Path, lock: Lock) -> None:
    """Check a file that exists without a record: put there by hand, or changed since."""
    found = compute_digests(path)
    if wrong := find_fault(path, source.bytes, _find_digests(source, lock), found):
        raise ValueError(f"{path} is not the expected file ({wrong}): move it away and run the same command again.")
    _record(source, path, found, lock)


def _record(source: Source, path: Path, found: Mapping[str, str], lock: Lock) -> None:
    size, modified = read_stamp(path)
    before = lock.find(source.path, source.url).get("sha256", found["sha256"])
    record: FileRecord = {
        "bytes": size,
        "modified": modified,
        "md5": found["md5"],
        "sha256": found["sha256"],
        "checked": _describe_check(source, {}),
    }
    if before != found["sha256"]:
        record["unpacked"] = None  # what was unpacked came from the earlier file
    lock.note(source.path, source.url, record)


def _find_digests(source: Source, lock: Lock) -> dict[str, str]:
    """Expected digests by algorithm: the published ones, or that of the first download; empty if there are none."""
    published = source.published
    if not published and source.md5_url:
        found = re.search(r"\b[0-9a-fA-F]{32}\b", read_text(source.md5_url))
        if found is None:
            raise ValueError(f"{source.md5_url} holds no MD5: the publisher has changed it; see the set's homepage.")
        published = {"md5": found[0].lower()}
    first = lock.find(source.path, source.url).get("sha256")
    return published or ({"sha256": first} if first else {})


def _is_unpacked(source: Source, out: Path, lock: Lock) -> bool:
    unpacked = lock.find(source.path, source.url).get("unpacked")
    return source.extract and unpacked == source.into and (out / source.into).is_dir()


def _part_path(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _measure_free(out: Path) -> int:
    """Free bytes on the disk on which `out` is or will be."""
    place = out.absolute()
    return shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.is_dir())).free


keep_old_names(
    __name__,
    {
        "digests": "compute_digests",
        "known": "load_known",
        "licence_of": "find_licence",
        "listing": "list_sets",
        "manifest": "format_manifest",
    },
)
