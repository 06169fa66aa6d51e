"""The options of `sonde export` and `sonde.export`."""

from dataclasses import dataclass
from pathlib import Path

from sonde.options import Options, max_depth_option, option


@dataclass(frozen=True)
class ExportOptions(Options):
    """The format, and where the model is written."""

    to: str = option("hf", "hf: for plain transformers; glpdepth: a .ckpt.")
    out: Path | None = option(
        None, "A new or empty folder; MODEL-hf, beside the model, by default.", flags=("--out", "-o")
    )
    max_depth: int | float | None = max_depth_option()
