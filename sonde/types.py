"""The few types everything speaks: arrays, a prediction, and the space a prediction lives in.

Camera frame: x right, y down, z forward. Depth is the distance along z, in metres, everywhere inside the
program; a dataset's own unit (mm for Zivid) is restored on output. No torch is imported here: what writes and reads
files runs without it.
"""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, UInt8

from sonde.renamed import aliases

RGBArray = UInt8[np.ndarray, "h w 3"]
DepthArray = Float[np.ndarray, "h w"]
MaskArray = Bool[np.ndarray, "h w"]
XYZArray = Float[np.ndarray, "h w 3"]
MatrixArray = Float[np.ndarray, "3 3"]

Space = Literal["metric", "scale", "affine", "disparity"]
"""What a prediction claims: metres; depth up to a scale; depth up to scale and shift; inverse depth up to both."""
SPACES: tuple[str, ...] = get_args(Space)


class Prediction(NamedTuple):
    """What a model answers. From `DepthModel.forward` batched tensors, from `DepthModel.predict` (h, w) arrays."""

    depth: Any
    """The quantity `space` names; in `disparity` larger is nearer. (b, h, w) float32 or (h, w) float32."""
    space: Space
    intrinsics: Any = None
    """(b, 3, 3) or (3, 3), or None when unknown."""
    confidence: Any = None
    """In [0, 1], the depth's shape, or None when the model gives none."""


__getattr__ = aliases(
    __name__,
    {name: f"sonde.tensors.{name}" for name in ("Image", "Depth", "Mask", "PerImage", "Matrix")}
    | {"Sample": "sonde.tensors.Batch"},
)
