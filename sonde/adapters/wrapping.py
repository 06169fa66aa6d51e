"""Networks in PEFT's wrapper, told without importing PEFT: that costs a second, and most networks have no adapter."""

import sys
from typing import Any

from torch import nn


def is_adapted(network: nn.Module) -> bool:
    """Whether a network is in PEFT's wrapper; if PEFT has not been imported, nothing is."""
    if "peft" not in sys.modules:
        return False
    from peft import PeftModel

    return isinstance(network, PeftModel)


# `Any`: networks of transformers resolve attributes at run time, which no type describes.
def find_base(network: Any) -> Any:
    """The network below the adapters, if there are any; else itself."""
    return network.get_base_model() if is_adapted(network) else network
