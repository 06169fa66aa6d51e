"""The flight recorder: a step whose loss or gradient is not finite is not taken, and leaves a black box behind.

What it keeps of every step is little and stays on the device: the batches that the step holds anyway, the state of the
random generators, the buffers (a batch norm's statistics would keep a NaN for ever), and one norm for each tensor.
"""

import shutil
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sonde.tensors import Batch
from sonde.trainer import blackbox
from sonde.trainer.blackbox import Norms
from sonde.trainer.sharding import local

IN_A_ROW = 3
"""So many steps that cannot be taken, one after the other, stop a run."""


class Stopped(ValueError):
    """A run that could not go on; its message is the cause."""


class RecordedBatch(NamedTuple):
    """A batch of the step that is under way."""

    batch: Batch
    rng_state: dict[str, Tensor]
    """States of the random generators before it, by device type."""
    sums: list[Tensor]
    """Scalars that are finite if loss, image and trusted depth are."""


class StepRecord(NamedTuple):
    """What is remembered of a good step."""

    number: int
    learning_rate: float
    norms: Tensor
    """(2, tensors): gradients, weights."""


class Recorder(TrainerCallback):
    """Watches every step of a network's training and remembers the last good ones.

    Args:
        network: what is trained.
        run: the run folder, where black boxes go.
    """

    def __init__(self, network: nn.Module, run: Path):
        self.run = run
        self.parameters = {name: value for name, value in network.named_parameters() if value.requires_grad}
        self.buffers = [buffer for _, buffer in network.named_buffers() if buffer.numel()]
        self._buffer_names = [name for name, _ in network.named_buffers()]
        self.seen: list[RecordedBatch] = []
        self.good: deque[StepRecord] = deque(maxlen=8)
        self.skipped = self.in_a_row = 0
        self.scaled = 0
        """Steps that float16's scaler passed over while it looked for its scale."""
        self._kept = [buffer.clone() for buffer in self.buffers]
        self._nothing = torch.zeros((), device=next(iter(self.parameters.values())).device)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Boxes of steps that a resumed run will take again go; those before count."""
        boxes = blackbox.found(self.run)
        before = [box for box in boxes if box.name <= blackbox.name(state.global_step)]
        self.skipped = len(before)
        if state.is_world_process_zero:
            for box in boxes[len(before) :]:
                shutil.rmtree(box)

    @torch.no_grad()
    def before(self, batch: Batch) -> None:
        """Of each batch of a step, before its forward pass."""
        if not self.seen:
            _copy(self.buffers, self._kept)
        self.seen.append(RecordedBatch(batch, _rng_state(batch["image"].device), []))

    @torch.no_grad()
    def after(self, loss: Tensor) -> None:
        """Of each batch of a step, after its backward pass."""
        batch = self.seen[-1].batch
        trusted = torch.where(batch["mask"], batch["depth"], 0.0)
        self.seen[-1].sums.extend([loss.float(), batch["image"].sum(), trusted.sum()])

    @torch.no_grad()
    def norms(self, scale: float) -> Tensor:
        """(2, tensors): norms of the gradients, freed of the loss's scale, and of the weights: this process's part."""
        weights = [local(value.detach()) for value in self.parameters.values()]
        gradients = [self._nothing if value.grad is None else local(value.grad) for value in self.parameters.values()]
        norm = torch._foreach_norm  # pyright: ignore[reportPrivateImportUsage]
        norms = torch.stack([torch.stack(norm(values)).float() for values in (gradients, weights)])
        norms[0] /= scale
        return norms

    def faults(self, norms: Tensor) -> Tensor:
        """(2,): 1 where a loss, an image or a depth of the step was not finite; 1 where a gradient was not."""
        sums = torch.stack([value for seen in self.seen for value in seen.sums])
        return torch.stack([~sums.isfinite().all(), ~norms[0].norm().isfinite()]).float()

    def record_step(self, step: int, learning_rate: float, norms: Tensor) -> None:
        """A good step is remembered."""
        self.good.append(StepRecord(step, learning_rate, norms))
        self.in_a_row = 0
        self.seen = []

    @torch.no_grad()
    def restore(self) -> None:
        """The buffers as they were before the step."""
        _copy(self._kept, self.buffers)

    def past(self, norms: Tensor) -> Tensor:
        """(steps + 1, 2, tensors): the good steps' norms, then those of the step that is not taken."""
        return torch.stack([*(step.norms for step in self.good), norms])

    def history(self, past: Tensor) -> Norms:
        """What `past` says, by name."""
        gradients, weights = (past[:, kind].T.tolist() for kind in (0, 1))
        return Norms(
            [step.number for step in self.good],
            [step.learning_rate for step in self.good],
            {name: values[:-1] for name, values in zip(self.parameters, gradients, strict=True)},
            dict(zip(self.parameters, weights, strict=True)),
        )

    def own(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of a network's whole state what training changes: the trained weights, and the buffers."""
        kept = {*self.parameters, *self._buffer_names}
        return {name: value.detach().cpu().contiguous().clone() for name, value in state.items() if name in kept}


def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)


def _rng_state(device: torch.device) -> dict[str, Tensor]:
    own = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state(), **own}


def set_rng_state(rng_state: dict[str, Tensor]) -> None:
    """Sets the random generators to a state of before."""
    torch.set_rng_state(rng_state["cpu"])
    if "cuda" in rng_state and torch.cuda.is_available():
        torch.cuda.set_rng_state(rng_state["cuda"])
