"""DrivingStereo: left-image-*/DRIVE/NAME.jpg with depth-map-*/DRIVE/NAME.png, metres = level / 256.

Level 0 and levels above 65500 are no depth. Half-size folders are taken first, then full-size, then the names
of the published archives (train-left-image). Intrinsics are read from an optional intrinsics.txt in the root.
"""

from functools import partial
from pathlib import Path

from sonde.datasets.pairs import PairSet, decode_levels, listed, one_camera, paired
from sonde.files import IMAGE_SUFFIXES

LIMITS = (0.0, 80.0)
"""Metres: the field scores driving up to 80 m."""

FOLDERS = (
    ("left-image-half-size", "depth-map-half-size"),
    ("left-image-full-size", "depth-map-full-size"),
    ("train-left-image", "train-depth-map"),
    ("test-left-image", "test-depth-map"),
)


def open_driving_stereo(root: Path) -> PairSet:
    """The frames of every drive below `root`.

    Raises:
        ValueError: none of the pairs of folders is there.
    """
    found = [(root / left, root / depth) for left, depth in FOLDERS if (root / left).is_dir()]
    if not found or not found[0][1].is_dir():
        expected = " or ".join(" with ".join(pair) for pair in FOLDERS)
        raise ValueError(f"{root} is no DrivingStereo set: expected {expected}, each with one folder per drive.")
    images, twice = listed(found[0][0], IMAGE_SUFFIXES)
    depths, again = listed(found[0][1], [".png"])
    pairs, problems = paired(images, depths)
    note, intrinsics = one_camera(root)
    decode = partial(decode_levels, levels_per_unit=256.0, last=65500, intrinsics=intrinsics)
    return PairSet("driving_stereo", root, pairs, decode, "m", LIMITS, [*twice, *again, *problems], note)
