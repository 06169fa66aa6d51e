"""The verbs that score: eval, compare and reproduce."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from sonde.cli.printing import (
    Json,
    MaxDepth,
    bar,
    print_board,
    print_comparison,
    print_evaluation,
    print_reproduction,
    print_rows,
)


def evaluate(
    model: Annotated[str, typer.Argument(help="A run folder, any model's name, or a folder of predictions.")],
    protocol: Annotated[
        str | None,
        typer.Option(help="How it is scored; by default as a run's own test or its layout is, for --on: metric."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The captures; a run's own test captures by default.")] = None,
    data_format: Annotated[str | None, typer.Option("--format", help="Layout of --data.")] = None,
    only: Annotated[Path | None, typer.Option(help="A list of the captures to score, such as Eigen's.")] = None,
    on: Annotated[
        list[str] | None, typer.Option(help="FORMAT:ROOT\\[@PROTOCOL]\\[#LIST]; repeat it: a row for each set.")
    ] = None,
    align: Annotated[str | None, typer.Option(help="Align each image before scoring; names the result.")] = None,
    max_depth: MaxDepth = None,
    max_depth_eval: Annotated[float | None, typer.Option(help="Metres at which the protocol ends instead.")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Decode the model's answer by another: inverse_notebook, as published.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for metrics.json, per-image CSV and the report.")
    ] = None,
    save: Annotated[
        str | None, typer.Option(help="Depth maps as scored, in depth/ of --out: any of preview,png16,npy.")
    ] = None,
    ci: Annotated[float | None, typer.Option(help="95: intervals of 95 % beside the means.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder for predictions; those there are not made again.")] = None,
    as_json: Json = False,
) -> None:
    """Score a model under a protocol: one row per image, and their mean; by range of depth; on one set or several.

    The options of GLPDepth's test are taken too; what each becomes is told.
    """
    from sonde import evaluation, report

    galleries, out = defaultdict[str, report.Gallery](report.Gallery), out or (Path("results") if save else None)

    def watch(row: str) -> evaluation.Watcher:
        place = out / evaluation.folder_of(row) / "depth" if out else Path()
        kinds = [kind.strip() for kind in save.split(",")] if save else []
        return evaluation.watchers(galleries[row].add, evaluation.Pictures(place, kinds))

    about = {"align": align, "max_depth": max_depth, "max_depth_eval": max_depth_eval, "ci": ci, "out": out}
    if on:
        if data or data_format or only or encoding:
            raise ValueError(
                "--on names set, layout and list by itself: leave --data, --format, --only and --encoding out."
            )
        sets = [evaluation.parse_on(text) for text in on]
        scoreboard = evaluation.evaluate_many(
            model, sets, protocol or "metric", keep=keep, watch=watch if out else None, **about
        )
        for row, seen in galleries.items() if out else ():
            rivals = {name: scoreboard[name] for name in (f"{row}: {evaluation.MEAN_MAP}", row) if name in scoreboard}
            report.write(out / evaluation.folder_of(row), rivals, seen)
        return print_board(scoreboard, as_json)
    result = evaluation.evaluate(
        model, protocol, data, format=data_format, listed=only, encoding=encoding, keep=keep,
        watch=watch("") if out else None, **about,
    )  # fmt: skip
    if out and galleries[""].panels:
        report.write(out, {str(model): result}, galleries[""])
    print_evaluation(result, as_json)


def compare(
    one: Annotated[str, typer.Argument(help="A folder that `sonde eval -o` wrote, a run, or its metrics.json.")],
    other: Annotated[str, typer.Argument(help="Likewise; differences are OTHER - ONE.")],
    metric: Annotated[str | None, typer.Option(help="The one to explain; the main one of both by default.")] = None,
    ci: Annotated[float, typer.Option(help="The level of the intervals, in %.")] = 95,
    predictions: Annotated[
        Path | None, typer.Option(help="ONE's kept predictions, where its settings do not say.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the tables, as Markdown and JSON.")
    ] = None,
    as_json: Json = False,
) -> None:
    """How far two models differ, image by image; and of scores under different rules, what each setting explains."""
    from sonde import comparison

    found = comparison.compare(one, other, metric=metric, level=ci, predictions=predictions, out=out)
    print_comparison(found, as_json)
    if found.refused:
        raise typer.Exit(1)


def reproduce(
    name: Annotated[str | None, typer.Argument(help="A row that --list names.")] = None,
    list_rows: Annotated[bool, typer.Option("--list", help="Every row, its model and its numbers.")] = False,
    data: Annotated[Path | None, typer.Option(help="The set's folder; data/NAME by default.")] = None,
    only: Annotated[Path | None, typer.Option(help="The list of captures, where it lies elsewhere.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="A local folder of the row's weights.")] = None,
    rows: Annotated[Path | None, typer.Option(help="A YAML file of rows of your own.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the report; scores/NAME.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder for predictions; those there are not made again.")] = None,
    as_json: Json = False,
) -> None:
    """A published number again: paper, observed, tolerance and verdict; or exactly what is missing for it."""
    from sonde import reproduction

    if list_rows:
        known = reproduction.listing(rows)
        return print(json.dumps(known, indent=2)) if as_json else print_rows(known)
    if name is None:
        raise ValueError("Which row? `sonde reproduce --list` names them.")
    with bar("scoring", quiet=as_json) as show:
        made = reproduction.reproduce(
            name, data=data, model=model, listed=only, path=rows, out=out or Path("scores") / name, keep=keep,
            progress=lambda done, total: show(done, total, {}),
        )  # fmt: skip
    print_reproduction(made, as_json)
    if not made.reproduced:
        raise typer.Exit(1)
