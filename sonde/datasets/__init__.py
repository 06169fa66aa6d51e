"""Captures on disk, in any layout, behind one interface: `open_set(format, root)` -> DepthSet.

captures = open_set("zivid", "data")
parts = split(captures.ids, SplitRecipe())
samples = DepthDataset(DecodedSet(captures, (756, 1260), ".cache"), [0, 1, 2], AugmentRecipe(flip=0.5))
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sonde.datasets.blendedmvs import open_blendedmvs
from sonde.datasets.cache import DecodedSet
from sonde.datasets.contract import Capture, DepthSet
from sonde.datasets.convert import convert, find_flat, read_cameras
from sonde.datasets.diode import open_diode
from sonde.datasets.driving_stereo import open_driving_stereo
from sonde.datasets.eth3d import open_eth3d
from sonde.datasets.folder import open_folder
from sonde.datasets.hypersim import open_hypersim
from sonde.datasets.ibims import open_ibims
from sonde.datasets.irs import open_irs
from sonde.datasets.joined import JoinedSet
from sonde.datasets.kitti import kb_crop, open_kitti, open_kitti_kb
from sonde.datasets.lists import keep_listed, read_listed_ids
from sonde.datasets.nyu import open_nyu
from sonde.datasets.nyu_labeled import LabeledSet, open_nyu_labeled
from sonde.datasets.pairs import PairSet
from sonde.datasets.pseudo import PseudoSet, open_pseudo
from sonde.datasets.rejects import drop_rejected, keep_confident, read_rejects, write_rejects
from sonde.datasets.samples import DepthDataset, Sample, check_window, collate
from sonde.datasets.sintel import open_sintel
from sonde.datasets.splits import split
from sonde.datasets.statistics import CaptureStatistics, describe, find_depth_range, measure_capture
from sonde.datasets.tartanair import open_tartanair
from sonde.datasets.vkitti2 import open_vkitti2
from sonde.datasets.zivid import open_zivid
from sonde.files import explain_absent
from sonde.renamed import keep_old_names
from sonde.spelling import nearest

__all__ = [
    "DATASETS",
    "Capture",
    "CaptureStatistics",
    "DecodedSet",
    "DepthDataset",
    "DepthSet",
    "JoinedSet",
    "LabeledSet",
    "PairSet",
    "PseudoSet",
    "Sample",
    "check_window",
    "collate",
    "convert",
    "describe",
    "drop_rejected",
    "find_depth_range",
    "find_flat",
    "kb_crop",
    "keep_confident",
    "keep_listed",
    "measure_capture",
    "open_set",
    "read_cameras",
    "read_listed_ids",
    "read_rejects",
    "split",
    "write_rejects",
]


def open_set(
    format: str,
    root: Path | str,
    *,
    min_depth: int | float | None = None,
    max_depth: int | float | None = None,
    strict: bool = True,
) -> DepthSet:
    """The captures of a folder.

    Args:
        format: a name in DATASETS.
        root: the folder of the set, in this layout.
        min_depth: depths at or below it are not trusted, in the set's unit; None uses the layout's own limit.
        max_depth: depths at or above it are not trusted, in the set's unit; None uses the layout's own limit.
        strict: refuse a set with problems, such as a missing partner. If False, the set holds the complete pairs, and
            `problems` lists the rest.

    Raises:
        ValueError: an unknown format, no such folder, no captures, or problems with `strict`; with the remedy.
    """
    if format not in DATASETS:
        raise ValueError(f"No dataset format {format!r}; {nearest(format, list(DATASETS))}")
    if not os.path.lexists(root):
        raise ValueError(explain_absent(root, f"the folder of a {format} set"))
    if not Path(root).is_dir():
        raise ValueError(f"{root} is not a folder: set data.root to the folder of a {format} set.")
    found = DATASETS[format](Path(root))
    low, high = found.limits
    low, high = low if min_depth is None else min_depth, high if max_depth is None else max_depth
    if found.problems and strict:
        shown = " ".join(found.problems[:3])
        raise ValueError(f"{root} has {len(found.problems)} problems, see `sonde data check {root}`: {shown}")
    if not len(found) and not found.problems:
        raise ValueError(f"{root} holds no captures in the {format} layout.")
    return replace(found, limits=(float(low), float(high)))


DATASETS: dict[str, Callable[[Path], PairSet | LabeledSet | PseudoSet]] = {
    "zivid": open_zivid,
    "folder": open_folder,
    "nyu": open_nyu,
    "nyu_labeled": open_nyu_labeled,
    "kitti": open_kitti,
    "kitti_kb": open_kitti_kb,
    "driving_stereo": open_driving_stereo,
    "hypersim": open_hypersim,
    "vkitti2": open_vkitti2,
    "tartanair": open_tartanair,
    "irs": open_irs,
    "blendedmvs": open_blendedmvs,
    "eth3d": open_eth3d,
    "diode": open_diode,
    "sintel": open_sintel,
    "ibims": open_ibims,
    "pseudo": open_pseudo,
}
"""Opener by name: root -> a set of all complete pairs, with a list of problems."""

keep_old_names(
    __name__,
    {
        "Decoded": "DecodedSet",
        "Figures": "CaptureStatistics",
        "Joined": "JoinedSet",
        "Samples": "DepthDataset",
        "cameras": "read_cameras",
        "confident": "keep_confident",
        "depth_range": "find_depth_range",
        "figures": "measure_capture",
        "listed_ids": "read_listed_ids",
        "only": "keep_listed",
        "without": "drop_rejected",
    },
)
