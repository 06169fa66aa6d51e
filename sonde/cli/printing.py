"""What a verb prints: a bar while it works, then a table, lines or one JSON document."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from sonde.comparison import Comparison
    from sonde.evaluation import Evaluation
    from sonde.reproduction import Reproduction
    from sonde.training import RatePlan

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")]
MaxDepth = Annotated[
    float | None, typer.Option("--max-depth", "--max_depth", help="Metres at which a GLPDepth .ckpt ends.")
]


@contextmanager
def bar(task: str, quiet: bool = False) -> Iterator[Callable[[int, int, dict[str, float]], None]]:
    """A progress bar with the time left and the newest numbers, on stderr; where that is no terminal, a few lines."""
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
    """A bar for each task in turn, told (task, done, of, newest numbers)."""
    with ExitStack() as stack:
        running: dict[str, Callable[[int, int, dict[str, float]], None]] = {}

        def show(task: str, done: int, total: int, numbers: dict[str, float]) -> None:
            if task not in running:
                stack.close()
                running.clear()
                running[task] = stack.enter_context(bar(task, quiet))
            running[task](done, total, numbers)

        yield show


def print_result(document: dict[str, Any], as_json: bool) -> None:
    """A document as JSON, or as lines of name and value."""
    if as_json:
        return print(json.dumps(document, indent=2, default=str))
    lines = list(_flat(document))
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:<{width}}  {value}".rstrip())


def _flat(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            yield f"{prefix}{name}", str(len(value))
            yield from (("", item) for item in value)
        else:
            yield f"{prefix}{name}", f"{value:.6g}" if isinstance(value, float) else str(value)


def print_run(run: Path, as_json: bool) -> None:
    """What speaks against the run, its folder, then its table of scores; nothing after."""
    from sonde.report import Curves, told

    path = run / "metrics.json"
    scores = json.loads(path.read_text()) if path.is_file() else {}
    training = Curves.read(run / "metrics.jsonl").training()
    if as_json:
        return print_result({"run": str(run), **scores, "training": training}, True)
    if scores.get("headline"):
        print(scores["headline"])
    print(f"report  {run / 'report.html'}" if (run / "report.html").is_file() else f"run  {run}")
    if training:
        print(f"steps   {told(training)}")
    if "table" in scores:
        kept = "left-out" if scores["settings"].get("left_out") else "held-out"
        return print_table(f"{scores['images']} {kept} captures", scores["table"])
    if scores:
        print_result(scores["metrics"], False)


def print_rates(plan: "RatePlan", as_json: bool) -> None:
    """A run's learning rate: its chart, then the numbers."""
    from sonde import schedules

    summary = plan.summary()
    if as_json:
        return print_result(summary, True)
    print(schedules.draw(plan.rates), end="\n\n")
    shown = ("schedule", "steps", "warmup_steps", "learning_rate")
    numbers = {name: summary[name] for name in shown} | {"restarts": len(plan.restarts)}
    print_result(numbers | ({"floor": plan.floor} if plan.floor else {}), False)


def print_evaluation(scored: "Evaluation", as_json: bool) -> None:
    """What speaks against it, the means, what weakens them, and the errors by range and by height."""
    from sonde.evaluation import height_table, range_table

    summary = scored.summary()
    if as_json:
        return print_result(summary, True)
    if scored.intervals:
        summary["ci"] |= told_intervals(scored)
    summary["spread"] = {name: value for name, value in scored.spread.items() if name == scored.main.metric}
    summary["heights"] = {name: value for name, value in scored.heights.items() if name != "spans"}
    print_result({name: value for name, value in summary.items() if name != "ranges"}, False)
    for title, rows in (("by true depth", range_table(scored)), ("by height above the bench", height_table(scored))):
        if rows:
            print()
            print_table(f"{title}, mean over the images that have some", rows)


def told_intervals(scored: "Evaluation") -> dict[str, str]:
    """Each metric's interval in words."""
    return {name: f"{found.low:.4g} to {found.high:.4g}" for name, found in scored.intervals.items()}


def print_board(scoreboard: "dict[str, Evaluation]", as_json: bool) -> None:
    """A row for each set, with the median ratio of true to predicted depth; then the errors by range, by height."""
    from sonde.evaluation import height_table, range_table, table

    if as_json:
        return print_result({row: scored.summary() for row, scored in scoreboard.items()}, True)
    rows = table(scoreboard)
    for row, scored in scoreboard.items():
        ratio = {"ratio": scored.scale_ratio["median"]} if scored.scale_ratio else {}
        rows[row] |= ratio | {"images": len(scored.rows)}
    print_table("mean over the images of each set", rows)
    for note in dict.fromkeys(f"{row}: {note}" for row, scored in scoreboard.items() for note in scored.notes):
        print(note)
    for row, scored in scoreboard.items():
        if scored.intervals:
            print()
            print_result({f"{row}, {scored.settings['ci']:g} %": told_intervals(scored)}, False)
    for title, lines in (("by true depth", range_table), ("by height above the bench", height_table)):
        found = {
            f"{row}, {span}": values for row, scored in scoreboard.items() for span, values in lines(scored).items()
        }
        if found:
            print_table(f"{title}, mean over the images that have some", found)


def print_comparison(found: "Comparison", as_json: bool) -> None:
    """What weakens it, the settings that differ, then its tables."""
    if as_json:
        return print_result(found.document(), True)
    if found.refused:
        print_result(found.settings, False)
    for note in found.notes:
        print(note)
    for title, rows in found.tables().items():
        print_table(title, rows)


def print_reproduction(made: "Reproduction", as_json: bool) -> None:
    """The paper's numbers beside ours, or what is missing."""
    if as_json:
        return print_result(made.document(), True)
    print(f"{made.name}: {made.row.paper}, {made.row.table}")
    for sentence in made.missing or ([] if made.scored is None else made.scored.notes):
        print(f"- {sentence}")
    if made.scored is not None:
        print_table(f"{made.scored.protocol}, {len(made.scored.rows)} images; {made.row.pinned}", made.table())


def print_table(title: str, rows: Mapping[str, Mapping[str, int | float | str | None]]) -> None:
    """Row -> heading -> number or words; rows need not share all their headings."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = Table("", title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in names:
        table.add_column(name, justify="right")
    for row, values in rows.items():
        table.add_row(row, *(_cell(values.get(name)) for name in names))
    needed = Console(width=1000).measure(table).maximum
    Console(width=max(Console().width, needed)).print(table)  # rather run over a narrow terminal than break a row


def _cell(value: int | float | str | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def print_rows(rows: list[dict[str, str]]) -> None:
    """Rows of words under the keys of the first."""
    table = Table(*rows[0], box=box.SIMPLE_HEAD, padding=(0, 1))
    for row in rows:
        table.add_row(*map(escape, row.values()))
    Console(width=max(Console().width, 120), highlight=False).print(table)
