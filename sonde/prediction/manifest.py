"""What a folder of predictions says of itself: `predictions.json`, which every call adds to and `sonde eval` reads.

One document states model, space and unit for all that lies beside it, so what differs in one of them is refused.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sonde import files
from sonde.models import DepthModel, weights_hash
from sonde.types import SPACES
from sonde.units import UNITS

MANIFEST = "predictions.json"
BEGUN = "begun"
"""Its list of files that calls wrote or set out to write and that are no predictions, or no more: to be replaced."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """What FOLDER/predictions.json states; nothing where it is absent.

    Raises:
        ValueError: it is none, or states a space or a unit that there is not.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    with files.reading(path, "expected what `sonde predict` writes; correct it, or predict into another folder"):
        document = json.loads(path.read_text(encoding="utf-8"))
        _check(document)
    return document


def statement(model: DepthModel) -> dict[str, Any]:
    """What a model's predictions are, all that lie beside each other alike."""
    return {
        "model": model.name,
        "weights": weights_hash(model.network),
        "space": model.space,
        "unit": model.spec.unit if model.space == "metric" else "1",
        **({"calibration": model.calibration.record} if model.calibration else {}),
    }


def check_folder(out: Path) -> None:
    """A folder is there, or can be made.

    Raises:
        ValueError: a file is in its place.
    """
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file: expected a folder for the output; give another name.")


def check_addition(out: Path, stated: Mapping[str, Any], targets: Mapping[Path, Sequence[Path]]) -> None:
    """Predictions that `stated` describes may lie beside those that are there.

    Args:
        out: the folder.
        stated: `statement` of the model.
        targets: image -> the files it will give.

    Raises:
        ValueError: those there are of another model, weights, space, unit, calibration or cut, or would be overwritten
            by another image's, or a file that no call wrote would.
    """
    known = _known(out)
    ours = _plain({"calibration": None, "cut": None} | dict(stated))
    theirs = {"calibration": None, "cut": None} | known if "space" in known else {}
    for key, value in ours.items():
        if theirs.get(key, value) != value:
            raise ValueError(
                f"{out} holds predictions of another {key} ({_short(theirs[key])}, not {_short(value)}): give another "
                "folder, or remove it."
            )
    taken = {name: image for image, paths in targets.items() for name in _places(paths, out)}
    for entry in known.get("predictions", []):
        clash = [name for name in entry["outputs"] if str(taken.get(name, entry["source"])) != entry["source"]]
        if clash and Path(entry["source"]).exists():  # else it was moved, and is now predicted again
            raise ValueError(
                f"{out / clash[0]} is the prediction of {entry['source']} and would be overwritten by that of "
                f"{taken[clash[0]]}: give another folder."
            )
    written = _listed(known) | set(known.get(BEGUN, []))
    foreign = next((name for name in taken if name not in written and (out / name).exists()), None)
    if foreign:
        raise ValueError(
            f"{out / foreign} is there already and is no prediction that {MANIFEST} lists: give another folder, for it "
            "would be overwritten."
        )


def begin(out: Path, stated: Mapping[str, Any], targets: Iterable[Path]) -> None:
    """Says in OUT/predictions.json what a call sets out to write: what it leaves when killed may be written anew."""
    known = _known(out)
    begun = {*known.get(BEGUN, []), *_places(targets, out)} - _listed(known)
    _write(out, {**known, **stated, "predictions": known.get("predictions", []), BEGUN: sorted(begun)})


def write_manifest(
    out: Path, stated: Mapping[str, Any], entries: Sequence[dict[str, Any]], failed: Sequence[tuple[Path, str]]
) -> Path:
    """OUT/predictions.json with what was listed there and is not replaced; outputs relative to it.

    All is in the unit it names, but point clouds and PNGs.
    """
    known = _known(out)
    listed = [{**entry, "source": str(entry["source"]), "outputs": _places(entry["outputs"], out)} for entry in entries]
    reasons = {str(path): reason for path, reason in failed}
    done = {entry["source"] for entry in listed}
    missed = {path: reason for path, reason in known.get("failed", {}).items() if path not in done}
    document = {
        **known,
        **stated,
        "predictions": _merged(out, known.get("predictions", []), listed, set(reasons)),
        "failed": missed | reasons,
    }
    gone = _listed(known) - _listed(document)
    document[BEGUN] = sorted(
        name for name in {*known.get(BEGUN, []), *gone} - _listed(document) if (out / name).exists()
    )
    _write(out, document)
    return out / MANIFEST


def _known(out: Path) -> dict[str, Any]:
    """The manifest; where no prediction is left in it, without what it states of them."""
    known = read_manifest(out)
    return known if known.get("predictions", True) else {key: known[key] for key in (BEGUN, "failed") if key in known}


def _listed(document: Mapping[str, Any]) -> set[str]:
    return {name for entry in document.get("predictions", []) for name in entry["outputs"]}


def _write(out: Path, document: dict[str, Any]) -> None:
    if not document[BEGUN]:
        del document[BEGUN]
    with files.atomic_write(out / MANIFEST) as tmp_path:
        tmp_path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _merged(
    out: Path, before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]], failed: set[str]
) -> list[dict[str, Any]]:
    """Entries by image: those of before, without what was written anew or is gone, and those of now."""
    written = {name for entry in now for name in entry["outputs"]}
    merged: dict[str, dict[str, Any]] = {}
    for entry in before:
        left = [name for name in entry["outputs"] if name not in written and (out / name).is_file()]
        if entry["source"] not in failed and (left or not entry["outputs"]):
            merged[entry["source"]] = {**entry, "outputs": left}
    for entry in now:
        earlier = merged.get(entry["source"], {"outputs": []})["outputs"]
        merged[entry["source"]] = {**entry, "outputs": [*entry["outputs"], *earlier]}
    return list(merged.values())


def _check(document: Any) -> None:
    if not isinstance(document, dict):
        raise ValueError(f"it holds a {type(document).__name__} and no object")
    space, unit = document.get("space", "metric"), document.get("unit", "m")
    if space not in SPACES:
        raise ValueError(f"its space is {space!r}, none of {', '.join(SPACES)}")
    if space == "metric" and unit not in UNITS:
        raise ValueError(f"its unit is {unit!r}, none of {', '.join(UNITS)}")
    entries, failed = document.get("predictions", []), document.get("failed", {})
    if not (isinstance(entries, list) and isinstance(failed, dict) and all(map(_is_entry, entries))):
        raise ValueError("its predictions are no list of objects with source and outputs, or its failed no object")
    if not (isinstance(begun := document.get(BEGUN, []), list) and all(isinstance(name, str) for name in begun)):
        raise ValueError(f"its {BEGUN} is no list of names")


def _is_entry(entry: Any) -> bool:
    source, outputs = (entry.get("source"), entry.get("outputs")) if isinstance(entry, dict) else (None, None)
    return isinstance(source, str) and isinstance(outputs, list) and all(isinstance(name, str) for name in outputs)


def _places(paths: Iterable[Path], out: Path) -> list[str]:
    return [path.relative_to(out).as_posix() for path in paths]


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """As it is after it was written and read."""
    return json.loads(json.dumps(document))


def _short(value: Any) -> Any:
    """A calibration by its formula."""
    return value.get("formula", value) if isinstance(value, dict) else value
