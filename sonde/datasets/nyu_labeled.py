"""NYU Depth V2, labeled (Silberman et al., 2012): 1,449 frames in one MATLAB file (v7.3, which is HDF5).

    root/nyu_depth_v2_labeled.mat    images (n, 3, 640, 480) uint8; rawDepths (n, 640, 480) float32 metres; scenes
    root/splits.mat                  optional: trainNdxs (795) and testNdxs (654), counted from 1

Depth is `rawDepths`, 0 where the sensor measured nothing. It is the ground truth of the official evaluation; the holes
of `depths` are filled in. Images keep the published white border; BTS and later methods blacken it.

Ids are 0001 … 1449, as in the toolbox. `folder` and `scene` group by scene, `split` by train and test.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from sonde.datasets.contract import Capture
from sonde.datasets.nyu import LIMITS
from sonde.datasets.pairs import keep_trusted, read_column
from sonde.files import reading
from sonde.types import DepthArray, Space
from sonde.units import UNITS

FILE, PARTS = "nyu_depth_v2_labeled.mat", "splits.mat"

CAMERA = np.array([[518.8579, 0, 325.5824], [0, 519.4696, 253.7362], [0, 0, 1]])
"""Intrinsics of the colour camera in the toolbox (camera_params.m), in pixels."""

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
        with _open(self._path) as file:
            image = np.asarray(file["images"][index])  # pyright: ignore[reportIndexIssue]
        depth = self.read_depth(index)
        return Capture(self.ids[index], image.transpose(2, 1, 0).copy(), depth, depth > 0, CAMERA)

    def read_depth(self, index: int) -> DepthArray:
        """Only the depth."""
        with _open(self._path) as file:
            metres = np.asarray(file["rawDepths"][index], np.float64).T  # pyright: ignore[reportIndexIssue]
        return keep_trusted(metres / self.unit_m, f"Frame {self.ids[index]} of {self._path}", self.limits, self.unit)

    def groups(self, by: str) -> dict[str, str]:
        """Capture id -> scene (`folder` or `scene`), train or test (`split`), or a column of captures.csv.

        Raises:
            ValueError: no splits.mat, or no such column.
        """
        if by in ("folder", "scene"):
            return dict(zip(self.ids, self._read_scenes(), strict=True))
        if by == "split":
            parts = read_parts(self.root / PARTS)
            part_of = {f"{number:04}": part for part, numbers in parts.items() for number in numbers}
            return {name: part_of.get(name, "") for name in self.ids}
        return read_column(self.root / "captures.csv", by, self.ids)

    @property
    def _path(self) -> Path:
        return self.root / FILE

    def _read_scenes(self) -> list[str]:
        with _open(self._path) as file:
            texts = [np.asarray(file[cell]).ravel() for cell in np.asarray(file["scenes"]).ravel()]
        return ["".join(map(chr, text)) for text in texts]


def open_nyu_labeled(root: Path) -> LabeledSet:
    """The frames of the file in `root`.

    Raises:
        ValueError: no such file, or its images and depths do not belong to the same frames.
    """
    if not (root / FILE).is_file():
        raise ValueError(
            f"{root} holds no {FILE}: expected the labeled NYU Depth V2; `sonde data download nyu` downloads it."
        )
    with _open(root / FILE) as file:
        images, depths = (file[name].shape for name in ("images", "rawDepths"))  # pyright: ignore[reportAttributeAccessIssue]
        if len(images) != 4 or images[1] != 3 or depths != (images[0], *images[2:]):
            raise ValueError(f"its images have shape {images} and its rawDepths {depths}")
    return LabeledSet(root, [f"{number:04}" for number in range(1, images[0] + 1)])


def read_parts(path: Path) -> dict[Literal["train", "test"], list[int]]:
    """The official split: frames for training and for the test, ascending, counted from 1.

    Raises:
        ValueError: the file is missing or is not NYU's splits.mat.
    """
    with (
        reading(path, "expected NYU's splits.mat with trainNdxs and testNdxs; download it again"),
        path.open("rb") as file,
    ):
        try:
            content = loadmat(file)
        except MatReadError as error:
            raise ValueError(str(error)) from None
        return {
            "train": sorted(map(int, content["trainNdxs"].ravel())),
            "test": sorted(map(int, content["testNdxs"].ravel())),
        }


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    with reading(path, REMEDY), h5py.File(path) as file:
        yield file
