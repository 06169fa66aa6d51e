"""stub"""

import torch
from sonde.types import Depth, Mask, PerImage


def centre(values: Depth, mask: Mask) -> PerImage:
    hidden = torch.where(mask, values, torch.nan).flatten(1)
    lower = hidden.nanmedian(1).values
    upper = -(-hidden).nanmedian(1).values
    return torch.where(mask.flatten(1).any(1), (lower + upper) / 2, 0.0)
