"""The network of a run: loaded, told what its values mean for the open data, and adapted."""

from dataclasses import replace
from typing import NamedTuple

from transformers import set_seed

from sonde import adapters, datasets, losses, models, recipes
from sonde.background import Background
from sonde.datasets import DepthSet, find_depth_range
from sonde.encoding import ENCODINGS
from sonde.models import DepthModel
from sonde.recipes import Recipe
from sonde.training.choice import Choice, SampledCapture, choose, fit_capture_head, sample_captures
from sonde.training.data import NO_UNIT, TrainingData
from sonde.training.fixed import find_background
from sonde.training.heads import install_head
from sonde.training.networks import choose_input_size, open_model
from sonde.training.start import fit_last_layer
from sonde.training.targets import DepthTarget, make_target


class Built(NamedTuple):
    """A network that is ready for its first step."""

    model: DepthModel
    background: Background | None
    """The bench, if the network learns the difference from it."""
    choice: Choice | None
    """What leaving captures out has chosen, if the recipe asks for it."""


def build_model(data: TrainingData, *, fitting: bool = False, chosen: str | None = None) -> Built:
    """Load the network of a recipe, set the meaning of its values for these data, and adapt it.

    Args:
        data: the captures.
        fitting: if the recipe asks for them, leave captures out to choose, and fit a head of pixels; this takes
            seconds to a minute.
        chosen: the kind of bench that an earlier choice found.

    Raises:
        ValueError: weights that are missing, or a network that does not fit the data or the recipe.
    """
    recipe, captures, ids = data.recipe, data.captures, data.parts["train"]
    set_seed(recipe.seed)
    model = open_model(recipe)
    _check_space(recipe, captures, model)
    size = choose_input_size(recipe, captures, data.parts, model)
    model.spec = replace(model.spec, input_size=size, unit=captures.unit)
    choice, sampled = _leave_out(recipe, captures, ids, model) if fitting else (None, [])
    found = choice.background if choice else chosen
    bench = find_background(found or recipe.model.background, captures, ids, known=found is not None)
    _set_meaning(data, model, bench)
    if sampled and recipe.model.head == "pixels":
        _fit_pixel_head(recipe, model, bench, choice, sampled)
    _adapt(data, model, bench)
    return Built(model, bench, choice)


def _leave_out(
    recipe: Recipe, captures: DepthSet, ids: list[str], model: DepthModel
) -> tuple[Choice | None, list[SampledCapture]]:
    """The choice, if the recipe asks for one, and the sampled training captures, which a head of pixels also needs."""
    has_pixel_head = recipe.model.head == "pixels"
    if recipe.choose is None and not has_pixel_head:
        return None, []
    # Choosing always compares heads of pixels; a network with a decoder lends its encoder to one.
    encoder = model if has_pixel_head else DepthModel(models.make_pixel_depth(model.network), model.spec, model.name)
    sampled = sample_captures(recipe, captures, ids, encoder)
    return choose(recipe, captures, sampled, encoder) if recipe.choose else None, sampled


def _fit_pixel_head(
    recipe: Recipe, model: DepthModel, bench: Background | None, choice: Choice | None, sampled: list[SampledCapture]
) -> None:
    """Fit the head of pixels to all training captures."""
    encoding = model.encoding
    assert encoding is not None
    steps = choice.chosen.steps if choice else recipes.ChooseRecipe().steps
    install_head(model, fit_capture_head(sampled, [DepthTarget(encoding, bench)], steps, recipe.seed))


def _check_space(recipe: Recipe, captures: DepthSet, model: DepthModel) -> None:
    """The kind of depth in the data must fit what the network learns."""
    encoding, space = recipe.model.encoding, captures.space
    relative = encoding is None and model.space != "metric"
    if space != "metric" and not relative:
        asked = f"model.encoding={encoding}" if encoding else f"{model.name} predicts metres"
        raise ValueError(
            f"The training set holds {NO_UNIT.get(space, space)}, and this recipe trains metric depth ({asked}): set "
            "model.encoding=null with a relative model, or train on measured depth or a metric model's labels."
        )
    unfit = [name for name in recipe.loss if relative and losses.needs_depth(name)]
    if unfit:
        raise ValueError(
            f"loss.{unfit[0]} compares logarithms of depth, and {model.name} learns disparity up to scale and shift, "
            "which may be zero or negative: use ssi and gradient_matching, or set model.encoding. For an L_ssi of "
            "logarithms, which is `silog` here, train a metric student with the recipe student-reference."
        )


def _set_meaning(data: TrainingData, model: DepthModel, bench: Background | None) -> None:
    """Set what the network's values mean: an encoding over the data's range, or disparity as before."""
    recipe = data.recipe
    # Those of the model that training starts from belong to another camera.
    model.background = None
    model.spec = replace(model.spec, background=None)
    _set_window(recipe, model)
    focal = recipe.model.canonical_focal or model.spec.canonical_focal
    if focal is not None and recipe.model.encoding is None and model.space != "metric":
        raise ValueError(
            f"model.canonical_focal={focal:g} is for metric depth, and {model.name} learns disparity up to scale and "
            "shift: remove model.canonical_focal, or set model.encoding."
        )
    model.spec = replace(model.spec, canonical_focal=focal)
    if focal is not None:
        # The first capture shows whether the set has intrinsics, before hours of training.
        _read_canonical_range(data, model, "train", 0)
    if bench is not None:
        _set_background(data, model, bench)
    elif recipe.model.encoding is not None:
        encoding = ENCODINGS[recipe.model.encoding](*_find_range(data, model)).to_dict()
        model.spec = replace(model.spec, space="metric", encoding=encoding, scale=1.0)
        models.set_max_depth(model.network, 1)


def _set_window(recipe: Recipe, model: DepthModel) -> None:
    """Let a network that trains on cut images predict whole images at their own aspect ratio."""
    if recipe.data.fit == "stretch":
        return
    assert recipe.model.input_size is not None  # a rule of the recipe
    if model.network.config.model_type in ("dpt", "depth_pro"):
        raise ValueError(
            f"data.fit={recipe.data.fit} gives images of any aspect ratio, and {model.name} accepts one size only: set "
            "data.fit=stretch."
        )
    short_side = min(recipe.model.input_size) if recipe.data.fit == "crop" else None
    model.spec = replace(model.spec, input_size=None, short_side=short_side)


def _set_background(data: TrainingData, model: DepthModel, bench: Background) -> None:
    """Let the network predict the difference from the bench: at first none, 1/2 in the middle of a linear range."""
    recipe, captures = data.recipe, data.captures
    # The rule of the recipe passes `auto`, which only the captures decide.
    if recipe.model.encoding is None or model.spec.canonical_focal is not None:
        raise ValueError(
            f"model.background={recipe.model.background} is for metric depth from one camera: set model.encoding and "
            "remove model.canonical_focal, or set model.background=none."
        )
    position = {capture: index for index, capture in enumerate(captures.ids)}
    depths = (captures.read_depth(position[id_]) for id_ in data.parts["train"])
    encoding = make_target(depths, recipe.model.encoding, bench).encoding.to_dict()
    model.spec = replace(model.spec, space="metric", encoding=encoding, scale=1.0, background=bench.reference)
    model.background = bench
    models.set_max_depth(model.network, 1)
    models.answer_evenly(model)


def _find_range(data: TrainingData, model: DepthModel) -> tuple[float, float]:
    """The range of the encoding, metres: as `data.range` asks, and as the canonical camera sees it if there is one."""
    wanted, captures = data.recipe.data.range, data.captures
    if isinstance(wanted, tuple):
        return wanted[0] * captures.unit_m, wanted[1] * captures.unit_m
    ids = captures.ids if wanted == "all" else data.parts["train"]
    position = {capture: index for index, capture in enumerate(captures.ids)}
    if model.spec.canonical_focal is None:
        return find_depth_range(captures, [position[capture] for capture in ids])
    parts = ["train", "validation", "test"] if wanted == "all" else ["train"]
    ranges = [_read_canonical_range(data, model, part, i) for part in parts for i in range(len(data.parts[part]))]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _read_canonical_range(data: TrainingData, model: DepthModel, part: str, index: int) -> tuple[float, float]:
    """Smallest and largest depth of a capture, metres, as the canonical camera would see it."""
    samples = data.samples(part, model.spec.input_size)
    capture, batch = samples.captures.read(samples.indices[index]), datasets.collate([samples[index]])
    if capture.intrinsics is None:
        raise ValueError(
            f"model.canonical_focal needs the intrinsics of every capture, and {data.captures.root} has none for "
            f"{data.parts[part][index]}: add them to the set, or remove model.canonical_focal."
        )
    # The whole capture counts; the batch may hold only a window of it.
    depth = capture.depth
    trusted = depth[depth > 0] / float(model.focal_scale_of(batch))
    return float(trusted.min()), float(trusted.max())


def _adapt(data: TrainingData, model: DepthModel, bench: Background | None) -> None:
    """Fit the last layer and add adapters, if the recipe asks for them."""
    recipe = data.recipe
    has_pixel_head = recipe.model.head == "pixels"
    if recipe.model.affine_start and not model.family.ends_in_head:
        raise ValueError(
            f"model.affine_start sets {model.family.last}, which lora does not save for {model.name}: set "
            "model.affine_start=false."
        )
    if recipe.lora is not None and bench is not None and not (recipe.model.train_head or has_pixel_head):
        raise ValueError(
            "model.background with lora starts from a new last layer, and lora saves that layer only with the head: "
            "set model.train_head=true."
        )
    # With a bench the last layer already predicts no difference, and a head of pixels is fitted as a whole.
    if recipe.model.affine_start and bench is None and not has_pixel_head:
        fit_last_layer(model, data.samples("train", model.eval().spec.input_size))
    if recipe.lora is None:
        # The trainer's own checkpoints have no sonde.json, so the weights' config carries the meaning.
        models.store_spec(model)
        return
    head = model.family.head if recipe.model.train_head or has_pixel_head else ()
    model.network = adapters.add_lora(model.network, recipe.lora, head)
