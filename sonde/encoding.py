"""Metric depth to and from the [0, 1] a network regresses: one interface for training, prediction and export.

An encoding knows its depth range in metres. `encode` clips depth to that range, so its values never leave
[0, 1]; `decode` clips to [0, 1] and undoes `encode` exactly. Both take torch tensors (differentiable) or
NumPy arrays of any shape, and keep their dtype. NaN stays NaN: the caller's mask says which pixels to trust.
NumPy arrays need no torch.

    inverse = ENCODINGS["inverse"](0.25174, 3.90745)
    inverse.decode(inverse.encode(depth))       # depth, to a hundredth of a millimetre in float32
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from typing_extensions import TypedDict

from sonde.renamed import keep_old_names
from sonde.spelling import nearest

if TYPE_CHECKING:
    import torch

Array = TypeVar("Array", "torch.Tensor", np.ndarray)


NUMPY = (np.ndarray, np.generic)
"""NumPy's types: arithmetic on an array without axes gives a scalar, which is not an `ndarray`."""


class EncodingFields(TypedDict):
    """An encoding in JSON: what `Encoding.to_dict` returns and `sonde.json` holds."""

    name: str
    """A name in ENCODINGS."""
    min_depth: float | int
    """Metres."""
    max_depth: float | int
    """Metres."""


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
        return _compute_in_float32(lambda z: self._encode(z.clip(self.min_depth, self.max_depth)).clip(0.0, 1.0), depth)

    def decode(self, value: Array) -> Array:
        """Depth in metres for values in [0, 1]; values outside count as the nearer end."""
        return _compute_in_float32(lambda x: self._decode(x.clip(0.0, 1.0)), value)

    def to_dict(self) -> EncodingFields:
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
        log = np.log(ratio) if isinstance(ratio, NUMPY) else ratio.log()
        return log / self._span

    def _decode(self, value: Array) -> Array:
        log = value * self._span
        return self.min_depth * (np.exp(log) if isinstance(log, NUMPY) else log.exp())

    @property
    def _span(self) -> float:
        return math.log(self.max_depth / self.min_depth)


def _compute_in_float32(function: Callable[[Any], Any], values: Array) -> Array:
    """Apply the function in float32 to half-precision values: max / min may overflow half precision."""
    if values.itemsize >= 4:
        return function(values)
    if isinstance(values, NUMPY):
        return function(values.astype(np.float32)).astype(values.dtype)
    return function(values.float()).to(values.dtype)


ENCODINGS: dict[str, type[Encoding]] = {encoding.name: encoding for encoding in (Inverse, InverseNotebook, Linear, Log)}
"""Name → class taking (min_depth, max_depth) in metres."""


def list_decoders(name: str) -> list[str]:
    """Names of the encodings that can decode a network trained with `name`: all that encode alike, `name` first."""
    own = ENCODINGS[name]
    alike = [other for other, kind in ENCODINGS.items() if kind._encode is own._encode]
    return [name, *(other for other in alike if other != name)]


def from_dict(fields: EncodingFields) -> Encoding:
    """The encoding that `Encoding.to_dict` described.

    Raises:
        ValueError: an unknown encoding, or an empty range.
    """
    name = fields["name"]
    if name not in ENCODINGS:
        raise ValueError(f"No encoding {name!r}: {nearest(name, list(ENCODINGS))}")
    return ENCODINGS[name](fields["min_depth"], fields["max_depth"])


def check_max_depth(max_depth: float | int) -> None:
    """Raise ValueError unless the end of a depth range is a positive, finite number of metres."""
    if not (math.isfinite(max_depth) and max_depth > 0):
        raise ValueError(f"max_depth={max_depth}: expected metres above zero, such as 10 or 80.")


keep_old_names(__name__, {"decoders": "list_decoders"})
