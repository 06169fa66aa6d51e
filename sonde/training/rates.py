"""The learning rate of a whole run, computed and checked before its first step."""

import math
from dataclasses import asdict, dataclass

from transformers import TrainingArguments

from sonde import schedules
from sonde.recipes.bounds import MOST_STEPS
from sonde.renamed import keep_old_names, warn_once

SHORT = 200
"""Steps below which a run samples a curve so coarsely that a smooth one changes much from one step to the next."""
CURVE_POINTS = 200
"""Most points of the curve that `--json` prints."""


@dataclass(frozen=True)
class RateRange:
    """The extremes of the learning rate over a run."""

    lowest: float
    highest: float
    last: float


@dataclass(frozen=True)
class RatePlan:
    """The learning rate of a run, and what is wrong with it."""

    schedule: str
    """A name in SCHEDULES."""
    warmup: int
    """Steps."""
    rates: list[float]
    """The rate of each step."""
    restarts: list[int]
    """Steps at which the schedule declares that its rate jumps."""
    floor: str | None
    """For a schedule that a score drives: the lowest rate it may reach, and how; or why it never falls."""
    complaints: list[str]
    """One sentence for each problem; a run with any is refused."""
    idle: bool = False
    """Whether a schedule that a score drives waits for more validations than the run has."""

    @property
    def range(self) -> RateRange | None:
        """The extremes of the rate; None for a run without a step."""
        return RateRange(min(self.rates), max(self.rates), self.rates[-1]) if self.rates else None

    def document(self, points: int = CURVE_POINTS) -> dict[str, object]:
        """The plan as JSON, with at most so many points of the curve as [step, rate]."""
        if self.range is None:
            return {"schedule": self.schedule, "steps": 0, "learning_rate": None, "complaints": []}
        last = len(self.rates) - 1
        steps = sorted({round(index * last / (points - 1)) for index in range(points)})
        return {
            "schedule": self.schedule,
            "steps": len(self.rates),
            "warmup_steps": self.warmup,
            "learning_rate": asdict(self.range),
            "restarts": self.restarts,
            "floor": self.floor,
            "complaints": self.complaints,
            "curve": [[step, self.rates[step]] for step in steps],
        }

    def summary(self, points: int = CURVE_POINTS) -> dict[str, object]:
        """The old name of `document`."""
        warn_once("RatePlan.summary", "RatePlan.document")
        return self.document(points)


NO_RATES = RatePlan("none", 0, [], [], None, [])
"""The plan of a run without a step: it only fits a head of pixels."""


def compute_rates(args: TrainingArguments, steps: int) -> list[float]:
    """The learning rate of each step, by running the scheduler without a network."""
    kind, options = schedules.read_schedule(args)
    warmup = args.get_warmup_steps(steps)
    return schedules.simulate_rates(kind, args.learning_rate, steps, warmup, options, args.metric_for_best_model)


def plan_rates(args: TrainingArguments, steps: int, validations: int | None = None) -> RatePlan:
    """The rates of a run of so many steps, with the complaints of `schedules.lint`.

    Args:
        args: the schedule and its options.
        steps: of the whole run.
        validations: those before the last step; None if they are not known, which counts one for each step.

    Raises:
        ValueError: options that the schedule does not take, or a run without a step or of more than `MOST_STEPS`.
    """
    if steps > MOST_STEPS:
        raise ValueError(
            f"The recipe trains for {steps:,} steps; expected at most {MOST_STEPS:,}: lower train.max_steps or "
            "train.num_train_epochs."
        )
    if steps < 1:
        raise ValueError("The recipe trains for no step: set train.max_steps or train.num_train_epochs above 0.")
    kind, options = schedules.read_schedule(args)
    warmup, rates = args.get_warmup_steps(steps), compute_rates(args, steps)
    jumps = schedules.find_restarts(kind, steps, warmup, options)
    complaints, floor, idle = _judge(args, rates, warmup), None, False
    # Nobody knows the scores beforehand: such a schedule is checked as if no validation after the first were better.
    if kind in schedules.BY_SCORE:
        seen = steps if validations is None else validations
        driven = (kind, args.learning_rate, seen, options, args.metric_for_best_model)
        floor, falls = schedules.describe_floor(*driven), schedules.simulate_falls(*driven)
        idle = len(falls) == 1
        complaints += [complaint for complaint in schedules.lint(falls) if complaint not in complaints]
    return RatePlan(kind, warmup, rates, sorted(jumps), floor, complaints, idle)


def _judge(args: TrainingArguments, rates: list[float], warmup: int) -> list[str]:
    """The complaints about the rates of a run; a short one is judged by the same curve over more steps."""
    kind, options = schedules.read_schedule(args)
    complaints = schedules.lint(rates, warmup, schedules.find_restarts(kind, len(rates), warmup, options))
    sound = all(math.isfinite(rate) and rate >= 0 for rate in rates)
    if not complaints or len(rates) >= SHORT or not sound:
        return complaints
    times = math.ceil(SHORT / len(rates))
    steps, rise = len(rates) * times, warmup * times
    curve = schedules.simulate_rates(kind, args.learning_rate, steps, rise, options, args.metric_for_best_model)
    return complaints if schedules.lint(curve, rise, schedules.find_restarts(kind, steps, rise, options)) else []


def refuse_bad_rates(plan: RatePlan) -> None:
    """Refuse a plan with complaints.

    Raises:
        ValueError: the rates would harm the run.
    """
    if plan.complaints:
        longer = ", or give the run more steps (train.max_steps)" if len(plan.rates) < SHORT else ""
        raise ValueError(
            f"{' '.join(plan.complaints)} The schedule is {plan.schedule}: change train.learning_rate, "
            f"train.lr_scheduler_type or train.lr_scheduler_kwargs{longer}, and check the result with --plan-lr."
        )


keep_old_names(__name__, {"learning_rates": "compute_rates"})
