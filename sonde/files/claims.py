"""What a header claims against what its file can hold, checked before any memory is taken."""

import os
from io import BufferedReader, BytesIO

MULTIPLE = "SONDE_LARGEST_MULTIPLE"
"""The environment variable that raises `LARGEST_MULTIPLE`."""
LARGEST_MULTIPLE = 200
"""How many bytes of numbers a compressed file may hold for each of its own. Depth maps need 10."""
ALWAYS = 64 << 20
"""Bytes that any file may unpack to: an empty depth map compresses a thousandfold."""


def check_stored(claimed: int, held: int) -> None:
    """Check the bytes that the header of a plain file claims against those that follow it.

    Raises:
        ValueError: it claims more, or a negative number.
    """
    if not 0 <= claimed <= held:
        raise ValueError(f"its header claims {claimed:,} bytes, and {held:,} follow")


def check_packed(claimed: int, held: int) -> None:
    """Check the bytes that a compressed file claims to unpack to against its own size.

    Raises:
        ValueError: it claims more than `LARGEST_MULTIPLE` times its own bytes, and more than `ALWAYS`.
    """
    multiple = read_multiple()
    if claimed < 0 or (claimed > ALWAYS and claimed > multiple * held):
        raise ValueError(
            f"it claims {claimed:,} bytes in a file of {held:,}, more than {multiple} times as many; if you trust it, "
            f"set {MULTIPLE} to a larger number"
        )


def count_bytes(file: BufferedReader | BytesIO) -> int:
    """The size of an open file; its position stays."""
    place = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(place)
    return size


def count_rest(file: BufferedReader | BytesIO) -> int:
    """The bytes of an open file from its position on."""
    return count_bytes(file) - file.tell()


def read_multiple() -> int:
    """`LARGEST_MULTIPLE`, or what the environment says instead.

    Raises:
        ValueError: the environment says no whole number above 0.
    """
    text = os.environ.get(MULTIPLE, str(LARGEST_MULTIPLE))
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{MULTIPLE} is {text!r}: expected a whole number above 0")
    return int(text)
