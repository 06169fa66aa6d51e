"""The options of `sonde calibrate` and `sonde.calibrate`."""

from dataclasses import dataclass
from pathlib import Path

from sonde.options import Options, device_option, exact_precision_option, option


@dataclass(frozen=True)
class CalibrateOptions(Options):
    """The formula, and where it is written."""

    kind: str | None = option(
        None, "identity, scale, scale-shift or log-affine; by default the one that cross-validation chooses."
    )
    out: Path | None = option(
        None,
        "A folder for the calibration alone; a model without a folder of its own needs it.",
        flags=("--out", "-o"),
    )
    check: bool = option(True, "Check the unit of the known depths first; --no-check uses them as they are.")
    device: str = device_option()
    precision: str | None = exact_precision_option()
