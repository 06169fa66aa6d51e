"""Networks by size as transformers configs, encoders to start from, official checkpoints in transformers' names.

Depth Anything V2 in `SIZES`; GLPN with SegFormer's encoders in `MIT_SIZES`; EfficientNet-Lite under a pyramid decoder
in `LITE_SIZES`.
"""

from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedConfig

from sonde.architectures import depth_anything_v2, glpdepth
from sonde.architectures.depth_anything_v2 import RELEASED, SIZES, Size, depth_anything, load_encoder
from sonde.architectures.foreign import held, misfit, read_state
from sonde.architectures.glpdepth import (
    MIT_SIZES,
    PUBLISHED,
    MiT,
    as_glpdepth_adds,
    changes_there,
    glpn,
    load_mit,
    to_glpdepth,
    unlike_glpdepth,
)
from sonde.architectures.lite import LITE_SIZES, LiteConfig, lite, load_imagenet

__all__ = [
    "LITE_SIZES", "MIT_SIZES", "PUBLISHED", "RELEASED", "SIZES", "LiteConfig", "MiT", "Size", "as_glpdepth_adds",
    "changes_there", "config_of", "depth_anything", "from_official", "glpn", "held", "lite", "load_encoder",
    "load_imagenet", "load_mit", "misfit", "read_state", "to_glpdepth", "unlike_glpdepth",
]  # fmt: skip


def config_of(size: str, max_depth: float | int | None) -> PreTrainedConfig:
    """The config of a network by its size, relative or up to `max_depth` metres; GLPN needs metres."""
    if size in MIT_SIZES:
        assert max_depth is not None
        return glpn(size, max_depth=max_depth)
    return lite(size, max_depth=max_depth) if size in LITE_SIZES else depth_anything(size, max_depth=max_depth)


def from_official(
    state: Mapping[str, Tensor], name: str, max_depth: float | int | None = None
) -> tuple[PreTrainedConfig, dict[str, Tensor], float]:
    """An official checkpoint of Depth Anything V2 or of GLPDepth, as (config, state in transformers' names, scale).

    The size is read from the tensors; metres from `max_depth` or the file's name, since no file holds them. Of GLPDepth
    `max_depth` goes first; of a metric Depth Anything V2 the name does. `scale` is what `held` leaves over.

    Raises:
        ValueError: the keys are those of neither, or metres that nobody knows.
    """
    if "pretrained.cls_token" in state and "depth_head.scratch.output_conv1.weight" in state:
        return depth_anything_v2.converted(state, name, max_depth)
    if {"decoder.bot_conv.weight", *(f"encoder.patch_embed{stage}.proj.weight" for stage in (1, 2, 3, 4))} <= set(
        state
    ):
        return glpdepth.converted(state, name, max_depth)
    raise ValueError(
        f"{name} is not an official Depth Anything V2 or GLPDepth checkpoint: expected keys such as "
        "pretrained.cls_token or decoder.bot_conv.weight; for other networks give a Hugging Face folder."
    )
