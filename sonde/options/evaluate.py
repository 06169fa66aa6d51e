"""The options of `sonde eval` and `sonde.evaluate`."""

from dataclasses import dataclass
from pathlib import Path

from sonde.options import (
    Options,
    batch_size_option,
    check_option,
    device_option,
    exact_precision_option,
    max_depth_option,
    option,
)


@dataclass(frozen=True)
class EvaluateOptions(Options):
    """How a model is scored, and what is kept of it."""

    format: str | None = option(None, "Layout of --data; by default the run's own, else zivid.")
    listed: Path | None = option(None, "A list of the captures to score, such as Eigen's.", flags=("--only",))
    align: str | None = option(None, "Align each image before scoring; the result is named PROTOCOL+ALIGN.")
    max_depth: int | float | None = max_depth_option()
    max_depth_eval: int | float | None = option(
        None, "Metres at which the protocol ends instead; the result is named PROTOCOL+80m."
    )
    encoding: str | None = option(
        None, "Decode the model's answer by another encoding: inverse_notebook, as published."
    )
    depth_scale: int | float | None = option(
        None, "Metres per level of a folder's predictions that do not state it: 0.00390625 for KITTI's PNGs.", above=0
    )
    out: Path | None = option(None, "Folder for metrics.json, per-image CSV and the report.", flags=("--out", "-o"))
    ci: int | float | None = option(None, "95: intervals of 95 % beside the means.")
    keep: Path | None = option(None, "Folder for predictions; those that are there are not made again.")
    check: bool = check_option()
    device: str = device_option()
    # Neither follows from the machine by itself: the score of a model is to be the same everywhere.
    precision: str | None = exact_precision_option()
    runtime: str | None = option(
        None,
        "What runs the network: torch, onnx, openvino, or auto, the fastest that has it on this device; by default "
        "torch, and of an exported file the runtime that it is made for.",
        one_of=("auto", "torch", "onnx", "openvino"),
    )
    batch_size: int | None = batch_size_option("captures")
