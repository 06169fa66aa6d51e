"""How a run was chosen where every capture trained it: by answers to captures that were left out.

    RUN/choice.json     {"folds": [["a"], ["b"], …], "chosen": {…}, "sentence": "…", …}
    RUN/left-out/       ID.npy and predictions.json: what heads on frozen features answer, made from the other folds

They are not the answers of the model that ships: that model saw every capture.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from sonde import files
from sonde.ids import CaptureId
from sonde.runs.folder import Run
from sonde.spelling import quantify
from sonde.strict import EXACT

CHOICE, ANSWERS = "choice.json", "left-out"
REMEDY = "expected folds, chosen and sentence, as `sonde train` writes them; train again"


@with_config(EXACT)
class ChoiceDocument(TypedDict):
    """What a reader needs of `choice.json`."""

    folds: list[list[CaptureId]]
    chosen: dict[str, str | int | float]
    sentence: NotRequired[str | None]


@dataclass(frozen=True)
class LeftOutRecord:
    """What an evaluation of left-out answers records."""

    kind: str
    """`leave-one-out`, or `8-fold`."""
    folds: list[list[str]]
    chosen: dict[str, str | int | float]
    sentence: str


class LeftOutChoice(NamedTuple):
    """How a run was chosen by leaving captures out."""

    run: Path
    folds: list[list[str]]
    """Capture ids: each fold was answered by a head that the others trained."""
    chosen: dict[str, str | int | float]
    """Setting -> value."""
    sentence: str
    """What was found on the way; may be empty."""

    @property
    def answers(self) -> Path:
        """The folder of predictions to score."""
        return self.run / ANSWERS

    @property
    def ids(self) -> list[str]:
        """Every capture of the folds, sorted."""
        return sorted(id_ for fold in self.folds for id_ in fold)

    @property
    def kind(self) -> str:
        """`leave-one-out`, or `8-fold`."""
        return "leave-one-out" if max(map(len, self.folds)) == 1 else f"{len(self.folds)}-fold"

    @property
    def words(self) -> str:
        """Which captures are scored."""
        return f"{quantify(len(self.ids), 'capture')} of {self.run}, left out in turn ({self.kind})"

    @property
    def record(self) -> LeftOutRecord:
        """What an evaluation of the answers records."""
        return LeftOutRecord(self.kind, self.folds, self.chosen, self.sentence)

    @property
    def fact(self) -> str:
        """What was chosen, in a few words."""
        return f"{', '.join(f'{name} {value}' for name, value in self.chosen.items())}, by {self.kind} scores"


def read_choice(run: Path) -> LeftOutChoice | None:
    """How the run of this folder was chosen; None where no captures were left out, or their answers are gone.

    Raises:
        ValueError: a choice.json that cannot be read.
    """
    path = run / CHOICE
    if not path.is_file() or not (run / ANSWERS).is_dir():
        return None
    document: ChoiceDocument = files.read_json(path, ChoiceDocument, REMEDY)
    folds = document["folds"]
    return LeftOutChoice(run, folds, document["chosen"], document.get("sentence") or "") if len(folds) > 1 else None


def judged(run: Run) -> str | None:
    """What a run is scored on: `test`, else `validation`, else the `left-out` answers; None where there is nothing."""
    for part in ("test", "validation"):
        if run.parts[part]:
            return part
    return ANSWERS if read_choice(run.folder) else None
