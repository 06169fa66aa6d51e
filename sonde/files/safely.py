"""Turn errors of a bad file into one sentence: the file, the reason, the remedy."""

import csv
import os
import pickle
import stat
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TextIO

import yaml
from PIL import Image
from safetensors import SafetensorError

from sonde.spelling import make_printable, shorten

FAULTS = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,  # raised by Pillow for a broken PNG
    LookupError,
    TypeError,
    AttributeError,  # of a member of another type, such as an HDF5 group
    ArithmeticError,  # of sizes that overflow, and of sizes of 0
    MemoryError,  # of a header that claims more than there is
    RuntimeError,  # of torch, h5py and zipfile; of too deep a nesting
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    csv.Error,
    yaml.YAMLError,
    pickle.UnpicklingError,
    tokenize.TokenError,  # NumPy parses headers as Python
    Image.DecompressionBombError,
    SafetensorError,
)
"""Exceptions that libraries raise for a corrupt or truncated file, or one of another format."""

KINDS = {
    stat.S_ISFIFO: "a FIFO",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}
"""What is neither file nor folder: reading it can wait for ever, or never end."""

_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)
"""The warnings of libraries about the file that is being read."""


@contextmanager
def reading(path: Path | str, remedy: str) -> Iterator[None]:
    """Turn any exception of a bad file into a ValueError of one sentence: the file, the reason, the remedy.

    A FIFO, a socket or a device is refused before the block begins.
    """
    heard: list[str] = []
    mark = _heard.set(heard)
    try:
        refuse_special(path)
        yield
    except FileNotFoundError:
        raise ValueError(f"{shorten(path)} does not exist.") from None
    except FAULTS as error:
        reason = "; ".join(dict.fromkeys([describe_fault(error), *heard]))
        raise ValueError(f"{shorten(path)} cannot be read ({shorten(reason)}): {remedy}.") from error
    finally:
        _heard.reset(mark)


def describe_fault(error: BaseException) -> str:
    """The reason that an exception gives, on one line, without the name of the file."""
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, KeyError) and len(error.args) == 1:
        return f"it has no {make_printable(error.args[0])!r}"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return make_printable(" ".join(reason.split()).rstrip(".")) or type(error).__name__


def refuse_special(path: Path | str) -> None:
    """Refuse what is neither a file nor a folder; what does not exist is left to the reader.

    Raises:
        ValueError: a FIFO, a socket or a device; the message does not name the file.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - `path` may be the name of an image inside a tar
    except (OSError, ValueError):
        return
    if kind := next((words for is_kind, words in KINDS.items() if is_kind(mode)), None):
        raise ValueError(f"it is {kind}, not a file")


def hear_warnings() -> None:
    """Make warnings about a file that is being read part of its reason, instead of lines on stderr.

    The program calls it once; as a library sonde leaves Python's warnings alone.
    """
    print_warning = warnings.showwarning

    def hear(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        heard = _heard.get()
        if heard is None:
            print_warning(message, category, filename, lineno, file, line)
        else:
            heard.append(" ".join(str(message).split()).rstrip("."))

    warnings.showwarning = hear
