"""What a run folder holds, and how a recipe opens its captures.

    folder      the recipe and the split of a run; the protocol that its own test is scored under
    captures    the sets that a recipe names, as one set
    origin      what a run was started with, and the command that resumes it
    left_out    the answers a run was chosen by, where every capture trained it

Training, evaluation and reports all read these, so they stand below all three.
"""

from sonde.runs.captures import measured_ids, open_captures
from sonde.runs.folder import Run, count_train_overlap, own_protocol, read_run, read_split, usual_protocol
from sonde.runs.left_out import ANSWERS, CHOICE, LeftOutChoice, LeftOutRecord, judged, read_choice
from sonde.runs.origin import Origin, advise_other_checkpoint, find_origin, find_run, read_origin, resume_command

__all__ = [
    "ANSWERS",
    "CHOICE",
    "LeftOutChoice",
    "LeftOutRecord",
    "Origin",
    "Run",
    "advise_other_checkpoint",
    "count_train_overlap",
    "find_origin",
    "find_run",
    "judged",
    "measured_ids",
    "open_captures",
    "own_protocol",
    "read_choice",
    "read_origin",
    "read_run",
    "read_split",
    "resume_command",
    "usual_protocol",
]
