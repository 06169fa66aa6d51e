"""A numbered catalogue of things: each is built once per process, then only placed.

Number k of a thing is the same in every scene and every process, so a scene's bytes still follow from its seed.
"""

from collections.abc import Callable
from functools import cache
from typing import TypeVar
from zlib import crc32

import numpy as np

Built = TypeVar("Built")

NUMBERS = 40
"""How many of each thing there are."""


def variant(build: Callable[[np.random.Generator], Built], rng: np.random.Generator) -> Built:
    """One of the things `build` draws; shared, so never to be added to."""
    return _numbered(build, int(rng.integers(NUMBERS)))


@cache
def _numbered(build: Callable[[np.random.Generator], Built], number: int) -> Built:
    return build(np.random.default_rng([crc32(build.__qualname__.encode()), number]))
