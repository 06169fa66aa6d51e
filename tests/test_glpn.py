"""GLPN by size, by hub id and by its authors' checkpoints; metres of any fraction; images of any size."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from small_captures import write_bench
from small_networks import small_depth_anything, small_glpn
from transformers import (
    AutoModelForDepthEstimation,
    GLPNConfig,
    GLPNForDepthEstimation,
    SegformerConfig,
    SegformerForImageClassification,
    pipeline,
)

from sonde import architectures, exporting, labelling, models, recipes, training
from sonde.architectures import MiT
from sonde.models import DepthModel, ModelSpec
from sonde.tensors import Batch
from sonde.trainer import Objective

SMALL = MiT((8, 16, 40, 64), (1, 2, 1, 1))


def network(config: GLPNConfig | None = None) -> GLPNForDepthEstimation:
    """Of weights and batch statistics that show when they are mixed up."""
    torch.manual_seed(0)
    drawn = GLPNForDepthEstimation(config or architectures.glpn(SMALL, max_depth=10, decoder_width=8))
    with torch.no_grad():
        for value in drawn.state_dict().values():
            if value.is_floating_point():
                value.copy_(0.2 * torch.rand_like(value) + 0.1 * torch.randn_like(value).abs())
    return drawn.eval()


def answer(drawn: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return drawn.eval()(pixel_values=pixels).predicted_depth


@pytest.mark.parametrize("size,encoder,whole", [
    ("b0", 3.3, 3_664_839), ("b1", 13.2, 13_529_639), ("b2", 24.2, 24_574_503), ("b3", 44.1, 44_450_343),
    ("b4", 60.8, 61_220_903), ("b5", 81.4, 81_821_223),
])  # fmt: skip
def test_the_sizes_have_segformers_parameters(size, encoder, whole):
    """SegFormer's paper gives its encoders 3.4 (b0), 13.1, 24.2, 44.0, 60.8 and 81.4 M; GLPN's with b4 has 61 M."""
    with torch.device("meta"):
        drawn = AutoModelForDepthEstimation.from_config(architectures.glpn(size, max_depth=80))
    counts = [sum(value.numel() for value in part.parameters()) for part in (drawn.glpn, drawn)]
    assert (round(counts[0] / 1e6, 1), counts[1]) == (encoder, whole)


def test_a_drawn_glpn_answers_metres_and_learns():
    model = models.build("b0", max_depth=80)
    depth = model.predict(np.random.default_rng(0).integers(0, 255, (40, 70, 3), dtype=np.uint8)).depth
    assert model.space == "metric" and 0 < depth.min() < depth.max() < 80 and depth.std() > 0.01
    model.forward_raw(model.network.train(), torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for name, p in model.network.named_parameters() if "proj" in name)


@pytest.mark.parametrize("family", ["b0", pytest.param("small", marks=pytest.mark.slow)])
@pytest.mark.parametrize("metres", [0.8, 10.5, 20.0])
def test_a_range_may_end_anywhere_and_survives_the_disk(family, metres, tmp_path):
    torch.manual_seed(1)
    model = models.build(family, max_depth=metres)
    last = model.network.get_submodule(model.family.last)
    torch.nn.init.constant_(last.bias, 20.0)  # the sigmoid's end: its last convolution is what the seed drew
    torch.nn.init.zeros_(last.weight)
    image = np.random.default_rng(0).integers(0, 255, (56, 70, 3), dtype=np.uint8)
    depth = model.predict(image).depth
    np.testing.assert_allclose(depth, metres, rtol=1e-6)
    models.save(model, tmp_path / "model")
    assert np.array_equal(models.load(tmp_path / "model").predict(image).depth, depth)
    raw = model.forward_raw(model.network, torch.rand(1, 3, 56, 70))
    assert raw.max().item() == pytest.approx(metres)  # what a loss sees is metres too


def test_a_config_of_transformers_refuses_the_fraction_that_sonde_keeps():
    with pytest.raises(Exception, match="expected int, got float"):
        GLPNConfig(max_depth=10.5)  # pyright: ignore[reportArgumentType]
    assert [architectures.split_max_depth(metres) for metres in (80, 80.0, 10.5, 0.8)] == [
        (80, 1),
        (80, 1),
        (1, 10.5),
        (1, 0.8),
    ]
    for wrong in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="metres above zero"):
            architectures.split_max_depth(wrong)


@pytest.mark.parametrize("metres", [10.5, 20])
def test_the_cards_line_gives_metres_without_sonde(metres, tmp_path):
    model = models.build("b0", max_depth=metres)
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    folder = exporting.export(model, out=tmp_path / "out")
    text = (folder / "README.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("depth_m"))
    from PIL import Image

    names = {"pipe": pipeline("depth-estimation", model=str(folder)), "image": Image.fromarray(image)}
    exec(line, names)
    np.testing.assert_allclose(names["depth_m"].numpy(), model.predict(image).depth, rtol=1e-4)  # pyright: ignore
    assert "multiples of 32" in text


def segformer(folder: Path, shape: MiT = SMALL) -> Path:
    torch.manual_seed(2)
    config = SegformerConfig(hidden_sizes=shape.widths, depths=shape.depths, num_attention_heads=(1, 2, 5, 8))
    SegformerForImageClassification(config).save_pretrained(folder)
    return folder


def test_the_encoder_starts_from_segformers(tmp_path):
    folder = segformer(tmp_path / "mit")
    drawn = network()
    architectures.load_mit(drawn.glpn, str(folder))
    source = SegformerForImageClassification.from_pretrained(folder).eval()
    pixels = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        wanted = source.segformer(pixels, output_hidden_states=True).hidden_states
        found = drawn.glpn(pixels, output_hidden_states=True).hidden_states
    for own, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(own, theirs.reshape(own.shape) if theirs.ndim == 4 else theirs)


def test_an_encoder_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"widths \(8, 16, 40, 64\).*nvidia/mit-b0 to -b5"):
        models.build("b0", max_depth=10, encoder=str(segformer(tmp_path / "mit")))
    network().save_pretrained(tmp_path / "glpn")
    with pytest.raises(ValueError, match="is a glpn network: expected a SegFormer"):
        models.build("b0", max_depth=10, encoder=str(tmp_path / "glpn"))
    with pytest.raises(ValueError, match="could not be loaded"):
        models.build("b0", max_depth=10, encoder=str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "words,message",
    [
        (["model.size=b0", "model.init=random", "model.encoding=null"], "needs model.max_depth"),
        (["model.size=b0", "model.max_depth=10", "model.encoding=null"], "no single release"),
        (["model.size=b0", "model.init=random", "model.max_depth=10"], "both say where depth ends"),
        (["model.size=b6"], "model.size"),
        (["model.size=b0", "model.max_depth=-1"], "model.max_depth"),
        (["model.max_depth=10.5"], "max_depth=10.5: sonde-tiny is relative"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_sentence(words, message, tmp_path):
    root = write_bench(tmp_path / "set", 5)
    with pytest.raises(ValueError, match=message) as caught:
        training.prepare(recipes.load({"data": {"root": str(root), "cache": None}}, words))
    assert "\n" not in str(caught.value)


def test_a_metric_network_given_an_encoding_answers_its_unit_interval(tmp_path):
    """glpn-nyu ends at 10: as an encoding's [0, 1], nine tenths of its sigmoid would be clipped."""
    root = write_bench(tmp_path / "set", 5)
    network().save_pretrained(tmp_path / "base")
    words = [f"model.name={tmp_path / 'base'}", f"data.root={root}", "data.cache=null", "model.input_size=[32,64]"]
    plan = training.prepare(recipes.load({"lora": {"r": 2}}, words))
    assert plan.model.forward_raw(plan.model.network.eval(), torch.rand(1, 3, 32, 64)).max() <= 1
    models.save(plan.model, tmp_path / "run" / "best")  # an adapter, whose base is at 10 again when it loads
    again, image = models.load(tmp_path / "run"), np.zeros((24, 32, 3), np.uint8)
    np.testing.assert_array_equal(again.predict(image).depth, plan.model.predict(image).depth)


# Published folders


def published(folder: Path, **changes) -> Path:
    network().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "place,changes,metres",
    [
        ("vinvino02/glpn-kitti", {}, 80),
        ("mine", {"_name_or_path": "vinvino02/glpn-kitti"}, 80),
        ("vinvino02/glpn-nyu", {}, 10),
        ("mine", {}, 10),
        ("glpn-kitti", {"max_depth": 120}, 120),
    ],
)
def test_a_published_glpn_ends_where_it_was_trained_to(place, changes, metres, tmp_path, caplog):
    folder = published(tmp_path / place, **changes)
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    plain = answer(
        AutoModelForDepthEstimation.from_pretrained(folder),
        torch.from_numpy(image / 255).permute(2, 0, 1)[None].float(),
    )
    stated = changes.get("max_depth", 10)
    with caplog.at_level(logging.INFO, "sonde"):
        depth = models.load(folder).predict(image).depth
    np.testing.assert_allclose(depth, plain[0].numpy() * metres / stated, rtol=1e-5)
    assert len(caplog.records) == (metres != stated)
    assert metres == stated or "80 m" in caplog.text


def test_what_sonde_saved_under_a_published_name_is_left_as_it_is(tmp_path):
    model = DepthModel(network(), ModelSpec("metric", None, 32, *models.PLAIN), "mine")
    models.save(model, tmp_path / "glpn-kitti")
    assert models.load_network(tmp_path / "glpn-kitti").network.config.max_depth == 10


# The authors' own checkpoints


def official_of(drawn: GLPNForDepthEstimation) -> dict[str, torch.Tensor]:
    """A network's weights under GLPDepth's own names, written from its code, not from ours."""
    state, official = dict(drawn.state_dict()), {}

    def move(old: str, new: str) -> None:
        for key in [key for key in state if key.startswith(f"{new}.")]:
            official[old + key.removeprefix(new)] = state.pop(key)

    for stage, depth in enumerate(drawn.config.depths):
        own, theirs = f"glpn.encoder.patch_embeddings.{stage}", f"encoder.patch_embed{stage + 1}"
        move(f"{theirs}.proj", f"{own}.proj")
        move(f"{theirs}.norm", f"{own}.layer_norm")
        move(f"encoder.norm{stage + 1}", f"glpn.encoder.layer_norm.{stage}")
        for layer in range(depth):
            own, theirs = f"glpn.encoder.block.{stage}.{layer}", f"encoder.block{stage + 1}.{layer}"
            for leaf in ("weight", "bias"):
                parts = [state.pop(f"{own}.attention.self.{name}.{leaf}") for name in ("key", "value")]
                official[f"{theirs}.attn.kv.{leaf}"] = torch.cat(parts)
            move(f"{theirs}.attn.q", f"{own}.attention.self.query")
            move(f"{theirs}.attn.proj", f"{own}.attention.output.dense")
            move(f"{theirs}.attn.sr", f"{own}.attention.self.sr")
            move(f"{theirs}.attn.norm", f"{own}.attention.self.layer_norm")
            move(f"{theirs}.norm1", f"{own}.layer_norm_1")
            move(f"{theirs}.norm2", f"{own}.layer_norm_2")
            move(f"{theirs}.mlp.fc1", f"{own}.mlp.dense1")
            move(f"{theirs}.mlp.dwconv.dwconv", f"{own}.mlp.dwconv.dwconv")
            move(f"{theirs}.mlp.fc2", f"{own}.mlp.dense2")
    for stage, name in enumerate(("bot_conv", "skip_conv1", "skip_conv2")):
        move(f"decoder.{name}", f"decoder.stages.{stage}.convolution")
    for stage in (1, 2, 3):
        for layer in (1, 2, 3):
            move(f"decoder.fusion{stage}.conv{layer}", f"decoder.stages.{stage}.fusion.convolutional_layer{layer}")
    move("last_layer_depth", "head.head")
    assert not state
    return official


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name,metres", [("best_model_kitti.ckpt", 80), ("NYU.ckpt", 10)])
def test_an_authors_checkpoint_gives_the_same_network(prefix, name, metres, tmp_path):
    drawn = network()
    torch.save({prefix + key: value for key, value in official_of(drawn).items()}, tmp_path / name)
    model = models.load_network(tmp_path / name)
    assert (model.space, model.network.config.max_depth) == ("metric", metres)
    for key, value in drawn.state_dict().items():
        assert torch.equal(model.network.state_dict()[key], value), key
    drawn.config.max_depth = metres
    pixels = torch.rand(1, 3, 64, 96)
    assert torch.equal(model(pixels).depth, answer(drawn, pixels))


def test_an_authors_checkpoint_lends_its_architecture_to_weights_drawn_anew(tmp_path):
    torch.save(official_of(network()), tmp_path / "best_model_kitti.ckpt")
    given, drawn = (
        models.load_network(tmp_path / "best_model_kitti.ckpt", init=init) for init in ("pretrained", "random")
    )
    assert drawn.spec == given.spec and drawn.network.config.max_depth == 80
    same = drawn.network.state_dict()
    assert same.keys() == given.network.state_dict().keys()
    convolutions = {key: value for key, value in given.network.state_dict().items() if value.ndim == 4}
    assert not any(torch.equal(value, same[key]) for key, value in convolutions.items())


def test_a_wrong_checkpoint_is_one_sentence(tmp_path):
    state = official_of(network())
    broken = {
        "of-unknown-range.ckpt": (state, "--max_depth 80"),
        "kitti-nested.ckpt": ({"weights": state}, "no state_dict"),
        "kitti-list.ckpt": ([1, 2], "no state_dict"),
        "kitti-other.ckpt": ({"weight": torch.zeros(3)}, "bot_conv"),
        "kitti-cut.ckpt": ({key: value for key, value in state.items() if "fusion2" not in key}, "is incomplete"),
        "kitti-more.ckpt": (state | {"extra": torch.zeros(3)}, "foreign extra"),
        "kitti-half.ckpt": ({key: value for key, value in state.items() if "embed3" not in key}, "bot_conv"),
    }
    for name, (content, words) in broken.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(ValueError, match=words) as caught:
            models.load(tmp_path / name)
        assert "\n" not in str(caught.value), name
    (tmp_path / "kitti-text.ckpt").write_text("no weights")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        models.load(tmp_path / "kitti-text.ckpt")
    with pytest.raises(ValueError, match="GLPDepth"):
        models.load(tmp_path / "nothing.ckpt")


# Any size


def keeping(drawn: torch.nn.Module | None = None) -> DepthModel:
    return DepthModel(drawn or network(), ModelSpec("metric", None, 32, *models.PLAIN), "glpn").eval()


@pytest.mark.parametrize("height,width", [(97, 131), (352, 1216), (1, 1), (32, 33), (375, 70)])
def test_an_answer_has_the_images_size_and_is_the_networks_own(height, width):
    model, rgb = keeping(), torch.rand(2, 3, height, width)
    with torch.inference_mode():
        depth = model(rgb).depth
    assert depth.shape == (2, height, width)
    rows, columns = -(-height // 32) * 32, -(-width // 32) * 32
    padded = np.pad(rgb.numpy(), ((0, 0), (0, 0), (0, rows - height), (0, columns - width)), mode="edge")
    assert torch.equal(depth, answer(model.network, torch.from_numpy(padded))[:, :height, :width])
    if (rows, columns) == (height, width):
        assert torch.equal(depth, answer(model.network, rgb))


def test_training_sees_the_image_without_its_padding():
    model = keeping()
    depth = torch.rand(2, 45, 70) + 1
    sample: Batch = {
        "image": torch.rand(2, 3, 45, 70),
        "depth": depth,
        "mask": torch.ones_like(depth, dtype=torch.bool),
    }
    pred, _ = Objective(model, {"silog": 1.0})(model.network, sample)
    assert torch.equal(pred, model(sample["image"]).depth)


def test_labels_of_padded_images_are_their_predictions(tmp_path):
    from PIL import Image

    from sonde import files

    (tmp_path / "photos").mkdir()
    for name, (height, width) in {"a": (45, 70), "b": (60, 65), "c": (64, 96)}.items():
        pixels = np.random.default_rng(3).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{name}.png")
    model = keeping()
    for size in ("image", "network"):  # all three are seen at 64 x 96, in one batch
        labelling.label(model, tmp_path / "photos", tmp_path / size, batch_size=3, size=size)
        for name in "abc":
            depth = files.read_depth(tmp_path / size / "labels" / f"{name}.png")
            wanted = model.predict(tmp_path / "photos" / f"{name}.png").depth
            np.testing.assert_allclose(depth, wanted, atol=2e-4)


def test_the_short_side_and_a_fixed_size_are_resized_as_before():
    drawn = AutoModelForDepthEstimation.from_config(small_depth_anything())
    model = DepthModel(drawn, models.read_spec(drawn), "dav2")
    assert model.prepare(torch.rand(1, 3, 97, 131)).shape == (1, 3, 518, 700)
    fixed = DepthModel(network(small_glpn()), ModelSpec("metric", None, 32, input_size=(64, 96)), "fixed")
    assert fixed.forward_raw(fixed.network, torch.rand(1, 3, 97, 131)).shape == (1, 64, 96)
