"""Where pictures are taken from, and by what: lenses, tilts and flaws as various as photographs have them.

A general family proposes several cameras; `settle` takes the first that sees something worth learning from.
"""

import numpy as np

from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.tracer import Camera, Photo, Tracer, look_at
from sonde.scenes.vectors import Real, three

GLIMPSE = (12, 16)
"""Rays down and across by which a viewpoint is judged."""
ENOUGH = 0.32
"""Share of a glimpse's rays between which the surface bends or breaks, from which a viewpoint is taken."""


def lens(rng: Rng) -> float:
    """Horizontal field of view in degrees, 25 to 100; often that of a telephone."""
    return float(np.clip(rng.normal(62, 8), 25, 100) if rng.random() < 0.4 else rng.uniform(25, 100))


def roll(rng: Rng) -> float:
    """How crooked the camera is held, radians: mostly within 2 degrees, seldom up to 25."""
    return float(np.radians(rng.uniform(-25, 25) if rng.random() < 0.08 else rng.normal(0, any_of(rng, 0.5, 1.5, 4))))


def pitch(rng: Rng) -> float:
    """How far the camera looks up, radians: level, down to -60 degrees or up to 35."""
    down, up = rng.uniform(-60, -8), rng.uniform(4, 35)
    return float(np.radians(any_of(rng, float(np.clip(rng.normal(0, 5), -60, 35)), down, up, p=[0.5, 0.32, 0.18])))


def at(rng: Rng, position, target) -> Camera:
    """A camera at `position` with `target` somewhere in the middle half of its picture, through any lens; metres."""
    camera = look_at(position, target, lens(rng), roll(rng))
    aside, above = rng.uniform(-0.5, 0.5, 2) * np.radians(camera.fov_deg) / 2 * (1, 0.75)
    return camera._replace(yaw=camera.yaw + float(aside), pitch=camera.pitch + float(above))


def anywhere(rng: Rng, position, yaw: Real | None = None) -> Camera:
    """A camera at `position` looking anywhere, or along `yaw` (radians), with any tilt."""
    yaw = rng.uniform(-np.pi, np.pi) if yaw is None else yaw
    return Camera(three(position), float(yaw), pitch(rng), roll(rng), lens(rng))


def held(rng: Rng, eye, towards) -> Camera:
    """A camera held upright as most people do: towards a point, but level or looking down a little; metres."""
    camera = look_at(eye, (towards[0], towards[1], eye[2]), float(np.clip(rng.normal(60, 7), 42, 80)))
    yaw, tilt = camera.yaw + rng.normal(0, 0.2), np.radians(np.clip(rng.normal(-8, 8), -35, 10))
    return camera._replace(yaw=float(yaw), pitch=float(tilt), roll=float(np.radians(rng.normal(0, 1.2))))


def snapshot(rng: Rng, focus: Real = 0.0) -> Photo:
    """Any camera's picture: well or badly exposed, tinted, grey, noisy, blurred, shaken, compressed.

    Args:
        rng: what draws it.
        focus: depth in metres on which a wide lens may be focused; 0 for a picture sharp all through.
    """
    brightness = any_of(
        rng, rng.uniform(0.36, 0.6), rng.uniform(0.2, 0.36), rng.uniform(0.6, 0.75), p=[0.76, 0.14, 0.1]
    )
    tint = np.clip(1 + rng.normal(0, any_of(rng, 0.02, 0.05, 0.13, p=[0.5, 0.38, 0.12]), 3), 0.55, 1.6)
    saturation = any_of(
        rng, rng.uniform(0.7, 1.4), rng.uniform(0.2, 0.7), 0.0, rng.uniform(1.4, 1.9), p=[0.73, 0.12, 0.05, 0.1]
    )
    shake = rng.normal(0, 0.008, 2) if rng.random() < 0.1 else (0.0, 0.0)
    open_wide = focus > 0 and rng.random() < 0.35
    return Photo(
        brightness, rng.uniform(0.75, 1.4), three(tint), saturation,
        any_of(rng, 0.003, 0.008, 0.015, 0.03, p=[0.35, 0.35, 0.2, 0.1]),
        any_of(rng, 0.0, 0.3, 0.45, 0.8, 1.4, p=[0.35, 0.3, 0.2, 0.11, 0.04]), rng.uniform(0, 0.5),
        any_of(rng, 0, 92, 80, 60, 30, p=[0.35, 0.2, 0.2, 0.15, 0.1]), bloom=any_of(rng, 0.0, 0.0, 0.1, 0.4),
        aperture=rng.uniform(0.001, 0.01) * focus if open_wide else 0.0, focus=focus or 1.0,
        motion=(float(shake[0]), float(shake[1])),
    )  # fmt: skip


def settle(tracer: Tracer, height: int, width: int) -> None:
    """Looks through the first of the scene's cameras that sees enough, else through the one that sees most."""
    cameras = (tracer.scene.camera, *tracer.scene.others)
    worths = []
    for camera in cameras:
        tracer.move(camera)
        worths.append(_worth(tracer, height, width))
        if worths[-1] > ENOUGH:
            return
    tracer.move(cameras[int(np.argmax(worths))])


def _worth(tracer: Tracer, height: int, width: int) -> float:
    """Share of rays where inverse depth, affine on a plane, bends; below 0 inside a thing, too near or in bare sky."""
    v, u = (a.ravel().astype(np.float32) for a in np.mgrid[tuple(slice(0, 1, 1j * count) for count in GLIMPSE)])
    depth, back = tracer.glimpse(tracer.scene.camera.rays(u * (width - 1), v * (height - 1), height, width))
    seen = np.isfinite(depth)
    if seen.mean() < 0.35 or back.mean() > 0.2 or np.quantile(depth[seen], 0.04) < 0.09 * np.median(depth[seen]):
        return float(seen.mean() - back.mean()) - 2
    inverse = (1 / depth).reshape(GLIMPSE)
    bend = np.zeros(GLIMPSE, np.float32)
    bend[:, 1:-1] = np.abs(np.diff(inverse, 2, axis=1))
    bend[1:-1] = np.maximum(bend[1:-1], np.abs(np.diff(inverse, 2, axis=0)))
    return float((bend > 0.05 * inverse.mean()).mean())
