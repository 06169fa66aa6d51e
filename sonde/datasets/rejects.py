"""Captures that a check rejected: a list beside the set, so no file is deleted.

    {"capture": "c02", "check": "clipped", "reason": "c02 is exactly 655.35 m in 31% of its pixels: …"}

`sonde data check ROOT --reject FILE` writes one line of JSON for each rejected capture.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import with_config
from typing_extensions import TypedDict

from sonde.datasets.contract import Capture, DepthSet
from sonde.datasets.pseudo import PseudoSet
from sonde.files import atomic_write, read_lines
from sonde.ids import CaptureId
from sonde.renamed import keep_old_names
from sonde.spelling import quantify
from sonde.strict import EXACT
from sonde.types import DepthArray, Space

REMEDY = (
    'expected lines such as {"capture": "c02", "check": "clipped", "reason": "…"}, as written by `sonde data check`'
)


@with_config(EXACT)
class RejectLine(TypedDict):
    """What reading needs of a line; the check and its reason are for people."""

    capture: CaptureId


class DepthSubset:
    """Some captures of a DepthSet; everything else is as in the whole set.

    Args:
        captures: the whole set.
        indices: positions of the captures to keep, ascending.
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
        """Only the depth, in metres."""
        return self.captures.read_depth(self._indices[index])

    def key(self, index: int) -> str:
        """As in the whole set, so its cache records remain valid."""
        return self.captures.key(self._indices[index])

    def confidence(self, index: int) -> float | None:
        """The confidence of a pseudo-label; None if there is none."""
        if isinstance(self.captures, PseudoSet | DepthSubset):
            return self.captures.confidence(self._indices[index])
        return None

    def groups(self, by: str) -> dict[str, str]:
        """Capture id -> group, for the captures that stay."""
        every = self.captures.groups(by)
        return {name: every[name] for name in self.ids}


def drop_rejected(captures: DepthSet, rejected: Path) -> DepthSet:
    """The set without the captures that a list names; names that the set does not have are ignored.

    Raises:
        ValueError: no such list, a file that is not such a list, a list that names no capture of this set, or one that
            leaves no capture.
    """
    names = read_rejects(rejected)
    indices = [index for index, name in enumerate(captures.ids) if name not in names]
    if names and len(indices) == len(captures):
        raise ValueError(
            f"{rejected} names {quantify(len(names), 'capture')}, first {min(names)!r}, and none of them is in "
            f"{captures.root}: "
            "it belongs to another set; write it again with `sonde data check --reject`."
        )
    if not indices:
        raise ValueError(f"{rejected} rejects every capture of {captures.root}: nothing is left to train on.")
    return DepthSubset(captures, indices)


def keep_confident(captures: DepthSet, minimum: float) -> DepthSet:
    """The pseudo-labels whose confidence is at least `minimum`.

    Raises:
        ValueError: the set has no confidences, or no label reaches the minimum.
    """
    labels = isinstance(captures, PseudoSet | DepthSubset)
    if not labels or all(captures.confidence(index) is None for index in range(len(captures))):
        raise ValueError(
            f"data.min_confidence={minimum}: the labels of {captures.root} have no confidence: run `sonde label` "
            "without --no-confidence."
        )
    indices = [index for index in range(len(captures)) if (captures.confidence(index) or 0) >= minimum]
    if not indices:
        raise ValueError(
            f"data.min_confidence={minimum} leaves none of the {quantify(len(captures), 'label')} of "
            f"{captures.root}: lower it."
        )
    return DepthSubset(captures, indices)


def read_rejects(path: Path) -> set[str]:
    """Ids of the captures that a list names.

    Raises:
        ValueError: no such list, or a line that is none of it.
    """
    lines: list[RejectLine] = read_lines(path, RejectLine, REMEDY)
    return {line["capture"] for line in lines}


def write_rejects(path: Path, problems: Iterable[tuple[str, str, str]]) -> int:
    """Write a line for each capture with a problem, about its first problem; return the number of captures.

    Args:
        path: the list; an existing one is replaced.
        problems: (capture, check, reason). Problems of the whole set have no capture and are left out.
    """
    first: dict[str, str] = {}
    for capture, check, reason in problems:
        if capture:
            first.setdefault(capture, json.dumps({"capture": capture, "check": check, "reason": reason}))
    with atomic_write(path) as tmp_path:
        tmp_path.write_text("".join(line + "\n" for line in first.values()))
    return len(first)


keep_old_names(__name__, {"Kept": "DepthSubset", "confident": "keep_confident", "without": "drop_rejected"})
