"""Tyres and wheels: the tread's circumferential and transverse grooves are geometry, so they have true depth."""

from typing import NamedTuple

import numpy as np

from sonde.scenes import finishes
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.shapes import Group, Mesh, grid, joined, lathe
from sonde.scenes.vectors import Real


class Tyre(NamedTuple):
    """Dimensions, metres."""

    radius: float
    width: float
    bore: float
    """Radius of the hole."""
    groove: float
    """Depth of the grooves."""
    channels: int
    """Circumferential grooves."""
    pitches: int
    """Transverse grooves around the tyre."""
    skew: float
    """How far a transverse groove runs around while it crosses half the tread, in pitches."""


def drawn(rng: Rng, largest: Real = 0.35) -> Tyre:
    """A tyre of a scooter, a car or a van, no larger than `largest` in radius."""
    radius = min(0.36, largest) * rng.uniform(0.65, 1.0)
    return Tyre(
        radius, radius * rng.uniform(0.45, 0.75), radius * rng.uniform(0.52, 0.7), rng.uniform(0.006, 0.012),
        int(rng.integers(2, 5)), int(rng.integers(22, 44)), rng.uniform(-1.5, 1.5),
    )  # fmt: skip


def tread(tyre: Tyre, rng: Rng) -> Mesh:
    """The running surface about the z axis, from z = 0 to the width; every groove has walls and a floor."""
    width, shoulder = tyre.width, tyre.width * 0.06
    centres = np.linspace(0, width, tyre.channels + 2)[1:-1] + rng.normal(0, 0.02 * width, tyre.channels)
    half = rng.uniform(0.006, 0.012) / 2
    edge = np.array([-half, -half * 0.7, half * 0.7, half])
    z = np.r_[shoulder, (centres[:, None] + edge).ravel(), width - shoulder]
    channel = np.r_[0, np.tile([0, 1, 1, 0], tyre.channels), 0]
    rib = np.r_[0, (np.arange(tyre.channels)[:, None] + [0, 0, 1, 1]).ravel(), tyre.channels]
    cut = rng.random(tyre.channels + 1) < 0.75  # ribs with transverse grooves; the shoulders always have them
    cut[[0, -1]] = True
    pitch = 2 * np.pi / tyre.pitches
    share = rng.uniform(0.16, 0.3)
    columns = (np.arange(tyre.pitches)[:, None] + share * np.array([-0.5, -0.35, 0.35, 0.5])).ravel() * pitch
    columns = np.r_[columns, columns[0] + 2 * np.pi]
    crossing = np.r_[np.tile([0, 1, 1, 0], tyre.pitches), 0]
    across = 2 * z / width - 1
    lean = (np.abs(across) if rng.random() < 0.5 else across) * tyre.skew * pitch
    angle = columns + (lean + rng.uniform(0, pitch, tyre.channels + 1)[rib])[:, None]
    sunk = np.maximum(channel[:, None], crossing * cut[rib][:, None])
    radius = tyre.radius * (1 - 0.025 * across**2)[:, None] - tyre.groove * sunk
    points = np.stack(np.broadcast_arrays(radius * np.cos(angle), radius * np.sin(angle), z[:, None]), -1)
    uv = np.stack(np.broadcast_arrays(angle * tyre.radius, z[:, None]), -1)
    return grid(points, uv)


def sidewalls(tyre: Tyre) -> Mesh:
    """Both flanks and the inside, joined to the tread's edges."""
    outer, inner, width = tyre.radius, tyre.bore, tyre.width
    flank = outer - inner
    lower = [
        (inner, 0.16),
        (inner + 0.08 * flank, 0.1),
        (inner + 0.5 * flank, 0.0),
        (inner + 0.85 * flank, 0.03),
        (outer * 0.976, 0.065),
    ]
    upper = [(radius, 1 - share) for radius, share in lower[::-1]]
    inside = [(inner + 0.1 * flank, 0.8), (outer * 0.93, 0.75), (outer * 0.93, 0.25), (inner + 0.1 * flank, 0.2)]
    parts = [lower, [*upper, *inside, (inner, 0.16)]]
    lathes = [lathe(np.array(part) * [1, width], 36) for part in parts]
    return joined(lathes)


def wheel(rng: Rng, tyre: Tyre, rim: bool) -> Group:
    """A tyre lying on the ground, with or without its rim."""
    rubber = finishes.rubber(rng)
    group = Group().add(tread(tyre, rng), rubber)
    marked = rubber._replace(
        mark=finishes.grey(rng, 0.22, 0.45),
        marks="text",
        marks_tile=0.16,
        marked=float(any_of(rng, 0.0, 0.0, 0.12, 0.3)),
    )
    group.add(sidewalls(tyre), marked)
    if rim:
        group.include(_rim(rng, tyre), (0, 0, 0))
    return group


def _rim(rng: Rng, tyre: Tyre) -> Group:
    """A pressed or a spoked wheel."""
    metal, bore, width = finishes.metal(rng), tyre.bore, tyre.width
    face = width * rng.uniform(0.55, 0.85)
    barrel = [
        (bore * 0.97, width * 0.1),
        (bore * 0.9, width * 0.2),
        (bore * 0.9, width * 0.8),
        (bore * 0.97, width * 0.93),
    ]
    group = Group().add(lathe(np.array(barrel[::-1]), 28), metal).add(lathe(np.array(barrel), 28), metal)
    group.add("cylinder", metal, at=(0, 0, width * 0.15), size=(bore * 0.5, bore * 0.5, face - width * 0.1))
    if rng.random() < 0.6:
        spokes = np.arange(int(rng.integers(4, 9)))
        angle = spokes * 2 * np.pi / len(spokes)
        at = np.stack([np.cos(angle) * bore * 0.55, np.sin(angle) * bore * 0.55, 0 * angle + face - width * 0.1], 1)
        group.add("box", metal, at=at, size=(bore * 0.8, bore * rng.uniform(0.12, 0.35), width * 0.08), yaw=angle)
    else:
        group.add("cylinder", metal, at=(0, 0, face - width * 0.1), size=(bore * 1.8, bore * 1.8, width * 0.04))
    bolts = np.arange(5) * 2 * np.pi / 5
    at = np.stack([np.cos(bolts) * bore * 0.17, np.sin(bolts) * bore * 0.17, 0 * bolts + face + width * 0.04], 1)
    return group.add("bolt", finishes.metal(rng), at=at, size=(0.018, 0.018, 0.012))
