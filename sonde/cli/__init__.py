"""The command line: each verb parses its words, calls the function of the same name, and prints the result.

Nothing heavy is imported before a verb is chosen. A user's mistake is one sentence on stderr and exit code 2.
"""

import logging
import os
import sys
import warnings
from typing import Any, NoReturn, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from sonde.cli import label, machine, scores, stopping, train, use
from sonde.cli.data import FORMATS, data_app
from sonde.spelling import make_printable

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
    """Run the program; what the user can mend, a ValueError or an OSError, is one sentence and exit code 2."""
    stopping.listen()
    warnings.showwarning = _show_warning
    _set_up_logging()
    # The progress bars of transformers would run through those of sonde.
    os.environ.setdefault("TQDM_DISABLE", "1")
    # Libraries warn each other, through sonde, of changes that a user cannot make.
    warnings.simplefilter("ignore", FutureWarning)
    try:
        app()
    except OSError as error:
        from sonde.files import explain_os_error

        _fail(explain_os_error(error))
    except ValueError as error:
        _fail(str(error))
    except MemoryError:
        _fail(
            "There is not enough memory: close other programs, or use smaller images, a smaller model or fewer workers."
        )
    except stopping.Interrupted as stop:
        print(stopping.describe_stop(stop.number, sys.argv[1:]), file=sys.stderr)
        sys.exit(128 + stop.number)


def _fail(sentence: str) -> NoReturn:
    shown = escape(make_printable(" ".join(sentence.split())))
    Console(stderr=True, highlight=False).print(f"[bold red]error[/] {shown}", soft_wrap=True)
    sys.exit(2)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning, unless it is about a file that is being read: then it is a part of that file's reason."""
    # Imported here: `sonde --help` needs no readers.
    from sonde.files import hear_warning

    if not hear_warning(message):
        print(warnings.formatwarning(message, category, filename, lineno, line), end="", file=file or sys.stderr)


class PrintableFormatter(logging.Formatter):
    """Log lines that a terminal shows as they are: names in them may hold control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """The record, each of its lines printable."""
        return "\n".join(map(make_printable, super().format(record).split("\n")))


def _set_up_logging() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("sonde").setLevel(logging.INFO)
