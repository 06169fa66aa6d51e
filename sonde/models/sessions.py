"""Libraries that run an exported file: ONNX Runtime and OpenVINO, each imported when a file needs it."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sonde import files
from sonde.extras import switch_off_telemetry
from sonde.models.placement import check_device
from sonde.spelling import shorten

KEY = "sonde"
"""The key of a file's metadata that holds sonde's document."""
Maps = Float[np.ndarray, "b H W"]
Input = Float[np.ndarray, "b 3 h w"]
EXPORT_AGAIN = "copy it again, or export the model again with `sonde export`"


class Session(ABC):
    """A network of a file, ready to run."""

    path: Path
    device: str
    """`cpu` or `cuda:0`."""

    @abstractmethod
    def find_note(self) -> str | None:
        """The text of the file's metadata under KEY."""

    @abstractmethod
    def run(self, pixels: Input) -> Maps:
        """The raw answer (b, H, W).

        Raises:
            ValueError: a size that the network does not take.
            MemoryError: too little memory.
        """

    @abstractmethod
    def list_files(self) -> list[Path]:
        """The file, and those that hold its weights."""


class OnnxSession(Session):
    """ONNX Runtime.

    Args:
        path: FILE.onnx.
        device: `auto`, `cpu` or `cuda:0`.
        threads: of one answer; by default `count_threads`.
    """

    def __init__(self, path: Path, device: str, threads: int | None = None):
        import onnxruntime

        available = onnxruntime.get_available_providers()
        on_gpu = "CUDAExecutionProvider" in available and device != "cpu"
        if device not in ("auto", "cpu") and not on_gpu:
            raise ValueError(
                f"device={device}: the ONNX Runtime that is installed runs on the CPU alone; install onnxruntime-gpu, "
                "or use --device cpu."
            )
        number = int(device.partition(":")[2] or 0)
        self.path, self.device = path, f"cuda:{number}" if on_gpu else "cpu"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is said in one sentence
        options.intra_op_num_threads = threads or count_threads()
        # Threads that wait by spinning take the cores from those that read and write images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers: list[Any] = ["CPUExecutionProvider"]
        if on_gpu:
            # TF32 off: the numbers stay those of a CPU, within rounding.
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": number, "use_tf32": "0"}))
        with _explaining(path):
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        self.input = self.session.get_inputs()[0].name

    def find_note(self) -> str | None:
        """The text of the model's metadata under KEY."""
        return self.session.get_modelmeta().custom_metadata_map.get(KEY)

    def run(self, pixels: Input) -> Maps:
        """The raw answer (b, H, W); see `Session.run`."""
        with _running(self.path):
            return np.asarray(self.session.run(None, {self.input: pixels})[0])

    def list_files(self) -> list[Path]:
        """The file, and FILE.data or model.safetensors where they hold its weights."""
        beside = (self.path.with_name(f"{self.path.name}.data"), self.path.with_name("model.safetensors"))
        return [self.path, *(path for path in beside if path.is_file())]


class OpenVinoSession(Session):
    """OpenVINO."""

    def __init__(self, path: Path, device: str):
        if find_spec("openvino") is None:
            raise ValueError(
                f'{path} needs OpenVINO, which is not installed: pip install "sonde[openvino]", or export the model '
                "with --to onnx."
            )
        if device not in ("auto", "cpu"):
            raise ValueError(f"device={device}: sonde runs OpenVINO on the CPU; use --device cpu.")
        switch_off_telemetry()
        import openvino

        self.path, self.device = path, "cpu"
        hints = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": count_threads(),
            "INFERENCE_PRECISION_HINT": "f32",  # else it computes in bf16 where the processor can
        }
        with _explaining(path):
            core = openvino.Core()
            self.model = core.read_model(str(path))
            self.compiled = core.compile_model(self.model, "CPU", hints)
        self.request = self.compiled.create_infer_request()

    def find_note(self) -> str | None:
        """The text of the model's metadata under KEY."""
        for place in ([KEY], ["framework", KEY]):  # the second is that of an ONNX file
            if self.model.has_rt_info(place):
                return str(self.model.get_rt_info(place).value)
        return None

    def run(self, pixels: Input) -> Maps:
        """The raw answer (b, H, W); see `Session.run`."""
        with _running(self.path):
            # A copy: the next call writes into the same memory.
            return np.array(self.request.infer([pixels])[0])

    def list_files(self) -> list[Path]:
        """FILE.xml and FILE.bin."""
        return [path for path in (self.path, self.path.with_suffix(".bin")) if path.is_file()]


def open_session(path: Path, runtime: str, device: str = "auto") -> Session:
    """A file's network, ready to run.

    Raises:
        ValueError: no such file, a damaged one, a runtime that is not installed, or a device that is not there.
    """
    check_device(device)
    if not path.is_file():
        raise ValueError(files.explain_absent(path, "a file that `sonde export` wrote"))
    return SESSIONS[runtime](path, device)


def count_threads() -> int:
    """Threads of a network: OMP_NUM_THREADS where it is set, as in torch, else one for each core of this process."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) > 0 else os.cpu_count() or 1


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Turn what a runtime says of a file that it cannot read into one sentence; its errors share no type."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} cannot be read ({shorten(reason)}): {EXPORT_AGAIN}.") from None


@contextmanager
def _running(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())
        if any(word in reason.lower() for word in ("failed to allocate", "bad_alloc", "out of memory")):
            raise MemoryError(f"{path} needs more memory than there is") from None
        raise ValueError(f"{path} does not take this image ({shorten(reason)}).") from None


SESSIONS: dict[str, Callable[[Path, str], Session]] = {"onnx": OnnxSession, "openvino": OpenVinoSession}
"""Runtime → the class that runs a file."""
