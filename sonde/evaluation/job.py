"""A model under a protocol on one set: captures are read one at a time, one row each, and their mean."""

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sonde import background, files, protocols
from sonde.background import Background
from sonde.baselines import ConstantPredictor, LeftOut
from sonde.datasets import Capture, DepthSet, Joined, only, open_set
from sonde.evaluation.bootstrap import check_level
from sonde.evaluation.evaluation import RATIO, SCALE, Evaluation, means, versions
from sonde.evaluation.heights import SHARE, bench_of, by_height
from sonde.evaluation.left_out import read_choice
from sonde.evaluation.ordinal import score_pairs
from sonde.evaluation.predictions import Predictor, as_asked, folder_of_answers, make_predictor
from sonde.evaluation.runs import Run, count_train_overlap, open_captures, read_run, usual_protocol
from sonde.evaluation.scoring import BY_RANGE, LENGTHS, Scored, crop_prediction, score_fully, view
from sonde.models import DepthModel
from sonde.protocols import Protocol
from sonde.spelling import nearest
from sonde.types import DepthArray
from sonde.units import UNITS

Watcher = Callable[[Capture, DepthArray, dict[str, Any]], None]
"""Told of every scored capture: as the protocol shows it, the prediction as scored (metres), and its row."""


def evaluate(
    model: DepthModel | Predictor | str | Path,
    protocol: str | None = None,
    data: DepthSet | str | Path | None = None,
    *,
    format: str | None = None,
    listed: str | Path | None = None,
    ids: Sequence[str] | None = None,
    align: str | None = None,
    max_depth_eval: int | float | None = None,
    max_depth: int | float | None = None,
    encoding: str | None = None,
    ci: int | float | None = None,
    out: str | Path | None = None,
    keep: str | Path | None = None,
    watch: Watcher | None = None,
    bench: Background | None = None,
) -> Evaluation:
    """Scores of a model under a protocol.

    Of a run that kept no captures, its own set is scored by the answers that it was chosen by, to captures left out.

    Args:
        model: a DepthModel, a Predictor, a name `sonde.load` takes, or a folder of predictions named by id.
        protocol: a packaged name, see `protocols.names`, or a YAML file of one's own; by default that of a run's own
            test, or of the layout: zivid-mm for zivid, metric for most.
        data: the captures; by default those of the model's own run.
        format: the layout of `data`, a name in DATASETS; by default the run's, else zivid.
        listed: a file of the captures to score, in any form that `datasets.only` takes.
        ids: the captures to score; by default a run's own test captures, or all where `data` is another set.
        align: a name in ALIGN, in place of the protocol's; the result is then named PROTOCOL+ALIGN.
        max_depth_eval: metres at which the protocol ends, in place of its own; the result is then named PROTOCOL+80m.
        max_depth: metres at which a GLPDepth .ckpt ends, as `models.load` takes it.
        encoding: a name in ENCODINGS by which the model's answer is decoded, in place of its own.
        ci: the level, in %, of intervals beside the means: of images drawn again, or of the scenes they share.
        out: a folder for `metrics.json` and `per_image.csv`.
        keep: a folder for the predictions; those that are there are not predicted again.
        watch: told of every scored capture.
        bench: of a fixed camera, for errors by height above it; by default the one that the model knows.

    Raises:
        ValueError: an unknown name, data that is missing, or predictions that the protocol cannot score.
    """
    out, keep = (None if folder is None else Path(folder) for folder in (out, keep))
    run = read_run(model) if isinstance(model, str | Path) else None
    check_level(ci)
    opened = run is None and data is not None and not isinstance(data, str | Path)
    layout = format or (getattr(data, "layout", "folder") if opened else None)
    rules = protocols.load(protocol or usual_protocol(run, layout), align, max_depth_eval)
    if rules.average == "pair":
        if not isinstance(data, str | Path) or any(word is not None for word in (ids, listed, align, format)):
            raise ValueError(
                f"{rules.name} scores all of a folder with annotations.json: give data=ROOT, and neither format nor "
                "alignment nor a choice of captures."
            )
        asked = as_asked(model, max_depth, encoding)
        return _finished(score_pairs(*make_predictor(asked, keep=keep), Path(data), rules), ci, out)
    captures = captures_of(data, format, run, listed)
    own = run if run is not None and ids is None and listed is None and _is_own(captures, run) else None
    choice = read_choice(own.folder) if own is not None and not own.parts["test"] else None
    chosen = chosen_of(captures, run, ids if choice is None else choice.ids, listed)
    answering = model if choice is None else choice.answers
    named = make_predictor(as_asked(answering, max_depth, encoding), rules.cut, keep)
    evaluation = score_set(*named, captures, chosen, rules, watch, bench or bench_of(model))
    evaluation.settings["known"] = count_train_overlap(answering, captures, chosen.ids)
    evaluation.settings.update({"encoding": encoding} if encoding else {})
    if data is None or isinstance(data, str | Path):
        evaluation.settings["format"] = format_of(format, run)
    if (answers := folder_of_answers(answering, keep)) is not None:
        evaluation.settings["predictions"] = recorded(answers, out)
    evaluation.settings.update({} if choice is None else choice.settings)
    evaluation.settings.update(_said(own, evaluation))
    return _finished(evaluation, ci, out)


def _is_own(captures: DepthSet, run: Run) -> bool:
    """Whether these are the captures that a run began with."""
    return _same(captures.root, run.recipe.data.root)


def _said(run: Run | None, evaluation: Evaluation) -> dict[str, str]:
    """The verdict that a run's report gave on these very scores, beside answers that do not look at the image."""
    path = None if run is None else run.folder / "metrics.json"
    if path is None or not path.is_file():
        return {}
    with files.reading(path, "remove it, and the run is scored without it"):
        document, main = json.loads(path.read_text(encoding="utf-8")), evaluation.main.metric
        same = document["protocol"] == evaluation.protocol and document["settings"]["ids"] == evaluation.settings["ids"]
        alike = math.isclose(document["metrics"].get(main, math.nan), evaluation.metrics[main], rel_tol=0.01)
    return {"headline": document["headline"]} if same and alike and "headline" in document else {}


def _finished(evaluation: Evaluation, ci: int | float | None, out: Path | None) -> Evaluation:
    """With the level of its intervals, and written where a folder is given."""
    if ci is not None:
        evaluation.settings["ci"] = ci
    if out is not None:
        evaluation.write(out)
    return evaluation


def recorded(answers: Path, out: Path | None) -> str:
    """Where predictions lie, as settings say it: below the folder that is written where they are, so that it moves."""
    return str(answers.relative_to(out) if out is not None and answers.is_relative_to(out) else answers)


def format_of(format: str | None, run: Run | None) -> str:
    """The layout that `evaluate` reads where none is given: the run's, else zivid."""
    return format or (run.recipe.data.format if run else "zivid")


class Chosen(NamedTuple):
    """The captures to score."""

    ids: list[str]
    words: str
    """Which they are."""


def score_set(
    predictor: Predictor,
    name: str,
    captures: DepthSet,
    chosen: Chosen,
    rules: Protocol,
    watch: Watcher | None = None,
    bench: Background | None = None,
) -> Evaluation:
    """Scores of what answers, called `name`, on chosen captures; where their `bench` is known also by height above it.

    Raises:
        ValueError: none of them could be scored, or predictions that the protocol cannot score.
    """
    if rules.average == "pair":
        raise ValueError(f"{rules.name} scores pairs of points, and {captures.root} holds depth: score it by itself.")
    moved: dict[str, dict[str, float]] = {}
    above = None if bench is None or captures.space != "metric" else partial(_above, bench, moved)
    rows, skipped = _score_all(predictor, captures, chosen.ids, rules, watch, above)
    settings = {
        "protocol": rules.model_dump(),
        "model": name,
        "data": ", ".join(map(str, captures.roots(chosen.ids) if isinstance(captures, Joined) else [captures.root])),
        "limits": list(captures.limits),
        "unit": captures.unit,
        "captures": chosen.words,
        "ids": [row["id"] for row in rows],
        "versions": versions(),
    } | ({"moved": moved} if moved else {})
    names = _named(dict.fromkeys(rules.metrics), rules.unit or captures.unit)
    return Evaluation(rules.name, means(rows, names), rows, skipped, settings)


def captures_of(
    data: DepthSet | str | Path | None, format: str | None, run: Run | None, listed: str | Path | None = None
) -> DepthSet:
    """The set that `evaluate` is asked to score on; the run's own as the run reads it.

    Raises:
        ValueError: no set was named, or none is there.
    """
    if isinstance(data, str | Path) or data is None:
        data = _opened(data, format, run)
    return data if listed is None else only(data, Path(listed))


def chosen_of(
    captures: DepthSet, run: Run | None, ids: Sequence[str] | None = None, listed: str | Path | None = None
) -> Chosen:
    """Those given by id or by a list; of a run's own set its test captures; else all.

    Raises:
        ValueError: there are none, or one that the set lacks.
    """
    if ids is not None:
        chosen = Chosen(list(ids), "given by id")
    elif listed is not None:
        chosen = Chosen(list(captures.ids), f"those of {listed}")
    elif run is not None and _is_own(captures, run):
        if not run.parts["test"]:
            raise ValueError(
                f"{run.folder} kept no captures for a test: give --data ROOT, captures that it did not train on."
            )
        chosen = Chosen(run.parts["test"], f"test captures of {run.folder}")
    else:
        chosen = Chosen(list(captures.ids), "all captures")
    absent = [id_ for id_ in chosen.ids if id_ not in set(captures.ids)]
    if absent:
        raise ValueError(f"{captures.root} has no capture {absent[0]!r}: {nearest(absent[0], list(captures.ids))}")
    if not chosen.ids:
        raise ValueError(f"No captures to score: the {chosen.words} are none; give ids, or the data of another folder.")
    return chosen


Above = Callable[[Capture, DepthArray, str], dict[str, Any]]
"""A capture as the protocol shows it, the prediction as scored and the unit of errors -> columns by height."""


def _above(
    bench: Background, moved: dict[str, dict[str, float]], capture: Capture, prediction: DepthArray, unit: str
) -> dict[str, Any]:
    """The columns by height above the bench; and, in `moved`, how far off a capture lies that is not on the bench."""
    row = by_height(bench, capture, prediction, unit)
    if row[SHARE] is not None:
        found = background.register(bench, capture.image, capture.depth)
        if found.moved:
            moved[capture.id] = {"offset_mm": 1000 * (found.offset or 0.0), "shift_px": found.shift_px}
    return row


def _score_all(
    predictor: Predictor,
    captures: DepthSet,
    ids: Sequence[str],
    rules: Protocol,
    watch: Watcher | None,
    above: Above | None,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A row for each capture, and why the others have none."""
    position = {name: index for index, name in enumerate(captures.ids)}
    unit = rules.unit or captures.unit
    kinds = {name: captures.groups(by) for name, by in (("group", rules.groups), ("scene", rules.scenes)) if by}
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for id_ in ids:
        try:
            capture = captures.read(position[id_])
            seen = view(capture, rules)
        except ValueError as error:
            skipped[id_] = str(error)
            continue
        answer = crop_prediction(
            predictor(seen), capture, rules, whole=isinstance(predictor, ConstantPredictor | LeftOut)
        )
        scored = score_fully(answer, seen, rules, UNITS[unit])
        kin = {name: known[id_] for name, known in kinds.items()}
        rows.append({"id": id_, "pixels": int(seen.mask.sum()), **kin, **_row(scored, rules, unit)})
        rows[-1] |= above(seen, scored.depth, unit) if above is not None else {}
        if watch is not None:
            watch(seen, scored.depth, rows[-1])
    if not rows:
        raise ValueError(f"None of {len(ids)} captures could be scored: {next(iter(skipped.values()))}")
    return rows, skipped


def _row(scored: Scored, rules: Protocol, unit: str) -> dict[str, Any]:
    row: dict[str, Any] = _named(scored.metrics, unit)
    if scored.fitted is not None:
        row[SCALE] = scored.fitted
    if scored.ratio is not None or rules.space == "metric":
        row[RATIO] = scored.ratio
    empty = {"pixels": 0, **dict.fromkeys(BY_RANGE)}
    for span in rules.spans:
        values = _named(scored.ranges.get(span, empty), unit)
        row |= {f"{name}[{span}]": value for name, value in values.items()}
    return row


def _named(scores: dict[str, Any], unit: str) -> dict[str, Any]:
    return {f"{name}_{unit}" if name in LENGTHS else name: value for name, value in scores.items()}


def _opened(root: str | Path | None, format: str | None, run: Run | None) -> DepthSet:
    if run is not None and (root is None or _same(root, run.recipe.data.root)):
        if format in (None, run.recipe.data.format):
            return open_captures(run.recipe)
        root = run.recipe.data.root
    if root is None:
        raise ValueError("No captures to score on: give data=ROOT, the folder of the set (--data on the command line).")
    return open_set(format_of(format, run), root)


def _same(one: str | Path, other: str | Path) -> bool:
    return Path(one).resolve() == Path(other).resolve()
