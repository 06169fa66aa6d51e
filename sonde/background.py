"""The bench as a fixed camera sees it without objects: depth and colour of every pixel, from captures with objects.

A camera that does not move sees the same bench in every capture. Where at least two captures agree on the farthest
depth, that depth is the bench; where objects always lie, a thin plate through the rest continues it. A network then
learns only what differs from the bench. The functions take and return arrays; other modules read the captures.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple, NotRequired

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from pydantic import Field, with_config
from typing_extensions import TypedDict

from sonde import files
from sonde.files.npy import open_npy
from sonde.renamed import keep_old_names
from sonde.strict import EXACT
from sonde.types import DepthArray, MaskArray, RGBArray

Stack = Float[np.ndarray, "n h w"]
"""Depth of n captures in metres, 0 where untrusted."""
Colours = UInt8[np.ndarray, "n h w 3"]
Seen = UInt8[np.ndarray, "rows columns 3"]
"""An image of any size."""

DEPTH, IMAGE, ABOUT = "background.npy", "background.png", "background.json"
"""The files of a background in a model's folder."""
REPEATS = 0.003
"""Depths that differ by less than this share of the depth are equal: above the repeatability of a good sensor."""
OBJECT = 0.01
"""A pixel nearer than the bench by more than this share of its depth belongs to an object."""
SMALLEST = 0.01
"""A patch on which captures agree is bench from this share of the image; two objects may agree on a smaller one."""
FEWEST = 0.15
"""The camera has moved if a smaller share of a capture's trusted pixels shows the bench."""
LEAST_MATCH, CLEARLY, LOST = 0.15, 0.05, 0.25
"""Least correlation of edges for a match; how much better a match at another place must be; and the share of the usual
correlation below which the bench is not recognised."""
GRID = 130
"""Longer side of the grid on which the thin plate is solved."""


@with_config(EXACT)
class AboutBackground(TypedDict):
    """What a reader needs of ABOUT."""

    kind: str
    match: NotRequired[Annotated[float, Field(allow_inf_nan=False)]]


@dataclass(frozen=True)
class Background:
    """The bench without objects."""

    depth: DepthArray
    """(h, w) metres, above 0 everywhere."""
    image: RGBArray
    """(h, w, 3): its colours; painted in where no capture shows them."""
    kind: str
    """`farthest`, `median`, or the file of a capture of the empty bench."""
    match: float = 0.0
    """Median correlation of its edges with those of the captures it was made from; 0: not known."""

    @property
    def reference(self) -> float:
        """The depth of the bench in a flattened map, metres: its farthest, so that no depth becomes negative."""
        return float(self.depth.max())

    def depth_at(self, size: Sequence[int]) -> Float[np.ndarray, "H W"]:
        """Depth of the same view at another (height, width).

        Raises:
            ValueError: a size of another aspect, which the same camera does not give.
        """
        (height, width), (rows, columns) = size, self.depth.shape
        # The aspect is the same up to rounding each side to whole pixels.
        if abs(height * columns - width * rows) > max(height, width, rows, columns):
            raise ValueError(
                f"The image is {width}x{height}, and this model is for a fixed camera whose images are "
                f"{columns}x{rows}: expected an image of that camera, at any scale."
            )
        if (height, width) == (rows, columns):
            return self.depth
        return cv2.resize(self.depth, (width, height), interpolation=cv2.INTER_LINEAR)

    def flatten(self, depth: DepthArray) -> DepthArray:
        """Depth as if the bench were a wall at `reference`: heights above it stay, and 0 stays untrusted."""
        return np.where(depth > 0, depth + (self.reference - self.depth_at(depth.shape)), 0).astype(np.float32)

    def mask_objects(self, depth: DepthArray) -> MaskArray:
        """True where trusted depth is nearer than the bench by more than the share OBJECT of it."""
        bench = self.depth_at(depth.shape)
        return (depth > 0) & (bench - depth > OBJECT * bench)

    def write(self, folder: Path) -> None:
        """Write DEPTH, IMAGE and ABOUT into a folder."""
        with files.atomic_write(folder / DEPTH) as tmp_path:
            np.save(tmp_path, self.depth)
        files.write_rgb(folder / IMAGE, self.image)
        about = {"kind": self.kind, "unit": "m", "size": list(self.depth.shape), "match": self.match}
        with files.atomic_write(folder / ABOUT) as tmp_path:
            tmp_path.write_text(json.dumps(about) + "\n")


def read_background(folder: Path) -> Background:
    """Read what `Background.write` wrote.

    Raises:
        ValueError: a file is missing or damaged.
    """
    path = folder / DEPTH
    if not path.is_file():
        raise ValueError(
            f"{path} is missing: this model predicts differences from that bench. Copy the whole folder again."
        )
    with files.reading(path, "copy the whole folder again"):
        depth = np.array(open_npy(path))
        if depth.ndim != 2 or depth.dtype != np.float32 or not (np.isfinite(depth) & (depth > 0)).all():
            raise ValueError(f"{path} is not a float32 depth map in metres above 0: copy the whole folder again.")
    image = files.read_rgb(folder / IMAGE)
    about: AboutBackground = files.read_json(folder / ABOUT, AboutBackground, "copy the whole folder again")
    if image.shape[:2] != depth.shape:
        raise ValueError(f"{folder / IMAGE} and {path} differ in size: copy the whole folder again.")
    return Background(depth, image, about["kind"], about.get("match", 0.0))


def find_farthest(depths: Stack) -> DepthArray:
    """The bench, (h, w) metres, by the farthest depth.

    Where two captures agree on the farthest depth, that is the bench; elsewhere a thin plate continues it, unless a
    capture shows something farther. Small patches of agreement do not count: two objects may have one height. With
    one capture, everything it shows is bench.

    Raises:
        ValueError: no trusted depth.
    """
    ordered = -np.sort(-depths, axis=0)  # farthest first; 0 is last
    # Among many captures, some have errors beyond the bench: the farthest twentieth is left out.
    seen = ordered[len(depths) // 20]
    if len(depths) == 1:
        return fill_holes(seen, seen > 0)
    following = ordered[len(depths) // 20 + 1]
    agreed = (following > 0) & (seen - following < REPEATS * seen)
    sure = _keep_large(agreed)
    if not sure.any():
        sure = agreed if agreed.any() else seen > 0
    plate = fill_holes(np.where(sure, seen, 0), sure)
    # A small patch that lies on the plate is bench after all.
    near = agreed & (np.abs(seen - plate) < 5 * REPEATS * plate)
    # The median over neighbours: a single pixel beyond the bench is an error.
    calm = cv2.medianBlur(np.ascontiguousarray(seen), 3)
    return np.where(sure | near, seen, np.maximum(plate, calm)).astype(np.float32)


def find_median(depths: Stack) -> DepthArray:
    """The bench, (h, w) metres, by the median depth of every pixel over the captures that show it.

    Of an even number of depths it takes the nearer one in the middle. A thin plate fills the holes.

    Raises:
        ValueError: no trusted depth.
    """
    count = (depths > 0).sum(0)
    ordered = np.sort(np.where(depths > 0, depths, np.inf), axis=0)
    middle = np.take_along_axis(ordered, (np.maximum(count - 1, 0) // 2)[None], 0)[0]
    return fill_holes(np.where(count > 0, middle, 0).astype(np.float32), count > 0)


def find_colours(images: Colours, depths: Stack, bench: DepthArray) -> RGBArray:
    """Median colour, (h, w, 3), of the captures that show the bench; painted in from the surroundings elsewhere."""
    shown = (depths > 0) & (np.abs(depths - bench) < 2 * REPEATS * bench)
    count = shown.sum(0)
    # 256 stands for captures that do not show the bench: it sorts after every colour.
    ordered = np.sort(np.where(shown[..., None], images.astype(np.int16), 256), axis=0)
    middle = np.take_along_axis(ordered, (np.maximum(count - 1, 0) // 2)[None, ..., None], 0)[0]
    known = np.where(count[..., None] > 0, middle, 0).astype(np.uint8)
    return cv2.inpaint(known, (count == 0).astype(np.uint8), 3, cv2.INPAINT_TELEA)


def fill_holes(depth: DepthArray, known: MaskArray) -> DepthArray:
    """Depth where it is known, and elsewhere a thin plate, the surface of least bending, through the known part.

    Raises:
        ValueError: nothing is known.
    """
    if not known.any():
        raise ValueError("The captures hold no trusted depth: there is no bench to find.")
    if known.all():
        return depth.astype(np.float32)
    # The plate bends only what a plane leaves: a tilted bench is continued exactly, up to the border.
    flat = _fit_plane(depth, known)
    smooth = flat + _fit_plate(depth - flat, known)
    low, high = depth[known].min(), depth[known].max()
    room = high - low + 1e-3 * high
    return np.where(known, depth, smooth.clip(max(low - room, 1e-3 * low), high + room)).astype(np.float32)


def _fit_plate(values: Float[np.ndarray, "h w"], known: MaskArray) -> Float[np.ndarray, "h w"]:
    """A thin plate through the known values, solved on a coarse grid and interpolated."""
    # Only here: a bench is fitted where sonde trains, and read wherever it predicts.
    from scipy.sparse import coo_matrix, csc_matrix, diags
    from scipy.sparse.linalg import splu

    step = max(1, -(-max(values.shape) // GRID))
    rows, columns = (-(-side // step) for side in values.shape)
    cell = (np.arange(values.shape[0])[:, None] // step) * columns + np.arange(values.shape[1]) // step
    count = np.bincount(cell[known], minlength=rows * columns)
    total = np.bincount(cell[known], values[known], minlength=rows * columns)
    entries, places = _build_bending(rows, columns)
    bending = coo_matrix((entries, places), shape=(places[0].max(initial=-1) + 1, rows * columns))
    # The tiny weight of empty cells determines a plate that fewer than three points hold.
    weight = diags(100.0 * (count > 0) + 1e-9)
    wanted = total / np.maximum(count, 1)
    # The matrix is symmetric and positive: an order made for such matrices halves the time.
    symmetric = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
    solver = splu(csc_matrix(bending.T @ bending + weight), **symmetric)
    plate = solver.solve(weight @ wanted).reshape(rows, columns)
    # Cell (i, j) stands for the pixel (i step + centre, j step + centre).
    centre = step / 2 - 0.5
    across, down = ((np.arange(side, dtype=np.float32) - centre) / step for side in values.shape[::-1])
    grid = np.meshgrid(across, down)
    return cv2.remap(plate.astype(np.float32), *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _fit_plane(depth: DepthArray, known: MaskArray) -> Float[np.ndarray, "h w"]:
    """The plane through the known depth by least squares; level where the known pixels do not determine its tilt."""
    rows, columns = np.mgrid[: depth.shape[0], : depth.shape[1]].astype(np.float64)
    centred = [place - place[known].mean() for place in (rows, columns)]
    mean = depth[known].mean(dtype=np.float64)
    solved: np.ndarray = np.linalg.lstsq(np.stack([place[known] for place in centred], 1), depth[known] - mean)[0]
    down, across = solved.tolist()
    return mean + down * centred[0] + across * centred[1]


def _keep_large(agreed: MaskArray) -> MaskArray:
    """The pixels in broad patches: closing fills speckle, opening cuts thin links, and small patches are dropped."""
    side = max(3, round(0.03 * agreed.shape[1])) | 1
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    whole = cv2.morphologyEx(agreed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    broad = cv2.morphologyEx(whole, cv2.MORPH_OPEN, disk)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(broad)
    kept = boxes[:, cv2.CC_STAT_AREA] >= SMALLEST * agreed.size
    kept[0] = False  # label 0: pixels outside every patch
    return kept[np.asarray(labels, np.intp)] & agreed


def _build_bending(rows: int, columns: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The matrix of a grid's second differences; the energy of a thin plate is the square of their norm.

    Returns:
        Its entries, and the line and the column of each.
    """
    index = np.arange(rows * columns).reshape(rows, columns)
    down = _build_differences((1, -2, 1), index[:-2], index[1:-1], index[2:])
    across = _build_differences((1, -2, 1), index[:, :-2], index[:, 1:-1], index[:, 2:])
    # The energy holds the mixed difference twice, so its square counts double.
    root = 2**0.5
    corners = index[:-1, :-1], index[1:, :-1], index[:-1, 1:], index[1:, 1:]
    parts = [down, across, _build_differences((root, -root, -root, root), *corners)]
    starts = np.cumsum([0, *(lines.max(initial=-1) + 1 for _, lines, _ in parts[:-1])])
    lines = [first + part[1] for first, part in zip(starts, parts, strict=True)]
    return np.concatenate([part[0] for part in parts]), (np.concatenate(lines), np.concatenate([p[2] for p in parts]))


def _build_differences(weights: Sequence[float | int], *places: np.ndarray) -> tuple[np.ndarray, ...]:
    """The entries of a matrix with one line for each place, and the line and the column of each entry."""
    count = places[0].size
    entries = np.repeat(np.asarray(weights, float)[:, None], count, 1)
    return entries.ravel(), np.tile(np.arange(count), len(places)), np.concatenate([p.ravel() for p in places])


class Registration(NamedTuple):
    """How well a capture fits the bench."""

    shift_px: float
    """Pixels of the image by which its edges are displaced; 0 where no other place matches clearly better."""
    lost: bool = False
    """Whether its edges match nowhere, although those of other captures do; True only without depth."""
    agrees: float | None = None
    """Share of trusted pixels whose depth is the bench's; None without depth."""
    offset: float | None = None
    """Lower quartile of |depth - bench|, metres: near 0 if the camera stands still and a quarter shows the bench."""

    @property
    def moved(self) -> bool:
        """Whether the camera or the bench has moved."""
        return self.shift_px > 0 or self.lost or (self.agrees is not None and self.agrees < FEWEST)

    def describe(self, name: str) -> str:
        """The displacement and the remedy in a sentence; `name` is the capture's."""
        measured = [] if self.offset is None else [f"{1000 * self.offset:.1f} mm in depth"]
        measured += [f"{self.shift_px:.0f} pixels"] if self.shift_px else []
        how = f"{' and '.join(measured)} off" if measured else "none of it is recognised"
        return (
            f"{name} does not lie on the bench that this model knows ({how}): the camera or the bench has moved; adapt "
            "again with captures from where it stands now."
        )


def register(bench: Background, image: Seen, depth: DepthArray | None = None) -> Registration:
    """Compare an image, and its depth where it has some, with the bench.

    Args:
        bench: what the model knows.
        image: (h, w, 3) uint8, of any size.
        depth: (h, w) metres, 0 where untrusted, in the bench's aspect.

    Raises:
        ValueError: depth of another aspect.
    """
    shift, own = match_edges(bench.image, image)
    lost = bench.match > LEAST_MATCH and own < LOST * bench.match and not shift
    if depth is None or not (depth > 0).any():
        return Registration(shift, lost)
    known, wall = depth > 0, bench.depth_at(depth.shape)
    off = np.abs(depth - wall)[known]
    return Registration(shift, False, float((off < REPEATS * wall[known]).mean()), float(np.quantile(off, 0.25)))


def match_edges(bench: RGBArray, image: Seen) -> tuple[float, float]:
    """Find the middle of an image in the bench by its edges.

    Returns:
        How far the best match is from the middle's own place, in pixels of the image, 0 where no other place is
        clearly better; and the correlation of edges at its own place, up to 1.
    """
    wide = min(160, image.shape[1])
    wall = _extract_edges(bench, (max(1, round(bench.shape[0] * wide / bench.shape[1])), wide))
    rows, columns = (max(1, round(0.12 * side)) for side in wall.shape)
    middle = _extract_edges(image, wall.shape)[rows:-rows, columns:-columns]
    if min(middle.shape) < 8:
        return 0.0, 0.0
    matches = np.nan_to_num(cv2.matchTemplate(wall, middle, cv2.TM_CCOEFF_NORMED))
    row, column = np.unravel_index(matches.argmax(), matches.shape)
    far = float(np.hypot(row - rows, column - columns))
    own = float(matches[rows, columns])
    clear = matches.max() > LEAST_MATCH and matches.max() - own > CLEARLY and far >= 0.01 * wide
    return far * image.shape[1] / wide if clear else 0.0, own


def _extract_edges(image: RGBArray, size: Sequence[int]) -> Float[np.ndarray, "H W"]:
    """Grey levels at (height, width), normalised by the mean and spread around each, so that light has no effect."""
    # Pillow, not `files.resize_image`: exported models, which run without torch, ask too.
    small = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    grey = np.asarray(small, np.float32).mean(-1)
    centred = grey - cv2.GaussianBlur(grey, (0, 0), 4)
    spread = cv2.GaussianBlur(centred**2, (0, 0), 4)
    return centred / np.sqrt(spread + 2)


keep_old_names(
    __name__,
    {
        "farthest": "find_farthest",
        "median": "find_median",
        "colours": "find_colours",
        "filled": "fill_holes",
        "matched": "match_edges",
    },
)
