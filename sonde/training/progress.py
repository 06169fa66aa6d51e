"""How far a run has come: whether it finished, at which step it stopped, and whether a process still writes it."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from sonde import files, recipes
from sonde.cards import CARD
from sonde.recipes import RECORD
from sonde.runs import resume_command
from sonde.strict import EXACT
from sonde.training.resuming import list_checkpoints, read_step

WRITTEN = (RECORD, "metrics.jsonl", "metrics.json", "checkpoints/*", "blackbox/*", "best/*", "report.html")
"""What a run writes from its start to its end."""
LOG = "metrics.jsonl"
RunPhase = Literal["finished", "running", "stopped"]


@with_config(EXACT)
class PlannedSteps(TypedDict):
    """What of a checkpoint's `trainer_state.json` says how long the run is."""

    max_steps: NotRequired[Annotated[int, Field(ge=0)]]


@dataclass(frozen=True)
class RunProgress:
    """How far a run has come."""

    phase: RunPhase
    """`running`: a process holds the folder; `stopped`: it did not finish, and nobody does."""
    step: int
    """The last one that is logged or that a checkpoint holds."""
    checkpoint: int | None
    """The step of the newest complete checkpoint, from which the run resumes."""
    steps: int | None
    """Of the whole run; None where it is not known."""
    last_written: str
    """ISO 8601, UTC."""
    writer: str | None
    """The process that holds the folder."""
    resume: str | None
    """The command that goes on with a stopped run."""

    def document(self) -> dict[str, object]:
        """The progress as JSON."""
        return asdict(self)

    def describe(self) -> str:
        """The same in a sentence."""
        far = f"step {self.step:,}" if self.steps is None else f"step {self.step:,} of {self.steps:,}"
        written = f"last written at {self.last_written.replace('T', ' ').replace('+00:00', ' UTC')}"
        if self.phase == "finished":
            return f"The run is finished, at {far}; {written}."
        if self.phase == "running":
            return f"The run is at {far}, and {self.writer} holds it; {written}."
        kept = "no checkpoint is complete, so that it begins again"
        if self.checkpoint is not None:
            kept = f"its newest complete checkpoint is of step {self.checkpoint:,}"
        return f"The run did not finish: it stopped at {far}, and no process holds it; {kept}; {written}."


def read_progress(run: Path) -> RunProgress:
    """How far the run of a folder has come.

    Raises:
        ValueError: a recipe or a checkpoint that cannot be read.
    """
    checkpoints, writer = list_checkpoints(run), files.find_writer(run)
    newest = read_step(checkpoints[-1]) if checkpoints else None
    finished = writer is None and _has_finished(run)
    phase: RunPhase = "finished" if finished else "stopped" if writer is None else "running"
    return RunProgress(
        phase,
        max(_read_logged_step(run), newest or 0),
        newest,
        _read_steps(run, checkpoints),
        _find_last_write(run),
        writer,
        resume_command(run) if phase == "stopped" else None,
    )


def _has_finished(run: Path) -> bool:
    """Whether a run has ended since it last began, when it wrote its recipe and removed its scores."""
    card = run / "best" / CARD
    if (run / "metrics.json").is_file():
        return True
    return card.is_file() and card.stat().st_mtime >= (run / RECORD).stat().st_mtime


def _read_logged_step(run: Path) -> int:
    """The last step of the log; 0 where nothing is logged. A line that was cut when the run was killed is none."""
    steps = [0]
    if (run / LOG).is_file():
        for line in files.read_text(run / LOG).splitlines():
            try:
                found = files.parse_json(line, dict[str, Any]).get("step")
            except ValueError:
                continue
            steps += [found] if isinstance(found, int) else []
    return max(steps)


def _read_steps(run: Path, checkpoints: list[Path]) -> int | None:
    if checkpoints:
        path = checkpoints[-1] / "trainer_state.json"
        state: PlannedSteps = files.read_json(path, PlannedSteps, "remove the checkpoint")
        return state.get("max_steps")
    wanted = recipes.load(run).train.get("max_steps")
    return wanted if isinstance(wanted, int) and wanted >= 0 else None


def _find_last_write(run: Path) -> str:
    times = [path.stat().st_mtime for pattern in WRITTEN for path in run.glob(pattern)]
    return datetime.fromtimestamp(max(times), UTC).isoformat(timespec="seconds")
