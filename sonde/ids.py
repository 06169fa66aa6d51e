"""The id of a capture: the name of its outputs, so it stays below the folder that they are written to.

Ids come from documents that other people wrote: manifests, lists, splits, tables, archives. Each reader checks them
here, before any path is made of them.
"""

from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated

from pydantic import AfterValidator

from sonde.spelling import CONTROL, shorten

LONGEST_ID = 4000
"""Characters of an id: the longest path of Linux has 4,096 bytes."""
LONGEST_PART = 240
"""Bytes of one part of an id: file systems allow 255, and an output adds its suffix."""


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
    if not id_.strip():
        return "is empty"
    if CONTROL.search(id_):
        return "has a control character"
    if PurePosixPath(id_).is_absolute() or PureWindowsPath(id_).is_absolute() or PureWindowsPath(id_).drive:
        return "is an absolute path"
    parts = id_.replace("\\", "/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "has an empty part, `.` or `..`"
    if len(id_) > LONGEST_ID or any(len(part.encode()) > LONGEST_PART for part in parts):
        return "is too long for a file name"
    return ""


CaptureId = Annotated[str, AfterValidator(check_id)]
"""A field of a document that holds the id of a capture."""
