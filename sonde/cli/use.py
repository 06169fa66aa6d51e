"""The verbs that use a model: predict, features, export and calibrate."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sonde.cli import next_steps
from sonde.cli.next_steps import print_next
from sonde.cli.options import check_out, with_options
from sonde.cli.printing import Json, bar, list_reasons, print_result, print_table, tell_placement
from sonde.options.calibrate import CalibrateOptions
from sonde.options.export import ExportOptions
from sonde.options.predict import PredictOptions
from sonde.spelling import make_printable, quantify

if TYPE_CHECKING:
    from sonde.exporting import GateTable
    from sonde.prediction import PredictResult

Model = Annotated[
    str, typer.Option("--model", "-m", help="sonde-lite, sonde-tiny, a hub id, a folder, a run or a .pth file.")
]

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or mps; auto takes the fastest that is present.")]
Precision = Annotated[str | None, typer.Option(help="fp32, bf16 or fp16 of the network's arithmetic; by default fp32.")]


@with_options(PredictOptions)
def predict(
    source: Annotated[
        list[str],
        typer.Argument(help="Images, folders, or patterns such as 'photos/**/*.jpg'; - is one image from stdin."),
    ],
    model: Model = "sonde-lite",
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the results go; - writes one file to stdout.")] = Path(
        "predictions"
    ),
    *,
    options: PredictOptions,
    as_json: Json = False,
) -> None:
    """Depth maps, coloured previews and point clouds of images."""
    from sonde import prediction

    if str(out) == prediction.STREAM:
        # The default, two files, is for folders.
        if not any(word.startswith("--save") for word in sys.argv):
            options = options.change(save=("png16",))
        return _stream(source, model, options, as_json)
    check_out(out, "--out", "-o")
    with bar("predicting", quiet=as_json) as show:
        result = prediction.predict(
            source, model, out, options=options, progress=lambda done, total: show(done, total, {})
        )
    print_result(_document(result) if as_json else _summarise(result, out), as_json)
    if result.failed:
        raise typer.Exit(1)
    if not as_json:
        print_next(next_steps.follow_predict(result.written, out))


def _stream(source: list[str], model: str, options: PredictOptions, as_json: bool) -> None:
    """Write the one output of one image to standard output, and all words to standard error."""
    from sonde import prediction

    if as_json:
        raise ValueError("-o - and --json both write to standard output: leave one of them out.")
    if sys.stdout.isatty():
        raise ValueError(
            "-o - writes a file's bytes, and standard output is a terminal: send it to a file, as in `sonde predict "
            "photo.jpg -o - > depth.png`, or give a folder."
        )
    written, notes = prediction.predict_bytes(source, model, options=options)
    for note in notes:
        print(make_printable(note), file=sys.stderr)
    sys.stdout.buffer.write(written)
    sys.stdout.buffer.flush()


def _document(result: "PredictResult") -> dict[str, object]:
    return {
        "written": [str(path) for path in result.written],
        "failed": {str(path): reason for path, reason in result.failed},
        "notes": list(result.notes),
        **_tell_placement(result, True),
    }


def _tell_placement(result: "PredictResult", as_json: bool) -> dict[str, object]:
    return {} if result.placement is None else tell_placement(result.placement, as_json)


def _summarise(result: "PredictResult", out: Path) -> dict[str, object]:
    """The counts, and each reason with the image's name, which not every reason holds."""
    failed = list_reasons(result.failed)
    summary: dict[str, object] = {"written": f"{quantify(len(result.written), 'file')} to {out}"}
    summary |= _tell_placement(result, False)
    if result.notes:
        summary["notes"] = list(result.notes)
    return summary | {"failed": failed}  # what failed is the last that is read


def features(
    image: Annotated[list[str], typer.Argument(help="Images, folders, or patterns such as 'photos/*.jpg'.")],
    model: Model = "sonde-tiny",
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the pictures go.")] = Path("features"),
    device: Device = "auto",
    precision: Precision = None,
    as_json: Json = False,
) -> None:
    """What the encoder sees: principal components of each layer that the decoder reads, as colours."""
    from sonde import features, models, prediction

    check_out(out, "--out", "-o")
    if prediction.STREAM in image:
        raise ValueError("- is for `sonde predict`: give the name of the image.")
    found = prediction.gather_images(image, out)
    stems = prediction.name_outputs(found.images, out)
    twice = [path for path, stem in stems.items() if stem.name != path.stem]
    if twice:
        raise ValueError(f"{twice[0]} and another image have one name: look at one of them with another -o.")
    network = models.load_network(model, device=device, precision=precision)
    written = [path for each, stem in stems.items() for path in features.features(each, network, stem.parent)]
    summary = {"written": [str(path) for path in written], **tell_placement(network.placement, as_json)}
    print_result(summary, as_json)
    if not as_json:
        print_next(next_steps.follow_features(written, out))


@with_options(ExportOptions)
def export(
    model: Annotated[str, typer.Argument(help="A run folder or any model's name.")],
    *,
    options: ExportOptions,
    as_json: Json = False,
) -> None:
    """Write a model for use without sonde, and compare it with the original."""
    from sonde import exporting

    try:
        result = exporting.export_checked(model, options=options)
    except exporting.ExportRefused as error:
        if as_json:
            print_result({"refused": str(error), "gate": error.table.document()}, True)
        else:
            _print_gate(error.table)
            print(make_printable(str(error)), file=sys.stderr)
        raise typer.Exit(1) from None
    document = {"written": str(result.path)} | ({} if result.table is None else exporting.describe_file(result))
    if as_json:
        return print_result(document, True)
    if result.table is not None:
        _print_gate(result.table)
    print_result({name: value for name, value in document.items() if name not in ("gate", "bytes", "seconds")}, False)
    print_next(next_steps.follow_export(result.path, options.to))


def _print_gate(table: "GateTable") -> None:
    print_table(table.title, table.list_rows())
    print()


@with_options(CalibrateOptions)
def calibrate(
    model: Annotated[str, typer.Argument(help="Any model's name; sonde-tiny or a hub id needs --out.")],
    points: Annotated[
        Path | None, typer.Option(help="CSV of image,x,y,depth (or distance), as from a tape measure.")
    ] = None,
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
    *,
    options: CalibrateOptions,
    undo: Annotated[bool, typer.Option("--undo", help="Remove the model's calibration.")] = False,
    as_json: Json = False,
) -> None:
    """Metres from a few known points: the simplest formula that points left out do not contradict."""
    from sonde import calibration, prediction

    if undo:
        return print_result({"removed": str(calibration.undo(model))}, as_json)
    camera = prediction.parse_intrinsics(intrinsics) if intrinsics else None
    if sum(known is not None for known in (points, depth, plane)) != 1:
        raise ValueError("What is known? Give one of --points FILE, --depth MAP or --plane PLANE.")
    failed: dict[str, str] = {}
    if points is not None:
        measured = calibration.read_points(points, unit=unit, intrinsics=camera)
    elif image is None:
        raise ValueError("Of which photograph? --depth and --plane need --image.")
    elif depth is not None:
        measured = calibration.read_maps(depth, image, scale=depth_scale, intrinsics=camera, failed=failed)
    elif region is None:
        raise ValueError("Where is the plane? Give --region x0,y0,x1,y1 in pixels.")
    else:
        rectangle = calibration.parse_region(region)
        measured = calibration.sample_plane(str(plane), image, rectangle, unit=unit, intrinsics=camera)
    result = calibration.calibrate(model, measured, options=options)
    summary = {**result.summary(), **tell_placement(result.placement, as_json)}
    if failed:
        summary["failed"] = failed if as_json else list_reasons(failed.items())
    print_result(summary, as_json)
    if failed:
        raise typer.Exit(1)
    if not as_json:
        print_next(next_steps.follow_calibrate(options.out or model))
