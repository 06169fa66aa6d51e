"""Types of the tensors that losses, metrics and networks exchange, and of a training batch.

Tensors are (batch, height, width). Array types, which need no torch, are in `sonde.types`.
"""

from typing import NotRequired, TypedDict

from jaxtyping import Bool, Float, Int64
from torch import Tensor

Image = Float[Tensor, "b 3 h w"]
"""RGB in [0, 1]."""
Depth = Float[Tensor, "b h w"]
"""Metres, or the quantity that the function's own documentation names."""
Mask = Bool[Tensor, "b h w"]
"""True where ground truth is trusted."""
PerImage = Float[Tensor, " b"]
"""One value per image, without weights and not averaged over the batch."""
Matrix = Float[Tensor, "b 3 3"]
"""Pinhole intrinsics in pixels; the centre of the top-left pixel is (0, 0)."""


class Batch(TypedDict):
    """A training batch: a plain dict, because the trainer cannot move a NamedTuple to a device."""

    image: Image
    depth: Depth
    """Metres; its size may differ from the image's."""
    mask: Mask
    intrinsics: NotRequired[Matrix]
    """For the depth map's pixels."""
    cut: NotRequired[Float[Tensor, "b 4"]]
    """For CutMix: top, left, bottom and right of a rectangle, as shares of height and width; none if empty."""
    origin: NotRequired[Int64[Tensor, "b 2"]]
    """Epoch, and position of the capture in its set; with the recipe's seed they determine the sample completely."""
