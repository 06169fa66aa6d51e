"""DepthTrainer: transformers' Trainer with every method that sonde overrides, each under the reason for it.

The overrides stand here alone, and tests/test_overrides.py holds what each expects of transformers. What they do lies
elsewhere: `guard` skips steps, `terms` and `scoring` average, `checkpoints`, `resuming` and `sharding` read and write.
"""

import math
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import torch
from accelerate.optimizer import AcceleratedOptimizer
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, rotate_checkpoints

with redirect_stdout(sys.stderr):  # under WANDB_MODE=offline it prints, and stdout belongs to the document of --json
    from transformers import Trainer

from sonde import schedules
from sonde.adapters import freeze_norms
from sonde.datasets import DepthDataset, collate
from sonde.files import writing
from sonde.schedules import Scheduler
from sonde.tensors import Batch, Depth
from sonde.trainer import resuming, sharding
from sonde.trainer.callbacks import Average, Best, Epochs
from sonde.trainer.checkpoints import PARTIAL, load_whole_network, move_into_place, read_step, redirect_output
from sonde.trainer.clock import Clock
from sonde.trainer.guard import StepGuard, Stopped
from sonde.trainer.objective import Objective
from sonde.trainer.recorder import Recorder
from sonde.trainer.results import Results
from sonde.trainer.running import RunningLoss
from sonde.trainer.scoring import ValidationScores, decode
from sonde.trainer.terms import LossTerms


class DepthTrainer(Trainer):
    """Minimises an `Objective` on a DepthDataset; validates in the set's own unit.

    The trained module is the network itself (a PeftModel where adapters train), so that checkpoints and the
    restored best model are transformers' and PEFT's own.
    """

    def __init__(
        self,
        objective: Objective,
        args: TrainingArguments,
        *,
        train: DepthDataset,
        validation: DepthDataset | None,
        callbacks: list[TrainerCallback],
        encoder_learning_rate: float | None = None,
        ema: float | None = None,
        clip_value: float | None = None,
        optimizer: tuple[type[torch.optim.Optimizer], dict[str, object]] | None = None,
        sharded: bool = False,
        results: Results | None = None,
        freeze_norm: bool = False,
    ):
        model = objective.model
        self.sharded = sharded
        self.results = results
        self.freeze_norm = freeze_norm
        self.encoder_learning_rate = encoder_learning_rate
        super().__init__(
            model=model.network,  # pyright: ignore[reportArgumentType]
            args=args,
            train_dataset=train,
            eval_dataset=validation,
            data_collator=collate,  # pyright: ignore[reportArgumentType]
            callbacks=[Epochs(train), Best(), *callbacks],
            optimizer_cls_and_kwargs=optimizer,
        )
        self.remove_callback(PrinterCallback)
        self.objective = objective
        self.depth_model = model.to(args.device)
        if sharded:
            sharding.shard(model.network)
            # transformers' flag for weights that are placed already: it must not wrap the network again.
            self.is_distributed_loading_by_transformers = True
        else:
            model.network.to(memory_format=torch.channels_last)  # the order that oneDNN and cuDNN prefer
        self.loss_is_scaled_for_ga = False  # ours is a mean over the batch, whatever forward's signature suggests
        self.clock, self.terms = Clock(), LossTerms()
        self.average = Average(model.network, ema) if ema else None
        self.scores = ValidationScores(self.depth_model, self.accelerator)
        self.guard = StepGuard(
            objective=objective,
            samples=train,
            accelerator=self.accelerator,
            args=args,
            recorder=Recorder(model.network, Path(str(args.output_dir)).parent),
            terms=self.terms,
            average=self.average,
            clip_value=clip_value,
            sharded=sharded,
        )
        self.stops_early = any(isinstance(callback, EarlyStoppingCallback) for callback in callbacks)
        self.ended = False
        """Whether early stopping had ended the run that is resumed."""
        self.running = RunningLoss(self, self.terms, lambda value: self._gather(value[None]).mean().item())
        for callback in (self.guard.recorder, self.clock, self.average, self.running):
            if callback is not None:
                self.add_callback(callback)

    # transformers calls the network with the whole batch and expects a loss of it; here the network sees the image
    # alone, and the objective makes the loss.
    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Depth]:
        """The batch's mean of the weighted losses, at the ground truth's size."""
        if model.training and (self.freeze_norm or isinstance(self.depth_model.network, PeftModel)):
            freeze_norms(model)
        pred, terms = self.objective(model, inputs)
        if model.training:
            self.terms.add(terms)
        else:
            answer = decode(self.depth_model, pred.detach(), inputs)
            self.scores.add(answer, inputs["depth"], inputs["mask"])
            if self.results is not None and "origin" in inputs:
                self.results.write(answer, inputs["origin"][:, 1], self.state)
        loss = torch.stack([term.mean() for term in terms.values()]).sum()
        return (loss, pred) if return_outputs else loss

    # The time that transformers spends here is the time that a step waits for its data; no callback has it.
    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor | int | None]:
        """transformers', with its time taken; none where the run was over when it was resumed."""
        if self.ended or self.state.global_step >= self.state.max_steps:
            # transformers looks whether to stop only after a step.
            self.control.should_training_stop = True
            return [], None
        with self.clock.time_wait():
            return super().get_batch_samples(epoch_iterator, num_batches, device)

    # The guard must see a batch before its forward pass, and the gradients before they are clipped: after this method
    # transformers clips, and no callback comes before that. A loss of 0 keeps a skipped step out of the running sum.
    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """transformers', under the guard's eyes; after a step's last batch the guard decides whether it is taken."""
        self.guard.start_batch(inputs, self._tr_loss)
        loss = super().training_step(model, inputs, num_items_in_batch)  # pyright: ignore[reportArgumentType]
        self.guard.finish_batch(loss)
        if not self.accelerator.sync_gradients:
            return loss
        try:
            taken = self.guard.judge_step(self.state.global_step + 1, self._get_learning_rate())
        except Stopped:
            self.log({"skipped_steps": float(self.guard.recorder.skipped)})
            raise
        return loss if taken else torch.zeros_like(loss)

    # transformers has one rate for the whole network.
    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """transformers' optimizer, each of its two groups split where the encoder learns at a rate of its own."""
        optimizer = super().create_optimizer(model)
        # The two are with weight decay and without. Once split they are four: transformers may call this again.
        if self.encoder_learning_rate is not None and len(optimizer.param_groups) == 2:
            encoder = {id(value) for name, value in self.depth_model.network.named_parameters() if self._encodes(name)}
            for group in list(optimizer.param_groups):
                own = [value for value in group["params"] if id(value) in encoder]
                group["params"] = [value for value in group["params"] if id(value) not in encoder]
                optimizer.add_param_group({**group, "params": own, "lr": self.encoder_learning_rate})
        return optimizer

    # transformers takes the names of its own schedules alone.
    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Scheduler:
        """The schedule that the arguments name, of ours or of transformers'."""
        if self.lr_scheduler is None:
            kind, options = schedules.read_schedule(self.args)
            warmup, metric = self.args.get_warmup_steps(num_training_steps), self.args.metric_for_best_model
            learner = optimizer or self.optimizer
            assert isinstance(learner, torch.optim.Optimizer)
            scheduler = schedules.build(kind, learner, num_training_steps, warmup, options, metric)
            self.lr_scheduler = scheduler  # pyright: ignore[reportAttributeAccessIssue]
            self._created_lr_scheduler = True  # a second `train()` makes its own
        assert isinstance(self.lr_scheduler, Scheduler)
        return self.lr_scheduler

    # transformers' compute_metrics would need all predictions in memory; here each batch is scored as it comes.
    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """transformers' loop by the averaged weights, with the mean scores among its metrics."""
        self.scores.clear()
        with self.average.swap_in() if self.average is not None else nullcontext():
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        assert output.metrics is not None
        output.metrics.update({f"eval_{name}": value for name, value in self.scores.average().items()})
        return output

    # After a first score that is not finite, transformers writes an infinite best score into the state, which JSON
    # cannot hold. It also saves the best checkpoint only where it falls on a step that saves anyway.
    def _determine_best_metric(self, metrics: dict[str, float], trial: object) -> bool:
        """transformers', without scores that are not finite; the best so far is also saved, whatever its epoch."""
        wanted = self.args.metric_for_best_model or "loss"
        score = metrics.get(wanted if wanted.startswith("eval_") else f"eval_{wanted}", 0.0)
        best = math.isfinite(score) and super()._determine_best_metric(metrics, trial)
        self.control.should_save |= best and self.args.load_best_model_at_end
        return best

    # transformers logs the loss of all steps, skipped ones included, and knows no terms.
    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the mean of each loss term since the last log, skipped steps, and the wait for data."""
        recorder = self.guard.recorder
        if "loss" in logs:
            means = self.terms.take_means()
            logs |= {name: self._gather(mean[None]).mean().item() for name, mean in means.items()}
            if recorder.in_a_row:
                logs.pop("grad_norm", None)  # that of a skipped step
            logs["loss"] = self.terms.average_taken(logs["loss"])
            logs |= {"skipped_steps": recorder.skipped, "data_wait": self.clock.read_lap()}
        if "train_loss" in logs:
            # transformers divides by the steps since a resume.
            logs["train_loss"] = self._total_loss_scalar / max(self.state.global_step, 1)
            logs |= {"skipped_steps": recorder.skipped, "data_wait": self.clock.read_share()}
        if self.accelerator.scaler is not None:
            logs["scaler_skips"] = recorder.scaled
        super().log(logs, start_time)

    # transformers writes into the folder that bears the checkpoint's name: a run that is killed meanwhile leaves a
    # checkpoint that looks complete. It also rotates by modification time, which copying a run changes.
    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        """Write the checkpoint aside and rename it into place: a checkpoint under its name is complete."""
        folder, wait = Path(str(self.args.output_dir)), self.accelerator.wait_for_everyone
        name = f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            shutil.rmtree(folder / PARTIAL, ignore_errors=True)
        wait()
        with redirect_output(self.args, folder / PARTIAL), writing(folder / name, folder / PARTIAL):
            super()._save_checkpoint(model, trial)
            if self.average is not None:
                self.average.save(folder / PARTIAL / name, self.args.should_save)
            self.running.save(folder / PARTIAL / name, self.args.should_save)
        wait()  # every process writes its random state into the same folder
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(folder / name)
        if self.args.should_save:
            self.state.save_to_json(str(folder / PARTIAL / name / "trainer_state.json"))
            move_into_place(folder, name)
            limit, best = self.args.save_total_limit, self.state.best_model_checkpoint
            rotate_checkpoints(str(folder), limit, best, use_mtime=False)
        wait()

    # transformers would save this process's part of a sharded network, and knows no background.
    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """transformers', with the whole weights of a sharded network, and the model's background."""
        super()._save(output_dir, self.guard.gather_weights() if state_dict is None else state_dict)
        if self.depth_model.background is not None:
            self.depth_model.background.write(Path(output_dir or str(self.args.output_dir)))

    # transformers would save this process's part of a sharded optimizer.
    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """transformers', with the optimizer's whole state where the network is sharded."""
        if not self.sharded:
            return super()._save_optimizer_and_scheduler(output_dir)
        optimizer, scheduler = self._unwrap()
        state = sharding.gather_optimizer(self.depth_model.network, optimizer)
        if self.args.should_save:
            torch.save(state, Path(output_dir, "optimizer.pt"))
            torch.save(scheduler.state_dict(), Path(output_dir, "scheduler.pt"))

    # transformers matches names as they are and ignores those that do not fit: see `load_whole_network`.
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """transformers' for adapters; a whole network as `from_pretrained` reads it; and the average."""
        if isinstance(self.depth_model.network, PeftModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_whole_network(self.depth_model.network, Path(resume_from_checkpoint), self.sharded)
        if self.average is not None:
            self.average.load(Path(resume_from_checkpoint))
        self.running.load(Path(resume_from_checkpoint))
        self.ended = self.stops_early and resuming.has_stopped_early(Path(resume_from_checkpoint))

    # transformers would bring back the settings of the run before with the state: see `resuming`.
    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """The state of both alone; their settings stay the recipe's."""
        if checkpoint is None:
            return
        optimizer, scheduler = self._unwrap()
        fresh = resuming.read_settings(optimizer)
        state = torch.load(Path(checkpoint, "optimizer.pt"), map_location="cpu", weights_only=True)
        if self.sharded:
            sharding.spread_optimizer(self.depth_model.network, optimizer, state)
        else:
            optimizer.load_state_dict(state)
        saved = torch.load(Path(checkpoint, "scheduler.pt"), map_location="cpu", weights_only=True)
        resuming.continue_plan(optimizer, scheduler, fresh, saved, read_step(checkpoint))

    # As `_load_from_checkpoint`; and the best weights are the averaged ones.
    def _load_best_model(self) -> None:
        """transformers' for adapters; a whole network as `from_pretrained` reads it; and the average."""
        best = Path(str(self.state.best_model_checkpoint))
        if isinstance(self.depth_model.network, PeftModel):
            super()._load_best_model()
        else:
            load_whole_network(self.depth_model.network, best, self.sharded)
        if self.average is not None:
            self.average.load(best)

    def restore_best(self) -> bool:
        """Give the network the weights of the best checkpoint, if validation has chosen one."""
        chosen = self.state.best_model_checkpoint is not None
        if chosen:
            self._load_best_model()
        return chosen

    def _encodes(self, name: str) -> bool:
        return re.match(rf"(base_model\.model\.)?{re.escape(self.depth_model.family.encoder)}\.", name) is not None

    def _gather(self, values: Tensor) -> Tensor:
        """Values of all processes."""
        return self.accelerator.gather(values)  # pyright: ignore[reportReturnType]

    def _unwrap(self) -> tuple[torch.optim.Optimizer, Scheduler]:
        """The optimizer inside accelerate's wrapper, and the scheduler."""
        optimizer, scheduler = self.optimizer, self.lr_scheduler
        if isinstance(optimizer, AcceleratedOptimizer):
            optimizer = optimizer.optimizer
        assert isinstance(optimizer, torch.optim.Optimizer) and isinstance(scheduler, Scheduler)
        return optimizer, scheduler
