"""Split captures into train, validation (chooses the checkpoint) and test (held out for the final score)."""

import random
from collections.abc import Mapping, Sequence

from sonde.recipes import SplitRecipe
from sonde.spelling import quantify, shorten

SHOWN = 3
"""Groups that a message names."""

Blocks = list[list[str]]
"""Captures that stay together: a block is one capture, or one group."""


def split(
    ids: Sequence[str], recipe: SplitRecipe, groups: Mapping[str, str] | None = None, *, whole: bool = False
) -> dict[str, list[str]]:
    """Three disjoint lists that cover `ids`: train, validation and test, each in the order of `ids`.

    Captures, or whole groups, are shuffled by the seed. The test list is taken first, then the validation list: 58
    captures with test=12 and validation=0 give 46 and 12. A share above zero takes at least one capture. Groups are
    taken whole until the count is reached, so a list may be longer than requested. An empty validation list means that
    the test set chooses the checkpoint.

    Args:
        ids: names of the captures, each once.
        recipe: counts, seed and folds. With `folds`, the captures outside test are divided into this many parts, and
            part `fold` validates.
        groups: capture -> group; None: every capture is its own group.
        whole: the set only validates and tests, so the training list may be empty.

    Raises:
        ValueError: too few captures or groups for the recipe; the message says what works.
    """
    blocks = _shuffle(ids, recipe.seed, groups)
    test, rest = _cut(blocks, _resolve_count(recipe.test, len(ids), "test"))
    if recipe.folds:
        validation, train = _fold(rest, recipe.folds, recipe.fold or 0)
    else:
        validation, train = _cut(rest, _resolve_count(recipe.validation, len(ids), "validation"))
    if not train and not whole:
        raise ValueError(_explain_too_few(ids, recipe, groups))
    parts = {"train": train, "validation": validation, "test": test}
    chosen = {name: {capture for block in part for capture in block} for name, part in parts.items()}
    return {name: [capture for capture in ids if capture in part] for name, part in chosen.items()}


def _shuffle(ids: Sequence[str], seed: int, groups: Mapping[str, str] | None) -> Blocks:
    together: dict[str, list[str]] = {}
    for capture in sorted(ids):
        together.setdefault(capture if groups is None else groups[capture], []).append(capture)
    blocks = [together[name] for name in sorted(together)]
    random.Random(seed).shuffle(blocks)
    return blocks


def _resolve_count(wanted: int | float, total: int, name: str) -> int:
    """A count as given, or a share of `total`: at least 1 for any share above 0."""
    if wanted < 0 or (wanted > 1 and wanted != int(wanted)):
        raise ValueError(f"data.split.{name}={wanted}: expected a count such as 12, or a share such as 0.2.")
    if wanted == 0 or wanted >= 1:
        return int(wanted)
    return max(1, round(wanted * total))


def _cut(blocks: Blocks, count: int) -> tuple[Blocks, Blocks]:
    """The first blocks that together hold at least `count` captures, and the rest."""
    taken = 0
    size = 0
    while size < count and taken < len(blocks):
        size += len(blocks[taken])
        taken += 1
    return blocks[:taken], blocks[taken:]


def _fold(blocks: Blocks, folds: int, fold: int) -> tuple[Blocks, Blocks]:
    if folds > len(blocks):
        raise ValueError(
            f"data.split.folds={folds}, but only "
            f"{quantify(len(blocks), 'capture or group is', 'captures or groups are')} outside test: use {len(blocks)} "
            "folds or fewer."
        )
    if fold >= folds:
        raise ValueError(f"data.split.fold={fold}: folds are counted from 0 to {folds - 1}.")
    return blocks[fold::folds], [block for index, block in enumerate(blocks) if index % folds != fold]


def _explain_too_few(ids: Sequence[str], recipe: SplitRecipe, groups: Mapping[str, str] | None) -> str:
    """Why no capture is left for training, and what to set."""
    verb = "leaves" if len(ids) == 1 else "leave"
    wanted = f"{verb} none for training with test={recipe.test}, validation={recipe.validation}"
    fewer = "hold out fewer, such as data.split.test=0.2 data.split.validation=0.1"
    if groups is None:
        return (
            f"{quantify(len(ids), 'capture')} {wanted}: add captures (train, validation and test need at least "
            f"three), {fewer}, or "
            "set data.split.validation=0, so that the test set chooses the checkpoint."
        )
    names = sorted({groups[name] for name in ids})
    shown = ", ".join(repr(shorten(name, 60) or ".") for name in names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
    remedy = "add captures of other groups (train, validation and test need one each)" if len(names) < 3 else fewer
    return (
        f"{quantify(len(ids), 'capture')} in {quantify(len(names), 'group')} {wanted}: all captures of a group "
        f"stay in one part, and data.split.group={recipe.group} finds {shown}. Either {remedy}; or set "
        "data.split.group=null: then each capture is placed alone, captures of one group train and test, and the "
        "scores are better than in a new place."
    )
