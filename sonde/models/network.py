"""A depth network with its own preprocessing, and how each architecture's numbers are read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PILImage
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from sonde import files
from sonde.background import Background
from sonde.encoding import ENCODINGS, Encoding
from sonde.models.calibration import Calibration
from sonde.tensors import Batch, Depth, Image
from sonde.types import MatrixArray, Prediction, RGBArray, Space

Camera = Float[Tensor, "*b 3 3"]
"""Pinhole intrinsics in pixels: one matrix, or one for each image."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
LONGEST = 8
"""An image more than that many times as long as its short side is refused where that side is resized to a given length:
the long one would fill the memory."""


@dataclass(frozen=True)
class ModelSpec:
    """What a network's numbers mean and what it wants to see; stored beside the weights as `sonde.json`."""

    space: Space
    short_side: int | None
    """The network's input keeps the aspect at this short side; None keeps the image's own pixels, padded."""
    multiple: int
    """Height and width the network sees are multiples of this."""
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]
    input_size: tuple[int, int] | None = None
    """A fixed (height, width), whatever the image's aspect."""
    encoding: dict[str, Any] | None = None
    """Name and range (m) of the encoding whose [0, 1] the network regresses; None: the network answers as is."""
    scale: float = 1.0
    """What the network's own answer is multiplied with: the end of its range in metres, where transformers' configs,
    which hold whole metres alone, cannot."""
    canonical_focal: float | None = None
    """The focal length (pixels at the network's input) of the camera whose depth the network answers, whatever camera
    took the image (Metric3D, arXiv 2307.10984): the depth is the answer times f / canonical_focal."""
    background: float | None = None
    """Metres that stand for the bench of a fixed camera in what the network answers: real depth is the answer, plus the
    bench's own depth at that pixel, less this. None: the answer is the depth."""
    head: str = "decoder"
    """What answers: the network's own `decoder`, or a head of `pixels` over its encoder's features."""
    unit: str = "m"
    """The unit its data was measured in, restored on output."""
    base: str | None = None
    """For an adapter: the name its base is loaded by."""
    base_max_depth: float | int | None = None
    """For an adapter whose base is a file of weights: the `max_depth` it is loaded with, where the file has none."""
    fingerprint: str | None = None
    """For an adapter: `fingerprint` of the base it was trained on."""

    @property
    def pads(self) -> bool:
        """Whether images keep their pixels and are padded, rather than resized."""
        return self.short_side is None and self.input_size is None

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) the network sees for an image of this size, padding included.

        Raises:
            ValueError: an image too elongated to be resized by its short side.
        """
        if self.input_size is not None:
            return self.input_size
        step = self.multiple
        if self.short_side is None:
            return -(-height // step) * step, -(-width // step) * step
        if max(height, width) > LONGEST * min(height, width):
            raise ValueError(
                f"The image is {width}x{height}, longer than {LONGEST} times its short side: expected at most that, "
                "or memory would not hold what the network sees; cut it into pieces."
            )
        scale = self.short_side / min(height, width)

        def fit(side: int) -> int:
            return max(step, round(side * scale / step) * step)

        return fit(height), fit(width)

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) of the image itself in what the network sees."""
        return (height, width) if self.pads else self.network_size(height, width)


class Family(NamedTuple):
    """How one transformers architecture is read."""

    spec: ModelSpec
    head: tuple[str, ...]
    """The modules of the depth head, for training it beside adapters."""
    last: str
    """The last convolution, whose affine map the closed-form start sets."""
    encoder: str
    """The module that turns pixels into features."""
    sigmoid: bool = False
    """Whether a sigmoid follows it (else a ReLU)."""
    read: Callable[[Any, int], Depth] = lambda outputs, width: outputs.predicted_depth
    """(outputs, width of the image in pixels) → the quantity the space names."""

    @property
    def ends_in_head(self) -> bool:
        """Whether the last convolution is part of the head, and so saved with an adapter."""
        return any(f"{self.last}.".startswith(f"{name}.") for name in self.head)


class DepthModel(nn.Module):
    """A depth network with its own preprocessing: RGB in [0, 1] at any size in, a `Prediction` at that size out."""

    network: Any  # a transformers depth model, or PEFT's wrapper around one
    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, spec: ModelSpec, name: str):
        super().__init__()
        self.network = network
        self.spec = spec
        self.name = name
        self.calibration: Calibration | None = None
        self.background: Background | None = None
        """The bench of a fixed camera, where the network answers what differs from it (`spec.background`)."""
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    @property
    def space(self) -> Space:
        """What the predictions claim."""
        return "metric" if self.calibration else self.spec.space

    @property
    def encoding(self) -> Encoding | None:
        """The encoding the network regresses, if any."""
        spec = self.spec.encoding
        return ENCODINGS[spec["name"]](spec["min_depth"], spec["max_depth"]) if spec else None

    @property
    def family(self) -> Family:
        """How this network's architecture is read."""
        return FAMILIES[self.network.config.model_type]

    @property
    def sigmoid(self) -> bool:
        """Whether a sigmoid follows the last layer: by the family, and of a Depth Anything where it is metric."""
        return self.family.sigmoid or getattr(self.network.config, "depth_estimation_type", None) == "metric"

    @property
    def camera_wanted(self) -> str:
        """What a user is told who asks a model with a canonical focal for depth without intrinsics."""
        return (
            f"{self.name} answers for a focal length of {self.spec.canonical_focal:g} pixels "
            "(model.canonical_focal): metres need the image's own, as --intrinsics fx,fy,cx,cy or in the captures."
        )

    def prepare(self, rgb: Image) -> Float[Tensor, "b 3 H W"]:
        """The network's input: resized (bicubic, antialiased) or padded, and standardised.

        Padding is on the right and below, so that intrinsics stay as they are, and repeats the edge: mirroring needs an
        image larger than the padding.
        """
        height, width = rgb.shape[-2:]
        size = self.spec.network_size(height, width)
        if size != (height, width) and self.spec.pads:
            rgb = functional.pad(rgb, (0, size[1] - width, 0, size[0] - height), mode="replicate")
        elif size != (height, width):
            rgb = functional.interpolate(rgb, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        return (rgb - self.mean) / self.std

    def read(self, outputs: Any, width: int) -> Float[Tensor, "b H W"]:
        """The raw answer in the network's outputs for an image of this width, what it says of padding included."""
        return self.family.read(outputs, width) * self.spec.scale

    def forward_raw(self, network: nn.Module, rgb: Image) -> Float[Tensor, "b H W"]:
        """The raw answer at the network's own size, without padding; `network` is this model's, or a wrapper of it."""
        raw = self.read(network(pixel_values=self.prepare(rgb)), rgb.shape[-1])
        return raw[..., : rgb.shape[-2], : rgb.shape[-1]] if self.spec.pads else raw

    def forward(self, rgb: Image, intrinsics: Camera | None = None) -> Prediction:
        """Depth at the image's size: metres in space `metric`, larger is nearer in `disparity`.

        Args:
            rgb: images in [0, 1].
            intrinsics: of the images' pixels, one matrix or one for each; a model with a canonical focal needs them.

        Raises:
            ValueError: a model with a canonical focal, and no intrinsics.
        """
        return self.finish(self.forward_raw(self.network, rgb), rgb.shape[-2], rgb.shape[-1], intrinsics)

    def focal_scale(self, intrinsics: Camera | None, width: int, seen: int) -> Tensor | float:
        """f / canonical_focal of each image (b, 1, 1): real depth is that much the depth in the canonical camera's.

        Args:
            intrinsics: of a map of the image's view; its fx counts.
            width: of that map, in pixels.
            seen: the image's width in what the network sees.

        Raises:
            ValueError: a model with a canonical focal, and intrinsics that nobody knows.
        """
        canonical = self.spec.canonical_focal
        if canonical is None:
            return 1.0
        if intrinsics is None or not bool(intrinsics.isfinite().all()):
            raise ValueError(self.camera_wanted)
        return intrinsics[..., :1, :1].reshape(-1, 1, 1).to(self.mean) * (seen / width / canonical)

    def focal_scale_of(self, batch: Batch) -> Tensor | float:
        """`focal_scale` of a batch, whose intrinsics are of its depth's pixels."""
        height, width = batch["image"].shape[-2:]
        return self.focal_scale(
            batch.get("intrinsics"), batch["depth"].shape[-1], self.spec.image_size(height, width)[1]
        )

    def finish(self, raw: Depth, height: int, width: int, intrinsics: Camera | None = None) -> Prediction:
        """A raw answer to an image of this size, padded or not: resized, decoded, of the image's camera, calibrated.

        Raises:
            ValueError: a model of a fixed camera's bench, and an image of another aspect than that camera's.
        """
        if self.spec.pads:
            raw = raw[..., :height, :width]
        focal_scale = self.focal_scale(intrinsics, width, raw.shape[-1])
        if raw.shape[-2:] != (height, width):
            resized = functional.interpolate(raw[:, None], (height, width), mode="bicubic", align_corners=False)
            # Bicubic overshoots: kept inside the answer's own range, so no disparity turns negative.
            raw = resized[:, 0].clamp(raw.amin((1, 2), keepdim=True), raw.amax((1, 2), keepdim=True))
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

    @torch.inference_mode()
    def predict(
        self, image: str | Path | PILImage.Image | RGBArray, intrinsics: MatrixArray | None = None
    ) -> Prediction:
        """Depth (h, w) float32 of one image: a path, a PIL image or an (h, w, 3) uint8 array, views included.

        `intrinsics`, of the image's pixels, are needed where the model has a canonical focal, as `forward` says.

        Raises:
            ValueError: no such image, one too elongated for the model, or intrinsics that are no (3, 3) matrix.
        """
        pixels, camera = as_array(image), None if intrinsics is None else as_camera(intrinsics)
        training = self.training
        self.eval()
        try:
            rgb = torch.from_numpy(pixels).to(self.mean.device).permute(2, 0, 1)[None].float() / 255
            prediction = self(rgb, None if camera is None else torch.from_numpy(camera))
        finally:
            self.train(training)
        return prediction._replace(depth=prediction.depth[0].cpu().numpy(), intrinsics=camera)

    def describe(self) -> str:
        """One line: name, parameters, space, range and calibration."""
        count = sum(parameter.numel() for parameter in self.parameters())
        encoding = self.spec.encoding
        fixed = self.spec.background is not None
        span = ""
        if encoding is not None and not fixed:
            span = f", {encoding['min_depth']:.3f} to {encoding['max_depth']:.3f} m"
        bench = ", above the bench of a fixed camera" if fixed else ""
        calibrated = f", calibrated ({self.calibration.kind})" if self.calibration else ""
        return f"{self.name}: {count / 1e6:.1f} M parameters, {self.space}{span}{bench}{calibrated}"


def spec_of(network: PreTrainedModel) -> ModelSpec:
    """What a network's numbers mean: as stored in its config by sonde, else by its family.

    Raises:
        ValueError: an architecture sonde does not read.
    """
    config = network.config
    stored = getattr(config, "sonde", None)
    if stored is not None:
        return spec_from_json(stored)
    if config.model_type not in FAMILIES:
        raise ValueError(f"{config.model_type} networks are not read by sonde; expected one of {', '.join(FAMILIES)}.")
    spec = FAMILIES[config.model_type].spec
    if config.model_type == "dpt":  # cuts its tokens into a square: it sees only the size it was trained at
        side = getattr(config.backbone_config, "image_size", None) or config.image_size  # a hybrid's is its own
        spec = replace(spec, input_size=(side, side))
    metric = getattr(config, "depth_estimation_type", None) == "metric"
    return replace(spec, space="metric") if metric else spec


def set_max_depth(network: Any, max_depth: int) -> None:
    """Let a network that ends in a sigmoid end at other metres; any other network is left as it is."""
    if getattr(network.config, "max_depth", None) is not None:
        network.config.max_depth = max_depth
    if hasattr(getattr(network, "head", None), "max_depth"):  # Depth Anything's reads its config only once
        network.head.max_depth = max_depth


def spec_from_json(stored: dict[str, Any]) -> ModelSpec:
    """A meaning as JSON keeps it."""
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    return ModelSpec(**fields)


def as_array(image: str | Path | PILImage.Image | RGBArray) -> RGBArray:
    """An image of any accepted kind as (h, w, 3) uint8, as torch takes it: contiguous, and free to be written to.

    Raises:
        ValueError: neither path nor image, an array of another shape or type, or one without pixels.
    """
    if isinstance(image, str | Path):
        return files.read_rgb(Path(image))
    array: Any = files.rgb_from_pil(image) if isinstance(image, PILImage.Image) else image
    if not isinstance(array, np.ndarray):
        raise ValueError(
            f"Expected a path, a PIL image or an (h, w, 3) uint8 array, got {type(array).__name__}: "
            "numpy.asarray(image, dtype=numpy.uint8) makes one of a list."
        )
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ValueError(f"Expected an (h, w, 3) uint8 image with pixels, got {array.dtype} of shape {array.shape}.")
    return np.require(array, requirements=["C", "W"])


def as_camera(intrinsics: Any) -> MatrixArray:
    """Intrinsics, nested lists too, as a (3, 3) array that torch takes.

    Raises:
        ValueError: anything else.
    """
    try:
        matrix = np.require(intrinsics, requirements=["C", "W"])
        matrix = matrix if np.issubdtype(matrix.dtype, np.floating) else matrix.astype(np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (3, 3):
        raise ValueError(
            f"Expected intrinsics as the (3, 3) matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels, "
            f"got {intrinsics!r}."
        )
    return matrix


def _depth_pro(outputs: Any, width: int) -> Depth:
    """Depth Pro answers inverse depth for a canonical focal length, and the field of view in degrees."""
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
    "pixel_head": Family(ModelSpec("metric", None, 32), ("pixels",), "pixels.last", "base"),
    "zoedepth": Family(ModelSpec("metric", 384, 32, *HALF), ("metric_head",), "relative_head.conv3", "backbone"),
    "depth_pro": Family(
        ModelSpec("metric", None, 1536, *HALF, input_size=(1536, 1536)),
        ("head",),
        "head.layers.4",
        "depth_pro.encoder",
        read=_depth_pro,
    ),
}
