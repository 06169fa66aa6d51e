"""A model's answer decoded by another encoding than its own, to compare with numbers that were published that way."""

from copy import copy
from dataclasses import replace
from typing import TypeVar

from sonde.encoding import ENCODINGS, list_decoders
from sonde.models.described import DescribedModel
from sonde.spelling import nearest

M = TypeVar("M", bound=DescribedModel)


def decode_as(model: M, name: str) -> M:
    """The same network and range, its values in [0, 1] decoded by an encoding that encodes as its own does.

    `inverse_notebook` gives the published notebook's millimetres for a model that was taught `inverse`, and `inverse`
    the exact ones for either. The network is shared; the model itself stays as it is.

    Args:
        model: one that regresses an encoding, without a calibration.
        name: a name in ENCODINGS.

    Raises:
        ValueError: no such encoding, a model that has none or was taught another, or one that is calibrated.
    """
    own = model.spec.encoding
    if name not in ENCODINGS:
        raise ValueError(f"No encoding {name!r}: {nearest(name, list(ENCODINGS))}")
    if own is None:
        raise ValueError(
            f"encoding={name}: {model.name} regresses no encoding (its space is {model.space}), so there is nothing to "
            "decode: leave it out."
        )
    if name not in list_decoders(own["name"]):
        raise ValueError(
            f"encoding={name}: {model.name} was taught {own['name']}, and its values mean nothing under {name}: "
            f"expected {' or '.join(list_decoders(own['name']))}."
        )
    if model.calibration is not None:
        raise ValueError(
            f"encoding={name}: {model.name} is calibrated as its own encoding ({own['name']}) decodes it, so other "
            "metres would be wrong: leave it out, or undo the calibration (`sonde calibrate --undo`)."
        )
    other = copy(model)
    other.spec = replace(model.spec, encoding=own | {"name": name})
    return other
