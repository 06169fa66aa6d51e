"""What the recipe adds to a step: CutMix, feature alignment, two learning rates, an average of the weights, crops."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_captures import write_bench
from small_networks import DEPTH_ANYTHING, saved, small_depth_anything
from small_recipes import FEW
from transformers import (
    AutoModelForDepthEstimation,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
)

from sonde import architectures, augment, features, losses, models, training
from sonde.datasets import DecodedSet, DepthDataset, collate, open_set
from sonde.models import DepthModel
from sonde.recipes import AlignRecipe, AugmentRecipe
from sonde.tensors import Batch
from sonde.trainer import DepthTrainer, Objective, normalise_disparity
from sonde.trainer.objective import find_cut, mix

SHAPE: dict[str, Any] = {
    "image_size": 56,
    "patch_size": 14,
    "hidden_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 4,
}


@pytest.fixture(scope="module", params=["depth_anything", "glpn"])
def base(request, tmp_path_factory) -> Path:
    return saved(request.param, tmp_path_factory.mktemp("base") / request.param)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_bench(tmp_path_factory.mktemp("captures") / "set", 8)


def batch(count: int = 3, height: int = 56, width: int = 84, cut: torch.Tensor | None = None) -> Batch:
    draw = torch.Generator().manual_seed(1)
    depth = 1 + torch.rand(count, height, width, generator=draw)
    image = torch.rand(count, 3, height, width, generator=draw)
    sample: Batch = {"image": image, "depth": depth, "mask": torch.ones_like(depth, dtype=torch.bool)}
    return sample if cut is None else {**sample, "cut": cut}


def relative(name: str = "small", **changes) -> DepthModel:
    torch.manual_seed(0)
    network = AutoModelForDepthEstimation.from_config(small_depth_anything(**changes))
    models.reinit_head(network)
    return DepthModel(network, replace(models.read_spec(network), input_size=(56, 84)), name)


def test_a_cut_rectangle_lies_inside_and_its_area_is_uniform():
    recipe = AugmentRecipe(cutmix=1.0)
    cuts = np.stack([augment.draw_cut(recipe, (0, 0, index)) for index in range(4000)])
    top, left, bottom, right = cuts.T
    assert (cuts >= 0).all() and (cuts <= 1).all() and (top < bottom).all() and (left < right).all()
    areas = (bottom - top) * (right - left)
    assert np.abs(np.quantile(areas, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.03
    assert np.array_equal(augment.draw_cut(recipe, (0, 0, 7)), cuts[7])


def test_a_share_of_the_images_is_mixed():
    mixed_images = [augment.draw_cut(AugmentRecipe(cutmix=0.3), (0, 0, index)).any() for index in range(2000)]
    assert np.mean(mixed_images) == pytest.approx(0.3, abs=0.03)


def test_a_mixed_image_shows_the_next_one_inside_its_rectangle():
    sample = batch(3, 10, 20)
    cut = torch.tensor([[0.2, 0.5, 0.6, 1.0], [0, 0, 0, 0], [0, 0, 1, 1]])
    inside, area = find_cut(cut, sample["image"])
    image = mix(sample["image"], inside)
    assert torch.equal(image[0, :, 2:6, 10:], sample["image"][1, :, 2:6, 10:])
    assert torch.equal(image[0, :, :, :10], sample["image"][0, :, :, :10])
    assert torch.equal(image[1], sample["image"][1])
    assert torch.equal(image[2], sample["image"][0])
    assert area.tolist() == pytest.approx([0.2, 0.0, 1.0])


def test_each_part_of_a_mixed_image_is_judged_by_its_own_depth():
    model = relative()
    objective = Objective(model, {"ssi": 1.0})
    cut = torch.tensor([[0.0, 0.0, 1.0, 0.5], [0, 0, 0, 0]])
    sample = batch(2, cut=cut)
    model.network.train()
    pred, terms = objective(model.network, sample)
    inside = torch.zeros(2, 56, 84, dtype=torch.bool)
    inside[0, :, :42] = True
    target = normalise_disparity(sample["depth"], sample["mask"], 0.0)
    own = losses.ssi(pred, target, ~inside)
    other = losses.ssi(pred, target.roll(-1, 0), inside)
    expected = torch.stack([0.5 * own[0] + 0.5 * other[0], own[1]])
    torch.testing.assert_close(terms["ssi"], expected)
    model.network.eval()
    _, whole = objective(model.network, sample)  # validation mixes nothing
    torch.testing.assert_close(
        whole["ssi"], losses.ssi(model.forward_raw(model.network, sample["image"]), target, sample["mask"])
    )


def test_alignment_with_an_encoder_is_zero_at_the_start_and_pulls_back_what_drifts():
    model = relative()
    objective = Objective(model, {"ssi": 1.0}, AlignRecipe(weight=2.0, tolerance=1.0))
    assert objective.frozen is not None
    model.network.train()
    _, terms = objective(model.network, batch())
    assert terms["feature_alignment"].abs().max() < 1e-5
    with torch.no_grad():
        for value in model.network.backbone.parameters():
            value.add_(0.3 * torch.randn_like(value))
    _, drifted = objective(model.network, batch())
    expected = [
        maps.flatten(2).transpose(1, 2)
        for maps in (
            features.read_taps(model, batch()["image"])[-1],
            features.read_taps(objective.frozen, batch()["image"])[-1],
        )
    ]
    torch.testing.assert_close(drifted["feature_alignment"], 2 * losses.feature_alignment(*expected, tolerance=1.0))
    assert drifted["feature_alignment"].min() > 0.01
    drifted["feature_alignment"].sum().backward()
    assert all(value.grad is None for value in objective.frozen.network.parameters())
    assert any(value.grad is not None and value.grad.any() for value in model.network.backbone.parameters())


def test_an_encoder_of_another_width_cannot_be_aligned_with(tmp_path):
    with pytest.raises(ValueError, match="go with small, base, large and giant"):
        Objective(relative(), {"ssi": 1.0}, AlignRecipe(encoder=str(_dinov2(tmp_path, hidden_size=32))))


def _dinov2(folder: Path, **changes) -> Path:
    torch.manual_seed(3)
    Dinov2Model(Dinov2Config(**(SHAPE | changes))).save_pretrained(folder / "dinov2")
    return folder / "dinov2"


def test_the_encoder_starts_from_dinov2(tmp_path):
    folder = _dinov2(tmp_path)
    network = AutoModelForDepthEstimation.from_config(DEPTH_ANYTHING)
    architectures.load_encoder(network.backbone, str(folder))
    dinov2 = Dinov2Model.from_pretrained(folder).eval()
    pixels = torch.rand(1, 3, 56, 56)
    torch.testing.assert_close(network.backbone.eval()(pixels).feature_maps[-1], dinov2(pixels).last_hidden_state)


@pytest.mark.parametrize("changes", [{"hidden_size": 32}, {"num_hidden_layers": 2}])
def test_an_encoder_of_another_size_is_refused(tmp_path, changes):
    network = AutoModelForDepthEstimation.from_config(DEPTH_ANYTHING)
    with pytest.raises(ValueError, match="go with small, base, large and giant"):
        architectures.load_encoder(network.backbone, str(_dinov2(tmp_path, **changes)))


def test_an_encoder_with_registers_is_refused(tmp_path):
    Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SHAPE)).save_pretrained(tmp_path / "reg")
    network = AutoModelForDepthEstimation.from_config(DEPTH_ANYTHING)
    with pytest.raises(ValueError, match="without registers"):
        architectures.load_encoder(network.backbone, str(tmp_path / "reg"))
    with pytest.raises(ValueError, match="could not be loaded"):
        architectures.load_encoder(network.backbone, str(tmp_path / "nothing"))


def settings(base: Path, root: Path, run: Path, *more: str) -> list[str]:
    """Four steps of every weight, on crops."""
    return [
        "lora=null",
        "model.affine_start=false",
        "model.train_head=false",
        f"model.name={base}",
        "model.input_size=[28,28]" if base.name == "depth_anything" else "model.input_size=[32,32]",
        f"data.root={root}",
        f"data.cache={run}-cache",
        "data.fit=crop",
        "data.split.test=1",
        "data.split.validation=1",
        "train.per_device_train_batch_size=2",
        "train.max_steps=4",
        "train.eval_steps=2",
        "train.save_steps=2",
        "train.logging_steps=1",
        "train.save_total_limit=9",
        f"output_dir={run}",
        *more,
    ]


def test_every_weight_of_a_whole_network_resumes_exactly_averages_included(base, root, tmp_path):
    more = ("ema=0.9", "augment.cutmix=0.5", "align_features.weight=0.5")
    words = settings(base, root, tmp_path / "run", *more)
    training.train(FEW, words)
    best = load_file(tmp_path / "run" / "best" / "model.safetensors")
    last = load_file(tmp_path / "run" / "checkpoints" / "checkpoint-4" / "model.safetensors")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-4")
    training.train(FEW, words, resume=True)
    again = load_file(tmp_path / "run" / "best" / "model.safetensors")
    assert all(torch.equal(value, again[name]) for name, value in best.items())
    resumed = load_file(tmp_path / "run" / "checkpoints" / "checkpoint-4" / "model.safetensors")
    assert all(torch.equal(value, resumed[name]) for name, value in last.items())
    assert any(not torch.equal(value, best[name]) for name, value in last.items())


@pytest.mark.slow
def test_the_average_of_every_steps_weights_is_what_is_kept(root, tmp_path):
    base = saved("glpn", tmp_path / "glpn")
    steady = ("train.lr_scheduler_type=constant", "train.warmup_steps=0", "train.load_best_model_at_end=false")
    expected = {name: value.detach() for name, value in models.load_network(base).network.named_parameters()}
    for step in (1, 2, 3, 4):  # replayed from the start: a run keeps its last weights alone
        run = tmp_path / f"to-{step}"
        more = (*steady, f"train.max_steps={step}", "train.eval_strategy=no", "train.save_strategy=no")
        training.train(FEW, settings(base, root, run, *more))
        weights = load_file(run / "best" / "model.safetensors")
        decay = min(0.9, (1 + step) / (10 + step))
        expected = {name: decay * value + (1 - decay) * weights[name] for name, value in expected.items()}
    training.train(FEW, settings(base, root, tmp_path / "run", *steady, "ema=0.9"))
    averaged = load_file(tmp_path / "run" / "best" / "model.safetensors")
    for name, value in expected.items():
        torch.testing.assert_close(averaged[name], value, rtol=1e-4, atol=1e-6)


def test_the_encoder_learns_at_a_rate_of_its_own(base, root, tmp_path, monkeypatch):
    seen = []
    create = DepthTrainer.create_optimizer

    def noting(self, *words):
        seen.append((self, create(self, *words)))
        return seen[-1][1]

    monkeypatch.setattr(DepthTrainer, "create_optimizer", noting)
    steady = ("train.lr_scheduler_type=constant", "train.warmup_steps=0", "train.weight_decay=0.1")
    rates = ("model.encoder_learning_rate=1e-4", "train.learning_rate=1e-3")
    training.train(FEW, settings(base, root, tmp_path / "run", *rates, *steady))
    trainer, optimizer = seen[0]
    rates = {
        id(value): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for value in group["params"]
    }
    prefix = "backbone." if base.name == "depth_anything" else "glpn."
    names = dict(trainer.depth_model.network.named_parameters())
    assert len(rates) == len(names)
    for name, value in names.items():
        assert rates[id(value)][0] == (1e-4 if name.startswith(prefix) else 1e-3), name
    assert {decay for _, decay in rates.values()} == {0.0, 0.1}


def test_a_crop_keeps_the_aspect_and_every_depth_value(root):
    captures = open_set("zivid", root)
    covered = DecodedSet(captures, (16, 16), None, cover=True)
    whole = covered.read(0)
    assert whole.image.shape == (16, 21, 3) and whole.depth.shape == (16, 21)
    fixed = DepthDataset(covered, [0], window=(16, 16))[0]
    assert fixed["depth"].shape == (16, 16) and fixed["image"].shape == (3, 16, 16)
    central = whole.depth[:, 2:18]
    assert np.array_equal(fixed["depth"].numpy(), central)
    matrix = whole.intrinsics
    assert matrix is not None and float(fixed["intrinsics"][0, 2]) == pytest.approx(matrix[0, 2] - 2)
    varied = DepthDataset(covered, [0], AugmentRecipe(), window=(16, 16))
    starts = set()
    for epoch in range(12):
        varied.set_epoch(epoch)
        depth = varied[0]["depth"].numpy()
        starts |= {left for left in range(6) if np.array_equal(depth, whole.depth[:, left : left + 16])}
    assert len(starts) > 3
    assert set(np.unique(whole.depth)) <= set(np.unique(captures.read(0).depth))


def test_sets_of_different_sizes_mix_when_cropped(root, tmp_path):
    sizes = [(24, 32), (48, 40)]
    roots = [write_bench(tmp_path / f"{index}", 2, *size) for index, size in enumerate(sizes)]
    items = [
        DepthDataset(DecodedSet(open_set("zivid", one), (14, 28), None, cover=True), [0], window=(14, 28))[0]
        for one in roots
    ]
    assert collate(items)["depth"].shape == (2, 14, 28)


def test_a_cropped_run_answers_at_the_images_own_aspect(root, tmp_path):
    base = saved("depth_anything", tmp_path / "depth_anything")
    run = training.train(FEW, settings(base, root, tmp_path / "run"))
    spec = models.load(run).spec
    assert spec.input_size is None and spec.short_side == 28
    assert json.loads((run / "metrics.json").read_text())["protocol"] == "zivid-mm"


def logged(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.slow
def test_gradient_checkpointing_changes_no_number(root, tmp_path):
    base = saved("depth_anything", tmp_path / "depth_anything")
    plain = training.train(FEW, settings(base, root, tmp_path / "plain"))
    saving = training.train(FEW, settings(base, root, tmp_path / "saving", "train.gradient_checkpointing=true"))
    assert logged(saving) == pytest.approx(logged(plain), rel=1e-5)


def test_a_network_that_cannot_checkpoint_its_gradients_says_so(root, tmp_path):
    base = saved("glpn", tmp_path / "glpn")
    with pytest.raises(ValueError, match="checkpointing"):
        training.train(FEW, settings(base, root, tmp_path / "run", "train.gradient_checkpointing=true"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's own, while it compiles
def test_a_compiled_network_trains_to_the_same_loss(root, tmp_path):
    base = saved("depth_anything", tmp_path / "depth_anything")
    plain = training.train(FEW, settings(base, root, tmp_path / "plain"))
    compiled = training.train(FEW, settings(base, root, tmp_path / "compiled", "train.torch_compile=true"))
    assert logged(compiled) == pytest.approx(logged(plain), rel=1e-3)
    kept, expected = (load_file(run / "best" / "model.safetensors") for run in (compiled, plain))
    assert kept.keys() == expected.keys()
