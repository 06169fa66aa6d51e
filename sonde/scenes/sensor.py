"""From light to data: the photograph's flaws, and the holes in a structured-light scan."""

import cv2
import numpy as np
from jaxtyping import Bool

from sonde.scenes.shading import Radiance, Surface
from sonde.scenes.tracer import Hits, Photo, Scanner, Tracer
from sonde.scenes.vectors import Real, dot, norm, unit
from sonde.types import DepthArray, RGBArray


def photograph(light: Radiance, depth: DepthArray, photo: Photo, rng: np.random.Generator) -> RGBArray:
    """8-bit sRGB of linear light: lens, exposure, shake, noise, tone and compression; `depth` in metres."""
    light = _defocused(light, depth, photo) if photo.aperture else light
    height, width = light.shape[:2]
    light = light * np.asarray(photo.tint, np.float32) * _falloff(height, width, photo.vignette)
    grey = light @ np.full(3, 1 / 3, np.float32)
    middle = float(np.exp(np.log(np.maximum(grey, 1e-4)).mean()))
    metered = (middle + float(np.minimum(grey, 3 * middle).mean())) / 2  # lamps and windows burn out, as in photographs
    exposure = photo.brightness**2.2 / max(metered, 1e-6)
    shown = np.clip(light * np.float32(exposure), 0, None)
    if photo.bloom:
        shown += np.float32(photo.bloom) * cv2.GaussianBlur(np.maximum(shown - 0.8, 0), (0, 0), 0.04 * width)
    shown = shown / (1 + 0.25 * np.maximum(shown - 0.6, 0))  # a shoulder in the highlights, as cameras have
    shown = np.clip(shown, 0, 1) ** np.float32(1 / 2.2)
    shown = 0.5 + (shown - 0.5) * np.float32(photo.contrast)
    shown = shown.mean(-1, keepdims=True) * np.float32(1 - photo.saturation) + shown * np.float32(photo.saturation)
    sigma = photo.blur_px * width / 224
    if sigma > 0.2:
        shown = cv2.GaussianBlur(shown, (0, 0), sigma)
    if any(photo.motion):
        shown = _shaken(shown, *photo.motion)
    shown = shown + rng.standard_normal(shown.shape, np.float32) * np.float32(photo.noise)
    image = (np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)
    return _compressed(image, photo.jpeg) if photo.jpeg else image


def scanned(
    depth: DepthArray, tracer: Tracer, hits: Hits, surface: Surface, scanner: Scanner, rng: np.random.Generator
) -> DepthArray:
    """The depth map with NaN where a structured-light sensor would see nothing; hits and surface of its pixels."""
    towards = tracer.towards(scanner.projector) - hits.point
    distance = norm(towards)
    towards = towards / distance
    to_projector, to_camera = dot(hits.flat, towards), dot(hits.flat, hits.view)
    returned = surface.albedo.mean(0) * np.maximum(to_projector, 0) / distance**2 * (1 - surface.gloss)
    facing = np.maximum(dot(surface.normal, unit(towards + hits.view)), 0)
    lost = (to_projector < scanner.grazing) | (to_camera < scanner.grazing) | (returned < scanner.dark)
    lost |= (
        (surface.gloss * facing ** (4 * surface.sharpness) > 0.25)
        | (hits.depth < scanner.near)
        | (hits.depth > scanner.far)
    )
    lost |= rng.random(len(lost), np.float32) < scanner.speckle * (1 + 2 * (to_camera < 0.4))
    lost |= ~tracer.open(hits.point + hits.flat * np.float32(5e-4), towards * distance, 0.98)
    seen = np.ones(depth.size, bool)
    seen[hits.ray] = ~lost
    kept = seen.reshape(depth.shape) & np.isfinite(depth) & ~_edges(depth, rng)
    return np.where(kept, depth, np.float32(np.nan))


def _edges(depth: DepthArray, rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    """Half of the pixels where the depth jumps by over 3 %: their light mixes two surfaces."""
    filled = np.where(np.isfinite(depth), depth, np.float32(100))
    kernel = np.ones((3, 3), np.uint8)
    jump = cv2.dilate(filled, kernel) - cv2.erode(filled, kernel) > 0.03 * filled
    return jump & (rng.random(depth.shape, np.float32) < 0.5)


def _defocused(light: Radiance, depth: DepthArray, photo: Photo) -> Radiance:
    """A thin lens in steps: each pixel mixes the two of four blurred pictures nearest to its circle of confusion."""
    width = light.shape[1]
    circle = photo.aperture * width * np.abs(1 / depth - np.float32(1 / photo.focus))
    circle = cv2.GaussianBlur(circle.astype(np.float32), (0, 0), 1.0)  # so that blurred edges do not end abruptly
    widest = 0.02 * width
    sigmas = np.array([0.0, 0.15, 0.4, 1.0]) * widest
    level = np.interp(circle, sigmas, np.arange(4)).astype(np.float32)
    stack = [light, *(cv2.GaussianBlur(light, (0, 0), sigma) for sigma in sigmas[1:])]
    share = [np.clip(1 - np.abs(level - i), 0, 1)[..., None] for i in range(4)]
    return np.sum([part * blurred for part, blurred in zip(share, stack, strict=True)], axis=0)


def _shaken(shown: Radiance, right: Real, down: Real) -> Radiance:
    """The picture averaged along a straight path, given in widths."""
    width = shown.shape[1]
    reach = max(round(max(abs(right), abs(down)) * width), 1)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    end = round(right * width), round(down * width)
    cv2.line(kernel, (reach - end[0], reach - end[1]), (reach + end[0], reach + end[1]), 1.0)
    return cv2.filter2D(shown, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def _falloff(height: int, width: int, vignette: float) -> np.ndarray:
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return (1 - vignette * (x * x + y * y) / 2).astype(np.float32)[..., None]


def _compressed(image: RGBArray, quality: int) -> RGBArray:
    _, packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1])
