"""A LoRA layer's forward and backward pass with few passes over its activations; the same values as PEFT's own."""

from typing import Any

import numpy as np
import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.nn import functional

Context = Any
"""What torch gives the two passes of a function to share; its own class does not name what it holds."""


def draw_kept(like: Tensor, p: float) -> Tensor:
    """1 for the elements that dropout at rate `p` keeps and 0 for the others, in the shape and type of a CPU tensor.

    16 bits are drawn per element: torch's own draw runs on one core, 5 % of a training step. torch's generator gives
    the seed, so that a resumed run draws the same; the rate is rounded to 1/65536.
    """
    count, seed = like.numel(), int(torch.empty((), dtype=torch.int64).random_())
    # Each 64-bit draw serves four elements, as four signed 16-bit integers.
    draws = np.random.SFC64(seed).random_raw(-(-count // 4)).view(np.int16)[:count]
    kept = torch.empty(like.shape, dtype=like.dtype)
    return torch.ge(torch.from_numpy(draws).view(like.shape), round(p * 2**16) - 2**15, out=kept)


class QuickLinear(Linear):
    """PEFT's adapted linear layer, whose step on a CPU in float32 is one function with its gradient written out."""

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """As PEFT's: base(x) + scaling · B(A(dropout(x)))."""
        name = self._find_plain()
        if name is None or args or kwargs or not _is_plain(x):
            return super().forward(x, *args, **kwargs)
        down, up, drop = self.lora_A[name], self.lora_B[name], self.lora_dropout[name]
        rate = drop.p if isinstance(drop, nn.Dropout) and drop.training else 0.0
        kept = draw_kept(x, rate) if rate else None
        base = self.base_layer
        result = _AdaptedLinear.apply(
            x, base.weight, base.bias, down.weight, up.weight, kept, self.scaling[name] / (1 - rate)
        )
        assert isinstance(result, Tensor)
        return result

    def _find_plain(self) -> str | None:
        """The one adapter that trains beside a frozen base, in the form that the function knows; else None."""
        if not self.training or self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return None
        [name] = self.active_adapters
        if name not in self.lora_A or name in self.lora_variant:
            return None
        parts = [self.base_layer, self.lora_A[name], self.lora_B[name], self.lora_dropout[name]]
        # A hook, such as those that look for the first number that is not finite, wants to see each part by itself.
        if any(part._forward_hooks or part._forward_pre_hooks for part in parts):
            return None
        base, down, up, _ = parts
        weights = [part.get_parameter("weight") for part in (base, down, up)]
        frozen = not any(value.requires_grad for value in base.parameters())
        plain = type(base) is nn.Linear and down.bias is None and up.bias is None and all(map(_is_plain, weights))
        return name if frozen and plain else None


def _is_plain(value: Tensor) -> bool:
    return value.dtype == torch.float32 and value.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


class _AdaptedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Context,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        kept: Tensor | None,
        scaling: float,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if kept is not None:
            kept = kept.view(rows.shape)
        seen = rows if kept is None else rows * kept
        inner = seen @ down.T
        ctx.save_for_backward(weight, down, up, kept, seen, inner)
        ctx.scaling = scaling
        result = functional.linear(rows, weight, bias).addmm_(inner, up.T, alpha=scaling)
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, down, up, kept, seen, inner = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        back = rows @ (up * ctx.scaling)
        own = None
        if ctx.needs_input_grad[0]:
            own = back @ down
            if kept is not None:
                own.mul_(kept)
            own = own.addmm_(rows, weight).view(*gradient.shape[:-1], -1)
        return own, None, None, back.T @ seen, (rows.T @ inner).mul_(ctx.scaling), None, None
