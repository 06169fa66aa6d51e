"""What docs/architecture.md says of the networks is what they are: its tables are computed here anew."""

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForDepthEstimation, DepthAnythingConfig

from sonde import architectures, features, models
from sonde.adapters import add_lora
from sonde.models import DepthModel

PAGE = (Path(__file__).parent.parent / "docs" / "architecture.md").read_text()
SIZES = list(architectures.SIZES)
SIDE = 518


@cache
def network(size: str) -> Any:
    """A network without storage: its shapes are real, its numbers are none."""
    if size in architectures.MIT_SIZES:
        config = architectures.glpn(size, max_depth=80)
    else:
        lite = size in architectures.LITE_SIZES
        config = architectures.lite(size) if lite else architectures.depth_anything(size)
    with torch.device("meta"):
        return AutoModelForDepthEstimation.from_config(config)


@cache
def passed(size: str, height: int = SIDE, width: int = SIDE) -> dict[str, str]:
    """Module -> the shape it answers for one image, as `channels x height x width`."""
    shapes: dict[str, str] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                shapes[name] = "x".join(map(str, output.shape[1:]))

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in network(size).named_modules()]
    depth = network(size)(pixel_values=torch.empty(1, 3, height, width, device="meta")).predicted_depth
    shapes["depth"] = "x".join(map(str, depth.shape[1:]))
    for hook in hooks:
        hook.remove()
    return shapes


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def blocks(size: str) -> dict[str, str]:
    """The rows of the table of sizes."""
    net, first = network(size), network(size).backbone.encoder.layer[0]
    swiglu = hasattr(first.mlp, "gate_proj")
    inner = first.mlp.gate_proj if swiglu else first.mlp.fc1
    return {
        "DINOv2 encoder": f"ViT-{size[0].upper()}/{net.config.patch_size}",
        "layers": str(len(net.backbone.encoder.layer)),
        "width": str(first.norm1.normalized_shape[0]),
        "attention heads": str(net.backbone.config.num_attention_heads),
        "feed-forward": f"{'SwiGLU' if swiglu else 'GELU'}, {inner.out_features}",
        "tapped layers": ", ".join(map(str, net.backbone.config.out_indices)),
        "reassembled channels": ", ".join(
            str(layer.projection.out_channels) for layer in net.neck.reassemble_stage.layers
        ),
        "fusion width": str(net.neck.convs[0].out_channels),
        "parameters, encoder": f"{parameters(net.backbone):,}",
        "parameters, neck": f"{parameters(net.neck):,}",
        "parameters, head": f"{parameters(net.head):,}",
        "**parameters**": f"**{parameters(net):,}**",
    }


def shapes(size: str) -> dict[str, str]:
    """The rows of the table of shapes."""
    seen = passed(size)
    rows = {"tokens of a tap": seen["backbone.layernorm"]}
    for index, factor in enumerate(("x4", "x2", "x1", "x1/2")):
        rows[f"reassembled, {factor}"] = seen[f"neck.reassemble_stage.layers.{index}"]
    for index in range(4):
        rows[f"to fusion width, tap {index + 1}"] = seen[f"neck.convs.{index}"]
    for index in range(4):
        rows[f"fusion {index + 1}"] = seen[f"neck.fusion_stage.layers.{index}"]
    rows |= {f"head, convolution {index}": seen[f"head.conv{index}"] for index in (1, 2, 3)}
    return rows | {"depth": seen["depth"]}


def stages(size: str) -> dict[str, str]:
    """The rows of GLPN's table of sizes."""
    net = network(size)
    first = [stage[0].attention.self for stage in net.glpn.encoder.block]

    def listed(values: Iterable[int]) -> str:
        return ", ".join(map(str, values))

    return {
        "widths": listed(one.hidden_size for one in first),
        "layers": listed(len(stage) for stage in net.glpn.encoder.block),
        "attention heads": listed(one.num_attention_heads for one in first),
        "keys and values reduced by": listed(one.sr_ratio for one in first),
        "parameters, encoder": f"{parameters(net.glpn):,}",
        "parameters, decoder": f"{parameters(net.decoder):,}",
        "parameters, head": f"{parameters(net.head):,}",
        "**parameters**": f"**{parameters(net):,}**",
    }


def maps(size: str) -> dict[str, str]:
    """The rows of GLPN's table of shapes."""
    seen, encoder = passed(size, 352, 1216), "glpn.encoder.patch_embeddings"
    rows = {f"stage {stage + 1}": seen[f"{encoder}.{stage}.proj"] for stage in range(4)}
    for stage in range(4):
        rows[f"decoder {stage + 1}"] = seen[f"decoder.stages.{stage}"]
    return rows | {"decoder's end": seen["decoder.final_upsample"], "depth": seen["depth"]}


def lites(size: str) -> dict[str, str]:
    """The rows of EfficientNet-Lite's table of sizes."""
    net = network(size)
    with torch.device("meta"):
        adapted = add_lora(AutoModelForDepthEstimation.from_config(architectures.lite(size)), {"r": 16})
    trained = sum(value.numel() for value in adapted.parameters() if value.requires_grad)
    return {
        "blocks of a stage": ", ".join(str(len(stage)) for stage in net.encoder.stages),
        "tapped channels": ", ".join(str(layer.in_channels) for layer in net.decoder.lateral),
        "parameters, encoder": f"{parameters(net.encoder):,}",
        "parameters, decoder": f"{parameters(net.decoder):,}",
        "parameters, head": f"{parameters(net.head):,}",
        "**parameters**": f"**{parameters(net):,}**",
        "parameters of LoRA, r=16": f"{trained:,}",
    }


def table(heading: str, columns: list[str]) -> dict[str, list[str]]:
    """First cell -> the other cells, of the table below a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    assert rows[0] == ["", *columns]
    return {row[0]: row[1:] for row in rows[2:]}


@pytest.mark.parametrize(
    "heading,measured,sizes",
    [
        ("The four sizes", blocks, SIZES),
        ("Shapes at 518x518", shapes, SIZES),
        ("GLPN", stages, list(architectures.MIT_SIZES)),
        ("GLPN's shapes at 352x1216", maps, ["b0", "b4"]),
        ("EfficientNet-Lite", lites, list(architectures.LITE_SIZES)),
    ],
)
def test_a_table_of_the_page_is_what_the_networks_are(heading, measured, sizes):
    columns = [measured(size) for size in sizes]
    names = [size.capitalize() if size in SIZES else size for size in sizes]
    assert table(heading, names) == {row: [column[row] for column in columns] for row in columns[0]}


@pytest.mark.parametrize("size", SIZES)
def test_the_four_levels_are_148_74_37_and_19_and_meet_at_296(size):
    """The golden values; a floor instead of padding would make the last 18."""
    seen, shape = passed(size), architectures.SIZES[size]
    sides = (148, 74, 37, 19)
    for index, (channels, side) in enumerate(zip(shape.neck, sides, strict=True)):
        assert seen[f"neck.reassemble_stage.layers.{index}"] == f"{channels}x{side}x{side}"
    fused = [seen[f"neck.fusion_stage.layers.{index}"] for index in range(4)]
    assert fused == [f"{shape.fusion}x{side}x{side}" for side in (37, 74, 148, 296)]
    assert seen["backbone.layernorm"] == f"{37 * 37 + 1}x{shape.width}"
    assert seen["depth"] == "518x518"


@pytest.mark.parametrize("size", SIZES)
def test_no_published_network_has_a_batch_norm(size):
    names = [type(module).__name__ for module in network(size).modules()]
    assert "Conv2d" in names
    assert not [name for name in names if "BatchNorm" in name]


def test_transformers_own_taps_are_not_those_of_v2():
    """Left alone, a config reads the last four layers, as V1 did."""
    assert DepthAnythingConfig().backbone_config.out_indices == [9, 10, 11, 12]  # pyright: ignore
    assert [architectures.SIZES[size].taps for size in SIZES] == [
        (3, 6, 9, 12), (3, 6, 9, 12), (5, 12, 18, 24), (10, 20, 30, 40),
    ]  # fmt: skip


def test_the_features_verb_reads_what_the_page_calls_taps():
    model = DepthModel(network("small"), models.read_spec(network("small")), "small").to("meta")
    maps = features.read_taps(model, torch.empty(1, 3, SIDE, SIDE, device="meta"))
    assert [tuple(tap.shape) for tap in maps] == [(1, 384, 37, 37)] * 4
    assert features.list_layers(model) == [3, 6, 9, 12]


def test_a_metric_head_ends_in_a_sigmoid_times_its_range_and_a_relative_one_in_a_relu():
    with torch.device("meta"):
        metric = AutoModelForDepthEstimation.from_config(architectures.depth_anything("small", max_depth=20))
    assert isinstance(metric.head.activation2, nn.Sigmoid) and metric.head.max_depth == 20
    assert isinstance(network("small").head.activation2, nn.ReLU) and network("small").head.max_depth == 1
    assert parameters(metric) == parameters(network("small"))


def test_the_parameters_of_the_text_are_those_of_the_table():
    counts = [parameters(network(size)) for size in SIZES]
    small, base, large = (f"{count / 1e6:.1f} M" for count in counts[:3])
    assert f"{small}, {base}, {large} and {counts[3] / 1e9:.1f} B" in PAGE
    assert [f"{parameters(network(size).backbone) / count:.1f}" for size, count in zip(SIZES, counts, strict=True)] == [
        "0.9"
    ] * 4


def test_what_the_page_says_is_never_run_is_not():
    never = {
        name
        for name, module in network("small").named_modules()
        if name and not list(module.children()) and name not in passed("small")
    }
    unit = "neck.fusion_stage.layers.0.residual_layer1"
    assert never == {f"{unit}.{part}" for part in ("activation1", "convolution1", "activation2", "convolution2")}
