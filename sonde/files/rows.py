"""The rows of numbers that PLY and PCD hold after their headers: as text or as bytes, never more than the file has."""

from collections.abc import Sequence
from io import BufferedReader
from itertools import islice
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sonde.files.claims import check_stored, count_rest

Points = Float[np.ndarray, "n 3"]

LONGEST_LINE = 4096
"""Bytes of a line of a header."""
MOST_LINES = 1000
"""Lines of a header."""


class Field(NamedTuple):
    """One or several equal numbers of every row."""

    name: str
    kind: str
    """NumPy's name of the type, with the order of its bytes."""
    count: int = 1

    @property
    def size(self) -> int:
        """Bytes of the field in one row."""
        return self.count * np.dtype(self.kind).itemsize


def read_header(file: BufferedReader, last: str) -> list[str]:
    """The lines up to the one that begins with `last`, without comments of # and empty lines.

    Raises:
        ValueError: there is no such line.
    """
    lines: list[str] = []
    while not (lines and lines[-1].startswith(last)):
        line = file.readline(LONGEST_LINE)
        if not line or len(lines) > MOST_LINES:
            raise ValueError(f"its header has no {last}")
        text = line.decode("ascii", "replace").rstrip()
        if text and not text.startswith("#"):
            lines.append(text)
    return lines


def read_points(file: BufferedReader, fields: Sequence[Field], count: int, *, text: bool) -> Points:
    """The x, y and z of the next `count` rows.

    Raises:
        ValueError: the file has fewer rows, or no x, y and z.
    """
    check_fields(fields)
    check_rows(file, fields, count, text=text)
    if text:
        columns = [sum(field.count for field in fields[: _find(fields, axis)]) for axis in "xyz"]
        lines = (line for line in file if line.strip())
        points = np.loadtxt(islice(lines, count), np.float64, comments=None, usecols=columns, ndmin=2)
        if len(points) != count:
            raise ValueError(f"it ends after {len(points)} of {count} points")
        return points
    kinds = [(f"{field.name} {number}", field.kind, (field.count,)) for number, field in enumerate(fields)]
    table = np.frombuffer(file.read(count * sum(field.size for field in fields)), np.dtype(kinds))
    return np.stack([table[kinds[_find(fields, axis)][0]][:, 0] for axis in "xyz"], axis=-1)


def check_fields(fields: Sequence[Field]) -> None:
    """Check that each of x, y and z is one number.

    Raises:
        ValueError: it is not.
    """
    axes = [field.name for field in fields if field.name in ("x", "y", "z")]
    if sorted(axes) != ["x", "y", "z"]:
        raise ValueError(f"its points have {', '.join(field.name for field in fields) or 'nothing'}, no x, y and z")
    if any(field.count != 1 for field in fields if field.name in axes):
        raise ValueError("its x, y and z are several numbers each")


def check_rows(file: BufferedReader, fields: Sequence[Field], count: int, *, text: bool) -> None:
    """Check that the rest of the file can hold so many rows: each number of a text takes two characters at least.

    Raises:
        ValueError: it cannot.
    """
    if count < 0 or any(field.count < 0 for field in fields):
        raise ValueError("its header holds a negative number")
    size = sum(2 * field.count if text else field.size for field in fields)
    check_stored(max(0, count * size - text), count_rest(file))


def skip_rows(file: BufferedReader, fields: Sequence[Field], count: int, *, text: bool) -> None:
    """Pass over the next `count` rows.

    Raises:
        ValueError: the file has fewer rows.
    """
    check_rows(file, fields, count, text=text)
    if text:
        for _ in islice((line for line in file if line.strip()), count):
            pass
    else:
        file.seek(count * sum(field.size for field in fields), 1)


def organise(points: Points, height: int, width: int) -> Float[np.ndarray, "h w 3"]:
    """The points as rows and columns.

    Raises:
        ValueError: there are more or fewer.
    """
    if height * width != len(points):
        raise ValueError(f"its header says {width}x{height}, but it holds {len(points)} points")
    return points.reshape(height, width, 3)


def _find(fields: Sequence[Field], name: str) -> int:
    return [field.name for field in fields].index(name)
