"""Write files as a whole or not at all; name the file and the remedy where that fails."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError

from sonde.spelling import shorten

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk, and of a used quota."""

REMEDIES: dict[int | None, str] = {
    **dict.fromkeys(FULL, "the disk is full; free some space and give the same command again"),
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.EACCES: "access is denied; change its permissions, or choose another place",
    errno.EPERM: "access is denied; change its permissions, or choose another place",
    errno.ENAMETOOLONG: "the name is too long for the file system; shorten it, or choose a shorter folder",
    errno.ENOENT: "it does not exist, or was removed while sonde worked; restore it and give the same command again",
    errno.ENOTDIR: "a file stands where a folder is expected; remove it, or choose another place",
    errno.EISDIR: "it is a folder, and a file is expected; choose another name",
    errno.EEXIST: "it exists already; remove it, or choose another name",
    errno.ENOTEMPTY: "the folder is not empty; remove it, or choose another one",
    errno.ELOOP: "its links form a loop; remove one of them",
    errno.EFBIG: "it is larger than the file system or the limit of this process allows; choose another place",
    errno.EMFILE: "too many files are open; raise the limit with `ulimit -n`, or use fewer workers",
    errno.EIO: "the disk fails to read or write; check it, and choose another one",
}
"""Error number -> what is wrong, and what the user can do."""

RUST = re.compile(r"\(os error (\d+)\)")
"""How safetensors names the error number inside its text."""
SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
"""What NumPy says of a full disk, without an error number."""


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path`: renamed to `path` if the block succeeds, removed if it fails.

    Raises:
        OSError: the file cannot be written, such as on a full disk. Whatever library wrote, the error has the number
            of the system's error and names `path`.
    """
    path = Path(path)
    tmp_path = path.with_name(f".{uuid4().hex}{path.suffix}")  # writers choose their format by the suffix
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield tmp_path
        tmp_path.replace(path)
    except (OSError, SafetensorError) as error:
        raise name_file(error, path, tmp_path) from error
    finally:
        _remove(tmp_path)


def name_file(error: OSError | SafetensorError, path: Path, tmp_path: Path | None = None) -> OSError:
    """The error of a failed write with its number and with `path` as its file; an error of another file stays."""
    if isinstance(error, OSError) and error.filename not in (None, str(tmp_path)):
        return error
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        found = RUST.search(str(error))
        number = int(found[1]) if found else errno.ENOSPC if SHORT_WRITE.search(str(error)) else errno.EIO
    return OSError(number, os.strerror(number), str(path))


def explain_os_error(error: OSError) -> str:
    """One sentence for an error of the system: the file, what is wrong, what to do."""
    reason = REMEDIES.get(error.errno, error.strerror or str(error))
    if error.filename is None:
        return f"{shorten(reason)}."
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else str(error.filename)
    return f"{shorten(name)}: {shorten(reason)}."


def _remove(tmp_path: Path) -> None:
    try:
        tmp_path.unlink(missing_ok=True)
    except OSError:
        pass  # the folder is gone or read-only, which the first error says already
