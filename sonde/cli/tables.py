"""Print lines and tables that fit the terminal; where there is none, each line is as long as its words."""

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sonde.spelling import make_printable

if TYPE_CHECKING:
    from rich.table import Table

Cell = int | float | str | None
Rows = Mapping[str, Mapping[str, Cell]]
"""Row -> heading -> number or words; rows need not share all headings."""

SHORTER = (
    (re.compile(r"(\w+) depth map of the (\w+) set"), r"\1 \2 depth"),
    (re.compile(r" model, aligned"), ", aligned"),
)
"""What a row is called where the terminal is too narrow for its name."""
NARROWEST = 16
"""Characters to which the names of rows are wrapped before columns move to a second table."""
SENTENCE = 24
"""Characters to which words are wrapped where a table of words is too wide."""
ENDLESS = 100_000
"""The width of what is no terminal."""


def print_result(document: Mapping[str, object], as_json: bool) -> None:
    """Print a document as JSON, or as lines of name and value."""
    if as_json:
        return print(json.dumps(document, indent=2, default=str))
    print_lines([(make_printable(name), make_printable(value)) for name, value in _flatten(document)])


def print_lines(lines: Sequence[tuple[str, str]]) -> None:
    """Print names and values in two columns; on a terminal a long value goes on below itself."""
    column = max(len(name) for name, _ in lines) + 2
    room = find_width() - column
    for name, value in lines:
        first, *more = wrap(value, room) if room > NARROWEST else [value]
        print(f"{name:<{column}}{first}".rstrip())
        for words in more:
            print(" " * column + words)


def print_words(text: str) -> None:
    """Print a sentence without control characters; on a terminal broken between words, but within no command."""
    for line in wrap(make_printable(text), find_width()):
        print(line)


def print_table(title: str, rows: Rows) -> None:
    """Print a table of row -> heading -> number or words, no wider than the terminal.

    A narrow terminal gets shorter names, then names and headings of several lines; columns that still do not fit
    follow in a second table.
    """
    width = find_width()
    print_words(title)
    _print_tables(_fit(rows, width), width)


def print_rows(rows: list[dict[str, str]]) -> None:
    """Print rows of words under the keys of the first row, no wider than the terminal.

    A narrow terminal gets sentences of several lines; columns that still do not fit follow in a second table, with the
    first column again.
    """
    width = find_width()
    first, *others = rows[0]
    labels = [make_printable(row[first]) for row in rows]
    columns = {name: [name, *(make_printable(row[name]) for row in rows)] for name in others}
    tables = [_make_table(labels, columns, first)]
    if _measure(tables[0]) > width:
        narrow = {name: ["\n".join(wrap(cell, SENTENCE)) for cell in column] for name, column in columns.items()}
        tables = [_make_table(labels, part, first) for part in _share(labels, narrow, width)]
    _print_tables(tables, width)


def list_reasons(failed: Iterable[tuple[object, str]]) -> list[str]:
    """A line for each thing that failed: its reason, with its name where the reason does not hold it."""
    return [reason if str(name) in reason else f"{name}: {reason}" for name, reason in failed]


def find_width() -> int:
    """Characters of a line of the terminal; ENDLESS where stdout is none."""
    from rich.console import Console  # here and below: a document of JSON needs none of it

    console = Console()
    return console.width if console.is_terminal else ENDLESS


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most so many characters; neither a long word nor a command between backquotes is broken."""
    whole = re.sub(r"`[^`]*`", lambda found: found[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(whole, max(width, 1), break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines] or [""]


def _flatten(document: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            yield f"{prefix}{name}", str(len(value))
            yield from (("", item) for item in value)
        else:
            yield f"{prefix}{name}", _format_value(value)


def _format_value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_format_value, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _fit(rows: Rows, width: int) -> "list[Table]":
    """The rows as a table of this width; as several, one below the other, where not all columns fit."""
    headings = list(dict.fromkeys(name for row in rows.values() for name in row))
    cells = {name: [_format_cell(row.get(name)) for row in rows.values()] for name in headings}
    for labels in (list(rows), [_abbreviate(row) for row in rows]):
        table = _make_table(labels, {name: [name, *cells[name]] for name in headings})
        if _measure(table) <= width:
            return [table]
    narrow = {name: [_wrap_heading(name, cells[name]), *cells[name]] for name in headings}
    labels = [_abbreviate(row) for row in rows]
    wrapped = ["\n".join(wrap(label, NARROWEST)) for label in labels]
    tables = []
    for part in _share(wrapped, narrow, width):
        room = max(NARROWEST, width - _measure(_make_table([""] * len(labels), part)))
        tables.append(_make_table(["\n".join(wrap(label, room)) for label in labels], part))
    return tables


def _share(labels: list[str], columns: Mapping[str, list[str]], width: int) -> Iterator[dict[str, list[str]]]:
    """The columns of each table, so that none is wider than this; one column alone may be."""
    taken: dict[str, list[str]] = {}
    for name, column in columns.items():
        if taken and _measure(_make_table(labels, {**taken, name: column})) > width:
            yield taken
            taken = {}
        taken[name] = column
    yield taken


def _print_tables(tables: "Sequence[Table]", width: int) -> None:
    from rich.console import Console

    console = Console(width=width, highlight=False)
    for number, table in enumerate(tables):
        if number:
            console.print()
        console.print(table)


def _make_table(labels: list[str], columns: Mapping[str, list[str]], corner: str = "") -> "Table":
    """A table of names of rows, under `corner`, and of columns that begin with their heading.

    Numbers, which have no corner, stand at the right.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(escape(corner), box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    table.columns[0].no_wrap = True
    for heading, *_ in columns.values():
        table.add_column(escape(heading), justify="left" if corner else "right", no_wrap=True)
    for number, label in enumerate(labels, 1):
        table.add_row(escape(label), *(escape(column[number]) for column in columns.values()))
    return table


def _measure(table: "Table") -> int:
    from rich.console import Console

    return Console(width=ENDLESS).measure(table).maximum


def _abbreviate(row: str) -> str:
    words = make_printable(row)
    for long, short in SHORTER:
        words = long.sub(short, words)
    return words


def _wrap_heading(heading: str, cells: Sequence[str]) -> str:
    """A heading on as many lines as its numbers are narrow."""
    widest = max([*map(len, cells), *map(len, heading.split())], default=1)
    return "\n".join(wrap(heading, widest))


def _format_cell(value: Cell) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else make_printable(value)
