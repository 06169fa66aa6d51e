"""Abstract scenes: solids floating at any pose before any background, in any texture, under any light.

What is left to learn from is occlusion, shading, shadow, focus and the gradient of texture, independent of gravity.
"""

import numpy as np

from sonde.scenes import finishes, solids, viewpoints
from sonde.scenes.catalogue import variant
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.shapes import Group, turn
from sonde.scenes.tracer import Camera, Light, Scene, Sky
from sonde.scenes.vectors import Real, three


def scene(rng: Rng) -> Scene:
    """Solids near and far, seen from the origin along y before everything is turned at random."""
    group, far, fov = Group(), float(np.exp(rng.uniform(np.log(1.0), np.log(30)))), viewpoints.lens(rng)
    _background(group, rng, far)
    near = far * rng.uniform(0.08, 0.4)
    for _ in range(rng.integers(2, 16)):
        _float(group, rng, near, far, fov)
    for _ in range(rng.poisson(0.8)):
        _file(group, rng, near, far, fov)
    heading, tilt = rng.uniform(-np.pi, np.pi), rng.uniform(-1.2, 1.2)
    turned = Group().include(group, rotation=turn(heading, tilt))
    camera = Camera((0.0, 0.0, 0.0), heading, tilt, viewpoints.roll(rng), fov)
    lights = [_light(rng, far) for _ in range(rng.integers(1, 4))]
    return Scene(turned, camera, lights, _surroundings(rng), viewpoints.snapshot(rng, (near * far) ** 0.5))


def _background(group: Group, rng: Rng, far: Real) -> None:
    """A wall at a slant, a box or a ball around everything, a floor, loose sheets, or nothing."""
    kind = any_of(rng, "wall", "box", "ball", "floor", "sheets", "none", p=[0.28, 0.28, 0.1, 0.14, 0.12, 0.08])
    if kind == "wall":
        slant = turn(rng.uniform(-1.1, 1.1), rng.uniform(-1.1, 1.1), rng.uniform(0, 6.3))
        _sheet(group, rng, np.array([0, far, 0]), slant, 6 * far, far)
    elif kind == "box":
        slant, size = turn(*rng.uniform(0, 6.3, 3)), rng.uniform(1.0, 2.2, 3) * far
        for axis, face in enumerate((turn(np.pi / 2), np.eye(3), turn(0.0, np.pi / 2))):
            for side in (-0.5, 0.5):
                _sheet(group, rng, slant @ (np.eye(3)[axis] * side * size), slant @ face, 2.3 * far, far)
    elif kind == "ball":
        group.add(
            "ball", finishes.anything(rng, far), at=(*rng.normal(0, 0.2, 2) * far, -1.2 * far), size=[2.4 * far] * 3
        )
    elif kind == "floor":
        _sheet(group, rng, np.array([0, 0, -rng.uniform(0.05, 0.4) * far]), turn(0.0, -np.pi / 2), 16 * far, far)
    elif kind == "sheets":
        for middle in rng.normal(0, 0.5, (8, 3)) * far * (1, 0.6, 1) + (0, 1.3 * far, 0):
            slant = turn(rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0.8), rng.uniform(0, 6.3))
            _sheet(group, rng, middle, slant, far * rng.uniform(0.5, 1.6), far)


def _sheet(group: Group, rng: Rng, middle: np.ndarray, rotation: np.ndarray, wide: Real, far: Real) -> None:
    """A square sheet about its middle."""
    at = middle - rotation @ [0, 0, wide / 2]
    group.add("panel", finishes.anything(rng, far), at=at, size=(wide, 1, wide), rotation=rotation)


def _float(group: Group, rng: Rng, near: Real, far: Real, fov: Real) -> None:
    """One solid or sheet in mid-air, its size drawn as an angle."""
    spot, away = _spot(rng, near, far, fov)
    size = away * np.tan(np.radians(fov) / 2) * float(np.exp(rng.uniform(np.log(0.12), np.log(1.3))))
    pose = turn(rng.uniform(0, 6.3), rng.uniform(0, 6.3), rng.uniform(0, 6.3))
    thing = solids.sized(variant(any_of(rng, *solids.SOLIDS), rng), size)
    if rng.random() < 0.7:
        thing = finishes.repainted(rng, thing, 1.0, size)
    group.include(thing, spot, rotation=pose)


def _file(group: Group, rng: Rng, near: Real, far: Real, fov: Real) -> None:
    """Copies of one solid at one true size, near and far: the farther, the smaller."""
    one = variant(any_of(rng, *solids.SOLIDS), rng)
    thing = finishes.repainted(rng, solids.sized(one, near * rng.uniform(0.2, 0.8)), 0.5, near)
    pose = turn(rng.uniform(0, 6.3), rng.uniform(0, 6.3), rng.uniform(0, 6.3))
    (first, _), (last, _) = _spot(rng, near, near * 2, fov), _spot(rng, far * 0.5, far, fov)
    for share in np.linspace(0, 1, int(rng.integers(4, 14))):
        group.include(thing, first + (last - first) * share, rotation=pose)


def _spot(rng: Rng, near: Real, far: Real, fov: Real) -> tuple[np.ndarray, float]:
    """A point in view and its depth, nearer ones as likely per factor of two."""
    away = float(np.exp(rng.uniform(np.log(near), np.log(far))))
    x, z = rng.uniform(-1.1, 1.1, 2) * away * np.tan(np.radians(fov) / 2) * (1, 0.75)
    return np.array([x, away, z]), away


def _light(rng: Rng, far: Real) -> Light:
    """A lamp about the camera, or a sun."""
    colour = finishes.hue(rng, (0.0, any_of(rng, 0.2, 0.6)), (0.9, 1.0))
    if rng.random() < 0.4:
        return Light(
            three(rng.normal(0, 1, 3) * 50 * far), finishes.scaled(colour, rng.uniform(1, 4)), far, fades=False
        )
    return Light(three(rng.normal(0, 0.4, 3) * far), finishes.scaled(colour, rng.uniform(0.3, 2) * far**2), 0.02 * far)


def _surroundings(rng: Rng) -> Sky:
    """Light from everywhere in any colours."""
    above, level, below = (finishes.hue(rng, (0, 0.5), (0.3, 1)) for _ in range(3))
    return Sky(above, level, below, any_of(rng, 0.0, rng.uniform(0.2, 0.9)), rng.uniform(0.15, 0.9), shift=rng.random())
