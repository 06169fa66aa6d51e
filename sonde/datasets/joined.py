"""Several sets as one, concatenated without re-balancing."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from sonde.datasets.contract import Capture, DepthSet
from sonde.types import DepthArray, Space


class Joined:
    """A DepthSet of sets. Unit, limits and root are the first's; each part is read within its own limits.

    Captures are named PART/ID, where PART is the position and folder name of their set.
    """

    def __init__(self, parts: Sequence[DepthSet]) -> None:
        self.parts = list(parts)
        self._starts = [0, *accumulate(len(part) for part in parts)]
        self._names = [f"{index}-{part.root.absolute().name}" for index, part in enumerate(parts)]
        self.ids = [f"{name}/{id_}" for name, part in zip(self._names, parts, strict=True) for id_ in part.ids]

    @property
    def root(self) -> Path:
        """The first set's folder."""
        return self.parts[0].root

    @property
    def unit(self) -> str:
        """The first set's unit."""
        return self.parts[0].unit

    @property
    def unit_m(self) -> float:
        """Metres per unit of the first set."""
        return self.parts[0].unit_m

    @property
    def space(self) -> Space:
        """`metric` where every part is; else that of the first part that is not."""
        others: list[Space] = [part.space for part in self.parts if part.space != "metric"]
        return others[0] if others else "metric"

    @property
    def limits(self) -> tuple[float, float]:
        """The first set's limits."""
        return self.parts[0].limits

    @property
    def problems(self) -> list[str]:
        """Every part's."""
        return [problem for part in self.parts for problem in part.problems]

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, index: int) -> Capture:
        """The whole capture, under its id here."""
        part, own = self._at(index)
        return part.read(own)._replace(id=self.ids[index])

    def read_depth(self, index: int) -> DepthArray:
        """Its depth, metres."""
        part, own = self._at(index)
        return part.read_depth(own)

    def key(self, index: int) -> str:
        """As in its own set."""
        part, own = self._at(index)
        return part.key(own)

    def groups(self, by: str) -> dict[str, str]:
        """Each part's groups; groups of different parts are different groups."""
        return {
            f"{name}/{id_}": f"{name}/{group}"
            for name, part in zip(self._names, self.parts, strict=True)
            for id_, group in part.groups(by).items()
        }

    def roots(self, ids: Sequence[str]) -> list[Path]:
        """The folders that captures of these ids lie in."""
        names = {id_.partition("/")[0] for id_ in ids}
        return [part.root for name, part in zip(self._names, self.parts, strict=True) if name in names]

    def _at(self, index: int) -> tuple[DepthSet, int]:
        part = bisect_right(self._starts, index) - 1
        return self.parts[part], index - self._starts[part]
