"""The verbs that look at this machine: doctor and bench."""

from pathlib import Path
from typing import Annotated

import typer

from sonde.cli import next_steps
from sonde.cli.next_steps import print_next
from sonde.cli.printing import Json, print_result
from sonde.spelling import make_printable


def doctor(
    run: Annotated[Path | None, typer.Argument(help="A run folder: how far it came, and the steps it skipped.")] = None,
    step: Annotated[int | None, typer.Argument(help="For --replay: which; the newest by default.")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Take a skipped step of the run again.")] = False,
    online: Annotated[
        bool, typer.Option("--online", help="Fetch a model, predict, compare with transformers, adapt it.")
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="For --online: another hub id, or a folder.")
    ] = None,
    device: Annotated[str, typer.Option(help="For --online: cpu, cuda, cuda:1, mps or auto.")] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="For --online: fp32, bf16 or fp16 of the network's arithmetic; by default fp32.")
    ] = None,
    clear_cache: Annotated[
        bool, typer.Option("--clear-cache", help="Remove the decoded captures of the user's cache folder.")
    ] = False,
    as_json: Json = False,
) -> None:
    """What this machine can do: torch, device, codecs, disk, weights, licences; or how far a run came."""
    from sonde import doctor

    if clear_cache:
        if run is not None or replay or online:
            raise ValueError("--clear-cache stands alone: `sonde doctor --clear-cache`.")
        return _clear_cache(as_json)
    if online:
        if run is not None or replay:
            raise ValueError("--online checks this machine, not a run: leave the run and --replay out.")
        return _check_online(model, device, precision, as_json)
    if model is not None:
        raise ValueError("--model is for --online: `sonde doctor --online --model NAME`.")
    if device != "auto" or precision is not None:
        flag = "--precision" if device == "auto" else "--device"
        raise ValueError(f"{flag} is for --online: `sonde doctor --online {flag} {precision or device}`.")
    if run is None:
        if replay:
            raise ValueError("--replay needs a run folder: `sonde doctor RUN --replay [STEP]`.")
        return _describe_machine(as_json)
    if replay:
        return print_result(doctor.explain_replay(run, step).document(), as_json)
    progress, skipped = doctor.describe_run(run), doctor.explain(run).document()
    if as_json:
        return print_result(skipped | {"run": progress.document()}, True)
    print(make_printable(progress.describe()))
    print_result(skipped, False)
    if progress.resume is not None:
        print_next(f"`{progress.resume}`")


def _describe_machine(as_json: bool) -> None:
    from sonde import doctor

    machine = doctor.describe_machine()
    facts = machine.document()
    print_result(facts if as_json else {name: fact for name, fact in facts.items() if fact is not None}, as_json)
    if not as_json:
        print_next(next_steps.follow_machine(trains=machine.torch is not None))


def _clear_cache(as_json: bool) -> None:
    from sonde import doctor

    removed = doctor.clear_cache()
    facts = {"folder": removed.folder, "captures_removed": removed.captures}
    freed = f"{removed.gb:.1f} GB" if removed.gb >= 1 else f"{1000 * removed.gb:.1f} MB"
    print_result(facts | ({"gb_freed": removed.gb} if as_json else {"freed": freed}), as_json)


def _check_online(model: str | None, device: str, precision: str | None, as_json: bool) -> None:
    from sonde import online

    checks = online.check_model(model, device=device, precision=precision)
    print_result({each.name: f"{each.outcome}: {each.sentence}" for each in checks}, as_json)
    if any(each.outcome != "ok" for each in checks):
        raise typer.Exit(1)


def bench(
    only: Annotated[str | None, typer.Option(help="One row of docs/speed.md, such as small or first-map.")] = None,
    quick: Annotated[bool, typer.Option(help="Small sizes: shows that the rows run, not what they are worth.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the table as a page: speed.md.")] = None,
    as_json: Json = False,
) -> None:
    """The performance table of docs/speed.md, on this machine, as ratios against the plain alternative."""
    from sonde import bench

    table = bench.bench(only=only, quick=quick)
    if out is not None:
        bench.write_page(table, out)
    print_result(table.document(), as_json)
