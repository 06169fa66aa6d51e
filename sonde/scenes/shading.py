"""From hits to radiance: textures, lamps with soft shadows, ambient light with occlusion, gloss, air and sky.

Pixels are shaded at their centres; where the surface breaks inside a pixel's neighbourhood, three more points are
shaded and averaged in, so edges are smooth and the rest is cheap.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int

from sonde.scenes import materials
from sonde.scenes.tracer import Hits, Light, Scene, Sky, Tracer
from sonde.scenes.vectors import Scalars, Vectors, column, cross, dot, unit

Radiance = Float32[np.ndarray, "h w 3"]

LIFT = 2e-4
"""How far above a surface secondary rays start, metres per metre of depth."""
CORNERS = ((-0.33, -0.12), (0.06, 0.34), (0.28, -0.22))
"""Extra samples about an edge pixel's centre, pixels."""
BRIGHTEST = np.float32(6.0)
"""Radiance above this is clipped before averaging, so that edges against lamps stay smooth."""


class Surface(NamedTuple):
    """What the textures say at each hit."""

    albedo: Vectors
    normal: Vectors
    gloss: Scalars
    sharpness: Scalars
    glow: Scalars


class Visibility(NamedTuple):
    """How much of the lamps and of the surroundings each pixel's surface sees, in [0, 1]."""

    lamps: Float32[np.ndarray, "l n"]
    ambient: Scalars


def radiance(tracer: Tracer, hits: Hits, height: int, width: int, rng: np.random.Generator) -> Radiance:
    """Linear light at every pixel; `hits` are those of the rays through the pixels' centres, row by row."""
    visible = visibility(tracer, hits, height, width, rng)
    everywhere = np.arange(height * width)
    image = _seen(tracer, hits, everywhere, visible, height, width, rng)
    edge = np.flatnonzero(edges(hits, height, width))
    v, u = np.divmod(edge, width)
    spread = [(u + du, v + dv) for du, dv in CORNERS]
    rays = tracer.scene.camera.rays(*np.concatenate(spread, axis=1).astype(np.float32), height, width)
    extra = _seen(tracer, tracer.hits(rays), np.tile(edge, len(CORNERS)), visible, height, width, rng, rays)
    image[:, edge] += extra.reshape(3, len(CORNERS), -1).sum(1)
    image[:, edge] *= np.float32(1 / (1 + len(CORNERS)))
    return np.ascontiguousarray(image.T).reshape(height, width, 3)


def edges(hits: Hits, height: int, width: int) -> Bool[np.ndarray, " p"]:
    """Pixels near which the material changes or inverse depth, which is affine on any plane, bends."""
    inverse = np.zeros(height * width, np.float32)
    inverse[hits.ray] = 1 / hits.depth
    inverse = inverse.reshape(height, width)
    label = np.full(height * width, -1, np.int16)
    label[hits.ray] = hits.material
    label = label.reshape(height, width)
    bend = np.zeros((height, width), np.float32)
    bend[:, 1:-1] = np.abs(inverse[:, 2:] + inverse[:, :-2] - 2 * inverse[:, 1:-1])
    bend[1:-1] = np.maximum(bend[1:-1], np.abs(inverse[2:] + inverse[:-2] - 2 * inverse[1:-1]))
    edge = bend > 0.004 * inverse
    edge[:, 1:] |= label[:, 1:] != label[:, :-1]
    edge[:, :-1] |= label[:, 1:] != label[:, :-1]
    edge[1:] |= label[1:] != label[:-1]
    edge[:-1] |= label[1:] != label[:-1]
    return edge.ravel()


def surfaces(hits: Hits, tracer: Tracer, width: int, rng: np.random.Generator) -> Surface:
    """Colour, relief and gloss at each hit; fine patterns fade into their mean with distance, by mip level."""
    m = np.take(tracer.table, hits.material, axis=1)
    pixel_size = np.float32(2 * np.tan(np.radians(tracer.scene.camera.fov_deg) / 2) / width)
    footprint = hits.depth * pixel_size / np.sqrt(np.maximum(dot(hits.flat, hits.view), np.float32(0.04)))
    dither = rng.random(len(footprint), np.float32)
    u, v = hits.uv
    x = (u * m[14] - v * m[15]) * m[11] + m[16]
    y = (u * m[15] + v * m[14]) * m[12] + m[16] * np.float32(0.7)
    level = _mip(footprint * m[11], dither)
    value = materials.sample(m[9], x, y, level)
    mix = np.clip((value - np.float32(0.5)) * m[17] + np.float32(0.5), 0, 1)
    albedo = m[0:3] + (m[3:6] - m[0:3]) * mix
    marked = np.flatnonzero(m[18])
    if len(marked):
        k = m[:, marked]
        amount = k[18] * materials.sample(
            k[10],
            u[marked] * k[13] + k[16],
            v[marked] * k[13] + k[16],
            _mip(footprint[marked] * k[13], dither[marked]),
        )
        albedo[:, marked] += (k[6:9] - albedo[:, marked]) * amount
    normal = hits.normal
    bumpy = np.flatnonzero(m[22])
    if len(bumpy):
        row, relief = m[9, bumpy], m[22, bumpy]
        step = np.exp2(level[bumpy]) / materials.TILE
        here, x, y, level = value[bumpy], x[bumpy], y[bumpy], level[bumpy]
        slope_x = (materials.sample(row, x + step, y, level) - here) * relief
        slope_y = (materials.sample(row, x, y + step, level) - here) * relief
        normal = normal.copy()
        normal[:, bumpy] = _tilted(normal[:, bumpy], slope_x, slope_y)
    return Surface(albedo, normal, m[19], m[20], m[21])


def lit(tracer: Tracer, hits: Hits, surface: Surface, visible: Visibility) -> Vectors:
    """Light leaving each hit towards the camera."""
    sky, normal = tracer.scene.sky, surface.normal
    surroundings = visible.ambient * np.float32(sky.ambient)
    diffuse = _around(sky, normal) * surroundings
    facing = np.clip(dot(normal, hits.view), 0, 1)
    glossy = np.flatnonzero(surface.gloss > 0)
    mirrored = 2 * facing[glossy] * normal[:, glossy] - hits.view[:, glossy]
    shine = _around(sky, mirrored) * surroundings[glossy]
    for light, seen in zip(tracer.scene.lights, visible.lamps, strict=True):
        towards = tracer.towards(light.position) - hits.point
        distance2 = dot(towards, towards)
        towards *= 1 / np.sqrt(distance2)
        strength = seen / np.maximum(distance2, np.float32(0.05)) if light.fades else seen
        diffuse += column(light.colour) * (np.maximum(dot(normal, towards), 0) * strength)
        sharpness = surface.sharpness[glossy]
        lobe = np.maximum(dot(mirrored, towards[:, glossy]), 0) ** sharpness * ((sharpness + 2) / 8)
        shine += column(light.colour) * (lobe * strength[glossy])
    light = diffuse * surface.albedo
    gloss = surface.gloss[glossy]
    share = gloss + (1 - gloss) * (1 - facing[glossy]) ** 5 * np.minimum(gloss * 4, 1)
    light[:, glossy] += (shine - light[:, glossy]) * share
    return light + surface.albedo * surface.glow


def visibility(tracer: Tracer, hits: Hits, height: int, width: int, rng: np.random.Generator) -> Visibility:
    """Two jittered rays per pixel and lamp and two for the surroundings, smoothed over neighbouring pixels."""
    start = hits.point + hits.flat * (np.float32(LIFT) * hits.depth)
    seen = [_lamp(tracer, light, hits, start, rng) for light in tracer.scene.lights]
    reach = float(np.clip(0.25 * np.median(hits.depth), 0.15, 1.5)) if len(hits.ray) else 1.0
    around = np.zeros(len(hits.ray), np.float32)
    for _ in range(2):
        scattered = hits.normal + unit(rng.standard_normal(start.shape, np.float32))
        around += tracer.open(start, unit(scattered), reach) * np.float32(0.5)
    smooth = [_smoothed(values, hits.ray, height, width) for values in (*seen, around, around)]
    ambient = 0.25 + 0.75 * _smoothed(smooth[-1][hits.ray], hits.ray, height, width)
    return Visibility(np.stack(smooth[:-1])[: len(seen)], ambient)


def sky_radiance(sky: Sky, directions: Vectors) -> Vectors:
    """The sky seen along rays: a gradient, with clouds as noise on a flat layer."""
    directions = unit(directions)
    height = np.clip(directions[2], 0, 1)
    colour = column(sky.horizon) + (column(sky.zenith) - column(sky.horizon)) * np.sqrt(height)
    if sky.clouds > 0:
        layer = directions[:2] * (np.float32(0.12) / np.maximum(height, np.float32(0.03))) + np.float32(
            sky.shift
        )
        row = np.full(len(height), materials.PATTERN_ROW["cloud"], np.float32)
        puff = materials.sample(row, *layer, np.zeros_like(row))
        cover = np.clip((puff - 1 + np.float32(sky.clouds)) * 4, 0, 1) * np.clip(height * 6, 0, 1)
        shade = (0.75 + 0.5 * puff) * np.float32(np.mean(sky.horizon))
        colour += (shade - colour) * (cover * np.float32(0.9))
    return colour


def _seen(
    tracer: Tracer,
    hits: Hits,
    pixel: Int[np.ndarray, " r"],
    visible: Visibility,
    height: int,
    width: int,
    rng,
    rays=None,
) -> Vectors:
    """Radiance along rays, each within a pixel: of the hits, and of the sky for the rest."""
    sky, own = tracer.scene.sky, pixel[hits.ray]
    surface = surfaces(hits, tracer, width, rng)
    light = lit(tracer, hits, surface, Visibility(visible.lamps[:, own], visible.ambient[own]))
    if sky.haze > 0:
        clear = np.exp(hits.depth * np.float32(-sky.haze))
        light = light * clear + column(sky.horizon) * (1 - clear)
    if len(hits.ray) == len(pixel):
        return np.minimum(light, BRIGHTEST)
    if rays is None:
        v, u = np.divmod(pixel, width)
        rays = tracer.scene.camera.rays(u.astype(np.float32), v.astype(np.float32), height, width)
    image = sky_radiance(sky, rays)
    image[:, hits.ray] = light
    return np.minimum(image, BRIGHTEST)


def _around(sky: Sky, normals: Vectors) -> Vectors:
    """Light arriving from the half-space about each normal."""
    above = (column(sky.zenith) + column(sky.horizon)) / 2
    middle, half = (above + column(sky.ground)) / 2, (above - column(sky.ground)) / 2
    return middle + half * normals[2]


def _lamp(tracer: Tracer, light: Light, hits: Hits, start: Vectors, rng: np.random.Generator) -> Scalars:
    """Share of the lamp each hit sees, by two rays to random points of it."""
    position = tracer.towards(light.position)
    facing = np.flatnonzero(dot(position - start, hits.flat) > 0)
    start, seen = start[:, facing], np.zeros(len(hits.ray), np.float32)
    for _ in range(2):
        point = position + rng.standard_normal(start.shape, np.float32) * np.float32(light.radius * 0.6)
        seen[facing] += tracer.open(start, point - start, 0.98) * np.float32(0.5)
    return seen


def _smoothed(
    values: Scalars, ray: Int[np.ndarray, " n"], height: int, width: int
) -> Float32[np.ndarray, " p"]:
    """Values at hits as an image, averaged over 3x3 pixels that were hit; 1 elsewhere."""
    image = np.zeros((2, height * width), np.float32)
    image[0, ray], image[1, ray] = values, 1
    total, count = (cv2.blur(plane.reshape(height, width), (3, 3)) for plane in image)
    return np.where(count > 0, total / np.maximum(count, np.float32(1e-6)), np.float32(1)).ravel()


def _tilted(normals: Vectors, slope_x: Scalars, slope_y: Scalars) -> Vectors:
    """Normals leant against a slope along two tangents."""
    helper = np.where(np.abs(normals[2]) < 0.9, column([0, 0, 1]), column([1, 0, 0]))
    tangent = unit(cross(helper, normals))
    return unit(normals - tangent * slope_x - cross(normals, tangent) * slope_y)


def _mip(tiles_per_pixel: Scalars, dither: Scalars) -> Scalars:
    """Whole mip level for a footprint in tiles; dithering hides where levels meet."""
    level = (
        np.log2(np.maximum(tiles_per_pixel * np.float32(materials.TILE), np.float32(1e-6)))
        + dither
        - np.float32(0.5)
    )
    return np.clip(np.floor(level), 0, materials.LEVELS - 1)
