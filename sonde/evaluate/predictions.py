"""Who answers: a model, any function of a capture, or a folder of predictions on disk."""

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image as PILImage

from sonde import files, models
from sonde.datasets import Capture
from sonde.datasets.contract import UNITS
from sonde.models import DepthModel
from sonde.predict import MANIFEST
from sonde.types import Prediction

Predictor = Callable[[Capture], Prediction]
"""What is scored: a capture's image in; depth out, (h, w) of any size. It must not look at the answer."""

ENDINGS = (".npy", ".depth.png", ".png", ".exr", ".pfm")
"""Of the files in a folder of predictions, the first found for a capture's id is taken."""


def predictor_of(model: DepthModel | Predictor | str | Path) -> tuple[Predictor, str]:
    """What answers for each capture, and its name."""
    if isinstance(model, str | Path):
        folder = Path(model)
        known = ("config.json", "adapter_config.json", "best", "recipe.yaml")
        if folder.is_dir() and not any((folder / name).exists() for name in known):
            return read_predictions(folder), str(model)
        model = models.load(model)
    if isinstance(model, DepthModel):
        network = model
        return lambda capture: network.predict(capture.image), network.name
    return model, getattr(model, "__name__", type(model).__name__)


def read_predictions(folder: Path) -> Predictor:
    """Predictions read from a folder: FOLDER/ID.npy, .depth.png, .png, .exr or .pfm.

    Space and unit are those of the folder's `predictions.json`, as `sonde predict` writes it; without one,
    those that a PNG's metadata state, and metric depth in metres for the rest.
    """
    path = folder / MANIFEST
    manifest = json.loads(path.read_text()) if path.is_file() else {}

    def read(capture: Capture) -> Prediction:
        found = next((file for ending in ENDINGS if (file := folder / f"{capture.id}{ending}").is_file()), None)
        if found is None:
            raise ValueError(f"{folder} has no prediction for {capture.id}: expected {capture.id}{'|'.join(ENDINGS)}.")
        if found.suffix == ".png":
            with PILImage.open(found) as image:
                space = image.info.get("Space", "metric")
            return Prediction(files.read_depth(found), manifest.get("space", space))
        space = manifest.get("space", "metric")
        scale = UNITS[manifest["unit"]] if space == "metric" and "unit" in manifest else None
        return Prediction(files.read_depth(found, scale), space)

    return read
