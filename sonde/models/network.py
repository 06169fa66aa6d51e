"""A depth network with its own preprocessing, and how each architecture's numbers are read."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import DepthAnythingForDepthEstimation, PreTrainedConfig, PreTrainedModel

from sonde.adapters import find_base
from sonde.background import Background
from sonde.models.calibration import Calibration
from sonde.models.described import DescribedModel, Maps, Pixels, explain_not_finite
from sonde.models.hashing import fingerprint, hash_weights
from sonde.models.placement import Placement
from sonde.models.spec import HALF, IMAGENET, PLAIN, ModelSpec, spec_from_json
from sonde.renamed import warn_once
from sonde.spelling import shorten
from sonde.tensors import Batch, Depth, Image
from sonde.types import MatrixArray, Prediction

Camera = Float[Tensor, "*b 3 3"]
"""Pinhole intrinsics in pixels: one matrix, or one for each image."""


@runtime_checkable
class DepthOutput(Protocol):
    """What a depth network returns: transformers' `DepthEstimatorOutput`, or anything alike."""

    predicted_depth: Tensor
    """(b, H, W) in the network's own quantity."""


@runtime_checkable
class FieldOfViewOutput(DepthOutput, Protocol):
    """Depth Pro's output."""

    field_of_view: Tensor | None
    """(b,) degrees, horizontal; None where the config switches it off."""


class Family(NamedTuple):
    """How one transformers architecture is read."""

    spec: ModelSpec
    head: tuple[str, ...]
    """The modules of the depth head, for training it beside adapters."""
    last: str
    """The last convolution, into which the closed-form start folds an affine map; empty for an ensemble, whose networks
    are drawn and trained one at a time."""
    encoder: str
    """The module that turns pixels into features."""
    sigmoid: bool = False
    """Whether a sigmoid follows it (else a ReLU)."""
    read: Callable[[DepthOutput, int], Depth] = lambda outputs, width: outputs.predicted_depth
    """(outputs, width of the image in pixels) → the quantity that the space names."""

    @property
    def ends_in_head(self) -> bool:
        """Whether the last convolution is part of the head, and so saved with an adapter."""
        return any(f"{self.last}.".startswith(f"{name}.") for name in self.head)


class DepthModel(nn.Module, DescribedModel):
    """A depth network with its own preprocessing: RGB in [0, 1] at any size in, a `Prediction` at that size out."""

    # A transformers model or PEFT's wrapper around one. Both resolve attributes at run time, which no type describes.
    network: Any
    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, spec: ModelSpec, name: str):
        super().__init__()
        self.network = network
        self.spec = spec
        self.name = name
        self.calibration: Calibration | None = None
        self.background: Background | None = None
        self.placement = Placement()
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    @property
    def meaning(self) -> ModelSpec:
        """The former name of `spec`."""
        warn_once("DepthModel.meaning", "DepthModel.spec")
        return self.spec

    @property
    def config_end(self) -> float | int | None:
        """Where the network's own config says that its output ends, before `spec.scale`; None where it does not."""
        return getattr(self.network.config, "max_depth", None)  # only some configs of transformers have one

    @property
    def parameter_count(self) -> int:
        """The number of the network's weights."""
        return sum(parameter.numel() for parameter in self.parameters())

    def hash(self) -> str:
        """`hash_weights` of the network."""
        return hash_weights(self.network)

    def identify(self) -> str:
        """`fingerprint` of the network."""
        return fingerprint(self.network)

    @property
    def family(self) -> Family:
        """How this network's architecture is read."""
        return FAMILIES[self.network.config.model_type]

    @property
    def sigmoid(self) -> bool:
        """Whether a sigmoid follows the last layer: in some families always, in Depth Anything if it is metric."""
        return self.family.sigmoid or getattr(self.network.config, "depth_estimation_type", None) == "metric"

    def prepare(self, rgb: Image, size: tuple[int, int] | None = None) -> Float[Tensor, "b 3 H W"]:
        """The network's input: resized (bicubic, antialiased) or padded, and standardised.

        `size` (height, width) replaces the size that the network usually sees; its sides are multiples that it takes.
        """
        height, width = rgb.shape[-2:]
        size = size or self.spec.network_size(height, width)
        if size != (height, width) and self.spec.pads:
            # Right and below, so that intrinsics stay valid; by the edge, since mirroring fails on small images.
            rgb = functional.pad(rgb, (0, size[1] - width, 0, size[0] - height), mode="replicate")
        elif size != (height, width):
            rgb = functional.interpolate(rgb, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        return (rgb - self.mean) / self.std

    def read(self, outputs: DepthOutput, width: int) -> Float[Tensor, "b H W"]:
        """Raw network output (b, H, W) before resizing, for an image of this width; padding not yet removed."""
        return self.family.read(outputs, width).float() * self.spec.scale

    def forward_raw(self, network: nn.Module, rgb: Image) -> Float[Tensor, "b H W"]:
        """Raw output at the network's input size, padding removed; `network` is this model's or a wrapper of it."""
        pixels = self.prepare(rgb)
        with self.cast():
            outputs = network(pixel_values=pixels)
        raw = self.read(outputs, rgb.shape[-1])
        return self._remove_padding(raw, rgb.shape[-2], rgb.shape[-1]) if self.spec.pads else raw

    def _remove_padding(self, raw: Depth, height: int, width: int) -> Float[Tensor, "b H W"]:
        """The part of raw output that shows the image; a network may answer at another size than its input's."""
        size = self.spec.network_size(height, width)
        if raw.shape[-2:] not in ((height, width), size):
            raw = _resize(raw, *size)
        return raw[..., :height, :width]

    def forward(self, rgb: Image, intrinsics: Camera | None = None) -> Prediction:
        """Depth at the image's size: metres in space `metric`, larger is nearer in `disparity`.

        Args:
            rgb: images in [0, 1].
            intrinsics: for the images' pixels, one matrix or one per image; required by a canonical focal length.

        Raises:
            ValueError: the model has a canonical focal length, and intrinsics are missing.
        """
        return self.postprocess(self.forward_raw(self.network, rgb), rgb.shape[-2], rgb.shape[-1], intrinsics)

    def focal_scale(self, intrinsics: Camera | None, width: int, seen: int) -> Tensor | float:
        """f / canonical_focal of each image (b, 1, 1): the factor from the canonical camera's depth to the image's.

        Args:
            intrinsics: for any map of the image's view; only fx is used.
            width: width of that map, in pixels.
            seen: width of the image in the network's input, in pixels.

        Raises:
            ValueError: the model has a canonical focal length, and intrinsics are missing or not finite.
        """
        canonical = self.spec.canonical_focal
        if canonical is None:
            return 1.0
        if intrinsics is None or not bool(intrinsics.isfinite().all()):
            raise ValueError(self.camera_wanted)
        return intrinsics[..., :1, :1].reshape(-1, 1, 1).to(self.mean) * (seen / width / canonical)

    def focal_scale_of(self, batch: Batch) -> Tensor | float:
        """`focal_scale` for a batch, whose intrinsics are for the pixels of its depth maps."""
        height, width = batch["image"].shape[-2:]
        return self.focal_scale(
            batch.get("intrinsics"), batch["depth"].shape[-1], self.spec.image_size(height, width)[1]
        )

    def postprocess(self, raw: Depth, height: int, width: int, intrinsics: Camera | None = None) -> Prediction:
        """Turn raw output, padded or not, into a prediction: resize, decode, scale by focal length, calibrate.

        Args:
            raw: as `forward_raw` or `read` returns it.
            height: of the image, in pixels.
            width: of the image, in pixels.
            intrinsics: as in `forward`.

        Raises:
            ValueError: the model belongs to a fixed camera, and the image has another aspect than that camera.
        """
        if self.spec.pads:
            raw = self._remove_padding(raw, height, width)
        focal_scale = self.focal_scale(intrinsics, width, raw.shape[-1])
        if raw.shape[-2:] != (height, width):
            raw = _resize(raw, height, width)
        encoding = self.encoding
        depth = raw if encoding is None else encoding.decode(raw)
        depth = depth * focal_scale
        if self.spec.background is not None:
            assert self.background is not None
            bench = torch.from_numpy(self.background.depth_at((height, width))).to(depth)
            depth = depth + (bench - self.spec.background)
        if self.calibration is not None:
            depth = self.calibration.apply(depth)
        return Prediction(depth.float(), self.space, intrinsics)

    def place(self, device: str, precision: str) -> None:
        """Move the network to a device and let it answer in a precision; what surrounds it stays float32.

        Args:
            device: as torch names it.
            precision: a name in PRECISIONS.
        """
        self.placement = Placement(device, precision)
        self.to(device)
        if device.startswith("cuda"):
            # Convolutions are fastest so; and without TF32 the numbers are those of a CPU, within rounding.
            self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            torch.backends.cudnn.allow_tf32 = False

    def cast(self) -> AbstractContextManager[object]:
        """A context in which the network computes in the precision of `place`."""
        device, precision, _ = self.placement
        return nullcontext() if precision == "fp32" else torch.autocast(device.partition(":")[0], DTYPES[precision])

    @torch.inference_mode()
    def answer(self, pixels: Pixels, camera: MatrixArray | None = None) -> Maps:
        """Depth (b, h, w) float32 of images of one size; see `DescribedModel.answer`."""
        training, device = self.training, self.mean.device
        self.eval()
        try:
            with _watching_memory():
                images = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
                if device.type == "cuda":
                    images = images.pin_memory()
                images = images.to(device, non_blocking=True)
                # One image is added its axis last: the strides decide how torch computes, and so the last digit.
                rgb = images[0].permute(2, 0, 1)[None] if len(images) == 1 else images.permute(0, 3, 1, 2)
                rgb = rgb.float().div_(255)
                return self(rgb, None if camera is None else torch.from_numpy(camera)).depth.cpu().numpy()
        finally:
            if training:
                self.train()


DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def _watching_memory() -> Iterator[None]:
    """Turn torch's ways of saying that memory is short into a MemoryError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise MemoryError(str(error).partition(". ")[0]) from None
    except RuntimeError as error:
        if "not enough memory" not in str(error):
            raise
        raise MemoryError(str(error).partition("\n")[0]) from None


def _resize(raw: Depth, height: int, width: int) -> Float[Tensor, "b H W"]:
    resized = functional.interpolate(raw[:, None], (height, width), mode="bicubic", align_corners=False)
    # Bicubic overshoots: without the clamp a disparity could turn negative.
    return resized[:, 0].clamp(raw.amin((1, 2), keepdim=True), raw.amax((1, 2), keepdim=True))


def read_spec(network: PreTrainedModel) -> ModelSpec:
    """What a network's numbers mean: as sonde stored it in the config, else the default of its family.

    Raises:
        ValueError: an architecture that sonde does not read.
    """
    config = network.config
    stored = getattr(config, "sonde", None)  # configs that sonde did not write lack it
    if stored is not None:
        return spec_from_json(stored)
    check_family(config.model_type)
    spec = FAMILIES[config.model_type].spec
    if config.model_type == "dpt":
        spec = _read_dpt(config, spec)
    metric = getattr(config, "depth_estimation_type", None) == "metric"
    return replace(spec, space="metric") if metric else spec


def _read_dpt(config: PreTrainedConfig, spec: ModelSpec) -> ModelSpec:
    """What DPT's encoder decides; the same tensors of the head answer disparity above one and metres above another."""
    backbone = config.backbone_config
    if not reads_squares(config) and backbone.model_type == "dinov2":
        # DINOv2's own depth networks (NYU, KITTI) end in metres. They see whole images, padded to patches.
        return ModelSpec("metric", None, backbone.patch_size, *IMAGENET)
    # A hybrid's backbone has no size of its own; there the network's own counts.
    side = getattr(backbone, "image_size", None) or config.image_size
    return replace(spec, input_size=(side, side))


def reads_squares(config: PreTrainedConfig) -> bool:
    """Whether a network reads square images only: a DPT arranges the tokens of its own encoder in a square."""
    return config.model_type == "dpt" and (config.backbone_config is None or config.is_hybrid)


def check_finite(answer: Tensor, name: str) -> None:
    """Refuse an answer that holds NaN or an infinity: it is no depth.

    Args:
        answer: of any shape.
        name: of the model.

    Raises:
        ValueError: with the share of such values.
    """
    finite = answer.isfinite()
    if not bool(finite.all()):
        raise ValueError(explain_not_finite(int((~finite).sum()), finite.numel(), name))


def check_family(kind: object) -> None:
    """Raise ValueError unless sonde reads networks of this `model_type`."""
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(f"sonde does not read {shorten(kind)} networks: expected one of {', '.join(FAMILIES)}")


def find_max_depth(model: DepthModel) -> float | None:
    """`DepthModel.max_depth` as a function."""
    return model.max_depth


def set_max_depth(network: nn.Module, max_depth: int) -> None:
    """Set the metres at which a network with a sigmoid ends; any other network is left unchanged."""
    config: PreTrainedConfig = network.config  # pyright: ignore[reportAssignmentType]
    if getattr(config, "max_depth", None) is not None:
        config.max_depth = max_depth
    inner = find_base(network)
    if isinstance(inner, DepthAnythingForDepthEstimation):
        inner.head.max_depth = max_depth  # the head copies the config's value when it is built


def _read_depth_pro(outputs: DepthOutput, width: int) -> Depth:
    """Depth Pro predicts inverse depth for a canonical focal length, and the field of view in degrees."""
    assert isinstance(outputs, FieldOfViewOutput)
    inverse = outputs.predicted_depth
    if outputs.field_of_view is not None:
        focal = 0.5 * width / torch.tan(0.5 * torch.deg2rad(outputs.field_of_view))
        inverse = inverse * (width / focal).view(-1, 1, 1)
    return 1 / inverse.clamp(1e-4, 1e4)


FAMILIES: dict[str, Family] = {
    "depth_anything": Family(ModelSpec("disparity", 518, 14), ("head",), "head.conv3", "backbone"),
    "dpt": Family(ModelSpec("disparity", 384, 32, *HALF), ("head",), "head.head.4", "dpt"),
    "glpn": Family(
        ModelSpec("metric", None, 32, *PLAIN), ("decoder", "head.head"), "head.head.2", "glpn", sigmoid=True
    ),
    "efficientnet_lite": Family(ModelSpec("disparity", None, 32), ("head",), "head.conv3", "encoder"),
    "depth_ensemble": Family(ModelSpec("disparity", None, 32), (), "", "members"),
    "pixel_head": Family(ModelSpec("metric", None, 32), ("pixels",), "pixels.last", "base"),
    "zoedepth": Family(ModelSpec("metric", 384, 32, *HALF), ("metric_head",), "relative_head.conv3", "backbone"),
    "depth_pro": Family(
        ModelSpec("metric", None, 1536, *HALF, input_size=(1536, 1536)),
        ("head",),
        "head.layers.4",
        "depth_pro.encoder",
        read=_read_depth_pro,
    ),
}
