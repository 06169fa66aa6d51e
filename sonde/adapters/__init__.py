"""LoRA by PEFT on any depth network, under the layer names of transformers 4 or 5, and a fitted start for its output.

Linear layers and convolutions get adapters. For a convolution, PEFT adds one with the same kernel to r channels and a
1x1 convolution back. Depthwise convolutions get none: each of their kernels reads one channel, so there is no rank to
reduce.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from sonde.adapters.spelling import SPELLINGS, choose_targets, match_targets, respell_settings
from sonde.adapters.wrapping import find_base, is_adapted
from sonde.renamed import aliases

if TYPE_CHECKING:
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
    from sonde.adapters.stored import load_adapter

__all__ = [
    "SPELLINGS",
    "STARTS",
    "PeftModel",
    "QuickDropout",
    "add_lora",
    "check_keys",
    "choose_targets",
    "find_base",
    "fit_start",
    "fold_affine",
    "freeze_norms",
    "is_adapted",
    "load_adapter",
    "match_targets",
    "respell_settings",
]

NEEDS_PEFT: dict[str, str] = {
    "PeftModel": "peft",
    "STARTS": "sonde.adapters.lora",
    "QuickDropout": "sonde.adapters.lora",
    "add_lora": "sonde.adapters.lora",
    "check_keys": "sonde.adapters.lora",
    "fit_start": "sonde.adapters.lora",
    "fold_affine": "sonde.adapters.lora",
    "freeze_norms": "sonde.adapters.lora",
    "load_adapter": "sonde.adapters.stored",
}
"""Name → the module that holds it; imported at its first use, since it imports PEFT."""

_find_renamed = aliases(
    __name__, {"affine_start": "fold_affine", "spelled": "match_targets", "usual_targets": "choose_targets"}
)


if not TYPE_CHECKING:  # type checkers see the imports above, and report a name that is in neither table

    def __getattr__(name: str) -> object:
        if name not in NEEDS_PEFT:
            return _find_renamed(name)
        return getattr(import_module(NEEDS_PEFT[name]), name)
