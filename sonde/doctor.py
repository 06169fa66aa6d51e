"""What this machine can do, and why a run skipped steps.

`sonde.checks` finds what is wrong with a set of captures; its names work here too.
"""

import platform
import shutil
from dataclasses import asdict, dataclass, replace
from importlib.metadata import metadata
from importlib.resources import files
from pathlib import Path

import cv2
import torch
from PIL import features

from sonde.checks import CHECKS, Problem, check
from sonde.datasets.records import CacheUse, clear_folder, find_user_folder, measure_folder
from sonde.renamed import keep_old_names
from sonde.trainer import SkippedStep, blackbox
from sonde.trainer.trace import NonFiniteValue
from sonde.training import RunProgress, read_progress, replay

__all__ = [
    "CHECKS",
    "PARTS",
    "Explanation",
    "Machine",
    "Problem",
    "ReplayReport",
    "SkippedSteps",
    "check",
    "clear_cache",
    "describe_machine",
    "describe_run",
    "explain",
    "explain_replay",
    "list_devices",
    "list_weights",
    "replay",
]

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
"""The packages whose version and licence `describe_machine` reports."""


@dataclass(frozen=True)
class Machine:
    """The software and hardware that sonde runs on."""

    python: str
    """Version."""
    system: str
    torch: str
    """Version."""
    devices: list[str]
    """As `list_devices` gives them."""
    threads: int
    """Threads that torch uses on the CPU."""
    bf16_native: bool
    """Whether the CPU computes in bfloat16 itself."""
    codecs: dict[str, str | None]
    """Image format → version of its library; None where it is missing."""
    disk_free_gb: float
    cache: CacheUse
    """The user's own folder of decoded captures."""
    weights: list[str]
    """As `list_weights` gives them."""
    parts: dict[str, str]
    """Package → version and licence."""

    def document(self) -> dict[str, object]:
        """The facts as JSON."""
        return {**asdict(self), "cache": self.cache.document()}


@dataclass(frozen=True)
class Explanation:
    """Why a step was skipped."""

    why: str
    what_to_do: str
    epoch: int
    learning_rate: float
    captures: list[str]
    """The captures that may have caused it."""
    first_forward: str | None
    """The first module whose output was not finite."""
    first_backward: str | None
    """The first module whose gradient was not finite."""
    weights: str
    """Size and place of the weights before the step."""

    def document(self) -> dict[str, object]:
        """The explanation as JSON, without modules where there are none."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class SkippedSteps:
    """The skipped steps of a run: name of the black box → explanation."""

    steps: dict[str, Explanation]

    def document(self) -> dict[str, object]:
        """The steps as JSON; `{"skipped_steps": 0}` where no step was skipped."""
        if not self.steps:
            return {"skipped_steps": 0}
        return {name: step.document() for name, step in self.steps.items()}


@dataclass(frozen=True)
class ReplayReport:
    """What happened when a skipped step was taken again."""

    step: int
    then: str
    """Why the run skipped the step."""
    explanation: Explanation | None
    """Why it is not finite now; None where it is finite."""

    def document(self) -> dict[str, object]:
        """The report as JSON."""
        if self.explanation is None:
            return {"step": self.step, "fault": "does not show again", "then": self.then}
        return {"step": self.step, "fault": "shows again"} | self.explanation.document()


def describe_machine(folder: Path | str = ".") -> Machine:
    """The facts about this machine; free disk space is that at `folder`."""
    return Machine(
        python=platform.python_version(),
        system=platform.platform(),
        torch=str(torch.__version__),
        devices=list_devices(),
        threads=torch.get_num_threads(),
        bf16_native=torch.cpu._is_avx512_bf16_supported(),
        codecs={
            "png": features.version("zlib"),
            "jpeg": features.version("jpg"),
            "webp": features.version("webp"),
            "tiff": features.version("libtiff"),
            "opencv": cv2.__version__,
        },
        disk_free_gb=round(shutil.disk_usage(folder).free / 1e9, 1),
        cache=measure_folder(find_user_folder()),
        weights=list_weights(),
        parts={name: f"{metadata(name)['Version']} ({_read_licence(name)})" for name in PARTS},
    )


def clear_cache() -> CacheUse:
    """Remove the decoded captures of the user's own folder, and nothing else; returns what was removed."""
    return clear_folder(find_user_folder())


def describe_run(run: Path | str) -> RunProgress:
    """How far a run has come: whether it finished, or at which step it stopped, and how it is resumed.

    Raises:
        ValueError: not a run folder, or one that cannot be read.
    """
    return read_progress(_check_run(Path(run)))


def _check_run(run: Path) -> Path:
    if not (run / "recipe.yaml").is_file():
        fold = next((f" It holds folds: `sonde doctor {each}`." for each in sorted(run.glob("fold-*"))), "")
        raise ValueError(
            f"{run} is not a run folder: it holds no recipe.yaml. Give a folder that `sonde train` wrote.{fold}"
        )
    return run


def explain(run: Path | str) -> SkippedSteps:
    """Why a run skipped steps, from its black boxes.

    Raises:
        ValueError: not a run folder, or a damaged box.
    """
    run = _check_run(Path(run))
    boxes = {folder.name: blackbox.read(folder) for folder in blackbox.list_boxes(run)}
    return SkippedSteps({name: _explain_step(box, run) for name, box in boxes.items()})


def explain_replay(run: Path | str, step: int | None = None) -> ReplayReport:
    """Take a skipped step again on this machine, and report whether it is finite now.

    Args:
        run: its folder.
        step: which; the newest skipped step by default.

    Raises:
        ValueError: no such step was skipped, or its weights are no longer kept.
    """
    box, batches = replay(run, step)
    then = f"Skipped because {box.find_cause()[0]}."
    # A replay stops at the first batch that is not finite, so the last one decides.
    finite = batches[-1].finite
    return ReplayReport(box.step, then, None if finite else _explain_step(replace(box, batches=batches), Path(run)))


def _explain_step(box: SkippedStep, run: Path) -> Explanation:
    cause, remedy = box.find_cause()
    return Explanation(
        why=f"Skipped because {cause}.",
        what_to_do=remedy.replace("RUN", str(run)),
        epoch=box.batches[0].epoch,
        learning_rate=box.learning_rate,
        captures=box.list_suspects(),
        first_forward=_locate_first(box.list_faults("forward")),
        first_backward=_locate_first(box.list_faults("backward")),
        weights=_describe_weights(run / blackbox.FOLDER / box.weights),
    )


def _locate_first(faults: list[NonFiniteValue]) -> str | None:
    """The module of the first fault, in words; None without faults."""
    if not faults:
        return None
    fault = faults[0]
    before = "" if fault.inputs_finite else ", whose input was not finite either"
    return f"{fault.module} ({fault.kind}, {fault.dtype}{before})"


def _describe_weights(box: Path) -> str:
    path = box / "weights.safetensors"
    return f"{path.stat().st_size / 1e6:.1f} MB in {box.name}" if path.is_file() else "no longer kept"


def list_devices() -> list[str]:
    """The devices that torch can train on, best first; always ends in `cpu`."""
    cuda = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def list_weights() -> list[str]:
    """The packaged models, which need no network."""
    packaged = files("sonde") / "weights"
    return sorted(path.name for path in packaged.iterdir() if path.name.endswith(".safetensors"))


def _read_licence(package: str) -> str:
    about = metadata(package).json
    licence = str(about.get("license_expression") or about.get("license") or "see its site")
    # Some packages put the whole text of their licence here: its first line names it.
    return licence.splitlines()[0].partition(" AND ")[0]


keep_old_names(
    __name__,
    {
        "machine": "describe_machine",
        "replayed": "explain_replay",
        "devices": "list_devices",
        "weights": "list_weights",
    },
)
