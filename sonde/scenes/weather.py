"""Light out of doors at any hour: the road's daylight, and fog, dusk, night and counter-light besides."""

import numpy as np

from sonde.scenes import finishes
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.road import daylight
from sonde.scenes.tracer import Camera, Light, Sky
from sonde.scenes.vectors import three


def outside(rng: Rng, camera: Camera, lamps: list[Light] | None = None) -> tuple[list[Light], Sky]:
    """Sun and sky as seen by a camera; `lamps` burn at night.

    Args:
        rng: what draws the weather.
        camera: where the picture is taken; the sun is as far from it as from everything.
        lamps: street lamps or windows, lit at dusk and at night alone; at most two cast light.
    """
    kind = any_of(rng, "day", "fog", "dusk", "night", "backlit", p=[0.73, 0.07, 0.07, 0.05, 0.08])
    lights, sky = daylight(rng, camera)
    if kind == "fog":
        sky = sky._replace(haze=float(np.exp(rng.uniform(np.log(0.008), np.log(0.06)))), clouds=1.0)
    elif kind in ("dusk", "night"):
        dim, glow = rng.uniform(0.15, 0.5), finishes.hue(rng, (0.3, 0.8), (0.3, 1), any_of(rng, 0.04, 0.07, 0.6), 0.02)
        horizon = finishes.scaled(glow, dim if kind == "dusk" else 0.05)
        sky = Sky((0.01, 0.02, 0.06), horizon, (0.02, 0.02, 0.02), sky.clouds, 0.8, sky.haze, sky.shift)
        lights = (lamps or [])[:2] or [lights[0]._replace(colour=three(np.array((0.2, 0.25, 0.4)) * dim))]
    elif kind == "backlit":
        ahead, low = camera.axes()[:, 2] + rng.normal(0, 0.25, 3), rng.uniform(0.08, 0.5)
        sun = np.array([ahead[0], ahead[1], low * float(np.hypot(ahead[0], ahead[1]))])
        lights = [lights[0]._replace(position=three(np.array(camera.position) + 2000 * sun))]
    return lights, sky
