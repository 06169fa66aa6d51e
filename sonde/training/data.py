"""The data of a run: opened, checked and cut, before any network is loaded."""

import logging
import math
from typing import NamedTuple

from transformers import TrainingArguments

from sonde import datasets, evaluation, losses
from sonde.background import Background
from sonde.datasets import Decoded, DepthDataset, DepthSet, split
from sonde.recipes import Recipe
from sonde.spelling import nearest
from sonde.trainer import score_names
from sonde.training.arguments import takes_no_step, training_arguments
from sonde.training.networks import refuse_missing
from sonde.training.rates import NO_RATES, RatePlan, plan_rates, refuse_bad_rates

log = logging.getLogger("sonde")


class TrainingData(NamedTuple):
    """The captures of a run and how they are used."""

    recipe: Recipe
    args: TrainingArguments
    captures: DepthSet
    parts: dict[str, list[str]]
    """Capture ids for train, validation and test."""
    rates: RatePlan

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
            input_size: (height, width) that the network sees, for captures that are stretched to it.
            augment: whether the recipe's augmentation applies.
            background: the bench from which the network learns the difference.
        """
        recipe, data, unit = self.recipe, self.recipe.data, self.captures.unit_m
        size = input_size if data.fit == "stretch" else recipe.model.input_size
        decoded = Decoded(self.captures, None if data.fit == "window" else size, data.cache, cover=data.fit == "crop")
        position = {capture: index for index, capture in enumerate(self.captures.ids)}
        return DepthDataset(
            decoded,
            [position[capture] for capture in self.parts[part]],
            recipe.augment if augment else None,
            recipe.seed,
            size if data.fit == "crop" or (data.fit == "window" and augment) else None,
            max_depth=math.inf if data.max_depth_eval is None or part == "train" else data.max_depth_eval * unit,
            background=background,
        )


def open_data(recipe: Recipe) -> TrainingData:
    """Open the captures of a recipe and check every setting that depends on them.

    Raises:
        ValueError: data that are missing or do not fit the recipe, or a learning rate that would harm the run.
    """
    args = check_settings(recipe)
    captures = evaluation.open_captures(recipe)
    _check_metric(args, captures)
    _check_judged(recipe, captures)
    _check_depth(recipe, captures)
    parts = _cut(recipe, captures)
    _check_windows(recipe, captures, parts["train"])
    rates = NO_RATES if takes_no_step(recipe) else planned_rates(recipe, args, len(parts["train"]))
    refuse_bad_rates(rates)
    if rates.idle:
        log.warning("%s", rates.floor)
    return TrainingData(recipe, args, captures, parts, rates)


def check_settings(recipe: Recipe) -> TrainingArguments:
    """Check all that can be known without the data, and return what transformers is told.

    Raises:
        ValueError: a setting that is wrong, or weights that are not there.
    """
    refuse_missing(recipe)
    losses.check(recipe.loss)
    args = training_arguments(recipe)
    if recipe.train.get("fsdp") and args.world_size < 2:
        raise ValueError(
            "train.fsdp cuts every weight across several processes: start them with torchrun --nproc-per-node N "
            "-m sonde train …"
        )
    return args


def planned_rates(recipe: Recipe, args: TrainingArguments, images: int | None = None) -> RatePlan:
    """The rates of a run on so many images, or on those of its recipe, which are opened only where epochs count."""
    if images is None and args.max_steps <= 0:
        images = len(_cut(recipe, evaluation.open_captures(recipe))["train"])
    per_epoch = None if images is None else _steps_of_an_epoch(args, images)
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * (per_epoch or 0))
    return plan_rates(args, steps, _validations(recipe, args, steps, per_epoch))


def _steps_of_an_epoch(args: TrainingArguments, images: int) -> int:
    batches = math.ceil(images / args.per_device_train_batch_size / args.world_size)
    return max(1, math.ceil(batches / args.gradient_accumulation_steps))


def _validations(recipe: Recipe, args: TrainingArguments, steps: int, per_epoch: int | None) -> int | None:
    """Validations before the last step; None where nothing says."""
    if args.eval_strategy == "no":
        return 0
    if args.eval_strategy == "steps":
        every = args.eval_steps or args.logging_steps
        return (steps - 1) // max(1, math.ceil(every * steps) if every < 1 else round(every))
    return None if per_epoch is None else (math.ceil(steps / per_epoch) - 1) // recipe.val_freq


def _check_metric(args: TrainingArguments, captures: DepthSet) -> None:
    """What chooses the checkpoint, or drives a plateau, must be among what validation reports."""
    metric, known = (args.metric_for_best_model or "loss").removeprefix("eval_"), score_names(captures.unit)
    if metric not in known:
        raise ValueError(
            f"train.metric_for_best_model={args.metric_for_best_model}: validation does not report it; "
            f"{nearest(metric, known)}"
        )


def _check_windows(recipe: Recipe, captures: DepthSet, ids: list[str], looks: int = 8) -> None:
    """Captures cover the window that training cuts from them. A few tell: most sets are of one size."""
    if recipe.data.fit == "window" and recipe.model.input_size is not None:
        for id_ in ids[:: max(1, len(ids) // looks)]:
            capture = captures.read(captures.ids.index(id_))
            datasets.check_window(id_, capture.image.shape[:2], capture.depth.shape, recipe.model.input_size)


def _check_judged(recipe: Recipe, captures: DepthSet) -> None:
    """Validation cannot trust what is not read."""
    judged, (_, far) = recipe.data.max_depth_eval, captures.limits
    if judged is not None and judged > far and recipe.data.measured is None:
        raise ValueError(
            f"data.max_depth_eval={judged:g} is beyond {far:g} {captures.unit}, from where on no depth is read: "
            "give at most that, or a larger data.max_depth."
        )


def _cut(recipe: Recipe, captures: DepthSet) -> dict[str, list[str]]:
    """The parts; where depth measured elsewhere judges, it is cut alone and everything else trains."""
    rules = recipe.data.split
    groups = captures.groups(rules.group) if rules.group else None
    if recipe.data.measured is None:
        return split(captures.ids, rules, groups)
    judges = evaluation.measured_ids(recipe, captures)
    parts = split(judges, rules, groups, whole=True)
    train = sorted(set(captures.ids) - set(judges))
    if not train:
        raise ValueError(
            f"{captures.root} leaves no captures to train on: data.min_confidence or data.reject asks too much."
        )
    return {"train": train, "validation": parts["train"] + parts["validation"], "test": parts["test"]}


def _check_depth(recipe: Recipe, captures: DepthSet) -> None:
    """What a set without a unit cannot be used for."""
    what = NO_UNIT.get(captures.space, captures.space)
    if captures.space == "disparity" and recipe.data.measured is None:
        raise ValueError(
            f"{captures.root} holds pseudo-labels alone: name a set of measured depth for validation and test "
            "(data.measured.format and data.measured.root), for a student is not judged by its teacher's labels."
        )
    if captures.space != "metric" and recipe.augment.cut_depth:
        raise ValueError(f"augment.cut_depth shows metric depth, and the training set holds {what}: set it to 0.")


NO_UNIT = {"disparity": "disparity without a unit", "scale": "depth without a unit"}
"""Space of a set → what it holds, in words."""
