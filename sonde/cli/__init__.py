"""The command line: each verb parses its words, calls the function of the same name, and prints the result.

Nothing heavy is imported before a verb is chosen. A user's mistake is one sentence on stderr and exit code 2.
"""

import logging
import os
import sys
import warnings
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from sonde.cli import label, machine, scores, train, use
from sonde.cli.data import FORMATS, data_app

__all__ = ["FORMATS", "app", "main"]


class Verbs(TyperGroup):
    """The verbs; `train` and `eval` also accept the command lines of GLPDepth."""

    # `Any`: newer releases of Typer hold a copy of click, older ones import it, so the type has no stable name.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Translate GLPDepth's options before the verb parses them."""
        if args[:1] in (["train"], ["eval"]):
            # Its tables come from the recipes, which `sonde --help` does not need.
            from sonde.cli import words

            translate = words.translate_training if args[0] == "train" else words.translate_scoring
            args = [args[0], *translate(args[1:])]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=Verbs,
    name="sonde",
    help="Train, distil, adapt, evaluate and serve monocular depth models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
# The order of `sonde --help`.
app.command("demo")(train.demo)
app.command("train")(train.train)
app.command("label")(label.label)
app.command("eval")(scores.evaluate)
app.command("compare")(scores.compare)
app.command("reproduce")(scores.reproduce)
app.command("predict")(use.predict)
app.command("features")(use.features)
app.command("export")(use.export)
app.command("calibrate")(use.calibrate)
app.command("doctor")(machine.doctor)
app.command("bench")(machine.bench)


def main() -> None:
    """Run the program; print a ValueError or an OSError, which the user can mend, as one sentence."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("sonde").setLevel(logging.INFO)
    # The progress bars of transformers would run through those of sonde.
    os.environ.setdefault("TQDM_DISABLE", "1")
    # Libraries warn each other, through sonde, of changes that a user cannot make.
    warnings.simplefilter("ignore", FutureWarning)
    try:
        app()
    except (ValueError, OSError) as error:
        sentence = escape(" ".join(str(error).split()))
        Console(stderr=True, highlight=False).print(f"[bold red]error[/] {sentence}", soft_wrap=True)
        sys.exit(2)
