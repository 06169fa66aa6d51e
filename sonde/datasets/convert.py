"""Convert pairs of image and depth to the Zivid layout: images/NAME.png, depth/NAME.npy in mm."""

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from glob import has_magic
from math import inf
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sonde.datasets.contract import Capture
from sonde.datasets.folder import Description, make_pair_set
from sonde.datasets.matching import is_stamped, match_files, match_times
from sonde.datasets.pairs import ImageDepthPair, Orientation, PairSet, filter_files, index_below
from sonde.datasets.zivid import LIMITS
from sonde.files import (
    FOREIGN,
    IMAGE_SUFFIXES,
    OutputFolder,
    atomic_write,
    check_output,
    explain_absent,
    list_files,
    read_intrinsics,
    refuse_filled,
    write_folder,
    write_rgb,
)
from sonde.files.clouds import CLOUDS, check_flip
from sonde.files.depths import READERS, UnknownUnit
from sonde.files.images import SIDEWAYS
from sonde.files.patterns import expand_pattern
from sonde.files.roles import says_depth
from sonde.geometry import Size, check_camera, turn_intrinsics, unproject
from sonde.renamed import keep_old_names
from sonde.spelling import quantify, shorten
from sonde.types import DepthArray, MatrixArray


class ConversionResult(NamedTuple):
    """What a conversion wrote, and what it left out."""

    captures: list[str]
    """Names of the captures written."""
    problems: list[str]
    """One line for each file left out (no partner, a duplicate name, not readable, intrinsics of another size), and for
    each capture that a Zivid set gives back only in part."""


def convert(
    images: Path | str,
    depths: Path | str,
    out: Path | str,
    *,
    depth_scale: float | None = None,
    intrinsics: Mapping[str, MatrixArray] | None = None,
    rotated_bits: int = 0,
    depth_channel: str | None = None,
    flip: str = "",
    by_time: int | float | None = None,
    orientation: str = "image",
) -> ConversionResult:
    """Write a Zivid set of all pairs with equal names, with or without words such as rgb and sync_depth.

    Where no names are equal and both sources are patterns, what their `*` stands for is the name of a capture:
    scans/*_a.png and scans/*_b.png.

    With known intrinsics the depth file is a whole cloud, (H, W, 3) float32, NaN where there is no depth; without them
    it is only Z. A capture with depth beyond the far limit of Zivid sets is a problem: it is written if some of its
    depth is within the limit, else left out. The set appears under its name only when it is complete.

    Args:
        images: a folder, a file, or a pattern such as scans/*_color.jpg.
        depths: likewise; 16-bit PNG, TIFF or PGM, .npy, .npz, .exr or .pfm; or, if there are none, organised clouds.
        out: a folder that does not exist yet, or is empty.
        depth_scale: metres per level (0.001 for millimetres, 1/256 for KITTI). PNGs that sonde wrote and float maps in
            metres need none.
        intrinsics: for the depth's pixels, by a pattern of capture names; the first match counts: {"*": matrix}.
        rotated_bits: 3 for SUN RGB-D, which stores millimetres with rotated bits.
        depth_channel: the channel of an .exr, or the array of an .npz, where several could be the depth.
        flip: axes of clouds that change their sign: `yz` where y points up and z backwards. With it `depths` are
            clouds, .npy and .npz too, and keep their X and Y if a camera fits them.
        by_time: pair the nearest time stamps instead of equal names, up to this difference in the unit of the stamps:
            0.02 for the seconds of TUM. A capture is named after its image.
        orientation: `sensor` for depth in the order of the sensor: it is turned as EXIF turns its image, intrinsics
            too. With `image` it is turned only by 90 degrees, where only that fits the sizes.

    Raises:
        ValueError: a source is missing, `out` is not empty, nothing could be converted, intrinsics match no capture,
            `rotated_bits` is outside 0 to 15, `by_time` is not above 0, or another `orientation`.
    """
    images, depths, out = Path(images), Path(depths), Path(out)
    _refuse_missing(images, "a folder, a file or a pattern of colour images")
    _refuse_missing(depths, "a folder, a file or a pattern of depth maps")
    check_output(out)
    refuse_filled(out)
    description = _describe(depth_scale, rotated_bits, depth_channel, flip, orientation)
    if by_time is not None and not 0 < by_time < inf:
        raise ValueError(f"by_time={by_time:g}: expected the largest difference of two stamps, such as 0.02.")
    pairs, problems = _find_pairs(images, depths, flip, by_time)
    source = make_pair_set(images, pairs, description, problems)
    known = intrinsics or {}
    _check_patterns(source.ids, known)
    with write_folder(out) as partial:
        written = _write_all(source, known, partial, problems)
    return ConversionResult(written, problems)


def find_flat(root: Path, names: Iterable[str]) -> list[str]:
    """The captures of a converted set that hold only Z, as their camera was not known."""
    return [name for name in names if np.load(_place_depth(root, name), mmap_mode="r").ndim == 2]


def read_cameras(texts: Iterable[str]) -> dict[str, MatrixArray]:
    """Intrinsics by a pattern of capture names, from FILE or PATTERN=FILE. FILE alone applies to all captures.

    Raises:
        ValueError: a file is missing or holds no camera matrix.
    """
    pairs = [text.rpartition("=") for text in texts]
    return {pattern or "*": read_intrinsics(path) for pattern, _, path in pairs}


def _refuse_missing(source: Path, expected: str) -> None:
    """Refuse a source that is nowhere; what lies near it is named.

    Raises:
        ValueError: no such file or folder, or a pattern that stands for nothing.
    """
    if has_magic(source.name):
        if not any(source.parent.glob(source.name)):
            expand_pattern(str(source))
    elif not os.path.lexists(source):
        raise ValueError(explain_absent(source, expected))


def _describe(
    depth_scale: float | None, rotated_bits: int, depth_channel: str | None, flip: str, orientation: str
) -> Description:
    """How the source is read.

    Raises:
        ValueError: a value outside its bounds.
    """
    if not 0 <= rotated_bits <= 15:
        raise ValueError(f"rotated_bits={rotated_bits}: expected 0 to 15, such as 3 for SUN RGB-D.")
    if depth_scale is not None and not 0 < depth_scale < inf:
        raise ValueError(f"depth_scale={depth_scale:g}: expected metres per level above 0, such as 0.001.")
    return Description(
        depth_scale=depth_scale,
        rotated_bits=rotated_bits,
        depth_channel=depth_channel,
        flip=check_flip(flip),
        orientation=_check_orientation(orientation),
    )


def _write_all(source: PairSet, intrinsics: Mapping[str, MatrixArray], partial: Path, problems: list[str]) -> list[str]:
    """Write every capture that can be read; return their names, and add a line to `problems` for each of the others.

    Raises:
        ValueError: none could be read.
        OSError: the folder, or a file in it, was removed meanwhile.
    """
    folder, written = OutputFolder(partial), []
    for index, name in enumerate(source.ids):
        try:
            capture, matrix, notes = _read(source, index, intrinsics)
        except ValueError as error:
            problems.append(str(error))
            continue
        problems += notes
        folder.check()
        _write(partial, capture, matrix)
        written.append(name)
    if not written:
        raise ValueError(f"None of {quantify(len(source.ids), 'capture')} could be converted: {problems[-1]}")
    folder.check()
    _check_written(partial, written)
    return written


def _check_orientation(text: str) -> Orientation:
    if text == "image" or text == "sensor":
        return text
    raise ValueError(f"orientation={shorten(text)!r}: expected image, or sensor for depth that EXIF does not turn.")


def _find_pairs(
    images: Path, depths: Path, flip: str, by_time: int | float | None
) -> tuple[list[ImageDepthPair], list[str]]:
    """Pairs by name, or by time; and a line for each file left over."""
    found = set() if flip else _list_files(depths, tuple(READERS))
    found = found or _list_files(depths, tuple(CLOUDS))
    colour, deep = _separate(images, depths, _list_files(images, IMAGE_SUFFIXES), found)
    (rgb, twice), (maps, again) = index_below(_parent_folder(images), colour), index_below(_parent_folder(depths), deep)
    if by_time is None:
        patterns = ["" if source.is_dir() else source.name for source in (images, depths)]
        pairs, problems = match_files(rgb, maps, *patterns)
    else:
        pairs, problems = match_times(rgb, maps, by_time)
    if not pairs:
        raise ValueError(_explain_unpaired(images, rgb, depths, maps, by_time))
    return pairs, [*_list_foreign(images), *twice, *again, *problems]


def _explain_unpaired(
    images: Path, rgb: Mapping[str, Path], depths: Path, maps: Mapping[str, Path], by_time: int | float | None
) -> str:
    """Why no image has a depth map, and what would pair them, in one sentence."""
    counts = f"in {images} ({len(rgb)} images) {{}} in {depths} ({len(maps)} maps)"
    if by_time is not None:
        return (
            f"No image {counts.format(f'has a time stamp within {by_time:g} of a depth map')}: give a larger "
            "difference, in the unit of the stamps; the stamp is the number in a file's name."
        )
    line = (
        f"No image {counts.format('has the name of a depth map')}: give the two files of a capture the same name, or "
        f"give patterns, such as '{_parent_folder(images) / '*_a.png'}' and '{_parent_folder(depths) / '*_b.png'}': "
        "what * stands for is the capture's name"
    )
    stamped = is_stamped(rgb) and is_stamped(maps)
    return f"{line}; or, as the names are time stamps, give --by-time 0.02 (by_time)." if stamped else f"{line}."


def _list_files(source: Path, suffixes: tuple[str, ...]) -> set[Path]:
    """The files of a source, with those that cannot be read: reading their capture says why."""
    if not source.is_dir():
        return set(filter_files(source.parent.glob(source.name), suffixes))
    listing = list_files(source, suffixes)
    return {*(source / name for name in listing.wanted), *listing.closed}


def _list_foreign(images: Path) -> list[str]:
    """A line for each picture of a format that sonde does not read."""
    found = list_files(images, tuple(FOREIGN), foreign=FOREIGN).failed if images.is_dir() else []
    return [f"{path}: {reason}." for path, reason in found if path.suffix.lower() in FOREIGN]


def _separate(images: Path, depths: Path, colour: set[Path], deep: set[Path]) -> tuple[set[Path], set[Path]]:
    """The same files, without a file in both sets.

    A file in both sources belongs to the narrower source. If neither source is narrower, its name decides.
    """
    ours, theirs = ({_follow(path) for path in paths} for paths in (colour, deep))
    shared = ours & theirs
    if theirs < ours:
        maps = shared
    elif ours < theirs:
        maps = set()
    else:
        maps = {path for path in shared if says_depth(path.stem)}
    # Both sources are the same files: the names must tell some depth maps from some images.
    if shared and ours == theirs and not shared > maps > set():
        raise ValueError(
            f"{images} and {depths} are the same {quantify(len(shared), 'file')}, and their names do not tell colour "
            f"from depth: give a pattern for each, such as '{_parent_folder(images) / '*_color.png'}' and "
            f"'{_parent_folder(depths) / '*_depth.png'}'."
        )
    left = {path for path in colour if _follow(path) not in maps}
    return left, {path for path in deep if _follow(path) not in shared - maps}


def _follow(path: Path) -> Path:
    """The path without links; unlike `Path.resolve`, also where links form a loop."""
    return Path(os.path.realpath(path))


def _parent_folder(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def _check_patterns(names: Sequence[str], intrinsics: Mapping[str, MatrixArray]) -> None:
    """Check that every pattern gives some capture its intrinsics; a ValueError says which does not."""
    used = {_match_pattern(name, intrinsics) for name in names}
    for pattern in intrinsics:
        if pattern not in used and any(fnmatch(name, pattern) for name in names):
            raise ValueError(
                f"The intrinsics {pattern!r} are never used: an earlier pattern matches the same captures; give "
                f"{pattern!r} first."
            )
        if pattern not in used:
            examples = " or ".join(map(repr, names[:2]))
            raise ValueError(
                f"The intrinsics {pattern!r} match no capture: expected a pattern of names such as {examples}."
            )


def _match_pattern(name: str, intrinsics: Iterable[str]) -> str | None:
    """The first pattern that matches a capture's name."""
    return next((pattern for pattern in intrinsics if fnmatch(name, pattern)), None)


def _find_camera(source: PairSet, index: int, intrinsics: Mapping[str, MatrixArray], shape: Size) -> MatrixArray | None:
    """The intrinsics of the first matching pattern, for the pixels of the capture's depth, which has this shape.

    They are given for the stored map, and turned with it.

    Raises:
        ValueError: they cannot belong to a map of this size.
    """
    pattern = _match_pattern(source.ids[index], intrinsics)
    if pattern is None:
        return None
    turn = source.read_turn(index)
    stored = (shape[1], shape[0]) if turn in SIDEWAYS else shape
    try:
        check_camera(intrinsics[pattern], *stored)
    except ValueError as error:
        raise ValueError(f"{source.pairs[index].depth}: {error}") from None
    return turn_intrinsics(intrinsics[pattern], stored, turn)


def _read(
    source: PairSet, index: int, intrinsics: Mapping[str, MatrixArray]
) -> tuple[Capture, MatrixArray | None, list[str]]:
    """A capture, its intrinsics, and a line for depth that is lost; a ValueError if the capture must be left out."""
    path = source.pairs[index].depth
    try:
        capture = source.read(index)
    except UnknownUnit:  # replaced, because its remedy is a dataset.json, which a conversion does not read
        raise ValueError(
            f"{path} does not state its unit: give its metres per level, such as --depth-scale 0.001 (depth_scale) for "
            "millimetres."
        ) from None
    matrix = _find_camera(source, index, intrinsics, capture.depth.shape)
    matrix = capture.intrinsics if matrix is None else matrix  # of a cloud
    return capture, matrix, _report_unread(path, capture)


def _report_unread(path: Path, capture: Capture) -> list[str]:
    """A line if a Zivid set gives back fewer pixels than this capture has.

    Raises:
        ValueError: it gives back none.
    """
    total, end = int(capture.mask.sum()), LIMITS[1]
    far = int((_to_millimetres(capture) >= end).sum())
    if not far:
        return []
    left_out = ", so the capture is left out" if far == total else ""
    line = (
        f"{path}: {far} of {total} trusted pixels lie at {end:g} mm or beyond and will not be read from a Zivid set "
        f"(unless data.max_depth is raised){left_out}: keep the images and depth maps as they are, in the folder "
        "layout, with dataset.json."
    )
    if far == total:
        raise ValueError(line)
    return [line]


def _to_millimetres(capture: Capture) -> DepthArray:
    return np.where(capture.mask, capture.depth * np.float32(1000), np.float32(np.nan))


def _write(root: Path, capture: Capture, intrinsics: MatrixArray | None) -> None:
    write_rgb(root / "images" / f"{capture.id}.png", capture.image)
    depth = _to_millimetres(capture)
    cloud = depth if intrinsics is None else unproject(depth, intrinsics).astype(np.float32)
    with atomic_write(_place_depth(root, capture.id)) as tmp_path:
        np.save(tmp_path, cloud)


def _place_depth(root: Path, name: str) -> Path:
    return root / "depth" / f"{name}.npy"


def _check_written(root: Path, names: Sequence[str]) -> None:
    """Raise FileNotFoundError if a capture that was written is gone."""
    for name in names:
        for path in (root / "images" / f"{name}.png", _place_depth(root, name)):
            if not path.is_file():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


keep_old_names(__name__, {"Converted": "ConversionResult", "cameras": "read_cameras"})
