"""`sonde data`: the captures themselves."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from sonde.cli import next_steps
from sonde.cli.next_steps import print_next
from sonde.cli.options import check_out
from sonde.cli.printing import Json, bar, list_reasons, print_result, print_rows

if TYPE_CHECKING:
    from sonde.download import Entry

data_app = typer.Typer(help="Check, describe, convert, download and render captures.", no_args_is_help=True)
Root = Annotated[Path, typer.Argument(help="The folder of captures.")]
FORMATS = (
    "zivid, folder, nyu, nyu_labeled, kitti, kitti_kb, driving_stereo, hypersim, vkitti2, tartanair, irs, blendedmvs, "
    "eth3d, diode, sintel, ibims, pseudo"
)
"""The names in `datasets.DATASETS`. Importing them for a help text would take seconds."""
Format = Annotated[str, typer.Option("--format", help=f"Layout of the folder: {FORMATS}.")]

NO_CAMERA = (
    "{} of {} captures hold only Z: X and Y are missing, because the camera is not known. Training and scores of depth "
    "need neither. Point clouds of the captures, model.canonical_focal and a sure test for distances in place of depth "
    "do: for these, convert again with --intrinsics fx,fy,cx,cy in pixels of the depth maps, or a file of the matrix."
)


class FolderReport(NamedTuple):
    """What a set's own reader finds in a folder."""

    root: str
    unit: str
    """`captures`, or `images` for a set without depth."""
    count: int
    problems: int
    sentence: str
    """The same in words."""
    next: str | None
    """The command that uses the folder; None if the reader finds nothing."""

    def document(self) -> dict[str, object]:
        """The report as `--json` prints it."""
        return {
            "root": self.root,
            self.unit: self.count,
            "problems": self.problems,
            "sentence": self.sentence,
            "next": self.next,
        }


@data_app.command("check")
def check(
    root: Root,
    data_format: Format = "zivid",
    reject: Annotated[
        Path | None, typer.Option(help="Write the captures with a problem to this file, as JSON lines for data.reject.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write a page of thumbnails and histograms to this file: FILE.html.")
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="A set of the same layout that must share no capture with this one; repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Read every capture and report each problem in one line, with the file and the remedy."""
    from sonde import checks, datasets

    if reject is not None and reject.exists():
        datasets.read_rejects(reject)  # refuses a file that is not such a list: it would be replaced
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--page {page}: expected a name that ends in .html.")
    captures = datasets.open_set(data_format, root, strict=False)
    others = [datasets.open_set(data_format, other, strict=False) for other in against or []]
    with bar("checking", quiet=as_json) as show:
        diagnosis = checks.examine(captures, lambda done: show(done, len(captures), {}), others)
    problems = diagnosis.problems
    written = {} if reject is None else {"rejected": datasets.write_rejects(reject, problems), "list": str(reject)}
    if page is not None:
        from sonde.report import captures as pages

        written["page"] = str(pages.write(page, captures, diagnosis))
    counts = {name: each._asdict() | {"faults": len(each.faults)} for name, each in diagnosis.answers.items()}
    answers = {
        name: {key: value for key, value in each.items() if value or key != "told"} for name, each in counts.items()
    }
    silent = [f"{name}: {each.note}" for name, each in diagnosis.answers.items() if each.note and not each.faults]
    told = [f"{name}: {each.told}" for name, each in diagnosis.answers.items() if each.told]
    heard = {"cannot tell": silent, "notes": told}
    said = {"checks": answers} if as_json else {name: words for name, words in heard.items() if words}
    print_result(
        {"captures": len(captures), **written, **said, "problems": [problem.message for problem in problems]}, as_json
    )
    if problems:
        raise typer.Exit(1)
    if not as_json:
        print_next(next_steps.follow_check(root, data_format))


@data_app.command("stats")
def stats(root: Root, data_format: Format = "zivid", as_json: Json = False) -> None:
    """Depth range, share of valid pixels and sizes of a set, in its own unit."""
    from sonde import datasets

    found = datasets.describe(datasets.open_set(data_format, root))
    summary = {name: value for name, value in found.items() if name not in ("per_capture", "failed")}
    if as_json:
        summary["each"] = found["per_capture"]
    if failed := found.get("failed"):
        summary["failed"] = failed if as_json else list_reasons(failed.items())
    print_result(summary, as_json)
    if failed:
        raise typer.Exit(1)
    if not as_json:
        print_next(next_steps.follow_set(root, data_format))


@data_app.command("convert")
def convert(
    images: Annotated[Path, typer.Argument(help="Folder, file or pattern of colour images.")],
    depth: Annotated[Path, typer.Argument(help="Likewise of depth maps, matched by name or by what * stands for.")],
    out: Annotated[Path, typer.Argument(help="New folder, in the Zivid layout.")],
    depth_scale: Annotated[float | None, typer.Option(help="Metres per level of the depth: 1e-3, 1e-4 …")] = None,
    intrinsics: Annotated[
        list[str] | None,
        typer.Option(help="fx,fy,cx,cy or a file of the matrix; PATTERN=… for captures with such names; repeatable."),
    ] = None,
    rotated_bits: Annotated[int, typer.Option(help="3 for SUN RGB-D, which stores levels with rotated bits.")] = 0,
    depth_channel: Annotated[
        str | None, typer.Option(help="The channel of an .exr, or the array of an .npz, that is the depth.")
    ] = None,
    flip: Annotated[str, typer.Option(help="Axes of clouds to turn: yz where y points up and z backwards.")] = "",
    by_time: Annotated[
        float | None,
        typer.Option(help="Pair the nearest time stamps, up to this difference: 0.02 for the seconds of TUM."),
    ] = None,
    orientation: Annotated[
        str, typer.Option(help="image; or sensor, for depth that was not turned when EXIF turned its image.")
    ] = "image",
    as_json: Json = False,
) -> None:
    """Convert images and depth maps to the Zivid layout: images/*.png and depth/*.npy of X, Y, Z in mm."""
    from sonde import datasets, prediction

    words = [text.rpartition("=") for text in intrinsics or []]
    cameras = {pattern or "*": prediction.parse_intrinsics(camera) for pattern, _, camera in words}
    if len(cameras) < len(words):
        raise ValueError(f"--intrinsics {' '.join(intrinsics or [])}: a pattern is given twice; keep one.")
    done = datasets.convert(
        images,
        depth,
        out,
        depth_scale=depth_scale,
        intrinsics=cameras,
        rotated_bits=rotated_bits,
        depth_channel=depth_channel,
        flip=flip,
        by_time=by_time,
        orientation=orientation,
    )
    flat = datasets.find_flat(out, done.captures)
    note = {"note": NO_CAMERA.format(len(flat), len(done.captures))} if flat else {}
    print_result({"written": str(out), "captures": len(done.captures), **note, "problems": done.problems}, as_json)
    if done.problems:
        raise typer.Exit(1)
    if not as_json:
        print_next(next_steps.follow_set(out))


@data_app.command("download")
def download_set(
    name: Annotated[str | None, typer.Argument(help="A name from --list.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The set's folder; data/NAME by default.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm that you have read the licence and accept it.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what would be downloaded, and download nothing.")
    ] = False,
    only: Annotated[str, typer.Option(help="A pattern of files, such as 'ai_001_*', for a part of the set.")] = "*",
    brought: Annotated[
        list[str] | None,
        typer.Option(
            "--from", help="A folder, file or pattern of files that you have downloaded yourself; repeatable."
        ),
    ] = None,
    list_sets: Annotated[bool, typer.Option("--list", help="List every set with its size and licence.")] = False,
    as_json: Json = False,
) -> None:
    """Download a public data set by name: resume, check and unpack.

    For a set behind a form, print each step, and continue with the files that you have downloaded: --from FILES.
    """
    from sonde import download

    if list_sets:
        return print(download.format_manifest(), end="") if as_json else print_rows(download.list_sets())
    if name is None:
        raise ValueError("No set is named: `sonde data download --list` lists the names.")
    entry = download.find(name)
    if entry.access == "form" and not brought:
        print_result(entry.guide(), as_json)
        raise typer.Exit(0 if dry_run else 1)  # nothing was downloaded
    terms = f"{entry.title}: {entry.licence}. {entry.allows}"
    accepted = entry.access == "open" and not dry_run and not brought and _accept(terms, yes)
    place = out or Path("data") / entry.name
    check_out(place, "--out", "-o")
    with bar("MB", quiet=as_json) as show:
        outcome = download.download(
            name,
            place,
            accept_licence=accepted,
            dry_run=dry_run,
            only=only,
            brought=brought or (),
            progress=lambda done, total, path: show(done >> 20, (total or done) >> 20, {}),
        )
    held = [_inspect_folder(entry, root) for root in outcome.roots if not dry_run]
    if as_json:
        print_result(outcome.document() | ({"held": [each.document() for each in held]} if held else {}), True)
    else:
        summary = outcome.summary()
        if held:
            summary["found"] = [each.sentence for each in held]
            summary["next"] = [each.next for each in held if each.next is not None]
        print_result(summary, False)
    if outcome.problems or not all(each.next for each in held):
        raise typer.Exit(1)


@data_app.command("synth")
def synth(
    family: Annotated[
        str,
        typer.Argument(
            help="bench, room, road, highway, indoor, street, outdoor, objects, abstract, handheld, bins or surround."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The output folder; existing renders are kept.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Number of renders.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    size: Annotated[str, typer.Option(help="height,width in pixels.")] = "168,224",
    layout: Annotated[
        str | None, typer.Option(help="zivid, nyu, driving_stereo or folder; by default the family's own layout.")
    ] = None,
    rigs: Annotated[
        int, typer.Option(min=0, help="Number of cameras of a bench, road or highway; 0: a new camera for every image.")
    ] = 1,
    photographs: Annotated[
        Path | None, typer.Option(help="A folder of photographs that posters, surfaces and skies wear: for training.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Render scenes with exact depth, in the layout of the real set that they imitate."""
    from sonde import scenes
    from sonde.scenes.layouts import FAMILY_LAYOUT

    height, width = _parse_size(size)
    check_out(out, "")
    start = time.perf_counter()
    with bar("rendering", quiet=as_json) as show:
        scenes.synth(
            family,
            out,
            count,
            seed=seed,
            height=height,
            width=width,
            layout=layout,
            rigs=rigs,
            photographs=photographs,
            progress=lambda done: show(done, count, {}),
        )
    seconds = round(time.perf_counter() - start, 2)
    print_result({"written": str(out), "captures": count, "seconds": seconds}, as_json)
    if not as_json:
        print_next(next_steps.follow_set(out, layout or FAMILY_LAYOUT.get(family, "zivid")))


def _inspect_folder(entry: "Entry", root: Path) -> FolderReport:
    """What the set's own reader finds in a folder, and the command that uses it."""
    from sonde import datasets, unlabeled

    count, problems, unit = 0, 0, "captures" if entry.format else "images"
    try:
        if entry.format:
            captures = datasets.open_set(entry.format, root, strict=False)
            count, problems = len(captures), len(captures.problems)
        else:
            count = len(unlabeled.open_images(root))
        sentence = f"{root}: {count:,} {unit}" + (f", {problems} problems" if problems else "")
    except ValueError as error:
        sentence = f"{root}: no {unit} yet. {error}"
    command = entry.next(str(root)) if count else None
    return FolderReport(str(root), unit, count, problems, sentence, command)


def _accept(licence: str, yes: bool) -> bool:
    """Whether the user accepts a licence: with --yes, or by answering at a terminal. Both cases show the licence."""
    asked = not yes and sys.stdin.isatty()
    if yes or asked:
        from rich.console import Console
        from rich.markup import escape

        Console(stderr=True, highlight=False).print(escape(licence), soft_wrap=True)
    return yes or (asked and typer.confirm("Do you accept?", err=True))


def _parse_size(text: str) -> tuple[int, int]:
    sides = [int(side) for side in text.split(",") if side.strip().isdecimal()]
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"Size {text!r}: expected height,width in pixels, such as 168,224.")
    return sides[0], sides[1]
