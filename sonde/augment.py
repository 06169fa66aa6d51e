"""What training varies: colours of the image alone; the frame of image, depth, mask and intrinsics together.

Every draw is a function of (seed, epoch, index), and a crop's shape of its batch's first index: any batch can be
replayed, and a resumed run continues as if it had not stopped. Switching one variation on does not change the draws of
the others.

The colour changes are affine in RGB (brightness, contrast, a shift of value, saturation, and hue as a turn of the
colour plane of YIQ), so they are one 3x3 matrix and one offset: a single pass, whatever is switched on.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from sonde.geometry import crop_intrinsics, flip_intrinsics
from sonde.recipes import AugmentRecipe
from sonde.renamed import keep_old_names
from sonde.types import DepthArray, MaskArray, MatrixArray

Key = tuple[int, int, int]
"""(seed, epoch, index)."""
Colours = UInt8[np.ndarray, "height width 3"]
"""RGB; the depth's (h, w) may be another size."""
Pixels = Float[Tensor, "3 height width"]
"""RGB in [0, 1]."""
Box = tuple[int, int, int, int]
"""Top, left, height, width, in pixels."""

LUMA = np.array([0.299, 0.587, 0.114])
YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
"""RGB to luma and the two colour axes that hue turns in (NTSC, 1953)."""


WINDOW, CUT, STRIP, CROP, BORDER = 1, 2, 3, 4, 5
"""Each makes a generator of its own with (seed, epoch, index), so that it does not change the other draws."""
KINDS = (("brightness", "contrast", "value"), ("gamma",), ("saturation", "hue"), ("noise",), ("blur",))
"""Colour changes that are applied together or left out together."""
STRIP_SHARE = 0.75
"""The widest strip of vertical CutDepth, as a share of what lies to the right of its left edge (GLPDepth's p)."""
BORDER_SHARE = 0.05
"""The widest border, as a share of the image's height or width."""


class Draws(NamedTuple):
    """One sample's random numbers: in [0, 1] for places and chances, in [-1, 1] for changes to either side."""

    flip: float
    top: float
    left: float
    blur: float
    noise: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    gamma: float
    value: float
    chances: tuple[float, ...]
    """One for each of KINDS."""


def augment(
    image: Colours,
    depth: DepthArray,
    mask: MaskArray,
    intrinsics: MatrixArray,
    recipe: AugmentRecipe,
    key: Key,
    leader: int | None = None,
) -> tuple[Float[Tensor, "3 _ _"], Float[np.ndarray, "rows columns"], Bool[np.ndarray, "rows columns"], MatrixArray]:
    """A varied capture: image in [0, 1] at its own size, depth in metres with unchanged values.

    A crop keeps the aspect except for `recipe.aspect`, falls on whole depth pixels, and is never resampled in
    depth; the image is enlarged until its short side is as long as before. Its shape is drawn once for all
    samples of a batch, so that they can be stacked, and its place for each sample. (A crop makes the lens
    look longer: for metric depth from one camera, leave it at 1.)

    Args:
        image: (h, w, 3) uint8.
        depth: (H, W) metres; it may differ from the image in size.
        mask: (H, W), True where trusted.
        intrinsics: of the depth's pixels; NaN where unknown stays NaN.
        recipe: what is varied, and how far.
        key: (seed, epoch, index).
        leader: index of the batch's first sample, which determines the shape of the crop; by default this one.
    """
    draws, generator = _draw(key)
    recipe = _leave_out_kinds(recipe, draws)
    if recipe.crop < 1 or recipe.aspect > 1:
        seed, epoch, index = key
        side, stretch = _draw_crop(recipe, (seed, epoch, index if leader is None else leader))
        box = _place_crop(depth.shape, (side * min(1, 1 / stretch), side * min(1, stretch)), draws)
        top, left, height, width = box
        image = _enlarge_crop(image, depth.shape, box, _stretch_size(image, stretch))
        depth, mask = (values[top : top + height, left : left + width] for values in (depth, mask))
        intrinsics = crop_intrinsics(intrinsics, top, left)
    if draws.flip < recipe.flip:
        image, depth = cv2.flip(image, 1), cv2.flip(depth, 1)
        mask = cv2.flip(mask.astype(np.uint8), 1).astype(bool)
        intrinsics = flip_intrinsics(intrinsics, depth.shape[1])
    pixels = _vary_colour(_apply_gamma(image, 1 + draws.gamma * recipe.gamma), recipe, draws, generator)
    return pixels, np.ascontiguousarray(depth), np.ascontiguousarray(mask), intrinsics


def take_window(
    image: Colours, depth: DepthArray, intrinsics: MatrixArray, size: tuple[int, int], key: Key | None
) -> tuple[UInt8[np.ndarray, "_ _ 3"], Float[np.ndarray, "_ _"], MatrixArray]:
    """A (height, width) window of the image and the same part of the depth: central, or where the key draws it.

    The image is larger than the depth map by a whole factor, and so is its window; nothing is copied.
    """
    step = len(image) // len(depth)
    sides = [side // step for side in size]
    spare = [length - side for length, side in zip(depth.shape, sides, strict=True)]
    share = [0.5, 0.5] if key is None else np.random.default_rng((*key, WINDOW)).uniform(0, 1, 2).tolist()
    top, left = (round(part * rest) for part, rest in zip(share, spare, strict=True))
    pixels = image[step * top : step * top + size[0], step * left : step * left + size[1]]
    return pixels, depth[top : top + sides[0], left : left + sides[1]], crop_intrinsics(intrinsics, top, left)


def cut_depth(pixels: Pixels, depth: DepthArray, recipe: AugmentRecipe, key: Key, far: float) -> Pixels:
    """Vertical CutDepth: in a strip of the image, depth / far in place of all three colours, written into `pixels`.

    Depth is in metres, 0 where untrusted, and may have another size than the image (each pixel then takes the
    nearest); beyond `far` it is white. Where it is untrusted the image stays: black would mean a distance of 0, and
    most of a laser's map is untrusted.
    """
    columns = draw_strip(recipe, key, pixels.shape[2])
    if depth.shape != pixels.shape[1:]:
        depth = cv2.resize(depth, pixels.shape[:0:-1], interpolation=cv2.INTER_NEAREST_EXACT)
    grey = torch.from_numpy(depth[:, columns] / np.float32(far)).clamp_(max=1)
    pixels[..., columns] = torch.where(grey > 0, grey, pixels[..., columns])
    return pixels


def draw_strip(recipe: AugmentRecipe, key: Key, width: int) -> slice:
    """Columns of vertical CutDepth (Ishii and Yamashita, 2021, as GLPDepth draws them), in pixels; empty: none.

    From int(a W), max(int((W - a W) b 3/4), 1) wide, with a and b uniform in [0, 1].
    """
    chance, start, share = np.random.default_rng((*key, STRIP)).uniform(0, 1, 3).tolist()
    if chance >= recipe.cut_depth:
        return slice(0)
    left = int(start * width)
    return slice(left, left + max(int((width - start * width) * share * STRIP_SHARE), 1))


def paint_border(pixels: Pixels, recipe: AugmentRecipe, key: Key) -> Pixels:
    """The border of one grey that undistorted and registered images have, written into `pixels`.

    Each side's width is drawn by itself, up to BORDER_SHARE of the image; the grey is black, white or any other, a
    third each. Depth stays as it is: where it is trusted, it continues behind the border.
    """
    random = np.random.default_rng((*key, BORDER))
    if random.random() >= recipe.border:
        return pixels
    grey = float(random.choice([0, 1, random.random()]))
    height, width = pixels.shape[1:]
    top, bottom = (round(share * height) for share in random.uniform(0, BORDER_SHARE, 2))
    left, right = (round(share * width) for share in random.uniform(0, BORDER_SHARE, 2))
    for part in (pixels[:, :top], pixels[:, height - bottom :], pixels[..., :left], pixels[..., width - right :]):
        part.fill_(grey)
    return pixels


def draw_cut(recipe: AugmentRecipe, key: Key) -> Float[np.ndarray, "4"]:
    """CutMix's rectangle as (top, left, bottom, right), shares of height and width; all 0 where nothing is cut.

    Its area is uniform in [0, 1], as CutMix draws it (Yun et al., 2019), and it lies wholly inside.
    """
    random = np.random.default_rng((*key, CUT))
    if random.random() >= recipe.cutmix:
        return np.zeros(4, np.float32)
    side = random.random() ** 0.5
    top, left = random.uniform(0, 1 - side, 2)
    return np.array([top, left, top + side, left + side], np.float32)


def _draw(key: Key) -> tuple[Draws, torch.Generator]:
    random = np.random.default_rng(key)
    values = random.uniform(0, 1, 5).tolist() + random.uniform(-1, 1, 5).tolist()
    generator = torch.Generator().manual_seed(int(random.integers(2**63)))
    # Drawn last, so that the numbers above are those of earlier versions.
    value, chances = random.uniform(-1, 1), random.uniform(0, 1, len(KINDS))
    return Draws(*values, value=value, chances=tuple(chances.tolist())), generator


def _leave_out_kinds(recipe: AugmentRecipe, draws: Draws) -> AugmentRecipe:
    """The recipe without the kinds of colour change that are not drawn for this sample."""
    out = [kind for kind, chance in zip(KINDS, draws.chances, strict=True) if chance >= recipe.colour]
    return recipe.model_copy(update=dict.fromkeys(sum(out, ()), 0.0))


def _draw_crop(recipe: AugmentRecipe, key: Key) -> tuple[float, float]:
    """The longer side of a crop, as a share of the image's, and its aspect relative to the image's.

    The aspect's logarithm is a square, so that most stay near the image's own.
    """
    random = np.random.default_rng((*key, CROP))
    side, turn = random.uniform(recipe.crop, 1), random.uniform(-1, 1)
    return float(side), float(recipe.aspect ** (turn * abs(turn)))


def _place_crop(shape: tuple[int, ...], shares: tuple[float, float], draws: Draws) -> Box:
    height, width = (max(1, round(share * length)) for share, length in zip(shares, shape, strict=True))
    top, left = round(draws.top * (shape[0] - height)), round(draws.left * (shape[1] - width))
    return top, left, height, width


def _stretch_size(image: Colours, stretch: float) -> tuple[int, int]:
    """The image's (height, width) at another aspect and with as long a short side."""
    height, width = image.shape[:2]
    scale = min(height, width) / min(height, width * stretch)
    return round(height * scale), round(width * stretch * scale)


def _enlarge_crop(
    image: Colours, shape: tuple[int, ...], box: Box, size: tuple[int, int]
) -> UInt8[np.ndarray, "_ _ 3"]:
    """The part of the image under a box of depth pixels, enlarged to (height, width).

    Both maps cover the same view from edge to edge: image pixel u lies at box edge + (u + 1/2) / w of the
    box.
    """
    scale_y, scale_x = (length / pixels for length, pixels in zip(image.shape, shape, strict=False))
    (top, left, box_height, box_width), (height, width) = box, size
    start_y, start_x = top * scale_y, left * scale_x
    step_y, step_x = box_height * scale_y / height, box_width * scale_x / width  # source pixels per pixel
    source = np.array([[step_x, 0, start_x + step_x / 2 - 0.5], [0, step_y, start_y + step_y / 2 - 0.5]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, source, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _apply_gamma(image: Colours, gamma: float) -> Pixels:
    """(v / 255)^gamma; of 256 levels, so by a table where it is not 1."""
    if gamma == 1:
        planes = torch.from_numpy(image).permute(2, 0, 1)
        return planes.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    table = (np.linspace(0, 1, 256) ** gamma).astype(np.float32)
    return torch.from_numpy(cv2.LUT(image, table)).permute(2, 0, 1).contiguous()


def _vary_colour(pixels: Pixels, recipe: AugmentRecipe, draws: Draws, generator: torch.Generator) -> Pixels:
    """Blur, one affine map of RGB, noise: each skipped where the recipe leaves it at 0."""
    if recipe.blur:
        blur = max(draws.blur * recipe.blur, 1e-3)
        pixels = torch.stack([torch.from_numpy(cv2.GaussianBlur(plane, (0, 0), blur)) for plane in pixels.numpy()])
    if recipe.brightness or recipe.contrast or recipe.value or recipe.saturation or recipe.hue:
        matrix, offset = _combine_colour_changes(recipe, draws, mean=pixels.mean((1, 2)).double().numpy())
        flat = torch.addmm(offset[:, None], matrix, pixels.view(3, -1))
        pixels = flat.clamp_(0, 1).view_as(pixels)
    if recipe.noise:
        noise = torch.randn(pixels.shape, generator=generator)
        pixels = pixels.add(noise, alpha=draws.noise * recipe.noise).clamp_(0, 1)
    return pixels


def _combine_colour_changes(recipe: AugmentRecipe, draws: Draws, mean: np.ndarray) -> tuple[Tensor, Tensor]:
    """Matrix (3, 3) and offset (3,) of RGB: saturation and hue, which keep luma, brightness, contrast, and the shift.

    Contrast is around the mean grey.
    """
    turn = 2 * np.pi * recipe.hue * draws.hue
    colour = 1 + recipe.saturation * draws.saturation
    brightness = 1 + recipe.brightness * draws.brightness
    contrast = 1 + recipe.contrast * draws.contrast
    plane = colour * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    in_yiq = np.block([[np.ones((1, 1)), np.zeros((1, 2))], [np.zeros((2, 1)), plane]])
    matrix = contrast * brightness * np.linalg.inv(YIQ) @ in_yiq @ YIQ
    offset = np.full(3, (1 - contrast) * brightness * LUMA @ mean + recipe.value * draws.value)
    return torch.from_numpy(matrix).float(), torch.from_numpy(offset).float()


keep_old_names(
    __name__,
    {
        "augmented": "augment",
        "window": "take_window",
        "strip": "draw_strip",
        "border": "paint_border",
        "cut": "draw_cut",
    },
)
