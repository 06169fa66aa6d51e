"""Alignments undo what they may undo, exactly, and stay finite where there is nothing to fit."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sonde import align
from sonde.align import ALIGN, fit_affine, fit_disparity, masked_median
from sonde.metrics import METRICS

UNDONE = {
    "median": lambda g: 3 * g,
    "median_of_ratios": lambda g: 3 * g,
    "scale": lambda g: 3 * g,
    "affine": lambda g: 3 * g - 1,
    "disparity": lambda g: 4 / g + 2,
    "log_affine": lambda g: 3 * g**0.7,
}


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[None, None]


def random_depth(b: int = 2, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(0)
    target = torch.from_numpy(random.uniform(0.5, 20, (b, 9, 11))).to(dtype)
    return target, torch.from_numpy(random.uniform(size=target.shape) > 0.3)


def test_disparity_golden_vector():
    target, pred = row(1, 2, 4, 8), row(5, 3, 2, 1.5)
    scale, shift = fit_disparity(pred, target, target > 0)
    assert (scale.item(), shift.item()) == pytest.approx((0.25, -0.25), abs=1e-12)
    torch.testing.assert_close(ALIGN["disparity"](pred, target, target > 0), target)


def test_disparity_fitted_as_depth_shows_by_a_negative_scale():
    target, pred = row(1, 2, 4, 8), row(5, 3, 2, 1.5)
    scale, shift = fit_affine(pred, target, target > 0)
    assert (scale.item(), shift.item()) == pytest.approx((-1.68696, 8.6), abs=1e-5)
    aligned = ALIGN["affine"](pred, target, target > 0)
    assert METRICS["abs_rel"](aligned, target, target > 0).item() == pytest.approx(0.538, abs=5e-4)


def test_affine_golden_vector():
    target, pred = row(1, 2, 4, 8), row(0.1, 0.25, 0.45, 1.0)
    scale, shift = fit_affine(pred, target, target > 0)
    assert (scale.item(), shift.item()) == pytest.approx((7.8494623656, 0.2177419355), abs=1e-9)
    aligned = ALIGN["affine"](pred, target, target > 0)
    assert METRICS["abs_rel"](aligned, target, target > 0).item() == pytest.approx(0.0409106183, abs=1e-9)


def test_the_two_median_scalings_differ():
    target, pred = row(1, 2, 4, 8), row(1.1, 1.9, 5, 6)
    by_name = {name: (ALIGN[name](pred, target, target > 0) / pred)[0, 0, 0].item() for name in UNDONE}
    assert by_name["median"] == pytest.approx(0.8695652174, abs=1e-9)
    assert by_name["median_of_ratios"] == pytest.approx(0.9808612440, abs=1e-9)


@pytest.mark.parametrize("name", UNDONE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_alignment_undoes_its_own_ambiguity(name: str, dtype: torch.dtype):
    target, mask = random_depth(dtype=dtype)
    aligned = ALIGN[name](UNDONE[name](target), target, mask)
    assert aligned.dtype == dtype
    torch.testing.assert_close(aligned[mask], target[mask], rtol=1e-5 if dtype == torch.float32 else 1e-10, atol=0)


@pytest.mark.parametrize("name", ALIGN)
@pytest.mark.parametrize("junk", [0.0, -7.0, torch.nan, torch.inf])
def test_untrusted_pixels_move_no_fit(name: str, junk: float):
    target, mask = random_depth()
    pred = target**0.5
    spoilt = ALIGN[name](torch.where(mask, pred, junk), torch.where(mask, target, junk), mask)
    torch.testing.assert_close(spoilt[mask], ALIGN[name](pred, target, mask)[mask], rtol=0, atol=0)


@pytest.mark.parametrize("name", ALIGN)
@pytest.mark.parametrize("value", [0.0, 0.3, -2.0])
def test_a_constant_prediction_gets_a_finite_answer(name: str, value: float):
    target, mask = random_depth()
    assert ALIGN[name](torch.full_like(target, value), target, mask).isfinite().all()


@pytest.mark.parametrize("name", ALIGN)
def test_an_empty_mask_gets_a_finite_answer(name: str):
    target, mask = random_depth()
    aligned = ALIGN[name](target, target, torch.zeros_like(mask))
    expected = torch.zeros_like(target) if name == "disparity" else target
    torch.testing.assert_close(aligned, expected)


def test_a_constant_prediction_is_shifted_to_the_mean():
    target, mask = random_depth(b=1)
    scale, shift = fit_affine(torch.full_like(target, 1 / 3), target, mask)
    assert scale.item() == 0
    assert shift.item() == pytest.approx(target[mask].mean().item())


def test_fits_agree_with_numpy_least_squares_far_from_the_origin():
    target, mask = random_depth()
    pred = 1e5 + target.sqrt()
    scale, shift = fit_affine(pred, target, mask)
    for image in range(2):
        p, g = pred[image][mask[image]].numpy(), target[image][mask[image]].numpy()
        slope, height = np.polyfit(p - 1e5, g, 1)
        assert scale[image].item() == pytest.approx(slope, rel=1e-7)
        assert (shift + scale * 1e5)[image].item() == pytest.approx(height, rel=1e-5, abs=1e-5)


def test_disparity_is_clamped_at_the_farthest_trusted_depth():
    target, mask = random_depth()
    pred = -1 / target  # bicubic upsampling, too, leaves values below any true disparity
    pred[:, 0, 0] = 1e6
    mask[:, 0, 0] = False
    aligned = ALIGN["disparity"](pred, target, mask)
    assert (aligned > 0).all()
    torch.testing.assert_close(aligned.amax((1, 2)), torch.where(mask, target, 0.0).amax((1, 2)))


@pytest.mark.parametrize("trusted", [1, 2, 7, 10])
def test_masked_median_is_numpys(trusted: int):
    values = torch.from_numpy(np.random.default_rng(trusted).normal(size=(1, 3, 4)))
    mask = (torch.arange(12) < trusted).reshape(1, 3, 4)
    assert masked_median(values, mask).item() == pytest.approx(np.median(values[mask].numpy()))


@pytest.mark.parametrize("name", ALIGN)
def test_each_image_is_fitted_by_itself(name: str):
    target, mask = random_depth(b=3)
    pred = target**0.5
    together = ALIGN[name](pred, target, mask)
    alone = [ALIGN[name](pred[i : i + 1], target[i : i + 1], mask[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("name", ALIGN)
def test_a_large_batch_is_fitted_in_parts_and_to_the_same_answer(name: str, monkeypatch: pytest.MonkeyPatch):
    target, mask = random_depth(b=5)
    whole = ALIGN[name](target**0.5, target, mask)
    monkeypatch.setattr(align, "PART", 2 * 9 * 11)
    torch.testing.assert_close(ALIGN[name](target**0.5, target, mask), whole, rtol=0, atol=0)


def test_no_images_are_no_answer():
    nothing = torch.zeros(0, 3, 4)
    assert ALIGN["disparity"](nothing, nothing, nothing > 0).shape == (0, 3, 4)


@pytest.mark.parametrize("name", ALIGN)
def test_half_precision_is_aligned_as_single(name):
    dice = torch.Generator().manual_seed(0)
    pred = torch.rand(2, 5, 6, generator=dice).bfloat16() + 0.5
    target, mask = torch.rand(2, 5, 6, generator=dice) + 0.5, torch.ones(2, 5, 6, dtype=torch.bool)
    torch.testing.assert_close(
        ALIGN[name](pred, target, mask).float(), ALIGN[name](pred.float(), target, mask), rtol=1e-2, atol=1e-2
    )
