"""Metric scale from a few measured points: the simplest formula whose error at points left out is not clearly larger.

`calibration.json` beside the weights holds the formula, its errors and its origin; the weights stay as they are.
`sonde.load` reads the file, and the model then predicts metres.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np

from sonde import __version__, cards, files, models
from sonde.calibration.fits import KindChoice, PointSet, choose, compute_residuals
from sonde.calibration.points import Measured, parse_region, read_maps, read_points, sample_plane
from sonde.cards import CalibrationRecord
from sonde.checks import Screening, describe_screening, screen_lengths, settle
from sonde.models import CALIBRATION, Calibration, Placement
from sonde.models.naming import SHIPPED
from sonde.options import takes
from sonde.options.calibrate import CalibrateOptions
from sonde.renamed import keep_old_names
from sonde.types import DepthArray, Space

__all__ = [
    "CalibrationResult",
    "CalibrationSummary",
    "Measured",
    "PointSet",
    "SampledPoints",
    "calibrate",
    "choose",
    "fit_points",
    "parse_region",
    "read_maps",
    "read_points",
    "sample_plane",
    "sample_points",
    "save_calibration",
    "screen_points",
    "undo",
    "warn_if_useless",
]

LIKELY_MISTAKE = 5.0
"""A point whose error when left out is this many times the median error, and at least a quarter, is reported."""

Pixel = tuple[Path, int, int]
"""Image, column and row of a point."""


class CalibrationSummary(TypedDict):
    """What `sonde calibrate` prints; see `sonde.cards.CalibrationRecord` for the fields."""

    written: str
    """The folder."""
    kind: str
    formula: str
    points: int
    method: str
    before: NotRequired[float]
    after: float
    held_out: NotRequired[float]
    constant: NotRequired[float]
    errors: dict[str, float]
    """Kind → mean error at points left out."""
    refused: NotRequired[dict[str, str]]
    outliers: NotRequired[list[str]]
    warning: NotRequired[str]
    checks: NotRequired[list[str]]
    """What the check of the points' unit said, or that it was switched off."""


class CalibrationResult(NamedTuple):
    """The calibration, and where it was written."""

    folder: Path
    """A name that `sonde.load` takes."""
    calibration: Calibration
    placement: Placement = Placement()
    """Where the network ran."""

    def summary(self) -> CalibrationSummary:
        """The calibration as JSON; facts that are not known are left out."""
        record = CalibrationRecord(**self.calibration.record)
        summary = {
            "written": str(self.folder),
            "kind": record["kind"],
            "formula": record["formula"],
            "points": record["points"],
            "method": record["method"],
            "before": record["before"],
            "after": record["after"],
            "held_out": record["held_out"],
            "constant": record["constant"],
            "errors": {kind: score["error"] for kind, score in record["errors"].items()},
            "refused": record["refused"] or None,
            "outliers": record["outliers"] or None,
            "warning": warn_if_useless(record),
            "checks": (describe_screening(record["checks"], "known depths") or None) if "checks" in record else None,
        }
        return CalibrationSummary(**{name: value for name, value in summary.items() if value is not None})


@takes(CalibrateOptions)
def calibrate(model: str | Path, measured: Sequence[Measured], *, options: CalibrateOptions) -> CalibrationResult:
    """Find the formula that turns a model's prediction into metres, and write it beside the model.

    Args:
        model: any name `sonde.load` takes; a calibration it has is replaced.
        measured: as `read_points`, `read_maps` or `sample_plane` gives it.
        options: the options below, as one value.

    Raises:
        ValueError: no folder to write to, a calibrated export, points outside their images, too few points, depths that
            are certainly of another unit, a device that is not there, or, for a model with a canonical focal, no
            intrinsics.
    """
    screening = screen_points(measured, options.check)
    network = models.load(model, calibrated=False, device=options.device, precision=options.precision)
    folder, _ = _choose_folder(str(model), options.out)
    _refuse_exported(folder)
    sampled = sample_points((network.predict(points.image, points.intrinsics).depth for points in measured), measured)
    calibration = fit_points(str(model), network.space, sampled, options.kind)
    calibration.record["checks"] = screening.document()
    calibration = save_calibration(replace(calibration, fingerprint=network.identify()), str(model), options.out)
    return CalibrationResult(folder, calibration, network.placement)


def fit_points(model: str, space: Space, sampled: "SampledPoints", kind: str | None = None) -> Calibration:
    """The formula for known points, with the record of the measurement; nothing is written.

    Args:
        model: its name, for the record.
        space: of its predictions.
        sampled: as `sample_points` gives it.
        kind: a name in KINDS, to fit that one.

    Raises:
        ValueError: as `choose`.
    """
    choice = choose(space, sampled.points, kind)
    record = _make_record(model, sampled.measured, choice, sampled.points, sampled.pixels)
    return replace(choice.calibration, record={**record})


def save_calibration(calibration: Calibration, model: str, out: Path | str | None) -> Calibration:
    """Write a calibration beside its model, or into a folder of its own; returns it with the name of its base.

    Raises:
        ValueError: no folder to write to, or one that holds something else.
    """
    folder, base = _choose_folder(model, out)
    calibration = replace(calibration, base=base)
    calibration.write(folder)
    _update_page(folder, calibration, model)
    return calibration


def screen_points(measured: Sequence[Measured], check: bool = True) -> Screening:
    """Judge the unit of known depths, before the model is loaded.

    Raises:
        ValueError: they are certainly of another unit.
    """
    if not check:
        return Screening(checked=False)
    lengths = np.concatenate([points.depth for points in measured]) if measured else np.empty(0)
    found = screen_lengths(lengths, [points.image.name for points in measured])
    settle(found, ", ".join(map(str, dict.fromkeys(points.source for points in measured))))
    return found


def undo(model: str | Path) -> Path:
    """Remove a model's calibration; returns the path of the removed file.

    Raises:
        ValueError: a model without calibration, a folder that holds nothing else, or a calibrated export.
    """
    folder = _find_model_folder(str(model))
    if folder is None or not (folder / CALIBRATION).is_file():
        raise ValueError(f"{model} has no {CALIBRATION} to remove.")
    if models.holds_only_calibration(folder):
        base = models.read_calibration(folder).base
        raise ValueError(
            f"{folder} holds nothing but a calibration of {base}: load {base} instead, or delete the folder."
        )
    _refuse_exported(folder)
    (folder / CALIBRATION).unlink()
    _update_page(folder, None, str(model))
    return folder / CALIBRATION


def warn_if_useless(record: CalibrationRecord) -> str | None:
    """A warning where the model is no better than one depth for every pixel."""
    if record["held_out"] is None or record["constant"] is None or record["held_out"] < record["constant"]:
        return None
    return "one depth for every pixel, the points' median, is no worse: the model does not see this scene"


def _refuse_exported(folder: Path) -> None:
    """Refuse an export with a calibration: the code in its README computes metres by that calibration."""
    page = folder / "README.md"
    if not (folder / cards.CARD).is_file() and page.is_file() and "\ncalibrated_m = " in page.read_text("utf-8"):
        raise ValueError(
            f"{folder} was exported calibrated, and its README.md contains that calibration. Calibrate the original "
            "model and export it again, or give another folder with --out."
        )


def _find_model_folder(model: str) -> Path | None:
    """The folder with the weights of a local model; None for packaged models and for names of the hub."""
    path = Path(model)
    if model in SHIPPED or not path.is_dir():
        return None
    return path / "best" if (path / "best").is_dir() else path


def _choose_folder(model: str, out: Path | str | None) -> tuple[Path, str | None]:
    """The folder to write to; and, where it does not hold the weights, the name that loads them from there."""
    if out is not None:
        files.check_output(out)
    own = _find_model_folder(model)
    base = models.read_calibration(own).base if own and models.holds_only_calibration(own) else None
    if own is not None and (out is None or Path(out).resolve() in (own.resolve(), Path(model).resolve())):
        return own, base
    if out is None:
        raise ValueError(f"{model} has no folder to write a calibration to: give a new one with --out FOLDER.")
    folder = Path(out)
    if folder.exists() and not models.holds_only_calibration(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty and holds more than a calibration: give a new folder with --out.")
    # The model is itself a calibration alone: name the weights behind it. A local `base` is relative to its folder.
    if base is not None and own is not None:
        model = base if base in SHIPPED or not (own / base).exists() else str(own / base)
    local = model not in SHIPPED and Path(model).exists()
    return folder, os.path.relpath(model, folder) if local else model


class SampledPoints(NamedTuple):
    """Known points, and a model's answers there."""

    measured: Sequence[Measured]
    points: PointSet
    """Image by image and row by row."""
    pixels: list[Pixel]
    """Of each point."""


def sample_points(predictions: Iterable[DepthArray], measured: Sequence[Measured]) -> SampledPoints:
    """A model's predictions at known points.

    Args:
        predictions: of the images, in their order, without calibration.
        measured: the points.

    Raises:
        ValueError: a point outside its image, or no point.
    """
    answers, depths, numbers, pixels = [], [], [], []
    for number, (answer, points) in enumerate(zip(predictions, measured, strict=True)):
        height, width = answer.shape
        outside = (points.x < 0) | (points.x >= width) | (points.y < 0) | (points.y >= height)
        if outside.any():
            x, y = points.x[outside][0], points.y[outside][0]
            raise ValueError(
                f"The point ({x}, {y}) is outside {points.image}, {width} wide and {height} high: x is the column from "
                "the left and y the row from the top, both from 0."
            )
        # By row: `fits` leaves out bands of neighbouring points, and bands of rows are that.
        order = np.lexsort((points.x, points.y))
        x, y = points.x[order], points.y[order]
        answers.append(answer[y, x].astype(np.float64))
        depths.append(points.depth[order])
        numbers.append(np.full(len(x), number))
        pixels += [(points.image, int(column), int(row)) for column, row in zip(x, y, strict=True)]
    if not pixels:
        raise ValueError("No points to calibrate with: give at least one.")
    return SampledPoints(measured, PointSet(*map(np.concatenate, (answers, depths, numbers))), pixels)


def _make_record(
    model: str, measured: Sequence[Measured], choice: KindChoice, sample: PointSet, pixels: list[Pixel]
) -> CalibrationRecord:
    chosen = choice.calibration
    score = choice.scores.get(chosen.kind)
    unaltered = compute_residuals(Calibration("identity", chosen.space), sample) if chosen.space == "metric" else None
    return {
        "kind": chosen.kind,
        "formula": chosen.formula("answer"),
        "model": model,
        "points": len(sample.depth),
        "images": [points.image.name for points in measured],
        "sources": _hash_sources(measured),
        "nearest": float(sample.depth.min()),
        "farthest": float(sample.depth.max()),
        "method": choice.method,
        "errors": {
            kind: {"error": each.mean, "standard_error": each.standard_error} for kind, each in choice.scores.items()
        },
        "refused": choice.refused,
        "before": None if unaltered is None else float(np.abs(unaltered).mean()),
        "after": float(np.abs(compute_residuals(chosen, sample)).mean()),
        "held_out": None if score is None else score.mean,
        "constant": None if choice.constant is None else choice.constant.mean,
        "outliers": [] if score is None else _describe_outliers(score.residuals, sample, pixels),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "sonde": __version__,
    }


def _hash_sources(measured: Sequence[Measured]) -> dict[str, str | None]:
    """File → SHA-256 of its bytes; a plane in words has none."""
    hashes: dict[str, str | None] = {}
    for source in dict.fromkeys(points.source for points in measured):
        if isinstance(source, Path):
            hashes[source.name] = sha256(source.read_bytes()).hexdigest()
        else:
            hashes[source] = None
    return hashes


def _describe_outliers(errors: np.ndarray, sample: PointSet, pixels: list[Pixel]) -> list[str]:
    """A line for each point that the others contradict, the worst first; such points may be mistyped.

    Args:
        errors: ln(prediction / depth) of each point when it was left out, (n,).
        sample: the points.
        pixels: where they are.
    """
    limit = max(float(np.log(1.25)), LIKELY_MISTAKE * float(np.median(np.abs(errors))))
    worst = [int(row) for row in np.argsort(-np.abs(errors)) if abs(errors[row]) > limit]
    if len(errors) < 5 or not worst:
        return []
    lines = []
    for row in worst[:5]:
        image, x, y = pixels[row]
        depth = sample.depth[row]
        lines.append(
            f"{image.name} ({x}, {y}): {depth:.4g} m, but {depth * np.exp(errors[row]):.4g} m by the other points"
        )
    return lines + ([f"and {len(worst) - 5} more"] if len(worst) > 5 else [])


def _update_page(folder: Path, calibration: Calibration | None, model: str) -> None:
    """Write the calibration into the model's card, or, beside a calibration alone, into a README of its own."""
    if calibration is not None and calibration.base is not None:
        line = cards.describe_calibration(CalibrationRecord(**calibration.record))
        page = PAGE.format(licence=cards.find_licence(model), base=calibration.base, line=line)
        with files.atomic_write(folder / "README.md") as tmp_path:
            tmp_path.write_text(page)
    elif (folder / cards.CARD).is_file():
        document = cards.read(folder)
        document.pop("calibration", None)
        if calibration is not None:
            document["calibration"] = CalibrationRecord(**calibration.record)
        cards.write(folder, document)


PAGE = """\
---
license: {licence}
pipeline_tag: depth-estimation
---

{line}

`sonde.load` of this folder loads {base} and applies `calibration.json`. The weights are not here and are not altered;
without this folder the model answers as before.
"""

keep_old_names(__name__, {"on_plane": "sample_plane"})
