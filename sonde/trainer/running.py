"""The sums of losses behind the logs, kept in each checkpoint: a resumed run logs what an undisturbed run logs."""

import json
from collections.abc import Callable
from pathlib import Path

from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import TypedDict

from sonde.files import read_json
from sonde.runs import advise_other_checkpoint
from sonde.trainer.terms import LossTerms


class LossSums(TypedDict):
    """What transformers and `LossTerms` have summed when a checkpoint is written, over all processes."""

    total: float
    """The losses of all logged steps."""
    since_log: float
    """The losses of the steps since the last log."""
    last_logged: int
    """The step of the last log."""
    terms: dict[str, list[float]]
    """The mean of each loss term, for every batch since the last log."""
    steps: int
    """Steps since the last log; and how many of them were skipped."""
    skipped: int


class RunningLoss(TrainerCallback):
    """Writes the sums into a checkpoint, and gives them back to the trainer that resumes from it."""

    FILE = "running_loss.json"

    def __init__(self, trainer: Trainer, terms: LossTerms, average: Callable[[Tensor], float]):
        self.trainer, self.terms, self.average = trainer, terms, average
        self._read: LossSums | None = None

    def save(self, folder: Path, main: bool) -> None:
        """Write the sums; every process must call it, the main one writes."""
        trainer = self.trainer
        sums = LossSums(
            total=trainer._total_loss_scalar,
            since_log=self.average(trainer._tr_loss),
            last_logged=trainer._globalstep_last_logged,
            terms={
                name: [self.average(value) for value in values] for name, values in self.terms.means.items() if values
            },
            steps=self.terms.steps,
            skipped=self.terms.skipped,
        )
        if main:
            (folder / self.FILE).write_text(json.dumps(sums))

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; earlier versions wrote nothing."""
        if (folder / self.FILE).is_file():
            self._read = read_json(folder / self.FILE, LossSums, advise_other_checkpoint(folder))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """After transformers has set its sums to 0."""
        if self._read is not None:
            sums, trainer = self._read, self.trainer
            trainer._total_loss_scalar = sums["total"]
            trainer._tr_loss += sums["since_log"]
            trainer._globalstep_last_logged = sums["last_logged"]
            self.terms.restore(sums["terms"], sums["steps"], sums["skipped"], trainer._tr_loss.device)
            self._read = None
