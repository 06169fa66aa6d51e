"""The options of `sonde predict` and `sonde.predict`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sonde.options import (
    Options,
    batch_size_option,
    device_option,
    max_depth_option,
    option,
    precision_option,
    runtime_option,
)
from sonde.units import UNITS


@runtime_checkable
class ArrayLike(Protocol):
    """A NumPy array, or what NumPy reads as one; `--help` does not wait for the import of NumPy."""

    def __array__(self) -> object:
        """The array."""
        ...


def parse_names(text: str) -> tuple[str, ...]:
    """The names in `png16, npy`."""
    return tuple(name.strip() for name in text.split(","))


def keep_text(text: str) -> str | None:
    """The text as it is, for `prediction.parse_intrinsics`, which needs NumPy; None for an empty one."""
    return text or None


@dataclass(frozen=True)
class PredictOptions(Options):
    """What is written for each image, and what is known of its camera."""

    save: Sequence[str] = option(
        ("png16", "preview"),
        "Any of png16,npy,preview,relief,ply,glb.",
        parse=parse_names,
        shown="png16,preview",
    )
    intrinsics: str | Sequence[float] | ArrayLike | None = option(
        None,
        "fx,fy,cx,cy in pixels of the image, or a file of the (3, 3) matrix: for point clouds and for models with a "
        "canonical focal.",
        parse=keep_text,
    )
    max_depth: int | float | None = max_depth_option()
    sheet: bool = option(
        False,
        "Also write sheet.png: every image beside its depth in colour, 20 to a sheet; then sheet-002.png.",
        flags=("--sheet",),
    )
    unit: str | None = option(
        None,
        "Unit of metric depth in npy, ply, pictures and predictions.json: m, cm or mm; by default the model's own. "
        "png16 and glb stay in metres, and say so.",
        one_of=tuple(UNITS),
    )
    device: str = device_option()
    precision: str = precision_option()
    runtime: str = runtime_option()
    batch_size: int | None = batch_size_option()
