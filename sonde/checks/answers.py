"""What a check is and what it returns: faults of single captures or of the set, or why it could not decide."""

from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, TypeVar

from sonde.datasets import Capture, DepthSet
from sonde.renamed import keep_old_names

Kept = TypeVar("Kept")
"""What one check keeps of a capture."""


class Fault(NamedTuple):
    """One line about a capture; about the whole set if `capture` is empty."""

    capture: str
    message: str
    """What was found, with numbers, and what to do."""


class SureFault(Fault):
    """A fault that no sound capture has, so that nobody wants to train on it or to be scored by it."""


class CheckResult(NamedTuple):
    """The result of one check of a set."""

    faults: list[Fault]
    asked: int
    """Number of captures that the check could judge."""
    note: str = ""
    """Why the check could not decide; empty if it could."""
    told: str = ""
    """What is good to know though it is no fault, such as images that are resized; empty if nothing."""


def judge_each(captures: DepthSet, seen: Mapping[str, object]) -> CheckResult:
    """The judge of checks of single captures: `look` has returned the line of a fault, or None."""
    return CheckResult([Fault(name, str(line)) for name, line in seen.items() if line], len(seen))


class Check(NamedTuple, Generic[Kept]):
    """One check. It looks at each capture once, in any order; then it judges the set by what it kept."""

    finds: str
    """The fault, in a few words."""
    look: Callable[[DepthSet, Capture], Kept]
    """What to keep of a capture, small; None if the capture cannot be judged."""
    judge: Callable[[DepthSet, Mapping[str, Kept]], CheckResult] = judge_each
    """(set, capture id -> what `look` kept) -> the result."""
    most: int | None = None
    """Largest number of captures to look at, evenly spread; None: all."""


keep_old_names(__name__, {"one_by_one": "judge_each"})
