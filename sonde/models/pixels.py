"""A small head that reads an encoder's features pixel by pixel, in place of the decoder, for a few captures.

A decoder has too many weights for five captures. Two hidden layers over the features of all taps and the colour, the
same at every pixel (hypercolumns, Hariharan et al., arXiv 1411.5752), are fitted in seconds on a frozen encoder and can
then be tuned together with it.
"""

from copy import deepcopy
from typing import no_type_check

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForDepthEstimation, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import DepthEstimatorOutput

from sonde.models.taps import DECODERS, arrange_on_grid

HIDDEN = (128, 64)
"""Widths of the hidden layers."""
DROPOUT = 0.1


@no_type_check  # transformers lets every config take any keyword, which its signature does not say
class PixelConfig(PreTrainedConfig):
    """The config of the base network, and the widths of the maps that the head reads."""

    model_type = "pixel_head"

    base: dict[str, object] | None = None
    widths: list[int] | tuple[int, ...] = ()
    """Channels of each tap, shallowest first."""


class Reached(Exception):
    """Carries the encoder's maps out of a network whose decoder was replaced by a `Door`."""

    def __init__(self, maps: list[Tensor]):
        super().__init__()
        self.maps = maps


class Door(nn.Module):
    """Takes the decoder's place and hands over its input, so that nothing behind the encoder runs."""

    def forward(self, *inputs: object, **kwargs: object) -> None:
        """End the forward pass.

        Raises:
            Reached: always, with the maps.
        """
        raise Reached(arrange_on_grid((*inputs, *kwargs.values())))


class PixelHead(nn.Module):
    """Maps of several sizes and the colour to one value per pixel of the finest map."""

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
        # One layer over all taps, enlarged and stacked, is linear: applying its part to each tap before enlarging gives
        # the same sum at a fraction of the cost.
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
        kind = str(known.pop("model_type"))
        base = AutoModelForDepthEstimation.from_config(AutoConfig.for_model(kind, **known), trust_remote_code=False)
        self.base = remove_decoder(base)
        self.pixels = PixelHead(list(config.widths))
        self.post_init()

    def encode(self, pixel_values: Tensor) -> list[Tensor]:
        """The encoder's maps for standardised images, shallowest first."""
        try:
            self.base(pixel_values=pixel_values)
        except Reached as reached:
            return reached.maps
        raise AssertionError("the encoder did not reach the Door")

    def forward(self, pixel_values: Tensor, **kwargs: object) -> DepthEstimatorOutput:
        """Standardised images (b, 3, h, w) to `predicted_depth` (b, h, w); there is no activation at the end."""
        raw = self.pixels(self.encode(pixel_values), pixel_values)
        raw = functional.interpolate(raw, pixel_values.shape[-2:], mode="bilinear", align_corners=False)
        return DepthEstimatorOutput(predicted_depth=raw[:, 0])  # pyright: ignore[reportArgumentType]


def make_pixel_depth(network: PreTrainedModel) -> PixelDepth:
    """A copy of a network's encoder under a new head that predicts 1/2 everywhere; the network stays unchanged.

    Raises:
        ValueError: an architecture whose layers sonde does not read, see DECODERS.
    """
    kind = str(network.config.model_type)
    if kind not in DECODERS:
        raise ValueError(f"model.head=pixels does not fit {kind} networks: use one of {', '.join(DECODERS)}.")
    door = remove_decoder(deepcopy(network))
    # The widths of the maps are known only after a forward pass; a small image of whole patches is enough.
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


def remove_decoder(network: PreTrainedModel) -> PreTrainedModel:
    """Replace the network's decoder by a `Door` and what follows it by identities; changed in place."""
    decoder = DECODERS[str(network.config.model_type)]
    behind = [name for name, _ in network.named_children()]
    for name in behind[behind.index(decoder) + 1 :]:
        setattr(network, name, nn.Identity())
    setattr(network, decoder, Door())
    return network


AutoConfig.register(PixelConfig.model_type, PixelConfig)
AutoModelForDepthEstimation.register(PixelConfig, PixelDepth)
