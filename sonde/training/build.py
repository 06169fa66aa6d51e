"""The network of a run: loaded, told what its numbers mean, and adapted, for data that are open."""

from dataclasses import replace
from typing import NamedTuple

import torch
from transformers import set_seed

from sonde import adapters, datasets, losses, models, recipes
from sonde.background import Background
from sonde.datasets import DepthSet, depth_range
from sonde.encoding import ENCODINGS
from sonde.models import DepthModel
from sonde.recipes import Recipe
from sonde.training.aims import Aim, aim_at
from sonde.training.choice import CaptureSeen, Choice, choose, fit_to, read_captures
from sonde.training.data import NO_UNIT, TrainingData
from sonde.training.fixed import find_background
from sonde.training.heads import install
from sonde.training.networks import input_size, open_model


class Built(NamedTuple):
    """A network that is ready for its first step."""

    model: DepthModel
    background: Background | None
    """The bench, where the network learns what differs from it."""
    choice: Choice | None
    """What leaving captures out has chosen, where the recipe asks for it."""


def build_model(data: TrainingData, *, fitting: bool = False, chosen: str | None = None) -> Built:
    """Load the network of a recipe, give it its meaning for these data, and adapt it.

    Args:
        data: the captures.
        fitting: leave captures out to choose, and fit a head of pixels, if the recipe asks for it; seconds to a minute.
        chosen: the kind of bench that an earlier choice found.

    Raises:
        ValueError: weights that are missing, or a network that does not fit the data or the recipe.
    """
    recipe, captures, ids = data.recipe, data.captures, data.parts["train"]
    set_seed(recipe.seed)
    model = open_model(recipe)
    _check_space(recipe, captures, model)
    size = input_size(recipe, captures, data.parts, model)
    model.spec = replace(model.spec, input_size=size, unit=captures.unit)
    choice, read = _look(recipe, captures, ids, model) if fitting else (None, [])
    found = choice.background if choice else chosen
    bench = find_background(found or recipe.model.background, captures, ids, known=found is not None)
    _give_spec(data, model, bench)
    if read and recipe.model.head == "pixels":
        _fit_head(recipe, model, bench, choice, read)
    _adapt(data, model, bench)
    return Built(model, bench, choice)


def _look(
    recipe: Recipe, captures: DepthSet, ids: list[str], model: DepthModel
) -> tuple[Choice | None, list[CaptureSeen]]:
    """What leaving captures out chooses, and the training captures as the encoder sees them."""
    pixels = recipe.model.head == "pixels"
    if recipe.choose is None and not pixels:
        return None, []
    seer = model if pixels else models.DepthModel(models.pixel_depth(model.network), model.spec, model.name)
    read = read_captures(recipe, captures, ids, seer)
    return choose(recipe, captures, read, seer) if recipe.choose else None, read


def _fit_head(
    recipe: Recipe, model: DepthModel, bench: Background | None, choice: Choice | None, read: list[CaptureSeen]
) -> None:
    """Fit the head of pixels to all training captures."""
    spec = model.encoding
    assert spec is not None
    steps = choice.chosen.steps if choice else recipes.ChooseRecipe().steps
    install(model, fit_to(read, [Aim(spec, bench)], steps, recipe.seed))


def _check_space(recipe: Recipe, captures: DepthSet, model: DepthModel) -> None:
    """What the depth is must fit what the network learns."""
    encoding, space = recipe.model.encoding, captures.space
    relative = encoding is None and model.space != "metric"
    what = NO_UNIT.get(space, space)
    if space != "metric" and not relative:
        asked = f"model.encoding={encoding}" if encoding else f"{model.name} answers metres"
        raise ValueError(
            f"The training set holds {what}, and this recipe trains metric depth ({asked}): set model.encoding=null "
            "with a relative model, or train on measured depth or a metric model's labels."
        )
    unfit = [name for name in recipe.loss if relative and name in losses.METRIC]
    if unfit:
        raise ValueError(
            f"loss.{unfit[0]} compares logarithms of depth, and {model.name} learns disparity up to scale and shift, "
            "which may be zero or below, where no logarithm is: use ssi and gradient_matching, or set model.encoding. "
            "An L_ssi of logarithms is `silog` here; the recipe student-reference trains a student of metres with it."
        )


def _give_spec(data: TrainingData, model: DepthModel, bench: Background | None) -> None:
    """Tell the model what its numbers will mean: the encoding over the data's range, or disparity as before."""
    recipe = data.recipe
    model.background = None  # of the model that training starts from
    spec = replace(model.spec, background=None)
    if recipe.data.fit != "stretch":
        assert recipe.model.input_size is not None  # a rule of the recipe
        if model.network.config.model_type in ("dpt", "depth_pro"):
            raise ValueError(
                f"data.fit={recipe.data.fit} leads to images of any aspect, and {model.name} sees one size only: set "
                "data.fit=stretch."
            )
        short_side = min(recipe.model.input_size) if recipe.data.fit == "crop" else None
        spec = replace(spec, input_size=None, short_side=short_side)
    focal = recipe.model.canonical_focal or spec.canonical_focal
    if focal is not None and recipe.model.encoding is None and model.space != "metric":
        raise ValueError(
            f"model.canonical_focal={focal:g} is for metres, and {model.name} learns disparity up to scale and shift: "
            "leave it out, or set model.encoding."
        )
    model.spec = replace(spec, canonical_focal=focal)
    if focal is not None:
        _canonical(data, model, "train", 0)
    if bench is not None:
        _give_background(data, model, bench)
    elif recipe.model.encoding is not None:
        encoding = ENCODINGS[recipe.model.encoding](*_range(data, model)).to_dict()
        model.spec = replace(model.spec, space="metric", encoding=encoding, scale=1.0)
        models.set_max_depth(model.network, 1)


def _give_background(data: TrainingData, model: DepthModel, bench: Background) -> None:
    """The network answers what differs from the bench, at first nothing: 1/2, in the middle of a linear range."""
    recipe, captures = data.recipe, data.captures
    if recipe.model.encoding is None or model.spec.canonical_focal is not None:
        raise ValueError(
            f"model.background={recipe.model.background} is for metric depth from one camera: set model.encoding, "
            "and leave model.canonical_focal out; or set model.background=none."
        )
    position = {capture: index for index, capture in enumerate(captures.ids)}
    depths = (captures.read_depth(position[id_]) for id_ in data.parts["train"])
    encoding = aim_at(depths, recipe.model.encoding, bench).encoding.to_dict()
    model.spec = replace(model.spec, space="metric", encoding=encoding, scale=1.0, background=bench.reference)
    model.background = bench
    models.set_max_depth(model.network, 1)
    models.answer_evenly(model)


def _range(data: TrainingData, model: DepthModel) -> tuple[float, float]:
    wanted, captures = data.recipe.data.range, data.captures
    if isinstance(wanted, tuple):
        return wanted[0] * captures.unit_m, wanted[1] * captures.unit_m
    ids = captures.ids if wanted == "all" else data.parts["train"]
    position = {capture: index for index, capture in enumerate(captures.ids)}
    if model.spec.canonical_focal is None:
        return depth_range(captures, [position[capture] for capture in ids])
    parts = ["train", "validation", "test"] if wanted == "all" else ["train"]
    depths = [_canonical(data, model, part, index) for part in parts for index in range(len(data.parts[part]))]
    return min(low for low, _ in depths), max(high for _, high in depths)


def _canonical(data: TrainingData, model: DepthModel, part: str, index: int) -> tuple[float, float]:
    """Smallest and largest depth of a capture, metres, as the canonical camera would see it."""
    samples = data.samples(part, model.spec.input_size)
    capture, batch = samples.captures.read(samples.indices[index]), datasets.collate([samples[index]])
    if capture.intrinsics is None:
        raise ValueError(
            f"{data.captures.root} holds no intrinsics for {data.parts[part][index]}, and model.canonical_focal needs "
            "every capture's: add them to the set, or leave it out."
        )
    depth = capture.depth  # whole, where the batch holds a window of it
    trusted = depth[depth > 0] / float(model.focal_scale_of(batch))
    return float(trusted.min()), float(trusted.max())


def _adapt(data: TrainingData, model: DepthModel, bench: Background | None) -> None:
    """Adapters and the head's start, where the recipe asks for them."""
    recipe = data.recipe
    pixels = recipe.model.head == "pixels"
    fitted = recipe.model.affine_start and bench is None and not pixels
    if recipe.model.affine_start and not model.family.ends_in_head:
        raise ValueError(
            f"model.affine_start sets {model.family.last}, which {model.name} trains no adapter with: set it to false."
        )
    if recipe.lora is None:
        if fitted:
            _start(data, model)
        models.store_spec(model)  # for the trainer's own checkpoints, which hold no sonde.json
        return
    if bench is not None and not (recipe.model.train_head or pixels):
        raise ValueError(
            "model.background with lora starts from a new last layer, which an adapter keeps with the head alone: set "
            "model.train_head=true."
        )
    if fitted:
        _start(data, model)
    head = model.family.head if recipe.model.train_head or pixels else ()
    model.network = adapters.add_lora(model.network, recipe.lora, head)


@torch.no_grad()
def _start(data: TrainingData, model: DepthModel, images: int = 8) -> None:
    """Fit scale and shift of the last layer's output to its target on a few training captures."""
    samples = data.samples("train", model.eval().spec.input_size)
    layer = model.network.get_submodule(model.family.last)
    encoding = model.encoding
    assert isinstance(layer, torch.nn.Conv2d) and encoding is not None
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(output[:, 0]))
    outputs, targets, masks = [], [], []
    for index in range(min(images, len(samples))):
        batch = datasets.collate([samples[index]])
        model.forward_raw(model.network, batch["image"])
        raw = seen.pop()
        pick = torch.nn.functional.interpolate
        size = raw.shape[-2:]
        if model.spec.pads:
            raw = raw[:, : batch["image"].shape[-2], : batch["image"].shape[-1]]
        target = encoding.encode(torch.where(batch["mask"], batch["depth"] / model.focal_scale_of(batch), 1.0))
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
