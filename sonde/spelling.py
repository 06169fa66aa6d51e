"""Words of data and of users in messages: made harmless for a terminal, cut to a bearable length, corrected."""

import re
from collections.abc import Collection
from difflib import get_close_matches

LONGEST = 300
"""Characters of a foreign text that a message repeats."""

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What a terminal obeys instead of showing it, ends of lines, and bytes of a name that are not UTF-8."""


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
