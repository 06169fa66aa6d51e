"""Captures that are in a set twice: bit by bit, or encoded anew.

A copy is told from the next frame of a video by its depth, which is the same, and by a thumbnail of its picture, which
differs by the traces of compression only. A hash finds the few earlier captures that are worth comparing.
"""

import hashlib
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from sonde.datasets import Capture
from sonde.types import RGBArray

HASH_BITS = 64
ALIKE_BITS = 2
"""Bits by which the hashes of a picture and its copy may differ."""
ALIKE_LEVELS = 0.7
"""Mean difference of thumbnails, of 255. JPEG copies at quality 75 stay below 0.3, copies at half the size below 0.7;
the next frame of a camera that moves 2 cm in a room differs by 0.5 and more, and by its depth."""
ALIKE_DEPTH = 0.002
"""Relative difference of depth: more than writing it in millimetres makes of 0.3 m."""


class _Look(NamedTuple):
    name: str
    thumbnail: UInt8[np.ndarray, "16 16"]
    depth: Float[np.ndarray, "8 8"]


class Twins:
    """Remembers what it met, some 500 bytes of each capture, and tells when it meets it again."""

    def __init__(self) -> None:
        self._exact: dict[bytes, str] = {}
        self._similar: dict[tuple[int, int], list[tuple[int, _Look]]] = {}

    def met(self, capture: Capture) -> str | None:
        """Which earlier capture this one repeats: bit by bit, or encoded anew."""
        twin = self._exact.setdefault(_content(capture), capture.id)
        if twin != capture.id:
            return f"{capture.id} has the content of {twin}: remove one, or both may end up on two sides of a split."
        bits, look = difference_hash(capture.image), _look(capture)
        alike = next((other for known, other in self._near(bits) if _same(look, other)), None)
        for part in _parts(bits):
            self._similar.setdefault(part, []).append((bits, look))
        if alike is None:
            return None
        return (
            f"{capture.id} looks like a copy of {alike.name}, with the same depth: remove one, or both may end up on "
            "two sides of a split."
        )

    def _near(self, bits: int) -> list[tuple[int, _Look]]:
        """Every earlier picture within ALIKE_BITS: it shares at least one of three parts of the hash."""
        near = (entry for part in _parts(bits) for entry in self._similar.get(part, []))
        return [(known, look) for known, look in near if (known ^ bits).bit_count() <= ALIKE_BITS]


def difference_hash(image: RGBArray) -> int:
    """64 bits: whether each of 8 x 8 areas is brighter than the one to its left (Krawetz's dHash)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    areas = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(areas[:, 1:] > areas[:, :-1]).tobytes(), "big")


def _parts(bits: int) -> list[tuple[int, int]]:
    """ALIKE_BITS + 1 parts: two hashes that differ in ALIKE_BITS bits share one."""
    width = -(-HASH_BITS // (ALIKE_BITS + 1))
    return [(number, bits >> (number * width) & ((1 << width) - 1)) for number in range(ALIKE_BITS + 1)]


def _look(capture: Capture) -> _Look:
    grey = cv2.cvtColor(capture.image, cv2.COLOR_RGB2GRAY)
    rows, columns = (((np.arange(8) + 0.5) * side / 8).astype(int) for side in capture.depth.shape)
    thumbnail = cv2.resize(grey, (16, 16), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return _Look(capture.id, thumbnail, capture.depth[np.ix_(rows, columns)])


def _same(one: _Look, other: _Look) -> bool:
    levels = np.abs(one.thumbnail.astype(np.float32) - other.thumbnail)
    apart = np.abs(one.depth - other.depth) > ALIKE_DEPTH * other.depth  # 0 in one alone is apart
    return bool(levels.mean() < ALIKE_LEVELS and apart.mean() <= 0.05)


def _content(capture: Capture) -> bytes:
    parts = (np.ascontiguousarray(array) for array in (capture.image, capture.depth))
    return hashlib.blake2b(b"".join(part.tobytes() for part in parts), digest_size=16).digest()
