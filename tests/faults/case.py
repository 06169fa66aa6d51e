"""One hostile input: what it is called, how it is made, where it is given, and what is right."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Right = Literal["refused", "read", "listed", "either"]
"""What is right: one sentence that names the file or the option; an answer; the rest of a folder is done and the entry
is listed with its reason; or one of the first two, where both are sound."""

Make = Callable[[], object]
"""Writes the input below the current folder."""
Words = tuple[str, ...]
"""A command line without `sonde`. A word that begins with @ names a sound input of `sound.BUILDERS`."""
Entry = Callable[[], object] | Words
"""A Python call without arguments, or a command line; both run in the folder where `make` has run."""


@dataclass(frozen=True)
class Case:
    """One hostile input, its entry point, and what is right."""

    name: str
    """KIND/FORMAT/FAULT: unique."""
    make: Make
    entry: Entry
    right: Right = "refused"
    says: str = ""
    """A part of what the answer must hold: of a file's name or of an option's."""
    never: Words = ()
    """Paths that must not exist afterwards: what code from the data, or an id with `..`, would have written."""
    done: tuple[str, int] | None = None
    """For `listed`: a pattern of outputs, and how many there must be at least."""

    @property
    def kind(self) -> str:
        """The first part of the name."""
        return self.name.partition("/")[0]


def put(name: str, data: bytes | Callable[[], bytes]) -> Make:
    """Write one file; its bytes are made when the case runs."""

    def make() -> None:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data())

    return make


def after(*steps: Make) -> Make:
    """Several steps, one after the other."""

    def make() -> None:
        for step in steps:
            step()

    return make


def nothing() -> None:
    """For cases whose input is the command line alone."""


def changed(path: str, change: Callable[[Any], Any]) -> Make:
    """Rewrite a JSON document; of JSON lines the first."""

    def make() -> None:
        text = Path(path).read_text()
        head, mark, rest = text.partition("\n") if path.endswith(".jsonl") else (text, "", "")
        Path(path).write_text(json.dumps(change(json.loads(head))) + mark + rest)

    return make


def set_field(field: str, value: Any) -> Callable[[Any], Any]:
    """Give a key of a document another value; points in the key lead below the first level."""

    def change(document: Any) -> Any:
        inner, last = _find(document, field)
        inner[last] = value
        return document

    return change


def drop_field(field: str) -> Callable[[Any], Any]:
    """Leave a key of a document out."""

    def change(document: Any) -> Any:
        inner, last = _find(document, field)
        inner.pop(last, None)
        return document

    return change


def _find(document: Any, field: str) -> tuple[Any, str]:
    """The object that holds the key, and the key's last part; an object that is not there yet is made."""
    *above, last = field.split(".")
    for part in above:
        if not isinstance(document.get(part), dict):
            document[part] = {}
        document = document[part]
    return document, last


def junk(size: int = 999, seed: int = 7) -> bytes:
    """Random bytes, the same every time."""
    return random.Random(seed).randbytes(size)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "junk": lambda data: junk(),
    "zeros": lambda data: bytes(4096),
    "a-web-page": lambda data: b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n",
    "an-lfs-pointer": lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
    "twelve-bytes": lambda data: data[:12],
    "a-quarter": lambda data: data[: len(data) // 4],
    "half": lambda data: data[: len(data) // 2],
}
"""What happens to files on their way: name -> the sound bytes -> the damaged ones. No reader can accept any of them."""


def damaged(kind: str, name: str, sound: Callable[[], bytes], entry: Entry, damages: Sequence[str] = ()) -> list[Case]:
    """A case for every damage of one file; `name` is the file's."""

    def data(damage: str) -> Callable[[], bytes]:
        return lambda: DAMAGES[damage](sound())

    return [
        Case(f"{kind}/{damage}", put(name, data(damage)), entry, "refused", Path(name).name)
        for damage in damages or DAMAGES
    ]
