"""Which captures train, which choose the checkpoint, and which are kept for the score."""

import random
from collections.abc import Mapping, Sequence

from sonde.recipes import SplitRecipe

Blocks = list[list[str]]
"""Captures that must stay together: one each, or one group each."""


def split(
    ids: Sequence[str], recipe: SplitRecipe, groups: Mapping[str, str] | None = None, *, whole: bool = False
) -> dict[str, list[str]]:
    """Three disjoint lists that cover `ids`: train, validation and test, each in the order of `ids`.

    The captures (or whole groups) are shuffled by the seed; the test set is cut first, then validation: 58
    captures with test=12 and validation=0 give 46 and 12. A share above zero takes at least one capture.
    Groups are taken whole until the count is reached, so a set may come out larger than asked. With `folds`,
    what is not test is dealt into that many parts and part `fold` validates. An empty validation list means
    that the test set chooses. With `whole`, a set that only judges, the training list may be empty.

    Raises:
        ValueError: too few captures or groups for the recipe; the message says what would work.
    """
    blocks = _shuffled(ids, recipe.seed, groups)
    test, rest = _cut(blocks, _count(recipe.test, len(ids), "test"))
    if recipe.folds:
        validation, train = _fold(rest, recipe.folds, recipe.fold or 0)
    else:
        validation, train = _cut(rest, _count(recipe.validation, len(ids), "validation"))
    if not train and not whole:
        raise ValueError(_too_few(len(ids), len(blocks), recipe))
    parts = {"train": train, "validation": validation, "test": test}
    chosen = {name: {capture for block in part for capture in block} for name, part in parts.items()}
    return {name: [capture for capture in ids if capture in part] for name, part in chosen.items()}


def _shuffled(ids: Sequence[str], seed: int, groups: Mapping[str, str] | None) -> Blocks:
    together: dict[str, list[str]] = {}
    for capture in sorted(ids):
        together.setdefault(capture if groups is None else groups[capture], []).append(capture)
    blocks = [together[name] for name in sorted(together)]
    random.Random(seed).shuffle(blocks)
    return blocks


def _count(wanted: int | float, total: int, name: str) -> int:
    if wanted < 0 or (wanted > 1 and wanted != int(wanted)):
        raise ValueError(f"data.split.{name}={wanted}: expected a count such as 12, or a share such as 0.2.")
    if wanted == 0 or wanted >= 1:
        return int(wanted)
    return max(1, round(wanted * total))


def _cut(blocks: Blocks, count: int) -> tuple[Blocks, Blocks]:
    taken = 0
    size = 0
    while size < count and taken < len(blocks):
        size += len(blocks[taken])
        taken += 1
    return blocks[:taken], blocks[taken:]


def _fold(blocks: Blocks, folds: int, fold: int) -> tuple[Blocks, Blocks]:
    if folds > len(blocks):
        raise ValueError(
            f"data.split.folds={folds}, but only {len(blocks)} captures or groups are not test: "
            f"use {len(blocks)} or fewer."
        )
    if fold >= folds:
        raise ValueError(f"data.split.fold={fold}: folds are counted from 0 to {folds - 1}.")
    return blocks[fold::folds], [block for index, block in enumerate(blocks) if index % folds != fold]


def _too_few(captures: int, blocks: int, recipe: SplitRecipe) -> str:
    held = f"{captures} captures" if blocks == captures else f"{captures} captures in {blocks} groups"
    return (
        f"{held} leave none to train on with test={recipe.test}, validation={recipe.validation}: add captures "
        "(three, or three groups, are the least for train, validation, test), hold fewer back, or set "
        "data.split.validation=0, and the test set chooses the checkpoint."
    )
