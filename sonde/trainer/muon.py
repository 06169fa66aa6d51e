"""Muon: the step of each matrix made orthogonal, so that all its directions learn alike; AdamW for everything else."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that lifts every singular value near 1 in five rounds (Jordan et al. 2024)."""

MATRIX = (16, 32)
"""The least outputs and inputs of what counts as a matrix; smaller ones have no directions to speak of."""


class Muon(Optimizer):
    """A matrix moves by `rate · 0.2 √max(rows, columns) · orthogonal(momentum)`, anything else as AdamW moves it.

    The factor gives a matrix's step the size of AdamW's (Liu et al. 2025), so one learning rate and one decoupled
    weight decay serve both. A convolution is the matrix of its outputs by all its inputs. `torch.optim.Muon` takes
    linear layers alone, and orthogonalises in bfloat16 everywhere, which a CPU without it emulates at a twentieth of
    the speed; here such a CPU does it in float32, and one that has it in bfloat16, three to four times as fast.

    Args:
        params: parameters, or groups of them as any optimizer takes.
        lr: learning rate.
        betas: AdamW's, for what is no matrix.
        eps: AdamW's.
        weight_decay: share of each weight taken at each step, times the learning rate.
        momentum: of the matrices' gradients, looked at ahead as Nesterov does.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ):
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of every parameter that has a gradient."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for value in group["params"]:
                if value.grad is not None:
                    move = _turned if is_matrix(value) else _adaptive
                    value.mul_(1 - group["lr"] * group["weight_decay"])
                    value.sub_(move(value.grad, self.state[value], group), alpha=group["lr"])
        return loss


def is_matrix(value: Tensor) -> bool:
    """Whether a parameter is stepped orthogonally: enough outputs, and enough inputs to each."""
    return value.ndim >= 2 and len(value) >= MATRIX[0] and value[0].numel() >= MATRIX[1]


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """U Vᵀ of a matrix U S Vᵀ, roughly: singular values between 0.7 and 1.2, by Newton and Schulz's iteration.

    It is done in the matrix's own precision; bfloat16 is enough for a step.
    """
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)
    wide = len(x) <= x.shape[1]
    x = x if wide else x.T
    for _ in range(rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.T


def _turned(gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
    kept = state.setdefault("momentum", torch.zeros_like(gradient))
    kept.lerp_(gradient, 1 - group["momentum"])
    ahead = gradient.lerp(kept, group["momentum"]).flatten(1)
    quick = ahead.is_cuda or torch.cpu._is_avx512_bf16_supported()
    turned = orthogonal(ahead.bfloat16() if quick else ahead.float()).to(gradient.dtype)
    return turned.reshape(gradient.shape) * (0.2 * max(ahead.shape) ** 0.5)


def _adaptive(gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
    """Kingma and Ba's step, their averages corrected for having begun at 0."""
    if not state:
        state |= {"step": torch.zeros(()), "mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
    first, second = cast(tuple[float, float], group["betas"])
    step = state["step"].add_(1).item()
    mean = state["mean"].lerp_(gradient, 1 - first)
    square = state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    return (mean / (1 - first**step)).div_((square / (1 - second**step)).sqrt_().add_(group["eps"]))
