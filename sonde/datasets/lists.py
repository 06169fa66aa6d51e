"""The lists that papers score by: a set reduced to exactly the captures a file names.

    only(open_set("kitti", "data/kitti"), Path("eigen_test_files_with_gt.txt"))        652 of its 697 lines
    only(open_set("nyu_labeled", "data/nyu"), Path("data/nyu/splits.mat"))             the 654 of the test

A list is a text of one capture per line, in any of the forms the field uses (columns are apart by spaces):

    2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png GROUNDTRUTH.png 721.5377    BTS, Marigold
    2011_09_26/2011_09_26_drive_0002_sync 0000000069 l                                             monodepth2
    /kitchen_0028b/rgb_00045.jpg /kitchen_0028b/sync_depth_00045.png 518.8579                      BTS, GLPDepth
    bathroom/rgb_00045                                                                             any id of ours

or NYU's splits.mat. Lines whose ground truth is `None` name frames without annotated depth and are passed over. A
name may have more folders in front than the id, or fewer, as lists are written for one folder or another.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from sonde.datasets.contract import DepthSet
from sonde.datasets.nyu_labeled import read_parts
from sonde.datasets.rejects import Kept
from sonde.files import IMAGE_SUFFIXES, reading

REMEDY = "expected a text with one capture per line, or NYU's splits.mat"

SIDED = re.compile(r"(\S+_sync) (\d+) ([lr])")
"""monodepth2's lines: drive, frame, camera."""

Part = Literal["train", "test"]


def only(captures: DepthSet, list_file: Path, part: Part = "test") -> DepthSet:
    """The captures that a list names, in the set's own order; all else is the set's own.

    Args:
        captures: the whole set.
        list_file: the list.
        part: of a splits.mat, which holds both; other lists hold one.

    Raises:
        ValueError: no such list, one that names nothing, or one that names a capture which the set lacks.
    """
    names = listed_ids(list_file, part)
    found = _found(names, captures.ids)
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(
            f"{list_file} names {len(names)} captures, of which {len(missing)} are not in {captures.root}, first "
            f"{missing[0]!r}: fetch them, or give the list that belongs to this set."
        )
    chosen = set(found.values())
    if len(chosen) < len(names):
        raise ValueError(
            f"{list_file} names {len(names)} captures, which are only {len(chosen)} of {captures.root}: its names "
            "say more than the set's; open the folder that the list was written for."
        )
    return Kept(captures, [index for index, id_ in enumerate(captures.ids) if id_ in chosen])


def listed_ids(list_file: Path, part: Part = "test") -> list[str]:
    """The captures a list names, each once, in its order and as ids of ours: no suffix, no leading slash.

    Raises:
        ValueError: absent, unreadable, or naming none.
    """
    if list_file.suffix == ".mat":
        return [f"{number:04}" for number in read_parts(list_file)[part]]
    with reading(list_file, REMEDY):
        lines = list_file.read_text(encoding="utf-8").splitlines()
        names = [name for line in lines if line.strip() and (name := _id(line.strip())) is not None]
        if not names:
            raise ValueError("it names no capture with ground truth")
    return list(dict.fromkeys(names))


def _id(line: str) -> str | None:
    """The capture of one line; None where it has no ground truth."""
    image, *others = line.split()
    if sided := SIDED.fullmatch(line):
        camera = "image_02" if sided[3] == "l" else "image_03"
        return f"{sided[1]}/{camera}/{int(sided[2]):010}"
    if PurePosixPath(image).suffix.lower() not in IMAGE_SUFFIXES:
        return line
    if others[:1] == ["None"]:
        return None
    name = str(PurePosixPath(image).with_suffix("")).strip("/")
    return re.sub(r"(image_0[23])/data/", r"\1/", name)


def _found(names: Sequence[str], ids: Sequence[str]) -> dict[str, str]:
    """Name -> id for all that are found: the same, or one of them with more folders in front."""
    own = set(ids)
    tails: dict[str, list[str]] = {}
    for id_ in ids:
        for tail in _tails(id_):
            tails.setdefault(tail, []).append(id_)
    found: dict[str, str] = {}
    for name in names:
        shorter = next((tail for tail in _tails(name) if tail in own), None)
        longer = tails.get(name, [])
        if shorter is not None:
            found[name] = shorter
        elif len(longer) == 1:
            found[name] = longer[0]
    return found


def _tails(name: str) -> list[str]:
    """`a/b/c`, `b/c`, `c`."""
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]
