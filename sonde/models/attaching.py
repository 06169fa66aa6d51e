"""The files that belong to a model and lie beside its weights: the bench of a fixed camera, and a calibration."""

from pathlib import Path
from typing import TypeVar

from sonde.background import read_background
from sonde.models.calibration import CALIBRATION, Calibration, read_calibration
from sonde.models.described import DescribedModel

M = TypeVar("M", bound=DescribedModel)


def attach_files(model: M, folder: Path, *, calibrated: bool) -> M:
    """Read what lies beside the weights: the bench of a fixed camera and, if `calibrated`, the calibration.

    Returns the model itself.

    Raises:
        ValueError: a file is missing or broken, or the calibration belongs to other weights.
    """
    if model.spec.background is not None and model.background is None:
        model.background = read_background(folder)
    if calibrated and (folder / CALIBRATION).is_file():
        model.calibration = _read_own_calibration(folder, model)
    return model


def _read_own_calibration(folder: Path, model: DescribedModel) -> Calibration:
    calibration = read_calibration(folder)
    if calibration.fingerprint != model.identify() or calibration.space != model.spec.space:
        raise ValueError(
            f"{folder / CALIBRATION} was measured with other weights than those loaded now, so its metres would be "
            "wrong: calibrate again, or delete it."
        )
    return calibration
