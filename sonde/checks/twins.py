"""Captures that are there twice: bit by bit, or encoded anew; within a set, on two sides of its split, or in two sets.

A copy is told from the next frame of a video by its depth, which is the same, and by a thumbnail of its picture, which
differs by the traces of compression only. A hash finds the few earlier captures that are worth comparing.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from sonde.checks.answers import CheckResult, Fault, Seen
from sonde.datasets import Capture, DepthSet
from sonde.datasets.pairs import columns_of
from sonde.types import RGBArray

HASH_BITS = 64
ALIKE_BITS = 2
"""Bits by which the hashes of a picture and its copy may differ."""
ALIKE_LEVELS = 0.7
"""Mean difference of thumbnails, of 255. JPEG copies at quality 75 stay below 0.3, copies at half the size below 0.7;
the next frame of a camera that moves 2 cm in a room differs by 0.5 and more, and by its depth."""
ALIKE_DEPTH = 0.002
"""Relative difference of depth: more than writing it in millimetres makes of 0.3 m."""
SIDES = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation"}
SIDES |= {"test": "test", "testing": "test"}
"""Names of folders that are sides of a split."""


class CaptureDigest(NamedTuple):
    """Some 500 bytes of a capture, by which its copies are known."""

    name: str
    content: bytes
    depth_content: bytes
    bits: int
    thumbnail: UInt8[np.ndarray, "16 16"]
    depth: Float[np.ndarray, "8 8"]


class DuplicateIndex:
    """Remembers what it met, and tells when it meets it again."""

    def __init__(self, looks: Iterable[CaptureDigest] = ()) -> None:
        self._exact: dict[bytes, list[str]] = {}
        self._similar: dict[tuple[int, int], list[CaptureDigest]] = {}
        for look in looks:
            self.add(look)

    def add(self, look: CaptureDigest) -> None:
        """Remember a capture."""
        for content in (look.content, look.depth_content):
            self._exact.setdefault(content, []).append(look.name)
        for part in _parts(look.bits):
            self._similar.setdefault(part, []).append(look)

    def like(self, look: CaptureDigest) -> dict[str, str]:
        """Name -> what is alike, of every capture met that this one repeats."""
        found = {name: f"has the very depth of {name}" for name in self._exact.get(look.depth_content, [])}
        near = (other for part in _parts(look.bits) for other in self._similar.get(part, []))
        for other in near:
            if (other.bits ^ look.bits).bit_count() <= ALIKE_BITS and _same(look, other):
                found[other.name] = f"looks like a copy of {other.name}, with the same depth"
        return found | {name: f"has the content of {name}" for name in self._exact.get(look.content, [])}


def look_at(captures: DepthSet, capture: Capture) -> CaptureDigest:
    """What its copies are known by."""
    grey = cv2.cvtColor(capture.image, cv2.COLOR_RGB2GRAY)
    rows, columns = (((np.arange(8) + 0.5) * side / 8).astype(int) for side in capture.depth.shape)
    thumbnail = cv2.resize(grey, (16, 16), interpolation=cv2.INTER_AREA).astype(np.uint8)
    depth = _digest(capture.depth)
    whole = _digest(capture.image) + depth
    bits = difference_hash(capture.image)
    return CaptureDigest(capture.id, whole, depth, bits, thumbnail, capture.depth[np.ix_(rows, columns)])


def judge(captures: DepthSet, seen: Seen) -> CheckResult:
    """Copies of earlier captures. One depth under two pictures is a copy only across a split: light may vary."""
    sides, twins, faults = {}, DuplicateIndex(), []
    try:
        sides = sides_of(captures)
    except ValueError as error:
        faults.append(Fault("", f"The split it declares cannot be read: {error}"))
    for name, look in seen.items():
        met = twins.like(look)
        across = {other: how for other, how in met.items() if sides.get(other) != sides.get(name)}
        within = {other: how for other, how in met.items() if other not in across and "very depth" not in how}
        for other, how in list((across or within).items())[:1]:
            known = [sides[one] or "the rest" for one in (name, other)] if across else []
            ends = f"{' and '.join(known)} share it" if across else "both may end up on two sides of a split"
            faults.append(Fault(name, f"{name} {how}: remove one, or {ends}."))
        twins.add(look)
    return CheckResult(faults, len(seen))


def across(seen: Seen, others: Mapping[str, Seen]) -> CheckResult:
    """Captures that another set holds too.

    Args:
        seen: what `look_at` kept of the set's captures.
        others: likewise of each other set, by its name.
    """
    faults = []
    for title, other in others.items():
        twins = DuplicateIndex(other.values())
        for name, look in seen.items():
            for how in list(twins.like(look).values())[:1]:
                faults.append(Fault(name, f"{name} {how} in {title}: keep it in one of the two sets only."))
    return CheckResult(faults, len(seen))


def sides_of(captures: DepthSet) -> dict[str, str]:
    """Capture id -> train, validation or test, by column split of captures.csv or by folders of that name.

    Raises:
        ValueError: a table that cannot be read, or that has the column but not an entry for every capture.
    """
    table = captures.root / "captures.csv"
    if table.is_file() and "split" in columns_of(table):
        return captures.groups("split")
    parts = {name: [SIDES.get(part.lower()) for part in PurePosixPath(name).parts[:-1]] for name in captures.ids}
    return {name: next(filter(None, found), "") for name, found in parts.items()}


def difference_hash(image: RGBArray) -> int:
    """64 bits: whether each of 8 x 8 areas is brighter than the one to its left (Krawetz's dHash)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    areas = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(areas[:, 1:] > areas[:, :-1]).tobytes(), "big")


def _parts(bits: int) -> list[tuple[int, int]]:
    """ALIKE_BITS + 1 parts: two hashes that differ in ALIKE_BITS bits share one."""
    width = -(-HASH_BITS // (ALIKE_BITS + 1))
    return [(number, bits >> (number * width) & ((1 << width) - 1)) for number in range(ALIKE_BITS + 1)]


def _same(one: CaptureDigest, other: CaptureDigest) -> bool:
    levels = np.abs(one.thumbnail.astype(np.float32) - other.thumbnail)
    apart = np.abs(one.depth - other.depth) > ALIKE_DEPTH * other.depth  # 0 in one alone is apart
    return bool(levels.mean() < ALIKE_LEVELS and apart.mean() <= 0.05)


def _digest(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()
