"""What this machine can do, and what is wrong with a dataset."""

import hashlib
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from PIL import features

from sonde.datasets import Capture, DepthSet

PARTS = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "numpy",
    "opencv-python-headless",
    "openexr",
    "trimesh",
)
"""The parts whose version and licence `machine` reports."""


class Problem(NamedTuple):
    """One fault of a dataset."""

    capture: str
    """Its id; empty where the fault is the set's."""
    check: str
    message: str
    """What is wrong and what to do, one line."""

    def __str__(self) -> str:
        return self.message


Check = Callable[[DepthSet, Capture], str | None]
"""What is wrong with a capture that can be read, or None."""


def check(captures: DepthSet) -> list[Problem]:
    """Every fault of a set: each file is read once, and each check of CHECKS asked."""
    problems = [Problem("", "pairs", line) for line in captures.problems]
    first: dict[bytes, str] = {}
    for index, name in enumerate(captures.ids):
        try:
            capture = captures.read(index)
        except ValueError as error:
            problems.append(Problem(name, "files", str(error)))
            continue
        answers = ((known, answer(captures, capture)) for known, answer in CHECKS.items())
        problems += [Problem(name, known, message) for known, message in answers if message]
        twin = first.setdefault(_content(capture), name)
        if twin != name:
            message = f"{name} has the content of {twin}: remove one, or both may end up on two sides of a split."
            problems.append(Problem(name, "duplicate", message))
    return problems


def constant(captures: DepthSet, capture: Capture) -> str | None:
    """A map of one value was not measured."""
    depth = capture.depth[capture.mask]
    if depth.min() < depth.max():
        return None
    return f"{capture.id} is {depth[0] / captures.unit_m:g} {captures.unit} everywhere: export its depth again."


def unit(captures: DepthSet, capture: Capture) -> str | None:
    """Metres where millimetres are expected: nothing on a bench is nearer than 20 mm."""
    farthest = float(capture.depth.max()) / captures.unit_m
    if captures.unit != "mm" or farthest >= 20:
        return None
    return f"{capture.id} ends at {farthest:g} mm: it looks like metres; multiply X, Y and Z by 1000."


def coverage(captures: DepthSet, capture: Capture) -> str | None:
    """A map with hardly any depth teaches nothing and scores noise."""
    share = float(capture.mask.mean())
    if share >= 0.01:
        return None
    return f"{capture.id} has depth in {share:.2%} of its pixels: check exposure and limits, or remove it."


def dark(captures: DepthSet, capture: Capture) -> str | None:
    """An image of one colour was not exposed."""
    if np.ptp(capture.image) > 10:
        return None
    return f"{capture.id} has an image of one colour: export it again."


def machine(folder: Path | str = ".") -> dict[str, Any]:
    """Python, torch, devices, threads, codecs, free disk at `folder`, weights, versions and licences."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "torch": torch.__version__,
        "devices": devices(),
        "threads": torch.get_num_threads(),
        "bf16_native": torch.cpu._is_avx512_bf16_supported(),
        "codecs": {
            "png": features.version("zlib"),
            "jpeg": features.version("jpg"),
            "webp": features.version("webp"),
            "tiff": features.version("libtiff"),
            "opencv": cv2.__version__,
        },
        "disk_free_gb": round(shutil.disk_usage(folder).free / 1e9, 1),
        "weights": weights(),
        "parts": {name: f"{metadata(name)['Version']} ({_licence(name)})" for name in PARTS},
    }


def devices() -> list[str]:
    """Where torch can train, best first; always ends in `cpu`."""
    cuda = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def weights() -> list[str]:
    """The models that need no network."""
    packaged = files("sonde") / "weights"
    return sorted(path.name for path in packaged.iterdir() if path.name.endswith(".safetensors"))


def _licence(name: str) -> str:
    about = metadata(name).json
    licence = str(about.get("license_expression") or about.get("license") or "see its site")
    return licence.splitlines()[0].partition(" AND ")[0]


def _content(capture: Capture) -> bytes:
    parts = (np.ascontiguousarray(array) for array in (capture.image, capture.depth))
    return hashlib.blake2b(b"".join(part.tobytes() for part in parts), digest_size=16).digest()


CHECKS: dict[str, Check] = {"constant": constant, "unit": unit, "coverage": coverage, "dark": dark}
"""Per-capture checks by name."""
