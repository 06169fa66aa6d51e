"""Everything a run needs, built and checked before the first step: data, split, model, settings."""

import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import TrainingArguments, set_seed

from sonde import adapters, datasets, evaluate, losses, models, recipes
from sonde.background import Background
from sonde.datasets import Decoded, DepthSet, Samples, depth_range, split
from sonde.encoding import ENCODINGS
from sonde.models import DepthModel
from sonde.recipes import Recipe, nearest
from sonde.train.aims import Aim, aim_at
from sonde.train.arguments import takes_no_step, training_arguments
from sonde.train.choice import CaptureSeen, Choice, choose, fit_to, read_captures
from sonde.train.fixed import find_background
from sonde.train.heads import install
from sonde.train.networks import input_size, open_model
from sonde.train.rates import NO_RATES, RatePlan, plan_rates, refuse_bad_rates
from sonde.trainer import score_names


class Plan(NamedTuple):
    """Everything a run needs, built and checked before the first step."""

    recipe: Recipe
    run: Path
    captures: DepthSet
    parts: dict[str, list[str]]
    """Capture ids for train, validation and test."""
    model: DepthModel
    args: TrainingArguments
    rates: RatePlan
    background: Background | None = None
    """The bench, where the network learns what differs from it."""
    choice: Choice | None = None
    """What leaving captures out has chosen, where the recipe asks for it and nothing is resumed."""

    def samples(self, part: str, *, augment: bool = False) -> Samples:
        """The captures of a part as a torch data set, decoded once."""
        recipe, data, unit = self.recipe, self.recipe.data, self.captures.unit_m
        size = self.model.meaning.input_size if data.fit == "stretch" else recipe.model.input_size
        decoded = Decoded(self.captures, None if data.fit == "window" else size, data.cache, cover=data.fit == "crop")
        position = {capture: index for index, capture in enumerate(self.captures.ids)}
        indices = [position[capture] for capture in self.parts[part]]
        return Samples(
            decoded,
            indices,
            recipe.augment if augment else None,
            recipe.seed,
            size if data.fit == "crop" or (data.fit == "window" and augment) else None,
            max_depth=math.inf if data.max_depth_eval is None or part == "train" else data.max_depth_eval * unit,
            background=self.background,
        )

    @property
    def chooser(self) -> str | None:
        """The part that chooses the checkpoint; None where every capture trains, and the last weights are kept."""
        return next((part for part in ("validation", "test") if self.parts[part]), None)

    @property
    def sharded(self) -> bool:
        """Whether the weights are cut across processes."""
        return bool(self.recipe.train.get("fsdp"))

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.args.process_index == 0

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run, as transformers counts them."""
        return len(self.rates.rates)


def prepare(recipe: Recipe, *, fitting: bool = False, chosen: str | None = None) -> Plan:
    """Open the data, cut it, load and adapt the model, and check every setting.

    Data that a recipe renders must be there: `train` renders it, a dry run says that it is missing. With `fitting`
    captures are left out to choose, and a head of pixels is fitted: seconds to a minute. `chosen` is the kind of bench
    that an earlier choice found.
    """
    args = training_arguments(recipe)
    for name, weight in recipe.loss.items():
        if name not in losses.LOSSES:
            raise ValueError(f"Unknown loss {name!r}: {nearest(name, list(losses.LOSSES))}")
        if not 0 <= weight < math.inf:
            raise ValueError(f"loss.{name}={weight}: expected a weight of 0 or more.")
    if recipe.train.get("fsdp") and recipe.train.get("optim") == "muon":
        raise ValueError("train.optim=muon turns whole matrices, which train.fsdp cuts: use train.optim=adamw_torch.")
    if recipe.train.get("fsdp") and (args.world_size < 2 or recipe.lora):
        raise ValueError(
            "train.fsdp cuts every weight across several processes: start them with torchrun --nproc-per-node N "
            "-m sonde train …, and without lora, whose adapters are small."
        )
    captures = evaluate.open_captures(recipe)
    _check_metric(args, captures)
    _check_judged(recipe, captures)
    parts = _cut(recipe, captures)
    rates = NO_RATES if takes_no_step(recipe) else plan_rates(args, _steps(args, len(parts["train"])))
    refuse_bad_rates(rates)
    set_seed(recipe.seed)
    model = open_model(recipe)
    _check_space(recipe, captures, model)
    model.meaning = replace(model.meaning, input_size=input_size(recipe, captures, parts, model), unit=captures.unit)
    choice, read = _look(recipe, captures, parts["train"], model) if fitting else (None, [])
    found = choice.background if choice else chosen
    kind = found or recipe.model.background
    bench = find_background(kind, captures, parts["train"], known=found is not None)
    plan = Plan(recipe, Path(recipe.output_dir), captures, parts, model, args, rates, bench, choice)
    _give_meaning(plan)
    if read and recipe.model.head == "pixels":
        _fit_head(plan, read)
    _adapt(plan)
    return plan


def _look(
    recipe: Recipe, captures: DepthSet, ids: list[str], model: DepthModel
) -> tuple[Choice | None, list[CaptureSeen]]:
    """What leaving captures out chooses, and the training captures as the encoder sees them."""
    pixels = recipe.model.head == "pixels"
    if recipe.choose is None and not pixels:
        return None, []
    if recipe.model.encoding is None:
        raise ValueError("model.head=pixels and choose need metric depth: set model.encoding=inverse.")
    seer = model if pixels else models.DepthModel(models.pixel_depth(model.network), model.meaning, model.name)
    read = read_captures(recipe, captures, ids, seer)
    return choose(recipe, captures, read, seer) if recipe.choose else None, read


def _fit_head(plan: Plan, read: list[CaptureSeen]) -> None:
    """Fit the head of pixels to all training captures."""
    spec = plan.model.encoding
    assert spec is not None
    steps = plan.choice.chosen.steps if plan.choice else recipes.ChooseRecipe().steps
    install(plan.model, fit_to(read, [Aim(spec, plan.background)], steps, plan.recipe.seed))


def count_steps(recipe: Recipe, args: TrainingArguments) -> int:
    """Optimizer steps of a run, from its data alone, and without them where `max_steps` says."""
    if args.max_steps > 0:
        return args.max_steps
    return _steps(args, len(_cut(recipe, evaluate.open_captures(recipe))["train"]))


def _steps(args: TrainingArguments, images: int) -> int:
    batches = math.ceil(images / args.per_device_train_batch_size / args.world_size)
    per_epoch = max(1, math.ceil(batches / args.gradient_accumulation_steps))
    return args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * per_epoch)


def _check_metric(args: TrainingArguments, captures: DepthSet) -> None:
    """What chooses the checkpoint, or drives a plateau, must be among what validation reports."""
    metric, known = (args.metric_for_best_model or "loss").removeprefix("eval_"), score_names(captures.unit)
    if metric not in known:
        raise ValueError(
            f"train.metric_for_best_model={args.metric_for_best_model}: validation does not report it; "
            f"{nearest(metric, known)}"
        )


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
    judges = evaluate.measured_ids(recipe, captures)
    parts = split(judges, rules, groups, whole=True)
    train = sorted(set(captures.ids) - set(judges))
    if not train:
        raise ValueError(
            f"{captures.root} leaves no captures to train on: data.min_confidence or data.reject asks too much."
        )
    return {"train": train, "validation": parts["train"] + parts["validation"], "test": parts["test"]}


def _check_space(recipe: Recipe, captures: DepthSet, model: DepthModel) -> None:
    """What the depth is must fit what the network learns, and what judges must have been measured."""
    encoding, space = recipe.model.encoding, captures.space
    relative = encoding is None and model.space != "metric"
    what = {"disparity": "disparity without a unit", "scale": "depth without a unit"}.get(space, space)
    if space != "metric" and not relative:
        asked = f"model.encoding={encoding}" if encoding else f"{model.name} answers metres"
        raise ValueError(
            f"The training set holds {what}, and this recipe trains metric depth ({asked}): set model.encoding=null "
            "with a relative model, or train on measured depth."
        )
    if space == "disparity" and recipe.data.measured is None:
        raise ValueError(
            f"{captures.root} holds pseudo-labels alone: name a set of measured depth for validation and test "
            "(data.measured.format and data.measured.root), for a student is not judged by its teacher's labels."
        )
    if space != "metric" and recipe.augment.cut_depth:
        raise ValueError(f"augment.cut_depth shows metric depth, and the training set holds {what}: set it to 0.")
    unfit = [name for name in recipe.loss if relative and name in losses.METRIC]
    if unfit:
        raise ValueError(
            f"loss.{unfit[0]} compares logarithms of depth, and {model.name} learns disparity up to scale and shift: "
            "use ssi and gradient_matching, or set model.encoding."
        )


def _give_meaning(plan: Plan) -> None:
    """Tell the model what its numbers will mean: the encoding over the data's range, or disparity as before."""
    recipe, model = plan.recipe, plan.model
    model.background = None  # of the model that training starts from
    meaning = replace(model.meaning, background=None)
    if recipe.data.fit != "stretch":
        if recipe.model.input_size is None:
            raise ValueError(f"data.fit={recipe.data.fit} needs model.input_size: the window to cut.")
        if model.network.config.model_type in ("dpt", "depth_pro"):
            raise ValueError(
                f"data.fit={recipe.data.fit} leads to images of any aspect, and {model.name} sees one size only: set "
                "data.fit=stretch."
            )
        short_side = min(recipe.model.input_size) if recipe.data.fit == "crop" else None
        meaning = replace(meaning, input_size=None, short_side=short_side)
    focal = recipe.model.canonical_focal or meaning.canonical_focal
    if focal is not None and recipe.model.encoding is None and model.space != "metric":
        raise ValueError(
            f"model.canonical_focal={focal:g} is for metres, and {model.name} learns disparity up to scale and shift: "
            "leave it out, or set model.encoding."
        )
    model.meaning = replace(meaning, canonical_focal=focal)
    if focal is not None:
        _canonical(plan, "train", 0)
    if plan.background is not None:
        _give_background(plan, plan.background)
    elif recipe.model.encoding is not None:
        encoding = ENCODINGS[recipe.model.encoding](*_range(plan)).to_dict()
        model.meaning = replace(model.meaning, space="metric", encoding=encoding, scale=1.0)
        models.end_at(model.network, 1)


def _give_background(plan: Plan, bench: Background) -> None:
    """The network answers what differs from the bench, at first nothing: 1/2, in the middle of a linear range."""
    model, captures = plan.model, plan.captures
    if plan.recipe.model.encoding is None or model.meaning.canonical_focal is not None:
        raise ValueError(
            f"model.background={plan.recipe.model.background} is for metric depth from one camera: set model.encoding, "
            "and leave model.canonical_focal out; or set model.background=none."
        )
    position = {capture: index for index, capture in enumerate(captures.ids)}
    depths = (captures.read_depth(position[id_]) for id_ in plan.parts["train"])
    encoding = aim_at(depths, plan.recipe.model.encoding, bench).encoding.to_dict()
    model.meaning = replace(model.meaning, space="metric", encoding=encoding, scale=1.0, background=bench.reference)
    model.background = bench
    models.end_at(model.network, 1)
    models.answer_evenly(model)


def _range(plan: Plan) -> tuple[float, float]:
    wanted, captures = plan.recipe.data.range, plan.captures
    if isinstance(wanted, tuple):
        return wanted[0] * captures.unit_m, wanted[1] * captures.unit_m
    ids = captures.ids if wanted == "all" else plan.parts["train"]
    position = {capture: index for index, capture in enumerate(captures.ids)}
    if plan.model.meaning.canonical_focal is None:
        return depth_range(captures, [position[capture] for capture in ids])
    parts = ["train", "validation", "test"] if wanted == "all" else ["train"]
    depths = [_canonical(plan, part, index) for part in parts for index in range(len(plan.parts[part]))]
    return min(low for low, _ in depths), max(high for _, high in depths)


def _canonical(plan: Plan, part: str, index: int) -> tuple[float, float]:
    """Smallest and largest depth of a capture, metres, as the canonical camera would see it."""
    samples = plan.samples(part)
    capture, batch = samples.captures.read(samples.indices[index]), datasets.collate([samples[index]])
    if capture.intrinsics is None:
        raise ValueError(
            f"{plan.captures.root} holds no intrinsics for {plan.parts[part][index]}, and model.canonical_focal needs "
            "every capture's: add them to the set, or leave it out."
        )
    depth = capture.depth  # whole, where the batch holds a window of it
    trusted = depth[depth > 0] / float(plan.model.zoom_of(batch))
    return float(trusted.min()), float(trusted.max())


def _adapt(plan: Plan) -> None:
    """Adapters and the head's start, where the recipe asks for them."""
    recipe, model = plan.recipe, plan.model
    pixels = recipe.model.head == "pixels"
    fitted = recipe.model.affine_start and plan.background is None and not pixels
    if recipe.model.affine_start and not (recipe.model.train_head and recipe.model.encoding):
        raise ValueError(
            "model.affine_start needs model.train_head=true and an encoding: it sets the head's last layer."
        )
    if recipe.model.affine_start and not model.family.ends_in_head:
        raise ValueError(
            f"model.affine_start sets {model.family.last}, which {model.name} trains no adapter with: set it to false."
        )
    if recipe.lora is None:
        if fitted:
            _start(plan)
        models.inscribe(model)  # for the trainer's own checkpoints, which hold no sonde.json
        return
    if recipe.model.init == "random":
        raise ValueError(
            "model.init=random with lora: an adapter is saved without its base, and a random base cannot be had again. "
            "Set lora=null to train the whole network, or init=pretrained."
        )
    if recipe.model.depths is not None:
        raise ValueError(
            f"model.depths with lora: an adapter is saved without its base, and {model.name} has not these blocks. "
            "Set lora=null to train the whole network, or leave model.depths out."
        )
    if plan.background is not None and not (recipe.model.train_head or pixels):
        raise ValueError(
            "model.background with lora starts from a new last layer, which an adapter keeps with the head alone: set "
            "model.train_head=true."
        )
    if fitted:
        _start(plan)
    head = model.family.head if recipe.model.train_head or pixels else ()
    model.network = adapters.add_lora(model.network, recipe.lora, head)


@torch.no_grad()
def _start(plan: Plan, images: int = 8) -> None:
    """Fit scale and shift of the last layer's output to its target on a few training captures."""
    model, samples = plan.model.eval(), plan.samples("train")
    layer = model.network.get_submodule(model.family.last)
    encoding = model.encoding
    assert isinstance(layer, torch.nn.Conv2d) and encoding is not None
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(output[:, 0]))
    outputs, targets, masks = [], [], []
    for index in range(min(images, len(samples))):
        batch = datasets.collate([samples[index]])
        model.respond(model.network, batch["image"])
        raw = seen.pop()
        pick = torch.nn.functional.interpolate
        size = raw.shape[-2:]
        if model.meaning.pads:
            raw = raw[:, : batch["image"].shape[-2], : batch["image"].shape[-1]]
        target = encoding.encode(torch.where(batch["mask"], batch["depth"] / model.zoom_of(batch), 1.0))
        target = pick(target[:, None], size, mode="nearest-exact")[:, 0]
        mask = pick(batch["mask"][:, None].float(), size, mode="nearest-exact")[:, 0] > 0.5
        outputs.append(raw.flatten())
        targets.append((torch.logit(target.clamp(0.02, 0.98)) if model.sigmoid else target).flatten())
        masks.append(mask.flatten())
    hook.remove()
    fit = adapters.fit_start(
        torch.cat(outputs)[None, None], torch.cat(targets)[None, None], torch.cat(masks)[None, None]
    )
    adapters.affine_start(layer, *fit)
