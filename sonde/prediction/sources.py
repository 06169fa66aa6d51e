"""The images of a call, the names of their outputs, and the camera's intrinsics. No torch is imported here."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from sonde import files
from sonde.options.predict import ArrayLike
from sonde.prediction.manifest import read_manifest
from sonde.spelling import shorten
from sonde.types import MatrixArray

INTRINSICS = "expected fx,fy,cx,cy in pixels of the image, such as 1780,1780,960,600"
"""How a user gives intrinsics."""


class FoundImages(NamedTuple):
    """The images of a call, and what was passed over."""

    images: dict[Path, Path]
    """Image → its path relative to the folder that all sources share, sorted."""
    failed: list[tuple[Path, str]]
    """What lies in a source and cannot be read, and why."""


def find_images(sources: Sequence[str | Path], out: Path) -> dict[Path, Path]:
    """The images of `gather_images`; what cannot be read is left out without a word."""
    return gather_images(sources, out).images


def gather_images(sources: Sequence[str | Path], out: Path) -> FoundImages:
    """Every image of the sources, and below folders also what cannot be read.

    Images below `out` are left out. If a source itself lies below `out`, only the files that `predict` wrote are.

    Raises:
        ValueError: a source that does not exist or is no file, or no image at all.
    """
    found: set[Path] = set()
    left: set[Path] = set()
    failed: dict[Path, str] = {}
    place = follow(out)
    for source in map(Path, sources):
        if not os.path.lexists(source):
            raise ValueError(f"{shorten(source)} does not exist: expected an image or a folder of images.")
        files.refuse_source(source)
        if not source.is_dir():
            found.add(_make_absolute(source))
        elif follow(source) == place:
            raise ValueError(f"{source} is both source and output: give another folder for the output.")
        else:
            listing = files.list_files(_make_absolute(source), files.IMAGE_SUFFIXES, foreign=files.FOREIGN)
            own = _find_own(listing.paths, source, place)
            found, left = found | set(listing.paths) - own, left | own
            failed |= dict(listing.failed)
    if not found:
        _refuse_nothing(sources, out, left, failed)
    folders = [_make_absolute(Path(source)) for source in sources]
    base = os.path.commonpath([folder if folder.is_dir() else folder.parent for folder in folders])
    return FoundImages({path: path.relative_to(base) for path in sorted(found)}, sorted(failed.items()))


def _find_own(paths: Sequence[Path], source: Path, place: Path) -> set[Path]:
    """The images that are outputs: those below the output folder `place`, or, within it, those that its list names."""
    if not place.is_dir():
        return set()
    if place in follow(source).parents:
        written = _list_written(place)
        return {path for path in paths if follow(path) in written}
    return {path for path in paths if place in follow(path).parents}


def _refuse_nothing(
    sources: Sequence[str | Path], out: Path, left: Collection[Path], failed: dict[Path, str]
) -> NoReturn:
    shown = shorten(", ".join(map(str, sources)))
    if left:
        raise ValueError(
            f"No images in {shown} but those below the output folder {out}, which are left out: give another folder "
            "for the output."
        )
    known = ", ".join(files.IMAGE_SUFFIXES)
    also = "".join(f"; {shorten(path)} is passed over: {why}" for path, why in list(failed.items())[:1])
    raise ValueError(f"No images in {shown}: expected files that end in {known}{also}.")


def name_outputs(images: dict[Path, Path], out: Path) -> dict[Path, Path]:
    """Image → the path of its outputs without suffix; all differ, also where letters differ only in case."""
    chosen = {path: place.with_suffix("") for path, place in images.items()}
    while True:
        count = Counter(str(name).lower() for name in chosen.values())
        clash = [path for path, name in chosen.items() if count[str(name).lower()] > 1 and name != images[path]]
        if not clash:
            return {path: out / name for path, name in chosen.items()}
        # Two images share a stem: both take their whole names. Such a name may be the stem of a third, so check again.
        chosen |= {path: images[path] for path in clash}


def _make_absolute(path: Path) -> Path:
    """The path without `..`, so that each image has one spelling. Links are not followed: they keep their own names."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() follows links


def follow(path: Path) -> Path:
    """The path without links; unlike `Path.resolve`, also where links form a loop."""
    return Path(os.path.realpath(path))


def _list_written(out: Path) -> set[Path]:
    """The outputs that the folder's manifest lists."""
    entries = read_manifest(out).get("predictions", [])
    return {follow(out / name) for entry in entries for name in entry["outputs"]}


def parse_intrinsics(text: str) -> MatrixArray:
    """The (3, 3) matrix of `fx,fy,cx,cy` in pixels, or of the file of that name.

    Raises:
        ValueError: not four numbers, or a focal length that is not above zero.
    """
    if Path(text).is_file():
        return files.read_intrinsics(text)
    try:
        return make_matrix([float(number) for number in text.split(",")])
    except ValueError:
        raise ValueError(f"Intrinsics {text!r}: {INTRINSICS}.") from None


def make_matrix(intrinsics: Sequence[float] | ArrayLike) -> MatrixArray:
    """The (3, 3) matrix of four numbers fx, fy, cx, cy, or of the matrix itself, in pixels.

    Raises:
        ValueError: another shape, or a focal length that is not above zero.
    """
    numbers = np.asarray(intrinsics, dtype=np.float64)
    if numbers.shape == (4,):
        fx, fy, cx, cy = numbers
        numbers = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if numbers.shape != (3, 3) or not (np.isfinite(numbers).all() and numbers[0, 0] > 0 and numbers[1, 1] > 0):
        raise ValueError(f"Intrinsics {np.asarray(intrinsics).tolist()}: {INTRINSICS}.")
    return numbers
