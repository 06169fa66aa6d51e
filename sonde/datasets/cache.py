"""Captures decoded once: from the second epoch on, a memory map stands in for PNG, point cloud and resize.

Each capture is one .npy record beside others in a folder that may be deleted at any time. Its name is a hash
of all it was made from (files, their sizes and times, limits, image size), so that a changed file is simply
another record; its checksum is compared once in each run, so that a damaged record is rebuilt and never
trusted.
"""

import errno
import hashlib
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from sonde.datasets.contract import Capture, DepthSet
from sonde.files import atomic_write, resize_image
from sonde.geometry import scale_intrinsics
from sonde.types import DepthArray, MatrixArray

View = tuple[UInt8[np.ndarray, "height width 3"], DepthArray, MatrixArray | None]
"""Image, depth in metres (0 where untrusted) and intrinsics of a capture."""

RESERVE_BYTES = 2**30
"""Left free on the disk for others: large sets would fill it."""

VERSION = 1
"""Of the record; part of its name."""


class Decoded:
    """A DepthSet whose images are resized and whose captures are kept, decoded, in a folder.

    Args:
        captures: the set to read.
        image_size: (height, width) of the images, or None to leave them as they are. Depth keeps its own
            size.
        folder: where the records lie; None decodes every time.
        cover: keep the aspect: image and depth are scaled (depth to nearest) until they just cover `image_size`,
            for a window of that size to be cut.
    """

    def __init__(
        self,
        captures: DepthSet,
        image_size: Sequence[int] | None = None,
        folder: Path | str | None = None,
        *,
        cover: bool = False,
    ) -> None:
        self.captures = captures
        self.ids = captures.ids
        self.far = captures.limits[1] * captures.unit_m  # metres
        self.image_size = (image_size[0], image_size[1]) if image_size else None
        self.folder = Path(folder) if folder else None
        self.cover = cover and image_size is not None
        self._compared = torch.zeros(len(captures), dtype=torch.bool).share_memory_()  # one for all workers

    def __len__(self) -> int:
        return len(self.captures)

    def read(self, index: int) -> Capture:
        """The capture, its image resized; from the record where there is a sound one."""
        image, depth, intrinsics = self.view(index)
        return Capture(self.ids[index], image, depth, depth > 0, intrinsics)

    def view(self, index: int) -> View:
        """What `read` gives but the mask: maps of the record, of which only what is taken is read."""
        if self.folder is None:
            return _view(self._decoded(index))
        record = self.folder / f"{self._key(index)}.npy"
        kept = self._kept(record, index)
        if kept is not None:
            return kept
        capture = self._decoded(index)
        self._keep(record, capture)
        return _view(capture)

    def _decoded(self, index: int) -> Capture:
        capture = self.captures.read(index)
        if self.image_size is None:
            return capture
        if self.cover:
            return covering(capture, self.image_size)
        return capture._replace(image=resize_image(capture.image, self.image_size))

    def _key(self, index: int) -> str:
        made_from = [VERSION, self.image_size, self.cover, self.captures.key(index)]
        return hashlib.blake2b(json.dumps(made_from).encode(), digest_size=16).hexdigest()

    def _kept(self, path: Path, index: int) -> View | None:
        try:
            record = np.load(path, mmap_mode="c", allow_pickle=False)  # copy on write: torch wants writable memory
            sound = bool(self._compared[index]) or record["checksum"][0] == _checksum(record)
        except (OSError, ValueError, EOFError, IndexError):
            return None
        if not sound:
            return None
        self._compared[index] = True
        matrix = record["intrinsics"][0]
        return record["image"][0], record["depth"][0], None if np.isnan(matrix).any() else np.array(matrix)

    def _keep(self, path: Path, capture: Capture) -> None:
        record = np.zeros(1, _layout(capture))
        record["image"], record["depth"] = capture.image, capture.depth
        record["intrinsics"] = unknown() if capture.intrinsics is None else capture.intrinsics
        record["checksum"] = _checksum(record)
        try:
            with atomic_write(path) as tmp_path:
                if shutil.disk_usage(path.parent).free < record.nbytes + RESERVE_BYTES:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                np.save(tmp_path, record)
        except OSError as error:
            warnings.warn(
                f"Decoded captures cannot be kept in {self.folder} ({error.strerror}): each is decoded every "
                "time. Free some space, or set data.cache to another folder or to null.",
                stacklevel=2,
            )
            self.folder = None


def covering(capture: Capture, size: tuple[int, int]) -> Capture:
    """The capture scaled, its aspect kept, so that image and depth just cover (height, width)."""
    height, width = capture.image.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    covered = (max(size[0], round(height * scale)), max(size[1], round(width * scale)))
    shape = capture.depth.shape
    depth = cv2.resize(capture.depth, covered[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    camera = capture.intrinsics
    camera = None if camera is None else scale_intrinsics(camera, (shape[0], shape[1]), covered)
    return Capture(capture.id, resize_image(capture.image, covered), depth, depth > 0, camera)


def unknown() -> MatrixArray:
    """What stands for intrinsics nobody knows where a matrix is needed: NaN."""
    return np.full((3, 3), np.nan)


def _view(capture: Capture) -> View:
    return capture.image, capture.depth, capture.intrinsics


def _layout(capture: Capture) -> np.dtype:
    fields = [("image", "u1", capture.image.shape), ("depth", "f4", capture.depth.shape)]
    return np.dtype([*fields, ("intrinsics", "f8", (3, 3)), ("checksum", "u4")], align=True)


def _checksum(record: np.ndarray) -> int:
    assert record.dtype.fields is not None  # a record of `_layout`, or of a file that `_kept` found to hold one
    end = record.dtype.fields["checksum"][1]
    return zlib.crc32(record.view(np.uint8)[:end].data)
