"""The command line: each verb parses its words, calls the function of the same name, and prints what came back.

Nothing heavy is imported before a verb is chosen. A user's mistake is one sentence on stderr and exit code 2.
"""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from sonde.cli import scores
from sonde.cli.data import FORMATS, data_app
from sonde.cli.printing import (
    Json,
    MaxDepth,
    bar,
    print_rates,
    print_result,
    print_run,
    print_table,
    stages,
)

__all__ = ["FORMATS", "app", "main"]


class Verbs(TyperGroup):
    """The verbs; `train` and `eval` understand the command lines of GLPDepth too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Their options become ours before the verb reads them."""
        if args[:1] in (["train"], ["eval"]):
            from sonde.cli import words

            args = [args[0], *(words.for_training if args[0] == "train" else words.for_scoring)(args[1:])]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=Verbs,
    name="sonde",
    help="Train, distil, adapt, evaluate and serve monocular depth models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")

Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, dotted: train.learning_rate=1e-4")]
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
    distill: Annotated[
        bool, typer.Option("--distill", help="Teacher, pseudo-labels, student: three rows of scores.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The main job offline: render a bench, adapt sonde-tiny to it by LoRA, score held-out captures in mm."""
    from sonde import demo

    if distill:
        with stages(quiet=as_json) as report:
            made = demo.distil(output / "distill", report)
        return (
            print_result(made, True)
            if as_json
            else print_table(f"{made['images']} road images, measured", made["table"])
        )
    with bar("rendering", quiet=as_json) as show:
        root = demo.render(output, lambda done: show(done, demo.CAPTURES, {}))
    with bar("adapting", quiet=as_json) as show:
        run = demo.adapt(root, output, show)
    print_run(run, as_json)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A packaged recipe's name, a YAML file or a run folder.")],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option(help="Continue from the newest complete checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build everything, say what would happen, and stop.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first useful model in half a minute, where the recipe has that form.")
    ] = False,
    plan_lr: Annotated[
        bool, typer.Option("--plan-lr", help="Draw the whole run's learning rate, judge it, and stop.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train or adapt a model by a recipe.

    The options of GLPDepth's training are taken too; what each becomes is told.
    """
    from sonde import recipes, training

    if quick:
        overrides = [*recipes.quick_form(recipe), *(overrides or [])]
    if plan_lr:
        planned = training.plan_lr(recipe, overrides)
        print_rates(planned, as_json)
        return training.refuse_bad_rates(planned)
    if dry_run:
        return print_result(training.dry_run(recipe, overrides), as_json)
    main_process = os.environ.get("RANK", "0") == "0"  # torchrun starts the same command in every process
    with bar("training", quiet=as_json or not main_process) as show:
        run = training.train(recipe, overrides, resume=resume, listener=show)
    if main_process:
        print_run(run, as_json)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        _end_at_once()


def _end_at_once() -> None:
    """Leave a process among several without Python's own end, which threads of torch now and then abort.

    torchrun takes that for a failure, and stops the process that is still at the scores.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@app.command()
def label(
    model: Annotated[str, typer.Argument(help="The teacher: any model's name, or a run folder.")],
    images: Annotated[str, typer.Argument(help="A folder, a text file of paths, or tars: sa_{000000..000019}.tar")],
    out: Annotated[Path, typer.Argument(help="Where labels and manifest go; what is done there is kept.")],
    shard: Annotated[str, typer.Option(help="i/n: this machine's part of n, i from 0.")] = "0/1",
    engine: Annotated[str, typer.Option(help="local, or ray: one machine or the cluster of RAY_ADDRESS.")] = "local",
    label_format: Annotated[str, typer.Option("--format", help="png, or webdataset: tars.")] = "png",
    size: Annotated[str, typer.Option(help="Of the labels: image, or network, which costs less.")] = "image",
    batch_size: Annotated[int | None, typer.Option(help="Images the network sees at once.")] = None,
    confidence: Annotated[bool, typer.Option(help="Also see each image mirrored: do both agree?")] = True,
    licence: Annotated[str | None, typer.Option(help="Of the teacher's weights, for the manifest.")] = None,
    max_depth: MaxDepth = None,
    plan: Annotated[bool, typer.Option("--plan", help="Label for a minute and say what --total would take.")] = False,
    total: Annotated[int, typer.Option(help="For --plan: how many images.")] = 62_000_000,
    days: Annotated[float, typer.Option(help="For --plan: in how many days.")] = 7.0,
    price: Annotated[float | None, typer.Option(help="For --plan: of one machine for an hour.")] = None,
    as_json: Json = False,
) -> None:
    """Pseudo-labels: a model's depth for images that have none, on many machines, resumable."""
    from sonde import labelling

    teacher = model if max_depth is None else labelling.loaded(model, max_depth)
    if plan:
        estimate = labelling.plan(
            teacher, images, total=total, hours=24 * days, price_per_hour=price, size=size, confidence=confidence,
            batch_size=batch_size,
        )  # fmt: skip
        return print_result(estimate, as_json)
    with bar("labelling", quiet=as_json) as show:
        outcome = labelling.label(
            teacher, images, out, shard=_shard(shard), engine=engine, format=label_format, size=size,
            batch_size=batch_size, confidence=confidence, licence=licence,
            progress=lambda done, total: show(done, total, {}),
        )  # fmt: skip
    rejected = {"rejected": outcome.failed, "reasons": str(outcome.rejected)} if outcome.failed else {"rejected": 0}
    passed = {"passed_over": outcome.passed_over} | ({"list": str(outcome.list)} if outcome.list else {})
    print_result({"written": str(outcome.manifest), "labels": outcome.labels, **rejected, **passed}, as_json)
    if outcome.failed:
        raise typer.Exit(1)


app.command("eval")(scores.evaluate)
app.command()(scores.compare)
app.command()(scores.reproduce)


@app.command()
def predict(
    source: Annotated[Path, typer.Argument(help="An image, or a folder of images.")],
    model: Model = "sonde-tiny",
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the results go.")] = Path("predictions"),
    save: Annotated[str, typer.Option(help="Any of png16,npy,preview,relief,ply,glb.")] = "png16,preview",
    intrinsics: Annotated[
        str | None,
        typer.Option(help="fx,fy,cx,cy in pixels of the image, for point clouds and models with a canonical focal."),
    ] = None,
    max_depth: MaxDepth = None,
    sheet: Annotated[bool, typer.Option("--sheet", help="Also sheet.png: every image beside its depth.")] = False,
    as_json: Json = False,
) -> None:
    """Depth maps, coloured previews and point clouds of images."""
    from sonde import models, prediction

    camera = prediction.parse_intrinsics(intrinsics) if intrinsics else None
    prediction.check_folder(out)  # before a model is loaded, which takes its time
    network = models.load(model, max_depth=max_depth)
    with bar("predicting", quiet=as_json) as show:
        outcome = prediction.predict(
            source,
            network,
            out,
            save=tuple(name.strip() for name in save.split(",")),
            intrinsics=camera,
            sheet=sheet,
            progress=lambda done, total: show(done, total, {}),
        )
    failed = {str(path): reason for path, reason in outcome.failed}
    if as_json:
        print_result(
            {"written": [str(path) for path in outcome.written], "failed": failed, "notes": list(outcome.notes)}, True
        )
    else:
        named = [_named(path, reason) for path, reason in failed.items()]
        notes = {"notes": list(outcome.notes)} if outcome.notes else {}
        print_result({"written": f"{len(outcome.written)} files to {out}", "failed": named, **notes}, False)
    if failed:
        raise typer.Exit(1)


@app.command()
def features(
    image: Annotated[Path, typer.Argument(help="An image.")],
    model: Model = "sonde-tiny",
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the pictures go.")] = Path("features"),
    as_json: Json = False,
) -> None:
    """What the encoder sees: principal components of each layer that the decoder reads, as colours."""
    from sonde import features, models

    written = features.features(image, models.load(model), out)
    print_result({"written": [str(path) for path in written]}, as_json)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A run folder or any model's name.")],
    to: Annotated[str, typer.Option(help="hf, for plain transformers; glpdepth, a .ckpt.")] = "hf",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder; MODEL-hf by default.")] = None,
    max_depth: MaxDepth = None,
    as_json: Json = False,
) -> None:
    """Write a model for use without sonde, compared with the original on the way."""
    from sonde import exporting

    print_result({"written": str(exporting.export(model, to=to, out=out, max_depth=max_depth))}, as_json)


@app.command()
def calibrate(
    model: Annotated[str, typer.Argument(help="Any model's name; sonde-tiny or a hub id needs --out.")],
    points: Annotated[Path | None, typer.Option(help="CSV of image,x,y,depth (or distance): a tape measure's.")] = None,
    depth: Annotated[Path | None, typer.Option(help="A sparse depth map of --image, or a folder of them.")] = None,
    plane: Annotated[
        str | None, typer.Option(help="In --region of --image: wall,distance=2 or ground,height=1.52,pitch=8.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="For --depth and --plane: the photograph, or a folder.")] = None,
    region: Annotated[str | None, typer.Option(help="For --plane: x0,y0,x1,y1 in pixels.")] = None,
    unit: Annotated[str, typer.Option(help="m, cm or mm: of the lengths of --points and --plane.")] = "m",
    depth_scale: Annotated[float | None, typer.Option(help="Metres per level of --depth: 1e-3, 1e-4 …")] = None,
    intrinsics: Annotated[
        str | None, typer.Option(help="fx,fy,cx,cy or a file: for distances, the ground, a model's canonical focal.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="identity, scale, scale-shift or log-affine; by default what is proven best.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A folder for the calibration alone.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Remove the model's calibration.")] = False,
    as_json: Json = False,
) -> None:
    """Metres from a few known points: the simplest formula that points left out do not contradict."""
    from sonde import calibration, prediction

    if undo:
        return print_result({"removed": str(calibration.undo(model))}, as_json)
    camera = prediction.parse_intrinsics(intrinsics) if intrinsics else None
    if (points is not None) + (depth is not None) + (plane is not None) != 1:
        raise ValueError("What is known? Give one of --points FILE, --depth MAP or --plane PLANE.")
    if points is not None:
        measured = calibration.read_points(points, unit=unit, intrinsics=camera)
    elif image is None:
        raise ValueError("Of which photograph? --depth and --plane need --image.")
    elif depth is not None:
        measured = calibration.read_maps(depth, image, scale=depth_scale, intrinsics=camera)
    elif region is None:
        raise ValueError("Where is the plane? Give --region x0,y0,x1,y1 in pixels.")
    else:
        rectangle = calibration.parse_region(region)
        measured = calibration.on_plane(str(plane), image, rectangle, unit=unit, intrinsics=camera)
    print_result(calibration.calibrate(model, measured, kind=kind, out=out).summary(), as_json)


@app.command()
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
        from sonde import online as first

        checks = first.first_day(model)
        print_result({each.name: f"{each.outcome}: {each.sentence}" for each in checks}, as_json)
        if any(each.outcome != "ok" for each in checks):
            raise typer.Exit(1)
        return
    if model is not None:
        raise ValueError("--model is for --online: `sonde doctor --online --model NAME`.")
    if run is None:
        if replay:
            raise ValueError("--replay needs a run folder: `sonde doctor RUN --replay [STEP]`.")
        return print_result(doctor.machine(), as_json)
    if replay:
        return print_result(doctor.replayed(run, step), as_json)
    print_result(doctor.explain(run) or {"skipped_steps": 0}, as_json)


@app.command()
def bench(
    only: Annotated[str | None, typer.Option(help="One row: decoding, training, labelling or scoring.")] = None,
    quick: Annotated[bool, typer.Option(help="Small sizes: shows that the rows run, not what they are worth.")] = False,
    as_json: Json = False,
) -> None:
    """The performance table of docs/measurements.md, on this machine, as ratios against the plain alternative."""
    from sonde import bench

    print_result(bench.bench(only=only, quick=quick), as_json)


def _named(path: str, reason: str) -> str:
    """Why an image failed, in words that say which it is."""
    return reason if path in reason else f"{path}: {reason}"


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise ValueError(f"Shard {text!r}: expected i/n with i from 0 to n - 1, such as 0/8.")
    return int(number), int(count)
