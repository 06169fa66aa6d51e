"""A model in one file that runs without torch: a network as ONNX or OpenVINO holds it, and all that sonde knows of it.

The file's network leads from standardised pixels (b, 3, h, w) to its raw answer (b, H, W). Everything around it follows
from a JSON document that the file holds under the key `sonde`, an `ExportedDocument`.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple, NotRequired

import numpy as np
from pydantic import Field, with_config
from typing_extensions import TypedDict

from sonde import __version__, files
from sonde.background import Background, read_background
from sonde.models.arrays import postprocess, prepare
from sonde.models.calibration import Calibration, calibration_from_json
from sonde.models.described import DescribedModel, Maps, Pixels
from sonde.models.placement import Placement
from sonde.models.sessions import SESSIONS, Input, OnnxSession, Session, open_session
from sonde.models.spec import ModelSpec, spec_from_json
from sonde.strict import EXACT
from sonde.types import MatrixArray

SUFFIXES = {".onnx": "onnx", ".xml": "openvino"}
"""Suffix of an exported file → the runtime that it is made for."""
GRAPH = "model.onnx"
"""The file of a network's folder that runs the weights beside it."""
LAYOUT = 1
"""Of the document; a file with a larger number is of a newer sonde."""
PRECISIONS = ("fp32", "int8")
"""What the network of a file computes in."""
AGAIN = "export the model again with `sonde export`"


@with_config(EXACT)
class ExportedParent(TypedDict):
    """The model that was exported."""

    name: str
    weights: str
    """`DescribedModel.hash` of it."""
    fingerprint: str
    """`DescribedModel.identify` of it: its calibrations also fit the file."""


@with_config(EXACT)
class ExportedDocument(TypedDict):
    """What a file says of its model, besides the network."""

    layout: int
    """LAYOUT."""
    sonde: str
    """The version that wrote it."""
    spec: dict[str, Any]
    """As in `sonde.json`."""
    calibration: dict[str, Any] | None
    """As in `calibration.json`."""
    background: dict[str, str] | None
    """The bench of a fixed camera: name → base64 of its files."""
    config_end: float | int | None
    """`DescribedModel.config_end`."""
    parameter_count: Annotated[int, Field(ge=0)]
    precision: str
    """fp32 or int8."""
    size: list[int] | None
    """[height, width] of the network's input, where the file takes no other; None: any multiple of `spec.multiple`."""
    licence: str
    parent: ExportedParent
    beside: NotRequired[dict[str, str]]
    """Of a GRAPH: the file with its weights → SHA-256 of that file."""


class OpenedFile(NamedTuple):
    """A file and what it says."""

    session: Session
    document: ExportedDocument
    spec: ModelSpec


class ExportedModel(DescribedModel):
    """A model that runs from a file, without torch; made by `read_exported`."""

    def __init__(self, path: Path, opened: OpenedFile, placement: Placement, name: str):
        self.path, self.session, self.document = path, opened.session, opened.document
        self.spec, self.name, self.placement = opened.spec, name, placement
        stored = opened.document["calibration"]
        self.calibration: Calibration | None = None if stored is None else calibration_from_json(stored)
        bench = opened.document["background"]
        self.background: Background | None = None if bench is None else unpack_background(bench)

    @property
    def config_end(self) -> float | int | None:
        """Where the exported network's config says that its output ends."""
        return self.document["config_end"]

    @property
    def parameter_count(self) -> int:
        """The number of the exported network's weights."""
        return self.document["parameter_count"]

    def hash(self) -> str:
        """SHA-256 of the file, and of the file with its weights where there is one; a GRAPH has its network's hash."""
        return (
            self.document["parent"]["weights"] if "beside" in self.document else hash_files(self.session.list_files())
        )

    def identify(self) -> str:
        """The fingerprint of the network that was exported; of int8 also its own, since it answers otherwise."""
        own = "" if self.document["precision"] == "fp32" else f"-{self.hash()[:8]}"
        return self.document["parent"]["fingerprint"] + own

    def fits_weights(self) -> bool:
        """Of a GRAPH: whether the weights beside it are those that it was made with."""
        beside = {self.path.with_name(name): known for name, known in self.document.get("beside", {}).items()}
        return bool(beside) and all(path.is_file() and hash_files([path]) == known for path, known in beside.items())

    def use_one_thread(self) -> "ExportedModel":
        """The same model whose answers take one thread each, for several answers at the same time.

        The answers are the same bytes. OpenVINO's sessions, and those of a GPU, stay as they are.
        """
        other = copy(self)
        if isinstance(self.session, OnnxSession) and self.session.device == "cpu":
            other.session = OnnxSession(self.path, "cpu", threads=1)
        return other

    def uncalibrate(self) -> "ExportedModel":
        """The same model without its calibration."""
        other = copy(self)
        other.calibration = None
        return other

    def answer(self, pixels: Pixels, camera: MatrixArray | None = None) -> Maps:
        """Depth (b, h, w) float32 of images of one size; see `DescribedModel.answer`."""
        focal = None if camera is None else float(camera[0, 0])
        if self.spec.canonical_focal is not None and (focal is None or not np.isfinite(focal)):
            raise ValueError(self.camera_wanted)
        size = self.find_input_size(*pixels.shape[1:3])
        raw = self.run(np.stack([prepare(each, self.spec, size) for each in pixels]))
        around: dict[str, Any] = {
            "seen": size,
            "focal": focal,
            "background": self.background,
            "calibration": self.calibration,
        }
        return np.stack([postprocess(each, pixels.shape[1:3], self.spec, **around) for each in raw])

    def find_input_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) of the network's input for an image.

        Raises:
            ValueError: the file was made for one size, and an image that keeps its pixels is larger.
        """
        size = self.spec.network_size(height, width)
        made = self.document["size"]
        if made is None or size == tuple(made):
            return size
        if height > made[0] or width > made[1]:
            raise ValueError(
                f"The image is {width}x{height}, and {self.path} was made for {made[1]}x{made[0]} at most: give a "
                "smaller image, or export the model without --size."
            )
        return made[0], made[1]

    def run(self, pixels: Input) -> Maps:
        """The network's answer (b, H, W), times `spec.scale`, for standardised pixels (b, 3, h, w).

        Raises:
            ValueError: a size that the file was not made for.
            MemoryError: too little memory.
        """
        made = self.document["size"]
        if made is not None and list(pixels.shape[2:]) != made:
            raise ValueError(
                f"{self.path} was made for inputs of {made[1]}x{made[0]}, not {pixels.shape[3]}x{pixels.shape[2]}: "
                "export the model without --size."
            )
        raw = self.session.run(pixels)
        return raw if self.spec.scale == 1 else raw * np.float32(self.spec.scale)


def read_exported(
    path: Path, device: str = "auto", runtime: str | None = None, *, name: str | None = None
) -> ExportedModel:
    """The model of an exported file.

    Args:
        path: FILE.onnx or FILE.xml.
        device: as `sonde.load` takes it.
        runtime: a name in SESSIONS; by default the one that the file is made for.
        name: of the model; by default the path.

    Raises:
        ValueError: a file that is damaged, or that sonde did not write or cannot read.
    """
    made_for = SUFFIXES[path.suffix]
    chosen = made_for if runtime in (None, "auto") else runtime
    if chosen not in SESSIONS or (chosen, made_for) == ("onnx", "openvino"):
        other = ", or --runtime openvino" if made_for == "onnx" else ""
        raise ValueError(f"runtime={chosen} does not run {path}: leave it out{other}.")
    session = open_session(path, chosen, device)
    document, spec = _read_document(session, path)
    placement = Placement(session.device, document["precision"], chosen)
    return ExportedModel(path, OpenedFile(session, document, spec), placement, name or str(path))


def hash_files(paths: Sequence[Path]) -> str:
    """SHA-256 over the bytes of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _read_document(session: Session, path: Path) -> tuple[ExportedDocument, ModelSpec]:
    text = session.find_note()
    if text is None:
        raise ValueError(f"{path} says nothing of what its numbers mean: sonde reads files that `sonde export` wrote.")
    with files.reading(path, AGAIN):
        stored = files.parse_json(text, dict[str, Any])
        if isinstance(stored.get("layout"), int) and stored["layout"] > LAYOUT:
            raise ValueError(f"sonde {stored.get('sonde')} wrote it, and this is sonde {__version__}: update sonde")
        document: ExportedDocument = files.check_exactly(stored, ExportedDocument)
        size = document["size"]
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"its size is {size}, expected [height, width]")
        if document["precision"] not in PRECISIONS:
            raise ValueError(f"its precision is {document['precision']!r}, expected {' or '.join(PRECISIONS)}")
        if any(Path(name).name != name for name in document.get("beside", {})):
            raise ValueError("it names weights that do not lie beside it")
        if document["calibration"] is not None:
            calibration_from_json(document["calibration"])
        spec = spec_from_json(document["spec"])
        _check_bench(document, spec)
        return document, spec


def _check_bench(document: ExportedDocument, spec: ModelSpec) -> None:
    if spec.background is not None and document["background"] is None:
        raise ValueError("it lacks the bench of its fixed camera")
    if document["background"] is not None:
        try:
            unpack_background(document["background"])
        except ValueError:
            raise ValueError("the bench of its fixed camera is damaged") from None


def describe_export(model: DescribedModel, *, precision: str, size: tuple[int, int] | None, licence: str) -> str:
    """The text that a file holds under KEY for a model that is exported.

    Args:
        model: with its calibration and its bench.
        precision: fp32 or int8.
        size: (height, width) of the network's input, where the file takes no other.
        licence: of the weights.
    """
    spec = replace(model.spec, base=None, fingerprint=None, base_max_depth=None)
    if size is not None and not spec.pads:
        spec = replace(spec, input_size=size)
    document: ExportedDocument = {
        "layout": LAYOUT,
        "sonde": __version__,
        "spec": asdict(spec),
        "calibration": None if model.calibration is None else asdict(replace(model.calibration, base=None)),
        "background": None if model.background is None else pack_background(model.background),
        "config_end": model.config_end,
        "parameter_count": model.parameter_count,
        "precision": precision,
        "size": None if size is None else list(size),
        "licence": licence,
        "parent": {"name": model.name, "weights": model.hash(), "fingerprint": model.identify()},
    }
    return json.dumps(document)


def pack_background(background: Background) -> dict[str, str]:
    """The files of a bench as text: name → base64."""
    with TemporaryDirectory() as folder:
        background.write(Path(folder))
        written = sorted(Path(folder).iterdir())
        return {path.name: base64.b64encode(path.read_bytes()).decode() for path in written}


def unpack_background(packed: dict[str, str]) -> Background:
    """The bench that `pack_background` packed.

    Raises:
        ValueError: a file is missing or damaged.
    """
    with TemporaryDirectory() as folder:
        for name, text in packed.items():
            if Path(name).name != name or not name.startswith("background."):
                raise ValueError(f"its bench has a file {name!r}, expected background.npy, .png and .json")
            (Path(folder) / name).write_bytes(base64.b64decode(text))
        return read_background(Path(folder))
