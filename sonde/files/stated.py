"""The unit that a file of numbers states: a PLY in a comment of its header, a .npy in the JSON beside it.

    photo.npy       the array
    photo.npy.json  {"software": "sonde", "holds": "depth", "space": "metric", "unit": "mm", "shape": [480, 640], …}

A JSON of that name by another program says nothing to sonde.
"""

import json
import math
from pathlib import Path
from typing import NotRequired

import numpy as np
from pydantic import with_config
from typing_extensions import TypedDict

from sonde.files.documents import read_json
from sonde.files.levels import QUANTITIES
from sonde.files.ply import read_ply_unit
from sonde.files.safely import reading
from sonde.files.writing import atomic_write
from sonde.spelling import shorten
from sonde.strict import EXACT
from sonde.types import Space
from sonde.units import UNITS

REMEDY = "correct it, or remove it, and the array beside it is taken for metres"


@with_config(EXACT)
class ArrayNote(TypedDict):
    """What NAME.npy.json says of NAME.npy."""

    software: str
    holds: str
    """The quantity, in words."""
    space: Space
    unit: str
    """A key of UNITS for metric depth, else `1`."""
    shape: list[int]
    dtype: str
    source: NotRequired[str]
    """The image that it belongs to."""


def place_array_note(path: Path) -> Path:
    """Where the note of a .npy lies."""
    return path.with_name(f"{path.name}.json")


def write_npy(path: Path, array: np.ndarray, space: Space, unit: str, source: str | None = None) -> None:
    """Write an array, and beside it what its numbers mean.

    Args:
        path: NAME.npy.
        array: the numbers.
        space: what they claim.
        unit: a key of UNITS for metric depth, else `1`.
        source: the image that they belong to.
    """
    note: ArrayNote = {
        "software": "sonde",
        "holds": QUANTITIES[space][0],
        "space": space,
        "unit": unit,
        "shape": list(array.shape),
        "dtype": str(array.dtype),
    }
    if source is not None:
        note["source"] = source
    # The note first, so that no array is there without its unit.
    with atomic_write(place_array_note(path)) as tmp_path:
        tmp_path.write_text(json.dumps(note) + "\n", encoding="utf-8")
    with atomic_write(path) as tmp_path:
        np.save(tmp_path, array)


def read_array_note(path: Path) -> ArrayNote | None:
    """What is stated of a .npy; None if nothing is.

    Raises:
        ValueError: a note by sonde that is damaged, or that states a unit that does not exist.
    """
    place = place_array_note(path)
    if not place.is_file():
        return None
    document: dict[str, object] = read_json(place, dict[str, object], REMEDY)
    if document.get("software") != "sonde":
        return None
    note: ArrayNote = read_json(place, ArrayNote, REMEDY)
    if note["space"] == "metric" and note["unit"] not in UNITS:
        with reading(place, REMEDY):
            raise ValueError(f"its unit is {shorten(note['unit'], 80)!r}, none of {', '.join(UNITS)}")
    return note


def read_stated_unit(path: Path | str) -> str | None:
    """The unit that a .ply or a .npy of metric depth states, a key of UNITS; None if it states none.

    Raises:
        ValueError: a header or a note that cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() == ".ply":
        with reading(path, "export the capture again as an organised cloud"):
            return read_ply_unit(path)
    note = read_array_note(path) if path.suffix.lower() == ".npy" else None
    return note["unit"] if note is not None and note["space"] == "metric" else None


def check_stated_unit(path: Path, unit_m: float) -> None:
    """Check that a cloud, or an array of its Z, does not state another unit than the declared one.

    Args:
        path: the file.
        unit_m: metres per unit, as declared.

    Raises:
        ValueError: it does; the sentence has the remedy.
    """
    stated = read_stated_unit(path)
    if stated is None or math.isclose(UNITS[stated], unit_m, rel_tol=1e-6):
        return
    raise ValueError(
        f"{shorten(path)} states that its unit is {stated}, and it is declared as {name_unit(unit_m)}: "
        f"`sonde data convert IMAGES CLOUDS OUT --depth-scale {UNITS[stated]:g}` reads it as stated; in the folder "
        f'layout dataset.json does it, with {{"depth_scale": {UNITS[stated]:g}}}.'
    )


def name_unit(unit_m: float) -> str:
    """The unit of so many metres: `mm`, or `0.5 m per unit` where it has no name."""
    known = (name for name, metres in UNITS.items() if math.isclose(metres, unit_m, rel_tol=1e-6))
    return next(known, f"{unit_m:g} m per unit")
