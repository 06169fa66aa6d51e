"""Who answers: a model, any function of a capture, or a folder of predictions on disk.

Predictions may be kept as they come, so that they are scored again without the model and a stopped evaluation goes on
where it was: FOLDER/ID.npy, float32 as the model answered (metres, or the relative quantity), which loses nothing, and
`predictions.json`, which says what they are; `images.jsonl` has the hash of each image, and its camera, that was
answered to. What is scored is what was read back.
"""

import hashlib
import json
from collections.abc import Hashable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as PILImage
from pydantic import with_config
from typing_extensions import TypedDict

from sonde import files, models
from sonde.datasets import Capture
from sonde.evaluation.asking import BatchPredictor, Predictor, find_camera, of_network
from sonde.evaluation.levels import find_scale, read_scaled
from sonde.ids import CaptureId, check_id
from sonde.models import DescribedModel
from sonde.options import LOADING, refuse_loading
from sonde.options.evaluate import EvaluateOptions
from sonde.prediction.manifest import MANIFEST, read_manifest
from sonde.spelling import shorten
from sonde.strict import EXACT
from sonde.types import SPACES, Prediction, Space

IMAGES = "images.jsonl"
"""Beside kept answers: a line {"capture": ID, "image": SHA-256 of its pixels and camera} for each."""

ENDINGS = (".npy", ".depth.png", ".png", ".exr", ".pfm")
"""Of the files in a folder of predictions, the first found for a capture's id is taken."""


@with_config(EXACT)
class KeptLine(TypedDict):
    """A line of `images.jsonl`."""

    capture: CaptureId
    image: str


class Subject(NamedTuple):
    """What is scored, and where it came from; for a model that is loaded once and scored on several sets."""

    answers: DescribedModel | Predictor | str | Path
    """Who answers; a name or a folder that is loaded when it is needed."""
    source: str | Path | None = None
    """What the user named: a run folder tells its test captures and those that trained it."""
    name: str | None = None
    """What results call it; by default the model's own name."""


def as_subject(model: DescribedModel | Predictor | Subject | str | Path) -> Subject:
    """A Subject as it is; a name or a folder is its own source."""
    if isinstance(model, Subject):
        return model
    return Subject(model, model if isinstance(model, str | Path) else None)


def make_predictor(subject: Subject, options: EvaluateOptions, cut: str | None = None) -> tuple[Predictor, str]:
    """Who answers for each capture, and its name.

    Args:
        subject: a model, a function, or a folder of predictions, as `as_asked` gives it.
        options: `keep` is a folder for its answers, see `cache_answers`.
        cut: the part of a frame that the protocol shows the model.

    Raises:
        ValueError: a folder of predictions that depend on something else, or a scale for what is no such folder.
    """
    model, keep = subject.answers, options.keep
    if isinstance(model, str | Path):
        check_cut(Path(model), cut)
        if keep is not None:
            raise ValueError(f"{model} is a folder of predictions: there is nothing to keep, leave --keep out.")
        return read_predictions(Path(model), options.depth_scale), subject.name or str(model)
    if options.depth_scale is not None:
        what = "What is scored" if subject.source is None else subject.source
        raise ValueError(f"{what} is no folder of predictions: depth_scale is for one, leave --depth-scale out.")
    if isinstance(model, DescribedModel):
        predictor, name = of_network(model, options.batch_size), model.name
    else:
        predictor, name = model, getattr(model, "__name__", type(model).__name__)
    name = subject.name or name
    return predictor if keep is None else cache_answers(predictor, answers_of(model, name, cut), keep), name


def as_asked(subject: Subject, options: EvaluateOptions) -> Subject:
    """The subject with its model loaded, as the options ask for it; a folder of predictions stays as it is.

    Raises:
        ValueError: options of a model for what is none, or is loaded already; or the model contradicts them.
    """
    model = subject.answers
    if isinstance(model, str | Path):
        if answers_folder(subject) is not None:
            _refuse_model_options(options, f"{model} holds answers")
            return subject
        model = models.load(
            model,
            max_depth=options.max_depth,
            device=options.device,
            precision=options.precision,
            runtime=options.runtime,
        )
    elif isinstance(model, DescribedModel):
        refuse_loading(options, model.name)
    else:
        _refuse_model_options(options, f"{subject.name or 'what is scored'} is no model")
    if options.encoding is not None and isinstance(model, DescribedModel):
        model = models.decode_as(model, options.encoding)
    return subject._replace(answers=model)


def _refuse_model_options(options: EvaluateOptions, what: str) -> None:
    """Refuse options that are of a model, where `what` says that none is asked."""
    usual = EvaluateOptions()
    for name in (*LOADING, "encoding"):
        if getattr(options, name) != getattr(usual, name):
            raise ValueError(f"{name}={getattr(options, name)}: {what}, and this option is of a model: leave it out.")


def answers_folder(subject: Subject, keep: Path | None = None) -> Path | None:
    """Where a subject's answers lie: itself where it is a folder of predictions, else where they are kept."""
    model = subject.answers
    folder = Path(model) if isinstance(model, str | Path) else None
    known = ("config.json", "adapter_config.json", models.CALIBRATION, "best", "recipe.yaml")
    if folder is not None and folder.is_dir() and not any((folder / name).exists() for name in known):
        return folder
    return keep


class KeptAnswers(BatchPredictor):
    """A predictor's answers, by way of a folder: what is there is read, all else is asked for and written.

    Args:
        predictor: who answers what is not there yet.
        about: what the answers depend on, as `answers_of` gives it.
        folder: where they are kept.

    Raises:
        ValueError: the folder holds predictions that depend on something else, or what `sonde predict` wrote.
    """

    def __init__(self, predictor: Predictor, about: dict[str, object], folder: Path):
        self.predictor, self.about, self.folder = predictor, about, folder
        self.manifest = read_manifest(folder)
        other = [key for key in about if self.manifest and self.manifest.get(key) != about[key]]
        if other:
            raise ValueError(
                f"{folder} holds predictions of another {other[0]} ({self.manifest.get(other[0])}, not "
                f"{about[other[0]]}): give another folder, or remove it."
            )
        if "predictions" in self.manifest:
            raise ValueError(f"{folder} holds what `sonde predict` wrote: keep answers in another folder.")
        self.seen, self.place = _hashes(folder), files.OutputFolder(folder)

    def __call__(self, capture: Capture) -> Prediction:
        """The answer to one capture; see `BatchPredictor`."""
        return self.predict_batch([capture])[0]

    def find_kind(self, capture: Capture) -> Hashable:
        """What the captures of one batch share."""
        return self.predictor.find_kind(capture) if isinstance(self.predictor, BatchPredictor) else None

    def find_size(self, capture: Capture) -> int:
        """How many captures of this one's kind to give at once."""
        return self.predictor.find_size(capture) if isinstance(self.predictor, BatchPredictor) else 1

    def predict_batch(self, captures: Sequence[Capture]) -> list[Prediction]:
        """The answers to captures of one kind; see `BatchPredictor`."""
        wanted = {capture.id: asked for capture in captures if (asked := self._find_wanted(capture))}
        asked = [capture for capture in captures if capture.id in wanted]
        if asked and isinstance(self.predictor, BatchPredictor):
            answers = self.predictor.predict_batch(asked)
        else:
            answers = [self.predictor(capture) for capture in asked]
        for capture, answer in zip(asked, answers, strict=True):
            self._keep(capture.id, answer, wanted[capture.id])
        return [read_predictions(self.folder)(capture) for capture in captures]

    def _find_wanted(self, capture: Capture) -> str:
        """The hash of what is shown, if the answer to it is not there yet; else empty."""
        folder, path, asked = self.folder, self._place(capture.id), _hash(capture)
        if self.seen.get(capture.id, asked) != asked:
            raise ValueError(
                f"{folder} holds the answer to another image, or for another camera, called {capture.id}: give another "
                "folder, or remove it."
            )
        if path.is_file() and capture.id not in self.seen and not self.manifest:
            raise ValueError(f"{path} is there already and no evaluation kept it: give another folder.")
        return "" if capture.id in self.seen and path.is_file() else asked

    def _keep(self, id_: str, prediction: Prediction, asked: str) -> None:
        self.place.check()
        _describe(self.folder, {"space": prediction.space, "unit": "m", **self.about})
        with files.atomic_write(self._place(id_)) as tmp_path:
            np.save(tmp_path, np.asarray(prediction.depth, np.float32))
        with (self.folder / IMAGES).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"capture": id_, "image": asked}) + "\n")
        self.seen[id_] = asked

    def _place(self, id_: str) -> Path:
        return self.folder / f"{check_id(id_)}.npy"


def cache_answers(predictor: Predictor, about: dict[str, object], folder: Path) -> Predictor:
    """`KeptAnswers` as a function."""
    return KeptAnswers(predictor, about, folder)


def _hash(capture: Capture) -> str:
    """SHA-256 of what a model is shown: the pixels, and the camera where it is known."""
    camera = find_camera(capture)
    pixels = hashlib.sha256(capture.image.tobytes())
    pixels.update(b"" if camera is None else np.asarray(camera, "<f8").tobytes())
    return pixels.hexdigest()


def _hashes(folder: Path) -> dict[str, str]:
    """Capture id -> the hash that its kept answer is for; a line that a kill cut short is none."""
    path = folder / IMAGES
    found: dict[str, str] = {}
    if not path.is_file():
        return found
    with files.reading(path, "remove it and the answers beside it, and they are asked for again"):
        for number, line in enumerate(files.read_text(path).split("\n"), 1):
            try:
                document = json.loads(line)
            except ValueError:
                continue
            try:
                entry: KeptLine = files.check_type(document, KeptLine)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            found[entry["capture"]] = entry["image"]
    return found


def answers_of(model: object, name: str, cut: str | None) -> dict[str, object]:
    """What a model's answers depend on: its name, weights, settings and calibration, and what of a frame it sees."""
    known = model if isinstance(model, DescribedModel) else None
    return {
        "settings": known and _settings(known),
        "model": name,
        "weights": known and known.hash(),
        "calibration": known and known.calibration and known.calibration.formula(),
        "cut": cut,
    }


def _settings(model: DescribedModel) -> str:
    """A hash of the settings of a model besides its weights: input size, encoding, end of its range, precision."""
    told: dict[str, object] = {**asdict(model.spec), "max_depth": model.config_end}
    if model.placement.precision != "fp32":
        told["precision"] = model.placement.precision
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def check_cut(folder: Path, cut: str | None) -> None:
    """Predictions in a folder are of what a protocol shows the model, as far as the folder says.

    Raises:
        ValueError: they are of another cut of the frame.
    """
    manifest = read_manifest(folder)
    if "cut" in manifest and manifest["cut"] != cut:
        raise ValueError(
            f"{folder} holds predictions of {manifest['cut'] or 'whole frames'}, and the protocol shows a model "
            f"{cut or 'whole frames'}: predict again under this protocol."
        )


def read_predictions(folder: Path, depth_scale: int | float | None = None) -> Predictor:
    """Predictions read from a folder: FOLDER/ID.npy, .depth.png, .png, .exr or .pfm.

    Space and unit are those of the folder's `predictions.json`, as `sonde predict` writes it; without one,
    those that a PNG's metadata or the JSON beside a .npy state, and metric depth in metres for the rest.

    Args:
        folder: of the predictions.
        depth_scale: metres per level, or per unit of float maps, where the predictions do not state it; the key
            `depth_scale` of `predictions.json`, or of a `dataset.json` beside it, states the same.

    Raises:
        ValueError: a `predictions.json` that is none, or scales that differ; and, of a capture, no prediction for it.
    """
    manifest = read_manifest(folder)
    scale = find_scale(folder, manifest, depth_scale)

    def read(capture: Capture) -> Prediction:
        id_ = check_id(capture.id)
        found = next((file for ending in ENDINGS if (file := folder / f"{id_}{ending}").is_file()), None)
        if found is None:
            raise ValueError(f"{folder} has no prediction for {id_}: expected {id_}{'|'.join(ENDINGS)}.")
        if found.suffix == ".png":
            return Prediction(read_scaled(found, scale, None), manifest.get("space") or _read_space(found))
        space = manifest.get("space") or _read_noted_space(found)
        return Prediction(read_scaled(found, scale, manifest.get("unit") if space == "metric" else None), space)

    return read


def _read_noted_space(path: Path) -> Space:
    """The space that the JSON beside a .npy states; metric where there is none."""
    note = files.read_array_note(path) if path.suffix == ".npy" else None
    return "metric" if note is None else note["space"]


def _read_space(path: Path) -> Space:
    """The space that a PNG states; metric where it states none."""
    with files.reading(path, "predict it again"), PILImage.open(path) as image:
        stated = image.info.get("Space", "metric")
        if stated not in SPACES:
            raise ValueError(f"its space is {shorten(stated, 80)!r}, none of {', '.join(SPACES)}")
    return stated


def _describe(folder: Path, document: dict[str, object]) -> None:
    """Write what the predictions are, or find that they are so."""
    known = read_manifest(folder)
    if not known:
        with files.atomic_write(folder / MANIFEST) as tmp_path:
            tmp_path.write_text(json.dumps(document, indent=1) + "\n")
    elif known.get("space", "metric") != document["space"]:
        raise ValueError(
            f"{folder} holds predictions in space {known.get('space', 'metric')!r}, not {document['space']!r}."
        )
