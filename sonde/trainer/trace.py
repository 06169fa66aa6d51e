"""One batch again, watched: which pixels, which module, which loss term and which gradient first was not finite.

Hooks on every module are slow, so a step is never watched the first time: only a batch that went wrong is run again,
from the same weights and the same random state, and its trace goes into the black box.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

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
    """Of the tensor that was not finite, as torch names it without `torch.`"""
    largest: float
    """The largest finite magnitude in the same tensor."""
    inputs_finite: bool
    """Whether the module's inputs were still finite; if not, the fault lies in the code before this module."""

    @property
    def overflow(self) -> bool:
        """Whether half precision overflowed here: what is finite comes near its largest number, and not beyond."""
        return self.inputs_finite and (self.dtype == "float16" or HALF / 8 < self.largest <= HALF)


@dataclass
class BatchTrace:
    """What one batch showed when it was run again."""

    captures: list[str]
    """Ids, in the batch's order."""
    indices: list[int]
    """Positions in the set, in the same order."""
    epoch: int
    """The recipe's seed, the epoch and the indices determine the samples."""
    image: list[str] = field(default_factory=list)
    """Captures whose image was not finite."""
    depth: list[str] = field(default_factory=list)
    """Captures whose trusted depth was not finite or not above 0."""
    terms: dict[str, list[float]] = field(default_factory=dict)
    """One value per image of every weighted loss."""
    zeros: list[str] = field(default_factory=list)
    """Losses that turn finite where every target is trusted and above 0: they took the logarithm of 0."""
    forward: NonFiniteValue | None = None
    """The first module, in the order of execution, whose output was not finite."""
    backward: NonFiniteValue | None = None
    """The first module, in the order of the backward pass, whose output's gradient was not finite."""
    gradients: list[str] = field(default_factory=list)
    """The first of the weights whose gradient was not finite."""
    process: int = 0
    """The number of the process that saw it."""

    @property
    def finite(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.image or self.depth or self.bad_terms or self.forward or self.backward or self.gradients)

    @property
    def bad_terms(self) -> dict[str, list[str]]:
        """Losses that were not finite, each with the captures."""
        found = {name: _list_bad(torch.tensor(values), self.captures) for name, values in self.terms.items()}
        return {name: captures for name, captures in found.items() if captures}


def trace(
    objective: Objective, network: nn.Module, sample: Batch, captures: Sequence[str], scale: float = 1.0
) -> BatchTrace:
    """Run forward and backward of one batch under watch; gradients are left on the network.

    Args:
        objective: what a step minimises.
        network: in training mode, unwrapped.
        sample: the batch, on the network's device.
        captures: ids of its images.
        scale: factor of the loss before the backward pass, as half precision has it.
    """
    epochs, indices = read_origin(sample)
    batch = BatchTrace(list(captures), indices, epochs[0])
    batch.image, batch.depth = _list_bad(sample["image"], captures), _list_bad(_mark_depth(sample), captures)
    with _watch(network) as watch:
        pred, terms = objective(network, sample)
        watch.check_output("prediction", pred, "the losses", pred)
        loss = torch.stack([term.mean() for term in terms.values()]).sum() * scale
        loss.backward()
    batch.terms = {name: term.detach().tolist() for name, term in terms.items()}
    batch.zeros = _find_logarithms_of_zero(objective, pred.detach(), sample, batch.bad_terms)
    batch.forward, batch.backward = watch.forward, watch.backward
    named = [(name, value.grad) for name, value in network.named_parameters() if value.grad is not None]
    # The backward pass meets the last weights first, and five names say enough.
    batch.gradients = [name for name, gradient in reversed(named) if not _are_finite([gradient])][:5]
    return batch


def read_origin(sample: Batch) -> tuple[list[int], list[int]]:
    """Epochs of a batch's images, and their positions in the set."""
    assert "origin" in sample, "DepthDataset gives every sample its origin"
    epochs, indices = sample["origin"].T.tolist()
    return epochs, indices


class _Watch:
    """The first fault of each pass."""

    def __init__(self) -> None:
        self.forward: NonFiniteValue | None = None
        self.backward: NonFiniteValue | None = None

    def check_output(self, name: str, output: object, kind: str, inputs: object) -> None:
        """Check a module's output now, and its gradient when it comes."""
        tensors = _select_floats(output)
        if self.forward is None and not _are_finite(tensors):
            self.forward = _describe_fault(name, kind, tensors, _are_finite(_select_floats(inputs)))
        for tensor in tensors:
            if tensor.requires_grad:
                tensor.register_hook(partial(self.check_gradient, name, kind))

    def check_gradient(self, name: str, kind: str, gradient: Tensor) -> None:
        """Check the gradient of a module's output."""
        if self.backward is None and not _are_finite([gradient]):
            self.backward = _describe_fault(name, kind, [gradient], True)


@contextmanager
def _watch(network: nn.Module) -> Iterator[_Watch]:
    watch = _Watch()

    def hook(name: str, module: nn.Module, args: object, kwargs: object, output: object) -> None:
        watch.check_output(name, output, type(module).__name__, (args, kwargs))

    handles = [
        module.register_forward_hook(partial(hook, name), with_kwargs=True) for name, module in network.named_modules()
    ]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()


def _describe_fault(name: str, kind: str, tensors: list[Tensor], inputs_finite: bool) -> NonFiniteValue:
    bad = next(tensor for tensor in tensors if not _are_finite([tensor])).detach()
    finite = bad[bad.isfinite()].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    return NonFiniteValue(name, kind, str(bad.dtype).removeprefix("torch."), largest, inputs_finite)


def _select_floats(values: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _are_finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def _list_bad(values: Tensor, captures: Sequence[str]) -> list[str]:
    """Captures whose part of (b, ...) is not finite."""
    sound = values.detach().flatten(1).isfinite().all(1) if values.ndim > 1 else values.isfinite()
    return [name for name, fine in zip(captures, sound.tolist(), strict=True) if not fine]


def _mark_depth(sample: Batch) -> Depth:
    """The trusted depth, NaN where it is not above 0."""
    depth = torch.where(sample["mask"], sample["depth"], 1.0)
    return torch.where(depth > 0, depth, torch.nan)


def _find_logarithms_of_zero(objective: Objective, pred: Depth, sample: Batch, bad: Iterable[str]) -> list[str]:
    """Of the losses that were not finite, those that are where the target is above 0 everywhere."""
    names = [name for name in bad if name in objective.weights]
    target = objective.encode_target(sample["depth"], sample["mask"]).clamp_min(1e-3)
    again = losses.weigh(pred, target, torch.ones_like(sample["mask"]), {name: 1 for name in names})
    return [name for name in names if _are_finite([again[name]])]
