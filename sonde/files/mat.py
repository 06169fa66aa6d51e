"""Lists of numbers in MATLAB's files of version 5. SciPy's own reader ends the program where such a file is damaged."""

import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Num

from sonde.files.claims import check_packed, check_stored

HEAD = 128
"""Bytes before the first element: a text, a version and the order of bytes."""
ORDERS = {b"IM": "<", b"MI": ">"}
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Type of an element -> NumPy's."""
MATRIX, COMPRESSED = 14, 15
NUMERIC = range(6, 16)
"""Classes of a matrix that holds numbers: from double to uint64."""

Parts = Iterator[tuple[int, bytes]]
"""(type, content) of each element."""


def read_mat(path: Path, names: Collection[str]) -> dict[str, Num[np.ndarray, " n"]]:
    """The numbers of some variables, column by column; those that the file lacks are left out.

    Raises:
        ValueError: no such file of MATLAB, or one that ends early, claims too much, or has no numbers under a name.
    """
    data = path.read_bytes()
    if len(data) < HEAD or data[126:128] not in ORDERS:
        raise ValueError("it is no file of MATLAB's version 5")
    order = ORDERS[data[126:128]]
    found: dict[str, Num[np.ndarray, " n"]] = {}
    for kind, content in _walk(data[HEAD:], order):
        if kind == COMPRESSED:
            kind, content = next(_walk(_inflate(content, order), order))
        if kind == MATRIX:
            parts = list(_walk(content, order))
            name = parts[2][1].decode("ascii", "replace") if len(parts) > 2 else ""
            if name in names:
                found[name] = _parse_numbers(name, parts, order)
    return found


def _walk(data: bytes, order: str) -> Parts:
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start = at + 8
        if kind >> 16:  # a small element: its size, its type and four bytes share the place of the two numbers
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        check_stored(size, len(data) - start)
        yield kind, data[start : start + size]
        at = start + size
        at += 0 if kind == COMPRESSED else -at % 8


def _inflate(packed: bytes, order: str) -> bytes:
    """The element that a compressed one holds."""
    unpack = zlib.decompressobj()
    head = unpack.decompress(packed, 8)
    _, size = struct.unpack(f"{order}II", head)
    check_packed(size, len(packed))
    return head + unpack.decompress(unpack.unconsumed_tail, max(1, size))


def _parse_numbers(name: str, parts: list[tuple[int, bytes]], order: str) -> Num[np.ndarray, " n"]:
    """The numbers of a matrix, whose parts are its flags, sizes, name and numbers."""
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    if flags & 0xFF not in NUMERIC or len(parts) < 4 or parts[3][0] not in NUMBERS:
        raise ValueError(f"its {name} holds no numbers")
    return np.frombuffer(parts[3][1], order + NUMBERS[parts[3][0]])
