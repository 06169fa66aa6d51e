"""The learning rate of a whole run, known and judged before its first step."""

from typing import Any, NamedTuple

from transformers import TrainingArguments

from sonde import schedules


class RatePlan(NamedTuple):
    """What the learning rate of a run will be, and what is wrong with it."""

    schedule: str
    """A name in SCHEDULES."""
    warmup: int
    """Steps."""
    rates: list[float]
    """Of every step."""
    restarts: list[int]
    """Steps at which the schedule declares that its rate jumps."""
    floor: str | None
    """Of a schedule driven by a score: the least it may fall to, and how; or why it never falls."""
    complaints: list[str]
    """One sentence each; a run with any is refused."""
    idle: bool = False
    """Whether a schedule driven by a score waits for more validations than the run has."""

    def summary(self, points: int = 200) -> dict[str, Any]:
        """What `--json` prints, with at most so many points of the curve as [step, rate]."""
        if not self.rates:
            return {"schedule": self.schedule, "steps": 0, "learning_rate": None, "complaints": []}
        last = len(self.rates) - 1
        steps = sorted({round(index * last / (points - 1)) for index in range(points)})
        return {
            "schedule": self.schedule,
            "steps": len(self.rates),
            "warmup_steps": self.warmup,
            "learning_rate": {"lowest": min(self.rates), "highest": max(self.rates), "last": self.rates[-1]},
            "restarts": self.restarts,
            "floor": self.floor,
            "complaints": self.complaints,
            "curve": [[step, self.rates[step]] for step in steps],
        }


NO_RATES = RatePlan("none", 0, [], [], None, [])
"""Of a run that fits a head of pixels and takes no step."""


def learning_rates(args: TrainingArguments, steps: int) -> list[float]:
    """The learning rate of every step, by running the scheduler on nothing."""
    kind, options = schedules.chosen(args)
    warmup = args.get_warmup_steps(steps)
    return schedules.rates(kind, args.learning_rate, steps, warmup, options, args.metric_for_best_model)


def plan_rates(args: TrainingArguments, steps: int, validations: int | None = None) -> RatePlan:
    """The rates of a run of so many steps, with whatever `schedules.lint` says of them.

    Args:
        args: the schedule and its options.
        steps: of the whole run.
        validations: those before the last step; None where they are not known, and each step is taken to have one.

    Raises:
        ValueError: options that the schedule does not take, or a run without a step.
    """
    if steps < 1:
        raise ValueError("The recipe trains for no step: set train.max_steps or train.num_train_epochs above 0.")
    kind, options = schedules.chosen(args)
    warmup, rates = args.get_warmup_steps(steps), learning_rates(args, steps)
    jumps = schedules.restarts(kind, steps, warmup, options)
    complaints, floor, idle = schedules.lint(rates, warmup, jumps), None, False
    if kind in schedules.BY_SCORE:
        seen = steps if validations is None else validations
        driven = (kind, args.learning_rate, seen, options, args.metric_for_best_model)
        floor, idle = schedules.floor(*driven), len(schedules.falls(*driven)) == 1
        complaints += [said for said in schedules.lint(schedules.falls(*driven)) if said not in complaints]
    return RatePlan(kind, warmup, rates, sorted(jumps), floor, complaints, idle)


def refuse_bad_rates(plan: RatePlan) -> None:
    """Raise a ValueError if the rates of a run would harm it."""
    if plan.complaints:
        raise ValueError(
            f"{' '.join(plan.complaints)} The schedule is {plan.schedule}: change train.learning_rate, "
            "train.lr_scheduler_type or train.lr_scheduler_kwargs, and look at it with --plan-lr."
        )
