"""Metric depth to and from the [0, 1] a network regresses: one interface for training, prediction and export.

An encoding knows its depth range in metres. `encode` clips depth to that range, so its answer never leaves
[0, 1]; `decode` clips to [0, 1] and undoes `encode` exactly. Both take torch tensors (differentiable) or
NumPy arrays of any shape, and keep their dtype. NaN stays NaN: the caller's mask says which pixels to trust.

    inverse = ENCODINGS["inverse"](0.25174, 3.90745)
    inverse.decode(inverse.encode(depth))       # depth, to a hundredth of a millimetre in float32
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from sonde.spelling import nearest

Array = TypeVar("Array", Tensor, np.ndarray)


@dataclass(frozen=True)
class Encoding(ABC):
    """Depth in [min_depth, max_depth] metres as values in [0, 1].

    Raises:
        ValueError: the range is empty, not finite, or not above zero.
    """

    name: ClassVar[str]
    min_depth: float | int
    """Metres."""
    max_depth: float | int
    """Metres."""

    def __post_init__(self) -> None:
        near, far = float(self.min_depth), float(self.max_depth)
        if not (0 < near < far < math.inf):
            raise ValueError(
                f"Depth range [{near:g}, {far:g}]: expected 0 < min_depth < max_depth, both finite and in "
                "metres, such as [0.25, 4.0]; take them from the trusted depths of the training set."
            )
        object.__setattr__(self, "min_depth", near)
        object.__setattr__(self, "max_depth", far)

    def encode(self, depth: Array) -> Array:
        """Values in [0, 1] for depth in metres; depth outside the range counts as its nearer end."""
        return _in_single(lambda z: self._encode(z.clip(self.min_depth, self.max_depth)).clip(0.0, 1.0), depth)

    def decode(self, value: Array) -> Array:
        """Depth in metres for values in [0, 1]; values outside count as the nearer end."""
        return _in_single(lambda x: self._decode(x.clip(0.0, 1.0)), value)

    def to_dict(self) -> dict[str, Any]:
        """Name and range, ready for JSON; `from_dict` takes it back."""
        return {"name": self.name, "min_depth": self.min_depth, "max_depth": self.max_depth}

    @abstractmethod
    def _encode(self, depth: Array) -> Array: ...

    @abstractmethod
    def _decode(self, value: Array) -> Array: ...


class Inverse(Encoding):
    """(1/z - 1/max) / (1/min - 1/max): 1 at min_depth, 0 at max_depth, most resolution where it is near.

    Depth is clipped above zero before the division, so the usual 1/(z + ε) needs no ε and decoding is exact.
    Fractions are cleared because 1/z - 1/max would cancel in float32 at the far end.
    """

    name = "inverse"

    def _encode(self, depth: Array) -> Array:
        return (self.max_depth - depth) / depth * (self.min_depth / (self.max_depth - self.min_depth))

    def _decode(self, value: Array) -> Array:
        product = self.min_depth * self.max_depth
        return product / (self.min_depth + value * (self.max_depth - self.min_depth))


class InverseNotebook(Inverse):
    """`Inverse`, for comparison decoded as the published notebook does: 1/(1/z + 1e-6) with 1/z in mm⁻¹.

    In metres that is 1/(1/z + 1e-3), short by about 1e-3 z²: 15 mm at 3907 mm.
    """

    name = "inverse_notebook"

    def _decode(self, value: Array) -> Array:
        depth = super()._decode(value)
        return depth / (1 + 1e-3 * depth)


class Linear(Encoding):
    """(z - min) / (max - min): 0 at min_depth, 1 at max_depth, equal steps for equal differences."""

    name = "linear"

    def _encode(self, depth: Array) -> Array:
        return (depth - self.min_depth) / (self.max_depth - self.min_depth)

    def _decode(self, value: Array) -> Array:
        return self.min_depth + value * (self.max_depth - self.min_depth)


class Log(Encoding):
    """log(z / min) / log(max / min): 0 at min_depth, 1 at max_depth, equal steps for equal ratios."""

    name = "log"

    def _encode(self, depth: Array) -> Array:
        ratio = depth / self.min_depth
        log = torch.log(ratio) if isinstance(ratio, Tensor) else np.log(ratio)
        return log / self._span

    def _decode(self, value: Array) -> Array:
        log = value * self._span
        return self.min_depth * (torch.exp(log) if isinstance(log, Tensor) else np.exp(log))

    @property
    def _span(self) -> float:
        return math.log(self.max_depth / self.min_depth)


def _in_single(function: Callable[[Any], Any], values: Array) -> Array:
    """Half-precision values go through the function in float32, since max / min may be beyond half's range."""
    if values.itemsize >= 4:
        return function(values)
    if isinstance(values, Tensor):
        return function(values.float()).to(values.dtype)
    return function(values.astype(np.float32)).astype(values.dtype)


ENCODINGS: dict[str, type[Encoding]] = {encoding.name: encoding for encoding in (Inverse, InverseNotebook, Linear, Log)}
"""Name → class taking (min_depth, max_depth) in metres."""


def decoders(name: str) -> list[str]:
    """The names in ENCODINGS that encode as `name` does, itself first: what may decode a network taught by it."""
    own = ENCODINGS[name]
    return sorted((other for other, kind in ENCODINGS.items() if kind._encode is own._encode), key=name.__ne__)


def from_dict(fields: Mapping[str, Any]) -> Encoding:
    """The encoding `Encoding.to_dict` described.

    Raises:
        ValueError: no such encoding, or a range that is none.
    """
    name = fields["name"]
    if name not in ENCODINGS:
        raise ValueError(f"No encoding {name!r}: {nearest(name, list(ENCODINGS))}")
    return ENCODINGS[name](fields["min_depth"], fields["max_depth"])
