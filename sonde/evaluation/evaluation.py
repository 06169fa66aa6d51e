"""The result: one row per image, their means, and both on disk."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sonde import files
from sonde.checks import describe_screening
from sonde.evaluation.bootstrap import Interval, intervals
from sonde.evaluation.columns import BY_RANGE, ORDINAL, RATIO, SCALE, Row, quote_cell, unquote_cell
from sonde.evaluation.heights import Heights, height_lines, summarize_heights
from sonde.evaluation.settings import MetricsDocument, Settings
from sonde.ids import check_id
from sonde.metrics import column_of, table_columns
from sonde.spelling import quantify, shorten
from sonde.units import UNITS


class Measure(NamedTuple):
    """One error among the metrics."""

    metric: str
    words: str
    unit: str


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model on one set of captures."""

    protocol: str
    """Its name; with `+ALIGNMENT` where one was asked for."""
    metrics: dict[str, float]
    """Mean over images; lengths are named by their unit: mae_mm, rmse_mm."""
    rows: list[Row]
    """One per image: id, pixels scored, every metric, the ratio of the medians; abs_rel[0-20] and so on by range; where
    a bench is known, mae_objects_mm and mae_bench_mm, the share of objects, mae_mm[10-25 mm] and so on by height."""
    skipped: dict[str, str]
    """Capture id -> why it could not be scored."""
    settings: Settings
    """All it takes to score again."""

    def record(self, **settings: Any) -> "Evaluation":
        """The same scores with other settings; see the fields of `Settings`."""
        return replace(self, settings=replace(self.settings, **settings))

    def summary(self) -> dict[str, object]:
        """A verdict that must come first, protocol, means, and how many images they are of, ready for JSON."""
        about = {"model": self.settings.model, "data": self.settings.data, "captures": self.settings.captures}
        summary: dict[str, object] = {"headline": self.headline} if self.headline else {}
        summary |= {"protocol": self.protocol, "metrics": self.metrics, "images": len(self.rows), **about}
        heights = None if self.heights is None else self.heights.document()
        more = {"notes": self.notes, "spread": self.spread, RATIO: self.scale_ratio, "ranges": self.ranges}
        more |= {"heights": heights, "groups": self.groups, "ci": self.interval_bounds(), "skipped": self.skipped}
        ran = self.settings.placement
        more |= {"checks": self.settings.checks, "placement": None if ran is None else ran._asdict()}
        return summary | {name: value for name, value in more.items() if value}

    @property
    def headline(self) -> str:
        """What a comparison with trivial answers says against the model; empty where it beats them or met none."""
        return self.settings.headline or ""

    @property
    def left_out(self) -> bool:
        """Whether the answers are those a run was chosen by, to captures that their heads did not see."""
        return self.settings.left_out is not None

    @property
    def spread(self) -> dict[str, float]:
        """Metric -> standard deviation over the images (n - 1); empty of one image."""
        columns = {name: [row[name] for row in self.rows] for name in self.metrics} if len(self.rows) > 1 else {}
        return {name: float(np.std(values, ddof=1)) for name, values in columns.items()}

    @property
    def heights(self) -> Heights | None:
        """Errors of objects and bench, and by height above the bench; None where no bench is known."""
        return summarize_heights(self.rows)

    @property
    def relative(self) -> bool:
        """Whether what was scored claims no metres: lengths then say more of the sky than of the model."""
        return self.settings.protocol.space != "metric"

    @property
    def main(self) -> Measure:
        """The one error to name first."""
        if ORDINAL in self.metrics:
            return Measure(ORDINAL, "ordinal accuracy", "")
        if self.relative and "abs_rel" in self.metrics:
            return Measure("abs_rel", "AbsRel after alignment", "")
        if f"mae_{self.unit}" in self.metrics:
            return Measure(f"mae_{self.unit}", "mean absolute error", self.unit)
        first = next(iter(self.metrics))
        return Measure(first, first, self.unit if first.endswith(f"_{self.unit}") else "")

    @property
    def unit(self) -> str:
        """Of its lengths: m, cm or mm."""
        return next((word for name in self.metrics if (word := name.rpartition("_")[2]) in UNITS), "m")

    @property
    def scale_ratio(self) -> dict[str, float]:
        """Mean and median over images of median(truth) / median(prediction); empty where no metres were claimed.

        Near 1 where the scale is right. Off by the same factor everywhere it says that the camera is not the one
        the model learnt: a focal length k times as long shows as a ratio of k.
        """
        ratios = [row[RATIO] for row in self.rows if row.get(RATIO) is not None]
        return {"mean": float(np.mean(ratios)), "median": float(np.median(ratios))} if ratios else {}

    @property
    def ranges(self) -> dict[str, dict[str, int | float]]:
        """Range of true depth (m) -> mean over the images with a pixel there, their number, and the pixels of all."""
        return {span: self._range(span) for span in self.spans}

    @property
    def groups(self) -> dict[str, dict[str, int | float]]:
        """Group -> means over its images, and their number; empty where the protocol states none."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            if "group" in row:
                found.setdefault(row["group"], []).append(row)
        return {group: means(rows, self.metrics) | {"images": len(rows)} for group, rows in sorted(found.items())}

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Metric -> mean and its interval, of the level that was asked for; empty where none was, or of one scene."""
        level = self.settings.ci
        return {} if level is None or self.alone else intervals(self.rows, list(self.metrics), level)

    @property
    def alone(self) -> bool:
        """Whether there is but one image, or scene, to draw from."""
        return len({row.get("scene", row["id"]) for row in self.rows}) < 2

    def interval_bounds(self) -> dict[str, object]:
        """The level of the intervals, what was drawn, and metric -> [low, high]; empty without intervals."""
        if not self.intervals:
            return {}
        over = "scenes" if "scene" in self.rows[0] else "images"
        bounds = {name: [found.low, found.high] for name, found in self.intervals.items()}
        return {"level": self.settings.ci, "over": over, **bounds}

    @property
    def notes(self) -> list[str]:
        """What must be known before the numbers are believed, a sentence each."""
        rules, notes = self.settings.protocol, []
        if self.settings.checks is not None:
            notes += describe_screening(self.settings.checks)
        backwards = sum(row.get(SCALE, 0) < 0 for row in self.rows)
        if backwards:
            ways = ("depth", "disparity") if rules.align == "disparity" else ("disparity", "depth")
            notes.append(
                f"{backwards} of {quantify(len(self.rows), 'image')} {'was' if backwards == 1 else 'were'} fitted "
                f"with a negative scale: their predictions run the "
                f"other way, as {ways[0]} does that is scored as {ways[1]}; state their space rightly before you "
                "believe these numbers."
            )
        if self.alone and self.settings.ci:
            notes.append(
                f"{quantify(len(self.rows), 'image')} of one scene {'has' if len(self.rows) == 1 else 'have'} no "
                f"interval: score more scenes."
            )
        if rules.count not in (None, len(self.rows)):
            notes.append(
                f"Published numbers under {rules.name} are of {quantify(rules.count, 'image')} ({rules.images}), these "
                f"of {len(self.rows)}."
            )
        if self.skipped:
            name, why = next(iter(self.skipped.items()))
            notes.append(
                f"{len(self.skipped)} of {quantify(len(self.rows) + len(self.skipped), 'capture')} could not be "
                f"scored, first "
                f"{name}: {why}"
            )
        if unread := self._unread():
            notes.append(f"Depth {unread} m was not read, and {rules.name} scores it: these numbers are of the rest.")
        if self.settings.encoding:
            notes.append(f"Depth is decoded by {self.settings.encoding} here, not as the model itself decodes it.")
        notes += self._of_a_bench()
        if self.settings.known:
            notes.append(
                f"{self.settings.known} of {quantify(len(self.rows), 'capture')} trained this model (split.json): "
                f"these numbers "
                "flatter it."
            )
        return notes

    def _of_a_bench(self) -> list[str]:
        """What a run of a fixed camera must say of its scores."""
        notes = []
        about, moved = self.settings.left_out, self.settings.moved
        if about is not None:
            notes.append(
                f"These are the {about.kind} scores that the run was chosen by: of heads on frozen features that "
                "did not see the capture, not of the model that ships, which saw every one."
            )
            if about.sentence:
                notes.append(about.sentence)
        if moved:
            first, off = next(iter(moved.items()))
            notes.append(
                f"{len(moved)} of {quantify(len(self.rows), 'capture')} {'does' if len(moved) == 1 else 'do'} not "
                f"lie on the bench that this model knows, first "
                f"{first} ({off.offset_mm:.1f} mm in depth and {off.shift_px:.0f} pixels off): the camera or the "
                "bench has moved; adapt again with captures from where it stands now."
            )
        return notes

    def _unread(self) -> str:
        """What of the protocol's range the set's own limits leave out, in words; empty where nothing."""
        rules, unit = self.settings.protocol, UNITS[self.settings.unit or "m"]
        low, high = (limit * unit for limit in self.settings.limits or (0, math.inf))
        unread = []
        # A protocol without a bound at one end scores what the set reads there, so nothing is left out.
        if rules.min_depth and low > rules.min_depth + 1e-6:
            unread.append(f"up to {low:g}")
        if rules.max_depth and high < rules.max_depth - 1e-6:
            unread.append(f"from {high:g}")
        return " and ".join(unread)

    @property
    def spans(self) -> list[str]:
        """What the ranges are called, near to far: 0-20."""
        return [name.removeprefix("pixels[").removesuffix("]") for name in self.rows[0] if name.startswith("pixels[")]

    def _range(self, span: str) -> dict[str, int | float]:
        seen = [row for row in self.rows if row[f"pixels[{span}]"]]
        names = [name.removesuffix(f"[{span}]") for name in self.rows[0] if name.endswith(f"[{span}]")][1:]
        means = {name: float(np.mean([row[f"{name}[{span}]"] for row in seen])) for name in names if seen}
        return {**means, "images": len(seen), "pixels": sum(row[f"pixels[{span}]"] for row in seen)}

    def write(self, folder: Path, scoreboard: Mapping[str, "Evaluation"] | None = None) -> None:
        """`metrics.json`, with the settings and the table of a scoreboard where there is one; and `per_image.csv`."""
        document = self.summary()
        if scoreboard:
            document["table"] = table(scoreboard)
        document["settings"] = self.settings.document()
        with files.atomic_write(folder / "metrics.json") as tmp_path:
            tmp_path.write_text(json.dumps(document, indent=1) + "\n")
        with files.atomic_write(folder / "per_image.csv") as tmp_path, tmp_path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in self.rows for name in row)))
            writer.writeheader()
            writer.writerows({name: quote_cell(value) for name, value in row.items()} for row in self.rows)


def read_evaluation(folder: Path) -> Evaluation:
    """What `Evaluation.write` wrote, the same to the last digit.

    Raises:
        ValueError: no metrics.json or per_image.csv there, or others than ours.
    """
    remedy = "expected the metrics.json and per_image.csv of `sonde eval --out` or of a run"
    document: MetricsDocument = files.read_json(folder / "metrics.json", MetricsDocument, remedy)
    with files.reading(folder / "metrics.json", remedy):
        settings = Settings.from_document(document["settings"], document["protocol"])
    cells = files.read_rows(folder / "per_image.csv", remedy)
    with files.reading(folder / "per_image.csv", remedy):
        rows = [{name: _parse(name, text) for name, text in row.items()} for row in cells]
        if not rows or "id" not in rows[0]:
            raise ValueError("it has no row with a column id")
        for metric in document["metrics"]:
            if any(not isinstance(row.get(metric), int | float) for row in rows):
                raise ValueError(f"a row has no {shorten(metric, 80)}, which metrics.json has the mean of")
    return Evaluation(document["protocol"], document["metrics"], rows, document.get("skipped", {}), settings)


def _parse(name: str, text: str) -> str | int | float | None:
    """The value of a cell of per_image.csv."""
    if name == "id":
        return check_id(unquote_cell(text))
    if name in ("group", "scene"):
        return unquote_cell(text)
    if not text:
        return None
    return int(text) if name.startswith(("pixels", "pairs")) else float(text)


def columns(unit: str, relative: bool = False) -> dict[str, str]:
    """Heading -> column of the table of scores; of a relative model, without its lengths."""
    return table_columns(unit, lengths=not relative)


def table(scoreboard: Mapping[str, Evaluation]) -> dict[str, dict[str, float]]:
    """Row -> heading -> score, the errors' mean over images; rows and headings in reading order.

    Where every row knows the error of objects, that is the second.
    """
    known = [None if scored.heights is None else scored.heights.objects for scored in scoreboard.values()]
    rows = {}
    for (row, scored), objects in zip(scoreboard.items(), known, strict=True):
        cells = {heading: scored.metrics[name] for heading, name in headings(scored).items()}
        if None not in known and objects is not None:
            first, *others = cells.items()
            cells = dict([first, (f"MAE of objects ({scored.unit})", objects), *others])
        rows[row] = cells
    return rows


def versions() -> dict[str, str]:
    """Of what computes scores."""
    return {package: version(package) for package in ("sonde", "torch", "transformers", "numpy")}


def means(rows: Sequence[Row], names: Iterable[str]) -> dict[str, float]:
    """Name -> mean over the rows; over all their pairs, where they are of pairs of points."""
    weights = [row.get("pairs", 1) for row in rows]
    return {name: float(np.average([row[name] for row in rows], weights=weights)) for name in names}


def headings(scored: Evaluation) -> dict[str, str]:
    """Heading -> metric of what an evaluation's row in a table shows."""
    if ORDINAL in scored.metrics:
        return {"ordinal accuracy": ORDINAL}
    usual = columns(scored.unit, scored.relative).items()
    return {heading: name for heading, name in usual if name in scored.metrics} or {
        name: name for name in scored.metrics
    }


def range_table(scored: Evaluation) -> dict[str, dict[str, int | float | None]]:
    """Range -> heading -> mean over the images with a pixel there, None where there are none; empty without ranges."""
    shown = [column_of(name, scored.unit) for name in BY_RANGE]
    names = {heading: name for heading, name in table_columns(scored.unit).items() if name in shown}
    names |= {"images": "images", "pixels": "pixels"}
    return {
        f"{span} m": {heading: found.get(name) for heading, name in names.items()}
        for span, found in scored.ranges.items()
    }


def height_table(scored: Evaluation) -> dict[str, dict[str, int | float | None]]:
    """Bench, objects and spans of height -> heading -> mean over the images that have some; empty without a bench."""
    return height_lines(scored.rows)
