"""Close-ups: things on a table, a floor, a shelf or in the open, from 0.1 to 4 m, before near or far backgrounds."""

from typing import NamedTuple

import numpy as np

from sonde.scenes import clutter, finishes, furniture, people, solids, street, tyre, viewpoints, weather
from sonde.scenes.catalogue import variant
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.materials import Material
from sonde.scenes.shapes import Group, turn
from sonde.scenes.tracer import Camera, Light, Scene, Sky, look_at
from sonde.scenes.vectors import Real, three


class Stage(NamedTuple):
    """Things set up for a close-up about the origin."""

    group: Group
    indoors: bool
    """Whether lamps light it, not the sun."""
    targets: np.ndarray
    """Points worth looking at, (k, 3), metres."""


def scene(rng: Rng) -> Scene:
    """Things and what they stand on; `reach` is the size of what the picture is about, metres."""
    reach = float(np.exp(rng.uniform(np.log(0.12), np.log(0.9))))
    build = any_of(rng, tabletop, shelves, wall, heap, meadow, portrait, p=[0.32, 0.13, 0.1, 0.13, 0.14, 0.18])
    stage = build(rng, reach)
    finishes.repainted(rng, stage.group, any_of(rng, 0.0, 0.15, 0.5), reach)
    cameras = [_camera(rng, reach, any_of(rng, *stage.targets)) for _ in range(5)]
    lights, sky = lamps(rng, reach) if stage.indoors else weather.outside(rng, cameras[0])
    sky = _backdrop(rng, sky) if rng.random() < 0.3 else sky
    return Scene(stage.group, cameras[0], lights, sky, viewpoints.snapshot(rng, 2 * reach), others=tuple(cameras[1:]))


def tabletop(rng: Rng, reach: Real) -> Stage:
    """Things spread on a table or a floor; behind it a wall, a room's far end, or the open."""
    group, half = Group(), reach * rng.uniform(1.2, 5, 2)
    group.add("box", ground(rng, reach), at=(0, half[1] * 0.4, -0.03), size=(*(2 * half), 0.03))
    count, targets = int(rng.integers(1, 10)), []
    for spread in np.linspace(0.1, 0.8, count):
        tall = reach * rng.uniform(0.3, 1.2)
        spot = (*rng.normal(0, spread, 2) * reach, 0)
        group.include(solids.sized(_thing(rng), tall), spot, rng.uniform(0, 6.3))
        targets.append(np.add(spot, (0, 0, 0.3 * tall)))
    return Stage(_backed(group, rng, reach), rng.random() < 0.8, np.array(targets))


def shelves(rng: Rng, reach: Real) -> Stage:
    """Boards one above the other with things on them, seen from the front."""
    board, group, wide = surface(rng), Group(), reach * rng.uniform(3, 6)
    gap, deep = reach * rng.uniform(0.6, 1.4), reach * rng.uniform(0.6, 1.4)
    low = -gap * rng.integers(1, 3)
    levels = low + gap * np.arange(5)
    group.add("box", board, at=levels[:, None] * [0, 0, 1] + [0, 0, -0.05 * reach], size=(wide, deep, 0.05 * reach))
    group.add("box", surface(rng), at=(0, deep / 2, low), size=(wide * 1.5, 0.02, 5 * gap))
    group.add("box", board, at=[(x * wide / 2, 0, low) for x in (-1, 0, 1)], size=(0.05 * reach, deep, 4 * gap))
    for level in levels[:4]:
        same = variant(any_of(rng, *solids.THINGS), rng) if rng.random() < 0.4 else None
        x = -wide / 2
        while (x := x + gap * rng.uniform(0.3, 0.9)) < wide / 2:
            thing = solids.sized(same or _thing(rng), gap * rng.uniform(0.4, 0.85))
            group.include(thing, (x, rng.normal(0, 0.12) * deep, level), rng.uniform(0, 6.3))
    return Stage(
        group, True, np.stack([rng.uniform(-1, 1, 4) * reach, np.zeros(4), levels[1] + gap * rng.random(4)], 1)
    )


def wall(rng: Rng, reach: Real) -> Stage:
    """Flat and standing-out things on a wall: pictures, signs, pipes, boxes, handles; depth by relief alone."""
    group, far = Group(), rng.uniform(0.0, 0.5) * reach
    group.add("box", surface(rng), at=(0, far + 0.05, -8 * reach), size=(20 * reach, 0.1, 16 * reach))
    spots = rng.uniform(-1.6, 1.6, (int(rng.integers(4, 18)), 2)) * reach
    for x, z in spots:
        size, thick = rng.uniform(0.1, 1.2, 2) * reach, reach * any_of(rng, 0.01, 0.03, rng.uniform(0.05, 0.5))
        finish = any_of(rng, finishes.printed(rng, 2 * reach), surface(rng), finishes.metal(rng))
        if rng.random() < 0.6:
            group.add("box", finish, at=(x, far - thick / 2, z), size=(size[0], thick, size[1]))
        else:
            thing = solids.sized(_thing(rng), reach * rng.uniform(0.2, 0.9))
            group.include(thing, (x, far, z), rotation=turn(0.0, np.pi / 2, rng.uniform(0, 6.3)))
    floor = -reach * rng.uniform(0.3, 1.2) if rng.random() < 0.5 else -9 * reach
    group.add("box", ground(rng, reach), at=(0, 0, floor), size=(16 * reach, 8 * reach, 0.02 * reach))
    return Stage(group, rng.random() < 0.7, np.insert(spots, 1, far, axis=1))


def heap(rng: Rng, reach: Real) -> Stage:
    """A pile of things, loose or in a crate."""
    area = reach * rng.uniform(1.2, 2.5, 2)
    group = Group().add("box", ground(rng, reach), at=(0, 0, -0.03), size=(12 * reach, 12 * reach, 0.03))
    one = variant(any_of(rng, *solids.THINGS), rng) if rng.random() < 0.35 else None
    things = [solids.sized(one or _thing(rng), reach * rng.uniform(0.3, 0.8)) for _ in range(rng.integers(8, 26))]
    group.include(clutter.heaped(rng, things, area, 0.0, 2 * reach))
    if rng.random() < 0.4:
        group.include(clutter.tote(rng, three((*(area * 1.15), reach * rng.uniform(0.3, 0.8)))))
    return Stage(_backed(group, rng, reach), rng.random() < 0.8, rng.normal(0.2, 0.25, (4, 3)) * reach)


def meadow(rng: Rng, reach: Real) -> Stage:
    """Flowers, leaves, stones and animals close by, out of doors, with a blur of green far behind."""
    group = Group().add("box", finishes.earth(rng)._replace(tile=reach), at=(0, 40, -0.1), size=(200, 200, 0.1))
    wild = (street.flower, street.flower, street.bush, clutter.plant, solids.lump, solids.bent, solids.creature)
    kinds, targets = [variant(any_of(rng, *wild), rng) for _ in range(3)], []
    for _ in range(rng.integers(3, 30)):
        out, size = reach * rng.exponential(1.0), reach * rng.uniform(0.4, 1.4)
        spot = np.array([rng.normal(0, 0.5) * (reach + out), out - 0.3 * reach, -0.02])
        group.include(solids.sized(any_of(rng, *kinds), size), spot, rng.uniform(0, 6.3))
        targets.append(np.add(spot, (0, 0, 0.6 * size)))
    for _ in range(rng.integers(0, 8)):
        thing = variant(any_of(rng, street.far_tree, street.bush, street.house), rng)
        group.include(thing, (rng.normal(0, 12), rng.uniform(6, 40), 0), rng.normal(0, 0.6))
    return Stage(group, False, np.array(targets[:3]))


def portrait(rng: Rng, reach: Real) -> Stage:
    """One thing that fills the frame: furniture, a person, an animal, a wheel, a machine; more of them behind."""
    draw = any_of(rng, _piece, _person, _person, _animal, _wheel, _vehicle, _solid)
    group = Group().include(solids.sized(draw(rng), 2 * reach), yaw=rng.normal(0, 0.8))
    top = float(group.bounds()[1, 2])
    for _ in range(rng.integers(0, 5)):
        spot = (*(rng.normal(0, 1.5, 2) * reach + (0, 3 * reach)), 0)
        group.include(solids.sized(draw(rng), 2 * reach), spot, rng.uniform(0, 6.3))
    group.add("box", ground(rng, 2 * reach), at=(0, 0, -0.03), size=(40 * reach, 40 * reach, 0.03))
    targets = rng.uniform(0.1, 0.95, (4, 1)) * [0, 0, top]
    return Stage(_backed(group, rng, reach), rng.random() < 0.6, targets)


def _piece(rng: Rng) -> Group:
    return variant(any_of(rng, *furniture.AGAINST_WALLS, *furniture.IN_THE_MIDDLE), rng).group


def _person(rng: Rng) -> Group:
    return variant(people.person, rng)


def _animal(rng: Rng) -> Group:
    return variant(solids.creature, rng)


def _wheel(rng: Rng) -> Group:
    return solids.tumbled(rng, tyre.wheel(rng, tyre.drawn(rng), rng.random() < 0.7))


def _vehicle(rng: Rng) -> Group:
    return variant(any_of(rng, street.car, street.bicycle, street.bicycle), rng)


def _solid(rng: Rng) -> Group:
    return solids.tumbled(rng, variant(any_of(rng, *solids.SOLIDS), rng))


def ground(rng: Rng, reach: Real) -> Material:
    """What things stand on, its pattern at their scale."""
    finish = any_of(rng, surface, surface, finishes.earth)(rng)
    return finish._replace(tile=finish.tile * max(float(reach), 0.3), gloss=finish.gloss * 0.4)


def surface(rng: Rng) -> Material:
    """What tables, boards and walls are made of."""
    return any_of(
        rng, finishes.wood, finishes.plain, finishes.fabric, finishes.stone, finishes.masonry, finishes.plaster,
        finishes.metal, finishes.papered, finishes.anything, p=[0.2, 0.16, 0.14, 0.12, 0.08, 0.1, 0.06, 0.06, 0.08],
    )(rng)  # fmt: skip


def _thing(rng: Rng) -> Group:
    thing = variant(any_of(rng, *solids.THINGS), rng)
    return solids.tumbled(rng, thing) if rng.random() < 0.2 else thing


def _backed(group: Group, rng: Rng, reach: Real) -> Group:
    """With a wall close behind, a cluttered distance, or nothing."""
    kind = any_of(rng, "wall", "distance", "nothing", p=[0.4, 0.45, 0.15])
    group.add("box", ground(rng, 1.0), at=(0, 0, -rng.uniform(0.05, 1.5)), size=(60, 60, 0.02))
    if kind == "wall":
        group.add(
            "box",
            surface(rng),
            at=(0, reach * rng.uniform(1.2, 5), -2),
            size=(14 * reach + 4, 0.1, 12 * reach + 4),
            yaw=rng.normal(0, 0.4),
        )
    if kind == "distance":
        far = reach * rng.uniform(4, 12) + 1
        group.add("box", surface(rng), at=(0, 1.6 * far, -2), size=(8 * far, 0.1, 2 + 3 * far), yaw=rng.normal(0, 0.3))
        for _ in range(rng.integers(2, 9)):
            piece = variant(any_of(rng, *furniture.AGAINST_WALLS), rng)
            spot = rng.normal(0, 0.6) * far, rng.uniform(0.5, 1.5) * far + piece.depth, -0.5
            group.include(piece.group, spot, rng.uniform(0, 6.3))
    return group


def _camera(rng: Rng, reach: Real, target: np.ndarray) -> Camera:
    """A view of a target from about it: level, from above, or from below."""
    fov = viewpoints.lens(rng)
    away = reach * float(np.clip(rng.uniform(0.5, 1.3) / np.tan(np.radians(fov) / 2), 0.9, 4))
    rise = any_of(rng, rng.uniform(0.02, 0.35), rng.uniform(0.3, 1.0), rng.uniform(0.9, 1.5), p=[0.45, 0.4, 0.15])
    around = rng.normal(0, 0.35)
    eye = target + away * np.array([np.sin(around) * np.cos(rise), -np.cos(around) * np.cos(rise), np.sin(rise)])
    target = target + rng.normal(0, 0.15, 3) * reach
    return look_at(eye, target, fov, viewpoints.roll(rng))


def _backdrop(rng: Rng, sky: Sky) -> Sky:
    """Another background, mostly dark as a studio's, a wood's or a night's; as much light comes from it as before."""
    tone = float(np.exp(rng.uniform(np.log(0.01), np.log(0.6))))
    colour = any_of(rng, finishes.grey(rng, 0.7, 1.0), finishes.hue(rng, (0.1, 0.9), (0.6, 1.0)))
    top, bottom = (finishes.scaled(colour, tone * rng.uniform(0.3, 1)) for _ in range(2))
    below = finishes.scaled(sky.ground, tone)
    return sky._replace(zenith=top, horizon=bottom, ground=below, ambient=sky.ambient / tone, clouds=rng.random())


def lamps(rng: Rng, reach: Real) -> tuple[list[Light], Sky]:
    """One to three lamps about the things, or a window's broad light."""
    lights = []
    for _ in range(rng.integers(1, 4)):
        spot = rng.normal(0, 2, 3) * (1, 1, 0.4) + (0, -0.5, rng.uniform(0.8, 2.5))
        spot *= reach * rng.uniform(0.6, 2)
        power = rng.uniform(0.3, 2) * float(spot @ spot)
        colour = finishes.hue(rng, (0.0, 0.35), (0.9, 1.0), any_of(rng, 0.1, 0.1, 0.6, rng.random()), 0.03)
        lights.append(Light(three(spot), finishes.scaled(colour, power), reach * rng.uniform(0.02, 0.8)))
    above = finishes.hue(rng, (0, 0.2), (0.6, 1.0))
    return lights, Sky(above, above, finishes.hue(rng, (0, 0.4), (0.2, 0.7)), ambient=rng.uniform(0.15, 0.9))
