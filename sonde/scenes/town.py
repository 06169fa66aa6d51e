"""Towns at large: streets, alleys, crossings, squares, car parks and courtyards, from the kerb to the third storey."""

from collections.abc import Callable

import numpy as np

from sonde.scenes import buildings, finishes, furniture, people, solids, street, viewpoints, weather
from sonde.scenes.catalogue import variant
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.materials import Material
from sonde.scenes.shapes import Group, grid
from sonde.scenes.tracer import Camera, Light, Scene
from sonde.scenes.vectors import Real

REACH = 90.0
"""Half of the town's side, metres."""


class Block:
    """A piece of town under construction about the origin, z = 0 its ground."""

    def __init__(self) -> None:
        self.group = Group()
        self.lamps: list[Light] = []
        self.things: list[tuple[float, float, float]] = []
        """Worth looking at: x, y and height."""

    def strip(self, material: Material, x: tuple[Real, Real], y: tuple[Real, Real], z: Real, wave: Real = 0.0) -> None:
        """A level rectangle of ground; with a `wave` in metres, an uneven one."""
        across, along = np.linspace(*x, 25 if wave else 2), np.linspace(*y, 25 if wave else 2)
        flat = np.stack(np.broadcast_arrays(across, along[:, None], float(z)), -1)
        flat[..., 2] += wave * np.sin(flat[..., 0] * 0.13) * np.cos(flat[..., 1] * 0.11)
        self.group.add(grid(flat, flat[..., :2].copy()), material)

    def put(self, thing: Group, x: Real, y: Real, yaw: Real = 0.0, z: Real = 0.0) -> None:
        """Stands a thing there, and notes it as worth looking at."""
        self.group.include(thing, (x, y, z), yaw)
        self.things.append((float(x), float(y), float(thing.bounds()[1, 2])))


def scene(rng: Rng, view: Callable[[Block, Rng, Real], Camera] | None = None) -> Scene:
    """A piece of town and several views of it; `view` may draw others, given half of the street's free width."""
    block = Block()
    block.strip(
        any_of(rng, finishes.earth, finishes.stone)(rng)._replace(tile=rng.uniform(2, 8)),
        (-400, 400),
        (-400, 400),
        -0.06,
    )
    walk = any_of(rng, avenue, avenue, alley, square, car_park, crossing)(block, rng)
    finishes.repainted(rng, block.group, any_of(rng, 0.0, 0.05, 0.25))
    cameras = [(view or _camera)(block, rng, walk) for _ in range(6)]
    lights, sky = weather.outside(rng, cameras[0], block.lamps)
    photo = viewpoints.snapshot(rng, any_of(rng, 0.0, 0.0, 0.0, rng.uniform(1.5, 8)))
    return Scene(block.group, cameras[0], lights, sky, photo, others=tuple(cameras[1:]))


def avenue(block: Block, rng: Rng) -> Real:
    """A road along y with pavements, parked cars, trees and houses on both sides; answers half of its free width."""
    half, walk = rng.uniform(2.5, 9), rng.uniform(1.5, 5)
    _road(block, rng, half)
    for side in (-1, 1):
        paving = any_of(rng, finishes.masonry, finishes.stone)(rng)
        inner, outer = sorted((side * half, side * (half + walk)))
        block.group.add("box", paving, at=((inner + outer) / 2, 0, -0.1), size=(walk, 2 * REACH, 0.24))
        front = half + walk + any_of(rng, 0.0, rng.uniform(1, 8))
        _row(block, rng, side, front, gaps=any_of(rng, 0.2, 5.0))
        if rng.random() < 0.7:
            _file(
                block,
                rng,
                [variant(street.car, rng) for _ in range(3)] + [variant(street.van, rng)],
                side * (half - 1.1),
                6.5,
                1.0,
                side,
            )
        if rng.random() < 0.5:
            _file(block, rng, [variant(_tree(rng), rng)], side * (half + 0.9), rng.uniform(6, 14), 0.0, side)
        lamp = variant(street.street_lamp, rng)
        for y in np.arange(-50, 60, rng.uniform(14, 30)):
            block.put(lamp, side * (half + 0.5), y, 0.0 if side > 0 else np.pi)
        warm = finishes.scaled((1.0, 0.75, 0.4), rng.uniform(40, 120))
        block.lamps.append(
            Light((side * (half - 1.0), rng.uniform(-8, 8), float(lamp.bounds()[1, 2]) - 0.3), warm, 0.2)
        )
        _people(block, rng, side * half, side * (half + walk), int(rng.integers(0, 12)))
        for _ in range(rng.integers(2, 12)):
            x = side * (half + rng.uniform(0.3, walk))
            block.put(
                variant(any_of(rng, *street.ROADSIDE), rng), x, rng.normal(0, 22), 0.0 if side > 0 else np.pi, 0.14
            )
    for _ in range(rng.integers(0, 7)):
        y, x = rng.normal(0, 30), rng.uniform(-0.6, 0.6) * half
        block.put(
            variant(any_of(rng, street.car, street.car, street.van, street.bicycle), rng), x, y, 0.0 if x < 0 else np.pi
        )
    if rng.random() < 0.15:
        block.group.include(variant(buildings.bridge, rng), (0, any_of(rng, -1, 1) * rng.uniform(20, 50), 0))
    _skyline(block, rng)
    return half + walk


def alley(block: Block, rng: Rng) -> Real:
    """A narrow lane between house fronts."""
    half = rng.uniform(1.3, 3.2)
    block.strip(any_of(rng, finishes.masonry, finishes.stone)(rng), (-half, half), (-REACH, REACH), 0.0)
    for side in (-1, 1):
        _row(block, rng, side, half, gaps=0.1)
        things = (street.street_bench, street.bush, street.bicycle, street.sign, _bin, _bin)
        for _ in range(rng.integers(3, 14)):
            block.put(variant(any_of(rng, *things), rng), side * (half - 0.45), rng.normal(0, 12), rng.uniform(0, 6.3))
    _people(block, rng, -half, half, int(rng.integers(0, 8)))
    block.lamps.append(Light((half - 0.6, rng.uniform(-4, 6), 3.5), finishes.scaled((1.0, 0.7, 0.4), 25), 0.15))
    if rng.random() < 0.4:  # washing or flags across the lane
        for y in rng.normal(0, 12, 4):
            x = np.linspace(-half, half, 5)[:-1] + rng.uniform(0, 0.4)
            block.group.add(
                "panel", finishes.fabric(rng), at=[(a, y, rng.uniform(3.2, 5)) for a in x], size=(0.6, 1, 0.8)
            )
    return half


def square(block: Block, rng: Rng) -> Real:
    """An open place with houses around it, trees, seats, stalls, a monument, people."""
    half = rng.uniform(10, 32)
    block.strip(
        any_of(rng, finishes.masonry, finishes.stone, finishes.earth)(rng),
        (-half, half),
        (-half, half),
        0.0,
        rng.uniform(0, 0.1),
    )
    for quarter in range(4):
        if rng.random() < 0.85:
            _row(block, rng, 1, half, gaps=any_of(rng, 0.2, 4.0), quarter=quarter, long=half + 8)
    if rng.random() < 0.6:
        _monument(block, rng, *rng.normal(0, 0.2, 2) * half)
    for _ in range(rng.integers(0, 8)):
        _stall(block, rng, *rng.uniform(-0.8, 0.8, 2) * half)
    for _ in range(rng.integers(4, 24)):
        x, y = rng.uniform(-0.95, 0.95, 2) * half
        block.put(variant(any_of(rng, *street.ROADSIDE), rng), x, y, rng.uniform(0, 6.3))
    _people(block, rng, -half * 0.8, half * 0.8, int(rng.integers(2, 24)))
    _skyline(block, rng)
    return half


def car_park(block: Block, rng: Rng) -> Real:
    """Rows of cars in their bays, lamps, a fence, and sheds, trees or houses about it."""
    half, rows = rng.uniform(12, 28), np.arange(-2, 3) * rng.uniform(8, 12)
    block.strip(finishes.stone(rng), (-half, half), (-half - 10, half + 10), 0.0)
    white = finishes.plain(rng, finishes.grey(rng, 0.7, 0.95), 0.0)
    models = [variant(street.car, rng) for _ in range(5)] + [variant(street.van, rng)]
    full = rng.uniform(0.2, 0.95)
    for row in rows[np.abs(rows) < half]:
        y = np.arange(-half, half, 2.7)
        block.group.add("box", white, at=np.stack([0 * y + row, y - 1.35, 0 * y - 0.095], 1), size=(5.0, 0.12, 0.1))
        for spot in y[rng.random(len(y)) < full]:
            yaw = any_of(rng, -1, 1) * np.pi / 2 + rng.normal(0, 0.03)
            block.put(any_of(rng, *models, p=[0.19] * 5 + [0.05]), row + rng.normal(0, 0.15), spot, yaw)
    for _ in range(rng.integers(1, 8)):
        thing = any_of(rng, street.street_lamp, street.tree, street.sign, street.bush)
        block.put(variant(thing, rng), any_of(rng, *rows) + 3.5, rng.uniform(-half, half), rng.uniform(0, 6.3))
    for quarter in range(4):
        if rng.random() < 0.7:
            _row(block, rng, 1, half + 4, gaps=6.0, quarter=quarter, long=half + 15)
    _people(block, rng, -half * 0.6, half * 0.6, int(rng.integers(0, 6)))
    return half


def crossing(block: Block, rng: Rng) -> Real:
    """Two roads that meet, with zebra crossings and lights at the corners."""
    half = avenue(block, rng)
    asphalt = finishes.stone(rng)
    block.group.add("box", asphalt, at=(0, 0, -0.085), size=(2 * REACH, 2 * half * 0.6, 0.25))
    white = finishes.plain(rng, finishes.grey(rng, 0.75, 0.95), 0.0)
    for side in (-1, 1):
        stripes = [(x, side * half * 0.75, -0.08) for x in np.arange(-half * 0.5, half * 0.5, 1.0)]
        block.group.add("box", white, at=stripes, size=(0.5, 3.0, 0.09))
        for corner in (-1, 1):
            block.put(variant(street.traffic_light, rng), corner * half * 0.75, side * half * 0.7, rng.uniform(0, 6.3))
    for _ in range(rng.integers(0, 5)):
        x = rng.normal(0, 25)
        block.put(variant(street.car, rng), x, half * rng.uniform(-0.4, 0.4), np.pi / 2, 0.17)
    return half


def _road(block: Block, rng: Rng, half: Real) -> None:
    tone = finishes.grey(rng, 0.2, 0.55)
    asphalt = finishes.stone(rng)._replace(
        dark=finishes.shaded(tone, 0.8), light=tone, gloss=float(any_of(rng, 0.0, 0.0, 0.3))
    )
    paving = asphalt if rng.random() < 0.8 else finishes.masonry(rng)._replace(pattern="cobbles")
    block.strip(paving, (-half, half), (-REACH, REACH), 0.0)
    if rng.random() < 0.75:
        white = finishes.plain(rng, any_of(rng, finishes.grey(rng, 0.75, 0.95), (0.7, 0.45, 0.05)), 0.0)
        dashes = np.arange(-60, 60, rng.uniform(4, 9))
        for lane in np.linspace(-half, half, max(int(half / 1.6), 2) + 1)[1:-1]:
            at = np.stack([0 * dashes + lane, dashes, 0 * dashes - 0.09], 1)
            block.group.add("box", white, at=at, size=(0.14, rng.uniform(1.5, 4), 0.1))


def _row(block: Block, rng: Rng, side: int, front: Real, gaps: Real, quarter: int = 0, long: Real = REACH) -> None:
    """Buildings side by side facing a line at x = side * front, the whole turned by quarters."""
    kinds = any_of(
        rng, (buildings.terraced,) * 4 + (street.house,), (buildings.cottage, buildings.shed, street.house),
        (buildings.tower, street.house, buildings.terraced), (buildings.terraced,) * 3, p=[0.4, 0.25, 0.15, 0.2],
    )  # fmt: skip
    along, angle = -long + rng.uniform(0, 5), quarter * np.pi / 2
    while along < long:
        house = variant(any_of(rng, *kinds) if abs(along) < 40 else street.house, rng)
        low, high = house.bounds()
        along -= low[0]
        x, y = side * (front - low[1] * 0.2 + any_of(rng, 0.0, rng.uniform(0, 2))), along
        x, y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
        block.group.include(house, (x, y, 0), angle - side * np.pi / 2)
        if np.hypot(x, y) < 45:
            block.things.append((float(x), float(y), float(high[2])))
        along += high[0] + rng.exponential(gaps)


def _file(block: Block, rng: Rng, models: list[Group], x: Real, step: Real, loose: Real, side: int) -> None:
    """Things one behind the other along y, some missing."""
    for y in np.arange(-55, 60, step):
        if rng.random() < 0.7:
            block.put(
                any_of(rng, *models), x + rng.normal(0, 0.1), y + rng.normal(0, loose * 0.4), 0.0 if side < 0 else np.pi
            )


def _people(block: Block, rng: Rng, left: Real, right: Real, count: int) -> None:
    """People about, alone and in twos, seldom with a dog."""
    for _ in range(count):
        x, y, yaw = rng.uniform(min(left, right), max(left, right)), rng.normal(0, 10), rng.uniform(0, 6.3)
        block.put(variant(people.person, rng), x, y, yaw, 0.1)
        if rng.random() < 0.15:
            block.put(solids.sized(variant(solids.creature, rng), rng.uniform(0.4, 1.0)), x + 0.7, y, yaw, 0.1)


def _tree(rng: Rng) -> Callable[[Rng], Group]:
    return any_of(rng, street.tree, street.far_tree)


def _bin(rng: Rng) -> Group:
    return furniture.bin_(rng).group if rng.random() < 0.5 else furniture.boxes(rng).group


def _monument(block: Block, rng: Rng, x: Real, y: Real) -> None:
    """A statue, a column or a fountain on steps."""
    stone = finishes.stone(rng)
    for level, wide in enumerate((5.0, 4.0, 3.0)):
        block.group.add(any_of(rng, "cylinder", "box"), stone, at=(x, y, level * 0.2), size=(wide, wide, 0.2))
    block.group.add("box", stone, at=(x, y, 0.6), size=(1.2, 1.2, 1.6))
    figure = any_of(rng, people.person, solids.creature, solids.turned, solids.jointed)
    block.put(solids.sized(variant(figure, rng), rng.uniform(1.5, 5)), x, y, rng.uniform(0, 6.3), 2.2)


def _stall(block: Block, rng: Rng, x: Real, y: Real) -> None:
    """A table under a cloth roof or a parasol."""
    cloth, yaw = (
        finishes.fabric(rng)._replace(pattern=any_of(rng, "stripes", "weave", "plaid"), tile=2.0),
        rng.uniform(0, 6.3),
    )
    stall = Group().add("pole", finishes.metal(rng), size=(0.06, 0.06, 2.3))
    stall.add(any_of(rng, "cone", "roof"), cloth, at=(0, 0, 2.1), size=(2.8, 2.4, 0.6))
    piece = variant(furniture.table, rng)
    block.put(stall.include(piece.group), x, y, yaw)


def _skyline(block: Block, rng: Rng) -> None:
    """Towers, hills or trees behind the houses."""
    for _ in range(rng.integers(0, 7)):
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(70, 250)
        tall = variant(any_of(rng, buildings.tower, buildings.tower, street.house), rng)
        block.group.include(
            tall, (away * np.cos(angle), away * np.sin(angle), 0), rng.uniform(0, 6.3), scale=rng.uniform(1, 1.6)
        )
    if rng.random() < 0.4:
        angle = np.arange(14) * 0.45 + rng.uniform(0, 6)
        at = np.stack([300 * np.cos(angle), 300 * np.sin(angle), 0 * angle - 5], 1)
        group_size = np.stack([rng.uniform(120, 260, 14)] * 2 + [rng.uniform(15, 90, 14)], 1)
        block.group.add("heap", finishes.earth(rng)._replace(tile=40.0), at=at, size=group_size, yaw=angle)


def _camera(block: Block, rng: Rng, walk: Real) -> Camera:
    """A view along the street, of something in it, of a front, or anywhere; from the ground up to a third storey."""
    eye = np.array([rng.uniform(-0.95, 0.95) * walk, rng.normal(0, 6), 0.0])
    eye[2] = any_of(rng, rng.uniform(1.3, 1.9), rng.uniform(0.15, 1.3), rng.uniform(2, 10), p=[0.55, 0.22, 0.23])
    kind = any_of(rng, "along", "thing", "front", "anywhere", p=[0.25, 0.4, 0.15, 0.2])
    if kind == "along":
        away = any_of(rng, -1, 1) * rng.uniform(15, 60)
        return viewpoints.at(
            rng, eye, (rng.uniform(-1, 1) * walk, eye[1] + away, eye[2] + away * rng.normal(-0.02, 0.1))
        )
    if kind == "anywhere" or not block.things:
        return viewpoints.anywhere(rng, eye)
    x, y, height = any_of(rng, *block.things)
    target = np.array([x, y, height * rng.uniform(0.2, 1.0)])
    if kind == "thing":  # from not too far
        away = eye[:2] - target[:2]
        eye[:2] = target[:2] + away / max(float(np.hypot(*away)), 1e-3) * rng.uniform(1.5, 9)
    return viewpoints.at(rng, eye, target)
