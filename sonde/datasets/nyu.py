"""NYU Depth V2 as BTS lays it out: SCENE/rgb_00000.jpg with SCENE/sync_depth_00000.png, 16-bit mm.

Reports are in metres, as in the field. Intrinsics come from an optional intrinsics.txt in the root.
"""

from functools import partial
from pathlib import Path

from sonde.datasets.pairs import PairSet, decode_levels, list_files, match_pairs, read_one_camera
from sonde.files import IMAGE_SUFFIXES

LIMITS = (0.0, 10.0)
"""Metres: the field scores NYU up to 10 m."""


def open_nyu(root: Path) -> PairSet:
    """The frames of every scene below `root`.

    Raises:
        ValueError: intrinsics.txt is not a camera matrix.
    """
    images, twice = _index_files("rgb_", root)
    depths, again = _index_files("sync_depth_", root)
    pairs, problems = match_pairs(images, depths)
    note, intrinsics = read_one_camera(root)
    decode = partial(decode_levels, levels_per_unit=1000.0, intrinsics=intrinsics)
    return PairSet("nyu", root, pairs, decode, "m", LIMITS, [*twice, *again, *problems], note)


def _index_files(prefix: str, root: Path) -> tuple[dict[str, Path], list[str]]:
    """Files of one role by capture id, SCENE/rgb_00000, and a line for each duplicate."""
    files, twice = list_files(root, IMAGE_SUFFIXES, prefix)
    return {name.replace(prefix, "rgb_"): path for name, path in files.items()}, twice
