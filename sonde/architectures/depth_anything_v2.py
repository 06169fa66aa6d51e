"""Depth Anything V2: its four sizes as transformers configs, and its official checkpoints under transformers' names.

Sizes follow the paper's code: a DINOv2 encoder read at four layers, a DPT neck and head (arXiv 2406.09414). V1 (arXiv
2401.10891) is the same network read at its last four layers. Its files have the same names and shapes of tensors, so
that only a file's name, or the user, says which of the two it is.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor
from transformers import DepthAnythingConfig, PreTrainedModel

from sonde.architectures.foreign import Renames, load_foreign_encoder, rename_state, split_max_depth


class Size(NamedTuple):
    """One size of the family."""

    layers: int
    width: int
    heads: int
    taps: tuple[int, ...]
    """One-based tapped layers, as transformers' `out_indices` count them."""
    neck: tuple[int, ...]
    fusion: int
    released: str | None
    """Hub id of the released relative weights; Giant's never were."""
    swiglu: bool = False


RELEASED = "depth-anything/Depth-Anything-V2-{}-hf"
SIZES: dict[str, Size] = {
    "small": Size(12, 384, 6, (3, 6, 9, 12), (48, 96, 192, 384), 64, RELEASED.format("Small")),
    "base": Size(12, 768, 12, (3, 6, 9, 12), (96, 192, 384, 768), 128, RELEASED.format("Base")),
    "large": Size(24, 1024, 16, (5, 12, 18, 24), (256, 512, 1024, 1024), 256, RELEASED.format("Large")),
    "giant": Size(40, 1536, 24, (10, 20, 30, 40), (1536, 1536, 1536, 1536), 384, None, swiglu=True),
}


VERSIONS = ("v1", "v2")
FILES: dict[str, str] = {"v1": r"depth_anything_vit[sblg]14", "v2": r"depth_anything_v2_vit[sblg]"}
"""Version -> the names of its official files of relative depth, without suffix."""
COPIED = r"([_-](fp16|fp32|bf16))?( ?\(\d+\))?"
"""What other projects and browsers add to such a name."""


def depth_anything(size: str, *, max_depth: float | int | None = None, version: str = "v2") -> DepthAnythingConfig:
    """The config of a size: relative disparity (ReLU), or metric depth up to `max_depth` metres (sigmoid).

    A range that is not a whole number of metres is split by `split_max_depth`. `version` is v1 or v2.
    """
    shape = SIZES[size]
    taps = shape.taps if version == "v2" else tuple(range(shape.layers - 3, shape.layers + 1))
    backbone = {
        "model_type": "dinov2",
        "image_size": 518,
        "patch_size": 14,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "out_indices": list(taps),
        "use_swiglu_ffn": shape.swiglu,
        "reshape_hidden_states": False,
    }
    return DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=shape.width,
        neck_hidden_sizes=list(shape.neck),
        fusion_hidden_size=shape.fusion,
        depth_estimation_type="relative" if max_depth is None else "metric",
        max_depth=1 if max_depth is None else split_max_depth(max_depth)[0],
    )


def load_encoder(backbone: PreTrainedModel, name: str) -> None:
    """Copy DINOv2's weights into the encoder of a Depth Anything network.

    Args:
        backbone: a `Dinov2Backbone`; changed in place.
        name: a hub id such as facebook/dinov2-small (not the variants with registers), or a local folder.

    Raises:
        ValueError: no such encoder, or one of another size.
    """
    source = load_foreign_encoder(name, "dinov2", "a DINOv2 without registers, such as facebook/dinov2-small")
    wanted, found = ((c.num_hidden_layers, c.hidden_size, c.image_size) for c in (backbone.config, source.config))
    if wanted != found:
        raise ValueError(
            f"model.encoder={name} has (layers, width, image size) {found}, and this model.size needs {wanted}: "
            "dinov2-small, -base, -large and -giant go with small, base, large and giant."
        )
    backbone.load_state_dict(source.state_dict())


def convert_checkpoint(
    state: Mapping[str, Tensor], name: str, given: float | int | None, version: str | None = None
) -> tuple[DepthAnythingConfig, dict[str, Tensor], float]:
    """Convert an official `depth_anything_*.pth`, V1's or V2's; returns what `from_official` returns.

    A metric checkpoint's range is 20 m for hypersim and 80 m for vkitti, as in its authors' README.

    Raises:
        ValueError: an encoder of unknown width, a metric checkpoint of unknown range, or a file where neither the
            name nor the caller says what it is.
    """
    width = state["pretrained.cls_token"].shape[-1]
    size = next((size for size, shape in SIZES.items() if shape.width == width), None)
    if size is None:
        widths = ", ".join(str(shape.width) for shape in SIZES.values())
        raise ValueError(f"{name} has an encoder of width {width}: Depth Anything's are {widths}.")
    max_depth, version = _find_kind(name, size, given, version)
    scale = 1.0 if max_depth is None else split_max_depth(max_depth)[1]
    config = depth_anything(size, max_depth=max_depth, version=version)
    return config, rename_state(state, RENAMES, SPLITS), scale


def _find_kind(name: str, size: str, given: float | int | None, version: str | None) -> tuple[float | int | None, str]:
    """Metres at which a checkpoint's depth ends, None for a relative one; and its version."""
    official = next((key for key, stem in FILES.items() if re.fullmatch(stem + COPIED, Path(name).stem.lower())), None)
    metres = _find_range(name, given)
    if metres is None and official is None:
        metres = given
    if metres is not None:
        if version == "v1":
            raise ValueError(
                f"{name} would answer depth up to {metres:g} m, and V1's metric networks are other ones: leave out "
                "version=v1, or the depth."
            )
        return metres, "v2"
    if version is None and official is None:
        raise ValueError(_ask(name, size))
    return None, version or official or "v2"


def _ask(name: str, size: str) -> str:
    """The message for a file that may be V1's, V2's, or a metric fine-tune: their tensors have the same shapes."""
    letter = size[0]
    return (
        f"{name} is a checkpoint of Depth Anything, and neither its name nor its tensors say which: if it answers "
        "metres, give where they end as --max_depth 20 (max_depth=20 in Python, model.max_depth=20 in a recipe); if it "
        f"answers relative depth, give its version as '{name}?version=v2' or v1 (model.version=v2 in a recipe), or "
        f"rename it depth_anything_v2_vit{letter}{Path(name).suffix} or depth_anything_vit{letter}14"
        f"{Path(name).suffix}."
    )


def _find_range(name: str, given: float | int | None) -> float | int | None:
    """Metres at which a checkpoint's depth ends, as far as its name says; None if the name says nothing of metres."""
    word = name.lower()
    # The file holds no range, and a given range cannot correct a published one: the name goes first.
    if "hypersim" in word:
        return 20
    if "vkitti" in word:
        return 80
    if "metric" not in word:
        return None
    if given is None:
        raise ValueError(
            f"{name} is a metric checkpoint of unknown range: give it as --max_depth 80 (max_depth=80 in Python, "
            "model.max_depth=80 in a recipe), or put hypersim (20 m) or vkitti (80 m) in its name."
        )
    return given


SPLITS: dict[str, tuple[str, ...]] = {
    # One fused matrix in the original, several here.
    ".attn.qkv.": (".attention.q_proj.", ".attention.k_proj.", ".attention.v_proj."),
    ".mlp.w12.": (".mlp.gate_proj.", ".mlp.up_proj."),
}
RENAMES: Renames = {
    r"pretrained\.blocks\.(?:\d+\.)?(\d+)\.": r"backbone.encoder.layer.\1.",
    r"attn\.proj\.": "attention.o_proj.",
    r"mlp\.w3\.": "mlp.down_proj.",
    r"ls(\d)\.gamma": r"layer_scale\1.lambda1",
    r"pretrained\.(cls_token|mask_token)": r"backbone.embeddings.\1",
    r"pretrained\.pos_embed": "backbone.embeddings.position_embeddings",
    r"pretrained\.patch_embed\.proj": "backbone.embeddings.patch_embeddings.projection",
    r"pretrained\.norm": "backbone.layernorm",
    r"depth_head\.projects\.(\d)": r"neck.reassemble_stage.layers.\1.projection",
    r"depth_head\.resize_layers\.(\d)": r"neck.reassemble_stage.layers.\1.resize",
    r"depth_head\.scratch\.layer1_rn": "neck.convs.0",
    r"depth_head\.scratch\.layer2_rn": "neck.convs.1",
    r"depth_head\.scratch\.layer3_rn": "neck.convs.2",
    r"depth_head\.scratch\.layer4_rn": "neck.convs.3",
    r"depth_head\.scratch\.output_conv1": "head.conv1",
    r"depth_head\.scratch\.output_conv2\.0": "head.conv2",
    r"depth_head\.scratch\.output_conv2\.2": "head.conv3",
    r"depth_head\.scratch\.": "",
    r"resConfUnit(\d)\.conv(\d)": r"residual_layer\1.convolution\2",
    r"\.out_conv\.": ".projection.",
    r"refinenet(\d)": lambda found: f"neck.fusion_stage.layers.{4 - int(found[1])}",
}
