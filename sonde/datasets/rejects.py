"""Captures that a check rejected: a list beside the set, so that no file is ever deleted.

    {"capture": "c02", "check": "clipped", "reason": "c02 is exactly 655.35 m in 31% of its pixels: …"}

One line of JSON for each rejected capture, as `sonde data check ROOT --reject FILE` writes it.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from sonde.datasets.contract import Capture, DepthSet
from sonde.datasets.pseudo import PseudoSet
from sonde.files import atomic_write, reading
from sonde.types import DepthArray, Space

REMEDY = (
    'expected lines such as {"capture": "c02", "check": "clipped", "reason": "…"}, as `sonde data check` writes them'
)


class Kept:
    """A DepthSet without some of its captures; all else is the set's own.

    Args:
        captures: the whole set.
        indices: positions of those that stay, ascending.
    """

    def __init__(self, captures: DepthSet, indices: Sequence[int]) -> None:
        self.captures = captures
        self._indices = list(indices)
        every = captures.ids
        self.ids = [every[index] for index in self._indices]

    @property
    def root(self) -> Path:
        """The set's folder."""
        return self.captures.root

    @property
    def unit(self) -> str:
        """The set's unit."""
        return self.captures.unit

    @property
    def unit_m(self) -> float:
        """Metres per unit."""
        return self.captures.unit_m

    @property
    def space(self) -> Space:
        """What the set's depth is."""
        return self.captures.space

    @property
    def limits(self) -> tuple[float, float]:
        """The set's limits."""
        return self.captures.limits

    @property
    def problems(self) -> list[str]:
        """The set's problems."""
        return self.captures.problems

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> Capture:
        """The whole capture."""
        return self.captures.read(self._indices[index])

    def read_depth(self, index: int) -> DepthArray:
        """Its depth, metres."""
        return self.captures.read_depth(self._indices[index])

    def key(self, index: int) -> str:
        """As in the whole set, so that what is cached of it serves."""
        return self.captures.key(self._indices[index])

    def confidence(self, index: int) -> float | None:
        """That of a pseudo-label; None where there is none."""
        return self.captures.confidence(self._indices[index]) if isinstance(self.captures, PseudoSet | Kept) else None

    def groups(self, by: str) -> dict[str, str]:
        """The groups of those that stay."""
        every = self.captures.groups(by)
        return {name: every[name] for name in self.ids}


def without(captures: DepthSet, rejected: Path) -> DepthSet:
    """The set without the captures that a list names; names the set does not have are passed over.

    Raises:
        ValueError: no such list, or no such lines; it names captures, but none of this set; or nothing is left.
    """
    names = read_rejects(rejected)
    indices = [index for index, name in enumerate(captures.ids) if name not in names]
    if names and len(indices) == len(captures):
        raise ValueError(
            f"{rejected} names {len(names)} captures, first {min(names)!r}, and none of them is in {captures.root}: "
            "it belongs to another set; write it anew with `sonde data check --reject`."
        )
    if not indices:
        raise ValueError(f"{rejected} rejects every capture of {captures.root}: nothing is left to train on.")
    return Kept(captures, indices)


def confident(captures: DepthSet, minimum: float) -> DepthSet:
    """The pseudo-labels whose confidence is at least `minimum`.

    Raises:
        ValueError: a set without confidences, or none that reaches so far.
    """
    labels = isinstance(captures, PseudoSet | Kept)
    if not labels or all(captures.confidence(index) is None for index in range(len(captures))):
        raise ValueError(f"data.min_confidence: {captures.root} states no confidences; label without --no-confidence.")
    indices = [index for index in range(len(captures)) if (captures.confidence(index) or 0) >= minimum]
    if not indices:
        raise ValueError(f"data.min_confidence={minimum} leaves none of {len(captures)} labels of {captures.root}.")
    return Kept(captures, indices)


def read_rejects(path: Path) -> set[str]:
    """Ids of the captures a list names."""
    with reading(path, REMEDY):
        return {str(json.loads(line)["capture"]) for line in path.read_text().splitlines() if line.strip()}


def write_rejects(path: Path, problems: Iterable[tuple[str, str, str]]) -> int:
    """Writes a line for each capture that has problems, with the first of them, and answers how many.

    Args:
        path: the list; replaced as a whole.
        problems: (capture, check, reason); those without a capture concern the whole set and are left out.
    """
    first: dict[str, str] = {}
    for capture, check, reason in problems:
        if capture:
            first.setdefault(capture, json.dumps({"capture": capture, "check": check, "reason": reason}))
    with atomic_write(path) as tmp_path:
        tmp_path.write_text("".join(line + "\n" for line in first.values()))
    return len(first)
