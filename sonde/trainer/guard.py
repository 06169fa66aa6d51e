"""The guard of every step: one whose loss or gradient is not finite is undone, run again under watch, and explained."""

import logging
from dataclasses import dataclass
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from peft import PeftModel
from torch import Tensor, nn
from transformers import TrainingArguments

from sonde.adapters import freeze_norms
from sonde.datasets import DepthDataset
from sonde.tensors import Batch
from sonde.trainer import blackbox, sharding
from sonde.trainer.blackbox import SkippedStep
from sonde.trainer.callbacks import Average
from sonde.trainer.objective import Objective
from sonde.trainer.recorder import Recorder, set_rng_state
from sonde.trainer.terms import LossTerms
from sonde.trainer.trace import BatchTrace, read_origin, trace

log = logging.getLogger("sonde")

IN_A_ROW = 3
"""A run stops after so many skipped steps, one after the other."""


class Stopped(ValueError):
    """A run that could not go on; its message is the cause."""


@dataclass
class StepGuard:
    """Decides at the end of every step whether its gradients are applied.

    The trainer calls `start_batch` and `finish_batch` around each batch, and `judge_step` after the last of a step.
    Every process must call them, and all decide alike.
    """

    objective: Objective
    """What a step minimises."""
    samples: DepthDataset
    """What is trained on."""
    accelerator: Accelerator
    args: TrainingArguments
    recorder: Recorder
    """Remembers the step under way and the last good ones."""
    terms: LossTerms
    """Forgets a skipped step."""
    average: Average | None = None
    """Leaves a skipped step out."""
    clip_value: float | None = None
    """The largest magnitude of a gradient's element."""
    sharded: bool = False

    @property
    def network(self) -> nn.Module:
        """What is trained, unwrapped."""
        return self.objective.model.network

    def start_batch(self, batch: Batch, total_loss: Tensor) -> None:
        """Before a batch's forward pass; `total_loss` is the trainer's running sum of losses, on its device."""
        if not self.recorder.seen:
            self.terms.start_step(total_loss)
        self.recorder.start_batch(batch)

    def finish_batch(self, loss: Tensor) -> None:
        """After a batch's backward pass."""
        self.recorder.finish_batch(loss)

    def judge_step(self, step: int, learning_rate: float) -> bool:
        """Whether the step's gradients may be applied; if not, the step leaves a black box and is skipped.

        Args:
            step: its number, counted from 1.
            learning_rate: of the optimizer's first group.

        Raises:
            Stopped: too many steps in a row were not finite.
        """
        recorder, scaler = self.recorder, self.accelerator.scaler
        scale = scaler.get_scale() if scaler is not None else 1.0
        norms = recorder.measure_norms(scale)
        wrong, steep = self._reduce_any(recorder.find_faults(norms))
        good = not (wrong or steep)
        # float16's scaler skips such a step by itself and lowers its scale: with a scale of 1 it has nothing to lower.
        scaling = scaler is not None and steep and not wrong and scale > 1
        self.terms.finish_step()
        if self.average is not None:
            self.average.resting = not good
        if scaling:
            recorder.scaled += 1
            recorder.seen = []
        elif good:
            recorder.record_step(step, learning_rate, norms)
            self._clip_by_value(scale)
        else:
            self._skip(step, learning_rate, norms, scale)
        return good or scaling

    def trace(self, batch: Batch, rng_state: dict[str, Tensor], scale: float = 1.0) -> BatchTrace:
        """Run a batch again under watch, from the present weights and the given random state."""
        network = self.network.train()
        if isinstance(network, PeftModel):
            freeze_norms(network)
        captures = [self.samples.captures.ids[index] for index in read_origin(batch)[1]]
        network.zero_grad(set_to_none=True)
        with torch.random.fork_rng():
            set_rng_state(rng_state)
            found = trace(self.objective, network, batch, captures, scale)
        network.zero_grad(set_to_none=True)
        found.process = self.args.process_index
        return found

    def make_batch_again(self, batch: BatchTrace) -> Batch:
        """The samples of a batch in a black box, on the network's device."""
        samples = self.samples.batch(batch.epoch, batch.indices)
        return cast(Batch, send_to_device(samples, self.args.device))

    def gather_weights(self) -> dict[str, Tensor] | None:
        """The trained network's whole state where it is sharded (every process must call it), else None."""
        return sharding.gather_weights(self.network) if self.sharded else None

    def _clip_by_value(self, scale: float) -> None:
        if self.clip_value is None:
            return
        # float16's gradients still bear the loss's scale here: so must the bound.
        bound = self.clip_value * scale
        for value in self.recorder.parameters.values():
            if value.grad is not None:
                sharding.take_local(value.grad).clamp_(-bound, bound)

    def _skip(self, step: int, learning_rate: float, norms: Tensor, scale: float) -> None:
        """Forget the step, its gradients, its losses and what it did to the buffers, and write down why.

        Raises:
            Stopped: it was the last of IN_A_ROW.
        """
        recorder = self.recorder
        recorder.skipped, recorder.in_a_row = recorder.skipped + 1, recorder.in_a_row + 1
        self.terms.forget_step()
        cause = self._diagnose(step, learning_rate, norms, scale).find_cause()[0]
        if self.accelerator.scaler is not None:
            # The scaler skips only a step in which it sees a gradient that is not finite, and there is none left.
            value = next(iter(recorder.parameters.values()))
            value.grad = torch.full_like(value, torch.inf)
        if recorder.in_a_row == IN_A_ROW:
            raise Stopped(f"{IN_A_ROW} steps in a row, up to step {step}, were not finite: {cause}")

    def _diagnose(self, step: int, learning_rate: float, norms: Tensor, scale: float) -> SkippedStep:
        """Run the step's batches again under watch and leave a black box; every process takes part.

        The network ends as it was before the step and without gradients; torch's optimizers leave a weight without
        gradient, and its moments, alone.
        """
        recorder, first = self.recorder, self.recorder.in_a_row == 1
        own = [(self.trace(seen.batch, seen.rng_state, scale), seen.rng_state) for seen in recorder.seen]
        traced = gather_object(own)
        recorder.restore_buffers()
        past = recorder.stack_norms(norms)
        if self.sharded:
            past = torch.as_tensor(self.accelerator.reduce(past.square(), "sum")).sqrt()
        # The weights do not change while steps are skipped: the first box of a burst holds them for all.
        weights = (self.gather_weights() or self.network.state_dict()) if first else None
        box = SkippedStep(
            step,
            learning_rate,
            self.accelerator.mixed_precision,
            scale,
            [batch for batch, _ in traced],
            recorder.name_norms(past),
        )
        if self.args.should_save:
            kept = weights and recorder.select_trained(weights)
            folder = blackbox.write(recorder.run, box, [rng_state for _, rng_state in traced], kept)
            log.warning("step %d was skipped: %s; see %s", step, box.find_cause()[0], folder)
        recorder.seen = []
        return box

    def _reduce_any(self, flags: Tensor) -> list[bool]:
        """Which of the flags are set in any process."""
        return [bool(flag) for flag in torch.as_tensor(self.accelerator.reduce(flags, "sum")).tolist()]
