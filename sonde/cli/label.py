"""The verb that labels: label."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sonde.cli import next_steps
from sonde.cli.next_steps import print_next
from sonde.cli.options import with_options
from sonde.cli.printing import Json, bar, print_result, tell_placement
from sonde.options.label import LabelOptions, PlanOptions

if TYPE_CHECKING:
    from sonde.labelling import LabelResult


@with_options(LabelOptions)
def label(
    model: Annotated[str, typer.Argument(help="The teacher: any model's name, or a run folder.")],
    images: Annotated[str, typer.Argument(help="A folder, a text file of paths, or tars: sa_{000000..000019}.tar")],
    out: Annotated[Path, typer.Argument(help="Folder for labels and manifest; labels that are done are kept.")],
    *,
    options: LabelOptions,
    plan: Annotated[
        bool, typer.Option("--plan", help="Label for a minute and forecast what --total would take.")
    ] = False,
    total: Annotated[int, typer.Option(help="For --plan: how many images.")] = 62_000_000,
    days: Annotated[float, typer.Option(help="For --plan: in how many days.")] = 7.0,
    price: Annotated[float | None, typer.Option(help="For --plan: price of one machine for an hour.")] = None,
    as_json: Json = False,
) -> None:
    """Pseudo-labels: a model's depth for images that have none, on many machines, resumable."""
    from sonde import labelling

    if plan:
        if not days > 0:
            raise ValueError(f"--days {days:g}: expected more than 0.")
        planned = labelling.plan(
            model,
            images,
            options=options.convert(PlanOptions),
            total=total,
            hours=24 * days,
            price_per_hour=price,
        )
        print_result(planned.document(), as_json)
        return None if as_json else print_next(next_steps.follow_rehearsal(sys.argv[1:]))
    with bar("labelling", quiet=as_json) as show:
        result = labelling.label(
            model, images, out, options=options, progress=lambda done, total: show(done, total, {})
        )
    print_result(_summarise(result) | tell_placement(result.placement, as_json), as_json)
    if result.failed or result.unread:
        raise typer.Exit(1)
    if not as_json:
        print_next(next_steps.follow_label(out, options.shard))


def _summarise(result: "LabelResult") -> dict[str, object]:
    summary: dict[str, object] = {
        "written": str(result.manifest),
        "labels": result.labels,
        "rejected": result.failed,
    }
    if result.failed:
        summary["reasons"] = str(result.rejected)
    summary["passed_over"] = result.passed_over
    if result.unread:
        summary["unread"] = result.unread
    if result.list is not None:
        summary["list"] = str(result.list)
    return summary
