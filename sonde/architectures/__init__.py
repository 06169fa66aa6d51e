"""Networks by size as transformers configs, pretrained encoders, and official checkpoints under transformers' names.

`SIZES` holds Depth Anything V2, `MIT_SIZES` GLPN with SegFormer's encoders, and `LITE_SIZES` EfficientNet-Lite under a
pyramid decoder.
"""

from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedConfig

from sonde.architectures import depth_anything_v2, glpdepth
from sonde.architectures.depth_anything_v2 import RELEASED, SIZES, VERSIONS, Size, depth_anything, load_encoder
from sonde.architectures.ensemble import EnsembleConfig, ensemble
from sonde.architectures.foreign import (
    LOADING_FAULTS,
    SAFETENSORS,
    TORCH_SUFFIXES,
    complete_network,
    find_misfit,
    fit_state,
    list_names,
    quiet_transformers,
    read_state,
    refuse_not_finite,
    split_max_depth,
)
from sonde.architectures.glpdepth import (
    MIT_SIZES,
    PUBLISHED,
    MiT,
    describe_glpdepth_changes,
    find_glpdepth_difference,
    glpn,
    load_mit,
    to_glpdepth,
    use_glpdepth_norms,
)
from sonde.architectures.lite import LITE_SIZES, LiteConfig, lite, load_imagenet
from sonde.renamed import keep_old_names

__all__ = [
    "LITE_SIZES",
    "LOADING_FAULTS",
    "MIT_SIZES",
    "PUBLISHED",
    "RELEASED",
    "SAFETENSORS",
    "SIZES",
    "TORCH_SUFFIXES",
    "VERSIONS",
    "EnsembleConfig",
    "LiteConfig",
    "MiT",
    "Size",
    "complete_network",
    "depth_anything",
    "describe_glpdepth_changes",
    "ensemble",
    "find_glpdepth_difference",
    "find_misfit",
    "fit_state",
    "from_official",
    "glpn",
    "list_names",
    "lite",
    "load_encoder",
    "load_imagenet",
    "load_mit",
    "make_config",
    "quiet_transformers",
    "read_state",
    "refuse_not_finite",
    "split_max_depth",
    "to_glpdepth",
    "use_glpdepth_norms",
]


def make_config(size: str, max_depth: float | int | None) -> PreTrainedConfig:
    """The config of any size: relative, or metric up to `max_depth` metres. GLPN is always metric."""
    if size in MIT_SIZES:
        assert max_depth is not None
        return glpn(size, max_depth=max_depth)
    return lite(size, max_depth=max_depth) if size in LITE_SIZES else depth_anything(size, max_depth=max_depth)


def from_official(
    state: Mapping[str, Tensor], name: str, max_depth: float | int | None = None, version: str | None = None
) -> tuple[PreTrainedConfig, dict[str, Tensor], float]:
    """Convert an official checkpoint of Depth Anything or GLPDepth to (config, state, scale) of transformers.

    The size is read from the tensors. No file holds its depth range: it comes from `max_depth` or from the file's name.
    For GLPDepth `max_depth` takes precedence, for a metric Depth Anything V2 the name. `scale` is the factor that
    `split_max_depth` returns. No file of Depth Anything holds its version either, v1 or v2: it comes from `version`,
    or from the file's name.

    Raises:
        ValueError: the keys of another network, or an unknown depth range or version.
    """
    if "pretrained.cls_token" in state and "depth_head.scratch.output_conv1.weight" in state:
        return depth_anything_v2.convert_checkpoint(state, name, max_depth, version)
    glpdepth_keys = {"decoder.bot_conv.weight", *(f"encoder.patch_embed{stage}.proj.weight" for stage in (1, 2, 3, 4))}
    if glpdepth_keys <= set(state):
        if version is not None:
            raise ValueError(f"{name} is a GLPDepth checkpoint, which has no version {version}: leave the version out.")
        return glpdepth.convert_checkpoint(state, name, max_depth)
    raise ValueError(
        f"{name} is not an official Depth Anything or GLPDepth checkpoint: expected keys such as "
        "pretrained.cls_token or decoder.bot_conv.weight; for other networks give a Hugging Face folder."
    )


keep_old_names(
    __name__,
    {
        "as_glpdepth_adds": "use_glpdepth_norms",
        "changes_there": "describe_glpdepth_changes",
        "config_of": "make_config",
        "held": "split_max_depth",
        "misfit": "find_misfit",
        "unlike_glpdepth": "find_glpdepth_difference",
    },
)
