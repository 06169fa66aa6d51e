"""A trainer that takes no step that is not finite: it forgets it, runs it again under watch, and writes down why."""

import logging
import math
import sys
from contextlib import redirect_stdout
from typing import Any

import torch
from accelerate.utils import gather_object
from peft import PeftModel
from torch import Tensor, nn

with redirect_stdout(sys.stderr):  # under WANDB_MODE=offline it says so on stdout, where --json has its one document
    from transformers import Trainer

from sonde.adapters import freeze_norms
from sonde.datasets import DepthDataset
from sonde.models import DepthModel
from sonde.tensors import Batch
from sonde.trainer import blackbox, sharding
from sonde.trainer.blackbox import SkippedStep
from sonde.trainer.callbacks import Average
from sonde.trainer.clock import Clock
from sonde.trainer.objective import Objective
from sonde.trainer.recorder import IN_A_ROW, Recorder, Stopped, set_rng_state
from sonde.trainer.trace import BatchTrace, origin, trace

log = logging.getLogger("sonde")


class Guarded(Trainer):
    """transformers' trainer with a flight recorder and a clock; abstract: what is trained is for others to say."""

    depth_model: DepthModel
    objective: Objective
    recorder: Recorder
    clock: Clock
    average: Average | None
    clip_value: float | None
    sharded: bool
    _terms: dict[str, list[Tensor]]
    """Means of each loss term since the last log."""
    _before: tuple[Tensor, int]
    """The sum of losses, and how many `_terms` there were, before the step under way."""
    _window: list[int]
    """Steps since the last log, and how many of them were skipped."""

    def weights(self) -> dict[str, Tensor] | None:
        """The trained network's whole state where it is sharded (every process must ask), else None."""
        return sharding.whole_weights(self.depth_model.network) if self.sharded else None

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The batches of a step; the time they take is the time spent waiting for data."""
        with self.clock.waiting():
            return super().get_batch_samples(*args, **kwargs)

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """transformers', under the recorder's eyes; after a step's last batch it is decided whether it is taken."""
        if not self.recorder.seen:
            self._before = self._tr_loss.clone(), len(next(iter(self._terms.values()), ()))
        self.recorder.before(inputs)
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.recorder.after(loss)
        return loss if not self.accelerator.sync_gradients or self._judge() else torch.zeros_like(loss)

    def trace(self, batch: Batch, rng_state: dict[str, Tensor], scale: float = 1.0) -> BatchTrace:
        """What a batch shows when it is run again under watch, with the weights that are there and that luck."""
        network, samples = self.depth_model.network.train(), self.train_dataset
        assert isinstance(samples, DepthDataset)
        if isinstance(network, PeftModel):
            freeze_norms(network)
        captures = [samples.captures.ids[index] for index in origin(batch)[1]]
        network.zero_grad(set_to_none=True)
        with torch.random.fork_rng():
            set_rng_state(rng_state)
            found = trace(self.objective, network, batch, captures, scale)
        network.zero_grad(set_to_none=True)
        found.process = self.args.process_index
        return found

    def again(self, batch: BatchTrace) -> Batch:
        """The samples of a batch in a black box."""
        samples = self.train_dataset
        assert isinstance(samples, DepthDataset)
        return self._prepare_inputs(samples.batch(batch.epoch, batch.indices))  # pyright: ignore

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """transformers', which would keep a first score that is not finite for the best for ever."""
        wanted = self.args.metric_for_best_model or "loss"
        score = metrics.get(wanted if wanted.startswith("eval_") else f"eval_{wanted}", 0.0)
        return math.isfinite(score) and super()._determine_best_metric(metrics, trial)

    def _judge(self) -> bool:
        """Whether the step's gradients may be applied; if not, it leaves a black box and is passed over."""
        recorder, scaler = self.recorder, self.accelerator.scaler
        scale = scaler.get_scale() if scaler is not None else 1.0
        norms = recorder.norms(scale)
        wrong, steep = self._anywhere(recorder.faults(norms))
        scaling = (
            scaler is not None and steep and not wrong and scale > 1
        )  # the scaler passes over it, and lowers its scale
        good = not (wrong or steep)
        self._window[0] += 1
        if self.average is not None:
            self.average.resting = not good
        if scaling:
            recorder.scaled += 1
            recorder.seen = []
        elif good:
            recorder.record_step(self.state.global_step + 1, self._get_learning_rate(), norms)
            self._clip_by_value(scale)
        else:
            self._pass_over(norms, scale)
        return good or scaling

    def _clip_by_value(self, scale: float) -> None:
        if self.clip_value is not None:
            bound = self.clip_value * scale
            for value in self.recorder.parameters.values():
                if value.grad is not None:
                    sharding.local(value.grad).clamp_(-bound, bound)

    def _pass_over(self, norms: Tensor, scale: float) -> None:
        """Forget the step, its gradients, its losses and what it did to the buffers, and write down why.

        Raises:
            Stopped: it was one too many in a row.
        """
        recorder = self.recorder
        recorder.skipped, recorder.in_a_row = recorder.skipped + 1, recorder.in_a_row + 1
        self._window[1] += 1
        self._tr_loss.copy_(self._before[0])
        for values in self._terms.values():
            del values[self._before[1] :]
        cause = self._diagnose(norms, scale).cause()[0]
        if self.accelerator.scaler is not None:  # it passes over a step by itself, and insists on seeing why
            value = next(iter(recorder.parameters.values()))
            value.grad = torch.full_like(value, torch.inf)
        if recorder.in_a_row == IN_A_ROW:
            self.log({"skipped_steps": float(recorder.skipped)})
            raise Stopped(
                f"{IN_A_ROW} steps in a row, up to step {self.state.global_step + 1}, were not finite: {cause}"
            )

    def _diagnose(self, norms: Tensor, scale: float) -> SkippedStep:
        """Run the step's batches again under watch and leave a black box; every process takes part.

        The network ends as it was before the step and without gradients; torch's optimizers leave a weight without
        gradient, and its moments, alone.
        """
        recorder, first = self.recorder, self.recorder.in_a_row == 1
        traced = gather_object(
            [(self.trace(seen.batch, seen.rng_state, scale), seen.rng_state) for seen in recorder.seen]
        )
        recorder.restore()
        past = recorder.past(norms)
        if self.sharded:
            past = torch.as_tensor(self.accelerator.reduce(past.square(), "sum")).sqrt()
        weights = (self.weights() or self.depth_model.network.state_dict()) if first else None
        box = SkippedStep(
            self.state.global_step + 1,
            self._get_learning_rate(),
            self.accelerator.mixed_precision,
            scale,
            [batch for batch, _ in traced],
            recorder.history(past),
        )
        if self.args.should_save:
            folder = blackbox.write(
                recorder.run, box, [rng_state for _, rng_state in traced], weights and recorder.own(weights)
            )
            log.warning("step %d was skipped: %s; see %s", box.step, box.cause()[0], folder)
        recorder.seen = []
        return box

    def _anywhere(self, flags: Tensor) -> list[bool]:
        """Which of the flags are set in any process."""
        return [bool(flag) for flag in self.accelerator.reduce(flags, "sum").tolist()]  # pyright: ignore
