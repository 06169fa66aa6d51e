"""The verbs that look at this machine: doctor and bench."""

from pathlib import Path
from typing import Annotated

import typer

from sonde.cli.printing import Json, print_result


def doctor(
    run: Annotated[Path | None, typer.Argument(help="A run folder: explains the steps it skipped.")] = None,
    step: Annotated[int | None, typer.Argument(help="For --replay: which; the newest by default.")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Take a skipped step of the run again.")] = False,
    online: Annotated[
        bool, typer.Option("--online", help="Fetch a model, predict, compare with transformers, adapt it.")
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="For --online: another hub id, or a folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What this machine can do: torch, device, codecs, disk, weights, licences; or why a run skipped steps."""
    from sonde import doctor

    if online:
        if run is not None or replay:
            raise ValueError("--online checks this machine, not a run: leave the run and --replay out.")
        return _check_online(model, as_json)
    if model is not None:
        raise ValueError("--model is for --online: `sonde doctor --online --model NAME`.")
    if run is None:
        if replay:
            raise ValueError("--replay needs a run folder: `sonde doctor RUN --replay [STEP]`.")
        return print_result(doctor.describe_machine().document(), as_json)
    if replay:
        return print_result(doctor.explain_replay(run, step).document(), as_json)
    print_result(doctor.explain(run).document(), as_json)


def _check_online(model: str | None, as_json: bool) -> None:
    from sonde import online

    checks = online.check_model(model)
    print_result({each.name: f"{each.outcome}: {each.sentence}" for each in checks}, as_json)
    if any(each.outcome != "ok" for each in checks):
        raise typer.Exit(1)


def bench(
    only: Annotated[str | None, typer.Option(help="One row: decoding, training, labelling or scoring.")] = None,
    quick: Annotated[bool, typer.Option(help="Small sizes: shows that the rows run, not what they are worth.")] = False,
    as_json: Json = False,
) -> None:
    """The performance table of docs/measurements.md, on this machine, as ratios against the plain alternative."""
    from sonde import bench

    print_result(bench.bench(only=only, quick=quick).document(), as_json)
