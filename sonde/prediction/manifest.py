"""The manifest of a folder of predictions, `predictions.json`: every call adds to it and `sonde eval` reads it.

One document states model, space and unit of all predictions in the folder, so predictions with others are refused.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from sonde import files, models
from sonde.ids import PathBelow
from sonde.renamed import keep_old_names
from sonde.spelling import shorten
from sonde.strict import EXACT
from sonde.types import Space
from sonde.units import UNITS

MANIFEST = "predictions.json"
BEGUN = "begun"
"""Its key for files that may be overwritten: a call began to write them and was stopped, or they were replaced."""


class Statement(TypedDict):
    """What holds for all predictions of a folder."""

    model: str
    weights: str
    """SHA-256 of `models.hash_weights`."""
    space: Space
    unit: str
    """A key of UNITS for metric depth, else `1`."""
    calibration: NotRequired[dict[str, object]]


@with_config(EXACT)
class ManifestEntry(TypedDict):
    """One image in `predictions.json`."""

    source: str
    outputs: list[PathBelow]
    """Paths relative to the manifest."""
    width: NotRequired[int]
    height: NotRequired[int]
    min: NotRequired[int | float]
    """Smallest value of the depth, in the manifest's unit; `median` and `max` likewise."""
    median: NotRequired[int | float]
    max: NotRequired[int | float]


@with_config(EXACT)
class Manifest(TypedDict, total=False):
    """`predictions.json`; a folder that `sonde eval` keeps states `cut` and `settings` instead of predictions."""

    model: str
    weights: str | None
    space: Space
    unit: str
    calibration: object
    cut: str | None
    settings: str | None
    depth_scale: int | float | None
    """Metres per level of predictions that another program wrote and that do not state it."""
    predictions: list[ManifestEntry]
    begun: list[PathBelow]
    """See BEGUN."""
    failed: dict[str, str]
    """Image → reason."""


class WrittenImage(NamedTuple):
    """One image of a call, and what was written for it."""

    source: Path
    outputs: list[Path]
    width: int
    height: int
    min: float
    """Smallest value of the depth, in the manifest's unit."""
    median: float
    max: float


def read_manifest(folder: Path) -> Manifest:
    """Read FOLDER/predictions.json; empty if there is none.

    Raises:
        ValueError: a broken file, or a space or a unit that does not exist.
    """
    path, remedy = folder / MANIFEST, "expected what `sonde predict` writes; correct it, or predict into another folder"
    if not path.is_file():
        return {}
    document: Manifest = files.read_json(path, Manifest, remedy)
    unit = document.get("unit", "m")
    if document.get("space", "metric") == "metric" and unit not in UNITS:
        with files.reading(path, remedy):
            raise ValueError(f"its unit is {shorten(unit, 80)!r}, none of {', '.join(UNITS)}")
    return document


def describe_predictions(model: "models.DepthModel") -> Statement:
    """What holds for all predictions of a model."""
    stated: Statement = {
        "model": model.name,
        "weights": models.hash_weights(model.network),
        "space": model.space,
        "unit": model.spec.unit if model.space == "metric" else "1",
    }
    if model.calibration:
        stated["calibration"] = model.calibration.record
    return stated


def check_addition(out: Path, stated: Statement, targets: Mapping[Path, Sequence[Path]]) -> None:
    """Check that a folder can take the predictions of a model.

    Args:
        out: the folder.
        stated: `describe_predictions` of the model.
        targets: image → the files that will be written for it.

    Raises:
        ValueError: the folder holds predictions of another model, weights, space, unit, calibration or cut; or a
            prediction of another image, or a file that no call wrote, would be overwritten.
    """
    known = _read_known(out)
    # Through JSON and back: tuples in a calibration's record come back from the file as lists.
    ours: dict[str, object] = json.loads(json.dumps({"calibration": None, "cut": None, **stated}))
    theirs: dict[str, object] = {"calibration": None, "cut": None, **known} if "space" in known else {}
    for key, value in ours.items():
        if theirs.get(key, value) != value:
            found, wanted = _shorten(theirs[key]), _shorten(value)
            raise ValueError(
                f"{out} holds predictions of another {key} ({found}, not {wanted}): give another folder, or remove it."
            )
    taken = {name: image for image, paths in targets.items() for name in _make_relative(paths, out)}
    for entry in known.get("predictions", []):
        clash = [name for name in entry["outputs"] if str(taken.get(name, entry["source"])) != entry["source"]]
        # An image that no longer exists was moved, and is predicted again under its new name.
        if clash and Path(entry["source"]).exists():
            raise ValueError(
                f"{out / clash[0]} is the prediction of {entry['source']} and would be overwritten by that of "
                f"{taken[clash[0]]}: give another folder."
            )
    written = _list_outputs(known) | set(known.get(BEGUN, []))
    foreign = next((name for name in taken if name not in written and (out / name).exists()), None)
    if foreign:
        raise ValueError(
            f"{out / foreign} exists and is not a prediction that {MANIFEST} lists: give another folder, so that it is "
            "not overwritten."
        )


def begin(out: Path, stated: Statement, targets: Iterable[Path]) -> None:
    """List in OUT/predictions.json the files that a call will write; if it is killed, the next call replaces them."""
    known = _read_known(out)
    begun = {*known.get(BEGUN, []), *_make_relative(targets, out)} - _list_outputs(known)
    _write(out, {**known, **stated, "predictions": known.get("predictions", []), BEGUN: sorted(begun)})


def write_manifest(
    out: Path, stated: Statement, entries: Sequence[WrittenImage], failed: Sequence[tuple[Path, str]]
) -> Path:
    """Add a call's predictions to OUT/predictions.json and return its path.

    Entries of earlier calls stay, unless they were replaced. Values are in the stated unit; point clouds and PNGs have
    their own.
    """
    known = _read_known(out)
    listed = [_make_entry(entry, out) for entry in entries]
    reasons = {str(path): reason for path, reason in failed}
    done = {entry["source"] for entry in listed}
    missed = {path: reason for path, reason in known.get("failed", {}).items() if path not in done}
    document: Manifest = {
        **known,
        **stated,
        "predictions": _merge_entries(out, known.get("predictions", []), listed, set(reasons)),
        "failed": missed | reasons,
    }
    gone = _list_outputs(known) - _list_outputs(document)
    document[BEGUN] = sorted(
        name for name in {*known.get(BEGUN, []), *gone} - _list_outputs(document) if (out / name).exists()
    )
    _write(out, document)
    return out / MANIFEST


def _make_entry(image: WrittenImage, out: Path) -> ManifestEntry:
    return {
        "source": str(image.source),
        "outputs": _make_relative(image.outputs, out),
        "width": image.width,
        "height": image.height,
        "min": image.min,
        "median": image.median,
        "max": image.max,
    }


def _read_known(out: Path) -> Manifest:
    """The manifest; if no prediction is left in it, without the statement about them."""
    known = read_manifest(out)
    if known.get("predictions", True):
        return known
    kept: Manifest = {}
    if BEGUN in known:
        kept[BEGUN] = known[BEGUN]
    if "failed" in known:
        kept["failed"] = known["failed"]
    return kept


def _list_outputs(document: Manifest) -> set[str]:
    return {name for entry in document.get("predictions", []) for name in entry["outputs"]}


def _write(out: Path, document: Manifest) -> None:
    if not document.get(BEGUN):
        document.pop(BEGUN, None)
    with files.atomic_write(out / MANIFEST) as tmp_path:
        tmp_path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _merge_entries(
    out: Path, before: Sequence[ManifestEntry], now: Sequence[ManifestEntry], failed: set[str]
) -> list[ManifestEntry]:
    """Entries by image: the earlier ones, without files that were replaced or deleted, and the new ones."""
    written = {name for entry in now for name in entry["outputs"]}
    merged: dict[str, ManifestEntry] = {}
    for entry in before:
        left = [name for name in entry["outputs"] if name not in written and (out / name).is_file()]
        if entry["source"] not in failed and (left or not entry["outputs"]):
            merged[entry["source"]] = {**entry, "outputs": left}
    for entry in now:
        earlier = merged[entry["source"]]["outputs"] if entry["source"] in merged else []
        merged[entry["source"]] = {**entry, "outputs": [*entry["outputs"], *earlier]}
    return list(merged.values())


def _make_relative(paths: Iterable[Path], out: Path) -> list[str]:
    return [path.relative_to(out).as_posix() for path in paths]


def _shorten(value: object) -> object:
    """A calibration by its formula."""
    return value.get("formula", value) if isinstance(value, dict) else value


keep_old_names(__name__, {"statement": "describe_predictions", "check_folder": "sonde.files.check_output"})
