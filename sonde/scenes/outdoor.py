"""The open: woods, fields, parks, mountains, shores and gardens, from the grass up to a drone."""

from collections.abc import Callable

import numpy as np

from sonde.scenes import buildings, finishes, furniture, people, solids, street, terrain, viewpoints, weather
from sonde.scenes.catalogue import variant
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.materials import Material
from sonde.scenes.shapes import Group
from sonde.scenes.terrain import Land
from sonde.scenes.tracer import Camera, Scene
from sonde.scenes.vectors import Real

Kind = Callable[[Rng], Group]
Spots = list[np.ndarray]
"""Points worth looking at, metres."""


def scene(rng: Rng) -> Scene:
    """A landscape and several views of it."""
    land, group = terrain.drawn(rng), Group()
    soil = finishes.earth(rng)._replace(tile=rng.uniform(0.8, 4))
    distant = soil if rng.random() < 0.5 else finishes.earth(rng)
    group.include(
        terrain.ground(land, soil, distant._replace(tile=rng.uniform(15, 60), marks_tile=rng.uniform(30, 120)))
    )
    spots = any_of(rng, *LANDSCAPES)(group, rng, land)
    spots += _strewn(group, rng, land, NEAR, int(rng.integers(1, 9)), 2.2, 1.0)
    if rng.random() < 0.25:
        _lake(group, rng, land)
    if rng.random() < 0.5:
        _distance(group, rng, land)
    finishes.repainted(rng, group, any_of(rng, 0.0, 0.0, 0.2))
    cameras = [_camera(rng, land, spots) for _ in range(6)]
    lights, sky = weather.outside(rng, cameras[0])
    photo = viewpoints.snapshot(rng, any_of(rng, 0.0, 0.0, rng.uniform(1, 6)))
    return Scene(group, cameras[0], lights, sky, photo, others=tuple(cameras[1:]))


def wood(group: Group, rng: Rng, land: Land) -> Spots:
    """Trees at any density, undergrowth, rocks, fallen trunks."""
    near = (terrain.trunk, terrain.broadleaf, street.tree)
    kinds = any_of(rng, near, (terrain.conifer,), (*near, terrain.conifer))
    trees = _strewn(group, rng, land, kinds, int(rng.integers(15, 50)), rng.uniform(6, 16), 1.6)
    _strewn(group, rng, land, (terrain.conifer, street.far_tree), 20, 60, 30)
    _strewn(group, rng, land, (terrain.undergrowth, street.bush), int(rng.integers(5, 45)), 6, 0.8)
    return trees + _strewn(group, rng, land, (terrain.rock, _log), int(rng.integers(0, 8)), 6, 1.2)


def field(group: Group, rng: Rng, land: Land) -> Spots:
    """A meadow or crop with fences, animals, bales, lone trees."""
    if rng.random() < 0.5:
        kind = (variant(any_of(rng, street.flower, terrain.undergrowth), rng),)
        for _ in range(rng.integers(20, 90)):
            _put(group, land, any_of(rng, *kind), rng.normal(0, 4), rng.exponential(6) - 1, rng.uniform(0, 6.3))
    spots = _strewn(group, rng, land, (_beast, _beast, _bale, terrain.rock), int(rng.integers(1, 12)), 9, 1.5)
    for _ in range(rng.integers(0, 3)):
        x, y = rng.normal(0, 8, 2)
        _put(group, land, street.fence(rng, rng.uniform(10, 40)), x, y, rng.uniform(0, 6.3))
    return spots + _strewn(
        group, rng, land, (terrain.broadleaf, street.tree, buildings.cottage, buildings.shed), 8, 35, 9
    )


def park(group: Group, rng: Rng, land: Land) -> Spots:
    """A path with seats, lamps, people, flower beds, trees, a playground's frames."""
    paving = any_of(rng, finishes.stone, finishes.masonry, finishes.earth)(rng)
    group.include(terrain.path(rng, land, paving, rng.uniform(1.2, 5)))
    kinds = (
        people.person,
        people.person,
        street.street_bench,
        street.street_lamp,
        street.flower,
        street.bicycle,
        _beast,
    )
    spots = _strewn(group, rng, land, kinds, int(rng.integers(4, 22)), 8, 1.2)
    if rng.random() < 0.4:
        spots += _strewn(group, rng, land, (_frame,), 4, 8, 2.0)
    spots += _strewn(group, rng, land, (terrain.broadleaf, terrain.trunk, street.bush, terrain.conifer), 22, 22, 3.0)
    _strewn(group, rng, land, (buildings.terraced, street.house, buildings.tower), int(rng.integers(0, 8)), 70, 45)
    return spots


def wilds(group: Group, rng: Rng, land: Land) -> Spots:
    """Rocks, scrub and bare ground: mountains, deserts, shores."""
    spots = _strewn(group, rng, land, (terrain.rock,), int(rng.integers(6, 50)), 10, 1.0, scale=rng.uniform(0.4, 3))
    spots += _strewn(
        group, rng, land, (terrain.undergrowth, street.bush, people.person, _beast), int(rng.integers(2, 14)), 9, 1.2
    )
    _strewn(group, rng, land, (terrain.conifer, street.far_tree), int(rng.integers(0, 25)), 70, 25)
    return spots


def garden(group: Group, rng: Rng, land: Land) -> Spots:
    """A house with its terrace, hedges, flowers, chairs, a shed, a car."""
    home = variant(any_of(rng, buildings.cottage, buildings.cottage, buildings.shed, street.house), rng)
    x, y = rng.normal(0, 5), rng.uniform(7, 18)
    _put(group, land, home, x, y, rng.normal(0, 0.3))
    terrace = any_of(rng, finishes.masonry, finishes.stone, finishes.wood)(rng)
    level = float(land.height(x, y)) + 0.06
    group.add("box", terrace, at=(x, y - 2, level - 0.5), size=(rng.uniform(4, 12), 5, 0.5))
    kinds = (_seat, _seat, _seat, street.flower, street.bush, people.person, _beast)
    spots = _strewn(group, rng, land, kinds, int(rng.integers(6, 24)), 6, 1.0)
    for side in (-1, 1):
        if rng.random() < 0.7:
            _put(group, land, street.fence(rng, 24), side * rng.uniform(5, 12), 6, rng.normal(0, 0.1))
    return [
        *spots,
        np.array([x, y, level + 2]),
        *_strewn(group, rng, land, (terrain.broadleaf, street.bush, street.car), 7, 12, 4),
    ]


def _strewn(
    group: Group,
    rng: Rng,
    land: Land,
    kinds: tuple[Kind, ...],
    count: int,
    spread: Real,
    least: Real,
    scale: Real = 1.0,
) -> Spots:
    """Things on the ground about the origin, thinning out with distance; answers their middles."""
    spots = []
    for _ in range(count):
        angle, away = rng.uniform(0, 2 * np.pi), least + rng.exponential(spread)
        kind = any_of(rng, *kinds)
        thing = variant(street.far_tree if kind in TREES and away > 22 else kind, rng)
        size = scale * rng.uniform(0.7, 1.3)
        spots.append(_put(group, land, thing, away * np.cos(angle), away * np.sin(angle), rng.uniform(0, 6.3), size))
    return spots


def _put(group: Group, land: Land, thing: Group, x: Real, y: Real, yaw: Real, scale: Real = 1.0) -> np.ndarray:
    """Stands a thing on the ground, sunk a little so that no foot hangs free; answers its middle."""
    low, high = thing.bounds() * scale
    reach = min(float(np.abs([low[:2], high[:2]]).max()), 4.0)
    around = land.height(x + reach * np.array([0, 0.5, -0.5, 0, 0]), y + reach * np.array([0, 0, 0, 0.5, -0.5]))
    z = float(around.min())
    group.include(thing, (x, y, z), yaw, scale=scale)
    return np.array([x, y, z + 0.5 * high[2]])


def _lake(group: Group, rng: Rng, land: Land) -> None:
    """Still water over the lower parts of the land, some way off."""
    colour = finishes.hue(rng, (0.2, 0.7), (0.1, 0.45), 0.55, 0.06)
    water = Material(
        finishes.shaded(colour, 0.7),
        colour,
        pattern="waves",
        tile=rng.uniform(3, 12),
        gloss=0.6,
        sharpness=60.0,
        relief=0.15,
    )
    side, level = any_of(rng, -1, 1) * np.pi / 2 * rng.integers(0, 3), float(land.height(0, 0)) - rng.uniform(0.2, 1.5)
    at = np.array([-np.sin(side), np.cos(side), 0]) * (rng.uniform(10, 40) + 300) + (0, 0, level)
    group.add("box", water, at=at - (0, 0, 0.5), size=(900, 600, 0.5), yaw=side)


def _distance(group: Group, rng: Rng, land: Land) -> None:
    """A village, woods or ridges far off."""
    for _ in range(rng.integers(5, 40)):
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(80, 400)
        kind = any_of(rng, street.far_tree, street.far_tree, terrain.conifer, buildings.cottage, buildings.tower)
        _put(group, land, variant(kind, rng), away * np.cos(angle), away * np.sin(angle), angle, rng.uniform(0.8, 1.5))


def _log(rng: Rng) -> Group:
    thick, bark = rng.uniform(0.2, 0.7), finishes.wood(rng)._replace(pattern="bark", relief=0.8, gloss=0.0)
    lying = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    return Group().add(
        "cylinder", bark, at=(0, rng.uniform(1, 4), thick / 2), size=(thick, thick, rng.uniform(2, 8)), rotation=lying
    )


def _beast(rng: Rng) -> Group:
    return solids.sized(solids.creature(rng), rng.uniform(0.4, 2.2))


def _bale(rng: Rng) -> Group:
    hay = finishes.earth(rng)._replace(pattern="grass", light=finishes.hue(rng, (0.4, 0.6), (0.6, 0.9), 0.12, 0.02))
    return Group().add(any_of(rng, "box", "cylinder"), hay, size=rng.uniform(1, 2) * np.array([1, 1, 0.9]))


def _seat(rng: Rng) -> Group:
    kinds = (furniture.chair, furniture.table, furniture.big_plant, furniture.stool)
    return any_of(rng, *kinds)(rng).group


def _frame(rng: Rng) -> Group:
    kinds = (solids.lattice, solids.jointed, solids.turned, furniture.stairs)
    return solids.sized(any_of(rng, *kinds)(rng), rng.uniform(1.5, 4))


def _camera(rng: Rng, land: Land, spots: Spots) -> Camera:
    """A view of something, or anywhere; from the grass, from a walker's height, or from above."""
    x, y = rng.normal(0, 2.5, 2)
    rise = any_of(
        rng,
        rng.uniform(1.2, 1.9),
        rng.uniform(0.15, 1.0),
        rng.uniform(2.5, 12),
        rng.uniform(12, 60),
        p=[0.5, 0.25, 0.15, 0.1],
    )
    eye = np.array([x, y, float(land.height(x, y)) + rise])
    if rise > 12 or not spots or rng.random() < 0.22:
        camera = viewpoints.anywhere(rng, eye)
        return camera if rise < 12 else camera._replace(pitch=float(rng.uniform(-1.05, -0.15)))
    target = any_of(rng, *spots) + rng.normal(0, 0.3, 3)
    if rng.random() < 0.65:  # nearer
        eye[:2] = target[:2] + (eye[:2] - target[:2]) * rng.uniform(0.2, 0.7)
        eye[2] = float(land.height(*eye[:2])) + rise
    return viewpoints.at(rng, eye, target)


TREES = (terrain.broadleaf, terrain.conifer, terrain.trunk, street.tree)
"""What is drawn simpler where it is far."""
NEAR = (
    terrain.undergrowth, terrain.undergrowth, terrain.rock, terrain.trunk, street.bush, street.flower, _log, _beast,
    people.person, street.sign, street.bicycle, _frame, _seat,
)  # fmt: skip
"""What may stand close by in any landscape."""
LANDSCAPES: tuple[Callable[[Group, Rng, Land], Spots], ...] = (wood, field, park, park, wilds, garden)
"""What covers the land; each answers points worth looking at."""
