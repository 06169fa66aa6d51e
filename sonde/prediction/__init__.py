"""Depth maps, previews and point clouds of images on disk; one bad file does not stop the rest.

Outputs mirror the source's folders. NAME.png gives NAME.depth.png, NAME.npy, NAME.preview.png, NAME.relief.png,
NAME.ply, NAME.glb; where two images of a folder share a stem, the whole name stands for it, NAME.png.depth.png.
`predictions.json` lists them and those of earlier calls, with their units, and `sheet.png` shows all side by side where
it is asked for.
"""

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from sonde import files, models
from sonde.background import Registration, register
from sonde.geometry import check_camera
from sonde.options import takes
from sonde.options.predict import ArrayLike, PredictOptions
from sonde.prediction.manifest import (
    Statement,
    WrittenImage,
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


@takes(PredictOptions)
def predict(
    source: str | Path | Sequence[str | Path],
    model: "models.DepthModel | str | Path",
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
    network = _load_model(model, options.max_depth)
    _check_request(network, options.save, camera)
    unit = choose_unit(network, options.unit)
    stems = name_outputs(found.images, out)
    targets = {
        path: [out_path for name in options.save for out_path in _name_targets(stem, name)]
        for path, stem in stems.items()
    }
    sheets = SheetWriter(name_sheets(out, len(stems)), network.name) if options.sheet else None
    targets |= {page: [page] for page in sheets.pages} if sheets else {}
    _check_overwrite(stems, chain.from_iterable(targets.values()))
    with files.lock_folder(out):  # the manifest is one document: of two writers the later would lose the earlier's
        stated = describe_predictions(network, unit, describe_files(options.save, unit))
        check_addition(out, stated, targets)
        begin(out, stated, chain.from_iterable(targets.values()))
        job = PredictJob(network, camera, options, unit, files.OutputFolder(out), found.contents, sheets)
        job.failed += found.failed
        return _predict_all(job, stems, stated, progress)


@takes(PredictOptions)
def predict_bytes(
    source: str | Path | Sequence[str | Path], model: "models.DepthModel | str | Path", *, options: PredictOptions
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
        network = _load_model(model, options.max_depth)
        _check_request(network, options.save, camera)
        unit = choose_unit(network, options.unit)
        work = PredictJob(network, camera, options, unit, files.OutputFolder(out), found.contents)
        (path,) = found.images
        work.predict_image(path, out / path.stem)
        for _, reason in work.failed:
            raise ValueError(reason)
        written = _name_targets(out / path.stem, options.save[0])[0].read_bytes()
    return written, _make_notes(work.moved, 1)


def _predict_all(
    work: "PredictJob", stems: dict[Path, Path], stated: Statement, progress: Progress | None
) -> PredictResult:
    out = work.out.path
    try:
        for done, (path, stem) in enumerate(stems.items(), start=1):
            work.predict_image(path, stem)
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
    return PredictResult([*work.list_outputs(), *sheets, manifest], work.failed, _make_notes(work.moved, len(stems)))


@dataclass
class PredictJob:
    """One call of `predict`: the model, and the results so far."""

    model: "models.DepthModel"
    camera: MatrixArray | None
    options: PredictOptions
    unit: str
    """Of metric depth; `1` for relative depth."""
    out: files.OutputFolder
    contents: Mapping[Path, bytes]
    """The encoded images that are no files."""
    sheets: SheetWriter | None = None
    entries: list[WrittenImage] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    """Images without a prediction, and what cannot be read, each with its reason."""
    moved: dict[Path, Registration] = field(default_factory=dict)
    """Images that do not lie on the bench of the model's fixed camera."""

    def predict_image(self, path: Path, stem: Path) -> None:
        """Predict one image and write its outputs; an image that cannot be predicted is noted in `failed`."""
        try:
            answer = self._predict(path)
            self.moved |= _find_moved(self.model, path, answer)
        except ValueError as error:
            self.failed.append((path, files.FOREIGN.get(path.suffix.lower(), str(error))))
            return
        self.out.check()
        try:
            outputs = [out_path for name in self.options.save for out_path in _write(stem, name, answer)]
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            self.failed.append((path, "the name of its output is too long for the file system; shorten it"))
            return
        self.entries.append(_describe_image(path, answer, outputs))
        if self.sheets is not None:
            self.sheets.add((stem.parent / path.name).relative_to(self.out.path).as_posix(), answer)

    def _predict(self, path: Path) -> PredictedImage:
        content = self.contents.get(path)
        image = files.read_rgb(path) if content is None else files.decode_rgb(content, str(path))
        if self.camera is not None:
            check_camera(self.camera, *image.shape[:2])
        prediction = self.model.predict(image, self.camera)
        return PredictedImage(image, prediction.depth, prediction.space, self.unit, self.camera, str(path))

    def check(self) -> None:
        """Raise FileNotFoundError if the output folder, or a file that was written, is gone."""
        self.out.check()
        lost = next((path for path in self.list_outputs() if not path.is_file()), None)
        if lost is not None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(lost))

    def list_outputs(self) -> list[Path]:
        """Every prediction that was written, in order."""
        return [output for entry in self.entries for output in entry.outputs]


def _refuse_unknown(model: "models.DepthModel | str | Path") -> None:
    if isinstance(model, str | Path):
        models.refuse_unknown(model)


def _load_model(model: "models.DepthModel | str | Path", max_depth: float | None) -> "models.DepthModel":
    if isinstance(model, str | Path):
        return models.load(model, max_depth=max_depth)
    if max_depth is not None:
        raise ValueError(f"max_depth={max_depth:g} is for a model given by name; {model.name} is already loaded.")
    return model


def _read_camera(intrinsics: str | Sequence[float] | ArrayLike | None) -> MatrixArray | None:
    if intrinsics is None:
        return None
    return parse_intrinsics(intrinsics) if isinstance(intrinsics, str) else make_matrix(intrinsics)


def _check_request(model: "models.DepthModel", save: Sequence[str], camera: MatrixArray | None) -> None:
    for name in save:
        if name not in SAVERS:
            raise ValueError(f"Cannot save {name!r}: {nearest(name, list(SAVERS))}")
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


def _find_moved(model: "models.DepthModel", path: Path, answer: PredictedImage) -> dict[Path, Registration]:
    """The image, if its model belongs to a fixed camera and the image does not lie on that camera's bench."""
    if model.background is None or answer.image is None:
        return {}
    found = register(model.background, answer.image)
    return {path: found} if found.moved else {}


def _make_notes(moved: dict[Path, Registration], images: int) -> tuple[str, ...]:
    if not moved:
        return ()
    first, found = next(iter(moved.items()))
    return (f"{len(moved)} of {quantify(images, 'image')}: {found.describe(first.name)}",)


def _name_targets(stem: Path, name: str) -> list[Path]:
    """The files of one kind for one image; first the one with the suffix of its saver."""
    saver = SAVERS[name]
    return [stem.with_name(stem.name + suffix) for suffix in (saver.suffix, *saver.beside)]


def _write(stem: Path, name: str, answer: PredictedImage) -> list[Path]:
    targets = _name_targets(stem, name)
    SAVERS[name].write(targets[0], answer)
    return targets


def _describe_image(source: Path, answer: PredictedImage, outputs: list[Path]) -> WrittenImage:
    height, width = answer.depth.shape
    low, median, high = (float(value) for value in np.percentile(answer.own, [0, 50, 100]))
    return WrittenImage(source, outputs, width, height, low, median, high)


keep_old_names(
    __name__,
    {
        "outputs_of": "name_outputs",
        "preview": "render_preview",
        "relief": "render_relief",
        "tabled": "tile_images",
    },
)
