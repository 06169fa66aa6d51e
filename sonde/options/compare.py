"""The options of `sonde compare` and `sonde.compare`."""

from dataclasses import dataclass
from pathlib import Path

from sonde.options import Options, option


@dataclass(frozen=True)
class CompareOptions(Options):
    """What is compared, and where the tables go."""

    metric: str | None = option(
        None, "The metric to explain; by default the main one of both evaluations, otherwise AbsRel."
    )
    level: int | float = option(95, "The level of the intervals, in %.", flags=("--ci",))
    predictions: Path | None = option(
        None, "The kept predictions of the first evaluation; by default the folder that its settings name."
    )
    out: Path | None = option(None, "Folder for the tables, as Markdown and JSON.", flags=("--out", "-o"))
