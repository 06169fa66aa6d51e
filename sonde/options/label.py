"""The options of `sonde label`, of `sonde.label` and of `labelling.plan`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sonde.options import Options, device_option, max_depth_option, option, precision_option
from sonde.spelling import shorten

SIZES = ("image", "network")
"""What `size` may name."""
MOST_IMAGES = 65_536
"""Images that are in memory together."""
MOST_WORKERS = 1024
"""Threads."""
MOST_LABELS = 10**12
"""Images of a job: more than there are in the world."""
LONGEST_JOB = 1_000_000
"""Hours: a century."""
LEAST_VIEW, MOST_VIEW = 0.25, 4.0
"""Sizes of the network's input, as shares of its usual one."""
LONGEST_SHARD = 40
"""Characters of i/n."""
DAY = 86_400
"""Seconds to measure at most."""


def parse_shard(text: str) -> tuple[int, int]:
    """(number of this shard, from 0; how many there are) of `i/n`.

    Raises:
        ValueError: a text that is not two whole numbers with a slash between them.
    """
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and len(text) < LONGEST_SHARD):
        raise ValueError(f"shard={shorten(text)!r}: expected i/n with i from 0 to n - 1, such as 0/8.")
    return int(number), int(count)


def parse_views(text: str) -> tuple[float, ...]:
    """The sizes in `0.75,1,1.25`, as shares of the usual one.

    Raises:
        ValueError: no numbers, or one that `check_view_sizes` refuses.
    """
    try:
        views = tuple(float(word) for word in text.split(","))
    except ValueError:
        views = (0.0,)
    check_view_sizes(views, text)
    return views


def parse_words(text: str) -> tuple[str, ...]:
    """The texts between commas, without what is empty."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def check_view_sizes(views: Sequence[int | float], given: object) -> None:
    """Refuse sizes outside LEAST_VIEW to MOST_VIEW; the message names what was `given`.

    Raises:
        ValueError: one sentence.
    """
    if not views or any(not LEAST_VIEW <= view <= MOST_VIEW for view in views):
        raise ValueError(
            f"views={shorten(given)!r}: expected sizes from {LEAST_VIEW:g} to {MOST_VIEW:g} times the usual one, such "
            "as 0.75,1,1.25."
        )


@dataclass(frozen=True)
class TeacherOptions(Options):
    """How the teacher predicts, and which images: what a job and the plan of a job share."""

    size: str = option(
        "image",
        "Size of the labels: image, or network, which costs less.",
        one_of=SIZES,
    )
    batch_size: int | None = option(
        None,
        "Images that the network sees at once; by default 8 on a GPU and 1 on a CPU, which is fastest there.",
        least=1,
        most=MOST_IMAGES,
    )
    confidence: bool = option(True, "Also predict each image mirrored, and record how well the two agree.")
    views: Sequence[int | float] | None = option(
        None,
        "Average each label over these sizes of the network's input, each also mirrored: 0.75,1,1.25. Then the "
        "confidence says how well they agree.",
        parse=parse_views,
    )
    also: Sequence[str] | None = option(
        None,
        "More teachers, a,b: each label is the mean of all. They must be relative, as the teacher.",
        parse=parse_words,
    )
    sources: Path | None = option(None, "A CSV file with the columns file and licence: the licence of each image.")
    leave_out: Sequence[str] | None = option(
        None,
        "With --sources: leave out the images whose licence holds one of these texts: GPL,no repo licence.",
        parse=parse_words,
    )
    workers: int | None = option(
        None,
        "Threads that decode and encode; by default one for each core.",
        least=1,
        most=MOST_WORKERS,
        python_only=True,
    )
    max_depth: int | float | None = max_depth_option()
    device: str = device_option()
    precision: str = precision_option()
    # No `runtime_option`: the labels of one model are to be the same bytes on every machine.
    runtime: str | None = option(
        None,
        "What runs the network: torch, onnx, openvino, or auto, the fastest that has it on this device; by default "
        "torch, and of an exported file the runtime that it is made for.",
        one_of=("auto", "torch", "onnx", "openvino"),
    )


@dataclass(frozen=True)
class LabelOptions(TeacherOptions):
    """How images are labelled, how the labels are stored, and which part of the work this machine does."""

    shard: tuple[int, int] = option(
        (0, 1),
        "i/n: this machine labels part i of n, with i from 0.",
        parse=parse_shard,
        shown="0/1",
    )
    engine: str = option("local", "local, or ray: Ray on this machine or on the cluster of RAY_ADDRESS.")
    format: str = option("png", "png: a file for each label; webdataset: tars.")
    licence: str | None = option(
        None, "Licence of the teacher's weights, for the manifest; by default the one its card names."
    )
    chunk: int = option(
        64, "Images that are labelled, or repeated, together.", least=1, most=MOST_IMAGES, python_only=True
    )


@dataclass(frozen=True)
class PlanOptions(TeacherOptions):
    """How much there is to label, in what time, and how long to measure."""

    total: int = option(62_000_000, "Images to label; the published set has 62 million.", least=1, most=MOST_LABELS)
    hours: int | float = option(7 * 24.0, "Time in which all must be labelled.", above=0, most=LONGEST_JOB)
    price_per_hour: int | float | None = option(
        None, "Price of one machine for an hour, in any currency.", least=0, most=MOST_LABELS
    )
    seconds: int | float = option(60.0, "How long to measure, after a start that does not count.", above=0, most=DAY)
