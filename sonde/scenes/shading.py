"""From hits to radiance: textures, lamps with soft shadows, ambient light with occlusion, gloss, air and sky."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32

from sonde.scenes import materials
from sonde.scenes.tracer import OVERSAMPLING, Hits, Light, Points, Scalars, Scene, Sky, Tracer, _unit

Radiance = Float32[np.ndarray, "h w 3"]

LIFT = 2e-3
"""How far above a surface secondary rays start, metres, plus the same share of the depth over ten."""


class Surface(NamedTuple):
    """What the textures say at each hit."""

    albedo: Points
    normal: Points
    gloss: Scalars
    sharpness: Scalars
    glow: Scalars


class Visibility(NamedTuple):
    """How much of the lamps and of the surroundings each pixel's surface sees, in [0, 1]."""

    lamps: Float32[np.ndarray, "l h w"]
    ambient: Float32[np.ndarray, "h w"]


def radiance(
    tracer: Tracer, visible: Visibility, height: int, width: int, rng: np.random.Generator
) -> Radiance:
    """Linear light at every pixel, the mean of its samples."""
    size = height * OVERSAMPLING, width * OVERSAMPLING
    rays = tracer.camera.rays(height, width, OVERSAMPLING)
    hits = tracer.hits(rays)
    surface = surfaces(hits, tracer, width * OVERSAMPLING, rng)
    row, column = np.divmod(hits.ray, size[1])
    pixel = (row // OVERSAMPLING) * width + column // OVERSAMPLING
    image = sky_radiance(tracer.scene.sky, rays) if len(hits.ray) < len(rays) else np.empty_like(rays)
    image[hits.ray] = lit(hits, surface, tracer.scene, visible, pixel)
    image = image.reshape(height, OVERSAMPLING, width, OVERSAMPLING, 3)
    return np.minimum(image, np.float32(8.0)).mean((1, 3))


def surfaces(hits: Hits, tracer: Tracer, pixels: int, rng: np.random.Generator) -> Surface:
    """Colour, relief and gloss at each hit; fine patterns fade into their mean with distance, by mip level."""
    m = np.take(tracer.table, hits.material, axis=0)
    pixel_size = np.float32(2 * np.tan(np.radians(tracer.camera.fov_deg) / 2) / pixels)
    slant = np.abs((hits.flat * _unit(hits.point)).sum(1))
    footprint = hits.depth * pixel_size / np.sqrt(np.maximum(slant, 0.04))
    dither = rng.random(len(footprint), np.float32)
    u, v = hits.uv.T
    x = (u * m[:, 14] - v * m[:, 15]) * m[:, 11] + m[:, 16]
    y = (u * m[:, 15] + v * m[:, 14]) * m[:, 12] + m[:, 16] * np.float32(0.7)
    level = _mip(footprint * m[:, 11], dither)
    value = materials.sample(m[:, 9], x, y, level)
    mix = np.clip((value - 0.5) * m[:, 17] + 0.5, 0, 1)[:, None]
    albedo = m[:, 0:3] + (m[:, 3:6] - m[:, 0:3]) * mix
    marked = np.flatnonzero(m[:, 18] > 0)
    if len(marked):
        k = m[marked]
        x2, y2 = u[marked] * k[:, 13] + k[:, 16], v[marked] * k[:, 13] + k[:, 16]
        amount = (
            materials.sample(k[:, 10], x2, y2, _mip(footprint[marked] * k[:, 13], dither[marked])) * k[:, 18]
        )
        albedo[marked] += (k[:, 6:9] - albedo[marked]) * amount[:, None]
    normal = hits.normal
    bumpy = np.flatnonzero(m[:, 22] > 0)
    if len(bumpy):
        k = m[bumpy]
        step = np.exp2(level[bumpy]) / materials.TILE
        row, x, y, here = k[:, 9], x[bumpy], y[bumpy], value[bumpy]
        slope_x = (materials.sample(row, x + step, y, level[bumpy]) - here) * k[:, 22]
        slope_y = (materials.sample(row, x, y + step, level[bumpy]) - here) * k[:, 22]
        normal = normal.copy()
        normal[bumpy] = _tilted(normal[bumpy], slope_x, slope_y)
    return Surface(albedo, normal, m[:, 19], m[:, 20], m[:, 21])


def lit(hits: Hits, surface: Surface, scene: Scene, visible: Visibility, pixel) -> Points:
    """Light leaving each hit towards the camera."""
    sky = scene.sky
    view = -_unit(hits.point)
    ambient = visible.ambient.ravel()[pixel][:, None] * _around(sky, surface.normal)
    diffuse = ambient * np.float32(sky.ambient)
    facing = np.clip((surface.normal * view).sum(1), 0, 1)
    mirrored = 2 * facing[:, None] * surface.normal - view
    fresnel = surface.gloss + (1 - surface.gloss) * (1 - facing) ** 5 * np.minimum(surface.gloss * 4, 1)
    shine = (
        ambient * 0
        + _around(sky, mirrored) * np.float32(sky.ambient) * visible.ambient.ravel()[pixel][:, None]
    )
    for light, seen in zip(scene.lights, visible.lamps, strict=True):
        towards = (np.subtract(light.position, scene.camera.position).astype(np.float32)) - hits.point
        distance2 = (towards * towards).sum(1)
        towards *= (1 / np.sqrt(distance2))[:, None]
        strength = seen.ravel()[pixel] / (np.maximum(distance2, 0.05) if light.fades else 1)
        colour = np.float32(light.colour)
        diffuse += (np.maximum((surface.normal * towards).sum(1), 0) * strength)[:, None] * colour
        lobe = np.maximum((mirrored * towards).sum(1), 0) ** surface.sharpness * (surface.sharpness + 2) / 8
        shine += (lobe * strength)[:, None] * colour
    share = fresnel[:, None]
    light = diffuse * surface.albedo * (1 - share) + shine * share + surface.glow[:, None] * surface.albedo
    if sky.haze > 0:
        clear = np.exp(-hits.depth * np.float32(sky.haze))[:, None]
        light = light * clear + np.float32(sky.horizon) * (1 - clear)
    return light.astype(np.float32)


def visibility(tracer: Tracer, hits: Hits, height: int, width: int, rng: np.random.Generator) -> Visibility:
    """Two jittered rays per pixel and lamp and two for the surroundings, smoothed over neighbouring pixels."""
    start = hits.point + hits.flat * (LIFT + LIFT / 10 * hits.depth)[:, None]
    lamps = [_lamp(tracer, light, hits, start, height, width, rng) for light in tracer.scene.lights]
    reach = np.float32(0.25) * np.median(hits.depth) if len(hits.depth) else np.float32(1)
    reach = np.clip(reach, 0.15, 1.5)
    seen = np.zeros(len(start), np.float32)
    for _ in range(2):
        scattered = _unit(hits.normal + _unit(rng.standard_normal(start.shape, np.float32)))
        seen += tracer.open(start, scattered, float(reach)) * np.float32(0.5)
    ambient = np.ones(height * width, np.float32)
    ambient[hits.ray] = seen
    soft = cv2.blur(cv2.blur(ambient.reshape(height, width), (3, 3)), (3, 3))
    lamps = np.stack(lamps) if lamps else np.zeros((0, height, width), np.float32)
    return Visibility(lamps, 0.25 + 0.75 * soft)


def sky_radiance(sky: Sky, directions: Points) -> Points:
    """The sky seen along rays: a gradient, with clouds as noise on a flat layer."""
    directions = _unit(directions)
    height = directions[:, 2]
    rise = np.sqrt(np.clip(height, 0, 1))[:, None]
    colour = np.float32(sky.horizon) * (1 - rise) + np.float32(sky.zenith) * rise
    if sky.clouds > 0:
        layer = directions[:, :2] / np.maximum(height, 0.03)[:, None] * np.float32(0.12) + np.float32(
            sky.shift
        )
        row = np.full(len(layer), materials.PATTERN_ROW["cloud"], np.float32)
        puff = materials.sample(row, *np.ascontiguousarray(layer.T), np.zeros_like(row))
        cover = np.clip((puff - 1 + sky.clouds) * 4, 0, 1) * np.clip(height * 6, 0, 1)
        shade = (0.75 + 0.5 * puff)[:, None] * np.mean(sky.horizon, dtype=np.float32)
        colour = colour + (shade - colour) * cover[:, None] * np.float32(0.9)
    return colour.astype(np.float32)


def _around(sky: Sky, normals: Points) -> Points:
    """Light arriving from the half-space about each normal."""
    up = normals[:, 2:] * 0.5 + 0.5
    above = (np.float32(sky.zenith) + np.float32(sky.horizon)) / 2
    return above * up + np.float32(sky.ground) * (1 - up)


def _lamp(
    tracer: Tracer, light: Light, hits: Hits, start: Points, height: int, width: int, rng
) -> Float32[np.ndarray, "h w"]:
    position = np.subtract(light.position, tracer.camera.position).astype(np.float32)
    facing = np.flatnonzero(((position - start) * hits.flat).sum(1) > 0)
    seen = np.zeros(len(start), np.float32)
    for _ in range(2):
        offset = rng.standard_normal((len(facing), 3), np.float32) * np.float32(light.radius * 0.6)
        towards = position + offset - start[facing]
        seen[facing] += tracer.open(start[facing], towards, 0.98) * np.float32(0.5)
    image = np.zeros(height * width, np.float32)
    image[hits.ray] = seen
    return cv2.blur(image.reshape(height, width), (3, 3))


def _tilted(normals: Points, slope_x: Scalars, slope_y: Scalars) -> Points:
    """Normals leant against a slope along two tangents."""
    helper = np.where(np.abs(normals[:, 2:]) < 0.9, np.float32([0, 0, 1]), np.float32([1, 0, 0]))
    tangent = _unit(np.cross(helper, normals))
    other = np.cross(normals, tangent)
    return _unit(normals - tangent * slope_x[:, None] - other * slope_y[:, None])


def _mip(tiles_per_pixel: Scalars, dither: Scalars) -> Scalars:
    """Whole mip level for a footprint in tiles; dithering hides where levels meet."""
    level = np.log2(np.maximum(tiles_per_pixel * materials.TILE, 1e-6)) + dither - 0.25
    return np.clip(np.floor(level), 0, materials.LEVELS - 1).astype(np.float32)
