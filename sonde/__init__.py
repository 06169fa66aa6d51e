"""sonde trains, distils, adapts, evaluates and serves monocular depth models.

    model = sonde.load("sonde-tiny")
    prediction = model.predict("photo.jpg")

Nothing heavy is imported before it is used, so that `sonde --help` answers at once.
"""

import os
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# torch reads it once: activations on large pages, where Linux grants them, save some 8 % of a training step.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

if TYPE_CHECKING:
    from sonde.calibrate import calibrate as calibrate
    from sonde.evaluate import evaluate as evaluate
    from sonde.export import export as export
    from sonde.label import label as label
    from sonde.models import load as load
    from sonde.train import train as train

MODULES: tuple[str, ...] = tuple(
    "types spelling units recipes geometry encoding align maps losses metrics files augment background scenes datasets "
    "download unlabeled architectures adapters models features predict baselines protocols evaluate report compare "
    "reproduce cards schedules trainer train label export calibrate checks doctor online bench demo cli".split()
)
"""The house in reading order: a module imports only from modules before it."""


class Verb(ModuleType):
    """A module named after its one verb; calling it calls the function of the same name, so `sonde.train(recipe)`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The verb itself."""
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


def __getattr__(name: str) -> Any:
    if name == "load":
        return import_module("sonde.models").load
    if name in MODULES:
        return import_module(f"sonde.{name}")
    raise AttributeError(f"sonde has no {name!r}")
