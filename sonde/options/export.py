"""The options of `sonde export` and `sonde.export`."""

from dataclasses import dataclass
from pathlib import Path

from sonde.options import Options, device_option, max_depth_option, option
from sonde.spelling import shorten

PRECISIONS = ("fp32", "int8")
"""What the network of an exported file computes in."""


def parse_size(text: str) -> tuple[int, int]:
    """The (height, width) in `252,336`.

    Raises:
        ValueError: no two whole numbers above 0.
    """
    sides = [int(side) for side in text.split(",") if side.strip().isdecimal() and len(side) < 9]
    if len(sides) != 2 or text.count(",") != 1 or min(sides) < 1:
        raise ValueError(f"size={shorten(text)!r}: expected height,width in pixels, such as 252,336.")
    return sides[0], sides[1]


@dataclass(frozen=True)
class ExportOptions(Options):
    """The format, where the model is written, and what an ONNX or OpenVINO file holds."""

    to: str = option(
        "hf", "onnx or openvino: a file that runs without torch; hf: for plain transformers; glpdepth: a .ckpt."
    )
    out: Path | None = option(
        None,
        "A new file, .onnx or .xml; for hf and glpdepth a new or empty folder. By default MODEL.onnx, MODEL.xml or "
        "MODEL-hf, beside the model.",
        flags=("--out", "-o"),
    )
    precision: str = option("fp32", "Of an ONNX or OpenVINO file: fp32 or int8.", one_of=PRECISIONS)
    size: tuple[int, int] | None = option(
        None,
        "height,width in pixels of the network's input, for an ONNX or OpenVINO file that takes no other; by default "
        "it takes all that the model takes.",
        parse=parse_size,
    )
    calibrate_on: Path | None = option(
        None, "A folder of images like those the model will see, for int8; renders by default."
    )
    max_depth: int | float | None = max_depth_option()
    device: str = device_option()
