"""Fit a head of pixels to the features of a frozen encoder: seconds for a handful of captures.

Features are computed once; each capture leaves a random share of its pixels, so that memory does not grow with the set.
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
from sonde.types import DepthArray, RGBArray

TOKENS = 240_000
"""Pixels of all captures together that a head is fitted to."""
BATCH = 4096
RATE, DECAY = 3e-3, 0.05
"""AdamW's, of the peak of one cycle."""


class CapturePixels(NamedTuple):
    """Pixels of one capture, mirrored ones among them, as a head sees them."""

    features: Float[Tensor, "n c"]
    """float16."""
    places: Int64[Tensor, " n"]
    """Where each lies in the capture's map of features, row by row."""
    size: tuple[int, int]
    """(height, width) of that map."""

    def at(self, values: Float[np.ndarray, "h w"]) -> Float[Tensor, " _"]:
        """A map's values at these pixels, each the nearest."""
        rows, columns = (
            np.minimum((np.arange(small) + 0.5) * large / small, large - 1).astype(int)
            for small, large in zip(self.size, values.shape, strict=True)
        )
        return torch.from_numpy(np.ascontiguousarray(values[rows[:, None], columns])).flatten()[self.places]


def look(model: DepthModel, image: RGBArray, count: int, generator: torch.Generator, *, mirror: bool) -> CapturePixels:
    """About `count` pixels of an image, half of them of its mirror image where the recipe mirrors."""
    parts: list[CapturePixels] = []
    for turned in (False, True) if mirror else (False,):
        maps = features(model, image[:, ::-1].copy() if turned else image)
        height, width = maps.shape[1:]
        places = torch.randperm(height * width, generator=generator)[: count // (1 + mirror)]
        own = (places // width) * width + (width - 1 - places % width) if turned else places
        parts.append(CapturePixels(maps.flatten(1).T[places].half(), own, (height, width)))
    return CapturePixels(
        torch.cat([part.features for part in parts]), torch.cat([part.places for part in parts]), parts[0].size
    )


@torch.inference_mode()
def features(model: DepthModel, image: RGBArray) -> Float[Tensor, "c rows columns"]:
    """All that a head sees of an image: the taps at the first one's size, and the colour."""
    network = _pixel_depth(model)
    shape = model.spec.network_size(*image.shape[:2])
    small = files.resize_image(image, shape) if not model.spec.pads else image
    rgb = torch.from_numpy(np.ascontiguousarray(small)).to(model.mean.device).permute(2, 0, 1)[None].float() / 255
    pixels = model.prepare(rgb)
    maps = network.eval().maps(pixels)
    size = maps[0].shape[-2:]
    large = [functional.interpolate(tap, size, mode="bilinear", align_corners=False) for tap in maps]
    return torch.cat([*large, functional.interpolate(pixels, size, mode="area")], 1)[0].float().cpu()


class Fit(nn.Module):
    """The head on features in a row, with the scale of each: what `fit` learns and `install` hands to the network."""

    def __init__(self, mean: Tensor, spread: Tensor, outputs: int):
        super().__init__()
        wide, narrow = HIDDEN
        self.mean, self.spread = mean, spread
        self.mix, self.hidden, self.last = (
            nn.Linear(len(mean), wide),
            nn.Linear(wide, narrow),
            nn.Linear(narrow, outputs),
        )
        self.dropout = nn.Dropout(DROPOUT)
        nn.init.zeros_(self.last.weight)
        nn.init.constant_(self.last.bias, 0.5)

    def forward(self, features: Float[Tensor, "n c"]) -> Float[Tensor, "n _"]:
        """Values for features."""
        mixed = self.mix((features.float() - self.mean) / self.spread)
        return self.last(self.hidden(self.dropout(mixed.relu())).relu())

    @torch.inference_mode()
    def answer(self, maps: Float[Tensor, "c h w"], size: Sequence[int]) -> Float[np.ndarray, "_ _ _"]:
        """Values of every pixel at (height, width)."""
        values = self.eval()(maps.flatten(1).T).T.reshape(1, -1, *maps.shape[1:])
        large = functional.interpolate(values, (size[0], size[1]), mode="bilinear", align_corners=False)
        return large[0].numpy()


def fit(seen: Iterable[CapturePixels], targets: Iterable[Float[Tensor, "_ k"]], steps: int, seed: int) -> Fit:
    """The head of least mean error |value - target| on these pixels; a target of NaN is not trusted.

    Args:
        seen: of the training captures.
        targets: for each of its pixels, one or several values that are learnt at once.
        steps: of AdamW on BATCH random pixels, the rate rising and falling once.
        seed: of the weights and of the order.
    """
    inputs, wanted = torch.cat([each.features for each in seen]), torch.cat(list(targets))
    trusted = wanted.isfinite().all(1)
    inputs, wanted = inputs[trusted], wanted[trusted]
    sample = inputs[:: max(1, len(inputs) // 20_000)].float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = Fit(sample.mean(0), sample.std(0) + 1e-3, wanted.shape[1]).train()
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
def install(model: DepthModel, fitted: Fit) -> None:
    """Give a model's head the weights of a fit with one output; the scale of the features goes into its first layer."""
    pixels: PixelHead = _pixel_depth(model).pixels
    weight = fitted.mix.weight / fitted.spread
    assert pixels.colour.bias is not None and pixels.hidden.bias is not None and pixels.last.bias is not None
    pixels.colour.bias.copy_(fitted.mix.bias - weight @ fitted.mean)
    parts = weight.split([*(layer.in_channels for layer in _mixes(pixels)), 3], dim=1)
    for layer, part in zip([*_mixes(pixels), pixels.colour], parts, strict=True):
        layer.weight.copy_(part[..., None, None])
    for layer, own in ((pixels.hidden, fitted.hidden), (pixels.last, fitted.last)):
        layer.weight.copy_(own.weight[..., None, None])
        assert layer.bias is not None
        layer.bias.copy_(own.bias)


def _mixes(pixels: PixelHead) -> list[nn.Conv2d]:
    return [layer for layer in pixels.mix if isinstance(layer, nn.Conv2d)]


def _pixel_depth(model: DepthModel) -> PixelDepth:
    network = model.network
    assert isinstance(network, PixelDepth)
    return network


def targets_at(
    seen: CapturePixels, depth: DepthArray, values: Sequence[Float[np.ndarray, "h w"]]
) -> Float[Tensor, "_ k"]:
    """Values of a depth map at the pixels seen; NaN where depth is untrusted."""
    found = torch.stack([seen.at(each) for each in values], 1).float()
    return torch.where(seen.at(depth)[:, None] > 0, found, torch.nan)
