"""Metric scale from a few measured points: the simplest formula that points left out do not contradict.

The formula, its errors and where it comes from are kept in `calibration.json` beside the weights, which stay as they
are; `sonde.load` reads it, and whatever predicts then answers metres.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sonde import __version__, cards, files, models
from sonde.calibration.fits import KindChoice, PointSet, choose, residuals
from sonde.calibration.points import Measured, on_plane, parse_region, read_maps, read_points
from sonde.models import CALIBRATION, Calibration, DepthModel

__all__ = [
    "CalibrationResult",
    "PointSet",
    "calibrate",
    "choose",
    "on_plane",
    "parse_region",
    "read_maps",
    "read_points",
    "undo",
]

LIKELY_MISTAKE = 5.0
"""Point that errs by so many typical errors, and by a quarter at least, when it is left out: it is named."""


class CalibrationResult(NamedTuple):
    """What was written."""

    folder: Path
    """What `sonde.load` takes."""
    calibration: Calibration

    def summary(self) -> dict[str, Any]:
        """What a user wants to know of it."""
        record = self.calibration.record
        names = ("kind", "formula", "points", "method", "before", "after", "held_out", "constant")
        known = {name: record[name] for name in names if record[name] is not None}
        errors = {kind: score["error"] for kind, score in record["errors"].items()}
        notes = {name: record[name] for name in ("refused", "outliers") if record[name]}
        if record["held_out"] is not None and record["held_out"] >= record["constant"]:
            notes["warning"] = (
                "one depth everywhere, the points' median, does no worse: the model does not see this scene"
            )
        return {"written": str(self.folder), **known, "errors": errors, **notes}


def calibrate(
    model: str | Path, measured: Sequence[Measured], *, kind: str | None = None, out: Path | str | None = None
) -> CalibrationResult:
    """Find what turns a model's answer into metres, and keep it beside the model.

    Args:
        model: any name `sonde.load` takes; a calibration it has is replaced.
        measured: as `read_points`, `read_maps` or `on_plane` gives it.
        kind: identity, scale, scale-shift or log-affine; by default what cross-validation chooses.
        out: a folder for the calibration alone, which names the model and leaves it untouched; needed where the
            model has no folder of its own.

    Raises:
        ValueError: no folder to write to, an export whose card tells a calibration, points outside their images, too
            few of them, or, for a model with a canonical focal, no intrinsics.
    """
    network = models.load(model, calibrated=False)
    folder, base = _place(str(model), out)
    _refuse_exported(folder)
    sample, pixels = _sample(network, measured)
    choice = choose(network.space, sample, kind)
    calibration = replace(
        choice.calibration,
        fingerprint=models.fingerprint(network.network),
        base=base,
        record=_record(str(model), measured, choice, sample, pixels),
    )
    calibration.write(folder)
    _tell(folder, calibration, str(model))
    return CalibrationResult(folder, calibration)


def undo(model: str | Path) -> Path:
    """Remove a model's calibration; the file that was removed.

    Raises:
        ValueError: it has none, is nothing else, or is an export whose card tells it.
    """
    folder = _own_folder(str(model))
    if folder is None or not (folder / CALIBRATION).is_file():
        raise ValueError(f"{model} has no {CALIBRATION} to remove.")
    if models.only_calibration(folder):
        base = models.read_calibration(folder).base
        raise ValueError(f"{folder} is nothing but a calibration of {base}: load that instead, or delete the folder.")
    _refuse_exported(folder)
    (folder / CALIBRATION).unlink()
    _tell(folder, None, str(model))
    return folder / CALIBRATION


def _refuse_exported(folder: Path) -> None:
    """The code in an export's card gives metres by the calibration that it was exported with."""
    page = folder / "README.md"
    if not (folder / cards.CARD).is_file() and page.is_file() and "\ncalibrated_m = " in page.read_text("utf-8"):
        raise ValueError(
            f"{folder} was exported calibrated, and its card says so: calibrate the model that it was exported from "
            "and export that again, or give another folder with --out."
        )


def _own_folder(model: str) -> Path | None:
    """Where the weights of a local model lie."""
    path = Path(model)
    if model == "sonde-tiny" or not path.is_dir():
        return None
    return path / "best" if (path / "best").is_dir() else path


def _place(model: str, out: Path | str | None) -> tuple[Path, str | None]:
    """The folder to write to; and, where the weights are elsewhere, their name as seen from there."""
    own = _own_folder(model)
    base = models.read_calibration(own).base if own and models.only_calibration(own) else None
    if own is not None and (out is None or Path(out).resolve() in (own.resolve(), Path(model).resolve())):
        return own, base
    if out is None:
        raise ValueError(f"{model} is no folder that a calibration could be kept in: name a new one with --out FOLDER.")
    folder = Path(out)
    if folder.exists() and not models.only_calibration(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty, and no calibration alone: give a new folder with --out.")
    if base is not None and own is not None:
        model = base if base == "sonde-tiny" or not (own / base).exists() else str(own / base)
    local = model != "sonde-tiny" and Path(model).exists()
    return folder, os.path.relpath(model, folder) if local else model


def _sample(network: DepthModel, measured: Sequence[Measured]) -> tuple[PointSet, list[tuple[Path, int, int]]]:
    """The model's answer at every point, image by image and row by row; and where each point is."""
    answers, depths, numbers, pixels = [], [], [], []
    for number, points in enumerate(measured):
        answer = network.predict(points.image, points.intrinsics).depth
        height, width = answer.shape
        outside = (points.x < 0) | (points.x >= width) | (points.y < 0) | (points.y >= height)
        if outside.any():
            x, y = points.x[outside][0], points.y[outside][0]
            raise ValueError(
                f"The point ({x}, {y}) is outside {points.image}, {width} wide and {height} high: x is the column from "
                "the left and y the row from the top, both from 0."
            )
        order = np.lexsort((points.x, points.y))
        x, y = points.x[order], points.y[order]
        answers.append(answer[y, x].astype(np.float64))
        depths.append(points.depth[order])
        numbers.append(np.full(len(x), number))
        pixels += [(points.image, int(column), int(row)) for column, row in zip(x, y, strict=True)]
    if not pixels:
        raise ValueError("No points to calibrate by: one at least is needed.")
    return PointSet(*map(np.concatenate, (answers, depths, numbers))), pixels


def _record(
    model: str, measured: Sequence[Measured], choice: KindChoice, sample: PointSet, pixels: list[tuple[Path, int, int]]
) -> dict[str, Any]:
    chosen = choice.calibration
    score = choice.scores.get(chosen.kind)
    unaltered = residuals(Calibration("identity", chosen.space), sample) if chosen.space == "metric" else None
    return {
        "kind": chosen.kind,
        "formula": chosen.formula("answer"),
        "model": model,
        "points": len(sample.depth),
        "images": [points.image.name for points in measured],
        "sources": _sources(measured),
        "nearest": float(sample.depth.min()),
        "farthest": float(sample.depth.max()),
        "method": choice.method,
        "errors": {
            name: {"error": score.mean, "standard_error": score.standard_error} for name, score in choice.scores.items()
        },
        "refused": choice.refused,
        "before": None if unaltered is None else float(np.abs(unaltered).mean()),
        "after": float(np.abs(residuals(chosen, sample)).mean()),
        "held_out": None if score is None else score.mean,
        "constant": choice.constant and choice.constant.mean,
        "outliers": [] if score is None else _outliers(score.residuals, sample, pixels),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "sonde": __version__,
    }


def _sources(measured: Sequence[Measured]) -> dict[str, str | None]:
    """File → SHA-256 of its bytes; a plane in words has none."""
    return {
        source.name if isinstance(source, Path) else source: (
            sha256(source.read_bytes()).hexdigest() if isinstance(source, Path) else None
        )
        for source in dict.fromkeys(points.source for points in measured)
    }


def _outliers(errors: np.ndarray, sample: PointSet, pixels: list[tuple[Path, int, int]]) -> list[str]:
    """Points that the others contradict, the worst first: still counted, but perhaps mistyped."""
    limit = max(float(np.log(1.25)), LIKELY_MISTAKE * float(np.median(np.abs(errors))))
    worst = [int(row) for row in np.argsort(-np.abs(errors)) if abs(errors[row]) > limit]
    if len(errors) < 5 or not worst:
        return []
    told = [
        f"{pixels[row][0].name} ({pixels[row][1]}, {pixels[row][2]}): {sample.depth[row]:.4g} m, but "
        f"{sample.depth[row] * np.exp(errors[row]):.4g} m by the other points"
        for row in worst[:5]
    ]
    return told + ([f"and {len(worst) - 5} more"] if len(worst) > 5 else [])


def _tell(folder: Path, calibration: Calibration | None, model: str) -> None:
    """In the model's card; of a folder that is nothing else, in a page that carries the model's licence."""
    if calibration is not None and calibration.base is not None:
        line = cards.calibrated(calibration.record)
        page = PAGE.format(licence=cards.licence_of(model), base=calibration.base, line=line)
        with files.atomic_write(folder / "README.md") as tmp_path:
            tmp_path.write_text(page)
    elif (folder / cards.CARD).is_file():
        document = {key: value for key, value in cards.read(folder).items() if key != "calibration"}
        cards.write(folder, document | ({"calibration": calibration.record} if calibration else {}))


PAGE = """\
---
license: {licence}
pipeline_tag: depth-estimation
---

{line}

`sonde.load` of this folder loads {base} and applies `calibration.json`. The weights are not here and are not altered;
without this folder the model answers as before.
"""
