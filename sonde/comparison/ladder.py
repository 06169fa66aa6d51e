"""Why two numbers differ: from one evaluation's rules to another's, one setting at a time.

The first's predictions are scored again on every rung, so that the effects of the steps, with what remains between the
two models, add up to the whole difference. A rung mixes two protocols: its name says that it is no result.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from sonde.datasets import DepthSet, open_set
from sonde.evaluation import Chosen, Evaluation, Interval, Predictor, check_cut, paired, read_predictions, score_set
from sonde.evaluation.evaluation import means
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
"""Step -> the constants of a protocol that it changes, in the order of the ladder; the ground truth comes before."""

Rows = Sequence[Mapping[str, Any]]


class AblationSetting(NamedTuple):
    """Rules between those of two evaluations, and the ground truth they are applied to."""

    rules: Protocol
    source: dict[str, Any]
    """format, data and limits, as an evaluation's settings say them."""


class AblationStep(NamedTuple):
    """What one setting explains."""

    name: str
    change: str
    """From what to what."""
    value: float
    """The main metric after it."""
    effect: float
    """By how much it changed."""
    interval: Interval | None
    """Of the effect, image by image; None where images change, or are too few."""


class Ablation(NamedTuple):
    """The main metric from one evaluation to another: start + every effect = the last value."""

    metric: str
    start: float
    steps: list[AblationStep]
    under: Rows
    """The first's predictions under the other's rules, of the images that every rung scored."""

    @property
    def total(self) -> float:
        """The whole difference, other - one."""
        return self.steps[-1].value - self.start


def rules_of(scored: Evaluation) -> Protocol:
    """The protocol in an evaluation's settings.

    Raises:
        ValueError: it lacks constants, as one written by an earlier sonde may.
    """
    try:
        return Protocol.model_validate(scored.settings["protocol"])
    except ValidationError as error:
        name = ".".join(map(str, error.errors()[0]["loc"]))
        raise ValueError(f"The settings of {scored.protocol} do not fit this sonde at {name!r}: score again.") from None


def differing(one: Evaluation, other: Evaluation) -> dict[str, str]:
    """Step -> from what to what, of all that two evaluations were scored by differently, in the ladder's order."""
    first, second = rules_of(one).model_dump(), rules_of(other).model_dump()
    source = _changed(_source(one, other), _source(other, one))
    steps = {name: _changed(_chosen(first, keys), _chosen(second, keys)) for name, keys in SETTINGS.items()}
    return {name: words for name, words in {GROUND_TRUTH: source, **steps}.items() if words}


def ablate(one: Evaluation, other: Evaluation, predictions: Path, metric: str, level: int | float = 95) -> Ablation:
    """The ladder of a metric from one evaluation to another, on the first's predictions.

    Args:
        one: where it starts.
        other: where it ends; of some of the same images.
        predictions: the first's, as `sonde eval --keep` left them.
        metric: a name in both.
        level: of the intervals, in %.

    Raises:
        ValueError: predictions that are not the first's, or that the other's rules cannot score; or no shared image.
    """
    if rules_of(one).average != rules_of(other).average:
        raise ValueError("Depth and pairs of points have no rules between them: score both by one or the other.")
    check_cut(predictions, rules_of(other).cut)
    names = [name for name in rules_of(one).metrics if name in rules_of(other).metrics]
    shared = _shared(one.rows, other.rows)
    rungs = _ablation_settings(one, other, names)
    predictor, scored = read_predictions(predictions), {}
    for name, setting in rungs.items():
        scored[name] = _rescored(predictor, setting, shared)
    _check_start(one, scored[""], predictions, metric)
    shared = _shared(*scored.values(), other.rows)
    return _told(one, other, metric, {name: _only(rows, shared) for name, rows in scored.items()}, level)


def paired_rows(rows: Rows, others: Rows, names: list[str], level: int | float, known: Rows) -> dict[str, Interval]:
    """Metric -> paired interval of others - rows; `known` says what scenes they share. Empty for a single scene."""
    scenes = {row["id"]: row["scene"] for row in known if "scene" in row}
    bare = [{key: value for key, value in row.items() if key != "scene"} for row in others]
    drawn = [row | ({"scene": scenes[row["id"]]} if row["id"] in scenes else {}) for row in bare]
    units = {row.get("scene", row["id"]) for row in drawn}
    return paired(drawn, rows, names, level) if len(units) > 1 else {}


def _ablation_settings(one: Evaluation, other: Evaluation, names: list[str]) -> dict[str, AblationSetting]:
    """Step -> what is scored after it; the first, without a name, are the first evaluation's own rules."""
    first, second = rules_of(one), rules_of(other)
    unit = first.unit or one.settings["unit"]
    first = first.model_copy(update={"metrics": names, "unit": unit, "groups": None, "scenes": None, "ranges": ()})
    setting = AblationSetting(first, _source(one, other))
    rungs = {"": setting}
    for step in differing(one, other):
        if step == GROUND_TRUTH:
            setting = setting._replace(source=_source(other, one))
        else:
            fields = SETTINGS[step] + (("space",) if step == "alignment" else ())
            name = f"{first.name} > {second.name}, up to {step} (a rung, no result)"
            changed = _chosen(second.model_dump(), fields) | {"name": name}
            setting = setting._replace(rules=setting.rules.model_copy(update=changed))
        rungs[step] = setting
    return rungs


def _rescored(predictor: Predictor, setting: AblationSetting, ids: list[str]) -> Rows:
    captures = _opened(setting.source)
    absent = [id_ for id_ in ids if id_ not in set(captures.ids)]
    if absent:
        raise ValueError(
            f"{captures.root} as {setting.source['format']} has no capture {absent[0]!r}, which was scored: "
            "restore the set that was scored, or score again."
        )
    return score_set(predictor, "kept predictions", captures, Chosen(ids, "shared"), setting.rules).rows


def _opened(source: dict[str, Any]) -> DepthSet:
    if source["format"] is None:
        raise ValueError(
            f"The settings do not say in which layout {source['data']} was read: score it again with "
            "`sonde eval … --data … --format …`, which records it."
        )
    low, high = source["limits"]
    return open_set(source["format"], source["data"], min_depth=low, max_depth=high)


def _check_start(one: Evaluation, again: Rows, predictions: Path, metric: str) -> None:
    """What is scored again must be what was scored."""
    told = {row["id"]: row[metric] for row in one.rows}
    wrong = [row["id"] for row in again if not np.isclose(row[metric], told[row["id"]], rtol=1e-6, atol=1e-12)]
    if wrong:
        raise ValueError(
            f"The predictions in {predictions} do not give the first evaluation's {metric} of {wrong[0]}: they, or the "
            "captures, are others than those scored; score them again."
        )


def _told(one: Evaluation, other: Evaluation, metric: str, scored: dict[str, Rows], level: int | float) -> Ablation:
    """The steps in words and numbers: the images first and last, the model before the last."""
    start, changes = one.metrics[metric], differing(one, other)
    stages = [(name, changes[name], rows) for name, rows in scored.items() if name]
    count = len(scored[""])
    stages.append((MODEL, f"{one.settings['model']} → {other.settings['model']}", _only(other.rows, _ids(scored[""]))))
    value, rows, steps = means(scored[""], [metric])[metric], scored[""], []
    if len(one.rows) != count:
        steps.append(AblationStep(IMAGES, f"{len(one.rows)} → {count} that both have", value, value - start, None))
    else:
        value = start
    for name, change, after in stages:
        found = paired_rows(rows, after, [metric], level, other.rows).get(metric)
        reached = means(after, [metric])[metric]
        steps.append(AblationStep(name, change, reached, reached - value, found))
        value, rows = reached, after
    end = other.metrics[metric]
    if len(other.rows) != count:
        steps.append(AblationStep(IMAGES, f"{count} → the other's {len(other.rows)}", end, end - value, None))
    return Ablation(metric, start, steps, scored[list(scored)[-1]])


def _source(scored: Evaluation, other: Evaluation | None = None) -> dict[str, Any]:
    """Layout, folder and limits of what was scored; what is not known is taken from another evaluation."""
    unknown = _source(other) if other is not None else {}
    source = {key: scored.settings.get(key) for key in ("format", "data", "limits")}
    return {key: unknown.get(key) if value is None else value for key, value in source.items()}


def _changed(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """`resize bicubic → bilinear, …` of what differs; empty where nothing does."""
    pairs = [(key, _plain(first[key]), _plain(second[key])) for key in first]
    return ", ".join(f"{key} {before} → {after}" for key, before, after in pairs if before != after)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else "none" if value is None else value


def _chosen(fields: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: fields[key] for key in keys}


def _ids(rows: Rows) -> list[str]:
    return [row["id"] for row in rows]


def _only(rows: Rows, ids: Sequence[str]) -> list[dict[str, Any]]:
    found = {row["id"]: dict(row) for row in rows}
    return [found[id_] for id_ in ids]


def _shared(*parts: Rows) -> list[str]:
    """Ids in all of them, in the order of the first.

    Raises:
        ValueError: none.
    """
    common = set.intersection(*(set(_ids(rows)) for rows in parts))
    if not common:
        raise ValueError("The two evaluations share no capture: score both on the same set.")
    return [id_ for id_ in _ids(parts[0]) if id_ in common]
