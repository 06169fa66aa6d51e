"""What the page about a run says: sentences, facts and tables, as the templates take them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sonde import files
from sonde.evaluation import (
    TRIVIAL,
    WORDS,
    Evaluation,
    Measure,
    best_trivial,
    describe_worth,
    headings,
    height_table,
    range_table,
    spoken,
    table,
)
from sonde.evaluation.columns import is_better_larger
from sonde.evaluation.verdict import FEW
from sonde.report.charts import Chart, Curves, describe_training, draw_charts
from sonde.report.gallery import Gallery
from sonde.report.numbers import format_number
from sonde.report.pictures import ERRORS, BenchPictures, PanelPictures, draw_bench, draw_panels, list_stops
from sonde.runs import Run, read_choice, read_run
from sonde.spelling import quantify

RANGE_SEEN = (
    "The range of the encoding is of all captures (data.range: all): the model was told the nearest and the farthest "
    "depth of the captures scored here."
)
REMEDY = "restore it from a copy of the run, or train again"
DASH = "\N{EN DASH}"
"""A cell without a number."""

Numbers = dict[str, dict[str, int | float | None]]
"""Row -> heading -> number of a table."""


class Cell(NamedTuple):
    """One number of the table of scores."""

    name: str
    """The heading of its column."""
    value: str
    best: bool
    """Whether no other row has a better one."""


@dataclass(frozen=True)
class ScoreRow:
    """One row of the table of scores."""

    label: str
    cells: list[Cell]


class Fact(NamedTuple):
    """A setting or a fact: its name, and its value or text."""

    name: str
    text: str


@dataclass(frozen=True)
class Contents:
    """Everything that report.html and report.md show."""

    title: str
    unit: str
    own: Evaluation
    main: Measure
    held: str
    """What kind of captures these are, with a space after it; or empty."""
    headline: list[str]
    caution: str
    facts: list[Fact]
    rows: list[ScoreRow]
    higher: list[str]
    """Headings of metrics that are better higher, besides the δ that the page explains."""
    intervals: list[str]
    ratio: str
    tables: dict[str, Numbers]
    """Title -> errors by depth and by height above the bench."""
    words: tuple[str, ...]
    names: list[str]
    """The columns of the table of every capture."""
    charts: list[Chart]
    bench: BenchPictures | None
    panels: list[PanelPictures]
    gradients: dict[str, str]
    settings: list[Fact]


def gather_contents(folder: Path, scoreboard: Mapping[str, Evaluation], gallery: Gallery) -> Contents:
    """What the templates show of a run, or of scores in any other folder; see `page.write`."""
    label, own = list(scoreboard.items())[-1]
    run = read_run(folder)
    curves = Curves.read(folder / "metrics.jsonl")
    training = curves.summarize_training()
    steps = [] if training is None else [Fact("steps", describe_training(training))]
    numbers = table(scoreboard)
    higher = [heading for heading, name in headings(own).items() if is_better_larger(name)]
    return Contents(
        title=_make_title(folder, run),
        unit=own.unit,
        own=own,
        main=own.main,
        held=_name_captures(run, own),
        headline=compose_headline(scoreboard),
        caution=" ".join([*_gather_notes(scoreboard), describe_caution(run, own)]).strip(),
        facts=_list_facts(run, own) + steps,
        rows=_mark_best(numbers, higher),
        higher=[heading for heading in higher if not heading.startswith("δ")],
        intervals=_list_intervals(own, list(numbers[label])),
        ratio=_describe_ratio(own),
        tables=_list_tables(own),
        words=WORDS,
        names=[name for name in own.rows[0] if not name.endswith("]")],
        charts=draw_charts(curves, gallery.errors, own, None if run is None else curves.find_kept_step(run.recipe)),
        bench=draw_bench(folder, own.unit),
        panels=draw_panels(gallery.panels, own),
        gradients={"depth": list_stops("Spectral"), "error": list_stops(ERRORS)},
        settings=_list_settings(folder, run, own),
    )


def compose_headline(scoreboard: Mapping[str, Evaluation]) -> list[str]:
    """Sentences that compare the last row's mean error with those of other rows.

    The first rival is the best answer that does not look at the image; the model before training follows. Where the
    last row does not beat its rivals, the first sentence says so, with figures and what to try.
    """
    *rivals, (name, own) = scoreboard.items()
    best = best_trivial(scoreboard)
    against = [] if own.headline or best is None else [best]
    against += [label for label, _ in rivals if label not in TRIVIAL]
    first = [own.headline] if own.headline else []
    return [*first, *(_compare_errors(name, own, label, scoreboard[label]) for label in against)]


def describe_caution(run: Run | None, own: Evaluation) -> str:
    """What weakens the numbers, in sentences; empty where nothing does."""
    few = describe_worth(own) if len(own.rows) < FEW else ""
    if run is None:
        return few
    seen = RANGE_SEEN if run.recipe.data.range == "all" and run.recipe.model.encoding and not own.left_out else ""
    return " ".join(filter(None, (seen, _describe_bias(run, own), few)))


def _compare_errors(name: str, own: Evaluation, label: str, rival: Evaluation) -> str:
    """A sentence about two mean errors."""
    mine, theirs = (scored.metrics[own.main.metric] for scored in (own, rival))
    value = f"{format_number(theirs, 3)} {own.main.unit}".strip()
    if is_better_larger(own.main.metric):
        better = "higher" if mine > theirs else "not higher"
        return f"The mean {own.main.words} of {spoken(name)} is {better} than that of {spoken(label)} ({value})."
    times = f"{theirs / mine:.{0 if theirs > 10 * mine else 1}f} times " if mine else ""
    better = f"{times}lower" if mine < theirs else "not lower"
    return f"The mean error of {spoken(name)} is {better} than that of {spoken(label)} ({value})."


def _gather_notes(scoreboard: Mapping[str, Evaluation]) -> list[str]:
    """The notes of the last row, and further ones of the others, under their names."""
    *rivals, (_, own) = scoreboard.items()
    others = [f"{row}: {note}" for row, scored in rivals for note in scored.notes if note not in own.notes]
    return [*own.notes, *others]


def _describe_bias(run: Run, own: Evaluation) -> str:
    """Why the scores are better than those of new captures would be; empty where nothing says so."""
    scored = set(own.settings.ids)
    if own.left_out:
        return ""
    if scored & set(run.parts["train"]) and not own.settings.known:
        return "Captures the model was trained on are among those scored: these numbers flatter it."
    chose = run.recipe.train.get("max_steps") != 0  # without a step there is no checkpoint to choose
    if scored & set(run.parts["validation"]) or (chose and not run.parts["validation"]):
        return "The captures scored here also chose the checkpoint: these numbers flatter the model a little."
    return ""


def _make_title(folder: Path, run: Run | None) -> str:
    name = folder.resolve().name
    if run is None:
        return name
    model = Path(run.recipe.model.origin).name
    return f"{model} on {Path(run.recipe.data.root).name} · {name}"


def _name_captures(run: Run | None, own: Evaluation) -> str:
    if own.left_out:
        return "left-out "
    return "held-out " if run else ""


def _mark_best(numbers: Mapping[str, Mapping[str, float]], higher: list[str]) -> list[ScoreRow]:
    """The table of scores, with the best of every column marked.

    Args:
        numbers: row -> heading -> score.
        higher: headings of metrics that are better higher; all others are better lower.
    """
    best = {}
    for heading in next(iter(numbers.values())):
        column = [row[heading] for row in numbers.values()]
        best[heading] = max(column) if heading in higher else min(column)
    return [
        ScoreRow(label, [Cell(name, format_number(value), value == best[name]) for name, value in row.items()])
        for label, row in numbers.items()
    ]


def _list_intervals(own: Evaluation, columns: list[str]) -> list[str]:
    """The interval of each column of the table, a dash where it has none; empty where none were asked for."""
    if not own.intervals:
        return []
    metrics = headings(own)
    return [_describe_interval(own, metrics[name]) if name in metrics else DASH for name in columns]


def _describe_interval(own: Evaluation, metric: str) -> str:
    found = own.intervals[metric]
    return f"{format_number(found.low, 3)} to {format_number(found.high, 3)}"


def _list_tables(own: Evaluation) -> dict[str, Numbers]:
    tables = {"By true depth": range_table(own), "By height above the bench": height_table(own)}
    return {title: rows for title, rows in tables.items() if rows}


def _describe_ratio(own: Evaluation) -> str:
    """The ratio of true to predicted depth, in a sentence; empty where the predictions are not in metres."""
    if not own.scale_ratio:
        return ""
    median, mean = format_number(own.scale_ratio["median"]), format_number(own.scale_ratio["mean"])
    return f"True median depth is {median} times the predicted one (the median over captures; their mean is {mean})."


def _list_facts(run: Run | None, own: Evaluation) -> list[Fact]:
    facts = [
        Fact("protocol", own.protocol),
        Fact("scored", f"{quantify(len(own.rows), 'capture')} of {own.settings.data}"),
    ]
    if own.intervals:
        over = "scenes" if "scene" in own.rows[0] else "captures"
        bounds = f"{_describe_interval(own, own.main.metric)} {own.main.unit}".strip()
        facts.append(Fact(f"{own.settings.ci:g} % interval, {over} drawn again", bounds))
    if run is None:
        return facts
    choice = read_choice(run.folder)
    if choice is not None:
        facts.append(Fact("chosen", choice.fact))
    counts = ", ".join(f"{len(ids)} {part}" for part, ids in run.parts.items())
    about = [Fact("model", run.recipe.model.origin), Fact("trained", _describe_trained(run)), Fact("captures", counts)]
    return about + facts


def _describe_trained(run: Run) -> str:
    """Which weights the run trained."""
    recipe = run.recipe
    if recipe.lora:
        return f"LoRA r={recipe.lora.get('r', 8)}" + (" and the head" if recipe.model.train_head else "")
    # Without a step of the whole network, the head was fitted to features of the frozen encoder.
    return "every weight" if recipe.train.get("max_steps") != 0 else "the head, on frozen features"


def _list_settings(folder: Path, run: Run | None, own: Evaluation) -> list[Fact]:
    """Titles and texts of what it takes to do it again."""
    settings = [Fact("Protocol", yaml.safe_dump(own.settings.protocol.model_dump(), sort_keys=False))]
    if run is not None:
        seed = run.recipe.data.split.seed
        parts = [f"{part} ({len(ids)}): {' '.join(ids)}" for part, ids in run.parts.items()]
        settings.append(Fact("Split", "\n".join([f"seed {seed}", *parts])))
        with files.reading(folder / "recipe.yaml", REMEDY):
            settings.append(Fact("Recipe", files.read_text(folder / "recipe.yaml")))
    spec = folder / "best" / "sonde.json"
    if spec.is_file():
        about = files.read_json(spec, dict[str, Any], REMEDY)
        settings.append(Fact("Model", yaml.safe_dump(about, sort_keys=False)))
    environment = folder / "environment.json"
    known = environment.is_file()
    versions = files.read_json(environment, dict[str, str], REMEDY) if known else own.settings.versions
    return [*settings, Fact("Environment", yaml.safe_dump(versions, sort_keys=False))]
