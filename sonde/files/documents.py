"""Documents that people and other programs write: text, JSON, JSON lines, YAML and CSV, each with its limits.

A document is read in one way everywhere: a byte order mark is no part of it, its types are checked by a schema, and
whatever is wrong is one sentence with the name of the file.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import GenericAlias, UnionType
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sonde.files.safely import FAULTS, describe_fault, reading
from sonde.spelling import shorten

T = TypeVar("T")

MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
"""Byte order mark -> encoding. A file without one is UTF-8."""

LARGEST_TEXT = 1 << 30
"""Bytes of a document. A manifest of 62 million labels is read line by line instead."""
MOST_VALUES = 100_000
"""Values of a YAML document with aliases, each counted as often as it is repeated. Ten aliases of ten aliases, ten
levels deep, are 10,000,000,000."""
DEEPEST = 100
"""Levels of lists and objects in a YAML document."""
LONGEST_FIELD = 1 << 20
"""Characters of a CSV field."""


def read_text(path: Path | str) -> str:
    """The text of a file: UTF-8, or UTF-16 and UTF-32 with a byte order mark, which is removed.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no text, or larger than `LARGEST_TEXT`.
    """
    with Path(path).open("rb") as file:
        data = file.read(LARGEST_TEXT + 1)
    return decode_text(data)


def decode_text(data: bytes) -> str:
    """The text of the bytes of a file, by the rules of `read_text`; lines end as Python's do."""
    if len(data) > LARGEST_TEXT:
        raise ValueError(f"it has more than {LARGEST_TEXT:,} bytes")
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
    text = data.decode(encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path | str, kind: type[T] | GenericAlias | UnionType, remedy: str) -> T:
    """A JSON document, checked against a type: a pydantic model, a TypedDict, a dataclass or `dict[str, int]`.

    Args:
        path: the file.
        kind: the type. Numbers are not made of strings.
        remedy: the end of the sentence of an error.

    Raises:
        ValueError: a missing or damaged file, or a value of another type; the message names the file and the key.
    """
    with reading(path, remedy):
        return parse_json(read_text(path), kind)


def parse_json(text: str | bytes, kind: type[T] | GenericAlias | UnionType) -> T:
    """The JSON of a text, checked against a type.

    Raises:
        ValueError: no JSON, or a value of another type; the message names the key, not the file.
    """
    return check_type(json.loads(text), kind)


def check_type(document: object, kind: type[T] | GenericAlias | UnionType) -> T:
    """The document, if it is of a type; a number is not taken from a string.

    Raises:
        ValueError: a key that is missing or a value of another type; the message names the key.
    """
    try:
        return _adapter(kind).validate_python(document)
    except ValidationError as error:
        raise ValueError(describe_errors(error)) from None


def check_exactly(document: object, kind: type[T] | GenericAlias | UnionType) -> T:
    """As `check_type`, but strict: a number is not taken for a text. A list may become a tuple, as JSON has no tuples.

    Raises:
        ValueError: a key that is missing or a value of another type; the message names the key.
    """
    try:
        return _adapter(kind).validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        raise ValueError(describe_errors(error)) from None


# Building one takes longer than checking a line of a manifest. No `def`: beartype does not know its generic type.
_adapter = cache(TypeAdapter[Any])


def read_lines(path: Path | str, kind: type[T] | GenericAlias | UnionType, remedy: str) -> list[T]:
    """The objects of a JSON Lines file, each checked against a type; empty lines are passed over.

    Raises:
        ValueError: a missing or damaged file, or a line of another type; the message names the file and the line.
    """
    with reading(path, remedy):
        return list(_parse_lines(read_text(path), kind))


def _parse_lines(text: str, kind: type[T] | GenericAlias | UnionType) -> Iterator[T]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield parse_json(line, kind)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None


def read_yaml(path: Path | str, remedy: str) -> Any:
    """A YAML document as plain Python; code, many aliases and deep nesting are refused.

    Raises:
        ValueError: a missing or damaged file; the message names it.
    """
    with reading(path, remedy):
        return parse_yaml(read_text(path))


def parse_yaml(text: str) -> Any:
    """The YAML of a text, by the rules of `read_yaml`.

    Raises:
        ValueError: no YAML, or a document beyond the limits.
    """
    try:
        return yaml.load(text, Loader)
    except FAULTS as error:
        raise ValueError(f"it is no YAML that sonde reads: {shorten(describe_fault(error))}") from None


class Loader(yaml.SafeLoader):
    """YAML's safe loader with limits and unique keys.

    It reads scalars as YAML 1.2 does: 1e-4 is a number, 1:30 is not 90, and a date is text.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[Node, int] = {}
        """Values of each node that is complete, aliases repeated."""
        self._has_alias = False

    # `Any`: the type stubs of PyYAML give these two parameters types that it does not pass.
    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Count values and levels while the document is composed, before any value is made."""
        if self.check_event(yaml.AliasEvent):
            self._has_alias = True
            node = Composer.compose_node(self, parent, index)
            if node not in self._sizes:
                raise yaml.YAMLError("an alias in it repeats the list or object that holds the alias")
            return node
        if self._depth >= DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {DEEPEST} levels deep")
        self._depth += 1
        try:
            node = Composer.compose_node(self, parent, index)
        finally:
            self._depth -= 1
        assert node is not None
        self._sizes[node] = 1 + sum(self._sizes[part] for part in _list_parts(node))
        if self._has_alias and self._sizes[node] > MOST_VALUES:
            raise yaml.YAMLError(f"with its aliases it has more than {MOST_VALUES:,} values")
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Refuse an object that names a key twice: which of the two values counts, nobody sees."""
        node = super().compose_mapping_node(anchor)
        scalars = [key for key, _ in node.value if isinstance(key, ScalarNode) and key.value != "<<"]
        keys = Counter((key.tag, key.value) for key in scalars)
        if twice := next((name for (_, name), count in keys.items() if count > 1), None):
            raise yaml.YAMLError(f"it names the key {shorten(twice, 60)!r} twice")
        return node


def _list_parts(node: Node) -> list[Node]:
    """The nodes directly inside a node: items, or keys and values."""
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, SequenceNode) else []


# PyYAML follows YAML 1.1: 1e-4 is a string, 190:20 is a number of base 60, and 2026-01-01 is no text.
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag.rpartition(":")[2] not in ("int", "float", "timestamp")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(?:0b[01_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$"),
    list("-+0123456789"),
)
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def read_table(path: Path | str, remedy: str) -> list[list[str]]:
    """The rows of a CSV file, each a list of cells; an empty row is an empty list.

    Raises:
        ValueError: a missing or damaged file, or a cell of more than `LONGEST_FIELD` characters; the message names it.
    """
    with reading(path, remedy):
        # The limit belongs to the whole process: it is only ever raised, never lowered.
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))
        return list(csv.reader(io.StringIO(read_text(path)), strict=True))


def read_rows(path: Path | str, remedy: str) -> list[dict[str, str]]:
    """The rows of a CSV file below its first row, as column -> cell; empty rows are left out.

    Raises:
        ValueError: as for `read_table`, or a row whose cells are not as many as the columns, or a column named twice.
    """
    table = read_table(path, remedy)
    with reading(path, remedy):
        columns, *rows = table or [[]]
        if not columns:
            raise ValueError("it names no columns in its first row")
        if len(set(columns)) < len(columns):
            raise ValueError("it names a column twice")
        for number, row in enumerate(rows, 2):
            if len(row) not in (0, len(columns)):
                raise ValueError(f"row {number} has {len(row)} cells for {len(columns)} columns")
        return [dict(zip(columns, row, strict=True)) for row in rows if row]


def describe_errors(error: ValidationError) -> str:
    """One sentence for what pydantic found: each key, what is wrong, and what it was given; the first three."""
    problems = [describe_problem(problem) for problem in error.errors(include_url=False)]
    more = [f"and {len(problems) - 3} more"] if len(problems) > 3 else []
    return "; ".join([*problems[:3], *more])


def describe_problem(problem: ErrorDetails) -> str:
    """The key of one problem, what is wrong, and what it was given."""
    where = ".".join(shorten(part, 60) for part in problem["loc"])
    prefix = f"`{where}`: " if where else ""
    if problem["type"] == "missing":
        return f"{prefix}it is missing"
    if problem["type"] == "extra_forbidden":
        return f"{prefix}no such key"
    if problem["type"] == "value_error" and "ctx" in problem:
        return f"{prefix}{problem['ctx']['error']}"
    return f"{prefix}{problem['msg'].removeprefix('Input ')}, got {shorten(repr(problem['input']), 80)}"
