"""An exported file answers as torch does at every size, or does not appear; and it says all that sonde knows of it."""

import errno
import json
import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from jaxtyping import TypeCheckError
from small_networks import saved, small_depth_anything, small_glpn
from test_export import above_a_bench, adapted, picture
from test_features import small_dpt, small_dpt_of_dinov2, small_zoedepth
from transformers import AutoModelForDepthEstimation, DepthAnythingConfig, DepthProConfig

from sonde import exporting, files, load, models
from sonde.exporting import gate, graphs, quantizing, tracing, writing
from sonde.exporting.pictures import choose_shapes, read_pictures, render_pictures, share_pictures
from sonde.models import DepthModel, ModelSpec, processor
from sonde.models.loading import find_shipped
from sonde.models.naming import SHIPPED

OTHER_SIZES = ((2, 2), (4, 3), (2, 6), (7, 4), (1, 1))
"""In steps of the network; the tracer's example has 3 and 5."""


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """A small GLPN of random weights."""
    return saved("glpn", tmp_path_factory.mktemp("glpn") / "small")


@pytest.fixture(scope="module")
def exported(network) -> exporting.ExportResult:
    """It as ONNX, beside itself."""
    return exporting.export_checked(network, to="onnx")


@pytest.fixture
def quickly(exported, monkeypatch) -> None:
    """The graph of the small network is the one that was traced already."""
    monkeypatch.setattr(writing, "trace", lambda model, size: onnx_ir.load(exported.path))


def build_small(config) -> DepthModel:
    """A network drawn from a seed whose last layer answers."""
    torch.manual_seed(0)
    network = AutoModelForDepthEstimation.from_config(config).eval()
    models.reinit_head(network)
    return DepthModel(network, models.read_spec(network), config.model_type)


def small_metric() -> DepthAnythingConfig:
    """Depth Anything in metres."""
    return small_depth_anything(depth_estimation_type="metric", max_depth=20)


def small_depth_pro() -> DepthProConfig:
    """Depth Pro of 128 pixels."""
    vit = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
           "image_size": 32, "patch_size": 8, "mlp_ratio": 2, "out_features": ["stage4"]}  # fmt: skip
    return DepthProConfig(
        fusion_hidden_size=8, patch_size=32, intermediate_hook_ids=[3, 1], intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.25, 0.5, 1], scaled_images_overlap_ratios=[0.0, 0.5, 0.25],
        scaled_images_feature_dims=[8, 8, 8], merge_padding_value=3, num_fov_head_layers=2, image_model_config=vit,
        patch_model_config=vit, fov_model_config=vit, use_fov_model=True,
    )  # fmt: skip


# The file


def test_the_file_lies_beside_the_model_and_answers_as_it(network, exported):
    assert exported.path == network.with_name("small.onnx")
    ours, torchs = load(exported.path), load(network)
    for height, width in ((64, 96), (97, 50), (40, 170), (33, 33)):
        image = np.asarray(picture(height, width))
        np.testing.assert_allclose(ours.predict(image).depth, torchs.predict(image).depth, atol=1e-5)


def test_the_table_tells_every_picture_their_mean_and_the_worst(exported):
    table = exported.table
    assert table is not None and table.find_fault() is None and table.quantity == "depth"
    assert len({row.seen for row in table.rows}) >= 4
    assert list(table.list_rows())[-2:] == ["mean", "worst"] and len(table.list_rows()) == len(table.rows) + 2
    assert all(row.raw_largest <= gate.RAW_LIMIT and row.within_close == 1 for row in table.rows)


def test_the_file_holds_nothing_of_this_machine_nor_of_the_tracer(exported):
    data = exported.path.read_bytes()
    for trace in (b"/site-packages", b"stack_trace", b"/tmp", str(Path.home()).encode(), b"modeling_"):
        assert trace not in data, trace
    graph = onnx.load(exported.path)
    assert [each.key for each in graph.metadata_props] == [models.KEY]
    assert (graph.graph.input[0].name, graph.graph.output[0].name) == ("pixels", "raw")


def test_a_batch_is_answered_image_by_image(exported):
    model = load(exported.path)
    images = [np.asarray(picture(60, 90)), np.zeros((60, 90, 3), np.uint8)]
    together = model.predict_batch(images)
    for image, each in zip(images, together, strict=True):
        np.testing.assert_allclose(each.depth, model.predict(image).depth, atol=1e-5)


def test_weights_of_a_large_network_lie_in_a_file_of_their_own(quickly, network, tmp_path, monkeypatch):
    monkeypatch.setattr(graphs, "LARGE", 1000)
    out = exporting.export(network, to="onnx", out=tmp_path / "large.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.onnx", "large.onnx.data"]
    assert load(out).predict(picture(60, 90)).depth.shape == (60, 90)
    (tmp_path / "large.onnx.data").unlink()
    with pytest.raises(ValueError, match=r"large\.onnx cannot be read"):
        load(out)


@pytest.mark.slow
def test_a_file_made_for_one_size_says_so(network, tmp_path):
    out = exporting.export(network, to="onnx", out=tmp_path / "one.onnx", size=(64, 96))
    model = load(out)
    image = np.asarray(picture(64, 96))
    np.testing.assert_allclose(model.predict(image).depth, load(network).predict(image).depth, atol=1e-5)
    with pytest.raises(ValueError, match="made for 96x64 at most"):
        model.predict(np.zeros((70, 96, 3), np.uint8))


# Every architecture, at other sizes than the tracer's example


def agree(model: DepthModel, path: Path, steps=OTHER_SIZES) -> None:
    """Compare a file with its network on noise at other sizes and batches."""
    session = models.SESSIONS["onnx"](path, "cpu")
    for rows, columns in steps:
        size = (rows * model.spec.multiple, columns * model.spec.multiple)
        pixels = torch.randn(3 if rows == 2 else 1, 3, *(model.spec.input_size or size))
        with torch.inference_mode():
            expected = model.family.read(model.network(pixel_values=pixels), pixels.shape[-1]).numpy()
        given = session.run(pixels.numpy())
        assert given.shape == expected.shape
        span = max(float(np.ptp(expected)), 0.01 * float(np.abs(expected).max()))
        np.testing.assert_allclose(given, expected, atol=1e-4 * span)


def trace_to(model: DepthModel, path: Path) -> Path:
    """The bare graph of a network."""
    graphs.save_graph(tracing.trace(model, model.spec.input_size), path, "{}")
    return path


@pytest.mark.slow
def test_depth_anything_answers_at_all_sizes(tmp_path):
    model = build_small(small_depth_anything())
    agree(model, trace_to(model, tmp_path / "it.onnx"), ((4, 4), *OTHER_SIZES))  # 4 is the size of its positions


@pytest.mark.slow
def test_the_trap_is_real(tmp_path, monkeypatch):
    monkeypatch.setattr(tracing, "_as_size", int)
    model = build_small(small_depth_anything())
    try:
        path = trace_to(model, tmp_path / "it.onnx")
    except ValueError:
        return  # the tracer of this version of torch sees it by itself
    with pytest.raises((AssertionError, TypeCheckError, ValueError)):
        agree(model, path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [small_dpt_of_dinov2, small_dpt, small_zoedepth, small_metric],
)
def test_the_other_families_of_transformers_answer_at_all_sizes(config, tmp_path):
    model = build_small(config())
    agree(model, trace_to(model, tmp_path / "it.onnx"), OTHER_SIZES[:4])


@pytest.mark.slow
@pytest.mark.parametrize("config", [small_glpn, small_depth_anything])
def test_a_head_of_pixels_answers_at_all_sizes(config, tmp_path):
    network = models.make_pixel_depth(AutoModelForDepthEstimation.from_config(config()))
    torch.nn.init.normal_(network.pixels.last.weight)
    model = DepthModel(network, replace(models.read_spec(network), multiple=build_small(config()).spec.multiple), "it")
    agree(model, trace_to(model, tmp_path / "it.onnx"))


@pytest.mark.slow
def test_depth_pro_and_lite_answer(tmp_path):
    pro = build_small(small_depth_pro())
    pro.spec = replace(pro.spec, multiple=128, input_size=(128, 128))
    agree(pro, trace_to(pro, tmp_path / "pro.onnx"), ((1, 1), (2, 2)))
    torch.manual_seed(0)
    lite = models.build("lite0")
    agree(lite, trace_to(lite, tmp_path / "lite.onnx"), OTHER_SIZES[:3])


def test_a_network_that_torch_does_not_trace_is_one_sentence(monkeypatch, tmp_path, network):
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **kwargs: int("no"))
    with pytest.raises(ValueError, match="cannot be exported: torch does not trace this glpn network"):
        exporting.export(network, to="onnx", out=tmp_path / "x.onnx")
    assert not any(tmp_path.iterdir())


# What belongs to a model


def test_an_adapted_run_is_merged_and_keeps_its_calibration_and_names(tmp_path):
    run = adapted("glpn", tmp_path)
    models.Calibration("scale", "metric", 2.0, fingerprint=load(run).identify()).write(run)
    path = exporting.export(run, to="onnx")
    assert path == tmp_path / "run.onnx"
    model, image = load(path), np.asarray(picture(80, 100))
    np.testing.assert_allclose(model.predict(image).depth, load(run).predict(image).depth, rtol=1e-4)
    assert model.calibration is not None and model.identify() == load(run).identify()
    assert model.spec.encoding == load(run).spec.encoding and model.spec.base is None
    assert str(tmp_path).encode() not in path.read_bytes()


@pytest.mark.slow
def test_the_bench_of_a_fixed_camera_travels_in_the_file(tmp_path):
    run = above_a_bench(tmp_path)
    path = exporting.export(run, to="onnx")
    (moved := tmp_path / "elsewhere").mkdir()
    model = load(path.rename(moved / path.name))
    for size in ((32, 48), (64, 96)):
        image = np.asarray(picture(*size))
        np.testing.assert_allclose(model.predict(image).depth, load(run).predict(image).depth, atol=1e-6)
    with pytest.raises(ValueError, match="fixed camera"):
        model.predict(np.zeros((50, 50, 3), np.uint8))


# The gate


def test_a_file_that_differs_is_not_written_and_the_table_says_where(quickly, network, tmp_path, monkeypatch, sonde):
    monkeypatch.setattr(gate, "RAW_LIMIT", 1e-12)
    with pytest.raises(exporting.ExportRefused, match=r"x\.onnx was not written: .* differs by .* at an input of"):
        exporting.export(network, to="onnx", out=tmp_path / "x.onnx")
    said = sonde("export", network, "--to", "onnx", "-o", tmp_path / "x.onnx")
    assert said.code == 1 and "worst" in said.text and said.errors.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_shares_are_of_depth_or_of_aligned_disparity():
    depth = np.linspace(1, 3, 300, dtype=np.float32).reshape(10, 30)
    assert gate.share_within(1.04 * depth, depth, "metric") == (1, 1)
    assert gate.share_within(1.2 * depth, depth, "metric") == (0, 1)
    assert gate.share_within(0.7 * depth, depth, "metric") == (0, 0)
    assert gate.share_within(7 * depth - 40, depth, "disparity") == (1, 1)  # disparity has no scale and no shift
    lowest = depth - 1  # 0 at its smallest: it is shifted, so that ratios exist
    assert gate.share_within(lowest, lowest, "disparity") == (1, 1)


@pytest.mark.parametrize("field", ["raw_largest", "depth_largest"])
def test_fp32_fails_by_one_number_that_is_none(field):
    row = gate.GateRow((8, 8), (32, 32), 0.0, 0.0, 0.0, 1.0, 1.0, 0.1, 0.1)
    assert gate.GateTable([row], "depth", "fp32").find_fault() is None
    assert gate.GateTable([row, row._replace(**{field: float("nan")})], "depth", "fp32").find_fault()


def test_int8_fails_by_its_worst_image():
    row = gate.GateRow((8, 8), (32, 32), 0.2, 0.1, 0.2, 0.5, 0.98, 0.1, 0.1)
    assert gate.GateTable([row], "depth", "int8").find_fault() is None
    assert "0.960 of the pixels" in str(
        gate.GateTable([row, row._replace(within_near=0.96)], "depth", "int8").find_fault()
    )


@pytest.mark.parametrize("size", [None, (64, 96)])
@pytest.mark.parametrize("short_side", [None, 64])
def test_pictures_have_four_shapes_or_more_and_fit(size, short_side):
    model = build_small(small_glpn())
    model.spec = replace(model.spec, short_side=short_side, input_size=size if short_side else None)
    shapes = choose_shapes(model, size)
    seen = {model.spec.network_size(*shape) for shape in shapes}
    assert len(set(shapes)) >= 4 and (seen == {size} if size else len(seen) >= 4 and (96, 160) not in seen)
    assert [each.image.shape[:2] for each in render_pictures(shapes[:2], 3, seed=1)] == [*shapes[:2], shapes[0]]


# int8


@pytest.mark.slow
def test_int8_of_the_shipped_model_holds_the_gate(tmp_path):
    result = exporting.export_checked("sonde-tiny", to="onnx", precision="int8", out=tmp_path / "int8.onnx")
    assert result.table is not None and min(row.within_near for row in result.table.rows) >= gate.WORST_SHARE
    assert re.match(r"\d+ of 78 linear layers and \d+ of 41 convolutions in int8", result.notes[0])
    model = load(result.path)
    assert model.placement.precision == "int8" and result.path.stat().st_size < 10e6
    assert model.identify() != load("sonde-tiny").identify()  # it answers otherwise


def test_int8_is_calibrated_on_the_images_that_are_named(quickly, network, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(3):
        picture(64 + index, 96).save(photos / f"{index}.png")
    (photos / "broken.png").write_bytes(b"no image")
    seen: list[int] = []
    own = quantizing._calibrate
    monkeypatch.setattr(quantizing, "_calibrate", lambda path, inputs: (seen.append(len(inputs)), own(path, inputs))[1])
    result = exporting.export_checked(
        network, to="onnx", precision="int8", calibrate_on=photos, out=tmp_path / "x.onnx"
    )
    assert seen == [6] and "linear layers" in result.notes[0]
    kinds = {node.op_type for node in onnx.load(result.path).graph.node}
    assert "DequantizeLinear" in kinds
    with pytest.raises(ValueError, match="none of its images can be read"):
        (tmp_path / "one").mkdir()
        (photos / "broken.png").rename(tmp_path / "one" / "broken.png")
        read_pictures(tmp_path / "one", [])


def test_the_layers_that_harm_most_stay_in_fp32(tmp_path):
    layers = quantizing.Layers([f"MatMul_{i}" for i in range(20)], [f"Conv_{i}" for i in range(12)])
    written: list[quantizing.Layers] = []

    class Fake(quantizing.Quantizer):
        def __init__(self):
            self.all = layers

        def write(self, layers: quantizing.Layers, path: Path) -> None:
            written.append(layers)

    def measure(path: Path) -> tuple[float, bool]:
        harm = 10 * ("Conv_5" in written[-1].convolutions) + 5 * ("MatMul_0" in written[-1].linear)
        return harm + 0.01 * len(written[-1].linear), not harm

    chosen = quantizing.choose_layers(Fake(), tmp_path / "x.onnx", measure)
    assert "Conv_5" not in chosen.convolutions and "MatMul_0" not in chosen.linear
    assert len(chosen.linear) == 18 and len(chosen.convolutions) == 10
    assert chosen.describe(layers) == "18 of 20 linear layers and 10 of 12 convolutions in int8"


def test_few_pictures_judge_and_calibrate_many_are_shared():
    few = render_pictures([(32, 32)], 3, seed=0)
    assert [len(part) for part in share_pictures(few, 10)] == [3, 3]
    calibrating, judging = share_pictures(few * 8, 4)
    assert len(judging) == 4 and len(calibrating) == 18


@pytest.mark.parametrize(
    "flags,known", [("flags : fma avx2 avx512_vnni", True), ("flags : fma avx2", False), ("cpu MHz : 4", None)]
)
def test_int8_that_a_processor_emulates_is_told(flags, known, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(f"model name : x\n{flags}\n")
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor.sys, "platform", "linux")
    assert processor.runs_int8() is known
    told = exporting.describe_slow_int8()
    assert (told is None) == (known is not False) and (told is None or "VNNI" in told)


# Without sonde


def test_the_page_tells_how_to_use_a_file_without_sonde(tmp_path, monkeypatch):
    page = (Path(__file__).parents[1] / "docs" / "export.md").read_text()
    found = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert found and "import sonde" not in found[1]
    monkeypatch.chdir(tmp_path)
    photo = render_pictures([(200, 300)], 1, seed=3)[0].image
    files.write_rgb(tmp_path / "photo.jpg", photo)
    # The graph of the shipped weights is such a file.
    for name, own in (("sonde-tiny.onnx", models.GRAPH), ("model.safetensors", "model.safetensors")):
        (tmp_path / name).write_bytes((models.WEIGHTS / own).read_bytes())
    names: dict = {}
    exec(found[1], names)
    expected = load("sonde-tiny", runtime="torch").predict(tmp_path / "photo.jpg").depth
    assert names["answer"].shape == (200, 300)
    assert np.abs(names["answer"] - expected).mean() < 0.01 * np.ptp(expected)


# OpenVINO


def test_openvino_answers_as_torch(quickly, network, tmp_path):
    out = exporting.export(network, to="openvino", out=tmp_path / "small.xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.bin", "small.xml"]
    model, image = load(out), np.asarray(picture(70, 50))
    np.testing.assert_allclose(model.predict(image).depth, load(network).predict(image).depth, atol=1e-5)
    text = out.read_text()
    assert text.count("fingerprint") == 2 and "site-packages" not in text and str(tmp_path) not in text


# The graph of the shipped weights


@pytest.fixture(scope="module")
def graph_folder(tmp_path_factory) -> Path:
    """A small network with its graph."""
    folder = saved("glpn", tmp_path_factory.mktemp("graph") / "net")
    model = models.load_network(folder)
    model.network.half().save_pretrained(folder)
    exporting.write_graph(folder)
    return folder


@pytest.mark.parametrize("name", list(SHIPPED))
def test_the_graph_beside_shipped_weights_belongs_to_them_and_answers_as_torch(name):
    graph = load(name, runtime="onnx")
    network = load(name, runtime="torch")
    assert isinstance(graph, models.ExportedModel) and graph.fits_weights()
    assert (graph.hash(), graph.identify()) == (network.hash(), network.identify())
    folder = find_shipped(name)
    assert (folder / models.GRAPH).stat().st_size < 400_000  # no weights of its own
    assert sum((folder / each).stat().st_size for each in (models.GRAPH, "model.safetensors")) < 16e6
    for height, width in ((96, 128), (128, 96), (100, 100), (90, 220), (480, 640)):
        image = np.asarray(picture(height, width))
        expected = network.predict(image).depth
        np.testing.assert_allclose(graph.predict(image).depth, expected, atol=1e-4 * float(np.ptp(expected)))


@pytest.mark.parametrize("name", SHIPPED)
def test_openvino_runs_the_graph_of_shipped_weights(name):
    pytest.importorskip("openvino", reason="openvino is not installed")
    image = np.asarray(picture(96, 128))
    expected = load(name, runtime="onnx").predict(image).depth
    answer = load(name, runtime="openvino").predict(image).depth
    np.testing.assert_allclose(answer, expected, atol=1e-4 * float(np.ptp(expected)))


def test_a_graph_reads_the_weights_beside_it(graph_folder):
    graph = onnx.load(graph_folder / "model.onnx", load_external_data=False)
    outside = [tensor for tensor in graph.graph.initializer if tensor.external_data]
    assert len(outside) > 40
    assert {each.value for tensor in outside for each in tensor.external_data if each.key == "location"} == {
        "model.safetensors"
    }
    note = json.loads(graph.metadata_props[0].value)
    assert note["beside"] == {"model.safetensors": models.hash_files([graph_folder / "model.safetensors"])}
    image = np.asarray(picture(50, 70))
    given = load(graph_folder, runtime="auto")
    assert given.placement.runtime == "onnx"
    np.testing.assert_allclose(given.predict(image).depth, load(graph_folder).predict(image).depth, atol=1e-5)


def test_saved_weights_leave_no_graph_of_others(graph_folder, tmp_path):
    (tmp_path / "model.onnx").write_bytes((graph_folder / "model.onnx").read_bytes())
    models.save(models.load_network(graph_folder), tmp_path)
    assert not (tmp_path / "model.onnx").exists()


def test_the_command_of_the_release_refuses_what_holds_no_network(tmp_path, monkeypatch, capsys):
    # In this process: a process of its own ended the worker that began it, twice, and left no trace.
    monkeypatch.setattr(sys, "argv", ["sonde.exporting", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("sonde.exporting", run_name="__main__")
    said = capsys.readouterr().err if stop.value.code == 1 else f"{stop.value.code}\n"
    assert said.count("\n") == 1 and "model.safetensors does not exist" in said


# What is refused before work


@pytest.mark.parametrize(
    "words,says",
    [
        (("--to", "onnx", "-o", "x.xml"), r"writes a file whose name ends in \.onnx"),
        (("--to", "openvino", "-o", "x"), r"writes a file whose name ends in \.xml"),
        (("--to", "onnx", "-o", "x.onnx", "--size", "100,96"), "takes multiples of 32; the nearest is 96,96"),
        (("--to", "onnx", "--size", "96"), "expected height,width in pixels"),
        (("--to", "onnx", "-o", "x.onnx", "--size", "1048576,32"), "expected at most 16,384 pixels a side"),
        (("--to", "hf", "--size", "96,96"), "size is for --to onnx and --to openvino"),
        (("--to", "hf", "--precision", "int8"), "precision is for --to onnx"),
        (("--to", "onnx", "--precision", "fp16"), "precision"),
        (("--to", "onnx", "-o", "x.onnx", "--calibrate-on", "."), "-on is for int8: give --precision int8"),
        (
            ("--to", "onnx", "-o", "x.onnx", "--precision", "int8", "--calibrate-on", "nowhere"),
            "nowhere does not exist",
        ),
        (("--to", "tflite"), "no export format"),
    ],
)
def test_a_request_that_cannot_be_is_one_sentence(words, says, network, sonde, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = sonde("export", network, *words)
    assert said.code == 2 and re.search(says, said.errors) and said.errors.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_a_file_that_exists_is_not_overwritten(network, exported, sonde):
    before = exported.path.read_bytes()
    said = sonde("export", network, "--to", "onnx")
    assert said.code == 2 and "exists already" in said.errors and "--out" in said.errors
    assert exported.path.read_bytes() == before


def test_a_size_is_that_of_the_model_where_it_has_one():
    model = build_small(small_dpt())
    writing.check_request(model, writing.ExportRequest("onnx", size=(64, 64)))
    with pytest.raises(ValueError, match="sees every image at 64,64"):
        writing.check_request(model, writing.ExportRequest("onnx", size=(64, 96)))


def test_a_network_too_large_for_int8_is_refused_before_work(monkeypatch, network):
    monkeypatch.setattr(writing, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="quantises at most"):
        exporting.export(network, to="onnx", precision="int8", out="never.onnx")


def test_without_openvino_the_sentence_says_how_to_get_it(monkeypatch, network):
    monkeypatch.setattr(writing, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"sonde\[openvino\]"):
        exporting.export(network, to="openvino", out="never.xml")


def test_an_exported_file_is_no_network(exported, sonde, tmp_path):
    said = sonde("export", exported.path, "--to", "hf", "-o", tmp_path / "out")
    assert said.code == 2 and "is an exported file, and this needs a network" in said.errors
    said = sonde("train", "lora-few", f"model.name={exported.path}", f"data.root={tmp_path}", "--dry-run")
    assert said.code == 2 and said.errors.count("\n") == 1


# Nothing half written


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(errno.ENOSPC, "full")])
def test_nothing_is_left_of_an_export_that_is_stopped(stop, quickly, network, tmp_path, monkeypatch):
    def fail(*args: object, **keywords: object) -> None:
        raise stop

    monkeypatch.setattr(writing, "judge", fail)
    with pytest.raises((KeyboardInterrupt, OSError)):
        exporting.export(network, to="onnx", out=tmp_path / "x.onnx")
    assert not any(tmp_path.iterdir())


def test_a_full_disk_is_known_before_work(network, tmp_path, monkeypatch, sonde):
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    said = sonde("export", network, "--to", "onnx", "-o", tmp_path / "x.onnx")
    assert said.code == 2 and "x.onnx: the disk is full" in said.errors and not any(tmp_path.iterdir())


def test_parts_of_a_file_appear_together_and_the_file_last(tmp_path):
    with files.write_parts(tmp_path / "a.xml") as part:
        part.write_text("graph")
        part.with_suffix(".bin").write_text("weights")
        assert not any(path.suffix for path in tmp_path.iterdir() if path.name[0] != ".")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.xml"]
    with pytest.raises(ValueError, match="exists already"), files.write_parts(tmp_path / "a.xml"):
        pass


def test_a_spec_of_the_file_names_no_base(exported):
    spec = load(exported.path).spec
    assert isinstance(spec, ModelSpec) and spec.base is None


def test_the_command_prints_the_table_sizes_and_times_and_json_holds_all(quickly, network, tmp_path, sonde):
    said = sonde("export", network, "--to", "onnx", "-o", tmp_path / "x.onnx")
    assert said.code == 0 and "worst" in said.text and " MB, exported in " in said.text and "torch" in said.text
    assert said.text.rstrip().endswith(f"-m {tmp_path / 'x.onnx'}`")
    found = sonde("export", network, "--to", "onnx", "-o", tmp_path / "y.onnx", "--json").json
    assert found["written"] == str(tmp_path / "y.onnx") and found["bytes"] == (tmp_path / "y.onnx").stat().st_size
    assert set(found["gate"]["worst"]) == set(found["gate"]["mean"]) and len(found["gate"]["images"]) == writing.JUDGED
