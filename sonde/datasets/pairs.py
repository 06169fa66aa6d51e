"""Pairs of image and depth files: matched by name, decoded as the layout states, checked by the same rules."""

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sonde.datasets.contract import Capture
from sonde.files import image_size, read_intrinsics, read_levels, read_rgb, reading
from sonde.files.roles import ROLE
from sonde.renamed import keep_old_names
from sonde.spelling import nearest
from sonde.types import DepthArray, MatrixArray, RGBArray, Space
from sonde.units import UNITS

Size = tuple[int, int]
"""(height, width)."""
Decode = Callable[[Path, Size], tuple[DepthArray, MatrixArray | None]]
"""(depth file, image size) -> depth in the set's unit, with any value where invalid; and the intrinsics if known."""


class ImageDepthPair(NamedTuple):
    """The two files of a capture."""

    id: str
    image: Path
    depth: Path


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

    @property
    def unit_m(self) -> float:
        """Metres per unit."""
        return UNITS[self.unit]

    @property
    def ids(self) -> list[str]:
        """One name for each capture."""
        return [pair.id for pair in self.pairs]

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
        image = self.read_image(self.pairs[index].image)
        depth, intrinsics = self._decode(index, (image.shape[0], image.shape[1]))
        return Capture(self.pairs[index].id, image, depth, depth > 0, intrinsics)

    def read_depth(self, index: int) -> DepthArray:
        """Only the depth; the size of the image is checked from its header."""
        return self._decode(index, self.size_of(self.pairs[index].image))[0]

    def groups(self, by: str) -> dict[str, str]:
        """Capture id -> group; see `DepthSet.groups`."""
        if by in self.groupings:
            return dict(self.groupings[by])
        if by == "folder":
            return {name: name.rpartition("/")[0] for name in self.ids}
        return read_column(self.root / "captures.csv", by, self.ids)

    def _decode(self, index: int, size: Size) -> tuple[DepthArray, MatrixArray | None]:
        pair = self.pairs[index]
        values, intrinsics = self.decode(pair.depth, size)
        height, width = values.shape
        # The image may be larger than the depth map, by the same whole factor in both directions.
        if size[0] % height or size[1] % width or size[0] // height != size[1] // width:
            raise ValueError(
                f"{pair.depth} is {width}x{height} but {pair.image.name} is {size[1]}x{size[0]}: expected the same "
                "size, or an image larger by a whole factor; export both from one capture."
            )
        return keep_trusted(values, str(pair.depth), self.limits, self.unit), intrinsics


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
    """Files below a folder by their relative path without suffix, and a line for each duplicate name."""
    files = filter_files(walk_files(folder), suffixes)
    return index_below(folder, (path for path in files if path.name.startswith(prefix)))


def walk_files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, through linked folders too (each once), except in hidden folders."""
    seen = {folder.resolve()}
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        folders[:] = [name for name in folders if name[0] != "." and (here / name).resolve() not in seen]
        seen |= {(here / name).resolve() for name in folders}
        yield from (here / name for name in names)


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
        key = name(path)
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


def strip_roles(files: Mapping[str, Path]) -> dict[str, Path]:
    """The same files by their names without rgb, color, sync, depth …: 00000 for sync_depth_00000.

    Raises:
        ValueError: two files get the same name.
    """
    short: dict[str, Path] = {}
    for name, path in files.items():
        folder, slash, stem = name.rpartition("/")
        bare = re.sub(r"[_\-.]{2,}", "_", ROLE.sub("", stem)).strip("_-.")
        key = folder + slash + bare
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
    # utf-8-sig: spreadsheets begin a file with a byte order mark.
    with reading(path, remedy), path.open(newline="", encoding="utf-8-sig") as file:
        try:
            return list(csv.DictReader(file))
        except csv.Error as error:
            raise ValueError(str(error)) from None


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
        if row[by] is not None and groups.setdefault(row["capture"], row[by]) != row[by]:
            raise ValueError(
                f"{path} has two entries for {row['capture']!r}, {groups[row['capture']]!r} and {row[by]!r}: keep one."
            )
    missing = [name for name in ids if name not in groups]
    if missing:
        raise ValueError(f"{path} lacks {len(missing)} captures, first {missing[0]!r}: add a row for each.")
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
