"""Score a published row again, and judge each of its numbers."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sonde import evaluation, files, models, report
from sonde.datasets import Capture
from sonde.evaluation import Evaluation, Row
from sonde.options import takes
from sonde.options.reproduce import ReproduceOptions
from sonde.reproduction.location import find_sources
from sonde.reproduction.published import Published, read_rows
from sonde.spelling import nearest, quantify
from sonde.types import DepthArray


class ScoreCheck(NamedTuple):
    """A published number beside the observed one."""

    paper: float
    observed: float
    tolerance: float
    verdict: str
    """`reproduced`, `not reproduced`, or that other images were scored."""


@dataclass(frozen=True)
class Reproduction:
    """The outcome for a row: an evaluation, or what is missing for one."""

    name: str
    row: Published
    missing: list[str] = field(default_factory=list)
    scored: Evaluation | None = None
    placement: models.Placement | None = None
    """Where the network ran; None where nothing was scored."""

    @property
    def reproduced(self) -> bool:
        """Whether every number is within its tolerance, on as many images as the paper's."""
        checks = self.check_scores().values()
        return self.scored is not None and all(check.verdict == "reproduced" for check in checks)

    def check_scores(self) -> dict[str, ScoreCheck]:
        """Metric -> its check; empty where nothing was scored."""
        if self.scored is None:
            return {}
        return {name: self._check(name, self.scored) for name in self.row.metrics}

    def table(self) -> dict[str, dict[str, float | str]]:
        """Metric -> paper, observed, tolerance, verdict; empty where nothing was scored."""
        return {name: check._asdict() for name, check in self.check_scores().items()}

    def document(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return {
            "name": self.name,
            "reproduced": self.reproduced,
            "missing": self.missing,
            "notes": [] if self.scored is None else self.scored.notes,
            "table": self.table(),
            "placement": None if self.placement is None else self.placement._asdict(),
            "row": self.row.model_dump(),
        }

    def _check(self, name: str, scored: Evaluation) -> ScoreCheck:
        paper, observed, tolerance = self.row.metrics[name], scored.metrics[name], self.row.tolerance[name]
        # Papers round their numbers: one at the very edge of the tolerance must not fail by a rounding of floats.
        close = abs(observed - paper) <= tolerance * (1 + 1e-9)
        verdict = "reproduced" if close else "not reproduced"
        if self.row.images not in (None, len(scored.rows)):
            verdict = f"of {quantify(len(scored.rows), 'image')}, not {self.row.images}"
        return ScoreCheck(paper, observed, tolerance, verdict)


@takes(ReproduceOptions)
def reproduce(
    name: str,
    *,
    options: ReproduceOptions,
    progress: Callable[[int, int], None] | None = None,
) -> Reproduction:
    """Score a published row again, if its captures and its weights are on this machine.

    Args:
        name: of the row.
        options: the options below, as one value.
        progress: called with how many captures are scored, of how many.

    Raises:
        ValueError: no such row, a device that is not there, or data and predictions that cannot be scored.
    """
    models.choose_device(options.device)
    known = read_rows(options.path)
    if name not in known:
        raise ValueError(f"No published row {name!r}: {nearest(name, list(known))}")
    row = known[name]
    found = find_sources(row, options.data, options.model, options.listed)
    if found.missing_data:
        return Reproduction(name, row, found.missing)
    try:
        model = models.load(found.model, device=options.device, precision=options.precision)
    except ValueError as error:
        return Reproduction(name, row, [*found.missing_weights, str(error)])
    gallery = report.Gallery()
    scored = evaluation.evaluate(
        model,
        row.protocol,
        str(found.data),
        format=row.format,
        listed=found.listed,
        align=row.align,
        out=options.out,
        keep=options.keep,
        check=options.check,
        watch=evaluation.watchers(gallery.add, _count_captures(row.images, progress)),
    )
    made = Reproduction(name, row, [], scored, model.placement)
    if options.out is not None:
        _write(made, scored, options.out, gallery)
    return made


def _count_captures(total: int | None, progress: Callable[[int, int], None] | None) -> evaluation.Watcher:
    """A watcher that tells `progress` how many captures are scored."""
    done = 0

    def count(capture: Capture, prediction: DepthArray, row: Row) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total or done)

    return count


def _write(made: Reproduction, scored: Evaluation, out: Path, gallery: report.Gallery) -> None:
    if gallery.panels:  # pairs of points have no maps to show
        report.write(out, {made.name: scored}, gallery)
    with files.atomic_write(out / "reproduction.json") as tmp_path:
        tmp_path.write_text(json.dumps(made.document(), indent=1) + "\n")
