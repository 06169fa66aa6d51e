"""What this machine can do, and why a run skipped steps.

The machine is described where torch is not installed too; runs and the cache need it. `sonde.checks` finds what is
wrong with a set of captures; its names work here too.
"""

import os
import platform
import shutil
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
from PIL import features

from sonde.extras import EXTRAS, list_missing
from sonde.models.naming import SHIPPED
from sonde.models.placement import choose_device, choose_precision
from sonde.models.processor import describe_int8
from sonde.renamed import aliases

if TYPE_CHECKING:
    from sonde.checks import CHECKS, Problem, check
    from sonde.datasets.records import CacheUse
    from sonde.trainer import SkippedStep
    from sonde.trainer.trace import NonFiniteValue
    from sonde.training import RunProgress, replay

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
    "list_runtimes",
    "list_weights",
    "replay",
]

PARTS = (
    "onnxruntime",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "numpy",
    "opencv-python-headless",
    "openexr",
    "trimesh",
)
"""The packages whose version and licence `describe_machine` reports, those that are installed."""

NEEDS_TORCH = {name: "sonde.checks" for name in ("CHECKS", "Problem", "check")} | {"replay": "sonde.training"}
"""Name → the module that holds it; imported at its first use."""


@dataclass(frozen=True)
class Machine:
    """The software and hardware that sonde runs on."""

    python: str
    """Version."""
    system: str
    torch: str | None
    """Version; None where it is not installed."""
    devices: list[str]
    """As `list_devices` gives them."""
    auto: str
    """What `--device auto --precision auto --runtime auto` takes."""
    runtimes: dict[str, str | None]
    """What runs exported files → version, and the devices it has here; None where it is not installed."""
    int8: str
    """Whether the processor multiplies 8-bit numbers by itself."""
    threads: int
    """Threads that torch uses on the CPU; without torch, the machine's processors."""
    bf16_native: bool | None
    """Whether the CPU computes in bfloat16 itself; None where torch, which knows it, is not installed."""
    codecs: dict[str, str | None]
    """Image format → version of its library; None where it is missing."""
    disk_free_gb: float
    cache: "CacheUse | None"
    """The user's own folder of decoded captures; None where torch is not installed, as only training uses it."""
    weights: list[str]
    """As `list_weights` gives them."""
    parts: dict[str, str]
    """Package → version and licence."""
    extras: dict[str, str]
    """Extra of the distribution → `installed`, or what is missing and the command that installs it."""

    def document(self) -> dict[str, object]:
        """The facts as JSON."""
        return {**asdict(self), "cache": None if self.cache is None else self.cache.document()}


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
    version, threads, bf16 = _ask_torch()
    return Machine(
        python=platform.python_version(),
        system=platform.platform(),
        torch=version,
        devices=list_devices(),
        auto=_describe_auto(),
        runtimes=list_runtimes(),
        int8=describe_int8(),
        threads=threads,
        bf16_native=bf16,
        codecs={
            "png": features.version("zlib"),
            "jpeg": features.version("jpg"),
            "webp": features.version("webp"),
            "tiff": features.version("libtiff"),
            "opencv": cv2.__version__,
        },
        disk_free_gb=round(shutil.disk_usage(folder).free / 1e9, 1),
        cache=None if version is None else _measure_cache(),
        weights=list_weights(),
        parts={name: f"{found} ({_read_licence(name)})" for name in PARTS if (found := _read_version(name))},
        extras={name: _describe_extra(name) for name in EXTRAS},
    )


def clear_cache() -> "CacheUse":
    """Remove the decoded captures of the user's own folder, and nothing else; returns what was removed."""
    from sonde.datasets.records import clear_folder, find_user_folder

    return clear_folder(find_user_folder())


def describe_run(run: Path | str) -> "RunProgress":
    """How far a run has come: whether it finished, or at which step it stopped, and how it is resumed.

    Raises:
        ValueError: not a run folder, or one that cannot be read.
    """
    from sonde.training import read_progress

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
    from sonde.trainer import blackbox

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
    from sonde.training import replay

    box, batches = replay(run, step)
    then = f"Skipped because {box.find_cause()[0]}."
    # A replay stops at the first batch that is not finite, so the last one decides.
    finite = batches[-1].finite
    return ReplayReport(box.step, then, None if finite else _explain_step(replace(box, batches=batches), Path(run)))


def _explain_step(box: "SkippedStep", run: Path) -> Explanation:
    from sonde.trainer import blackbox

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


def _locate_first(faults: "list[NonFiniteValue]") -> str | None:
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
    """The devices that torch can train on, best first; always ends in `cpu`, the only one where torch is missing."""
    if find_spec("torch") is None:
        return ["cpu"]
    import torch

    cuda = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def list_runtimes() -> dict[str, str | None]:
    """What runs exported files → version and, in brackets, the devices it has here; None where it is not installed."""
    import onnxruntime

    found = onnxruntime.get_available_providers()
    devices = [name for name in ("CUDA", "CPU") if f"{name}ExecutionProvider" in found]  # those that sonde asks for
    openvino = _read_version("openvino")
    return {
        "onnxruntime": f"{onnxruntime.__version__} ({', '.join(devices)})",
        "openvino": openvino and f"{openvino} (CPU)",
    }


def _describe_auto() -> str:
    device = choose_device("auto")
    faster = "ONNX Runtime where the model has a file for it, else torch"
    return f"{device} in {choose_precision('auto', device)}, by {faster if device == 'cpu' else 'torch'}"


def list_weights() -> list[str]:
    """The packaged models, which need no network."""
    packaged = files("sonde") / "weights"
    return sorted(name for name, folder in SHIPPED.items() if (packaged / folder / "model.safetensors").is_file())


def _ask_torch() -> tuple[str | None, int, bool | None]:
    """`torch`, `threads` and `bf16_native` of a Machine."""
    if find_spec("torch") is None:
        return None, os.cpu_count() or 1, None
    import torch

    return str(torch.__version__), torch.get_num_threads(), torch.cpu._is_avx512_bf16_supported()


def _measure_cache() -> "CacheUse":
    from sonde.datasets.records import find_user_folder, measure_folder

    return measure_folder(find_user_folder())


def _describe_extra(name: str) -> str:
    missing = list_missing(name)
    return f'missing {", ".join(missing)}: pip install "sonde[{name}]"' if missing else "installed"


def _read_version(package: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    try:
        return metadata(package)["Version"]
    except PackageNotFoundError:
        return None


def _read_licence(package: str) -> str:
    about = metadata(package).json
    licence = str(about.get("license_expression") or about.get("license") or "see its site")
    # Some packages put the whole text of their licence here: its first line names it.
    return licence.splitlines()[0].partition(" AND ")[0]


_find_renamed = aliases(
    __name__,
    {
        "machine": "describe_machine",
        "replayed": "explain_replay",
        "devices": "list_devices",
        "weights": "list_weights",
    },
)


if not TYPE_CHECKING:  # type checkers see the imports above

    def __getattr__(name: str) -> object:
        if name not in NEEDS_TORCH:
            return _find_renamed(name)
        return getattr(import_module(NEEDS_TORCH[name]), name)
