"""GLPDepth's network in plain PyTorch, from its paper and the names in its checkpoints, without transformers' code.

A Mix Transformer (arXiv 2105.15203) of heads 1, 2, 5 and 8, whose keys and values are made from a map reduced 8, 4, 2
and 1 times, and the decoder of GLPN (arXiv 2201.07436). The layer norms of layers and stages add 1e-6 to the variance,
those of patches and keys torch's 1e-5.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

HEADS, REDUCED, STRIDES = (1, 2, 5, 8), (8, 4, 2, 1), (4, 2, 2, 2)


def double(x: Tensor) -> Tensor:
    """Twice the size, bilinearly."""
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def layer(width: int, reduced: int, epsilon: float) -> nn.ModuleDict:
    """Attention and a feed-forward part."""
    attention: dict[str, nn.Module] = {"q": nn.Linear(width, width), "kv": nn.Linear(width, 2 * width)}
    attention["proj"] = nn.Linear(width, width)
    if reduced > 1:
        attention |= {"sr": nn.Conv2d(width, width, reduced, reduced), "norm": nn.LayerNorm(width)}
    wide = 4 * width
    filtered = nn.ModuleDict({"dwconv": nn.Conv2d(wide, wide, 3, padding=1, groups=wide)})
    forward = {"fc1": nn.Linear(width, wide), "dwconv": filtered, "fc2": nn.Linear(wide, width)}
    norms = {name: nn.LayerNorm(width, eps=epsilon) for name in ("norm1", "norm2")}
    return nn.ModuleDict({**norms, "attn": nn.ModuleDict(attention), "mlp": nn.ModuleDict(forward)})


def encoder(widths: Sequence[int], depths: Sequence[int], epsilon: float) -> nn.ModuleDict:
    """Four stages: patches, layers, a norm."""
    parts: dict[str, nn.Module] = {}
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        side, channels = (3, widths[stage - 1]) if stage else (7, 3)
        patches = nn.Conv2d(channels, width, side, STRIDES[stage], padding=side // 2)
        parts[f"patch_embed{stage + 1}"] = nn.ModuleDict({"proj": patches, "norm": nn.LayerNorm(width)})
        parts[f"block{stage + 1}"] = nn.ModuleList(layer(width, REDUCED[stage], epsilon) for _ in range(depth))
        parts[f"norm{stage + 1}"] = nn.LayerNorm(width, eps=epsilon)
    return nn.ModuleDict(parts)


def decoder(widths: Sequence[int], width: int) -> nn.ModuleDict:
    """1x1 convolutions of three stages, and three fusions; the first stage is as wide as the decoder."""
    assert widths[0] == width
    parts: dict[str, nn.Module] = {}
    for name, channels in zip(("bot_conv", "skip_conv1", "skip_conv2"), widths[:0:-1], strict=True):
        parts[name] = nn.Conv2d(channels, width, 1)
    for fusion in (1, 2, 3):
        steps = nn.ModuleDict({"conv3": nn.Conv2d(width // 2, 2, 3, padding=1)})
        for step, (inner, outer) in enumerate(((2 * width, width), (width, width // 2)), 1):
            steps[f"conv{step}"] = nn.Sequential(
                nn.Conv2d(inner, outer, 3, padding=1), nn.BatchNorm2d(outer), nn.ReLU()
            )
        parts[f"fusion{fusion}"] = steps
    return nn.ModuleDict(parts)


def attend(parts: Any, x: Tensor, size: tuple[int, int], heads: int) -> Tensor:
    """Attention of all tokens (b, n, c) to the reduced map."""

    def split(tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)

    seen = x
    if "sr" in parts:
        seen = parts["norm"](parts["sr"](x.mT.unflatten(-1, size)).flatten(2).mT)
    key, value = parts["kv"](seen).chunk(2, dim=-1)
    mixed = functional.scaled_dot_product_attention(split(parts["q"](x)), split(key), split(value))
    return parts["proj"](mixed.transpose(1, 2).flatten(2))


def feed(parts: Any, x: Tensor, size: tuple[int, int]) -> Tensor:
    """The feed-forward part, whose 3x3 convolution tells the tokens where they are."""
    wide = parts["dwconv"]["dwconv"](parts["fc1"](x).mT.unflatten(-1, size))
    return parts["fc2"](functional.gelu(wide.flatten(2).mT))


class GLPDepth(nn.Module):
    """Images (b, 3, h, w) in [0, 1], sides multiples of 32, to metres (b, h, w)."""

    def __init__(
        self, widths: Sequence[int], depths: Sequence[int], width: int, max_depth: float, epsilon: float = 1e-6
    ):
        super().__init__()
        self.max_depth = max_depth
        self.encoder = encoder(widths, depths, epsilon)
        self.decoder = decoder(widths, width)
        self.last_layer_depth = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 3, padding=1)
        )

    def forward(self, image: Tensor) -> Tensor:
        """The answer."""
        own: Any = self.decoder
        maps = self.stages(image)
        x = double(own["bot_conv"](maps[3]))
        for fusion in (1, 2, 3):
            local = maps[3 - fusion] if fusion == 3 else own[f"skip_conv{fusion}"](maps[3 - fusion])
            steps, both = own[f"fusion{fusion}"], torch.cat([local, x], dim=1)
            near, far = torch.sigmoid(steps["conv3"](steps["conv2"](steps["conv1"](both)))).split(1, dim=1)
            x = double(near * local + far * x)
        return torch.sigmoid(self.last_layer_depth(double(x)))[:, 0] * self.max_depth

    def stages(self, x: Tensor) -> list[Tensor]:
        """The maps of the four stages."""
        own: Any = self.encoder
        maps = []
        for stage in (1, 2, 3, 4):
            x = own[f"patch_embed{stage}"]["proj"](x)
            size = (x.shape[2], x.shape[3])
            x = own[f"patch_embed{stage}"]["norm"](x.flatten(2).mT)
            for part in own[f"block{stage}"]:
                x = x + attend(part["attn"], part["norm1"](x), size, HEADS[stage - 1])
                x = x + feed(part["mlp"], part["norm2"](x), size)
            x = own[f"norm{stage}"](x).mT.unflatten(-1, size).contiguous()
            maps.append(x)
        return maps
