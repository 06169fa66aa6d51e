"""The bounds of a recipe's numbers and words: what no machine can take and no run needs is refused before work."""

from collections.abc import Callable, Iterator, Mapping
from math import isfinite, isnan
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, GetPydanticSchema, WrapValidator, with_config
from typing_extensions import TypedDict

from sonde.spelling import shorten

LONGEST_SIDE = 16_384
"""Pixels of a side."""
MOST_PIXELS = 1 << 24
"""Pixels of the input of a network, such as 4,096 x 4,096: twice a picture of 4K."""
MOST_RENDER_PIXELS = 1 << 23
"""Pixels of a render: a picture of 4K. Each takes about 400 bytes while its rays are traced."""
MOST_RENDERS = 1_000_000
"""Renders of one set: the synthetic sets that teachers are trained on have half as many."""
MOST_REPEATS = 1000
"""Times that an epoch may show a capture."""
MOST_STEPS = 10_000_000
"""Steps of a run: the longest that is published has less than a tenth of them."""
MOST_BATCH = 65_536
"""Images of a batch."""
MOST_WORKERS = 1024
"""Processes that read data."""
MOST_BLOCKS = 100
"""Attention blocks of a stage: the deepest that is published has 40."""
MOST_RANK = 4096
"""Rank of an adapter: more than the width of any layer that it is for."""
LARGEST_ALPHA = 1_000_000
"""Scale of an adapter."""
LARGEST_SEED = 2**32 - 1
"""NumPy takes no larger one."""
LARGEST_CHANGE = 100
"""Pixels of a blur, and the factor of an aspect ratio."""
LONGEST_WORD = 4096
"""Characters of a text: the longest path of Linux has as many bytes."""
DEEPEST = 20
"""Levels of sections, objects and lists."""
MOST_REFERENCES = 20
"""References such as ${seed}. Twenty that repeat one another make at most some thousands of copies."""


Path = tuple[str, ...]
"""The keys and numbers that lead to a value."""


def check_values(fields: Mapping[str, object]) -> None:
    """Check each value of a recipe that is not validated yet, those of other libraries' keys too.

    Raises:
        ValueError: a text that is too long, a number that is no number or needs more than 64 bits, or sections within
            sections without end; the message names the key.
    """
    for path, value in walk_values(fields):
        if isinstance(value, str) and len(value) > LONGEST_WORD:
            raise ValueError(
                f"{write_key(path)}: {shorten(value, 80)} has {len(value):,} characters, more than {LONGEST_WORD:,}."
            )
        if isinstance(value, int) and value.bit_length() > 63:
            raise ValueError(f"{write_key(path)}: a number of {value.bit_length():,} bits; expected at most 63.")
        if isinstance(value, float) and not _is_allowed(value, path):
            raise ValueError(f"{write_key(path)}: {value} is not a finite number.")


def walk_values(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every value that is neither object nor list, with the path of its key.

    Raises:
        ValueError: more than `DEEPEST` levels; the message names the key.
    """
    if len(path) > DEEPEST:
        raise ValueError(f"{write_key(path[:3])}: it is nested more than {DEEPEST} levels deep.")
    if isinstance(value, Mapping | list | tuple):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from walk_values(inner, (*path, str(key)))
    else:
        yield path, value


def write_key(path: Path) -> str:
    """The key as it is typed, such as data.split.test."""
    return ".".join(shorten(part, 60) for part in path)


def _is_allowed(number: float, path: Path) -> bool:
    """Whether a number may stand at a key; the schema checks those of its own sections further."""
    if path[:1] in (("train",), ("lora",)) and path != ("train", "max_grad_norm"):
        return isfinite(number)
    return not isnan(number)


def _check_pixels(most: int) -> Callable[[tuple[int, int]], tuple[int, int]]:
    def check(size: tuple[int, int]) -> tuple[int, int]:
        if size[0] * size[1] > most:
            raise ValueError(f"{size[0]} x {size[1]} are {size[0] * size[1]:,} pixels; expected at most {most:,}")
        return size

    return check


def _check_most(most: int) -> Callable[[object], object]:
    """Refuse a number above a bound; what is no number is left to the library that reads it."""

    def check(value: object) -> object:
        if isinstance(value, int | float) and value > most:
            raise ValueError(f"{value} is too many; expected at most {most:,}")
        return value

    return check


def _refuse_nan(number: float) -> float:
    if isnan(number):
        raise ValueError("nan is no number")
    return number


def _keep_order(given: Any, check: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """The checked keys in the order in which they are written, which is that of the run's own recipe."""
    found = check(given)
    return {key: found[key] for key in given}


def _check_as(keys: type) -> GetPydanticSchema:
    """Validate a section as `keys` say, while its type stays a dict: it goes to another library as keywords."""
    return GetPydanticSchema(lambda source, handler: handler(keys))


Side = Annotated[int, Field(ge=1, le=LONGEST_SIDE)]
"""Pixels."""
InputSide = Annotated[int, Field(le=LONGEST_SIDE)]
"""Pixels; the network, which knows its multiple, names the nearest side for one that is too small."""
InputSize = Annotated[tuple[InputSide, InputSide], AfterValidator(_check_pixels(MOST_PIXELS))]
"""(height, width) of a network's input, pixels."""
RenderSize = Annotated[tuple[Side, Side], AfterValidator(_check_pixels(MOST_RENDER_PIXELS))]
"""(height, width) of a render, pixels."""
RenderCount = Annotated[int, Field(ge=1, le=MOST_RENDERS)]
"""Renders of one family."""
Limit = Annotated[float, Field(allow_inf_nan=True), AfterValidator(_refuse_nan)]
"""A number that may be infinite, which means no limit."""
Blocks = Annotated[int, Field(ge=1, le=MOST_BLOCKS)]
"""Attention blocks of a stage."""
Seed = Annotated[int, Field(ge=0)]
"""A seed of NumPy's generators."""
Rank = Annotated[int, Field(ge=1, le=MOST_RANK)]
"""Rank of an adapter."""


@with_config(ConfigDict(extra="allow"))
class LoraKeys(TypedDict, total=False):
    """The numbers of `peft.LoraConfig`; its other keys are left to peft."""

    r: Rank
    lora_alpha: Annotated[int | float, Field(ge=0, le=LARGEST_ALPHA)]
    lora_dropout: Annotated[int | float, Field(ge=0, lt=1)]
    rank_pattern: dict[str, Rank] | None


@with_config(ConfigDict(extra="allow"))
class TrainKeys(TypedDict, total=False):
    """The keys of `transformers.TrainingArguments` that would take a machine down; its others are left to it."""

    max_steps: Annotated[Any, AfterValidator(_check_most(MOST_STEPS))]
    num_train_epochs: Annotated[Any, AfterValidator(_check_most(MOST_STEPS))]
    per_device_train_batch_size: Annotated[Any, AfterValidator(_check_most(MOST_BATCH))]
    per_device_eval_batch_size: Annotated[Any, AfterValidator(_check_most(MOST_BATCH))]
    gradient_accumulation_steps: Annotated[Any, AfterValidator(_check_most(MOST_BATCH))]
    dataloader_num_workers: Annotated[int, Field(ge=0, le=MOST_WORKERS)]
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)]
    data_seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] | None
    report_to: str | list[str] | None
    dataloader_prefetch_factor: Annotated[int, Field(ge=1, le=MOST_WORKERS)] | None


LoraSettings = Annotated[dict[str, Any], _check_as(LoraKeys), WrapValidator(_keep_order)]
"""The section `lora`."""
TrainSettings = Annotated[dict[str, Any], _check_as(TrainKeys), WrapValidator(_keep_order)]
"""The section `train`."""
