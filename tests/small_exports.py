"""Exported files without ONNX: the text of a file names a folder with weights, which torch runs in its place."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sonde import models
from sonde.models import SESSIONS, DepthModel, DescribedModel, ExportedModel, Placement, describe_export
from sonde.models.exported import OpenedFile, hash_files
from sonde.models.sessions import Input, Maps, Session


class TorchSession(Session):
    """A session that asks a torch network for its answer before `spec.scale`."""

    def __init__(self, path: Path, model: DepthModel, note: str):
        self.path, self.device, self.model, self.note = path, "cpu", model, note

    def find_note(self) -> str:
        """What `describe_export` wrote."""
        return self.note

    def run(self, pixels: Input) -> Maps:
        """The network's answer."""
        with torch.inference_mode():
            outputs = self.model.network(pixel_values=torch.from_numpy(pixels))
            return self.model.family.read(outputs, pixels.shape[-1]).numpy()

    def list_files(self) -> list[Path]:
        """The file alone."""
        return [self.path]


class FolderSession(TorchSession):
    """The session of a file of `write_export`."""

    def __init__(self, path: Path, device: str):
        stored = json.loads(path.read_text())
        super().__init__(path, models.load_network(stored["folder"], calibrated=False), stored["note"])


def write_export(
    model: DepthModel, folder: Path, path: Path, *, precision: str = "fp32", size: tuple[int, int] | None = None
) -> Path:
    """A file that stands for the export of a model, whose weights are in a folder."""
    note = describe_export(model, precision=precision, size=size, licence="apache-2.0")
    path.write_text(json.dumps({"folder": str(folder), "note": note}))
    return path


def run_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files of `write_export` be what ONNX Runtime reads."""
    monkeypatch.setitem(SESSIONS, "onnx", FolderSession)


def wrap(model: DepthModel, size: tuple[int, int] | None = None) -> ExportedModel:
    """A model as the file that `sonde export` makes of it, run by torch."""
    note = describe_export(model, precision="fp32", size=size, licence="mit")
    session = TorchSession(Path("model.onnx"), model, note)
    document = json.loads(note)
    spec = models.spec_from_json(document["spec"])
    return ExportedModel(session.path, OpenedFile(session, document, spec), Placement("cpu", "fp32", "onnx"), "model")


def compare(one: DescribedModel, other: DescribedModel, image: np.ndarray, camera: np.ndarray | None = None) -> float:
    """The largest difference of two models' depths, as a share of the other's range."""
    depth = other.predict(image, camera).depth
    return float(np.abs(one.predict(image, camera).depth - depth).max() / np.ptp(depth))


__all__ = ["FolderSession", "TorchSession", "compare", "hash_files", "run_by_torch", "wrap", "write_export"]
