"""What a file of a capture is, by its name and its header: its photograph, its depth map, or what lies beside them."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from io import BufferedReader

from PIL import Image
from PIL.ContainerIO import ContainerIO

from sonde.files.safely import FAULTS

COLOUR = r"rgb|colou?r|image|img"
"""Words of a name that say: the photograph."""
DEPTH = r"depth|depthmap|rawdepth|disparity|disp"
"""Words that say: the depth map."""
BESIDE = r"left|sync|raw|xyz|cloud"
"""Words that say neither, and not which capture it is."""

ROLE = re.compile(rf"(?:^|(?<=[_\-.]))(?:{COLOUR}|{DEPTH}|{BESIDE})(?=[_\-.]|$)", re.IGNORECASE)
"""The part of a name that says what a file is, not which capture it belongs to."""

BEGIN, END = r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))", r"(?:(?![A-Za-z])|(?=[A-Z][a-z]))"
"""Where a word begins and ends: at what is no letter, and at the capital of rawDepth."""
SAYS_COLOUR = re.compile(rf"{BEGIN}(?i:(?:{COLOUR}|photo)s?){END}")
SAYS_DEPTH = re.compile(rf"{BEGIN}(?i:disparities|(?:{DEPTH})s?(?:[_\-. ]?maps?)?){END}")
SAYS_BESIDE = re.compile(rf"{BEGIN}(?i:{BESIDE}){END}")

DEEP_SUFFIXES = (".png", ".tif", ".tiff")
"""Of the formats a folder of images may hold, those with more than 8 bits a channel."""
PNG = b"\x89PNG\r\n\x1a\n"
READERS, TOGETHER = 16, 256
"""Threads that look at headers, which wait for their disk most of the time; and how many each looks at in one go."""

DEEP = "one channel of 16 bits or more"
PAIRED = "its name says depth, and beside it lies a picture of that name"
GREY = "its name says depth, and it is grey"
NOTHING = "its name says depth, and it is no picture"


def says_depth(name: str) -> bool:
    """Whether a whole word of a name is depth, disparity …: sync_depth_00012, 0001depth, rawDepth; not indepth."""
    return SAYS_DEPTH.search(name) is not None


def without_role(name: str) -> str:
    """A path below a folder without the words of its last part that say what it is: X of X_color and X_rawDepth."""
    folder, slash, last = name.rpartition("/")
    for words in (SAYS_DEPTH, SAYS_COLOUR, SAYS_BESIDE):
        last = words.sub("", last)
    return folder + slash + last.strip("_-. ")


def mode_of(file: BufferedReader | ContainerIO) -> str:
    """What an image's header says of its pixels, in Pillow's words: `L`, `RGB`, `I;16`, `F` …; empty for no image."""
    head = file.read(26)
    if head[:8] == PNG and len(head) == 26:  # by far the most frequent, and Pillow takes ten times as long
        bits, kind = head[24:]
        return ("I;16" if bits == 16 else "L") if kind == 0 else "LA" if kind == 4 else "RGB"
    file.seek(0)
    try:
        with Image.open(file) as image:
            return image.mode
    except FAULTS:
        return ""


def depth_maps(names: Sequence[str], mode: Callable[[int], str]) -> dict[int, str]:
    """Which images are depth maps, and why: in the order of their names.

    A depth map has one channel of 16 bits or more, whatever its name; or a word of its name says depth, and it is grey
    or a picture of the same name lies in the set (rgb_00012.jpg, sync_depth_00012.png; rgb/0001.jpg, depth/0001.png).
    A colour picture whose name says depth and which has no partner is a photograph: in_depth_story.jpg.

    Args:
        names: paths below one folder, with `/`. Folders say depth too; the last word counts: nyu_depth/rgb/0001.png is
            a photograph's name.
        mode: `mode_of` the image of this index. Asked of PNG and TIFF, and of names that say depth without a partner.
    """
    lower = [name.lower() for name in names]
    likely = [index for index, name in enumerate(lower) if "dep" in name or "disp" in name]  # spares the rest a search
    says = {index: place for index in likely if (place := _place(names[index])) is not None}
    found = dict.fromkeys(_with_partners(names, says), PAIRED)
    deep = {index for index, name in enumerate(lower) if name.endswith(DEEP_SUFFIXES)}
    unsure = sorted((deep | set(says)) - set(found))
    for index, seen in zip(unsure, _each(mode, unsure), strict=True):
        if seen[:1] in ("I", "F"):
            found[index] = DEEP
        elif index in says and seen in ("1", "L", "LA", ""):
            found[index] = GREY if seen else NOTHING
    return dict(sorted(found.items()))


def _each(mode: Callable[[int], str], indices: list[int]) -> list[str]:
    """The mode of each, by threads."""
    parts = [indices[start : start + TOGETHER] for start in range(0, len(indices), TOGETHER)]
    with ThreadPoolExecutor(READERS) as pool:
        return [seen for part in pool.map(lambda part: [mode(index) for index in part], parts) for seen in part]


def _place(name: str) -> int | None:
    """Which part of a path says depth, folders first from 0; None where none does, or a later one says colour."""
    folder, _, last = name.rpartition("/")
    stem = last.rpartition(".")[0] or last
    if says_depth(stem):
        return name.count("/")
    return None if _colour_alone(stem) else _folder_place(folder)


@lru_cache(1 << 16)
def _folder_place(folder: str) -> int | None:
    for place, part in reversed(list(enumerate(folder.split("/")))):
        if says_depth(part):
            return place
        if _colour_alone(part):
            return None
    return None


def _colour_alone(part: str) -> bool:
    """Whether all words of a name say colour: rgb_00012, image_02, images."""
    rest, count = SAYS_COLOUR.subn("", part)
    return count > 0 and not any(letter.isalpha() for letter in rest)


def _with_partners(names: Sequence[str], says: dict[int, int]) -> Iterable[int]:
    """Those that say depth in a place where another path, else alike, does not."""
    groups: dict[tuple[int, int], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, place in says.items():
        groups[place, names[index].count("/")][_capture(names[index], place)].append(index)
    for (place, depth), wanted in groups.items():
        for index, name in enumerate(names):
            if name.count("/") == depth and says.get(index, -1) < place:
                yield from wanted.pop(_capture(name, place), ())


def _capture(name: str, place: int) -> str:
    """A path without words of roles, and without its folder at `place` if that is one: alike for all of a capture."""
    *folders, last = name.split("/")
    stem = last.rpartition(".")[0] or last
    return "/".join([*("" if place == k else _bare(part) for k, part in enumerate(folders)), _bare(stem)])


@lru_cache(1 << 16)
def _bare(part: str) -> str:
    for words in (SAYS_DEPTH, SAYS_COLOUR, SAYS_BESIDE):
        part = words.sub("", part)
    return re.sub(r"[^0-9A-Za-z]+", "_", part).strip("_").lower()
