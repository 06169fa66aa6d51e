"""Pixels whose depth is known: from a tape measure, a sparse depth map, or a plane at a known place.

x is the column from the left and y the row from the top, both from 0, in the upright image. Depth is along the optical
axis, in metres after reading.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sonde import files
from sonde.datasets.pairs import ImageDepthPair, list_files, match_pairs, strip_roles
from sonde.files.depths import READERS
from sonde.geometry import check_camera
from sonde.spelling import CONTROL, nearest, quantify, shorten
from sonde.types import MatrixArray
from sonde.units import UNITS

FARTHEST = 10**6
"""Pixels from the left or from the top: no image is larger."""
MOST = 2000
"""Most points of one image; a larger map or plane gives every n-th."""


class Measured(NamedTuple):
    """The known points of one image."""

    image: Path
    x: Int[np.ndarray, " n"]
    y: Int[np.ndarray, " n"]
    depth: Float[np.ndarray, " n"]
    """Metres."""
    source: Path | str
    """The file it was read from, or the plane in words."""
    intrinsics: MatrixArray | None = None
    """(3, 3), of the image's pixels; a model with a canonical focal needs them."""


def read_points(path: Path | str, *, unit: str = "m", intrinsics: MatrixArray | None = None) -> list[Measured]:
    """The points of a CSV file with the header image,x,y,depth; paths of images are relative to its folder.

    Args:
        path: the CSV. Instead of `depth` it may hold `distance`, from the camera to the point in a straight line, as a
            tape measure gives it.
        unit: of the lengths: m, cm or mm.
        intrinsics: (3, 3), of the images' pixels; distances and models with a canonical focal need them.

    Raises:
        ValueError: another header, no rows, or a row that is not a point; the message names the line.
    """
    path, metres = Path(path), _metres_per(unit)
    rows, place = files.read_table(path, HEADER), shorten(path)
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if sorted(header) not in (sorted(["image", "x", "y", last]) for last in LENGTHS):
        raise ValueError(f"{place} begins with {shorten(','.join(header), 80)!r}: {HEADER}.")
    if "distance" in header and intrinsics is None:
        raise ValueError(
            f"{place} holds distances: give the camera's --intrinsics fx,fy,cx,cy, or replace the distances by depth."
        )
    found: dict[Path, list[tuple[int, int, float]]] = {}
    for line, row in enumerate(rows[1:], start=2):
        if any(cell.strip() for cell in row):
            cells = [cell.strip() for cell in row]
            named = {**dict(zip(header, cells, strict=False)), "": "".join(cells[len(header) :])}
            point = _parse_point(named, metres, intrinsics, f"{place} line {line}")
            found.setdefault(path.parent / named["image"], []).append(point)
    if not found:
        raise ValueError(f"{place} has no points below its header: {HEADER}.")
    if intrinsics is not None:
        for image in found:
            check_camera(intrinsics, *files.image_size(image))
    return [Measured(image, *_split_columns(points), path, intrinsics) for image, points in found.items()]


def read_maps(
    depth: Path | str,
    image: Path | str,
    *,
    scale: float | None = None,
    intrinsics: MatrixArray | None = None,
    failed: dict[str, str] | None = None,
) -> list[Measured]:
    """The pixels with depth of a sparse map, or of every map in a folder whose names match those of the images.

    Args:
        depth: .png, .tif, .npy, .exr or .pfm of the image's size; 0 or NaN where depth is unknown.
        image: the photograph, or the folder of photographs.
        scale: metres per level, for files that do not state it.
        intrinsics: (3, 3), of the images' pixels, for a model with a canonical focal.
        failed: takes name and reason of each pair of a folder that cannot be read; None: the first one is an error.

    Raises:
        ValueError: different sizes, no pair, two files of one name, or a map without depth.
    """
    depth, image = Path(depth), Path(image)
    if not depth.is_dir() and not image.is_dir():
        return [_read_map(image, depth, scale, intrinsics)]
    if not (depth.is_dir() and image.is_dir()):
        raise ValueError(f"{depth} and {image}: expected two files, or two folders whose files agree in name.")
    (photos, twice), (maps, again) = list_files(image, files.IMAGE_SUFFIXES), list_files(depth, READERS)
    if twice or again:
        raise ValueError([*twice, *again][0])
    pairs = match_pairs(photos, maps)[0] or match_pairs(strip_roles(photos), strip_roles(maps))[0]
    if not pairs:
        raise ValueError(
            f"No name in {image} ({quantify(len(photos), 'image')}) agrees with one in {depth} "
            f"({quantify(len(maps), 'map')})."
        )
    return list(_read_pairs(pairs, scale, intrinsics, failed))


def _read_pairs(
    pairs: Sequence[ImageDepthPair], scale: float | None, intrinsics: MatrixArray | None, failed: dict[str, str] | None
) -> Iterator[Measured]:
    for pair in pairs:
        try:
            pair.check()
            files.read_rgb(pair.image)  # a photograph that is cut short is found here, not when the model sees it
            yield _read_map(pair.image, pair.depth, scale, intrinsics)
        except ValueError as error:
            if failed is None:
                raise
            failed[pair.id] = str(error)
    if failed and len(failed) == len(pairs):
        raise ValueError(f"None of {quantify(len(pairs), 'map')} can be read: {next(iter(failed.values()))}")


def sample_plane(
    plane: str,
    image: Path | str,
    region: tuple[int, int, int, int],
    *,
    unit: str = "m",
    intrinsics: MatrixArray | None = None,
) -> list[Measured]:
    """The pixels of a rectangle that shows a plane.

    Args:
        plane: `wall,distance=2.0`: every pixel has that depth. `ground,height=1.52,pitch=8`: level ground, `height`
            below a camera that looks down by `pitch` degrees (0 by default) and has no roll.
        image: the photograph.
        region: x0, y0, x1, y1; both corners belong to it.
        unit: of the lengths: m, cm or mm.
        intrinsics: (3, 3), of the image's pixels; the ground and models with a canonical focal need them.

    Raises:
        ValueError: an unknown plane, a rectangle outside the image, or one that reaches the horizon.
    """
    image, (x0, y0, x1, y1) = Path(image), region
    kind, numbers = _parse_plane(plane)
    height, width = files.image_size(image)
    if not (0 <= x0 <= x1 < width and 0 <= y0 <= y1 < height):
        raise ValueError(f"Region {x0},{y0},{x1},{y1} is not inside {image} of {width}x{height}: {REGION}.")
    if intrinsics is not None:
        check_camera(intrinsics, height, width)
    y, x = (axis.ravel() for axis in np.mgrid[y0 : y1 + 1, x0 : x1 + 1])
    if kind == "wall":
        depth = np.full(len(x), numbers["distance"] * _metres_per(unit))
    elif intrinsics is None:
        raise ValueError(f"The ground's depth needs the camera's --intrinsics fx,fy,cx,cy in pixels of {image}.")
    else:
        # A ray falls `drop` below the camera for each metre along the optical axis.
        pitch = np.radians(numbers["pitch"])
        drop = (y - intrinsics[1, 2]) / intrinsics[1, 1] * np.cos(pitch) + np.sin(pitch)
        if drop.min() <= 0:
            raise ValueError(
                f"Region {x0},{y0},{x1},{y1} of {image} reaches the horizon, where no ground is visible: increase y0."
            )
        depth = numbers["height"] * _metres_per(unit) / drop
    source = f"{plane} ({unit}) at {x0},{y0},{x1},{y1}"
    return [_thin(Measured(image, x, y, depth, source, intrinsics))]


def parse_region(text: str) -> tuple[int, int, int, int]:
    """Parse `x0,y0,x1,y1`, in pixels.

    Raises:
        ValueError: the text has another form.
    """
    try:
        x0, y0, x1, y1 = map(int, text.split(","))
    except ValueError:
        raise ValueError(f"Region {shorten(text)!r}: {REGION}.") from None
    return x0, y0, x1, y1


def _metres_per(unit: str) -> float:
    if unit not in LENGTH_UNITS:
        raise ValueError(f"No unit {unit!r} of length: expected {', '.join(LENGTH_UNITS)}.")
    return UNITS[unit]


def _parse_point(
    cells: dict[str, str], metres: float, intrinsics: MatrixArray | None, where: str
) -> tuple[int, int, float]:
    """Column, row and depth in metres of one line."""
    length = "depth" if "depth" in cells else "distance"
    try:
        x, y, value = (float(cells[name]) for name in ("x", "y", length))
        column, row = round(x), round(y)
        # A name with a control character is none of a photograph; "" is what stands beyond the columns.
        if not cells["image"] or CONTROL.search(cells["image"]) or cells[""] or max(abs(x), abs(y)) > FARTHEST:
            raise ValueError
    except (KeyError, ValueError, OverflowError):
        point = shorten(",".join(filter(None, cells.values())), 80)
        raise ValueError(f"{where} is not a point ({point!r}): {HEADER}.") from None
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{where} has {length} {value:g}: expected a length above 0; correct or remove the line.")
    if length == "distance":
        assert intrinsics is not None
        (fx, _, cx), (_, fy, cy) = intrinsics[:2]
        value /= np.sqrt(1 + ((x - cx) / fx) ** 2 + ((y - cy) / fy) ** 2)
    return column, row, float(value * metres)


def _split_columns(points: list[tuple[int, int, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, depth = zip(*points, strict=True)
    return np.array(x), np.array(y), np.array(depth, dtype=np.float64)


def _read_map(image: Path, path: Path, scale: float | None, intrinsics: MatrixArray | None) -> Measured:
    depth = files.read_depth(path, scale, metric=True).astype(np.float64)
    height, width = files.image_size(image)
    if depth.shape != (height, width):
        raise ValueError(
            f"{path} is {depth.shape[1]}x{depth.shape[0]} and {image} is {width}x{height}: project the depth into the "
            "image's own pixels first."
        )
    if intrinsics is not None:
        check_camera(intrinsics, height, width)
    y, x = np.nonzero(np.nan_to_num(depth) > 0)
    if not len(x):
        raise ValueError(f"{path} has no pixel with depth above 0.")
    return _thin(Measured(image, x, y, depth[y, x], path, intrinsics))


def _thin(measured: Measured) -> Measured:
    step = -(-len(measured.depth) // MOST)
    return measured._replace(x=measured.x[::step], y=measured.y[::step], depth=measured.depth[::step])


def _parse_plane(plane: str) -> tuple[str, dict[str, float]]:
    """Kind, and name → number, with defaults filled in."""
    kind, *words = (word.strip() for word in plane.split(","))
    if kind not in PLANES:
        raise ValueError(f"No plane {shorten(kind, 80)!r}: {nearest(kind, list(PLANES))} {PLANE}.")
    numbers = dict(PLANES[kind])
    try:
        for word in words:
            name, value = word.split("=")
            numbers[name.strip()] = float(value)
    except ValueError:
        raise ValueError(f"Plane {shorten(plane)!r}: {PLANE}.") from None
    length = next(iter(PLANES[kind]))
    if set(numbers) != set(PLANES[kind]) or not np.isfinite(list(numbers.values())).all() or numbers[length] <= 0:
        raise ValueError(f"Plane {shorten(plane)!r}: {PLANE}, with {length} above 0.")
    return kind, numbers


LENGTHS = ("depth", "distance")
LENGTH_UNITS = ("m", "cm", "mm")
PLANES: dict[str, dict[str, float]] = {"wall": {"distance": 0.0}, "ground": {"height": 0.0, "pitch": 0.0}}
"""Kind → its numbers and their defaults; the first is a length that must be given."""
HEADER = (
    "expected the header image,x,y,depth (or distance, from the camera in a straight line); x is the column from the "
    "left and y the row from the top, both from 0"
)
PLANE = "expected wall,distance=2.0 or ground,height=1.52,pitch=8 (degrees that the camera looks down)"
REGION = "expected x0,y0,x1,y1 in pixels, the top left and the bottom right corner"
