"""The images of a call, the names of their outputs, and the camera's intrinsics. No torch is imported here."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sonde import files
from sonde.options.predict import ArrayLike
from sonde.prediction.manifest import read_manifest
from sonde.types import MatrixArray

INTRINSICS = "expected fx,fy,cx,cy in pixels of the image, such as 1780,1780,960,600"
"""How a user gives intrinsics."""


def find_images(sources: Sequence[str | Path], out: Path) -> dict[Path, Path]:
    """Image → its path relative to the folder that all sources share, sorted.

    Images below `out` are left out. If a source itself lies below `out`, only the files that `predict` wrote are.

    Raises:
        ValueError: a source that does not exist, or no image at all.
    """
    found: set[Path] = set()
    left: set[Path] = set()
    place = out.resolve()
    for source in map(Path, sources):
        if not source.exists():
            raise ValueError(f"{source} does not exist: expected an image or a folder of images.")
        if source.is_file():
            found.add(_make_absolute(source))
        elif source.resolve() == place:
            raise ValueError(f"{source} is both source and output: give another folder for the output.")
        else:
            seen = {_make_absolute(path) for path in source.rglob("*") if _is_image(path)}
            if place in source.resolve().parents:
                written = _list_written(place)
                own = {path for path in seen if path.resolve() in written}
            else:
                own = {path for path in seen if place in path.resolve().parents}
            found, left = found | seen - own, left | own
    if not found and left:
        raise ValueError(
            f"No images in {', '.join(map(str, sources))} but those below the output folder {out}, which are left out: "
            "give another folder for the output."
        )
    if not found:
        known = ", ".join(files.IMAGE_SUFFIXES)
        raise ValueError(f"No images in {', '.join(map(str, sources))}: expected files that end in {known}.")
    folders = [_make_absolute(Path(source)) for source in sources]
    base = os.path.commonpath([folder if folder.is_dir() else folder.parent for folder in folders])
    return {path: path.relative_to(base) for path in sorted(found)}


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


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in files.IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _list_written(out: Path) -> set[Path]:
    """The outputs that the folder's manifest lists."""
    entries = read_manifest(out).get("predictions", [])
    return {(out / name).resolve() for entry in entries for name in entry["outputs"]}


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
