"""Benches: parts before a 3D camera. A rig (camera, projector, lamps, surface) stays; what lies before it changes."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from sonde.scenes import clutter, finishes, tyre
from sonde.scenes.catalogue import variant
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.shapes import Group, turn
from sonde.scenes.tracer import Light, Photo, Scanner, Scene, Sky, look_at
from sonde.scenes.vectors import Real, three


@dataclass(frozen=True)
class Rig:
    """One engineer's set-up; the surface is z = 0 and the camera looks at the origin."""

    distance: float
    """From the camera to the surface along the optical axis, metres."""
    tilt: float
    """Of the optical axis from straight down, radians."""
    fov_deg: float
    baseline: tuple[float, float]
    """From the camera to the projector, right and up, metres."""
    surroundings: Group
    lights: list[Light]
    sky: Sky
    photo: Photo
    dark: float
    mix: tuple[float, ...]
    """How often each of CONTENTS lies there."""
    tote: tuple[float, float, float]
    """The bin of this line, metres."""

    @property
    def headroom(self) -> float:
        """How tall things may be, metres."""
        return min(0.4, 0.4 * self.distance)

    @property
    def reach(self) -> float:
        """Half of what the camera sees across, at the surface, metres."""
        return self.distance * float(np.tan(np.radians(self.fov_deg) / 2))


def rig(rng: Rng):
    """A set-up, as a function from a generator to one capture's scene."""
    distance = float(np.exp(rng.uniform(np.log(0.5), np.log(1.6))))
    tilt, fov = any_of(rng, rng.uniform(0, 0.25), rng.uniform(0.2, 1.0)), rng.uniform(38, 66)
    side, up = any_of(rng, -1, 1) * rng.uniform(0.06, 0.16), rng.normal(0, 0.02)
    lights, sky = _lamps(rng, distance)
    photo = Photo(
        rng.uniform(0.34, 0.55), rng.uniform(0.9, 1.2), three(1 + rng.normal(0, 0.04, 3)),
        rng.uniform(0.7, 1.2), any_of(rng, 0.004, 0.01, 0.02), any_of(rng, 0.0, 0.3, 0.5), rng.uniform(0, 0.3),
        any_of(rng, 0, 0, 85),
    )  # fmt: skip
    mix = rng.dirichlet((2.0, 1.0, 1.2, 0.8))
    reach = distance * float(np.tan(np.radians(fov) / 2))
    deep = min(rng.uniform(0.1, 0.3), 0.3 * distance)
    tote = three(np.array([1.3, 0.95, 0]) * reach * rng.uniform(0.8, 1.2) + (0, 0, deep))
    surface = _surroundings(rng, distance, reach)
    fixed = Rig(
        distance,
        tilt,
        fov,
        (side, up),
        surface,
        lights,
        sky,
        photo,
        rng.uniform(0.002, 0.01) / distance**2,
        tuple(mix.tolist()),
        tote,
    )
    return partial(capture, fixed)


def scene(rng: Rng) -> Scene:
    """One capture by a rig of its own."""
    return rig(rng)(rng)


def capture(rig: Rig, rng: Rng) -> Scene:
    """What the rig sees once its contents have been laid out anew; the camera and lamps move a little."""
    group = Group().include(rig.surroundings)
    group.include(any_of(rng, *CONTENTS, p=rig.mix)(rig, rng))
    tilt, spin = rig.tilt + rng.normal(0, 0.015), rng.normal(0, 0.02)
    distance = rig.distance * (1 + rng.normal(0, 0.015))
    eye = distance * np.array([np.sin(spin) * np.sin(tilt), -np.cos(spin) * np.sin(tilt), np.cos(tilt)])
    camera = look_at(eye, rng.normal(0, 0.01, 3) * rig.distance, rig.fov_deg, rng.normal(0, 0.01))
    right, down, _ = camera.axes().T
    projector = three(eye + right * rig.baseline[0] - down * rig.baseline[1])
    lights = [light._replace(colour=finishes.scaled(light.colour, rng.uniform(0.85, 1.15))) for light in rig.lights]
    flash = lights[0]._replace(position=projector)
    return Scene(group, camera, [flash, *lights[1:]], rig.sky, rig.photo, Scanner(projector, dark=rig.dark))


def _lamps(rng: Rng, distance: Real) -> tuple[list[Light], Sky]:
    """The projector's own flash, one lamp above or beside, and the hall's light."""
    white = finishes.hue(rng, (0, 0.2), (1, 1), any_of(rng, 0.1, 0.6))
    flash = any_of(rng, 0.0, 0.6, 1.5) * distance**2
    spot = three(rng.normal(0, 1.2, 3) * (1, 1, 0.2) + (0, 0, rng.uniform(1.6, 2.8)))
    power = rng.uniform(1.0, 5.0)
    lights = [
        Light((0, 0, 1), (flash, flash, flash), 0.02),
        Light(spot, finishes.scaled(white, power), rng.uniform(0.05, 0.5)),
    ]
    return lights, Sky(white, white, finishes.hue(rng, (0, 0.3), (0.3, 0.7)), ambient=rng.uniform(0.3, 0.9))


def _surroundings(rng: Rng, distance: Real, reach: Real) -> Group:
    """The surface: a table with edges, a belt, a pallet or a floor; behind it a floor and a wall."""
    group = Group()
    muted = any_of(rng, finishes.grey(rng), finishes.hue(rng, (0.05, 0.45), (0.2, 0.8)), finishes.paint(rng))
    finish = any_of(
        rng, finishes.wood(rng), finishes.metal(rng), finishes.stone(rng), finishes.plain(rng, muted),
        finishes.fabric(rng, muted), finishes.rubber(rng), finishes.wood(rng, True), finishes.printed(rng, 0.6),
        p=[0.2, 0.13, 0.17, 0.2, 0.1, 0.07, 0.08, 0.05],
    )  # fmt: skip
    finish = finish._replace(gloss=finish.gloss * 0.3)
    half = reach * rng.uniform(0.85, 2.2, 2)
    if rng.random() < 0.2:
        half[:] = 4
    group.add("box", finish, at=(0, half[1] * 0.2, -0.04), size=(*(2 * half), 0.04))
    low = any_of(rng, -0.1, -rng.uniform(0.4, 0.9))
    group.add(
        "box",
        any_of(rng, finishes.stone, finishes.masonry, finishes.plain)(rng),
        at=(0, 0, low - 0.05),
        size=(8, 8, 0.05),
    )
    wall = half[1] * 1.2 + rng.uniform(0.05, 0.8)
    group.add(
        "box",
        any_of(rng, finishes.plaster, finishes.masonry, finishes.metal, finishes.plain)(rng),
        at=(0, wall + 0.05, low),
        size=(8, 0.1, 3),
    )
    for _ in range(rng.integers(0, 4)):  # a frame, a rail or a box at the side
        size = rng.uniform((0.03, 0.03, 0.02), (0.08, 1.5, 0.12)) * (distance, distance, distance)
        spot = (any_of(rng, -1, 1) * reach * rng.uniform(0.75, 1.3), rng.uniform(-0.3, 0.5) * reach, 0)
        group.add(
            any_of(rng, "box", "box", "cylinder"), any_of(rng, finishes.metal, finishes.plain)(rng), at=spot, size=size
        )
    return group


def tyres(rig: Rig, rng: Rng) -> Group:
    """One to three tyres: lying, stacked, standing or leaning; and a few things beside them."""
    way = any_of(rng, _lying, _lying, _stacked, _upright)
    radius = min(rig.reach * rng.uniform(0.6, 1.1), rig.headroom * (0.5 if way is _upright else 1.1))
    size = tyre.drawn(rng, radius)
    one, count = tyre.wheel(rng, size, rng.random() < 0.45), any_of(rng, 1, 2, 3, p=[0.6, 0.3, 0.1])
    group = way(rig, rng, one, size, count)
    if rng.random() < 0.6:
        group.include(_spread(rig, rng, int(rng.integers(1, 5)), clutter.WORKSHOP))
    return group


def _lying(rig: Rig, rng: Rng, one: Group, size: tyre.Tyre, count: int) -> Group:
    """Side by side."""
    group, first = Group(), rng.normal(0, 0.15, 2) * rig.reach
    for i in range(count):
        apart = (i - (count - 1) / 2) * 2.1 * size.radius
        group.include(one, (first[0] + apart, first[1] + rng.normal(0, 0.1) * size.radius, 0), rng.uniform(0, 6.3))
    return group


def _stacked(rig: Rig, rng: Rng, one: Group, size: tyre.Tyre, count: int) -> Group:
    """One upon another, as far as there is room below the camera."""
    group, (x, y) = Group(), rng.normal(0, 0.12, 2) * rig.reach
    for i in range(min(count + 1, max(int(rig.headroom / size.width), 1))):
        spot = x + rng.normal(0, 0.02), y + rng.normal(0, 0.02), i * size.width
        group.include(one, spot, rng.uniform(0, 6.3))
    return group


def _upright(rig: Rig, rng: Rng, one: Group, size: tyre.Tyre, count: int) -> Group:
    """Standing on the tread, or leaning against nothing in particular."""
    group = Group()
    for i in range(count):
        x, y = rng.normal(0, 0.15, 2) * rig.reach + (i * 1.5 * size.radius, 0)
        lean = np.pi / 2 if rng.random() < 0.6 else rng.uniform(0.4, 1.2)
        rotation = turn(rng.uniform(0, 6.3)) @ turn(0.0, lean, 0.0) @ turn(rng.uniform(0, 6.3))
        group.include(one, (x, y, size.radius * np.sin(lean)), rotation=rotation)
    return group


def bins(rig: Rig, rng: Rng) -> Group:
    """A tote with heaped parts or goods, seldom two."""
    group, size = Group(), np.array(rig.tote)
    finish = finishes.plain(rng)
    many = rng.random() < 0.2
    for side in (-1, 1) if many else (0,):
        scale = 0.55 if many else 1.0
        box = size * (scale, scale, 1)
        content = _contents(rng, box)
        at = rng.normal(0, 0.02, 3) * (1, 1, 0) + np.array([side * size[0] * 0.3, 0, 0])
        yaw = rng.normal(0, 0.06)
        group.include(clutter.tote(rng, three(box), finish), at, yaw).include(content, at, yaw)
    return group


def _contents(rng: Rng, box: np.ndarray) -> Group:
    """Many copies of one part, or different goods; sometimes nothing."""
    area, count = (box[0] * 0.88, box[1] * 0.86), int(rng.integers(0, 26))
    largest = 0.4 * min(area)
    if rng.random() < 0.5:
        one = variant(any_of(rng, *clutter.WORKSHOP, clutter.part, clutter.part), rng)
        things = [_fitted(one, largest * rng.uniform(0.4, 1))] * min(2 * count, 30)
    else:
        things = [
            _fitted(variant(any_of(rng, *clutter.WORKSHOP, *clutter.TABLETOP), rng), largest) for _ in range(count)
        ]
    return clutter.heaped(rng, things, area, ceiling=1.6 * box[2])


def _fitted(thing: Group, largest: Real) -> Group:
    """The thing scaled down to a largest side."""
    low, high = thing.bounds()
    return Group().include(thing, scale=float(min(1.0, largest / (high - low).max())))


def parts(rig: Rig, rng: Rng) -> Group:
    """Boxes, pipes, parts and tools spread out."""
    return _spread(rig, rng, int(rng.integers(3, 16)), (pipe, pipe, pipe, pipe, *clutter.WORKSHOP, *clutter.TABLETOP))


def _spread(rig: Rig, rng: Rng, count: int, kinds: tuple[clutter.Thing, ...]) -> Group:
    """Different things over what the camera sees, none too tall for it."""
    group = Group()
    for _ in range(count):
        thing = _fitted(variant(any_of(rng, *kinds), rng), rig.headroom * rng.uniform(0.4, 1.2))
        low, high = thing.bounds()
        if high[2] - low[2] < rig.headroom:
            x, y = rng.uniform(-0.8, 0.8, 2) * (rig.reach, rig.reach * 0.8)
            group.include(thing, (x, y, -low[2]), rng.uniform(0, 6.3))
    return group


def cartons(rig: Rig, rng: Rng) -> Group:
    """Stacked boxes, as on a pallet, and things beside them."""
    group, size = Group(), rng.uniform(0.25, 0.7, 3) * (rig.reach, rig.reach, rig.headroom)
    finish = any_of(rng, finishes.cardboard, finishes.cardboard, finishes.plain)(rng)
    columns, rows, levels = rng.integers(1, 4), rng.integers(1, 3), int(rig.headroom / size[2])
    for column, row in np.ndindex(columns, rows):
        for level in range(min(int(rng.integers(1, 4)), levels)):
            at = size * (1.04 * (column - columns / 2), 1.04 * (row - rows / 2), level) + rng.normal(0, 0.008, 3) * (
                1,
                1,
                0,
            )
            box = size * (*rng.uniform(0.94, 1, 2), 1)
            group.add("box", finish._replace(shift=rng.random()), at, box, rng.normal(0, 0.03))
    if rng.random() < 0.7:
        group.include(_spread(rig, rng, int(rng.integers(1, 5)), clutter.WORKSHOP))
    return group


def pipe(rng: Rng) -> Group:
    """A straight pipe lying or standing, with or without flanges."""
    wide, long = rng.uniform(0.03, 0.14), rng.uniform(0.1, 0.6)
    finish = any_of(rng, finishes.metal, finishes.plain)(rng)
    group = Group().add("tube", finish, size=(wide, wide, long))
    if rng.random() < 0.4:
        group.add("tube", finish, at=[(0, 0, 0), (0, 0, long - 0.015)], size=(wide * 1.6, wide * 1.6, 0.015))
    if rng.random() < 0.25:
        return group
    lying = Group().include(group, rotation=turn(0.0, np.pi / 2, 0.0))
    return Group().include(lying, (0, 0, -lying.bounds()[0, 2]))


CONTENTS = (tyres, bins, parts, cartons)
"""What may lie before a rig: each draws a group from a rig and a generator."""
