"""The memory of a step: what is needed to undo it if it is not finite, and to explain why.

What is kept of every step is little and stays on the device: the batches that the step holds anyway, the state of the
random generators, the buffers (a batch norm's statistics would keep a NaN for ever), and one norm for each tensor.
"""

import shutil
from collections import deque
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sonde.tensors import Batch
from sonde.trainer import blackbox
from sonde.trainer.blackbox import Norms
from sonde.trainer.sharding import take_local


class RecordedBatch(NamedTuple):
    """A batch of the step under way."""

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
    """Records every step of a network's training and remembers the last good ones.

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
        """Steps that float16's scaler skipped while it looked for its scale."""
        self._kept = [buffer.clone() for buffer in self.buffers]
        self._nothing = torch.zeros((), device=next(iter(self.parameters.values())).device)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Counts the boxes of the steps before a resumed run's first, and removes those of the steps after it."""
        boxes = blackbox.list_boxes(self.run)
        before = [box for box in boxes if box.name <= blackbox.name_box(state.global_step)]
        self.skipped = len(before)
        if state.is_world_process_zero:
            for box in boxes[len(before) :]:
                shutil.rmtree(box)

    @torch.no_grad()
    def start_batch(self, batch: Batch) -> None:
        """Record a batch of the step before its forward pass."""
        if not self.seen:
            _copy(self.buffers, self._kept)
        self.seen.append(RecordedBatch(batch, _read_rng_state(batch["image"].device), []))

    @torch.no_grad()
    def finish_batch(self, loss: Tensor) -> None:
        """Record the loss of the same batch after its backward pass."""
        batch = self.seen[-1].batch
        trusted = torch.where(batch["mask"], batch["depth"], 0.0)
        # A sum is finite only if all of its pixels are: one number a map, and no wait for the device.
        self.seen[-1].sums.extend([loss.float(), batch["image"].sum(), trusted.sum()])

    @torch.no_grad()
    def measure_norms(self, scale: float) -> Tensor:
        """(2, tensors): this process's norms of the gradients, without the loss's scale, and of the weights."""
        weights = [take_local(value.detach()) for value in self.parameters.values()]
        gradients = [
            self._nothing if value.grad is None else take_local(value.grad) for value in self.parameters.values()
        ]
        norm = torch._foreach_norm  # pyright: ignore[reportPrivateImportUsage]
        norms = torch.stack([torch.stack(norm(values)).float() for values in (gradients, weights)])
        norms[0] /= scale
        return norms

    def find_faults(self, norms: Tensor) -> Tensor:
        """(2,): 1 where a loss, an image or a depth of the step is not finite; 1 where a gradient is not."""
        sums = torch.stack([value for seen in self.seen for value in seen.sums])
        return torch.stack([~sums.isfinite().all(), ~norms[0].norm().isfinite()]).float()

    def record_step(self, step: int, learning_rate: float, norms: Tensor) -> None:
        """Remember a good step."""
        self.good.append(StepRecord(step, learning_rate, norms))
        self.in_a_row = 0
        self.seen = []

    @torch.no_grad()
    def restore_buffers(self) -> None:
        """Set the buffers back to what they were before the step."""
        _copy(self._kept, self.buffers)

    def stack_norms(self, norms: Tensor) -> Tensor:
        """(steps + 1, 2, tensors): the good steps' norms, then those of the step that is skipped."""
        return torch.stack([*(step.norms for step in self.good), norms])

    def name_norms(self, past: Tensor) -> Norms:
        """The norms of `stack_norms`, by the tensors' names."""
        gradients, weights = (past[:, kind].T.tolist() for kind in (0, 1))
        return Norms(
            [step.number for step in self.good],
            [step.learning_rate for step in self.good],
            {name: values[:-1] for name, values in zip(self.parameters, gradients, strict=True)},
            dict(zip(self.parameters, weights, strict=True)),
        )

    def select_trained(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The part of a network's whole state that training changes: the trained weights, and the buffers."""
        kept = {*self.parameters, *self._buffer_names}
        return {name: value.detach().cpu().contiguous().clone() for name, value in state.items() if name in kept}


def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)


def _read_rng_state(device: torch.device) -> dict[str, Tensor]:
    own = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state(), **own}


def set_rng_state(rng_state: dict[str, Tensor]) -> None:
    """Set the random generators to a state that a black box holds."""
    torch.set_rng_state(rng_state["cpu"])
    if "cuda" in rng_state and torch.cuda.is_available():
        torch.cuda.set_rng_state(rng_state["cuda"])
