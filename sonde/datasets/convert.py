"""Convert pairs of image and depth to the Zivid layout: images/NAME.png, depth/NAME.npy in mm."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sonde.datasets.contract import Capture
from sonde.datasets.folder import Description, make_pair_set
from sonde.datasets.pairs import ImageDepthPair, PairSet, filter_files, index_below, match_pairs, strip_roles
from sonde.datasets.zivid import LIMITS
from sonde.files import IMAGE_SUFFIXES, read_intrinsics, write_rgb
from sonde.files.depths import READERS, UnknownUnit
from sonde.files.roles import says_depth
from sonde.geometry import Size, check_camera, unproject
from sonde.renamed import keep_old_names
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
) -> ConversionResult:
    """Write a Zivid set of all pairs with equal names, with or without words such as rgb and sync_depth.

    With known intrinsics the depth file is a whole cloud, (H, W, 3) float32, NaN where there is no depth; without them
    it is only Z. A capture with depth beyond the far limit of Zivid sets is a problem: it is written if some of its
    depth is within the limit, else left out. The set appears under its name only when it is complete.

    Args:
        images: a folder, a file, or a pattern such as scans/*_color.jpg.
        depths: likewise; 16-bit PNG or TIFF, .npy, .exr or .pfm.
        out: a folder that does not exist yet, or is empty.
        depth_scale: metres per level (0.001 for millimetres, 1/256 for KITTI). PNGs that sonde wrote and float maps in
            metres need none.
        intrinsics: for the depth's pixels, by a pattern of capture names; the first match counts: {"*": matrix}.
        rotated_bits: 3 for SUN RGB-D, which stores millimetres with rotated bits.

    Raises:
        ValueError: `out` is not empty, nothing could be converted, intrinsics match no capture, or `rotated_bits` is
            outside 0 to 15.
    """
    images, depths, out = Path(images), Path(depths), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty: choose a new folder; nothing is overwritten.")
    if not 0 <= rotated_bits <= 15:
        raise ValueError(f"rotated_bits={rotated_bits}: expected 0 to 15, such as 3 for SUN RGB-D.")
    pairs, problems = _find_pairs(images, depths)
    source = make_pair_set(images, pairs, Description(depth_scale=depth_scale, rotated_bits=rotated_bits), problems)
    known = intrinsics or {}
    _check_patterns(source.ids, known)
    place = out.resolve()  # "." has no name
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left behind by an interrupted conversion
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
    return ConversionResult(written, problems)


def read_cameras(texts: Iterable[str]) -> dict[str, MatrixArray]:
    """Intrinsics by a pattern of capture names, from FILE or PATTERN=FILE. FILE alone applies to all captures.

    Raises:
        ValueError: a file is missing or holds no camera matrix.
    """
    pairs = [text.rpartition("=") for text in texts]
    return {pattern or "*": read_intrinsics(path) for pattern, _, path in pairs}


def _find_pairs(images: Path, depths: Path) -> tuple[list[ImageDepthPair], list[str]]:
    """Pairs of equal names, or else of equal names without role words; and a line for each file left over."""
    colour, deep = _separate(images, depths, _list_files(images, IMAGE_SUFFIXES), _list_files(depths, READERS))
    (rgb, twice), (maps, again) = index_below(_parent_folder(images), colour), index_below(_parent_folder(depths), deep)
    pairs, problems = match_pairs(rgb, maps)
    if not pairs:
        pairs, problems = match_pairs(strip_roles(rgb), strip_roles(maps))
    if not pairs:
        raise ValueError(
            f"No image in {images} ({len(rgb)} images) has the name of a depth map in {depths} ({len(maps)} maps): "
            "give the two files of a capture the same name."
        )
    return pairs, [*twice, *again, *problems]


def _list_files(source: Path, suffixes: Iterable[str]) -> set[Path]:
    return set(filter_files(source.rglob("*") if source.is_dir() else source.parent.glob(source.name), suffixes))


def _separate(images: Path, depths: Path, colour: set[Path], deep: set[Path]) -> tuple[set[Path], set[Path]]:
    """The same files, without a file in both sets.

    A file in both sources belongs to the narrower source. If neither source is narrower, its name decides.
    """
    ours, theirs = ({path.resolve() for path in paths} for paths in (colour, deep))
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
            f"{images} and {depths} are the same {len(shared)} files, and their names do not tell colour from depth: "
            f"give a pattern for each, such as '{_parent_folder(images) / '*_color.png'}' and "
            f"'{_parent_folder(depths) / '*_depth.png'}'."
        )
    left = {path for path in colour if path.resolve() not in maps}
    return left, {path for path in deep if path.resolve() not in shared - maps}


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


def _find_camera(name: str, intrinsics: Mapping[str, MatrixArray], depth: Path, size: Size) -> MatrixArray | None:
    """The intrinsics of the first matching pattern; a ValueError if they cannot belong to a map of this size."""
    pattern = _match_pattern(name, intrinsics)
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
    """A capture, its intrinsics, and a line for depth that is lost; a ValueError if the capture must be left out."""
    path = source.pairs[index].depth
    try:
        capture = source.read(index)
    except UnknownUnit:  # replaced, because its remedy is a dataset.json, which a conversion does not read
        raise ValueError(
            f"{path} does not state its unit: give its metres per level, such as --depth-scale 0.001 (depth_scale) for "
            "millimetres."
        ) from None
    matrix = _find_camera(capture.id, intrinsics, path, capture.depth.shape)
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


def _publish(partial: Path, place: Path) -> None:
    """Give the complete set its name. An empty folder there is filled, not replaced: a shell may be in it."""
    if not place.exists():
        partial.replace(place)
        return
    for folder in sorted(partial.iterdir()):
        shutil.move(folder, place)  # may copy to another disk; `images` comes last, and until then it is no set
    partial.rmdir()


def _write(root: Path, capture: Capture, intrinsics: MatrixArray | None) -> None:
    write_rgb(root / "images" / f"{capture.id}.png", capture.image)
    depth = _to_millimetres(capture)
    cloud = depth if intrinsics is None else unproject(depth, intrinsics).astype(np.float32)
    path = root / "depth" / f"{capture.id}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, cloud)


keep_old_names(__name__, {"Converted": "ConversionResult", "cameras": "read_cameras"})
