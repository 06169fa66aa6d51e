"""Light transport: what a pinhole camera sees of a scene, and the exact depth of every pixel.

Rays are left unnormalised with a unit component along the optical axis, so the parameter Embree answers *is* the
depth. Depth is traced through pixel centres; colour through four points per pixel, which are then averaged.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from jaxtyping import Bool, Float, Float32, Int

from sonde.scenes import materials
from sonde.scenes.materials import Colour
from sonde.scenes.shapes import Group, turn

Points = Float32[np.ndarray, "n 3"]
Scalars = Float32[np.ndarray, " n"]

OVERSAMPLING = 2
"""Colour samples along a pixel's side."""


class Camera(NamedTuple):
    """A pinhole camera in the world frame (x right, y away, z up)."""

    position: tuple[float, float, float]
    """Metres."""
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    """Radians; all zero looks along y, a positive pitch looks up, a positive yaw to the left."""
    fov_deg: float = 60.0
    """Horizontal field of view."""

    def intrinsics(self, height: int, width: int) -> Float[np.ndarray, "3 3"]:
        """Pinhole matrix in pixels; the centre of the top-left pixel is (0, 0)."""
        focal_px = width / 2 / np.tan(np.radians(self.fov_deg) / 2)
        return np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])

    def axes(self) -> Float[np.ndarray, "3 3"]:
        """Columns: the camera's right, down and forward in the world frame."""
        right, forward, up = turn(self.yaw, self.pitch, self.roll).T
        return np.stack([right, -up, forward], 1)

    def rays(self, height: int, width: int, oversampling: int = 1) -> Points:
        """World directions through the (sub)pixels' centres, row by row, of unit length along the optical axis."""
        matrix = self.intrinsics(height, width)
        u = (np.arange(width * oversampling) + 0.5) / oversampling - 0.5
        v = (np.arange(height * oversampling) + 0.5) / oversampling - 0.5
        x, y = np.meshgrid((u - matrix[0, 2]) / matrix[0, 0], (v - matrix[1, 2]) / matrix[1, 1])
        rays = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3) @ self.axes().T
        return np.ascontiguousarray(rays, np.float32)


def look_at(position, target, fov_deg: float = 60.0, roll: float = 0.0) -> Camera:
    """The camera at `position` whose optical axis meets `target`; metres."""
    x, y, z = np.subtract(target, position)
    return Camera(
        tuple(map(float, position)),
        float(np.arctan2(-x, y)),
        float(np.arctan2(z, np.hypot(x, y))),
        roll,
        fov_deg,
    )


class Light(NamedTuple):
    """A lamp, or the sun where `fades` is False."""

    position: tuple[float, float, float]
    """Metres; for the sun any far point."""
    colour: Colour = (1.0, 1.0, 1.0)
    """Irradiance at one metre, or everywhere for the sun."""
    radius: float = 0.1
    """How soft its shadows are: the lamp's radius in metres."""
    fades: bool = True


class Sky(NamedTuple):
    """What lies behind everything, and the light that comes from everywhere."""

    zenith: Colour = (0.25, 0.45, 0.9)
    horizon: Colour = (0.8, 0.85, 0.9)
    ground: Colour = (0.3, 0.28, 0.25)
    """Light from below."""
    clouds: float = 0.0
    """Share of cloud, 0 to 1."""
    ambient: float = 1.0
    """Strength of the light from everywhere."""
    haze: float = 0.0
    """Extinction of the air per metre."""
    shift: float = 0.0
    """Offset of the clouds."""


class Photo(NamedTuple):
    """From radiance to an 8-bit picture."""

    brightness: float = 0.45
    """Where the middle of the picture's luminance lands, display value in [0, 1]."""
    contrast: float = 1.0
    tint: Colour = (1.0, 1.0, 1.0)
    """White balance error, a gain per channel."""
    saturation: float = 1.0
    noise: float = 0.01
    """Standard deviation at mid grey, display value."""
    blur_px: float = 0.3
    """Gaussian blur at a width of 224 pixels."""
    vignette: float = 0.1
    """Light lost in the corners, 0 to 1."""
    jpeg: int = 0
    """Quality of a compression the picture went through, or 0 for none."""


class Scanner(NamedTuple):
    """A structured-light sensor: sees a point only where its projector's pattern reaches it and comes back."""

    projector: tuple[float, float, float]
    """Metres, world frame."""
    far: float = 4.0
    """Largest depth measured, metres."""
    grazing: float = 0.12
    """Smallest cosine between surface and ray that is measured."""
    dark: float = 0.01
    """Smallest returned light that is measured, relative to a white surface at one metre."""
    speckle: float = 0.01
    """Share of pixels lost for no visible reason."""


@dataclass
class Scene:
    """Everything a picture is made of."""

    group: Group
    camera: Camera
    lights: list[Light] = field(default_factory=list)
    sky: Sky = Sky()
    photo: Photo = Photo()
    scanner: Scanner | None = None


class Hits(NamedTuple):
    """Where rays met surfaces; only the rays that did."""

    ray: Int[np.ndarray, " n"]
    """Index of the ray."""
    depth: Scalars
    point: Points
    """Metres from the camera, world axes."""
    normal: Points
    """Smooth unit normal, towards the camera."""
    flat: Points
    """The triangle's own unit normal, towards the camera."""
    uv: Float32[np.ndarray, "n 2"]
    material: Int[np.ndarray, " n"]


class Tracer:
    """A scene's triangles in Embree, their origin moved to the camera so that float32 is finest there."""

    def __init__(self, scene: Scene) -> None:
        meshes = scene.group.meshes
        starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
        vertices = np.concatenate([mesh.vertices for mesh in meshes])
        faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)])
        self.camera, self.scene = scene.camera, scene
        self.vertices = (vertices - scene.camera.position).astype(np.float32)
        self.faces = np.ascontiguousarray(faces, np.int32)
        self.corners = np.concatenate(
            [np.concatenate([mesh.normals, mesh.uv], -1).reshape(-1, 15) for mesh in meshes]
        )
        self.material, self.table = _numbered(scene.group)
        self.embree = EmbreeScene(robust=True)
        TriangleMesh(self.embree, self.vertices, self.faces)

    def hits(self, rays: Points) -> Hits:
        """First surfaces along rays from the camera."""
        found = self.embree.run(np.zeros_like(rays), rays, output=1)
        ray = np.flatnonzero(found["primID"] >= 0)
        face = found["primID"][ray]
        rays, depth = rays[ray], found["tfar"][ray]
        u, v = found["u"][ray, None], found["v"][ray, None]
        corners = np.take(self.corners, face, axis=0)
        at = corners[:, :5] * (1 - u - v) + corners[:, 5:10] * u + corners[:, 10:] * v
        flat = _facing(found["Ng"][ray], rays)
        normal = at[:, :3]
        normal = np.where((normal * flat).sum(1, keepdims=True) < 0, -normal, normal)
        return Hits(ray, depth, rays * depth[:, None], _unit(normal), flat, at[:, 3:], self.material[face])

    def open(self, origins: Points, directions: Points, reach: float = 1.0) -> Bool[np.ndarray, " n"]:
        """Whether nothing lies between each origin and `reach` times its direction away."""
        dists = np.full(len(origins), reach, np.float32)
        return self.embree.run(origins, directions, dists=dists, query="OCCLUDED") < 0


def _numbered(group: Group) -> tuple[Int[np.ndarray, " m"], Float32[np.ndarray, "k c"]]:
    """The material's row for every face, and the rows."""
    rows: dict[materials.Material, int] = {}
    numbers = [rows.setdefault(material, len(rows)) for material in group.materials]
    per_face = np.repeat(numbers, [len(mesh.faces) for mesh in group.meshes])
    return per_face, materials.atlas_table(list(rows))


def _unit(vectors: Points) -> Points:
    return vectors / np.maximum(np.sqrt((vectors * vectors).sum(1, keepdims=True)), np.float32(1e-12))


def _facing(normals: Points, rays: Points) -> Points:
    normals = _unit(normals)
    return np.where((normals * rays).sum(1, keepdims=True) > 0, -normals, normals)
