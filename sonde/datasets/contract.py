"""The interface of every set of captures, whatever its layout on disk."""

from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from sonde.types import DepthArray, MaskArray, MatrixArray, RGBArray, Space


class Capture(NamedTuple):
    """One image and its depth."""

    id: str
    image: RGBArray
    depth: DepthArray
    """float32 metres, 0 where untrusted; its size may differ from the image's."""
    mask: MaskArray
    """True where depth is trusted: finite and inside the set's limits. The same as depth > 0."""
    intrinsics: MatrixArray | None = None
    """For the depth's pixels; None if unknown."""


@runtime_checkable
class DepthSet(Protocol):
    """A set of captures, read one at a time. A bad file raises a ValueError with its name and the remedy."""

    @property
    def root(self) -> Path:
        """The folder the set was opened on."""
        ...

    @property
    def unit(self) -> str:
        """The set's own unit of depth, a key of UNITS: limits, statistics and reports are given in it."""
        ...

    @property
    def unit_m(self) -> float:
        """Metres per unit."""
        ...

    @property
    def space(self) -> Space:
        """What the depth is: `metric`; `scale` for a reconstruction without a known unit; or `disparity`.

        `disparity` is for pseudo-labels of a relative teacher: 1 / depth is the label, up to scale and shift.
        """
        ...

    @property
    def limits(self) -> tuple[float, float]:
        """Depth is trusted strictly between these two values, in the set's unit."""
        ...

    @property
    def ids(self) -> list[str]:
        """One unique name for each capture, sorted."""
        ...

    @property
    def problems(self) -> list[str]:
        """Problems that are visible without reading, such as a missing partner: one line each, with the remedy."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> Capture:
        """The whole capture."""
        ...

    def read_depth(self, index: int) -> DepthArray:
        """Only the depth of `read`, without decoding the image."""
        ...

    def key(self, index: int) -> str:
        """Everything that this capture depends on, as text: layout, limits, files with their sizes and times."""
        ...

    def groups(self, by: str) -> dict[str, str]:
        """Capture id -> group: by `folder`, by a grouping of the layout, or by a column of captures.csv in the root."""
        ...
