"""The share of a run's step time that is spent waiting for data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Clock(TrainerCallback):
    """Seconds from asking for a step's batches until the step is taken, and how many of them passed without a batch.

    Validation and checkpoints lie between steps and do not count, nor does the first step, in which workers start and
    memory is first touched. Each process counts its own.
    """

    def __init__(self) -> None:
        self.run = self.logged = (0.0, 0.0)
        self._asked = self._got = 0.0
        self._started = False

    @contextmanager
    def time_wait(self) -> Iterator[None]:
        """While inside, the trainer waits for a step's batches."""
        self._asked = time.perf_counter()
        yield
        self._got = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """After every optimizer step."""
        if self._started:
            self.run = (self.run[0] + self._got - self._asked, self.run[1] + time.perf_counter() - self._asked)
        self._started = True

    def read_share(self) -> float:
        """The share of the whole run's step time, in [0, 1]."""
        return _divide(self.run, (0.0, 0.0))

    def read_lap(self) -> float:
        """The share since the last lap, in [0, 1]; starts the next lap."""
        share, self.logged = _divide(self.run, self.logged), self.run
        return share


def _divide(end: tuple[float, float], start: tuple[float, float]) -> float:
    waited, whole = end[0] - start[0], end[1] - start[1]
    return waited / whole if whole else 0.0
