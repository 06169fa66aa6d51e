"""Whether a model beats its rivals beyond chance; if not, the first sentence of its report says so."""

from collections.abc import Mapping, Sequence

from sonde.evaluation.bootstrap import Interval, intervals, paired
from sonde.evaluation.columns import is_better_larger
from sonde.evaluation.evaluation import Evaluation
from sonde.recipes import Recipe
from sonde.spelling import quantify

CONSTANT = "one constant depth"
MEAN_MAP = "mean depth map of the training set"
MEDIAN_MAP = "median depth map of the training set"
FAR_MAP = "farthest depth map of the training set"
TRIVIAL = (CONSTANT, MEAN_MAP, MEDIAN_MAP, FAR_MAP)
"""Rows of answers that do not look at the image."""
MEAN_MAP_OF_JUDGES = "mean depth map of the validation set"
UNADAPTED = "unadapted model, aligned per image"
ADAPTED = "adapted model"
TRAINED = "trained model"
"""What the last row is called where the weights were drawn at random."""
LEFT_OUT = "left out, frozen features"
"""What it is called where every capture trained: heads on frozen features answer, each for captures it did not see."""

FEW = 5
"""Fewer captures, or scenes, than this are too few to claim an accuracy."""


def spoken(row: str) -> str:
    """A row's name inside a sentence."""
    return {CONSTANT: CONSTANT, LEFT_OUT: "left-out heads on frozen features"}.get(row, f"the {row}")


def best_trivial(scoreboard: Mapping[str, Evaluation], rows: Sequence[str] = TRIVIAL) -> str | None:
    """The best of these rows, by the last row's main metric; None without any."""
    metric = list(scoreboard.values())[-1].main.metric
    rivals = [row for row in rows if row in scoreboard]
    best = max if is_better_larger(metric) else min
    return best(rivals, key=lambda row: scoreboard[row].metrics[metric], default=None)


def difference(one: Evaluation, other: Evaluation, level: int | float = 95) -> dict[str, Interval]:
    """Metric -> mean difference of two evaluations of the same images, one - other, and its paired interval.

    Raises:
        ValueError: other images, or another protocol, whose numbers would differ by themselves.
    """
    if one.protocol != other.protocol or one.settings.protocol != other.settings.protocol:
        raise ValueError(f"Scores under {one.protocol} and {other.protocol} differ by protocol: score both under one.")
    limits = [scored.settings.limits for scored in (one, other)]
    if limits[0] != limits[1]:
        raise ValueError(f"Scores of depth read within {limits[0]} and {limits[1]} differ by that: read both alike.")
    names = [name for name in one.metrics if name in other.metrics]
    return paired(one.rows, other.rows, names, level)


def verdict(scoreboard: Mapping[str, Evaluation], recipe: Recipe) -> str:
    """That the last row does not beat its best rival beyond the paired 95 % interval; empty where it does.

    Rivals are the answers that do not look at the image, and the unadapted model, whose alignment sees the truth.
    Of fewer than two captures there is no interval: the means alone decide.
    """
    label, own = list(scoreboard.items())[-1]
    rival = best_trivial(scoreboard, (*TRIVIAL, UNADAPTED))
    if rival is None:
        return ""
    main, best = own.main, scoreboard[rival]
    found = None if own.alone else paired(own.rows, best.rows, [main.metric])[main.metric]
    off = own.metrics[main.metric] - best.metrics[main.metric]
    larger = is_better_larger(main.metric)
    ahead = -off if larger else off  # below 0 where the model is better in the mean
    worst = ahead if found is None else -found.low if larger else found.high
    if worst < 0:
        return ""
    scores = [f"{scored.metrics[main.metric]:.3g}" for scored in (own, best)]
    verb = "do" if label == LEFT_OUT else "does"
    subject = spoken(label)
    return (
        f"{subject[0].upper()}{subject[1:]} {verb} not beat {spoken(rival)}{' beyond chance' * (ahead < 0)}: "
        f"{' against '.join(scores)} {main.unit} {main.words}{_by(off, found, own)}; {_remedies(recipe)}."
    )


def describe_worth(scored: Evaluation) -> str:
    """How many captures the main error is of, its interval, and what that is worth, in a sentence.

    The interval has the level that was asked for, else 95 %.
    """
    main, level = scored.main, scored.settings.ci or 95
    over = len({row.get("scene", row["id"]) for row in scored.rows})
    number = quantify(len(scored.rows), "capture")
    if "scene" in scored.rows[0]:
        number += f" of {quantify(over, 'scene')}"
    if scored.alone:
        verb = "tells" if len(scored.rows) == 1 else "tell"
        return f"{number} {verb} little: there is no interval."
    found = intervals(scored.rows, [main.metric], level)[main.metric]
    span = f"{level:g} % interval {_round(found.low)} to {_round(found.high)} {main.unit}".rstrip()
    if over < FEW:
        return f"{number} tell little: {span}, itself too narrow for so few."
    error = f"{main.words} {_round(found.mean)} {main.unit}".rstrip()
    return f"{number}: {error}, {span}."


def _round(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def _by(off: float, found: Interval | None, own: Evaluation) -> str:
    """The difference in words."""
    if found is None:
        return f", on {len(own.rows)} capture{'s' * (len(own.rows) > 1)}"
    span = f"95 % interval {found.low:+.3g} to {found.high:+.3g}"
    return f", a difference of {off:+.3g} {own.main.unit} ({span}, {len(own.rows)} captures)"


def _remedies(recipe: Recipe) -> str:
    """What may make a model better than this."""
    steps = recipe.train.get("max_steps", -1)
    name = "train.num_train_epochs" if steps == -1 and "num_train_epochs" in recipe.train else "train.max_steps"
    if recipe.choose is not None:
        return f"try more captures, or more steps ({'choose.steps' if steps == 0 else name})"
    bench = "" if recipe.model.background != "none" else "for a camera that stands still model.background=auto, "
    return f"try more captures, {bench}or more steps ({name})"
