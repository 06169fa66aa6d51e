"""What a run folder holds, and how a recipe opens its captures.

    folder      the recipe and the split of a run; the protocol that its own test is scored under
    captures    the sets that a recipe names, as one set
    left_out    the answers a run was chosen by, where every capture trained it

Training, evaluation and reports all read these, so they stand below all three.
"""

from sonde.runs.captures import measured_ids, open_captures
from sonde.runs.folder import Run, count_train_overlap, own_protocol, read_run, read_split, usual_protocol
from sonde.runs.left_out import ANSWERS, CHOICE, LeftOutChoice, LeftOutRecord, judged, read_choice

__all__ = [
    "ANSWERS",
    "CHOICE",
    "LeftOutChoice",
    "LeftOutRecord",
    "Run",
    "count_train_overlap",
    "judged",
    "measured_ids",
    "open_captures",
    "own_protocol",
    "read_choice",
    "read_run",
    "read_split",
    "usual_protocol",
]
