"""Pinhole intrinsics as text: the three rows of the matrix, or fx fy cx cy."""

from pathlib import Path

import numpy as np

from sonde.files.documents import read_text
from sonde.files.safely import reading
from sonde.files.writing import atomic_write
from sonde.types import MatrixArray


def read_intrinsics(path: Path | str) -> MatrixArray:
    """The matrix, in pixels, from nine numbers (its rows) or four (fx fy cx cy), separated by spaces or commas.

    Raises:
        ValueError: the file is missing or holds anything else.
    """
    with reading(path, "expected the three rows of the matrix, or fx fy cx cy"):
        numbers = np.array(read_text(path).replace(",", " ").split(), dtype=np.float64)
        if numbers.size == 4:
            fx, fy, cx, cy = numbers
            numbers = np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1])
        matrix = numbers.reshape(3, 3)
        if not is_camera(matrix):
            raise ValueError("it is not a camera matrix")
        return matrix


def is_camera(matrix: MatrixArray) -> bool:
    """Whether all numbers are finite, the focal lengths above 0 and the last row 0 0 1."""
    return bool(
        np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0 and np.allclose(matrix[2], (0, 0, 1))
    )


def write_intrinsics(path: Path | str, matrix: MatrixArray) -> None:
    """Write the three rows; reading them gives exactly the same numbers."""
    with atomic_write(path) as tmp_path:
        tmp_path.write_text("".join(" ".join(repr(float(value)) for value in row) + "\n" for row in matrix))
