"""The lists by which papers score: a set reduced to exactly the captures that a file names.

    only(open_set("kitti", "data/kitti"), Path("eigen_test_files_with_gt.txt"))        652 of its 697 lines
    only(open_set("nyu_labeled", "data/nyu"), Path("data/nyu/splits.mat"))             the 654 of the test

A list is a text file with one capture per line, in any form that the field uses (columns are separated by spaces):

    2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png GROUNDTRUTH.png 721.5377    BTS, Marigold
    2011_09_26/2011_09_26_drive_0002_sync 0000000069 l                                             monodepth2
    /kitchen_0028b/rgb_00045.jpg /kitchen_0028b/sync_depth_00045.png 518.8579                      BTS, GLPDepth
    bathroom/rgb_00045                                                                             any id of sonde

or NYU's splits.mat. Lines whose ground truth is `None` name frames without annotated depth and are skipped. A name may
have more or fewer leading folders than the id, because lists are written for different root folders.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from sonde.datasets.contract import DepthSet
from sonde.datasets.nyu_labeled import read_parts
from sonde.datasets.rejects import DepthSubset
from sonde.files import IMAGE_SUFFIXES, read_text, reading
from sonde.ids import check_id
from sonde.renamed import keep_old_names
from sonde.spelling import quantify, shorten

REMEDY = "expected a text with one capture per line, or NYU's splits.mat"

SIDED = re.compile(r"(\S+_sync) (\d+) ([lr])")
"""A line of monodepth2: drive, frame, camera."""

Part = Literal["train", "test"]


def keep_listed(captures: DepthSet, list_file: Path, part: Part = "test") -> DepthSet:
    """The captures that a list names, in the order of the set.

    Args:
        captures: the whole set.
        list_file: the list.
        part: which part of a splits.mat; other lists hold one part.

    Raises:
        ValueError: no such list, a list that names nothing, or one that names a capture that the set does not have.
    """
    names = read_listed_ids(list_file, part)
    found = _match_names(names, captures.ids)
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(
            f"{list_file} names {quantify(len(names), 'capture')}; {len(missing)} of them "
            f"{'is' if len(missing) == 1 else 'are'} not in {captures.root}, first "
            f"{shorten(missing[0])!r}: download them, or give the list that belongs to this set."
        )
    chosen = set(found.values())
    if len(chosen) < len(names):
        raise ValueError(
            f"{list_file} names {quantify(len(names), 'capture')}, which match only "
            f"{quantify(len(chosen), 'capture')} of {captures.root}: the "
            "ids of the set are less specific; open the folder for which the list was written."
        )
    return DepthSubset(captures, [index for index, id_ in enumerate(captures.ids) if id_ in chosen])


def read_listed_ids(list_file: Path, part: Part = "test") -> list[str]:
    """The captures that a list names, each once, in its order, as ids of sonde: no suffix, no leading slash.

    Raises:
        ValueError: the list is missing, cannot be read or names no capture.
    """
    if list_file.suffix == ".mat":
        return [f"{number:04}" for number in read_parts(list_file)[part]]
    with reading(list_file, REMEDY):
        lines = [line.strip() for line in read_text(list_file).split("\n")]
        parsed = [(number, _parse_line(line)) for number, line in enumerate(lines, 1) if line]
        names = [_check_name(number, name) for number, name in parsed if name is not None]
        if not names:
            raise ValueError("it names no capture with ground truth")
    return list(dict.fromkeys(names))


def _check_name(number: int, name: str) -> str:
    try:
        return check_id(name.removeprefix("./"))
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None


def _parse_line(line: str) -> str | None:
    """The capture of one line; None if it has no ground truth."""
    image, *others = line.split()
    sided = SIDED.fullmatch(line)
    if sided:
        camera = "image_02" if sided[3] == "l" else "image_03"
        return f"{sided[1]}/{camera}/{int(sided[2]):010}"
    if PurePosixPath(image).suffix.lower() not in IMAGE_SUFFIXES:
        return line
    if others[:1] == ["None"]:
        return None
    name = str(PurePosixPath(image).with_suffix("")).strip("/")
    return re.sub(r"(image_0[23])/data/", r"\1/", name)


def _match_names(names: Sequence[str], ids: Sequence[str]) -> dict[str, str]:
    """Name -> id for every name that is found: the two are equal, or one has more leading folders."""
    own = set(ids)
    tails: dict[str, list[str]] = {}
    for id_ in ids:
        for tail in _list_tails(id_):
            tails.setdefault(tail, []).append(id_)
    found: dict[str, str] = {}
    for name in names:
        shorter = next((tail for tail in _list_tails(name) if tail in own), None)
        longer = tails.get(name, [])
        if shorter is not None:
            found[name] = shorter
        elif len(longer) == 1:
            found[name] = longer[0]
    return found


def _list_tails(name: str) -> list[str]:
    """`a/b/c`, `b/c`, `c`."""
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


keep_old_names(__name__, {"listed_ids": "read_listed_ids", "only": "keep_listed"})
