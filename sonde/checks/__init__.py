"""What is wrong with a set of captures: every check of CHECKS looks at each capture once, then judges the set.

A check returns lines that name the capture and the remedy, or nothing. It must find its fault and stay silent about
sound captures, real or rendered, dense or sparse. If it cannot decide, it says so and claims nothing. Your own check is
one line: `CHECKS["mine"] = Check("what it finds", look)`.

Before a set trains or scores, `screening` runs some of them on a few captures: certain faults are refused.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from sonde.checks import duplicates, edges, maps, orientation, pairing, planes, units
from sonde.checks.answers import Check, CheckResult, Fault, SureFault
from sonde.checks.duplicates import CaptureDigest, DuplicateIndex
from sonde.checks.edges import find_edge_shift
from sonde.checks.profile import Profile, measure_profile
from sonde.checks.screening import (
    SCREENS,
    Screen,
    Screener,
    Screening,
    ScreeningDocument,
    Verdict,
    describe_screening,
    read_screening,
    screen,
    screen_lengths,
    settle,
)
from sonde.datasets import Capture, DepthSet
from sonde.datasets.statistics import explain_empty
from sonde.renamed import keep_old_names
from sonde.spelling import quantify

__all__ = [
    "CHECKS",
    "SCREENS",
    "Check",
    "CheckResult",
    "Diagnosis",
    "DuplicateIndex",
    "Fault",
    "Problem",
    "Profile",
    "Screen",
    "Screener",
    "Screening",
    "ScreeningDocument",
    "SureFault",
    "Verdict",
    "check",
    "describe_screening",
    "examine",
    "find_edge_shift",
    "read_screening",
    "screen",
    "screen_lengths",
    "settle",
]

Progress = Callable[[int], None]
T = TypeVar("T")


class Problem(NamedTuple):
    """One fault of a set."""

    capture: str
    """Id of the capture; empty for a fault of the whole set."""
    check: str
    message: str
    """What is wrong and what to do, one line."""

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Diagnosis:
    """The results of all checks of a set."""

    answers: dict[str, CheckResult]
    """By check: its faults, the number of captures it could judge, and a note if it could not decide."""
    profiles: dict[str, Profile]
    """By capture id, for every capture that could be read."""

    @property
    def problems(self) -> list[Problem]:
        """All faults: first those of the whole set, then capture by capture."""
        found = [Problem(one.capture, name, one.message) for name, each in self.answers.items() for one in each.faults]
        return sorted(found, key=lambda problem: problem.capture)


class Looked(NamedTuple):
    """What the checks keep of one capture."""

    kept: dict[str, object]
    """By check."""
    profile: Profile


class Unread(NamedTuple):
    """A capture that cannot be read, or holds no depth."""

    reason: str


def check(captures: DepthSet, progress: Progress | None = None) -> list[Problem]:
    """All faults of a set; see `examine`."""
    return examine(captures, progress).problems


def examine(captures: DepthSet, progress: Progress | None = None, against: Sequence[DepthSet] = ()) -> Diagnosis:
    """Run every check on a set.

    Args:
        captures: the set, opened with `strict=False`, so that missing partners are reported too.
        progress: called with the number of captures done.
        against: sets that must share no capture with this one.
    """
    seen: dict[str, dict[str, object]] = {name: {} for name in CHECKS}
    profiles: dict[str, Profile] = {}
    unread = []
    for index, found in enumerate(_look_at_all(captures)):
        name = captures.ids[index]
        if isinstance(found, Unread):
            unread.append(Fault(name, found.reason))
        else:
            profiles[name] = found.profile
            for check_name, kept in found.kept.items():
                seen[check_name][name] = kept
        if progress:
            progress(index + 1)
    answers = {
        "pairs": CheckResult([Fault("", line) for line in captures.problems], len(captures)),
        "files": CheckResult(unread, len(captures)),
        **{name: each.judge(captures, seen[name]) for name, each in CHECKS.items()},
    }
    if against:
        digests = {name: kept for name, kept in seen["duplicate"].items() if isinstance(kept, CaptureDigest)}
        answers["shared"] = _compare_sets(digests, against)
    return Diagnosis(answers, profiles)


def _look_at_all(captures: DepthSet) -> Iterator[Looked | Unread]:
    """What each check keeps of every capture, in order."""
    steps = {name: 1 if each.most is None else -(-len(captures) // each.most) for name, each in CHECKS.items()}

    def look(index: int, capture: Capture) -> Looked:
        due = {name: each for name, each in CHECKS.items() if index % steps[name] == 0}
        kept = {name: each.look(captures, capture) for name, each in due.items()}
        return Looked(kept, measure_profile(captures, capture))

    return _read_ahead(captures, look)


def _read_ahead(captures: DepthSet, look: Callable[[int, Capture], T]) -> Iterator[T | Unread]:
    """`look` of every capture, in order, or why it cannot be read; a few threads read ahead."""
    workers = min(8, os.cpu_count() or 1)

    def read(index: int) -> T | Unread:
        try:
            capture = captures.read(index)
        except ValueError as error:
            return Unread(str(error))
        return look(index, capture) if capture.mask.any() else Unread(explain_empty(captures, index))

    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[T | Unread]] = deque()
        for index in range(len(captures)):
            ahead.append(pool.submit(read, index))
            # A bounded queue: captures that are read too early would fill the memory.
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        yield from (future.result() for future in ahead)


def _compare_sets(digests: dict[str, CaptureDigest], against: Sequence[DepthSet]) -> CheckResult:
    """Captures that other sets hold too; and a fault for each other set that could not be compared completely."""
    others: dict[str, dict[str, CaptureDigest]] = {}
    unread: list[Fault] = []
    for other in against:
        others[str(other.root)], lost = _digest_set(other)
        unread += lost
    result = duplicates.find_shared(digests, others)
    result.faults.extend(unread)
    return result


def _digest_set(captures: DepthSet) -> tuple[dict[str, CaptureDigest], list[Fault]]:
    """Fingerprints of the captures of another set; and a fault if some captures could not be compared."""
    looks = _read_ahead(captures, lambda index, capture: duplicates.look(captures, capture))
    found = dict(zip(captures.ids, looks, strict=True))
    digests = {name: one for name, one in found.items() if not isinstance(one, Unread)}
    lost = [*captures.problems, *(one.reason for one in found.values() if isinstance(one, Unread))]
    if not lost:
        return digests, []
    text = f"{quantify(len(lost), 'capture')} of {captures.root} could not be compared, first: {lost[0]}"
    return digests, [Fault("", text)]


# What a check keeps of a capture is its own affair: only its `look` and its `judge` agree on the type.
CHECKS: dict[str, Check[Any]] = {
    "flat": Check("a map with almost no variation", maps.check_flat),
    "clipped": Check("many pixels at exactly the nearest or farthest depth", maps.check_clipped),
    "code": Check("a code for invalid pixels that was read as depth", maps.check_code),
    "unit": Check("a wrong unit, such as millimetres for metres, of the set or of captures", units.look, units.judge),
    "camera": Check("intrinsics of another size", units.check_intrinsics),
    "coverage": Check("almost no depth, or far less than usual in the set", maps.measure_coverage, maps.judge_coverage),
    "dark": Check("an image of one colour", maps.check_dark),
    "disparity": Check("disparity instead of depth", planes.look_for_disparity, planes.judge_disparity),
    "distance": Check(
        "distance along the line of sight instead of depth", planes.look_for_distance, planes.judge_distance
    ),
    "misaligned": Check("depth that is shifted against its image", edges.look, edges.judge),
    "orientation": Check("depth that EXIF did not turn with its image", orientation.look, orientation.judge),
    "size": Check(
        "images that are resized to fit their depth; told, no fault", orientation.look_at_size, orientation.judge_sizes
    ),
    "swapped": Check("the depth of another capture", pairing.look, pairing.judge),
    "duplicate": Check("a duplicate capture, in the set or across a split", duplicates.look, duplicates.judge),
}
"""Every check by name; `pairs`, `files` and `shared` are checks of `examine` itself."""

keep_old_names(__name__, {"edge_shift": "find_edge_shift", "page": "sonde.report.captures", "twins": "duplicates"})
