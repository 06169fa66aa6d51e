"""The taps are what the decoder reads, gradients reach them, and a picture shows the components that were planted."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_captures import picture
from small_networks import small_depth_anything, small_glpn
from transformers import (
    AutoModelForDepthEstimation,
    DepthProConfig,
    DPTConfig,
    ZoeDepthConfig,
)

from sonde import features, files, models
from sonde.adapters import add_lora
from sonde.models import DepthModel, read_spec

NECK = {"neck_hidden_sizes": [8, 12, 16, 24], "fusion_hidden_size": 8}


def small_dpt() -> DPTConfig:
    vit = {"hidden_size": 24, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 48}
    return DPTConfig(**vit, backbone_out_indices=[0, 2, 3, 5], image_size=64, **NECK)


def small_dpt_of_dinov2() -> DPTConfig:
    return DPTConfig(backbone_config=small_depth_anything().backbone_config, **NECK)


def small_zoedepth() -> ZoeDepthConfig:
    backbone = {
        "model_type": "beit",
        "image_size": 64,
        "patch_size": 16,
        "hidden_size": 24,
        "num_attention_heads": 2,
        "num_hidden_layers": 4,
        "intermediate_size": 48,
        "out_indices": [1, 2, 3, 4],
        "reshape_hidden_states": False,
        "use_relative_position_bias": True,
    }
    return ZoeDepthConfig(backbone_config=backbone, bottleneck_features=8, bin_embedding_dim=8, **NECK)


CONFIGS = {
    "depth_anything": (small_depth_anything, (56, 84), [(24, 4, 6)] * 4, [1, 2, 3, 4]),
    "glpn": (small_glpn, (64, 96), [(8, 16, 24), (16, 8, 12), (24, 4, 6), (32, 2, 3)], [1, 2, 3, 4]),
    "dpt": (small_dpt, (64, 64), [(24, 4, 4)] * 4, [1, 3, 4, 6]),
    "dpt of dinov2": (small_dpt_of_dinov2, (56, 56), [(24, 4, 4)] * 4, [1, 2, 3, 4]),
    "zoedepth": (small_zoedepth, (64, 96), [(24, 4, 6)] * 4, [1, 2, 3, 4]),
}


def built(config, size: tuple[int, int] | None = None) -> DepthModel:
    """A network drawn from a seed, that sees images at `size`."""
    torch.manual_seed(0)
    network = AutoModelForDepthEstimation.from_config(config).eval()
    spec = models.ModelSpec("disparity", None, 1, *models.PLAIN, input_size=size) if size else read_spec(network)
    return DepthModel(network, spec, "small")


def pixels(size: tuple[int, int] = (56, 84), count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", CONFIGS)
def test_a_tap_is_a_map_of_its_layers_tokens(family):
    config, size, shapes, numbers = CONFIGS[family]
    model = built(config(), size)
    maps = features.read_taps(model, pixels(size, 2))
    assert [tuple(tap.shape) for tap in maps] == [(2, *shape) for shape in shapes]
    assert features.list_layers(model) == numbers


def test_depth_anythings_taps_are_the_normed_hidden_states_on_their_grid():
    """Witness: the encoder's own hidden states, normed and cut by hand; row 1, column 2 of the grid is patch 8."""
    model = built(small_depth_anything(), (56, 84))
    rgb = pixels()
    backbone = model.network.backbone
    states = backbone(model.prepare(rgb), output_hidden_states=True).hidden_states
    for tap, state in zip(features.read_taps(model, rgb), states[1:], strict=True):
        torch.testing.assert_close(tap[:, :, 1, 2], backbone.layernorm(state)[:, 1 + 8])


def test_glpns_taps_are_its_encoders_stages():
    model = built(small_glpn(), (64, 96))
    rgb = pixels((64, 96))
    stages = model.network.glpn(model.prepare(rgb), output_hidden_states=True).hidden_states
    assert all(torch.equal(tap, stage) for tap, stage in zip(features.read_taps(model, rgb), stages, strict=True))


def test_gradients_reach_the_encoder_and_the_decoder_is_not_run():
    model, ran = built(small_depth_anything(), (56, 84)), []
    model.network.neck.register_forward_hook(lambda *_: ran.append("neck"))
    features.read_taps(model, pixels())[-1].square().sum().backward()
    first = model.network.backbone.embeddings.patch_embeddings.projection.weight.grad
    assert first is not None and first.abs().sum() > 0
    assert not ran


def test_one_pass_gives_depth_and_the_same_taps():
    model = built(small_glpn(), (64, 96))
    rgb = pixels((64, 96))
    alone, plain = features.read_taps(model, rgb), model.forward_raw(model.network, rgb)
    with features.record_taps(model) as maps:
        assert torch.equal(model.forward_raw(model.network, rgb), plain)
    assert all(torch.equal(one, other) for one, other in zip(maps, alone, strict=True))
    model.forward_raw(model.network, pixels((64, 96)) * 0.5)
    assert torch.equal(maps[0], alone[0])  # nothing is recorded outside


@pytest.mark.parametrize(
    "config,size,head", [(small_depth_anything, (56, 84), "head"), (small_glpn, (64, 96), "decoder")]
)
def test_beneath_adapters_the_adapted_layers_are_tapped(config, size, head):
    model, rgb = built(config(), size), pixels(size)
    before = features.read_taps(model, rgb)
    model.network = add_lora(model.network, {"r": 2, "target_modules": ["query", "value"]}, (head,)).eval()
    for one, other in zip(before, features.read_taps(model, rgb), strict=True):
        torch.testing.assert_close(one, other)  # LoRA starts as the identity
    for name, parameter in model.network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(2))
    moved = features.read_taps(model, rgb)
    assert not torch.allclose(before[-1], moved[-1], atol=1e-3)
    assert features.list_layers(model) == [1, 2, 3, 4]


def test_an_architecture_that_is_not_tapped_is_refused_in_a_sentence():
    model = DepthModel(torch.nn.Identity(), models.ModelSpec("metric", None, 1536), "pro")
    model.network.config = DepthProConfig()
    for ask in (lambda: features.read_taps(model, pixels()), lambda: features.list_layers(model)):
        with pytest.raises(
            ValueError, match="sonde does not read the layers of depth_pro networks: expected a model of depth_anything"
        ):
            ask()


def planted(b: int, h: int, w: int, channels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps of three strong orthogonal directions of falling strength, a little noise and an offset; and both parts."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(size=(channels, 3)))[0]
    scores = rng.normal(size=(b * h * w, 3)) * [9, 4, 2]
    tokens = scores @ directions.T + 0.01 * rng.normal(size=(b * h * w, channels)) + 50
    return tokens.reshape(b, h, w, channels).transpose(0, 3, 1, 2), scores, directions


def test_the_planted_components_are_found():
    maps, scores, directions = planted(2, 12, 17, 20)
    found = features.find_components(torch.from_numpy(maps).float())
    signs = np.sign(directions[np.abs(directions).argmax(0), range(3)])
    expected = (scores - scores.mean(0)) * signs
    for index in range(3):
        own = found.scores[..., index].numpy().ravel()
        assert np.corrcoef(own, expected[:, index])[0, 1] > 0.95  # of the sign agreed on, too
    assert found.share > 0.999


def test_the_components_are_those_of_a_singular_value_decomposition():
    maps = np.random.default_rng(3).normal(size=(2, 6, 5, 7)) * np.array([9, 5, 3, 1, 1, 1])[None, :, None, None]
    tokens = maps.transpose(0, 2, 3, 1).reshape(-1, 6)
    centred = tokens - tokens.mean(0)
    _, values, rows = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(rows[range(3), np.abs(rows[:3]).argmax(1)])
    found = features.find_components(torch.from_numpy(maps))
    np.testing.assert_allclose(found.scores.numpy().reshape(-1, 3), centred @ rows[:3].T * signs, atol=1e-9)
    assert found.share == pytest.approx((values[:3] ** 2).sum() / (values**2).sum())


def test_a_picture_fills_the_range_but_for_its_extreme_tokens():
    maps = torch.from_numpy(planted(1, 30, 40, 16)[0]).float()
    maps[0, :, 0, 0] += 1000  # the few huge tokens that vision transformers have
    colours = features.pca(maps)
    assert colours.shape == (1, 30, 40, 3)
    assert colours.min() == 0 and colours.max() == 1
    assert (colours[..., 1:].std((0, 1, 2)) > 0.1).all()
    assert 0.01 < (colours == 0).float().mean() < 0.03


def test_the_same_maps_give_the_same_picture_in_whatever_basis_and_however_scaled():
    maps = torch.from_numpy(planted(2, 8, 9, 12)[0])
    again = features.pca(maps)
    assert torch.equal(again, features.pca(maps))
    torch.testing.assert_close(features.pca(3 * maps - 5), again)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(features.pca(maps[:, order]), again)


def test_maps_that_do_not_vary_or_have_few_channels_have_colours_all_the_same():
    assert torch.equal(features.pca(torch.full((1, 5, 4, 6), 7.0)), torch.full((1, 4, 6, 3), 0.5))
    ramp = torch.linspace(0, 1, 24).view(1, 1, 4, 6)
    colours = features.pca(ramp)
    assert colours[0, 0, 0, 0] == 0 and colours[0, 3, 5, 0] == 1
    assert torch.equal(colours[..., 1:], torch.full((1, 4, 6, 2), 0.5))
    assert features.find_components(ramp).share == pytest.approx(1)


def test_a_layers_picture_has_one_tile_for_each_token_at_the_images_size(tmp_path):
    model = built(small_glpn(), (64, 96)).eval()
    Image.fromarray(picture(4, 128, 192)).save(tmp_path / "photo.jpg")
    written = features.features(tmp_path / "photo.jpg", model, tmp_path / "out")
    names = [f"photo.layer-{number}.png" for number in (1, 2, 3, 4)]
    assert [path.name for path in written] == [*names, "photo.features.png"]
    deepest = files.read_rgb(written[3])
    assert deepest.shape == (128, 192, 3)
    tiles = deepest.reshape(2, 64, 3, 64, 3)
    assert (tiles == tiles[:, :1, :, :1]).all()
    assert not model.training
    height, width, _ = files.read_rgb(written[-1]).shape
    assert width > 3 * 192 and height > 2 * 128


@pytest.mark.parametrize("size", [(40, 700), (700, 40)])
def test_a_sheet_of_a_narrow_image_keeps_its_aspect(size):
    height, width = size
    panels = [features.FeaturePicture(f"Layer {index}", "caption", picture(index, *size)) for index in range(5)]
    sheet = features.draw_sheet(panels, width=280)
    shown = files.resize_image(panels[0].picture, (height * 2 // 5, width * 2 // 5))
    assert np.array_equal(sheet[16 : 16 + height * 2 // 5, 16 : 16 + width * 2 // 5], shown)


def test_the_command_writes_pictures_and_says_where(sonde, tmp_path):
    Image.fromarray(picture(0, 96, 128)).save(tmp_path / "photo.png")
    said = sonde("features", tmp_path / "photo.png", "-o", tmp_path / "seen", "--json")
    assert said.code == 0, said.errors
    assert len(said.json["written"]) == 5
    assert sorted(said.json["written"]) == sorted(str(path) for path in (tmp_path / "seen").iterdir())


@pytest.mark.parametrize(
    "words,sentence", [(["absent.png"], "absent.png does not exist"), (["broken.png"], "cannot be")]
)
def test_a_bad_image_is_one_sentence(sonde, tmp_path, words, sentence):
    (tmp_path / "broken.png").write_bytes(b"no image")
    said = sonde("features", *(tmp_path / word for word in words), "-o", tmp_path / "out")
    assert said.code == 2 and sentence in said.errors
    assert said.errors.count("\n") == 1 and "Traceback" not in said.errors
    assert not (tmp_path / "out").exists()
