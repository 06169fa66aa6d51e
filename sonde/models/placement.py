"""Where a network runs: its device, its precision, and the library that runs it.

torch is imported only where a GPU may be present, or where one is asked for: a file that was exported needs none.
"""

import ctypes
import platform
import re
from importlib.util import find_spec
from typing import NamedTuple

from sonde.options import PRECISIONS
from sonde.spelling import quantify

DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?|mps")
DEVICES = "auto, cpu, cuda, cuda:0 (or another number) or mps"
RUNTIMES = {"torch": "torch", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}
"""Runtime → its name in sentences."""


class Placement(NamedTuple):
    """Where a network runs."""

    device: str = "cpu"
    """`cpu`, `cuda:0` or `mps`."""
    precision: str = "fp32"
    """Of the network's arithmetic, a name in PRECISIONS; an exported file may also be `int8`."""
    runtime: str = "torch"
    """A name in RUNTIMES."""

    def describe(self) -> str:
        """`on cpu by ONNX Runtime in fp32`."""
        return f"on {_name_device(self.device)} by {RUNTIMES[self.runtime]} in {self.precision}"


def choose_device(asked: str) -> str:
    """The device of a name for torch; of `auto` the fastest one that is present.

    Args:
        asked: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises:
        ValueError: no such name, or no such device.
    """
    check_device(asked)
    if asked == "cpu" or (asked == "auto" and not may_have_gpu()):
        return "cpu"
    if find_spec("torch") is None:
        if asked == "auto":
            return "cpu"
        raise ValueError(f"device={asked} needs torch, which is not installed: use --device cpu.")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if asked == "auto":
        return "cuda:0" if count else "mps" if has_mps else "cpu"
    if asked == "mps":
        if not has_mps:
            raise ValueError("device=mps: there is no Apple GPU here; use --device cpu, or auto.")
        return asked
    if not count:
        built = "" if torch.version.cuda else f" (torch {torch.__version__} is built without CUDA)"
        raise ValueError(f"device={asked}: there is no CUDA device here{built}; use --device cpu, or auto.")
    number = int(asked.partition(":")[2] or 0)
    if number >= count:
        raise ValueError(
            f"device={asked}: this machine has {quantify(count, 'CUDA device')}, numbered from cuda:0; use one of them."
        )
    return f"cuda:{number}"


def check_device(asked: str) -> None:
    """Refuse a text that names no device; whether the device is here is not looked at.

    Raises:
        ValueError: one sentence.
    """
    if not DEVICE.fullmatch(asked):
        raise ValueError(f"device={asked!r}: expected {DEVICES}.")


def choose_precision(asked: str, device: str) -> str:
    """The precision of a name; `auto` is bf16 on a CUDA device and fp32 elsewhere.

    Raises:
        ValueError: no such name.
    """
    if asked not in (*PRECISIONS, "auto"):
        raise ValueError(f"precision={asked!r}: expected {', '.join(PRECISIONS)} or auto.")
    if asked != "auto":
        return asked
    return "bf16" if device.startswith("cuda") else "fp32"


def may_have_gpu() -> bool:
    """Whether to ask torch for a GPU, which costs its import: there is a CUDA driver with a device, or Apple's chip."""
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    try:
        driver = ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _name_device(device: str) -> str:
    if not device.startswith("cuda") or find_spec("torch") is None:
        return device
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})"
