"""Labels averaged over views of an image: several sizes of the network's input, each also mirrored.

A network errs differently at another size and in a mirror. Its mean over such views errs less, and where the views
disagree the label is worth little.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from sonde import align
from sonde.labelling.quality import explain_share, predict_raw, sees_one_size
from sonde.models import DepthModel
from sonde.options.label import check_view_sizes
from sonde.tensors import Depth, Image, PerImage


def check_views(model: DepthModel, views: Sequence[int | float]) -> None:
    """Check that a network can see an image at other sizes than its usual one.

    Raises:
        ValueError: sizes that cannot be, a network with one input size, or one that sees images at their own size.
    """
    check_view_sizes(views, views)
    if any(view != 1 for view in views) and (model.spec.pads or sees_one_size(model)):
        seen = "images at their own size" if model.spec.pads else "one size only"
        raise ValueError(f"{model.name} sees {seen}: give views=1, which averages an image and its mirror image.")


def predict_views(
    model: DepthModel, rgb: Image, views: Sequence[int | float], others: Sequence[DepthModel] = ()
) -> tuple[Float[Tensor, "b H W"], PerImage]:
    """Mean raw output over all views at the network's usual size, and how well the views agree with it, in [0, 1].

    A relative network answers each view with a scale and a shift of its own, so each is fitted to the first one by
    least squares before the mean is taken. A metric network's answers are averaged as they are.

    Args:
        model: the network, in evaluation mode.
        rgb: (b, 3, h, w) images in [0, 1].
        views: sizes of the input as shares of the usual one, such as (0.75, 1, 1.25).
        others: more relative networks, whose answers count as views too.
    """
    usual = model.spec.network_size(*rgb.shape[-2:])
    answers = [
        answer
        for network in (model, *others)
        for size in list_sizes(network, network.spec.network_size(*rgb.shape[-2:]), views)
        for answer in _predict_both(network, rgb, size, usual)
    ]
    if model.space != "metric":
        answers = [answers[0], *(_fit(answer, answers[0]) for answer in answers[1:])]
    mean = torch.stack(answers).mean(0)
    agreed = torch.stack([explain_share(answer, mean) for answer in answers]).mean(0)
    return mean, agreed.float().cpu()


def list_sizes(model: DepthModel, usual: tuple[int, int], views: Sequence[int | float]) -> list[tuple[int, int]]:
    """(height, width) of the network's input for each view, each once; multiples of what the network needs."""
    step = model.spec.multiple
    # A network that pads sees a size that is a multiple already; it takes no other view than 1.
    sizes = [
        (usual if view == 1 else tuple(max(step, round(side * view / step) * step) for side in usual)) for view in views
    ]
    return [(height, width) for height, width in dict.fromkeys(sizes)]


def _predict_both(
    model: DepthModel, rgb: Image, size: tuple[int, int], usual: tuple[int, int]
) -> list[Float[Tensor, "b H W"]]:
    """The answers for an image and its mirror image, flipped back, at the usual size."""
    pixels = model.prepare(rgb, size).contiguous(memory_format=torch.channels_last)
    mirrored = pixels.flip(-1).contiguous(memory_format=torch.channels_last)
    answers = (predict_raw(model, pixels), predict_raw(model, mirrored).flip(-1))
    return [_resize(answer, usual) for answer in answers]


def _fit(answer: Depth, reference: Depth) -> Depth:
    everywhere = torch.ones_like(answer, dtype=torch.bool)
    return align.affine(answer, reference, everywhere)


def _resize(values: Depth, size: tuple[int, int]) -> Float[Tensor, "b H W"]:
    if values.shape[-2:] == size:
        return values
    return functional.interpolate(values[:, None], size, mode="bilinear", align_corners=False, antialias=True)[:, 0]
