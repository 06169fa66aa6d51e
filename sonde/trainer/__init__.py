"""The one trainer: transformers' own, told what a depth batch is, how it is scored, and how to save without loss."""

import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForDepthEstimation, PrinterCallback, TrainerCallback, TrainingArguments
from transformers.trainer_utils import rotate_checkpoints

from sonde import metrics, schedules
from sonde.adapters import freeze_norms
from sonde.align import ALIGN
from sonde.datasets import DepthDataset, collate
from sonde.tensors import Batch, Depth, Mask, PerImage
from sonde.trainer import blackbox, resuming, sharding
from sonde.trainer.blackbox import SkippedStep
from sonde.trainer.callbacks import Average, Best, Epochs, JsonLines, Pace, Progress
from sonde.trainer.clock import Clock
from sonde.trainer.guarded import Guarded
from sonde.trainer.objective import Objective, unit_disparity
from sonde.trainer.recorder import Recorder, Stopped
from sonde.trainer.results import Results
from sonde.trainer.trace import BatchTrace
from sonde.units import UNITS

__all__ = [
    "Average",
    "BatchTrace",
    "Best",
    "Clock",
    "DepthTrainer",
    "Epochs",
    "JsonLines",
    "Objective",
    "Pace",
    "Progress",
    "Recorder",
    "Results",
    "SkippedStep",
    "Stopped",
    "blackbox",
    "score_names",
    "sharding",
    "unit_disparity",
]

SCORES = ("mae", "abs_rel", "delta1")
"""What validation reports beside the loss; `mae` in the set's unit."""


def score_names(unit: str) -> list[str]:
    """What may choose the checkpoint or drive a plateau, as validation reports it without `eval_`."""
    return ["loss", *(f"{name}_{unit}" if name == "mae" else name for name in SCORES)]


class DepthTrainer(Guarded):
    """Minimises an `Objective` on a `DepthDataset`; validates in the set's own unit.

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
        optimizer: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        sharded: bool = False,
        results: Results | None = None,
        freeze_norm: bool = False,
    ):
        model = objective.model
        self.sharded = sharded
        self.results = results
        self.freeze_norm = freeze_norm
        self.encoder_learning_rate = encoder_learning_rate
        self.clip_value = clip_value
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
            self.is_distributed_loading_by_transformers = True  # its word for: wrap nothing, the weights are placed
        else:  # convolutions in the order that oneDNN and cuDNN prefer
            model.network.to(memory_format=torch.channels_last)
        self.recorder, self.clock = Recorder(model.network, Path(str(args.output_dir)).parent), Clock()
        self.average = Average(model.network, ema) if ema else None
        for callback in (self.recorder, self.clock, *([self.average] if self.average is not None else [])):
            self.add_callback(callback)
        self.loss_is_scaled_for_ga = False  # ours is a mean over the batch, whatever forward's signature suggests
        self._terms: dict[str, list[Tensor]] = {}
        self._scores: dict[str, list[PerImage]] = {}
        self._before = torch.zeros(()), 0
        self._window = [0, 0]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The batch's mean of the weighted losses, at the ground truth's size."""
        if model.training and (self.freeze_norm or isinstance(self.depth_model.network, PeftModel)):
            freeze_norms(model)
        pred, terms = self.objective(model, inputs)
        for name, term in terms.items():
            self._terms.setdefault(name, []).append(term.detach().mean())
        if not model.training:
            answer = self._decoded(pred.detach(), inputs)
            self._score(answer, inputs["depth"], inputs["mask"])
            if self.results is not None and "origin" in inputs:
                self.results.write(answer, inputs["origin"][:, 1], self.state)
        loss = torch.stack([term.mean() for term in terms.values()]).sum()
        return (loss, pred) if return_outputs else loss

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """transformers' optimizer, its groups cut in two where the encoder learns at a rate of its own."""
        optimizer = super().create_optimizer(model)
        if self.encoder_learning_rate is not None and len(optimizer.param_groups) == 2:
            encoder = {id(value) for name, value in self.depth_model.network.named_parameters() if self._encodes(name)}
            for group in list(optimizer.param_groups):
                own = [value for value in group["params"] if id(value) in encoder]
                group["params"] = [value for value in group["params"] if id(value) not in encoder]
                optimizer.add_param_group({**group, "params": own, "lr": self.encoder_learning_rate})
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """The schedule that the arguments name, of ours or of transformers'."""
        if self.lr_scheduler is None:
            kind, options = schedules.chosen(self.args)
            warmup, metric = self.args.get_warmup_steps(num_training_steps), self.args.metric_for_best_model
            learner = optimizer or self.optimizer
            assert isinstance(learner, torch.optim.Optimizer)
            self.lr_scheduler = schedules.build(kind, learner, num_training_steps, warmup, options, metric)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """transformers' loop, with the scores of every validation image among its metrics."""
        self._scores, kept = {}, self._terms
        with self.average.applied() if self.average is not None else nullcontext():
            output = super().evaluation_loop(*args, **kwargs)
        self._terms = kept
        for name, values in self._scores.items():
            assert output.metrics is not None
            mean = torch.cat(values).nanmean().item()  # NaN: of an image without a trusted pixel
            output.metrics[f"eval_{name}"] = mean if math.isfinite(mean) else math.nan
        return output

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """transformers'; the best so far is also saved, whatever its epoch."""
        best = super()._determine_best_metric(metrics, trial)
        self.control.should_save |= best and self.args.load_best_model_at_end
        return best

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the mean of each loss term since the last log."""
        if "loss" in logs:
            means = {name: torch.stack(values).mean() for name, values in self._terms.items() if values}
            logs |= {name: self._everywhere(mean[None]).mean().item() for name, mean in means.items()}
            self._terms = {}
            steps, skipped = self._window
            self._window = [0, 0]
            if self.recorder.in_a_row:
                logs.pop("grad_norm", None)  # of a step that was not taken
            logs["loss"] = logs["loss"] * steps / (steps - skipped) if steps > skipped else torch.nan
            logs |= {"skipped_steps": self.recorder.skipped, "data_wait": self.clock.lap()}
        if "train_loss" in logs:
            logs |= {"skipped_steps": self.recorder.skipped, "data_wait": self.clock.share()}
        if self.accelerator.scaler is not None:
            logs["scaler_skips"] = self.recorder.scaled
        super().log(logs, start_time)

    def _encodes(self, name: str) -> bool:
        return re.match(rf"(base_model\.model\.)?{re.escape(self.depth_model.family.encoder)}\.", name) is not None

    def _everywhere(self, values: Tensor) -> Tensor:
        """Values of all processes."""
        return self.accelerator.gather(values)  # pyright: ignore[reportReturnType]

    def _decoded(self, pred: Depth, batch: Batch) -> Depth:
        """What the model's space names: real metres, whatever camera the network answers for, or disparity."""
        encoding = self.depth_model.encoding
        return (pred if encoding is None else encoding.decode(pred)) * self.depth_model.focal_scale_of(batch)

    def _score(self, answer: Depth, depth: Depth, mask: Mask) -> None:
        unit = self.depth_model.spec.unit
        answer = ALIGN["disparity" if self.depth_model.space == "disparity" else "none"](answer, depth, mask)
        broken = (mask & ~answer.isfinite()).flatten(1).any(1)  # no score, and no mean without it either
        for name, found in metrics.score(answer, depth, mask, SCORES).items():
            score, in_unit = torch.where(broken, torch.inf, found), name == "mae"
            values = self._scores.setdefault(f"mae_{unit}" if in_unit else name, [])
            shared = self.accelerator.gather_for_metrics(score / UNITS[unit] if in_unit else score)
            values.append(torch.as_tensor(shared))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write the checkpoint aside and rename it into place whole: whatever bears its name is complete."""
        folder, together = Path(str(self.args.output_dir)), self.accelerator.wait_for_everyone
        name = f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            shutil.rmtree(folder / ".partial", ignore_errors=True)
        together()
        with _redirected(self.args, folder / ".partial"):
            super()._save_checkpoint(model, trial)
            if self.average is not None:
                self.average.save(folder / ".partial" / name, self.args.should_save)
        together()  # each process leaves its random state there
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(folder / name)
        if self.args.should_save:
            self.state.save_to_json(str(folder / ".partial" / name / "trainer_state.json"))
            shutil.rmtree(folder / name, ignore_errors=True)  # of a run that was resumed from before it
            (folder / ".partial" / name).replace(folder / name)
            rotate_checkpoints(
                str(folder), self.args.save_total_limit, self.state.best_model_checkpoint, use_mtime=False
            )
        together()

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, self.weights() if state_dict is None else state_dict)
        if self.depth_model.background is not None:
            self.depth_model.background.write(Path(output_dir or str(self.args.output_dir)))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """transformers', its optimizer's state put together from all processes where the network is sharded."""
        if not self.sharded:
            return super()._save_optimizer_and_scheduler(output_dir)
        optimizer, scheduler = self._optimizing()
        state = sharding.whole_optimizer(self.depth_model.network, optimizer)
        if self.args.should_save:
            torch.save(state, Path(output_dir, "optimizer.pt"))
            torch.save(scheduler.state_dict(), Path(output_dir, "scheduler.pt"))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if isinstance(self.depth_model.network, PeftModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self._load_weights(Path(resume_from_checkpoint))
        if self.average is not None:
            self.average.load(Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Their state alone: transformers' would bring the settings of the run before back with it."""
        if checkpoint is None:
            return
        optimizer, scheduler = self._optimizing()
        fresh = resuming.settings(optimizer)
        state = torch.load(Path(checkpoint, "optimizer.pt"), map_location="cpu", weights_only=True)
        if self.sharded:
            sharding.spread_optimizer(self.depth_model.network, optimizer, state)
        else:
            optimizer.load_state_dict(state)
        saved = torch.load(Path(checkpoint, "scheduler.pt"), map_location="cpu", weights_only=True)
        resuming.go_on(optimizer, scheduler, fresh, saved, _step_of(checkpoint))

    def _optimizing(self) -> tuple[torch.optim.Optimizer, Any]:
        """What training has set up: the optimizer inside accelerate's wrapper, and the scheduler."""
        optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        assert isinstance(optimizer, torch.optim.Optimizer) and self.lr_scheduler is not None
        return optimizer, self.lr_scheduler

    def restore_best(self) -> bool:
        """Give the network the weights of the best checkpoint, if validation has chosen one."""
        chosen = self.state.best_model_checkpoint is not None
        if chosen:
            self._load_best_model()
        return chosen

    def _load_best_model(self) -> None:
        best = Path(str(self.state.best_model_checkpoint))
        if isinstance(self.depth_model.network, PeftModel):
            super()._load_best_model()
        else:
            self._load_weights(best)
        if self.average is not None:
            self.average.load(best)

    def _load_weights(self, checkpoint: Path) -> None:
        """Read as `from_pretrained` reads, for the names on disk may be older than the network's.

        transformers' trainer matches names as they are and passes over those that do not fit: DINOv2's attention.
        """
        network = self.depth_model.network
        state = AutoModelForDepthEstimation.from_pretrained(
            checkpoint, local_files_only=True, dtype=torch.float32
        ).state_dict()
        if self.sharded:
            sharding.spread_weights(network, state)
        else:
            network.load_state_dict(state)


def _step_of(checkpoint: str) -> int:
    return int(Path(checkpoint).name.rpartition("-")[2])


@contextmanager
def _redirected(args: TrainingArguments, folder: Path) -> Iterator[None]:
    """While inside, the trainer's output folder is another."""
    kept, args.output_dir = args.output_dir, str(folder)
    try:
        yield
    finally:
        args.output_dir = kept
