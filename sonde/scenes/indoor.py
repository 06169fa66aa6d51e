"""Indoors at large: rooms, halls, corridors, shops, offices and what lies beyond their doors, from any viewpoint."""

from collections.abc import Callable

import numpy as np

from sonde.scenes import clutter, finishes, furniture, people, solids, viewpoints
from sonde.scenes.catalogue import variant
from sonde.scenes.finishes import Rng, any_of
from sonde.scenes.materials import Material
from sonde.scenes.room import (
    WALLS,
    Room,
    add_door,
    add_lamps,
    add_window,
    build_wall,
    draw_up_chairs,
    furnish,
    hang_picture,
    wall_finish,
)  # fmt: skip
from sonde.scenes.shapes import turn
from sonde.scenes.tracer import Camera, Light, Scene, Sky
from sonde.scenes.vectors import three


def scene(rng: Rng, view: Callable[[Room, Rng], Camera] | None = None) -> Scene:
    """A room, how it is furnished, what lies beyond its doors, and several views of it; `view` may draw others."""
    room = _sized(rng)
    _shell(room, rng, open_walls=int(rng.integers(0, 3)))
    _overhead(room, rng)
    lights = add_lamps(room, rng)
    any_of(rng, *ARRANGEMENTS)(room, rng)
    _littered(room, rng)
    finishes.repainted(rng, room.group, any_of(rng, 0.0, 0.05, 0.15, 0.5))
    finishes.muted(room.group, any_of(rng, 1.0, 1.0, rng.uniform(0.15, 0.8)))
    cameras = [(view or _camera)(room, rng) for _ in range(6)]
    lights, sky = _mood(room, rng, lights)
    photo = viewpoints.snapshot(rng, any_of(rng, 0.0, 0.0, rng.uniform(0.8, 3)))
    return Scene(room.group, cameras[0], lights, sky, photo, others=tuple(cameras[1:]))


def _sized(rng: Rng) -> Room:
    """From a closet to a hall."""
    kind = any_of(rng, "room", "corridor", "hall", "closet", p=[0.58, 0.14, 0.2, 0.08])
    if kind == "corridor":
        return Room(rng.uniform(1.2, 3.5), rng.uniform(6, 30), rng.uniform(2.2, 3.6))
    if kind == "hall":
        return Room(rng.uniform(6, 18), rng.uniform(8, 30), rng.uniform(2.7, 9))
    if kind == "closet":
        return Room(rng.uniform(1.4, 2.4), rng.uniform(1.6, 3), rng.uniform(2.1, 2.8))
    return Room(rng.uniform(2.6, 6), rng.uniform(3, 7), rng.uniform(2.2, 3.3))


def _shell(room: Room, rng: Rng, open_walls: int) -> None:
    """Floor, ceiling and walls with windows, doors, pictures, and doorways in some of them."""
    group, size = room.group, (room.width + 0.4, room.length + 0.4, 0.1)
    group.add("box", _floor(rng), at=(0, 0, -0.1), size=size)
    group.add("box", _ceiling(rng), at=(0, 0, room.height), size=size)
    common = wall_finish(rng) if rng.random() < 0.85 else finishes.anything(rng)
    trim = any_of(rng, finishes.wood(rng), finishes.plain(rng, finishes.grey(rng, 0.6, 0.95)), finishes.plain(rng))
    for number, wall in enumerate(rng.permutation(4).tolist()):
        finish = common if rng.random() < 0.75 else any_of(rng, wall_finish, finishes.anything)(rng)
        opening, span = None, room.span(wall)[0]
        if number < open_walls and span > 1.6:
            opening = _doorway(room, rng, wall, trim)
        elif rng.random() < 0.45:
            opening = add_window(room, rng, wall, trim)
        elif rng.random() < 0.4:
            add_door(room, rng, wall, trim)
        build_wall(room, wall, finish, opening)
        if rng.random() < 0.4:
            group.add("box", trim, at=room.on_wall(wall, 0, 0.01), size=(span, 0.02, 0.09), yaw=WALLS[wall][0])
        for _ in range(rng.integers(0, 4)):
            hang_picture(room, rng, wall)


def _floor(rng: Rng) -> Material:
    kinds = (finishes.wood, finishes.wood, finishes.masonry, finishes.stone, finishes.fabric, finishes.anything)
    return finishes.wood(rng, True) if rng.random() < 0.3 else any_of(rng, *kinds)(rng)


def _ceiling(rng: Rng) -> Material:
    bright = finishes.plaster(rng)._replace(light=finishes.grey(rng, 0.75, 0.97))
    tiled = finishes.masonry(rng)._replace(pattern="tiles", tile=2.4, light=bright.light, marked=0.0)
    return any_of(rng, bright, tiled, finishes.papered(rng), finishes.wood(rng, True), p=[0.55, 0.25, 0.1, 0.1])


def _doorway(room: Room, rng: Rng, wall: int, trim: Material) -> tuple[float, float, float, float]:
    """An opening without a door, and the room, corridor or hall behind it."""
    span, yaw = room.span(wall)[0], WALLS[wall][0]
    wide = min(any_of(rng, rng.uniform(0.75, 1.1), rng.uniform(1.2, 3.5)), span - 0.4)
    high = min(rng.uniform(1.95, 2.6), room.height - 0.05)
    along = rng.uniform(-0.5, 0.5) * (span - wide - 0.3)
    sides = [room.on_wall(wall, along + side * (wide / 2 + 0.03), -0.08) for side in (-1, 1)]
    room.group.add("box", trim, at=sides, size=(0.08, 0.26, high + 0.05), yaw=yaw)
    room.group.add("box", trim, at=room.on_wall(wall, along, -0.08, high), size=(wide + 0.14, 0.26, 0.08), yaw=yaw)
    beyond = Room(rng.uniform(max(1.4, wide), 6), rng.uniform(1.5, any_of(rng, 4, 14)), room.height)
    size = (beyond.width, beyond.length + 0.4, 0.1)
    beyond.group.add("box", _floor(rng), at=(0, 0, -0.101), size=size)
    beyond.group.add("box", _ceiling(rng), at=(0, 0, room.height + 0.001), size=size)
    finish = wall_finish(rng)
    for far in (0, 1, 3):
        build_wall(beyond, far, finish, add_window(beyond, rng, far, trim) if rng.random() < 0.4 else None)
        hang_picture(beyond, rng, far)
    furnish(beyond, rng)
    room.sunlit |= beyond.sunlit
    room.group.include(beyond.group, room.on_wall(wall, along, -0.2 - beyond.length / 2), yaw)
    if rng.random() < 0.3:  # the leaf of the door, standing open
        leaf, swing = any_of(rng, trim, finishes.wood(rng)), rng.uniform(0.9, 2.2)
        hinge = np.array(room.on_wall(wall, along - wide / 2, 0.0))
        at = hinge + turn(yaw - swing) @ [min(wide, 0.95) / 2, 0, 0.01]
        room.group.add("box", leaf, at=at, size=(min(wide, 0.95), 0.04, high - 0.02), yaw=yaw - swing)
    return along - wide / 2, along + wide / 2, 0.0, high


def _overhead(room: Room, rng: Rng) -> None:
    """Beams, ducts, columns, or a roof's slope under the ceiling."""
    kind, group, height = (
        any_of(rng, "none", "beams", "ducts", "columns", "slope", p=[0.5, 0.16, 0.12, 0.12, 0.1]),
        room.group,
        room.height,
    )
    finish = any_of(rng, finishes.wood, finishes.plaster, finishes.metal)(rng)
    if kind == "beams":
        y = np.arange(-room.length / 2 + 0.4, room.length / 2, rng.uniform(0.5, 1.6))
        thick = rng.uniform(0.06, 0.25)
        group.add("box", finish, at=[(0, float(b), height - thick) for b in y], size=(room.width, thick, thick))
    elif kind == "ducts":
        for _ in range(rng.integers(1, 5)):
            wide, along = rng.uniform(0.05, 0.4), turn(0.0, np.pi / 2, 0.0) @ turn(0.0)
            x = rng.uniform(-0.45, 0.45) * room.width
            at = (x, room.length / 2, height - wide * rng.uniform(0.6, 1.5))
            group.add(
                any_of(rng, "cylinder", "box"),
                finishes.metal(rng),
                at=at,
                size=(wide, wide, room.length),
                rotation=along,
            )
    elif kind == "columns" and room.width > 3.5:
        thick = rng.uniform(0.2, 0.6)
        spots = [
            (s * room.width * 0.3, y, 0) for s in (-1, 1) for y in np.arange(-room.length / 2 + 1, room.length / 2, 3.0)
        ]
        group.add(any_of(rng, "box", "cylinder"), finish, at=spots, size=(thick, thick, height))
        room.taken += [(x, y, thick * 0.7, height) for x, y, _ in spots]
    elif kind == "slope" and room.width < 7:
        side, drop = any_of(rng, -1, 1), rng.uniform(0.6, 1.5)
        lean = np.arctan2(height - drop, room.width)
        at = (side * room.width / 4, 0, height - (height - drop) / 4)
        group.add("box", finish, at=at, size=(room.width, room.length, 0.05), rotation=turn(0.0, 0.0, side * lean))


def homely(room: Room, rng: Rng) -> None:
    """Furniture along the walls and in the middle."""
    furnish(room, rng)
    for x, y, _, height in list(room.taken):
        if rng.random() < 0.06 and 0.35 < height < 0.55:
            room.group.include(variant(people.seated, rng), (x, y, 0), rng.uniform(0, 6.3))


def rows(room: Room, rng: Rng) -> None:
    """Desks, tables or seats in rows: a classroom, an office, a canteen, a cinema."""
    desk = furniture.table(rng) if rng.random() < 0.7 else furniture.chair(rng)
    across, along = desk.width + rng.uniform(0.3, 1.2), desk.depth + rng.uniform(0.7, 1.5)
    yaw = any_of(rng, 0.0, np.pi / 2, np.pi)
    for x in np.arange(-room.width / 2 + across / 2, room.width / 2 - across / 2, across)[:7]:
        for y in np.arange(-room.length / 2 + 0.8, room.length / 2 - 0.8, along)[:8]:
            if room.free(x, y, 0.3):
                room.place(rng, desk, x, y, yaw)
                if desk.top and rng.random() < 0.5:
                    draw_up_chairs(room, rng, desk, x, y)


def aisles(room: Room, rng: Rng) -> None:
    """Racks of goods with aisles between: a shop, a library, a store."""
    kinds, x = [variant(furniture.rack, rng) for _ in range(3)], -room.width / 2 + rng.uniform(0.4, 1.0)
    while x < room.width / 2 - 0.4:
        y = -room.length / 2 + rng.uniform(0.8, 2)
        while y < room.length / 2 - 1.2:
            one = any_of(rng, *kinds)
            long = float(np.ptp(one.bounds()[:, 0]))
            room.group.include(one, (x, y + long / 2, 0), np.pi / 2)
            room.taken += [(x, y + long * part, 0.45, 2.0) for part in (0.2, 0.5, 0.8)]
            y += long + any_of(rng, 0.02, rng.uniform(0.5, 2))
        x += rng.uniform(1.4, 2.6)


def cubicles(room: Room, rng: Rng) -> None:
    """Desks between partitions."""
    screen, tall, pitch = finishes.fabric(rng), rng.uniform(1.1, 1.8), rng.uniform(1.8, 2.6)
    for x in np.arange(-room.width / 2 + pitch / 2, room.width / 2, pitch)[:6]:
        for y in np.arange(-room.length / 2 + 1.8, room.length / 2, pitch * 1.3)[:6]:
            room.group.add("box", screen, at=(x, y + 0.5, 0.02), size=(pitch, 0.05, tall))
            room.group.add("box", screen, at=(x + pitch / 2, y, 0.02), size=(0.05, 1.0, tall))
            if rng.random() < 0.85:
                room.place(rng, variant(furniture.table, rng), x, y, 0.0)
                room.group.include(variant(furniture.chair, rng).group, (x, y - 0.7, 0), rng.uniform(0, 6.3))


def staircase(room: Room, rng: Rng) -> None:
    """A flight of stairs among a little furniture."""
    flight = variant(furniture.stairs, rng)
    reach = float(np.abs(flight.bounds()[:, :2]).max())
    x, y = rng.uniform(-0.3, 0.3, 2) * (room.width, room.length)
    room.group.include(flight, (x, y, 0), int(rng.integers(4)) * np.pi / 2)
    room.taken.append((x, y, min(reach, 2.0), 2.0))
    furnish(room, rng)


def crowd(room: Room, rng: Rng) -> None:
    """People, standing about or sitting, among furniture."""
    furnish(room, rng)
    for _ in range(rng.integers(2, 12)):
        x, y = rng.uniform(-0.45, 0.45, 2) * (room.width, room.length)
        if room.free(x, y, 0.3):
            sits = rng.random() < 0.3
            room.group.include(variant(people.seated if sits else people.person, rng), (x, y, 0), rng.uniform(0, 6.3))
            if sits:
                room.group.include(variant(furniture.stool, rng).group, (x, y + 0.05, 0), scale=0.8)
            room.taken.append((x, y, 0.3, 1.7))


def _littered(room: Room, rng: Rng) -> None:
    """Small things all over the floor, now and then."""
    things = (clutter.bag, clutter.package, clutter.ball, clutter.books, *solids.SOLIDS)
    for _ in range(any_of(rng, 0, 3, 24, p=[0.5, 0.3, 0.2])):
        x, y = rng.uniform(-0.47, 0.47, 2) * (room.width, room.length)
        thing = solids.sized(variant(any_of(rng, *things), rng), rng.uniform(0.1, 0.6))
        room.group.include(thing, (x, y, 0), rng.uniform(0, 6.3))
        room.taken.append((x, y, 0.25, 0.3))


def _mood(room: Room, rng: Rng, lights: list[Light]) -> tuple[list[Light], Sky]:
    """The light that comes from everywhere: white, warm, dim, or a window's."""
    kind = any_of(rng, "even", "plain", "dim", p=[0.28, 0.52, 0.2])
    ambient = {"even": rng.uniform(0.8, 1.6), "plain": rng.uniform(0.3, 0.9), "dim": rng.uniform(0.05, 0.2)}[kind]
    bright = finishes.hue(rng, (0.0, 0.25), (0.95, 1.0), any_of(rng, 0.1, 0.6, rng.random()))
    sky = Sky(bright, bright, finishes.hue(rng, (0.1, 0.4), (0.5, 0.8), 0.09), ambient=ambient)
    if room.sunlit:
        blaze = rng.uniform(0.3, 1.2)
        sky = sky._replace(
            zenith=three(np.array((1.5, 2.0, 3.0)) * blaze), horizon=three(np.array((2.5, 2.6, 2.8)) * blaze)
        )
        sky = sky._replace(ambient=ambient * 0.35 / blaze, clouds=rng.uniform(0, 1), shift=rng.random())
    lights = lights[:1] if kind == "dim" else lights
    if room.windows and rng.random() < 0.6:
        return [*_windowlight(room, rng), *lights[: rng.integers(0, 2)]], sky._replace(ambient=0.5 * sky.ambient)
    return lights, sky


def _windowlight(room: Room, rng: Rng) -> list[Light]:
    """What one or two of the windows send in: broad and cool, so that walls darken away from them."""
    cool, power = finishes.hue(rng, (0.0, 0.3), (1.0, 1.0), 0.58, 0.03), rng.uniform(1.5, 9)
    return [Light(spot, finishes.scaled(cool, power * rng.uniform(0.4, 1)), 0.5) for spot in room.windows[:2]]


def _camera(room: Room, rng: Rng) -> Camera:
    """One of VIEWS from a free spot at any height."""
    spot = standing(room, rng)
    rise = any_of(rng, rng.uniform(1.1, 1.75), rng.uniform(0.1, 1.1), rng.uniform(1.7, 9), p=[0.52, 0.28, 0.2])
    eye = np.array([*spot, min(rise, room.height - 0.15)])
    return any_of(rng, *VIEWS, p=[0.34, 0.22, 0.16, 0.08, 0.06, 0.14])(room, rng, eye)


def standing(room: Room, rng: Rng) -> np.ndarray:
    """A free spot of the floor, (x, y) in metres; any where it is full."""
    half = np.array([room.width, room.length]) / 2 - 0.2
    spot = rng.uniform(-1, 1, 2) * half
    for _ in range(8):
        if room.free(spot[0], spot[1], 0.25):
            break
        spot = rng.uniform(-1, 1, 2) * half
    return spot


def farthest(room: Room, rng: Rng, eye: np.ndarray) -> np.ndarray:
    """The farthest of three points of the floor from an eye."""
    goals = rng.uniform(-0.5, 0.5, (3, 2)) * (room.width, room.length)
    return goals[np.argmax(np.hypot(*(goals - eye[:2]).T))]


def _across(room: Room, rng: Rng, eye: np.ndarray) -> Camera:
    """Towards the farthest of three points."""
    goal = farthest(room, rng, eye)
    span = float(np.hypot(*(goal - eye[:2])))
    return viewpoints.at(rng, eye, (*goal, np.clip(eye[2] + span * rng.normal(-0.12, 0.2), 0, room.height)))


def _at_piece(room: Room, rng: Rng, eye: np.ndarray) -> Camera:
    """Something that stands there, near enough to fill the frame."""
    x, y, reach, height = any_of(rng, *room.taken) if room.taken else (0.0, 0.0, 0.5, 1.0)
    away = np.subtract(eye[:2], (x, y))
    away *= (reach + rng.uniform(0.4, 2.0)) / max(float(np.hypot(*away)), 1e-3)
    half = np.array([room.width, room.length]) / 2 - 0.15
    spot = np.clip(np.add((x, y), away), -half, half)
    return viewpoints.at(rng, (*spot, eye[2]), (x, y, height * rng.uniform(0.3, 1.1)))


def _at_top(room: Room, rng: Rng, eye: np.ndarray) -> Camera:
    """Down on a table top or a shelf and what lies on it."""
    if not room.tops:
        return _at_piece(room, rng, eye)
    x, y, z, _ = any_of(rng, *room.tops)
    half, heading = np.array([room.width, room.length]) / 2 - 0.15, np.arctan2(-y, -x) + rng.normal(0, 0.9)
    away = rng.uniform(0.3, 1.3) * np.array([np.cos(heading), np.sin(heading)])
    spot = np.clip(np.add((x, y), away), -half, half)
    rise = min(z + rng.uniform(0.08, 1.1), room.height - 0.15)
    return viewpoints.at(rng, (*spot, rise), (x, y, z + 0.05))


def _at_wall(room: Room, rng: Rng, eye: np.ndarray) -> Camera:
    """A wall, straight on."""
    wall = int(rng.integers(4))
    yaw, half = WALLS[wall][0], room.span(wall)[1]
    spot = room.on_wall(wall, rng.uniform(-0.3, 0.3) * room.span(wall)[0], min(rng.uniform(0.6, 4), 2 * half - 0.2))
    return Camera(
        (spot[0], spot[1], float(eye[2])),
        yaw + rng.normal(0, 0.08),
        rng.normal(0, 0.1),
        viewpoints.roll(rng),
        viewpoints.lens(rng),
    )


def _at_corner(room: Room, rng: Rng, eye: np.ndarray) -> Camera:
    """Where two walls meet, at the floor, halfway or at the ceiling."""
    corner = rng.choice([-0.5, 0.5], 2) * (room.width, room.length)
    return viewpoints.at(rng, eye, (*corner, any_of(rng, 0.0, 0.5, 1.0) * room.height))


def _at_random(room: Room, rng: Rng, eye: np.ndarray) -> Camera:
    """Wherever the camera happens to point."""
    return viewpoints.anywhere(rng, eye)


ARRANGEMENTS: tuple[Callable[[Room, Rng], None], ...] = (
    homely, homely, homely, homely, rows, aisles, cubicles, staircase, crowd,
)  # fmt: skip
"""How a room may be furnished."""
VIEWS = (_across, _at_piece, _at_top, _at_wall, _at_corner, _at_random)
"""What a camera may look at, from a room, a generator and an eye."""
