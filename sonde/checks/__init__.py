"""What is wrong with a set of captures: each is read once and asked every question of CHECKS, then the set is judged.

A check answers in lines that name the capture and the remedy, or says nothing. It must find what it is made for and
be silent about sound captures, real or rendered, dense or sparse; where it cannot tell, it says so and claims nothing.
Your own question is one line: `CHECKS["mine"] = Check("what it finds", look)`.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from sonde.checks import edges, maps, pairing, planes, twins, units
from sonde.checks.answers import Check, CheckResult, Fault
from sonde.checks.edges import edge_shift
from sonde.checks.profile import Profile, profile
from sonde.checks.twins import DuplicateIndex
from sonde.datasets import DepthSet
from sonde.datasets.statistics import empty

__all__ = [
    "CHECKS",
    "Check",
    "CheckResult",
    "Diagnosis",
    "DuplicateIndex",
    "Fault",
    "Problem",
    "Profile",
    "check",
    "edge_shift",
    "examine",
]

Progress = Callable[[int], None]


class Problem(NamedTuple):
    """One fault of a dataset."""

    capture: str
    """Its id; empty where the fault is the set's."""
    check: str
    message: str
    """What is wrong and what to do, one line."""

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Diagnosis:
    """Everything the checks said of a set."""

    answers: dict[str, CheckResult]
    """By check: its faults, how many captures could tell, and why it could not."""
    profiles: dict[str, Profile]
    """Of every capture that could be read, by its id."""

    @property
    def problems(self) -> list[Problem]:
        """Every fault: the set's first, then capture by capture."""
        found = (Problem(one.capture, name, one.message) for name, each in self.answers.items() for one in each.faults)
        return sorted(found, key=lambda problem: problem.capture)


def check(captures: DepthSet, progress: Progress | None = None) -> list[Problem]:
    """Every fault of a set; see `examine`."""
    return examine(captures, progress).problems


def examine(captures: DepthSet, progress: Progress | None = None, against: Sequence[DepthSet] = ()) -> Diagnosis:
    """What every check says of a set.

    Args:
        captures: the set, opened with `strict=False` so that its missing partners are told too.
        progress: called with the number of captures done.
        against: sets that must share no capture with this one.
    """
    asked = CHECKS | {"profile": Check("", profile)}
    seen: dict[str, dict[str, Any]] = {name: {} for name in asked}
    unread = []
    for index, found in enumerate(_looks(captures, asked)):
        name = captures.ids[index]
        if isinstance(found, str):
            unread.append(Fault(name, found))
        else:
            for known, kept in found.items():
                seen[known][name] = kept
        if progress:
            progress(index + 1)
    answers = {
        "pairs": CheckResult([Fault("", line) for line in captures.problems], len(captures)),
        "files": CheckResult(unread, len(captures)),
        **{name: each.judge(captures, seen[name]) for name, each in CHECKS.items()},
    }
    if against:
        copies = {str(other.root): _copies(other) for other in against}
        answers["shared"] = twins.across(seen["duplicate"], {name: kept for name, (kept, _) in copies.items()})
        answers["shared"].faults.extend(lost for _, unread in copies.values() for lost in unread)
    return Diagnosis(answers, seen["profile"])


def _looks(captures: DepthSet, asked: dict[str, Check]) -> Iterator[dict[str, Any] | str]:
    """What each check keeps of every capture, in order, or why one cannot be read; read ahead by a few threads."""
    workers = min(8, os.cpu_count() or 1)
    steps = {name: 1 if each.most is None else -(-len(captures) // each.most) for name, each in asked.items()}

    def look(index: int) -> dict[str, Any] | str:
        try:
            capture = captures.read(index)
        except ValueError as error:
            return str(error)
        if not capture.mask.any():
            return empty(captures, index)
        return {name: each.look(captures, capture) for name, each in asked.items() if index % steps[name] == 0}

    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[dict[str, Any] | str]] = deque()
        for index in range(len(captures)):
            ahead.append(pool.submit(look, index))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        yield from (future.result() for future in ahead)


def _copies(captures: DepthSet) -> tuple[dict[str, Any], list[Fault]]:
    """What tells the captures of another set; and a fault where some of them could not be compared."""
    looks = dict(zip(captures.ids, _looks(captures, {"duplicate": CHECKS["duplicate"]}), strict=True))
    kept = {name: found["duplicate"] for name, found in looks.items() if not isinstance(found, str)}
    lost = [*captures.problems, *(found for found in looks.values() if isinstance(found, str))]
    text = f"{len(lost)} captures of {captures.root} could not be compared, first: {lost[0]}" if lost else ""
    return kept, [Fault("", text)] if lost else []


CHECKS: dict[str, Check] = {
    "flat": Check("a map of hardly any variation", maps.flat),
    "clipped": Check("many pixels at exactly the nearest or farthest depth", maps.clipped),
    "code": Check("a mark for invalid pixels that was read as depth", maps.code),
    "unit": Check("millimetres for metres and the like, in the set or in single captures", units.look, units.judge),
    "camera": Check("intrinsics of another size", units.camera),
    "coverage": Check("hardly any depth, or far less than the set's", maps.coverage, maps.sparse),
    "dark": Check("an image of one colour", maps.dark),
    "disparity": Check("disparity instead of depth", planes.look_for_disparity, planes.judge_disparity),
    "distance": Check(
        "distance along the line of sight instead of depth", planes.look_for_distance, planes.judge_distance
    ),
    "misaligned": Check("depth that lies beside its image", edges.look, edges.judge),
    "swapped": Check("the depth of another capture", pairing.look, pairing.judge),
    "duplicate": Check("a capture that is there twice, or on two sides of a split", twins.look_at, twins.judge),
}
"""Every question by name; `pairs`, `files` and `shared` are `examine`'s own."""
