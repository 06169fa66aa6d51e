"""sonde trains, distils, adapts, evaluates and serves monocular depth models.

    model = sonde.load("sonde-tiny")
    prediction = model.predict("photo.jpg")

Nothing heavy is imported before it is used, so that `sonde --help` answers at once.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# torch reads it once: activations on large pages, where Linux grants them, save some 8 % of a training step.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# ONNX Runtime reads it once: else its wheels report to Microsoft, and keep a number in the folder of temporary files.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from sonde.calibration import calibrate as calibrate
    from sonde.comparison import compare as compare
    from sonde.evaluation import evaluate as evaluate
    from sonde.exporting import export as export
    from sonde.labelling import label as label
    from sonde.models import load as load
    from sonde.prediction import predict as predict
    from sonde.reproduction import reproduce as reproduce
    from sonde.serving import serve as serve
    from sonde.training import train as train

MODULES: tuple[str, ...] = tuple(
    "renamed types tensors spelling units strict ids workers overlap extras options files recipes geometry encoding "
    "align maps losses metrics augment background scenes datasets download unlabeled architectures adapters models "
    "features prediction baselines protocols runs checks evaluation report comparison reproduction cards schedules "
    "trainer training labelling exporting calibration doctor online serving bench demo cli".split()
)
"""The house in reading order: a module imports only from modules before it."""

VERBS = {
    "load": "models",
    "train": "training",
    "label": "labelling",
    "evaluate": "evaluation",
    "predict": "prediction",
    "export": "exporting",
    "calibrate": "calibration",
    "compare": "comparison",
    "reproduce": "reproduction",
    "serve": "serving",
}
"""Function -> the module that holds it; each is imported at its first use."""


def __getattr__(name: str) -> object:
    if name not in VERBS and name not in MODULES:
        raise AttributeError(f"sonde has no {name!r}")
    from sonde.extras import explain_missing, pause_collection

    try:
        with pause_collection():
            found = import_module(f"sonde.{VERBS.get(name, name)}")
            return getattr(found, name) if name in VERBS else found
    except ModuleNotFoundError as error:
        missing = explain_missing(error, f"sonde.{name}")
        if missing is None:
            raise
        raise missing from error
