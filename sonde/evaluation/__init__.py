"""Score a model, or a folder of predictions, under a protocol: one row per image, and their mean.

    columns        what a row holds
    evaluation     the result: rows, means, ratios of scale, errors by range; its files
    settings       what the result records, so that it can be scored again
    predictions    who answers: a model, a function, a folder
    levels         predictions in levels of a size that somebody else states
    scoring        one prediction against one capture
    heights        errors of objects and of a fixed camera's bench apart
    chosen, rows   the captures to score, and a row for each
    ordinal        which of two points is nearer: DA-2K
    bootstrap      intervals of means, and of differences
    job            `evaluate`: a model under a protocol on one set
    many           `evaluate_many`: a model on several sets
    verdict        whether a model beats answers that do not look at the image
    rivals         `score_with_baselines`: a run beside its baselines
    pictures       depth maps as they are scored

What a prediction claims (its space) decides what may be scored: a relative map under a metric protocol is an
error, and an alignment that the protocol does not prescribe must be asked for by name and renames the result,
`zivid-mm+disparity`. Captures are read one at a time.
"""

from sonde.evaluation.bootstrap import Interval, paired
from sonde.evaluation.chosen import Chosen
from sonde.evaluation.columns import WORDS, Row
from sonde.evaluation.evaluation import (
    Evaluation,
    Measure,
    columns,
    headings,
    height_table,
    means,
    range_table,
    read_evaluation,
    table,
)
from sonde.evaluation.heights import Heights, bench_of
from sonde.evaluation.job import evaluate
from sonde.evaluation.many import On, evaluate_many, folder_of, parse_on
from sonde.evaluation.pictures import Pictures, watchers
from sonde.evaluation.predictions import ENDINGS, Predictor, Subject, check_cut, read_predictions
from sonde.evaluation.rivals import score_with_baselines
from sonde.evaluation.rows import Watcher, score_set
from sonde.evaluation.scoring import ALIGNABLE, Scored, apply_protocol_view, scale_ratio, score, score_fully
from sonde.evaluation.settings import Displacement, Settings
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
    describe_worth,
    difference,
    spoken,
    verdict,
)
from sonde.renamed import keep_old_names

__all__ = [
    "ADAPTED",
    "ALIGNABLE",
    "CONSTANT",
    "ENDINGS",
    "FAR_MAP",
    "LEFT_OUT",
    "MEAN_MAP",
    "MEAN_MAP_OF_JUDGES",
    "MEDIAN_MAP",
    "TRAINED",
    "TRIVIAL",
    "UNADAPTED",
    "WORDS",
    "Chosen",
    "Displacement",
    "Evaluation",
    "Heights",
    "Interval",
    "Measure",
    "On",
    "Pictures",
    "Predictor",
    "Row",
    "Scored",
    "Settings",
    "Subject",
    "Watcher",
    "apply_protocol_view",
    "bench_of",
    "best_trivial",
    "check_cut",
    "columns",
    "describe_worth",
    "difference",
    "evaluate",
    "evaluate_many",
    "folder_of",
    "headings",
    "height_table",
    "means",
    "paired",
    "parse_on",
    "range_table",
    "read_evaluation",
    "read_predictions",
    "scale_ratio",
    "score",
    "score_fully",
    "score_set",
    "score_with_baselines",
    "spoken",
    "table",
    "verdict",
    "watchers",
]

keep_old_names(
    __name__,
    {"on_sets": "evaluate_many", "scoreboard": "score_with_baselines", "view": "apply_protocol_view"}
    | {
        name: f"sonde.runs.{name}"
        for name in ("Run", "judged", "measured_ids", "open_captures", "own_protocol", "read_choice", "read_run")
    },
)
