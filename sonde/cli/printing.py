"""Print what a verb reports: a bar while it works, then a table, lines or one JSON document."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sonde.renamed import keep_old_names
from sonde.spelling import make_printable

if TYPE_CHECKING:
    from sonde.comparison import Comparison
    from sonde.evaluation import Evaluation
    from sonde.reproduction import Reproduction
    from sonde.training import RatePlan

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")]


@contextmanager
def bar(task: str, quiet: bool = False) -> Iterator[Callable[[int, int, dict[str, float]], None]]:
    """Show a progress bar with the time left and the newest numbers on stderr; if that is no terminal, a few lines."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, quiet=quiet)
    columns = (
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(task, total=None, numbers="")
        told = 0

        def show(done: int, total: int, numbers: dict[str, float]) -> None:
            nonlocal told
            text = "  ".join(f"{name.removeprefix('eval_')} {value:.4g}" for name, value in numbers.items())
            progress.update(bar, completed=done, total=total, numbers=text)
            if not console.is_terminal and done * 10 // max(total, 1) > told:
                told = done * 10 // total
                console.print(f"{task} {done}/{total}  {text}", highlight=False)

        yield show


@contextmanager
def stages(quiet: bool = False) -> Iterator[Callable[[str, int, int, dict[str, float]], None]]:
    """Show a bar for each task in turn; call it with (task, done, total, newest numbers)."""
    with ExitStack() as stack:
        running: dict[str, Callable[[int, int, dict[str, float]], None]] = {}

        def show(task: str, done: int, total: int, numbers: dict[str, float]) -> None:
            if task not in running:
                stack.close()
                running.clear()
                running[task] = stack.enter_context(bar(task, quiet))
            running[task](done, total, numbers)

        yield show


def list_reasons(failed: Iterable[tuple[object, str]]) -> list[str]:
    """A line for each thing that failed: its reason, with its name where the reason does not hold it."""
    return [reason if str(name) in reason else f"{name}: {reason}" for name, reason in failed]


def print_result(document: Mapping[str, object], as_json: bool) -> None:
    """Print a document as JSON, or as lines of name and value."""
    if as_json:
        return print(json.dumps(document, indent=2, default=str))
    lines = [(make_printable(name), make_printable(value)) for name, value in _flatten(document)]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:<{width}}  {value}".rstrip())


def _escape(words: object) -> str:
    """Words as they are: neither a terminal nor rich obeys them."""
    return escape(make_printable(words))


def _print(line: str) -> None:
    """Print a line as a terminal shows it: names in it may hold control characters."""
    print(make_printable(line))


def _flatten(document: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            yield f"{prefix}{name}", str(len(value))
            yield from (("", item) for item in value)
        else:
            yield f"{prefix}{name}", f"{value:.6g}" if isinstance(value, float) else str(value)


def print_run(run: Path, as_json: bool) -> None:
    """Print the warning about a run, if there is one, its folder, and its table of scores last."""
    from sonde.report import Curves, describe_training

    path = run / "metrics.json"
    scores = _read_scores(path) if path.is_file() else {}
    training = Curves.read(run / "metrics.jsonl").summarize_training()
    if as_json:
        return print_result(
            {"run": str(run), **scores, "training": {} if training is None else training.document()}, True
        )
    if scores.get("headline"):
        _print(scores["headline"])
    _print(f"report  {run / 'report.html'}" if (run / "report.html").is_file() else f"run  {run}")
    if training is not None:
        print(f"steps   {describe_training(training)}")
    if "table" in scores:
        kept = "left-out" if scores["settings"].get("left_out") else "held-out"
        return print_table(f"{scores['images']} {kept} captures", scores["table"])
    if scores:
        print_result(scores["metrics"], False)


def _read_scores(path: Path) -> dict[str, Any]:
    """A run's `metrics.json` as it is, so that JSON keeps the order of its keys."""
    from sonde import files
    from sonde.evaluation.settings import RunScores

    remedy = "the run is trained; score it again with `sonde eval RUN`"
    scores: dict[str, Any] = files.read_json(path, dict[str, Any], remedy)
    with files.reading(path, remedy):
        files.check_type(scores, RunScores)
    return scores


def print_rates(plan: "RatePlan", as_json: bool) -> None:
    """Print a run's learning rate: its chart, then the numbers."""
    from sonde import schedules

    summary = plan.document()
    if as_json:
        return print_result(summary, True)
    print(schedules.draw(plan.rates), end="\n\n")
    shown = ("schedule", "steps", "warmup_steps", "learning_rate")
    numbers = {name: summary[name] for name in shown} | {"restarts": len(plan.restarts)}
    print_result(numbers | ({"floor": plan.floor} if plan.floor else {}), False)


def print_evaluation(scored: "Evaluation", as_json: bool) -> None:
    """Print the warnings, the means, the notes, and the errors by range and by height."""
    from sonde.evaluation import height_table, range_table

    summary = scored.summary()
    if as_json:
        return print_result(summary, True)
    if scored.intervals:
        summary["ci"] = scored.interval_bounds() | describe_intervals(scored)
    found = {} if scored.heights is None else scored.heights.document()
    summary["spread"] = {name: value for name, value in scored.spread.items() if name == scored.main.metric}
    summary["heights"] = {name: value for name, value in found.items() if name != "spans"}
    print_result({name: value for name, value in summary.items() if name != "ranges"}, False)
    for title, rows in (("by true depth", range_table(scored)), ("by height above the bench", height_table(scored))):
        if rows:
            print()
            print_table(f"{title}, mean over the images that have some", rows)


def describe_intervals(scored: "Evaluation") -> dict[str, str]:
    """Each metric's interval in words."""
    return {name: f"{found.low:.4g} to {found.high:.4g}" for name, found in scored.intervals.items()}


def print_board(scoreboard: "dict[str, Evaluation]", as_json: bool) -> None:
    """Print a row for each set, with the median ratio of true to predicted depth; then errors by range and height."""
    from sonde.evaluation import height_table, range_table, table

    if as_json:
        return print_result({row: scored.summary() for row, scored in scoreboard.items()}, True)
    rows = table(scoreboard)
    for row, scored in scoreboard.items():
        ratio = {"ratio": scored.scale_ratio["median"]} if scored.scale_ratio else {}
        rows[row] |= ratio | {"images": len(scored.rows)}
    print_table("mean over the images of each set", rows)
    for note in dict.fromkeys(f"{row}: {note}" for row, scored in scoreboard.items() for note in scored.notes):
        _print(note)
    for row, scored in scoreboard.items():
        if scored.intervals:
            print()
            print_result({f"{row}, {scored.settings.ci:g} %": describe_intervals(scored)}, False)
    for title, lines in (("by true depth", range_table), ("by height above the bench", height_table)):
        found = {
            f"{row}, {span}": values for row, scored in scoreboard.items() for span, values in lines(scored).items()
        }
        if found:
            print_table(f"{title}, mean over the images that have some", found)


def print_comparison(found: "Comparison", as_json: bool) -> None:
    """Print the notes and the settings that differ, then the tables."""
    if as_json:
        return print_result(found.document(), True)
    if found.refused:
        print_result(found.settings, False)
    for note in found.notes:
        _print(note)
    for title, rows in found.tables().items():
        print_table(title, rows)


def print_reproduction(made: "Reproduction", as_json: bool) -> None:
    """Print the paper's numbers beside those of sonde, or what is missing."""
    if as_json:
        return print_result(made.document(), True)
    _print(f"{made.name}: {made.row.paper}, {made.row.table}")
    for sentence in made.missing or ([] if made.scored is None else made.scored.notes):
        _print(f"- {sentence}")
    if made.scored is not None:
        print_table(f"{made.scored.protocol}, {len(made.scored.rows)} images; {made.row.pinned}", made.table())


def print_table(title: str, rows: Mapping[str, Mapping[str, int | float | str | None]]) -> None:
    """Print a table of row -> heading -> number or words; rows need not share all headings."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = Table("", title=_escape(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in names:
        table.add_column(_escape(name), justify="right")
    for row, values in rows.items():
        table.add_row(_escape(row), *(_format_cell(values.get(name)) for name in names))
    # A row that runs over a narrow terminal is easier to read than one that is broken.
    needed = Console(width=1000).measure(table).maximum
    Console(width=max(Console().width, needed)).print(table)


def _format_cell(value: int | float | str | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else _escape(value)


def print_rows(rows: list[dict[str, str]]) -> None:
    """Print rows of words under the keys of the first row."""
    table = Table(*rows[0], box=box.SIMPLE_HEAD, padding=(0, 1))
    for row in rows:
        table.add_row(*(_escape(word) for word in row.values()))
    Console(width=max(Console().width, 120), highlight=False).print(table)


keep_old_names(__name__, {"told_intervals": "describe_intervals"})
