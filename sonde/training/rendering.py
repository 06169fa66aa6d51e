"""Make the renders that a recipe describes: render sets that are missing, and finish those that are unfinished."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from sonde import files, scenes
from sonde.recipes import Part, Recipe
from sonde.recipes.bounds import MOST_RENDERS, RenderSize, Seed
from sonde.renamed import keep_old_names
from sonde.scenes import layouts
from sonde.spelling import nearest, shorten

log = logging.getLogger("sonde")

CARD = "render.json"
"""The file in which a set of renders records how it was made."""


@dataclass(frozen=True)
class PlannedRender:
    """A set that a run would render."""

    root: str
    """The folder."""
    family: str
    """A name in FAMILIES."""
    count: int
    size: list[int]
    """[height, width], pixels."""
    seconds: int
    """Estimate for this machine."""


@dataclass(frozen=True)
class RenderCard:
    """How a set of renders was made, as its `render.json` records it."""

    family: str
    count: Annotated[int, Field(ge=0, le=MOST_RENDERS)]
    seed: Seed
    size: RenderSize
    """(height, width), pixels."""
    rigs: Annotated[int, Field(ge=0)]
    format: str
    """A name in LAYOUTS."""
    per_folder: Annotated[int, Field(ge=1)] = layouts.PER_FOLDER
    """Renders in each scene or drive."""


def list_parts(recipe: Recipe) -> list[Part]:
    """Every folder of captures that a recipe names."""
    measured = recipe.data.measured
    return [recipe.data, *recipe.data.also, *([measured] if measured else [])]


def render_missing(recipe: Recipe) -> None:
    """Render the sets that a recipe describes and that are missing or unfinished.

    Raises:
        ValueError: an unknown layout, or a set whose record cannot be read.
    """
    for part in list_parts(recipe):
        for family, count in part.render.items():
            if not Path(part.root).exists():
                log.info("rendering %d %s captures into %s", count, family, part.root)
                seed = recipe.seed if part.seed is None else part.seed
                _render(part.root, RenderCard(family, count, seed, part.render_size, part.rigs, part.format))
            elif (card := _read_card(part)) is not None and _is_unfinished(part, card):
                # The card of the set decides, not the recipe: another count was rendered on purpose.
                _render(part.root, card)


def refuse_unknown_families(recipe: Recipe) -> None:
    """Refuse renders of a family that is none; a set that exists names its own family.

    Raises:
        ValueError: an unknown family.
    """
    for part in list_parts(recipe):
        for family in part.render:
            if family in scenes.FAMILIES or ((card := _read_card(part)) is not None and card.family == family):
                continue
            raise ValueError(f"data.render: no family {shorten(family)!r}; {nearest(family, list(scenes.FAMILIES))}")


def list_renders(recipe: Recipe) -> Iterator[PlannedRender]:
    """The sets that `render_missing` would render from the start. Renders a few pictures to measure the time."""
    for part in list_parts(recipe):
        for family, count in part.render.items():
            if not Path(part.root).exists():
                seconds = count * _measure_seconds(family, part.render_size) / (os.cpu_count() or 1)
                yield PlannedRender(part.root, family, count, list(part.render_size), round(seconds))


def _render(root: str, card: RenderCard) -> None:
    """Render a set; pairs that exist are kept."""
    height, width = card.size
    scenes.synth(
        card.family,
        root,
        card.count,
        seed=card.seed,
        height=height,
        width=width,
        rigs=card.rigs,
        layout=card.format,
    )


def _read_card(part: Part) -> RenderCard | None:
    """How the set in a part's folder was made; None if it is no set of renders."""
    path = Path(part.root) / CARD
    if not path.is_file():
        return None
    return files.read_json(path, RenderCard, "remove the folder, and it is rendered again")


def _is_unfinished(part: Part, card: RenderCard) -> bool:
    """Whether files of a set are missing; only reads the folder, because that of a complete set may be read-only."""
    # A family or layout of the user's own may not be registered here: its set is taken for finished.
    if card.family not in scenes.FAMILIES or card.format not in scenes.LAYOUTS:
        return False
    pairs = map(layouts.arrange(card.format, card.per_folder), range(card.count))
    return not all(Path(part.root, name).exists() for pair in pairs for name in (pair.depth, pair.picture))


def _measure_seconds(family: str, size: tuple[int, int]) -> float:
    """Seconds that one process needs for a picture of a family on this machine."""
    height, width = size
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "measured")
        # The first picture loads libraries and meshes. It exists when the next call starts, so that call renders two.
        scenes.synth(family, root, 1, height=height, width=width, workers=1, layout="folder")
        started = time.perf_counter()
        scenes.synth(family, root, 3, height=height, width=width, workers=1, layout="folder")
        return (time.perf_counter() - started) / 2


keep_old_names(__name__, {"parts_of": "list_parts", "to_render": "list_renders"})
