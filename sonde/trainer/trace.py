"""One batch again, watched: which pixels, which module, which loss term and which gradient first was not finite.

Hooks on every module are dear, so a step is never watched the first time: only a batch that went wrong is run again,
from the same weights and with the same luck, and what it shows here goes into the black box.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sonde import losses
from sonde.tensors import Batch, Depth
from sonde.trainer.objective import Objective

HALF = 65504.0
"""The largest finite number of float16."""


@dataclass(frozen=True)
class NonFiniteValue:
    """Where numbers first stopped being finite."""

    module: str
    """Its name in the network; `prediction` for the answer that the losses see."""
    kind: str
    """Its class."""
    dtype: str
    """Of what was not finite, as torch names it without `torch.`"""
    largest: float
    """The largest finite magnitude beside what was not finite."""
    inputs_finite: bool
    """Whether what came in was still finite; else the fault lies in the code between this module and the one before."""

    @property
    def overflow(self) -> bool:
        """Whether it is half precision that ended here: what is finite comes near its largest number, not beyond."""
        return self.inputs_finite and (self.dtype == "float16" or HALF / 8 < self.largest <= HALF)


@dataclass
class BatchTrace:
    """What one batch showed when it was run again."""

    captures: list[str]
    """Ids, in the batch's order."""
    indices: list[int]
    """Positions in the set, in the same order."""
    epoch: int
    """With the recipe's seed and the indices, all that the samples are a function of."""
    image: list[str] = field(default_factory=list)
    """Captures whose image was not finite."""
    depth: list[str] = field(default_factory=list)
    """Captures whose trusted depth was not finite or not above 0."""
    terms: dict[str, list[float]] = field(default_factory=dict)
    """One value per image of every weighted loss."""
    zeros: list[str] = field(default_factory=list)
    """Losses that turn finite where every target is trusted and above 0: logarithms of nothing."""
    forward: NonFiniteValue | None = None
    """The first module, in the order of execution, whose output was not finite."""
    backward: NonFiniteValue | None = None
    """The first, in the order of the backward pass, the gradient of whose output was not finite."""
    gradients: list[str] = field(default_factory=list)
    """The first of the weights whose gradient was not finite."""
    process: int = 0
    """Which of several processes saw it."""

    @property
    def finite(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.image or self.depth or self.bad_terms or self.forward or self.backward or self.gradients)

    @property
    def bad_terms(self) -> dict[str, list[str]]:
        """Losses that were not finite, each with the captures."""
        found = {name: _where(torch.tensor(values), self.captures) for name, values in self.terms.items()}
        return {name: captures for name, captures in found.items() if captures}


def trace(
    objective: Objective, network: nn.Module, sample: Batch, captures: Sequence[str], scale: float = 1.0
) -> BatchTrace:
    """Forward and backward of one batch under watch; gradients are left on the network.

    Args:
        objective: what a step minimises.
        network: in training mode, unwrapped.
        sample: the batch, on the network's device.
        captures: ids of its images.
        scale: what the loss is multiplied with before the backward pass, as half precision does.
    """
    epochs, indices = origin(sample)
    batch = BatchTrace(list(captures), indices, epochs[0])
    batch.image, batch.depth = _where(sample["image"], captures), _where(_positive(sample), captures)
    with _watched(network) as watch:
        pred, terms = objective(network, sample)
        watch.output("prediction", pred, "the losses", pred)
        loss = torch.stack([term.mean() for term in terms.values()]).sum() * scale
        loss.backward()
    batch.terms = {name: term.detach().tolist() for name, term in terms.items()}
    batch.zeros = _zeros(objective, pred.detach(), sample, batch.bad_terms)
    batch.forward, batch.backward = watch.forward, watch.backward
    named = [(name, value.grad) for name, value in network.named_parameters() if value.grad is not None]
    batch.gradients = [name for name, gradient in reversed(named) if not _finite([gradient])][:5]
    return batch


def origin(sample: Batch) -> tuple[list[int], list[int]]:
    """Epochs of a batch's images, and their positions in the set."""
    assert "origin" in sample, "a batch of DepthDataset says where it comes from"
    epochs, indices = sample["origin"].T.tolist()
    return epochs, indices


class _Watch:
    """The first fault either way."""

    def __init__(self) -> None:
        self.forward: NonFiniteValue | None = None
        self.backward: NonFiniteValue | None = None

    def output(self, name: str, output: Any, kind: str, inputs: Any) -> None:
        """What a module answers: judged now, its gradient when it comes."""
        tensors = _floats(output)
        if self.forward is None and not _finite(tensors):
            self.forward = _fault(name, kind, tensors, _finite(_floats(inputs)))
        for tensor in tensors:
            if tensor.requires_grad:
                tensor.register_hook(partial(self.gradient, name, kind))

    def gradient(self, name: str, kind: str, gradient: Tensor) -> None:
        """The gradient of what a module answered."""
        if self.backward is None and not _finite([gradient]):
            self.backward = _fault(name, kind, [gradient], True)


@contextmanager
def _watched(network: nn.Module) -> Iterator[_Watch]:
    watch = _Watch()

    def hook(name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        watch.output(name, output, type(module).__name__, (args, kwargs))

    handles = [
        module.register_forward_hook(partial(hook, name), with_kwargs=True) for name, module in network.named_modules()
    ]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()


def _fault(name: str, kind: str, tensors: list[Tensor], inputs_finite: bool) -> NonFiniteValue:
    bad = next(tensor for tensor in tensors if not _finite([tensor])).detach()
    finite = bad[bad.isfinite()].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    return NonFiniteValue(name, kind, str(bad.dtype).removeprefix("torch."), largest, inputs_finite)


def _floats(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def _where(values: Tensor, captures: Sequence[str]) -> list[str]:
    """Captures whose part of (b, ...) is not finite."""
    sound = values.detach().flatten(1).isfinite().all(1) if values.ndim > 1 else values.isfinite()
    return [name for name, fine in zip(captures, sound.tolist(), strict=True) if not fine]


def _positive(sample: Batch) -> Depth:
    """The trusted depth, NaN where it is not above 0."""
    depth = torch.where(sample["mask"], sample["depth"], 1.0)
    return torch.where(depth > 0, depth, torch.nan)


def _zeros(objective: Objective, pred: Depth, sample: Batch, bad: Iterable[str]) -> list[str]:
    names = [name for name in bad if name in objective.weights]
    target = objective.target(sample["depth"], sample["mask"]).clamp_min(1e-3)
    again = losses.weigh(pred, target, torch.ones_like(sample["mask"]), {name: 1 for name in names})
    return [name for name in names if _finite([again[name]])]
