"""Score a model, or a folder of predictions, under a protocol: one row per image, and their mean.

    evaluation     the result: rows, means, ratios of scale, errors by range; its files
    scoring        one prediction against one capture
    heights        errors of objects and of a fixed camera's bench apart
    predictions    who answers: a model, a function, a folder
    ordinal        which of two points is nearer: DA-2K
    runs           what a run folder says of itself
    left_out       the answers a run was chosen by, where every capture trained it
    bootstrap      intervals of means, and of differences
    job            `evaluate`: a model under a protocol on one set
    verdict        whether a model beats answers that do not look at the image
    boards         scores beside each other: a run and its baselines, one model on several sets

What a prediction claims (its space) decides what may be scored: a relative map under a metric protocol is an
error, and an alignment that the protocol does not prescribe must be asked for by name and renames the result,
`zivid-mm+disparity`. Captures are read one at a time.
"""

from sonde.evaluation.boards import On, evaluate_many, folder_of, parse_on, score_with_baselines
from sonde.evaluation.bootstrap import Interval, paired
from sonde.evaluation.evaluation import (
    WORDS,
    Evaluation,
    Measure,
    columns,
    headings,
    height_table,
    range_table,
    read_evaluation,
    table,
)
from sonde.evaluation.heights import bench_of
from sonde.evaluation.job import Chosen, Watcher, evaluate, score_set
from sonde.evaluation.left_out import LeftOutChoice, judged, read_choice
from sonde.evaluation.pictures import Pictures, watchers
from sonde.evaluation.predictions import ENDINGS, Predictor, check_cut, read_predictions
from sonde.evaluation.runs import Run, measured_ids, open_captures, own_protocol, read_run
from sonde.evaluation.scoring import ALIGNABLE, LENGTHS, Scored, scale_ratio, score, score_fully, view
from sonde.evaluation.verdict import (
    ADAPTED,
    CONSTANT,
    FAR_MAP,
    LEFT_OUT,
    MEAN_MAP,
    MEAN_MAP_OF_JUDGES,
    MEDIAN_MAP,
    TRAINED,
    TRIVIAL,
    UNADAPTED,
    best_trivial,
    difference,
    spoken,
    verdict,
)
from sonde.renamed import aliases

__all__ = [
    "ADAPTED",
    "ALIGNABLE",
    "CONSTANT",
    "ENDINGS",
    "FAR_MAP",
    "LEFT_OUT",
    "LENGTHS",
    "MEAN_MAP",
    "MEAN_MAP_OF_JUDGES",
    "MEDIAN_MAP",
    "TRAINED",
    "TRIVIAL",
    "UNADAPTED",
    "WORDS",
    "Chosen",
    "Evaluation",
    "Interval",
    "LeftOutChoice",
    "Measure",
    "On",
    "Pictures",
    "Predictor",
    "Run",
    "Scored",
    "Watcher",
    "bench_of",
    "best_trivial",
    "check_cut",
    "columns",
    "difference",
    "evaluate",
    "evaluate_many",
    "folder_of",
    "headings",
    "height_table",
    "judged",
    "measured_ids",
    "open_captures",
    "own_protocol",
    "paired",
    "parse_on",
    "range_table",
    "read_choice",
    "read_evaluation",
    "read_predictions",
    "read_run",
    "scale_ratio",
    "score",
    "score_fully",
    "score_set",
    "score_with_baselines",
    "spoken",
    "table",
    "verdict",
    "view",
    "watchers",
]


__getattr__ = aliases(__name__, {"on_sets": "evaluate_many", "scoreboard": "score_with_baselines"})
