"""What a network's encoder sees: the feature maps its decoder reads, and pictures of them.

A tap is a layer of the encoder whose output the decoder reads: four layers of DINOv2 in Depth Anything, four stages in
GLPN. It is read at the input of the decoder, in every architecture, with or without adapters. A picture shows the first
three principal components of a tap's tokens as red, green and blue, as DINOv2's authors do: similar tokens have similar
colours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont
from torch import Tensor, nn

from sonde import files
from sonde.models import DepthModel, check_finite
from sonde.models.taps import DECODERS as DECODERS
from sonde.models.taps import Tap, find_decoder, find_tapped_network
from sonde.models.taps import read_taps as read_taps
from sonde.models.taps import record_taps as record_taps
from sonde.renamed import keep_old_names
from sonde.types import RGBArray

Maps = Float[Tensor, "b c h w"]
GAP, TEXT = 16, 56
"""Pixels between the panels of a sheet, and for the text below each."""


class Components(NamedTuple):
    """The first three principal components of a layer's tokens."""

    scores: Float[Tensor, "b h w 3"]
    """Each token's coordinates along them, strongest first, float64."""
    share: float
    """Their share of the tokens' variance, in [0, 1]; the picture does not show the rest."""


def list_layers(model: DepthModel) -> list[int]:
    """The numbers of the tapped layers, or of the stages in GLPN, counted from 1.

    Raises:
        ValueError: an architecture that is not tapped, see DECODERS.
    """
    find_decoder(model)
    config = find_tapped_network(model).config
    if config.model_type in STAGED:
        return [1, 2, 3, 4]
    backbone = config.backbone_config
    if config.model_type == "dpt" and (backbone is None or config.is_hybrid):
        # The indices of DPT's own encoder count from 0; index 0 of a backbone is its embedding.
        return [index + 1 for index in config.backbone_out_indices]
    return list(backbone.out_indices)


def find_components(maps: Maps) -> Components:
    """Principal components of all tokens of the batch, from the eigenvectors of their covariance in float64.

    The sign of an eigenvector is arbitrary; here its largest entry is positive, so that the same maps always give the
    same picture. A component in which the tokens do not differ has scores of 0.
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
    """Colours in [0, 1]: the first three principal components, each scaled separately.

    The 2nd and 98th percentiles over the batch become 0 and 1, because a few tokens of a vision transformer hold values
    far from all others. A component that does not vary is 0.5.
    """
    return _scale_scores(find_components(maps).scores)


def features(image: str | Path, model: DepthModel, out: str | Path) -> list[Path]:
    """Write pictures of what the encoder sees: NAME.layer-N.png for each tap, NAME.features.png for all together.

    Args:
        image: a file.
        model: the model whose encoder is shown.
        out: a folder; created if absent.

    Returns:
        The files written: the layers at the image's size, shallowest first, then the sheet with the image, the layers
        and the predicted depth.

    Raises:
        ValueError: no such image, or an architecture that is not tapped.
    """
    photo, stem = files.read_rgb(image), Path(out) / Path(image).stem
    panels = look(model, photo)
    paths = [stem.with_name(f"{stem.name}.layer-{number}.png") for number in list_layers(model)]
    for path, panel in zip(paths, panels[1:-1], strict=True):
        files.write_rgb(path, panel.picture)
    summary = stem.with_name(f"{stem.name}.features.png")
    files.write_rgb(summary, draw_sheet(panels))
    return [*paths, summary]


class FeaturePicture(NamedTuple):
    """One picture of a sheet."""

    title: str
    caption: str
    picture: RGBArray


@torch.inference_mode()
def look(model: DepthModel, image: RGBArray) -> list[FeaturePicture]:
    """Pictures of the image, of each tap and of the depth, all at the image's size.

    Args:
        model: the model whose encoder is shown; its training mode stays as it was.
        image: (h, w, 3) uint8.

    Raises:
        ValueError: an architecture that is not tapped, or an answer that is not finite.
    """
    training, (height, width) = model.training, image.shape[:2]
    rgb = torch.from_numpy(image).to(model.mean.device).permute(2, 0, 1)[None].float() / 255
    with record_taps(model) as taps:
        # Any camera will do, because the colours of the depth do not show its scale.
        prediction = model.eval()(rgb, torch.eye(3))
    model.train(training)
    maps = [tap.cpu() for tap in taps]  # the components are computed in float64, which not every GPU has
    for answer in (*maps, prediction.depth):
        check_finite(answer, model.name)
    rows, columns = model.spec.network_size(height, width)
    depth = files.colour_depth(prediction.depth[0].cpu().numpy(), space=prediction.space)
    layers = zip(list_layers(model), maps, strict=True)
    pictures = [_draw_tap(number, tap, model, (height, width)) for number, tap in layers]
    return [
        FeaturePicture("Image", f"{width} x {height} pixels, seen at {columns} x {rows}", image),
        *pictures,
        FeaturePicture("Depth", f"{model.name}: red is near, violet is far", depth),
    ]


def draw_sheet(panels: Sequence[FeaturePicture], width: int = 560, columns: int = 3) -> RGBArray:
    """The panels in rows of `columns`, each with its title and caption below.

    Args:
        panels: pictures of one size.
        width: largest width and height of a panel, pixels.
        columns: panels in a row.
    """
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


def _draw_tap(number: int, tap: Tap, model: DepthModel, size: tuple[int, int]) -> FeaturePicture:
    """A tap in colours at (height, width); the caption gives tokens (rows x columns), channels and variance shown."""
    word = "Stage" if find_tapped_network(model).config.model_type in STAGED else "Layer"
    channels, rows, columns = tap.shape[1:]
    found = find_components(tap)
    caption = f"{rows} x {columns} tokens, {channels} channels, {found.share:.0%} of variance shown"
    # A padded image is larger than the picture: the tokens of the padding are cut off.
    seen = model.spec.network_size(*size) if model.spec.pads else size
    picture = _enlarge(_scale_scores(found.scores)[0], seen)[: size[0], : size[1]]
    return FeaturePicture(f"{word} {number}", caption, np.ascontiguousarray(picture))


def _scale_scores(scores: Float[Tensor, "b h w 3"]) -> Float[Tensor, "b h w 3"]:
    """Each component between its 2nd and 98th percentile, as [0, 1]."""
    flat = scores.flatten(0, 2)
    low, high = (torch.from_numpy(np.percentile(flat.cpu().numpy(), end, axis=0)).to(flat) for end in (2, 98))
    varies = high > low
    return torch.where(varies, (scores - low) / torch.where(varies, high - low, 1.0), 0.5).clamp(0, 1).float()


def _enlarge(colours: Float[Tensor, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """Colours at (height, width) by nearest neighbours: one flat tile for each token."""
    tiles = nn.functional.interpolate(colours.permute(2, 0, 1)[None], size, mode="nearest-exact")
    return (tiles[0].permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()


STAGED = ("glpn", "efficientnet_lite")
"""Architectures whose taps are the ends of four stages."""

keep_old_names(
    __name__,
    {
        "recording": "record_taps",
        "tapped": "read_taps",
        "layers": "list_layers",
        "components": "find_components",
        "sheet": "draw_sheet",
    },
)
