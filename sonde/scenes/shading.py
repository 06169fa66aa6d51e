"""From hits to radiance: textures, lamps with soft shadows, ambient light with occlusion, gloss, air and sky.

Pixels are shaded at their centres; where the surface breaks inside a pixel's neighbourhood, two more points are
shaded and averaged in, so edges are smooth and the rest is cheap.
"""

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int

from sonde.scenes import materials
from sonde.scenes.tracer import Hits, Light, Sky, Tracer
from sonde.scenes.vectors import Scalars, Vectors, column, cross, dot, unit

Radiance = Float32[np.ndarray, "h w 3"]

LIFT = 2e-4
"""How far above a surface secondary rays start, metres per metre of depth."""
CORNERS = ((-0.33, -0.15), (0.3, 0.2))
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

    def at(self, pixel: Int[np.ndarray, " n"]) -> "Visibility":
        """Of some pixels."""
        return Visibility(np.take(self.lamps, pixel, axis=1), self.ambient[pixel])


def radiance(
    tracer: Tracer, hits: Hits, surface: Surface, height: int, width: int, rng: np.random.Generator
) -> Radiance:
    """Linear light at every pixel; `hits` and `surface` are at the pixels' centres, row by row."""
    visible = visibility(tracer, hits, height, width)
    v, u = np.divmod(np.arange(height * width, dtype=np.float32), np.float32(width))
    camera = tracer.scene.camera
    image = _behind(tracer, camera.rays(u, v, height, width), len(hits.ray))
    image[:, hits.ray] = lit(tracer, hits, surface, visible.at(hits.ray))
    edge = np.flatnonzero(edges(hits, height, width))
    for du, dv in CORNERS:
        rays = camera.rays(u[edge] + np.float32(du), v[edge] + np.float32(dv), height, width)
        extra = tracer.hits(rays)
        light = _behind(tracer, rays, len(extra.ray))
        light[:, extra.ray] = lit(tracer, extra, surfaces(extra, tracer, width, rng), visible.at(edge[extra.ray]))
        image[:, edge] += light
    image[:, edge] *= np.float32(1 / (1 + len(CORNERS)))
    return np.ascontiguousarray(image.T).reshape(height, width, 3)


def _behind(tracer: Tracer, rays: Vectors, hidden: int) -> Vectors:
    light = sky_radiance(tracer.scene.sky, rays, hidden)
    if tracer.prints is not None and hidden < rays.shape[1]:
        tracer.prints.cover_sky(light, rays)
    return light


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
    amount = m[18] * materials.sample(m[10], u * m[13] + m[16], v * m[13] + m[16], _mip(footprint * m[13], dither))
    mix = np.clip((value - np.float32(0.5)) * m[17] + np.float32(0.5), 0, 1)
    albedo = [low + (high - low) * mix for low, high in zip(m[0:3], m[3:6], strict=True)]
    albedo = np.stack([base + (mark - base) * amount for base, mark in zip(albedo, m[6:9], strict=True)])
    if tracer.prints is not None:
        tracer.prints.cover(albedo, hits.material, x, y, level)
    step = np.exp2(level) * np.float32(1 / materials.TILE)
    slope_x = (materials.sample(m[9], x + step, y, level) - value) * m[22]
    slope_y = (materials.sample(m[9], x, y + step, level) - value) * m[22]
    return Surface(albedo, _tilted(hits.normal, slope_x, slope_y), m[19], m[20], m[21])


def lit(tracer: Tracer, hits: Hits, surface: Surface, visible: Visibility) -> Vectors:
    """Light leaving each hit towards the camera."""
    sky, normal = tracer.scene.sky, surface.normal
    surroundings = visible.ambient * np.float32(sky.ambient)
    diffuse = _around(sky, normal) * surroundings
    facing = np.clip(dot(normal, hits.view), 0, 1)
    glossy = np.flatnonzero(surface.gloss)
    gloss, sharpness, point = surface.gloss[glossy], surface.sharpness[glossy], np.take(hits.point, glossy, axis=1)
    mirrored = 2 * facing[glossy] * np.take(normal, glossy, axis=1) - np.take(hits.view, glossy, axis=1)
    shine = _around(sky, mirrored) * surroundings[glossy]
    for light, seen in zip(tracer.scene.lights, visible.lamps, strict=True):
        position, colour = tracer.towards(light.position), column(light.colour)
        strength, towards = _arriving(light, position - hits.point, seen)
        diffuse += colour * (np.maximum(dot(normal, towards), 0) * strength)
        strength, towards = _arriving(light, position - point, seen[glossy])
        shine += colour * (np.maximum(dot(mirrored, towards), 0) ** sharpness * ((sharpness + 2) / 8) * strength)
    light = diffuse * surface.albedo
    share = gloss + (1 - gloss) * (1 - facing[glossy]) ** 5 * np.minimum(gloss * 4, 1)
    for channel, mirror in zip(light, shine, strict=True):
        channel[glossy] += (mirror - channel[glossy]) * share
    light += surface.albedo * surface.glow
    if sky.haze > 0:
        clear = np.exp(hits.depth * np.float32(-sky.haze))
        light = light * clear + column(sky.horizon) * (1 - clear)
    return np.minimum(light, BRIGHTEST)


def visibility(tracer: Tracer, hits: Hits, height: int, width: int) -> Visibility:
    """One ray per pixel to each lamp and one to the surroundings; 4x4 neighbours aim at 16 different points."""
    start = hits.point + hits.flat * (np.float32(LIFT) * hits.depth)
    v, u = np.divmod(hits.ray, width)
    aim = np.take(_directions(), u % 4 * 4 + v % 4, axis=1)
    lamps = [_lamp(tracer, light, hits, start, aim) for light in tracer.scene.lights]
    reach = float(np.clip(0.25 * np.median(hits.depth), 0.15, 1.5)) if len(hits.ray) else 1.0
    around = tracer.open(start, unit(hits.normal + aim * np.float32(0.99)), reach).astype(np.float32)
    lamps = [_smoothed(seen, hits.ray, height, width) for seen in lamps]
    ambient = 0.25 + 0.75 * _smoothed(around, hits.ray, height, width)
    return Visibility(np.array(lamps, np.float32).reshape(-1, height * width), ambient)


def sky_radiance(sky: Sky, directions: Vectors, hidden: int = 0) -> Vectors:
    """The sky seen along rays: a gradient, with clouds as noise on a flat layer; undefined where all is hidden."""
    if hidden == directions.shape[1]:
        return np.empty_like(directions)
    directions = unit(directions)
    height = np.clip(directions[2], 0, 1)
    colour = column(sky.horizon) + (column(sky.zenith) - column(sky.horizon)) * np.sqrt(height)
    if sky.clouds > 0:
        layer = directions[:2] * (np.float32(0.12) / np.maximum(height, np.float32(0.03))) + np.float32(sky.shift)
        row = np.full(len(height), materials.PATTERN_ROW["cloud"], np.float32)
        puff = materials.sample(row, layer[0], layer[1], np.zeros_like(row))
        cover = np.clip((puff - 1 + np.float32(sky.clouds)) * 4, 0, 1) * np.clip(height * 6, 0, 1)
        shade = (0.75 + 0.5 * puff) * np.float32(np.mean(sky.horizon))
        colour += (shade - colour) * (cover * np.float32(0.9))
    return np.minimum(colour, BRIGHTEST)


def _arriving(light: Light, towards: Vectors, seen: Scalars) -> tuple[Scalars, Vectors]:
    """Strength of a lamp at points, and the unit directions to it."""
    distance2 = dot(towards, towards)
    strength = seen / np.maximum(distance2, np.float32(0.05)) if light.fades else seen
    return strength, towards * (1 / np.sqrt(distance2))


def _around(sky: Sky, normals: Vectors) -> Vectors:
    """Light arriving from the half-space about each normal."""
    above = (column(sky.zenith) + column(sky.horizon)) / 2
    middle, half = (above + column(sky.ground)) / 2, (above - column(sky.ground)) / 2
    return middle + half * normals[2]


def _lamp(tracer: Tracer, light: Light, hits: Hits, start: Vectors, aim: Vectors) -> Scalars:
    """Whether each hit sees the point of the lamp that it aims at."""
    towards = aim * np.float32(light.radius) + tracer.towards(light.position) - start
    facing = np.flatnonzero(dot(towards, hits.flat) > 0)
    seen = np.zeros(len(hits.ray), np.float32)
    seen[facing] = tracer.open(np.take(start, facing, axis=1), np.take(towards, facing, axis=1), 0.98)
    return seen


@cache
def _directions() -> Vectors:
    """16 directions spread over the sphere (Fibonacci's spiral), in an order that keeps neighbours far apart."""
    index = np.arange(16) * 7 % 16
    height = (2 * index + 1) / 16 - 1
    angle = index * np.pi * (3 - np.sqrt(5))
    flat = np.sqrt(1 - height**2)
    return np.stack([flat * np.cos(angle), flat * np.sin(angle), height]).astype(np.float32)


def _smoothed(values: Scalars, ray: Int[np.ndarray, " n"], height: int, width: int) -> Float32[np.ndarray, " p"]:
    """Values at hits as an image, averaged over the 4x4 neighbours that were hit, twice; 1 elsewhere."""
    image = np.zeros((height * width, 2), np.float32)
    image[ray, 0], image[ray, 1] = values, 1
    sums = image.reshape(height, width, 2)
    for anchor in ((1, 1), (2, 2)):
        sums = cv2.blur(sums, (4, 4), anchor=anchor)
    total, count = np.ascontiguousarray(sums.reshape(-1, 2).T)
    return np.where(count > 1e-4, total / np.maximum(count, np.float32(1e-4)), np.float32(1))


def _tilted(normals: Vectors, slope_x: Scalars, slope_y: Scalars) -> Vectors:
    """Normals leant against a slope along two tangents."""
    helper = np.where(np.abs(normals[2]) < 0.9, column([0, 0, 1]), column([1, 0, 0]))
    tangent = unit(cross(helper, normals))
    return unit(normals - tangent * slope_x - cross(normals, tangent) * slope_y)


def _mip(tiles_per_pixel: Scalars, dither: Scalars) -> Scalars:
    """Whole mip level for a footprint in tiles; dithering hides where levels meet."""
    level = (
        np.log2(np.maximum(tiles_per_pixel * np.float32(materials.TILE), np.float32(1e-6))) + dither - np.float32(0.5)
    )
    return np.clip(np.floor(level), 0, materials.LEVELS - 1)
