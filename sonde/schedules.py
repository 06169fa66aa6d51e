"""Learning-rate schedules by name; and what a run's rate will be, simulated, drawn and judged before the first step.

A schedule maps (optimizer, steps, warmup, **options) to a torch scheduler that is stepped after every optimizer step
or, where a score drives it, after every validation. Steps are optimizer steps of the whole run, counted from 0. Each
group of the optimizer follows the same curve below its own rate. transformers' names have transformers' meaning; our
own schedules end, like those, at the step after the last, and leave the optimizer's momentum and betas alone.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LambdaLR, LRScheduler, OneCycleLR
from transformers import SchedulerType, TrainingArguments, get_scheduler

from sonde.metrics import METRICS, is_better_larger
from sonde.renamed import keep_old_names
from sonde.spelling import nearest


@runtime_checkable
class Scheduler(Protocol):
    """What training needs of a scheduler: torch's LRScheduler, and transformers' GreedyLR, which is none."""

    @property
    def step(self) -> Callable[..., object]:
        """Called without arguments after a step, or with the score of a validation."""
        ...

    def state_dict(self) -> dict[str, object]:
        """Its progress and its settings."""
        ...

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """The reverse of `state_dict`."""
        ...


@runtime_checkable
class ScoreScheduler(Scheduler, Protocol):
    """A scheduler that lowers the rate when a score gets no better."""

    mode: str
    factor: float
    patience: int
    min_lrs: list[float]


Schedule = Callable[..., Scheduler]
"""(optimizer, steps, warmup, **options) → a scheduler."""

Number = float | int
"""As YAML writes it."""

Options = Mapping[str, object]
"""Keyword arguments of a schedule, as `train.lr_scheduler_kwargs` gives them."""

TENFOLD = 10 * (1 + 1e-6)
"""The largest change of the rate in one step that `lint` accepts."""

BY_SCORE = ("reduce_lr_on_plateau", "greedy")
"""Schedules stepped by the score of each validation; their rates are not known beforehand."""


class ScheduledArguments(TrainingArguments):
    """TrainingArguments plus a name in SCHEDULES: their own `lr_scheduler_type` takes transformers' names only."""

    # Any, since `settings` are TrainingArguments' own fields: about a hundred, of many types.
    def __init__(self, schedule: str = "linear", schedule_options: Options | None = None, **settings: Any):
        super().__init__(**settings)
        self.schedule = schedule
        self.schedule_options = dict(schedule_options or {})


def read_schedule(args: TrainingArguments) -> tuple[str, dict[str, object]]:
    """The schedule's name in SCHEDULES and its options."""
    if isinstance(args, ScheduledArguments):
        return args.schedule, args.schedule_options
    options = args.lr_scheduler_kwargs
    return SchedulerType(args.lr_scheduler_type).value, options if isinstance(options, dict) else {}


def build(
    kind: str,
    optimizer: Optimizer,
    steps: int,
    warmup: int = 0,
    options: Options | None = None,
    metric: str | None = None,
) -> Scheduler:
    """The scheduler of a run.

    Args:
        kind: a name in SCHEDULES.
        optimizer: its groups hold the highest rates.
        steps: of the whole run.
        warmup: steps of the linear rise from zero; the length of its own rise for `one_cycle`.
        options: as `train.lr_scheduler_kwargs` gives them.
        metric: the validation score that drives a plateau, such as `eval_loss` or `eval_delta1`.

    Raises:
        ValueError: an unknown name, an option the schedule does not take, or a warm-up where there can be none.
    """
    if kind not in SCHEDULES:
        raise ValueError(f"Unknown schedule train.lr_scheduler_type={kind}: {nearest(kind, list(SCHEDULES))}")
    settings = dict(options or {})
    if warmup and kind in (*BY_SCORE, "cyclic", "glp"):
        why = "waits for validations" if kind in BY_SCORE else "rises by itself"
        raise ValueError(f"train.lr_scheduler_type={kind} {why} and takes no warm-up: set train.warmup_steps=0.")
    if kind in BY_SCORE:
        settings["mode"] = _agree_on_mode(settings.get("mode"), metric or "loss")
        # Every other schedule writes this down by itself. A resumed run needs it to know by how much the rate fell.
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
    with _explain_errors(kind, settings):
        return SCHEDULES[kind](optimizer, steps, warmup, **settings)


def glp(step: Number, steps: int, lr: Number) -> float:
    """GLPDepth's rate, made safe: from 0.3 lr at the start up to lr at half time and back, never below 0.3 lr.

    With h = steps / 2 and x = step / h: (0.3 + 0.7 x^0.9) lr while x < 1, then (1 - 0.7 (x - 1)^0.9) lr. The original
    (Kim et al., 2022, `train.py`) counts 2019 steps an epoch whatever the data, and halves epochs as integers, so that
    its rate turns negative in longer runs.
    """
    x = 2 * step / steps
    share = 0.3 + 0.7 * x**0.9 if x < 1 else 1 - 0.7 * (x - 1) ** 0.9
    return max(share, 0.3) * lr


def find_mode(metric: str) -> str:
    """`max` for scores that are better when larger (δ1 to δ3, edge F1), else `min`.

    Raises:
        ValueError: a name that is neither a loss nor in METRICS, with or without `eval_` before and a unit behind it.
    """
    name = metric.removeprefix("eval_")
    if is_better_larger(name):
        return "max"
    if name.endswith("loss") or name in METRICS or name.rpartition("_")[0] in METRICS:
        return "min"
    raise ValueError(
        f"train.metric_for_best_model={metric} is neither a loss nor a metric of sonde, so whether a larger value is "
        f"better is not known; "
        f"{nearest(name, ['loss', *METRICS])}"
    )


def simulate_rates(
    kind: str,
    lr: Number,
    steps: int,
    warmup: int = 0,
    options: Options | None = None,
    metric: str | None = None,
) -> list[float]:
    """The learning rate of every step, by running the scheduler on an optimizer without a network.

    A schedule driven by a score stays at its start here; `simulate_falls` gives the rates below it.
    """
    optimizer = _make_empty_optimizer(lr)
    scheduler = build(kind, optimizer, steps, warmup, options, metric)
    if kind in BY_SCORE:
        return [float(lr)] * steps
    simulated: list[float] = []
    optimizer.step()  # once: torch warns where a scheduler steps before its optimizer
    with _explain_errors(kind, options or {}):
        for _ in range(steps):
            simulated.append(float(optimizer.param_groups[0]["lr"]))
            scheduler.step()
    return simulated


def simulate_falls(
    kind: str, lr: Number, validations: int, options: Options | None = None, metric: str | None = None
) -> list[float]:
    """The rates of a schedule in BY_SCORE when no validation after the first is better than the first."""
    optimizer = _make_empty_optimizer(lr)
    scheduler = build(kind, optimizer, validations, 0, options, metric)
    seen = [float(lr)]
    with _explain_errors(kind, options or {}):
        for _ in range(validations):
            scheduler.step(1.0)
            rate = float(optimizer.param_groups[0]["lr"])
            seen += [rate] if rate != seen[-1] else []
    return seen


def describe_floor(
    kind: str, lr: Number, validations: int, options: Options | None = None, metric: str | None = None
) -> str:
    """The lowest rate that a schedule in BY_SCORE reaches in so many validations, and how; or why it never falls."""
    scheduler = cast(ScoreScheduler, build(kind, _make_empty_optimizer(lr), validations, 0, options, metric))
    seen = simulate_falls(kind, lr, validations, options, metric)
    least, better = min(seen), f"{'higher' if scheduler.mode == 'max' else 'lower'} {metric or 'eval_loss'}"
    if len(seen) == 1 and scheduler.factor != 1:
        return (
            f"{kind} never lowers the rate here: it waits for {scheduler.patience + 1} validations in a row without a "
            f"{better}, after a first one, and the run has {validations} before its last step. Set patience in "
            f"train.lr_scheduler_kwargs to less than {max(validations - 1, 0)}, or validate more often."
        )
    return (
        f"{kind} multiplies the rate by {scheduler.factor:g} when {scheduler.patience + 1} validations in a row bring "
        f"no {better}: from {lr:g} to no less than {least:.3g} (min_lr={scheduler.min_lrs[0]:g})."
    )


def find_restarts(kind: str, steps: int, warmup: int = 0, options: Options | None = None) -> set[int]:
    """Steps at which a schedule declares that its rate jumps back up."""
    return RESTARTS[kind](steps, warmup, **(options or {})) if kind in RESTARTS else set()


def lint(rates: Sequence[float], warmup: int = 0, restarts: Collection[int] = ()) -> list[str]:
    """What is wrong with the rates of a run, one sentence each; an empty list if they are sound.

    A rate must be finite and never negative, above zero from the end of the warm-up until the last step, and change at
    most tenfold in a step, except during the warm-up and around a declared restart, before which it may come near zero.
    It may also end in zero.
    """
    last = len(rates) - 1
    around = {step - before for step in restarts for before in (0, 1)}
    broken = [step for step, rate in enumerate(rates) if not math.isfinite(rate)]
    negative = [step for step, rate in enumerate(rates) if rate < 0]
    zero = [step for step in range(warmup, last) if rates[step] == 0 and step not in around]
    jumps = [step for step in range(warmup + 1, last + 1) if step not in around and _compare(rates, step) > TENFOLD]
    said = []
    if broken:
        said.append(f"The learning rate is no finite number at {_list_steps(broken)}.")
    if negative:
        said.append(f"The learning rate is negative at {_list_steps(negative)}, {rates[negative[0]]:.3g} at the first.")
    if zero:
        said.append(
            f"The learning rate is zero at {_list_steps(zero)}, between the end of the warm-up and the last step."
        )
    if jumps:
        before, after = rates[jumps[0] - 1], rates[jumps[0]]
        said.append(
            f"The learning rate changes more than tenfold into {_list_steps(jumps)}, from {before:.3g} to {after:.3g} "
            "at the first, and the schedule declares no restart there."
        )
    return said


def draw(rates: Sequence[float], width: int = 60, height: int = 10) -> str:
    """The rates as lines of text: a chart in braille dots with the rate at its left and the step below.

    Each column of dots spans all rates of its share of the steps, so that no spike is lost, however long the run.
    """
    drawn = [rate for rate in rates if math.isfinite(rate)]
    low, high = min([0.0, *drawn]), max([0.0, *drawn])
    span, rows, columns = (high - low) or 1.0, 4 * height, 2 * width
    cells = [[0x2800] * width for _ in range(height)]
    for column in range(columns):
        start = column * len(rates) // columns
        share = rates[start : max(start + 1, (column + 1) * len(rates) // columns)]
        heights = [round((rate - low) / span * (rows - 1)) for rate in share if math.isfinite(rate)]
        for row in range(rows - 1 - max(heights), rows - min(heights)) if heights else ():
            cells[row // 4][column // 2] |= BRAILLE[column % 2][row % 4]
    labels = {
        0: f"{high:.3g}",
        height // 2: f"{high - span * (height // 2) / (height - 1):.3g}",
        height - 1: f"{low:.3g}",
    }
    margin = max(map(len, labels.values()))
    lines = [f"{labels.get(row, ''):>{margin}} ┤{''.join(map(chr, line))}" for row, line in enumerate(cells)]
    middle, end = f"{len(rates) // 2:,}", f"{len(rates) - 1:,} step"
    below = "0" + middle.rjust(width // 2 + len(middle) // 2 - 1)
    return "\n".join(
        [*lines, " " * (margin + 1) + "└" + "─" * width, " " * (margin + 2) + below + end.rjust(width - len(below))]
    )


BRAILLE = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of a braille cell: the left and the right column of dots, from the top."""


def _agree_on_mode(mode: object, metric: str) -> str:
    follows = find_mode(metric)
    if mode not in (None, follows):
        raise ValueError(
            f"train.lr_scheduler_kwargs.mode={mode} contradicts train.metric_for_best_model={metric}, whose mode is "
            f"{follows}: leave it out."
        )
    return follows


@contextmanager
def _explain_errors(kind: str, options: Options) -> Iterator[None]:
    """Turn what the builders raise for wrong options into one sentence with the keys that set them."""
    try:
        yield
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        given = ", ".join(f"{name}={value}" for name, value in options.items()) or "none"
        raise ValueError(
            f"train.lr_scheduler_type={kind} with train.lr_scheduler_kwargs {given}: {str(error).rstrip('.')}."
        ) from None


def _make_empty_optimizer(lr: Number) -> Optimizer:
    """An optimizer of one number without a gradient."""
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=float(lr))


def _compare(rates: Sequence[float], step: int) -> float:
    """How many times larger the larger of two successive rates is than the smaller."""
    small, large = sorted(rates[step - 1 : step + 1])
    return large / small if small > 0 else 1.0  # zero and negative rates have sentences of their own


def _list_steps(steps: Sequence[int]) -> str:
    return f"step {steps[0]:,}" + (f" and {len(steps) - 1:,} more" if steps[1:] else "")


def _build_transformers(kind: str, optimizer: Optimizer, steps: int, warmup: int, **options: object) -> Scheduler:
    """One of transformers' own."""
    return get_scheduler(kind, optimizer, warmup, steps, options)


def _build_cyclic(
    optimizer: Optimizer,
    steps: int,
    warmup: int,
    *,
    base_lr: Number | None = None,
    step_size_up: int | None = None,
    step_size_down: int | None = None,
    mode: str = "triangular2",
    gamma: Number = 1.0,
) -> LRScheduler:
    """Between base_lr (a tenth of the rate) and the rate; four cycles by default, each half as high (Smith, 2017)."""
    share = 0.1 if base_lr is None else base_lr / optimizer.defaults["lr"]
    highest = [group["lr"] for group in optimizer.param_groups]
    return CyclicLR(
        optimizer,
        base_lr=[share * rate for rate in highest],
        max_lr=highest,
        step_size_up=max(1, steps // 8) if step_size_up is None else step_size_up,
        step_size_down=step_size_down,
        mode="triangular2" if mode == "triangle2" else mode,  # pyright: ignore[reportArgumentType]
        gamma=gamma,
        cycle_momentum=False,  # torch would cycle Adam's β1 without a message
    )


def _build_one_cycle(
    optimizer: Optimizer,
    steps: int,
    warmup: int,
    *,
    pct_start: Number = 0.3,
    div_factor: Number = 25.0,
    final_div_factor: Number = 1e4,
    anneal_strategy: str = "cos",
    three_phase: bool = False,
) -> LRScheduler:
    """From rate / 25 to the rate in the first 30 % of the run, or the warm-up, then down (Smith & Topin, 2018)."""
    if warmup >= steps:
        raise ValueError(f"a run of {steps} steps is too short for its rise: lower train.warmup_steps={warmup}")
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=steps + 1,  # torch ends at its last step; ours ends, as transformers' do, at the step after it
        pct_start=(warmup + 1) / (steps + 1) if warmup else pct_start,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        anneal_strategy=anneal_strategy,  # pyright: ignore[reportArgumentType]
        three_phase=three_phase,
        cycle_momentum=False,
    )


# transformers' `polynomial` with lr_end=0 gives the same bits for groups at the optimizer's own rate only: a group at
# another rate, such as the encoder's, differs in the last bit. It also refuses a rate of 0, and divides by 0 where the
# whole run is warm-up.
def _build_poly(optimizer: Optimizer, steps: int, warmup: int, *, power: Number = 0.9) -> LRScheduler:
    """rate (1 - step / steps)^0.9 after a linear warm-up (BTS, DeepLab)."""

    def share(step: int) -> float:
        return step / warmup if step < warmup else max(0.0, 1 - (step - warmup) / max(1, steps - warmup)) ** power

    return LambdaLR(optimizer, share)


def _build_glp(optimizer: Optimizer, steps: int, warmup: int) -> LRScheduler:
    """See `glp`."""
    return LambdaLR(optimizer, lambda step: glp(step, steps, 1.0))


def _find_cosine_restarts(steps: int, warmup: int, *, num_cycles: int = 1) -> set[int]:
    """The steps at which transformers' cosine_with_restarts starts a cycle after the first."""
    cycle = [math.floor(num_cycles * ((step - warmup) / (steps - warmup))) for step in range(warmup, steps)]
    return {warmup + index for index in range(1, len(cycle)) if cycle[index] > cycle[index - 1]}


SCHEDULES: dict[str, Schedule] = {
    **{kind.value: partial(_build_transformers, kind.value) for kind in SchedulerType},
    "cyclic": _build_cyclic,
    "one_cycle": _build_one_cycle,
    "poly": _build_poly,
    "glp": _build_glp,
}
"""Names for `train.lr_scheduler_type`; options come from `train.lr_scheduler_kwargs`."""

RESTARTS: dict[str, Callable[..., set[int]]] = {"cosine_with_restarts": _find_cosine_restarts}
"""(steps, warmup, **options) → the steps at which a schedule of SCHEDULES declares a restart."""

keep_old_names(
    __name__,
    {
        "chosen": "read_schedule",
        "plateau_mode": "find_mode",
        "rates": "simulate_rates",
        "falls": "simulate_falls",
        "floor": "describe_floor",
        "restarts": "find_restarts",
    },
)
