"""Write files as a whole or not at all; name the file and the remedy where that fails."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from uuid import uuid4
from weakref import finalize

from safetensors import SafetensorError

from sonde.files.absent import explain_address
from sonde.files.sources import explain_unreadable
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
    errno.EPIPE: "the program that reads the output ended before all of it was written",
    errno.EIO: "the disk fails to read or write; check it, and choose another one",
}
"""Error number -> what is wrong, and what the user can do."""

REFUSALS: dict[int | None, str] = {
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "access is denied",
    errno.EPERM: "access is denied",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk is full",
}
"""Error number -> why no file can be made in a folder."""

RUST = re.compile(r"\(os error (\d+)\)")
"""How safetensors names the error number inside its text."""
TORCH_WRITE = re.compile(r"PytorchStreamWriter|inline_container|unexpected pos")
"""What torch says of a file that it cannot write. NumPy and torch give no error number."""
LITTLE = 64 << 20
"""Bytes of free space at which a write that failed for no stated reason is taken for one on a full disk."""


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
        with writing(path, tmp_path):
            make_folder(path.parent)
            yield tmp_path
            tmp_path.replace(path)
    finally:
        _remove(tmp_path)


@contextmanager
def writing(path: Path, tmp_path: Path | None = None) -> Iterator[None]:
    """Give a write that fails inside the number of the system's error and the name of its file, whatever library wrote.

    Args:
        path: what is written; an error that names another file stays as it is.
        tmp_path: where it is written meanwhile; errors below it name `path` instead.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise name_file(error, path, tmp_path) from error
    except RuntimeError as error:
        if not TORCH_WRITE.search(str(error)):
            raise
        raise name_file(error, path, tmp_path) from error


_HELD: list[Path] = []
"""The folders of jobs that run, see `OutputFolder`."""


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, except an `OutputFolder` that was removed meanwhile.

    Raises:
        OSError: the folder cannot be made, such as where a file stands.
    """
    if folder in _HELD or folder == folder.parent or folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        if folder.is_file():
            raise  # otherwise another thread made it, or moved it away since: then the write fails


class OutputFolder:
    """A folder that a job writes to, made once: when it is removed meanwhile, the job ends instead of making it again.

    Args:
        path: the folder.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._own = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        _HELD.append(self.path)
        finalize(self, os.close, self._own)
        finalize(self, _HELD.remove, self.path)

    def check(self) -> None:
        """Raise FileNotFoundError if the folder was removed or replaced since it was made."""
        if not self.is_there():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))

    def is_there(self) -> bool:
        """Whether the folder is the one that was made."""
        try:
            # As long as it is open, no other folder gets its number.
            return os.path.samestat(os.fstat(self._own), self.path.stat())
        except OSError:
            return False


def check_output(folder: Path | str, option: str = "") -> None:
    """Refuse a folder for an output that cannot be made or written to, before any work.

    Args:
        folder: nothing is left in it, nor is it made.
        option: how the user gives it, such as `-o` or `output_dir=`, for the message.

    Raises:
        ValueError: it is an address; a file, a device or a link that leads nowhere stands there, or above it; a name
            is too long; or no file can be made there.
    """
    folder, typed = Path(folder), option if option.endswith("=") else f"{option} " * bool(option)
    if address := explain_address(folder):
        raise ValueError(f"{typed}{shorten(address.partition(',')[0])}: expected a folder on this machine.")
    for path in (folder, *folder.parents):
        if os.path.isdir(path):  # noqa: PTH112 - `Path.is_dir` raises for a name that is too long
            reason = _explain_closed(folder, path)
            if reason:
                raise ValueError(f"{typed}{shorten(folder)} cannot be written ({reason}): give another folder.")
            return
        if os.path.lexists(path):
            reason = explain_unreadable(path)
            kind = f"is no folder ({reason})" if reason else "is a file"
            raise ValueError(f"{typed}{shorten(path)} {kind}: expected a folder for the output; give another name.")


def _explain_closed(folder: Path, place: Path) -> str:
    """Why `folder` cannot be written to or made; `place` is the folder itself, or the nearest above it that exists."""
    longest = max((len(os.fsencode(part)) for part in folder.relative_to(place).parts), default=0)
    if longest > os.pathconf(place, "PC_NAME_MAX") or len(os.fsencode(folder)) >= os.pathconf(place, "PC_PATH_MAX"):
        return "the name is too long for the file system"
    try:
        # Permissions alone do not tell: root passes them, and a disk may be read-only.
        with TemporaryFile(dir=place):
            return ""
    except OSError as error:
        return REFUSALS.get(error.errno, f"no file can be made in {shorten(place)}")


def name_file(error: Exception, path: Path, tmp_path: Path | None = None) -> OSError:
    """The error of a failed write with its number and with `path` as its file; an error of another file stays."""
    if isinstance(error, OSError) and error.filename is not None:
        below = tmp_path is not None and os.fsdecode(error.filename).startswith(str(tmp_path))
        if not below:
            return error
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        found = RUST.search(str(error))
        number = int(found[1]) if found else _guess_number(path)
    return OSError(number, os.strerror(number), str(path))


def _guess_number(path: Path) -> int:
    """Why a library could not write that does not say it: a full disk, if there is next to no space."""
    place = next(folder for folder in path.absolute().parents if folder.is_dir())
    return errno.ENOSPC if shutil.disk_usage(place).free < LITTLE else errno.EIO


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
