"""One row for each capture: the prediction scored against its depth, by range and by height where that is known."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from sonde import background
from sonde.background import Background
from sonde.baselines import ConstantPredictor, LeftOut
from sonde.datasets import Capture, DepthSet, JoinedSet
from sonde.evaluation.asking import AnsweredCapture, Predictor, SeenCapture, answer_all
from sonde.evaluation.chosen import Chosen
from sonde.evaluation.columns import BY_RANGE, RATIO, SCALE, Row
from sonde.evaluation.evaluation import Evaluation, means, versions
from sonde.evaluation.heights import SHARE, Cells, measure_heights
from sonde.evaluation.scoring import Scored, apply_protocol_view, crop_prediction, score_fully
from sonde.evaluation.settings import Displacement, Settings
from sonde.metrics import column_of
from sonde.overlap import map_ahead
from sonde.protocols import Protocol
from sonde.spelling import quantify
from sonde.types import DepthArray
from sonde.units import UNITS

Watcher = Callable[[Capture, DepthArray, Row], None]
"""Called with every scored capture: as the protocol shows it, the prediction as scored (metres), and its row."""


class ScoredCapture(NamedTuple):
    """A capture, its prediction as scored (metres), and its row; None where there is nothing to score."""

    seen: SeenCapture
    depth: DepthArray | None = None
    row: Row | None = None


AddHeights = Callable[[Capture, DepthArray, str], Cells]
"""A capture as the protocol shows it, the prediction as scored and the unit of errors -> columns by height."""


def score_set(
    predictor: Predictor,
    name: str,
    captures: DepthSet,
    chosen: Chosen,
    rules: Protocol,
    watch: Watcher | None = None,
    bench: Background | None = None,
) -> Evaluation:
    """Scores of a predictor called `name` on chosen captures; where their `bench` is known also by height above it.

    Raises:
        ValueError: none of them could be scored, or predictions that the protocol cannot score.
    """
    if rules.average == "pair":
        raise ValueError(f"{rules.name} scores pairs of points, and {captures.root} holds depth: score it by itself.")
    moved: dict[str, Displacement] = {}
    add_heights = _height_measurer(bench, moved) if bench is not None and captures.space == "metric" else None
    rows, skipped = _score_all(predictor, captures, chosen.ids, rules, watch, add_heights)
    roots = captures.roots(chosen.ids) if isinstance(captures, JoinedSet) else [captures.root]
    settings = Settings(
        protocol=rules,
        model=name,
        data=", ".join(map(str, roots)),
        limits=captures.limits,
        unit=captures.unit,
        captures=chosen.words,
        ids=[row["id"] for row in rows],
        versions=versions(),
        moved=moved,
    )
    names = [column_of(name, rules.unit or captures.unit) for name in rules.metrics]
    return Evaluation(rules.name, means(rows, names), rows, skipped, settings)


def _height_measurer(bench: Background, moved: dict[str, Displacement]) -> AddHeights:
    """Measures errors by height above the bench, and notes in `moved` the captures that do not lie on it."""

    def measure(capture: Capture, prediction: DepthArray, unit: str) -> Cells:
        cells = measure_heights(bench, capture, prediction, unit)
        if cells[SHARE] is not None:
            found = background.register(bench, capture.image, capture.depth)
            if found.moved:
                moved[capture.id] = Displacement(1000 * (found.offset or 0.0), found.shift_px)
        return cells

    return measure


def _score_all(
    predictor: Predictor,
    captures: DepthSet,
    ids: Sequence[str],
    rules: Protocol,
    watch: Watcher | None,
    add_heights: AddHeights | None,
) -> tuple[list[Row], dict[str, str]]:
    """A row for each capture, and why the others have none.

    One thread reads the next capture and another scores the last one, while the network answers to one.
    """
    unit = rules.unit or captures.unit
    kinds = {name: captures.groups(by) for name, by in (("group", rules.groups), ("scene", rules.scenes)) if by}
    whole = isinstance(predictor, ConstantPredictor | LeftOut)

    def score_one(given: AnsweredCapture) -> ScoredCapture:
        (id_, capture, view, _), answer = given
        if capture is None or view is None or answer is None:
            return ScoredCapture(given.seen)
        scored = score_fully(crop_prediction(answer, capture, rules, whole=whole), view, rules, UNITS[unit])
        kin = {name: known[id_] for name, known in kinds.items()}
        row: Row = {"id": id_, "pixels": int(view.mask.sum()), **kin, **_columns(scored, rules, unit)}
        if add_heights is not None:
            row |= add_heights(view, scored.depth, unit)
        return ScoredCapture(given.seen, scored.depth, row)

    rows: list[Row] = []
    skipped: dict[str, str] = {}
    reading, scoring = ThreadPoolExecutor(1, "read"), ThreadPoolExecutor(1, "score")
    try:
        seen = map_ahead(reading, _make_reader(captures, rules), ids, 1)
        for capture, depth, row in map_ahead(scoring, score_one, answer_all(predictor, seen), 1):
            if row is None or depth is None or capture.view is None:
                skipped[capture.id] = capture.reason
                continue
            rows.append(row)
            if watch is not None:
                watch(capture.view, depth, row)
    finally:
        for pool in (reading, scoring):
            pool.shutdown(cancel_futures=True)
    if not rows:
        raise ValueError(f"None of {quantify(len(ids), 'capture')} could be scored: {next(iter(skipped.values()))}")
    return rows, skipped


def _make_reader(captures: DepthSet, rules: Protocol) -> Callable[[str], SeenCapture]:
    """Reads a capture by its id, as the protocol shows it."""
    position = {name: index for index, name in enumerate(captures.ids)}

    def read(id_: str) -> SeenCapture:
        # A capture that cannot be read is skipped and named; a prediction that cannot be scored ends the evaluation,
        # since leaving it out would flatter the model.
        try:
            capture = captures.read(position[id_])
            return SeenCapture(id_, capture, apply_protocol_view(capture, rules))
        except ValueError as error:
            return SeenCapture(id_, reason=str(error))

    return read


def _columns(scored: Scored, rules: Protocol, unit: str) -> Row:
    """The scores of one capture under the names of their columns."""
    row = _with_units(scored.metrics, unit)
    if scored.fitted is not None:
        row[SCALE] = scored.fitted
    if scored.ratio is not None or rules.space == "metric":
        row[RATIO] = scored.ratio
    empty = {"pixels": 0, **dict.fromkeys(BY_RANGE)}
    for span in rules.spans:
        values = _with_units(scored.ranges.get(span, empty), unit)
        row |= {f"{name}[{span}]": value for name, value in values.items()}
    return row


def _with_units(scores: Mapping[str, int | float | None], unit: str) -> Row:
    return {name if name == "pixels" else column_of(name, unit): value for name, value in scores.items()}
