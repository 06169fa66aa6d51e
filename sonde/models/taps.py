"""The feature maps that a network's decoder reads: four layers of DINOv2, four stages of GLPN and EfficientNet-Lite.

They are read where they enter the decoder, so they are exactly its input, in any architecture and also below adapters.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import SymInt, Tensor, nn

from sonde.adapters import find_base
from sonde.models.network import DepthModel
from sonde.tensors import Image

Side = int | SymInt
"""A number of rows or columns; symbolic while a network is exported."""
Tap = Float[Tensor, "b _ _ _"]
"""A map (b, c, h, w) of one layer; the maps of a network differ in size."""


def read_taps(model: DepthModel, rgb: Image) -> list[Tap]:
    """The feature maps (b, c, h, w) that the decoder reads, shallowest first; gradients flow.

    Tokens are arranged on their patch grid, without the class token. Depth Anything's have passed the encoder's last
    norm, as the decoder reads them. Only the encoder runs.

    Raises:
        ValueError: an architecture whose layers sonde does not read, see DECODERS.
    """
    with record_taps(model) as maps:
        stop = find_decoder(model).register_forward_pre_hook(_stop)
        try:
            model.forward_raw(model.network, rgb)
        except Enough:
            pass
        finally:
            stop.remove()
    return maps


@contextmanager
def record_taps(model: DepthModel) -> Iterator[list[Tap]]:
    """A context with a list that holds the maps of `read_taps` after every forward pass.

    Depth and features of one pass, for a loss on both:

        with record_taps(model) as maps:
            depth = model.forward_raw(model.network, rgb)

    Raises:
        ValueError: an architecture whose layers sonde does not read, see DECODERS.
    """
    maps: list[Tensor] = []

    def keep(decoder: nn.Module, inputs: tuple[object, ...]) -> None:
        maps[:] = arrange_on_grid(inputs)

    hook = find_decoder(model).register_forward_pre_hook(keep)
    try:
        yield maps
    finally:
        hook.remove()


def find_tapped_network(model: DepthModel) -> Any:
    """The network whose encoder is read: inside the wrapper of adapters and below a head of pixels."""
    inner: Any = find_base(model.network)
    return inner.base if inner.config.model_type == "pixel_head" else inner


def find_decoder(model: DepthModel) -> nn.Module:
    """The module that reads the taps.

    Raises:
        ValueError: an architecture whose layers sonde does not read, see DECODERS.
    """
    inner = find_tapped_network(model)
    family = inner.config.model_type
    if family not in DECODERS:
        raise ValueError(
            f"sonde does not read the layers of {family} networks: expected a model of {', '.join(DECODERS)}, such as "
            "sonde-tiny or Depth Anything."
        )
    return inner.get_submodule(DECODERS[family])


def arrange_on_grid(inputs: tuple[object, ...]) -> list[Tap]:
    """A decoder's input, (maps or tokens, rows, columns), as maps (b, c, h, w)."""
    layers, *grid = inputs
    assert isinstance(layers, Sequence)
    return [_arrange_tokens(tokens, grid) for tokens in layers]


def _arrange_tokens(tokens: Tensor, grid: Sequence[object]) -> Tensor:
    """Tokens (b, n, c) as (b, c, h, w); tokens before the patches, such as the class token, are left out."""
    if tokens.ndim == 4:
        return tokens
    rows, columns = (*grid, None, None)[:2]
    if not isinstance(rows, Side) or not isinstance(columns, Side):
        # DPT's decoder gets no grid: transformers, too, arranges its tokens in a square.
        rows = columns = int(tokens.shape[1] ** 0.5)
    patches = tokens[:, tokens.shape[1] - rows * columns :]
    return patches.unflatten(1, (rows, columns)).permute(0, 3, 1, 2)


class Enough(Exception):
    """Ends a forward pass where the decoder would begin."""


def _stop(decoder: nn.Module, inputs: tuple[object, ...]) -> None:
    raise Enough


DECODERS: dict[str, str] = {
    "depth_anything": "neck",
    "dpt": "neck",
    "glpn": "decoder",
    "efficientnet_lite": "decoder",
    "zoedepth": "neck",
}
"""Architecture → the module that reads the taps. Depth Pro is missing: its encoder reads overlapping crops."""
