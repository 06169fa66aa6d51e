"""Whether depth is really depth: flat surfaces distinguish it from disparity and from distance.

On a plane 1 / depth is affine in the pixels, for every camera. So an affine function is fitted to 1 / value in tiles of
four sizes, and the residual is compared with the residual that another quantity would leave:

- disparity is affine itself, so its inverse bends along its own slope: the residual is the square of the affine part;
- distance is depth times √(1 + x² + y²), so its inverse bends around the optical axis: it is 1 - √(1 + x² + y²).

The coefficient of that residual, by least squares in each tile, is 0 for depth and 1 for the other quantity. A tile
votes if noise cannot confuse the two. A curved surface gives any coefficient, and mostly no vote.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from sonde.checks.answers import CheckResult, Fault, SureFault
from sonde.datasets import Capture, DepthSet, PairSet
from sonde.renamed import keep_old_names
from sonde.types import DepthArray, MatrixArray

ACROSS = (20, 10, 5, 3)
"""Number of tiles across the width, for each size of tile."""
SAMPLES = 16
"""Largest number of rows and columns that are sampled in a tile."""
LEAST_FILLED, LEAST_POINTS = 0.7, 60
"""Smallest share and number of a tile's samples with depth; the share is lower for sparse maps."""
LEAST_SURE = 8.0
"""Standard errors between the two coefficients that a tile needs to vote."""
LEAST_LEVELS = 24
"""Distinct values that a tile needs: the steps of a map in whole millimetres bend in any way."""
FINEST = 1e-5
"""Smallest relative noise: no file is more accurate."""
MOST_VOTES = 20
"""Votes of one capture that count for the set at most, so that none dominates."""
FOCALS = (0.5, 0.6, 0.7, 0.85, 1.0, 1.2)
"""Focal lengths, relative to the width, that are tried for unknown cameras: fields of view from 90 to 45 degrees."""

Votes = tuple[int, int]
"""Number of tiles for depth, and for the fault."""
Values = Float[np.ndarray, "tiles samples"]


class Rule(NamedTuple):
    """When votes are enough for a fault."""

    least: int
    """Number of votes."""
    share: float
    """Share of them for the fault."""

    def is_met(self, votes: Votes) -> bool:
        """Whether the votes are enough, and enough of them are for the fault."""
        return sum(votes) >= self.least and votes[1] >= self.share * sum(votes)


DISPARITY = Rule(8, 0.75), Rule(20, 0.8)
"""Rules for a set and for one capture. In sound ones, real and rendered, at most a quarter voted for the fault."""
SURE_DISPARITY = Rule(30, 0.85)
"""Rule for a set of stated cameras that surely holds disparity."""
DISTANCE = Rule(6, 0.8), Rule(12, 0.85)
"""Rules for a set and for one capture with a known camera."""
UNKNOWN_CAMERA = Rule(24, 0.8)
"""Rule for a set of unknown cameras; single captures are not judged then."""


class DistanceVotes(NamedTuple):
    """The votes of one capture on distance."""

    camera_known: bool
    votes: list[Votes]
    """By the known camera, or by each of FOCALS."""


class DisparityVotes(NamedTuple):
    """The votes of one capture on disparity."""

    camera_stated: bool
    """Whether the set states a pinhole camera."""
    votes: Votes


class Tiles:
    """1 / value in the filled tiles of one size, scaled to mean 1 in each tile. Unknown samples are 0.

    Args:
        values: (tiles, samples), 0 where unknown.
        u: column of each sample, in pixels.
        v: row of each sample, in pixels.
    """

    def __init__(self, values: Values, u: Values, v: Values) -> None:
        self.known: Bool[np.ndarray, "tiles samples"] = values > 0
        self.count = self.known.sum(1, keepdims=True)
        self.u, self.v = u, v
        self._across, self._down = self._centre(u), self._centre(v)
        inverse = np.where(self.known, 1 / np.where(self.known, values, 1), 0)
        self.inverse: Values = inverse * self.count / inverse.sum(1, keepdims=True)

    def split(self, values: Values) -> tuple[Values, Values]:
        """The affine part of values in each tile, without the mean; and the residual."""
        values = self._centre(values)
        # The normal equations of values = p * across + q * down, solved in every tile at once.
        aa, bb = (self._across * self._across).sum(1), (self._down * self._down).sum(1)
        ab = (self._across * self._down).sum(1)
        av, bv = (self._across * values).sum(1), (self._down * values).sum(1)
        whole = np.maximum(aa * bb - ab * ab, 1e-3 * aa * bb)  # the determinant, bounded for samples on one line
        plane = ((bb * av - ab * bv) / whole)[:, None] * self._across
        plane += ((aa * bv - ab * av) / whole)[:, None] * self._down
        return plane, values - plane

    def vote(self, bend: Values) -> Votes:
        """The number of tiles in which 1 / value is flat, and in which it bends like `bend`."""
        _, left = self.split(self.inverse)
        _, bend = self.split(bend)
        energy = np.square(bend).sum(1) + 1e-30
        share = (left * bend).sum(1) / energy
        noise = np.square(left - share[:, None] * bend).sum(1) / (self.count[:, 0] - 4)
        sure = np.sqrt(energy) >= LEAST_SURE * np.maximum(np.sqrt(noise), FINEST)
        return int((sure & (np.abs(share) < 0.5)).sum()), int((sure & (np.abs(share - 1) < 0.5)).sum())

    def _centre(self, values: Values) -> Values:
        """Values minus their mean over the known samples of each tile; 0 where unknown."""
        return (values - (values * self.known).sum(1, keepdims=True) / self.count) * self.known


def cut_tiles(depth: DepthArray) -> Iterator[Tiles]:
    """The filled tiles of a map, size by size."""
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


def vote_on_disparity(depth: DepthArray) -> Votes:
    """The number of tiles for depth, and for disparity."""
    return _add_votes(tiles.vote(tiles.split(tiles.inverse)[0] ** 2) for tiles in cut_tiles(depth))


def vote_on_distance(depth: DepthArray, cameras: Iterable[MatrixArray]) -> list[Votes]:
    """The number of tiles for depth, and for distance, by each camera."""
    every = list(cut_tiles(depth))
    found = []
    for camera in cameras:
        bends = [-tiles.inverse * _measure_obliquity(tiles, camera) for tiles in every]
        found.append(_add_votes(tiles.vote(bend) for tiles, bend in zip(every, bends, strict=True)))
    return found


def look_for_disparity(captures: DepthSet, capture: Capture) -> Votes | None:
    """The votes of a capture; None for labels of a relative teacher, whose shift is unknown."""
    return None if captures.space == "disparity" else vote_on_disparity(capture.depth)


def judge_disparity(captures: DepthSet, seen: Mapping[str, Votes | None]) -> CheckResult:
    """A fault if the set holds disparity, or one for each capture that does."""
    return _judge({name: votes for name, votes in seen.items() if votes}, DISPARITY, _explain_disparity)


def look_for_sure_disparity(captures: DepthSet, capture: Capture) -> DisparityVotes | None:
    """As `look_for_disparity`, for `judge_sure_disparity`."""
    votes = look_for_disparity(captures, capture)
    # The camera of a cloud is fitted, and a height map of parallel rays fits nearly too.
    stated = capture.intrinsics is not None and not (isinstance(captures, PairSet) and captures.layout == "zivid")
    return votes and DisparityVotes(stated, votes)


def judge_sure_disparity(captures: DepthSet, seen: Mapping[str, DisparityVotes | None]) -> CheckResult:
    """As `judge_disparity`; sure where most cameras are stated: a camera of parallel rays sees planes as disparity."""
    voted = {name: found for name, found in seen.items() if found is not None}
    result = judge_disparity(captures, {name: found.votes for name, found in voted.items()})
    stated = {name: found.votes for name, found in voted.items() if found.camera_stated}
    if 2 * len(stated) <= len(voted) or not SURE_DISPARITY.is_met(_add_votes(_limit_votes(stated))):
        return result
    return result._replace(faults=[SureFault(*fault) for fault in result.faults])


def look_for_distance(captures: DepthSet, capture: Capture) -> DistanceVotes | None:
    """The votes of a capture; None for labels of a relative teacher."""
    if captures.space == "disparity":
        return None
    if capture.intrinsics is not None:
        return DistanceVotes(True, vote_on_distance(capture.depth, [capture.intrinsics]))
    height, width = capture.depth.shape
    guesses = [np.array([[f * width, 0, (width - 1) / 2], [0, f * width, (height - 1) / 2], [0, 0, 1]]) for f in FOCALS]
    return DistanceVotes(False, vote_on_distance(capture.depth, guesses))


def judge_distance(captures: DepthSet, seen: Mapping[str, DistanceVotes | None]) -> CheckResult:
    """A fault if the set holds distance, or one for each capture that does; unknown cameras take the best focal."""
    voted = {name: found for name, found in seen.items() if found is not None}
    known = {name: found.votes[0] for name, found in voted.items() if found.camera_known}
    if known:
        return _judge(known, DISTANCE, _explain_distance)
    by_focal = [{name: found.votes[index] for name, found in voted.items()} for index in range(len(FOCALS))]
    best = max(by_focal, key=lambda votes: _add_votes(_limit_votes(votes))[1])
    never = Rule(10**9, 1)  # one capture of an unknown camera proves nothing
    answer = _judge(best, (UNKNOWN_CAMERA, never), _explain_distance)
    return answer._replace(note=answer.note or "No intrinsics: fields of view from 45 to 90 degrees were tried.")


def _explain_disparity(which: str, votes: Votes) -> str:
    return (
        f"{which} disparity, not depth: in {votes[1]} of {sum(votes)} flat areas the value itself is affine in the "
        "pixels, as the disparity of a plane is, and its inverse is not; convert it, depth = focal length x baseline / "
        "disparity, or read relative disparity as pseudo-labels."
    )


def _explain_distance(which: str, votes: Votes) -> str:
    return (
        f"{which} distance along the line of sight, not depth along the optical axis: {votes[1]} of {sum(votes)} flat "
        "areas are planes only as distance; convert it with the intrinsics (sonde.geometry.distance_to_depth)."
    )


def _judge(votes: Mapping[str, Votes], rules: tuple[Rule, Rule], line: Callable[[str, Votes], str]) -> CheckResult:
    """One fault if most captures of the set have it, else one for each capture that clearly has it."""
    whole, one = rules
    telling = [name for name, (depth, other) in votes.items() if depth + other]
    leaning = [name for name in telling if votes[name][1] > votes[name][0]]
    total = _add_votes(_limit_votes(votes))
    if len(leaning) > len(telling) / 2 and whole.is_met(total):
        which = f"{leaning[0]} holds" if len(votes) == 1 else f"{len(leaning)} of {len(telling)} captures hold"
        return CheckResult([Fault(leaning[0] if len(votes) == 1 else "", line(which, total))], len(telling))
    own = [Fault(name, line(f"{name} holds", votes[name])) for name in leaning if one.is_met(votes[name])]
    note = f"Only {sum(total)} usable flat areas; this check needs {whole.least}." if sum(total) < whole.least else ""
    return CheckResult(own, len(telling), note)


def _limit_votes(votes: Mapping[str, Votes]) -> Iterator[Votes]:
    """The votes of every capture, scaled down to MOST_VOTES."""
    for depth, other in votes.values():
        share = min(1.0, MOST_VOTES / max(depth + other, 1))
        yield round(depth * share), round(other * share)


def _add_votes(votes: Iterable[Votes]) -> Votes:
    every = list(votes)
    return sum(depth for depth, _ in every), sum(other for _, other in every)


def _measure_obliquity(tiles: Tiles, camera: MatrixArray) -> Values:
    """Distance divided by depth, minus 1."""
    (fx, _, cx), (_, fy, cy) = camera[:2]
    return np.sqrt(1 + ((tiles.u - cx) / fx) ** 2 + ((tiles.v - cy) / fy) ** 2) - 1


def _cut(values: np.ndarray, side: int) -> np.ndarray:
    """Square tiles, (tiles, samples), with at most SAMPLES rows and columns of each."""
    rows, columns, step = values.shape[0] // side, values.shape[1] // side, -(-side // SAMPLES)
    tiles = values[: rows * side, : columns * side].reshape(rows, side, columns, side)[:, ::step, :, ::step]
    return tiles.transpose(0, 2, 1, 3).reshape(rows * columns, -1)


keep_old_names(
    __name__, {"disparity_votes": "vote_on_disparity", "distance_votes": "vote_on_distance", "tiled": "cut_tiles"}
)
