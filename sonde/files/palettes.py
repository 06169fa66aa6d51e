"""The colours of depth: those of matplotlib, the same at every level, without matplotlib."""

from functools import cache

import numpy as np
from jaxtyping import UInt8

LEVELS = 256

ANCHORS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "Spectral": (
        (158, 1, 66),
        (213, 62, 79),
        (244, 109, 67),
        (253, 174, 97),
        (254, 224, 139),
        (255, 255, 191),
        (230, 245, 152),
        (171, 221, 164),
        (102, 194, 165),
        (50, 136, 189),
        (94, 79, 162),
    ),
    "gray": ((0, 0, 0), (255, 255, 255)),
}
"""Name in matplotlib -> colours at equal steps, between which it is linear. Spectral's are those of ColorBrewer."""


@cache
def make_palette(name: str = "Spectral", *, reverse: bool = False) -> UInt8[np.ndarray, "256 3"]:
    """The colours of `matplotlib.colormaps[name]`, or of its reverse `NAME_r`, from the first to the last level.

    Raises:
        KeyError: a name that is not in ANCHORS.
    """
    colours = np.array(ANCHORS[name]) / 255
    places = np.linspace(0, 1, len(colours))
    if reverse:  # matplotlib turns the places round, which differs from turning the levels round in the last bit
        colours, places = colours[::-1], 1 - places[::-1]
    levels = (LEVELS - 1) * np.linspace(0, 1, LEVELS)
    bands = [np.interp(levels, (LEVELS - 1) * places, colours[:, band]) for band in range(3)]
    palette = (np.stack(bands, axis=-1) * 255).astype(np.uint8)
    palette.setflags(write=False)  # all callers share it
    return palette


def draw_ramp(width: int, name: str = "Spectral") -> UInt8[np.ndarray, "width 3"]:
    """All colours of a palette, from the first to the last, over so many pixels."""
    levels = (np.linspace(0, 1, width) * LEVELS).astype(int).clip(max=LEVELS - 1)
    return make_palette(name)[levels]
