"""What a check is and what it answers: faults, each of one capture or of the whole set, or why it cannot tell."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sonde.datasets import Capture, DepthSet


class Fault(NamedTuple):
    """One line about a capture, or about the set where `capture` is empty."""

    capture: str
    message: str
    """What was found, with figures, and what to do."""


class CheckResult(NamedTuple):
    """What a check says of a set."""

    faults: list[Fault]
    asked: int
    """Captures that could tell."""
    note: str = ""
    """Why it says nothing, where it cannot tell."""


Seen = Mapping[str, Any]
"""Capture id -> what a check kept of it."""


def one_by_one(captures: DepthSet, seen: Seen) -> CheckResult:
    """The judge of checks that look at single captures: what was kept is the line, or None."""
    return CheckResult([Fault(name, line) for name, line in seen.items() if line], len(seen))


class Check(NamedTuple):
    """One question. Each capture is looked at once, in any order; then the set is judged by what was kept."""

    finds: str
    """The fault, in a few words."""
    look: Callable[[DepthSet, Capture], Any]
    """What to keep of a capture, small; None where it tells nothing."""
    judge: Callable[[DepthSet, Seen], CheckResult] = one_by_one
    most: int | None = None
    """How many captures are looked at, evenly spread; None for all."""


def shown(names: list[str]) -> str:
    """The first three of some names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
