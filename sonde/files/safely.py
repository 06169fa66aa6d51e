"""No half-written file, and no foreign traceback for a bad one."""

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

FAULTS = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,  # Pillow's word for a broken PNG
    LookupError,
    TypeError,
    OverflowError,
    NotImplementedError,  # zipfile's word for a compression it does not know
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    tokenize.TokenError,  # NumPy reads headers as Python
    Image.DecompressionBombError,
)
"""What the libraries below raise for a corrupt, truncated or foreign file."""


@contextmanager
def reading(path: Path | str, remedy: str) -> Iterator[None]:
    """Turns whatever a bad file raises into one sentence: the file, the reason, the remedy."""
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
    """A temporary sibling to write to: renamed to `path` when the block ends well, removed when it fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_path = path.with_name(f".{uuid4().hex}{path.suffix}")  # writers choose their format by the suffix
    try:
        yield tmp_path
        tmp_path.replace(path)
    finally:
        tmp_path.unlink(missing_ok=True)
