"""What evaluation reports. A metric maps (prediction, target, mask) to one float64 value per image: (b h w)³ → (b,).

Depths are metres; with p the prediction, g the target, e = ln p - ln g and means over trusted pixels:

    abs_rel   mean |p - g| / g        delta1, 2, 3   share of max(p/g, g/p) < 1.25, 1.25², 1.25³ (strictly)
    sq_rel    mean (p - g)² / g       delta105       share of max(p/g, g/p) < 1.05 (strictly)
    mae       mean |p - g|            log10          mean |log10 p - log10 g|
    rmse      √ mean (p - g)²         rmse_log       √ mean e²
    irmse     √ mean (1/p - 1/g)²     rmse_log10     √ mean (log10 p - log10 g)², Metric3D's rmse_log

The scale-invariant log error has four dialects, and a number without its dialect says nothing:

    silog             100 √(mean e² - (mean e)²)        BTS, ZoeDepth, Marigold, KITTI's benchmark
    silog_half        √(mean e² - ½ (mean e)²)          Depth Anything V2, GLPDepth, and `losses.silog`
    silog_unbiased    100 sample deviation of e         UniDepth
    silog_log10       deviation of log10 p - log10 g    Metric3D

`boundary_f1` is Depth Pro's. `ordinal` (DA-2K) and `temporal_alignment_error` (video) take other arguments and are in
no table of names. Alignment, crops and clamping come before; none happens here, but where a logarithm, a
ratio or an inverse needs a positive prediction, one below a micrometre counts as a micrometre. An image without
trusted pixels has no score: NaN. So has one whose prediction is NaN at a trusted pixel, except that a δ and
`boundary_f1` count it as a miss.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonde.align import split_blocks
from sonde.spelling import nearest
from sonde.tensors import Depth, Mask, Matrix, PerImage
from sonde.units import UNITS

Score = Callable[[Depth, Depth, Mask], PerImage]
Values = Float[Tensor, "b n"]
Points = Int[Tensor, "b n 2"]
"""(row, column) of n points in each image."""
Answers = Bool[Tensor, "b n"]
Poses = Float[Tensor, "n 4 4"]

BLOCK = 1 << 15
"""Pixels scored at a time: few enough to stay in the cache, and to bound memory whatever the image's size."""


class Pixels:
    """A block of pixels in float64. Where untrusted, both maps are 1: every term of a mean is then 0."""

    def __init__(self, pred: Tensor, target: Tensor, mask: Tensor) -> None:
        self.pred = torch.where(mask, pred.double(), 1.0)
        self.target = torch.where(mask, target.double(), 1.0)

    @cached_property
    def difference(self) -> Values:
        """p - g, metres."""
        return self.pred - self.target

    @cached_property
    def positive(self) -> Values:
        """p, at least a micrometre."""
        return self.pred.clamp_min(1e-6)

    @cached_property
    def ratio(self) -> Values:
        """p/g."""
        return self.positive / self.target

    @cached_property
    def log_ratio(self) -> Values:
        """ln p - ln g."""
        return self.ratio.log()

    @cached_property
    def worse_ratio(self) -> Values:
        """max(p/g, g/p)."""
        return self.ratio.maximum(self.target / self.positive)


Term = Callable[[Pixels], Tensor]


@dataclass(frozen=True)
class Pointwise:
    """A metric made of means over trusted pixels, so that many share one pass over the maps."""

    terms: tuple[Term, ...]
    """What is averaged; each is 0 where prediction and target agree."""
    finish: Callable[..., PerImage] = lambda count, mean: mean
    """(number of trusted pixels, mean of each term) → the metric."""

    def __call__(self, pred: Depth, target: Depth, mask: Mask) -> PerImage:
        """This metric alone."""
        return _pointwise(pred, target, mask, {"": self})[""]


@dataclass(frozen=True)
class Metric:
    """One row of METRICS: a score and the facts that tables and reports need of it. Call it like its function."""

    function: Score
    unit: Literal["", "m"] = ""
    """`m` for a length, which is reported in the unit of the set or the protocol; empty for a number without unit."""
    better: Literal["smaller", "larger"] = "smaller"
    heading: str = ""
    """Its heading in the table of scores, where it has a column there."""

    def __call__(self, pred: Depth, target: Depth, mask: Mask) -> PerImage:
        """This metric alone."""
        return self.function(pred, target, mask)


def metric(name: str) -> Metric:
    """The row of a name in METRICS; a plain function there is a metric without unit, better when smaller.

    Raises:
        ValueError: a name that is not in METRICS.
    """
    if name not in METRICS:
        raise ValueError(f"No metric {name!r}: {nearest(name, list(METRICS))}")
    found = METRICS[name]
    return found if isinstance(found, Metric) else Metric(found)


def column_of(name: str, unit: str) -> str:
    """What a metric is called in a row of scores: lengths bear their unit, `mae_mm`."""
    return f"{name}_{unit}" if metric(name).unit else name


def metric_of(column: str) -> str | None:
    """The metric of a column: of `mae_mm` it is `mae`; None where a column is no metric."""
    if column in METRICS:
        return column
    name, _, unit = column.rpartition("_")
    return name if unit in UNITS and name in METRICS and metric(name).unit else None


def is_better_larger(column: str) -> bool:
    """Whether more is better; for a column that is no metric, such as a loss, less is."""
    name = metric_of(column)
    return name is not None and metric(name).better == "larger"


def table_columns(unit: str, lengths: bool = True) -> dict[str, str]:
    """Heading -> column of the metrics that the table of scores shows, in its order.

    Args:
        unit: of the lengths, a key of UNITS.
        lengths: whether to show metrics that are lengths; they mean nothing for a relative model.
    """
    columns = {}
    for name in METRICS:
        about = metric(name)
        if about.heading and (lengths or not about.unit):
            heading = f"{about.heading} ({unit})" if about.unit else about.heading
            columns[heading] = column_of(name, unit)
    return columns


def score(pred: Depth, target: Depth, mask: Mask, names: Iterable[str] | None = None) -> dict[str, PerImage]:
    """The named metrics, or all of METRICS, in one pass over the maps: far cheaper than one by one.

    Raises:
        ValueError: a name that is not in METRICS.
    """
    chosen = {name: metric(name).function for name in (METRICS if names is None else names)}
    pointwise = {name: function for name, function in chosen.items() if isinstance(function, Pointwise)}
    scores = _pointwise(pred, target, mask, pointwise)
    return {name: scores[name] if name in scores else function(pred, target, mask) for name, function in chosen.items()}


def boundary_f1(pred: Depth, target: Depth, mask: Mask, least: float = 1.05, most: float = 1.25) -> PerImage:
    """F1 of occluding edges (Depth Pro, Bochkovskii et al., 2024), in [0, 1], larger is better.

    A pixel occludes its neighbour where it is more than t times nearer. For each t of ten from `least` to `most`,
    precision and recall are averaged over the four directions; their F1 is weighted by t. Only neighbours that
    are both trusted count, which for a full mask is the published formula. The published 1.05 to 1.25 are silhouettes;
    a groove of 8 mm seen from 0.8 m is a step of 1.01.
    """
    return torch.stack([_boundary_f1(*maps, least, most) for maps in zip(pred, target, mask, strict=True)])


def ordinal(pred: Depth, nearer: Points, farther: Points) -> Answers:
    """Whether the prediction of depth puts each nearer point before its farther one, strictly: a tie is wrong.

    Values are compared, and nothing is taken from the order of the pairs (DA-2K lists the nearer point always first).
    Of a disparity give the negative.
    """
    image = torch.arange(len(pred), device=pred.device)[:, None]
    near, far = (pred[image, points[..., 0], points[..., 1]] for points in (nearer, farther))
    return near < far


def temporal_alignment_error(pred: Depth, poses: Poses, intrinsics: Matrix, mask: Mask | None = None) -> float:
    """How far a video's depth disagrees with itself, in % (TAE of Video Depth Anything; Chen et al., 2025).

    Every frame is carried into the next and the next into it, by depth, pose and camera; 100 times the mean, over all
    these 2 (n - 1) carries, of AbsRel against the depth that is there. Where several points fall on one pixel the last
    in reading order stays, as in the published code. There a carry that meets nothing counts as 0, which flatters:
    here it is left out, and where none meets anything the answer is NaN.

    Args:
        pred: (n h w) depth of n frames, after whatever alignment.
        poses: (n 4 4), camera to world.
        intrinsics: (n 3 3), pixels.
        mask: where depth counts as the one arrived at; everywhere it is above 0 by default.
    """
    trusted = pred > 0 if mask is None else mask & (pred > 0)
    order = [(i + step, i + 1 - step) for i in range(len(pred) - 1) for step in (0, 1)]
    terms = [
        _carried(pred[a], pred[b], trusted[b], torch.linalg.inv(poses[b]) @ poses[a], intrinsics[a], intrinsics[b])
        for a, b in order
    ]
    return 100 * float(torch.stack(terms).nanmean()) if terms else float("nan")


def _carried(depth: Tensor, there: Tensor, mask: Tensor, move: Tensor, camera: Tensor, other: Tensor) -> Tensor:
    """AbsRel of one frame's depth, carried into another, against the other's; NaN where they do not meet."""
    height, width = depth.shape
    v, u = torch.meshgrid(torch.arange(height).to(depth), torch.arange(width).to(depth), indexing="ij")
    rays = torch.stack([(u - camera[0, 2]) / camera[0, 0], (v - camera[1, 2]) / camera[1, 1], torch.ones_like(u)])
    points = (move[:3, :3].to(depth) @ (rays * depth).flatten(1)).T + move[:3, 3].to(depth)
    points = points[points[:, 2] > 0]
    column = (points[:, 0] * other[0, 0] / points[:, 2] + other[0, 2]).round().long()
    row = (points[:, 1] * other[1, 1] / points[:, 2] + other[1, 2]).round().long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place, arrived = (row * width + column)[inside], points[inside, 2]
    last = torch.full((height * width,), -1, device=depth.device)
    last = last.scatter_reduce(0, place, torch.arange(len(place), device=depth.device), "amax")
    met = (last >= 0) & mask.flatten()
    return ((arrived[last[met]] - there.flatten()[met]).abs() / there.flatten()[met]).mean()


def _pointwise(pred: Depth, target: Depth, mask: Mask, metrics: dict[str, Pointwise]) -> dict[str, PerImage]:
    zeros = torch.zeros(len(pred), dtype=torch.float64, device=pred.device)
    terms = {term: zeros for each in metrics.values() for term in each.terms}
    for block in split_blocks(BLOCK, pred, target, mask):
        pixels = Pixels(*block)
        terms = {term: total + _sum(term(pixels)) for term, total in terms.items()}
    count = mask.sum((1, 2)).double()
    return {name: each.finish(count, *(terms[term] / count for term in each.terms)) for name, each in metrics.items()}


def _sum(values: Tensor) -> PerImage:
    whole = torch.int32 if values.dtype == torch.bool else None  # the default, int64, is six times slower
    return values.sum(1, dtype=whole).double()


def _boundary_f1(pred: Tensor, target: Tensor, mask: Tensor, least: float, most: float) -> Tensor:
    """One image's score, (h, w)³ → ()."""
    steps = torch.linspace(least, most, 10, dtype=torch.float64, device=pred.device)
    precise = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
    maps = [torch.where(mask, depth.to(precise), 1.0).clamp_min(1e-6) for depth in (pred, target)]
    precision = recall = torch.zeros_like(steps)
    for dim in (0, 1):
        both = _first(mask, dim) & _second(mask, dim)
        for near, far in ((_first, _second), (_second, _first)):
            found, true = (far(depth, dim) > (least - 1e-5) * near(depth, dim) for depth in maps)
            few = (both & (found | true)).nonzero(as_tuple=True)  # whose exact ratio matters; rounding loses none
            ratios = (far(depth, dim)[few].double() / near(depth, dim)[few] for depth in maps)
            found, true = (torch.bucketize(ratio.nan_to_num(0), steps) for ratio in ratios)
            hits = _passing(found.minimum(true))
            precision = precision + hits / _passing(found).clamp_min(1) / 4
            recall = recall + hits / _passing(true).clamp_min(1) / 4
    f1 = 2 * precision * recall / (precision + recall).clamp_min(1e-300)
    return torch.where(mask.any(), (f1 * steps).sum() / steps.sum(), torch.nan)


def _first(values: Tensor, dim: int) -> Tensor:
    return values.narrow(dim, 0, values.shape[dim] - 1)


def _second(values: Tensor, dim: int) -> Tensor:
    return values.narrow(dim, 1, values.shape[dim] - 1)


def _passing(levels: Tensor) -> Tensor:
    """How many pixels pass each of the ten thresholds, from the number that each pixel passes."""
    return torch.bincount(levels, minlength=11).flip(0).cumsum(0).flip(0)[1:].double()


def _absolute(x: Pixels) -> Values:
    return x.difference.abs()


def _relative(x: Pixels) -> Values:
    return x.difference.abs() / x.target


def _squared(x: Pixels) -> Values:
    return x.difference.square()


def _squared_relative(x: Pixels) -> Values:
    return x.difference.square() / x.target


def _inverse_squared(x: Pixels) -> Values:
    return (1 / x.positive - 1 / x.target).square()


def _log(x: Pixels) -> Values:
    return x.log_ratio


def _log_absolute(x: Pixels) -> Values:
    return x.log_ratio.abs()


def _log_squared(x: Pixels) -> Values:
    return x.log_ratio.square()


def _root(count: Tensor, mean: Tensor) -> PerImage:
    return mean.sqrt()


LN10 = 2.302585092994046


def _silog(scale: float, share: float = 1.0, unbiased: bool = False) -> Pointwise:
    """scale √(mean e² - share (mean e)²), with n - 1 in place of n where unbiased."""

    def finish(count: Tensor, mean: Tensor, mean_square: Tensor) -> PerImage:
        variance = (mean_square - share * mean.square()).clamp_min(0)
        return scale * (variance * count / (count - 1) if unbiased else variance).sqrt()

    return Pointwise((_log, _log_squared), finish)


def _delta(limit: float) -> Pointwise:
    """Share of pixels whose worse ratio is below the limit; misses are counted, since untrusted pixels are none."""

    def misses(x: Pixels) -> Tensor:
        return ~(x.worse_ratio < limit)  # NaN is a miss

    return Pointwise((misses,), lambda count, missed: 1 - missed)


METRICS: dict[str, Metric | Score] = {
    "mae": Metric(Pointwise((_absolute,)), "m", heading="MAE"),
    "abs_rel": Metric(Pointwise((_relative,)), heading="AbsRel"),
    "sq_rel": Metric(Pointwise((_squared_relative,)), "m"),
    "rmse": Metric(Pointwise((_squared,), _root), "m", heading="RMSE"),
    "rmse_log": Metric(Pointwise((_log_squared,), _root)),
    "rmse_log10": Metric(Pointwise((_log_squared,), lambda count, mean: mean.sqrt() / LN10)),
    "log10": Metric(Pointwise((_log_absolute,), lambda count, mean: mean / LN10)),
    "irmse": Metric(Pointwise((_inverse_squared,), _root)),
    "delta1": Metric(_delta(1.25), better="larger", heading="δ1"),
    "delta2": Metric(_delta(1.25**2), better="larger"),
    "delta3": Metric(_delta(1.25**3), better="larger"),
    "delta105": Metric(_delta(1.05), better="larger", heading="δ<1.05"),
    "silog": Metric(_silog(100.0)),
    "silog_half": Metric(_silog(1.0, share=0.5)),
    "silog_unbiased": Metric(_silog(100.0, unbiased=True)),
    "silog_log10": Metric(_silog(1 / LN10)),
    "boundary_f1": Metric(boundary_f1, better="larger"),
}
"""Name → metric, as a protocol's `metrics:` spells it. The table of scores has its columns in this order."""
