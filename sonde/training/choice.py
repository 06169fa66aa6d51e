"""Choose by leaving captures out: with a bench or without, and how long; on the features of a frozen encoder.

For each capture a head that was fitted without it predicts depth. These predictions are written to `left-out/`; what
was chosen, and the errors of all candidates, to `choice.json`.
"""

import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from sonde import files
from sonde.background import Background
from sonde.datasets import DepthSet, split
from sonde.models import DepthModel
from sonde.recipes import Recipe, SplitRecipe
from sonde.renamed import keep_old_names
from sonde.runs import ANSWERS, CHOICE
from sonde.training.fixed import FOLDS, MOST, Bench, explain_no_bench, make_background, read_bench, spread_evenly
from sonde.training.heads import (
    PIXELS,
    CapturePixels,
    EncodedImage,
    FeatureHead,
    encode_image,
    fit_head,
    pool_features,
    sample_encoded,
    sample_targets,
)
from sonde.training.sidebyside import map_side_by_side
from sonde.training.targets import DepthTarget, make_target
from sonde.types import DepthArray, RGBArray

log = logging.getLogger("sonde")

FOR_MOVING = "For a camera that moves, the recipe lora-few adapts the whole network."
FEW_FOLDS = 5
"""Folds of a set of more than FOLDS captures."""
SHORT = 3
"""Kinds of bench are compared after this fraction of the steps: one n-th."""
KEPT = 16
"""Captures, at most, whose encoded images are kept until a head reads them: about 14 MB each."""


class SampledCapture(NamedTuple):
    """What choosing needs of one capture."""

    id: str
    image: RGBArray
    """At the network's input size."""
    depth: DepthArray
    pixels: CapturePixels
    encoded: EncodedImage | None = None
    """What a head reads of the image; None beyond the first KEPT captures: the image is encoded again when needed."""


class Candidate(NamedTuple):
    """One setting, and its errors on captures left out."""

    background: str
    steps: int
    errors: dict[str, float]
    """Capture id -> mean absolute error, metres."""

    @property
    def mean(self) -> float:
        """Mean error over captures, metres."""
        return float(np.mean(list(self.errors.values())))


class Choice(NamedTuple):
    """What was chosen, and why."""

    folds: list[list[str]]
    chosen: Candidate
    candidates: list[Candidate]
    bench: Candidate | None
    """The error of the bench itself as the prediction, the same for every capture."""
    answers: dict[str, DepthArray]
    """Capture id -> depth in metres, predicted with the chosen setting by the head that was fitted without it."""
    reason: str
    """Why there is no bench; empty if there is one."""

    @property
    def background(self) -> str:
        """The kind of bench that was chosen."""
        return self.chosen.background

    @property
    def sentence(self) -> str:
        """The main finding to report; empty if the model is better than the bench alone."""
        if self.bench is not None and self.chosen.mean >= self.bench.mean:
            return (
                f"Leaving captures out shows no gain over the bench alone ({1000 * self.chosen.mean:.1f} against "
                f"{1000 * self.bench.mean:.1f} mm): add captures that show other objects."
            )
        return f"{self.reason} {FOR_MOVING}" if self.reason else ""

    def write(self, run: Path, unit_m: float, unit: str) -> None:
        """Write `choice.json` and `left-out/` into a run folder; errors in `choice.json` are in the set's unit."""
        for id_, depth in self.answers.items():
            with files.atomic_write(run / ANSWERS / f"{id_}.npy") as tmp_path:
                np.save(tmp_path, depth)
        about = {"space": "metric", "unit": "m"}
        with files.atomic_write(run / ANSWERS / "predictions.json") as tmp_path:
            tmp_path.write_text(json.dumps(about) + "\n")
        document = {
            "folds": self.folds,
            "chosen": {"background": self.chosen.background, "steps": self.chosen.steps},
            "candidates": [_describe_candidate(each, unit_m, unit) for each in self.candidates],
            "sentence": self.sentence,
        }
        # Last, because readers take a `choice.json` for a complete choice.
        with files.atomic_write(run / CHOICE) as tmp_path:
            tmp_path.write_text(json.dumps(document, indent=1) + "\n")


def choose(recipe: Recipe, captures: DepthSet, sampled: Sequence[SampledCapture], model: DepthModel) -> Choice:
    """Choose the setting with the least error on captures left out, by heads on the model's features.

    Args:
        recipe: its `choose`, `model.background` and `data.split`.
        captures: the set.
        sampled: its training captures, as `sample_captures` gives them.
        model: with a head of pixels.

    Raises:
        ValueError: fewer than two captures.
    """
    assert recipe.choose is not None
    if len(sampled) < 2:
        raise ValueError(
            f"choose leaves captures out and needs at least 2; {captures.root} has {len(sampled)} to train on: add "
            "captures, or set choose=null."
        )
    folds = assign_folds(recipe, captures, [each.id for each in sampled])
    used = [each for each in sampled if any(each.id in fold for fold in folds)]
    kinds, reason, bench = list_kinds(recipe, captures, [each.id for each in used], folds)
    benches = map_side_by_side(partial(_make_backgrounds, captures, bench, kinds), folds)
    trial = Trial(recipe, model, used, folds, benches)
    steps = recipe.choose.steps
    # Short fits rank the kinds; only the best kind is fitted for all steps.
    short = _score_left_out(trial, kinds, max(1, steps // SHORT)) if len(kinds) > 1 else []
    best = min((each for each, _ in short), key=lambda each: each.mean).background if short else kinds[0]
    [(chosen, answers)] = _score_left_out(trial, [best], steps)
    bench_alone = None if best == "none" else _score_bench(trial, best)
    return Choice(folds, chosen, [*(each for each, _ in short), chosen], bench_alone, answers, reason)


class Trial(NamedTuple):
    """The captures, the folds and the benches that candidates are compared on."""

    recipe: Recipe
    model: DepthModel
    captures: list[SampledCapture]
    folds: list[list[str]]
    benches: list[dict[str, Background | None]]
    """For each fold: kind -> the bench, made of the captures outside the fold."""


def assign_folds(recipe: Recipe, captures: DepthSet, ids: Sequence[str]) -> list[list[str]]:
    """Divide captures into folds, with groups kept together; a fold for each capture if there are few."""
    chosen = spread_evenly(ids, MOST)
    rules = recipe.data.split
    groups = captures.groups(rules.group) if rules.group else None
    blocks = len(chosen) if groups is None else len({groups[id_] for id_ in chosen})
    asked = recipe.choose.folds if recipe.choose else None
    count = min(blocks, asked or (blocks if blocks <= FOLDS else FEW_FOLDS))
    parts = [SplitRecipe(test=0, validation=0, seed=rules.seed, folds=count, fold=fold) for fold in range(count)]
    return [split(chosen, part, groups)["validation"] for part in parts]


def sample_captures(recipe: Recipe, captures: DepthSet, ids: Sequence[str], model: DepthModel) -> list[SampledCapture]:
    """Read captures, and sample pixels of each with their features; all together about PIXELS pixels."""
    position = {id_: index for index, id_ in enumerate(captures.ids)}
    generator = torch.Generator().manual_seed(recipe.seed)
    sampled = []
    # Sorted, so that the draws do not depend on the order of the split.
    for id_ in sorted(ids):
        capture = captures.read(position[id_])
        small = files.resize_image(capture.image, model.spec.network_size(*capture.image.shape[:2]))
        encoded = encode_image(model, small)
        mirrored = encode_image(model, small[:, ::-1].copy()) if recipe.augment.flip > 0 else None
        pixels = sample_encoded(encoded, mirrored, PIXELS // len(ids), generator)
        kept = encoded if recipe.choose is not None and len(sampled) < KEPT else None
        sampled.append(SampledCapture(id_, small, capture.depth, pixels, kept))
    pooled = pool_features([each.pixels for each in sampled])
    return [each._replace(pixels=pixels) for each, pixels in zip(sampled, pooled, strict=True)]


def list_kinds(
    recipe: Recipe, captures: DepthSet, ids: Sequence[str], folds: Sequence[Sequence[str]]
) -> tuple[list[str], str, Bench | None]:
    """The kinds of bench to compare, why `none` is the only one (or empty), and the captures to make benches of."""
    asked = recipe.model.background
    bench = None if asked == "none" else read_bench(captures, ids)
    if asked != "auto":
        return [asked], "", bench
    reason = explain_no_bench(bench, folds)
    return (["none"], reason, bench) if reason else (["none", "farthest", "median"], "", bench)


def _make_backgrounds(
    captures: DepthSet, bench: Bench | None, kinds: Sequence[str], fold: Sequence[str]
) -> dict[str, Background | None]:
    """Kind -> the bench of the captures outside a fold."""
    return {kind: None if kind == "none" else make_background(kind, captures, bench, fold) for kind in kinds}


def _score_left_out(trial: Trial, kinds: Sequence[str], steps: int) -> list[tuple[Candidate, dict[str, DepthArray]]]:
    """The errors and predictions of each kind on captures left out; in each fold one head learns all kinds at once."""
    answered = map_side_by_side(partial(_answer_fold, trial, kinds, steps), list(range(len(trial.folds))))
    depths = {each.id: each.depth for each in trial.captures}
    results = []
    for kind in kinds:
        answers = {id_: by_kind[kind] for fold in answered for id_, by_kind in fold.items()}
        errors = {id_: _compute_mae(answer, depths[id_]) for id_, answer in answers.items()}
        results.append((Candidate(kind, steps, errors), answers))
    return results


def _answer_fold(trial: Trial, kinds: Sequence[str], steps: int, fold: int) -> dict[str, dict[str, DepthArray]]:
    """Id of each capture of a fold -> kind -> depth, metres, by a head that was fitted without the fold."""
    left_out, benches = trial.folds[fold], trial.benches[fold]
    train = [each for each in trial.captures if each.id not in left_out]
    targets = [make_capture_target(trial.recipe, train, benches[kind]) for kind in kinds]
    head = fit_capture_head(train, targets, steps, trial.recipe.seed)
    answers = {}
    for capture in trial.captures:
        if capture.id in left_out:
            encoded = capture.encoded or encode_image(trial.model, capture.image)
            values = head.predict(encoded, capture.depth.shape)
            each = zip(kinds, targets, values, strict=True)
            answers[capture.id] = {kind: target.decode(own) for kind, target, own in each}
    return answers


def _score_bench(trial: Trial, kind: str) -> Candidate:
    """The error of the bench as the prediction; for each capture it is made of the captures outside its fold."""
    errors: dict[str, float] = {}
    for fold, benches in zip(trial.folds, trial.benches, strict=True):
        bench = benches[kind]
        assert bench is not None
        for capture in trial.captures:
            if capture.id in fold:
                errors[capture.id] = _compute_mae(bench.depth_at(capture.depth.shape), capture.depth)
    return Candidate(kind, 0, errors)


def make_capture_target(recipe: Recipe, train: Sequence[SampledCapture], bench: Background | None) -> DepthTarget:
    """The target whose range covers these captures."""
    assert recipe.model.encoding is not None
    return make_target((each.depth for each in train), recipe.model.encoding, bench)


def fit_capture_head(
    train: Sequence[SampledCapture], targets: Sequence[DepthTarget], steps: int, seed: int
) -> FeatureHead:
    """Fit a head that learns several targets of these captures at once."""
    values = [
        sample_targets(each.pixels, each.depth, [target.encode(each.depth) for target in targets]) for each in train
    ]
    return fit_head([each.pixels for each in train], values, steps, seed)


def _compute_mae(predicted: DepthArray, depth: DepthArray) -> float:
    """Mean absolute error over trusted pixels, metres; NaN without any."""
    trusted = depth > 0
    return float(np.abs(predicted - depth)[trusted].mean()) if trusted.any() else float("nan")


def _describe_candidate(each: Candidate, unit_m: float, unit: str) -> dict[str, str | int | float | None]:
    """A candidate's mean error and its standard deviation over captures, in the set's unit."""
    errors = np.array(list(each.errors.values())) / unit_m
    return {
        "background": each.background,
        "steps": each.steps,
        f"mae_{unit}": float(errors.mean()),
        f"spread_{unit}": float(errors.std(ddof=1)) if len(errors) > 1 else None,
    }


keep_old_names(
    __name__,
    {
        "CaptureSeen": "SampledCapture",
        "fold_ids": "assign_folds",
        "read_captures": "sample_captures",
        "candidates": "list_kinds",
        "aim_of": "make_capture_target",
        "fit_to": "fit_capture_head",
    },
)
