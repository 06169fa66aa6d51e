"""The renders that a recipe describes: made where they are missing, and finished where they were begun."""

import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sonde import files, scenes
from sonde.recipes import Part, Recipe

log = logging.getLogger("sonde")

CARD = "render.json"
"""The file in which a set of renders says how it was made."""


def parts_of(recipe: Recipe) -> list[Part]:
    """Every folder of captures that a recipe names."""
    return [recipe.data, *recipe.data.also, *([recipe.data.measured] if recipe.data.measured else [])]


def render_missing(recipe: Recipe) -> None:
    """Render the parts of the data that a recipe describes and that are not there, or not all there."""
    for part in parts_of(recipe):
        for family, count in part.render.items():
            if not Path(part.root).exists():
                log.info("rendering %d %s captures into %s", count, family, part.root)
                scenes.synth(
                    family,
                    part.root,
                    count,
                    seed=_seed(recipe, part),
                    height=part.render_size[0],
                    width=part.render_size[1],
                    rigs=part.rigs,
                    layout=part.format,
                )
            elif (card := _card(part)) is not None and _is_unfinished(part, card):
                _go_on(part, card)


def to_render(recipe: Recipe) -> Iterator[dict[str, Any]]:
    """What `render_missing` would render from nothing: folder, family, count, size, and about how many seconds."""
    for part in parts_of(recipe):
        for family, count in part.render.items():
            if not Path(part.root).exists():
                seconds = count * _seconds_each(family, part.render_size) / (os.cpu_count() or 1)
                size = list(part.render_size)
                yield {"root": part.root, "family": family, "count": count, "size": size, "seconds": round(seconds)}


def _seed(recipe: Recipe, part: Part) -> int:
    return recipe.seed if part.seed is None else part.seed


def _card(part: Part) -> dict[str, Any] | None:
    """How the set in a part's folder was made; None where it is no set of renders."""
    path = Path(part.root) / CARD
    if not path.is_file():
        return None
    with files.reading(path, "remove the folder, and it is rendered again"):
        card = json.loads(path.read_text(encoding="utf-8"))
        return {key: card[key] for key in ("family", "count", "seed", "size", "rigs", "format")}


def _is_unfinished(part: Part, card: dict[str, Any]) -> bool:
    """Whether files of a set are missing; a whole one is only read, for its folder may be read-only."""
    if card["family"] not in scenes.FAMILIES or card["format"] not in scenes.LAYOUTS:
        return False
    pairs = map(scenes.LAYOUTS[card["format"]], range(card["count"]))
    return not all(Path(part.root, name).exists() for pair in pairs for name in (pair.depth, pair.picture))


def _go_on(part: Part, card: dict[str, Any]) -> None:
    """Render what is missing of a set, as its card says: a run that was killed left it unfinished."""
    height, width = card["size"]
    scenes.synth(
        card["family"],
        part.root,
        card["count"],
        seed=card["seed"],
        height=height,
        width=width,
        rigs=card["rigs"],
        layout=card["format"],
    )


def _seconds_each(family: str, size: tuple[int, int]) -> float:
    """Seconds in which one process renders a picture of a family, measured on this machine."""
    height, width = size
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "measured")
        scenes.synth(family, root, 1, height=height, width=width, workers=1, layout="folder")  # loads what it needs
        began = time.perf_counter()
        scenes.synth(family, root, 3, height=height, width=width, workers=1, layout="folder")
        return (time.perf_counter() - began) / 2
