"""Words of data and of users in messages: made harmless for a terminal, cut to a bearable length, corrected."""

import re
from collections.abc import Collection
from difflib import get_close_matches

LONGEST = 300
"""Characters of a foreign text that a message repeats."""

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What a terminal obeys instead of showing it, ends of lines, and bytes of a name that are not UTF-8."""


class Notice(UserWarning):
    """A warning for the user of the program, which prints it; warnings of libraries it passes over."""


def quantify(number: int, noun: str, plural: str | None = None) -> str:
    """`1 capture`, `2 captures`, `1,000 captures`; another plural than with an s is given: `2 boxes`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def nearest(word: str, known: Collection[str]) -> str:
    """`did you mean 'silog'?`, or the whole list if no name is near."""
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"expected one of: {', '.join(sorted(known))}."


def make_printable(text: object) -> str:
    """The text with each control character written as its escape: safe on a terminal, on one line."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], str(text))


def shorten(text: object, longest: int = LONGEST) -> str:
    """A printable text of at most so many characters; what is left out in the middle becomes `…`."""
    shown = make_printable(text)
    if len(shown) <= longest:
        return shown
    head = (longest - 1) * 2 // 3
    return f"{shown[:head]}…{shown[len(shown) - (longest - 1 - head) :]}"


MARKED = re.compile(r"<(?=[A-Za-z/!?])|\||\]\(|&(?=#?\w+;)")
"""What Markdown would take for HTML, for the edge of a table's cell, or for a link."""
LITERAL = {"<": "&lt;", "&": "&amp;", "|": "\\|", "](": "]\\("}


def escape_markdown(text: object) -> str:
    """A text on one line of Markdown, as it is: no HTML, no link, no edge of a table's cell, no control character."""
    return MARKED.sub(lambda found: LITERAL[found[0]], make_printable(text))


def quote_code(text: object) -> str:
    """A text as code within a line of Markdown."""
    shown = make_printable(text)
    marks = "`" * _count_marks(shown)
    space = " " if shown[:1] == "`" or shown[-1:] == "`" else ""
    return f"{marks}{space}{shown}{space}{marks}"


def fence_code(text: str, language: str = "") -> str:
    """Lines of Markdown that show a text of several lines as code."""
    shown = "\n".join(make_printable(line) for line in text.split("\n"))
    marks = "`" * max(3, _count_marks(shown))
    return f"{marks}{language}\n{shown}\n{marks}"


def _count_marks(text: str) -> int:
    """How many ` end code that holds a text: one more than the longest run in it."""
    return 1 + max(map(len, re.findall("`+", text)), default=0)
