"""Light transport: what a pinhole camera sees of a scene, and the exact depth of every pixel.

Rays are left unnormalised with a unit component along the optical axis, so the parameter Embree answers *is* the
depth.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from jaxtyping import Bool, Float, Float32, Int

from sonde.scenes.materials import Colour, table
from sonde.scenes.prints import Prints
from sonde.scenes.shapes import Group, turn
from sonde.scenes.vectors import Real, Scalars, Vectors, column, dot, rows, three, unit

Position = tuple[Real, Real, Real]
"""Metres in the world frame."""


class Camera(NamedTuple):
    """A pinhole camera in the world frame (x right, y away, z up)."""

    position: Position
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

    def rays(self, u: Scalars, v: Scalars, height: int, width: int) -> Vectors:
        """World directions through points of the image in pixels, of unit length along the optical axis."""
        matrix = self.intrinsics(height, width)
        x, y = (u - matrix[0, 2]) / matrix[0, 0], (v - matrix[1, 2]) / matrix[1, 1]
        right, down, forward = self.axes().T[:, :, None]
        return (right * x + down * y + forward).astype(np.float32)


def look_at(position, target, fov_deg: Real = 60.0, roll: Real = 0.0) -> Camera:
    """The camera at `position` whose optical axis meets `target`; metres."""
    x, y, z = np.subtract(target, position)
    return Camera(
        three(position),
        float(np.arctan2(-x, y)),
        float(np.arctan2(z, np.hypot(x, y))),
        roll,
        fov_deg,
    )


class Light(NamedTuple):
    """A lamp, or the sun where `fades` is False."""

    position: Position
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
    bloom: float = 0.0
    """Share of burnt-out light that spills over its surroundings."""
    aperture: float = 0.0
    """Defocus: blur in widths of the picture per 1/m between a point's inverse depth and the focus'."""
    focus: float = 1.0
    """Depth that is sharp, metres."""
    motion: tuple[float, float] = (0.0, 0.0)
    """Camera shake: right and down, in widths of the picture."""


class Scanner(NamedTuple):
    """A structured-light sensor: sees a point only where its projector's pattern reaches it and comes back."""

    projector: Position
    """Metres, world frame."""
    near: float = 0.25
    far: float = 4.0
    """Smallest and largest depth measured, metres."""
    grazing: float = 0.12
    """Smallest cosine between surface and ray that is measured."""
    dark: float = 0.01
    """Smallest returned light that is measured, relative to a white surface at one metre."""
    speckle: float = 0.01
    """Share of pixels lost for no visible reason."""


DAYLIGHT, PLAIN = Sky(), Photo()


@dataclass
class Scene:
    """Everything a picture is made of."""

    group: Group
    camera: Camera
    lights: list[Light] = field(default_factory=list)
    sky: Sky = DAYLIGHT
    photo: Photo = PLAIN
    scanner: Scanner | None = None
    others: tuple[Camera, ...] = ()
    """Further viewpoints: the first that sees enough is taken (`viewpoints.settle`)."""


class Hits(NamedTuple):
    """Where rays met surfaces; only the rays that did."""

    ray: Int[np.ndarray, " n"]
    """Index of the ray."""
    depth: Scalars
    """Metres along the optical axis."""
    point: Vectors
    """Metres from the camera, world axes."""
    view: Vectors
    """Unit direction to the camera."""
    normal: Vectors
    """Smooth unit normal, towards the camera."""
    flat: Vectors
    """The triangle's own unit normal, towards the camera."""
    uv: Float32[np.ndarray, "2 n"]
    """Texture coordinates, metres."""
    material: Int[np.ndarray, " n"]
    """Row of the tracer's table."""


class Tracer:
    """A scene's triangles in Embree, their origin moved to the camera so that float32 is finest there."""

    def __init__(self, scene: Scene) -> None:
        flat = scene.group.flattened()
        self.scene, self.origin = scene, scene.camera.position
        self.eye = np.zeros((1, 3), np.float32)
        self.corners = flat.corners.reshape(-1, 15)
        self.material = flat.material
        self.table = table(flat.materials)
        self.prints: Prints | None = None
        self.embree = EmbreeScene(robust=True)
        TriangleMesh(self.embree, (flat.vertices - scene.camera.position).astype(np.float32), flat.faces)

    def move(self, camera: Camera) -> None:
        """Look through another camera, not far from the scene's first."""
        self.eye = np.subtract(camera.position, self.origin).astype(np.float32)[None]
        self.scene = replace(self.scene, camera=camera)

    def glimpse(self, rays: Vectors) -> tuple[Scalars, Bool[np.ndarray, " n"]]:
        """Depth along rays from the camera, inf where nothing is hit, and whether a surface's back was hit."""
        found = self._run(rays)
        hit = found["primID"] >= 0
        return np.where(hit, found["tfar"], np.float32(np.inf)), hit & ((found["Ng"] * rays.T).sum(1) > 0)

    def _run(self, rays: Vectors) -> dict[str, np.ndarray]:
        return self.embree.run(np.repeat(self.eye, rays.shape[1], axis=0), rows(rays), output=1)

    def hits(self, rays: Vectors) -> Hits:
        """First surfaces along rays from the camera."""
        found = self._run(rays)
        ray = np.flatnonzero(found["primID"] >= 0)
        face, depth, second, third = (found[name][ray] for name in ("primID", "tfar", "u", "v"))
        rays = np.take(rays, ray, axis=1)
        view = -unit(rays)
        flat = _facing(unit(np.ascontiguousarray(found["Ng"].T)[:, ray]), view)
        corners = np.ascontiguousarray(np.take(self.corners, face, axis=0).T)
        first = 1 - second - third
        at = [corners[i] * first + corners[i + 5] * second + corners[i + 10] * third for i in range(5)]
        normal = _facing(unit(np.stack(at[:3])), flat)
        return Hits(ray, depth, rays * depth, view, normal, flat, np.stack(at[3:]), self.material[face])

    def open(self, origins: Vectors, directions: Vectors, reach: float = 1.0) -> Bool[np.ndarray, " n"]:
        """Whether nothing lies between each origin and `reach` times its direction away."""
        dists = np.full(origins.shape[1], reach, np.float32)
        return self.embree.run(rows(origins) + self.eye, rows(directions), dists=dists, query="OCCLUDED") < 0

    def towards(self, position: Position) -> Float32[np.ndarray, "3 1"]:
        """A point of the world frame in the hits' frame."""
        return column(np.subtract(position, self.scene.camera.position))


def _facing(normals: Vectors, towards: Vectors) -> Vectors:
    return np.copysign(np.float32(1), dot(normals, towards)) * normals
