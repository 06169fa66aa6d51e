"""The network that a recipe names, before it is adapted, and the size of its input."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sonde import adapters, architectures, models
from sonde.datasets import DepthSet
from sonde.models import DepthModel
from sonde.recipes import ModelRecipe, Recipe
from sonde.renamed import keep_old_names


def open_model(recipe: Recipe) -> DepthModel:
    """The network of a recipe before it is adapted, with a new head of pixels if the recipe asks for one.

    Raises:
        ValueError: no such network, or one that training cannot start from.
    """
    wanted = recipe.model
    model = _load_network(wanted) if wanted.size is None else _build_network(wanted, wanted.size)
    if recipe.lora is not None:
        # An adapter is saved without its base; the fingerprint finds out if the base has changed when it loads.
        model.spec = replace(model.spec, base=model.name, fingerprint=models.fingerprint(model.network))
    if wanted.head == "decoder":
        return model
    model.spec = replace(model.spec, head="pixels", space="metric")
    model.network = models.make_pixel_depth(model.network)
    return model


def refuse_missing_weights(recipe: Recipe) -> None:
    """Refuse a file of weights that does not exist, before anything is rendered.

    Raises:
        ValueError: model.name is the path of a file of weights that does not exist.
    """
    path = models.ModelSource(recipe.model.origin).path
    if path.suffix in models.WEIGHT_FILES and not path.is_file():
        raise ValueError(
            f"model.name={path}: the file does not exist. Give the path of the weights, or remove model.name (in "
            "GLPDepth's words ckpt_dir)."
        )


def _load_network(wanted: ModelRecipe) -> DepthModel:
    """A network with weights, by its name."""
    model = models.load_network(wanted.origin, init=wanted.init, max_depth=wanted.max_depth)
    if isinstance(model.network, adapters.PeftModel):
        raise ValueError(
            f"model.name={wanted.name} is an adapter, which training cannot start from: merge it with `sonde export "
            "--to hf`, and set model.name to that folder."
        )
    if not model.family.last:
        raise ValueError(
            f"model.name={wanted.name} is an ensemble, whose networks are trained one at a time: set model.name to one "
            "of them, or to sonde-tiny."
        )
    if model.calibration is not None:
        base = model.calibration.base or "what `sonde calibrate --undo` restores"
        raise ValueError(
            f"model.name={wanted.name} is calibrated, and training would make its calibration wrong: train {base}, "
            "then calibrate the result."
        )
    if wanted.depths is not None:
        model.network = models.deepen(model.network, wanted.depths)
    return model


def _build_network(wanted: ModelRecipe, size: str) -> DepthModel:
    """A network of a size."""
    max_depth = wanted.max_depth
    # Under an encoding the network predicts [0, 1], so its own range ends at 1.
    if wanted.encoding is not None and size in (*architectures.MIT_SIZES, *architectures.LITE_SIZES):
        max_depth = 1
    return models.build(size, init=wanted.init, encoder=wanted.encoder, max_depth=max_depth)


def choose_input_size(
    recipe: Recipe, captures: DepthSet, parts: Mapping[str, Sequence[str]], model: DepthModel
) -> tuple[int, int] | None:
    """The (height, width) of the network's input; None keeps each image's aspect ratio.

    Raises:
        ValueError: `model.input_size` is no multiple of the network's patches.
    """
    size, step = recipe.model.input_size or model.spec.input_size, model.spec.multiple
    if recipe.model.input_pixels is not None:
        shape = captures.read(captures.ids.index(parts["train"][0])).image.shape
        return _keep_aspect(recipe.model.input_pixels, shape[:2], step)
    if size is not None and any(side < 1 or side % step for side in size):
        nearest_size = [max(step, round(side / step) * step) for side in size]
        raise ValueError(
            f"model.input_size={list(size)}: {model.name} needs multiples of {step}; the nearest is {nearest_size}."
        )
    return size


def _keep_aspect(pixels: int, shape: tuple[int, ...], step: int) -> tuple[int, int]:
    """(height, width) of about so many pixels at the aspect ratio of `shape`, in multiples of `step`."""
    scale = (pixels / (shape[0] * shape[1])) ** 0.5
    height, width = (max(step, round(scale * side / step) * step) for side in shape)
    return height, width


keep_old_names(__name__, {"input_size": "choose_input_size", "refuse_missing": "refuse_missing_weights"})
