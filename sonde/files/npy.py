"""NumPy's own files: .npy is mapped into memory, and one array of a .npz is read; both are checked first."""

import math
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sonde.files.claims import check_packed, check_stored, count_bytes
from sonde.files.safely import FAULTS, describe_fault

MAGIC = b"\x93NUMPY"
MOST_MEMBERS = 10_000
"""Arrays of an .npz."""
LONGEST_HEADER = 1 << 16
"""Bytes of the header of an array; NumPy itself takes 10,000."""


class ArrayHeader(NamedTuple):
    """What an array claims to be."""

    shape: tuple[int, ...]
    dtype: np.dtype
    start: int
    """Bytes before its numbers."""

    @property
    def size(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def open_npy(path: Path) -> np.ndarray:
    """The array of a .npy, mapped into memory: only what is used of it is read.

    Raises:
        ValueError: its header claims more than the file holds, or it holds Python objects.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head.startswith(MAGIC) and len(head) == 12:
            width = 2 if head[6] == 1 else 4
            check_stored(int.from_bytes(head[8 : 8 + width], "little"), count_bytes(file))
    return np.lib.format.open_memmap(path, mode="r")


def read_npz(path: Path, choose: Callable[[Mapping[str, ArrayHeader]], str]) -> np.ndarray:
    """One array of an .npz; the others are not unpacked.

    Args:
        path: the file.
        choose: the headers of its arrays by their names, in the order of the file -> the name of one.

    Raises:
        ValueError: no zip, an array that is none, or one that claims more than the file can hold.
    """
    headers = read_headers(path)
    name = choose(headers)
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        info = _list_members(archive)[name]
        check_packed(info.file_size, count_bytes(file))
        check_stored(headers[name].size, info.file_size - headers[name].start)
        with archive.open(info) as member:
            return np.lib.format.read_array(member, allow_pickle=False)


def read_headers(path: Path) -> dict[str, ArrayHeader]:
    """The headers of the arrays of an .npz by their names; other members are left out.

    Raises:
        ValueError: no zip, too many members, or no member that is an array.
    """
    with zipfile.ZipFile(path) as archive:
        members = _list_members(archive)
        if len(members) > MOST_MEMBERS:
            raise ValueError(f"it holds {len(members):,} arrays; at most {MOST_MEMBERS:,} are read")
        headers, faults = _parse_members(archive, members)
    if faults and not headers:
        raise ValueError(f"its {next(iter(faults))} is no array of NumPy: {next(iter(faults.values()))}")
    return headers


def _list_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    return {info.filename.removesuffix(".npy"): info for info in archive.infolist()}


def _parse_members(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]
) -> tuple[dict[str, ArrayHeader], dict[str, str]]:
    """The headers of the arrays, and for every other member why it is none."""
    headers: dict[str, ArrayHeader] = {}
    faults: dict[str, str] = {}
    for name, info in members.items():
        try:
            with archive.open(info) as member:
                headers[name] = _parse_header(BytesIO(member.read(LONGEST_HEADER)))
        except FAULTS as error:
            faults[name] = describe_fault(error)
    return headers, faults


def _parse_header(file: BytesIO) -> ArrayHeader:
    version = np.lib.format.read_magic(file)
    parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = parse(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return ArrayHeader(shape, dtype, file.tell())
