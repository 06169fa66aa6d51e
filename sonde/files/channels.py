"""Which channel of a file that holds several is the depth: of an EXR by its name, of an .npz by its name and shape."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sonde.spelling import shorten

Shape = tuple[int, ...]

MOST_LISTED = 100
"""Channels that a message lists."""
NEVER = 9
"""The rank of a channel that cannot be the depth."""


class UnclearChannel(Exception):
    """No channel, or more than one, can be the depth; or the one that was asked for is not there."""

    def __init__(self, what: str, names: Iterable[str], asked: str | None) -> None:
        names = list(names)
        listed = ", ".join(shorten(name, 80) for name in names[:MOST_LISTED])
        more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
        fault = "which of them is the depth is not clear"
        if asked is not None:
            fault = f"{shorten(repr(asked), 80)} fits none of them, or several"
        super().__init__(
            f"holds the {what} {listed or '(none)'}{more}, and {fault}: name one with depth_channel in dataset.json, "
            "--depth-channel of `sonde data convert`, or channel of read_depth."
        )


def find_depth_channel(names: Sequence[str], asked: str | None = None) -> str:
    """The depth channel of an EXR: that of a layer named depth, or Z, or the only channel.

    Args:
        names: LAYER.CHANNEL, with the name of the part in front where there are several parts.
        asked: the name of the channel; its last parts are enough where only one channel has them.

    Raises:
        UnclearChannel: no channel fits, or several fit equally well.
    """
    if asked is not None:
        found = [name for name in names if name == asked] or [name for name in names if name.endswith(f".{asked}")]
    elif len(names) == 1:
        found = list(names)
    else:
        layers: dict[str, set[str]] = defaultdict(set)
        for name in names:
            layer, _, last = name.lower().rpartition(".")
            layers[layer].add(last)
        ranks = {name: rank_channel(name, layers) for name in names}
        best = min(ranks.values(), default=NEVER)
        found = [name for name, rank in ranks.items() if rank == best < NEVER]
    if len(found) != 1:
        raise UnclearChannel("channels", names, asked)
    return found[0]


def rank_channel(name: str, layers: Mapping[str, set[str]]) -> int:
    """How well the name of a channel says that it is depth: 0 is best, `NEVER` is not at all.

    Args:
        name: LAYER.CHANNEL.
        layers: the channels of each layer, in lower case.
    """
    layer, _, last = name.lower().rpartition(".")
    inner, beside = layer.rpartition(".")[2], layers[layer]
    vector = {"x", "y"} <= beside  # of a normal, a motion or a position, whose Z is no depth
    alone = last in ("z", "v", "y", "depth") or len(beside) == 1
    if (inner == "depth" and alone and not vector) or last == "depth" or (name in ("Z", "z") and not vector):
        return 0
    if ("depth" in inner and alone and not vector) or "depth" in last:
        return 1
    if last == "z" and not vector and inner != "mist":
        return 2
    grey = name in ("Y", "y") and not beside & {"x", "ry", "by"}
    if grey or (name in ("V", "v") and "u" not in beside):
        return 3 if grey else 4
    return NEVER


def find_depth_array(shapes: Mapping[str, Shape], asked: str | None = None) -> str:
    """The depth map of an .npz: the array named depth or z, the one whose name has depth in it, or the only map.

    Args:
        shapes: the shape of each array of numbers.
        asked: the name of the array.

    Raises:
        UnclearChannel: no array fits, or several fit equally well.
    """
    maps = [name for name, shape in shapes.items() if is_map(shape)]
    if asked is not None:
        choices = [[name for name in shapes if name == asked]]
    else:
        exact = [[name for name in maps if name.lower() == known] for known in ("depth", "z")]
        choices = [*exact, [name for name in maps if "depth" in name.lower()], maps]
    found = next((names for names in choices if names), [])
    if len(found) != 1:
        raise UnclearChannel("arrays", (f"{name} {shape}" for name, shape in shapes.items()), asked)
    return found[0]


def is_map(shape: Shape) -> bool:
    """Whether an array of this shape is one map: (h, w), (h, w, 1) or (1, h, w)."""
    return len(shape) == 2 or (len(shape) == 3 and 1 in (shape[0], shape[2]))
