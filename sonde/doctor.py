"""What this machine can do. What is wrong with a set of captures is told by `sonde.checks`, and by its names here."""

import platform
import shutil
from importlib.metadata import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import torch
from PIL import features

from sonde.checks import CHECKS, Problem, check

__all__ = ["CHECKS", "PARTS", "Problem", "check", "devices", "machine", "weights"]

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
