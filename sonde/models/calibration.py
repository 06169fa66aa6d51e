"""A model's answer turned into metres by two numbers at most, kept in `calibration.json` beside its weights.

With x the model's answer, s the scale and t the shift:

    kind          of a depth            of a disparity
    identity      x
    scale         s x                   1 / (s x)
    scale-shift   s x + t               1 / (s x + t)
    log-affine    exp(s ln x + t)       exp(s ln x + t), with s below 0

All but the first two of a depth are kept inside `limits`, before any inversion: s x + t may well pass 0.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from sonde import files
from sonde.tensors import Depth
from sonde.types import Space

CALIBRATION = "calibration.json"

KINDS: dict[str, int] = {"identity": 0, "scale": 1, "scale-shift": 2, "log-affine": 2}
"""Kind → how many numbers it fits."""

CANDIDATES: dict[Space, tuple[str, ...]] = {
    "metric": tuple(KINDS),
    "scale": ("scale", "scale-shift", "log-affine"),
    "affine": ("scale-shift",),
    "disparity": ("scale", "scale-shift", "log-affine"),
}
"""The kinds that can make metres of what a model claims."""


@dataclass(frozen=True)
class Calibration:
    """How a model's answer becomes metres, and how that was found."""

    kind: str
    space: Space
    """What the model claims without it."""
    scale: float = 1.0
    shift: float = 0.0
    limits: tuple[float, float] | None = None
    """Metres, nearest and farthest answer; None: as far as the answer goes."""
    fingerprint: str | None = None
    """Of the weights it was measured with."""
    base: str | None = None
    """Where the folder holds nothing else: the name the weights are loaded by."""
    record: dict[str, Any] = field(default_factory=dict)
    """Where it comes from: points, errors, date, version."""

    def apply(self, answer: Depth) -> Depth:
        """Metres, of the answer's shape and type; the arithmetic is float64."""
        x = answer.double()
        line = self.scale * (x.clamp_min(1e-6).log() if self.kind == "log-affine" else x) + self.shift
        if self.limits is not None:
            ends = self._straight(torch.tensor(self.limits, dtype=torch.float64)).tolist()
            line = line.clamp(min(ends), max(ends))
        depth = line.exp() if self.kind == "log-affine" else 1 / line if self.space == "disparity" else line
        return depth.to(answer.dtype)

    def _straight(self, depth: torch.Tensor) -> torch.Tensor:
        """What s x + t stands for: depth, its logarithm or its inverse."""
        return depth.log() if self.kind == "log-affine" else 1 / depth if self.space == "disparity" else depth

    def formula(self, name: str = "x") -> str:
        """The same as Python for a tensor of that name."""
        line = f"{self.scale!r} * {f'{name}.clamp_min(1e-6).log()' if self.kind == 'log-affine' else name}"
        line = f"{line} + {self.shift!r}" if self.shift else line
        if self.limits is not None:
            ends = sorted(self._straight(torch.tensor(self.limits, dtype=torch.float64)).tolist())
            line = f"({line}).clamp({ends[0]!r}, {ends[1]!r})"
        if self.kind == "log-affine":
            return f"({line}).exp()"
        return f"1 / {line}" if self.space == "disparity" else line

    def write(self, folder: Path) -> Path:
        """FOLDER/calibration.json."""
        with files.atomic_write(folder / CALIBRATION) as tmp_path:
            tmp_path.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return folder / CALIBRATION


def only_calibration(folder: Path) -> bool:
    """Whether a folder holds a calibration and no weights."""
    weights = ("config.json", "adapter_config.json")
    return (folder / CALIBRATION).is_file() and not any((folder / name).is_file() for name in weights)


def read_calibration(folder: Path) -> Calibration:
    """The calibration of a folder.

    Raises:
        ValueError: it is not what sonde wrote there.
    """
    path = folder / CALIBRATION
    with files.reading(path, "expected what `sonde calibrate` writes; calibrate again, or delete it"):
        stored = json.loads(path.read_text())
        if stored["kind"] not in KINDS or stored["space"] not in CANDIDATES:
            raise ValueError(f"it holds kind {stored['kind']!r} of space {stored['space']!r}")
        limits = stored["limits"]
        return Calibration(**stored | {"limits": None if limits is None else (float(limits[0]), float(limits[1]))})
