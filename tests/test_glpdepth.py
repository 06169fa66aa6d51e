"""Checkpoints of GLPDepth's own scripts, in and out: their metres, their wrappers, their names, their answers."""

import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from glpdepth_code import GLPDepth
from small_networks import saved, small_glpn
from test_glpn import SMALL, official_of
from transformers import AutoModelForDepthEstimation, GLPNConfig, GLPNForDepthEstimation

from sonde import architectures, exporting, models
from sonde.adapters import add_lora
from sonde.background import Background
from sonde.encoding import ENCODINGS
from sonde.models import Calibration, DepthModel, ModelSpec

IMAGE = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)


def network(config: GLPNConfig | None = None) -> GLPNForDepthEstimation:
    """Of weights and batch statistics that show when they are mixed up, and of an answer that is nowhere at its end."""
    torch.manual_seed(0)
    drawn = GLPNForDepthEstimation(config or architectures.glpn(SMALL, max_depth=10, decoder_width=8))
    models.reinit_head(drawn)
    with torch.no_grad():
        for value in drawn.state_dict().values():
            if value.is_floating_point():
                value.add_(0.1 * torch.rand_like(value))
    return drawn.eval()


def checkpoint(path: Path, content: object = None) -> Path:
    """A file as the training script leaves it."""
    torch.save(official_of(network()) if content is None else content, path)
    return path


def plain(**changes) -> DepthModel:
    """A GLPN of metres as `model.size` draws one, at a size that GLPDepth's decoder takes."""
    spec = ModelSpec("metric", None, 32, *models.PLAIN)
    return DepthModel(network(), ModelSpec(**{**vars(spec), **changes}), "plain").eval()


def theirs(state: dict[str, torch.Tensor], max_depth: float, epsilon: float = 1e-6) -> np.ndarray:
    """What GLPDepth's network answers to IMAGE with a state that its test script has loaded."""
    code = GLPDepth(SMALL.widths, SMALL.depths, 8, max_depth, epsilon).eval()
    code.load_state_dict(state)
    with torch.inference_mode():
        return code(torch.from_numpy(IMAGE).permute(2, 0, 1)[None].float() / 255)[0].numpy()


def as_the_test_script_loads(path: Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=True)
    if "module" in next(iter(state)):
        state = OrderedDict((key[7:], value) for key, value in state.items())
    return state


# In: the metres


@pytest.mark.parametrize(
    "name,metres", [("epoch_08_model.ckpt", 80), ("epoch_08_model.ckpt", 10.5), ("best_model_kitti.ckpt", 50)]
)
def test_a_checkpoint_ends_where_it_is_told_and_answers_what_its_own_code_does(name, metres, tmp_path):
    path = checkpoint(tmp_path / name)
    model = models.load_network(path, max_depth=metres)
    assert (model.space, models.find_max_depth(model)) == ("metric", metres)
    depth = model.predict(IMAGE).depth
    np.testing.assert_allclose(depth, theirs(official_of(network()), metres, 1e-5), rtol=1e-5)
    models.save(model, tmp_path / "saved")
    again = models.load_network(tmp_path / "saved", max_depth=metres)
    assert (again.network.config.max_depth, again.spec.scale) == architectures.split_max_depth(metres)
    assert np.array_equal(again.predict(IMAGE).depth, depth)


@pytest.mark.parametrize("name", ["epoch_08_model.ckpt", "nyu_then_kitti.ckpt"])
def test_a_checkpoint_whose_metres_nobody_says_is_refused_with_the_option(name, tmp_path):
    checkpoint(tmp_path / name)
    with pytest.raises(ValueError, match=r"--max_depth 80 \(max_depth=80 in Python, model.max_depth=80") as caught:
        models.load(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [0, -3.0, float("nan"), float("inf")])
def test_what_is_no_length_is_refused_before_anything_is_read(wrong):
    with pytest.raises(ValueError, match=f"max_depth={wrong}: expected metres above zero"):
        models.load("nothing.ckpt", max_depth=wrong)


def test_weights_drawn_anew_end_there_too(tmp_path):
    path = checkpoint(tmp_path / "model.ckpt")
    drawn = models.load_network(path, init="random", max_depth=10.5)
    assert models.find_max_depth(drawn) == 10.5 and 0 < drawn.predict(IMAGE).depth.max() < 10.5
    assert not torch.equal(
        drawn.network.decoder.stages[0].convolution.weight, official_of(network())["decoder.bot_conv.weight"]
    )


def test_any_other_model_must_end_there_by_itself(tmp_path):
    metric = models.build("b0", max_depth=10.5)
    models.save(metric, tmp_path / "metric")
    folder = saved("glpn", tmp_path / "encoded")
    encoded = DepthModel(AutoModelForDepthEstimation.from_pretrained(folder), ModelSpec(
        "metric", None, 32, encoding=ENCODINGS["inverse"](0.25, 3.90745).to_dict()), "encoded")  # fmt: skip
    models.save(encoded, tmp_path / "run" / "best")
    assert models.load(tmp_path / "metric", max_depth=10.5).spec.scale == 10.5
    assert models.load(tmp_path / "run", max_depth=3.90745).space == "metric"
    for name, words in (("metric", "ends at 10.5 m"), ("run", "ends at 3.90745 m"), ("sonde-tiny", "is relative")):
        place = name if name == "sonde-tiny" else tmp_path / name
        with pytest.raises(ValueError, match=f"max_depth=20: .*{name} {words}.*leave it out") as caught:
            models.load(place, max_depth=20)
        assert "\n" not in str(caught.value)


def test_an_adapter_of_a_checkpoint_remembers_its_metres(tmp_path):
    base = models.load_network(checkpoint(tmp_path / "model.ckpt"), max_depth=80)
    about = {"base": base.name, "fingerprint": models.fingerprint(base.network)}
    torch.manual_seed(1)
    tuned = DepthModel(add_lora(base.network, {"r": 2}), ModelSpec(**{**vars(base.spec), **about}), "run").eval()
    models.save(tuned, tmp_path / "run" / "best")
    again = models.load_network(tmp_path / "run")
    assert models.find_max_depth(again) == 80
    assert np.array_equal(again.predict(IMAGE).depth, tuned.predict(IMAGE).depth)
    # A whole network is what it is, whatever the file it once came from was told.
    models.save(models.load_network(checkpoint(tmp_path / "model.ckpt"), max_depth=80), tmp_path / "whole")
    whole = models.load_network(tmp_path / "whole")
    whole.spec = ModelSpec(**{**vars(whole.spec), "encoding": ENCODINGS["linear"](1.0, 4.0).to_dict()})
    models.set_max_depth(whole.network, 1)
    models.save(whole, tmp_path / "whole")
    about = {"base": str(tmp_path / "whole"), "fingerprint": models.fingerprint(whole.network)}
    upon = DepthModel(add_lora(whole.network, {"r": 2}), ModelSpec(**{**vars(whole.spec), **about}), "upon").eval()
    models.save(upon, tmp_path / "upon")
    assert models.find_max_depth(models.load_network(tmp_path / "upon")) == 4


def test_a_folder_of_a_calibration_alone_hands_the_metres_on(tmp_path):
    path = checkpoint(tmp_path / "model.ckpt")
    made = Calibration("scale", "metric", 2.0, fingerprint=models.fingerprint(network()), base="../model.ckpt")
    (tmp_path / "calibrated").mkdir()
    made.write(tmp_path / "calibrated")
    depth = models.load(tmp_path / "calibrated", max_depth=80).predict(IMAGE).depth
    np.testing.assert_allclose(depth, 2 * models.load(path, max_depth=80).predict(IMAGE).depth, rtol=1e-6)
    with pytest.raises(ValueError, match="--max_depth 80"):
        models.load(tmp_path / "calibrated")


# In: what training scripts put around the tensors


def prefixed(prefix: str, state: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in (state or official_of(network())).items()}


@pytest.mark.parametrize(
    "content",
    [
        prefixed("module."),
        {"model": prefixed("module."), "optimizer": {"lr": 1e-4, "state": [torch.zeros(2)]}, "epoch": 8},
        {"state_dict": prefixed("model."), "epoch": 8},
        {"state_dict": prefixed("model.module."), "hyper_parameters": {"max_depth": 80}},
        prefixed("module.model."),
    ],
)
@pytest.mark.parametrize("suffix", [".ckpt", ".pth", ".pt"])
def test_what_is_around_the_tensors_is_taken_off(content, suffix, tmp_path):
    model = models.load_network(checkpoint(tmp_path / f"model{suffix}", content), max_depth=80)
    for key, value in network().state_dict().items():
        assert torch.equal(model.network.state_dict()[key], value), key


def test_a_prefix_of_some_names_alone_is_refused(tmp_path):
    state = official_of(network())
    first = next(iter(state))
    mixed = {(f"module.{key}" if key == first else key): value for key, value in state.items()}
    with pytest.raises(ValueError, match=r"not an official|is incomplete"):
        models.load(checkpoint(tmp_path / "model.ckpt", mixed), max_depth=80)


def test_a_network_pickled_whole_is_not_run(tmp_path):
    path = checkpoint(tmp_path / "model.ckpt", {"model": network()})
    with pytest.raises(ValueError, match="holds more than tensors"):
        models.load(path, max_depth=80)


# Out


def test_the_names_and_shapes_of_b4_are_those_of_its_own_code():
    shape = architectures.MIT_SIZES["b4"]
    with torch.device("meta"):
        own = AutoModelForDepthEstimation.from_config(architectures.glpn("b4", max_depth=80))
        code = GLPDepth(shape.widths, shape.depths, 64, 80)
    written = architectures.to_glpdepth(own.state_dict())
    shapes = {key: (tuple(value.shape), value.dtype) for key, value in code.state_dict().items()}
    assert {key: (tuple(value.shape), value.dtype) for key, value in written.items()} == shapes
    assert len(shapes) == 890 and architectures.describe_glpdepth_changes(own.config) is None


def test_writing_undoes_reading():
    drawn = network()
    written, official = architectures.to_glpdepth(drawn.state_dict()), official_of(drawn)
    assert written.keys() == official.keys()
    assert all(torch.equal(written[key], value) for key, value in official.items())


@pytest.mark.parametrize("metres", [pytest.param(80, marks=pytest.mark.slow), 10.5])
def test_an_exported_b0_is_read_back_to_the_bit(metres, tmp_path, caplog):
    torch.manual_seed(3)
    model = models.build("b0", max_depth=metres)
    folder = exporting.export(model, to="glpdepth", out=tmp_path / "mine")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "mine.ckpt"]
    again = models.load_network(folder / "mine.ckpt", max_depth=metres)
    for key, value in model.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[key], value), key
    assert np.array_equal(again.predict(IMAGE).depth, model.predict(IMAGE).depth)
    assert "cannot hold this network: its decoder of 64 channels" in caplog.text


def test_an_exported_file_answers_the_same_in_its_own_code(tmp_path, caplog):
    model = plain()
    folder = exporting.export(model, to="glpdepth", out=tmp_path / "mine")
    state, depth = as_the_test_script_loads(folder / "mine.ckpt"), model.predict(IMAGE).depth
    np.testing.assert_allclose(theirs(state, 10, 1e-5), depth, rtol=1e-5)
    assert depth.std() > 0.01, "a flat answer would prove nothing"
    assert "must build widths [8, 16, 40, 64] and depths [1, 2, 1, 1], channels_in = [64, 40, 16]" in caplog.text
    # With the 1e-6 of its layer norms the difference is of the order that the card states.
    text = (folder / "README.md").read_text()
    found = re.search(r"differ by\s+up to (\S+) m", text)
    assert found is not None
    apart = np.abs(theirs(state, 10) - depth).max()
    assert 0 < apart < 10 * float(found[1]) and float(found[1]) < 0.01
    own = models.load_network(folder / "mine.ckpt", max_depth=10)
    architectures.use_glpdepth_norms(own.network)
    np.testing.assert_allclose(own.predict(IMAGE).depth, theirs(state, 10), rtol=1e-5)


def test_the_card_states_the_metres_in_every_command(tmp_path, sonde):
    models.save(plain(input_size=(64, 96)), tmp_path / "run" / "best")
    said = sonde("export", tmp_path / "run", "--to", "glpdepth", "--json")
    assert said.code == 0, said.errors
    folder = tmp_path / "run-glpdepth"
    assert said.json == {"written": str(folder)}
    text = (folder / "README.md").read_text()
    commands = text.partition("```sh\n")[2].partition("```")[0].splitlines()
    assert [command.partition(" --max_depth ")[2].split()[0] for command in commands] == ["10", "10", "10"]
    assert all("run-glpdepth.ckpt" in command for command in commands) and str(tmp_path) not in text
    assert "images resized to 96x64 pixels" in text and "license: unknown" in text


def test_a_name_that_says_other_metres_is_not_given_to_the_file(tmp_path):
    folder = exporting.export(plain(), to="glpdepth", out=tmp_path / "kitti-like")
    assert [path.name for path in folder.glob("*.ckpt")] == ["model.ckpt"]
    folder = exporting.export(plain(), to="glpdepth", out=tmp_path / "nyu-like")
    assert models.find_max_depth(models.load_network(folder / "nyu-like.ckpt")) == 10


def test_an_adapter_is_merged_and_left_as_it_is(tmp_path):
    model = plain()
    torch.manual_seed(1)
    tuned = add_lora(model.network, {"r": 2})
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted = DepthModel(tuned, model.spec, "run").eval()
    folder = exporting.export(adapted, to="glpdepth", out=tmp_path / "mine")
    depth = adapted.predict(IMAGE).depth
    np.testing.assert_allclose(theirs(as_the_test_script_loads(folder / "mine.ckpt"), 10, 1e-5), depth, rtol=1e-4)
    assert np.abs(depth - plain().predict(IMAGE).depth).max() > 0.01, "the adapters changed nothing"


def test_a_checkpoint_becomes_a_hugging_face_folder(tmp_path):
    path = checkpoint(tmp_path / "epoch_08_model.ckpt")
    folder = exporting.export(path, max_depth=80)
    assert folder == tmp_path / "epoch_08_model-hf"
    assert models.load(folder).spec.base_max_depth is None
    assert np.array_equal(
        models.load(folder).predict(IMAGE).depth, models.load(path, max_depth=80).predict(IMAGE).depth
    )


def bench() -> Background:
    return Background(np.full((64, 96), 2.0, np.float32), IMAGE, "median")


LINEAR = ENCODINGS["linear"](1.0, 4.0).to_dict()


@pytest.mark.parametrize(
    "changes,parts,words",
    [
        ({"encoding": LINEAR}, {}, "answers an encoding of depth.*model.encoding=null"),
        ({"space": "disparity"}, {}, "answers relative depth.*--to hf"),
        ({"canonical_focal": 700.0}, {}, "canonical focal.*--to hf"),
        ({"encoding": LINEAR, "background": 2.0}, {"background": bench()}, "bench of a fixed camera.*--to hf"),
        ({"mean": models.IMAGENET[0], "std": models.IMAGENET[1]}, {}, r"standardised images.*RGB in \[0, 1\]"),
        ({}, {"calibration": Calibration("scale", "metric", 2.0)}, "calibrate MODEL --undo"),
        ({}, {"network": network(small_glpn())}, r"num_attention_heads are \[1, 1, 1, 2\], and GLPDepth's \[1, 2"),
        ({}, {"network": AutoModelForDepthEstimation.from_config(architectures.lite("lite0"))}, "efficientnet_lite"),
    ],
)
def test_what_the_file_cannot_hold_is_refused_in_a_sentence(changes, parts, words, tmp_path):
    model = plain(**changes)
    for name, value in parts.items():
        setattr(model, name, value)
    with pytest.raises(ValueError, match=f"--to glpdepth cannot hold this model: .*{words}") as caught:
        exporting.export(model, to="glpdepth", out=tmp_path / "mine")
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_a_file_that_is_read_back_otherwise_is_not_exported(tmp_path, monkeypatch):
    def twisted(state):
        found = original(state)
        return found | {"last_layer_depth.2.bias": found["last_layer_depth.2.bias"] + 1}

    original = architectures.to_glpdepth
    monkeypatch.setattr(architectures, "to_glpdepth", twisted)
    with pytest.raises(ValueError, match="gives another output"):
        exporting.export(plain(), to="glpdepth", out=tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
