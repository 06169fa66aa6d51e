"""The verbs that train: demo and train."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from sonde.cli import next_steps
from sonde.cli.next_steps import print_next
from sonde.cli.options import check_out
from sonde.cli.printing import Json, bar, print_rates, print_result, print_run, print_table, stages
from sonde.cli.stopping import Interrupted
from sonde.spelling import quantify


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the data set and the run go.")] = Path(
        "runs/demo"
    ),
    distill: Annotated[
        bool, typer.Option("--distill", help="Teacher, pseudo-labels, student: three rows of scores.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The main job offline: render a bench, adapt sonde-tiny to it by LoRA, score held-out captures in mm."""
    from sonde import demo

    check_out(output, "--output", "-o")
    if distill:
        with stages(quiet=as_json) as report:
            made = demo.distil(output / "distill", report)
        if as_json:
            return print_result(made.document(), True)
        print_table(f"{quantify(made.images, 'road image')}, measured", made.table)
        student = made.runs[demo.ON_LABELS]
        print()
        return print_next(next_steps.follow_distillation(output / "distill", student))
    with bar("rendering", quiet=as_json) as show:
        root = demo.render(output, lambda done: show(done, demo.CAPTURES, {}))
    with bar("adapting", quiet=as_json) as show:
        run = demo.adapt(root, output, show)
    print_run(run, as_json)
    if not as_json:
        print_next(next_steps.follow_demo(run, root))


def train(
    recipe: Annotated[str, typer.Argument(help="A packaged recipe's name, a YAML file or a run folder.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, dotted: train.learning_rate=1e-4")] = None,
    resume: Annotated[bool, typer.Option(help="Continue from the newest complete checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build everything, say what would happen, and stop.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first useful model in half a minute, where the recipe has that form.")
    ] = False,
    plan_lr: Annotated[
        bool, typer.Option("--plan-lr", help="Draw the whole run's learning rate, judge it, and stop.")
    ] = False,
    check: Annotated[
        bool, typer.Option(help="Look at a few captures first, and refuse what is certainly wrong with them.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Train or adapt a model by a recipe.

    The options of GLPDepth's training also work; sonde prints what each becomes.
    """
    from sonde import recipes, training

    if quick:
        overrides = [*recipes.list_quick_overrides(recipe), *(overrides or [])]
    if plan_lr:
        planned = training.plan_lr(recipe, overrides)
        print_rates(planned, as_json)
        training.refuse_bad_rates(planned)
        return None if as_json else print_next(next_steps.follow_rehearsal(sys.argv[1:]))
    if dry_run:
        print_result(training.dry_run(recipe, overrides, check=check).document(), as_json)
        return None if as_json else print_next(next_steps.follow_rehearsal(sys.argv[1:]))
    # torchrun starts the same command in every process; only the first one prints.
    is_main = os.environ.get("RANK", "0") == "0"
    with bar("training", quiet=as_json or not is_main) as show, _tell_kept(recipe, overrides or []):
        run = training.train(recipe, overrides, resume=resume, listener=show, check=check)
    if is_main:
        print_run(run, as_json)
        if not as_json:
            print_next(next_steps.follow_train(run))
    if os.environ.get("WORLD_SIZE", "1") != "1":
        _exit_at_once()


@contextmanager
def _tell_kept(recipe: str, overrides: Sequence[str]) -> Iterator[None]:
    """Let a signal say what this run keeps, and the command that resumes it."""
    from sonde.training import describe_kept

    try:
        yield
    except Interrupted as stop:
        with suppress(ValueError, OSError):
            stop.kept = describe_kept(recipe, overrides)
        raise


def _exit_at_once() -> None:
    """End one of several processes without Python's own shutdown, which threads of torch sometimes abort.

    torchrun takes an abort for a failure, and stops the process that still computes the scores.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
