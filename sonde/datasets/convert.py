"""Foreign pairs of image and depth, rewritten in the Zivid layout: images/NAME.png, depth/NAME.npy in mm."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sonde.datasets.contract import Capture
from sonde.datasets.folder import Description, pair_set
from sonde.datasets.pairs import ImageDepthPair, PairSet, named_below, paired, wanted, without_role
from sonde.datasets.zivid import LIMITS
from sonde.files import IMAGE_SUFFIXES, read_intrinsics, write_rgb
from sonde.files.depths import READERS, UnknownUnit
from sonde.files.roles import says_depth
from sonde.geometry import Size, check_camera, unproject
from sonde.types import DepthArray, MatrixArray


class Converted(NamedTuple):
    """What became of the files."""

    captures: list[str]
    """Names written."""
    problems: list[str]
    """One line for each file left out (no partner, a name held twice, not readable, the camera of another size), and
    for each capture of which a Zivid set gives back only a part."""


def convert(
    images: Path | str,
    depths: Path | str,
    out: Path | str,
    *,
    depth_scale: float | None = None,
    intrinsics: Mapping[str, MatrixArray] | None = None,
    rotated_bits: int = 0,
) -> Converted:
    """Writes a Zivid set of every pair whose names agree, with or without words such as rgb and sync_depth.

    Where intrinsics are known the depth file is the whole cloud, (H, W, 3) float32, and NaN where there is no
    depth; else it is Z alone. A capture whose depth lies beyond what a Zivid set is read to is a problem: it is
    written where some of it is within, and left out where nothing is. The set appears under its name only when
    it is complete.

    Args:
        images: a folder, a file, or a pattern such as scans/*_color.jpg.
        depths: likewise; 16-bit PNG or TIFF, .npy, .exr or .pfm.
        out: a folder that does not exist yet, or is empty.
        depth_scale: metres per level (0.001 for millimetres, 1/256 for KITTI); PNGs of ours and float maps in
            metres need none.
        intrinsics: of the depth's pixels, by a pattern of capture names; the first that fits: {"*": matrix}.
        rotated_bits: 3 for SUN RGB-D, whose millimetres are stored with their bits turned.

    Raises:
        ValueError: `out` holds files already, nothing could be converted, intrinsics that fit no capture, or a
            number of bits that 16 do not turn by.
    """
    images, depths, out = Path(images), Path(depths), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty: name a new folder, for nothing is overwritten.")
    if not 0 <= rotated_bits <= 15:
        raise ValueError(f"rotated_bits={rotated_bits}: expected 0 to 15, such as 3 for SUN RGB-D.")
    pairs, problems = _pairs(images, depths)
    source = pair_set(images, pairs, Description(depth_scale=depth_scale, rotated_bits=rotated_bits), problems)
    known = intrinsics or {}
    _check_patterns(source.ids, known)
    place = out.resolve()  # "." has no name of its own
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a conversion that was stopped
    written = []
    for index, name in enumerate(source.ids):
        try:
            capture, matrix, notes = _read(source, index, known)
        except ValueError as error:
            problems.append(str(error))
            continue
        problems += notes
        _write(partial, capture, matrix)
        written.append(name)
    if not written:
        raise ValueError(f"None of {len(pairs)} captures could be converted: {problems[-1]}")
    _publish(partial, place)
    return Converted(written, problems)


def cameras(texts: Iterable[str]) -> dict[str, MatrixArray]:
    """Intrinsics by a pattern of capture names, from FILE or PATTERN=FILE; a FILE alone is for all captures.

    Raises:
        ValueError: a file that is absent or holds no camera matrix.
    """
    pairs = [text.rpartition("=") for text in texts]
    return {pattern or "*": read_intrinsics(path) for pattern, _, path in pairs}


def _pairs(images: Path, depths: Path) -> tuple[list[ImageDepthPair], list[str]]:
    """Pairs whose names agree as they are, else without their roles; and a line for each file in none."""
    colour, deep = _apart(images, depths, _files(images, IMAGE_SUFFIXES), _files(depths, READERS))
    (rgb, twice), (maps, again) = named_below(_folder(images), colour), named_below(_folder(depths), deep)
    pairs, problems = paired(rgb, maps)
    if not pairs:
        pairs, problems = paired(without_role(rgb), without_role(maps))
    if not pairs:
        raise ValueError(f"No name in {images} ({len(rgb)} images) agrees with one in {depths} ({len(maps)} maps).")
    return pairs, [*twice, *again, *problems]


def _files(source: Path, suffixes: Iterable[str]) -> set[Path]:
    return set(wanted(source.rglob("*") if source.is_dir() else source.parent.glob(source.name), suffixes))


def _apart(images: Path, depths: Path, colour: set[Path], deep: set[Path]) -> tuple[set[Path], set[Path]]:
    """The same files, none of them on both sides.

    A file that both sources hold belongs to the narrower source; where neither is, its name says depth or not.
    """
    ours, theirs = ({path.resolve() for path in paths} for paths in (colour, deep))
    shared = ours & theirs
    maps = shared if theirs < ours else set() if ours < theirs else {path for path in shared if says_depth(path.stem)}
    if shared and ours == theirs and not shared > maps > set():
        raise ValueError(
            f"{images} and {depths} name the same files ({len(shared)}), and no name tells colour from depth: give a "
            f"pattern for each, such as '{_folder(images) / '*_color.png'}' and '{_folder(depths) / '*_depth.png'}'."
        )
    left = {path for path in colour if path.resolve() not in maps}
    return left, {path for path in deep if path.resolve() not in shared - maps}


def _folder(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def _check_patterns(names: Sequence[str], intrinsics: Mapping[str, MatrixArray]) -> None:
    """Each of them is the camera of some capture, or a ValueError says why not."""
    used = {_pattern(name, intrinsics) for name in names}
    for pattern in intrinsics:
        if pattern not in used and any(fnmatch(name, pattern) for name in names):
            raise ValueError(
                f"The intrinsics {pattern!r} are never used: an earlier pattern fits the same captures; "
                f"give {pattern!r} first."
            )
        if pattern not in used:
            examples = " or ".join(map(repr, names[:2]))
            raise ValueError(
                f"The intrinsics {pattern!r} fit no capture: expected a pattern of names such as {examples}."
            )


def _pattern(name: str, intrinsics: Iterable[str]) -> str | None:
    return next((pattern for pattern in intrinsics if fnmatch(name, pattern)), None)


def _camera(name: str, intrinsics: Mapping[str, MatrixArray], depth: Path, size: Size) -> MatrixArray | None:
    """Of the first pattern that fits; a ValueError names the depth map whose size it cannot be."""
    pattern = _pattern(name, intrinsics)
    if pattern is None:
        return None
    try:
        check_camera(intrinsics[pattern], *size)
    except ValueError as error:
        raise ValueError(f"{depth}: {error}") from None
    return intrinsics[pattern]


def _read(
    source: PairSet, index: int, intrinsics: Mapping[str, MatrixArray]
) -> tuple[Capture, MatrixArray | None, list[str]]:
    """A capture, its camera, and what a Zivid set does not give back of it; a ValueError where it is left out."""
    path = source.pairs[index].depth
    try:
        capture = source.read(index)
    except UnknownUnit:  # its remedy is a dataset.json, which no conversion reads
        raise ValueError(
            f"{path} does not say its unit: give --depth-scale 0.001 (depth_scale), its metres per level, here of "
            "millimetres."
        ) from None
    matrix = _camera(capture.id, intrinsics, path, capture.depth.shape)
    return capture, matrix, _unread(path, capture)


def _unread(path: Path, capture: Capture) -> list[str]:
    """A line where a Zivid set gives back fewer pixels than this capture has.

    Raises:
        ValueError: it gives back none.
    """
    total, end = int(capture.mask.sum()), LIMITS[1]
    far = int((_millimetres(capture) >= end).sum())
    if not far:
        return []
    line = (
        f"{path}: {far} of {total} trusted pixels lie at {end:g} mm or beyond and will not be read from a Zivid set "
        f"(unless data.max_depth is raised){', so it is left out' if far == total else ''}: keep the images and depth "
        "maps as they are, in the folder layout, with dataset.json."
    )
    if far == total:
        raise ValueError(line)
    return [line]


def _millimetres(capture: Capture) -> DepthArray:
    return np.where(capture.mask, capture.depth * np.float32(1000), np.float32(np.nan))


def _publish(partial: Path, place: Path) -> None:
    """The complete set under its name; an empty folder there is filled, for it may be the one a shell stands in."""
    if not place.exists():
        partial.replace(place)
        return
    for folder in sorted(partial.iterdir()):
        shutil.move(folder, place)  # copies to another disk; until `images` follows `depth` it is no set
    partial.rmdir()


def _write(root: Path, capture: Capture, intrinsics: MatrixArray | None) -> None:
    write_rgb(root / "images" / f"{capture.id}.png", capture.image)
    depth = _millimetres(capture)
    cloud = depth if intrinsics is None else unproject(depth, intrinsics).astype(np.float32)
    path = root / "depth" / f"{capture.id}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, cloud)
