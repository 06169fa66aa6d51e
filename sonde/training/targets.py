"""What a network learns to predict for a depth: the encoded depth, or the encoded difference from a bench."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sonde.background import Background
from sonde.encoding import ENCODINGS, Encoding
from sonde.types import DepthArray

QUANTILE, MARGIN = 0.999, 1.5
"""The range of differences from the bench: this quantile over the trusted pixels, times a margin for taller objects."""


class DepthTarget(NamedTuple):
    """The values in [0, 1] that stand for depth."""

    encoding: Encoding
    background: Background | None = None

    def encode(self, depth: DepthArray) -> Float[np.ndarray, "h w"]:
        """The values to predict for a depth map in metres; arbitrary where depth is 0, untrusted."""
        flat = depth if self.background is None else self.background.flatten(depth)
        # Untrusted depth is replaced before the encoding, which divides or takes logarithms.
        return self.encoding.encode(np.where(flat > 0, flat, self.encoding.max_depth).astype(np.float32))

    def decode(self, values: Float[np.ndarray, "h w"]) -> DepthArray:
        """The depth in metres that these values stand for."""
        depth = self.encoding.decode(values)
        if self.background is None:
            return depth
        return depth + (self.background.depth_at(depth.shape) - self.background.reference)


def make_target(depths: Iterable[DepthArray], encoding: str, background: Background | None = None) -> DepthTarget:
    """The target whose range covers the training captures. Reads one depth map at a time.

    Args:
        depths: depth of the captures, metres, 0 where untrusted.
        encoding: a name in ENCODINGS, for depth without a bench.
        background: the bench. The encoding is then linear and symmetric: no difference is 1/2.
    """
    if background is None:
        trusted = (depth[depth > 0] for depth in depths)
        ends = [(float(values.min()), float(values.max())) for values in trusted if values.size]
        return DepthTarget(ENCODINGS[encoding](min(low for low, _ in ends), max(high for _, high in ends)))
    differences = (_measure_differences(depth, background) for depth in depths)
    largest = max((float(np.quantile(values, QUANTILE)) for values in differences if values.size), default=0.0)
    reference = background.reference
    # At least 1 % of the bench's depth, so that an empty bench has a range; less than its depth, so that no depth is
    # negative.
    span = min(MARGIN * max(largest, reference / 100), 0.99 * reference)
    return DepthTarget(ENCODINGS["linear"](reference - span, reference + span), background)


def _measure_differences(depth: DepthArray, background: Background) -> Float[np.ndarray, " n"]:
    """|depth - bench| of the trusted pixels, metres."""
    return np.abs(background.flatten(depth) - background.reference)[depth > 0]
