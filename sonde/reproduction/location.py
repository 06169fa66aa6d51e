"""Where a published row's captures, list and weights are on this machine, and what is missing."""

from pathlib import Path
from typing import NamedTuple

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_CACHE

from sonde import download, protocols
from sonde.models.naming import SHIPPED
from sonde.reproduction.published import Published

PAIRS = "annotations.json"
"""The file that marks DA-2K's folder."""


class Sources(NamedTuple):
    """Where a row's evaluation finds what it needs."""

    model: str
    data: Path
    listed: Path | None
    missing_data: list[str]
    """What of the captures is missing, a sentence each."""
    missing_weights: list[str]
    """A sentence, where the weights are not on this machine; the hub may still answer."""

    @property
    def missing(self) -> list[str]:
        """Everything that is missing, a sentence each."""
        return self.missing_data + self.missing_weights


def find_sources(
    row: Published, data: Path | None = None, model: str | None = None, listed: Path | None = None
) -> Sources:
    """Where a row's captures, list and weights are, and what of them is missing.

    Args:
        row: the published row.
        data: the set's folder; by default data/NAME.
        model: what replaces the row's model, such as a local folder of its weights.
        listed: the list of captures; by default the row's file below the set's folder.
    """
    root = data or Path("data") / row.set
    missing = []
    remedy = f"`sonde data download {row.set}` gets it, or give its folder with --data"
    if not root.is_dir():
        missing.append(f"The set {row.set}, {_title_of(row.set)}: no folder {root.absolute()}; {remedy}.")
    if row.format is None:
        root = _find_pairs(root)
        if root.is_dir() and not (root / PAIRS).is_file():
            missing.append(f"{PAIRS} of {row.set}: not in {root.absolute()} or two folders below; {remedy}.")
    place = listed or (root / row.listed if row.listed else None)
    if place is not None and not place.is_file():
        missing.append(
            f"The list of the {row.images} captures, {row.listed} ({protocols.load(row.protocol).images}): no file "
            f"{place.absolute()}; put it there, or name it with --only."
        )
    name = model or row.model
    weights = []
    if not _is_local(name):
        weights.append(
            f"The weights {name}: neither a folder nor in the cache {HF_HUB_CACHE} "
            f"(models--{name.replace('/', '--')}); sonde downloads them where the hub answers, or give a folder with "
            "--model."
        )
    return Sources(name, root, place, missing, weights)


def _find_pairs(root: Path) -> Path:
    """The folder with the pairs of points, at most two below `root`, as archives unpack it; else `root`."""
    found = (path.parent for part in ("", "*/", "*/*/") for path in root.glob(part + PAIRS))
    return next(found, root)


def _title_of(name: str) -> str:
    """The title of a public set; one of your own has none."""
    try:
        return download.find(name).title
    except ValueError:
        return "a set of your own"


def _is_local(model: str) -> bool:
    """Whether the weights load without a network."""
    if model in SHIPPED or Path(model).exists():
        return True
    return "/" in model and isinstance(try_to_load_from_cache(model, "config.json"), str)
