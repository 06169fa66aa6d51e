"""Print what each verb reports: tables for people, or one JSON document."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sonde.cli.evaluations import describe_intervals, print_board, print_evaluation
from sonde.cli.progress import bar, stages
from sonde.cli.tables import Rows, list_reasons, print_lines, print_result, print_rows, print_table, print_words
from sonde.renamed import keep_old_names
from sonde.spelling import make_printable, quantify

if TYPE_CHECKING:
    from sonde.comparison import Comparison
    from sonde.models import Placement
    from sonde.reproduction import Reproduction
    from sonde.training import RatePlan

__all__ = [
    "Json",
    "bar",
    "describe_intervals",
    "list_reasons",
    "print_board",
    "print_comparison",
    "print_evaluation",
    "print_rates",
    "print_reproduction",
    "print_result",
    "print_rows",
    "print_run",
    "print_table",
    "stages",
    "tell_placement",
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")]


def tell_placement(placement: "Placement", as_json: bool) -> dict[str, object]:
    """The row of a summary that says where a network ran, and in what it computed."""
    return {"placement": placement._asdict()} if as_json else {"ran": placement.describe()}


def print_run(run: Path, as_json: bool) -> None:
    """Print what speaks against a run, if anything, its report, its table of scores, and what they are worth."""
    from sonde.report import Curves, describe_training

    path = run / "metrics.json"
    scores = _read_scores(path) if path.is_file() else {}
    training = Curves.read(run / "metrics.jsonl").summarize_training()
    if as_json:
        return print_result(
            {"run": str(run), **scores, "training": {} if training is None else training.document()}, True
        )
    if scores.get("headline"):
        print_words(scores["headline"])
    page = run / "report.html"
    lines = [("report", make_printable(page)) if page.is_file() else ("run", make_printable(run))]
    if training is not None:
        lines.append(("steps", describe_training(training)))
    print_lines(lines)
    if "table" in scores:
        kept = "left-out" if scores["settings"].get("left_out") else "held-out"
        print()
        print_table(quantify(scores["images"], f"{kept} capture"), scores["table"])
        _print_worth(run)
    elif scores:
        print()
        title = f"mean over {quantify(scores['folds'], 'fold')}" if "folds" in scores else "scores"
        print_table(title, _list_means(scores["metrics"]))


def _print_worth(run: Path) -> None:
    """Print what the scores of a run are worth, as its report does: captures, interval, and what weakens them."""
    from sonde import evaluation, report
    from sonde.runs import read_run

    if not (run / "per_image.csv").is_file():
        return
    own = evaluation.read_evaluation(run)
    worth, caution = evaluation.describe_worth(own), report.describe_caution(read_run(run), own)
    print()
    for sentence in ("" if worth in caution else worth, *own.notes, caution):
        if sentence:
            print_words(sentence)


def _read_scores(path: Path) -> dict[str, Any]:
    """A run's `metrics.json` as it is, so that JSON keeps the order of its keys."""
    from sonde import files
    from sonde.evaluation.settings import RunScores

    remedy = "the run is trained; score it again with `sonde eval RUN`"
    scores: dict[str, Any] = files.read_json(path, dict[str, Any], remedy)
    with files.reading(path, remedy):
        files.check_type(scores, RunScores)
    return scores


def _list_means(metrics: Mapping[str, int | float | Mapping[str, int | float]]) -> Rows:
    """Metric -> its mean over the folds and their standard deviation."""
    return {name: found if isinstance(found, Mapping) else {"mean": found} for name, found in metrics.items()}


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


def print_comparison(found: "Comparison", as_json: bool) -> None:
    """Print the notes and the settings that differ, then the tables."""
    if as_json:
        return print_result(found.document(), True)
    if found.refused:
        print_result(found.settings, False)
    for note in found.notes:
        print_words(note)
    for number, (title, rows) in enumerate(found.tables().items()):
        if number or found.notes:
            print()
        print_table(title, rows)


def print_reproduction(made: "Reproduction", as_json: bool) -> None:
    """Print the paper's numbers beside those of sonde, or what is missing."""
    if as_json:
        return print_result(made.document(), True)
    print_words(f"{made.name}: {made.row.paper}, {made.row.table}")
    for sentence in made.missing or ([] if made.scored is None else made.scored.notes):
        print_words(f"- {sentence}")
    if made.scored is not None:
        images = quantify(len(made.scored.rows), "image")
        print()
        print_table(f"{made.scored.protocol}, {images}; {made.row.pinned}", made.table())
    if made.placement is not None:
        print()
        print_result(tell_placement(made.placement, False), False)


keep_old_names(__name__, {"told_intervals": "describe_intervals"})
