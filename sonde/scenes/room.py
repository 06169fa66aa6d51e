"""Rooms: homes, offices, corridors, kitchens, store rooms, and close views of what stands on their tables."""

from dataclasses import dataclass, field

import numpy as np

from sonde.scenes import clutter, finishes, furniture, people
from sonde.scenes.catalogue import variant
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.furniture import Piece
from sonde.scenes.materials import Material
from sonde.scenes.shapes import Group
from sonde.scenes.tracer import Camera, Light, Photo, Scene, Sky, look_at
from sonde.scenes.vectors import Real, three

WALLS = ((0.0, 0), (-np.pi / 2, 1), (np.pi, 0), (np.pi / 2, 1))
"""Yaw of a piece that stands against the far, right, near and left wall, and which of (width, length) it runs along."""


@dataclass
class Room:
    """A room under construction: x in ±width/2, y in ±length/2, z from 0 to height."""

    width: float
    length: float
    height: float
    group: Group = field(default_factory=Group)
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)
    """Floor under furniture: x, y, radius, height."""
    tops: list[tuple[float, float, float, float]] = field(default_factory=list)
    """Table tops: x, y, z and the largest side."""
    sunlit: bool = False
    """Whether a window is open to the sky."""
    windows: list[tuple[float, float, float]] = field(default_factory=list)
    """Their middles, a little way into the room."""

    def span(self, wall: int) -> tuple[float, float]:
        """Length of a wall, and its distance from the middle."""
        return (self.width, self.length / 2) if WALLS[wall][1] == 0 else (self.length, self.width / 2)

    def on_wall(self, wall: int, along: Real, off: Real, z: Real = 0.0) -> tuple[float, float, float]:
        """A point `along` a wall from its middle and `off` it into the room."""
        yaw, away = WALLS[wall][0], self.span(wall)[1] - off
        return (
            float(np.cos(yaw) * along - np.sin(yaw) * away),
            float(np.sin(yaw) * along + np.cos(yaw) * away),
            float(z),
        )

    def free(self, x: Real, y: Real, radius: Real) -> bool:
        """Whether nothing stands within `radius`."""
        return all(np.hypot(x - ox, y - oy) > radius + reach for ox, oy, reach, _ in self.taken)

    def place(self, rng: Rng, piece: Piece, x: Real, y: Real, yaw: Real) -> None:
        """Stand a piece on the floor, with things on its top."""
        self.group.include(piece.group, (x, y, 0), yaw)
        self.taken.append((x, y, min(piece.width, piece.depth) / 2, piece.height))
        for side in (-1, 1):  # long pieces take their ends too
            reach = side * max(piece.width - piece.depth, 0) / 2
            self.taken.append((x + np.cos(yaw) * reach, y + np.sin(yaw) * reach, piece.depth / 2, piece.height))
        if piece.top and rng.random() < 0.9:
            things = clutter.scattered(rng, int(rng.integers(2, 14)), *piece.top)
            self.group.include(things, (x, y, piece.height), yaw)
            self.tops.append((x, y, piece.height, max(piece.top)))


def scene(rng: Rng) -> Scene:
    """A furnished room, its lamps, and a camera somewhere in it."""
    room = _sized(rng)
    _shell(room, rng)
    lights = add_lamps(room, rng)
    furnish(room, rng)
    bright = finishes.hue(rng, (0.0, 0.15), (0.95, 1.0), any_of(rng, 0.1, 0.6))
    sky = Sky(bright, bright, finishes.hue(rng, (0.1, 0.4), (0.5, 0.8), 0.09), ambient=rng.uniform(0.25, 1.0))
    if room.sunlit:
        sky = sky._replace(zenith=(1.5, 2.0, 3.0), horizon=(2.5, 2.6, 2.8), ambient=sky.ambient * 0.3)
    return Scene(room.group, _camera(room, rng), lights, sky, photo(rng))


def photo(rng: Rng) -> Photo:
    """A camera's processing, from a good one to a webcam."""
    tint = 1 + rng.normal(0, any_of(rng, 0.02, 0.07), 3)
    return Photo(
        rng.uniform(0.3, 0.62), rng.uniform(0.85, 1.25), three(np.clip(tint, 0.7, 1.4)),
        rng.uniform(0.6, 1.35), any_of(rng, 0.004, 0.01, 0.022), any_of(rng, 0.0, 0.3, 0.45, 0.7),
        rng.uniform(0, 0.35), any_of(rng, 0, 0, 90, 70, 45),
    )  # fmt: skip


def _sized(rng: Rng) -> Room:
    kind = rng.random()
    if kind < 0.15:  # a corridor
        return Room(rng.uniform(1.4, 2.6), rng.uniform(6, 14), rng.uniform(2.3, 3.0))
    if kind < 0.3:  # a hall
        return Room(rng.uniform(6, 10), rng.uniform(7, 13), rng.uniform(2.7, 4.5))
    return Room(rng.uniform(2.6, 5.5), rng.uniform(3, 6.5), rng.uniform(2.3, 3.0))


def _shell(room: Room, rng: Rng) -> None:
    """Floor, ceiling, walls with windows, doors and pictures."""
    width, length, height, group = room.width, room.length, room.height, room.group
    floor = any_of(
        rng,
        finishes.wood(rng, True),
        finishes.wood(rng, True),
        finishes.masonry(rng),
        finishes.stone(rng),
        finishes.fabric(rng),
    )
    group.add("box", floor, at=(0, 0, -0.1), size=(width + 1, length + 1, 0.1))
    ceiling = finishes.plaster(rng) if rng.random() < 0.8 else finishes.papered(rng)
    group.add(
        "box",
        ceiling._replace(light=finishes.grey(rng, 0.8, 0.97)),
        at=(0, 0, height),
        size=(width + 1, length + 1, 0.1),
    )
    common, trim = (
        wall_finish(rng),
        any_of(rng, finishes.wood(rng), finishes.plain(rng, finishes.grey(rng, 0.7, 0.95))),
    )
    for wall in range(4):
        finish = common if rng.random() < 0.75 else wall_finish(rng)
        span, _ = room.span(wall)
        kind = rng.random()
        opening = None
        if kind < 0.45:
            opening = add_window(room, rng, wall, trim)
        elif kind < 0.65:
            add_door(room, rng, wall, trim)
        build_wall(room, wall, finish, opening)
        if rng.random() < 0.5:
            group.add("box", trim, at=room.on_wall(wall, 0, 0.01), size=(span, 0.02, 0.09), yaw=WALLS[wall][0])
        for _ in range(rng.integers(0, 3)):
            hang_picture(room, rng, wall)
    if rng.random() < 0.25:  # a pillar or a chimney breast
        size = rng.uniform(0.25, 0.7, 2)
        spot = (np.sign(rng.normal()) * (width - size[0]) / 2, rng.uniform(-0.4, 0.4) * length, 0)
        group.add("box", common, at=spot, size=(*size, height))


def wall_finish(rng: Rng) -> Material:
    """Plaster, paper, bricks or stone."""
    return any_of(
        rng, finishes.plaster, finishes.papered, finishes.masonry, finishes.stone, p=[0.66, 0.14, 0.12, 0.08]
    )(rng)


def build_wall(room: Room, wall: int, finish: Material, opening: tuple[float, float, float, float] | None) -> None:
    """A wall 0.2 m thick around an opening given as left, right, bottom and top."""
    span, height = room.span(wall)[0] + 0.4, room.height
    pieces = [(-span / 2, span / 2, 0, height)]
    if opening:
        left, right, low, high = opening
        pieces = [
            (-span / 2, left, 0, height),
            (right, span / 2, 0, height),
            (left, right, 0, low),
            (left, right, high, height),
        ]
    for left, right, low, high in pieces:
        at = room.on_wall(wall, (left + right) / 2, -0.1, low)
        room.group.add("box", finish, at=at, size=(right - left, 0.2, high - low), yaw=WALLS[wall][0])


def add_window(room: Room, rng: Rng, wall: int, trim: Material) -> tuple[float, float, float, float] | None:
    """A framed window: a glowing view, or a hole to the outside."""
    span, yaw = room.span(wall)[0], WALLS[wall][0]
    wide, low = min(rng.uniform(0.8, 3.0), span - 0.4), any_of(rng, rng.uniform(0.7, 1.1), 0.05)
    high = min(rng.uniform(1.9, 2.4), room.height - 0.1)
    along = rng.uniform(-0.5, 0.5) * (span - wide - 0.2)
    bars = np.linspace(-wide / 2, wide / 2, int(rng.integers(2, 5)))
    off = rng.uniform(-0.1, 0.02)
    room.windows.append(room.on_wall(wall, along, 0.3, (low + high) / 2))
    at = [room.on_wall(wall, along + bar, off, low) for bar in bars]
    room.group.add("box", trim, at=at, size=(0.06, 0.06, high - low), yaw=yaw)
    at = [room.on_wall(wall, along, off, z) for z in (low, high - 0.06)]
    room.group.add("box", trim, at=at, size=(wide, 0.07, 0.06), yaw=yaw)
    if rng.random() < 0.5:
        for side in (-1, 1):
            fold = rng.uniform(0.25, 0.8)
            cloth = furniture.curtain(rng, fold, min(high + 0.15, room.height - 0.02))
            room.group.include(cloth, room.on_wall(wall, along + side * (wide / 2 + 0.1 - fold * 0.2), 0.12), yaw)
    if rng.random() < 0.5:
        at = room.on_wall(wall, along, 0.004, low)
        room.group.add("panel", finishes.outdoors(rng, rng.uniform(1, 6)), at=at, size=(wide, 1, high - low), yaw=yaw)
        return None
    room.sunlit = True
    _outside(room, rng, wall)
    return along - wide / 2, along + wide / 2, low, high


def _outside(room: Room, rng: Rng, wall: int) -> None:
    """What is seen through a hole: a ground, and a wall, a hedge or trees some metres away."""
    yaw, group = WALLS[wall][0], room.group
    group.add(
        "box",
        any_of(rng, finishes.earth, finishes.stone)(rng),
        at=room.on_wall(wall, 0, -8.0, -0.6),
        size=(30, 15, 0.1),
        yaw=yaw,
    )
    if rng.random() < 0.6:
        tall = rng.uniform(1.5, 6)
        finish = any_of(rng, finishes.masonry, finishes.foliage, finishes.plaster)(rng)
        group.add(
            "box",
            finish,
            at=room.on_wall(wall, rng.uniform(-4, 4), -rng.uniform(3, 8), -0.5),
            size=(rng.uniform(4, 20), 0.4, tall),
            yaw=yaw,
        )
    for _ in range(rng.integers(0, 4)):
        size = rng.uniform(1, 3)
        group.add(
            "crown",
            finishes.foliage(rng),
            at=room.on_wall(wall, rng.uniform(-4, 4), -rng.uniform(2, 7), rng.uniform(-0.5, 1)),
            size=(size, size, size),
        )


def add_door(room: Room, rng: Rng, wall: int, trim: Material) -> None:
    """A closed door in its frame."""
    span, yaw = room.span(wall)[0], WALLS[wall][0]
    along = rng.uniform(-0.5, 0.5) * (span - 1.1)
    leaf = any_of(rng, trim, finishes.wood(rng), finishes.plain(rng))
    room.group.add("box", leaf, at=room.on_wall(wall, along, 0.005), size=(0.85, 0.03, 2.02), yaw=yaw)
    at = [room.on_wall(wall, along + side * 0.46, 0.02) for side in (-1, 1)]
    room.group.add("box", trim, at=at, size=(0.08, 0.06, 2.05), yaw=yaw)
    room.group.add("box", trim, at=room.on_wall(wall, along, 0.02, 2.02), size=(1.0, 0.06, 0.08), yaw=yaw)
    room.group.add(
        "box", finishes.metal(rng), at=room.on_wall(wall, along + 0.34, 0.05, 1.02), size=(0.13, 0.05, 0.025), yaw=yaw
    )
    if rng.random() < 0.5:
        at = [room.on_wall(wall, along, 0.022, z) for z in (0.2, 1.15)]
        room.group.add("box", leaf._replace(light=leaf.dark), at=at, size=(0.55, 0.01, 0.7), yaw=yaw)


def hang_picture(room: Room, rng: Rng, wall: int) -> None:
    """A framed picture, a poster, a board, a mirror-dark screen, a shelf with things."""
    span, yaw = room.span(wall)[0], WALLS[wall][0]
    wide, tall = rng.uniform(0.25, 1.6), rng.uniform(0.25, 1.0)
    along, low = rng.uniform(-0.5, 0.5) * max(span - wide - 0.2, 0.1), rng.uniform(1.1, 1.7)
    if rng.random() < 0.25:
        room.group.add(
            "box", finishes.wood(rng), at=room.on_wall(wall, along, 0.12, low), size=(wide, 0.24, 0.025), yaw=yaw
        )
        things = clutter.scattered(
            rng, 4, wide, 0.22, (clutter.vessel, clutter.books, clutter.bottle, clutter.package, clutter.plant)
        )
        room.group.include(things, room.on_wall(wall, along, 0.12, low + 0.025), yaw)
        return
    tall = min(tall, room.height - low - 0.1)
    room.group.add(
        "box",
        any_of(rng, finishes.wood, finishes.plain)(rng),
        at=room.on_wall(wall, along, 0.015, low),
        size=(wide, 0.03, tall),
        yaw=yaw,
    )
    board = finishes.printed(rng, max(wide, tall)) if rng.random() < 0.75 else finishes.plain(rng)
    room.group.add(
        "box", board, at=room.on_wall(wall, along, 0.018, low + 0.03), size=(wide - 0.06, 0.032, tall - 0.06), yaw=yaw
    )


def add_lamps(room: Room, rng: Rng) -> list[Light]:
    """One or two lamps that light the room, more that are only seen, and the sun where a window is open."""
    warm = finishes.hue(rng, (0.0, 0.35), (1.0, 1.0), any_of(rng, 0.1, 0.1, 0.6), 0.02)
    power = rng.uniform(4, 12) * room.height / 2.5
    spots = np.stack([rng.uniform(-0.3, 0.3, 4) * room.width, np.linspace(-0.4, 0.4, 4) * room.length], 1)
    flat, drop = rng.random() < 0.5, rng.uniform(0.1, 0.7)
    glow = finishes.glowing(warm, rng.uniform(3, 12))
    lights = []
    for i, (x, y) in enumerate(spots[rng.permutation(4)[: rng.integers(1, 5)]]):
        if flat:
            room.group.add("box", glow, at=(x, y, room.height - 0.02), size=(rng.uniform(0.2, 1.2), 0.3, 0.02))
            spot = (float(x), float(y), room.height - 0.15)
        else:
            room.group.add("pole", finishes.metal(rng), at=(x, y, room.height - drop), size=(0.015, 0.015, drop))
            room.group.add("ball", glow, at=(x, y, room.height - drop - 0.12), size=(0.16, 0.16, 0.12))
            spot = (float(x), float(y), room.height - drop - 0.2)
        if i < 2:
            lights.append(Light(spot, finishes.scaled(warm, power), rng.uniform(0.05, 0.35)))
    if room.sunlit:
        direction = rng.normal(0, 1, 3) * (1, 1, 0) + (0, 0, rng.uniform(0.3, 1.2))
        sun = Light(three(direction * 500), finishes.scaled((1.0, 0.93, 0.8), rng.uniform(4, 14)), 3.0, fades=False)
        lights = [sun, *lights[: rng.integers(0, 2)]]
    return lights


def furnish(room: Room, rng: Rng) -> None:
    """Pieces along the walls, then in the middle, then small things on the floor."""
    for wall in rng.permutation(4).tolist():
        span = room.span(wall)[0]
        along = -span / 2 + rng.uniform(0.1, 0.6)
        while along < span / 2 - 0.5:
            piece = variant(any_of(rng, *furniture.AGAINST_WALLS), rng)
            x, y, _ = room.on_wall(wall, along + piece.width / 2, piece.depth / 2 + 0.05)
            narrow = room.span((wall + 1) % 4)[1] * 2 < 3 * piece.depth
            if along + piece.width < span / 2 - 0.05 and not narrow and room.free(x, y, piece.depth * 0.4):
                room.place(rng, piece, x, y, WALLS[wall][0])
            along += piece.width + rng.exponential(0.5)
    area = max(room.width - 2.0, 0) * max(room.length - 2.5, 0)
    for _ in range(int(min(rng.poisson(0.35 * area + 0.3), 7))):
        piece = variant(any_of(rng, *furniture.IN_THE_MIDDLE), rng)
        x, y = rng.uniform(-0.5, 0.5, 2) * (room.width - 1.4, room.length - 1.6)
        if room.free(x, y, max(piece.width, piece.depth) / 2):
            room.place(rng, piece, x, y, int(rng.integers(4)) * np.pi / 2 + rng.normal(0, 0.15))
            if piece.top and piece.height > 0.6:
                draw_up_chairs(room, rng, piece, x, y)
    if rng.random() < 0.3 and room.width > 2.6:
        size = rng.uniform((1.0, 1.2), (2.4, 3.0))
        room.group.add("box", finishes.fabric(rng), at=(*rng.normal(0, 0.3, 2), 0), size=(*size, 0.012))
    for _ in range(rng.integers(0, 5)):
        x, y = rng.uniform(-0.45, 0.45, 2) * (room.width, room.length)
        thing = any_of(rng, clutter.bag, clutter.package, clutter.ball, clutter.books, clutter.bottle, clutter.vessel)
        thing = variant(thing, rng)
        room.group.include(thing, (x, y, 0), rng.uniform(0, 6.3), scale=rng.uniform(1, 2))
    if rng.random() < 0.2:
        x, y = rng.uniform(-0.4, 0.4, 2) * (room.width, room.length)
        if room.free(x, y, 0.3):
            room.group.include(variant(people.person, rng), (x, y, 0), rng.uniform(0, 6.3))
            room.taken.append((x, y, 0.3, 1.8))


def draw_up_chairs(room: Room, rng: Rng, piece: Piece, x: Real, y: Real) -> None:
    """Chairs drawn up around a table."""
    seat = variant(furniture.chair, rng)
    for _ in range(rng.integers(0, 5)):
        angle = rng.uniform(0, 2 * np.pi)
        out = np.array([np.cos(angle), np.sin(angle)]) * (max(piece.width, piece.depth) / 2 + rng.uniform(0.05, 0.4))
        if abs(x + out[0]) < room.width / 2 - 0.3 and abs(y + out[1]) < room.length / 2 - 0.3:
            room.group.include(seat.group, (x + out[0], y + out[1], 0), angle - np.pi / 2 + rng.normal(0, 0.3))
            room.taken.append((x + out[0], y + out[1], 0.25, 0.9))


def _camera(room: Room, rng: Rng) -> Camera:
    """A view across the room, or a near one of a table top."""
    fov = rng.uniform(40, 90) if rng.random() < 0.4 else rng.normal(58, 4)
    roll = rng.normal(0, any_of(rng, 0.01, 0.06))
    if room.tops and rng.random() < 0.33:
        return _near(room, rng, fov, roll)
    spot, goal, most = np.zeros(2), np.array([0, room.length / 2]), -1.0
    for _ in range(12):
        here = rng.uniform(-0.5, 0.5, 2) * (room.width - 0.5, room.length - 0.5)
        there = rng.uniform(-0.5, 0.5, 2) * (room.width, room.length)
        if room.free(here[0], here[1], 0.35) and (worth := _seen(room, here, there)) > most:
            spot, goal, most = here, there, worth
    span = float(np.hypot(*(goal - spot)))
    eye = rng.uniform(0.9, 1.7) if rng.random() < 0.8 else rng.uniform(0.3, 2.1)
    eye = min(eye, room.height - 0.3)
    return look_at((*spot, eye), (*goal, eye + span * rng.normal(-0.16, 0.16)), fov, roll)


def _seen(room: Room, spot: np.ndarray, goal: np.ndarray) -> float:
    """How much a view is worth: its length, and the pieces ahead."""
    span = float(np.hypot(*(goal - spot)))
    ahead = np.array(room.taken)[:, :2] - spot if room.taken else np.zeros((0, 2))
    along, far = ahead @ (goal - spot) / max(span, 1e-6), np.hypot(*ahead.T)
    return span + 0.4 * float(((along > 0.85 * far) & (far > 1.0)).sum())


def _near(room: Room, rng: Rng, fov: Real, roll: Real) -> Camera:
    """A view of a table top from 0.4 to 1.8 m, inside the room."""
    x, y, z, size = room.tops[rng.integers(len(room.tops))]
    inside = np.array([room.width, room.length]) / 2 - 0.15
    away, rise = rng.uniform(0.4, 0.6 + 0.8 * size), rng.uniform(0.15, 1.2)
    for _ in range(8):
        heading = np.arctan2(-y, -x) + rng.normal(0, 0.9)
        spot = np.array([x, y]) + away * np.array([np.cos(heading), np.sin(heading)])
        if np.all(np.abs(spot) < inside):
            break
    spot = np.clip(spot, -inside, inside)
    top = min(z + rise * away, room.height - 0.2)
    goal = np.array([x, y]) + rng.normal(0, 0.15, 2)
    return look_at((*spot, top), (*goal, z + 0.05), fov, roll)
