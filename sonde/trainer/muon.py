"""Muon: the step of each matrix made orthogonal, so that all its directions learn alike; AdamW for everything else."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that lifts every singular value near 1 in five rounds (Jordan et al. 2024)."""

MATRIX = (16, 32)
"""The least outputs and inputs of a matrix that is stepped orthogonally; a smaller one is stepped by AdamW."""


# torch.optim.Muon cannot stand in for this class: it refuses convolutions and everything else that is not 2-D, has no
# AdamW for them, and orthogonalises in bfloat16 everywhere, which a CPU without bfloat16 emulates at a twentieth of the
# speed. Where both apply, their weights agree to 6e-8 and not to the bit: its momentum is the same, its rounding not.
class Muon(Optimizer):
    """A matrix moves by `rate · 0.2 √max(rows, columns) · orthogonalise(momentum)`, anything else as AdamW moves it.

    The factor gives a matrix's step the size of AdamW's (Liu et al. 2025), so one learning rate and one decoupled
    weight decay serve both. A convolution is the matrix of its outputs by all its inputs.

    Args:
        params: parameters, or groups of them as any optimizer takes.
        lr: learning rate.
        betas: AdamW's, for what is no matrix.
        eps: AdamW's.
        weight_decay: share of each weight taken at each step, times the learning rate.
        momentum: of the matrices' gradients, with Nesterov's look-ahead.
    """

    def __init__(
        self,
        params: ParamsT,
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
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of every parameter that has a gradient."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for value in group["params"]:
                if value.grad is None:
                    continue
                if is_matrix(value):
                    move = _move_matrix(value.grad, self.state[value], group["momentum"])
                else:
                    move = _move_as_adamw(value.grad, self.state[value], group["betas"], group["eps"])
                value.mul_(1 - group["lr"] * group["weight_decay"])
                value.sub_(move, alpha=group["lr"])
        return loss


def is_matrix(value: Tensor) -> bool:
    """Whether a parameter is stepped orthogonally: enough outputs, and enough inputs to each."""
    return value.ndim >= 2 and len(value) >= MATRIX[0] and value[0].numel() >= MATRIX[1]


def orthogonalise(matrix: Tensor, rounds: int = 5) -> Tensor:
    """U Vᵀ of a matrix U S Vᵀ, roughly: singular values between 0.7 and 1.2, by Newton and Schulz's iteration.

    It is done in the matrix's own precision; bfloat16 is enough for a step.
    """
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)
    wide = len(x) <= x.shape[1]
    x = x if wide else x.T  # the smaller of the two Gram matrices
    for _ in range(rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.T


def _move_matrix(gradient: Tensor, state: dict[str, Tensor], momentum: float) -> Tensor:
    kept = state.setdefault("momentum", torch.zeros_like(gradient))
    kept.lerp_(gradient, 1 - momentum)
    ahead = gradient.lerp(kept, momentum).flatten(1)
    # A CPU without bfloat16 works in float32; one that has it is three to four times as fast with it.
    quick = ahead.is_cuda or torch.cpu._is_avx512_bf16_supported()
    turned = orthogonalise(ahead.bfloat16() if quick else ahead.float()).to(gradient.dtype)
    return turned.reshape(gradient.shape) * (0.2 * max(ahead.shape) ** 0.5)


def _move_as_adamw(gradient: Tensor, state: dict[str, Tensor], betas: tuple[float, float], eps: float) -> Tensor:
    """Kingma and Ba's step, with both averages corrected for their start at 0."""
    if not state:
        state |= {"step": torch.zeros(()), "mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
    first, second = betas
    step = state["step"].add_(1).item()
    mean = state["mean"].lerp_(gradient, 1 - first)
    square = state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    return (mean / (1 - first**step)).div_((square / (1 - second**step)).sqrt_().add_(eps))
