"""Out of doors: streets and country roads as a driver sees them, squares, parks and gardens as a walker does."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sonde.scenes import finishes, street
from sonde.scenes.catalogue import variant
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.materials import Material
from sonde.scenes.people import person
from sonde.scenes.room import photo
from sonde.scenes.shapes import Group, grid
from sonde.scenes.tracer import Camera, Light, Scene, Sky
from sonde.scenes.vectors import Numbers, Real, three

FAR = 420.0
"""Where the ground ends, metres."""


@dataclass
class Street:
    """A road along y under construction; `lateral` counts from its middle line to the right, metres."""

    bend: float
    """Sideways offset at 100 m, metres."""
    climb: float
    """Rise at 100 m, metres."""
    wave: float
    half: float
    """Half of the road's width, metres."""
    group: Group = field(default_factory=Group)

    def at(self, y, lateral, lift: Numbers = 0.0) -> np.ndarray:
        """Points of the world beside the middle line, (..., 3)."""
        y, lateral, lift = np.broadcast_arrays(np.asarray(y, float), lateral, lift)
        t = np.clip(y, -20, 300) / 100
        x = self.bend * t**2
        z = self.climb * t**2 + self.wave * np.sin(t * 4)
        return np.stack([x + lateral, y, z + lift], -1)

    def heading(self, y: Real) -> float:
        """Yaw of the road there, radians."""
        return -float(np.arctan(2 * self.bend * np.clip(y, -20, 300) / 1e4))

    def ribbon(
        self,
        material: Material,
        left: Real,
        right: Real,
        lift: Real,
        start: Real = -12.0,
        stop: Real = 300.0,
        drop: Real = 0.0,
    ) -> None:
        """A strip of ground from one lateral offset to another; `drop` gives it a side towards the road."""
        y = start + (stop - start) * np.linspace(0, 1, 40 if stop - start > 50 else 3) ** (
            1.7 if stop - start > 50 else 1
        )
        across = np.array([left, right]) if left < right else np.array([right, left])
        points = self.at(y[:, None], across, lift)
        uv = np.stack(np.broadcast_arrays(across, y[:, None]), -1)
        self.group.add(grid(points, uv), material)
        if drop:
            near = min(abs(left), abs(right)) * np.sign(left)
            points = self.at(y[:, None], np.full(2, near), np.array([lift - drop, lift]))
            self.group.add(grid(points, uv), material)

    def put(self, thing: Group, y: Real, lateral: Real, yaw: Real = 0.0, lift: Real = 0.0) -> None:
        """Stand a thing beside the middle line, turned with the road."""
        self.group.include(thing, self.at(y, lateral, lift), self.heading(y) + yaw)


def scene(rng: Rng) -> Scene:
    """A street, a country road, or a place to walk in."""
    build = any_of(rng, town, country, place, p=[0.5, 0.22, 0.28])
    group, camera = build(rng)
    lights, sky = daylight(rng, camera)
    return Scene(group, camera, lights, sky, photo(rng))


def daylight(rng: Rng, camera: Camera) -> tuple[list[Light], Sky]:
    """Sun and sky: clear, broken, overcast or low sun."""
    kind = any_of(rng, "clear", "broken", "overcast", "low", p=[0.35, 0.3, 0.22, 0.13])
    high = {"low": rng.uniform(0.08, 0.3)}.get(kind, rng.uniform(0.4, 1.3))
    around = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(around) * np.cos(high), np.sin(around) * np.cos(high), np.sin(high)])
    strength = {"overcast": rng.uniform(0, 0.2), "broken": rng.uniform(0.6, 2.2), "low": rng.uniform(1.5, 3)}.get(
        kind, rng.uniform(2, 3.5)
    )
    warm = np.array((1.0, 0.93, 0.82) if kind != "low" else (1.0, 0.7, 0.42)) * strength
    ground = finishes.scaled((0.25, 0.24, 0.2), rng.uniform(0.7, 1.3))
    haze = any_of(rng, 0.0003, 0.001, 0.003, 0.008, p=[0.4, 0.35, 0.2, 0.05])
    if kind == "overcast":
        tone = rng.uniform(0.75, 1.0)
        sky = Sky((tone * 0.9, tone * 0.94, tone), (tone, tone, tone), ground, rng.uniform(0.6, 1), 1.0, haze)
    elif kind == "low":
        sky = Sky((0.2, 0.3, 0.55), (1.1, 0.75, 0.5), ground, rng.uniform(0.2, 0.7), 0.7, haze)
    else:
        sky = Sky(
            (0.12, 0.28, 0.75),
            (0.6, 0.75, 0.95),
            ground,
            {"broken": rng.uniform(0.35, 0.65)}.get(kind, rng.uniform(0, 0.25)),
            0.8,
            haze,
        )
    position = three(np.array(camera.position) + direction * 2000)
    return [Light(position, three(warm), 8.0, fades=False)], sky._replace(shift=float(rng.random()))


def rig(rng: Rng) -> Callable[[Rng], Scene]:
    """A camera that stays on its car, with DrivingStereo's lens (focal length 1.14 of the width); the road changes."""
    height, pitch, ahead = rng.uniform(1.4, 1.9), rng.normal(-0.01, 0.01), np.degrees(2 * np.arctan(0.5 / 1.14))

    def drive(rng: Rng) -> Scene:
        way = any_of(rng, _street, _open_road, p=[0.7, 0.3])(rng)
        x, y, z = way.at(0.0, rng.uniform(0.2, 0.7) * way.half, height + rng.normal(0, 0.02))
        yaw, nod, roll = rng.normal(0, (0.02, 0.006, 0.004))
        camera = Camera(three((x, y, z)), way.heading(0.0) + yaw, pitch + nod, roll, float(ahead))
        lights, sky = daylight(rng, camera)
        return Scene(way.group, camera, lights, sky, photo(rng))

    return drive


def town(rng: Rng) -> tuple[Group, Camera]:
    """A street between houses, seen from a car or from the pavement."""
    way = _street(rng)
    return way.group, _driver(way, rng) if rng.random() < 0.7 else _walker(way, rng)


def country(rng: Rng) -> tuple[Group, Camera]:
    """A road through fields, woods or along a barrier, with the land around it, seen from a car."""
    way = _open_road(rng)
    return way.group, _driver(way, rng)


def _street(rng: Rng) -> Street:
    lanes = int(rng.integers(1, 4))
    street_ = Street(rng.normal(0, 8), rng.normal(0, 1.2), rng.normal(0, 0.3), lanes * 1.7 + rng.uniform(0.5, 2))
    _carriageway(street_, rng, lanes)
    half = street_.half
    for side in (-1, 1):
        walk = rng.uniform(1.5, 4.5)
        street_.ribbon(
            any_of(rng, finishes.masonry, finishes.stone, finishes.stone)(rng),
            side * half,
            side * (half + walk),
            0.13,
            drop=0.13,
        )
        verge = any_of(rng, 0.0, rng.uniform(1, 7))
        _houses(street_, rng, side, half + walk + verge)
        if verge and rng.random() < 0.5:
            long = rng.uniform(8, 60)
            street_.put(street.fence(rng, long), rng.uniform(5, 40), side * (half + walk + 0.3), 0, 0)
        _parked(street_, rng, side)
        for _ in range(rng.integers(2, 11)):
            y = rng.exponential(22) + 3
            thing = _thing(any_of(rng, *street.ROADSIDE), rng, y)
            street_.put(thing, y, side * (half + rng.uniform(0.4, walk + verge)), 0 if side > 0 else np.pi, 0.13)
    _traffic(street_, rng, lanes)
    surroundings(street_, rng, rng.uniform(0, 25))
    return street_


def _open_road(rng: Rng) -> Street:
    lanes = int(rng.integers(1, 4))
    road = Street(rng.normal(0, 14), rng.normal(0, 2.5), rng.normal(0, 0.5), lanes * 1.85 + rng.uniform(0.2, 2.5))
    _carriageway(road, rng, lanes)
    for side in (-1, 1):
        road.ribbon(finishes.earth(rng), side * road.half, side * (road.half + 6), -0.03)
        if rng.random() < 0.45:
            road.put(street.fence(rng, 130), 60, side * (road.half + rng.uniform(0.5, 3)))
        density = any_of(rng, 4, 14, 26)
        for _ in range(rng.poisson(density)):
            y, out = rng.uniform(4, 180), road.half + 1.5 + rng.exponential(9)
            road.put(
                _thing(any_of(rng, street.tree, street.tree, street.bush), rng, y), y, side * out, rng.uniform(0, 6)
            )
        for _ in range(rng.integers(0, 4)):
            road.put(
                variant(any_of(rng, street.sign, street.street_lamp), rng),
                rng.uniform(8, 100),
                side * (road.half + 1),
                0 if side > 0 else np.pi,
            )
        if rng.random() < 0.3:
            road.put(
                variant(street.house, rng),
                rng.uniform(20, 120),
                side * (road.half + rng.uniform(15, 40)),
                side * -np.pi / 2,
            )
    _traffic(road, rng, lanes)
    surroundings(road, rng, rng.uniform(5, 60))
    return road


def place(rng: Rng) -> tuple[Group, Camera]:
    """A square, a park, a garden or a yard, seen by someone on foot, with things near by."""
    spot = Street(0.0, rng.normal(0, 1), rng.normal(0, 0.2), 3.0)
    ground = any_of(rng, finishes.earth, finishes.earth, finishes.masonry, finishes.stone)(rng)
    spot.ribbon(ground, -40, 40, 0.0, -15, 120)
    if rng.random() < 0.6:
        spot.ribbon(
            any_of(rng, finishes.stone, finishes.masonry, finishes.earth)(rng), -1.5, rng.uniform(0.5, 4), 0.02, -12, 80
        )
    for _ in range(rng.integers(0, 6)):
        angle, out = rng.uniform(-1.2, 1.2), rng.uniform(12, 55)
        spot.put(variant(street.house, rng), out * np.cos(angle), out * np.sin(angle), -angle + rng.normal(0, 0.3))
    things = any_of(
        rng,
        (street.tree, street.bush, street.flower, street.flower),
        street.ROADSIDE,
        (*street.ROADSIDE, street.car, person),
    )
    for _ in range(rng.integers(6, 26)):
        angle, out = rng.uniform(-0.9, 0.9), 2.0 + rng.exponential(9)
        thing = _thing(any_of(rng, *things), rng, out)
        out = max(out, float(np.abs(thing.bounds()[:, :2]).max()) + 0.8)
        spot.put(thing, out * np.cos(angle), out * np.sin(angle), rng.uniform(0, 6.3))
    if rng.random() < 0.3:
        _field(spot, rng)
    if rng.random() < 0.4:
        spot.put(street.fence(rng, rng.uniform(5, 30)), rng.uniform(3, 20), rng.normal(0, 4), rng.uniform(0, 3.1))
    surroundings(spot, rng, rng.uniform(0, 40))
    eye = spot.at(0, 0)[2] + rng.uniform(0.5, 1.9)
    return spot.group, Camera(
        (0.0, 0.0, eye), rng.normal(0, 0.35), rng.normal(-0.08, 0.12), rng.normal(0, 0.03), rng.uniform(38, 85)
    )


def _thing(kind: Callable[[Rng], Group], rng: Rng, away: Real) -> Group:
    """One of a kind; a simpler one where it is far."""
    return variant(street.far_tree if kind is street.tree and away > 30 else kind, rng)


def _field(spot: Street, rng: Rng) -> None:
    """A stand of flowers or tall grass close by."""
    kinds = [variant(any_of(rng, street.flower, street.bush), rng) for _ in range(3)]
    for _ in range(30):
        y = 1.0 + rng.exponential(5)
        spot.put(any_of(rng, *kinds), y, rng.uniform(-0.8, 0.8) * (y + 1), rng.uniform(0, 6.3))


def _carriageway(road: Street, rng: Rng, lanes: int) -> None:
    """Asphalt with its lines, dashes, and sometimes a zebra crossing."""
    tone = finishes.grey(rng, 0.22, 0.55)
    asphalt = finishes.stone(rng)._replace(
        dark=finishes.shaded(tone, 0.8),
        light=tone,
        mark=finishes.shaded(tone, 0.6),
        gloss=float(any_of(rng, 0.0, 0.0, 0.06)),
    )
    road.ribbon(asphalt, -road.half, road.half, 0.0, -12, FAR * 0.7)
    if rng.random() < 0.12:
        return
    white = finishes.plain(
        rng, any_of(rng, finishes.grey(rng, 0.75, 0.95), finishes.grey(rng, 0.75, 0.95), (0.7, 0.45, 0.05)), 0.0
    )
    for line in (-road.half + 0.25, road.half - 0.25):
        if rng.random() < 0.6:
            road.ribbon(white, line - 0.06, line + 0.06, 0.006, -8, 200)
    dash, gap = rng.uniform(1.5, 4), rng.uniform(2, 6)
    for lane in range(1, 2 * lanes if lanes == 1 else lanes + 1):
        middle = (lane / (lanes + 1 if lanes > 1 else 2) * 2 - 1) * road.half
        starts = np.arange(rng.uniform(-4, 0), 90, dash + gap)
        if rng.random() < 0.2:
            road.ribbon(white, middle - 0.06, middle + 0.06, 0.006, -8, 200)
        else:
            for start in starts[:14]:
                road.ribbon(white, middle - 0.07, middle + 0.07, 0.006, start, start + dash)
    if rng.random() < 0.15:
        y = rng.uniform(6, 30)
        for left in np.arange(-road.half + 0.4, road.half - 0.6, 1.0):
            road.ribbon(white, left, left + 0.5, 0.007, y, y + 3)


def _houses(road: Street, rng: Rng, side: int, lateral: Real) -> None:
    """A row of houses, with gaps; sometimes trees or a wall in their place."""
    y, solid = rng.uniform(-12, 4), rng.random() < 0.5
    if rng.random() < 0.2:
        for _ in range(rng.integers(6, 18)):
            y = rng.uniform(4, 120)
            road.put(_thing(street.tree, rng, y), y, side * (lateral + rng.exponential(5)), rng.uniform(0, 6))
        return
    while y < 150:
        house = variant(street.house, rng)
        width = float(np.ptp(house.bounds()[:, 0]))
        back = any_of(rng, 0.0, rng.uniform(0, 4))
        road.put(house, y + width / 2, side * (lateral + back), -side * np.pi / 2)
        y += width + (rng.uniform(0, 0.3) if solid else rng.exponential(8))


def _parked(road: Street, rng: Rng, side: int) -> None:
    """Cars along the kerb."""
    if rng.random() < 0.4:
        return
    models = [variant(street.car, rng) for _ in range(3)] + [variant(street.van, rng)]
    y = rng.uniform(2, 12)
    for _ in range(rng.integers(1, 9)):
        road.put(
            any_of(rng, *models, p=[0.32, 0.32, 0.31, 0.05]), y, side * (road.half - 0.95), 0.0 if side < 0 else np.pi
        )
        y += 5.5 + rng.exponential(4)


def _traffic(road: Street, rng: Rng, lanes: int) -> None:
    """Vehicles on the road, and people and riders crossing it."""
    for _ in range(rng.integers(0, 5)):
        y, lane = 7 + rng.exponential(20), rng.uniform(-0.6, 0.6) * road.half
        vehicle = variant(any_of(rng, street.car, street.car, street.car, street.van, street.bicycle), rng)
        road.put(vehicle, y, lane, 0.0 if lane < 0 else np.pi)
    for _ in range(rng.poisson(0.4)):
        road.put(variant(person, rng), 4 + rng.exponential(14), rng.uniform(-1, 1) * road.half, rng.uniform(0, 6.3))


def surroundings(road: Street, rng: Rng, hills: Real) -> None:
    """The land to the horizon: level beside the road, rising to hills."""
    steps = np.linspace(-1, 1, 25)
    lateral = np.sign(steps) * np.abs(steps) ** 2.2 * FAR
    y = -30 + (FAR + 30) * np.linspace(0, 1, 22) ** 1.5
    points = road.at(y[:, None], lateral, -0.12)
    phase = rng.uniform(0, 6.3, 4)
    swell = (
        1
        + np.sin(points[..., 0] / 60 + phase[0]) * np.sin(points[..., 1] / 80 + phase[1])
        + 0.5 * np.sin(points[..., 1] / 33 + phase[2])
    )
    away = np.clip((np.abs(lateral) - 25) / 250, 0, 1) ** 1.3 + np.clip((y[:, None] - 150) / 250, 0, 1) ** 1.5
    points[..., 2] += hills * away * swell
    uv = points[..., :2] * 1.0
    road.group.add(grid(points, uv), finishes.earth(rng)._replace(tile=rng.uniform(2, 8)))


def _driver(road: Street, rng: Rng) -> Camera:
    """A camera on a car in its lane."""
    lateral = rng.uniform(0.2, 0.7) * road.half * any_of(rng, -1, 1)
    x, y, z = road.at(0.0, lateral, rng.uniform(1.2, 2.3))
    return Camera(
        (float(x), float(y), float(z)),
        rng.normal(0, 0.05),
        rng.normal(-0.02, 0.04),
        rng.normal(0, 0.012),
        rng.uniform(45, 95),
    )


def _walker(road: Street, rng: Rng) -> Camera:
    """Someone on the pavement, looking along or across the street."""
    side = any_of(rng, -1, 1)
    x, y, z = road.at(0.0, side * (road.half + 0.8), rng.uniform(1.3, 1.9))
    yaw = side * rng.uniform(-0.1, 1.3)
    return Camera(
        (float(x), float(y), float(z)), float(yaw), rng.normal(0, 0.08), rng.normal(0, 0.03), rng.uniform(40, 80)
    )
