"""What a network learns to answer for a depth: an encoding of depth itself, or of what differs from a bench."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sonde.background import Background
from sonde.encoding import ENCODINGS, Encoding
from sonde.types import DepthArray

QUANTILE, ROOM = 0.999, 1.5
"""The range of a difference from the bench: of nearly all trusted pixels', and room for taller objects."""


class Aim(NamedTuple):
    """The values in [0, 1] that stand for depth."""

    encoding: Encoding
    background: Background | None = None

    def values(self, depth: DepthArray) -> Float[np.ndarray, "h w"]:
        """What to answer for metres; anything where depth is 0, untrusted."""
        flat = depth if self.background is None else self.background.flattened(depth)
        return self.encoding.encode(np.where(flat > 0, flat, self.encoding.max_depth).astype(np.float32))

    def depth(self, values: Float[np.ndarray, "h w"]) -> DepthArray:
        """Metres that values stand for."""
        depth = self.encoding.decode(values)
        if self.background is None:
            return depth
        return depth + (self.background.depth_at(depth.shape) - self.background.reference)


def aim_at(depths: Iterable[DepthArray], encoding: str, background: Background | None = None) -> Aim:
    """The aim of training captures, whose depth is read one at a time.

    Args:
        depths: their depth, metres, 0 where untrusted.
        encoding: of depth itself, by name, where there is no bench.
        background: the bench, from which differences to both sides are then linear and none is 1/2.
    """
    trusted = (depth[depth > 0] if background is None else _differences(depth, background) for depth in depths)
    if background is None:
        ends = [(float(values.min()), float(values.max())) for values in trusted if values.size]
        return Aim(ENCODINGS[encoding](min(low for low, _ in ends), max(high for _, high in ends)))
    reference = background.reference
    most = max((float(np.quantile(values, QUANTILE)) for values in trusted if values.size), default=0.0)
    span = min(ROOM * max(most, reference / 100), 0.99 * reference)
    return Aim(ENCODINGS["linear"](reference - span, reference + span), background)


def _differences(depth: DepthArray, background: Background) -> Float[np.ndarray, " n"]:
    return np.abs(background.flattened(depth) - background.reference)[depth > 0]
