"""Choose by leaving captures out: with a bench or without, and how long; on the features of a frozen encoder.

Each capture is answered by a head that was fitted without it. These answers are kept in `left-out/`, and what was
chosen, and the errors of all candidates, in `choice.json`.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sonde import files
from sonde.background import Background
from sonde.datasets import DepthSet, split
from sonde.evaluation.left_out import ANSWERS, CHOICE
from sonde.models import DepthModel
from sonde.recipes import Recipe, SplitRecipe
from sonde.training.aims import Aim, aim_at
from sonde.training.fixed import FOLDS, MOST, Bench, make_background, read_bench, spread_evenly, why_not
from sonde.training.heads import TOKENS, CapturePixels, Fit, features, fit, look, targets_at
from sonde.types import DepthArray, RGBArray

log = logging.getLogger("sonde")

FOR_MOVING = "For a camera that moves, the recipe lora-few adapts the whole network."
FEW_FOLDS = 5
"""Folds of a set of more than FOLDS captures."""
SHORT = 3
"""Candidates are compared after the steps divided by this."""


class CaptureSeen(NamedTuple):
    """What choosing needs of one capture."""

    id: str
    image: RGBArray
    depth: DepthArray
    seen: CapturePixels


class Candidate(NamedTuple):
    """One setting, and what it scored on captures left out."""

    background: str
    steps: int
    errors: dict[str, float]
    """Capture id -> mean absolute error, metres."""

    @property
    def mean(self) -> float:
        """Over captures, metres."""
        return float(np.mean(list(self.errors.values())))


class Choice(NamedTuple):
    """What was chosen, and by what."""

    folds: list[list[str]]
    chosen: Candidate
    candidates: list[Candidate]
    bench: Candidate | None
    """The bench alone, as an answer that does not look."""
    answers: dict[str, DepthArray]
    """Capture id -> metres, by the head of the chosen setting that did not see it."""
    reason: str
    """Why there is no bench, or what else must be known; may be empty."""

    @property
    def background(self) -> str:
        """The kind of bench that was chosen."""
        return self.chosen.background

    def sentence(self) -> str:
        """What to say first; empty where the model gains on the bench alone."""
        if self.bench is not None and self.chosen.mean >= self.bench.mean:
            return (
                f"Leaving captures out shows no gain over the bench alone ({1000 * self.chosen.mean:.1f} against "
                f"{1000 * self.bench.mean:.1f} mm): add captures that show other objects."
            )
        return f"{self.reason} {FOR_MOVING}" if self.reason else ""

    def write(self, run: Path, unit_m: float, unit: str) -> None:
        """Write `choice.json` and `left-out/` into a run folder."""
        for id_, depth in self.answers.items():
            with files.atomic_write(run / ANSWERS / f"{id_}.npy") as tmp_path:
                np.save(tmp_path, depth)
        about = {"space": "metric", "unit": "m"}
        with files.atomic_write(run / ANSWERS / "predictions.json") as tmp_path:
            tmp_path.write_text(json.dumps(about) + "\n")
        document = {
            "folds": self.folds,
            "chosen": {"background": self.chosen.background, "steps": self.chosen.steps},
            "candidates": [_row(each, unit_m, unit) for each in self.candidates],
            "sentence": self.sentence(),
        }
        with files.atomic_write(run / CHOICE) as tmp_path:
            tmp_path.write_text(json.dumps(document, indent=1) + "\n")


def choose(recipe: Recipe, captures: DepthSet, read: Sequence[CaptureSeen], model: DepthModel) -> Choice:
    """What suits these captures best, by a head on the model's features, each capture left out once.

    Args:
        recipe: its `choose`, `model.background` and `data.split`.
        captures: the set.
        read: its training captures, as `read_captures` gives them.
        model: with a head of pixels.

    Raises:
        ValueError: fewer than two captures.
    """
    assert recipe.choose is not None
    if len(read) < 2:
        raise ValueError(
            f"{captures.root} has {len(read)} capture to learn from: choosing needs two at least; set choose=null."
        )
    folds = fold_ids(recipe, captures, [each.id for each in read])
    used = [each for each in read if any(each.id in fold for fold in folds)]
    kinds, reason, bench = candidates(recipe, captures, [each.id for each in used], folds)
    trial = Trial(recipe, model, used, folds, [_benches(captures, bench, fold, kinds) for fold in folds])
    steps = recipe.choose.steps
    short = _left_out(trial, kinds, max(1, steps // SHORT)) if len(kinds) > 1 else []
    best = min((each for each, _ in short), key=lambda each: each.mean).background if short else kinds[0]
    [(chosen, answers)] = _left_out(trial, [best], steps)
    alone = None if best == "none" else _bench_alone(trial, best)
    return Choice(folds, chosen, [*(each for each, _ in short), chosen], alone, answers, reason)


class Trial(NamedTuple):
    """What is tried, and on what."""

    recipe: Recipe
    model: DepthModel
    read: list[CaptureSeen]
    folds: list[list[str]]
    benches: list[dict[str, Background | None]]
    """Of each fold, made of the captures outside it, by kind."""


def fold_ids(recipe: Recipe, captures: DepthSet, ids: Sequence[str]) -> list[list[str]]:
    """The captures in parts, groups kept together: one each where they are few."""
    chosen = spread_evenly(ids, MOST)
    rules = recipe.data.split
    groups = captures.groups(rules.group) if rules.group else None
    blocks = len(chosen) if groups is None else len({groups[id_] for id_ in chosen})
    asked = recipe.choose.folds if recipe.choose else None
    count = min(blocks, asked or (blocks if blocks <= FOLDS else FEW_FOLDS))
    parts = [SplitRecipe(test=0, validation=0, seed=rules.seed, folds=count, fold=fold) for fold in range(count)]
    return [split(chosen, part, groups)["validation"] for part in parts]


def read_captures(recipe: Recipe, captures: DepthSet, ids: Sequence[str], model: DepthModel) -> list[CaptureSeen]:
    """Captures, and a share of their pixels as the encoder sees them."""
    position = {id_: index for index, id_ in enumerate(captures.ids)}
    generator = torch.Generator().manual_seed(recipe.seed)
    found = []
    for id_ in sorted(ids):
        capture = captures.read(position[id_])
        small = files.resize_image(capture.image, model.spec.network_size(*capture.image.shape[:2]))
        seen = look(model, small, TOKENS // len(ids), generator, mirror=recipe.augment.flip > 0)
        found.append(CaptureSeen(id_, small, capture.depth, seen))
    return found


def candidates(
    recipe: Recipe, captures: DepthSet, ids: Sequence[str], folds: Sequence[Sequence[str]]
) -> tuple[list[str], str, Bench | None]:
    """The kinds of bench to compare, why there are no more, and what benches are made of."""
    asked = recipe.model.background
    bench = None if asked == "none" else read_bench(captures, ids)
    if asked != "auto":
        return [asked], "", bench
    reason = why_not(bench, folds)
    return (["none"], reason, bench) if reason else (["none", "farthest", "median"], "", bench)


def _benches(
    captures: DepthSet, bench: Bench | None, fold: Sequence[str], kinds: Sequence[str]
) -> dict[str, Background | None]:
    """Of the captures outside a fold, by kind."""
    return {kind: None if kind == "none" else make_background(kind, captures, bench, fold) for kind in kinds}


def _left_out(trial: Trial, kinds: Sequence[str], steps: int) -> list[tuple[Candidate, dict[str, DepthArray]]]:
    """Each kind's errors and answers on captures that its heads did not see; one head a fold learns all kinds."""
    found = [(Candidate(kind, steps, {}), dict[str, DepthArray]()) for kind in kinds]
    for fold, benches in zip(trial.folds, trial.benches, strict=True):
        train = [each for each in trial.read if each.id not in fold]
        aims = [aim_of(trial.recipe, train, benches[kind]) for kind in kinds]
        head = fit_to(train, aims, steps, trial.recipe.seed)
        for capture in trial.read:
            if capture.id in fold:
                values = head.answer(features(trial.model, capture.image), capture.depth.shape)
                for (candidate, answers), aim, own in zip(found, aims, values, strict=True):
                    answers[capture.id] = aim.depth(own)
                    candidate.errors[capture.id] = _error(answers[capture.id], capture.depth)
    return found


def _bench_alone(trial: Trial, kind: str) -> Candidate:
    """The error of a bench as the answer, each capture by the others' bench."""
    errors: dict[str, float] = {}
    for fold, benches in zip(trial.folds, trial.benches, strict=True):
        bench = benches[kind]
        assert bench is not None
        errors |= {
            each.id: _error(bench.depth_at(each.depth.shape), each.depth) for each in trial.read if each.id in fold
        }
    return Candidate(kind, 0, errors)


def aim_of(recipe: Recipe, train: Sequence[CaptureSeen], bench: Background | None) -> Aim:
    """What a head learns of these captures."""
    assert recipe.model.encoding is not None
    return aim_at((each.depth for each in train), recipe.model.encoding, bench)


def fit_to(train: Sequence[CaptureSeen], aims: Sequence[Aim], steps: int, seed: int) -> Fit:
    """A head that learns several aims of these captures at once."""
    targets = [targets_at(each.seen, each.depth, [aim.values(each.depth) for aim in aims]) for each in train]
    return fit([each.seen for each in train], targets, steps, seed)


def _error(answer: DepthArray, depth: DepthArray) -> float:
    trusted = depth > 0
    return float(np.abs(answer - depth)[trusted].mean()) if trusted.any() else float("nan")


def _row(each: Candidate, unit_m: float, unit: str) -> dict[str, Any]:
    """A candidate's mean error and its spread over captures, in the set's unit."""
    errors = np.array(list(each.errors.values())) / unit_m
    return {
        "background": each.background,
        "steps": each.steps,
        f"mae_{unit}": float(errors.mean()),
        f"spread_{unit}": float(errors.std(ddof=1)) if len(errors) > 1 else None,
    }
