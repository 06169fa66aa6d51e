"""What a network's encoder sees: the feature maps its decoder reads, and pictures of them.

A tap is a layer of the encoder whose output the decoder reads: four layers of DINOv2 in Depth Anything, four stages
in GLPN. They are read at the decoder's door, so they are what the decoder gets, in any architecture and beneath
adapters too. A picture shows the first three principal components of a tap's tokens as red, green and blue, as DINOv2's
authors do: tokens that the encoder takes for alike have like colours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont
from torch import Tensor, nn

from sonde import files
from sonde.models import DepthModel
from sonde.models.taps import DECODERS as DECODERS
from sonde.models.taps import Tap, decoder_of, encoding_network
from sonde.models.taps import recording as recording
from sonde.models.taps import tapped as tapped
from sonde.types import RGBArray

Maps = Float[Tensor, "b c h w"]
GAP, TEXT = 16, 56
"""Pixels between the panels of a sheet, and for the lines below each."""


class Components(NamedTuple):
    """The three directions in which the tokens of a layer differ most."""

    scores: Float[Tensor, "b h w 3"]
    """Each token's coordinates along them, strongest first."""
    share: float
    """How much of the tokens' variance they hold, in [0, 1]; the picture shows nothing of the rest."""


def layers(model: DepthModel) -> list[int]:
    """The number of each tapped layer (of each stage in GLPN), counted from 1.

    Raises:
        ValueError: an architecture that is not tapped, see DECODERS.
    """
    decoder_of(model)
    config = encoding_network(model).config
    backbone: Any = getattr(config, "backbone_config", None)
    if config.model_type in STAGED:
        return [1, 2, 3, 4]
    if config.model_type == "dpt" and (backbone is None or config.is_hybrid):
        return [index + 1 for index in config.backbone_out_indices]  # these alone count from 0
    return list(backbone.out_indices)


def components(maps: Maps) -> Components:
    """Principal components of all tokens of the batch, by the eigenvectors of their covariance in float64.

    An eigenvector's sign is a matter of luck; here its largest entry is positive, so that the same maps always give the
    same picture. A direction in which the tokens do not differ has scores of 0.
    """
    tokens = maps.detach().permute(0, 2, 3, 1).double()  # (b, h, w, c)
    centred = tokens - tokens.mean((0, 1, 2))
    flat = centred.flatten(0, 2)
    values, vectors = torch.linalg.eigh(flat.T @ flat)
    values, vectors = values.flip(0).clamp_min(0)[:3], vectors.flip(1)[:, :3]
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    real = values > 1e-12 * flat.square().sum()
    scores = tokens.new_zeros(*tokens.shape[:3], 3)
    scores[..., : len(values)] = centred @ vectors * real
    total = flat.square().sum()
    return Components(scores, float(values.sum() / total) if total > 0 else 0.0)


def pca(maps: Maps) -> Float[Tensor, "b h w 3"]:
    """Colours in [0, 1]: each of the first three principal components of `components`, scaled on its own.

    Its 2nd and 98th percentiles over the batch become 0 and 1, since a few tokens of a vision transformer hold values
    far from all others; a component that does not vary is 0.5.
    """
    return _colours(components(maps).scores)


def features(image: str | Path, model: DepthModel, out: str | Path) -> list[Path]:
    """Pictures of what the encoder sees in an image: NAME.layer-N.png for each tap, NAME.features.png for all.

    Args:
        image: a file.
        model: whose encoder is shown.
        out: a folder; made where absent.

    Returns:
        The files written: the layers at the image's size, shallowest first, and last the sheet: the image, the layers
        and the depth that the decoder makes of them.

    Raises:
        ValueError: no such image, or an architecture that is not tapped.
    """
    photo, stem = files.read_rgb(image), Path(out) / Path(image).stem
    panels = look(model, photo)
    paths = [stem.with_name(f"{stem.name}.layer-{number}.png") for number in layers(model)]
    for path, panel in zip(paths, panels[1:-1], strict=True):
        files.write_rgb(path, panel.picture)
    summary = stem.with_name(f"{stem.name}.features.png")
    files.write_rgb(summary, sheet(panels))
    return [*paths, summary]


class FeaturePicture(NamedTuple):
    """One picture of a sheet."""

    title: str
    caption: str
    picture: RGBArray


@torch.inference_mode()
def look(model: DepthModel, image: RGBArray) -> list[FeaturePicture]:
    """The image, a panel for each tap and the depth, all at the image's size.

    Raises:
        ValueError: an architecture that is not tapped.
    """
    training, (height, width) = model.training, image.shape[:2]
    rgb = torch.from_numpy(image).to(model.mean.device).permute(2, 0, 1)[None].float() / 255
    with recording(model) as maps:
        prediction = model.eval()(rgb, torch.eye(3))  # of any camera: colours show no scale
    model.train(training)
    seen = "{} x {}".format(*model.spec.network_size(height, width)[::-1])
    depth = files.colour_depth(prediction.depth[0].cpu().numpy(), space=prediction.space)
    return [
        FeaturePicture("Image", f"{width} x {height} pixels, seen at {seen}", image),
        *(_panel(*pair, model, (height, width)) for pair in zip(layers(model), maps, strict=True)),
        FeaturePicture("Depth", f"{model.name}: red is near, violet is far", depth),
    ]


def sheet(panels: Sequence[FeaturePicture], width: int = 560, columns: int = 3) -> RGBArray:
    """The panels in rows of `columns`, each at most `width` pixels wide and high, above its title and caption."""
    height, wide = panels[0].picture.shape[:2]
    scale = min(1.0, width / wide, width / height)
    height, wide = max(1, round(height * scale)), max(1, round(wide * scale))
    across, down, gap = max(wide, 320) + GAP, height + TEXT + GAP, GAP
    rows = -(-len(panels) // columns)
    canvas = PILImage.new("RGB", (min(columns, len(panels)) * across + gap, rows * down + gap), "white")
    draw, bold, plain = ImageDraw.Draw(canvas), ImageFont.load_default(20), ImageFont.load_default(15)
    for index, panel in enumerate(panels):
        left, top = gap + index % columns * across, gap + index // columns * down
        canvas.paste(PILImage.fromarray(files.resize_image(panel.picture, (height, wide))), (left, top))
        draw.text((left, top + height + 6), panel.title, "black", bold)
        draw.text((left, top + height + 32), panel.caption, "#555555", plain)
    return np.array(canvas)


def _panel(number: int, tap: Tap, model: DepthModel, size: tuple[int, int]) -> FeaturePicture:
    """A tap in colour; the caption gives tokens (rows x columns), channels, and how much the picture shows of them."""
    word = "Stage" if encoding_network(model).config.model_type in STAGED else "Layer"
    channels, rows, columns = tap.shape[1:]
    found = components(tap)
    caption = f"{rows} x {columns} tokens, {channels} channels, {found.share:.0%} of variance shown"
    seen = model.spec.network_size(*size) if model.spec.pads else size
    picture = _enlarged(_colours(found.scores)[0], seen)[: size[0], : size[1]]
    return FeaturePicture(f"{word} {number}", caption, np.ascontiguousarray(picture))


def _colours(scores: Float[Tensor, "b h w 3"]) -> Float[Tensor, "b h w 3"]:
    flat = scores.flatten(0, 2)
    low, high = (torch.from_numpy(np.percentile(flat.cpu().numpy(), end, axis=0)).to(flat) for end in (2, 98))
    varies = high > low
    return torch.where(varies, (scores - low) / torch.where(varies, high - low, 1.0), 0.5).clamp(0, 1).float()


def _enlarged(colours: Float[Tensor, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """At (height, width) by nearest neighbour: one flat tile for each token."""
    tiles = nn.functional.interpolate(colours.permute(2, 0, 1)[None], size, mode="nearest-exact")
    return (tiles[0].permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()


STAGED = ("glpn", "efficientnet_lite")
"""Architectures whose taps are the ends of four stages."""
