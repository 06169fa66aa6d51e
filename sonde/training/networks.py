"""The network that a recipe names, before it is adapted, and the size at which it sees the captures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sonde import adapters, architectures, models
from sonde.datasets import DepthSet
from sonde.models import DepthModel
from sonde.recipes import Recipe


def open_model(recipe: Recipe) -> DepthModel:
    """The network of a recipe before it is adapted, its head of pixels in place where one is asked for."""
    model = _network(recipe)
    if recipe.lora is not None:
        model.spec = replace(model.spec, base=model.name, fingerprint=models.fingerprint(model.network))
    if recipe.model.head == "decoder":
        return model
    model.spec = replace(model.spec, head="pixels", space="metric")
    model.network = models.pixel_depth(model.network)
    return model


def refuse_missing(recipe: Recipe) -> None:
    """A file of weights that is not there is refused before anything is rendered.

    Raises:
        ValueError: model.name is the path of a file, and there is none.
    """
    path = Path(recipe.model.origin)
    if path.suffix in models.WEIGHT_FILES and not path.is_file():
        raise ValueError(f"model.name={path}: there is no such file; give the path of weights, or leave ckpt_dir out.")


def _network(recipe: Recipe) -> DepthModel:
    wanted = recipe.model
    if wanted.size is None:
        if wanted.encoder is not None:
            raise ValueError("model.encoder is for a model.size, such as small or b4.")
        model = models.load(wanted.origin, init=wanted.init, max_depth=wanted.max_depth)
        if isinstance(model.network, adapters.PeftModel):
            raise ValueError(
                f"{wanted.name} is an adapter already: export it with --to hf, and set model.name to that folder."
            )
        if model.calibration is not None:
            raise ValueError(
                f"{wanted.name} is calibrated, and training would make its calibration wrong: start from "
                f"{model.calibration.base or 'it after `sonde calibrate --undo`'}, and calibrate what comes out."
            )
        if wanted.depths is not None:
            model.network = models.deepened(model.network, wanted.depths)
        return model
    if wanted.depths is not None:
        raise ValueError(f"model.depths is for a model.name, and model.size={wanted.size} says how deep it is.")
    max_depth = wanted.max_depth
    if wanted.encoding is not None and max_depth is not None:
        raise ValueError(
            f"model.max_depth={max_depth:g} and model.encoding={wanted.encoding} both say where depth ends: set "
            "model.encoding=null for a network of metres, or leave model.max_depth out and give data.range."
        )
    if wanted.encoding is not None and wanted.size in (*architectures.MIT_SIZES, *architectures.LITE_SIZES):
        max_depth = 1  # the encoding's [0, 1]
    return models.build(wanted.size, init=wanted.init, encoder=wanted.encoder, max_depth=max_depth)


def input_size(
    recipe: Recipe, captures: DepthSet, parts: Mapping[str, Sequence[str]], model: DepthModel
) -> tuple[int, int] | None:
    """The (height, width) that the network sees; None keeps the image's aspect."""
    size, step = recipe.model.input_size or model.spec.input_size, model.spec.multiple
    if recipe.model.input_pixels is not None:
        if recipe.model.input_size is not None:
            raise ValueError("model.input_size and model.input_pixels both say what the network sees: remove one.")
        shape = captures.read(captures.ids.index(parts["train"][0])).image.shape
        return _keep_aspect(recipe.model.input_pixels, shape[:2], step)
    if size is not None and any(side < 1 or side % step for side in size):
        nearest_size = [max(step, round(side / step) * step) for side in size]
        raise ValueError(
            f"model.input_size={list(size)}: {model.name} needs multiples of {step}; the nearest is {nearest_size}."
        )
    return size


def _keep_aspect(wanted: int, shape: tuple[int, ...], step: int) -> tuple[int, int]:
    """About so many pixels in the aspect of (height, width), sides multiples of `step`."""
    scale = (wanted / (shape[0] * shape[1])) ** 0.5
    height, width = (max(step, round(scale * side / step) * step) for side in shape)
    return height, width
