"""Plain maps of numbers after a line or two of text: PFM (float) and PGM (16 bit)."""

import re
from pathlib import Path

import numpy as np

from sonde.files.claims import check_stored, count_rest
from sonde.types import DepthArray

PGM = re.compile(rb"(P[25])" + 3 * rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})" + rb"\s")
"""Kind, width, height and the largest level; comments may lie between them."""
LONGEST_HEADER = 4096


def read_pfm(path: Path) -> np.ndarray:
    """The numbers of a PFM of one channel, (h, w) float32, rows top to bottom.

    Raises:
        ValueError: another header, or one that claims more than the file holds.
    """
    with path.open("rb") as file:
        kind, size, scale = (file.readline(256).strip() for _ in range(3))
        if kind != b"Pf":
            raise ValueError(f"it begins with {kind[:8]!r}, expected b'Pf', one channel")
        width, height = map(int, size.split())
        order = "<" if float(scale) < 0 else ">"  # only the sign counts: it is the byte order
        check_claim(width, height, 4, count_rest(file))
        pixels = np.frombuffer(file.read(width * height * 4), f"{order}f4").reshape(height, width)
    return pixels[::-1]  # rows run bottom to top


def read_pgm(path: Path) -> np.ndarray:
    """The levels of a PGM, (h, w) uint16, as they are stored: a largest level below 65535 changes none.

    Raises:
        ValueError: another header, 8 bits, or a header that claims more than the file holds.
    """
    with path.open("rb") as file:
        found = PGM.match(file.read(LONGEST_HEADER))
        if found is None:
            raise ValueError("it does not begin as a PGM does")
        kind, (width, height, last) = found[1], map(int, found.groups()[1:])
        if not 255 < last <= 65535:
            raise ValueError(
                f"its largest level is {last}, which is 8-bit, expected 256 to 65535: export 16-bit or float"
            )
        file.seek(found.end())
        check_claim(width, height, 2, count_rest(file) + (kind == b"P2"))  # text may end without a space
        data = file.read() if kind == b"P2" else file.read(width * height * 2)
    levels = np.array(list(map(int, data.split())), np.int64) if kind == b"P2" else np.frombuffer(data, ">u2")
    if levels.min() < 0 or levels.max() > last:
        raise ValueError(f"its levels are outside [0, {last}], which its header states")
    return levels.astype(np.uint16).reshape(height, width)


def write_pfm(path: Path, depth: DepthArray) -> None:
    """Write one channel, little-endian."""
    height, width = depth.shape
    path.write_bytes(f"Pf\n{width} {height}\n-1.0\n".encode() + depth[::-1].astype("<f4").tobytes())


def check_claim(width: int, height: int, pixel: int, held: int) -> None:
    """Check the size that a header states against the bytes that follow it.

    Args:
        width: in pixels.
        height: in pixels.
        pixel: bytes of one pixel.
        held: bytes that follow.

    Raises:
        ValueError: no pixels, or more than there are.
    """
    if width < 1 or height < 1:
        raise ValueError(f"its header says {width}x{height}")
    check_stored(width * height * pixel, held)
