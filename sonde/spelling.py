"""The right name nearest to a wrong one, for messages."""

from collections.abc import Collection
from difflib import get_close_matches


def nearest(word: str, known: Collection[str]) -> str:
    """`did you mean 'silog'?`, or the whole list if no name is near."""
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"expected one of: {', '.join(sorted(known))}."
