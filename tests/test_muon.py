"""Muon: orthogonal steps for matrices, AdamW's for everything else, one rate and one decay for both."""

import pytest
import torch
from small_captures import write_bench
from small_networks import saved
from small_recipes import FEW
from torch import nn
from trained_runs import killed_at

from sonde import models, training
from sonde.trainer.muon import Muon, is_matrix, orthogonalise


def stepped(optimizer: torch.optim.Optimizer, values: list[nn.Parameter], gradients: list[list[torch.Tensor]]) -> None:
    for step in gradients:
        for value, gradient in zip(values, step, strict=True):
            value.grad = gradient.clone()
        optimizer.step()


def drawn(*shape: int, steps: int = 5) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
    dice = torch.Generator().manual_seed(len(shape))
    return torch.randn(shape, generator=dice), [[torch.randn(shape, generator=dice)] for _ in range(steps)]


@pytest.mark.parametrize("shape", [(48, 48), (32, 128), (128, 32)])
def test_an_orthogonal_matrix_keeps_the_directions_and_levels_the_lengths(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    lengths = torch.einsum("ik,ij,kj->k", left, orthogonalise(matrix), right)
    assert lengths.min() > 0.5 and lengths.max() < 1.3
    torch.testing.assert_close(orthogonalise(100 * matrix), orthogonalise(matrix), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close((left * lengths) @ right, orthogonalise(matrix), rtol=1e-3, atol=1e-3)


def test_half_the_digits_turn_a_matrix_nearly_as_far():
    matrix = torch.randn(32, 128, generator=torch.Generator().manual_seed(0))
    exact, quick = orthogonalise(matrix), orthogonalise(matrix.bfloat16())
    assert quick.dtype == torch.bfloat16
    assert (quick.float() - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("shape", [(32,), (8, 64), (64, 1, 3, 3)])
def test_what_is_no_matrix_moves_as_adamw_moves_it(shape):
    start, gradients = drawn(*shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    settings = {"lr": 0.01, "weight_decay": 0.3, "betas": (0.8, 0.95), "eps": 1e-6}
    assert not is_matrix(ours)
    stepped(Muon([ours], **settings), [ours], gradients)
    stepped(torch.optim.AdamW([theirs], **settings), [theirs], gradients)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(32, 64), (64, 32)])
def test_a_matrix_moves_as_torchs_muon_moves_it(shape):
    start, gradients = drawn(*shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    stepped(Muon([ours], lr=0.02, weight_decay=0.1), [ours], gradients)
    theirs_steps = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    stepped(theirs_steps, [theirs], gradients)
    moved, expected = (ours - start).detach(), (theirs - start).detach()
    assert (moved - expected).norm() < 0.02 * expected.norm()  # theirs is bfloat16


def test_a_convolution_is_the_matrix_of_its_outputs_whatever_its_memory_format():
    start, gradients = drawn(32, 16, 3, 3)
    flat = nn.Parameter(start.flatten(1).clone())
    stepped(Muon([flat], lr=0.02), [flat], [[step.flatten(1)] for (step,) in gradients])
    for layout in (torch.contiguous_format, torch.channels_last):
        kernel = nn.Parameter(start.clone(memory_format=layout))
        stepped(Muon([kernel], lr=0.02), [kernel], [[step.to(memory_format=layout)] for (step,) in gradients])
        torch.testing.assert_close(kernel.flatten(1), flat)


def test_a_step_has_the_size_of_adamws():
    start, gradients = drawn(64, 256, steps=1)
    value = nn.Parameter(start.clone())
    stepped(Muon([value], lr=0.01), [value], gradients)
    moved = (value - start).detach()
    assert moved.square().mean().sqrt().item() == pytest.approx(0.002, rel=0.2)  # 0.2 of the rate, as AdamW's are


@pytest.fixture
def settings(tmp_path):
    base, root = saved("glpn", tmp_path / "small"), write_bench(tmp_path / "set", 8)

    def make(run: str, *more: str) -> list[str]:
        return [
            "lora=null",
            "model.train_head=false",
            "model.affine_start=false",
            f"model.name={base}",
            "model.input_size=[32,64]",
            f"data.root={root}",
            f"data.cache={tmp_path / 'cache'}",
            "train.optim=muon",
            "train.learning_rate=2e-3",
            "train.warmup_steps=0",
            "train.per_device_train_batch_size=2",
            "train.gradient_accumulation_steps=1",
            "train.max_steps=4",
            "train.eval_steps=2",
            "train.save_steps=2",
            "train.logging_steps=1",
            "train.save_total_limit=10",
            f"output_dir={tmp_path / run}",
            *more,
        ]

    return make


def test_a_recipe_trains_with_muon_and_goes_on_where_it_stopped(settings, tmp_path, monkeypatch):
    monkeypatch.setattr("sonde.report.finish", lambda run: None)
    turned: list[int] = []
    monkeypatch.setattr("sonde.trainer.muon.orthogonalise", lambda matrix: turned.append(1) or orthogonalise(matrix))
    training.train(FEW, settings("whole"))
    whole = dict(models.load_network(tmp_path / "whole").network.state_dict())
    assert turned
    with killed_at(2):
        training.train(FEW, settings("halted"))
    training.train(FEW, settings("halted"), resume=True)
    halted = models.load_network(tmp_path / "halted").network.state_dict()
    assert all(torch.equal(value, halted[name]) for name, value in whole.items())


def test_muon_refuses_weights_cut_across_processes(settings):
    with pytest.raises(ValueError, match=r"train.optim=muon .* train.optim=adamw_torch"):
        training.train(FEW, settings("run", "train.fsdp=full_shard"))
