"""The corpus: hostile images, depth maps, clouds, documents, weights, containers, folders and settings."""

import random

import hostile_clouds
import hostile_containers
import hostile_depth
import hostile_documents
import hostile_exported
import hostile_folders
import hostile_images
import hostile_settings
import hostile_tables
import hostile_weights
from case import Case

SAMPLE = 40
"""Cases that every run of the tests takes."""
SLOW = ("folders/output/", "settings/synth/", "documents/resumed-split.json/", "documents/trainer_state.json/")
"""Cases whose names begin so are not in the sample: each trains, renders or loads a model for most of a second."""


def _collect() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for module in (
        hostile_images,
        hostile_depth,
        hostile_clouds,
        hostile_documents,
        hostile_tables,
        hostile_weights,
        hostile_exported,
        hostile_containers,
        hostile_folders,
        hostile_settings,
    ):
        for case in module.cases():
            if case.name in found:
                raise ValueError(f"Two cases are called {case.name}.")
            found[case.name] = case
    return found


CASES: dict[str, Case] = _collect()
"""Name -> case."""


def sample(count: int = SAMPLE, seed: int = 0) -> set[str]:
    """Names of some cases, of every kind alike, the same for the same seed."""
    chosen = random.Random(seed)
    kinds: dict[str, list[str]] = {}
    for name, case in CASES.items():
        if not name.startswith(SLOW):
            kinds.setdefault(case.kind, []).append(name)
    each = count // len(kinds)
    return {name for names in kinds.values() for name in chosen.sample(names, min(each, len(names)))}
