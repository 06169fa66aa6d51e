"""The command line: each verb parses its words, calls the function of the same name, and prints what came back.

Nothing heavy is imported before a verb is chosen. A user's mistake is one sentence on stderr and exit code 2.
"""

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

app = typer.Typer(
    name="sonde",
    help="Train, distil, adapt, evaluate and serve monocular depth models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Check, describe, convert and render captures.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, dotted: train.learning_rate=1e-4")]
Root = Annotated[Path, typer.Argument(help="The folder of captures.")]
Format = Annotated[str, typer.Option("--format", help="Layout of the folder: zivid, folder, nyu, driving_stereo.")]
Model = Annotated[str, typer.Option("--model", "-m", help="sonde-tiny, a hub id, a folder, a run or a .pth file.")]


def main() -> None:
    """Run the program; a ValueError is the user's to mend, so it is told in one sentence."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("sonde").setLevel(logging.INFO)
    os.environ.setdefault("TQDM_DISABLE", "1")  # transformers' bars would run through ours
    warnings.simplefilter("ignore", FutureWarning)  # what the parts below tell each other
    try:
        app()
    except (ValueError, OSError) as error:
        sentence = escape(" ".join(str(error).split()))
        Console(stderr=True, highlight=False).print(f"[bold red]error[/] {sentence}", soft_wrap=True)
        sys.exit(2)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the data set and the run go.")] = Path(
        "runs/demo"
    ),
    as_json: Json = False,
) -> None:
    """The main job offline: render a bench, adapt sonde-tiny to it by LoRA, score held-out captures in mm."""
    from sonde import demo

    with _bar("rendering", quiet=as_json) as show:
        root = demo.render(output, lambda done: show(done, demo.CAPTURES, {}))
    with _bar("adapting", quiet=as_json) as show:
        run = demo.adapt(root, output, show)
    _show_run(run, as_json)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A packaged recipe's name, a YAML file or a run folder.")],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option(help="Continue from the newest complete checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build everything, say what would happen, and stop.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train or adapt a model by a recipe."""
    from sonde import train

    if dry_run:
        return _show(train.dry_run(recipe, overrides), as_json)
    with _bar("training", quiet=as_json) as show:
        run = train.train(recipe, overrides, resume=resume, listener=show)
    _show_run(run, as_json)


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Argument(help="A run folder, or any model's name.")],
    protocol: Annotated[str, typer.Option(help="How it is scored.")] = "zivid-mm",
    data: Annotated[Path | None, typer.Option(help="The captures; a run's own test captures by default.")] = None,
    data_format: Annotated[str | None, typer.Option("--format", help="Layout of --data.")] = None,
    align: Annotated[str | None, typer.Option(help="Align each image before scoring; names the result.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for metrics.json and per-image CSV.")] = None,
    as_json: Json = False,
) -> None:
    """Score a model under a protocol: one row per image, and their mean."""
    from sonde import evaluate

    result = evaluate.evaluate(model, protocol, data, format=data_format, align=align, out=out)
    _show(result.summary(), as_json)


@app.command()
def predict(
    source: Annotated[Path, typer.Argument(help="An image, or a folder of images.")],
    model: Model = "sonde-tiny",
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the results go.")] = Path("predictions"),
    save: Annotated[str, typer.Option(help="Any of png16,npy,preview,ply,glb.")] = "png16,preview",
    intrinsics: Annotated[
        str | None,
        typer.Option(help="fx,fy,cx,cy in pixels of the image, for point clouds."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Depth maps, coloured previews and point clouds of images."""
    from sonde import models, predict

    camera = predict.parse_intrinsics(intrinsics) if intrinsics else None
    network = models.load(model)
    with _bar("predicting", quiet=as_json) as show:
        outcome = predict.predict(
            source,
            network,
            out,
            save=tuple(save.split(",")),
            intrinsics=camera,
            progress=lambda done, total: show(done, total, {}),
        )
    failed = {str(path): reason for path, reason in outcome.failed}
    if as_json:
        _show({"written": [str(path) for path in outcome.written], "failed": failed}, True)
    else:
        _show({"written": f"{len(outcome.written)} files to {out}", "failed": list(failed.values())}, False)
    if failed:
        raise typer.Exit(1)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A run folder or any model's name.")],
    to: Annotated[str, typer.Option(help="hf: a merged folder that plain transformers loads.")] = "hf",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder; MODEL-hf by default.")] = None,
    as_json: Json = False,
) -> None:
    """Write a model for use without sonde, compared with the original on the way."""
    from sonde import export

    _show({"written": str(export.export(model, to=to, out=out))}, as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine can do: torch, device, codecs, disk, weights, licences."""
    from sonde import doctor

    _show(doctor.machine(), as_json)


@app.command()
def bench(
    only: Annotated[str | None, typer.Option(help="One row: decoding or training.")] = None,
    quick: Annotated[bool, typer.Option(help="Small sizes: shows that the rows run, not what they are worth.")] = False,
    as_json: Json = False,
) -> None:
    """The performance table of the README, on this machine, as ratios against the plain alternative."""
    from sonde import bench

    _show(bench.bench(only=only, quick=quick), as_json)


@data_app.command("check")
def check(root: Root, data_format: Format = "zivid", as_json: Json = False) -> None:
    """Read every capture and report what is wrong: one line each, naming the file and the remedy."""
    from sonde import datasets, doctor

    captures = datasets.open_set(data_format, root, strict=False)
    problems = [problem.message for problem in doctor.check(captures)]
    _show({"captures": len(captures), "problems": problems}, as_json)
    if problems:
        raise typer.Exit(1)


@data_app.command("stats")
def stats(root: Root, data_format: Format = "zivid", as_json: Json = False) -> None:
    """Depth range, valid share and sizes of a set, in its own unit."""
    from sonde import datasets

    captures = datasets.open_set(data_format, root)
    rows = [datasets.figures(captures, index) for index in range(len(captures))]
    summary = {
        "captures": len(rows),
        "unit": captures.unit,
        "min": min(row.min for row in rows),
        "max": max(row.max for row in rows),
        "valid": sum(row.valid for row in rows) / len(rows),
        "sizes": sorted({f"{row.height}x{row.width}" for row in rows}),
    }
    _show(summary | ({"each": [row._asdict() for row in rows]} if as_json else {}), as_json)


@data_app.command("convert")
def convert(
    images: Annotated[Path, typer.Argument(help="Folder, file or pattern of colour images.")],
    depth: Annotated[Path, typer.Argument(help="Likewise of depth maps, matched by name.")],
    out: Annotated[Path, typer.Argument(help="New folder in the Zivid layout.")],
    depth_scale: Annotated[float | None, typer.Option(help="Metres per level of the depth: 1e-3, 1e-4 …")] = None,
    intrinsics: Annotated[
        list[str] | None,
        typer.Option(help="fx,fy,cx,cy or a file of the matrix; PATTERN=… for captures of that name; repeatable."),
    ] = None,
    rotated_bits: Annotated[int, typer.Option(help="3 for SUN RGB-D, whose levels are stored turned.")] = 0,
    as_json: Json = False,
) -> None:
    """Bring RGB + depth images into the Zivid layout: images/*.png and depth/*.npy of X, Y, Z in mm."""
    from sonde import datasets, predict

    words = [text.rpartition("=") for text in intrinsics or []]
    cameras = {pattern or "*": predict.parse_intrinsics(camera) for pattern, _, camera in words}
    done = datasets.convert(images, depth, out, depth_scale=depth_scale, intrinsics=cameras, rotated_bits=rotated_bits)
    _show({"written": str(out), "captures": len(done.captures), "problems": done.problems}, as_json)
    if done.problems:
        raise typer.Exit(1)


@data_app.command("synth")
def synth(
    family: Annotated[str, typer.Argument(help="bench, room or road.")],
    out: Annotated[Path, typer.Argument(help="The folder; renders already there are kept.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    size: Annotated[str, typer.Option(help="height,width in pixels.")] = "168,224",
    layout: Annotated[
        str | None, typer.Option(help="zivid, nyu or driving_stereo; the family's own by default.")
    ] = None,
    rigs: Annotated[int, typer.Option(min=0, help="Cameras of a bench; 0: a new one for every image.")] = 1,
    as_json: Json = False,
) -> None:
    """Render scenes with exact depth in the layout of the real set they stand for."""
    from sonde import scenes

    height, width = _size(size)
    start = time.perf_counter()
    with _bar("rendering", quiet=as_json) as show:
        scenes.synth(
            family, out, count, seed=seed, height=height, width=width, layout=layout, rigs=rigs,
            progress=lambda done: show(done, count, {}),
        )  # fmt: skip
    seconds = round(time.perf_counter() - start, 2)
    _show({"written": str(out), "captures": count, "seconds": seconds}, as_json)


@contextmanager
def _bar(task: str, quiet: bool = False) -> Iterator[Callable[[int, int, dict[str, float]], None]]:
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


def _size(text: str) -> tuple[int, int]:
    sides = [int(side) for side in text.split(",") if side.strip().isdecimal()]
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"Size {text!r}: expected height,width in pixels, such as 168,224.")
    return sides[0], sides[1]


def _show(document: dict[str, Any], as_json: bool) -> None:
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


def _show_run(run: Path, as_json: bool) -> None:
    """The run's folder, then its table of scores; nothing after."""
    path = run / "metrics.json"
    scores = json.loads(path.read_text()) if path.is_file() else {}
    if as_json:
        return _show({"run": str(run), **scores}, True)
    print(f"report  {run / 'report.html'}" if (run / "report.html").is_file() else f"run  {run}")
    if "table" in scores:
        return _show_table(f"{scores['images']} held-out captures", scores["table"])
    if scores:
        _show(scores["metrics"], False)


def _show_table(title: str, rows: dict[str, dict[str, float]]) -> None:
    names = list(next(iter(rows.values())))
    table = Table("", title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in names:
        table.add_column(name, justify="right")
    for row, values in rows.items():
        table.add_row(row, *(f"{values[name]:.4g}" for name in names))
    Console(width=max(Console().width, 100)).print(table)  # rather run over a narrow terminal than break a row


if __name__ == "__main__":
    main()
