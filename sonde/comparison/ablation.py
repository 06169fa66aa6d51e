"""Why two numbers differ: from one evaluation's rules to the other's, one setting at a time.

After every step the first's predictions are scored again, so that the effects of the steps, with what remains between
the two models, add up to the whole difference. Rules between the two mix both protocols: their names say that such a
score is no result.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sonde.datasets import DepthSet, open_set
from sonde.evaluation import (
    Chosen,
    Evaluation,
    Interval,
    Predictor,
    Row,
    check_cut,
    means,
    paired,
    read_predictions,
    score_set,
)
from sonde.protocols import Protocol

GROUND_TRUTH, IMAGES, MODEL = "ground truth", "images", "model"
SETTINGS: dict[str, tuple[str, ...]] = {
    "crop": ("cut", "window", "window_of"),
    "range": ("min_depth", "max_depth"),
    "resize": ("resize", "align_corners"),
    "clamp": ("clamp",),
    "alignment": ("align", "fit_side"),
    "averaging": ("average",),
}
"""Step -> the constants of a protocol that it changes, in the order of the steps; the ground truth comes before."""

Rows = Sequence[Row]
Cell = str | int | float | None
Cells = dict[str, Cell]
"""Heading -> number or words of one row of a table; None where there is nothing to show."""


class GroundTruth(NamedTuple):
    """Where the ground truth of an evaluation came from, as its settings say."""

    format: str | None
    data: str
    limits: tuple[float, float] | None


class AblationSetting(NamedTuple):
    """Rules between those of two evaluations, and the ground truth they are applied to."""

    rules: Protocol
    source: GroundTruth


class AblationStep(NamedTuple):
    """The effect of one setting."""

    name: str
    change: str
    """From what to what."""
    value: float
    """The main metric after it."""
    effect: float
    """By how much it changed."""
    interval: Interval | None
    """Of the effect, image by image; None where images change, or are too few."""

    def cells(self) -> Cells:
        """Heading -> number or words of its row in a table."""
        return {"value": self.value, "effect": self.effect, **list_bounds(self.interval), "change": self.change}


class Ablation(NamedTuple):
    """The main metric from one evaluation to another: start + every effect = the last value."""

    metric: str
    start: float
    steps: list[AblationStep]
    under: Rows
    """The first's predictions under the other's rules, for the images that were scored after every step."""

    @property
    def total(self) -> float:
        """The whole difference, other - one."""
        return self.steps[-1].value - self.start

    def document(self) -> dict[str, object]:
        """Metric, start, steps and total, ready for JSON."""
        steps = [{"step": step.name, **step.cells()} for step in self.steps]
        return {"metric": self.metric, "start": self.start, "steps": steps, "total": self.total}


def list_bounds(interval: Interval | None) -> Cells:
    """The bounds of an interval as cells of a table, low and high."""
    if interval is None:
        return {"low": None, "high": None}
    return {"low": interval.low, "high": interval.high}


def list_differences(one: Evaluation, other: Evaluation) -> dict[str, str]:
    """Step -> from what to what, for every setting that differs between two evaluations, in the order of the steps."""
    first, second = one.settings.protocol, other.settings.protocol
    source, other_source = _source_of(one, other), _source_of(other, one)
    changes = {GROUND_TRUTH: _describe_changes(source._asdict(), other_source._asdict())}
    for name, keys in SETTINGS.items():
        changes[name] = _describe_changes(_constants_of(first, keys), _constants_of(second, keys))
    return {name: words for name, words in changes.items() if words}


def ablate(one: Evaluation, other: Evaluation, predictions: Path, metric: str, level: int | float = 95) -> Ablation:
    """The steps of a metric from one evaluation to another, on the first's predictions.

    Args:
        one: where it starts.
        other: where it ends; it has scored some of the same images.
        predictions: the first's, as `sonde eval --keep` left them.
        metric: a name in both.
        level: of the intervals, in %.

    Raises:
        ValueError: predictions that are not the first's, or that the other's rules cannot score; or no shared image.
    """
    first, second = one.settings.protocol, other.settings.protocol
    if first.average != second.average:
        raise ValueError("Depth and pairs of points have no rules between them: score both by one or the other.")
    check_cut(predictions, second.cut)
    shared = _share_ids(one.rows, other.rows)
    predictor = read_predictions(predictions, one.settings.depth_scale)
    # Step -> rows after it; the name of the first, its own rules, is empty.
    scored = {name: _score_again(predictor, setting, shared) for name, setting in _mix_settings(one, other).items()}
    _check_start(one, scored[""], predictions, metric)
    shared = _share_ids(*scored.values(), other.rows)
    return _make_steps(one, other, metric, {name: _pick(rows, shared) for name, rows in scored.items()}, level)


def pair_rows(rows: Rows, others: Rows, names: Sequence[str], level: int | float, known: Rows) -> dict[str, Interval]:
    """Metric -> paired interval of others - rows, of the same images; empty for a single scene.

    Args:
        rows: of one evaluation.
        others: of another.
        names: the metrics.
        level: of the intervals, in %.
        known: rows that say which images share a scene.
    """
    scenes = {row["id"]: row["scene"] for row in known if "scene" in row}
    drawn = []
    for row in others:
        bare = {key: value for key, value in row.items() if key != "scene"}
        scene = {"scene": scenes[row["id"]]} if row["id"] in scenes else {}
        drawn.append(bare | scene)
    units = {row.get("scene", row["id"]) for row in drawn}
    return paired(drawn, rows, names, level) if len(units) > 1 else {}


def _mix_settings(one: Evaluation, other: Evaluation) -> dict[str, AblationSetting]:
    """Step -> what is scored after it; the first, without a name, are the first evaluation's own rules."""
    first, second = one.settings.protocol, other.settings.protocol
    names = [name for name in first.metrics if name in second.metrics]
    unit = first.unit or one.settings.unit
    first = first.model_copy(update={"metrics": names, "unit": unit, "groups": None, "scenes": None, "ranges": ()})
    setting = AblationSetting(first, _source_of(one, other))
    settings = {"": setting}
    for step in list_differences(one, other):
        if step == GROUND_TRUTH:
            setting = setting._replace(source=_source_of(other, one))
        else:
            # An alignment decides which predictions may be scored, so the protocol's space goes with it.
            keys = SETTINGS[step] + (("space",) if step == "alignment" else ())
            name = f"{first.name} > {second.name}, up to {step} (a step of an ablation, no result)"
            changed = _constants_of(second, keys) | {"name": name}
            setting = setting._replace(rules=setting.rules.model_copy(update=changed))
        settings[step] = setting
    return settings


def _score_again(predictor: Predictor, setting: AblationSetting, ids: list[str]) -> Rows:
    captures = _open(setting.source)
    absent = [id_ for id_ in ids if id_ not in set(captures.ids)]
    if absent:
        raise ValueError(
            f"{captures.root} as {setting.source.format} has no capture {absent[0]!r}, which was scored: "
            "restore the set that was scored, or score again."
        )
    return score_set(predictor, "kept predictions", captures, Chosen(ids, "shared"), setting.rules).rows


def _open(source: GroundTruth) -> DepthSet:
    if source.format is None or source.limits is None:
        raise ValueError(
            f"The settings do not say in which layout {source.data} was read: score it again with "
            "`sonde eval … --data … --format …`, which records it."
        )
    low, high = source.limits
    return open_set(source.format, source.data, min_depth=low, max_depth=high)


def _check_start(one: Evaluation, again: Rows, predictions: Path, metric: str) -> None:
    """Refuse predictions that do not give the first evaluation's own scores."""
    before = {row["id"]: row[metric] for row in one.rows}
    wrong = [row["id"] for row in again if not np.isclose(row[metric], before[row["id"]], rtol=1e-6, atol=1e-12)]
    if wrong:
        raise ValueError(
            f"The predictions in {predictions} do not give the first evaluation's {metric} of {wrong[0]}: they, or the "
            "captures, have changed since they were scored; score them again."
        )


def _make_steps(
    one: Evaluation, other: Evaluation, metric: str, scored: dict[str, Rows], level: int | float
) -> Ablation:
    """The steps in words and numbers: the images first and last, the model before the last."""
    start, changes = one.metrics[metric], list_differences(one, other)
    *_, under = scored.values()
    rows = scored[""]
    count = len(rows)
    stages = [(name, changes[name], after) for name, after in scored.items() if name]
    stages.append((MODEL, f"{one.settings.model} → {other.settings.model}", _pick(other.rows, _list_ids(rows))))
    value, steps = start, []
    if len(one.rows) != count:
        value = means(rows, [metric])[metric]
        steps.append(AblationStep(IMAGES, f"{len(one.rows)} → {count} that both have", value, value - start, None))
    for name, change, after in stages:
        interval = pair_rows(rows, after, [metric], level, other.rows).get(metric)
        reached = means(after, [metric])[metric]
        steps.append(AblationStep(name, change, reached, reached - value, interval))
        value, rows = reached, after
    end = other.metrics[metric]
    if len(other.rows) != count:
        steps.append(AblationStep(IMAGES, f"{count} → the other's {len(other.rows)}", end, end - value, None))
    return Ablation(metric, start, steps, under)


def _source_of(scored: Evaluation, other: Evaluation) -> GroundTruth:
    """Layout, folder and limits of what was scored; what its settings lack is taken from the other evaluation."""
    own, rest = scored.settings, other.settings
    return GroundTruth(own.format or rest.format, own.data, own.limits or rest.limits)


def _describe_changes(first: dict[str, object], second: dict[str, object]) -> str:
    """`resize bicubic → bilinear, …` of what differs; empty where nothing does."""
    pairs = [(key, _plain(first[key]), _plain(second[key])) for key in first]
    return ", ".join(f"{key} {before} → {after}" for key, before, after in pairs if before != after)


def _plain(value: object) -> object:
    """A constant as words show it; a tuple as a list, since a protocol's file and its settings in JSON hold either."""
    if isinstance(value, tuple):
        return list(value)
    return "none" if value is None else value


def _constants_of(rules: Protocol, keys: Sequence[str]) -> dict[str, object]:
    constants = rules.model_dump()
    return {key: constants[key] for key in keys}


def _list_ids(rows: Rows) -> list[str]:
    return [row["id"] for row in rows]


def _pick(rows: Rows, ids: Sequence[str]) -> list[Row]:
    """The rows of these ids, in their order."""
    found = {row["id"]: dict(row) for row in rows}
    return [found[id_] for id_ in ids]


def _share_ids(*parts: Rows) -> list[str]:
    """Ids in all of them, in the order of the first.

    Raises:
        ValueError: none.
    """
    common = set.intersection(*(set(_list_ids(rows)) for rows in parts))
    if not common:
        raise ValueError("The two evaluations share no capture: score both on the same set.")
    return [id_ for id_ in _list_ids(parts[0]) if id_ in common]
