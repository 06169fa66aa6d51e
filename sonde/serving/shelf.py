"""The models of a server: loaded when they are asked for; the one unused for longest leaves past a limit."""

import ctypes
import gc
import platform
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np

from sonde import models
from sonde.models import Calibration, DescribedModel, ExportedModel
from sonde.options import LOADING
from sonde.options.serve import ServeOptions
from sonde.prediction.batches import BatchModel
from sonde.serving.documents import ModelDocument
from sonde.serving.refusals import Refusal
from sonde.spelling import nearest, shorten

WARM = (384, 512)
"""(height, width) of the image that a model sees first."""


@dataclass
class LoadedModel:
    """A model in memory, and what its answers say of it; the hashes read all weights, once."""

    model: DescribedModel
    batches: BatchModel
    licence: str = field(init=False)
    hash: str = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        """Find what does not change."""
        self.licence, self.hash, self.fingerprint = _find_licence(self.model), self.model.hash(), self.model.identify()

    @contextmanager
    def calibrated(self, calibration: Calibration | None, raw: bool) -> Iterator[None]:
        """Let the model answer with a client's calibration, or with none where `raw`, while the block runs.

        Raises:
            ValueError: the calibration was measured with another model.
        """
        own = self.model.calibration
        if calibration is not None and calibration.fingerprint != self.fingerprint:
            raise ValueError(f"The calibration belongs to another model than {self.model.name}: calibrate this one.")
        if calibration is not None or raw:
            self.model.calibration = calibration
        try:
            yield
        finally:
            self.model.calibration = own

    def describe(self) -> ModelDocument:
        """What a client may know of it."""
        model = self.model
        return {
            "name": model.name,
            "loaded": True,
            "space": model.space,
            "unit": model.spec.unit if model.space == "metric" else "1",
            "licence": self.licence,
            "hash": self.hash,
            "parameters": model.parameter_count,
            "device": model.placement.device,
            "precision": model.placement.precision,
            "runtime": model.placement.runtime,
            "needs_intrinsics": model.spec.canonical_focal is not None,
            "calibrated": model.calibration is not None,
            "max_depth": model.max_depth,
        }


class Shelf:
    """The models by name. `open` and `warm` are for one thread alone: that of the network.

    Args:
        names: as `sonde.load` takes them.
        options: how they are loaded, and how many stay.
    """

    def __init__(self, names: Sequence[str], options: ServeOptions):
        self.names, self.options = tuple(names), options
        self.loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        """Those in memory, the one that was asked last at the end."""
        self._known: dict[str, ModelDocument] = {name: {"name": name, "loaded": False} for name in names}

    def check_name(self, name: str | None) -> str:
        """The name of a model that is served; by default the first.

        Raises:
            Refusal: no such model.
        """
        if name is None or name in self.names:
            return name or self.names[0]
        raise Refusal(404, f"No model {shorten(name, 80)!r}: {nearest(name, self.names)}")

    def open(self, name: str) -> LoadedModel:
        """The model of a name, in memory.

        Raises:
            Refusal: it cannot be loaded.
        """
        try:
            found = self.loaded.get(name) or self._load(name)
        except ValueError as error:
            raise Refusal(503, f"{name} cannot be loaded: {error}") from None
        self.loaded.move_to_end(name)
        return found

    def warm(self) -> LoadedModel:
        """Load the first model and ask it once, so that no client waits for what the first answer costs.

        Raises:
            ValueError: it cannot be loaded.
        """
        found = self._load(self.names[0])
        bench = found.model.background
        height, width = WARM if bench is None else bench.depth.shape
        camera = np.array([[width, 0.0, width / 2], [0.0, width, height / 2], [0.0, 0.0, 1.0]])
        with suppress(ValueError):  # a file that was made for one size
            found.model.predict_batch([np.full((height, width, 3), 127, np.uint8)], camera)
        return found

    def _load(self, name: str) -> LoadedModel:
        while len(self.loaded) >= self.options.max_models:
            unused = next(iter(self.loaded))
            del self.loaded[unused]
            self._known[unused] = {**self._known[unused], "loaded": False}
            free_memory()
        how = {option: getattr(self.options, option) for option in LOADING}
        model = models.load(name, **how)
        self.loaded[name] = LoadedModel(model, BatchModel(model, self.options.batch_size))
        self._known[name] = self.loaded[name].describe()
        return self.loaded[name]

    def describe(self) -> list[ModelDocument]:
        """All models."""
        return [self._known[name] for name in self.names]


def free_memory() -> None:
    """Give memory that nothing uses back to the device and to the system."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _find_licence(model: DescribedModel) -> str:
    if isinstance(model, ExportedModel):
        return model.document["licence"]
    from sonde.cards import find_licence  # it imports torch, which this model has imported already

    return find_licence(model.name)
