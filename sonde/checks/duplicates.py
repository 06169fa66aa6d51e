"""Duplicate captures, identical or encoded again: within a set, across its split, or in two sets.

A duplicate differs from the next frame of a video in two ways: its depth is the same, and the thumbnail of its image
differs only by compression. A hash selects the few earlier captures to compare.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from sonde.checks.answers import CheckResult, Fault
from sonde.datasets import Capture, DepthSet
from sonde.datasets.pairs import read_columns
from sonde.types import RGBArray

HASH_BITS = 64
"""Bits of `compute_difference_hash`."""
ALIKE_BITS = 2
"""Largest number of bits in which the hashes of an image and its copy differ."""
ALIKE_LEVELS = 0.7
"""Largest mean difference of thumbnails, of 255. JPEG copies of quality 75 stay below 0.3 and copies of half the size
below 0.7. The next frame of a camera that moves 2 cm in a room differs by 0.5 or more, and in depth."""
ALIKE_DEPTH = 0.002
"""Largest relative difference of depth: more than rounding 0.3 m to millimetres."""
SIDES = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation"}
SIDES |= {"test": "test", "testing": "test"}
"""Folder name -> side of a split."""


SAME_DEPTH = "has exactly the depth of"


class CaptureDigest(NamedTuple):
    """The fingerprint of a capture, about 500 bytes."""

    name: str
    content: bytes
    """Hash of image and depth."""
    depth_content: bytes
    """Hash of the depth."""
    bits: int
    """`compute_difference_hash` of the image."""
    thumbnail: UInt8[np.ndarray, "16 16"]
    depth: Float[np.ndarray, "8 8"]


class DuplicateIndex:
    """Remembers the fingerprints of captures, and finds those that a new capture repeats."""

    def __init__(self, digests: Iterable[CaptureDigest] = ()) -> None:
        self._exact: dict[bytes, list[str]] = {}
        self._similar: dict[tuple[int, int], list[CaptureDigest]] = {}
        for digest in digests:
            self.add(digest)

    def add(self, digest: CaptureDigest) -> None:
        """Remember a capture."""
        for content in (digest.content, digest.depth_content):
            self._exact.setdefault(content, []).append(digest.name)
        for part in _split_hash(digest.bits):
            self._similar.setdefault(part, []).append(digest)

    def like(self, digest: CaptureDigest) -> dict[str, str]:
        """Name -> what is the same, for every remembered capture that this one repeats."""
        found = {name: f"{SAME_DEPTH} {name}" for name in self._exact.get(digest.depth_content, [])}
        near = [other for part in _split_hash(digest.bits) for other in self._similar.get(part, [])]
        for other in near:
            if (other.bits ^ digest.bits).bit_count() <= ALIKE_BITS and _is_copy(digest, other):
                found[other.name] = f"looks like a copy of {other.name}, with the same depth"
        return found | {name: f"has the content of {name}" for name in self._exact.get(digest.content, [])}


def look(captures: DepthSet, capture: Capture) -> CaptureDigest:
    """The fingerprint of a capture."""
    grey = cv2.cvtColor(capture.image, cv2.COLOR_RGB2GRAY)
    rows, columns = (((np.arange(8) + 0.5) * side / 8).astype(int) for side in capture.depth.shape)
    thumbnail = cv2.resize(grey, (16, 16), interpolation=cv2.INTER_AREA).astype(np.uint8)
    depth = _hash_array(capture.depth)
    whole = _hash_array(capture.image) + depth
    bits = compute_difference_hash(capture.image)
    return CaptureDigest(capture.id, whole, depth, bits, thumbnail, capture.depth[np.ix_(rows, columns)])


def judge(captures: DepthSet, seen: Mapping[str, CaptureDigest]) -> CheckResult:
    """A fault for each duplicate of an earlier capture.

    The same depth with two different images, as under changing light, is a duplicate only across a split.
    """
    sides, index, faults = {}, DuplicateIndex(), []
    try:
        sides = read_sides(captures)
    except ValueError as error:
        faults.append(Fault("", f"The declared split of the set cannot be read: {error}"))
    for name, digest in seen.items():
        line = _explain_duplicate(name, index.like(digest), sides)
        if line is not None:
            faults.append(Fault(name, line))
        index.add(digest)
    return CheckResult(faults, len(seen))


def _explain_duplicate(name: str, found: Mapping[str, str], sides: Mapping[str, str]) -> str | None:
    """A line about the first duplicate, across the split if there is one; None if there is no duplicate.

    Args:
        name: the capture.
        found: the earlier captures that it repeats -> what is the same.
        sides: capture -> side of the split.
    """
    across = {other: how for other, how in found.items() if sides.get(other) != sides.get(name)}
    if across:
        other, how = next(iter(across.items()))
        both = " and ".join(sides[one] or "the rest" for one in (name, other))
        return f"{name} {how}: remove one, or {both} share it."
    within = [how for how in found.values() if not how.startswith(SAME_DEPTH)]
    if not within:
        return None
    return f"{name} {within[0]}: remove one, or a split may put the two on different sides."


def find_shared(seen: Mapping[str, CaptureDigest], others: Mapping[str, Mapping[str, CaptureDigest]]) -> CheckResult:
    """A fault for each capture that another set holds too.

    Args:
        seen: capture id -> fingerprint, of this set.
        others: the same for each other set, by its name.
    """
    faults = []
    for title, other in others.items():
        index = DuplicateIndex(other.values())
        for name, digest in seen.items():
            found = list(index.like(digest).values())
            if found:
                faults.append(Fault(name, f"{name} {found[0]} in {title}: keep it in only one of the two sets."))
    return CheckResult(faults, len(seen))


def read_sides(captures: DepthSet) -> dict[str, str]:
    """Capture id -> train, validation or test: by the column split of captures.csv, or by folders with such a name.

    Raises:
        ValueError: the table cannot be read, or has the column without an entry for every capture.
    """
    table = captures.root / "captures.csv"
    if table.is_file() and "split" in read_columns(table):
        return captures.groups("split")
    parts = {name: [SIDES.get(part.lower()) for part in PurePosixPath(name).parts[:-1]] for name in captures.ids}
    return {name: next(filter(None, found), "") for name, found in parts.items()}


def compute_difference_hash(image: RGBArray) -> int:
    """64 bits: whether each of 8 x 8 areas is brighter than the area to its left (Krawetz's dHash)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    areas = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(areas[:, 1:] > areas[:, :-1]).tobytes(), "big")


def _split_hash(bits: int) -> list[tuple[int, int]]:
    """ALIKE_BITS + 1 parts of a hash: two hashes that differ in at most ALIKE_BITS bits have one part in common."""
    width = -(-HASH_BITS // (ALIKE_BITS + 1))
    return [(number, bits >> (number * width) & ((1 << width) - 1)) for number in range(ALIKE_BITS + 1)]


def _is_copy(one: CaptureDigest, other: CaptureDigest) -> bool:
    levels = np.abs(one.thumbnail.astype(np.float32) - other.thumbnail)
    apart = np.abs(one.depth - other.depth) > ALIKE_DEPTH * other.depth  # where only one is 0, they differ
    return bool(levels.mean() < ALIKE_LEVELS and apart.mean() <= 0.05)


def _hash_array(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()
