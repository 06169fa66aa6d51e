"""The images of a call, the names of their outputs, and the camera's intrinsics. No torch is imported here."""

import os
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, NoReturn

import numpy as np

from sonde import files
from sonde.models.naming import explain_as_image
from sonde.options.predict import ArrayLike
from sonde.prediction.manifest import read_manifest
from sonde.spelling import shorten
from sonde.types import MatrixArray

STREAM = "-"
"""As a source: one image from standard input; as an output: one file's bytes on standard output."""
STREAM_NAME = Path("stdin")
"""What stands for the image from standard input in the names of outputs and in the manifest."""
MOST_STREAMED = 1 << 30
"""Bytes that standard input may hold."""
NOTHING: Mapping[Path, bytes] = MappingProxyType({})

INTRINSICS = "expected fx,fy,cx,cy in pixels of the image, such as 1780,1780,960,600"
"""How a user gives intrinsics."""


class FoundImages(NamedTuple):
    """The images of a call, and what was passed over."""

    images: dict[Path, Path]
    """Image → its path relative to the folder that all sources share, sorted."""
    failed: list[tuple[Path, str]]
    """What lies in a source and cannot be read, and why."""
    contents: Mapping[Path, bytes] = NOTHING
    """The encoded images that are no files: that of standard input."""


def find_images(sources: Sequence[str | Path], out: Path) -> dict[Path, Path]:
    """The images of `gather_images`; what cannot be read is left out without a word."""
    return gather_images(sources, out).images


def gather_images(sources: Sequence[str | Path], out: Path) -> FoundImages:
    """Every image of the sources, and below folders also what cannot be read.

    A source is an image, a folder, a pattern of either such as photos/*.jpg, or, alone, `-`: an image from standard
    input. Images below `out` are left out. If a source itself lies below `out`, only the files that `predict` wrote
    are. Of several sources, a video is listed as one that cannot be read.

    Raises:
        ValueError: a source that does not exist or is no file, or no image at all.
    """
    if STREAM in map(str, sources):
        return _take_streamed(sources)
    found: set[Path] = set()
    left: set[Path] = set()
    failed: dict[Path, str] = {}
    place = follow(out)
    sources = files.expand_sources(sources)
    for source in sources:
        if model := explain_as_image(str(source)):
            raise ValueError(model)
        files.refuse_source(source, "an image or a folder of images")
        if not source.is_dir():
            if reason := _explain_file(source):
                failed[_make_absolute(source)] = reason
            else:
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
    folders = [_make_absolute(source) for source in sources]
    base = os.path.commonpath([folder if folder.is_dir() else folder.parent for folder in folders])
    return FoundImages({path: path.relative_to(base) for path in sorted(found)}, sorted(failed.items()))


def _explain_file(path: Path) -> str:
    """Why a file that was named is no image, where its name or its frames tell; else empty."""
    if path.suffix.lower() == ".gif" and files.is_animation(path):
        return files.explain_video(path)
    return files.explain_foreign(path)


def _take_streamed(sources: Sequence[str | Path]) -> FoundImages:
    """The image from standard input.

    Raises:
        ValueError: other sources beside it, or a terminal, nothing or too much in its place.
    """
    if len(sources) > 1:
        raise ValueError("- is one image from standard input: give it alone, or give the names of files.")
    if sys.stdin is None or sys.stdin.isatty():
        raise ValueError(
            "- reads an image from standard input, and there is only a terminal: write `cat photo.jpg | sonde predict "
            "- …`, or give the image's name in place of -."
        )
    content = sys.stdin.buffer.read(MOST_STREAMED + 1)
    if not content:
        raise ValueError("Standard input is empty: expected an image, as from `cat photo.jpg | sonde predict - …`.")
    if len(content) > MOST_STREAMED:
        raise ValueError(
            f"Standard input holds more than {MOST_STREAMED >> 30} GiB: expected one image; save it as a file, and "
            "give its name."
        )
    return FoundImages({STREAM_NAME: STREAM_NAME}, [], {STREAM_NAME: content})


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
    first = next(iter(failed.items()), None) or _find_video(sources)
    if first is not None and len(sources) == 1 and not Path(sources[0]).is_dir():
        raise ValueError(f"{shown} cannot be predicted: {first[1]}.")
    known = ", ".join(files.IMAGE_SUFFIXES)
    also = "" if first is None else f"; {shorten(first[0])} is passed over: {first[1]}"
    raise ValueError(f"No images in {shown}: expected files that end in {known}{also}.")


def _find_video(sources: Sequence[str | Path]) -> tuple[Path, str] | None:
    """The first video below the folders of a call, and what to do with it."""
    folders = [Path(source) for source in sources if Path(source).is_dir()]
    videos = (path for folder in folders for path in files.list_files(folder, files.VIDEOS).paths)
    return next(((path, files.explain_foreign(path)) for path in videos), None)


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
        near = files.find_near(Path(text))
        meant = f"; did you mean the file {shorten(near[0])}?" if near else "."
        raise ValueError(f"Intrinsics {text!r}: {INTRINSICS}{meant}") from None


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
