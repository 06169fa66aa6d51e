"""A model's answer turned into metres by two numbers at most, kept in `calibration.json` beside its weights.

With x the model's answer, s the scale and t the shift:

    kind          of a depth            of a disparity
    identity      x
    scale         s x                   1 / (s x)
    scale-shift   s x + t               1 / (s x + t)
    log-affine    exp(s ln x + t)       exp(s ln x + t), with s below 0

All but the first two of a depth are kept inside `limits`, before any inversion, because s x + t may pass 0.
NumPy arrays need no torch.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import ConfigDict

from sonde import files
from sonde.encoding import NUMPY, Array
from sonde.types import Space

CALIBRATION = "calibration.json"

KINDS: dict[str, int] = {"identity": 0, "scale": 1, "scale-shift": 2, "log-affine": 2}
"""Kind → number of parameters that are fitted."""

CANDIDATES: dict[Space, tuple[str, ...]] = {
    "metric": tuple(KINDS),
    "scale": ("scale", "scale-shift", "log-affine"),
    "affine": ("scale-shift",),
    "disparity": ("scale", "scale-shift", "log-affine"),
}
"""Space of a model → the kinds that can turn its answer into metres."""


@dataclass(frozen=True)
class Calibration:
    """How a model's answer becomes metres, and the record of the measurement."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    kind: str
    space: Space
    """The model's space without the calibration."""
    scale: float = 1.0
    shift: float = 0.0
    limits: tuple[float, float] | None = None
    """Nearest and farthest depth in metres; None: no limits."""
    fingerprint: str | None = None
    """`fingerprint` of the weights it was measured with."""
    base: str | None = None
    """For a folder that holds only a calibration: the name by which the weights are loaded."""
    record: dict[str, Any] = field(default_factory=dict)
    """Points, errors, date and version, as `sonde.calibration` writes them."""

    def apply(self, answer: Array) -> Array:
        """Metres, in the answer's shape and type; computed in float64."""
        if isinstance(answer, NUMPY):
            ends = None if self.limits is None else self._to_line(np.array(self.limits)).tolist()
            return self._apply(answer.astype(np.float64), ends).astype(answer.dtype)
        exact = (answer.cpu() if answer.device.type == "mps" else answer).double()  # Apple's GPUs have no float64
        return self._apply(exact, self._line_limits()).to(answer)

    def _apply(self, x: Array, ends: list[float] | None) -> Array:
        line = self.scale * (_log(x.clip(1e-6)) if self.kind == "log-affine" else x) + self.shift
        if ends is not None:
            line = line.clip(min(ends), max(ends))
        if self.kind == "log-affine":
            return _exp(line)
        return 1 / line if self.space == "disparity" else line

    def _line_limits(self) -> list[float] | None:
        """The values of s x + t at `limits`, by torch: its logarithm may differ from others in the last digit."""
        if self.limits is None:
            return None
        import torch

        return self._to_line(torch.tensor(self.limits, dtype=torch.float64)).tolist()

    def _to_line(self, depth: Array) -> Array:
        """The value of s x + t at a depth: the depth itself, its logarithm or its inverse."""
        if self.kind == "log-affine":
            return _log(depth)
        return 1 / depth if self.space == "disparity" else depth

    def formula(self, name: str = "x") -> str:
        """`apply` as a Python expression for a torch tensor of that name."""
        line = f"{self.scale!r} * {f'{name}.clamp_min(1e-6).log()' if self.kind == 'log-affine' else name}"
        line = f"{line} + {self.shift!r}" if self.shift else line
        ends = self._line_limits()
        if ends is not None:
            ends.sort()
            line = f"({line}).clamp({ends[0]!r}, {ends[1]!r})"
        if self.kind == "log-affine":
            return f"({line}).exp()"
        return f"1 / {line}" if self.space == "disparity" else line

    def write(self, folder: Path) -> Path:
        """Write FOLDER/calibration.json and return its path."""
        with files.atomic_write(folder / CALIBRATION) as tmp_path:
            tmp_path.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return folder / CALIBRATION


def _log(values: Array) -> Array:
    return np.log(values) if isinstance(values, NUMPY) else values.log()


def _exp(values: Array) -> Array:
    return np.exp(values) if isinstance(values, NUMPY) else values.exp()


def holds_only_calibration(folder: Path) -> bool:
    """Whether a folder holds a calibration and no weights."""
    weights = ("config.json", "adapter_config.json")
    return (folder / CALIBRATION).is_file() and not any((folder / name).is_file() for name in weights)


def read_calibration(folder: Path) -> Calibration:
    """Read the calibration of a folder.

    Raises:
        ValueError: the file is broken, or not one that sonde wrote.
    """
    path = folder / CALIBRATION
    with files.reading(path, "expected what `sonde calibrate` writes; calibrate again, or delete it"):
        return calibration_from_json(files.parse_json(files.read_text(path), dict[str, Any]))


def calibration_from_json(stored: dict[str, Any]) -> Calibration:
    """The calibration of a JSON document, checked.

    Raises:
        ValueError: missing, unknown or wrong fields, a kind that its space cannot have, or limits that are none.
    """
    missing = [key for key in ("kind", "space", "limits") if key not in stored]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    found = files.check_exactly(stored, Calibration)
    if found.kind not in CANDIDATES[found.space]:
        raise ValueError(f"it holds kind {found.kind!r} of space {found.space!r}")
    if found.limits is not None and not 0 < found.limits[0] < found.limits[1]:
        raise ValueError(f"its limits are {found.limits}, expected two depths in metres, the nearer first")
    return found
