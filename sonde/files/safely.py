"""Write files as a whole or not at all, and turn errors of a bad file into one sentence."""

import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from PIL import Image
from safetensors import SafetensorError

FAULTS = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,  # raised by Pillow for a broken PNG
    LookupError,
    TypeError,
    OverflowError,
    NotImplementedError,  # raised by zipfile for an unknown compression
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    tokenize.TokenError,  # NumPy parses headers as Python
    Image.DecompressionBombError,
    SafetensorError,
)
"""Exceptions that libraries raise for a corrupt or truncated file, or one of another format."""


@contextmanager
def reading(path: Path | str, remedy: str) -> Iterator[None]:
    """Turn any exception of a bad file into a ValueError of one sentence: the file, the reason, the remedy."""
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist.") from None
    except FAULTS as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        reason = " ".join(reason.split()).rstrip(".") or type(error).__name__
        raise ValueError(f"{path} cannot be read ({reason}): {remedy}.") from error


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path`: renamed to `path` if the block succeeds, removed if it fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_path = path.with_name(f".{uuid4().hex}{path.suffix}")  # writers choose their format by the suffix
    try:
        yield tmp_path
        tmp_path.replace(path)
    finally:
        tmp_path.unlink(missing_ok=True)
