"""LoRA by PEFT on any depth network, under the layer names of transformers 4 or 5, and a fitted start for its output.

Linear layers and convolutions get adapters. For a convolution, PEFT adds one with the same kernel to r channels and a
1x1 convolution back. Depthwise convolutions get none: each of their kernels reads one channel, so there is no rank to
reduce.
"""

from peft import PeftModel as PeftModel

from sonde.adapters.lora import (
    STARTS,
    QuickDropout,
    add_lora,
    check_keys,
    fit_start,
    fold_affine,
    freeze_norms,
)
from sonde.adapters.spelling import SPELLINGS, choose_targets, match_targets, respell_settings
from sonde.adapters.stored import load_adapter
from sonde.renamed import keep_old_names

__all__ = [
    "SPELLINGS",
    "STARTS",
    "PeftModel",
    "QuickDropout",
    "add_lora",
    "check_keys",
    "choose_targets",
    "fit_start",
    "fold_affine",
    "freeze_norms",
    "load_adapter",
    "match_targets",
    "respell_settings",
]

keep_old_names(__name__, {"affine_start": "fold_affine", "spelled": "match_targets", "usual_targets": "choose_targets"})
