"""Networks by size as transformers configs, encoders to start from, official checkpoints in transformers' names.

Depth Anything V2 in `SIZES`; GLPN with SegFormer's encoders in `MIT_SIZES`; EfficientNet-Lite under a pyramid decoder
in `LITE_SIZES`.
"""

from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedConfig

from sonde.architectures import depth_anything_v2, glpdepth
from sonde.architectures.depth_anything_v2 import RELEASED, SIZES, Size, depth_anything, load_encoder
from sonde.architectures.foreign import held
from sonde.architectures.glpdepth import MIT_SIZES, PUBLISHED, MiT, glpn, load_mit
from sonde.architectures.lite import LITE_SIZES, LiteConfig, lite, load_imagenet

__all__ = [
    "LITE_SIZES", "MIT_SIZES", "PUBLISHED", "RELEASED", "SIZES", "LiteConfig", "MiT", "Size", "depth_anything",
    "from_official", "glpn", "held", "lite", "load_encoder", "load_imagenet", "load_mit",
]  # fmt: skip


def from_official(state: Mapping[str, Tensor], name: str) -> tuple[PreTrainedConfig, dict[str, Tensor]]:
    """An official checkpoint as (config, state in transformers' names): of Depth Anything V2, or of GLPDepth.

    The size is read from the tensors; metres from the file's name, since no file holds them.

    Raises:
        ValueError: the keys are those of neither, or metres that nobody knows.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}  # what DataParallel adds
    if "pretrained.cls_token" in state and "depth_head.scratch.output_conv1.weight" in state:
        return depth_anything_v2.converted(state, name)
    if {"decoder.bot_conv.weight", *(f"encoder.patch_embed{stage}.proj.weight" for stage in (1, 2, 3, 4))} <= set(
        state
    ):
        return glpdepth.converted(state, name)
    raise ValueError(
        f"{name} is not an official Depth Anything V2 or GLPDepth checkpoint: expected keys such as "
        "pretrained.cls_token or decoder.bot_conv.weight; for other networks give a Hugging Face folder."
    )
