"""What happens beside the steps: logs on disk, the samples' epoch, progress, and the moving average of the weights."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sonde.datasets import DepthDataset
from sonde.files import atomic_write, writing
from sonde.trainer.sharding import gather_whole, take_local


class JsonLines(TrainerCallback):
    """Appends every log to `metrics.jsonl` of the run."""

    def __init__(self, path: Path):
        self.path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Removes the lines of steps that will be taken again, and the last line of a run that ended at this step."""
        if state.is_world_process_zero and self.path.is_file():
            lines = self.path.read_bytes().splitlines()
            kept = [line for line in lines if _stays(line, state.global_step)]
            with atomic_write(self.path) as tmp_path:
                tmp_path.write_bytes(b"".join(line + b"\n" for line in kept))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """One line: step, epoch and the numbers; null for a number that is not finite, which JSON cannot hold."""
        if not state.is_world_process_zero:
            return
        numbers = {key: value for key, value in (logs or {}).items() if key != "total_flos"}
        finite = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
        with writing(self.path), self.path.open("a") as file:
            file.write(json.dumps({"step": state.global_step, **finite}, allow_nan=False) + "\n")


def _stays(line: bytes, reached: int) -> bool:
    """Whether a line of the log belongs to the steps before a run goes on; a kill can leave half a line."""
    try:
        numbers = json.loads(line)
        step = int(numbers["step"])
    except (ValueError, LookupError, TypeError):
        return False
    return step <= reached and not ("train_loss" in numbers and step == reached)


class Epochs(TrainerCallback):
    """Gives the samples their epoch, also when a run resumes inside one: accelerate forgets it there."""

    def __init__(self, samples: DepthDataset):
        self.samples = samples

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Before the first batch of an epoch, or of the rest of one."""
        # The epoch is a sum of shares of an epoch: 2.9999999 is the third.
        self.samples.set_epoch(math.floor((state.epoch or 0) + 1e-6))


class Pace(TrainerCallback):
    """Where the strategy is by epoch: validates, and saves, every so many epochs and after the last."""

    def __init__(self, validate: int, save: int):
        self.validate = validate
        self.save = save
        self.began = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Remembers the step at which the run begins or goes on."""
        self.began = state.global_step

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Withdraws what transformers has asked for by now, in the epochs between."""
        epoch, last = round(state.epoch or 0), state.global_step >= state.max_steps
        control.should_evaluate &= last or epoch % self.validate == 0
        control.should_save &= last or epoch % self.save == 0
        if state.global_step == self.began:  # the run was over when it was resumed: all of it is done
            control.should_log = control.should_evaluate = control.should_save = False


class Progress(TrainerCallback):
    """Gives a listener the step, the number of steps, and the newest numbers."""

    def __init__(self, listener: Callable[[int, int, dict[str, float]], None]):
        self.listener = listener
        self.latest: dict[str, float] = {}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """After every optimizer step."""
        self.listener(state.global_step, state.max_steps, self.latest)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """The newest loss and validation scores."""
        shown = ("loss", "eval_loss", "eval_mae_mm", "eval_mae_m", "eval_abs_rel", "eval_delta1")
        self.latest |= {key: value for key, value in (logs or {}).items() if key in shown}
        self.listener(state.global_step, state.max_steps, self.latest)


class Best(TrainerCallback):
    """Finds the best checkpoint by its step: the path that a run recorded is wrong once its folder has moved."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """After transformers has read the state and dropped a best checkpoint whose path does not exist."""
        own = Path(str(args.output_dir)) / f"checkpoint-{state.best_global_step}"
        if own.is_dir():
            state.best_model_checkpoint = str(own)


class Average(TrainerCallback):
    """An exponential moving average of the trained weights: what is validated and kept in place of the last step's.

    The decay rises to its value as (1 + n) / (10 + n) over the first steps n, so that the start is soon forgotten.
    """

    FILE = "ema.safetensors"

    def __init__(self, network: nn.Module, decay: float):
        self.parameters = {name: value for name, value in network.named_parameters() if value.requires_grad}
        self.values = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.decay = decay
        self.resting = False
        """Set for a step that was skipped: it must not count in the average."""

    @torch.no_grad()
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """After every optimizer step that was taken."""
        if self.resting:
            return
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        present = [take_local(value.detach()) for value in self.parameters.values()]
        averaged = [take_local(value) for value in self.values.values()]
        get_ema_multi_avg_fn(decay)(averaged, present, state.global_step)

    @contextmanager
    def swap_in(self) -> Iterator[None]:
        """While inside, the network has the averaged weights."""
        kept = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.apply()
        try:
            yield
        finally:
            self._set(kept)

    def apply(self) -> None:
        """Give the network the averaged weights for good."""
        self._set(self.values)

    def save(self, folder: Path, main: bool) -> None:
        """Write the average beside a checkpoint's weights; every process must call it, the main one writes."""
        state = {name: gather_whole(value).cpu().contiguous() for name, value in self.values.items()}
        if main:
            save_file(state, folder / self.FILE)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        for name, value in load_file(folder / self.FILE).items():
            take_local(self.values[name]).copy_(take_local(value, like=self.values[name]))

    @torch.no_grad()
    def _set(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            take_local(parameter.detach()).copy_(take_local(values[name]))
