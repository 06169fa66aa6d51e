"""What a step minimises: weighted LOSSES of the network's answer, and feature alignment with a frozen encoder.

Of an image mixed by CutMix, each of the two parts is judged by its own depth.
"""

from contextlib import nullcontext
from copy import deepcopy
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sonde import architectures, features, losses, models
from sonde.maps import resize
from sonde.models import DepthModel
from sonde.recipes import AlignRecipe
from sonde.tensors import Batch, Depth, Image, Mask, PerImage

QUANTILE_PIXELS = 1 << 24
"""torch's quantile refuses more values; of larger images it sees every second pixel, or every third."""


class Objective:
    """(network, batch) → the answer and one value per image for each weighted loss.

    Args:
        model: the network with its preprocessing and the meaning of its numbers.
        weights: LOSSES by name, with their weights and trims; each part of a mixed image is trimmed by itself.
        align: feature alignment with a frozen encoder, or None.
    """

    def __init__(self, model: DepthModel, weights: losses.Weights, align: AlignRecipe | None = None):
        self.model = model
        self.weights = weights
        self.align = align
        self.frozen = None if align is None else make_frozen_encoder(model, align)

    def __call__(self, network: nn.Module, batch: Batch) -> tuple[Depth, dict[str, PerImage]]:
        """The answer at the ground truth's size, and the terms; `network` is the model's own, or a wrapper of it."""
        image, depth, mask = batch["image"], batch["depth"], batch["mask"]
        cut = batch.get("cut") if network.training else None
        inside, area = (torch.zeros_like(mask), 0.0) if cut is None else find_cut(cut, depth)
        if cut is not None:
            image = mix(image, find_cut(cut, image)[0])
        aligning = self.frozen is not None and network.training
        with features.record_taps(self.model) if aligning else nullcontext([]) as maps:
            raw = self.model.forward_raw(network, image)
        pred = resize(raw, (depth.shape[-2], depth.shape[-1]))
        target = self.encode_target(depth / self.model.focal_scale_of(batch), mask)
        terms = losses.weigh(pred, target, mask & ~inside, self.weights)
        if cut is not None:
            others = losses.weigh(pred, target.roll(-1, 0), mask.roll(-1, 0) & inside, self.weights)
            terms = {name: (1 - area) * own + area * others[name] for name, own in terms.items()}
        if aligning:
            terms["feature_alignment"] = self._align_features(maps[-1], image)
        return pred, terms

    def encode_target(self, depth: Depth, mask: Mask) -> Depth:
        """The answer that the network should give for depth in its camera: encoded depth, disparity, or metres."""
        safe = torch.where(mask, depth, 1.0)
        encoding = self.model.encoding
        if encoding is not None:
            return encoding.encode(safe)
        if self.model.space != "disparity":
            return safe
        return normalise_disparity(safe, mask, 0.02 if self.model.family.sigmoid else 0.0)

    def _align_features(self, last: Tensor, image: Image) -> PerImage:
        assert self.frozen is not None and self.align is not None
        with torch.no_grad():
            wanted = features.read_taps(self.frozen.to(image.device), image)[-1]
        own, frozen = (maps.flatten(2).transpose(1, 2) for maps in (last, wanted))
        return self.align.weight * losses.feature_alignment(own, frozen, self.align.tolerance)


def make_frozen_encoder(model: DepthModel, align: AlignRecipe) -> DepthModel:
    """The encoder to stay near: the model's own as it is now, DINOv2's, or another model's.

    Raises:
        ValueError: an encoder of another width, or none of that name.
    """
    frozen = deepcopy(model)
    if align.encoder is not None and model.network.config.model_type == "depth_anything":
        architectures.load_encoder(frozen.network.backbone, align.encoder)
    elif align.encoder is not None:
        frozen = models.load_network(align.encoder)
    own, other = (features.read_taps(one, torch.zeros(1, 3, 64, 64))[-1].shape for one in (model, frozen))
    if own != other:
        raise ValueError(
            f"align_features.encoder={align.encoder} ends in features of shape {tuple(other[1:])} where {model.name}'s "
            f"end in {tuple(own[1:])}: expected an encoder of the same width and step."
        )
    return frozen.requires_grad_(False).eval()


def normalise_disparity(depth: Depth, mask: Mask, share: float = 0.02) -> Depth:
    """Inverse depth (b, h, w), scaled per image to [0, 1] between two percentiles: the target of a relative model.

    Any fixed choice of scale and shift would do for the invariant losses. Leaving out the outer 2 % also keeps a
    bounded output away from its ends, where a loss that forgives every scale and shift lets a sigmoid drift and stop
    learning; with a `share` of 0, for outputs without a bound, nothing is clipped.
    """
    disparity = torch.where(mask, 1 / depth, torch.nan)
    line = disparity.flatten(1)
    line = line[:, :: ceil(line.shape[1] / QUANTILE_PIXELS)]
    low, high = line.nanquantile(torch.tensor([share, 1 - share], device=depth.device), dim=1)
    scaled = (disparity - low[:, None, None]) / (high - low).clamp_min(1e-6)[:, None, None]
    return scaled.nan_to_num(0.0).clamp(0, 1)


def find_cut(cut: Float[Tensor, "b 4"], like: Tensor) -> tuple[Mask, Float[Tensor, " b"]]:
    """Pixels (b, h, w) of `like`'s size inside each image's rectangle, and the share of the image it covers.

    Rectangles are (top, left, bottom, right) as shares of height and width; an empty one cuts nothing.
    """
    height, width = like.shape[-2:]
    rows = (torch.arange(height, device=cut.device) + 0.5) / height
    columns = (torch.arange(width, device=cut.device) + 0.5) / width
    top, left, bottom, right = (edge[:, None] for edge in cut.unbind(1))
    down, across = (rows > top) & (rows < bottom), (columns > left) & (columns < right)
    inside = down[:, :, None] & across[:, None, :]
    return inside, inside.float().mean((1, 2))


def mix(image: Image, inside: Mask) -> Image:
    """Each image with the next one of the batch inside its rectangle (CutMix, Yun et al., 2019)."""
    return torch.where(inside[:, None], image.roll(-1, 0), image)
