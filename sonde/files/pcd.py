"""Point clouds of PCL: PCD as text, as rows of bytes, or as compressed columns."""

import struct
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path

import numpy as np

from sonde.files.claims import check_packed, check_stored, count_rest
from sonde.files.rows import Field, Points, check_fields, organise, read_header, read_points

KINDS = {"F": "f", "I": "i", "U": "u"}
"""TYPE of a field -> the kind of NumPy."""


def read_pcd(path: Path) -> np.ndarray:
    """The points, (h, w, 3), or (n, 3) if the cloud has one row.

    Raises:
        ValueError: a header that is incomplete, or that claims more than the file holds.
    """
    with path.open("rb") as file:
        header = {key: values for key, *values in map(str.split, read_header(file, "DATA")) if values}
        fields = _list_fields(header)
        width, height = (_parse(header, key)[0] for key in ("WIDTH", "HEIGHT"))
        if width < 1 or height < 1:
            raise ValueError(f"its header says {width}x{height}")
        layout = header["DATA"][0]
        if layout == "binary_compressed":
            points = _read_compressed(file, fields, width * height)
        elif layout in ("ascii", "binary"):
            points = read_points(file, fields, width * height, text=layout == "ascii")
        else:
            raise ValueError(f"its DATA is {layout}, expected ascii, binary or binary_compressed")
    return points if height == 1 else organise(points, height, width)


def unpack_lzf(data: bytes, size: int) -> bytes:
    """The bytes that LZF (Marc Lehmann) packed: runs of new bytes, and references to bytes before.

    Raises:
        ValueError: they are not `size` bytes, or a reference leads outside of them.
        IndexError: the data ends within a reference.
    """
    out = bytearray()
    at = 0
    while at < len(data) and len(out) <= size:
        control = data[at]
        at += 1
        if control < 32:
            out += data[at : at + control + 1]
            at += control + 1
            continue
        length = (control >> 5) + 2
        if length == 9:
            length += data[at]
            at += 1
        start = len(out) - ((control & 31) << 8) - data[at] - 1
        at += 1
        if start < 0:
            raise ValueError("its compressed points refer to bytes before the first")
        piece = out[start : start + length]
        if len(piece) < length:  # the reference reaches into what it writes
            piece = (piece * (length // len(piece) + 1))[:length]
        out += piece
    if len(out) != size:
        raise ValueError(f"its compressed points do not unpack to the {size:,} bytes that it claims")
    return bytes(out)


def _list_fields(header: dict[str, list[str]]) -> list[Field]:
    """The fields of a point. All padding is called _; a descriptor is several numbers."""
    names, sizes = header["FIELDS"], _parse(header, "SIZE")
    counts = _parse(header, "COUNT") if "COUNT" in header else [1] * len(names)
    if unknown := next((kind for kind in header["TYPE"] if kind.upper() not in KINDS), None):
        raise ValueError(f"its TYPE holds {unknown}, expected F, I or U")
    if not len(names) == len(sizes) == len(header["TYPE"]) == len(counts):
        raise ValueError("its FIELDS, SIZE, TYPE and COUNT are not equally many")
    kinds = [np.dtype(f"<{KINDS[kind.upper()]}{size}").str for kind, size in zip(header["TYPE"], sizes, strict=True)]
    return [Field(name, kind, count) for name, kind, count in zip(names, kinds, counts, strict=True)]


def _parse(header: dict[str, list[str]], key: str) -> list[int]:
    try:
        return [int(word) for word in header[key]]
    except ValueError:
        raise ValueError(f"its {key} is {' '.join(header[key])}, expected whole numbers") from None


def _read_compressed(file: BufferedReader, fields: Sequence[Field], count: int) -> Points:
    """The x, y and z of columns: first all numbers of the first field, then all of the second."""
    check_fields(fields)
    packed, size = struct.unpack("<II", file.read(8))
    check_stored(packed, count_rest(file))
    sizes = [count * field.size for field in fields]
    if min(sizes) < 0 or sum(sizes) != size:
        raise ValueError(f"it unpacks to {size:,} bytes, and its points take {sum(sizes):,}")
    check_packed(size, packed)
    data = unpack_lzf(file.read(packed), size)
    starts = dict(zip((field.name for field in fields), np.cumsum([0, *sizes]), strict=False))
    kinds = {field.name: field.kind for field in fields}
    return np.stack([np.frombuffer(data, kinds[axis], count, starts[axis]) for axis in "xyz"], axis=-1)
