"""Recognise the role of a file by its name and its header: photograph, depth map, or anything else of a capture."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from io import BufferedReader

from PIL import Image
from PIL.ContainerIO import ContainerIO

from sonde.files.heif import prepare_heif
from sonde.files.safely import FAULTS, hearing
from sonde.renamed import keep_old_names

COLOUR = r"rgb|colou?r|image|img"
"""Words in the name of a photograph."""
DEPTH = r"depth|depthmap|rawdepth|disparity|disp"
"""Words in the name of a depth map."""
BESIDE = r"left|sync|raw|xyz|cloud"
"""Words that identify neither the role nor the capture."""

ROLE = re.compile(rf"(?:^|(?<=[_\-.]))(?:(?:{COLOUR}|photo|{DEPTH})s?|disparities|{BESIDE})(?=[_\-.]|$)", re.IGNORECASE)
"""The part of a name that states the role of a file, not its capture."""

BEGIN, END = r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))", r"(?:(?![A-Za-z])|(?=[A-Z][a-z]))"
"""Where a word begins and ends: at a character that is not a letter, and at a capital as in rawDepth."""
SAYS_COLOUR = re.compile(rf"{BEGIN}(?i:(?:{COLOUR}|photo)s?){END}")
SAYS_DEPTH = re.compile(rf"{BEGIN}(?i:disparities|(?:{DEPTH})s?(?:[_\-. ]?maps?)?){END}")
SAYS_BESIDE = re.compile(rf"{BEGIN}(?i:{BESIDE}){END}")

DEEP_SUFFIXES = (".png", ".tif", ".tiff")
"""Image formats that can hold more than 8 bits per channel."""
PNG = b"\x89PNG\r\n\x1a\n"
READERS, TOGETHER = 16, 256
"""Number of threads that read headers, since each waits for the disk most of the time; and headers per task."""

DEEP = "one channel of 16 bits or more"
PAIRED = "its name says depth, and beside it lies a picture of that name"
GREY = "its name says depth, and it is grey"
NOTHING = "its name says depth, and it is no picture"


def says_depth(name: str) -> bool:
    """Whether one word of a name is depth, disparity …: sync_depth_00012, 0001depth, rawDepth; but not indepth."""
    return SAYS_DEPTH.search(name) is not None


def strip_role(name: str) -> str:
    """A relative path without the role words of its last part: X for X_color and for X_rawDepth."""
    folder, slash, last = name.rpartition("/")
    for words in (SAYS_DEPTH, SAYS_COLOUR, SAYS_BESIDE):
        last = words.sub("", last)
    return folder + slash + last.strip("_-. ")


def read_mode(file: BufferedReader | ContainerIO) -> str:
    """Pillow's mode of an image, from its header: `L`, `RGB`, `I;16`, `F` …; empty if it is not an image."""
    head = file.read(26)
    # PNG is by far the most frequent format, and Pillow takes ten times as long as these lines.
    if head[:8] == PNG and len(head) == 26:
        bits, kind = head[24:]
        if kind == 0:
            return "I;16" if bits == 16 else "L"
        return "LA" if kind == 4 else "RGB"
    file.seek(0)
    try:
        prepare_heif(head)
        with hearing(), Image.open(file) as image:
            return image.mode
    except FAULTS:
        return ""


def find_depth_maps(names: Sequence[str], mode: Callable[[int], str]) -> dict[int, str]:
    """Index -> reason for each image that is a depth map, in the order of `names`.

    An image with one channel of 16 bits or more is a depth map, whatever its name. So is an image whose name has the
    word depth, if it is grey or if the set holds an image of the same name without that word (rgb_00012.jpg and
    sync_depth_00012.png; rgb/0001.jpg and depth/0001.png). A colour image whose name says depth and that has no such
    partner is a photograph: in_depth_story.jpg.

    Args:
        names: paths below one folder, with `/`. Folder names count too, and the last word decides:
            nyu_depth/rgb/0001.png is the name of a photograph.
        mode: index -> `read_mode` of that image. Called for PNG and TIFF, and for names that say depth without a
            partner.
    """
    lower = [name.lower() for name in names]
    # Most names hold neither syllable: this test is cheap and spares them the regular expressions.
    likely = [index for index, name in enumerate(lower) if "dep" in name or "disp" in name]
    places = {index: _find_place(names[index]) for index in likely}
    says = {index: place for index, place in places.items() if place is not None}
    found = dict.fromkeys(_find_partnered(names, says), PAIRED)
    deep = {index for index, name in enumerate(lower) if name.endswith(DEEP_SUFFIXES)}
    unsure = sorted((deep | set(says)) - set(found))
    for index, pixels in zip(unsure, _read_modes(mode, unsure), strict=True):
        if pixels[:1] in ("I", "F"):
            found[index] = DEEP
        elif index in says and pixels in ("1", "L", "LA", ""):
            found[index] = GREY if pixels else NOTHING
    return dict(sorted(found.items()))


def _read_modes(mode: Callable[[int], str], indices: list[int]) -> list[str]:
    """The mode of each image, read by several threads."""
    parts = [indices[start : start + TOGETHER] for start in range(0, len(indices), TOGETHER)]
    with ThreadPoolExecutor(READERS) as pool:
        modes = pool.map(lambda part: [mode(index) for index in part], parts)
        return [pixels for part in modes for pixels in part]


def _find_place(name: str) -> int | None:
    """Position, from 0, of the path's part that says depth; None if there is none or a later part says colour."""
    folder, _, last = name.rpartition("/")
    stem = last.rpartition(".")[0] or last  # a hidden file has no suffix
    if says_depth(stem):
        return name.count("/")
    return None if _says_only_colour(stem) else _find_folder_place(folder)


@lru_cache(1 << 16)
def _find_folder_place(folder: str) -> int | None:
    for place, part in reversed(list(enumerate(folder.split("/")))):
        if says_depth(part):
            return place
        if _says_only_colour(part):
            return None
    return None


def _says_only_colour(part: str) -> bool:
    """Whether every word of a name says colour: rgb_00012, image_02, images."""
    rest, count = SAYS_COLOUR.subn("", part)
    return count > 0 and not any(letter.isalpha() for letter in rest)


def _find_partnered(names: Sequence[str], says: dict[int, int]) -> Iterable[int]:
    """Images that say depth at a position where another path, equal otherwise, does not."""
    groups: dict[tuple[int, int], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, place in says.items():
        groups[place, names[index].count("/")][_strip_path(names[index], place)].append(index)
    for (place, depth), wanted in groups.items():
        for index, name in enumerate(names):
            if name.count("/") == depth and says.get(index, -1) < place:
                yield from wanted.pop(_strip_path(name, place), ())


def _strip_path(name: str, place: int) -> str:
    """A path without role words, and without the folder at `place`: equal for all files of one capture."""
    *folders, last = name.split("/")
    stem = last.rpartition(".")[0] or last
    bare = ["" if place == number else _strip_part(part) for number, part in enumerate(folders)]
    return "/".join([*bare, _strip_part(stem)])


@lru_cache(1 << 16)
def _strip_part(part: str) -> str:
    for words in (SAYS_DEPTH, SAYS_COLOUR, SAYS_BESIDE):
        part = words.sub("", part)
    return re.sub(r"[^0-9A-Za-z]+", "_", part).strip("_").lower()


keep_old_names(__name__, {"depth_maps": "find_depth_maps", "mode_of": "read_mode", "without_role": "strip_role"})
