"""Sentences for a source that is not there: an address instead of a file, or a name that is nearly right."""

import os
import re
from collections import Counter
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from shlex import quote
from urllib.parse import unquote, urlsplit

from sonde.spelling import shorten

ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://?(?P<rest>[^/].*)", re.DOTALL)
"""An address; `Path` makes one slash of two."""
FETCHED = ("http", "https", "ftp", "ftps", "sftp")
"""Schemes of addresses that curl fetches."""
COPIED = {
    "s3": "aws s3 cp {} .",
    "gs": "gcloud storage cp {} .",
    "file": "",
    "hf": "",
    "rtsp": "ffmpeg -i {} frames/%05d.png",
    "rtmp": "ffmpeg -i {} frames/%05d.png",
}
"""Schemes of other addresses → the command that brings what they name here."""
MOST_ENTRIES = 10_000
"""Entries of a folder that are compared with a wrong name."""
ALIKE = 0.65
"""From which share of equal letters a name is offered: rgb for rbg, and depth for depht."""
SHOWN = 5
"""Folders that are named where no name is near."""


def explain_address(source: Path | str) -> str:
    """What to do with an address, such as https://…, in place of a file: one sentence; empty if it is none.

    An address that was a `Path` in between has lost a slash, which is restored.
    """
    found = ADDRESS.fullmatch(os.fspath(source))
    known = found is not None and found["scheme"].lower() in (*FETCHED, *COPIED)
    if found is None or not (known or "://" in found[0]):
        return ""
    scheme, address = found["scheme"].lower(), f"{found['scheme']}://{found['rest']}"
    if scheme in FETCHED:
        command = f"curl -L -o {quote(_name_download(address))} {quote(address)}"
    else:
        command = COPIED.get(scheme, "").format(quote(address))
    remedy = f"bring it here first, `{command}`" if command else "give the path of a file or a folder on this machine"
    # Nothing is cut out of the middle: the command must work as it is printed.
    return f"{shorten(address, 2000)} is an address, and sonde reads files: {shorten(remedy, 4000)}."


def explain_absent(path: Path | str, expected: str) -> str:
    """One sentence for a source that does not exist: an address, the nearest name there is, or the folder that is not.

    Args:
        path: what was given; nothing exists there.
        expected: what a right one would be, such as `an image or a folder of images`.
    """
    if address := explain_address(path):
        return address
    return f"{shorten(path)} does not exist: expected {expected}{_suggest_path(Path(path))}"


def describe_contents(folder: Path, most: int = 5) -> str:
    """What a folder holds, counted by suffix: `12 .png, 3 .heic and 2 folders`; `nothing` for an empty one."""
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in islice(entries, MOST_ENTRIES) if entry.name[0] != "."]
            folders = sum(entry.is_dir() for entry in shown)
            kinds = Counter(Path(entry.name).suffix.lower() for entry in shown if not entry.is_dir())
    except OSError as error:
        return f"what cannot be listed ({error.strerror})"
    common = kinds.most_common(most)
    parts = [f"{count} {kind or 'without a suffix'}" for kind, count in common]
    if others := kinds.total() - sum(count for _, count in common):
        parts.append(f"{others} of other kinds")
    if folders:
        parts.append(f"{folders} folder{'s' * (folders > 1)}")
    return shorten(f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts) or "nothing")


def find_near(path: Path) -> list[str]:
    """Names beside a path that does not exist and that resemble it, with its folder, the nearest first."""
    try:
        names = [name for name in islice(os.listdir(path.parent), MOST_ENTRIES) if name[0] != "."]  # noqa: PTH208
    except (OSError, ValueError):
        return []
    alike = {name.lower(): name for name in names}
    return [os.fspath(path.parent / alike[name]) for name in get_close_matches(path.name.lower(), alike, cutoff=ALIKE)]


def _suggest_path(path: Path) -> str:
    """The end of the sentence: the nearest name, or the first folder of the path that does not exist."""
    missing = path
    while not os.path.isdir(missing.parent) and missing.parent != missing:  # noqa: PTH112 - names may be too long
        missing = missing.parent
    near = next(iter(find_near(missing)), None)
    if near is not None:
        return f"; did you mean {shorten(Path(near, path.relative_to(missing)))}?"
    return f"{_list_folders(path.parent)}." if missing == path else f"; there is no folder {shorten(missing)}."


def _list_folders(folder: Path) -> str:
    """The first folders of a folder, in which a wrong name can be recognised."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in islice(entries, MOST_ENTRIES) if entry.is_dir())
    except (OSError, ValueError):
        return ""
    names = [name for name in names if name[0] != "."]
    more = ", …" if len(names) > SHOWN else ""
    return f"; the folders there are {shorten(', '.join(names[:SHOWN]))}{more}" if names else ""


def _name_download(address: str) -> str:
    """The name of the file that an address ends in; `photo.jpg` where it ends in none."""
    name = unquote(urlsplit(address).path).rpartition("/")[2]
    return name if Path(name).suffix and name.isprintable() else "photo.jpg"
