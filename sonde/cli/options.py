"""A verb's options on the command line: the fields of its `Options` type become Typer's options."""

import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import Field, fields
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperGroup

from sonde.options import Options, read_info

FOLDERS = (("out", "--out", "-o"), ("keep", "--keep"))
"""Options that name a folder for an output, and their flags."""
FILES = (".onnx", ".xml")
"""Suffixes of outputs that are files, which `export` checks itself."""


def check_out(folder: Path | str, *flags: str) -> None:
    """Refuse a folder that cannot be written, before any work; the message has the flag that was typed."""
    # Imported here: `--help` reads no file.
    from sonde import files

    typed = (flag for flag in flags for word in sys.argv if word.startswith(flag))
    files.check_output(folder, next(typed, flags[0]))


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
            for name, *flags in FOLDERS:
                if given.get(name) is not None and Path(str(given[name])).suffix not in FILES:
                    check_out(str(given[name]), *flags)
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


def spell_options(sentence: str, app: typer.Typer, words: Sequence[str]) -> str:
    """A sentence with the options of the verb as they are typed: `align='disparity'` becomes `--align disparity`.

    Args:
        sentence: of an error, which names options as Python's keywords.
        app: the program.
        words: the command line without `sonde`.
    """
    for keyword, flag, off in _list_flags(app, words):
        given = re.compile(rf"(?<![\w.\-/]){keyword}=('[^']*'|\"[^\"]*\"|\[[^\]]*\]|[^\s,;:)`]*)")
        sentence = given.sub(lambda found, flag=flag, off=off: _spell(flag, off, found[1]), sentence)
        # A keyword alone is a word of the language, unless the user has just typed it.
        if any(word.partition("=")[0] == flag for word in words):
            sentence = re.sub(rf"(?<![\w.\-/]){keyword}(?![\w=.])", flag, sentence) if "_" in keyword else sentence
    return sentence


def _spell(flag: str, off: str, value: str) -> str:
    """An option with its value; a switch has none."""
    if value in ("True", "False"):
        return flag if value == "True" else off
    plain = value[1:-1] if value[:1] in ("'", '"') else value
    return f"{flag} {shlex.quote(plain) if ' ' in plain else plain}".rstrip()


def _list_flags(app: typer.Typer, words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(Python's keyword, its flag as it was typed or is first, the flag that switches it off) of the verb's options."""
    command: Any = typer.main.get_command(app)
    for word in words:
        command = command.commands.get(word, command) if isinstance(command, TyperGroup) else command
    for option in command.params:
        if option.param_type_name == "option":
            typed = [flag for flag in option.opts for word in words if word.partition("=")[0] == flag]
            yield option.name, (typed or option.opts)[0], (option.secondary_opts or [f"--no-{option.name}"])[0]
