"""Rooms (first version)."""

import numpy as np
from sonde.scenes import finishes
from sonde.scenes.shapes import Group
from sonde.scenes.tracer import Camera, Light, Photo, Scene, Sky, look_at


def scene(rng):
    g = Group()
    w, d, h = rng.uniform(3, 6), rng.uniform(3, 7), rng.uniform(2.3, 3)
    g.add("box", finishes.wood(rng, True), at=(0, 0, -0.1), size=(w, d, 0.1))
    g.add("box", finishes.plaster(rng), at=(0, 0, h), size=(w, d, 0.1))
    for x, y, sx, sy in ((-w / 2, 0, 0.1, d), (w / 2, 0, 0.1, d), (0, d / 2, w, 0.1), (0, -d / 2, w, 0.1)):
        g.add("box", finishes.masonry(rng), at=(x, y, 0), size=(sx, sy, h))
    for _ in range(12):
        s = rng.uniform(0.2, 0.9, 3)
        g.add(
            str(rng.choice(["box", "cylinder", "ball", "cone", "tube", "ring"])),
            rng.choice([finishes.plain, finishes.fabric, finishes.wood, finishes.metal, finishes.cardboard])(
                rng
            ),
            at=(rng.uniform(-w / 2 + 0.5, w / 2 - 0.5), rng.uniform(-d / 2 + 1.5, d / 2 - 0.5), 0),
            size=s,
            yaw=rng.uniform(0, 6),
        )
    cam = look_at(
        (rng.uniform(-0.5, 0.5), -d / 2 + 0.3, rng.uniform(1, 1.8)), (rng.normal(0, 0.5), d / 2, 0.8), 65
    )
    return Scene(g, cam, [Light((rng.uniform(-1, 1), 0, h - 0.2), (8, 8, 7.5), 0.3)], Sky(ambient=0.5))
