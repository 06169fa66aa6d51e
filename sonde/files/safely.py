"""Turn errors of a bad file into one sentence: the file, the reason, the remedy."""

import csv
import os
import pickle
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from threading import Lock

import yaml
from PIL import Image
from safetensors import SafetensorError

from sonde.files.absent import explain_address
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
    Image.DecompressionBombWarning,  # where warnings are errors
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

STDERR = 2
_muting = Lock()

_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)
"""The warnings of libraries about the file that is being read."""


@contextmanager
def reading(path: Path | str, remedy: str) -> Iterator[None]:
    """Turn any exception of a bad file into a ValueError of one sentence: the file, the reason, the remedy.

    A FIFO, a socket or a device is refused before the block begins.
    """
    with hearing() as heard:
        try:
            refuse_special(path)
            yield
        except FileNotFoundError:
            raise ValueError(explain_address(path) or f"{shorten(path)} does not exist.") from None
        except FAULTS as error:
            reason = "; ".join(dict.fromkeys([describe_fault(error), *heard]))
            raise ValueError(f"{shorten(path)} cannot be read ({shorten(reason)}): {remedy}.") from error


@contextmanager
def hearing() -> Iterator[list[str]]:
    """Collect the warnings that `hear_warning` takes while the block runs."""
    heard: list[str] = []
    mark = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(mark)


@contextmanager
def mute() -> Iterator[None]:
    """Let what libraries written in C print on stderr about a damaged file go nowhere.

    stderr belongs to the whole process, so the block must be as short as one call.
    """
    with _muting, ExitStack() as stack:
        with suppress(OSError):  # stderr is closed
            kept = os.dup(STDERR)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, STDERR)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, nowhere)
            os.dup2(nowhere, STDERR)
        yield


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


def hear_warning(message: Warning | str) -> bool:
    """Take a library's warning as part of the reason of the file that is being read; False if none is.

    The program gives it what Python would print on stderr; as a library sonde leaves warnings alone.
    """
    heard = _heard.get()
    if heard is not None:
        heard.append(" ".join(str(message).split()).rstrip("."))
    return heard is not None
