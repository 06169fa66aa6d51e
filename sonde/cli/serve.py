"""The verb that answers requests: serve."""

import os
import sys
from typing import Annotated

import typer

from sonde.cli.options import with_options
from sonde.options.serve import ServeOptions
from sonde.spelling import make_printable, quantify


@with_options(ServeOptions)
def serve(
    model: Annotated[
        list[str] | None, typer.Argument(help="Models that clients may choose; the first is the default. [sonde-lite]")
    ] = None,
    *,
    options: ServeOptions,
) -> None:
    """A page and a REST API of depth. Only this machine gets answers, unless an option names another address."""
    from sonde import serving

    result = serving.serve(model or ["sonde-lite"], options=options, ready=_print_line)
    cut = f"; {quantify(result.left, 'request')} did not finish in {options.grace:g} s" if result.left else ""
    print(f"Stopped by {result.signal or 'its own end'}{cut}.", file=sys.stderr, flush=True)
    if result.left:
        os._exit(1)  # the thread that still asks the network cannot be waited for


def _print_line(line: str) -> None:
    print(make_printable(line), flush=True)
