"""Print the scores of one set or of several: each metric with its interval, what they are worth, and the parts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonde.cli.tables import Rows, print_lines, print_result, print_table, print_words
from sonde.spelling import make_printable, quantify

if TYPE_CHECKING:
    from sonde.evaluation import Evaluation


def print_evaluation(scored: "Evaluation", as_json: bool, rivals: Rows | None = None) -> None:
    """Print the verdict, each metric with its interval, what they are worth, and errors by range, height and group.

    Args:
        scored: the scores.
        as_json: whether to print their summary as JSON instead.
        rivals: the scores beside other answers to the same captures, as `find_rivals` gives them.
    """
    from sonde.evaluation import describe_worth, headings

    if as_json:
        return print_result(scored.summary(), True)
    if scored.headline:
        print_words(scored.headline)
        print()
    print_table(f"{scored.protocol}, mean over {quantify(len(scored.rows), 'image')}", list_metrics(scored))
    print()
    print_words(describe_worth(scored))
    print_lines([(name, make_printable(words)) for name, words in _describe(scored)])
    if rivals is not None:
        print()
        print_table("beside the answers that it must beat", rivals)
    _print_parts({"": scored})
    if scored.groups:
        shown = headings(scored) | {"images": "images"}
        print()
        print_table(
            "by group",
            {group: {title: found[name] for title, name in shown.items()} for group, found in scored.groups.items()},
        )


def list_metrics(scored: "Evaluation") -> Rows:
    """Metric -> value, interval (of the level that was asked for, else 95 %) and unit; of one scene no interval."""
    from sonde.metrics import metric_of

    level = scored.settings.ci or 95
    intervals = scored.record(ci=level).intervals
    rows: dict[str, dict[str, float | str]] = {}
    for column, value in scored.metrics.items():
        name, found = metric_of(column) or column, intervals.get(column)
        bounds = {} if found is None else {f"{level:g} % interval": f"{found.low:.4g} to {found.high:.4g}"}
        rows[name] = {"value": float(value), **bounds, "unit": column.removeprefix(name).strip("_")}
    return rows


def find_rivals(folder: str | Path, scored: "Evaluation") -> Rows | None:
    """The table that a run has of its baselines, with these scores as its last row.

    None where the folder has no such table, or has it of other captures or under another protocol.
    """
    from sonde import files
    from sonde.evaluation import table

    path = Path(folder) / "metrics.json"
    if not path.is_file():
        return None
    scores: dict[str, Any] = files.read_json(path, dict[str, Any], "remove it, and the run is scored without it")
    known, settings = scores.get("table"), scores.get("settings")
    if not isinstance(known, dict) or not isinstance(settings, dict):
        return None
    own = json.loads(json.dumps(scored.settings.document()))  # lists for tuples, as in the file
    if any(settings.get(name) != own[name] for name in ("protocol", "ids", "data")):
        return None
    *rivals, last = known
    return {**{row: known[row] for row in rivals}, **table({last: scored})}


def describe_intervals(scored: "Evaluation") -> dict[str, str]:
    """Each metric's interval in words."""
    return {name: f"{found.low:.4g} to {found.high:.4g}" for name, found in scored.intervals.items()}


def print_board(scoreboard: "dict[str, Evaluation]", as_json: bool) -> None:
    """Print a row for each set, with the median ratio of true to predicted depth; then errors by range and height."""
    from sonde.evaluation import MEAN_MAP, describe_worth, table

    if as_json:
        return print_result({row: scored.summary() for row, scored in scoreboard.items()}, True)
    rows: dict[str, dict[str, int | float]] = dict(table(scoreboard))
    for row, scored in scoreboard.items():
        ratio = {"ratio": scored.scale_ratio["median"]} if scored.scale_ratio else {}
        rows[row] |= ratio | {"images": len(scored.rows)}
    print_table("mean over the images of each set", rows)
    print()
    for row, scored in scoreboard.items():
        if not row.endswith(MEAN_MAP):
            print_words(f"{row}: {describe_worth(scored)}")
    for note in dict.fromkeys(f"{row}: {note}" for row, scored in scoreboard.items() for note in scored.notes):
        print_words(note)
    for row, scored in scoreboard.items():
        if scored.intervals:
            print()
            print_result({f"{row}, {scored.settings.ci:g} %": describe_intervals(scored)}, False)
    _print_parts(scoreboard)


def _print_parts(scoreboard: "Mapping[str, Evaluation]") -> None:
    """Print errors by true depth and by height above the bench; each row under the name of its set, if it has one."""
    from sonde.evaluation import height_table, range_table

    for title, lines in (("by true depth", range_table), ("by height above the bench", height_table)):
        found = {
            f"{row}, {span}" if row else span: values
            for row, scored in scoreboard.items()
            for span, values in lines(scored).items()
        }
        if found:
            print()
            print_table(f"{title}, mean over the images that have some", found)


def _describe(scored: "Evaluation") -> list[tuple[str, str]]:
    """What was scored on what, how much the images differ, and what must be known before the numbers are believed."""
    settings, main = scored.settings, scored.main
    lines = [("model", settings.model), ("data", settings.data), ("captures", settings.captures)]
    if settings.placement is not None:
        lines.insert(1, ("ran", settings.placement.describe()))
    if main.metric in scored.spread:
        spread = f"{scored.spread[main.metric]:.4g} {main.unit}".rstrip()
        lines.append(("spread", f"{spread}, the standard deviation of the {main.words} over the images"))
    if scored.scale_ratio:
        median, mean = (scored.scale_ratio[name] for name in ("median", "mean"))
        lines.append(("scale", f"true depth is {median:.4g} times the predicted in the median, {mean:.4g} in the mean"))
    lines += [("note", note) for note in scored.notes]
    return lines + [("not scored", f"{name}: {reason}") for name, reason in scored.skipped.items()]
