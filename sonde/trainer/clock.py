"""How much of a run goes by waiting for data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
    def waiting(self) -> Iterator[None]:
        """While inside, a step's batches are awaited."""
        self._asked = time.perf_counter()
        yield
        self._got = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """After every optimizer step."""
        if self._started:
            self.run = (self.run[0] + self._got - self._asked, self.run[1] + time.perf_counter() - self._asked)
        self._started = True

    def share(self) -> float:
        """Of the whole run's step time, in [0, 1]."""
        return _share(self.run, (0.0, 0.0))

    def lap(self) -> float:
        """The share since the last lap."""
        share, self.logged = _share(self.run, self.logged), self.run
        return share


def _share(end: tuple[float, float], start: tuple[float, float]) -> float:
    waited, whole = end[0] - start[0], end[1] - start[1]
    return waited / whole if whole else 0.0
