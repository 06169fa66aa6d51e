"""What scenes are built from: meshes, and groups of meshes with their materials.

World frame: x right, y away, z up, metres. Unit shapes (by trimesh) stand on the origin: x, y in [-½, ½], z in
[0, 1]; `Group.add` stretches, turns and places them, one or many at a time. Texture coordinates are metres along
the surface, so a brick stays a brick on a wall of any size.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import trimesh
from jaxtyping import Float, Float32, Int

from sonde.scenes.materials import Material
from sonde.scenes.vectors import Numbers, Real

CREASE = np.cos(np.radians(38))
"""Faces meeting at a smaller angle are shaded as one smooth surface."""


class Mesh(NamedTuple):
    """Triangles with what shading needs at each of their corners."""

    vertices: Float32[np.ndarray, "n 3"]
    """Metres."""
    faces: Int[np.ndarray, "m 3"]
    """Rows of `vertices`."""
    normals: Float32[np.ndarray, "m 3 3"]
    """Unit normal at each corner of each face."""
    uv: Float32[np.ndarray, "m 3 2"]
    """Texture coordinates, metres along the surface."""
    uv_axis: Int[np.ndarray, "m 2"]
    """Which component of a size stretches each texture coordinate."""


def turn(yaw: Real = 0.0, pitch: Real = 0.0, roll: Real = 0.0) -> Float[np.ndarray, "3 3"]:
    """Rotation: roll about y, then pitch about x (positive lifts y), then yaw about z; radians."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    return about_z @ about_x @ about_y


@cache
def unit(name: str) -> Mesh:
    """A unit shape by name: box, cylinder, ball and the rest of `_UNITS`."""
    mesh = _UNITS[name]()
    low, high = mesh.bounds
    span = np.where(high > low, high - low, 1.0)
    centre = (low + high) / 2
    vertices = (mesh.vertices - [centre[0], centre[1], low[2]]) / span
    return _shaded(vertices, np.asarray(mesh.faces), round_about_z=name not in _FLAT)


def grid(points: Float[np.ndarray, "a b 3"], uv: Float[np.ndarray, "a b 2"], closed: bool = False) -> Mesh:
    """The surface through a net of points; `closed` joins the last column to the first.

    Neighbours along `a` by neighbours along `b` must turn counter-clockwise seen from outside. Rows repeated in
    place make a crease there; the empty faces between them are dropped.
    """
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    vertices = points.reshape(-1, 3)
    edges = vertices[faces]
    cross = np.cross(edges[:, 1] - edges[:, 0], edges[:, 2] - edges[:, 0])
    area = np.linalg.norm(cross, axis=1)
    kept = area > 1e-12
    faces, cross, area = faces[kept], cross[kept], area[kept]
    smooth = np.zeros_like(vertices)
    for corner in range(3):
        for axis in range(3):
            smooth[:, axis] += np.bincount(faces[:, corner], cross[:, axis], len(vertices))
    if closed:
        seam = smooth.reshape(rows, columns, 3)
        seam[:, 0] = seam[:, -1] = seam[:, 0] + seam[:, -1]
    smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-20)
    flat = (cross / area[:, None])[:, None]
    normals = smooth[faces]
    normals = np.where((normals * flat).sum(-1, keepdims=True) > CREASE, normals, flat)
    axes = np.broadcast_to(np.array([0, 2]), (len(faces), 2))
    return Mesh(_f32(vertices), faces, _f32(normals), _f32(uv.reshape(-1, 2)[faces]), axes)


def lathe(profile: Float[np.ndarray, "p 2"], segments: int = 16) -> Mesh:
    """A profile of (radius, height) turned about z; it runs upwards for a surface seen from outside."""
    profile = _creased(np.asarray(profile, float))
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    radius, height = profile[:, 0, None], profile[:, 1, None]
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(profile, axis=0), axis=1))]
    points = np.stack(np.broadcast_arrays(radius * np.cos(angle), radius * np.sin(angle), height), -1)
    uv = np.stack(np.broadcast_arrays(angle * max(profile[:, 0].max(), 1e-6), along[:, None]), -1)
    return grid(points, uv, closed=True)


def extrusion(side: Float[np.ndarray, "p 3"], width: float) -> Mesh:
    """A body `width` wide along x from its side view: rows of (y, lower z, upper z), y rising.

    Rows repeated at one y make a step.
    """
    y, lower, upper = np.asarray(side, float).T
    half = width / 2
    outline = np.concatenate([np.stack([y, upper], 1), np.stack([y, lower], 1)[::-1]])
    outline = _creased(np.concatenate([outline, outline[:1]]))
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(outline, axis=0), axis=1))]
    band = np.stack([np.column_stack([np.full(len(outline), x), outline]) for x in (-half, half)], 1)
    band_uv = np.stack([np.column_stack([np.full(len(outline), x), along]) for x in (-half, half)], 1)
    cheeks = []
    for x, order in ((-half, (lower, upper)), (half, (upper, lower))):
        points = np.stack([np.column_stack([np.full(len(y), x), y, z]) for z in order], 1)
        cheeks.append(grid(points, points[..., 1:]))
    return joined([grid(band, band_uv), *cheeks])


def joined(meshes: list[Mesh]) -> Mesh:
    """Several meshes of one frame as one."""
    shift = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, shift, strict=True)])
    parts = [np.concatenate([mesh[field] for mesh in meshes]) for field in (0, 2, 3, 4)]
    return Mesh(parts[0], faces, parts[1], parts[2], parts[3])


class Batch(NamedTuple):
    """Copies of one mesh in one material: each stretched, then turned, then moved."""

    mesh: Mesh
    material: Material
    at: Float[np.ndarray, "k 3"]
    size: Float[np.ndarray, "k 3"]
    rotation: Float[np.ndarray, "k 3 3"]


class Group:
    """Meshes with their materials in one frame: a cup, a car, a street."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._bounds: tuple[int, np.ndarray] | None = None

    def add(
        self,
        mesh: Mesh | str,
        material: Material,
        at: Numbers = (0, 0, 0),
        size: Numbers = (1, 1, 1),
        yaw: Numbers = 0.0,
        rotation: Numbers | None = None,
    ) -> "Group":
        """Stretch a mesh (or a unit shape by name) by `size`, turn it, put its origin `at`; metres and radians.

        Any of them may have one row per copy: `at` (k, 3), `size` (k, 3), `yaw` (k,), `rotation` (k, 3, 3).
        """
        mesh = unit(mesh) if isinstance(mesh, str) else mesh
        at, size = np.array(at, float, ndmin=2), np.array(size, float, ndmin=2)
        rotation = about_z(np.array(yaw, float, ndmin=1)) if rotation is None else np.array(rotation, float, ndmin=3)
        self.batches.append(Batch(mesh, material, at, size, rotation))
        return self

    def include(self, other: "Group", at=(0, 0, 0), yaw: Real = 0.0, rotation=None, scale: Real = 1.0) -> "Group":
        """Place another group's meshes in this one."""
        matrix = about_z(np.array([yaw]))[0] if rotation is None else np.asarray(rotation, float)
        for batch in other.batches:
            moved = (batch.at * scale) @ matrix.T + at
            self.batches.append(batch._replace(at=moved, size=batch.size * scale, rotation=matrix @ batch.rotation))
        return self

    def bounds(self) -> Float[np.ndarray, "2 3"]:
        """Lowest and highest corner of a box around everything, metres; kept until something is added."""
        if self._bounds is None or self._bounds[0] != len(self.batches):
            spans = [_span(batch) for batch in self.batches]
            low, high = np.min([low for low, _ in spans], axis=0), np.max([high for _, high in spans], axis=0)
            self._bounds = len(self.batches), np.stack([low, high])
        return self._bounds[1]

    def flattened(self) -> "Flat":
        """All copies as one triangle soup; copies of one mesh are transformed together."""
        same: dict[int, list[Batch]] = {}
        for batch in self.batches:
            same.setdefault(id(batch.mesh), []).append(batch)
        numbers: dict[Material, int] = {}
        pieces = [_placed(batches, numbers) for batches in same.values()]
        starts = np.cumsum([0] + [len(piece.vertices) for piece in pieces[:-1]])
        faces = [piece.faces + np.int32(start) for piece, start in zip(pieces, starts, strict=True)]
        corners, material = (np.concatenate([piece[field] for piece in pieces]) for field in (2, 3))
        return Flat(
            np.concatenate([p.vertices for p in pieces]),
            np.concatenate(faces),
            corners,
            material,
            list(numbers),
        )


class Flat(NamedTuple):
    """A group's triangles in its own frame."""

    vertices: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, "m 3"]
    corners: Float32[np.ndarray, "m 3 5"]
    """Normal and texture coordinates at each corner."""
    material: Int[np.ndarray, " m"]
    """Index into `materials`."""
    materials: list[Material]


def _span(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a box around a batch, from its mesh's own box."""
    low, high = batch.mesh.vertices.min(0), batch.mesh.vertices.max(0)
    stretch = batch.rotation * batch.size[:, None]
    centre, half = stretch @ ((low + high) / 2) + batch.at, np.abs(stretch) @ ((high - low) / 2)
    return (centre - half).min(0), (centre + half).max(0)


def _placed(batches: list[Batch], numbers: dict[Material, int]) -> Flat:
    """All copies of one mesh."""
    mesh = batches[0].mesh
    counts = [max(len(batch.at), len(batch.size), len(batch.rotation)) for batch in batches]
    at, size = (_repeated([getattr(batch, name) for batch in batches], counts) for name in ("at", "size"))
    rotation = _repeated([batch.rotation for batch in batches], counts)
    label = [numbers.setdefault(batch.material, len(numbers)) for batch in batches]
    copies, triangles = len(at), len(mesh.faces)
    stretch = (rotation * size[:, None]).transpose(0, 2, 1)
    vertices = mesh.vertices @ stretch.astype(np.float32) + at[:, None]  # (k, n, 3)
    corners = np.empty((copies, triangles * 3, 5), np.float32)
    shrink = (rotation / np.maximum(size, 1e-9)[:, None]).transpose(0, 2, 1) * size.min(1)[:, None, None]
    np.matmul(mesh.normals.reshape(-1, 3), shrink.astype(np.float32), out=corners[..., :3])
    stretched = size.astype(np.float32)[:, mesh.uv_axis][:, :, None]  # (k, m, 1, 2)
    corners.reshape(copies, triangles, 3, 5)[..., 3:] = mesh.uv * stretched
    faces = mesh.faces.astype(np.int32) + (np.arange(copies, dtype=np.int32) * len(mesh.vertices))[:, None, None]
    material = np.repeat(np.repeat(label, counts), triangles)
    return Flat(vertices.reshape(-1, 3), faces.reshape(-1, 3), corners.reshape(-1, 3, 5), material, [])


def _repeated(arrays: list[np.ndarray], counts: list[int]) -> np.ndarray:
    """One row per copy of every batch."""
    whole = [a if len(a) == k else np.broadcast_to(a, (k, *a.shape[1:])) for a, k in zip(arrays, counts, strict=True)]
    return np.concatenate(whole)


def about_z(yaw: Float[np.ndarray, " k"]) -> Float[np.ndarray, "k 3 3"]:
    """Rotations about the vertical, radians."""
    matrix = np.zeros((len(yaw), 3, 3))
    matrix[:, 0, 0] = matrix[:, 1, 1] = np.cos(yaw)
    matrix[:, 1, 0] = np.sin(yaw)
    matrix[:, 0, 1] = -matrix[:, 1, 0]
    matrix[:, 2, 2] = 1
    return matrix


def _f32(array) -> Float32[np.ndarray, "..."]:
    return np.ascontiguousarray(array, np.float32)


def _creased(profile: Float[np.ndarray, "p 2"]) -> Float[np.ndarray, "q 2"]:
    """The profile with its sharp corners repeated, so that normals break there."""
    step = np.diff(profile, axis=0)
    step /= np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-12)
    sharp = np.r_[False, (step[1:] * step[:-1]).sum(1) < CREASE, False]
    return np.repeat(profile, np.where(sharp, 2, 1), axis=0)


def _shaded(vertices: np.ndarray, faces: np.ndarray, round_about_z: bool) -> Mesh:
    """A mesh with smooth normals up to the crease angle, and coordinates around z or on the nearest plane."""
    corners = vertices[faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(flat, axis=1, keepdims=True)
    flat = flat / np.maximum(area, 1e-20)
    normals = np.empty((*faces.shape, 3))
    for vertex in range(len(vertices)):
        face, corner = np.nonzero(faces == vertex)
        near = flat[face] @ flat[face].T > CREASE
        total = near @ (flat[face] * area[face])
        normals[face, corner] = total / np.linalg.norm(total, axis=1, keepdims=True)
    plane = np.argmax(np.abs(flat), axis=1)
    axes = np.array([[1, 2], [0, 2], [0, 1]])[plane]
    uv = np.take_along_axis(corners, axes[:, None], axis=2)
    if round_about_z:
        side = plane != 2
        angle = np.arctan2(corners[..., 1], corners[..., 0])
        angle = np.where((np.ptp(angle, axis=1) > np.pi)[:, None], angle % (2 * np.pi), angle)
        uv[side] = np.stack([angle * 0.5, corners[..., 2]], -1)[side]
        axes = np.where(side[:, None], np.array([0, 2]), axes)
    return Mesh(_f32(vertices), faces, _f32(normals), _f32(uv), axes)


def _panel() -> trimesh.Trimesh:
    """A square upright sheet in the x, z plane."""
    square = [[-0.5, 0, 0], [0.5, 0, 0], [0.5, 0, 1], [-0.5, 0, 1]]
    return trimesh.Trimesh(square, [[0, 1, 2], [0, 2, 3]], process=False)


def _roof() -> trimesh.Trimesh:
    """A gable roof, its ridge along y."""
    ends = [[x, y, z] for y in (-0.5, 0.5) for x, z in ((-0.5, 0), (0.5, 0), (0, 1))]
    faces = [[0, 1, 2], [3, 5, 4], [0, 2, 5], [0, 5, 3], [1, 4, 5], [1, 5, 2], [0, 3, 4], [0, 4, 1]]
    return trimesh.Trimesh(ends, faces, process=False)


def _wedge() -> trimesh.Trimesh:
    """A ramp that rises along y."""
    mesh = _roof()
    return trimesh.Trimesh(mesh.vertices + np.outer(mesh.vertices[:, 2] * 0.5, [1, 0, 0]), mesh.faces, process=False)


def _cushion(power: float) -> trimesh.Trimesh:
    """A ball swollen towards its cube."""
    axis = np.tan(np.linspace(-np.pi / 4, np.pi / 4, 4))
    square = np.stack(np.meshgrid(axis, axis, [1.0]), -1).reshape(-1, 3)
    quads = np.array([[i, i + 1, i + 5, i + 4] for i in range(11) if i % 4 != 3])
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    sides = [
        square @ turn(yaw, pitch).T
        for yaw, pitch in ((0, 0), (0, np.pi), *((k * np.pi / 2, np.pi / 2) for k in range(4)))
    ]
    cube = trimesh.Trimesh(np.concatenate(sides), np.concatenate([faces + 16 * k for k in range(6)]))
    ball = cube.vertices / np.linalg.norm(cube.vertices, axis=1, keepdims=True)
    return trimesh.Trimesh(np.sign(ball) * np.abs(ball) ** power, cube.faces)


def _lump(seed: int, subdivisions: int, amount: float) -> trimesh.Trimesh:
    """A ball with dents and bumps: stones, crowns, crumpled things."""
    ball = trimesh.creation.icosphere(subdivisions=subdivisions)
    waves = np.random.default_rng(seed).normal(0, 2.2, (6, 3))
    bumps = 1 + amount * np.sin(ball.vertices @ waves.T + np.arange(6)).mean(1)
    return trimesh.Trimesh(ball.vertices * bumps[:, None], ball.faces, process=False)


def _leaves(seed: int, count: int, length: float, upward: float) -> trimesh.Trimesh:
    """Pointed leaves, two triangles each: scattered in a ball, or from one root where `upward` is positive."""
    rng = np.random.default_rng(seed)
    outward = np.add(rng.normal(size=(count, 3)), (0, 0, 2.5 * upward))
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    side = np.cross(outward, rng.normal(size=(count, 3)))
    side *= length * 0.2 / np.linalg.norm(side, axis=1, keepdims=True)
    root = np.zeros_like(outward) if upward else outward * rng.random((count, 1)) ** 0.5
    tip = root + outward * length * rng.uniform(0.5, 1, (count, 1)) - [0, 0, 0.25 * length]
    middle = (root + tip) / 2 + [0, 0, 0.15 * length]
    vertices = np.stack([root, middle + side, tip, middle - side], 1).reshape(-1, 3)
    quads = np.arange(count)[:, None] * 4
    return trimesh.Trimesh(
        vertices, np.concatenate([np.add(quads, (0, 1, 2)), np.add(quads, (0, 2, 3))]), process=False
    )


_FLAT = {"box", "panel", "roof", "wedge", "tuft", "sprig", "grass", "spray"}
_UNITS = {
    "box": lambda: trimesh.creation.box((1, 1, 1)),
    "panel": _panel,
    "roof": _roof,
    "wedge": _wedge,
    "cylinder": lambda: trimesh.creation.cylinder(0.5, 1, sections=16),
    "pole": lambda: trimesh.creation.cylinder(0.5, 1, sections=7),
    "bolt": lambda: trimesh.creation.cylinder(0.5, 1, sections=6),
    "tube": lambda: trimesh.creation.annulus(0.42, 0.5, 1, sections=16),
    "nut": lambda: trimesh.creation.annulus(0.25, 0.5, 1, sections=6),
    "cone": lambda: trimesh.creation.cone(0.5, 1, sections=14),
    "ball": lambda: trimesh.creation.icosphere(subdivisions=2, radius=0.5),
    "pebble": lambda: trimesh.creation.icosphere(subdivisions=1, radius=0.5),
    "cushion": lambda: _cushion(0.45),
    "pillow": lambda: _cushion(0.7),
    "capsule": lambda: trimesh.creation.capsule(3, 0.5, count=[8, 4]),
    "ring": lambda: trimesh.creation.torus(0.4, 0.1, major_sections=18, minor_sections=6),
    "hoop": lambda: trimesh.creation.torus(0.48, 0.02, major_sections=18, minor_sections=3),
    "stone": lambda: _lump(1, 1, 0.8),
    "crown": lambda: _lump(2, 1, 0.9),
    "heap": lambda: _lump(3, 2, 0.6),
    "tuft": lambda: _leaves(4, 44, 0.5, 0.0),
    "sprig": lambda: _leaves(5, 16, 1.0, 0.6),
    "grass": lambda: _leaves(6, 24, 1.0, 1.5),
    "spray": lambda: _leaves(7, 80, 0.34, 0.0),
}
