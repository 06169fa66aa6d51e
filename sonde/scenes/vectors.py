"""Arithmetic on many vectors at once, one row per component: (3, n) is several times faster here than (n, 3)."""

from typing import Any

import numpy as np
from jaxtyping import Float32

Vectors = Float32[np.ndarray, "3 n"]
Scalars = Float32[np.ndarray, " n"]
Numbers = Any
"""A number, a sequence of them or an array: whatever NumPy makes an array of."""
Real = float | int
"""A number; a checker of types at run time tells the two apart."""


def three(values) -> tuple[float, float, float]:
    """Three numbers as a position or a colour."""
    first, second, third = (float(value) for value in values)
    return first, second, third


def dot(a: Vectors, b: Vectors) -> Scalars:
    """Inner products."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def norm(a: Vectors) -> Scalars:
    """Lengths."""
    return np.sqrt(dot(a, a))


def unit(a: Vectors) -> Vectors:
    """The vectors at length 1."""
    return a * (1 / np.maximum(norm(a), np.float32(1e-12)))


def cross(a: Vectors, b: Vectors) -> Vectors:
    """Vector products."""
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def column(values) -> Float32[np.ndarray, "c 1"]:
    """A few numbers to be combined with every vector, such as a colour or a position."""
    return np.asarray(values, np.float32)[:, None]


def rows(a: Vectors) -> Float32[np.ndarray, "n 3"]:
    """One vector per row, as Embree reads them."""
    return np.ascontiguousarray(a.T, np.float32)
