"""Patterns of files, such as 'photos/*.jpg', where no shell has expanded them."""

import os
from collections.abc import Collection
from glob import glob, has_magic
from itertools import takewhile
from pathlib import Path

from sonde.files.absent import describe_contents, explain_address
from sonde.files.sources import list_files
from sonde.spelling import shorten


def is_pattern(text: str) -> bool:
    """Whether a source is a pattern: it holds *, ? or [, and nothing has that very name."""
    return has_magic(text) and not os.path.lexists(text) and not explain_address(text)


def expand_pattern(text: str) -> list[Path]:
    """The files and folders that a pattern stands for, sorted, as a shell would give them.

    `**` stands for any folders, none too; hidden files are left out, and a link to a folder above is not entered.

    Raises:
        ValueError: it stands for nothing, or holds `**` twice; the message says what is there.
    """
    head, deep, tail = text.partition("**/")
    if not deep or head.rpartition("/")[2]:  # `a**/b` is `a*/b`
        found = [Path(name) for name in glob(text)]  # noqa: PTH207 - `Path.glob` takes no absolute pattern
    elif "**" in tail:
        raise ValueError(f"{shorten(text)}: expected one ** at most; give the folder itself, with all below it.")
    else:
        folders = [Path(name) for name in (glob(head) if has_magic(head) else [head or "."])]  # noqa: PTH207
        found = [path for folder in folders if folder.is_dir() for path in list_files(folder).match(tail or "*")]
    if not found:
        raise ValueError(_explain_unmatched(text))
    return sorted(found)


def expand_sources(sources: Collection[str | Path]) -> list[Path]:
    """The sources as paths, each pattern among them expanded.

    Raises:
        ValueError: a pattern that stands for nothing, or an address.
    """
    texts = [os.fspath(source) for source in sources]
    for text in texts:  # before `Path` changes its slashes
        if not os.path.lexists(text) and (address := explain_address(text)):
            raise ValueError(address)
    return [path for text in texts for path in (expand_pattern(text) if is_pattern(text) else [Path(text)])]


def _explain_unmatched(text: str) -> str:
    parts = Path(text).parts
    folder = Path(*takewhile(lambda part: not has_magic(part), parts))
    shown = shorten(text)
    if not folder.is_dir():
        return f"{shown} stands for no file: there is no folder {shorten(folder)}."
    # `Path("")` is the current folder.
    place = "this folder" if folder == Path() else shorten(folder)
    return f"{shown} stands for no file: {place} holds {describe_contents(folder)}."
