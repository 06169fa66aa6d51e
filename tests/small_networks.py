"""Networks of the real architectures, small enough for a test, drawn from a seed."""

from copy import deepcopy
from pathlib import Path

import torch
from transformers import AutoModelForDepthEstimation, DepthAnythingConfig, GLPNConfig

from sonde import models


def small_glpn(**changes) -> GLPNConfig:
    """Four stages of one block."""
    shape = {"hidden_sizes": (8, 16, 24, 32), "num_attention_heads": (1, 1, 1, 2), "depths": (1, 1, 1, 1)}
    return GLPNConfig(**shape, decoder_hidden_size=8, max_depth=1, drop_path_rate=0.0, **changes)


def small_depth_anything(**changes) -> DepthAnythingConfig:
    """Four layers, each tapped."""
    backbone = {
        "model_type": "dinov2",
        "image_size": 56,
        "patch_size": 14,
        "hidden_size": 24,
        "num_attention_heads": 2,
        "num_hidden_layers": 4,
        "out_indices": [1, 2, 3, 4],
        "reshape_hidden_states": False,
    }
    return DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=24,
        neck_hidden_sizes=[8, 12, 16, 24],
        fusion_hidden_size=8,
        head_hidden_size=8,
        **changes,
    )


GLPN, DEPTH_ANYTHING = small_glpn(), small_depth_anything()
CONFIGS = {"glpn": GLPN, "depth_anything": DEPTH_ANYTHING}


def saved(family: str, folder: Path) -> Path:
    """A Hugging Face folder of the family, always of the same weights."""
    torch.manual_seed(0)
    network = AutoModelForDepthEstimation.from_config(deepcopy(CONFIGS[family]))  # a model writes into its own
    models.reinit_head(network)
    network.save_pretrained(folder)
    return folder
