"""Several networks as one: the mean of their answers, in 8 bits, in a graph, and where only one network will do."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_captures import write_bench
from small_recipes import FEW

from sonde import exporting, models, recipes, training
from sonde.models import DepthModel
from sonde.models.eight_bits import SCALE, unpack


def make_relative(size: str, seed: int) -> DepthModel:
    """A small relative network whose normalisations have statistics of their own."""
    torch.manual_seed(seed)
    model = models.build(size)
    model.name = f"{size}-{seed}"
    return model.eval()


@pytest.fixture(scope="module")
def pair() -> list[DepthModel]:
    return [make_relative("lite0", 1), models.load_network("sonde-tiny")]


PIXELS = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))


def standardise(answer: torch.Tensor) -> torch.Tensor:
    centre = answer.mean((1, 2), keepdim=True)
    return (answer - centre) / answer.std((1, 2), keepdim=True, unbiased=False)


def answer_of(model: DepthModel, pixels: torch.Tensor = PIXELS) -> torch.Tensor:
    with torch.no_grad():
        return model.network(pixel_values=pixels).predicted_depth


# The mean


def test_the_answer_is_the_mean_of_standardised_answers_with_the_first_ones_mean_and_deviation(pair):
    joined, (first, second) = answer_of(models.join(pair)), (answer_of(model) for model in pair)
    mean = (standardise(first) + standardise(second)) / 2
    expected = mean * first.std((1, 2), keepdim=True, unbiased=False) + first.mean((1, 2), keepdim=True)
    torch.testing.assert_close(joined, expected.clamp(min=0), rtol=1e-4, atol=1e-5)
    assert float((joined - first).abs().max()) > 1e-3


def test_a_network_joined_with_itself_is_itself(pair):
    torch.testing.assert_close(answer_of(models.join([pair[0]] * 2)), answer_of(pair[0]), rtol=1e-4, atol=1e-5)


def test_the_scale_of_another_member_does_not_count(pair):
    first, second = pair[0], make_relative("lite0", 2)
    before = answer_of(models.join([first, second]))
    with torch.no_grad():
        second.network.head.conv3.weight.mul_(7)
        second.network.head.conv3.bias.mul_(7)
    torch.testing.assert_close(answer_of(models.join([first, second])), before, rtol=1e-3, atol=1e-4)


def test_a_flat_answer_counts_for_nothing(pair):
    flat = make_relative("lite0", 2)
    with torch.no_grad():
        flat.network.head.conv3.weight.zero_()
    joined, alone = answer_of(models.join([pair[0], flat])), answer_of(pair[0])
    assert joined.isfinite().all()
    torch.testing.assert_close(standardise(joined), standardise(alone), rtol=1e-2, atol=1e-2)


def test_the_members_are_copies(pair):
    first = make_relative("lite0", 1)
    joined = models.join([first, pair[1]])
    before = answer_of(joined)
    with torch.no_grad():
        first.network.head.conv3.weight.zero_()
    assert torch.equal(answer_of(joined), before)


@pytest.mark.parametrize(
    "other, told",
    [
        (models.build("b0", max_depth=10), "is not a plain relative model"),
        (make_relative("small", 1), "sees images otherwise than lite0-1"),
    ],
)
def test_models_that_do_not_fit_are_refused_by_name(pair, other, told):
    other.spec = models.ModelSpec(**{**vars(other.spec), "mean": (0.5, 0.5, 0.5)}) if "sees" in told else other.spec
    with pytest.raises(ValueError, match=told) as caught:
        models.join([pair[0], other])
    assert other.name in str(caught.value)


# Files


@pytest.fixture(scope="module")
def folder(pair, tmp_path_factory):
    place = tmp_path_factory.mktemp("ensemble") / "model"
    models.save(models.join(pair), place)
    return place


def test_a_saved_ensemble_answers_the_same(pair, folder):
    loaded = models.load_network(folder)
    assert torch.equal(answer_of(loaded), answer_of(models.join(pair)))
    assert loaded.parameter_count == sum(model.parameter_count for model in pair)


@pytest.fixture(scope="module")
def small(folder, tmp_path_factory):
    """The ensemble in 8 bits."""
    place = tmp_path_factory.mktemp("eight") / "model"
    place.mkdir()
    for path in folder.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    models.compress_weights(place / "model.safetensors")
    return place


def test_eight_bits_take_a_quarter_and_answer_almost_the_same(folder, small):
    sizes = [(place / "model.safetensors").stat().st_size for place in (small, folder)]
    assert sizes[0] < 0.3 * sizes[1]
    exact, rounded = (answer_of(models.load_network(place)) for place in (folder, small))
    share = 1 - (standardise(exact) - standardise(rounded)).square().mean()
    assert 0.98 < float(share) < 1


@pytest.mark.slow
def test_the_graph_of_eight_bits_holds_no_weights_of_its_own_and_answers_as_torch(small, tmp_path):
    small = shutil.copytree(small, tmp_path / "model")
    exporting.write_graph(small)
    graph, network = models.load(small, runtime="onnx"), models.load_network(small)
    assert (small / "model.onnx").stat().st_size < 600_000
    image = (PIXELS[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    np.testing.assert_allclose(graph.predict(image).depth, network.predict(image).depth, rtol=1e-3, atol=1e-4)


def test_rounding_is_within_half_a_step_of_each_channel(folder, small):
    exact, stored = load_file(folder / "model.safetensors"), load_file(small / "model.safetensors")
    read = unpack(stored)
    names = [name for name, tensor in stored.items() if tensor.dtype == torch.int8]
    assert len(names) > 50
    for name in names:
        assert bool(((read[name] - exact[name]).abs() <= 0.51 * stored[f"{name}{SCALE}"]).all()), name


def test_packing_twice_changes_nothing(small, tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes((small / weights.name).read_bytes())
    before = load_file(weights)
    models.compress_weights(weights)
    torch.testing.assert_close(load_file(weights), before, rtol=1e-6, atol=0)
    assert [path.name for path in tmp_path.iterdir()] == [weights.name]


def test_numbers_too_large_for_half_precision_and_scales_of_a_networks_own_stay(tmp_path):
    weights = tmp_path / "model.safetensors"
    own = {"norm.weight": torch.tensor([1e6]), "layer.scale": torch.tensor([0.5]), "layer.weight": torch.rand(40, 40)}
    save_file(own, weights)
    models.compress_weights(weights)
    read = unpack(load_file(weights))
    assert read.keys() == own.keys() and read["norm.weight"] == 1e6 and read["layer.scale"] == 0.5


def test_eight_bits_without_their_scales_are_refused(small, tmp_path):
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((small / name).read_bytes())
    stored = load_file(small / "model.safetensors")
    save_file({key: value for key, value in stored.items() if not key.endswith(SCALE)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="has 8 bits and no scale for each channel"):
        models.load_network(tmp_path)


@pytest.mark.parametrize(
    "members, told",
    [
        (None, "expected a list of 2 to 8 configs"),
        ([{"model_type": "glpn"}], "expected a list of 2 to 8 configs"),
        ([{"model_type": "depth_ensemble"}] * 2, "is no config of a single network"),
        ([{"model_type": "no such kind"}] * 2, "no such kind"),
        (["glpn", "glpn"], "is no config of a single network"),
    ],
)
def test_members_that_are_no_networks_are_refused(small, tmp_path, members, told):
    config = json.loads((small / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"members": members}))
    (tmp_path / "model.safetensors").write_bytes((small / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=told):
        models.load_network(tmp_path)


# Where one network is needed


def test_training_an_ensemble_is_refused_before_work(folder, tmp_path):
    root = write_bench(tmp_path / "bench", 6)
    overrides = [f"model.name={folder}", f"data.root={root}", f"output_dir={tmp_path / 'run'}"]
    with pytest.raises(ValueError, match="is an ensemble, whose networks are trained one at a time"):
        training.train(recipes.load(FEW, overrides))


def test_random_weights_of_an_ensemble_are_refused(folder):
    with pytest.raises(ValueError, match="An ensemble has no random weights"):
        models.load_network(folder, init="random")
