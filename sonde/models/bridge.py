"""An exported file behind the interface of a `DepthModel`, for what works on tensors around the network: labelling."""

from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sonde.models.described import DescribedModel
from sonde.models.exported import ExportedModel
from sonde.models.network import DepthModel, DepthOutput


class FileNetwork(nn.Module):
    """The network of an exported file as a torch module without weights."""

    def __init__(self, exported: ExportedModel):
        super().__init__()
        self.exported = exported
        self.config = SimpleNamespace(model_type="exported", max_depth=exported.config_end)
        """What sonde reads of a network's config."""

    def forward(self, pixel_values: Float[Tensor, "b 3 h w"]) -> SimpleNamespace:
        """The answer (b, H, W), times `spec.scale`, as `predicted_depth`.

        Raises:
            ValueError: a size that the file was not made for.
        """
        pixels = np.ascontiguousarray(pixel_values.cpu().numpy())
        return SimpleNamespace(predicted_depth=torch.from_numpy(self.exported.run(pixels)).to(pixel_values.device))


class BridgedModel(DepthModel):
    """An exported file as a `DepthModel`: its tensors are on the CPU, and its network runs where `placement` says."""

    def __init__(self, exported: ExportedModel):
        super().__init__(FileNetwork(exported), exported.spec, exported.name)
        self.exported = exported
        self.calibration, self.background = exported.calibration, exported.background
        self.placement = exported.placement
        self.eval()

    @property
    def parameter_count(self) -> int:
        """The number of the exported network's weights."""
        return self.exported.parameter_count

    @property
    def size(self) -> tuple[int, int] | None:
        """The only (height, width) that the network takes; None: any multiple of `spec.multiple`."""
        made = self.exported.document["size"]
        return None if made is None else (made[0], made[1])

    def hash(self) -> str:
        """`ExportedModel.hash`."""
        return self.exported.hash()

    def identify(self) -> str:
        """`ExportedModel.identify`."""
        return self.exported.identify()

    def read(self, outputs: DepthOutput, width: int) -> Float[Tensor, "b H W"]:
        """The answer as it is: the file holds what an architecture does to it, and `ExportedModel.run` scales it."""
        return outputs.predicted_depth

    def cast(self) -> AbstractContextManager[object]:
        """A context that changes nothing: the file says what its network computes in."""
        return nullcontext()


def as_network(model: DescribedModel) -> DepthModel:
    """A model as a torch module: a `DepthModel` itself, an exported file by a bridge.

    The bridge runs the file's network; it has no gradients, and it cannot be moved or saved.
    """
    if isinstance(model, DepthModel):
        return model
    assert isinstance(model, ExportedModel)
    return BridgedModel(model)


def check_image_size(model: DepthModel, height: int, width: int) -> None:
    """Refuse an image that a model cannot see, by its size alone.

    Raises:
        ValueError: an image too elongated to be resized, or one whose pixels an exported file was not made for.
    """
    size = model.spec.network_size(height, width)
    if isinstance(model, BridgedModel) and model.size not in (None, size):
        made = model.size or size
        raise ValueError(
            f"The image is {width}x{height}, and {model.name} was made for inputs of {made[1]}x{made[0]}: export the "
            "model without --size."
        )
