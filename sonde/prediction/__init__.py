"""Depth maps, previews and point clouds of images on disk; one bad file does not stop the rest.

Outputs mirror the source's folders. NAME.png gives NAME.depth.png, NAME.npy, NAME.preview.png, NAME.relief.png,
NAME.ply, NAME.glb; where two images of a folder share a stem, the whole name stands for it, NAME.png.depth.png.
`predictions.json` lists them and those of earlier calls, and `sheet.png` shows all side by side where it is asked for.
"""

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
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
    describe_predictions,
    read_manifest,
    write_manifest,
)
from sonde.prediction.savers import (
    CLOUDS,
    SAVERS,
    TILE,
    PredictedImage,
    Saver,
    draw_tile,
    render_preview,
    render_relief,
    tile_images,
)
from sonde.prediction.sources import (
    INTRINSICS,
    find_images,
    follow,
    gather_images,
    make_matrix,
    name_outputs,
    parse_intrinsics,
)
from sonde.renamed import keep_old_names
from sonde.spelling import nearest
from sonde.types import MatrixArray, RGBArray

__all__ = [
    "SAVERS",
    "SHEET",
    "TILE",
    "PredictResult",
    "PredictedImage",
    "Progress",
    "Saver",
    "find_images",
    "name_outputs",
    "parse_intrinsics",
    "predict",
    "read_manifest",
    "render_preview",
    "render_relief",
    "tile_images",
]

Progress = Callable[[int, int], None]
"""(images done, of images)."""

SHEET = "sheet.png"


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

    `npy` is float32 in the model's own unit (mm where its captures were measured in mm); `png16` states its unit;
    point clouds are in metres. `intrinsics` may also be four numbers or the (3, 3) matrix.

    Args:
        source: an image, a folder (with all below it), or several of either.
        model: a loaded model, or any name that `sonde.load` takes.
        out: a folder; made where absent.
        options: the options below, as one value; `save` takes names in SAVERS.
        progress: called after each image.

    Raises:
        ValueError: before any work: nothing to predict, an unknown name in `save`, a point cloud without metres or
            intrinsics, a folder that holds predictions of another kind, or a file that would be overwritten.
    """
    out = Path(out)
    files.check_output(out)  # before the model is loaded, which takes its time
    camera = _read_camera(options.intrinsics)
    network = _load_model(model, options.max_depth)
    _check_request(network, options.save, camera)
    found = gather_images([source] if isinstance(source, str | Path) else source, out)
    stems = name_outputs(found.images, out)
    targets = {path: [_name_target(stem, name) for name in options.save] for path, stem in stems.items()}
    if options.sheet:
        targets[out / SHEET] = [out / SHEET]
    _check_overwrite(stems, chain.from_iterable(targets.values()))
    with files.lock_folder(out):  # the manifest is one document: of two writers the later would lose the earlier's
        stated = describe_predictions(network)
        check_addition(out, stated, targets)
        begin(out, stated, chain.from_iterable(targets.values()))
        work = PredictJob(network, camera, options, files.OutputFolder(out), failed=list(found.failed))
        return _predict_all(work, stems, stated, progress)


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
            write_manifest(out, stated, work.entries, work.failed)
        raise
    work.check()
    written = work.list_outputs()
    if work.tiles:
        files.write_rgb(out / SHEET, tile_images(work.tiles))
        written.append(out / SHEET)
    written.append(write_manifest(out, stated, work.entries, work.failed))
    return PredictResult(written, work.failed, _make_notes(work.moved, len(stems)))


@dataclass
class PredictJob:
    """One call of `predict`: the model, and the results so far."""

    model: "models.DepthModel"
    camera: MatrixArray | None
    options: PredictOptions
    out: files.OutputFolder
    entries: list[WrittenImage] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    """Images without a prediction, and what cannot be read, each with its reason."""
    tiles: list[RGBArray] = field(default_factory=list)
    """Images of the sheet."""
    moved: dict[Path, Registration] = field(default_factory=dict)
    """Images that do not lie on the bench of the model's fixed camera."""

    def predict_image(self, path: Path, stem: Path) -> None:
        """Predict one image and write its outputs; an image that cannot be predicted is noted in `failed`."""
        try:
            answer = _predict_one(self.model, files.read_rgb(path), self.camera)
            self.moved |= _find_moved(self.model, path, answer)
        except ValueError as error:
            self.failed.append((path, files.FOREIGN.get(path.suffix.lower(), str(error))))
            return
        self.out.check()
        try:
            outputs = [_write(stem, name, answer) for name in self.options.save]
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            self.failed.append((path, "the name of its output is too long for the file system; shorten it"))
            return
        self.entries.append(_describe_image(path, answer, outputs))
        if self.options.sheet:
            self.tiles.append(draw_tile(answer))

    def check(self) -> None:
        """Raise FileNotFoundError if the output folder, or a file that was written, is gone."""
        self.out.check()
        lost = next((path for path in self.list_outputs() if not path.is_file()), None)
        if lost is not None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(lost))

    def list_outputs(self) -> list[Path]:
        """Every prediction that was written, in order."""
        return [output for entry in self.entries for output in entry.outputs]


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


def _predict_one(model: "models.DepthModel", image: RGBArray, camera: MatrixArray | None) -> PredictedImage:
    if camera is not None:
        check_camera(camera, *image.shape[:2])
    prediction = model.predict(image, camera)
    unit = model.spec.unit if prediction.space == "metric" else "1"
    return PredictedImage(image, prediction.depth, prediction.space, unit, camera)


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
    return (f"{len(moved)} of {images} images: {found.describe(first.name)}",)


def _name_target(stem: Path, name: str) -> Path:
    return stem.with_name(stem.name + SAVERS[name].suffix)


def _write(stem: Path, name: str, answer: PredictedImage) -> Path:
    target = _name_target(stem, name)
    SAVERS[name].write(target, answer)
    return target


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
