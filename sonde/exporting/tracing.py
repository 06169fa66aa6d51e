"""A network as an ONNX graph: from standardised pixels (b, 3, h, w) to its raw answer (b, H, W), before `spec.scale`.

torch's tracer takes some sizes for constants without a word: it succeeds, and the graph then answers at the example's
size only. `free_sizes` replaces the code where that happens. The example is not square, and the gate asks the graph at
other sizes.
"""

import builtins
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
import torch._dynamo.config
from torch import SymInt, Tensor, nn
from torch.export import Dim
from torch.nn import functional
from transformers.models.beit.modeling_beit import BeitEmbeddings
from transformers.models.dinov2.modeling_dinov2 import Dinov2Embeddings
from transformers.models.zoedepth.modeling_zoedepth import ZoeDepthReassembleStage

from sonde.models import DepthModel
from sonde.models.network import Family
from sonde.models.spec import LARGEST_SIDE
from sonde.spelling import shorten

if TYPE_CHECKING:
    import onnx_ir

INPUT, OUTPUT = "pixels", "raw"
"""Names of the graph's input and output."""
LARGEST_BATCH = 1 << 12
OPSET = 20
Side = int | SymInt
MASK = "create_bidirectional_mask"
"""transformers' function that makes the mask of attention."""


class RawNetwork(nn.Module):
    """What a file holds: standardised pixels to the answer that the family reads, before `spec.scale`."""

    def __init__(self, model: DepthModel):
        super().__init__()
        self.network: Any = model.network
        self.family: Family = model.family

    def forward(self, pixels: Tensor) -> Tensor:
        """(b, 3, h, w) to (b, H, W)."""
        return self.family.read(self.network(pixel_values=pixels), pixels.shape[-1]).float()


def trace(model: DepthModel, size: tuple[int, int] | None, *, merge: bool = True) -> "onnx_ir.Model":
    """The graph of a network without adapters.

    Args:
        model: on the CPU.
        size: (height, width) of its input; None: both are free, in steps of `spec.multiple`.
        merge: merge normalisations into the convolutions before them. Without it the graph holds the network's own
            numbers, and its runtime merges them each time it loads the graph.

    Raises:
        ValueError: torch does not trace this network.
    """
    step = model.spec.multiple
    units = -(-32 // step)  # a network needs some pixels; the sides of the example differ
    rows, columns = size or (3 * units * step, 5 * units * step)
    dims: dict[int, Any] = {0: Dim("b", min=1, max=LARGEST_BATCH)}
    if size is None:
        dims |= {axis: step * Dim(name, min=1, max=LARGEST_SIDE // step) for axis, name in ((2, "h"), (3, "w"))}
    example = torch.zeros(2, 3, rows, columns)
    try:
        with (
            free_sizes(model.network),
            _quiet(),
            torch.no_grad(),
            torch._dynamo.config.patch(
                fake_tensor_cache_enabled=False  # of symbolic sizes, keeping the cache costs more than it saves
            ),
        ):
            program = torch.onnx.export(
                RawNetwork(model).eval(), (example,), dynamo=True, dynamic_shapes=(dims,), opset_version=OPSET,
                input_names=[INPUT], output_names=[OUTPUT], optimize=False, verbose=False,
            )  # fmt: skip
            assert program is not None
            with nullcontext() if merge else _keep_norms():
                program.optimize()
    except (MemoryError, AssertionError):
        raise
    except Exception as error:  # torch has its own type for each way to fail
        kind, reason = model.network.config.model_type, " ".join(str(error.__cause__ or error).split())
        raise ValueError(
            f"{model.name} cannot be exported: torch does not trace this {kind} network ({shorten(reason)})."
        ) from error
    return strip(program.model)


@contextmanager
def _keep_norms() -> Iterator[None]:
    """Keep the optimizer from merging normalisations into convolutions."""
    from onnxscript import rewriter
    from onnxscript.rewriter.rules.common import _fuse_batchnorm

    rules = [rule for rule in rewriter._DEFAULT_REWRITE_RULES if rule not in list(_fuse_batchnorm.rules)]
    with patch.object(rewriter, "_DEFAULT_REWRITE_RULES", rules):
        yield


def strip(graph: "onnx_ir.Model") -> "onnx_ir.Model":
    """A graph without what the exporter notes in it: lines of code with this machine's paths, and the types between.

    Nodes are numbered, since a quantizer names them. Returns the graph itself.
    """
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    ClearMetadataAndDocStringPass()(graph)
    graph.metadata_props.clear()
    graph.producer_name, graph.producer_version, graph.doc_string = "sonde", None, None
    graph.graph.name, graph.graph.doc_string = "sonde", None
    for number, node in enumerate(graph.graph):
        node.name = f"{node.op_type}_{number}"
        for value in node.outputs:
            if not value.is_graph_output():
                value.type = value.shape = None
    return graph


@contextmanager
def free_sizes(network: nn.Module) -> Iterator[None]:
    """Replace the code that takes the example's sizes for constants.

    Some of transformers' files cast sizes by `int`, or count images by `len`; DINOv2 and BEiT compare sizes with that
    of their positions; and ZoeDepth splits a batch into as many parts as the example has images.
    """
    with ExitStack() as stack:
        for name in {type(module).__module__ for module in network.modules()}:
            if name.startswith("transformers.models."):
                for word, own in (("int", _as_size), ("torch_int", _as_size), ("len", _count)):
                    stack.enter_context(patch.object(sys.modules[name], word, own, create=True))
                if MASK in vars(sys.modules[name]):
                    stack.enter_context(patch.object(sys.modules[name], MASK, _make_no_mask))
        for kind in (Dinov2Embeddings, BeitEmbeddings):
            stack.enter_context(patch.object(kind, "interpolate_pos_encoding", _interpolate_positions))
        stack.enter_context(patch.object(ZoeDepthReassembleStage, "forward", _reassemble))
        stack.enter_context(patch.object(torch.fx.Tracer, "call_module", _call_module))
        yield


def _as_size(value: Any) -> Side:
    """`int`, but for a size that stays free."""
    return value if isinstance(value, SymInt) else builtins.int(value)


def _count(value: Any) -> Side:
    """`len`, but for a batch whose size stays free."""
    return value.shape[0] if isinstance(value, Tensor) else builtins.len(value)


def _make_no_mask(*_: object, **__: object) -> None:
    """Return no mask, since no token is hidden.

    transformers sees that by itself, but not while it is traced: a third of the time then goes into such a mask.
    """


def _interpolate_positions(self: Any, embeddings: Tensor, height: Side, width: Side) -> Tensor:
    """The positions of every patch, bicubic from the square table; at the table's own size they are the table."""
    table = self.position_embeddings
    side = round((table.shape[1] - 1) ** 0.5)
    rows, columns = self.patch_embeddings.patch_size
    grid = table[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, size=(height // rows, width // columns), mode="bicubic", align_corners=False)
    return torch.cat((table[:, :1], grid.flatten(2).transpose(1, 2)), dim=1)


def _reassemble(self: Any, hidden_states: Sequence[Tensor], patch_height: Side, patch_width: Side) -> list[Tensor]:
    """ZoeDepth's tokens as maps, one stage after the other."""
    maps = []
    for stage, tokens in enumerate(hidden_states):
        readout, tokens = tokens[:, :1], tokens[:, 1:]
        if self.readout_type == "project":
            tokens = self.readout_projects[stage](torch.cat((tokens, readout.expand_as(tokens)), -1))
        elif self.readout_type == "add":
            tokens = tokens + readout
        maps.append(self.layers[stage](tokens.transpose(1, 2).unflatten(2, (patch_height, patch_width))))
    return maps


_own_call = torch.fx.Tracer.call_module


def _call_module(
    self: Any, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The tracer's own, whose list of modules stays right where one is left by an exception, as a `Door` is."""
    before = dict(self.module_stack)
    try:
        return _own_call(self, m, forward, args, kwargs)
    except Exception:
        self.module_stack.clear()
        self.module_stack.update(before)
        raise


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch's exporter says of itself from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
