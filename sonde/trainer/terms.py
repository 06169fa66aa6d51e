"""The means of each loss term since the last log, without those of skipped steps."""

import torch
from torch import Tensor

from sonde.tensors import PerImage


class LossTerms:
    """The mean of each loss term for every batch since the last log, and the steps that the batches belong to."""

    def __init__(self) -> None:
        self.means: dict[str, list[Tensor]] = {}
        self.steps = self.skipped = 0
        self._total = self._total_before = torch.zeros(())
        self._batches_before = 0

    def add(self, terms: dict[str, PerImage]) -> None:
        """Add a batch."""
        for name, term in terms.items():
            self.means.setdefault(name, []).append(term.detach().mean())

    def start_step(self, total: Tensor) -> None:
        """Remember where a step starts, and the trainer's running sum of losses, to which it will add in place."""
        self._total, self._total_before = total, total.clone()
        self._batches_before = len(next(iter(self.means.values()), ()))

    def finish_step(self) -> None:
        """Count a step, whether it is taken or skipped."""
        self.steps += 1

    def forget_step(self) -> None:
        """Remove the batches of the step under way, here and from the trainer's sum, and count it as skipped."""
        self.skipped += 1
        self._total.copy_(self._total_before)
        for values in self.means.values():
            del values[self._batches_before :]

    def take_means(self) -> dict[str, Tensor]:
        """This process's mean of each term since the last call."""
        means = {name: torch.stack(values).mean() for name, values in self.means.items() if values}
        self.means = {}
        return means

    def restore(self, means: dict[str, list[float]], steps: int, skipped: int, device: torch.device) -> None:
        """Go on from the sums of a checkpoint."""
        self.means = {name: list(torch.tensor(values, device=device)) for name, values in means.items()}
        self.steps, self.skipped = steps, skipped

    def average_taken(self, mean: float) -> float:
        """The mean loss of the steps that were taken, from the mean over all since the last call; NaN if none was."""
        steps, skipped = self.steps, self.skipped
        self.steps = self.skipped = 0
        return mean * steps / (steps - skipped) if steps > skipped else torch.nan
