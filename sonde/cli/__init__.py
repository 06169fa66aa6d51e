"""The command line: each verb parses its words, calls the function of the same name, and prints the result.

Nothing heavy is imported before a verb is chosen. A user's mistake is one sentence on stderr and exit code 2.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from sonde import __version__
from sonde.cli import label, machine, scores, serve, silence, stopping, tables, train, use
from sonde.cli.data import FORMATS, data_app
from sonde.cli.options import spell_options
from sonde.extras import explain_missing
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


def _print_version(asked: bool) -> bool:
    if asked:
        print(f"sonde {__version__}")
        raise typer.Exit
    return asked


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
app.command("serve")(serve.serve)
app.command("doctor")(machine.doctor)
app.command("bench")(machine.bench)


@app.callback()
def _take_version(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The options of the program itself."""


def main() -> None:
    """Run the program; what the user can mend is one sentence and exit code 2.

    That is a ValueError, an OSError, a lack of memory, or a package of an extra that is not installed.
    """
    stopping.listen()
    silence.silence_libraries()
    silence.set_up_logging()
    try:
        app()
    except OSError as error:
        from sonde.files import explain_os_error

        _fail(explain_os_error(error))
    except ModuleNotFoundError as error:
        missing = explain_missing(error, _name_verb(sys.argv[1:]))
        if missing is None:
            raise
        _fail(str(missing))
    except ValueError as error:
        _fail(spell_options(str(error), app, sys.argv[1:]))
    except MemoryError:
        _fail(
            "There is not enough memory: close other programs, or use smaller images, a smaller model or fewer workers."
        )
    except stopping.Interrupted as stop:
        print(stopping.describe_stop(stop.number, sys.argv[1:], stop.kept), file=sys.stderr)
        sys.exit(128 + stop.number)


def _name_verb(words: Sequence[str]) -> str:
    """The verb as it was typed: `sonde train`, `sonde data check`."""
    typed = [word for word in words if not word.startswith("-")]
    return " ".join(["sonde", *typed[: 2 if typed[:1] == ["data"] else 1]])


def _fail(sentence: str) -> NoReturn:
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False)
    shown = make_printable(" ".join(sentence.split()))
    lines = tables.wrap(f"error {shown}", console.width if console.is_terminal else tables.ENDLESS)
    lines = ["[bold red]error[/]" + escape(lines[0].removeprefix("error")), *map(escape, lines[1:])]
    console.print("\n".join(lines), soft_wrap=True)
    sys.exit(2)
