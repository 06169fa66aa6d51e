"""Score a model, or a folder of predictions, under a protocol: one row per image, and their mean.

What a prediction claims (its space) decides what may be scored: a relative map under a metric protocol is an
error, and an alignment that the protocol does not prescribe must be asked for by name and renames the result,
`zivid-mm+disparity`. Captures are read one at a time.
"""

import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PILImage
from torch import Tensor

from sonde import Verb, baselines, files, metrics, models, protocols, recipes
from sonde.align import ALIGN
from sonde.datasets import Capture, DepthSet, Joined, confident, only, open_set, without
from sonde.datasets.contract import UNITS
from sonde.losses import resized
from sonde.models import DepthModel
from sonde.predict import MANIFEST
from sonde.protocols import Protocol
from sonde.recipes import Part, Recipe, nearest
from sonde.types import Depth, DepthArray, Mask, Prediction, Space

Predictor = Callable[[Capture], Prediction]
"""What is scored: a capture's image in; depth out, (h, w) of any size. It must not look at the answer."""
Watcher = Callable[[Capture, DepthArray, dict[str, Any]], None]
"""Told of every scored capture: under the protocol's mask, the prediction as scored (metres), and its row."""

LENGTHS = ("mae", "rmse", "sq_rel")
"""Metrics in metres, reported in the protocol's unit and named by it: mae_mm."""

ALIGNABLE: dict[Space, tuple[str, ...]] = {
    "metric": tuple(ALIGN),
    "scale": tuple(name for name in ALIGN if name != "none"),
    "affine": ("affine",),
    "disparity": ("disparity",),
}
"""The alignments that what a prediction claims allows."""

ENDINGS = (".npy", ".depth.png", ".png", ".exr", ".pfm")
"""Of the files in a folder of predictions, the first found for a capture's id is taken."""

MEAN_MAP = "mean depth map of the training set"
MEAN_MAP_OF_JUDGES = "mean depth map of the validation set"
UNADAPTED = "unadapted model, aligned per image"
ADAPTED = "adapted model"
TRAINED = "trained model"
"""What the last row is called where the weights were drawn at random."""


class Measure(NamedTuple):
    """One error among the metrics."""

    metric: str
    words: str
    unit: str


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model on one set of captures."""

    protocol: str
    """Its name; with `+ALIGNMENT` where one was asked for."""
    metrics: dict[str, float]
    """Mean over images; lengths are named by their unit: mae_mm, rmse_mm."""
    rows: list[dict[str, Any]]
    """One per image: id, pixels scored, and every metric."""
    skipped: dict[str, str]
    """Capture id -> why it could not be scored."""
    settings: dict[str, Any]
    """All it takes to do it again."""

    def summary(self) -> dict[str, Any]:
        """Protocol, means, and how many images they are of, ready for JSON."""
        about = {key: self.settings[key] for key in ("model", "data", "captures")}
        summary = {"protocol": self.protocol, "metrics": self.metrics, "images": len(self.rows), **about}
        return summary | ({"skipped": self.skipped} if self.skipped else {})

    @property
    def relative(self) -> bool:
        """Whether what was scored claims no metres: lengths then say more of the sky than of the model."""
        return self.settings["protocol"]["space"] != "metric"

    @property
    def main(self) -> Measure:
        """The one error to name first."""
        if self.relative:
            return Measure("abs_rel", "AbsRel after alignment", "")
        return Measure(f"mae_{self.unit}", "mean absolute error", self.unit)

    @property
    def unit(self) -> str:
        """Of its lengths: m, cm or mm."""
        return next(name for name in self.metrics if name.startswith("mae_")).removeprefix("mae_")

    def write(self, folder: Path, board: Mapping[str, "Evaluation"] | None = None) -> None:
        """`metrics.json`, with the settings and the table of a board where there is one; and `per_image.csv`."""
        document = self.summary() | ({"table": table(board)} if board else {}) | {"settings": self.settings}
        with files.atomic_write(folder / "metrics.json") as sibling:
            sibling.write_text(json.dumps(document, indent=1) + "\n")
        with files.atomic_write(folder / "per_image.csv") as sibling, sibling.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)


class Run(NamedTuple):
    """What a run folder says of itself."""

    folder: Path
    recipe: Recipe
    parts: dict[str, list[str]]
    """Capture ids for train, validation and test."""


def evaluate(
    model: DepthModel | Predictor | str | Path,
    protocol: str = "zivid-mm",
    data: DepthSet | str | Path | None = None,
    *,
    format: str | None = None,
    ids: Sequence[str] | None = None,
    align: str | None = None,
    out: Path | None = None,
    watch: Watcher | None = None,
) -> Evaluation:
    """Scores of a model under a protocol.

    Args:
        model: a DepthModel, a Predictor, a name `sonde.load` takes, or a folder of predictions named by id.
        protocol: a packaged name, see `protocols.names`.
        data: the captures; by default those of the model's own run.
        format: the layout of `data`, a name in DATASETS; by default the run's, else zivid.
        ids: the captures to score; by default a run's own test captures, or all where `data` is another set.
        align: a name in ALIGN, in place of the protocol's; the result is then named PROTOCOL+ALIGN.
        out: a folder for `metrics.json` and `per_image.csv`.
        watch: told of every scored capture.

    Raises:
        ValueError: an unknown name, data that is missing, or predictions that the protocol cannot score.
    """
    rules = protocols.load(protocol, align)
    run = read_run(model) if isinstance(model, str | Path) else None
    captures = _captures(data, format, run)
    chosen, description = _chosen(captures, run, ids)
    predictor, name = _predictor(model)
    rows, skipped = _score_all(predictor, captures, chosen, rules, watch)
    settings = {
        "protocol": rules.model_dump(),
        "model": name,
        "data": ", ".join(map(str, captures.roots(chosen) if isinstance(captures, Joined) else [captures.root])),
        "limits": list(captures.limits),
        "unit": captures.unit,
        "captures": description,
        "ids": [row["id"] for row in rows],
        "versions": {package: version(package) for package in ("sonde", "torch", "transformers", "numpy")},
    }
    means = {key: float(np.mean([row[key] for row in rows])) for key in list(rows[0])[2:]}
    evaluation = Evaluation(rules.name, means, rows, skipped, settings)
    if out is not None:
        evaluation.write(Path(out))
    return evaluation


def score(
    prediction: Prediction, capture: Capture, rules: Protocol, unit_m: float = 1.0
) -> tuple[dict[str, float], DepthArray]:
    """Each metric of one prediction, lengths in units of `unit_m` metres; and the depth as scored, metres.

    Raises:
        ValueError: the prediction's space is not the protocol's, or it has holes where depth is trusted.
    """
    _check_space(prediction.space, rules)
    target, mask = torch.from_numpy(capture.depth)[None].double(), torch.from_numpy(capture.mask)[None]
    values = torch.from_numpy(np.asarray(prediction.depth))[None].double()
    values = _at(values, capture.depth.shape, keep_range=prediction.space == "disparity")
    holes = int((mask & ~values.isfinite()).sum())
    if holes:
        raise ValueError(
            f"The prediction for {capture.id} has no value at {holes} of {int(mask.sum())} trusted pixels: "
            "expected a dense map, since leaving pixels out would flatter its score."
        )
    if rules.align == "disparity" and prediction.space != "disparity":
        values = _disparity(values, mask, capture.id)
    depth = ALIGN[rules.align](values, target, mask)
    scores = {name: value.item() for name, value in metrics.score(depth, target, mask, rules.metrics).items()}
    return {name: value / unit_m if name in LENGTHS else value for name, value in scores.items()}, (
        depth[0].float().numpy()
    )


def scoreboard(folder: Path, *, part: str = "test", watch: Watcher | None = None) -> dict[str, Evaluation]:
    """What a run has gained, on its own test captures: two baselines and, last, its model, by what they are called.

    The baselines are the mean depth map of the training captures (of those that chose the checkpoint, where the
    training depth is not in metres), and the model before training (where it was not drawn at random) after a
    per-image alignment, which sees the answer.

    Args:
        folder: the run folder.
        part: of the run's split: `test`, or `validation` where nothing was kept for the test.
        watch: told of every capture scored with the run's model.

    Raises:
        ValueError: no run folder, or one that kept no captures for the test.
    """
    run = read_run(folder)
    if run is None:
        raise ValueError(f"{folder} is no run folder: expected recipe.yaml and split.json, as `sonde train` writes.")
    captures, model = open_captures(run.recipe), models.load(folder)
    protocol = own_protocol(run.recipe, model.space)
    ids = run.parts[part]
    row, source = (MEAN_MAP, "train") if captures.space == "metric" else (MEAN_MAP_OF_JUDGES, "validation")
    position = {name: index for index, name in enumerate(captures.ids)}
    mean = baselines.mean_map(captures, [position[id_] for id_ in run.parts[source]])
    board = {row: evaluate(mean, protocol, captures, ids=ids)}
    if run.recipe.model.init == "pretrained":
        base = _before(run.recipe)
        align = "disparity" if base.space == "disparity" else "affine"
        board[UNADAPTED] = evaluate(base, protocol, captures, ids=ids, align=align)
    own = ADAPTED if run.recipe.model.init == "pretrained" else TRAINED
    board[own] = evaluate(model, protocol, captures, ids=ids, watch=watch)
    return board


def _before(recipe: Recipe) -> DepthModel:
    size = recipe.model.size
    return models.build(size, init="pretrained") if size else models.load(recipe.model.name)


def columns(unit: str, relative: bool = False) -> dict[str, str]:
    """Heading -> metric of the table of scores; of a relative model, without its lengths."""
    every = {
        f"MAE ({unit})": f"mae_{unit}",
        "AbsRel": "abs_rel",
        f"RMSE ({unit})": f"rmse_{unit}",
        "δ1": "delta1",
        "δ<1.05": "delta105",
    }
    return {heading: metric for heading, metric in every.items() if not (relative and metric.endswith(f"_{unit}"))}


def table(board: Mapping[str, Evaluation]) -> dict[str, dict[str, float]]:
    """Row -> heading -> score, the errors' mean over images; rows and headings in reading order."""
    return {
        row: {heading: scored.metrics[name] for heading, name in columns(scored.unit, scored.relative).items()}
        for row, scored in board.items()
    }


def own_protocol(recipe: Recipe, space: Space = "metric") -> str:
    """The protocol that a run's own test is scored under, by what its model answers."""
    if space == "disparity":
        return "affine-disparity"
    return "zivid-mm" if recipe.data.format == "zivid" else "metric"


def read_run(folder: str | Path) -> Run | None:
    """The recipe and the split of a run folder; None where the folder is none."""
    path = Path(folder)
    if not (path / "recipe.yaml").is_file() or not (path / "split.json").is_file():
        return None
    return Run(path, recipes.load(path), json.loads((path / "split.json").read_text()))


def open_captures(recipe: Recipe) -> DepthSet:
    """The captures a recipe names, under the ids its split lists; those that judge it come last."""
    data = recipe.data
    first = _opened(data, data.min_depth, data.max_depth)
    if data.min_confidence is not None:
        first = confident(first, data.min_confidence)
    parts = [first, *map(_opened, data.also)]
    if data.measured is not None:
        parts.append(_opened(data.measured))
        if parts[-1].space != "metric":
            raise ValueError(
                f"data.measured.root={data.measured.root} holds labels of a model: expected measured depth."
            )
    return Joined(parts) if len(parts) > 1 else parts[0]


def measured_ids(recipe: Recipe, captures: DepthSet) -> list[str]:
    """The ids of `data.measured` among those of `open_captures`."""
    return [id_ for id_ in captures.ids if id_.startswith(f"{len(recipe.data.also) + 1}-")]


def _opened(part: Part, min_depth: float | None = None, max_depth: float | None = None) -> DepthSet:
    found = open_set(part.format, part.root, min_depth=min_depth, max_depth=max_depth)
    found = only(found, Path(part.only)) if part.only else found
    return without(found, Path(part.reject)) if part.reject else found


def read_predictions(folder: Path) -> Predictor:
    """Predictions read from a folder: FOLDER/ID.npy, .depth.png, .png, .exr or .pfm.

    Space and unit are those of the folder's `predictions.json`, as `sonde predict` writes it; without one,
    those that a PNG's metadata state, and metric depth in metres for the rest.
    """
    path = folder / MANIFEST
    manifest = json.loads(path.read_text()) if path.is_file() else {}

    def read(capture: Capture) -> Prediction:
        found = next((file for ending in ENDINGS if (file := folder / f"{capture.id}{ending}").is_file()), None)
        if found is None:
            raise ValueError(f"{folder} has no prediction for {capture.id}: expected {capture.id}{'|'.join(ENDINGS)}.")
        if found.suffix == ".png":
            with PILImage.open(found) as image:
                space = image.info.get("Space", "metric")
            return Prediction(files.read_depth(found), manifest.get("space", space))
        space = manifest.get("space", "metric")
        scale = UNITS[manifest["unit"]] if space == "metric" and "unit" in manifest else None
        return Prediction(files.read_depth(found, scale), space)

    return read


def _score_all(
    predictor: Predictor, captures: DepthSet, ids: Sequence[str], rules: Protocol, watch: Watcher | None
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A row for each capture, and why the others have none."""
    position = {name: index for index, name in enumerate(captures.ids)}
    unit = rules.unit or captures.unit
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for id_ in ids:
        try:
            capture = _restricted(captures.read(position[id_]), rules)
        except ValueError as error:
            skipped[id_] = str(error)
            continue
        scores, depth = score(predictor(capture), capture, rules, UNITS[unit])
        rows.append({"id": id_, "pixels": int(capture.mask.sum()), **_named(scores, unit)})
        if watch is not None:
            watch(capture, depth, rows[-1])
    if not rows:
        raise ValueError(f"None of {len(ids)} captures could be scored: {next(iter(skipped.values()))}")
    return rows, skipped


def _captures(data: DepthSet | str | Path | None, format: str | None, run: Run | None) -> DepthSet:
    if data is not None and not isinstance(data, str | Path):
        return data
    if run is not None and (data is None or _same(data, run.recipe.data.root)):
        return open_captures(run.recipe)
    if data is None:
        raise ValueError("No captures to score on: give data=ROOT, the folder of the set (--data on the command line).")
    return open_set(format or (run.recipe.data.format if run else "zivid"), data)


def _same(one: str | Path, other: str | Path) -> bool:
    return Path(one).resolve() == Path(other).resolve()


def _chosen(captures: DepthSet, run: Run | None, ids: Sequence[str] | None) -> tuple[list[str], str]:
    """The captures to score, and in words which they are."""
    if ids is not None:
        chosen, description = list(ids), "given by id"
    elif run is not None and _same(captures.root, run.recipe.data.root):
        chosen, description = run.parts["test"], f"test captures of {run.folder}"
    else:
        chosen, description = list(captures.ids), "all captures"
    absent = [id_ for id_ in chosen if id_ not in set(captures.ids)]
    if absent:
        raise ValueError(f"{captures.root} has no capture {absent[0]!r}: {nearest(absent[0], list(captures.ids))}")
    if not chosen:
        raise ValueError(f"No captures to score: the {description} are none; give ids, or the data of another folder.")
    return chosen, description


def _predictor(model: DepthModel | Predictor | str | Path) -> tuple[Predictor, str]:
    """What answers for each capture, and its name."""
    if isinstance(model, str | Path):
        folder = Path(model)
        known = ("config.json", "adapter_config.json", models.CALIBRATION, "best", "recipe.yaml")
        if folder.is_dir() and not any((folder / name).exists() for name in known):
            return read_predictions(folder), str(model)
        model = models.load(model)
    if isinstance(model, DepthModel):
        network = model
        return lambda capture: network.predict(capture.image), network.name
    return model, getattr(model, "__name__", type(model).__name__)


def _restricted(capture: Capture, rules: Protocol) -> Capture:
    """The capture under the protocol's own range too."""
    high = np.inf if rules.max_depth is None else rules.max_depth
    mask = capture.mask & (capture.depth > rules.min_depth) & (capture.depth < high)
    if not mask.any():
        raise ValueError(f"{capture.id} has no trusted depth between {rules.min_depth:g} and {high:g} m.")
    return capture._replace(mask=mask)


def _check_space(space: Space, rules: Protocol) -> None:
    if rules.align in ALIGNABLE[space]:
        return
    base, fits = rules.name.partition("+")[0], ALIGNABLE[space]
    raise ValueError(
        f"Predictions in space {space!r} cannot be scored under {rules.name} with alignment {rules.align!r}: "
        "adapt the model to metric captures first (sonde train lora-few, or sonde calibrate with a few points), or ask "
        f"for a per-image fit with align={fits[0]!r}, reported as {base}+{fits[0]}."
    )


def _at(values: Depth, size: tuple[int, ...], keep_range: bool) -> Float[Tensor, "b H W"]:
    """At (height, width); bicubic overshoots, which must not turn a disparity negative."""
    if values.shape[-2:] == size:
        return values
    larger = resized(values, (size[0], size[1]))
    return larger.clamp(values.min(), values.max()) if keep_range else larger


def _disparity(depth: Depth, mask: Mask, id_: str) -> Depth:
    if bool((depth[mask] <= 0).any()):
        raise ValueError(f"The prediction for {id_} has depths at or below 0, which have no disparity.")
    return 1 / torch.where(depth > 0, depth, 1.0)


def _named(scores: dict[str, float], unit: str) -> dict[str, float]:
    return {f"{name}_{unit}" if name in LENGTHS else name: value for name, value in scores.items()}


sys.modules[__name__].__class__ = Verb
