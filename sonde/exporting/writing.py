"""A model as one file, ONNX or OpenVINO, that appears only when its answers are those of torch."""

import errno
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from sonde import cards, extras, files, models
from sonde.adapters import is_adapted
from sonde.exporting.comparing import merge_adapters
from sonde.exporting.gate import WORST_SHARE, GateTable, TorchAnswer, ask_torch, check_gate, judge
from sonde.exporting.graphs import WEIGHTS_FILE, bind_weights, save_graph
from sonde.exporting.pictures import GatePicture, choose_shapes, read_pictures, render_pictures, share_pictures
from sonde.exporting.quantizing import MOST_BYTES, Quantizer, choose_layers
from sonde.exporting.tracing import trace
from sonde.files.writing import name_file
from sonde.models import GRAPH, KEY, DepthModel, describe_export, hash_files
from sonde.models.arrays import prepare
from sonde.models.exported import read_exported
from sonde.models.loading import find_shipped
from sonde.models.naming import SHIPPED
from sonde.models.processor import runs_int8
from sonde.models.spec import LARGEST_AREA, LARGEST_SIDE

JUDGED = 10
"""Pictures of the gate."""
CALIBRATING = 40
"""Renders that give the ranges of activations."""
TRIED = 8
"""Pictures that decide on the layers in int8; the gate has others."""
MARGIN = 0.01
"""By which the share of pixels exceeds the gate's limit there."""
GATE_SEED, OTHER_SEED = 11, 12
INVERSE = ("depth_pro",)
"""Architectures that regress the inverse of the answer that is read."""


class ExportRequest(NamedTuple):
    """What file is asked for."""

    to: str
    precision: str = "fp32"
    size: tuple[int, int] | None = None
    calibrate_on: Path | None = None
    device: str = "auto"

    def check(self) -> None:
        """Refuse what no model can have, before one is loaded.

        Raises:
            ValueError: one sentence.
        """
        if self.to == "openvino" and find_spec("openvino") is None:
            raise ValueError(
                '--to openvino needs OpenVINO, which is not installed: pip install "sonde[openvino]", or export with '
                "--to onnx."
            )
        if self.calibrate_on is not None and self.precision != "int8":
            raise ValueError("calibrate_on is for int8: give --precision int8 too, or leave it out.")
        if self.calibrate_on is not None and not self.calibrate_on.exists():
            raise ValueError(files.explain_absent(self.calibrate_on, "a folder of images"))
        models.choose_device(self.device)


class WrittenFile(NamedTuple):
    """A file that passed the gate."""

    table: GateTable
    seconds: float
    notes: Sequence[str]


def check_request(model: DepthModel, request: ExportRequest) -> None:
    """Refuse a size that the model does not take, and int8 of a network that is too large for it.

    Raises:
        ValueError: one sentence.
    """
    spec, size = model.spec, request.size
    if request.precision == "int8" and model.parameter_count * 4 > MOST_BYTES:
        raise ValueError(
            f"precision=int8: {model.name} has {model.parameter_count / 1e6:.0f} M parameters, and onnxruntime "
            f"quantises at most {MOST_BYTES / 4e6:.0f} M: export it in fp32."
        )
    if size is None:
        return
    height, width = size
    if spec.input_size is not None and size != spec.input_size:
        rows, columns = spec.input_size
        raise ValueError(
            f"size={height},{width}: {model.name} sees every image at {rows},{columns}; give that, or leave it out."
        )
    step = spec.multiple
    if spec.input_size is None and (height % step or width % step):
        near = [max(step, round(side / step) * step) for side in size]
        raise ValueError(
            f"size={height},{width}: {model.name} takes multiples of {step}; the nearest is {near[0]},{near[1]}."
        )
    if max(size) > LARGEST_SIDE or height * width > LARGEST_AREA:
        raise ValueError(
            f"size={height},{width}: expected at most {LARGEST_SIDE:,} pixels a side and {LARGEST_AREA:,} in all."
        )


def write_file(model: DepthModel, path: Path, request: ExportRequest) -> WrittenFile:
    """Write an ONNX or OpenVINO file and compare it with the model; what else it needs lies beside it.

    The given model itself is changed: its adapters are merged.

    Args:
        model: as it was loaded.
        path: FILE.onnx or FILE.xml, in a folder of its own.
        request: as `check_request` passed it.

    Raises:
        ValueError: a network that torch does not trace, images that cannot be read, or a file whose answers differ
            (`ExportRefused`).
        OSError: the disk is full.
    """
    begun = perf_counter()
    _check_space(path, model, request)
    size = request.size or model.spec.input_size
    note = _describe(model, request.precision, size)
    if size is not None and not model.spec.pads:
        model.spec = replace(model.spec, input_size=size)
    calibrating, judging = _gather_pictures(model, size, request)
    model.place(models.choose_device(request.device), "fp32")
    answers = ask_torch(model, judging)
    trial = ask_torch(model, calibrating[:TRIED])
    model.place("cpu", "fp32")
    merge_adapters(model)
    onnx_path = path.with_suffix(".onnx")
    save_graph(trace(model, size), onnx_path, note)
    notes: list[str] = []
    if request.precision == "int8":
        notes = [_quantize(onnx_path, [prepare(each.image, model.spec)[None] for each in calibrating], trial)]
        slow = describe_slow_int8()
        notes += [] if slow is None else [slow]
    if request.to == "openvino":
        convert_to_openvino(onnx_path, path, note)
    inverse = model.network.config.model_type in INVERSE
    table = judge(read_exported(path, "cpu", name=path.name), answers, inverse=inverse)
    check_gate(table, path.name)
    return WrittenFile(table, perf_counter() - begun, notes)


def write_graph(folder: Path) -> GateTable:
    """Write a GRAPH into a network's folder: it runs the weights that lie there, without torch.

    A former GRAPH is replaced when the new one has passed the gate.

    Args:
        folder: with config.json and model.safetensors.

    Raises:
        ValueError: no such network, or a graph whose answers differ (`ExportRefused`).
    """
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise ValueError(files.explain_absent(weights, "the weights of a network in one file"))
    shipped = next((name for name in SHIPPED if folder.resolve() == find_shipped(name).resolve()), None)
    model = models.load_network(shipped or folder, calibrated=False)
    if is_adapted(model.network):
        raise ValueError(f"{folder} holds an adapter: give the folder of a whole network.")
    beside = {"beside": {weights.name: hash_files([weights])}}
    size = model.spec.input_size
    note = json.dumps(json.loads(_describe(model, "fp32", size)) | beside)
    answers = ask_torch(model, render_pictures(choose_shapes(model, size), JUDGED, seed=GATE_SEED))
    graph = trace(model, size, merge=False)
    bind_weights(graph, weights)
    with files.atomic_write(folder / GRAPH) as part:
        save_graph(graph, part, note)
        table = judge(read_exported(part, "cpu", name=GRAPH), answers)
        check_gate(table, GRAPH)
    return table


def describe_slow_int8() -> str | None:
    """The sentence for a processor that computes int8 by other instructions; None: it has them, or it is not known."""
    if runs_int8() is not False:
        return None
    return "int8: this processor has no instructions for it (VNNI, AMX), so that the file runs no faster than fp32 here"


def _describe(model: DepthModel, precision: str, size: tuple[int, int] | None) -> str:
    """The document of a file; a model of this machine is named without its folders."""
    licence, name = cards.find_licence(model.name), model.name
    try:
        model.name = Path(name).name if Path(name).exists() else name
        return describe_export(model, precision=precision, size=size, licence=licence)
    finally:
        model.name = name


def _gather_pictures(
    model: DepthModel, size: tuple[int, int] | None, request: ExportRequest
) -> tuple[list[GatePicture], list[GatePicture]]:
    """Pictures that give the ranges of activations, for int8, and those of the gate."""
    shapes, fixed = choose_shapes(model, size), model.background is not None
    if request.calibrate_on is None:
        count = CALIBRATING if request.precision == "int8" else 0
        others = render_pictures(shapes, count, seed=OTHER_SEED, fixed=fixed)
        return others, render_pictures(shapes, JUDGED, seed=GATE_SEED, fixed=fixed)
    pictures = read_pictures(request.calibrate_on, [] if fixed else shapes)
    if size is not None and model.spec.pads:  # larger ones do not fit
        pictures = [GatePicture(files.resize_image(each.image, size), each.camera) for each in pictures]
    return share_pictures(pictures, JUDGED)


def _quantize(path: Path, inputs: Sequence[np.ndarray], trial: Sequence[TorchAnswer]) -> str:
    """Replace an ONNX file by one in int8; returns which layers are."""
    quantizer, part = Quantizer(path, inputs), path.with_name(f"int8-{path.name}")

    def measure(tried: Path) -> tuple[float, bool]:
        table = judge(read_exported(tried, "cpu"), trial)
        effect = float(np.mean([row.raw_mean for row in table.rows]))
        return effect, min(row.within_near for row in table.rows) >= WORST_SHARE + MARGIN

    layers = choose_layers(quantizer, part, measure)
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)
    part.replace(path)
    return layers.describe(quantizer.all)


def convert_to_openvino(onnx_path: Path, path: Path, note: str) -> None:
    """Write FILE.xml and FILE.bin of an ONNX file, and remove that."""
    extras.switch_off_telemetry()
    import onnx
    import openvino

    proto = onnx.load(onnx_path, load_external_data=False)
    del proto.metadata_props[:]  # OpenVINO would keep the note twice
    onnx_path.write_bytes(proto.SerializeToString())
    model = openvino.convert_model(str(onnx_path))
    model.set_rt_info(note, [KEY])
    try:
        openvino.save_model(model, str(path), compress_to_fp16=False)
    except RuntimeError as error:  # without the number of the system's error
        raise name_file(error, path) from error
    del model  # it may hold the ONNX file's weights open
    for part in (onnx_path, onnx_path.with_name(f"{onnx_path.name}.data")):
        part.unlink(missing_ok=True)


def _check_space(path: Path, model: DepthModel, request: ExportRequest) -> None:
    """Refuse a disk that cannot hold the files, before work."""
    copies = 1 + (request.precision == "int8") + (request.to == "openvino")
    if shutil.disk_usage(path.parent).free < copies * 4 * model.parameter_count:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
