"""One prediction against one capture under a protocol: cut, resized, aligned, clamped, and every metric.

What a prediction claims (its space) decides what may be scored: a relative map under a metric protocol is an error.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sonde import metrics
from sonde.align import ALIGN, FITS, apply_fit, invert_disparity, masked_median
from sonde.datasets import Capture
from sonde.evaluation.columns import BY_RANGE
from sonde.maps import resize
from sonde.protocols import Protocol
from sonde.protocols.windows import CUTS, mask_outside
from sonde.spelling import quantify
from sonde.tensors import Depth, Mask
from sonde.types import DepthArray, Prediction, Space

ALIGNABLE: dict[Space, tuple[str, ...]] = {
    "metric": tuple(ALIGN),
    "scale": tuple(name for name in ALIGN if name != "none"),
    "affine": ("affine",),
    "disparity": ("disparity",),
}
"""The alignments that what a prediction claims allows."""


class Scored(NamedTuple):
    """What one prediction scored."""

    metrics: dict[str, float]
    """Lengths in the unit asked for."""
    depth: DepthArray
    """As scored, metres."""
    fitted: float | None
    """The scale of the alignment: below 0 where the prediction runs the other way. None: no scale was fitted."""
    ratio: float | None
    """median(truth) / median(prediction) over trusted pixels, 1 where the scale is right; None where not metric."""
    ranges: dict[str, dict[str, int | float]]
    """Range -> pixels and BY_RANGE; a range without a pixel is absent."""


def apply_protocol_view(capture: Capture, rules: Protocol) -> Capture:
    """What of a capture a protocol shows the model, with the mask it scores.

    Raises:
        ValueError: nothing to score is left, or the capture is not of the size that the protocol cuts.
    """
    if rules.window is not None and rules.window_of == "frame":
        capture = mask_outside(_whole(capture, rules), rules.window)
    if rules.cut is not None:
        capture = CUTS[rules.cut].capture(capture)
    if rules.window is not None and rules.window_of == "cut":
        capture = mask_outside(capture, rules.window)
    high = np.inf if rules.max_depth is None else rules.max_depth
    mask = capture.mask & (capture.depth > rules.min_depth) & (capture.depth < high)
    if not mask.any():
        raise ValueError(f"{capture.id} has no trusted depth between {rules.min_depth:g} and {high:g} m.")
    return capture._replace(mask=mask)


def crop_prediction(prediction: Prediction, capture: Capture, rules: Protocol, whole: bool = False) -> Prediction:
    """A prediction of the whole frame, cut as `apply_protocol_view` cuts the capture; one of the cut as it is.

    Its shape says which it is, at any scale; one of any shape is of the frame where `whole` says so.

    Raises:
        ValueError: it has the shape of neither, so that nobody knows what it shows.
    """
    if rules.cut is None:
        return prediction
    shape, frame = prediction.depth.shape, capture.depth.shape
    part = CUTS[rules.cut].capture(capture).depth.shape
    if not whole and shape != frame and _scaled(shape, part):
        return prediction
    if not whole and not _scaled(shape, frame):
        raise ValueError(
            f"The prediction for {capture.id} is {shape[1]}x{shape[0]}: expected the shape of the frame "
            f"({frame[1]}x{frame[0]}) or of its cut ({part[1]}x{part[0]}), at any scale; resize it to one of them."
        )
    values = torch.from_numpy(np.asarray(prediction.depth))[None].double()
    larger = at_size(values, frame, rules, keep_range=prediction.space == "disparity")[0].numpy()
    return prediction._replace(depth=CUTS[rules.cut].pixels(larger, capture.id))


def _scaled(shape: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Whether a map of (height, width) is `size` scaled evenly, but for a pixel's rounding."""
    (height, width), (rows, columns) = shape, size
    return abs(height - width * rows / columns) <= 1 or abs(width - height * columns / rows) <= 1


def score(
    prediction: Prediction, capture: Capture, rules: Protocol, unit_m: float = 1.0
) -> tuple[dict[str, float], DepthArray]:
    """Each metric of one prediction, lengths in units of `unit_m` metres; and the depth as scored, metres.

    Args:
        prediction: of what `capture` shows, at any size.
        capture: as `apply_protocol_view` gives it.
        rules: the protocol.
        unit_m: metres of the unit that lengths are wanted in.

    Raises:
        ValueError: the prediction's space is not the protocol's, or it has holes where depth is trusted.
    """
    scored = score_fully(prediction, capture, rules, unit_m)
    return scored.metrics, scored.depth


def score_fully(prediction: Prediction, capture: Capture, rules: Protocol, unit_m: float = 1.0) -> Scored:
    """As `score`, with the ratio of the medians and the errors by range."""
    check_space(prediction.space, rules)
    target, mask = torch.from_numpy(capture.depth)[None].double(), torch.from_numpy(capture.mask)[None]
    values = torch.from_numpy(np.asarray(prediction.depth))[None].double()
    values = at_size(values, capture.depth.shape, rules, keep_range=prediction.space == "disparity")
    holes = int((mask & ~values.isfinite()).sum())
    if holes:
        raise ValueError(
            f"The prediction for {capture.id} has no value at {holes} of {quantify(int(mask.sum()), 'trusted pixel')}: "
            "expected a dense map, since leaving pixels out would flatter its score."
        )
    ratio = scale_ratio(values, target, mask) if prediction.space == "metric" else None
    if rules.align == "disparity" and prediction.space != "disparity":
        values = _disparity(values, mask, capture.id)
    depth, fitted = _aligned(values, target, mask, rules)
    scores = _scores(depth, target, mask, rules.metrics, unit_m)
    ranges = {
        name: {"pixels": int(inside.sum()), **_scores(depth, target, inside, BY_RANGE, unit_m)}
        for name, (low, high) in rules.spans.items()
        if (inside := mask & (target >= low) & (target < high)).any()
    }
    return Scored(scores, depth[0].float().numpy(), fitted, ratio, ranges)


def scale_ratio(pred: Depth, target: Depth, mask: Mask) -> float | None:
    """median(target) / median(prediction) over one image's trusted pixels (Monodepth2's); None where it is not > 0."""
    middle = masked_median(pred, mask).item()
    return masked_median(target, mask).item() / middle if middle > 0 else None


def check_space(space: Space, rules: Protocol) -> None:
    """A prediction of this space may be scored so.

    Raises:
        ValueError: it may not; with the way out.
    """
    if rules.align in ALIGNABLE[space]:
        return
    base, fits = rules.name.partition("+")[0], ALIGNABLE[space]
    raise ValueError(
        f"Predictions in space {space!r} cannot be scored under {rules.name} with alignment {rules.align!r}: "
        "adapt the model to metric captures first (sonde train lora-few, or sonde calibrate with a few points), or ask "
        f"for a per-image fit with align={fits[0]!r}, reported as {base}+{fits[0]}."
    )


def at_size(values: Depth, size: tuple[int, ...], rules: Protocol, keep_range: bool = False) -> Float[Tensor, "b H W"]:
    """At (height, width), as the protocol resizes; bicubic overshoots, which must not turn a disparity negative."""
    if values.shape[-2:] == size:
        return values
    if rules.resize == "bicubic" and not rules.align_corners:
        larger = resize(values, (size[0], size[1]))
    else:
        corners = None if rules.resize == "nearest" else rules.align_corners
        mode = "nearest-exact" if rules.resize == "nearest" else rules.resize
        larger = F.interpolate(values[:, None], (size[0], size[1]), mode=mode, align_corners=corners)[:, 0]
    if not keep_range:
        return larger
    known = values[values.isfinite()]
    if not len(known):
        return larger
    return torch.where(larger.isfinite(), larger.clamp(known.min(), known.max()), larger)


def _whole(capture: Capture, rules: Protocol) -> Capture:
    """A frame that was cut when it was read has no window any more."""
    if rules.cut is not None and CUTS[rules.cut].capture(capture).depth.shape == capture.depth.shape:
        raise ValueError(
            f"{capture.id} is cut already, and {rules.name} scores a window of the whole frame: read the set as kitti."
        )
    return capture


def _aligned(values: Depth, target: Depth, mask: Mask, rules: Protocol) -> tuple[Depth, float | None]:
    """Depth after the protocol's fit and clamp, and the scale of the fit."""
    scale = None
    low, high = rules.clamp or (None, None)
    if rules.align in FITS:
        slope, shift = FITS[rules.align](*_thinned(rules.fit_side, values, target, mask))
        scale, values = slope.item(), apply_fit(values, slope, shift)
        depth = invert_disparity(values, target, mask, high) if rules.align == "disparity" else values
    else:
        depth = ALIGN[rules.align](values, target, mask)
    return depth if rules.clamp is None else depth.clamp(low, high), scale


def _thinned(side: int | None, *maps: Tensor) -> list[Tensor]:
    """Every n-th pixel of (b, h, w) maps, so that the longer side is `side`; n need not be whole (torch's nearest)."""
    longer = max(maps[0].shape[-2:])
    if side is None or longer <= side:
        return list(maps)
    rows, columns = (
        (torch.arange(int(length * side / longer)) * longer / side).long() for length in maps[0].shape[-2:]
    )
    return [values[:, rows[:, None], columns] for values in maps]


def _scores(depth: Depth, target: Depth, mask: Mask, names: Iterable[str], unit_m: float) -> dict[str, float]:
    found = {name: value.item() for name, value in metrics.score(depth, target, mask, names).items()}
    return {name: value / unit_m if metrics.metric(name).unit else value for name, value in found.items()}


def _disparity(depth: Depth, mask: Mask, id_: str) -> Depth:
    if bool((depth[mask] <= 0).any()):
        raise ValueError(f"The prediction for {id_} has depths at or below 0, which have no disparity.")
    return 1 / torch.where(depth > 0, depth, 1.0)
