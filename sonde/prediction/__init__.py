"""Depth maps, previews and point clouds of images on disk; one bad file does not stop the rest.

Outputs mirror the source's folders. NAME.png gives NAME.depth.png, NAME.npy, NAME.preview.png, NAME.relief.png,
NAME.ply, NAME.glb; where two images of a folder share a stem, the whole name stands for it, NAME.png.depth.png.
`predictions.json` lists them and those of earlier calls, with their units, and `sheet.png` shows all side by side where
it is asked for.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from sonde import files, models
from sonde.background import Registration
from sonde.options import refuse_loading, takes
from sonde.options.predict import ArrayLike, PredictOptions
from sonde.prediction.job import PredictJob, name_targets
from sonde.prediction.manifest import (
    Statement,
    begin,
    check_addition,
    choose_unit,
    describe_predictions,
    read_manifest,
    write_manifest,
)
from sonde.prediction.savers import (
    CLOUDS,
    SAVERS,
    PredictedImage,
    Saver,
    check_installed,
    describe_files,
    render_preview,
    render_relief,
)
from sonde.prediction.sheets import SHEET, TILE, SheetWriter, name_sheets, tile_images
from sonde.prediction.sources import (
    INTRINSICS,
    STREAM,
    find_images,
    follow,
    gather_images,
    make_matrix,
    name_outputs,
    parse_intrinsics,
)
from sonde.renamed import keep_old_names
from sonde.spelling import nearest, quantify
from sonde.types import MatrixArray

__all__ = [
    "SAVERS",
    "SHEET",
    "STREAM",
    "TILE",
    "PredictResult",
    "PredictedImage",
    "Progress",
    "Saver",
    "check_request",
    "find_images",
    "gather_images",
    "name_outputs",
    "parse_intrinsics",
    "predict",
    "predict_bytes",
    "read_manifest",
    "render_preview",
    "render_relief",
    "tile_images",
]

Progress = Callable[[int, int], None]
"""(images done, of images)."""


class PredictResult(NamedTuple):
    """What became of the images."""

    written: list[Path]
    """Every file written, the manifest last."""
    failed: list[tuple[Path, str]]
    """Images that gave nothing, and what cannot be read, each with its reason."""
    notes: tuple[str, ...] = ()
    """What must be known before the depth is believed: a fixed camera that has moved."""
    placement: "models.Placement | None" = None
    """Where the network ran."""

    @property
    def ran(self) -> str:
        """Where the network ran, in words: `on cpu by torch in fp32`."""
        return "" if self.placement is None else self.placement.describe()


@takes(PredictOptions)
def predict(
    source: str | Path | Sequence[str | Path],
    model: "models.DescribedModel | str | Path",
    out: str | Path,
    *,
    options: PredictOptions,
    progress: Progress | None = None,
) -> PredictResult:
    """Predict the depth of every image at its own size, and write it below `out`.

    Metric depth is written in `unit`, by default the model's own (mm where its captures were measured in mm). Two
    formats are always in metres: `png16`, whose text states the size of a level, and `glb`, whose standard demands it.
    `predictions.json` states the unit of each kind of file, and so does each file that can. `intrinsics` may also be
    four numbers or the (3, 3) matrix.

    Args:
        source: an image, a folder (with all below it), a pattern such as photos/*.jpg, or several of these; `-` alone
            is one image from standard input.
        model: a loaded model, or any name that `sonde.load` takes.
        out: a folder; made where absent.
        options: the options below, as one value; `save` takes names in SAVERS.
        progress: called after each image.

    Raises:
        ValueError: before any work: nothing to predict, an unknown name in `save`, a point cloud without metres or
            intrinsics, a unit for relative depth, a folder that holds predictions of another kind, or a file that
            would be overwritten.
    """
    out = Path(out)
    files.check_output(out)  # before the model is loaded, which takes its time
    _refuse_unknown(model)
    camera = _read_camera(options.intrinsics)
    found = gather_images([source] if isinstance(source, str | Path) else source, out)
    network = _load_model(model, options)
    check_request(network, options.save, camera)
    unit = choose_unit(network, options.unit)
    stems = name_outputs(found.images, out)
    targets = {
        path: [out_path for name in options.save for out_path in name_targets(stem, name)]
        for path, stem in stems.items()
    }
    sheets = SheetWriter(name_sheets(out, len(stems)), network.name) if options.sheet else None
    targets |= {page: [page] for page in sheets.pages} if sheets else {}
    _check_overwrite(stems, chain.from_iterable(targets.values()))
    with files.lock_folder(out):  # the manifest is one document: of two writers the later would lose the earlier's
        stated = describe_predictions(network, unit, describe_files(options.save, unit))
        check_addition(out, stated, targets)
        begin(out, stated, chain.from_iterable(targets.values()))
        job = PredictJob(
            network, camera, options, unit, files.OutputFolder(out), found.contents, sheets, unread=found.failed
        )
        return _predict_all(job, stems, stated, progress)


@takes(PredictOptions)
def predict_bytes(
    source: str | Path | Sequence[str | Path], model: "models.DescribedModel | str | Path", *, options: PredictOptions
) -> tuple[bytes, tuple[str, ...]]:
    """The one file that `predict` would write for one image, byte for byte, and the notes.

    Args:
        source: as `predict` takes it; one image.
        model: a loaded model, or any name that `sonde.load` takes.
        options: the options below, as one value; `save` has one name.

    Raises:
        ValueError: as `predict`; or several images, several names in `save`, a sheet, or an image without a prediction.
    """
    if len(options.save) != 1 or options.sheet:
        asked = ",".join([*options.save, *["sheet"] * options.sheet])
        raise ValueError(f"-o - writes one file to standard output, not {asked}: give one name, such as --save png16.")
    _refuse_unknown(model)
    camera = _read_camera(options.intrinsics)
    with TemporaryDirectory() as folder:
        out = Path(folder)
        found = gather_images([source] if isinstance(source, str | Path) else source, out)
        if len(found.images) > 1:
            raise ValueError(f"-o - writes the output of one image, and {len(found.images)} are given: give a folder.")
        network = _load_model(model, options)
        check_request(network, options.save, camera)
        unit = choose_unit(network, options.unit)
        work = PredictJob(network, camera, options, unit, files.OutputFolder(out), found.contents)
        (path,) = found.images
        for _ in work.predict_images({path: out / path.stem}):
            pass
        for _, reason in work.failed:
            raise ValueError(reason)
        written = name_targets(out / path.stem, options.save[0])[0].read_bytes()
    return written, _make_notes(work.moved, 1)


def _predict_all(
    work: PredictJob, stems: dict[Path, Path], stated: Statement, progress: Progress | None
) -> PredictResult:
    out = work.out.path
    try:
        with closing(work.predict_images(stems)) as counts:
            for done in counts:
                if progress is not None:
                    progress(done, len(stems))
    except BaseException:
        # Ctrl-C too: a call that is interrupted lists the files it has written.
        if work.entries and work.out.is_there():
            write_manifest(out, stated, work.entries, work.failed, ended=False)
        raise
    work.check()
    sheets = work.sheets.finish() if work.sheets else []
    manifest = write_manifest(out, stated, work.entries, work.failed, sheets=sheets)
    notes = _make_notes(work.moved, len(stems))
    return PredictResult([*work.list_outputs(), *sheets, manifest], work.failed, notes, work.model.placement)


def _refuse_unknown(model: "models.DescribedModel | str | Path") -> None:
    if isinstance(model, str | Path):
        models.refuse_unknown(model)


def _load_model(model: "models.DescribedModel | str | Path", options: PredictOptions) -> "models.DescribedModel":
    if isinstance(model, str | Path):
        return models.load(
            model,
            max_depth=options.max_depth,
            device=options.device,
            precision=options.precision,
            runtime=options.runtime,
        )
    refuse_loading(options, model.name)
    return model


def _read_camera(intrinsics: str | Sequence[float] | ArrayLike | None) -> MatrixArray | None:
    if intrinsics is None:
        return None
    return parse_intrinsics(intrinsics) if isinstance(intrinsics, str) else make_matrix(intrinsics)


def check_request(model: "models.DescribedModel", save: Sequence[str], camera: MatrixArray | None) -> None:
    """Refuse what cannot be written of a model's answers, before it is asked.

    Args:
        model: who answers.
        save: names in SAVERS.
        camera: the intrinsics of the images, if they are known.

    Raises:
        ValueError: an unknown name, a package that it needs, or a model or intrinsics that it needs.
    """
    for name in save:
        if name not in SAVERS:
            raise ValueError(f"Cannot save {name!r}: {nearest(name, list(SAVERS))}")
    check_installed(save)
    if camera is None and model.spec.canonical_focal is not None:
        raise ValueError(model.camera_wanted)
    clouds = [name for name in save if name in CLOUDS]
    if clouds and model.space != "metric":
        raise ValueError(
            f"{model.name} answers relative depth ({model.space}), and a .{clouds[0]} point cloud needs metres: adapt "
            "the model to metric captures (sonde train lora-few, or sonde calibrate), or leave the cloud out."
        )
    if clouds and camera is None:
        raise ValueError(f"A .{clouds[0]} point cloud needs the camera's intrinsics (--intrinsics): {INTRINSICS}.")


def _check_overwrite(images: Iterable[Path], targets: Iterable[Path]) -> None:
    sources = {follow(path) for path in images}
    for target in targets:
        if follow(target) in sources:
            raise ValueError(f"{target} is one of the images and would be overwritten: give another output folder.")


def _make_notes(moved: dict[Path, Registration], images: int) -> tuple[str, ...]:
    if not moved:
        return ()
    first, found = next(iter(moved.items()))
    return (f"{len(moved)} of {quantify(images, 'image')}: {found.describe(first.name)}",)


keep_old_names(
    __name__,
    {
        "outputs_of": "name_outputs",
        "preview": "render_preview",
        "relief": "render_relief",
        "tabled": "tile_images",
    },
)
