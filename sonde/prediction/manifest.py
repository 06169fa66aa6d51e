"""The manifest of a folder of predictions, `predictions.json`: every call adds to it and `sonde eval` reads it.

One document states model, space and unit of all predictions in the folder, so predictions with others are refused. It
also states what each kind of file holds and in which unit, as some formats have one of their own.
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
"""Its key for files that a call will write, until it ends; what it leaves here was written by a call that was stopped.
The next call may overwrite them."""
OUTDATED = "outdated"
"""Its key for files of earlier calls that are no prediction any more, such as those of an image that is now damaged."""
UNSTATED = {"precision": "fp32", "calibration": None, "cut": None}
"""What a folder's statement means where it leaves these out."""


class FileKind(TypedDict):
    """What the files of one kind hold."""

    suffix: str
    unit: str
    """A key of UNITS for metric depth, else `1`."""
    holds: str
    """In words."""


class Statement(TypedDict):
    """What holds for all predictions of a folder."""

    model: str
    weights: str
    """SHA-256, `DescribedModel.hash`."""
    space: Space
    unit: str
    """A key of UNITS for metric depth, else `1`."""
    precision: NotRequired[str]
    """`Placement.precision`; earlier folders do not state it, and are of fp32."""
    calibration: NotRequired[dict[str, object]]
    files: NotRequired[dict[str, FileKind]]
    """Name in SAVERS → what its files hold."""


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
    precision: str
    calibration: object
    cut: str | None
    settings: str | None
    depth_scale: int | float | None
    """Metres per level of predictions that another program wrote and that do not state it."""
    files: dict[str, FileKind]
    """Name in SAVERS → what its files hold; earlier folders lack it, and their point clouds are in metres."""
    predictions: list[ManifestEntry]
    sheets: list[PathBelow]
    """Sheets of the last call that wrote any."""
    begun: list[PathBelow]
    """See BEGUN."""
    outdated: list[PathBelow]
    """See OUTDATED."""
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


def choose_unit(model: "models.DescribedModel", unit: str | None = None) -> str:
    """The unit of a model's predictions: the given one, or the model's own; `1` for relative depth.

    Raises:
        ValueError: a unit for relative depth.
    """
    if model.space == "metric":
        return unit or model.spec.unit
    if unit is not None:
        raise ValueError(
            f"{model.name} answers relative depth ({model.space}), which has no unit: leave --unit {unit} out, or give "
            "the model metres first (sonde calibrate)."
        )
    return "1"


def describe_predictions(
    model: "models.DescribedModel", unit: str | None = None, kinds: Mapping[str, FileKind] | None = None
) -> Statement:
    """What holds for all predictions of a model.

    Args:
        model: who predicts.
        unit: as `choose_unit` gives it; by default for no given unit.
        kinds: name in SAVERS → what its files hold.
    """
    stated: Statement = {
        "model": model.name,
        "weights": model.hash(),
        "space": model.space,
        "unit": unit or choose_unit(model),
        "precision": model.placement.precision,
    }
    if kinds is not None:
        stated["files"] = dict(kinds)
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
        ValueError: the folder holds predictions of another model, weights, space, unit, precision, calibration or
            cut; or a prediction of another image, or a file that no call wrote, would be overwritten.
    """
    known = _read_known(out)
    # Through JSON and back: tuples in a calibration's record come back from the file as lists.
    ours: dict[str, object] = json.loads(json.dumps({**UNSTATED, **stated, "files": None}))
    del ours["files"]
    theirs: dict[str, object] = {**UNSTATED, **known} if "space" in known else {}
    for key, value in ours.items():
        if theirs.get(key, value) != value:
            found, wanted = _shorten(theirs[key]), _shorten(value)
            remedy = f"--unit {found} or another" if key == "unit" and "1" not in (found, wanted) else "another"
            raise ValueError(
                f"{out} holds predictions of another {key} ({found}, not {wanted}): give {remedy} folder, or remove it."
            )
    _check_units(out, known, stated)
    taken = {name: image for image, paths in targets.items() for name in _make_relative(paths, out)}
    for entry in known.get("predictions", []):
        clash = [name for name in entry["outputs"] if str(taken.get(name, entry["source"])) != entry["source"]]
        # An image that no longer exists was moved, and is predicted again under its new name.
        if clash and Path(entry["source"]).exists():
            raise ValueError(
                f"{out / clash[0]} is the prediction of {entry['source']} and would be overwritten by that of "
                f"{taken[clash[0]]}: give another folder."
            )
    written = _list_outputs(known) | _list_loose(known)
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
    document: Manifest = {**known, **stated, "predictions": known.get("predictions", []), BEGUN: sorted(begun)}
    _write(out, {**document, "files": _merge_kinds(known, stated)})


def write_manifest(
    out: Path,
    stated: Statement,
    entries: Sequence[WrittenImage],
    failed: Sequence[tuple[Path, str]],
    *,
    sheets: Sequence[Path] = (),
    ended: bool = True,
) -> Path:
    """Add a call's predictions to OUT/predictions.json and return its path.

    Entries of earlier calls stay, unless they were replaced. Values are in the stated unit.

    Args:
        out: the folder.
        stated: `describe_predictions` of the model.
        entries: the images of the call.
        failed: images without a prediction, each with its reason.
        sheets: of the call; those of an earlier call are removed.
        ended: whether the call came to its end; otherwise what it began stays noted.
    """
    known = _read_known(out)
    listed = [_make_entry(entry, out) for entry in entries]
    reasons = {str(path): reason for path, reason in failed}
    done = {entry["source"] for entry in listed}
    missed = {path: reason for path, reason in known.get("failed", {}).items() if path not in done}
    document: Manifest = {
        **known,
        **stated,
        "files": _merge_kinds(known, stated),
        "predictions": _merge_entries(out, known.get("predictions", []), listed, set(reasons)),
        "failed": missed | reasons,
    }
    if sheets:
        document["sheets"] = _make_relative(sheets, out)
        for name in set(known.get("sheets", [])) - set(document["sheets"]):
            (out / name).unlink(missing_ok=True)
    loose = (_list_loose(known) | _list_outputs(known)) - _list_outputs(document)
    begun = set() if ended else loose & set(known.get(BEGUN, []))
    for key, names in ((BEGUN, begun), (OUTDATED, loose - begun)):
        document[key] = sorted(name for name in names if (out / name).exists())
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
    return {
        "begun": known.get("begun", []),
        "outdated": known.get("outdated", []),
        "sheets": known.get("sheets", []),
        "failed": known.get("failed", {}),
    }


def _list_outputs(document: Manifest) -> set[str]:
    """The files that it lists: predictions and sheets."""
    return {name for entry in document.get("predictions", []) for name in entry["outputs"]} | {
        *document.get("sheets", [])
    }


def _list_loose(document: Manifest) -> set[str]:
    """Files that sonde wrote, and that are no prediction, or perhaps none."""
    return {*document.get(BEGUN, []), *document.get(OUTDATED, [])}


def _check_units(out: Path, known: Manifest, stated: Statement) -> None:
    """Refuse a kind of file that the folder already holds in another unit."""
    theirs = _list_kinds(known)
    for kind, ours in stated.get("files", {}).items():
        if theirs.get(kind, ours)["unit"] != ours["unit"]:
            raise ValueError(
                f"{out} holds {theirs[kind]['suffix']} files in {theirs[kind]['unit']}, not in {ours['unit']}: give "
                "another folder, or remove it."
            )


def _list_kinds(known: Manifest) -> dict[str, FileKind]:
    """What the folder's kinds of files hold; earlier versions, which do not state it, wrote point clouds in metres."""
    if "files" in known or not any(name.endswith(".ply") for name in _list_outputs(known)):
        return known.get("files", {})
    return {"ply": {"suffix": ".ply", "unit": "m", "holds": "points: x right, y down, z forward"}}


def _merge_kinds(known: Manifest, stated: Statement) -> dict[str, FileKind]:
    return {**_list_kinds(known), **stated.get("files", {})}


def _write(out: Path, document: Manifest) -> None:
    for key in (BEGUN, OUTDATED, "sheets"):
        if not document.get(key):
            document.pop(key, None)
    order = {key: place for place, key in enumerate(Manifest.__annotations__)}
    ordered = dict(sorted(document.items(), key=lambda item: order.get(item[0], len(order))))
    with files.atomic_write(out / MANIFEST) as tmp_path:
        tmp_path.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


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
