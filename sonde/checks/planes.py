"""Whether depth is depth: what is flat in the world tells it from disparity and from distance.

Of a plane 1 / depth is affine in the pixels, whatever the camera. So the affine part is taken from 1 / value in tiles
of four sizes, and what is left is compared with what would be left if the value were something else:

- disparity is affine itself, so its inverse bends along its own slope: left is the square of the affine part;
- distance is depth times √(1 + x² + y²), so its inverse bends around the optical axis: left is 1 - √(1 + x² + y²).

The coefficient of that, by least squares in each tile, is 0 for depth and 1 for the other. A tile votes where noise
cannot confuse the two. A curved surface gives any coefficient, and mostly no vote.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from sonde.checks.answers import CheckResult, Fault, Seen
from sonde.datasets import Capture, DepthSet
from sonde.types import DepthArray, MatrixArray

ACROSS = (20, 10, 5, 3)
"""Tiles across the width."""
SAMPLES = 16
"""Rows and columns of a tile that are looked at, at most."""
LEAST_FILLED, LEAST_POINTS = 0.7, 60
"""Of a tile's samples; of a sparse map's, a proportionate share."""
LEAST_SURE = 8.0
"""Standard errors between the two answers, for a tile to vote."""
LEAST_LEVELS = 24
"""Distinct values of a tile: the steps of a map in whole millimetres bend as they like."""
FINEST = 1e-5
"""Relative noise: no file is more exact."""
MOST_VOTES = 20
"""Of one capture, that count for the set: none outvotes the others."""
FOCALS = (0.5, 0.6, 0.7, 0.85, 1.0, 1.2)
"""Focal lengths by the width that are tried where the camera is unknown: 90 to 45 degrees across."""

Votes = tuple[int, int]
"""Tiles for depth, and for the fault."""
Values = Float[np.ndarray, "tiles samples"]


class Rule(NamedTuple):
    """When votes suffice."""

    least: int
    """Votes."""
    share: float
    """Of them for the fault."""

    def met(self, votes: Votes) -> bool:
        """Whether they do."""
        return sum(votes) >= self.least and votes[1] >= self.share * sum(votes)


DISPARITY = Rule(8, 0.75), Rule(20, 0.8)
"""For a set, for one capture. Of sound ones, real and rendered, a quarter of the votes was the most."""
DISTANCE = Rule(6, 0.8), Rule(12, 0.85)
"""Where the camera is known; else UNKNOWN_CAMERA, for a set alone."""
UNKNOWN_CAMERA = Rule(24, 0.8)


class Tiles:
    """1 / value in the filled tiles of one size, mean 1 in each, and the plane in it. Unknown samples are 0."""

    def __init__(self, values: Values, u: Values, v: Values) -> None:
        self.known: Bool[np.ndarray, "tiles samples"] = values > 0
        self.count = self.known.sum(1, keepdims=True)
        self.u, self.v = u, v
        self._across, self._down = self._centred(u), self._centred(v)
        inverse = np.where(self.known, 1 / np.where(self.known, values, 1), 0)
        self.inverse: Values = inverse * self.count / inverse.sum(1, keepdims=True)

    def split(self, values: Values) -> tuple[Values, Values]:
        """The affine part of values, without its mean, and what it leaves."""
        values = self._centred(values)
        aa, bb, ab = (
            (one * two).sum(1)
            for one, two in ((self._across, self._across), (self._down, self._down), (self._across, self._down))
        )
        av, bv = (self._across * values).sum(1), (self._down * values).sum(1)
        whole = np.maximum(aa * bb - ab * ab, 1e-3 * aa * bb)
        plane = ((bb * av - ab * bv) / whole)[:, None] * self._across
        plane += ((aa * bv - ab * av) / whole)[:, None] * self._down
        return plane, values - plane

    def votes(self, bend: Values) -> Votes:
        """Tiles in which 1 / value is flat, and in which it bends as `bend` does."""
        _, left = self.split(self.inverse)
        _, bend = self.split(bend)
        energy = np.square(bend).sum(1) + 1e-30
        share = (left * bend).sum(1) / energy
        noise = np.square(left - share[:, None] * bend).sum(1) / (self.count[:, 0] - 4)
        sure = np.sqrt(energy) >= LEAST_SURE * np.maximum(np.sqrt(noise), FINEST)
        return int((sure & (np.abs(share) < 0.5)).sum()), int((sure & (np.abs(share - 1) < 0.5)).sum())

    def _centred(self, values: Values) -> Values:
        return (values - (values * self.known).sum(1, keepdims=True) / self.count) * self.known


def tiled(depth: DepthArray) -> Iterator[Tiles]:
    """The tiles of a map that are filled, size by size."""
    height, width = depth.shape
    filled = LEAST_FILLED * min(1.0, 2 * float((depth > 0).mean()))
    v, u = np.mgrid[:height, :width]
    for across in ACROSS:
        side = width // across
        if side < 8 or side > height:
            continue
        values, u_of, v_of = (_cut(map_, side).astype(np.float64) for map_ in (depth, u, v))
        known = (values > 0).sum(1)
        kept = known >= max(LEAST_POINTS, filled * values.shape[1])
        kept &= (np.diff(np.sort(values, axis=1), axis=1) > 0).sum(1) >= LEAST_LEVELS
        if kept.any():
            yield Tiles(values[kept], u_of[kept], v_of[kept])


def disparity_votes(depth: DepthArray) -> Votes:
    """Tiles for depth, and for disparity."""
    return _sum(tiles.votes(tiles.split(tiles.inverse)[0] ** 2) for tiles in tiled(depth))


def distance_votes(depth: DepthArray, cameras: Iterable[MatrixArray]) -> list[Votes]:
    """Tiles for depth, and for distance, by each camera."""
    every = list(tiled(depth))
    return [_sum(tiles.votes(-tiles.inverse * _obliquity(tiles, camera)) for tiles in every) for camera in cameras]


def look_for_disparity(captures: DepthSet, capture: Capture) -> Votes | None:
    """The capture's votes; a relative teacher's labels have an unknown shift, and tell nothing."""
    return None if captures.space == "disparity" else disparity_votes(capture.depth)


def judge_disparity(captures: DepthSet, seen: Seen) -> CheckResult:
    """A set that holds disparity, or some captures of it."""
    return _judged({name: votes for name, votes in seen.items() if votes}, DISPARITY, _disparity_line)


def look_for_distance(captures: DepthSet, capture: Capture) -> tuple[bool, list[Votes]] | None:
    """Whether the camera is known, and the votes by it or by each of FOCALS."""
    if captures.space == "disparity":
        return None
    if capture.intrinsics is not None:
        return True, distance_votes(capture.depth, [capture.intrinsics])
    height, width = capture.depth.shape
    guesses = [np.array([[f * width, 0, (width - 1) / 2], [0, f * width, (height - 1) / 2], [0, 0, 1]]) for f in FOCALS]
    return False, distance_votes(capture.depth, guesses)


def judge_distance(captures: DepthSet, seen: Seen) -> CheckResult:
    """A set that holds distance, or some captures of it; where cameras are unknown, by the focal length it fits."""
    known = {name: found[1][0] for name, found in seen.items() if found and found[0]}
    if known:
        return _judged(known, DISTANCE, _distance_line)
    by_focal = [{name: found[1][index] for name, found in seen.items() if found} for index in range(len(FOCALS))]
    best = max(by_focal, key=lambda votes: _sum(_few(votes))[1])
    answer = _judged(best, (UNKNOWN_CAMERA, Rule(10**9, 1)), _distance_line)
    return answer._replace(note=answer.note or "No intrinsics: cameras of 45 to 90 degrees were tried.")


def _disparity_line(which: str, votes: Votes) -> str:
    return (
        f"{which} disparity, not depth: in {votes[1]} of {sum(votes)} flat tiles the value itself is affine in the "
        "pixels, as disparity is of a plane, and its inverse is not; convert it, depth = focal length x baseline / "
        "disparity, or read relative disparity as pseudo-labels."
    )


def _distance_line(which: str, votes: Votes) -> str:
    return (
        f"{which} distance along the line of sight, not depth along the optical axis: {votes[1]} of {sum(votes)} flat "
        "tiles are planes only then; convert it with the intrinsics (sonde.geometry.distance_to_depth)."
    )


def _judged(votes: Mapping[str, Votes], rules: tuple[Rule, Rule], line: Callable[[str, Votes], str]) -> CheckResult:
    """One fault for a set most of whose captures have it, else one for each capture that surely has."""
    whole, one = rules
    telling = [name for name, (depth, other) in votes.items() if depth + other]
    leaning = [name for name in telling if votes[name][1] > votes[name][0]]
    total = _sum(_few(votes))
    if len(leaning) > len(telling) / 2 and whole.met(total):
        which = f"{leaning[0]} holds" if len(votes) == 1 else f"{len(leaning)} of {len(telling)} captures hold"
        return CheckResult([Fault(leaning[0] if len(votes) == 1 else "", line(which, total))], len(telling))
    own = [Fault(name, line(f"{name} holds", votes[name])) for name in leaning if one.met(votes[name])]
    short = f"Only {sum(total)} flat, slanted tiles; {whole.least} tell." if sum(total) < whole.least else ""
    return CheckResult(own, len(telling), short)


def _few(votes: Mapping[str, Votes]) -> Iterator[Votes]:
    for depth, other in votes.values():
        share = min(1.0, MOST_VOTES / max(depth + other, 1))
        yield round(depth * share), round(other * share)


def _sum(votes: Iterable[Votes]) -> Votes:
    every = list(votes)
    return sum(depth for depth, _ in every), sum(other for _, other in every)


def _obliquity(tiles: Tiles, camera: MatrixArray) -> Values:
    """Distance by depth, minus 1."""
    (fx, _, cx), (_, fy, cy) = camera[:2]
    return np.sqrt(1 + ((tiles.u - cx) / fx) ** 2 + ((tiles.v - cy) / fy) ** 2) - 1


def _cut(values: np.ndarray, side: int) -> np.ndarray:
    """(tiles, samples): square tiles, and at most SAMPLES rows and columns of each."""
    rows, columns, step = values.shape[0] // side, values.shape[1] // side, -(-side // SAMPLES)
    tiles = values[: rows * side, : columns * side].reshape(rows, side, columns, side)[:, ::step, :, ::step]
    return tiles.transpose(0, 2, 1, 3).reshape(rows * columns, -1)
