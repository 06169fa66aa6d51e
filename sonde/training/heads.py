"""Fit a head of pixels to the features of a frozen encoder: seconds for a handful of captures.

Features are computed once. Each capture gives a random share of its pixels, so that memory does not grow with the set.
"""

from collections.abc import Iterable, Sequence
from threading import Lock
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
STARTING = Lock()
"""Held while weights are drawn: fits that run side by side share torch's global random state."""


class CapturePixels(NamedTuple):
    """The sampled pixels of one capture, with those of its mirror image if it has one."""

    features: Float[Tensor, "n c"]
    """float16."""
    places: Int64[Tensor, " n"]
    """Index of each pixel in the capture's feature map, row by row; a mirrored pixel has the index of its original."""
    size: tuple[int, int]
    """(height, width) of that map."""
    pool: Float[Tensor, "N c"] | None = None
    """The features of several captures, of which these are rows one after the other; None: they stand alone."""
    start: int = 0
    """The first of these rows in the pool."""

    def sample(self, values: Float[np.ndarray, "h w"]) -> Float[Tensor, " _"]:
        """The values of a map of any size at these pixels, by nearest neighbour."""
        rows, columns = (
            np.minimum((np.arange(small) + 0.5) * large / small, large - 1).astype(int)
            for small, large in zip(self.size, values.shape, strict=True)
        )
        return torch.from_numpy(np.ascontiguousarray(values[rows[:, None], columns])).flatten()[self.places]


class EncodedImage(NamedTuple):
    """What an encoder and a head read of one image: far smaller than the same at the size of the first tap."""

    taps: list[Float[Tensor, "1 _ _ _"]]
    """The encoder's maps, shallowest first."""
    colours: Float[Tensor, "1 3 h w"]
    """The standardised image at the size of the first tap."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the first tap, to which the others are enlarged."""
        return self.colours.shape[-2], self.colours.shape[-1]


def sample_pixels(
    model: DepthModel, image: RGBArray, count: int, generator: torch.Generator, *, mirror: bool
) -> CapturePixels:
    """Sample about `count` pixels of an image; with `mirror`, half of them come from its mirror image."""
    own = encode_image(model, image)
    mirrored = encode_image(model, image[:, ::-1].copy()) if mirror else None
    return sample_encoded(own, mirrored, count, generator)


def sample_encoded(
    own: EncodedImage, mirrored: EncodedImage | None, count: int, generator: torch.Generator
) -> CapturePixels:
    """Sample about `count` pixels of an encoded image; half of them from its mirror image, if that is given."""
    seen = [own] if mirrored is None else [own, mirrored]
    height, width = own.size
    features, original = [], []
    for each in seen:
        places = torch.randperm(height * width, generator=generator)[: count // len(seen)]
        features.append(_enlarge_at(each, places).half())
        # The depth map is never flipped, so a mirrored pixel looks up its depth at the original place.
        flipped = (places // width) * width + (width - 1 - places % width)
        original.append(flipped if each is mirrored else places)
    return CapturePixels(torch.cat(features), torch.cat(original), (height, width))


def pool_features(pixels: Sequence[CapturePixels]) -> list[CapturePixels]:
    """The same pixels with their features in one tensor, so that fits without some of them need no copy of the rest."""
    pool, start, pooled = torch.cat([each.features for each in pixels]), 0, []
    for each in pixels:
        rows = pool[start : start + len(each.features)]
        pooled.append(each._replace(features=rows, pool=pool, start=start))
        start += len(rows)
    return pooled


@torch.inference_mode()
def encode_image(model: DepthModel, image: RGBArray) -> EncodedImage:
    """The inputs of a head for an image: the encoder's taps and the colours."""
    network = _get_pixel_depth(model)
    size = model.spec.network_size(*image.shape[:2])
    # A network that pads takes the image as it is; the others see it at their own size.
    seen = image if model.spec.pads else files.resize_image(image, size)
    rgb = torch.from_numpy(np.ascontiguousarray(seen)).to(model.mean.device).permute(2, 0, 1)[None].float() / 255
    pixels = model.prepare(rgb)
    taps = [tap.float().cpu() for tap in network.eval().encode(pixels)]
    colours = functional.interpolate(pixels, taps[0].shape[-2:], mode="area")
    return EncodedImage(taps, colours.float().cpu())


@torch.inference_mode()
def compute_features(model: DepthModel, image: RGBArray) -> Float[Tensor, "c rows columns"]:
    """The inputs of a head for an image as one map: the taps, all at the size of the first, and the colours."""
    encoded = encode_image(model, image)
    return torch.cat([*(_enlarge(tap, encoded.size) for tap in encoded.taps), encoded.colours], 1)[0]


@torch.inference_mode()
def _enlarge_at(encoded: EncodedImage, places: Int64[Tensor, " n"]) -> Float[Tensor, "n c"]:
    """`compute_features` at some pixels, one tap after the other: all of it would be hundreds of megabytes."""
    maps = (*(_enlarge(tap, encoded.size) for tap in encoded.taps), encoded.colours)
    return torch.cat([each[0].flatten(1).index_select(1, places) for each in maps]).T


def _enlarge(tap: Float[Tensor, "1 c _ _"], size: tuple[int, int]) -> Float[Tensor, "1 c h w"]:
    same = tap.shape[-2:] == size
    return tap if same else functional.interpolate(tap, size, mode="bilinear", align_corners=False)


class FeatureHead(nn.Module):
    """A head on rows of features, which it normalises itself: `fit_head` trains it, `install_head` copies it."""

    def __init__(self, mean: Tensor, spread: Tensor, outputs: int):
        super().__init__()
        wide, narrow = HIDDEN
        self.mean, self.spread = mean, spread
        self.mix = nn.Linear(len(mean), wide)
        self.hidden = nn.Linear(wide, narrow)
        self.last = nn.Linear(narrow, outputs)
        self.dropout = DrawnDropout(DROPOUT)
        # The first prediction is 1/2 everywhere: the middle of the range, or no difference from the bench.
        nn.init.zeros_(self.last.weight)
        nn.init.constant_(self.last.bias, 0.5)

    def forward(self, features: Float[Tensor, "n c"]) -> Float[Tensor, "n _"]:
        """Predicted values, one column for each target."""
        rows = features.to(torch.float32, copy=True).sub_(self.mean).div_(self.spread)
        return self._finish(self.mix(rows))

    def fold(self) -> tuple[Float[Tensor, "wide c"], Float[Tensor, " wide"]]:
        """Weight and bias of the first layer with the normalisation in them: for features as they come."""
        weight = self.mix.weight / self.spread
        return weight, self.mix.bias - weight @ self.mean

    @torch.inference_mode()
    def predict(self, encoded: EncodedImage, size: Sequence[int]) -> Float[np.ndarray, "_ _ _"]:
        """Predicted values of every pixel at (height, width), one map for each target."""
        weight, bias = self.eval().fold()
        maps = [*encoded.taps, encoded.colours]
        # Each tap is mixed before it is enlarged, as in `PixelHead`: the same sum at a fraction of the cost.
        parts = weight.split([each.shape[1] for each in maps], dim=1)
        mixed = bias[None, :, None, None]
        for each, part in zip(maps, parts, strict=True):
            mixed = mixed + _enlarge(functional.conv2d(each, part[..., None, None]), encoded.size)
        values = self._finish(mixed[0].flatten(1).T).T.reshape(1, -1, *encoded.size)
        large = functional.interpolate(values, (size[0], size[1]), mode="bilinear", align_corners=False)
        return large[0].numpy()

    def _finish(self, mixed: Float[Tensor, "n wide"]) -> Float[Tensor, "n _"]:
        return self.last(self.hidden(self.dropout(mixed.relu())).relu())


class DrawnDropout(nn.Dropout):
    """Dropout that draws from a generator of its own, torch's draws from the global one: fits may run side by side."""

    def __init__(self, p: float):
        super().__init__(p)
        self.generator: torch.Generator | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Zero elements at random and scale the rest, as `nn.Dropout` does."""
        if not self.training or self.generator is None:
            return super().forward(input)
        kept = torch.empty_like(input).bernoulli_(1 - self.p, generator=self.generator)
        return input * kept.div_(1 - self.p)


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
    inputs, places = _join_features(list(pixels))
    wanted = torch.cat(list(targets))
    trusted = wanted.isfinite().all(1).nonzero()[:, 0]
    sample = inputs.index_select(0, places[trusted[:: max(1, len(trusted) // SCALE_SAMPLE)]]).float()
    head, generator = _start_head(sample, wanted.shape[1], seed)
    optimizer = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY, foreach=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(steps, 2))
    for _ in range(steps):
        batch = trusted[torch.randint(len(trusted), (BATCH,), generator=generator)]
        # Rows are copied whole by `index_select`, and element by element by an index in brackets.
        loss = (head(inputs.index_select(0, places[batch])) - wanted.index_select(0, batch)).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return head


def _join_features(pixels: list[CapturePixels]) -> tuple[Float[Tensor, "N c"], Int64[Tensor, " n"]]:
    """The features of captures as rows of one tensor, which may hold others too, and the index of each row."""
    pool = pixels[0].pool
    if pool is None or any(each.pool is not pool for each in pixels):
        pixels = pool_features(pixels)
    rows = [torch.arange(each.start, each.start + len(each.features)) for each in pixels]
    inputs = pixels[0].pool
    assert inputs is not None
    return inputs, torch.cat(rows)


def _start_head(sample: Float[Tensor, "n c"], outputs: int, seed: int) -> tuple[FeatureHead, torch.Generator]:
    """A head with new weights, and the random numbers of its fit, which go on from those of the weights."""
    # The fork keeps the global random state, which the training after this fit goes on from.
    with STARTING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = FeatureHead(sample.mean(0), sample.std(0) + 1e-3, outputs).train()
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())
    head.dropout.generator = generator
    return head, generator


@torch.no_grad()
def install_head(model: DepthModel, fitted: FeatureHead) -> None:
    """Copy a fitted head with one output into a model; its normalisation becomes part of the first layer."""
    pixels: PixelHead = _get_pixel_depth(model).pixels
    weight, bias = fitted.fold()
    assert pixels.colour.bias is not None and pixels.hidden.bias is not None and pixels.last.bias is not None
    pixels.colour.bias.copy_(bias)
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
