"""What this machine can do, and why a run passed over steps.

What is wrong with a set of captures is told by `sonde.checks`, and by its names here.
"""

import platform
import shutil
from dataclasses import replace
from importlib.metadata import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import torch
from PIL import features

from sonde.checks import CHECKS, Problem, check
from sonde.trainer import SkippedStep, blackbox
from sonde.trainer.trace import NonFiniteValue
from sonde.training import replay

__all__ = [
    "CHECKS", "PARTS", "Problem", "check", "devices", "explain", "machine", "replay", "replayed", "weights",
]  # fmt: skip

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


def explain(run: Path | str) -> dict[str, Any]:
    """Every black box of a run in plain sentences, under its name; empty where no step was skipped.

    Raises:
        ValueError: this is no run folder, or a box is damaged.
    """
    run = Path(run)
    if not (run / "recipe.yaml").is_file():
        raise ValueError(f"{run} is no run folder: expected recipe.yaml in it, as `sonde train` leaves it.")
    return {folder.name: _explained(blackbox.read(folder), run) for folder in blackbox.found(run)}


def replayed(run: Path | str, step: int | None = None) -> dict[str, Any]:
    """A skipped step taken again on this machine, in plain sentences: whether the fault shows again, and where."""
    box, batches = replay(run, step)
    again = replace(box, batches=batches)
    shows = not batches[-1].finite
    answer = {"step": box.step, "fault": "shows again" if shows else "does not show again"}
    return answer | (_explained(again, Path(run)) if shows else {"then": f"because of {box.cause()[0]}"})


def _explained(box: SkippedStep, run: Path) -> dict[str, Any]:
    said, remedy = box.cause()
    folder = run / blackbox.FOLDER / box.weights
    kept = folder / "weights.safetensors"
    size = f"{kept.stat().st_size / 1e6:.1f} MB in {folder.name}" if kept.is_file() else "kept no more"
    facts = {"forward": box.faults("forward"), "backward": box.faults("backward")}
    return {
        "why": f"Skipped because {said}.",
        "what_to_do": remedy.replace("RUN", str(run)),
        "epoch": box.batches[0].epoch,
        "learning_rate": box.learning_rate,
        "captures": box.suspects(),
        **{f"first_{way}": _place(faults[0]) for way, faults in facts.items() if faults},
        "weights": size,
    }


def _place(fault: NonFiniteValue) -> str:
    before = "" if fault.inputs_finite else ", whose input was not finite either"
    return f"{fault.module} ({fault.kind}, {fault.dtype}{before})"


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
