"""Point clouds as PLY: text or bytes, organised by a note of their size or by Stanford's range_grid."""

import re
from collections.abc import Sequence
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sonde.files.claims import count_rest
from sonde.files.rows import Field, Points, check_rows, organise, read_header, read_points, skip_rows

TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}

SIZE_NOTE = re.compile(r"(?:comment|obj_info)\W+(?:num_?)?(width|height|cols|columns|rows)\W+(\d+)", re.IGNORECASE)
"""How writers note an organised cloud: `comment width 640`, `obj_info num_cols 640`."""

UNIT_NOTE = re.compile(r"^(?:comment|obj_info)\W+units?\W+(\w+)\W*$", re.IGNORECASE)
"""How writers note the unit: `comment unit mm`, `comment Units: meters`."""
UNIT_WORDS = {
    **{"m": "m", "metre": "m", "meter": "m", "metres": "m", "meters": "m"},
    **{"cm": "cm", "centimetre": "cm", "centimeter": "cm", "centimetres": "cm", "centimeters": "cm"},
    **{"mm": "mm", "millimetre": "mm", "millimeter": "mm", "millimetres": "mm", "millimeters": "mm"},
}
"""Their word -> a key of `sonde.units.UNITS`."""

GRID = "range_grid"
"""An element for each pixel: the number of its vertex, or none."""


class Element(NamedTuple):
    """Rows of one kind."""

    name: str
    count: int
    fields: list[Field]
    """Of a list, its length and its numbers."""
    is_list: bool


def read_ply(path: Path) -> np.ndarray:
    """The points, (h, w, 3), or (n, 3) if the file does not state rows and columns.

    Raises:
        ValueError: a header that is incomplete, or that claims more than the file holds.
    """
    with path.open("rb") as file:
        header = read_header(file, "end_header")
        if header[0].strip() != "ply":
            raise ValueError("it does not begin with 'ply'")
        order, elements = _parse_header(header)
        points = _read_elements(file, elements, text=order == "")
    notes = {name.lower(): int(value) for name, value in SIZE_NOTE.findall("\n".join(header))}
    width = notes.get("width", notes.get("cols", notes.get("columns")))
    height = notes.get("height", notes.get("rows"))
    return points if width is None or height is None else organise(points, height, width)


def read_ply_unit(path: Path) -> str | None:
    """The unit that a comment states, a key of `sonde.units.UNITS`; None if none does. Only the header is read.

    Raises:
        ValueError: a header that is incomplete.
    """
    with path.open("rb") as file:
        found = (UNIT_NOTE.match(line) for line in read_header(file, "end_header"))
        words = [UNIT_WORDS.get(note[1].lower()) for note in found if note is not None]
    return next((unit for unit in words if unit is not None), None)


def _parse_header(header: Sequence[str]) -> tuple[str, list[Element]]:
    order = ""
    elements: list[Element] = []
    for line in header:
        try:
            match line.split():
                case ["format", kind, *_]:
                    order = ORDERS[kind]
                case ["element", name, count]:
                    elements.append(Element(name, int(count), [], False))
                case ["property", "list", length, kind, name]:
                    own = [Field("length", order + TYPES[length]), Field(name, order + TYPES[kind])]
                    elements[-1] = elements[-1]._replace(fields=[*elements[-1].fields, *own], is_list=True)
                case ["property", kind, name]:
                    elements[-1].fields.append(Field(name, order + TYPES[kind]))
                case ["format" | "element" | "property", *_]:
                    raise ValueError
        except (LookupError, ValueError):
            raise ValueError(f"its header says {line!r}, which is not understood") from None
    if not any(line.split()[:1] == ["format"] for line in header):
        raise ValueError("its header has no format")
    return order, elements


def _read_elements(file: BufferedReader, elements: Sequence[Element], *, text: bool) -> Points:
    """The vertices; in the order of the grid, NaN where it has none, if there is one."""
    names = [element.name for element in elements]
    if "vertex" not in names:
        raise ValueError(f"it has {', '.join(names) or 'no elements'}, no vertex")
    points = None
    for element in elements:
        if points is not None and GRID not in names:
            break
        if element.name == GRID and points is not None:
            return _arrange(points, _read_grid(file, element, text=text))
        if element.is_list:
            raise ValueError(f"its {element.name} is made of lists, and lies before its vertices or its {GRID}")
        if element.name == "vertex":
            points = read_points(file, element.fields, element.count, text=text)
        else:
            skip_rows(file, element.fields, element.count, text=text)
    if points is None or GRID in names:
        raise ValueError(f"its {GRID} lies before its vertices")
    return points


def _read_grid(file: BufferedReader, element: Element, *, text: bool) -> Int[np.ndarray, " cells"]:
    """The vertex of each pixel, -1 for none."""
    if not element.is_list or len(element.fields) != 2 or any("f" in field.kind for field in element.fields):
        raise ValueError(f"its {GRID} is no list of vertices")
    check_rows(file, element.fields[:1], element.count, text=text)
    if text:
        rows = [line.split() for line in islice((line for line in file if line.strip()), element.count)]
        cells = [int(row[1]) if int(row[0]) else -1 for row in rows]
    else:
        cells = _walk_lists(file.read(count_rest(file)), element)
    if len(cells) != element.count:
        raise ValueError(f"its {GRID} ends after {len(cells)} of {element.count} pixels")
    return np.array(cells, np.int64)


def _walk_lists(data: bytes, element: Element) -> list[int]:
    """The first number of each list, -1 for an empty one."""
    length, number = element.fields
    order = "big" if length.kind[0] == ">" else "little"
    cells: list[int] = []
    at = 0
    for _ in range(element.count):
        many = int.from_bytes(data[at : at + length.size], order)
        at += length.size
        cells.append(int.from_bytes(data[at : at + number.size], order) if many else -1)
        at += many * number.size
        if at > len(data):
            raise ValueError(f"its {GRID} ends after {len(cells)} of {element.count} pixels")
    return cells


def _arrange(points: Points, cells: Int[np.ndarray, " cells"]) -> Float[np.ndarray, "cells 3"]:
    if cells.size and not (cells.min() >= -1 and cells.max() < len(points)):
        raise ValueError(f"its {GRID} names vertex {cells.max()} of {len(points)}")
    arranged = np.full((len(cells), 3), np.nan, points.dtype if points.dtype.kind == "f" else np.float64)
    arranged[cells >= 0] = points[cells[cells >= 0]]
    return arranged
