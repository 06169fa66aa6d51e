"""Pairs of image and depth files: matched by name, decoded as the layout states, checked by the same rules."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from sonde.datasets.contract import Capture
from sonde.datasets.sizes import describe_resize, explain_misfit, find_turn, fit_image, tell_resize
from sonde.files import (
    image_size,
    read_intrinsics,
    read_levels,
    read_orientation,
    read_rgb,
    read_rows,
    reading,
    resize_image,
    sources,
)
from sonde.files.images import SIDEWAYS
from sonde.files.roles import ROLE
from sonde.files.sources import explain_bad_name
from sonde.geometry import turn_intrinsics, turn_upright
from sonde.ids import find_fault
from sonde.renamed import keep_old_names
from sonde.spelling import make_printable, nearest, quantify, shorten
from sonde.types import DepthArray, MatrixArray, RGBArray, Space
from sonde.units import UNITS

Size = tuple[int, int]
"""(height, width)."""
Orientation = Literal["image", "sensor"]
Decode = Callable[[Path, Size], tuple[DepthArray, MatrixArray | None]]
"""(depth file, image size) -> depth in the set's unit, with any value where invalid; and the intrinsics if known."""


class ImageDepthPair(NamedTuple):
    """The two files of a capture."""

    id: str
    image: Path
    depth: Path

    def check(self) -> None:
        """Refuse a name that no output could have, and a folder in place of a file, which cannot be entered.

        Raises:
            ValueError: the message names the file.
        """
        for path in (self.image, self.depth):
            if reason := explain_bad_name(path.name) or ("it cannot be opened" if path.is_dir() else ""):
                raise ValueError(f"{shorten(path)} is passed over: {reason}.")


Pairs = tuple[list[ImageDepthPair], list[str]]
"""Complete pairs, and one line for each problem."""


def list_nothing(pair: ImageDepthPair) -> tuple[Path, ...]:
    """The further files of a pair in most layouts: none."""
    return ()


@dataclass(frozen=True)
class PairSet:
    """A DepthSet of file pairs that share one layout."""

    layout: str
    root: Path
    pairs: Sequence[ImageDepthPair]
    decode: Decode
    unit: str
    limits: tuple[float, float]
    problems: list[str] = field(default_factory=list)
    description: tuple[Path, ...] = ()
    """Files that state how the others are read, such as dataset.json."""
    beside: Callable[[ImageDepthPair], tuple[Path, ...]] = list_nothing
    """Pair -> further files that its reader uses if they exist, such as its mask or the file of its camera."""
    space: Space = "metric"
    """What the depth is; see `DepthSet.space`."""
    read_image: Callable[[Path], RGBArray] = read_rgb
    """Image file -> RGB; for sets whose images are not ordinary image files."""
    size_of: Callable[[Path], Size] = image_size
    """Image file -> (height, width) of what `read_image` returns, from the header."""
    groupings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Groups that the layout defines: a name for `groups` -> capture id -> group."""
    orientation: Orientation = "image"
    """Whether depth is upright as its image is, or in the order of the sensor, before EXIF turned the image."""

    @property
    def unit_m(self) -> float:
        """Metres per unit."""
        return UNITS[self.unit]

    @property
    def ids(self) -> list[str]:
        """One name for each capture."""
        return [pair.id for pair in self.pairs]

    @cached_property
    def positions(self) -> dict[str, int]:
        """Capture id -> its index."""
        return {pair.id: index for index, pair in enumerate(self.pairs)}

    def __len__(self) -> int:
        return len(self.pairs)

    def key(self, index: int) -> str:
        """Layout, unit and limits; size and time of the image, the depth, the description and further files."""
        pair = self.pairs[index]
        beside = (path for path in self.beside(pair) if path.is_file())
        with reading(pair.depth, "the set changed since it was opened"):
            states = [(path, path.stat()) for path in (pair.image, pair.depth, *self.description, *beside)]
        files = [(str(path.absolute()), state.st_mtime_ns, state.st_size) for path, state in states]
        return json.dumps([self.layout, self.unit, self.limits, files])

    def read(self, index: int) -> Capture:
        """The whole capture."""
        self.pairs[index].check()
        image = self.read_image(self.pairs[index].image)
        depth, intrinsics, size = self._decode(index, (image.shape[0], image.shape[1]))
        return Capture(self.pairs[index].id, resize_image(image, size), depth, depth > 0, intrinsics)

    def read_depth(self, index: int) -> DepthArray:
        """Only the depth; the size of the image is checked from its header."""
        self.pairs[index].check()
        return self._decode(index, self.size_of(self.pairs[index].image))[0]

    def read_orientation(self, index: int) -> int:
        """EXIF's orientation of an image, 1 to 8; 1 where the set has no ordinary image files."""
        return read_orientation(self.pairs[index].image) if self.read_image is read_rgb else 1

    def read_turn(self, index: int) -> int:
        """The EXIF orientation by which a capture's depth map is turned, as its image is; 1: it is not turned."""
        orientation = self.read_orientation(index)
        if self.orientation == "sensor" or orientation not in SIDEWAYS:
            return self._find_turn(index, (1, 1), (1, 1))
        size = self.size_of(self.pairs[index].image)
        height, width = self.decode(self.pairs[index].depth, size)[0].shape
        return self._find_turn(index, size, (height, width))

    def _find_turn(self, index: int, size: Size, shape: Size) -> int:
        sensor = self.orientation == "sensor"
        if not sensor and fit_image(size, shape) is not None:
            return 1
        return find_turn(size, shape, self.read_orientation(index), sensor=sensor)

    def groups(self, by: str) -> dict[str, str]:
        """Capture id -> group; see `DepthSet.groups`."""
        if by in self.groupings:
            return dict(self.groupings[by])
        if by == "folder":
            return {name: name.rpartition("/")[0] for name in self.ids}
        return read_column(self.root / "captures.csv", by, self.ids)

    def _decode(self, index: int, size: Size) -> tuple[DepthArray, MatrixArray | None, Size]:
        """Depth in metres, its intrinsics, and the size at which its image, of `size`, is read."""
        pair = self.pairs[index]
        values, intrinsics = self.decode(pair.depth, size)
        stored = (values.shape[0], values.shape[1])
        turn = self._find_turn(index, size, stored)
        if turn > 1:
            values = turn_upright(values, turn)
            intrinsics = None if intrinsics is None else turn_intrinsics(intrinsics, stored, turn)
        shape = (values.shape[0], values.shape[1])
        fitting = fit_image(size, shape)
        if fitting is None:
            raise ValueError(explain_misfit(pair.depth, shape, pair.image, size, self.read_orientation(index)))
        if fitting != size:
            tell_resize(self.root, describe_resize(pair.image.name, shape, size, fitting))
        return keep_trusted(values, str(pair.depth), self.limits, self.unit), intrinsics, fitting


def keep_trusted(values: DepthArray, name: str, limits: tuple[float, float], unit: str) -> DepthArray:
    """Depth in metres, float32, 0 where it is not strictly between the limits.

    Args:
        values: depth in `unit`; NaN and infinity are not trusted.
        name: identifies the map in the error.
        limits: (low, high) in `unit`.
        unit: a key of UNITS.

    Raises:
        ValueError: no pixel is between the limits.
    """
    low, high = limits
    inside = (values > max(low, 0)) & (values < high)  # False for NaN
    if not inside.any():
        finite = values[np.isfinite(values) & (values != 0)]
        found = f"its values run from {finite.min():g} to {finite.max():g}" if finite.size else "it has no values"
        raise ValueError(
            f"{name} has no depth between {low:g} and {high:g} {unit} ({found}): check its unit and data.max_depth, or "
            "remove the capture."
        )
    return np.where(inside, values, 0).astype(np.float32) * np.float32(UNITS[unit])


def decode_levels(
    path: Path,
    size: Size,
    *,
    levels_per_unit: float = 1.0,
    last: int = 65535,
    intrinsics: MatrixArray | None = None,
) -> tuple[DepthArray, MatrixArray | None]:
    """A 16-bit map in the set's unit, 0 where the level is 0 or above `last`; and the given intrinsics."""
    levels = read_levels(path)
    return np.where(levels > last, 0, levels).astype(np.float32) / np.float32(levels_per_unit), intrinsics


def read_one_camera(root: Path) -> tuple[tuple[Path, ...], MatrixArray | None]:
    """The optional intrinsics.txt of a root: the file, for the set's `description`, and its matrix."""
    path = root / "intrinsics.txt"
    return ((path,), read_intrinsics(path)) if path.is_file() else ((), None)


def list_files(folder: Path, suffixes: Iterable[str], prefix: str = "") -> tuple[dict[str, Path], list[str]]:
    """Files below a folder by their relative path without suffix, and a line for each duplicate name.

    What cannot be read is among them, so that its partner is not alone: reading the capture says why.
    """
    listing = sources.list_files(folder, tuple(suffixes))
    files = [path for name in listing.wanted if (path := folder / name).name.startswith(prefix)]
    return index_below(folder, [*files, *listing.closed])


def walk_files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, through linked folders too (each once), except in hidden folders."""
    yield from sources.list_files(folder).paths


def filter_files(paths: Iterable[Path], suffixes: Iterable[str]) -> Iterator[Path]:
    """Paths with one of the suffixes that are not hidden."""
    return (path for path in paths if path.suffix.lower() in suffixes and path.name[0] != ".")


def index_below(folder: Path, paths: Iterable[Path]) -> tuple[dict[str, Path], list[str]]:
    """Files of a folder by their relative path without suffix, and a line for each duplicate name."""
    return index_by_name(paths, lambda path: path.relative_to(folder).with_suffix("").as_posix())


def index_by_name(paths: Iterable[Path], name: Callable[[Path], str]) -> tuple[dict[str, Path], list[str]]:
    """Files by the name of their capture, and a line for each duplicate name."""
    found: dict[str, Path] = {}
    problems = []
    for path in sorted(paths):
        key = make_printable(name(path))
        if key in found:
            problems.append(f"{path} and {found[key].name} are the same capture: keep one of them.")
        found.setdefault(key, path)
    return found, problems


def match_pairs(images: Mapping[str, Path], depths: Mapping[str, Path]) -> Pairs:
    """Pairs of equal names, and a line for each file without a partner."""
    pairs = [ImageDepthPair(name, path, depths[name]) for name, path in sorted(images.items()) if name in depths]
    problems = [
        f"{path} has no {partner} of the same name: add it, or remove the file."
        for files, others, partner in ((images, depths, "depth"), (depths, images, "image"))
        for name, path in sorted(files.items())
        if name not in others
    ]
    return pairs, problems


def pair_by_name(images: Iterable[Path], depths: Iterable[Path], name: Callable[[Path], str]) -> Pairs:
    """Pairs of images and depth maps of one capture name, and a line for each duplicate and for each file left over.

    Args:
        images: image files.
        depths: depth files.
        name: a file of either kind -> the name of its capture.
    """
    image_of, twice = index_by_name(images, name)
    depth_of, again = index_by_name(depths, name)
    pairs, problems = match_pairs(image_of, depth_of)
    return pairs, [*twice, *again, *problems]


def strip_role_words(stem: str) -> str:
    """A file's stem without the role words that stand alone: 00000 for sync_depth_00000."""
    return re.sub(r"[_\-.]{2,}", "_", ROLE.sub("", stem)).strip("_-.")


def strip_roles(files: Mapping[str, Path], strip: Callable[[str], str] = strip_role_words) -> dict[str, Path]:
    """The same files by their names without rgb, color, sync, depth …: 00000 for sync_depth_00000.

    Args:
        files: by their relative path without suffix.
        strip: takes the role words out of the last part of a name.

    Raises:
        ValueError: two files get the same name.
    """
    short: dict[str, Path] = {}
    for name, path in files.items():
        folder, slash, stem = name.rpartition("/")
        key = folder + slash + strip(stem)
        if key in short:
            raise ValueError(f"{path} and {short[key]} both look like capture {key!r}: give each pair its own name.")
        short[key] = path
    return short


def read_columns(path: Path) -> list[str]:
    """The column names of a table of captures.

    Raises:
        ValueError: the table cannot be read.
    """
    rows = _read_rows(path)
    return list(rows[0]) if rows else []


def _read_rows(path: Path) -> list[dict[str, str]]:
    remedy = "expected a comma-separated table in UTF-8"
    rows = read_rows(path, remedy)
    with reading(path, remedy):
        for number, row in enumerate(rows, 2):
            if "capture" in row and (reason := find_fault(row["capture"])):
                raise ValueError(f"row {number}: the capture {shorten(row['capture'], 80)!r} {reason}")
    return rows


def read_column(path: Path, by: str, ids: Sequence[str]) -> dict[str, str]:
    """Capture id -> its entry in column `by` of a table of captures.

    Raises:
        ValueError: no such table or column, a capture without an entry, or with two entries.
    """
    if not path.is_file():
        raise ValueError(
            f"data.split.group={by} needs {path}, a table with the columns capture and {by}; or set it to folder."
        )
    rows = _read_rows(path)
    columns = list(rows[0]) if rows else []
    if by not in columns or "capture" not in columns:
        wanted = by if "capture" in columns else "capture"
        raise ValueError(f"{path} has no column {wanted!r}: {nearest(wanted, columns)}")
    groups: dict[str, str] = {}
    for row in rows:
        if groups.setdefault(row["capture"], row[by]) != row[by]:
            one, other = shorten(groups[row["capture"]], 80), shorten(row[by], 80)
            raise ValueError(f"{path} has two entries for {row['capture']!r}, {one!r} and {other!r}: keep one.")
    missing = [name for name in ids if name not in groups]
    if missing:
        raise ValueError(f"{path} lacks {quantify(len(missing), 'capture')}, first {missing[0]!r}: add a row for each.")
    return {name: groups[name] for name in ids}


keep_old_names(
    __name__,
    {
        "below": "walk_files",
        "columns_of": "read_columns",
        "listed": "list_files",
        "named": "index_by_name",
        "named_below": "index_below",
        "nothing": "list_nothing",
        "one_camera": "read_one_camera",
        "paired": "match_pairs",
        "trusted": "keep_trusted",
        "wanted": "filter_files",
        "without_role": "strip_roles",
    },
)
