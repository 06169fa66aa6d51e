"""The verbs that score: eval, compare and reproduce."""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from sonde.cli import next_steps
from sonde.cli.evaluations import find_rivals, print_board, print_evaluation
from sonde.cli.next_steps import print_next
from sonde.cli.options import with_options
from sonde.cli.printing import Json, bar, print_comparison, print_reproduction, print_rows
from sonde.options.compare import CompareOptions
from sonde.options.evaluate import EvaluateOptions
from sonde.options.reproduce import ReproduceOptions


@with_options(EvaluateOptions)
def evaluate(
    model: Annotated[str, typer.Argument(help="A run folder, any model's name, or a folder of predictions.")],
    protocol: Annotated[
        str | None,
        typer.Option(help="How it is scored; by default as a run's own test or its layout is, for --on: metric."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The captures; a run's own test captures by default.")] = None,
    on: Annotated[
        list[str] | None, typer.Option(help="FORMAT:ROOT\\[@PROTOCOL]\\[#LIST]; repeat it: a row for each set.")
    ] = None,
    save: Annotated[
        str | None, typer.Option(help="Depth maps as scored, in depth/ of --out: any of preview,png16,npy.")
    ] = None,
    *,
    options: EvaluateOptions,
    as_json: Json = False,
) -> None:
    """Score a model under a protocol: one row per image, and their mean; by range of depth; on one set or several.

    The options of GLPDepth's test are accepted too; each is answered with what it becomes.
    """
    from sonde import evaluation, report

    if save and options.out is None:
        options = options.change(out=Path("results"))
    out, galleries = options.out, defaultdict[str, report.Gallery](report.Gallery)
    kinds = [kind.strip() for kind in save.split(",")] if save else []

    def place_of(row: str) -> Path:
        return (out or Path()) / evaluation.folder_of(row)

    def watch(row: str) -> evaluation.Watcher:
        return evaluation.watchers(galleries[row].add, evaluation.Pictures(place_of(row) / "depth", kinds))

    if not on:
        scored = evaluation.evaluate(model, protocol, data, options=options, watch=watch("") if out else None)
        if out and galleries[""].panels:
            report.write(out, {str(model): scored}, galleries[""])
        print_evaluation(scored, as_json, None if as_json else find_rivals(model, scored))
        return None if as_json else _suggest([] if out is None else [out])
    if data:
        raise ValueError("--on names set, layout and list: leave --data out.")
    sets = [evaluation.parse_on(text) for text in on]
    scores = evaluation.evaluate_many(model, sets, protocol or "metric", options=options, watch=watch if out else None)
    for row, gallery in galleries.items():  # there are none without --out
        rivals = {name: scores[name] for name in (f"{row}: {evaluation.MEAN_MAP}", row) if name in scores}
        report.write(place_of(row), rivals, gallery)
    print_board(scores, as_json)
    if not as_json:
        _suggest([place_of(row) for row in galleries])


def _suggest(folders: list[Path]) -> None:
    """Print what to look at after scoring: a report that was written, or how to get one."""
    print()
    print_next(next_steps.follow_eval(sys.argv[1:], [folder / "report.html" for folder in folders]))


@with_options(CompareOptions)
def compare(
    one: Annotated[str, typer.Argument(help="A folder that `sonde eval -o` wrote, a run, or its metrics.json.")],
    other: Annotated[str, typer.Argument(help="Likewise; differences are OTHER - ONE.")],
    *,
    options: CompareOptions,
    as_json: Json = False,
) -> None:
    """How far two models differ, image by image; for scores under different rules, the effect of each setting."""
    from sonde import comparison

    found = comparison.compare(one, other, options=options)
    print_comparison(found, as_json)
    if found.refused:
        raise typer.Exit(1)
    if not as_json:
        print()
        print_next(next_steps.follow_compare(one, other, options.out))


@with_options(ReproduceOptions)
def reproduce(
    name: Annotated[str | None, typer.Argument(help="A row that --list names.")] = None,
    list_rows: Annotated[bool, typer.Option("--list", help="Every row, its model and its numbers.")] = False,
    *,
    options: ReproduceOptions,
    as_json: Json = False,
) -> None:
    """Score a published row again: paper, observed, tolerance and verdict; or what is missing for it."""
    from sonde import reproduction

    if list_rows:
        known = reproduction.list_rows(options.path)
        return print(json.dumps(known, indent=2)) if as_json else print_rows(known)
    if name is None:
        raise ValueError("Give the name of a row; `sonde reproduce --list` names them all.")
    out = options.out or Path("scores") / name
    options = options.change(out=out)
    with bar("scoring", quiet=as_json) as show:
        made = reproduction.reproduce(name, options=options, progress=lambda done, total: show(done, total, {}))
    print_reproduction(made, as_json)
    if not made.reproduced:
        raise typer.Exit(1)
    if not as_json:
        print()
        print_next(next_steps.follow_reproduce(out))
