"""Files of graphs: an ONNX file, and a GRAPH whose weights are those of the safetensors file beside it."""

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sonde import files
from sonde.models import KEY
from sonde.models.eight_bits import SCALE, unpack

if TYPE_CHECKING:
    import onnx_ir

LARGE = 1 << 30
"""Bytes of weights from which on they lie in FILE.onnx.data: no ONNX file can hold 2 GB."""
FEW = 64
"""Numbers of a tensor that stays in a GRAPH, whatever the weights hold."""
WEIGHTS_FILE = "model.safetensors"


class StoredTensor(NamedTuple):
    """A tensor of a safetensors file."""

    name: str
    kind: str
    """A key of KINDS."""
    shape: tuple[int, ...]
    offset: int
    """From the file's first byte."""
    length: int


KINDS = {"F16": "FLOAT16", "BF16": "BFLOAT16", "F32": "FLOAT", "I8": "INT8"}
"""A safetensors file's kind of number → ONNX's. Each channel of I8 has a scale in another tensor."""


def save_graph(graph: "onnx_ir.Model", path: Path, note: str) -> None:
    """Write an ONNX file with sonde's document; large weights go to FILE.data beside it.

    Args:
        graph: as `tracing.trace` returns it.
        path: FILE.onnx.
        note: text of `models.describe_export`.
    """
    import onnx_ir

    graph.metadata_props[KEY] = note
    for value in graph.graph.initializers.values():
        value.type = value.shape = None  # each tensor states its own
    held = sum(value.const_value.nbytes for value in graph.graph.initializers.values() if value.const_value is not None)
    data = f"{path.name}.data" if held >= LARGE else None
    onnx_ir.save(graph, path, external_data=data)


def bind_weights(graph: "onnx_ir.Model", weights: Path) -> None:
    """Replace the numbers of a graph by those of a safetensors file, which is read when the graph is; in place.

    Of tensors of 8 or 16 bits, and of those that the graph holds transposed, the graph makes its own when it is loaded.
    Numbers that the file does not hold, such as those of a convolution that a normalisation was merged into, stay.

    Args:
        graph: to be saved as a file beside `weights`.
        weights: WEIGHTS_FILE.

    Raises:
        ValueError: a damaged file.
    """
    import onnx_ir

    known, stored = _index_tensors(weights), {tensor.name: tensor for tensor in _read_header(weights)}
    made: list[Any] = []
    bound: dict[str, Any] = {}

    def read(name: str) -> Any:
        """The value of a tensor of the file, as float32."""
        if name not in bound:
            tensor = stored[name]
            value = _make_external(graph, tensor, weights)
            if tensor.kind != "F32":
                made.append(onnx_ir.node("Cast", [value], {"to": onnx_ir.DataType.FLOAT}))
                value = made[-1].outputs[0]
            if tensor.kind == "I8":
                # Not DequantizeLinear: ONNX Runtime would compute that for each image, and not when it loads the graph.
                made.append(onnx_ir.node("Mul", [value, read(f"{name}{SCALE}")]))
                value = made[-1].outputs[0]
            bound[name] = value
        return bound[name]

    for name, value in list(graph.graph.initializers.items()):
        numbers = None if value.const_value is None else value.const_value.numpy()
        if numbers is None or numbers.dtype != np.float32 or numbers.size <= FEW:
            continue
        found = known.get((numbers.shape, numbers.tobytes()))
        if found is None:
            continue
        own, turned = found
        source = read(own)
        if turned:
            made.append(onnx_ir.node("Transpose", [source], {"perm": [1, 0]}))
            source = made[-1].outputs[0]
        value.replace_all_uses_with(source)
        del graph.graph.initializers[name]
    first = next(iter(graph.graph))
    graph.graph.insert_before(first, made)


def _make_external(graph: "onnx_ir.Model", tensor: StoredTensor, weights: Path) -> Any:
    """An initializer whose bytes are those of the file."""
    import onnx_ir

    external = onnx_ir.ExternalTensor(
        weights.name,
        tensor.offset,
        tensor.length,
        onnx_ir.DataType[KINDS[tensor.kind]],
        shape=onnx_ir.Shape(tensor.shape),
        name=f"stored.{tensor.name}",
        base_dir=weights.parent,
    )
    value = onnx_ir.Value(name=external.name, shape=external.shape, type=onnx_ir.TensorType(external.dtype))
    value.const_value = external
    graph.graph.initializers.add(value)
    return value


def _index_tensors(weights: Path) -> dict[tuple[tuple[int, ...], bytes], tuple[str, bool]]:
    """The tensors' names by the shape and the bytes of their float32 numbers, and those of matrices also transposed."""
    from safetensors.torch import load_file

    known: dict[tuple[tuple[int, ...], bytes], tuple[str, bool]] = {}
    for name, tensor in unpack(load_file(weights)).items():
        own = tensor.float().numpy()
        known.setdefault((own.shape, own.tobytes()), (name, False))
        if own.ndim == 2:
            known.setdefault((own.T.shape, own.T.tobytes()), (name, True))
    return known


def _read_header(weights: Path) -> list[StoredTensor]:
    """Where each tensor lies in a safetensors file: 8 bytes give the length of its header, and the tensors follow."""
    with files.reading(weights, "copy the whole folder again"), weights.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        return [
            StoredTensor(name, each["dtype"], tuple(each["shape"]), 8 + length + start, end - start)
            for name, each in header.items()
            if name != "__metadata__" and each["dtype"] in KINDS
            for start, end in [each["data_offsets"]]
        ]
