"""People: each stands or sits on the origin and faces -y, metres."""

import numpy as np

from sonde.scenes import finishes
from sonde.scenes.finishes import Rng
from sonde.scenes.shapes import Group, turn


def person(rng: Rng) -> Group:
    """A standing or walking person, 1.5 to 1.95 m."""
    skin = finishes.plain(rng, finishes.hue(rng, (0.3, 0.6), (0.3, 0.9), 0.06, 0.01), 0.02)
    shirt, trousers = finishes.fabric(rng), finishes.fabric(rng, finishes.hue(rng, (0.05, 0.5), (0.08, 0.5), 0.62, 0.1))
    stride, swing = rng.uniform(-0.45, 0.45), rng.uniform(-0.5, 0.5)
    group = Group()
    for side, step in ((-1, stride), (1, -stride)):
        leg = turn(0.0, step, 0.0)
        group.add(
            "capsule",
            trousers,
            at=np.array([side * 0.1, 0, 0.88]) - leg @ [0, 0, 0.84],
            size=(0.17, 0.17, 0.88),
            rotation=leg,
        )
        group.add(
            "cushion",
            finishes.plain(rng, finishes.grey(rng, 0.05, 0.4)),
            at=np.array([side * 0.1, -0.05, 0.88]) - leg @ [0, 0, 0.88],
            size=(0.1, 0.26, 0.09),
        )
        arm = turn(0.0, swing * side, -side * rng.uniform(0.05, 0.3))
        group.add(
            "capsule",
            shirt,
            at=np.array([side * 0.25, 0, 1.42]) - arm @ [0, 0, 0.6],
            size=(0.1, 0.11, 0.62),
            rotation=arm,
        )
        group.add("pebble", skin, at=np.array([side * 0.25, 0, 1.42]) - arm @ [0, 0, 0.68], size=(0.09, 0.09, 0.12))
    group.add("cushion", shirt, at=(0, 0, 0.82), size=(0.42, 0.25, 0.66)).add(
        "pole", skin, at=(0, 0, 1.4), size=(0.11, 0.11, 0.14)
    )
    group.add("pebble", skin, at=(0, 0, 1.5), size=(0.17, 0.2, 0.24))
    group.add(
        "pillow",
        finishes.fabric(rng, finishes.hue(rng, (0.2, 0.6), (0.05, 0.5), 0.08, 0.02)),
        at=(0, 0.025, 1.58),
        size=(0.19, 0.2, 0.18),
    )
    if rng.random() < 0.3:
        group.add("cushion", finishes.fabric(rng), at=(0, 0.2, 0.95), size=(0.32, 0.2, 0.45))
    return Group().include(group, scale=rng.uniform(0.87, 1.12))


def seated(rng: Rng) -> Group:
    """A person on an unseen seat 0.45 m high, facing -y: on a chair, a sofa or a bench."""
    skin = finishes.plain(rng, finishes.hue(rng, (0.3, 0.6), (0.3, 0.9), 0.06, 0.01), 0.02)
    shirt, trousers, group = finishes.fabric(rng), finishes.fabric(rng), Group()
    lean = turn(0.0, rng.uniform(-0.2, 0.35), 0.0)
    for side in (-1, 1):
        at = (side * 0.11, 0.05, 0.52)
        group.add(
            "capsule", trousers, at=at, size=(0.18, 0.18, 0.55), rotation=turn(side * rng.uniform(-0.2, 0), np.pi / 2)
        )
        group.add("capsule", trousers, at=(side * 0.13, -0.42, 0.0), size=(0.13, 0.13, 0.55))
        reach = turn(0.0, rng.uniform(1.9, 2.7), 0.0)
        group.add(
            "capsule", shirt, at=lean @ [side * 0.24, 0, 0.5] + (0, 0, 0.48), size=(0.1, 0.1, 0.5), rotation=reach
        )
    group.add("cushion", shirt, at=(0, 0, 0.45), size=(0.42, 0.25, 0.62), rotation=lean)
    head = lean @ [0, 0, 0.66] + (0, 0, 0.45)
    group.add("pebble", skin, at=head, size=(0.17, 0.2, 0.25))
    hair = finishes.fabric(rng, finishes.hue(rng, (0.2, 0.6), (0.05, 0.5), 0.08, 0.02))
    return group.add("pillow", hair, at=np.add(head, (0, 0.025, 0.1)), size=(0.19, 0.2, 0.18))
