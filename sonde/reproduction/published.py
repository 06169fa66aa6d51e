"""Rows of papers' tables as data: what each says, and how it is scored."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from sonde import files, protocols
from sonde.ids import CaptureId
from sonde.metrics import METRICS, column_of
from sonde.spelling import nearest, shorten
from sonde.units import UNITS

ROWS = Path(__file__).with_name("rows.yaml")
"""The packaged rows."""
REMEDY = "expected name -> row, as in sonde/reproduction/rows.yaml"


class Published(BaseModel):
    """One row of a paper's table, and all that its evaluation needs."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    paper: str
    table: str
    """The table, and the row in it."""
    model: str
    """A hub id, or a folder."""
    set: str
    """A name that `sonde data download --list` gives; the set's folder is data/NAME by default."""
    format: str | None
    """Its layout; None: pairs of points."""
    listed: str | None
    """The list of its captures that are scored, a file below the set's folder; None: all."""
    images: int | None
    """How many those are: a score of another number reproduces nothing. None: not published."""
    protocol: str
    align: str | None
    """In place of the protocol's own."""
    metrics: dict[str, float]
    """As published; lengths in metres, named as `sonde eval` names them."""
    tolerance: dict[str, float]
    """How far the observed number may be off."""
    pinned: str
    """What is decided here that moves the numbers: the size of the input, the fit, the clamp."""
    notes: str


def read_rows(path: Path | None = None) -> dict[str, Published]:
    """Name -> row, of the packaged file or of your own.

    Raises:
        ValueError: a file that holds no rows, or a row whose protocol does not give its metrics.
    """
    path = path or ROWS
    document = files.read_yaml(path, REMEDY)
    with files.reading(path, REMEDY):
        # The name of a row is that of a folder of scores, as an id is.
        found: dict[str, Published] = files.check_type(document, dict[CaptureId, Published])
        unlike = [name for name, row in found.items() if set(row.tolerance) != set(row.metrics)]
        if unlike:
            raise ValueError(f"{unlike[0]} has other names under tolerance than under metrics")
    for name, row in found.items():
        rules = protocols.load(row.protocol, row.align)
        lengths = (rules.unit,) if rules.unit else tuple(UNITS)
        scored = [column for one in rules.metrics for column in _columns_of(one, lengths)]
        for metric in row.metrics:
            if metric not in scored:
                asked = f"{name} asks for {shorten(metric, 80)!r} under {rules.name}"
                raise ValueError(f"{shorten(path)}: {asked}: {nearest(metric, scored)}")
    return found


def list_rows(path: Path | None = None) -> list[dict[str, str]]:
    """The rows in words: name, table, model, protocol, and the published numbers."""
    return [
        {
            "name": name,
            "table": f"{row.paper}, {row.table}",
            "model": row.model,
            "protocol": protocols.load(row.protocol, row.align).name,
            "published": ", ".join(f"{metric} {value:g}" for metric, value in row.metrics.items()),
        }
        for name, row in read_rows(path).items()
    ]


def _columns_of(name: str, units: tuple[str, ...]) -> list[str]:
    """The columns that a metric may have in a row of scores, by the unit of the set."""
    if name not in METRICS:
        return [name]  # the accuracy of pairs of points, which has no unit
    return list(dict.fromkeys(column_of(name, unit) for unit in units))
