"""Which image belongs to which depth map: by name, by name without its role, by a pattern's `*`, or by time stamp."""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import partial
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import NamedTuple

from sonde.datasets.pairs import ImageDepthPair, Pairs, match_pairs, pair_by_name, strip_roles
from sonde.files.roles import strip_role

NUMBER = re.compile(r"\d+(?:\.\d+)?")
SIGNS = re.compile(r"\*+|\?|\[[^\]]+\]")
"""What stands for other characters in a pattern: `*`, `?` and `[ab]`."""

Named = Mapping[str, Path]
"""Files by their relative path without suffix."""


class Stamp(NamedTuple):
    """The time stamp of a file, in order of time."""

    time: Decimal
    is_depth: bool
    name: str


def match_files(images: Named, depths: Named, image_pattern: str = "", depth_pattern: str = "") -> Pairs:
    """Pairs of equal names; or else of equal names without role words; or else of equal parts for a pattern's `*`.

    Args:
        images: image files.
        depths: depth files.
        image_pattern: the pattern of names that found the images; empty if none did.
        depth_pattern: likewise.

    Raises:
        ValueError: two files have one name without role words, and no other way finds pairs.
    """
    pairs, problems = match_pairs(images, depths)
    unclear: ValueError | None = None
    for strip in (strip_roles, partial(strip_roles, strip=strip_role)):
        if pairs:
            return pairs, problems
        try:
            pairs, problems = match_pairs(strip(images), strip(depths))
        except ValueError as error:
            unclear = unclear or error
    if not pairs and "*" in image_pattern and "*" in depth_pattern:
        pairs, problems = _match_parts(images.values(), image_pattern, depths.values(), depth_pattern)
    if not pairs and unclear is not None:
        raise unclear
    return pairs, problems


def match_times(images: Named, depths: Named, limit: int | float) -> Pairs:
    """Pairs of the nearest time stamps, one to one, and a line for each file left over.

    The stamp is the number in a file's stem; of several, the one with most digits. As in TUM's associate.py, the pair
    of smallest difference is taken first, and each file once. Files pair within one relative folder.

    Args:
        images: image files; a pair is named after its image.
        depths: depth files.
        limit: the largest difference, in the unit of the stamps: seconds in TUM.
    """
    stamps: dict[str, list[Stamp]] = {}
    problems = []
    for is_depth, files in ((False, images), (True, depths)):
        for name, path in files.items():
            time = read_stamp(name)
            if time is None:
                problems.append(
                    f"{path} has no time stamp: expected one number in its name, such as 1305031102.175304."
                )
            else:
                stamps.setdefault(name.rpartition("/")[0], []).append(Stamp(time, is_depth, name))
    partners: dict[str, str] = {}
    for group in stamps.values():
        partners |= _associate(sorted(group), Decimal(repr(limit)))
    pairs = [ImageDepthPair(name, images[name], depths[partners[name]]) for name in sorted(partners)]
    used = set(partners.values())
    timed = {(stamp.is_depth, stamp.name) for group in stamps.values() for stamp in group}
    lone = [path for name, path in images.items() if name not in partners and (False, name) in timed]
    lone += [path for name, path in depths.items() if name not in used and (True, name) in timed]
    return pairs, problems + [f"{path} has no partner whose time stamp differs by {limit:g} or less." for path in lone]


def read_stamp(name: str) -> Decimal | None:
    """The number in the last part of a path without suffix; of several, the longest; None without a clear one."""
    numbers = sorted(NUMBER.findall(name.rpartition("/")[2]), key=len)
    if not numbers or (len(numbers) > 1 and len(numbers[-1]) == len(numbers[-2])):
        return None
    return Decimal(numbers[-1])


def is_stamped(names: Iterable[str]) -> bool:
    """Whether every name holds a time stamp, a number with a point or of ten digits and more."""
    stamps = [read_stamp(name) for name in names]
    return bool(stamps) and all(stamp is not None and (stamp % 1 or stamp >= 10**9) for stamp in stamps)


def _associate(stamps: list[Stamp], limit: Decimal) -> dict[str, str]:
    """Image -> depth map, the smallest difference first, each once; of stamps in order of time."""
    after = [*range(1, len(stamps)), -1]
    before = list(range(-1, len(stamps) - 1))
    found: dict[str, str] = {}
    taken: set[int] = set()

    def difference(one: int, other: int) -> tuple[Decimal, int, int]:
        return stamps[other].time - stamps[one].time, one, other

    # The nearest of all pairs are always neighbours in time: what lies between them would be nearer to one of them.
    near = [difference(one, other) for one, other in enumerate(after[:-1])]
    heapify(near)
    while near:
        apart, one, other = heappop(near)
        if apart > limit:
            break
        if one in taken or other in taken or stamps[one].is_depth == stamps[other].is_depth:
            continue
        image, depth = (other, one) if stamps[one].is_depth else (one, other)
        found[stamps[image].name] = stamps[depth].name
        taken |= {one, other}
        left, right = before[one], after[other]
        if left >= 0:
            after[left] = right
        if right >= 0:
            before[right] = left
        if left >= 0 and right >= 0:
            heappush(near, difference(left, right))
    return found


def _match_parts(images: Iterable[Path], image_pattern: str, depths: Iterable[Path], depth_pattern: str) -> Pairs:
    """Pairs of files whose names have the same parts where their patterns have `*`."""
    kinds = ((image_pattern, set(images)), (depth_pattern, set(depths)))
    parts = {path: _find_part(path.name, _compile(pattern)) for pattern, paths in kinds for path in paths}
    return pair_by_name(kinds[0][1], kinds[1][1], parts.__getitem__)


def _compile(pattern: str) -> re.Pattern[str]:
    """A pattern of names as an expression with a group for each `*`, `?` or `[ab]`."""
    texts = [re.escape(text) for text in SIGNS.split(pattern)]
    groups = [*map(_make_group, SIGNS.findall(pattern)), ""]
    return re.compile("".join(text + group for text, group in zip(texts, groups, strict=True)), re.DOTALL)


def _make_group(sign: str) -> str:
    if sign[0] == "*":
        return "(.*)"
    if sign == "?":
        return "(.)"
    inner = sign[1:-1].replace("\\", "\\\\")
    return f"([^{inner[1:]}])" if inner[0] == "!" and inner[1:] else f"([{inner}])"


def _find_part(name: str, pattern: re.Pattern[str]) -> str:
    """What the signs of a pattern stand for in a name; the whole name if it does not fit."""
    found = pattern.fullmatch(name)
    return name if found is None else "_".join(part for part in found.groups() if part) or name
