"""The paired difference of two evaluations, and what their settings explain of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sonde import files
from sonde.comparison.ablation import (
    GROUND_TRUTH,
    Ablation,
    Cell,
    Cells,
    Rows,
    ablate,
    list_bounds,
    list_differences,
    pair_rows,
)
from sonde.evaluation import Evaluation, Interval, means, read_evaluation
from sonde.options import takes
from sonde.options.compare import CompareOptions
from sonde.renamed import warn_once
from sonde.spelling import escape_markdown, nearest, quantify


@dataclass(frozen=True)
class Comparison:
    """The difference of two evaluations; every difference is other - one."""

    one: str
    other: str
    metric: str
    """The main one, which the ablation explains."""
    images: int
    """Number of images that both scored."""
    alone: tuple[int, int]
    """How many images only the one, and only the other, scored."""
    settings: dict[str, str]
    """Step -> from what to what, for settings that differ."""
    means: dict[str, tuple[float, float]]
    """Metric -> mean of the one and of the other over the shared images, both under the other's rules; or empty."""
    differences: dict[str, Interval | None]
    """Metric -> mean difference and its paired interval, None where images are too few; or empty."""
    ablation: Ablation | None
    """None under the same rules, and where the first's predictions were not kept."""
    notes: list[str] = field(default_factory=list)

    @property
    def ladder(self) -> Ablation | None:
        """The old name of `ablation`."""
        warn_once("Comparison.ladder", "Comparison.ablation")
        return self.ablation

    @property
    def refused(self) -> bool:
        """Whether the evaluations do not allow a statement about the models."""
        return not self.means

    def document(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return {
            "one": self.one,
            "other": self.other,
            "images": self.images,
            "not_shared": list(self.alone),
            "settings": self.settings,
            "difference": self._list_differences(),
            "ladder": None if self.ablation is None else self.ablation.document(),
            "notes": self.notes,
        }

    def tables(self) -> dict[str, dict[str, Cells]]:
        """Title -> row -> heading -> number or words, for people."""
        tables: dict[str, dict[str, Cells]] = {}
        rules = "under the other's rules" if self.settings else "under the same rules"
        if not self.refused:
            tables[f"{quantify(self.images, 'image')} that both scored, {rules}"] = self._list_differences()
        if self.ablation is not None:
            start: Cells = {"value": self.ablation.start, "effect": None, "low": None, "high": None, "change": self.one}
            steps = {f"{number} {step.name}": step.cells() for number, step in enumerate(self.ablation.steps, 1)}
            tables[f"{self.ablation.metric}, one setting at a time"] = {"start": start, **steps}
        return tables

    def markdown(self) -> str:
        """The tables as a page."""
        parts = [f"# {escape_markdown(self.one)} and {escape_markdown(self.other)}", *map(escape_markdown, self.notes)]
        if self.ablation is None:  # otherwise its table has the settings
            parts += [escape_markdown(f"{name}: {words}") for name, words in self.settings.items()]
        for title, rows in self.tables().items():
            parts += [f"## {escape_markdown(title)}", _format_table(rows)]
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path) -> None:
        """Write `comparison.json` and `comparison.md`."""
        document = json.dumps(self.document(), indent=1, ensure_ascii=False) + "\n"
        for name, text in (("comparison.json", document), ("comparison.md", self.markdown())):
            with files.atomic_write(folder / name) as tmp_path:
                tmp_path.write_text(text, encoding="utf-8", errors="backslashreplace")

    def _list_differences(self) -> dict[str, Cells]:
        """Metric -> both means, their difference and its bounds."""
        rows: dict[str, Cells] = {}
        for name, (one, other) in self.means.items():
            bounds = list_bounds(self.differences.get(name))
            rows[name] = {"one": one, "other": other, "difference": other - one, **bounds}
        return rows


@takes(CompareOptions)
def compare(one: str | Path, other: str | Path, *, options: CompareOptions) -> Comparison:
    """The paired difference of two evaluations; and, where their rules differ, what each setting explains of it.

    Args:
        one: a folder that `sonde eval -o` wrote, a run folder, or the metrics.json of either.
        other: likewise; differences are other - one.
        options: the options below, as one value.

    Raises:
        ValueError: a folder without an evaluation, no shared capture, or predictions that are not the first's.
    """
    first, second = (read_evaluation(find_folder(place)) for place in (one, other))
    metric = _choose_metric(first, second, options.metric)
    settings, notes = _weigh(first, second)
    shared = _ids_of(first) & _ids_of(second)
    if not shared:
        raise ValueError(f"{one} and {other} share no capture: score both on the same set.")
    kept = options.predictions or find_predictions(first, find_folder(one))
    ablation = None
    rows: Rows = []
    if not settings:
        rows = [row for row in first.rows if row["id"] in shared]
    elif kept is not None:
        ablation = ablate(first, second, kept, metric, options.level)
        rows = ablation.under
    else:
        notes.append(
            "Their settings differ, so the difference of their numbers does not describe the models. Score the first "
            "again with `sonde eval … --keep FOLDER -o OUT`; then `sonde compare OUT …` shows what each setting "
            "explains."
        )
    paired = _pair(rows, first, second, options.level)
    if rows and not any(paired.differences.values()):
        notes.append("The shared images are of one scene: their difference has no interval.")
    comparison = Comparison(
        one=str(one),
        other=str(other),
        metric=metric,
        images=len(rows) or len(shared),
        alone=(len(first.rows) - len(shared), len(second.rows) - len(shared)),
        settings=settings,
        means=paired.means,
        differences=paired.differences,
        ablation=ablation,
        notes=notes,
    )
    if options.out is not None:
        comparison.write(options.out)
    return comparison


def find_folder(place: str | Path) -> Path:
    """The folder of an evaluation, given the folder or its metrics.json."""
    path = Path(place)
    return path.parent if path.suffix == ".json" else path


def find_predictions(scored: Evaluation, folder: Path) -> Path | None:
    """The folder of an evaluation's predictions, as its settings say: below its own folder, or a path; None: gone."""
    named = scored.settings.predictions
    places = [] if named is None else [folder / named, Path(named)]
    return next((place for place in places if place.is_dir()), None)


@dataclass(frozen=True)
class _Paired:
    """Metric -> means of both, and the paired difference."""

    means: dict[str, tuple[float, float]]
    differences: dict[str, Interval | None]


def _pair(rows: Rows, first: Evaluation, second: Evaluation, level: int | float) -> _Paired:
    """Rows of the first model and the second's rows of the same images, in every metric that both have."""
    if not rows:
        return _Paired({}, {})
    names = [name for name in first.metrics if name in second.metrics]
    answers = {row["id"]: row for row in second.rows}
    others = [answers[row["id"]] for row in rows]
    found = pair_rows(rows, others, names, level, second.rows)
    one, other = means(rows, names), means(others, names)
    return _Paired({name: (one[name], other[name]) for name in names}, {name: found.get(name) for name in names})


def _weigh(one: Evaluation, other: Evaluation) -> tuple[dict[str, str], list[str]]:
    """The settings that differ, and notes on what weakens the comparison.

    A folder that is not on this machine counts as a copy of the other's, as for scores from two machines.
    """
    settings = list_differences(one, other)
    notes: list[str] = []
    places = [scored.settings.data for scored in (one, other)]
    at_one_place = list_differences(one, other.record(data=places[0]))
    only_by_place = GROUND_TRUTH in settings and GROUND_TRUTH not in at_one_place
    if only_by_place and not all(Path(place).is_dir() for place in places):
        del settings[GROUND_TRUTH]
        notes.append(
            f"{places[0]} and {places[1]} are taken for copies of the same captures: they are not both on this machine."
        )
    alone = [len(_ids_of(one) - _ids_of(other)), len(_ids_of(other) - _ids_of(one))]
    if any(alone):
        notes.append(
            f"{quantify(alone[0], 'image')} of the first and {alone[1]} of the second are not shared, and left out."
        )
    return settings, notes


def _choose_metric(one: Evaluation, other: Evaluation, metric: str | None) -> str:
    """The metric to explain: the one asked for, or the first of the main ones that both have."""
    common = [name for name in one.metrics if name in other.metrics]
    if metric is not None and metric not in common:
        raise ValueError(f"No metric {metric!r} in both evaluations: {nearest(metric, common)}")
    asked = [name for name in (metric, one.main.metric, other.main.metric, "abs_rel", *common) if name in common]
    if not asked:
        raise ValueError(f"{one.protocol} and {other.protocol} have no metric in common: score both by one of them.")
    return asked[0]


def _ids_of(scored: Evaluation) -> set[str]:
    return {row["id"] for row in scored.rows}


def _format_table(rows: Mapping[str, Cells]) -> str:
    """A Markdown table; the first row gives the headings."""
    names = list(next(iter(rows.values())))
    lines = [["", *map(escape_markdown, names)], ["---"] * (len(names) + 1)]
    lines += [
        [escape_markdown(row), *(_format_cell(values.get(name)) for name in names)] for row, values in rows.items()
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _format_cell(value: Cell) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else escape_markdown(value)
