"""What a training step computes in its own way has the values and gradients of the plain expression."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from peft.tuners.lora import Linear
from small_networks import small_glpn
from torch import Tensor, nn
from torch.nn import functional
from transformers import GLPNForDepthEstimation

from sonde import losses
from sonde.adapters import add_lora
from sonde.adapters.quick import QuickLinear
from sonde.bench.plain import compute_published_loss
from sonde.maps import resize
from sonde.training.heads import (
    BATCH,
    DECAY,
    RATE,
    CapturePixels,
    EncodedImage,
    FeatureHead,
    fit_head,
    pool_features,
    sample_encoded,
)
from sonde.training.sidebyside import map_side_by_side


def maps(batch: int = 2, height: int = 31, width: int = 45) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    pred, target, chance = (torch.rand(batch, height, width, generator=generator) for _ in range(3))
    return pred, target, chance > 0.3


def written_out(name: str, pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """masked_l1 and edge_gradient as torch's own operations alone."""
    error = torch.where(mask, pred - target, 0.0)
    if name == "masked_l1":
        return error.abs().sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)
    total = torch.zeros(len(error), dtype=error.dtype)
    for dim in (1, 2):
        length = mask.shape[dim] - 1
        both = mask.narrow(dim, 0, length) & mask.narrow(dim, 1, length)
        weight = both * (1 + 10.0 * (target.diff(dim=dim).abs() > 0.02))
        total = total + (error.diff(dim=dim).abs() * weight).sum((1, 2)) / (both.sum((1, 2)) + 1e-6)
    return total


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["masked_l1", "edge_gradient"])
def test_a_loss_has_the_value_and_the_gradient_of_its_formula(name, dtype):
    pred, target, mask = maps()
    results = []
    for compute in (losses.LOSSES[name], lambda *given: written_out(name, *given)):
        own = pred.to(dtype).requires_grad_()
        value = compute(own, target.to(dtype), mask)
        (value * torch.tensor([1.0, 2.5])).sum().backward()
        results.append((value.detach(), own.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-9, check_dtype=False)


@pytest.mark.parametrize("name", ["masked_l1", "edge_gradient"])
def test_the_target_of_a_loss_has_the_opposite_gradient(name):
    pred, target, mask = maps()
    pred.requires_grad_()
    target.requires_grad_()
    losses.LOSSES[name](pred, target, mask).sum().backward()
    assert pred.grad is not None and target.grad is not None
    torch.testing.assert_close(pred.grad, -target.grad)


@pytest.mark.parametrize("size", [(31, 45), (62, 99), (80, 20), (12, 90), (7, 9)])
def test_a_step_resizes_as_torch_does_and_so_does_its_gradient(size):
    pred, weight = maps()[0], torch.rand(2, *size)
    results = []
    for compute in (
        resize,
        lambda x, size: functional.interpolate(x[:, None], size, mode="bicubic", align_corners=False)[:, 0],
    ):
        own = pred.clone().requires_grad_()
        value = compute(own, size)
        (value * weight).sum().backward()
        results.append((value.detach(), own.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=2e-6)


def test_one_number_that_is_not_finite_spreads_no_further_than_torch_spreads_it():
    pred = torch.ones(1, 12, 16)
    pred[0, 6, 8] = torch.nan
    expected = functional.interpolate(pred[:, None], (24, 32), mode="bicubic", align_corners=False)[:, 0]
    found = resize(pred.clone().requires_grad_(), (24, 32))
    assert torch.equal(found.isnan(), expected.isnan()) and not found.isnan().all()


def test_the_weighted_losses_of_a_step_are_those_of_the_plain_script():
    small, target, mask = torch.rand(1, 14, 21), *maps(1)[1:]
    results = []
    for own in (small.clone().requires_grad_(), small.clone().requires_grad_()):
        if not results:
            terms = losses.weigh(resize(own, (31, 45)), target, mask, {"masked_l1": 1.0, "edge_gradient": 3.0})
            loss = torch.stack([term.mean() for term in terms.values()]).sum()
        else:
            loss = compute_published_loss(own, target, mask)
        loss.backward()
        results.append((loss.detach(), own.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


class Pair(nn.Module):
    """Two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(24, 32), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Both, one after the other."""
        return self.k_proj(torch.tanh(self.q_proj(x)))


def adapted_pair(dropout: float, kind: type[Linear]) -> nn.Module:
    torch.manual_seed(0)
    pair = add_lora(Pair(), {"r": 4, "lora_dropout": dropout, "target_modules": ["q_proj", "k_proj"]}).train()
    for module in pair.modules():
        if isinstance(module, QuickLinear):
            nn.init.normal_(module.get_parameter("lora_B.default.weight"))
            module.__class__ = kind  # pyright: ignore[reportAttributeAccessIssue]
    return pair


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("lead", [(2, 5), (7,)])
def test_an_adapted_layer_steps_as_pefts_does(dropout, lead):
    results = []
    for kind in (QuickLinear, Linear):
        pair, x = adapted_pair(dropout, kind), torch.rand(*lead, 24, generator=torch.Generator().manual_seed(1))
        x.requires_grad_()
        torch.manual_seed(2)  # of the dropout
        value = pair(x)
        value.square().sum().backward()
        gradients = {key: each.grad for key, each in pair.named_parameters() if each.grad is not None}
        assert len(gradients) == 4
        results.append({"value": value.detach(), "input": x.grad, **gradients})
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)


def test_an_adapted_layer_without_a_gradient_of_its_input_learns_too():
    pair = adapted_pair(0.1, QuickLinear)
    pair(torch.rand(3, 24)).sum().backward()
    assert all(value.grad is not None for value in pair.parameters() if value.requires_grad)


def test_a_hook_sees_every_part_of_an_adapted_layer():
    pair, seen = adapted_pair(0.1, QuickLinear), []
    for name, module in pair.named_modules():
        module.register_forward_hook(lambda module, inputs, output, name=name: seen.append(name))
    pair(torch.rand(3, 24))
    assert any(name.endswith("q_proj.base_layer") for name in seen)
    assert any(name.endswith("q_proj.lora_A.default") for name in seen)


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"bias": "all"}, {"bias": "lora_only"}, {"lora_bias": True}])
def test_other_kinds_of_lora_are_left_to_peft(settings, monkeypatch):
    pair = add_lora(Pair(), {"r": 4, "target_modules": ["q_proj", "k_proj"], **settings}).train()
    monkeypatch.setattr("sonde.adapters.quick._AdaptedLinear.apply", lambda *given: pytest.fail("not PEFT's own"))
    pair(torch.rand(3, 24)).sum().backward()


def test_an_adapter_that_is_merged_or_switched_off_answers_as_peft_has_it():
    pair, x = adapted_pair(0.0, QuickLinear), torch.rand(3, 24)
    learnt = pair(x).detach()
    with pair.disable_adapter():  # pyright: ignore[reportCallIssue]
        assert not torch.allclose(pair(x), learnt)
    pair.merge_adapter()  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(pair(x), learnt, rtol=1e-4, atol=1e-4)


def test_the_adapter_of_a_network_is_written_as_peft_writes_it(tmp_path: Path):
    adapted = add_lora(GLPNForDepthEstimation(small_glpn()), {"r": 2})
    assert sum(isinstance(module, QuickLinear) for module in adapted.modules()) == 3 * 4
    adapted.save_pretrained(str(tmp_path), save_embedding_layers=False)
    assert "Quick" not in (tmp_path / "adapter_config.json").read_text()


def captured(count: int = 2, channels: int = 6) -> tuple[list[CapturePixels], list[Tensor]]:
    generator = torch.Generator().manual_seed(3)
    features = [3 * torch.rand(400, channels, generator=generator) + 5 for _ in range(count)]
    pixels = [CapturePixels(each.half(), torch.arange(400), (20, 20)) for each in features]
    wanted = [each.mean(1, keepdim=True) / 10 for each in features]
    wanted[0][:50] = torch.nan
    return pixels, wanted


def fit_plainly(pixels: list[CapturePixels], targets: list[Tensor], steps: int, seed: int) -> FeatureHead:
    """`fit_head` by copies of its rows, torch's own dropout and the global random state."""
    inputs, wanted = torch.cat([each.features for each in pixels]), torch.cat(targets)
    trusted = wanted.isfinite().all(1)
    inputs, wanted = inputs[trusted], wanted[trusted]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = FeatureHead(inputs.float().mean(0), inputs.float().std(0) + 1e-3, wanted.shape[1]).train()
        optimizer = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        for _ in range(steps):
            batch = torch.randint(len(inputs), (BATCH,))
            mixed = head.mix((inputs[batch].float() - head.mean) / head.spread)
            values = head.last(head.hidden(functional.dropout(mixed.relu(), 0.1, True)).relu())
            optimizer.zero_grad()
            (values - wanted[batch]).abs().mean().backward()
            optimizer.step()
            schedule.step()
    return head


def test_a_head_is_fitted_to_the_bit_as_by_the_plain_loop():
    pixels, wanted = captured()
    own, plain = fit_head(pixels, wanted, 12, 7), fit_plainly(pixels, wanted, 12, 7)
    features = pixels[1].features
    assert torch.equal(own.eval()(features), plain.eval()(features))


def test_a_head_is_fitted_to_pooled_features_as_to_those_of_captures_alone():
    pixels, wanted = captured(3)
    pooled = pool_features(pixels)
    assert all(torch.equal(own.features, each.features) for own, each in zip(pooled, pixels, strict=True))
    alone, within = fit_head(pixels[1:], wanted[1:], 5, 7), fit_head(pooled[1:], wanted[1:], 5, 7)
    assert torch.equal(alone.last.weight, within.last.weight)


def test_a_fit_leaves_the_global_random_state_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    fit_head(*captured(), 3, 7)
    assert torch.equal(torch.get_rng_state(), state)


def test_fits_side_by_side_are_those_one_after_the_other():
    given = captured()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        both = map_side_by_side(lambda seed: fit_head(*given, 8, seed), [1, 2, 3])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    for seed, head in zip([1, 2, 3], both, strict=True):
        torch.testing.assert_close(head.last.weight, fit_head(*given, 8, seed).last.weight, rtol=1e-4, atol=1e-5)


def test_a_piece_that_fails_ends_the_others_and_says_why():
    def work(number: int) -> int:
        if number:
            raise ValueError(f"piece {number}")
        return threading.get_ident()

    with pytest.raises(ValueError, match="piece 1"):
        map_side_by_side(work, [0, 1, 2, 3])


def encoded(seed: int) -> EncodedImage:
    generator = torch.Generator().manual_seed(seed)
    taps = [torch.rand(1, channels, *size, generator=generator) for channels, size in [(4, (12, 16)), (6, (6, 8))]]
    return EncodedImage(taps, torch.rand(1, 3, 12, 16, generator=generator))


def enlarged(image: EncodedImage) -> Tensor:
    """(c, h, w): the inputs of a head, all at the size of the first tap."""
    taps = [functional.interpolate(tap, image.size, mode="bilinear", align_corners=False) for tap in image.taps]
    return torch.cat([*taps, image.colours], 1)[0]


def test_pixels_are_sampled_from_the_enlarged_maps_and_looked_up_where_they_come_from():
    own, mirrored = encoded(1), encoded(2)
    found = sample_encoded(own, mirrored, 60, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    first, second = (torch.randperm(12 * 16, generator=generator)[:30] for _ in range(2))
    expected = torch.cat([enlarged(own).flatten(1).T[first], enlarged(mirrored).flatten(1).T[second]]).half()
    assert torch.equal(found.features, expected)
    assert torch.equal(found.places[:30], first)
    assert torch.equal(found.places[30:], (second // 16) * 16 + 15 - second % 16)


def test_a_head_predicts_from_small_maps_what_it_predicts_from_enlarged_ones():
    image = encoded(3)
    head = FeatureHead(torch.rand(13), torch.rand(13) + 0.5, 2).eval()
    nn.init.normal_(head.last.weight)
    with torch.no_grad():
        rows = head(enlarged(image).flatten(1).T).T.reshape(1, 2, 12, 16)
    expected = functional.interpolate(rows, (24, 33), mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(head.predict(image, (24, 33)), expected.numpy(), rtol=1e-4, atol=1e-5)
