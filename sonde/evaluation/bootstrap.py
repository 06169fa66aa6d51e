"""How far a mean could have come out otherwise: images, or whole scenes, drawn again with replacement (Efron, 1979).

Frames of one scene err alike: where they share scenes, scenes are drawn, since drawing frames would promise too much.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sonde.evaluation.columns import Row
from sonde.spelling import quantify

DRAWS, SEED = 10_000, 0
BLOCK = 1 << 22
"""Counts drawn at a time, to bound memory."""


class Interval(NamedTuple):
    """A mean and where the middle share of its redrawn values lies."""

    mean: float
    low: float
    high: float


def check_level(level: int | float | None) -> None:
    """A level of an interval, in %, or none.

    Raises:
        ValueError: one that is not between 0 and 100.
    """
    if level is not None and not 0 < level < 100:
        raise ValueError(f"An interval of {level:g} %: expected a number between 0 and 100, such as 95.")


def intervals(rows: Sequence[Row], names: Sequence[str], level: int | float = 95) -> dict[str, Interval]:
    """Name -> its mean over the rows, and the percentile interval of `level` %.

    Args:
        rows: one per image; their column `scene`, where it is there, says what is drawn as a whole, and `pairs` how
            many answers the image stands for.
        names: columns that hold numbers.
        level: between 0 and 100.

    Raises:
        ValueError: a level outside, or fewer than two images (or scenes) to draw from.
    """
    check_level(level)
    values = np.array([[row[name] for name in names] for row in rows], np.float64)
    weights = np.array([row.get("pairs", 1) for row in rows], np.float64)
    _, units = np.unique([row.get("scene", row["id"]) for row in rows], return_inverse=True)
    count = int(units.max()) + 1
    if count < 2:
        raise ValueError(
            f"{quantify(len(rows), 'image')} of one scene {'has' if len(rows) == 1 else 'have'} no interval: score "
            f"more scenes, or leave --ci out."
        )
    totals, sizes = np.zeros((count, len(names))), np.zeros(count)
    np.add.at(totals, units, values * weights[:, None])
    np.add.at(sizes, units, weights)
    drawn = np.concatenate(list(_drawn(totals, sizes)))
    low, high = np.percentile(drawn, [50 - level / 2, 50 + level / 2], axis=0)
    means = totals.sum(0) / sizes.sum()
    return {name: Interval(*map(float, numbers)) for name, *numbers in zip(names, means, low, high, strict=True)}


def paired(
    rows: Sequence[Row],
    others: Sequence[Row],
    names: Sequence[str],
    level: int | float = 95,
) -> dict[str, Interval]:
    """Name -> mean difference, rows - others, image by image, and its interval: 0 outside says that they differ.

    Both are drawn together, so that what makes an image hard for both cancels: far narrower than two intervals apart.

    Raises:
        ValueError: as `intervals`; or the two are of different images.
    """
    second = {row["id"]: row for row in others}
    missing = [row["id"] for row in rows if row["id"] not in second]
    if missing or len(rows) != len(others):
        raise ValueError(
            f"Two evaluations of {len(rows)} and {len(others)} images cannot be paired"
            f"{f' ({missing[0]} is in the first alone)' if missing else ''}: score both on the same captures."
        )
    differences = [row | {name: row[name] - second[row["id"]][name] for name in names} for row in map(dict, rows)]
    return intervals(differences, names, level)


def _drawn(totals: Float[np.ndarray, "n m"], sizes: Float[np.ndarray, " n"]) -> Iterator[Float[np.ndarray, "draws m"]]:
    """Means of DRAWS resamples, always the same ones for a number of units."""
    random, count = np.random.default_rng(SEED), len(sizes)
    step = max(1, BLOCK // count)
    for start in range(0, DRAWS, step):
        times = random.multinomial(count, np.full(count, 1 / count), min(step, DRAWS - start)).astype(np.float64)
        yield (times @ totals) / (times @ sizes)[:, None]
