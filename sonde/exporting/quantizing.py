"""An ONNX file in int8: linear layers and convolutions, as many as keep the answers.

Weights get a scale for each channel and 7 bits: a processor without instructions for int8 adds two products in 16 bits,
which 8 bits overflow, so that it would answer otherwise than others.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sonde.exporting.tracing import INPUT

LINEAR, CONVOLUTIONS = ("MatMul", "Gemm"), ("Conv",)
GROUPS = 16
"""Groups of neighbouring layers whose effect is measured."""
DROPS = (1, 2, 3, 4, 6, 8, 11)
"""How many groups are left in fp32, in turn, until the answers are kept."""
MOST_BYTES = (1 << 31) - (1 << 26)
"""Of a network in fp32 that onnxruntime quantises: it holds the whole in one message, of 2 GB at most."""


class Layers(NamedTuple):
    """Layers by the names of their nodes."""

    linear: list[str]
    convolutions: list[str]

    def without(self, dropped: set[str]) -> "Layers":
        """Those that are not dropped."""
        return Layers(*([name for name in kind if name not in dropped] for kind in self))

    def describe(self, of: "Layers") -> str:
        """`78 of 78 linear layers and 20 of 41 convolutions in int8`."""
        return (
            f"{len(self.linear)} of {len(of.linear)} linear layers and {len(self.convolutions)} of "
            f"{len(of.convolutions)} convolutions in int8"
        )


class Quantizer:
    """A graph whose activations are known, and files of it with some layers in int8."""

    def __init__(self, path: Path, inputs: Sequence[np.ndarray]):
        """Ask the graph for the range of each activation.

        Args:
            path: FILE.onnx in fp32; a file beside it is written and removed.
            inputs: (1, 3, h, w) standardised, of any sizes.
        """
        import onnx

        self.note = list(onnx.load(path, load_external_data=False).metadata_props)
        self.model: Any = onnx.shape_inference.infer_shapes(onnx.load(path))
        self.all = _find_layers(self.model)
        self.ranges = _calibrate(path, inputs)

    def write(self, layers: Layers, path: Path) -> None:
        """Write a file with these layers in int8; the others stay fp32."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        with _quiet():
            made = QDQQuantizer(
                deepcopy(self.model), True, True, QuantType.QInt8, QuantType.QUInt8, self.ranges, [*layers.linear,
                *layers.convolutions], [], [*LINEAR, *CONVOLUTIONS],
                {"MatMulConstBOnly": True, "WeightSymmetric": True, "ActivationSymmetric": False},
            )  # fmt: skip
            made.quantize_model()
        proto = made.model.model
        del proto.graph.value_info[:]
        del proto.metadata_props[:]
        proto.metadata_props.extend(self.note)
        proto.producer_name, proto.producer_version = "sonde", ""
        path.write_bytes(proto.SerializeToString())


def choose_layers(quantizer: Quantizer, path: Path, measure: Callable[[Path], tuple[float, bool]]) -> Layers:
    """Write a file with as many layers in int8 as keep the answers.

    Where all of them do not, the effect of each group of neighbours alone is measured, and the groups with the largest
    effects are left out, few at first. The last try is written where none keeps the answers: the gate refuses it.

    Args:
        quantizer: of the graph.
        path: where the file is written.
        measure: the mean difference of a file's answers from those in fp32, and whether they keep the limit.

    Returns:
        The layers in int8.
    """
    layers = quantizer.all
    quantizer.write(layers, path)
    if measure(path)[1]:
        return layers
    groups = _group(layers)
    effects = []
    for group in groups:
        quantizer.write(layers.without({*layers.linear, *layers.convolutions} - set(group)), path)
        effects.append(measure(path)[0])
    worst = [groups[place] for place in np.argsort(effects)[::-1]]
    for count in DROPS:
        chosen = layers.without({name for group in worst[:count] for name in group})
        quantizer.write(chosen, path)
        if measure(path)[1]:
            return chosen
    return chosen


def _group(layers: Layers) -> list[list[str]]:
    """Neighbouring layers of one kind together, GROUPS in all."""
    total = len(layers.linear) + len(layers.convolutions)
    each = max(1, -(-total // GROUPS))
    return [kind[start : start + each] for kind in layers for start in range(0, len(kind), each)]


def _find_layers(model: Any) -> Layers:
    """The layers with weights; products of two activations, as in attention, stay fp32."""
    weights = {tensor.name for tensor in model.graph.initializer}
    linear = [node.name for node in model.graph.node if node.op_type in LINEAR and node.input[1] in weights]
    convolutions = [node.name for node in model.graph.node if node.op_type in CONVOLUTIONS and node.input[1] in weights]
    return Layers(linear, convolutions)


def _calibrate(path: Path, inputs: Sequence[np.ndarray]) -> Any:
    """The smallest and the largest value of each activation over the inputs."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    augmented = path.with_name(f"{path.stem}-ranges.onnx")
    try:
        with _quiet():
            calibrator = create_calibrator(
                path,
                [*LINEAR, *CONVOLUTIONS],
                augmented_model_path=str(augmented),
                calibrate_method=CalibrationMethod.MinMax,
            )
            # It asks for `get_next` alone; the base class would import onnxruntime for its type.
            calibrator.collect_data(_Reader(inputs))  # pyright: ignore[reportArgumentType]
            return calibrator.compute_data()
    finally:
        augmented.unlink(missing_ok=True)


class _Reader:
    """Inputs as onnxruntime's calibration asks for them."""

    def __init__(self, inputs: Sequence[np.ndarray]):
        self.left = iter(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input; None after the last one."""
        found = next(self.left, None)
        return None if found is None else {INPUT: found}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what onnxruntime says of its way of working from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
