"""Depth, distance, points and the pinhole camera, for one image at a time: NumPy arrays in and out.

Camera frame: x right, y down, z forward. Intrinsics are (3, 3) in pixels, without skew; the centre of the top-left
pixel is (0, 0), so an image of width w spans -½ to w - ½. Sizes are (height, width). Lengths keep their unit and
dtype. Unknown intrinsics are NaN and stay NaN.
"""

import numpy as np
from jaxtyping import Float, UInt8

from sonde.types import DepthArray, MaskArray, MatrixArray, XYZArray

Image = UInt8[np.ndarray, "H W 3"]
Points = Float[np.ndarray, "n 3"]
Colours = UInt8[np.ndarray, "n 3"]
Size = tuple[int, int]
"""Height, width."""

SKY = 999.0
"""Metres: the depth of the sky in renders by sonde, in the layout `folder`. It lies inside the limits of that layout
and is farther than anything rendered."""

LEAST_PIXELS = 16
"""No camera is fitted to fewer trusted pixels."""


def depth_from_xyz(
    xyz: XYZArray, min_depth: float | int = 0, max_depth: float | int = np.inf
) -> tuple[DepthArray, MaskArray]:
    """Z of an organised cloud, 0 where untrusted, and the mask: finite and min_depth < Z < max_depth."""
    z = xyz[..., 2]
    mask = (z > min_depth) & (z < max_depth)  # False for NaN and for infinity
    return np.where(mask, z, z.dtype.type(0)), mask


def fit_intrinsics(xyz: XYZArray, mask: MaskArray | None = None) -> MatrixArray | None:
    """The pinhole camera whose pixel grid an organised cloud lies on: u = fx X/Z + cx, v = fy Y/Z + cy.

    Least squares of X/Z over u and of Y/Z over v, since pixels are exact and points are not. The fit is repeated
    without the outliers.

    Args:
        xyz: (h, w, 3) in any unit; NaN where nothing was measured.
        mask: True where trusted; None trusts finite points in front of the camera.

    Returns:
        The (3, 3) intrinsics; None if fewer than 16 pixels are trusted, or if no pinhole camera at the origin fits: a
        mirrored axis, all pixels in one column or row, or a median error above 2 % of the longer side.
    """
    trusted = np.isfinite(xyz).all(-1) & (xyz[..., 2] > 0)
    v, u = np.nonzero(trusted if mask is None else trusted & mask)
    if len(u) < LEAST_PIXELS:
        return None
    x, y, z = xyz[v, u].astype(np.float64).T
    largest_miss = 0.02 * max(xyz.shape[:2])
    across, down = _fit_axis(u, x / z, largest_miss), _fit_axis(v, y / z, largest_miss)
    if across is None or down is None:
        return None
    (fx, cx), (fy, cy) = across, down
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def unproject(depth: DepthArray, intrinsics: MatrixArray) -> XYZArray:
    """X, Y, Z of every pixel, (h, w, 3), in the unit of depth."""
    x, y = _compute_slopes(depth.shape, intrinsics, depth.dtype)
    return np.stack([x * depth, y * depth, depth], axis=-1)


def distance_to_depth(distance: DepthArray, intrinsics: MatrixArray) -> DepthArray:
    """Depth along the optical axis from Euclidean distance along each pixel's ray.

    Hypersim stores distance: f = 886.81 on 1024x768, principal point (511.5, 383.5).
    """
    return distance / _compute_obliquity(distance, intrinsics)


def depth_to_distance(depth: DepthArray, intrinsics: MatrixArray) -> DepthArray:
    """Euclidean distance along each pixel's ray from depth along the optical axis."""
    return depth * _compute_obliquity(depth, intrinsics)


def scale_intrinsics(intrinsics: MatrixArray, before: Size, after: Size) -> MatrixArray:
    """Intrinsics after resizing from size `before` to `after`, edge to edge: u' = (u + ½) s - ½."""
    scaled = intrinsics.copy()
    for row, (old, new) in enumerate(zip(before[::-1], after[::-1], strict=True)):
        scaled[row] *= new / old
        scaled[row, 2] += (new / old - 1) / 2
    return scaled


def crop_intrinsics(intrinsics: MatrixArray, top: int, left: int) -> MatrixArray:
    """Intrinsics after cutting off `top` rows and `left` columns; a negative number pads."""
    return intrinsics - np.array([[0, 0, left], [0, 0, top], [0, 0, 0]])


def flip_intrinsics(intrinsics: MatrixArray, width: int) -> MatrixArray:
    """Intrinsics after mirroring an image of this width left to right. The scene is mirrored, so fx stays positive."""
    flipped = intrinsics.copy()
    flipped[0, 2] = width - 1 - flipped[0, 2]
    return flipped


TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (True, True, False),
    4: (True, False, False),
    5: (False, False, True),
    6: (True, False, True),
    7: (True, True, True),
    8: (False, True, True),
}
"""EXIF orientation -> how stored pixels become upright: rows reversed, columns reversed, then transposed."""


def turn_upright(depth: DepthArray, orientation: int) -> Float[np.ndarray, "height width"]:
    """A map in the order of the sensor, turned as EXIF's orientation (1 to 8) turns its image."""
    rows, columns, transposed = TURNS[orientation]
    turned = depth[:: -1 if rows else 1, :: -1 if columns else 1]
    return np.ascontiguousarray(turned.T if transposed else turned)


def turn_intrinsics(intrinsics: MatrixArray, before: Size, orientation: int) -> MatrixArray:
    """Intrinsics after `turn_upright` of a map of size `before`; focal lengths stay positive."""
    rows, columns, transposed = TURNS[orientation]
    turned = flip_intrinsics(intrinsics, before[1]) if columns else intrinsics.copy()
    if rows:
        turned[1, 2] = before[0] - 1 - turned[1, 2]
    return turned[np.ix_([1, 0, 2], [1, 0, 2])] if transposed else turned


def check_camera(camera: MatrixArray, height: int, width: int) -> None:
    """Check that intrinsics can belong to an image of this size.

    Raises:
        ValueError: their principal point lies outside the image.
    """
    if not (0 <= camera[0, 2] < width and 0 <= camera[1, 2] < height):
        raise ValueError(
            f"The intrinsics' centre ({camera[0, 2]:g}, {camera[1, 2]:g}) is outside this image of {width}x{height}: "
            "the intrinsics belong to another size; scale them to this one."
        )


def point_cloud(
    depth: DepthArray, intrinsics: MatrixArray, mask: MaskArray | None = None, rgb: Image | None = None
) -> tuple[Points, Colours | None]:
    """The trusted pixels as points (n, 3) in the unit of depth, row by row; and their colours (n, 3) if rgb is given.

    Raises:
        ValueError: rgb and depth differ in size.
    """
    if rgb is not None and rgb.shape[:2] != depth.shape:
        raise ValueError(
            f"Colours of {rgb.shape[:2]} pixels for depth of {depth.shape}: resize the image to the depth's size."
        )
    keep = (depth > 0) & np.isfinite(depth)
    keep = keep if mask is None else keep & mask
    return unproject(depth, intrinsics)[keep], None if rgb is None else rgb[keep]


def _fit_axis(pixel: np.ndarray, slope: np.ndarray, largest_miss: float) -> tuple[float, float] | None:
    """Focal length and centre, in pixels, of slope = (pixel - centre) / focal; None if the median error is large."""
    near = np.ones(len(pixel), bool)
    focal = centre = 0.0
    for _ in range(3):
        mean_pixel, mean_slope = pixel[near].mean(), slope[near].mean()
        spread = np.square(pixel[near] - mean_pixel).sum()
        rise = ((pixel[near] - mean_pixel) * slope[near]).sum()
        if rise <= 1e-12 * spread:
            return None
        focal = spread / rise
        centre = mean_pixel - focal * mean_slope
        miss = np.abs(focal * slope + centre - pixel)
        if np.median(miss) > largest_miss:
            return None
        near = miss <= max(5 * np.median(miss), 1e-3)
    return float(focal), float(centre)


def _compute_slopes(shape: tuple[int, ...], intrinsics: MatrixArray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """X/Z of every column (w,) and Y/Z of every row (h, 1)."""
    height, width = shape
    (fx, _, cx), (_, fy, cy) = intrinsics[:2]
    x, y = (np.arange(width) - cx) / fx, (np.arange(height) - cy) / fy
    return x.astype(dtype), y.astype(dtype)[:, None]


def _compute_obliquity(values: DepthArray, intrinsics: MatrixArray) -> DepthArray:
    """Distance divided by depth for every pixel: 1 on the optical axis, larger elsewhere."""
    x, y = _compute_slopes(values.shape, intrinsics, values.dtype)
    return np.sqrt(1 + x * x + y * y)
