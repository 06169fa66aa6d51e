"""The feature maps that a network's decoder reads: four layers of DINOv2, four stages of GLPN and EfficientNet-Lite.

They are read at the decoder's door, so they are what the decoder gets, in any architecture and beneath adapters too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn

from sonde.models.network import DepthModel
from sonde.tensors import Image

Tap = Float[Tensor, "b _ _ _"]
"""One of several maps (b, c, h, w), whatever the sizes of the others."""


def tapped(model: DepthModel, rgb: Image) -> list[Tap]:
    """The feature maps (b, c, h, w) that the decoder reads, shallowest first; gradients flow.

    Tokens lie on their patch grid, without the class token; Depth Anything's have passed the encoder's last norm,
    as the decoder reads them. Only the encoder is run.

    Raises:
        ValueError: an architecture that is not tapped, see DECODERS.
    """
    with recording(model) as maps:
        stop = decoder_of(model).register_forward_pre_hook(_stop)
        try:
            model.forward_raw(model.network, rgb)
        except Enough:
            pass
        finally:
            stop.remove()
    return maps


@contextmanager
def recording(model: DepthModel) -> Iterator[list[Tap]]:
    """While inside, a list that holds the maps of `tapped` after every forward pass.

    Depth and features of one pass, for a loss of both:

        with recording(model) as maps:
            depth = model.respond(model.network, rgb)

    Raises:
        ValueError: an architecture that is not tapped, see DECODERS.
    """
    maps: list[Tensor] = []

    def note(decoder: nn.Module, inputs: tuple[Any, ...]) -> None:
        maps[:] = on_grid(inputs)

    hook = decoder_of(model).register_forward_pre_hook(note)
    try:
        yield maps
    finally:
        hook.remove()


def encoding_network(model: DepthModel) -> Any:
    """The network whose encoder is read, without adapters' wrapper and beneath a head of pixels."""
    inner: Any = model.network.get_base_model() if isinstance(model.network, PeftModel) else model.network
    return inner.base if inner.config.model_type == "pixel_head" else inner


def decoder_of(model: DepthModel) -> nn.Module:
    """The module that reads the taps.

    Raises:
        ValueError: an architecture that is not tapped, see DECODERS.
    """
    inner = encoding_network(model)
    family = inner.config.model_type
    if family not in DECODERS:
        raise ValueError(
            f"The layers of {family} networks are not tapped: expected a model of {', '.join(DECODERS)}, such as "
            "sonde-tiny or Depth Anything."
        )
    return inner.get_submodule(DECODERS[family])


def on_grid(inputs: tuple[Any, ...]) -> list[Tap]:
    """What a decoder is given, (maps or tokens, rows, columns), as maps (b, c, h, w)."""
    return [_on_grid(tokens, inputs[1:]) for tokens in inputs[0]]


def _on_grid(tokens: Tensor, grid: Sequence[int | None]) -> Tensor:
    """Tokens (b, n, c) as (b, c, h, w); what comes before the patches, such as the class token, is left out."""
    if tokens.ndim == 4:
        return tokens
    rows, columns = (*grid, None, None)[:2]
    if rows is None or columns is None:
        rows = columns = int(tokens.shape[1] ** 0.5)  # transformers' DPT, too, takes its tokens for a square
    patches = tokens[:, tokens.shape[1] - rows * columns :]
    return patches.unflatten(1, (rows, columns)).permute(0, 3, 1, 2)


class Enough(Exception):
    """Ends a forward pass at the decoder's door: nothing behind it is wanted."""


def _stop(decoder: nn.Module, inputs: tuple[Any, ...]) -> None:
    raise Enough


DECODERS: dict[str, str] = {
    "depth_anything": "neck",
    "dpt": "neck",
    "glpn": "decoder",
    "efficientnet_lite": "decoder",
    "zoedepth": "neck",
}
"""Architecture -> the module that reads the taps. Depth Pro is none of them: its encoder sees overlapping crops."""
