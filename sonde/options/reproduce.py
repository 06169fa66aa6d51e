"""The options of `sonde reproduce` and `sonde.reproduce`."""

from dataclasses import dataclass
from pathlib import Path

from sonde.options import Options, check_option, device_option, exact_precision_option, option


@dataclass(frozen=True)
class ReproduceOptions(Options):
    """Where the data and the weights of a published row are, and what is written."""

    data: Path | None = option(None, "Folder of the set; by default data/NAME.")
    listed: Path | None = option(
        None, "The list of captures; by default the row's own file below the set's folder.", flags=("--only",)
    )
    model: str | None = option(
        None, "What replaces the row's model, such as a local folder of its weights.", flags=("--model", "-m")
    )
    path: Path | None = option(None, "A YAML file of your own rows; by default the packaged rows.", flags=("--rows",))
    out: Path | None = option(
        None,
        "Folder for the scores, the report and reproduction.json; on the command line scores/NAME by default.",
        flags=("--out", "-o"),
    )
    keep: Path | None = option(None, "Folder for predictions; existing ones are not made again.")
    check: bool = check_option()
    device: str = device_option()
    precision: str | None = exact_precision_option()
