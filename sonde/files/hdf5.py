"""Arrays in HDF5: of the file itself, of numbers, and no larger than the file can hold."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from sonde.files.claims import check_packed
from sonde.files.safely import reading

NUMBERS = "fiu"
"""The kinds of NumPy's types that are numbers."""


@contextmanager
def open_hdf5(path: Path, remedy: str) -> Iterator[h5py.File]:
    """The open file; whatever is wrong with it, or with what is read of it, is one ValueError of `reading`."""
    with reading(path, remedy), h5py.File(path, "r") as file:
        yield file


def find_array(file: h5py.File, name: str, kinds: str = NUMBERS) -> h5py.Dataset:
    """An array of numbers, or of other kinds of NumPy's types. None of it is read yet.

    Raises:
        ValueError: there is none, it is a group, a link or no numbers, its numbers lie in another file, or it claims
            more than the file can hold.
    """
    link = file.get(name, getlink=True)
    if link is None:
        raise ValueError(f"it has no {name!r}")
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"its {name} is a link")
    return check_array(file[name], name, kinds)


def check_array(array: object, name: str, kinds: str = NUMBERS) -> h5py.Dataset:
    """Check an array before any of it is read; `name` identifies it in errors.

    Raises:
        ValueError: as for `find_array`.
    """
    if not isinstance(array, h5py.Dataset):
        raise ValueError(f"its {name} is a group, expected an array")
    if array.is_virtual or array.external:
        raise ValueError(f"the numbers of its {name} lie in another file")
    if array.shape is None or array.dtype.kind not in kinds:
        raise ValueError(f"its {name} holds {array.dtype}, expected numbers")
    size = math.prod(array.shape) * array.dtype.itemsize
    check_packed(size, Path(array.file.filename).stat().st_size)
    return array
