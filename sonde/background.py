"""The bench as one fixed camera sees it without objects: depth and colour of every pixel, from captures that have some.

A camera that does not move sees the same bench in every capture. Where two captures or more agree on the farthest
depth, that is the bench; where objects always lie, a thin plate through the rest continues it. A network then learns
only what differs from the bench. Arrays in, arrays out: who reads captures is elsewhere.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy.sparse import coo_matrix, csc_matrix, diags, vstack
from scipy.sparse.linalg import spsolve

from sonde import files
from sonde.types import DepthArray, MaskArray, RGBArray

Stack = Float[np.ndarray, "n h w"]
"""Depth of n captures in metres, 0 where untrusted."""
Colours = UInt8[np.ndarray, "n h w 3"]
Seen = UInt8[np.ndarray, "rows columns 3"]
"""An image whose size need not be its depth's or the bench's."""

DEPTH, IMAGE, ABOUT = "background.npy", "background.png", "background.json"
"""What a model's folder holds of its background."""
REPEATS = 0.003
"""Two depths that differ by less than this share of the depth are one: what a good sensor repeats within, and more."""
OBJECT = 0.01
"""What is nearer than the bench by more than this share of its depth belongs to an object."""
SMALLEST = 0.01
"""Bench that two captures agree on in a patch of less than this share of the image may be two objects' chance."""
FEWEST = 0.15
"""Of a capture's trusted pixels so many at least show the bench, or the camera is taken to have moved."""
LEAST_MATCH, CLEARLY, LOST = 0.15, 0.05, 0.25
"""Correlation of edges that counts as a match; by how much a match elsewhere must be better; and the share of the usual
match below which nothing is recognised."""
GRID = 130
"""Longer side of the grid on which the plate is bent."""


@dataclass(frozen=True)
class Background:
    """The bench without objects."""

    depth: DepthArray
    """(h, w) metres, above 0 everywhere."""
    image: RGBArray
    """(h, w, 3): its colours, painted in where no capture shows them."""
    kind: str
    """farthest, median, or the file of a capture of the empty bench."""
    match: float = 0.0
    """How well the edges of captures that lie on it match its own, the median correlation; 0: not known."""

    @property
    def reference(self) -> float:
        """Metres that stand for the bench in a flattened map: its farthest depth, so that no depth becomes negative."""
        return float(self.depth.max())

    def depth_at(self, size: Sequence[int]) -> Float[np.ndarray, "H W"]:
        """Depth at another (height, width) of the same view.

        Raises:
            ValueError: a size of another aspect, which the same camera does not give.
        """
        (height, width), (rows, columns) = size, self.depth.shape
        if abs(height * columns - width * rows) > max(height, width, rows, columns):
            raise ValueError(
                f"The image is {width}x{height}, and this model knows a bench seen at {columns}x{rows} by a fixed "
                "camera: expected an image of that camera, at any scale."
            )
        if (height, width) == (rows, columns):
            return self.depth
        return cv2.resize(self.depth, (width, height), interpolation=cv2.INTER_LINEAR)

    def flattened(self, depth: DepthArray) -> DepthArray:
        """Depth as if the bench were a wall at `reference`: height above it is kept, 0 stays untrusted."""
        return np.where(depth > 0, depth + (self.reference - self.depth_at(depth.shape)), 0).astype(np.float32)

    def objects(self, depth: DepthArray) -> MaskArray:
        """True where trusted depth is nearer than the bench by more than OBJECT of it."""
        bench = self.depth_at(depth.shape)
        return (depth > 0) & (bench - depth > OBJECT * bench)

    def write(self, folder: Path) -> None:
        """Write DEPTH, IMAGE and ABOUT."""
        with files.atomic_write(folder / DEPTH) as tmp_path:
            np.save(tmp_path, self.depth)
        files.write_rgb(folder / IMAGE, self.image)
        about = {"kind": self.kind, "unit": "m", "size": list(self.depth.shape), "match": self.match}
        with files.atomic_write(folder / ABOUT) as tmp_path:
            tmp_path.write_text(json.dumps(about) + "\n")


def read_background(folder: Path) -> Background:
    """What `Background.write` wrote.

    Raises:
        ValueError: a file is missing or holds something else.
    """
    path = folder / DEPTH
    if not path.is_file():
        raise ValueError(f"{path} is missing: this model answers what differs from it; copy the whole folder again.")
    with files.reading(path, "copy the whole folder again"):
        depth = np.load(path, allow_pickle=False)
        if depth.ndim != 2 or depth.dtype != np.float32 or not (np.isfinite(depth) & (depth > 0)).all():
            raise ValueError(f"{path} holds no map of depth above 0 in float32 metres: copy the whole folder again.")
    image = files.read_rgb(folder / IMAGE)
    with files.reading(folder / ABOUT, "copy the whole folder again"):
        about = json.loads((folder / ABOUT).read_text())
        kind, match = str(about["kind"]), float(about.get("match", 0.0))
    if image.shape[:2] != depth.shape:
        raise ValueError(f"{folder / IMAGE} and {path} differ in size: copy the whole folder again.")
    return Background(depth, image, kind, match)


def farthest(depths: Stack) -> DepthArray:
    """The bench: the farthest depth where two captures agree on it, a thin plate elsewhere, never nearer than was seen.

    Agreement in small patches is left to the plate: two objects of one height. With one capture all that it shows is
    the bench.

    Raises:
        ValueError: no trusted depth at all.
    """
    ordered = -np.sort(-depths, axis=0)  # farthest first; 0 is last
    seen = ordered[len(depths) // 20]  # of many captures a few see errors beyond the bench
    if len(depths) == 1:
        return filled(seen, seen > 0)
    following = ordered[len(depths) // 20 + 1]
    agreed = (following > 0) & (seen - following < REPEATS * seen)
    sure = _large(agreed)
    if not sure.any():
        sure = agreed if agreed.any() else seen > 0
    plate = filled(np.where(sure, seen, 0), sure)
    near = agreed & (np.abs(seen - plate) < 5 * REPEATS * plate)
    calm = cv2.medianBlur(np.ascontiguousarray(seen), 3)  # a lone speckle beyond the bench is an error
    return np.where(sure | near, seen, np.maximum(plate, calm)).astype(np.float32)


def median(depths: Stack) -> DepthArray:
    """The middle depth of every pixel over the captures that show it, holes filled by a thin plate.

    Raises:
        ValueError: no trusted depth at all.
    """
    count = (depths > 0).sum(0)
    ordered = np.sort(np.where(depths > 0, depths, np.inf), axis=0)
    middle = np.take_along_axis(ordered, (np.maximum(count - 1, 0) // 2)[None], 0)[0]
    return filled(np.where(count > 0, middle, 0).astype(np.float32), count > 0)


def colours(images: Colours, depths: Stack, bench: DepthArray) -> RGBArray:
    """Median colour of the captures that show the bench at each pixel; painted in from around where none does."""
    shown = (depths > 0) & (np.abs(depths - bench) < 2 * REPEATS * bench)
    count = shown.sum(0)
    ordered = np.sort(np.where(shown[..., None], images.astype(np.int16), 256), axis=0)
    middle = np.take_along_axis(ordered, (np.maximum(count - 1, 0) // 2)[None, ..., None], 0)[0]
    known = np.where(count[..., None] > 0, middle, 0).astype(np.uint8)
    return cv2.inpaint(known, (count == 0).astype(np.uint8), 3, cv2.INPAINT_TELEA)


def filled(depth: DepthArray, known: MaskArray) -> DepthArray:
    """Depth where it is known, and elsewhere a thin plate (least bending) that runs through the known part.

    Raises:
        ValueError: nothing is known.
    """
    if not known.any():
        raise ValueError("The captures hold no trusted depth: there is no bench to find.")
    if known.all():
        return depth.astype(np.float32)
    flat = _plane(depth, known)  # what is left is bent: a tilted bench is continued exactly, and to the border
    step = max(1, -(-max(depth.shape) // GRID))
    rows, columns = (-(-side // step) for side in depth.shape)
    cell = (np.arange(depth.shape[0])[:, None] // step) * columns + np.arange(depth.shape[1]) // step
    count = np.bincount(cell[known], minlength=rows * columns)
    total = np.bincount(cell[known], (depth - flat)[known], minlength=rows * columns)
    bent = _bending(rows, columns)
    weight = diags(100.0 * (count > 0) + 1e-9)  # the least weight settles a plate that hangs on fewer than three points
    wanted = total / np.maximum(count, 1)
    plate = np.asarray(spsolve(csc_matrix(bent.T @ bent + weight), weight @ wanted)).reshape(rows, columns)
    centre = step / 2 - 0.5
    # cell (i, j) stands for the pixel (i step + centre, j step + centre)
    across, down = ((np.arange(side, dtype=np.float32) - centre) / step for side in depth.shape[::-1])
    grid = np.meshgrid(across, down)
    smooth = flat + cv2.remap(plate.astype(np.float32), *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    low, high = depth[known].min(), depth[known].max()
    room = high - low + 1e-3 * high
    return np.where(known, depth, smooth.clip(max(low - room, 1e-3 * low), high + room)).astype(np.float32)


def _plane(depth: DepthArray, known: MaskArray) -> Float[np.ndarray, "h w"]:
    """The plane nearest to what is known, by least squares; level where that settles no tilt."""
    rows, columns = np.mgrid[: depth.shape[0], : depth.shape[1]].astype(np.float64)
    centred = [place - place[known].mean() for place in (rows, columns)]
    mean = depth[known].mean(dtype=np.float64)
    solved: np.ndarray = np.linalg.lstsq(np.stack([place[known] for place in centred], 1), depth[known] - mean)[0]
    down, across = solved.tolist()
    return mean + down * centred[0] + across * centred[1]


def _large(agreed: MaskArray) -> MaskArray:
    """Of pixels that captures agree on, those in broad patches: speckle closed, thin links cut, islands dropped."""
    side = max(3, round(0.03 * agreed.shape[1])) | 1
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    whole = cv2.morphologyEx(agreed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    broad = cv2.morphologyEx(whole, cv2.MORPH_OPEN, disk)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(broad)
    kept = boxes[:, cv2.CC_STAT_AREA] >= SMALLEST * agreed.size
    kept[0] = False  # what is in no patch
    return kept[np.asarray(labels, np.intp)] & agreed


def _bending(rows: int, columns: int) -> coo_matrix:
    """Second differences of a grid down, across and twice in both: the energy of a thin plate is their square."""
    index = np.arange(rows * columns).reshape(rows, columns)
    down = _differences(rows * columns, (1, -2, 1), index[:-2], index[1:-1], index[2:])
    across = _differences(rows * columns, (1, -2, 1), index[:, :-2], index[:, 1:-1], index[:, 2:])
    root = 2**0.5
    corners = index[:-1, :-1], index[1:, :-1], index[:-1, 1:], index[1:, 1:]
    return coo_matrix(vstack([down, across, _differences(rows * columns, (root, -root, -root, root), *corners)]))


def _differences(size: int, weights: Sequence[float | int], *places: np.ndarray) -> coo_matrix:
    count = places[0].size
    entries = np.repeat(np.asarray(weights, float)[:, None], count, 1)
    lines = np.tile(np.arange(count), len(places))
    return coo_matrix((entries.ravel(), (lines, np.concatenate([p.ravel() for p in places]))), shape=(count, size))


class Registration(NamedTuple):
    """How a capture lies on the bench, by what is the same in both."""

    shift_px: float
    """By how many pixels of the image its edges match the bench's best; 0 where no place matches clearly better."""
    lost: bool = False
    """Whether its edges match the bench's nowhere, though other captures' do; asked where there is no depth."""
    agrees: float | None = None
    """Share of trusted pixels whose depth is the bench's; None without depth."""
    offset: float | None = None
    """The lower quartile of |depth - bench|, metres: near 0 where the camera stands and a quarter shows the bench."""

    @property
    def moved(self) -> bool:
        """Whether the camera, or the bench, is not where it was."""
        return self.shift_px > 0 or self.lost or (self.agrees is not None and self.agrees < FEWEST)

    def sentence(self, name: str) -> str:
        """What is known of it, with the remedy."""
        measured = [] if self.offset is None else [f"{1000 * self.offset:.1f} mm in depth"]
        measured += [f"{self.shift_px:.0f} pixels"] if self.shift_px else []
        how = f"{' and '.join(measured)} off" if measured else "none of it is recognised"
        return (
            f"{name} does not lie on the bench that this model knows ({how}): the camera or the bench has moved; adapt "
            "again with captures from where it stands now."
        )


def register(bench: Background, image: Seen, depth: DepthArray | None = None) -> Registration:
    """How an image, and its depth where there is some, lies on the bench."""
    shift, own = matched(bench.image, image)
    lost = bench.match > LEAST_MATCH and own < LOST * bench.match and not shift
    if depth is None or not (depth > 0).any():
        return Registration(shift, lost)
    known, wall = depth > 0, bench.depth_at(depth.shape)
    off = np.abs(depth - wall)[known]
    return Registration(shift, False, float((off < REPEATS * wall[known]).mean()), float(np.quantile(off, 0.25)))


def matched(bench: RGBArray, image: Seen) -> tuple[float, float]:
    """How far from its own place the middle of an image matches the bench best, pixels; and how well at its own place.

    The first is 0 where no other place is clearly better, the second a correlation of edges.
    """
    wide = min(160, image.shape[1])
    wall = _edges(bench, (max(1, round(bench.shape[0] * wide / bench.shape[1])), wide))
    rows, columns = (max(1, round(0.12 * side)) for side in wall.shape)
    middle = _edges(image, wall.shape)[rows:-rows, columns:-columns]
    if min(middle.shape) < 8:
        return 0.0, 0.0
    matches = np.nan_to_num(cv2.matchTemplate(wall, middle, cv2.TM_CCOEFF_NORMED))
    row, column = np.unravel_index(matches.argmax(), matches.shape)
    far = float(np.hypot(row - rows, column - columns))
    own = float(matches[rows, columns])
    clear = matches.max() > LEAST_MATCH and matches.max() - own > CLEARLY
    return far * image.shape[1] / wide if clear and far >= 0.01 * wide else 0.0, own


def _edges(image: RGBArray, size: Sequence[int]) -> Float[np.ndarray, "H W"]:
    """Grey levels at (height, width), less their surroundings' mean and by their spread: light no longer matters."""
    grey = files.resize_image(image, (size[0], size[1])).astype(np.float32).mean(-1)
    centred = grey - cv2.GaussianBlur(grey, (0, 0), 4)
    spread = cv2.GaussianBlur(centred**2, (0, 0), 4)
    return centred / np.sqrt(spread + 2)
