"""Bars while a verb works: on a terminal one line with the step, the time left and the newest numbers; else a few."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from sonde.spelling import make_printable, shorten

if TYPE_CHECKING:
    from rich.console import Console

Show = Callable[[int, int, dict[str, float]], None]
"""Called with what is done, the total, and the newest numbers by name."""

LOSSES = {"loss": "train loss", "eval_loss": "validation loss"}
"""Names of a loss in the log; the bar shows the first that is there."""
METRICS = {
    "eval_mae_mm": ("MAE", "mm"),
    "eval_mae_cm": ("MAE", "cm"),
    "eval_mae_m": ("MAE", "m"),
    "eval_abs_rel": ("AbsRel", ""),
    "eval_delta1": ("δ1", ""),
}
"""The metric beside it is the first of these that is known: its heading, and its unit."""
NUMBERS = len("train loss 1.234e-05  MAE 123.4 mm")
"""The most characters that the numbers take."""
OTHERS = len(" 123456/123456 1:23:45 ")
"""The most characters of step and time left."""


@contextmanager
def bar(task: str, quiet: bool = False) -> Iterator[Show]:
    """Show a bar on stderr, on one line of the terminal; if that is no terminal, a line for every tenth.

    A bar of work that fails is removed, so that nothing stands above the error.
    """
    if quiet:
        yield lambda done, total, numbers: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    with _show_bar(task, console) if console.is_terminal else _print_tenths(task, console) as show:
        yield show


@contextmanager
def _print_tenths(task: str, console: "Console") -> Iterator[Show]:
    told = 0

    def show(done: int, total: int, numbers: dict[str, float]) -> None:
        nonlocal told
        if done * 10 // max(total, 1) > told:
            told = done * 10 // total
            line = f"{make_printable(task)} {done}/{total}  {describe_numbers(numbers)}".rstrip()
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    yield show


@contextmanager
def _show_bar(task: str, console: "Console") -> Iterator[Show]:
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # The bar takes what is left; a task's name is cut only where that would be less than four characters.
    name = shorten(task, max(10, console.width - NUMBERS - OTHERS - 6))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(escape(name), total=None, numbers="")

        def show(done: int, total: int, numbers: dict[str, float]) -> None:
            progress.update(bar, completed=done, total=total, numbers=describe_numbers(numbers))

        try:
            yield show
        # No half a bar stands above an error. After Ctrl-C it stays and says how far the work came.
        except Exception:
            progress.live.transient = True
            raise
        # A bar of work that was all done before says nothing.
        progress.live.transient = progress.tasks[0].total is None


@contextmanager
def stages(quiet: bool = False) -> Iterator[Callable[[str, int, int, dict[str, float]], None]]:
    """Show a bar for each task in turn; call it with (task, done, total, newest numbers)."""
    with ExitStack() as stack:
        running: dict[str, Show] = {}

        def show(task: str, done: int, total: int, numbers: dict[str, float]) -> None:
            if task not in running:
                stack.close()
                running.clear()
                running[task] = stack.enter_context(bar(task, quiet))
            running[task](done, total, numbers)

        yield show


def describe_numbers(numbers: Mapping[str, float]) -> str:
    """One loss by its name and one metric in its unit: `train loss 0.0466  MAE 30.1 mm`; empty without numbers."""
    loss = next((name for name in LOSSES if name in numbers), None)
    metric = next((name for name in METRICS if name in numbers), None)
    words = [] if loss is None else [f"{LOSSES[loss]} {numbers[loss]:.4g}"]
    if metric is not None:
        heading, unit = METRICS[metric]
        words.append(f"{heading} {numbers[metric]:.4g} {unit}".rstrip())
    return "  ".join(words)
