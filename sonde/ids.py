"""The id of a capture: the name of its outputs, so it stays below the folder that they are written to.

Ids come from documents that other people wrote: manifests, lists, splits, tables, archives. Each reader checks them
here, before any path is made of them.
"""

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated

from pydantic import AfterValidator

from sonde.spelling import CONTROL, shorten

LONGEST_ID = 4000
"""Characters of an id: the longest path of Linux has 4,096 bytes."""
LONGEST_PART = 240
"""Bytes of one part of an id: file systems allow 255, and an output adds its suffix."""
PLAIN = re.compile(r"(?:[\w-][\w .-]*/)*[\w-][\w .-]*", re.ASCII)
"""What most ids are, and sound without a further look where it is short: a set may have millions."""


def check_id(id_: str) -> str:
    """The id itself, a relative path such as `tyre/0001`.

    Raises:
        ValueError: an id that is empty, absolute or too long, that has a part `.` or `..`, or a control character.
    """
    if reason := find_fault(id_):
        raise ValueError(f"the id {shorten(id_, 80)!r} {reason}; an id is a relative path such as tyre/0001")
    return id_


def find_fault(id_: str) -> str:
    """Why a text cannot be the id of a capture; empty if it can."""
    if len(id_) <= LONGEST_PART and PLAIN.fullmatch(id_):
        return ""
    if reason := find_escape(id_):
        return reason
    if len(id_) > LONGEST_ID or any(len(part.encode()) > LONGEST_PART for part in _split(id_)):
        return "is too long for a file name"
    return ""


def find_escape(path: str) -> str:
    """Why a text is no path that stays below a folder; empty if it is one."""
    if not path.strip():
        return "is empty"
    if CONTROL.search(path):
        return "has a control character"
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute() or PureWindowsPath(path).drive:
        return "is an absolute path"
    if any(part in ("", ".", "..") for part in _split(path)):
        return "has an empty part, `.` or `..`"
    return ""


def check_below(path: str) -> str:
    """The path itself, such as `labels/tyre/0001.png`.

    Raises:
        ValueError: a path that leaves its folder, or with a control character.
    """
    if reason := find_escape(path):
        raise ValueError(f"the path {shorten(path, 80)!r} {reason}; expected one below the folder of this document")
    return path


def _split(path: str) -> list[str]:
    return path.replace("\\", "/").split("/")


CaptureId = Annotated[str, AfterValidator(check_id)]
"""A field of a document that holds the id of a capture."""
PathBelow = Annotated[str, AfterValidator(check_below)]
"""A field of a document that holds a path relative to the document's folder, and below it."""
