"""Two evaluations against each other: how far their models differ on the same images, and why their numbers do.

Scored by the same rules, they are drawn together, image by image. Scored by different rules, their numbers say nothing
of the models: then the first's kept predictions are scored again, and a ladder tells what each setting explains.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sonde import files
from sonde.comparison.ladder import (
    GROUND_TRUTH,
    Ablation,
    AblationSetting,
    AblationStep,
    ablate,
    differing,
    paired_rows,
    rules_of,
)
from sonde.evaluation import Evaluation, Interval, read_evaluation
from sonde.evaluation.evaluation import means
from sonde.spelling import nearest

__all__ = ["Ablation", "AblationSetting", "AblationStep", "Comparison", "ablate", "compare", "differing", "rules_of"]


@dataclass(frozen=True)
class Comparison:
    """What lies between two evaluations; every difference is other - one."""

    one: str
    other: str
    metric: str
    """The main one, of the ladder."""
    images: int
    """That both scored."""
    alone: tuple[int, int]
    """How many images the one and the other scored that they do not share."""
    settings: dict[str, str]
    """Step -> from what to what, where they were scored differently."""
    means: dict[str, tuple[float, float]]
    """Metric -> mean of the one and of the other over the shared images, both under the other's rules; or empty."""
    differences: dict[str, Interval | None]
    """Metric -> mean difference and its paired interval, None where images are too few; or empty."""
    ladder: Ablation | None
    notes: list[str] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        """Whether nothing could be said of the models."""
        return not self.means

    def document(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        found = {
            name: {"one": one, "other": other, "difference": other - one, **_bounds(self.differences.get(name))}
            for name, (one, other) in self.means.items()
        }
        return {
            "one": self.one, "other": self.other, "images": self.images, "not_shared": list(self.alone),
            "settings": self.settings, "difference": found, "ladder": _ladder(self.ladder), "notes": self.notes,
        }  # fmt: skip

    def tables(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Title -> row -> heading -> number or words, for people."""
        document, tables = self.document(), {}
        rules = "under the other's rules" if self.settings else "under the same rules"
        if not self.refused:
            tables[f"{self.images} images that both scored, {rules}"] = document["difference"]
        if self.ladder is not None:
            start = {"value": self.ladder.start, "effect": None, "low": None, "high": None, "change": self.one}
            rows = {f"{number} {step.pop('step')}": step for number, step in enumerate(document["ladder"]["steps"], 1)}
            tables[f"{self.ladder.metric}, one setting at a time"] = {"start": start, **rows}
        return tables

    def markdown(self) -> str:
        """The tables as a page."""
        parts = [f"# {self.one} and {self.other}", *self.notes]
        parts += [f"{name}: {words}" for name, words in self.settings.items() if self.ladder is None]
        for title, rows in self.tables().items():
            names = list(next(iter(rows.values())))
            lines = [["", *names], ["---"] * (len(names) + 1)]
            lines += [[row, *(_cell(values.get(name)) for name in names)] for row, values in rows.items()]
            parts += [f"## {title}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path) -> None:
        """`comparison.json` and `comparison.md`."""
        document = json.dumps(self.document(), indent=1, ensure_ascii=False) + "\n"
        for name, text in (("comparison.json", document), ("comparison.md", self.markdown())):
            with files.atomic_write(folder / name) as tmp_path:
                tmp_path.write_text(text, encoding="utf-8")


def compare(
    one: str | Path,
    other: str | Path,
    *,
    metric: str | None = None,
    level: int | float = 95,
    predictions: Path | None = None,
    out: Path | None = None,
) -> Comparison:
    """The paired difference of two evaluations; and, where their rules differ, what each setting explains of it.

    Args:
        one: a folder that `sonde eval -o` wrote, a run folder, or the metrics.json of either.
        other: likewise; differences are other - one.
        metric: the one to explain; by default the main metric of both, or else AbsRel.
        level: of the intervals, in %.
        predictions: the first's kept predictions; by default where its settings say.
        out: a folder for `comparison.json` and `comparison.md`.

    Raises:
        ValueError: no evaluations, no shared capture, or predictions that do not belong to the first.
    """
    first, second = (read_evaluation(folder_of(place)) for place in (one, other))
    metric = _main(first, second, metric)
    settings, notes = _weighed(first, second)
    kept = predictions or kept_of(first, folder_of(one))
    names = [name for name in first.metrics if name in second.metrics]
    shared = {row["id"] for row in first.rows} & {row["id"] for row in second.rows}
    if not shared:
        raise ValueError(f"{one} and {other} share no capture: score both on the same set.")
    ladder = None
    if settings and kept is not None:
        ladder = ablate(first, second, kept, metric, level)
        rows = ladder.under
    elif settings:
        notes.append(
            "Their settings differ, so that their difference says nothing of the models. Score the first again with "
            "`sonde eval … --keep FOLDER -o OUT`, and `sonde compare OUT …` says what each setting explains."
        )
        rows = []
    else:
        rows = [row for row in first.rows if row["id"] in shared]
    answers = {row["id"]: row for row in second.rows}
    others = [answers[row["id"]] for row in rows]
    found = paired_rows(rows, others, names, level, second.rows) if rows else {}
    if rows and not found:
        notes.append("The shared images are of one scene: their difference has no interval.")
    pair = [means(part, names) for part in (rows, others)] if rows else [{}, {}]
    comparison = Comparison(
        one=str(one), other=str(other), metric=metric, images=len(rows) or len(shared), settings=settings,
        alone=(len(first.rows) - len(shared), len(second.rows) - len(shared)),
        means={name: (pair[0][name], pair[1][name]) for name in pair[0]},
        differences={name: found.get(name) for name in pair[0]}, ladder=ladder, notes=notes,
    )  # fmt: skip
    if out is not None:
        comparison.write(out)
    return comparison


def folder_of(place: str | Path) -> Path:
    """The folder of an evaluation, given itself or its metrics.json."""
    path = Path(place)
    return path.parent if path.suffix == ".json" else path


def kept_of(scored: Evaluation, folder: Path) -> Path | None:
    """Where an evaluation's predictions lie, as its settings say: below its own folder, or a path; None: nowhere."""
    said = scored.settings.get("predictions")
    places = [] if said is None else [folder / said, Path(said)]
    return next((place for place in places if place.is_dir()), None)


def _weighed(one: Evaluation, other: Evaluation) -> tuple[dict[str, str], list[str]]:
    """The settings that differ, and what weakens the comparison.

    A folder that is not on this machine is taken for a copy of the other's, as of scores from two machines.
    """
    settings, notes = differing(one, other), []
    places = [scored.settings["data"] for scored in (one, other)]
    moved = replace(other, settings=other.settings | {"data": places[0]})
    if GROUND_TRUTH in settings and GROUND_TRUTH not in differing(one, moved):
        if not all(Path(place).is_dir() for place in places):
            del settings[GROUND_TRUTH]
            notes.append(
                f"Captures of {places[0]} and {places[1]} are taken for the same: they cannot be compared here."
            )
    alone = [
        len({row["id"] for row in a.rows} - {row["id"] for row in b.rows}) for a, b in ((one, other), (other, one))
    ]
    if any(alone):
        notes.append(f"{alone[0]} images of the first and {alone[1]} of the second are not shared, and left out.")
    return settings, notes


def _main(one: Evaluation, other: Evaluation, metric: str | None) -> str:
    """The metric to explain: the one asked for, or the first of the main ones that both have."""
    common = [name for name in one.metrics if name in other.metrics]
    if metric is not None and metric not in common:
        raise ValueError(f"No metric {metric!r} in both evaluations: {nearest(metric, common)}")
    asked = [name for name in (metric, one.main.metric, other.main.metric, "abs_rel", *common) if name in common]
    if not asked:
        raise ValueError(f"{one.protocol} and {other.protocol} have no metric in common: score both by one of them.")
    return asked[0]


def _bounds(found: Interval | None) -> dict[str, float | None]:
    return {"low": found.low if found else None, "high": found.high if found else None}


def _ladder(ladder: Ablation | None) -> dict[str, Any] | None:
    if ladder is None:
        return None
    steps = [
        {"step": step.name, "value": step.value, "effect": step.effect, **_bounds(step.interval), "change": step.change}
        for step in ladder.steps
    ]
    return {"metric": ladder.metric, "start": ladder.start, "steps": steps, "total": ladder.total}


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
