"""The one trainer: transformers' own, told what a depth batch is, how it is scored, and how to save without loss."""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import rotate_checkpoints

from sonde import losses, metrics
from sonde.adapters import freeze_norms
from sonde.align import ALIGN
from sonde.datasets import Samples, collate
from sonde.datasets.contract import UNITS
from sonde.models import DepthModel
from sonde.types import Depth, Mask, PerImage, Sample

SCORES = ("mae", "abs_rel", "delta1")
"""What validation reports beside the loss; `mae` in the set's unit."""


class DepthTrainer(Trainer):
    """Minimises weighted LOSSES of a `DepthModel` on Samples; validates in the set's own unit.

    The trained module is the network itself (a PeftModel where adapters train), so that checkpoints and the
    restored best model are transformers' and PEFT's own.
    """

    def __init__(
        self,
        model: DepthModel,
        weights: Mapping[str, float],
        args: TrainingArguments,
        *,
        train: Samples,
        validation: Samples | None,
        callbacks: list[TrainerCallback],
    ):
        super().__init__(
            model=model.network,  # pyright: ignore[reportArgumentType]
            args=args,
            train_dataset=train,
            eval_dataset=validation,
            data_collator=collate,  # pyright: ignore[reportArgumentType]
            callbacks=[Epochs(train), *callbacks],
        )
        self.remove_callback(PrinterCallback)
        self.depth_model = model.to(args.device)
        model.network.to(memory_format=torch.channels_last)  # convolutions in the order that oneDNN and cuDNN prefer
        self.loss_weights = weights
        self.loss_is_scaled_for_ga = False  # ours is a mean over the batch, whatever forward's signature suggests
        self._terms: dict[str, list[Tensor]] = {}
        self._scores: dict[str, list[PerImage]] = {}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Sample,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The batch's mean of the weighted losses, at the ground truth's size."""
        if model.training and isinstance(self.depth_model.network, PeftModel):
            freeze_norms(model)
        depth, mask = inputs["depth"], inputs["mask"]
        height, width = depth.shape[-2:]
        pred = losses.resized(self.depth_model.respond(model, inputs["image"]), (height, width))
        terms = losses.weighted(pred, self._target(depth, mask), mask, self.loss_weights)
        for name, term in terms.items():
            self._terms.setdefault(name, []).append(term.detach().mean())
        if not model.training:
            self._score(pred.detach(), depth, mask)
        loss = torch.stack([term.mean() for term in terms.values()]).sum()
        return (loss, pred) if return_outputs else loss

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """transformers' loop, with the scores of every validation image among its metrics."""
        self._scores, kept = {}, self._terms
        output = super().evaluation_loop(*args, **kwargs)
        self._terms = kept
        for name, values in self._scores.items():
            assert output.metrics is not None
            output.metrics[f"eval_{name}"] = torch.cat(values).nanmean().item()
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the mean of each loss term since the last log."""
        if "loss" in logs:
            logs |= {name: torch.stack(values).mean().item() for name, values in self._terms.items()}
            self._terms = {}
        super().log(logs, start_time)

    def _target(self, depth: Depth, mask: Mask) -> Depth:
        """What the network should answer: the encoded depth, or disparity for a relative model."""
        safe = torch.where(mask, depth, 1.0)
        encoding = self.depth_model.encoding
        if encoding is not None:
            return encoding.encode(safe)
        return unit_disparity(safe, mask) if self.depth_model.space == "disparity" else safe

    def _score(self, pred: Depth, depth: Depth, mask: Mask) -> None:
        encoding, unit = self.depth_model.encoding, self.depth_model.meaning.unit
        if encoding is not None:
            answer = encoding.decode(pred)
        else:
            answer = ALIGN["disparity" if self.depth_model.space == "disparity" else "none"](pred, depth, mask)
        for name, score in metrics.score(answer, depth, mask, SCORES).items():
            in_unit = name == "mae"
            values = self._scores.setdefault(f"mae_{unit}" if in_unit else name, [])
            values.append(score / UNITS[unit] if in_unit else score)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write the checkpoint aside and rename it into place whole: whatever bears its name is complete."""
        folder = Path(str(self.args.output_dir))
        name = f"checkpoint-{self.state.global_step}"
        with _redirected(self.args, folder / ".partial"):
            super()._save_checkpoint(model, trial)
        if not self.args.should_save:
            return
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(folder / name)
            self.state.save_to_json(str(folder / ".partial" / name / "trainer_state.json"))
        shutil.rmtree(folder / name, ignore_errors=True)  # of a run that was resumed from before it
        (folder / ".partial" / name).replace(folder / name)
        rotate_checkpoints(str(folder), self.args.save_total_limit, self.state.best_model_checkpoint, use_mtime=False)


def unit_disparity(depth: Depth, mask: Mask, share: float = 0.02) -> Depth:
    """Inverse depth scaled per image to [0, 1] between its 2nd and 98th percentiles: what a relative model answers.

    Any fixed choice of scale and shift would do for the invariant losses; this one also keeps a bounded output away
    from its ends, where a loss that forgives every scale and shift lets a sigmoid drift and stop learning.
    """
    disparity = torch.where(mask, 1 / depth, torch.nan)
    low, high = disparity.flatten(1).nanquantile(torch.tensor([share, 1 - share], device=depth.device), dim=1)
    scaled = (disparity - low[:, None, None]) / (high - low).clamp_min(1e-6)[:, None, None]
    return scaled.nan_to_num(0.0).clamp(0, 1)


class JsonLines(TrainerCallback):
    """Appends every log to `metrics.jsonl` of the run."""

    def __init__(self, path: Path):
        self.path = path

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """One line: step, epoch and the numbers."""
        logs = kwargs.get("logs") or {}
        line = {
            "step": state.global_step,
            **{key: value for key, value in logs.items() if key != "total_flos"},
        }
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


class Epochs(TrainerCallback):
    """Tells the samples their epoch, also when a run resumes inside one: accelerate forgets it there."""

    def __init__(self, samples: Samples):
        self.samples = samples

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Before the first batch of an epoch, or of the rest of one."""
        self.samples.set_epoch(math.floor((state.epoch or 0) + 1e-6))


class Progress(TrainerCallback):
    """Tells a listener the step, of how many, and the newest numbers."""

    def __init__(self, listener: Callable[[int, int, dict[str, float]], None]):
        self.listener = listener
        self.latest: dict[str, float] = {}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """After every optimizer step."""
        self.listener(state.global_step, state.max_steps, self.latest)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The newest loss and validation scores."""
        shown = ("loss", "eval_loss", "eval_mae_mm", "eval_mae_m", "eval_abs_rel", "eval_delta1")
        self.latest |= {key: value for key, value in (kwargs.get("logs") or {}).items() if key in shown}
        self.listener(state.global_step, state.max_steps, self.latest)


@contextmanager
def _redirected(args: TrainingArguments, folder: Path) -> Iterator[None]:
    """While inside, the trainer's output folder is another, empty one."""
    kept, args.output_dir = args.output_dir, str(folder)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    finally:
        args.output_dir = kept
