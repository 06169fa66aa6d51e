"""Land: height fields, and what grows and lies on them; z is up and the camera's place is near the origin, metres."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sonde.scenes import finishes
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.materials import Material
from sonde.scenes.shapes import Group, grid, turn
from sonde.scenes.vectors import Numbers, Real

FAR = 650.0
"""Half of the land's side, metres; its corners lie before `layouts.SKY`."""


class Land(NamedTuple):
    """A height field: a sum of waves, steeper away from the origin, over an optional lake."""

    waves: Float[np.ndarray, "k 2"]
    """Wave vectors, radians per metre."""
    phase: Float[np.ndarray, " k"]
    swell: Float[np.ndarray, " k"]
    """Amplitudes, metres."""
    slope: Float[np.ndarray, " 2"]
    rise: Real
    """Height of the mountains at the far end, metres."""
    tread: Real
    """Radius about the origin that is nearly level."""

    def height(self, x: Numbers, y: Numbers) -> np.ndarray:
        """Height of the ground at points, metres."""
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        rough = sum(
            a * np.sin(kx * x + ky * y + p) for a, (kx, ky), p in zip(self.swell, self.waves, self.phase, strict=True)
        )
        out = np.hypot(x, y)
        calm = 0.15 + 0.85 * np.clip(out / self.tread - 0.5, 0, 1)
        crest = 0.6 + 0.4 * np.sin(np.arctan2(x, y) * 9 + self.phase[0]) * np.cos(out / 70 + self.phase[1])
        far = self.rise * crest * np.clip(out / FAR - 0.12, 0, 1) ** 1.3
        return np.asarray((rough + self.slope[0] * x + self.slope[1] * y) * calm + far)


def drawn(rng: Rng) -> Land:
    """Plains, downs, dunes or mountains."""
    steep = any_of(rng, 0.02, 0.1, 0.3, p=[0.3, 0.4, 0.3])
    length = np.array([120.0, 60.0, 31.0, 15.0, 7.0, 3.1]) * rng.uniform(0.7, 1.4, 6)
    heading = rng.uniform(0, 2 * np.pi, 6)
    waves = 2 * np.pi / length[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1)
    swell = length * steep * rng.uniform(0.05, 0.3, 6) * np.array([1, 1, 1, 0.7, 0.5, 0.4])
    rise = any_of(rng, 0.0, rng.uniform(20, 120), rng.uniform(120, 500))
    return Land(waves, rng.uniform(0, 6.3, 6), swell, rng.normal(0, steep * 0.3, 2), rise, rng.uniform(3, 25))


def ground(land: Land, material: Material, far: Material) -> Group:
    """The land as two meshes: a fine one about the origin and a coarse one around it, to the horizon."""
    group = Group()
    for sides, finish, inner in ((np.linspace(-1, 1, 49), material, 0.0), (np.linspace(-1, 1, 41), far, 1.0)):
        reach, bend = (FAR, 3.0) if inner else (40.0, 1.6)
        axis = np.sign(sides) * np.abs(sides) ** bend * reach
        x, y = np.meshgrid(axis, axis)
        z = land.height(x, y) - inner * (
            0.25 + 0.6 * np.clip(1 - np.hypot(x, y) / 38, 0, 1) * (1 + np.abs(land.swell).sum())
        )
        points = np.stack([x, y, z], -1)
        group.add(grid(points, points[..., :2].copy()), finish)
    return group


def path(rng: Rng, land: Land, material: Material, wide: Real) -> Group:
    """A track over the land from before the origin to the distance, winding."""
    y = np.linspace(-15, 110, 60)
    middle = rng.normal(0, 6) * np.sin(y / rng.uniform(9, 30)) + rng.normal(0, 0.3) * y
    across = np.linspace(-wide / 2, wide / 2, 5)
    x = middle[:, None] - middle[7] + across
    y = np.broadcast_to(y[:, None], x.shape)
    points = np.stack([x, y, land.height(x, y) + 0.05], -1)
    return Group().add(grid(points, points[..., :2].copy()), material)


def rock(rng: Rng) -> Group:
    """A boulder, or a group of stones."""
    stone, group = finishes.stone(rng)._replace(relief=0.8), Group()
    for _ in range(rng.integers(1, 5)):
        size = rng.uniform(0.3, 1.2, 3) * (1, 1, 0.8)
        spot = (*rng.normal(0, 0.5, 2), -0.25 * size[2])
        group.add(any_of(rng, "stone", "heap"), stone, at=spot, size=size, yaw=rng.uniform(0, 6.3))
    return group


def trunk(rng: Rng) -> Group:
    """A thick tree seen from near: bark, roots, boughs, and a crown high above."""
    tall, thick = rng.uniform(6, 20), rng.uniform(0.2, 0.9)
    bark = finishes.wood(rng)._replace(pattern="bark", tile=rng.uniform(0.6, 1.5), relief=0.9, gloss=0.0, angle=0.0)
    group = Group().add("cylinder", bark, size=(thick, thick, tall))
    group.add("cone", bark, at=(0, 0, -0.1), size=(thick * 2.2, thick * 2.2, thick * 2.5))
    for _ in range(rng.integers(3, 9)):
        start, lean = tall * rng.uniform(0.35, 0.95), turn(rng.uniform(0, 6.3), rng.uniform(0.4, 1.2))
        size = (thick * 0.35, thick * 0.35, tall * rng.uniform(0.15, 0.35))
        group.add("pole", bark, at=(0, 0, start), size=size, rotation=lean)
        if rng.random() < 0.8:
            tip, wide = np.array([0, 0, start]) + lean @ [0, 0, size[2]], tall * rng.uniform(0.12, 0.25)
            group.include(crown(rng, wide), tip - (0, 0, wide / 2))
    return group


def crown(rng: Rng, wide: Real) -> Group:
    """Foliage at the end of a bough: a lump inside, leaves about it."""
    green, yaw = finishes.leafage(rng), rng.uniform(0, 6)
    group = Group().add("crown", green, size=wide * rng.uniform(0.6, 1.0, 3), yaw=yaw)
    return group.add("spray", green, at=(0, 0, -0.15 * wide), size=wide * rng.uniform(1.0, 1.5, 3), yaw=yaw)


def broadleaf(rng: Rng) -> Group:
    """A whole tree with a full crown, 4 to 16 m."""
    tall = rng.uniform(4, 16)
    wide, thick = tall * rng.uniform(0.35, 0.7), tall * rng.uniform(0.02, 0.045)
    bark = finishes.wood(rng)._replace(pattern="bark", gloss=0.0)
    group = Group().add("pole", bark, size=(thick, thick, tall * 0.7))
    green, count = finishes.leafage(rng), int(rng.integers(4, 8))
    at = rng.normal(0, 0.28, (count, 3)) * (wide, wide, tall * 0.35) + (0, 0, tall * 0.42)
    size = wide * rng.uniform(0.35, 0.7, (count, 1)) * (1, 1, 0.8)
    group.add("crown", green, at=at, size=size, yaw=rng.uniform(0, 6, count))
    return group.add("spray", green, at=at - size * (0, 0, 0.15), size=size * 1.35, yaw=rng.uniform(0, 6, count))


def conifer(rng: Rng) -> Group:
    """A fir or a pine, 4 to 25 m."""
    tall = rng.uniform(4, 25)
    bark, green = finishes.wood(rng)._replace(pattern="bark", gloss=0.0), finishes.leafage(rng)
    group = Group().add("pole", bark, size=(tall * 0.025, tall * 0.025, tall * 0.9))
    levels = np.linspace(rng.uniform(0.1, 0.5), 0.92, 7)
    wide = (1.05 - levels) * tall * rng.uniform(0.3, 0.55)
    size = np.stack([wide, wide, 0 * levels + tall * 0.18], 1)
    group.add("cone", green, at=levels[:, None] * [0, 0, tall], size=size * (0.8, 0.8, 1), yaw=rng.uniform(0, 6, 7))
    return group.add(
        "spray", green, at=levels[:, None] * [0, 0, tall], size=size * (1.2, 1.2, 0.9), yaw=rng.uniform(0, 6, 7)
    )


def undergrowth(rng: Rng) -> Group:
    """Grass in tufts, ferns, reeds, low shrubs, 0.2 to 1.2 m."""
    green, wide = finishes.leafage(rng), rng.uniform(0.3, 1.2)
    spots = rng.normal(0, 0.35, (5, 3)) * (wide, wide, 0)
    size = wide * rng.uniform(0.4, 1.0, (5, 3))
    return Group().add(any_of(rng, "grass", "sprig", "spray"), green, at=spots, size=size, yaw=rng.uniform(0, 6, 5))
