"""The one trainer: transformers' own, for depth batches, with scores in the set's unit and complete checkpoints."""

from sonde.renamed import keep_old_names
from sonde.trainer import blackbox, sharding
from sonde.trainer.blackbox import SkippedStep
from sonde.trainer.callbacks import Average, Best, Epochs, JsonLines, Pace, Progress
from sonde.trainer.clock import Clock
from sonde.trainer.guard import StepGuard, Stopped
from sonde.trainer.objective import Objective, normalise_disparity
from sonde.trainer.overrides import DepthTrainer
from sonde.trainer.recorder import Recorder
from sonde.trainer.results import Results
from sonde.trainer.scoring import SCORES, name_scores
from sonde.trainer.trace import BatchTrace

__all__ = [
    "SCORES",
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
    "StepGuard",
    "Stopped",
    "blackbox",
    "name_scores",
    "normalise_disparity",
    "sharding",
]

keep_old_names(
    __name__,
    {"score_names": "name_scores", "unit_disparity": "normalise_disparity"},
)
