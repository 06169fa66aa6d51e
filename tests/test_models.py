"""Any network of any name answers at the image's size, in a space it can keep."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import small_depth_anything, small_glpn
from transformers import AutoModelForDepthEstimation, DPTConfig

from sonde import architectures, models
from sonde.adapters import QuickDropout, add_lora, load_adapter, match_targets
from sonde.background import Background
from sonde.encoding import ENCODINGS
from sonde.models import Calibration, DepthModel, ModelSpec
from sonde.types import Space


def small_dpt() -> DPTConfig:
    return DPTConfig(
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=48,
        backbone_out_indices=[0, 1, 2, 3],
        image_size=64,
        neck_hidden_sizes=[8, 12, 16, 24],
        fusion_hidden_size=8,
    )


CONFIGS = {"glpn": small_glpn, "depth_anything": small_depth_anything, "dpt": small_dpt}


def built(config) -> torch.nn.Module:
    torch.manual_seed(0)
    network = AutoModelForDepthEstimation.from_config(config)
    models.reinit_head(network)
    return network.eval()


@pytest.fixture
def saved(tmp_path: Path):
    def save(family: str) -> Path:
        built(CONFIGS[family]()).save_pretrained(tmp_path / family)  # pyright: ignore[reportCallIssue]
        return tmp_path / family

    return save


@pytest.mark.parametrize("family", CONFIGS)
def test_every_family_answers_at_the_images_own_size(saved, family):
    model = models.load(saved(family))
    prediction = model.predict(np.random.default_rng(0).integers(0, 255, (75, 101, 3), dtype=np.uint8))
    assert prediction.depth.shape == (75, 101)
    assert prediction.depth.dtype == np.float32
    assert prediction.space == ("metric" if family == "glpn" else "disparity")
    assert np.isfinite(prediction.depth).all()
    assert prediction.depth.min() >= 0


def test_a_batch_answers_as_its_images_do_alone(saved):
    model = models.load_network(saved("glpn"))
    batch = torch.rand(2, 3, 64, 96)
    together = model(batch).depth
    alone = torch.cat([model(batch[:1]).depth, model(batch[1:]).depth])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_path_a_pil_image_and_an_array_give_the_same(saved, tmp_path):
    from PIL import Image

    model = models.load(saved("glpn"))
    array = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "photo.png")
    first = model.predict(array).depth
    assert np.array_equal(first, model.predict(tmp_path / "photo.png").depth)
    assert np.array_equal(first, model.predict(Image.fromarray(array)).depth)


def test_views_and_read_only_arrays_give_what_their_copies_give(saved):
    from PIL import Image

    model = models.load(saved("depth_anything"))
    array = np.random.default_rng(1).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    for view in (array[..., ::-1], array[::-1], array[:, ::2], np.asarray(Image.fromarray(array))):
        assert np.array_equal(model.predict(view).depth, model.predict(view.copy()).depth)
    camera = [[20, 0, 32], [0, 20, 32], [0, 0, 1]]
    assert models.as_camera(camera).dtype == np.float64
    assert np.array_equal(models.as_camera(np.array(camera, np.float32)[::-1])[::-1], camera)


def test_what_is_no_image_or_no_camera_is_told_in_one_sentence(saved):
    with pytest.raises(ValueError, match=r"uint8 image with pixels, got uint8 of shape \(0, 8, 3\)"):
        models.load(saved("depth_anything")).predict(np.zeros((0, 8, 3), np.uint8))
    for wrong in ([1, 2, 3, 4], [[1, 2], [3]], "20,20,3,2", np.eye(4)):
        with pytest.raises(ValueError, match="Expected intrinsics as the"):
            models.as_camera(wrong)
    program = f"""
import numpy as np
from sonde import models
model = models.load({str(saved("glpn"))!r})
array = np.zeros((32, 32, 3), np.uint8)
assert model.predict(array, np.eye(3).tolist()).intrinsics.shape == (3, 3)
try:
    model.predict(array.tolist())
except ValueError as error:
    assert "got list" in str(error)
else:
    raise AssertionError
"""  # in a process of its own, where no test's own checks of types come first
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_image_too_elongated_to_be_resized_is_refused_and_a_panorama_is_not():
    resized = ModelSpec("disparity", short_side=518, multiple=14)
    assert resized.network_size(100, 800) == (518, 4144)
    with pytest.raises(ValueError, match="2000x1, longer than 8 times its short side"):
        resized.network_size(1, 2000)
    assert replace(resized, input_size=(518, 518)).network_size(1, 2000) == (518, 518)
    assert replace(resized, short_side=None).network_size(1, 2000) == (14, 2002)


def test_the_network_sees_multiples_of_its_step_at_its_short_side():
    spec = ModelSpec("disparity", short_side=518, multiple=14)
    assert spec.network_size(480, 640) == (518, 686)
    assert spec.network_size(1200, 1944) == (518, 840)
    assert replace(spec, input_size=(756, 1260)).network_size(480, 640) == (756, 1260)
    assert ModelSpec("metric", short_side=None, multiple=32).network_size(375, 1242) == (384, 1248)


def test_an_encoded_answer_is_metric_depth_inside_its_range():
    encoding = ENCODINGS["inverse"](0.5, 2.0)
    spec = ModelSpec("metric", 64, 32, encoding=encoding.to_dict(), unit="mm")
    depth = DepthModel(built(small_glpn()), spec, "test").predict(np.zeros((64, 64, 3), np.uint8)).depth
    assert 0.5 <= depth.min() <= depth.max() <= 2.0


def test_a_saved_model_comes_back_with_its_meaning(tmp_path):
    spec = ModelSpec("metric", 64, 32, encoding=ENCODINGS["log"](0.5, 2.0).to_dict(), unit="mm", input_size=(64, 96))
    model = DepthModel(built(small_glpn()), spec, "test").eval()
    models.save(model, tmp_path / "whole")
    again = models.load_network(tmp_path / "whole")
    assert again.spec == spec
    image = torch.rand(1, 3, 64, 96)
    assert torch.equal(model(image).depth, again(image).depth)


@pytest.mark.parametrize(
    "size,count", [("small", 24_785_089), ("base", 97_470_785), ("large", 335_315_649), ("giant", 1_258_132_225)]
)
def test_the_four_sizes_have_the_papers_parameters(size, count):
    with torch.device("meta"):
        network = AutoModelForDepthEstimation.from_config(architectures.depth_anything(size))
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_lora_on_depth_anything_small_trains_442368_parameters():
    with torch.device("meta"):
        network = AutoModelForDepthEstimation.from_config(architectures.depth_anything("small"))
        adapted = add_lora(network, {"r": 16, "lora_alpha": 32, "target_modules": ["query", "key", "value"]})
    trainable = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    assert trainable == 442_368
    assert sum(parameter.numel() for parameter in adapted.parameters()) == 25_227_457


def official_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A network's weights under the names of the official checkpoints, written from their code, not from ours."""
    state = dict(network.state_dict())
    official = {
        "pretrained.cls_token": state["backbone.embeddings.cls_token"],
        "pretrained.mask_token": state["backbone.embeddings.mask_token"],
        "pretrained.pos_embed": state["backbone.embeddings.position_embeddings"],
        "depth_head.scratch.output_conv2.0.weight": state["head.conv2.weight"],
        "depth_head.scratch.output_conv2.0.bias": state["head.conv2.bias"],
        "depth_head.scratch.output_conv2.2.weight": state["head.conv3.weight"],
        "depth_head.scratch.output_conv2.2.bias": state["head.conv3.bias"],
    }

    def pair(old: str, new: str) -> None:
        official.update(
            {f"{old}.{leaf}": state[f"{new}.{leaf}"] for leaf in ("weight", "bias") if f"{new}.{leaf}" in state}
        )

    pair("pretrained.patch_embed.proj", "backbone.embeddings.patch_embeddings.projection")
    pair("pretrained.norm", "backbone.layernorm")
    pair("depth_head.scratch.output_conv1", "head.conv1")
    for index in range(12):
        old, new = f"pretrained.blocks.{index}", f"backbone.encoder.layer.{index}"
        for leaf in ("weight", "bias"):
            parts = [state[f"{new}.attention.{name}_proj.{leaf}"] for name in "qkv"]
            official[f"{old}.attn.qkv.{leaf}"] = torch.cat(parts)
        pair(f"{old}.attn.proj", f"{new}.attention.o_proj")
        for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
            pair(f"{old}.{part}", f"{new}.{part}")
        for part in "12":
            official[f"{old}.ls{part}.gamma"] = state[f"{new}.layer_scale{part}.lambda1"]
    for index in range(4):
        pair(f"depth_head.projects.{index}", f"neck.reassemble_stage.layers.{index}.projection")
        pair(f"depth_head.resize_layers.{index}", f"neck.reassemble_stage.layers.{index}.resize")
        pair(f"depth_head.scratch.layer{index + 1}_rn", f"neck.convs.{index}")
        fusion, layer = f"depth_head.scratch.refinenet{4 - index}", f"neck.fusion_stage.layers.{index}"
        pair(f"{fusion}.out_conv", f"{layer}.projection")
        for unit in "12":
            for conv in "12":
                pair(f"{fusion}.resConfUnit{unit}.conv{conv}", f"{layer}.residual_layer{unit}.convolution{conv}")
    return official


def test_an_official_checkpoint_gives_the_same_network(tmp_path):
    network = built(architectures.depth_anything("small"))
    path = tmp_path / "depth_anything_v2_vits.pth"
    torch.save(official_of(network), path)
    model = models.load_network(path)
    assert model.space == "disparity"
    for name, value in network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], value), name


def test_a_metric_checkpoint_takes_its_range_from_its_name():
    state = official_of(built(architectures.depth_anything("small")))
    config, _, scale = architectures.from_official(state, "depth_anything_v2_metric_vkitti_vits.pth")
    assert (config.depth_estimation_type, config.max_depth, scale) == ("metric", 80, 1)
    with pytest.raises(ValueError, match=r"--max_depth 80.*hypersim"):
        architectures.from_official(state, "my_metric_vits.pth")


def test_a_metric_checkpoint_of_unknown_range_is_told_it(tmp_path):
    network = built(architectures.depth_anything("small", max_depth=20))
    torch.save({"model": official_of(network), "epoch": 3}, tmp_path / "my_metric_vits.pth")
    model = models.load_network(tmp_path / "my_metric_vits.pth", max_depth=10.5)
    assert (model.space, models.find_max_depth(model)) == ("metric", 10.5)
    image = torch.rand(1, 3, 56, 56)
    torch.testing.assert_close(model.read(model.network(image), 56), network(image).predicted_depth * 10.5 / 20)
    torch.save(official_of(network), tmp_path / "depth_anything_v2_vits.pth")
    with pytest.raises(ValueError, match=r"max_depth=20: .*vits.pth is relative"):
        models.load(tmp_path / "depth_anything_v2_vits.pth", max_depth=20)


def test_a_pickled_program_is_never_run(tmp_path):
    import pickle

    path = tmp_path / "depth_anything_v2_vits.pth"
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match="cannot be read as weights"):
        models.load(path)


def test_targets_are_found_in_either_spelling():
    assert match_targets(built(small_depth_anything()), ["query", "v_proj"]) == ["q_proj", "v_proj"]
    assert match_targets(built(small_glpn()), ["q_proj", "value"]) == ["query", "value"]
    with pytest.raises(ValueError, match="nosuch"):
        match_targets(built(small_glpn()), ["nosuch"])


def test_an_adapter_saved_under_transformers_4s_names_loads(tmp_path):
    from safetensors.torch import load_file, save_file

    image = torch.rand(1, 3, 56, 56)
    adapted = add_lora(built(small_depth_anything()), {"r": 2, "target_modules": ["query", "key", "value"]})
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    expected = adapted.eval()(pixel_values=image).predicted_depth
    adapted.save_pretrained(tmp_path, save_embedding_layers=False)
    old = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value"}
    state = load_file(tmp_path / "adapter_model.safetensors")
    for new, word in old.items():
        state = {key.replace(f"attention.{new}", f"attention.{word}"): value for key, value in state.items()}
    save_file(state, tmp_path / "adapter_model.safetensors")
    config = tmp_path / "adapter_config.json"
    text = config.read_text()
    for new, word in old.items():
        text = text.replace(f'"{new}"', f'"{word.rpartition(".")[2]}"')
    config.write_text(text)

    again = load_adapter(built(small_depth_anything()), tmp_path).eval()
    assert torch.equal(again(pixel_values=image).predicted_depth, expected)


@pytest.mark.filterwarnings("ignore:Adapter 'default'. .* LoRA tensor.s. have invalid shape")  # biases, says PEFT
@pytest.mark.parametrize("lora", [{"use_dora": True}, {"lora_bias": True}, {"bias": "lora_only"}, {"use_rslora": True}])
def test_adapters_of_every_kind_come_back_as_they_were_saved(tmp_path, lora):
    image = torch.rand(1, 3, 64, 64)
    base = built(small_glpn())
    state = {name: value.clone() for name, value in base.state_dict().items()}
    adapted = add_lora(base, {"r": 2, "target_modules": ["query", "value"], **lora})
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    expected = adapted.eval()(pixel_values=image).predicted_depth
    adapted.save_pretrained(tmp_path, save_embedding_layers=False)
    fresh = built(small_glpn())
    fresh.load_state_dict(state)
    assert torch.equal(load_adapter(fresh, tmp_path).eval()(pixel_values=image).predicted_depth, expected)


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "loftq"])
def test_a_start_that_alters_the_base_is_refused(start):
    with pytest.raises(ValueError, match=f"init_lora_weights={start} alters the base"):
        add_lora(built(small_glpn()), {"r": 2, "init_lora_weights": start})


def test_modules_to_save_are_those_asked_for_and_the_heads():
    adapted = add_lora(built(small_glpn()), {"r": 2, "modules_to_save": ["layer_norm_1"]}, ("head.head",))
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert any("layer_norm_1.modules_to_save" in name for name in trained)
    assert any("head.head.modules_to_save" in name for name in trained)


def test_a_hybrid_dpt_is_read_and_answers():
    config = DPTConfig(
        is_hybrid=True, image_size=64, hidden_size=24, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[32, 64, 24, 24], fusion_hidden_size=8,
        backbone_featmap_shape=[1, 96, 4, 4], neck_ignore_stages=[0, 1], readout_type="project",
        backbone_config={
            "model_type": "bit", "num_groups": 8, "embedding_size": 32, "hidden_sizes": [32, 64, 96],
            "depths": [1, 1, 1], "out_features": ["stage1", "stage2", "stage3"],
            "layer_type": "bottleneck", "global_padding": "same",
        },
    )  # fmt: skip
    network = built(config)
    spec = models.read_spec(network)  # pyright: ignore[reportArgumentType]
    assert spec.input_size == (64, 64)
    answer = DepthModel(network, spec, "hybrid").predict(np.zeros((40, 60, 3), np.uint8)).depth
    assert answer.shape == (40, 60) and np.isfinite(answer).all()


def test_a_sigmoid_follows_a_metric_depth_anything_and_not_a_relative_one():
    for kind, follows in (("metric", True), ("relative", False)):
        network = built(small_depth_anything(depth_estimation_type=kind, max_depth=20))
        spec = models.read_spec(network)  # pyright: ignore[reportArgumentType]
        assert DepthModel(network, spec, "it").sigmoid == follows


def test_an_adapter_of_another_network_is_refused(tmp_path):
    add_lora(built(small_glpn()), {"r": 2}).save_pretrained(tmp_path, save_embedding_layers=False)
    other = built(small_glpn(mlp_ratios=(4, 4, 4, 4)))
    other.glpn.encoder.block = other.glpn.encoder.block[:2]  # pyright: ignore
    with pytest.raises(ValueError, match="adapter of another network"):
        load_adapter(other, tmp_path)


def test_an_adapter_refuses_a_base_with_other_weights(tmp_path):
    base = tmp_path / "base"
    network = built(small_glpn())
    network.save_pretrained(base)  # pyright: ignore[reportCallIssue]
    spec = ModelSpec("metric", 64, 32, base=str(base), fingerprint=models.fingerprint(network))
    model = DepthModel(add_lora(network, {"r": 2}), spec, "test")
    best = tmp_path / "run" / "best"
    models.save(model, best)
    assert models.load(tmp_path / "run").spec.base == str(best / "base")
    # Earlier versions saved no base, and named it by its path.
    shutil.rmtree(best / "base")
    (best / "sonde.json").write_text((best / "sonde.json").read_text().replace('"./base"', json.dumps(str(base))))
    assert models.load(tmp_path / "run").spec.base == str(base)
    torch.manual_seed(9)
    AutoModelForDepthEstimation.from_config(small_glpn()).save_pretrained(base)
    with pytest.raises(ValueError, match="other weights"):
        models.load(tmp_path / "run")


def test_a_revived_head_answers_and_learns():
    """Built from a config alone, Depth Anything's last ReLU is dead: 0 everywhere, and no gradient."""
    network = built(small_depth_anything())
    answer = network(pixel_values=torch.rand(1, 3, 56, 56)).predicted_depth
    answer.sum().backward()
    assert (answer > 0).float().mean() > 0.9
    assert network.head.conv1.weight.grad.abs().sum() > 0  # pyright: ignore


def test_a_deepened_network_answers_as_before_and_its_new_blocks_learn():
    network: Any = built(small_glpn()).eval()
    before = network.config.depths
    larger: Any = models.deepen(network, [before[0], *(n + 2 for n in before[1:])])
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(larger(pixel_values=image).predicted_depth, network(pixel_values=image).predicted_depth)
    larger(pixel_values=image).predicted_depth.sum().backward()
    assert larger.glpn.encoder.block[2][-1].mlp.dense2.weight.grad.abs().sum() > 0
    assert [len(stage) for stage in network.glpn.encoder.block] == [*before]


@pytest.mark.parametrize("depths", [[1, 1, 1], [0, 2, 2, 2]])
def test_a_network_is_not_deepened_to_fewer_stages_or_blocks(depths):
    with pytest.raises(ValueError, match=r"model\.depths.*at least"):
        models.deepen(built(small_glpn()), depths)
    with pytest.raises(ValueError, match="GLPN"):
        models.deepen(built(small_depth_anything()), depths)


@pytest.mark.parametrize("name,words", [("sonde-tny", "sonde-tiny"), ("nothing.pth", "official"), ("", "sonde-tiny")])
def test_a_wrong_name_says_what_would_work(name, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words):
        models.load(name)


def test_without_a_hub_the_local_alternatives_are_named(monkeypatch):
    monkeypatch.setattr("sonde.models.reading._is_hub_reachable", lambda: False)
    with pytest.raises(ValueError, match=r"cannot be reached.*sonde-tiny"):
        models.load("depth-anything/Depth-Anything-V2-Small-hf")


def test_a_network_that_keeps_the_images_pixels_has_a_processor_that_does_at_its_multiples(tmp_path):
    from transformers import AutoImageProcessor

    model = DepthModel(built(small_glpn()), ModelSpec("metric", None, 32, *models.IMAGENET), "glpn")
    models.save(model, tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path, use_fast=False)
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    theirs = processor(images=image, return_tensors="pt")["pixel_values"]
    ours = model.prepare(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
    # At other sizes transformers makes the image smaller; we pad it and cut the answer.
    assert processor(images=image[:63, :95], return_tensors="pt")["pixel_values"].shape == (1, 3, 32, 64)


def test_quick_dropout_is_dropout():
    x = torch.randn(2, 301, 67)
    drop = QuickDropout(0.05)
    torch.manual_seed(3)
    first, second = drop(x), drop(x)
    torch.manual_seed(3)
    assert torch.equal(drop(x), first) and not torch.equal(second, first)  # a function of torch's generator
    lost = first == 0
    assert lost.float().mean().item() == pytest.approx(0.05, abs=5 * (0.05 * 0.95 / x.numel()) ** 0.5)
    assert lost.float().mean((0, 1)).std() < 0.02  # no place is spared
    torch.testing.assert_close(first[~lost], x[~lost] / 0.95)
    assert torch.equal(drop.eval()(x), x)


def test_adapters_train_with_quick_dropout_and_hold_it_in_peft_as_before(tmp_path):
    adapted = add_lora(built(small_glpn()), {"r": 2, "lora_dropout": 0.05})
    assert sum(isinstance(module, QuickDropout) for module in adapted.modules()) == 3 * 4
    adapted.save_pretrained(tmp_path, save_embedding_layers=False)
    assert load_adapter(built(small_glpn()), tmp_path).peft_config["default"].lora_dropout == 0.05  # pyright: ignore


@pytest.mark.parametrize("seed", range(3))
def test_a_small_network_drawn_anew_answers_above_zero_everywhere(seed):
    torch.manual_seed(seed)
    model = models.build("small")
    with torch.no_grad():
        answer = model.forward_raw(model.network, torch.rand(1, 3, 112, 112))
    assert (answer > 0).float().mean() > 0.95 and answer.std() > 0.02


def test_a_size_asks_for_what_it_can_have():
    with pytest.raises(ValueError, match="never released"):
        models.build("giant", init="pretrained")
    with pytest.raises(ValueError, match="need random weights"):
        models.build("small", init="pretrained", max_depth=20)
    with torch.device("meta"):
        config = architectures.depth_anything("base", max_depth=20)
    assert config.depth_estimation_type == "metric" and config.max_depth == 20


def damage(path: Path, how: str) -> None:
    """Break a file as a full disk, a broken copy or an editor does."""
    whole = path.read_bytes()
    broken = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "foreign": b"\x93\x00<html>",
        "list": b"[]",
        "object": b"{}",
    }
    path.write_bytes(broken[how])


def complete_model(folder: Path) -> Path:
    """A whole network with all that may lie beside it: a bench, a calibration."""
    network = built(small_glpn())
    spec = ModelSpec("metric", 64, 32, background=2.0)
    model = DepthModel(network, spec, "complete")
    model.background = Background(np.full((64, 96), 2, np.float32), np.zeros((64, 96, 3), np.uint8), "median")
    model.calibration = Calibration("scale", "metric", 2.0)
    models.save(model, folder)
    return folder


def adapter_model(folder: Path) -> Path:
    """An adapter and its base."""
    network = built(small_glpn())
    base = folder.with_name("base")
    network.save_pretrained(base)  # pyright: ignore[reportCallIssue]
    spec = ModelSpec("metric", 64, 32, base=str(base), fingerprint=models.fingerprint(network))
    models.save(DepthModel(add_lora(network, {"r": 2}), spec, "adapter"), folder)
    return folder


def older_model(folder: Path) -> Path:
    """A whole network as torch pickles it."""
    network = built(small_glpn())
    network.save_pretrained(folder)  # pyright: ignore[reportCallIssue]
    (folder / "model.safetensors").unlink()
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    return folder


def older_adapter(folder: Path) -> Path:
    """An adapter as torch pickles it."""
    from safetensors.torch import load_file

    path = adapter_model(folder) / "adapter_model.safetensors"
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    return folder


JSON = ("empty", "half", "foreign", "list", "object")
BYTES = ("empty", "half", "foreign")


@pytest.mark.parametrize(
    "make,name,how",
    [
        (make, name, how)
        for make, name, ways in [
            (complete_model, "config.json", JSON),
            (complete_model, "model.safetensors", BYTES),
            (complete_model, "calibration.json", JSON),
            (complete_model, "background.npy", BYTES),
            (complete_model, "background.png", BYTES),
            (complete_model, "background.json", JSON),
            (adapter_model, "sonde.json", JSON),
            (adapter_model, "adapter_config.json", JSON),
            (adapter_model, "adapter_model.safetensors", BYTES),
            (older_model, "pytorch_model.bin", BYTES),
            (older_adapter, "adapter_model.bin", BYTES),
        ]
        for how in ways
    ],
)
def test_a_broken_file_of_a_model_folder_is_named_in_one_sentence(make, name, how, tmp_path):
    folder = make(tmp_path / "model")
    models.load(folder)
    damage(folder / name, how)
    with pytest.raises(ValueError, match=name.replace(".", r"\.")) as caught:
        models.load(folder)
    message = str(caught.value)
    assert str(folder / name) in message and "\n" not in message and len(message) < 400, message


@pytest.mark.parametrize(
    "change,words",
    [
        ({"colour": 1}, "unknown key 'colour'"),
        ({"space": "metres"}, "its space is 'metres'"),
        ({"multiple": None}, "its multiple is None"),
        ({"encoding": {"name": "invers", "min_depth": 1, "max_depth": 2}}, "did you mean 'inverse'"),
        ({"encoding": {"name": "inverse"}}, "min_depth"),
    ],
)
def test_a_spec_that_cannot_be_is_told_with_its_file(change, words, tmp_path):
    path = adapter_model(tmp_path / "model") / "sonde.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=words) as caught:
        models.load(tmp_path / "model")
    assert str(path) in str(caught.value)


def test_tensors_of_another_config_are_told_with_their_file(tmp_path):
    folder = complete_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"decoder_hidden_size": 16}))
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read") as caught:
        models.load(folder)
    assert "\n" not in str(caught.value)


def test_an_added_reader_is_asked_before_all_others(tmp_path, monkeypatch):
    def read(source: models.ModelSource) -> DepthModel:
        return models.load_network("sonde-tiny", init=source.init)

    monkeypatch.setitem(models.READERS, "mine", models.Reader(lambda source: source.path.suffix == ".mine", read))
    assert models.load(tmp_path / "a.mine").name == str(tmp_path / "a.mine")
    monkeypatch.chdir(tmp_path)
    assert models.load("some/network.mine").name == "some/network.mine"  # and not an id of the hub


def test_the_former_names_still_work_with_one_warning():
    from sonde import renamed

    renamed._WARNED.clear()
    model = models.load_network("sonde-tiny")
    with pytest.warns(FutureWarning, match=r"DepthModel\.meaning is now called DepthModel\.spec"):
        assert model.meaning is model.spec
    with pytest.warns(FutureWarning, match="find_max_depth"):
        assert models.max_depth_of(model) is None  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    with pytest.raises(AttributeError, match="nothing"):
        models.nothing  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_a_calibration_gives_arrays_what_it_gives_tensors():
    answers = np.linspace(0.05, 4, 50, dtype=np.float32).reshape(1, 5, 10)
    cases: list[tuple[str, Space]] = [("scale", "metric"), ("scale-shift", "disparity"), ("log-affine", "disparity")]
    for kind, space in cases:
        calibration = Calibration(kind, space, -0.5 if kind == "log-affine" else 0.5, 0.1, (0.2, 3.0))
        theirs = calibration.apply(torch.from_numpy(answers)).numpy()
        ours = calibration.apply(answers)
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
