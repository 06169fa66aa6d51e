"""NYU Depth V2, labeled (Silberman et al., 2012): 1,449 frames in one MATLAB file (v7.3, which is HDF5).

    root/nyu_depth_v2_labeled.mat    images (n, 3, 640, 480) uint8; rawDepths (n, 640, 480) float32 metres; scenes
    root/splits.mat                  optional: trainNdxs (795) and testNdxs (654), counted from 1

Depth is `rawDepths`, 0 where the sensor measured nothing. It is the ground truth of the official evaluation; the holes
of `depths` are filled in. Images keep the published white border; BTS and later methods blacken it.

Ids are 0001 … 1449, as in the toolbox. `folder` and `scene` group by scene, `split` by train and test.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from sonde.datasets.contract import Capture
from sonde.datasets.nyu import LIMITS
from sonde.datasets.pairs import keep_trusted, read_column
from sonde.files import reading
from sonde.files.hdf5 import check_array, find_array, open_hdf5
from sonde.files.mat import read_mat
from sonde.types import DepthArray, Space
from sonde.units import UNITS

FILE, PARTS = "nyu_depth_v2_labeled.mat", "splits.mat"

CAMERA = np.array([[518.8579, 0, 325.5824], [0, 519.4696, 253.7362], [0, 0, 1]])
"""Intrinsics of the colour camera in the toolbox (camera_params.m), in pixels."""

LONGEST_WORD = 1000
"""Characters of the name of a scene."""

REMEDY = "expected nyu_depth_v2_labeled.mat with images, rawDepths and scenes; download it again"


@dataclass(frozen=True)
class LabeledSet:
    """A DepthSet of frames in one file. Every read opens the file: worker processes must not share a handle."""

    root: Path
    ids: list[str]
    limits: tuple[float, float] = LIMITS
    unit: str = "m"
    space: Space = "metric"
    problems: list[str] = field(default_factory=list)

    @property
    def unit_m(self) -> float:
        """Metres per unit."""
        return UNITS[self.unit]

    def __len__(self) -> int:
        return len(self.ids)

    def key(self, index: int) -> str:
        """Layout, limits, size and time of the file, and the frame."""
        with reading(self._path, REMEDY):
            state = self._path.stat()
        file = (str(self._path.absolute()), state.st_mtime_ns, state.st_size)
        return json.dumps(["nyu_labeled", self.unit, self.limits, file, index])

    def read(self, index: int) -> Capture:
        """The whole capture."""
        with open_hdf5(self._path, REMEDY) as file:
            image = np.asarray(find_array(file, "images")[index])
        depth = self.read_depth(index)
        return Capture(self.ids[index], image.transpose(2, 1, 0).copy(), depth, depth > 0, CAMERA)

    def read_depth(self, index: int) -> DepthArray:
        """Only the depth."""
        with open_hdf5(self._path, REMEDY) as file:
            metres = np.asarray(find_array(file, "rawDepths")[index], np.float64).T
        return keep_trusted(metres / self.unit_m, f"Frame {self.ids[index]} of {self._path}", self.limits, self.unit)

    def groups(self, by: str) -> dict[str, str]:
        """Capture id -> scene (`folder` or `scene`), train or test (`split`), or a column of captures.csv.

        Raises:
            ValueError: no splits.mat, or no such column.
        """
        if by in ("folder", "scene"):
            return self._read_scenes()
        if by == "split":
            parts = read_parts(self.root / PARTS)
            part_of = {f"{number:04}": part for part, numbers in parts.items() for number in numbers}
            return {name: part_of.get(name, "") for name in self.ids}
        return read_column(self.root / "captures.csv", by, self.ids)

    @property
    def _path(self) -> Path:
        return self.root / FILE

    def _read_scenes(self) -> dict[str, str]:
        with open_hdf5(self._path, REMEDY) as file:
            cells = find_array(file, "scenes", "O")
            if cells.size != len(self):
                raise ValueError(f"it has {cells.size} scenes for {len(self)} frames")
            return {
                name: _read_word(file[cell]) for name, cell in zip(self.ids, np.asarray(cells).ravel(), strict=True)
            }


def open_nyu_labeled(root: Path) -> LabeledSet:
    """The frames of the file in `root`.

    Raises:
        ValueError: no such file, or its images and depths do not belong to the same frames.
    """
    if not (root / FILE).is_file():
        raise ValueError(
            f"{root} holds no {FILE}: expected the labeled NYU Depth V2; `sonde data download nyu` downloads it."
        )
    with open_hdf5(root / FILE, REMEDY) as file:
        colour, depth = find_array(file, "images", "u"), find_array(file, "rawDepths")
        images, depths = colour.shape, depth.shape
        if len(images) != 4 or images[1] != 3 or depths != (images[0], *images[2:]):
            raise ValueError(f"its images have shape {images} and its rawDepths {depths}")
    return LabeledSet(root, [f"{number:04}" for number in range(1, images[0] + 1)])


def read_parts(path: Path) -> dict[Literal["train", "test"], list[int]]:
    """The official split: frames for training and for the test, ascending, counted from 1.

    Raises:
        ValueError: the file is missing or is not NYU's splits.mat.
    """
    with reading(path, "expected NYU's splits.mat with trainNdxs and testNdxs; download it again"):
        found = read_mat(path, ("trainNdxs", "testNdxs"))
        frames: dict[Literal["train", "test"], list[int]]
        frames = {"train": _list_frames(found["trainNdxs"]), "test": _list_frames(found["testNdxs"])}
        if not any(frames.values()):
            raise ValueError("it lists no frames")
        return frames


def _list_frames(numbers: np.ndarray) -> list[int]:
    if not (np.isfinite(numbers).all() and (numbers >= 1).all() and (numbers % 1 == 0).all()):
        raise ValueError("its frames are not whole numbers from 1 up")
    return sorted(map(int, numbers))


def _read_word(cell: object) -> str:
    """The text of a cell, which MATLAB stores as an array of characters."""
    letters = check_array(cell, "scenes", "u")
    if math.prod(letters.shape) > LONGEST_WORD:
        raise ValueError(f"a scene has a name of {math.prod(letters.shape)} characters")
    return "".join(chr(int(code)) for code in np.asarray(letters).ravel())
