"""What a model folder's `preprocessor_config.json` says of a network's input, as a `ModelSpec`.

transformers' image processors resize, rescale and standardise. Their settings come before the constants of the family,
since a network was trained with them.
"""

from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sonde.files import check_exactly
from sonde.models.spec import PLAIN, ModelSpec, Side, Step

PREPROCESSOR = "preprocessor_config.json"
"""The file of a model folder that holds the settings of its image processor."""

Colours = float | Annotated[list[float], Field(min_length=3, max_length=3)]


class Preprocessor(BaseModel):
    """The settings of an image processor that sonde reads; None where the file does not say."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    do_resize: bool | None = None
    size: Side | dict[str, Side | None] | None = None
    """(height, width), or one number for both."""
    keep_aspect_ratio: bool | None = None
    ensure_multiple_of: float | None = None
    """transformers writes 1/32 for ZoeDepth, which is no number of pixels."""
    do_pad: bool | None = None
    size_divisor: Step | None = None
    do_rescale: bool | None = None
    rescale_factor: Annotated[float, Field(gt=0)] | None = None
    do_normalize: bool | None = None
    image_mean: Colours | None = None
    image_std: Colours | None = None


def apply_preprocessor(stored: dict[str, Any], spec: ModelSpec, *, square: bool = False) -> ModelSpec:
    """A family's spec with the sizes and colours of a folder's image processor.

    Args:
        stored: the document of PREPROCESSOR.
        spec: the family's constants, for whatever the document does not say.
        square: the network reads square images only.

    Raises:
        ValueError: a value of another type, or settings that the network cannot have.
    """
    told = check_exactly(stored, Preprocessor)
    spec = _apply_colours(told, spec)
    if spec.pads:  # GLPN and its kind see every pixel
        return replace(spec, multiple=told.size_divisor or spec.multiple)
    if told.do_resize is False:
        if square:
            raise ValueError("it says do_resize: false, and this network reads square images only")
        step = told.size_divisor if told.do_pad and told.size_divisor else spec.multiple
        return replace(spec, short_side=None, input_size=None, multiple=step)
    return _apply_size(told, spec, square=square)


def _apply_size(told: Preprocessor, spec: ModelSpec, *, square: bool) -> ModelSpec:
    size = _read_size(told)
    if size is None:
        return spec
    step = int(told.ensure_multiple_of) if told.ensure_multiple_of and told.ensure_multiple_of > 1 else 1
    keeps = spec.input_size is None if told.keep_aspect_ratio is None else told.keep_aspect_ratio
    if square or not keeps:
        if square and size[0] != size[1]:
            raise ValueError(f"its size is {size[0]} x {size[1]}, and this network reads square images only")
        height, width = (max(step, round(side / step) * step) for side in size)
        return replace(spec, input_size=(height, width))
    return replace(spec, input_size=None, short_side=min(size), multiple=step if step > 1 else spec.multiple)


def _read_size(told: Preprocessor) -> tuple[int, int] | None:
    """(height, width); None where the file gives none."""
    if not isinstance(told.size, dict):
        return None if told.size is None else (told.size, told.size)
    height, width, side = (told.size.get(key) for key in ("height", "width", "shortest_edge"))
    if height is not None and width is not None:
        return height, width
    if side is None:
        raise ValueError(f"its size has {', '.join(told.size) or 'no key'}, expected height and width")
    return side, side


def _apply_colours(told: Preprocessor, spec: ModelSpec) -> ModelSpec:
    """transformers subtracts from and divides the rescaled levels, 0 to 255 where nothing is rescaled; sonde [0, 1]."""
    white = 255 * (1 / 255 if told.rescale_factor is None else told.rescale_factor)
    white = 255.0 if told.do_rescale is False else white
    # GLPN's processor knows no colours unless it is told to.
    normal = told.do_normalize if told.do_normalize is not None else (spec.mean, spec.std) != PLAIN
    if not normal:
        return replace(spec, mean=PLAIN[0], std=(1 / white,) * 3)
    mean, std = (_read_colours(given) for given in (told.image_mean, told.image_std))
    if std is not None and min(std) <= 0:
        raise ValueError(f"its image_std is {[*std]}, expected three numbers above 0")
    return replace(
        spec,
        mean=spec.mean if mean is None else tuple(value / white for value in mean),
        std=spec.std if std is None else tuple(value / white for value in std),
    )


def _read_colours(given: float | list[float] | None) -> tuple[float, float, float] | None:
    if given is None:
        return None
    red, green, blue = given if isinstance(given, list) else [given] * 3
    return red, green, blue
