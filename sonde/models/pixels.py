"""A small head that reads an encoder's features pixel by pixel, in place of the decoder, for a handful of captures.

A decoder has too many weights for five captures. Two hidden layers over the features of all taps and the colour, alike
at every pixel (hypercolumns, Hariharan et al., arXiv 1411.5752), are fitted in seconds while the encoder is frozen, and
may then be tuned with it. The head's first layer is applied to each tap at its own size and the results are enlarged
and added: the same as one layer over all taps enlarged, since both are linear, at a fraction of the cost.
"""

from copy import deepcopy
from typing import Any, no_type_check

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForDepthEstimation, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import DepthEstimatorOutput

from sonde.models.taps import DECODERS, on_grid

HIDDEN = (128, 64)
"""Widths of the hidden layers."""
DROPOUT = 0.1


@no_type_check  # transformers lets every config take any keyword, which its signature does not say
class PixelConfig(PreTrainedConfig):
    """The base network's config, and the widths of the maps that the head reads."""

    model_type = "pixel_head"

    base: dict[str, Any] | None = None
    widths: list[int] | tuple[int, ...] = ()
    """Channels of each tap, shallowest first."""


class Reached(Exception):
    """Carries the encoder's maps out of a network whose decoder is a `Door`."""

    def __init__(self, maps: list[Tensor]):
        super().__init__()
        self.maps = maps


class Door(nn.Module):
    """Stands where the decoder stood and hands over what it is given."""

    def forward(self, *inputs: Any, **kwargs: Any) -> None:
        """Ends the forward pass.

        Raises:
            Reached: always, with the maps.
        """
        raise Reached(on_grid((*inputs, *kwargs.values())))


class PixelHead(nn.Module):
    """Maps of several sizes and the colour to one value a pixel of the finest map."""

    def __init__(self, widths: list[int]):
        super().__init__()
        wide, narrow = HIDDEN
        self.mix = nn.ModuleList(nn.Conv2d(width, wide, 1, bias=False) for width in widths)
        self.colour = nn.Conv2d(3, wide, 1)
        self.dropout = nn.Dropout(DROPOUT)
        self.hidden = nn.Conv2d(wide, narrow, 1)
        self.last = nn.Conv2d(narrow, 1, 1)

    def forward(self, maps: list[Tensor], pixels: Tensor) -> Tensor:
        """Taps (b, c, h, w), shallowest first, and standardised images to (b, 1, h, w) of the first tap's size."""
        size = maps[0].shape[-2:]
        mixed = self.colour(functional.interpolate(pixels, size, mode="area"))
        for layer, tap in zip(self.mix, maps, strict=True):
            own = layer(tap)
            same = own.shape[-2:] == size
            mixed = mixed + (own if same else functional.interpolate(own, size, mode="bilinear", align_corners=False))
        return self.last(self.hidden(self.dropout(mixed.relu())).relu())


class PixelDepth(PreTrainedModel):
    """An encoder under a `PixelHead`, as transformers saves and loads it."""

    config: PixelConfig
    config_class = PixelConfig
    main_input_name = "pixel_values"
    _no_split_modules: list[str] = []  # noqa: RUF012 - transformers' own spelling

    def __init__(self, config: PixelConfig):
        super().__init__(config)
        assert config.base is not None
        known = dict(config.base)
        base = AutoModelForDepthEstimation.from_config(AutoConfig.for_model(known.pop("model_type"), **known))
        self.base = without_decoder(base)
        self.pixels = PixelHead(list(config.widths))
        self.post_init()

    def maps(self, pixel_values: Tensor) -> list[Tensor]:
        """The encoder's maps for standardised images, shallowest first."""
        try:
            self.base(pixel_values=pixel_values)
        except Reached as reached:
            return reached.maps
        raise AssertionError("the encoder did not reach its door")

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> DepthEstimatorOutput:
        """Standardised images (b, 3, h, w) to `predicted_depth` (b, h, w), without an activation at the end."""
        raw = self.pixels(self.maps(pixel_values), pixel_values)
        raw = functional.interpolate(raw, pixel_values.shape[-2:], mode="bilinear", align_corners=False)
        return DepthEstimatorOutput(predicted_depth=raw[:, 0])  # pyright: ignore[reportArgumentType]


def pixel_depth(network: PreTrainedModel) -> PixelDepth:
    """A network's encoder and its weights under a new head that answers 1/2 everywhere; the network is left as it is.

    Raises:
        ValueError: an architecture whose encoder is not tapped.
    """
    kind = str(network.config.model_type)
    if kind not in DECODERS:
        raise ValueError(f"model.head=pixels does not fit {kind} networks: use one of {', '.join(DECODERS)}.")
    door = without_decoder(deepcopy(network))
    side = 64 if kind != "depth_anything" else 56
    try:
        with torch.no_grad():
            door.eval()(pixel_values=torch.zeros(1, 3, side, side))
        widths: list[int] = []
    except Reached as reached:
        widths = [tap.shape[1] for tap in reached.maps]
    config = PixelConfig(base=network.config.to_dict(), widths=widths)
    made = PixelDepth(config)
    made.base.load_state_dict(door.state_dict())
    nn.init.zeros_(made.pixels.last.weight)
    assert made.pixels.last.bias is not None
    nn.init.constant_(made.pixels.last.bias, 0.5)
    return made.eval()


def without_decoder(network: PreTrainedModel) -> PreTrainedModel:
    """The network with a door in its decoder's place, and nothing behind it; changed in place."""
    decoder = DECODERS[str(network.config.model_type)]
    behind = [name for name, _ in network.named_children()]
    for name in behind[behind.index(decoder) + 1 :]:
        setattr(network, name, nn.Identity())
    setattr(network, decoder, Door())
    return network


AutoConfig.register(PixelConfig.model_type, PixelConfig)
AutoModelForDepthEstimation.register(PixelConfig, PixelDepth)
