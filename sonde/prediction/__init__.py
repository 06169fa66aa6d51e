"""Depth maps, previews and point clouds of images on disk; one bad file does not stop the rest.

Outputs mirror the source's folders. NAME.png gives NAME.depth.png, NAME.npy, NAME.preview.png, NAME.relief.png,
NAME.ply, NAME.glb; where two images of a folder share a stem, the whole name stands for it, NAME.png.depth.png.
`predictions.json` lists them and those of earlier calls, and `sheet.png` shows all side by side where it is asked for.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont, ImageOps

from sonde import files
from sonde.background import Registration, register
from sonde.geometry import Colours, Points, check_camera, point_cloud
from sonde.maps import high_pass
from sonde.models import DepthModel
from sonde.prediction.manifest import begin, check_addition, check_folder, read_manifest, statement, write_manifest
from sonde.spelling import nearest
from sonde.types import DepthArray, MatrixArray, RGBArray, Space
from sonde.units import UNITS

Progress = Callable[[int, int], None]
"""(images done, of images)."""

SHEET = "sheet.png"
TILE = (220, 165)
"""(width, height) of an image on the sheet, and of its depth."""
CLOUDS = ("ply", "glb")
"""What needs metric depth and intrinsics."""


class PredictResult(NamedTuple):
    """What became of the images."""

    written: list[Path]
    """Every file written, the manifest last."""
    failed: list[tuple[Path, str]]
    """Images that gave nothing, and why."""
    notes: tuple[str, ...] = ()
    """What must be known before the depth is believed: a fixed camera that has moved."""


class PredictedImage(NamedTuple):
    """One image and its depth, ready to be written."""

    image: RGBArray | None
    """What colours a point cloud."""
    depth: DepthArray
    """The image's size; metres where the space is metric."""
    space: Space
    unit: str
    """Of what is written for people and programs: a key of UNITS where metric, else 1."""
    intrinsics: MatrixArray | None

    @property
    def own(self) -> DepthArray:
        """The depth in its own unit."""
        return self.depth / np.float32(UNITS[self.unit]) if self.space == "metric" else self.depth


def predict(
    source: str | Path | Sequence[str | Path],
    model: DepthModel,
    out: str | Path,
    *,
    save: Sequence[str] = ("png16", "preview"),
    intrinsics: Sequence[float] | MatrixArray | None = None,
    sheet: bool = False,
    progress: Progress | None = None,
) -> PredictResult:
    """Predict the depth of every image at its own size, and write it below `out`.

    Args:
        source: an image, a folder (with all below it), or several of either.
        model: what predicts.
        out: a folder; made where absent.
        save: names in SAVERS. `npy` is float32 in the model's own unit (mm where its captures were measured in mm),
            `png16` says its unit itself, point clouds are in metres.
        intrinsics: fx, fy, cx, cy or the (3, 3) matrix, in pixels of the images; point clouds need it, and models
            with a canonical focal.
        sheet: also write sheet.png, every image beside its depth in colour, to look at all of them at once.
        progress: told after every image.

    Raises:
        ValueError: before any work: nothing to predict, an unknown name in `save`, a point cloud that cannot be, or
            a folder that holds predictions of another kind, or a file that no call wrote under one's name.
    """
    out = Path(out)
    check_folder(out)
    camera = None if intrinsics is None else _matrix(intrinsics)
    _check_request(model, save, camera)
    stems = outputs_of(find_images([source] if isinstance(source, str | Path) else source, out), out)
    targets = {path: [_target(stem, name) for name in save] for path, stem in stems.items()}
    planned = targets | ({out / SHEET: [out / SHEET]} if sheet else {})
    _check_overwrite(stems, chain.from_iterable(planned.values()))
    stated = statement(model)
    check_addition(out, stated, planned)
    begin(out, stated, chain.from_iterable(planned.values()))
    entries: list[dict[str, Any]] = []
    failed: list[tuple[Path, str]] = []
    tiles: list[RGBArray] = []
    moved: dict[Path, Registration] = {}
    try:
        for done, (path, stem) in enumerate(stems.items(), start=1):
            try:
                answer = _answer(model, files.read_rgb(path), camera)
                moved |= _moved(model, path, answer)
            except ValueError as error:
                failed.append((path, str(error)))
            else:
                entries.append(_entry(path, answer, [_written(stem, name, answer) for name in save]))
                tiles += [_tile(answer)] if sheet else []
            if progress is not None:
                progress(done, len(stems))
    except BaseException:  # an interrupted call lists what it wrote
        if entries:
            write_manifest(out, stated, entries, failed)
        raise
    if tiles:
        files.write_rgb(out / SHEET, tabled(tiles))
    looked = [out / SHEET] if tiles else []
    manifest = write_manifest(out, stated, entries, failed)
    written = [*(output for entry in entries for output in entry["outputs"]), *looked, manifest]
    return PredictResult(written, failed, _notes(moved, len(stems)))


def parse_intrinsics(text: str) -> MatrixArray:
    """The (3, 3) matrix of `fx,fy,cx,cy` in pixels, or of the file of that name.

    Raises:
        ValueError: anything but four numbers with focal lengths above zero.
    """
    if Path(text).is_file():
        return files.read_intrinsics(text)
    try:
        return _matrix([float(number) for number in text.split(",")])
    except ValueError:
        raise ValueError(f"Intrinsics {text!r}: {FOUR}.") from None


def find_images(sources: Sequence[str | Path], out: Path) -> dict[Path, Path]:
    """Image -> its place below the folder all have in common, sorted.

    What lies below `out` is no source; where a source itself lies there, that is only what `predict` wrote.

    Raises:
        ValueError: a source that does not exist, or no image at all.
    """
    found: set[Path] = set()
    left: set[Path] = set()
    place = out.resolve()
    for source in map(Path, sources):
        if not source.exists():
            raise ValueError(f"{source} does not exist: expected an image or a folder of images.")
        if source.is_file():
            found.add(_plain(source))
        elif source.resolve() == place:
            raise ValueError(f"{source} is both source and output: give another folder for the output.")
        else:
            seen = {_plain(path) for path in source.rglob("*") if _is_image(path)}
            if place in source.resolve().parents:
                written = _written_before(place)
                own = {path for path in seen if path.resolve() in written}
            else:
                own = {path for path in seen if place in path.resolve().parents}
            found, left = found | seen - own, left | own
    if not found and left:
        raise ValueError(
            f"No images in {', '.join(map(str, sources))} but those below the output folder {out}, which are left out: "
            "give another folder for the output."
        )
    if not found:
        known = ", ".join(files.IMAGE_SUFFIXES)
        raise ValueError(f"No images in {', '.join(map(str, sources))}: expected files that end in {known}.")
    folders = [_plain(Path(source)) for source in sources]
    base = os.path.commonpath([folder if folder.is_dir() else folder.parent for folder in folders])
    return {path: path.relative_to(base) for path in sorted(found)}


def outputs_of(images: dict[Path, Path], out: Path) -> dict[Path, Path]:
    """Image -> where its outputs go, to be followed by a suffix: no two alike, whatever the case of letters."""
    chosen = {path: place.with_suffix("") for path, place in images.items()}
    while True:
        count = Counter(str(name).lower() for name in chosen.values())
        clash = [path for path, name in chosen.items() if count[str(name).lower()] > 1 and name != images[path]]
        if not clash:
            return {path: out / name for path, name in chosen.items()}
        chosen |= {path: images[path] for path in clash}  # a whole name may be another's stem: look again


def preview(answer: PredictedImage) -> RGBArray:
    """Depth in colour, near red and far violet, above a bar that says what the colours mean."""
    low, high = (float(end) for end in np.percentile(answer.own, [2, 98]))
    picture = files.colour_depth(answer.own, None, low, high, space=answer.space)
    if answer.space == "metric":
        labels = [f"{value:.4g} {answer.unit}" for value in np.linspace(low, high, 2 + picture.shape[1] // 240)]
    else:
        labels = ["near", "far"]
    return np.concatenate([picture, _bar(picture.shape[1], labels)])


def relief(answer: PredictedImage) -> RGBArray:
    """What stands out from its surroundings, bright, and what lies deeper, dark: the small steps a preview cannot show.

    The surroundings are `maps.high_pass`'s; the ends are 1 % of the median depth, or disparity.
    """
    depth = torch.from_numpy(answer.own)[None]
    nearer = high_pass(depth, torch.ones_like(depth, dtype=torch.bool))[0].numpy()
    nearer = nearer if answer.space == "disparity" else -nearer
    span = max(abs(float(np.median(answer.own))) / 100, 1e-6)
    picture = (np.clip(nearer / span / 2 + 0.5, 0, 1) * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    size = f"{span:.3g} {answer.unit}" if answer.space == "metric" else "1 %"
    return np.concatenate([picture, _bar(picture.shape[1], [f"{size} deeper", f"{size} nearer"], "gray")])


def tabled(tiles: Sequence[RGBArray], columns: int = 4) -> UInt8[np.ndarray, "_ _ 3"]:
    """Tiles of one size in rows, white where the last row ends early; of fewer than a row, one row."""
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    blank = np.full_like(tiles[0], 255)
    width = min(columns, len(tiles))
    return np.concatenate([np.concatenate([*row, *[blank] * (width - len(row))], axis=1) for row in rows])


def _tile(answer: PredictedImage) -> RGBArray:
    """An image and its depth side by side, each whole within TILE."""
    assert answer.image is not None
    maps = (answer.image, files.colour_depth(answer.own, space=answer.space))
    halves = [ImageOps.pad(Image.fromarray(each), TILE, Image.Resampling.LANCZOS, "white") for each in maps]
    return np.concatenate([np.asarray(half) for half in halves], axis=1)


FOUR = "expected fx,fy,cx,cy in pixels of the image, such as 1780,1780,960,600"


def _check_request(model: DepthModel, save: Sequence[str], camera: MatrixArray | None) -> None:
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
        raise ValueError(f"A .{clouds[0]} point cloud needs the camera's intrinsics (--intrinsics): {FOUR}.")


def _check_overwrite(images: Iterable[Path], targets: Iterable[Path]) -> None:
    sources = {path.resolve() for path in images}
    for target in targets:
        if target.resolve() in sources:
            raise ValueError(f"{target} is one of the images and would be overwritten: give another output folder.")


def _matrix(intrinsics: Sequence[float] | MatrixArray) -> MatrixArray:
    numbers = np.asarray(intrinsics, dtype=np.float64)
    if numbers.shape == (4,):
        fx, fy, cx, cy = numbers
        numbers = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if numbers.shape != (3, 3) or not (np.isfinite(numbers).all() and numbers[0, 0] > 0 and numbers[1, 1] > 0):
        raise ValueError(f"Intrinsics {np.asarray(intrinsics).tolist()}: {FOUR}.")
    return numbers


def _plain(path: Path) -> Path:
    """Absolute and without `..`, so that an image has one spelling and its place lies below the output.

    Links keep their own names.
    """
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() follows links


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in files.IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _written_before(out: Path) -> set[Path]:
    """What the manifest lists."""
    entries = read_manifest(out).get("predictions", [])
    return {(out / name).resolve() for entry in entries for name in entry["outputs"]}


def _answer(model: DepthModel, image: RGBArray, camera: MatrixArray | None) -> PredictedImage:
    if camera is not None:
        check_camera(camera, *image.shape[:2])
    prediction = model.predict(image, camera)
    unit = model.spec.unit if prediction.space == "metric" else "1"
    return PredictedImage(image, prediction.depth, prediction.space, unit, camera)


def _moved(model: DepthModel, path: Path, answer: PredictedImage) -> dict[Path, Registration]:
    """The image, where its model knows the bench of a fixed camera and the image does not lie on it."""
    if model.background is None or answer.image is None:
        return {}
    found = register(model.background, answer.image)
    return {path: found} if found.moved else {}


def _notes(moved: dict[Path, Registration], images: int) -> tuple[str, ...]:
    if not moved:
        return ()
    first, found = next(iter(moved.items()))
    return (f"{len(moved)} of {images} images: {found.sentence(first.name)}",)


def _target(stem: Path, name: str) -> Path:
    return stem.with_name(stem.name + SAVERS[name].suffix)


def _written(stem: Path, name: str, answer: PredictedImage) -> Path:
    target = _target(stem, name)
    SAVERS[name].write(target, answer)
    return target


def _entry(source: Path, answer: PredictedImage, outputs: list[Path]) -> dict[str, Any]:
    height, width = answer.depth.shape
    low, median, high = (float(value) for value in np.percentile(answer.own, [0, 50, 100]))
    figures = {"min": low, "median": median, "max": high}
    return {"source": source, "outputs": outputs, "width": width, "height": height, **figures}


def _bar(width: int, labels: list[str], colours: str = "Spectral") -> RGBArray:
    """A strip (height, width, 3) of the colours from end to end, with labels at equal steps below."""
    size = max(10, min(18, width // 40))
    canvas = Image.new("RGB", (width, 3 * size), "white")
    ramp = colormaps[colours](np.linspace(0, 1, width), bytes=True)[None, :, :3]
    canvas.paste(Image.fromarray(np.repeat(ramp, size, axis=0)), (0, size // 4))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size)
    for place, label in zip(np.linspace(0, width, len(labels)), labels, strict=True):
        length = draw.textlength(label, font)
        left = min(max(place - length / 2, 4), width - length - 4)
        draw.text((left, 1.4 * size), label, "black", font)
    return np.array(canvas)


def _save_png16(path: Path, answer: PredictedImage) -> None:
    files.write_depth_png(path, answer.depth, space=answer.space)


def _save_npy(path: Path, answer: PredictedImage) -> None:
    with files.atomic_write(path) as tmp_path:
        np.save(tmp_path, answer.own)


def _save_preview(path: Path, answer: PredictedImage) -> None:
    files.write_rgb(path, preview(answer))


def _save_relief(path: Path, answer: PredictedImage) -> None:
    files.write_rgb(path, relief(answer))


def _save_ply(path: Path, answer: PredictedImage) -> None:
    files.write_ply(path, *_cloud(answer))


def _save_glb(path: Path, answer: PredictedImage) -> None:
    files.write_glb(path, *_cloud(answer))


def _cloud(answer: PredictedImage) -> tuple[Points, Colours | None]:
    assert answer.intrinsics is not None
    return point_cloud(answer.depth, answer.intrinsics, rgb=answer.image)


class Saver(NamedTuple):
    """One kind of output."""

    suffix: str
    write: Callable[[Path, PredictedImage], None]


SAVERS: dict[str, Saver] = {
    "png16": Saver(".depth.png", _save_png16),
    "npy": Saver(".npy", _save_npy),
    "preview": Saver(".preview.png", _save_preview),
    "relief": Saver(".relief.png", _save_relief),
    "ply": Saver(".ply", _save_ply),
    "glb": Saver(".glb", _save_glb),
}
"""What `save` may name."""
