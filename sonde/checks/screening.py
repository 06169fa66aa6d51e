"""Whether a set may train or score: some checks on a few captures, in seconds, before any network is loaded.

A certain fault is refused, a likely one is a warning, and the run records both. The table SCREENS says for each check
how many of the captures must have the fault.
"""

import json
import logging
import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NotRequired

import cv2
import numpy as np
from jaxtyping import Float
from pydantic import with_config
from typing_extensions import TypedDict

from sonde import files
from sonde.checks import edges, maps, pairing, planes, units
from sonde.checks.answers import Check, CheckResult, Fault, SureFault
from sonde.datasets import Capture, DepthSet, JoinedSet
from sonde.ids import CaptureId
from sonde.strict import EXACT

log = logging.getLogger("sonde")

MOST = 16
"""Captures that are looked at; of several sets in one, together about as many."""
LEAST = 4
"""Captures that are looked at in each of several sets."""
LONG_SIDE = 640
"""Pixels; larger captures are shrunk to about it."""
RECORD = "checks.json"
"""The file in a run folder that holds the verdicts."""

Shape = tuple[int, ...]
"""Height and width, and the channels of an image."""


class Screen(NamedTuple):
    """How one check screens a set."""

    check: Check[Any]
    certain: float | None
    """A fault is certain if more than this share of the captures surely have it; None: it never is."""
    likely: float
    """A fault is likely if more than this share of the captures have it."""
    sees: bool = False
    """Whether the check looks at the image, which nobody sees who scores a folder of predictions."""


SCREENS: dict[str, Screen] = {
    "unit": Screen(Check("a wrong unit", units.look, units.judge), 0.5, 0),
    "flat": Screen(Check("maps of one depth", maps.find_constant, maps.judge_constant), 0.5, 0.5),
    "disparity": Screen(
        Check("disparity instead of depth", planes.look_for_sure_disparity, planes.judge_sure_disparity), 0.5, 0
    ),
    "swapped": Screen(Check("the depth of another capture", pairing.look, pairing.judge), 0.5, 0, sees=True),
    "dark": Screen(Check("an image of one colour", maps.measure_levels, maps.judge_levels), 0.5, 0, sees=True),
    "code": Screen(Check("a code for invalid pixels that was read as depth", maps.check_code), None, 0),
    "coverage": Screen(Check("almost no depth", maps.measure_coverage, maps.judge_coverage), None, 0.5),
    "clipped": Screen(Check("pixels at exactly the nearest or farthest depth", maps.check_clipped), None, 0.5),
    "camera": Screen(Check("intrinsics of another size", units.check_intrinsics), None, 0.5),
    "distance": Screen(Check("distance instead of depth", planes.look_for_distance, planes.judge_distance), None, 0.5),
    "misaligned": Screen(
        Check("depth that is shifted against its image", edges.look, edges.judge), None, 0.5, sees=True
    ),
}
"""How each check screens a set, by its name. What is wrong in a few captures is `sonde data check`'s to find."""


class Verdict(NamedTuple):
    """What one check finds in a set."""

    check: str
    certain: bool
    """Whether no sound set has the fault; else it is likely."""
    message: str
    """What is wrong and what to do, one line."""


@with_config(EXACT)
class VerdictDocument(TypedDict):
    """A verdict as JSON."""

    check: str
    verdict: str
    """`certain` or `likely`."""
    message: str


@with_config(EXACT)
class ScreeningDocument(TypedDict):
    """A screening as JSON: `checks.json` of a run, and `checks` among the settings of an evaluation."""

    checked: bool
    """False: the checks were switched off."""
    captures: NotRequired[int]
    looked_at: NotRequired[list[CaptureId]]
    verdicts: NotRequired[list[VerdictDocument]]


class Glance(NamedTuple):
    """What is kept of a capture that was looked at."""

    id: str
    shapes: tuple[Shape, Shape]
    """Of image and depth."""
    kept: dict[str, object]
    """By check; empty for a capture without depth."""


@dataclass(frozen=True)
class Screening:
    """What the checks found in a few captures of a set."""

    verdicts: list[Verdict] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)
    """The ids of the captures that were read."""
    captures: int = 0
    """How many the set has."""
    shapes: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)
    """Capture id -> shapes of image and depth."""
    checked: bool = True
    """False: the checks were switched off, and nothing was read."""

    def document(self) -> ScreeningDocument:
        """The screening as JSON."""
        if not self.checked:
            return {"checked": False}
        verdicts: list[VerdictDocument] = [
            {"check": name, "verdict": "certain" if certain else "likely", "message": message}
            for name, certain, message in self.verdicts
        ]
        return {"checked": True, "captures": self.captures, "looked_at": self.looked_at, "verdicts": verdicts}

    def summarize(self) -> dict[str, object]:
        """The screening in a few words: how many captures were looked at, and a sentence for each verdict."""
        if not self.checked:
            return {"checked": False}
        verdicts = [f"{'certain' if certain else 'likely'}: {message}" for _, certain, message in self.verdicts]
        return {"looked_at": len(self.looked_at), "captures": self.captures, "verdicts": verdicts}

    def write(self, run: Path) -> None:
        """Write the record into a run folder."""
        with files.atomic_write(run / RECORD) as tmp_path:
            tmp_path.write_text(json.dumps(self.document(), indent=1) + "\n")


class Screener:
    """Screens sets before they train or score, each once: refuses what is certain, and warns of what is likely.

    Args:
        wanted: False for those who know better: nothing is read, and the record says so.
    """

    def __init__(self, wanted: bool = True) -> None:
        self.wanted = wanted
        self._known: dict[tuple[str, ...], Screening] = {}

    def screen(
        self, captures: DepthSet, ids: Sequence[str] | None = None, *, sees: bool = True, quiet: bool = False
    ) -> Screening:
        """Screen a set.

        Args:
            captures: the set.
            ids: the captures that matter; None: all.
            sees: whether anybody looks at the images.
            quiet: leave the warnings out, which another process gives.

        Raises:
            ValueError: a fault that is certain, with its remedy.
        """
        if not self.wanted:
            return Screening(checked=False)
        chosen = captures.ids if ids is None else list(ids)
        key = (str(captures.root), *chosen)
        if key not in self._known:
            found = screen(captures, chosen, sees=sees)
            settle(found, _name_place(captures), quiet=quiet)
            self._known[key] = found
        return self._known[key]


def screen(captures: DepthSet, ids: Sequence[str] | None = None, *, sees: bool = True) -> Screening:
    """Look at a few captures of a set, evenly spread, and judge the set by them; nothing is refused.

    A capture that cannot be read is passed over: whoever needs it says so.

    Args:
        captures: the set; the parts of a JoinedSet are judged apart.
        ids: the captures that matter; None: all.
        sees: whether anybody looks at the images.
    """
    wanted = set(captures.ids if ids is None else ids)
    parts = captures.parts if isinstance(captures, JoinedSet) else [captures]
    most = MOST if len(parts) == 1 else max(LEAST, MOST // len(parts))
    found, start, names = Screening(captures=len(wanted)), 0, captures.ids
    for part in parts:
        own = {index: name for index, name in enumerate(names[start : start + len(part)]) if name in wanted}
        start += len(part)
        verdicts, shapes = _screen_part(part, own, most, sees)
        if len(parts) > 1:
            verdicts = [verdict._replace(message=f"{part.root}: {verdict.message}") for verdict in verdicts]
        found.verdicts.extend(verdicts)
        found.looked_at.extend(shapes)
        found.shapes.update(shapes)
    return found


def screen_lengths(lengths: Float[np.ndarray, " n"], names: Collection[str]) -> Screening:
    """Judge the unit of depths that somebody measured.

    Args:
        lengths: metres.
        names: of the images that they belong to.
    """
    fault = units.judge_lengths(lengths) if lengths.size else None
    verdicts = [] if fault is None else [Verdict("unit", isinstance(fault, SureFault), fault.message)]
    return Screening(verdicts, list(names), len(names))


def settle(screening: Screening, place: str, *, quiet: bool = False) -> None:
    """Refuse what is certain, and warn of what is likely.

    Args:
        screening: what was found.
        place: the folder or the file it was found in.
        quiet: leave the warnings out.

    Raises:
        ValueError: a fault that is certain.
    """
    certain = [verdict for verdict in screening.verdicts if verdict.certain]
    if certain:
        found = " ".join(verdict.message for verdict in certain)
        raise ValueError(f"{place} is not sound: {found} Give check=False to use it as it is.")
    for verdict in [] if quiet else screening.verdicts:
        log.warning("%s may not be sound: %s", place, verdict.message)


def read_screening(run: Path) -> ScreeningDocument | None:
    """What a run folder records of its checks; None where it has no such record.

    Raises:
        ValueError: a record that cannot be read.
    """
    path = run / RECORD
    return files.read_json(path, ScreeningDocument, "remove it") if path.is_file() else None


def describe_screening(document: ScreeningDocument, what: str = "captures") -> list[str]:
    """What a reader of the result must know: a sentence for each verdict, or that nothing was checked."""
    if not document["checked"]:
        return [f"The {what} were not checked."]
    return [f"The {what} may not be sound: {verdict['message']}" for verdict in document.get("verdicts", [])]


def choose_sample(count: int, most: int = MOST) -> list[int]:
    """Positions of at most `most` captures: neighbours two by two, evenly spread, since pairs slip by one file."""
    if count <= most:
        return list(range(count))
    starts = np.linspace(0, count - 2, max(1, most // 2)).astype(int)
    return sorted({int(index) for start in starts for index in (start, start + 1)})


def shrink_capture(capture: Capture, long_side: int = LONG_SIDE) -> Capture:
    """About every n-th row and column, so that no side is much longer than `long_side`; the image is averaged."""
    step = max(1, round(max(capture.depth.shape) / long_side))
    if step == 1:
        return capture
    depth = np.ascontiguousarray(capture.depth[::step, ::step])
    image = cv2.resize(capture.image, depth.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
    camera = None if capture.intrinsics is None else np.diag([1 / step, 1 / step, 1.0]) @ capture.intrinsics
    return Capture(capture.id, image, depth, depth > 0, camera)


def _screen_part(
    captures: DepthSet, names: dict[int, str], most: int, sees: bool
) -> tuple[list[Verdict], dict[str, tuple[Shape, Shape]]]:
    """Look at a few captures of one set, and judge it; the shapes of what was read, by the name that is asked for."""
    screens = {name: each for name, each in SCREENS.items() if sees or not each.sees}
    seen: dict[str, dict[str, object]] = {name: {} for name in screens}
    shapes: dict[str, tuple[Shape, Shape]] = {}
    indices = list(names)
    sample = [indices[position] for position in choose_sample(len(indices), most)]

    def look(index: int) -> Glance | None:
        try:
            capture = captures.read(index)
        except ValueError:
            return None
        small = shrink_capture(capture)
        kept = {name: each.check.look(captures, small) for name, each in screens.items()} if small.mask.any() else {}
        return Glance(capture.id, (capture.image.shape, capture.depth.shape), kept)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for index, glance in zip(sample, pool.map(look, sample), strict=True):
            if glance is not None:
                shapes[names[index]] = glance.shapes
                for name, kept in glance.kept.items():
                    seen[name][glance.id] = kept
    judged = {name: each.check.judge(captures, seen[name]) for name, each in screens.items() if seen[name]}
    verdicts = [_make_verdict(name, result) for name, result in judged.items()]
    return [verdict for verdict in verdicts if verdict is not None], shapes


def _name_place(captures: DepthSet) -> str:
    """The folder of a set; the folders of several, whose verdicts name the one that is meant."""
    if isinstance(captures, JoinedSet):
        return f"One of {', '.join(str(part.root) for part in captures.distinct)}"
    return str(captures.root)


def _make_verdict(name: str, result: CheckResult) -> Verdict | None:
    """What the faults of a check mean for the set; None if they are too few."""
    screen, sure = SCREENS[name], [fault for fault in result.faults if isinstance(fault, SureFault)]
    certain = screen.certain is not None and _count_share(sure, result.asked) > screen.certain
    if not certain and _count_share(result.faults, result.asked) <= screen.likely:
        return None
    told = sure if certain else result.faults
    more = f" The same holds for {len(told)} of {result.asked} captures." if len(told) > 1 else ""
    return Verdict(name, certain, told[0].message + more)


def _count_share(faults: Sequence[Fault], asked: int) -> float:
    """The share of captures with a fault; a fault of the whole set is one of all."""
    return 1.0 if any(not fault.capture for fault in faults) else len(faults) / max(asked, 1)
