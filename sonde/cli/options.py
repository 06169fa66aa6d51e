"""A verb's options on the command line: the fields of its `Options` type become Typer's options."""

from collections.abc import Callable
from dataclasses import Field, fields
from functools import wraps
from inspect import Parameter, signature
from types import NoneType
from typing import Annotated, Any, get_args

import typer

from sonde.options import Options, read_info


def with_options(kind: type[Options]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `kind`, at the place of its parameter `options`.

    The command itself is called with one value of that type. `--help` lists the options in the order of the
    parameters.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        listed = [about for about in fields(kind) if not read_info(about).python_only]

        @wraps(command)
        def run(**words: object) -> None:
            given = {about.name: words.pop(about.name) for about in listed}
            command(options=kind().change(**given), **words)

        parameters: list[Parameter] = []
        for own in signature(command).parameters.values():
            expanded = map(_make_parameter, listed) if own.name == "options" else [own]
            parameters += [each.replace(kind=Parameter.KEYWORD_ONLY) for each in expanded]
        # Typer reads both: the signature for names and defaults, the annotations for types and help.
        setattr(run, "__signature__", signature(command).replace(parameters=parameters))  # noqa: B010
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def _make_parameter(about: Field[Any]) -> Parameter:
    """The Typer option of a field; a value that must be parsed arrives as text, and `Options` parses it."""
    info = read_info(about)
    default, hint = about.default, _narrow(about.type)
    if info.parse is not None:
        default = info.shown
        hint = str if default is not None else str | None
    annotation = Annotated[hint, typer.Option(*info.flags, help=info.help)]  # pyright: ignore[reportInvalidTypeForm]
    return Parameter(about.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _narrow(hint: Any) -> Any:
    """The type that Typer gets: it knows no unions, so that a whole number or a float is read as a float."""
    members = get_args(hint)
    if not {int, float} <= set(members):
        return hint
    return float | None if NoneType in members else float
