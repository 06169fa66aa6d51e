"""Several sets as one: concatenated, not re-balanced."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from sonde.datasets.contract import Capture, DepthSet
from sonde.renamed import keep_old_names
from sonde.types import DepthArray, Space


class JoinedSet:
    """A DepthSet of several sets.

    Unit, limits and root are those of the first set. Each part is read within its own limits.
    Captures are named PART/ID. PART is the position and the folder name of their set.
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
        """`metric` if all parts are metric; else the space of the first part that is not."""
        others: list[Space] = [part.space for part in self.parts if part.space != "metric"]
        return others[0] if others else "metric"

    @property
    def limits(self) -> tuple[float, float]:
        """The first set's limits."""
        return self.parts[0].limits

    @property
    def problems(self) -> list[str]:
        """The problems of all parts."""
        return [problem for part in self.parts for problem in part.problems]

    @property
    def distinct(self) -> list[DepthSet]:
        """The parts, each once; `data.repeat` lists a part several times."""
        return list({id(part): part for part in self.parts}.values())

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, index: int) -> Capture:
        """The whole capture, under its id in this set."""
        part, own = self._locate(index)
        return part.read(own)._replace(id=self.ids[index])

    def read_depth(self, index: int) -> DepthArray:
        """Only the depth, in metres."""
        part, own = self._locate(index)
        return part.read_depth(own)

    def key(self, index: int) -> str:
        """The key in its own set."""
        part, own = self._locate(index)
        return part.key(own)

    def groups(self, by: str) -> dict[str, str]:
        """Capture id -> group in its own part. Groups of different parts are different groups."""
        return {
            f"{name}/{id_}": f"{name}/{group}"
            for name, part in zip(self._names, self.parts, strict=True)
            for id_, group in part.groups(by).items()
        }

    def roots(self, ids: Sequence[str]) -> list[Path]:
        """The roots of the parts to which these captures belong."""
        names = {id_.partition("/")[0] for id_ in ids}
        return [part.root for name, part in zip(self._names, self.parts, strict=True) if name in names]

    def _locate(self, index: int) -> tuple[DepthSet, int]:
        """The part that holds a capture, and the capture's position in it."""
        part = bisect_right(self._starts, index) - 1
        return self.parts[part], index - self._starts[part]


keep_old_names(__name__, {"Joined": "JoinedSet"})
