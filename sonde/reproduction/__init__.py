"""Published numbers again: a paper's row as data, its evaluation by one name, and a verdict for each number.

What is not here is asked for precisely: which weights, which folder, which list, where they were looked for, and how
they are had. Rows of one's own are a YAML file of the same form.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_CACHE
from pydantic import BaseModel, ConfigDict, TypeAdapter

from sonde import download, evaluation, files, models, protocols, report
from sonde.evaluation import LENGTHS, Evaluation
from sonde.spelling import nearest
from sonde.units import UNITS

__all__ = ["ROWS", "Published", "Reproduction", "Sources", "listing", "reproduce", "rows", "sources"]

ROWS = Path(__file__).with_name("rows.yaml")
"""The packaged rows."""
PAIRS = "annotations.json"
"""What tells DA-2K's folder."""
REMEDY = "expected name -> row, as in sonde/reproduction/rows.yaml"


class Published(BaseModel):
    """One row of a paper's table, and all that its evaluation needs."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    paper: str
    table: str
    """And the row in it."""
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


class Sources(NamedTuple):
    """Where a row's evaluation finds what it needs."""

    model: str
    data: Path
    listed: Path | None
    missing: list[str]
    """What is not there, a sentence each."""


@dataclass(frozen=True)
class Reproduction:
    """What came of it: an evaluation, or what is missing for one."""

    name: str
    row: Published
    missing: list[str] = field(default_factory=list)
    scored: Evaluation | None = None

    @property
    def reproduced(self) -> bool:
        """Whether every number is within its tolerance, on as many images as the paper's."""
        return self.scored is not None and all(line["verdict"] == "reproduced" for line in self.table().values())

    def table(self) -> dict[str, dict[str, Any]]:
        """Metric -> paper, observed, tolerance, verdict; empty where nothing was scored."""
        return {} if self.scored is None else {name: self._line(name, self.scored) for name in self.row.metrics}

    def _line(self, name: str, scored: Evaluation) -> dict[str, Any]:
        paper, observed, tolerance = self.row.metrics[name], scored.metrics[name], self.row.tolerance[name]
        close = abs(observed - paper) <= tolerance * (1 + 1e-9)
        verdict = "reproduced" if close else "not reproduced"
        if self.row.images not in (None, len(scored.rows)):
            verdict = f"of {len(scored.rows)} images, not {self.row.images}"
        return {"paper": paper, "observed": observed, "tolerance": tolerance, "verdict": verdict}

    def document(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        notes = [] if self.scored is None else self.scored.notes
        about = {"name": self.name, "reproduced": self.reproduced, "missing": self.missing, "notes": notes}
        return about | {"table": self.table(), "row": self.row.model_dump()}


def rows(path: Path | None = None) -> dict[str, Published]:
    """Name -> row, of the packaged file or of one's own.

    Raises:
        ValueError: a file that holds no rows.
    """
    path = path or ROWS
    with files.reading(path, REMEDY):
        found = TypeAdapter(dict[str, Published]).validate_python(yaml.safe_load(path.read_text()))
        lacking = [name for name, row in found.items() if set(row.tolerance) != set(row.metrics)]
        if lacking:
            raise ValueError(f"{lacking[0]} has other names under tolerance than under metrics")
    for name, row in found.items():
        rules = protocols.load(row.protocol, row.align)
        lengths = (rules.unit,) if rules.unit else tuple(UNITS)
        scored = [f"{one}_{unit}" for one in LENGTHS for unit in lengths if one in rules.metrics]
        scored += [one for one in rules.metrics if one not in LENGTHS]
        for metric in row.metrics:
            if metric not in scored:
                raise ValueError(f"{path}: {name} asks for {metric!r} under {rules.name}: {nearest(metric, scored)}")
    return found


def listing(path: Path | None = None) -> list[dict[str, str]]:
    """The rows in words: name, table, model, protocol, and the published numbers."""
    return [
        {
            "name": name, "table": f"{row.paper}, {row.table}", "model": row.model,
            "protocol": protocols.load(row.protocol, row.align).name,
            "published": ", ".join(f"{metric} {value:g}" for metric, value in row.metrics.items()),
        }
        for name, row in rows(path).items()
    ]  # fmt: skip


def sources(row: Published, data: Path | None = None, model: str | None = None, listed: Path | None = None) -> Sources:
    """Where a row's captures, list and weights are, and what is missing of them.

    Args:
        row: what is to be scored.
        data: the set's folder; by default data/NAME.
        model: what stands for the row's model, such as a local folder of its weights.
        listed: the list of captures; by default the row's file below the set's folder.
    """
    root, missing = data or Path("data") / row.set, []
    how = f"`sonde data download {row.set}` gets it, or give its folder with --data"
    if not root.is_dir():
        missing.append(f"The set {row.set}, {_title(row.set)}: no folder {root.absolute()}; {how}.")
    if row.format is None:
        root = next((path.parent for part in ("", "*/", "*/*/") for path in root.glob(part + PAIRS)), root)
        if root.is_dir() and not (root / PAIRS).is_file():
            missing.append(f"{PAIRS} of {row.set}: not in {root.absolute()} or two folders below; {how}.")
    place = listed or (root / row.listed if row.listed else None)
    if place is not None and not place.is_file():
        missing.append(
            f"The list of the {row.images} captures, {row.listed} ({protocols.load(row.protocol).images}): no file "
            f"{place.absolute()}; put it there, or name it with --only."
        )
    if not _had(model or row.model):
        missing.append(
            f"The weights {model or row.model}: neither a folder nor in the cache {HF_HUB_CACHE} "
            f"({_cached_as(model or row.model)}); fetched where the hub answers, or give a folder with --model."
        )
    return Sources(model or row.model, root, place, missing)


def reproduce(
    name: str,
    *,
    data: Path | None = None,
    model: str | None = None,
    listed: Path | None = None,
    path: Path | None = None,
    out: Path | None = None,
    keep: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Reproduction:
    """A published row scored again, as far as what it needs is here.

    Args:
        name: of the row.
        data: the set's folder, see `sources`.
        model: in place of the row's own, likewise.
        listed: the list of captures, likewise.
        path: a file of rows; the packaged ones by default.
        out: a folder for the scores, the report and `reproduction.json`.
        keep: a folder for the predictions, as for `evaluate`.
        progress: told how many captures are scored, of how many.

    Raises:
        ValueError: no such row, or data and predictions that cannot be scored.
    """
    known = rows(path)
    if name not in known:
        raise ValueError(f"No published row {name!r}: {nearest(name, list(known))}")
    row = known[name]
    found = sources(row, data, model, listed)
    weights = [sentence for sentence in found.missing if sentence.startswith("The weights")]
    if found.missing != weights:
        return Reproduction(name, row, found.missing)
    try:
        network = models.load(found.model)
    except ValueError as error:
        return Reproduction(name, row, [*weights, str(error)])
    gallery, done = report.Gallery(), []

    def watch(*scored: Any) -> None:
        gallery.add(*scored)
        done.append(None)
        if progress is not None:
            progress(len(done), row.images or len(done))

    result = evaluation.evaluate(
        network, row.protocol, str(found.data), format=row.format, listed=found.listed, align=row.align, out=out,
        keep=keep, watch=watch,
    )  # fmt: skip
    made = Reproduction(name, row, [], result)
    if out is not None:
        _write(made, out, gallery)
    return made


def _write(made: Reproduction, out: Path, gallery: report.Gallery) -> None:
    if gallery.panels and made.scored is not None:
        report.write(out, {made.name: made.scored}, gallery)
    with files.atomic_write(out / "reproduction.json") as tmp_path:
        tmp_path.write_text(json.dumps(made.document(), indent=1) + "\n")


def _title(name: str) -> str:
    """Of a public set; of one's own its name says all."""
    try:
        return download.find(name).title
    except ValueError:
        return "a set of your own"


def _had(model: str) -> bool:
    """Whether the weights need no network."""
    if model == "sonde-tiny" or Path(model).exists():
        return True
    return "/" in model and isinstance(try_to_load_from_cache(model, "config.json"), str)


def _cached_as(model: str) -> str:
    return f"models--{model.replace('/', '--')}"
