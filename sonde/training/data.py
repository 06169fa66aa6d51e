"""The data of a run: opened, checked and split, before any network is loaded."""

import logging
import math
from typing import NamedTuple

from transformers import TrainingArguments

from sonde import adapters, datasets, losses, runs
from sonde.background import Background
from sonde.checks import Screener, Screening
from sonde.datasets import DecodedSet, DepthDataset, DepthSet, split
from sonde.datasets.records import find_folder
from sonde.recipes import Recipe
from sonde.renamed import keep_old_names
from sonde.spelling import nearest
from sonde.trainer import name_scores
from sonde.training.arguments import build_arguments, takes_no_step
from sonde.training.networks import refuse_missing_weights
from sonde.training.rates import NO_RATES, RatePlan, plan_rates, refuse_bad_rates
from sonde.training.rendering import refuse_unknown_families

log = logging.getLogger("sonde")

CHECKED = 8
"""Captures, about, whose size is compared with the window: most sets are of one size."""


class TrainingData(NamedTuple):
    """The captures of a run and how they are used."""

    recipe: Recipe
    args: TrainingArguments
    captures: DepthSet
    parts: dict[str, list[str]]
    """Capture ids for train, validation and test."""
    rates: RatePlan
    screening: Screening | None
    """What the checks said of the captures; None where nobody asked them."""

    def samples(
        self,
        part: str,
        input_size: tuple[int, int] | None,
        *,
        augment: bool = False,
        background: Background | None = None,
    ) -> DepthDataset:
        """The captures of a part as a torch data set, decoded once.

        Args:
            part: train, validation or test.
            input_size: (height, width) of the network's input, for `data.fit=stretch`.
            augment: whether the recipe's augmentation applies.
            background: the bench, if the network learns the difference from it.
        """
        recipe, data, unit = self.recipe, self.recipe.data, self.captures.unit_m
        size = input_size if data.fit == "stretch" else recipe.model.input_size
        decoded = DecodedSet(
            self.captures,
            None if data.fit == "window" else size,
            find_folder(data.cache),
            cover=data.fit == "crop",
            bound_gb=data.cache_gb,
        )
        position = {capture: index for index, capture in enumerate(self.captures.ids)}
        # `window` shows validation and test the whole capture; `crop` cuts them too, at the centre.
        cuts = data.fit == "crop" or (data.fit == "window" and augment)
        judged_to = math.inf if data.max_depth_eval is None or part == "train" else data.max_depth_eval * unit
        return DepthDataset(
            decoded,
            [position[capture] for capture in self.parts[part]],
            recipe.augment if augment else None,
            recipe.seed,
            size if cuts else None,
            max_depth=judged_to,
            background=background,
        )


def open_data(recipe: Recipe, screener: Screener | None = None) -> TrainingData:
    """Open the captures of a recipe and check every setting that depends on them.

    Args:
        recipe: the settings.
        screener: screens the captures last, since it reads some; None: they are not screened.

    Raises:
        ValueError: data that are missing, do not fit the recipe or are certainly not sound, or a learning rate that
            would harm the run.
    """
    args = check_settings(recipe)
    captures = runs.open_captures(recipe)
    _check_metric(args, captures)
    _check_judged_depth(recipe, captures)
    _check_space(recipe, captures)
    parts = _split_captures(recipe, captures)
    rates = NO_RATES if takes_no_step(recipe) else plan_recipe_rates(recipe, args, len(parts["train"]))
    refuse_bad_rates(rates)
    if rates.idle:
        log.warning("%s", rates.floor)
    screening = None
    if screener is not None:
        used = {id_ for ids in parts.values() for id_ in ids}
        ids = [id_ for id_ in captures.ids if id_ in used]
        screening = screener.screen(captures, ids, quiet=args.process_index > 0)
    _check_windows(recipe, captures, parts["train"], screening)
    return TrainingData(recipe, args, captures, parts, rates, screening)


def check_settings(recipe: Recipe) -> TrainingArguments:
    """Check all that can be known without the data, and return the arguments for transformers.

    Raises:
        ValueError: a setting that is wrong, or a file of weights that does not exist.
    """
    refuse_missing_weights(recipe)
    refuse_unknown_families(recipe)
    losses.check(recipe.loss)
    adapters.check_keys(recipe.lora or {})
    args = build_arguments(recipe)
    if recipe.train.get("fsdp") and args.world_size < 2:
        raise ValueError(
            "train.fsdp cuts every weight across several processes: start them with torchrun --nproc-per-node N "
            "-m sonde train …"
        )
    return args


def plan_recipe_rates(recipe: Recipe, args: TrainingArguments, images: int | None = None) -> RatePlan:
    """The learning rate of a recipe's run.

    Args:
        recipe: the settings.
        args: those for transformers.
        images: number of training captures. None counts them, which opens the data, if the recipe counts epochs.

    Raises:
        ValueError: options that the schedule does not take, or a run without a step.
    """
    if images is None and args.max_steps <= 0:
        images = len(_split_captures(recipe, runs.open_captures(recipe))["train"])
    per_epoch = None if images is None else _count_epoch_steps(args, images)
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * (per_epoch or 0))
    return plan_rates(args, steps, _count_validations(recipe, args, steps, per_epoch))


def _count_epoch_steps(args: TrainingArguments, images: int) -> int:
    """Optimizer steps in an epoch, as transformers counts them: the last batch, and the last step, may be smaller."""
    batches = math.ceil(images / args.per_device_train_batch_size / args.world_size)
    return max(1, math.ceil(batches / args.gradient_accumulation_steps))


def _count_validations(recipe: Recipe, args: TrainingArguments, steps: int, per_epoch: int | None) -> int | None:
    """Number of validations before the last step; None if it is not known."""
    if args.eval_strategy == "no":
        return 0
    if args.eval_strategy == "steps":
        every = args.eval_steps or args.logging_steps
        # transformers takes a number below 1 as a share of all steps.
        return (steps - 1) // max(1, math.ceil(every * steps) if every < 1 else round(every))
    return None if per_epoch is None else (math.ceil(steps / per_epoch) - 1) // recipe.val_freq


def _check_metric(args: TrainingArguments, captures: DepthSet) -> None:
    """The score that chooses the checkpoint, or drives a plateau, must be one that validation reports."""
    metric, known = (args.metric_for_best_model or "loss").removeprefix("eval_"), name_scores(captures.unit)
    if metric not in known:
        raise ValueError(
            f"train.metric_for_best_model={args.metric_for_best_model} is not among the scores of validation; "
            f"{nearest(metric, known)}"
        )


def _check_windows(recipe: Recipe, captures: DepthSet, ids: list[str], screening: Screening | None) -> None:
    """Captures must cover the window that training cuts from them; some are read, if they were not before."""
    if recipe.data.fit == "window" and recipe.model.input_size is not None:
        shapes = {} if screening is None else {id_: screening.shapes[id_] for id_ in ids if id_ in screening.shapes}
        for id_ in [] if shapes else ids[:: max(1, len(ids) // CHECKED)]:
            capture = captures.read(captures.ids.index(id_))
            shapes[id_] = capture.image.shape, capture.depth.shape
        for id_, (image, depth) in shapes.items():
            datasets.check_window(id_, image[:2], depth, recipe.model.input_size)


def _check_judged_depth(recipe: Recipe, captures: DepthSet) -> None:
    """Validation cannot trust depth that is not read."""
    judged, (_, far) = recipe.data.max_depth_eval, captures.limits
    if judged is not None and judged > far and recipe.data.measured is None:
        raise ValueError(
            f"data.max_depth_eval={judged:g} is larger than {far:g} {captures.unit}, beyond which this set reads no "
            "depth: lower data.max_depth_eval, or raise data.max_depth."
        )


def _split_captures(recipe: Recipe, captures: DepthSet) -> dict[str, list[str]]:
    """Capture ids for train, validation and test; with `data.measured` only that set is split, and the rest trains."""
    rules = recipe.data.split
    groups = captures.groups(rules.group) if rules.group else None
    if recipe.data.measured is None:
        return split(captures.ids, rules, groups)
    judges = runs.measured_ids(recipe, captures)
    parts = split(judges, rules, groups, whole=True)
    train = sorted(set(captures.ids) - set(judges))
    if not train:
        raise ValueError(
            f"{captures.root} has no captures left to train on: lower data.min_confidence, or shorten data.reject."
        )
    return {"train": train, "validation": parts["train"] + parts["validation"], "test": parts["test"]}


def _check_space(recipe: Recipe, captures: DepthSet) -> None:
    """Labels without a unit cannot judge a student, and cannot be shown in the image."""
    content = NO_UNIT.get(captures.space, captures.space)
    if captures.space == "disparity" and recipe.data.measured is None:
        raise ValueError(
            f"{captures.root} holds only pseudo-labels, and a student is not judged by its teacher's labels: set "
            "data.measured.format and data.measured.root to a set of measured depth for validation and test."
        )
    if captures.space != "metric" and recipe.augment.cut_depth:
        raise ValueError(
            f"augment.cut_depth needs metric depth, and the training set holds {content}: set augment.cut_depth=0."
        )


NO_UNIT = {"disparity": "disparity without a unit", "scale": "depth without a unit"}
"""Space of a set -> its content in words."""


keep_old_names(__name__, {"planned_rates": "plan_recipe_rates"})
