"""One model on several sets: a row for each, and after it what the mean training depth scores there."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from sonde import baselines, models, protocols
from sonde.baselines import ConstantPredictor
from sonde.checks import ScreeningDocument
from sonde.datasets import DATASETS
from sonde.evaluation.bootstrap import check_level
from sonde.evaluation.chosen import captures_of
from sonde.evaluation.evaluation import Evaluation
from sonde.evaluation.heights import bench_of
from sonde.evaluation.job import evaluate, screen_captures
from sonde.evaluation.predictions import Subject, as_asked, as_subject
from sonde.evaluation.rows import Watcher
from sonde.evaluation.verdict import MEAN_MAP
from sonde.options import LOADING, takes
from sonde.options.evaluate import EvaluateOptions
from sonde.protocols import Protocol
from sonde.runs import Run, open_captures, read_run
from sonde.spelling import nearest

LOG = logging.getLogger(__name__)
LOADED: dict[str, Any] = {about.name: about.default for about in fields(EvaluateOptions) if about.name in LOADING}
"""The options of a model that is loaded already."""


class On(NamedTuple):
    """One of several sets to score on."""

    format: str
    """A name in DATASETS."""
    root: Path
    protocol: str | None = None
    """A packaged name; None takes the one given for all."""
    listed: Path | None = None
    """A file of the captures to score; None takes all."""


def parse_on(text: str) -> On:
    """A set as the command line spells it: `FORMAT:ROOT[@PROTOCOL][#LIST]`.

    Raises:
        ValueError: no FORMAT:ROOT, or a format that is not there.
    """
    format_, colon, rest = text.partition(":")
    if not (colon and rest):
        raise ValueError(f"--on {text!r}: expected FORMAT:ROOT[@PROTOCOL][#LIST], such as kitti:data/kitti@kitti-garg.")
    if format_ not in DATASETS:
        raise ValueError(f"--on {text!r}: no dataset format {format_!r}; {nearest(format_, list(DATASETS))}")
    rest, _, listed = rest.partition("#")
    root, _, protocol = (rest, "", "") if Path(rest).is_dir() else rest.partition("@")
    return On(format_, Path(root), protocol or None, Path(listed) if listed else None)


@takes(EvaluateOptions)
def evaluate_many(
    model: str | Path,
    sets: Iterable[On],
    protocol: str = "metric",
    *,
    options: EvaluateOptions,
    watch: Callable[[str], Watcher] | None = None,
) -> dict[str, Evaluation]:
    """Scores of one model on several sets: a row for each and, after it, the mean depth map of the training captures.

    The mean map is resized to each set, so that it also shows what a change of camera alone costs. It is there for
    runs on metric captures, under protocols of metric depth; an alignment leaves it out.

    Args:
        model: a run folder, a name `sonde.load` takes, or a folder of predictions.
        sets: where to score; a set of the run's own root is its test captures.
        protocol: of the sets that name none.
        options: the options below, as one value; `out` and `keep` get a folder for each row.
        watch: given a row's name, called with every capture that the model itself is scored on for it.

    Raises:
        ValueError: as `evaluate`; or two sets that would be one row.
    """
    if options.format or options.listed or options.encoding:
        raise ValueError(
            "--on names set, layout and list by itself: leave --data, --format, --only and --encoding out."
        )
    check_level(options.ci)
    wanted = _rows_of(sets, protocol, options)
    run = read_run(model)
    checks = {row: _screen(each, as_subject(model), run, options.check) for row, (each, _) in wanted.items()}
    subject = _load_once(model, run, options)
    mean = None if run is None or options.align is not None else _mean_map(run)
    scores: dict[str, Evaluation] = {}
    for row, (each, rules) in wanted.items():
        out, keep = (None if folder is None else folder / folder_of(row) for folder in (options.out, options.keep))
        asked = replace(options, format=each.format, listed=each.listed, out=out, keep=keep, check=False, **LOADED)
        name = each.protocol or protocol
        watcher = watch(row) if watch is not None else None
        own = {row: evaluate(subject, name, each.root, options=asked, watch=watcher).record(checks=checks[row])}
        # Answers to captures left out are no match for a map of all captures, which has seen them.
        if mean is not None and rules.space == "metric" and not own[row].left_out:
            rival = Subject(mean, model, MEAN_MAP)
            bench = bench_of(subject.answers)
            asked = replace(asked, out=None, keep=None)
            scored = evaluate(rival, name, each.root, options=asked, bench=bench)
            own[f"{row}: {MEAN_MAP}"] = scored.record(checks=None)
        if out is not None:
            own[row].write(out, own)
        scores |= own
    return scores


def _screen(each: On, subject: Subject, run: Run | None, check: bool) -> ScreeningDocument:
    """What the checks say of the captures of one set, before the model is loaded."""
    captures = captures_of(each.root, each.format, run, each.listed)
    return screen_captures(subject, run, captures, captures.ids, check)


def folder_of(row: str) -> str:
    """The folder of a row's results, below the one that `evaluate_many` is given."""
    return row.replace(" ", "-")


def _rows_of(sets: Iterable[On], protocol: str, options: EvaluateOptions) -> dict[str, tuple[On, Protocol]]:
    """Row -> its set and its protocol; known before anything is loaded.

    Raises:
        ValueError: two sets that would be one row, or a protocol of pairs of points.
    """
    rows: dict[str, tuple[On, Protocol]] = {}
    for each in sets:
        rules = protocols.load(each.protocol or protocol, options.align, options.max_depth_eval)
        row = f"{rules.name} on {each.root.name}"
        if rules.average == "pair":
            raise ValueError(f"{rules.name} scores pairs of points, and {each.root} holds depth: score it by itself.")
        if row in rows:
            raise ValueError(f"Two sets are both {row!r}: score them one at a time, or name their folders apart.")
        rows[row] = (each, rules)
    return rows


def _load_once(model: str | Path, run: Run | None, options: EvaluateOptions) -> Subject:
    """The model, loaded for all sets; a folder of predictions as it is."""
    if run is not None:
        return Subject(models.load(model, **{name: getattr(options, name) for name in LOADING}), model)
    return as_asked(as_subject(model), options)


def _mean_map(run: Run) -> ConstantPredictor | None:
    """Of the run's training captures; None, and a warning, where they are gone, and None where they hold no metres."""
    try:
        captures = open_captures(run.recipe)
        indices = baselines.find_indices(captures, run.parts["train"])
        return baselines.fit_mean_map(captures, indices) if captures.space == "metric" else None
    except ValueError as error:
        LOG.warning("No row of the %s: %s", MEAN_MAP, error)
        return None
