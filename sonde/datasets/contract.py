"""What every set of captures answers, whatever its layout on disk."""

from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from sonde.types import DepthArray, MaskArray, MatrixArray, RGBArray, Space


class Capture(NamedTuple):
    """One image and its depth, as read."""

    id: str
    image: RGBArray
    depth: DepthArray
    """float32 metres, 0 where untrusted; its size may differ from the image's."""
    mask: MaskArray
    """True where depth is trusted: finite, inside the set's limits. The same as depth > 0."""
    intrinsics: MatrixArray | None = None
    """For the depth's pixels."""


@runtime_checkable
class DepthSet(Protocol):
    """A set of captures, read one at a time. Faults of a file are ValueErrors naming it and the remedy."""

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
        """What the depth is: `metric`, `scale` where a reconstruction's unit is unknown, or `disparity`.

        The last are a relative teacher's pseudo-labels: 1 / depth is the label, up to scale and shift.
        """
        ...

    @property
    def limits(self) -> tuple[float, float]:
        """Depth is trusted strictly between these two, in the set's unit."""
        ...

    @property
    def ids(self) -> list[str]:
        """One unique name for each capture, sorted."""
        ...

    @property
    def problems(self) -> list[str]:
        """What is wrong at first sight, such as a missing partner: one line each, with the remedy."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> Capture:
        """The whole capture."""
        ...

    def read_depth(self, index: int) -> DepthArray:
        """The depth of `read` alone, without decoding the image."""
        ...

    def key(self, index: int) -> str:
        """What reading this capture depends on, as text: layout, limits, files with their sizes and times."""
        ...

    def groups(self, by: str) -> dict[str, str]:
        """Capture id -> group: by `folder`, by what the layout knows, or by a column of captures.csv in the root."""
        ...
