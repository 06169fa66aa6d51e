"""A cache of decoded captures: from the second epoch on, a memory map replaces PNG, point cloud and resize.

Each capture is one .npy record in a folder that may be deleted at any time. The name of a record is a hash of
everything it was made from (files, their sizes and times, limits, image size), so a changed file gets a new record. The
checksum of a record is compared once per run, so a damaged record is rebuilt. `records` keeps the folder below its
bound.
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
from sonde.datasets.records import GB, RecordFolder, mark_used
from sonde.files import atomic_write, resize_image
from sonde.geometry import scale_intrinsics
from sonde.renamed import keep_old_names
from sonde.spelling import Notice
from sonde.types import DepthArray, MatrixArray

View = tuple[UInt8[np.ndarray, "height width 3"], DepthArray, MatrixArray | None]
"""Image, depth in metres (0 where untrusted) and intrinsics of a capture."""

RESERVE_BYTES = 2**30
"""Space that is left free on the disk: a large set would fill it."""

VERSION = 1
"""Version of the record format; part of a record's name."""


class DecodedSet:
    """A set whose images are resized and whose decoded captures are cached in a folder.

    Args:
        captures: the set to read.
        image_size: (height, width) of the images; None keeps their size. Depth keeps its own size.
        folder: folder of the records; None decodes every time.
        cover: keep the aspect ratio: image and depth are scaled (depth by nearest neighbour) until they cover
            `image_size`, so that a window of that size can be cropped.
        bound_gb: largest size of the folder, in 10^9 bytes; None for no bound.
    """

    def __init__(
        self,
        captures: DepthSet,
        image_size: Sequence[int] | None = None,
        folder: Path | str | None = None,
        *,
        cover: bool = False,
        bound_gb: int | float | None = None,
    ) -> None:
        self.captures = captures
        self.ids = captures.ids
        self.far = captures.limits[1] * captures.unit_m  # metres
        self.image_size = (image_size[0], image_size[1]) if image_size else None
        self.folder = Path(folder) if folder else None
        self.bound_gb = bound_gb
        bound = None if bound_gb is None else int(bound_gb * GB)
        self._records = None if self.folder is None else RecordFolder(self.folder, bound)
        self.cover = cover and image_size is not None
        # Shared by all workers.
        self._compared = torch.zeros(len(captures), dtype=torch.bool).share_memory_()
        self._full = torch.zeros(1, dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.captures)

    def read(self, index: int) -> Capture:
        """The capture with its image resized; from its record if that is valid."""
        image, depth, intrinsics = self.view(index)
        return Capture(self.ids[index], image, depth, depth > 0, intrinsics)

    def view(self, index: int) -> View:
        """`read` without the mask. Arrays are memory-mapped: only the parts that are used are read."""
        if self._records is None:
            return _make_view(self._decode(index))
        record = self._records.path / f"{self._name_record(index)}.npy"
        kept = self._load(record, index)
        if kept is not None:
            return kept
        capture = self._decode(index)
        if not self._full:
            self._store(record, capture)
        return _make_view(capture)

    def _decode(self, index: int) -> Capture:
        capture = self.captures.read(index)
        if self.image_size is None:
            return capture
        if self.cover:
            return scale_to_cover(capture, self.image_size)
        return capture._replace(image=resize_image(capture.image, self.image_size))

    def _name_record(self, index: int) -> str:
        made_from = [VERSION, self.image_size, self.cover, self.captures.key(index)]
        return hashlib.blake2b(json.dumps(made_from).encode(), digest_size=16).hexdigest()

    def _load(self, path: Path, index: int) -> View | None:
        try:
            record = np.load(path, mmap_mode="c", allow_pickle=False)  # copy on write: torch needs writable memory
            sound = bool(self._compared[index]) or record["checksum"][0] == _compute_checksum(record)
        except (OSError, ValueError, EOFError, IndexError):  # missing, truncated, or of another format
            return None
        if not sound:
            return None
        self._compared[index] = True
        mark_used(path)
        matrix = record["intrinsics"][0]
        return record["image"][0], record["depth"][0], None if np.isnan(matrix).any() else np.array(matrix)

    def _store(self, path: Path, capture: Capture) -> None:
        assert self._records is not None
        record = np.zeros(1, _make_dtype(capture))
        record["image"], record["depth"] = capture.image, capture.depth
        record["intrinsics"] = make_unknown_camera() if capture.intrinsics is None else capture.intrinsics
        record["checksum"] = _compute_checksum(record)
        if not self._records.make_room(record.nbytes):
            self._stop_storing(
                f"{self._records.path} holds {self.bound_gb:g} GB of decoded captures, the bound of data.cache_gb: "
                "those that are not in it are decoded every time. Raise data.cache_gb, or set it to null for no bound."
            )
            return
        try:
            with atomic_write(path) as tmp_path:
                if shutil.disk_usage(path.parent).free < record.nbytes + RESERVE_BYTES:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                np.save(tmp_path, record)
        except OSError as error:
            self._stop_storing(
                f"Decoded captures cannot be cached in {self._records.path} ({error.strerror}): those that are not in "
                "it are decoded every time. Free some space, or set data.cache to another folder or to null."
            )

    def _stop_storing(self, reason: str) -> None:
        """Write no more records in this run, and say why; those that exist are still read."""
        self._full[0] = True
        warnings.warn(reason, Notice, stacklevel=3)


def scale_to_cover(capture: Capture, size: tuple[int, int]) -> Capture:
    """The capture, scaled at its own aspect ratio until image and depth cover (height, width)."""
    height, width = capture.image.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    covered = (max(size[0], round(height * scale)), max(size[1], round(width * scale)))
    shape = capture.depth.shape
    depth = cv2.resize(capture.depth, covered[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    camera = capture.intrinsics
    camera = None if camera is None else scale_intrinsics(camera, (shape[0], shape[1]), covered)
    return Capture(capture.id, resize_image(capture.image, covered), depth, depth > 0, camera)


def make_unknown_camera() -> MatrixArray:
    """Unknown intrinsics where a matrix is required, such as in a batch: NaN, (3, 3)."""
    return np.full((3, 3), np.nan)


def _make_view(capture: Capture) -> View:
    return capture.image, capture.depth, capture.intrinsics


def _make_dtype(capture: Capture) -> np.dtype:
    fields = [("image", "u1", capture.image.shape), ("depth", "f4", capture.depth.shape)]
    return np.dtype([*fields, ("intrinsics", "f8", (3, 3)), ("checksum", "u4")], align=True)


def _compute_checksum(record: np.ndarray) -> int:
    assert record.dtype.fields is not None  # a record of `_make_dtype`, or one that `_load` has just read
    end = record.dtype.fields["checksum"][1]
    return zlib.crc32(record.view(np.uint8)[:end].data)


keep_old_names(__name__, {"Decoded": "DecodedSet", "covering": "scale_to_cover", "unknown": "make_unknown_camera"})
