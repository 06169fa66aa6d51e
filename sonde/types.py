"""The few types everything speaks: a sample, a prediction, and the space a prediction lives in.

Camera frame: x right, y down, z forward. Depth is the distance along z, in metres, everywhere inside the
program; a dataset's own unit (mm for Zivid) is restored on output. Tensors are (batch, height, width).
"""

from typing import Any, Literal, NamedTuple, NotRequired, TypedDict, get_args

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

Image = Float[Tensor, "b 3 h w"]
"""RGB in [0, 1]."""
Depth = Float[Tensor, "b h w"]
"""Metres, or whatever quantity the surrounding contract names."""
Mask = Bool[Tensor, "b h w"]
"""True where ground truth is trusted."""
PerImage = Float[Tensor, " b"]
"""One value per image: no weight, no mean over the batch."""
Matrix = Float[Tensor, "b 3 3"]
"""Pinhole intrinsics in pixels; the centre of the top-left pixel is (0, 0)."""

RGBArray = UInt8[np.ndarray, "h w 3"]
DepthArray = Float[np.ndarray, "h w"]
MaskArray = Bool[np.ndarray, "h w"]
XYZArray = Float[np.ndarray, "h w 3"]
MatrixArray = Float[np.ndarray, "3 3"]

Space = Literal["metric", "scale", "affine", "disparity"]
"""What a prediction claims: metres; depth up to a scale; depth up to scale and shift; inverse depth up to both."""
SPACES: tuple[str, ...] = get_args(Space)


class Sample(TypedDict):
    """A batch for training: a plain dict, since the trainer's device moves refuse a NamedTuple."""

    image: Image
    depth: Depth
    """Metres; its size may differ from the image's."""
    mask: Mask
    intrinsics: NotRequired[Matrix]
    """For the depth map's pixels."""
    cut: NotRequired[Float[Tensor, "b 4"]]
    """For CutMix: top, left, bottom and right of a rectangle, as shares of height and width; empty: none."""
    origin: NotRequired[Int64[Tensor, "b 2"]]
    """Epoch, and position of the capture in its set: with the recipe's seed, all that a sample is a function of."""


class Prediction(NamedTuple):
    """What a model answers. From `DepthModel.forward` batched tensors, from `DepthModel.predict` (h, w) arrays."""

    depth: Any
    """The quantity `space` names; in `disparity` larger is nearer. (b, h, w) float32 or (h, w) float32."""
    space: Space
    intrinsics: Any = None
    """(b, 3, 3) or (3, 3), or None when unknown."""
    confidence: Any = None
    """In [0, 1], the depth's shape, or None when the model gives none."""
