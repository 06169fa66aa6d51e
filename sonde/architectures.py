"""Depth Anything V2's four sizes as transformers configs, and the official checkpoints' keys in transformers' names.

Sizes follow the paper's code: a DINOv2 encoder tapped at four layers, a DPT neck and head (arXiv 2406.09414).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoModel, DepthAnythingConfig


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


def depth_anything(size: str, *, max_depth: int | None = None) -> DepthAnythingConfig:
    """The config of a size: relative disparity (ReLU), or metric depth up to `max_depth` metres (sigmoid)."""
    shape = SIZES[size]
    backbone = {
        "model_type": "dinov2",
        "image_size": 518,
        "patch_size": 14,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "out_indices": list(shape.taps),
        "use_swiglu_ffn": shape.swiglu,
        "reshape_hidden_states": False,
    }
    return DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=shape.width,
        neck_hidden_sizes=list(shape.neck),
        fusion_hidden_size=shape.fusion,
        depth_estimation_type="relative" if max_depth is None else "metric",
        max_depth=max_depth or 1,
    )


def load_encoder(backbone: Any, name: str) -> None:
    """Give the encoder of a Depth Anything network DINOv2's weights.

    Args:
        backbone: a `Dinov2Backbone`; changed in place.
        name: a hub id such as facebook/dinov2-small (not the variants with registers), or a local folder.

    Raises:
        ValueError: nothing of that name, or an encoder of another size.
    """
    try:
        source = AutoModel.from_pretrained(name, local_files_only=Path(name).is_dir(), dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"model.encoder={name} could not be had ({str(error).splitlines()[0]}): expected a DINOv2 such as "
            "facebook/dinov2-small, or its local folder."
        ) from None
    if source.config.model_type != "dinov2":
        raise ValueError(
            f"model.encoder={name} is a {source.config.model_type} network: expected a DINOv2 without registers."
        )
    wanted, found = ((c.num_hidden_layers, c.hidden_size, c.image_size) for c in (backbone.config, source.config))
    if wanted != found:
        raise ValueError(
            f"model.encoder={name} has (layers, width, image size) {found}, and this model.size needs {wanted}: "
            "dinov2-small, -base, -large and -giant go with small, base, large and giant."
        )
    backbone.load_state_dict(source.state_dict())


def from_official(state: Mapping[str, Tensor], name: str) -> tuple[DepthAnythingConfig, dict[str, Tensor]]:
    """An official `depth_anything_v2_*.pth` as (config, state in transformers' names).

    The size is read from the class token's width; the range of a metric checkpoint from its file name, since the
    file itself does not hold it: 20 m for hypersim, 80 m for vkitti, as its authors' README runs them.

    Raises:
        ValueError: the keys are not those of a Depth Anything V2 checkpoint.
    """
    token = state.get("pretrained.cls_token")
    width = -1 if token is None else token.shape[-1]
    size = next((size for size, shape in SIZES.items() if shape.width == width), None)
    if size is None or "depth_head.scratch.output_conv1.weight" not in state:
        raise ValueError(
            f"{name} is not an official Depth Anything V2 checkpoint: expected keys such as pretrained.cls_token "
            "and depth_head.scratch.output_conv1.weight; for other networks give a Hugging Face folder."
        )
    max_depth = 20 if "hypersim" in name else 80 if "vkitti" in name else None
    if max_depth is None and "metric" in name:
        raise ValueError(
            f"{name} is a metric checkpoint of unknown range: put hypersim (20 m) or vkitti (80 m) in its name."
        )
    return depth_anything(size, max_depth=max_depth), _renamed(state)


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        for pattern, names in SPLITS.items():
            if match := re.fullmatch(pattern, key):
                parts = torch.chunk(value, len(names))
                renamed |= {match.expand(name): part.clone() for name, part in zip(names, parts, strict=True)}
                break
        else:
            renamed[_new_name(key)] = value
    return renamed


def _new_name(key: str) -> str:
    for pattern, name in RENAMES.items():
        key = re.sub(pattern, name, key)
    return re.sub(r"refinenet(\d)", lambda found: f"neck.fusion_stage.layers.{4 - int(found[1])}", key)


LAYER = r"pretrained\.blocks\.(?:\d+\.)?(\d+)\."
TARGET = r"backbone.encoder.layer.\1."
SPLITS: dict[str, tuple[str, ...]] = {
    # One fused matrix in the original, several here.
    LAYER + r"attn\.qkv\.(weight|bias)": tuple(TARGET + rf"attention.{p}_proj.\2" for p in "qkv"),
    LAYER + r"mlp\.w12\.(weight|bias)": (TARGET + r"mlp.gate_proj.\2", TARGET + r"mlp.up_proj.\2"),
}
RENAMES: dict[str, str] = {
    LAYER: TARGET,
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
}
