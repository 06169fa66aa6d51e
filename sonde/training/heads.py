"""Fit a head of pixels to the features of a frozen encoder: seconds for a handful of captures.

Features are computed once. Each capture gives a random share of its pixels, so that memory does not grow with the set.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from sonde import files
from sonde.models import DepthModel
from sonde.models.pixels import DROPOUT, HIDDEN, PixelDepth, PixelHead
from sonde.renamed import keep_old_names
from sonde.types import DepthArray, RGBArray

PIXELS = 240_000
"""Pixels that a head is fitted to, over all captures."""
BATCH = 4096
RATE, DECAY = 3e-3, 0.05
"""AdamW's learning rate at the peak of its one cycle, and its weight decay."""
SCALE_SAMPLE = 20_000
"""Pixels, about, from which the mean and spread of each feature are estimated."""


class CapturePixels(NamedTuple):
    """The sampled pixels of one capture, with those of its mirror image if it has one."""

    features: Float[Tensor, "n c"]
    """float16."""
    places: Int64[Tensor, " n"]
    """Index of each pixel in the capture's feature map, row by row; a mirrored pixel has the index of its original."""
    size: tuple[int, int]
    """(height, width) of that map."""

    def sample(self, values: Float[np.ndarray, "h w"]) -> Float[Tensor, " _"]:
        """The values of a map of any size at these pixels, by nearest neighbour."""
        rows, columns = (
            np.minimum((np.arange(small) + 0.5) * large / small, large - 1).astype(int)
            for small, large in zip(self.size, values.shape, strict=True)
        )
        return torch.from_numpy(np.ascontiguousarray(values[rows[:, None], columns])).flatten()[self.places]


def sample_pixels(
    model: DepthModel, image: RGBArray, count: int, generator: torch.Generator, *, mirror: bool
) -> CapturePixels:
    """Sample about `count` pixels of an image; with `mirror`, half of them come from its mirror image."""
    parts: list[CapturePixels] = []
    for flipped in (False, True) if mirror else (False,):
        maps = compute_features(model, image[:, ::-1].copy() if flipped else image)
        height, width = maps.shape[1:]
        places = torch.randperm(height * width, generator=generator)[: count // (1 + mirror)]
        # The depth map is never flipped, so a mirrored pixel looks up its depth at the original place.
        original = (places // width) * width + (width - 1 - places % width) if flipped else places
        parts.append(CapturePixels(maps.flatten(1).T[places].half(), original, (height, width)))
    return CapturePixels(
        torch.cat([part.features for part in parts]), torch.cat([part.places for part in parts]), parts[0].size
    )


@torch.inference_mode()
def compute_features(model: DepthModel, image: RGBArray) -> Float[Tensor, "c rows columns"]:
    """The inputs of a head for an image: the encoder's taps, all at the size of the first, and the colours."""
    network = _get_pixel_depth(model)
    size = model.spec.network_size(*image.shape[:2])
    # A network that pads takes the image as it is; the others see it at their own size.
    seen = image if model.spec.pads else files.resize_image(image, size)
    rgb = torch.from_numpy(np.ascontiguousarray(seen)).to(model.mean.device).permute(2, 0, 1)[None].float() / 255
    pixels = model.prepare(rgb)
    maps = network.eval().encode(pixels)
    shape = maps[0].shape[-2:]
    taps = [functional.interpolate(tap, shape, mode="bilinear", align_corners=False) for tap in maps]
    colours = functional.interpolate(pixels, shape, mode="area")
    return torch.cat([*taps, colours], 1)[0].float().cpu()


class FeatureHead(nn.Module):
    """A head on rows of features, which it normalises itself: `fit_head` trains it, `install_head` copies it."""

    def __init__(self, mean: Tensor, spread: Tensor, outputs: int):
        super().__init__()
        wide, narrow = HIDDEN
        self.mean, self.spread = mean, spread
        self.mix = nn.Linear(len(mean), wide)
        self.hidden = nn.Linear(wide, narrow)
        self.last = nn.Linear(narrow, outputs)
        self.dropout = nn.Dropout(DROPOUT)
        # The first prediction is 1/2 everywhere: the middle of the range, or no difference from the bench.
        nn.init.zeros_(self.last.weight)
        nn.init.constant_(self.last.bias, 0.5)

    def forward(self, features: Float[Tensor, "n c"]) -> Float[Tensor, "n _"]:
        """Predicted values, one column for each target."""
        mixed = self.mix((features.float() - self.mean) / self.spread)
        return self.last(self.hidden(self.dropout(mixed.relu())).relu())

    @torch.inference_mode()
    def predict(self, maps: Float[Tensor, "c h w"], size: Sequence[int]) -> Float[np.ndarray, "_ _ _"]:
        """Predicted values of every pixel at (height, width), one map for each target."""
        values = self.eval()(maps.flatten(1).T).T.reshape(1, -1, *maps.shape[1:])
        large = functional.interpolate(values, (size[0], size[1]), mode="bilinear", align_corners=False)
        return large[0].numpy()


def fit_head(
    pixels: Iterable[CapturePixels], targets: Iterable[Float[Tensor, "_ k"]], steps: int, seed: int
) -> FeatureHead:
    """Fit the head that has the least mean |value - target| on these pixels.

    Args:
        pixels: of the training captures.
        targets: one or several values for each pixel, learnt together; NaN marks a pixel that is not trusted.
        steps: of AdamW, each on BATCH random pixels.
        seed: of the weights and of the order.
    """
    inputs, wanted = torch.cat([each.features for each in pixels]), torch.cat(list(targets))
    trusted = wanted.isfinite().all(1)
    inputs, wanted = inputs[trusted], wanted[trusted]
    sample = inputs[:: max(1, len(inputs) // SCALE_SAMPLE)].float()
    # The fork keeps the global random state, which the training after this fit goes on from.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = FeatureHead(sample.mean(0), sample.std(0) + 1e-3, wanted.shape[1]).train()
        optimizer = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(steps, 2))
        for _ in range(steps):
            batch = torch.randint(len(inputs), (BATCH,))
            loss = (head(inputs[batch]) - wanted[batch]).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return head


@torch.no_grad()
def install_head(model: DepthModel, fitted: FeatureHead) -> None:
    """Copy a fitted head with one output into a model; its normalisation becomes part of the first layer."""
    pixels: PixelHead = _get_pixel_depth(model).pixels
    weight = fitted.mix.weight / fitted.spread
    assert pixels.colour.bias is not None and pixels.hidden.bias is not None and pixels.last.bias is not None
    pixels.colour.bias.copy_(fitted.mix.bias - weight @ fitted.mean)
    # The model mixes each tap before it is resized, so the one wide layer splits into a layer for each tap.
    parts = weight.split([*(layer.in_channels for layer in _list_tap_layers(pixels)), 3], dim=1)
    for layer, part in zip([*_list_tap_layers(pixels), pixels.colour], parts, strict=True):
        layer.weight.copy_(part[..., None, None])
    for layer, source in ((pixels.hidden, fitted.hidden), (pixels.last, fitted.last)):
        layer.weight.copy_(source.weight[..., None, None])
        assert layer.bias is not None
        layer.bias.copy_(source.bias)


def sample_targets(
    pixels: CapturePixels, depth: DepthArray, values: Sequence[Float[np.ndarray, "h w"]]
) -> Float[Tensor, "_ k"]:
    """The values of several maps at the sampled pixels; NaN where depth is untrusted."""
    sampled = torch.stack([pixels.sample(each) for each in values], 1).float()
    return torch.where(pixels.sample(depth)[:, None] > 0, sampled, torch.nan)


def _list_tap_layers(pixels: PixelHead) -> list[nn.Conv2d]:
    return [layer for layer in pixels.mix if isinstance(layer, nn.Conv2d)]


def _get_pixel_depth(model: DepthModel) -> PixelDepth:
    network = model.network
    assert isinstance(network, PixelDepth)
    return network


keep_old_names(
    __name__,
    {
        "TOKENS": "PIXELS",
        "look": "sample_pixels",
        "features": "compute_features",
        "Fit": "FeatureHead",
        "fit": "fit_head",
        "install": "install_head",
        "targets_at": "sample_targets",
    },
)
