"""The few types that all modules share: arrays, a prediction, and the space of a prediction.

Camera frame: x right, y down, z forward. Depth is the distance along z, in metres, everywhere inside the
program; a dataset's own unit (mm for Zivid) is restored on output. No torch is imported here, so that files are read
and written without it.
"""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, UInt8

from sonde.renamed import keep_old_names

RGBArray = UInt8[np.ndarray, "h w 3"]
DepthArray = Float[np.ndarray, "h w"]
MaskArray = Bool[np.ndarray, "h w"]
XYZArray = Float[np.ndarray, "h w 3"]
MatrixArray = Float[np.ndarray, "3 3"]

Space = Literal["metric", "scale", "affine", "disparity"]
"""What a prediction claims: metres; depth up to a scale; depth up to scale and shift; inverse depth up to both."""
SPACES: tuple[str, ...] = get_args(Space)


class Prediction(NamedTuple):
    """The output of a model: batched tensors from `DepthModel.forward`, (h, w) arrays from `DepthModel.predict`."""

    # Any: tensors in one case and arrays in the other. A generic NamedTuple would say it, but beartype, which checks
    # types in the tests, does not support one.
    depth: Any
    """The quantity that `space` names, (b, h, w) or (h, w) float32; in `disparity` larger is nearer."""
    space: Space
    intrinsics: Any = None
    """(b, 3, 3) or (3, 3) in pixels; None if unknown."""
    confidence: Any = None
    """In [0, 1], the depth's shape; None if the model gives none."""


keep_old_names(
    __name__,
    {name: f"sonde.tensors.{name}" for name in ("Image", "Depth", "Mask", "PerImage", "Matrix")}
    | {"Sample": "sonde.tensors.Batch"},
)
