"""Losses answer one value per image, know only trusted pixels, and never give NaN; so they do when they are trimmed."""

from functools import partial
from math import log, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from sonde.losses import (
    LOSSES,
    Loss,
    LossFunction,
    align_prediction,
    edge_gradient,
    feature_alignment,
    masked_l1,
    needs_depth,
    relief,
    silog,
    ssi,
    trim_largest,
    weigh,
)
from sonde.maps import resize
from sonde.recipes import LossRecipe

Maps = tuple[Tensor, Tensor, Tensor]
INVARIANT = ["ssi", "ssi_trimmed", "gradient_matching", "gradient_matching_sobel"]
EVERY: dict[str, LossFunction] = {**LOSSES, **{f"{name}, trimmed": partial(LOSSES[name], trim=0.25) for name in LOSSES}}
"""All losses, as they are and without the largest quarter of each image's errors."""


def random_maps(seed: int = 0, b: int = 2, h: int = 19, w: int = 23) -> Maps:
    generator = torch.Generator().manual_seed(seed)
    pred = torch.rand(b, h, w, generator=generator) + 0.5
    target = torch.rand(b, h, w, generator=generator) + 0.5
    return pred, target, torch.rand(b, h, w, generator=generator) > 0.2


def gradient(name: str, pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    pred = pred.clone().requires_grad_()
    EVERY[name](pred, target, mask).sum().backward()
    assert pred.grad is not None
    return pred.grad


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[None, None]


@pytest.mark.parametrize("name", EVERY)
def test_each_image_is_scored_by_itself(name: str):
    pred, target, mask = random_maps(b=3)
    together = EVERY[name](pred, target, mask)
    alone = [EVERY[name](pred[i : i + 1], target[i : i + 1], mask[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert together.dtype == torch.float32
    assert (together > 0).all()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("junk", [0.0, -5.0, 1e30, torch.nan, torch.inf])
def test_untrusted_pixels_reach_neither_value_nor_gradient(name: str, junk: float):
    pred, target, mask = random_maps()
    spoilt_pred, spoilt_target = (torch.where(mask, values, junk) for values in (pred, target))
    torch.testing.assert_close(
        EVERY[name](spoilt_pred, spoilt_target, mask), EVERY[name](pred, target, mask), rtol=1e-6, atol=0
    )
    slope = gradient(name, spoilt_pred, spoilt_target, mask)
    assert slope.isfinite().all()
    assert (slope[~mask] == 0).all()


@pytest.mark.parametrize("name", EVERY)
def test_an_empty_mask_gives_zero_and_a_zero_gradient(name: str):
    pred, target, mask = random_maps()
    mask[0] = False
    assert EVERY[name](pred, target, mask)[0] == 0
    slope = gradient(name, pred, target, mask)
    assert (slope[0] == 0).all()
    assert slope[1].isfinite().all()
    assert (slope[1] != 0).any()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("pred_value", [0.0, 0.7])
@pytest.mark.parametrize("target_value", [0.0, 0.7])
def test_constant_and_zero_maps_stay_finite(name: str, pred_value: float, target_value: float):
    mask = torch.ones(1, 12, 12, dtype=torch.bool)
    pred, target = torch.full((1, 12, 12), pred_value), torch.full((1, 12, 12), target_value)
    assert EVERY[name](pred, target, mask).isfinite().all()
    assert gradient(name, pred, target, mask).isfinite().all()


@pytest.mark.parametrize("name", EVERY)
def test_a_perfect_prediction_costs_nothing_and_pulls_nowhere(name: str):
    _, target, mask = random_maps()
    assert (EVERY[name](target, target, mask) == 0).all()
    assert (gradient(name, target, target, mask) == 0).all()


@pytest.mark.parametrize("name", EVERY)
def test_gradients_agree_with_finite_differences(name: str):
    pred, target, mask = (values[:, :9, :9] for values in random_maps(b=1))
    pred = pred.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: EVERY[name](p, target.double(), mask), pred)


@pytest.mark.parametrize("name", EVERY)
def test_half_precision_predictions_are_scored_in_single(name: str):
    pred, target, mask = random_maps()
    half = pred.bfloat16()
    torch.testing.assert_close(EVERY[name](half, target, mask), EVERY[name](half.float(), target, mask))


def test_masked_l1_is_the_mean_over_trusted_pixels():
    mask = torch.tensor([[[True, True, False]]])
    assert LOSSES["masked_l1"](row(1, 2, 9), row(1.5, 1, 0), mask).item() == pytest.approx(0.75)


def test_edge_gradient_golden_vector():
    mask = torch.tensor([[[True, True, True, False]]])
    pred, target = row(0.0, 0.01, 0.05, 0.9), row(0.0, 0.01, 0.11, 0.1)
    # Steps: prediction .01 .04, target .01 .10; only the second is an edge; the third has an untrusted end.
    assert edge_gradient(pred, target, mask).item() == pytest.approx(11 * 0.06 / (2 + 1e-6))
    assert edge_gradient(pred.mT, target.mT, mask.mT).item() == pytest.approx(11 * 0.06 / (2 + 1e-6))
    assert edge_gradient(pred, target, mask, gamma=0.0).item() == pytest.approx(0.06 / (2 + 1e-6))


def test_edge_gradient_agrees_with_the_formula_written_out():
    pred, target, mask = (values.double() for values in random_maps(b=1, h=6, w=7))
    expected = 0.0
    for pairs in (
        [(y, x, y, x + 1) for y in range(6) for x in range(6)],
        [(y, x, y + 1, x) for y in range(5) for x in range(7)],
    ):
        above, below = 0.0, 1e-6
        for y0, x0, y1, x1 in pairs:
            both = float(mask[0, y0, x0] * mask[0, y1, x1])
            step = float(target[0, y1, x1] - target[0, y0, x0])
            error = abs(float(pred[0, y1, x1] - pred[0, y0, x0]) - step)
            above += both * (1 + 10 * (abs(step) > 0.02)) * error
            below += both
        expected += above / below
    assert edge_gradient(pred, target, mask.bool()).item() == pytest.approx(expected)


def test_edge_gradient_ignores_a_shift():
    pred, target, mask = random_maps()
    torch.testing.assert_close(edge_gradient(pred + 0.25, target, mask), edge_gradient(pred, target, mask))


def test_relief_agrees_with_the_formula_written_out():
    pred, target, mask = (m[:1] for m in random_maps(h=20))
    far, total = 2, torch.zeros(())  # share 0.25 of 20 rows: squares of 5

    def high_pass(values: Tensor, y: int, x: int) -> Tensor:
        window = np.s_[0, max(y - far, 0) : y + far + 1, max(x - far, 0) : x + far + 1]
        return values[0, y, x] - values[window][mask[window]].mean()

    for y, x in mask[0].nonzero().tolist():
        weight = 1 + 10 * (high_pass(target, y, x).abs() > 0.1)
        total = total + weight * high_pass(pred - target, y, x).abs() / mask.sum()
    torch.testing.assert_close(relief(pred, target, mask, share=0.25, tau=0.1), total[None])


def test_relief_sees_a_groove_and_not_the_level():
    target, mask = torch.full((1, 64, 64), 0.5), torch.ones(1, 64, 64, dtype=torch.bool)
    target[:, :, 30:32] += 0.02
    flat = torch.full_like(target, 0.5)
    assert relief(target + 0.3, target, mask).item() == pytest.approx(0, abs=1e-6)
    assert relief(flat, target, mask).item() == pytest.approx(11 * relief(flat, target, mask, gamma=0.0).item())


def test_silog_golden_vector():
    target, pred = row(1, 2, 4, 8), row(1.1, 1.9, 5, 6)
    assert silog(pred, target, pred > 0).item() == pytest.approx(0.18987917838, abs=1e-11)


@pytest.mark.parametrize("name,scale,share", [("silog", 1, 0.5), ("silog_bts", 10, 0.85)])
def test_a_dialect_of_silog_has_value_and_gradient_of_its_formula(name: str, scale: float, share: float):
    maps = random_maps(b=1)
    pred, target = (values.double().requires_grad_() for values in maps[:2])
    error = pred[maps[2]].log() - target[maps[2]].log()  # as GLPDepth and BTS write it
    naive = scale * (error.square().mean() - share * error.mean().square()).sqrt()
    naive.backward()
    assert LOSSES[name](pred, target, maps[2]).item() == pytest.approx(naive.item(), rel=1e-12)
    assert pred.grad is not None
    torch.testing.assert_close(gradient(name, pred.detach(), target.detach(), maps[2]), pred.grad, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ["silog", "silog_bts"])
def test_silog_is_flat_at_a_perfect_prediction_where_its_formula_is_not_a_number(name: str):
    _, target, mask = random_maps(b=1)
    pred = target.clone().requires_grad_()
    (pred[mask].log() - target[mask].log()).square().mean().sqrt().backward()
    assert pred.grad is not None and pred.grad[mask].isnan().all()
    assert (gradient(name, target, target, mask) == 0).all()
    assert LOSSES[name](target, target, mask).item() == 0


def test_silog_of_a_scaled_prediction_is_what_lambda_leaves_of_the_scale():
    _, target, mask = random_maps()
    for lambda_, expected in ((0.0, log(2)), (0.5, log(2) * sqrt(0.5)), (1.0, 0.0)):
        value = silog(2 * target, target, mask, lambda_)
        torch.testing.assert_close(value, torch.full((2,), expected), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", INVARIANT)
def test_scale_and_shift_of_the_prediction_cost_nothing(name: str):
    pred, target, mask = random_maps()
    for scale, shift in ((0.01, 0.0), (3.0, -2.0), (500.0, 70.0)):
        torch.testing.assert_close(
            LOSSES[name](scale * pred.double() + shift, target, mask),
            LOSSES[name](pred.double(), target, mask),
            rtol=0,
            atol=1e-6,
        )


def test_aligned_is_the_least_squares_fit():
    pred, target, mask = (m.double() if m.is_floating_point() else m for m in random_maps())
    for fitted, x, y, inside in zip(align_prediction(pred, target, mask), pred, target, mask, strict=True):
        columns = np.stack([x[inside].numpy(), np.ones(int(inside.sum()))], 1)
        answer = columns @ np.linalg.lstsq(columns, y[inside].numpy(), rcond=None)[0]
        np.testing.assert_allclose(fitted[inside].numpy(), answer, rtol=1e-12)


@pytest.mark.parametrize("name", ["aligned_l1", "aligned_edge_gradient"])
def test_a_scale_and_a_shift_of_either_sign_cost_nothing_once_aligned(name: str):
    pred, target, mask = random_maps()
    for scale, shift in ((0.2, 0.0), (3.0, -2.0), (-1.5, 4.0)):
        torch.testing.assert_close(LOSSES[name](scale * pred + shift, target, mask), LOSSES[name](pred, target, mask))


def test_a_nearly_constant_prediction_is_not_stretched_without_bound():
    pred, target, mask = random_maps()
    faint = 0.5 + 1e-4 * pred
    value, slope = LOSSES["aligned_l1"](faint, target, mask), gradient("aligned_l1", faint, target, mask)
    assert (value > LOSSES["aligned_l1"](pred, target, mask)).all()
    assert slope.abs().sum((1, 2)).max() < 20  # 1 / least, where it would be 1e4


@pytest.mark.parametrize("scale, shift", [(0.1, 0.0), (3.0, 0.0), (1.0, 0.5), (7.0, 2.0)])
def test_ssi_keeps_its_invariance_in_single_precision(scale: float, shift: float):
    pred, target, mask = random_maps()
    torch.testing.assert_close(ssi(scale * pred + shift, target, mask), ssi(pred, target, mask), atol=1e-6, rtol=0)


def test_ssi_golden_vector():
    mask = torch.tensor([[[True, True, True, False]]])
    # Medians 2 and 4, mean absolute deviations 1 and 1: (-1, 0, 2) against (-2, 0, 1).
    assert ssi(row(1, 2, 4, 99), row(2, 4, 5, -99), mask).item() == pytest.approx(2 / 3)
    assert ssi(row(10, 20, 40, 99), row(2, 4, 5, -99), mask).item() == pytest.approx(2 / 3)


def test_ssi_median_counts_trusted_pixels_only():
    pred, target, _ = random_maps(b=1)
    mask = torch.zeros_like(pred, dtype=torch.bool)
    mask[:, :3, :3] = True
    torch.testing.assert_close(ssi(pred, target, mask), ssi(pred[:, :3, :3], target[:, :3, :3], mask[:, :3, :3]))


def test_gradient_matching_golden_vector():
    mask = torch.tensor([[[True, True, True, True, False]]])
    pred, target = row(0, 1, 3, 3, 9), row(0, 0, 0, 0, 0)
    # Stride 1: 1 + 2 + 0 over four pixels; stride 2: 3 over two, its third being untrusted; then none.
    value = LOSSES["gradient_matching_raw"](pred, target, mask)
    assert value.item() == pytest.approx(3 / 4 + 3 / 2)


def test_sobel_of_a_ramp_is_its_slope():
    ramp = torch.arange(6.0)[None, None].expand(1, 5, 6) * 0.3
    mask = torch.ones_like(ramp, dtype=torch.bool)
    for pred in (ramp, ramp.mT):
        value = LOSSES["gradient_matching_sobel_raw"](pred, torch.zeros_like(pred), mask.reshape(pred.shape))
        assert value.item() == pytest.approx(0.3)


def test_trimming_drops_the_largest_errors_of_each_image():
    error = torch.stack([torch.arange(1.0, 11.0), torch.full((10,), -3.0)])[:, None]
    mask = torch.ones_like(error, dtype=torch.bool)

    def mean(share: float) -> Tensor:
        return masked_l1(error, torch.zeros_like(error), mask, share)

    torch.testing.assert_close(mean(0.1), torch.tensor([5.0, 3.0]))
    mask[0, 0, 9] = False  # nine trusted pixels: a tenth of them is none
    torch.testing.assert_close(mean(0.1), torch.tensor([5.0, 3.0]))
    torch.testing.assert_close(mean(0.34), torch.tensor([3.5, 3.0]))
    kept, left = trim_largest(error, mask, 0.34)
    assert left[0, 0].tolist() == [True] * 6 + [False] * 4 and left[1].all()
    assert (kept[~left] == 0).all() and torch.equal(kept[left], error[left])


@pytest.mark.parametrize("name", LOSSES)
def test_a_trim_of_nothing_changes_no_bit(name: str):
    maps = random_maps(h=64, w=80)
    plain = LOSSES["ssi"] if name == "ssi_trimmed" else LOSSES[name]
    assert torch.equal(LOSSES[name](*maps, trim=0.0), plain(*maps))


@pytest.mark.parametrize("name", LOSSES)
def test_more_trim_costs_less(name: str):
    maps = random_maps(h=64, w=80)
    costs = torch.stack([LOSSES[name](*maps, trim=trim) for trim in (0.0, 0.1, 0.3, 0.9)])
    assert (costs.diff(dim=0) < 0).all()


@pytest.mark.parametrize("name", ["masked_l1", "silog", "silog_bts"])
def test_a_pixel_trimmed_away_pulls_nowhere_and_what_stays_is_scored_alone(name: str):
    pred, target, mask = random_maps()
    far = torch.zeros_like(mask)
    far[:, 3:6, 4:9] = True
    spoilt = torch.where(far, 40 * pred, pred)  # more than any other, and a twentieth of the trusted at most
    gone = (mask & far).sum((1, 2)) / mask.sum((1, 2))
    for image in range(2):
        maps = [values[image : image + 1] for values in (spoilt, target, mask)]
        slope = gradient(f"{name}, trimmed", *maps)
        kept = slope[0] != 0
        assert not kept[far[image]].any()
        assert int((mask[image] & ~kept).sum()) == int(mask[image].sum() * 0.25)
        trim = float(gone[image]) + 1e-6
        alone = LOSSES[name](pred[image][None], target[image][None], (mask & ~far)[image][None])
        torch.testing.assert_close(LOSSES[name](*maps, trim=trim), alone)


def test_silog_trimmed_is_the_formula_over_the_pixels_that_stay():
    pred, target, mask = random_maps(b=1)
    error = np.log(pred[mask].double().numpy()) - np.log(target[mask].double().numpy())
    stay = error[np.argsort(np.abs(error))[: len(error) - int(len(error) * 0.1)]]
    expected = sqrt((stay**2).mean() - 0.5 * stay.mean() ** 2)
    assert silog(pred.double(), target.double(), mask, trim=0.1).item() == pytest.approx(expected, rel=1e-12)


def test_edge_gradient_trims_each_direction_by_itself():
    pred, target, mask = random_maps(b=1)
    expected = 0.0
    for axis in (0, 1):
        step = np.diff(target[0].numpy(), axis=axis)
        error = np.abs(np.diff((pred - target)[0].numpy(), axis=axis)) * (1 + 10 * (np.abs(step) > 0.02))
        both = np.diff(mask[0].numpy().astype(int), axis=axis) == 0
        both &= mask[0].numpy()[: error.shape[0], : error.shape[1]]
        kept = np.sort(error[both])[: both.sum() - int(both.sum() * 0.25)]
        expected += kept.sum() / (len(kept) + 1e-6)
    assert edge_gradient(pred, target, mask, trim=0.25).item() == pytest.approx(expected, rel=1e-5)


def test_gradient_matching_trims_the_pixels_whose_own_slopes_err_most():
    mask = torch.tensor([[[True, True, True, True, False]]])
    pred, target = row(0, 1, 3, 3, 9), row(0, 0, 0, 0, 0)
    # Stride 1: slopes 1, 2, 0 and none of four pixels, of which a quarter is the 2; stride 2: 3 of two, none trimmed.
    value = LOSSES["gradient_matching_raw"](pred, target, mask, trim=0.25)
    assert value.item() == pytest.approx(1 / 3 + 3 / 2)


@pytest.mark.parametrize("name", LOSSES)
def test_a_prediction_that_is_not_a_number_makes_a_loss_that_is_none(name: str):
    pred, target, mask = random_maps()
    pred[0, 5, 5], mask[:, 3:9, 3:9] = torch.nan, True
    for trim in (0.0, 0.25):
        values = LOSSES[name](pred, target, mask, trim=trim)
        assert values[0].isnan() and values[1].isfinite()


def test_feature_alignment_skips_tokens_that_agree_already():
    teacher = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]])
    student = torch.tensor([[[1.0, 0.1], [0.0, 1.0], [-1.0, 0.0]]], requires_grad=True)
    value = feature_alignment(student, teacher)
    assert value.item() == pytest.approx(1.5)
    value.sum().backward()
    assert student.grad is not None
    assert (student.grad[0, 0] == 0).all()
    assert (student.grad[0, 1] != 0).any()


def test_feature_alignment_survives_zeros_and_agreement():
    zeros = torch.zeros(2, 4, 8, requires_grad=True)
    feature_alignment(zeros, torch.zeros(2, 4, 8)).sum().backward()
    assert zeros.grad is not None
    assert zeros.grad.isfinite().all()
    same = torch.ones(2, 4, 8)
    assert (feature_alignment(same, same) == 0).all()


def test_resized_reaches_the_ground_truth_and_keeps_a_fitting_map():
    pred = torch.full((1, 4, 6), 0.3, dtype=torch.float16)
    torch.testing.assert_close(resize(pred, (9, 13)), torch.full((1, 9, 13), 0.3), atol=1e-3, rtol=0)
    assert resize(pred, (4, 6)) is pred


def test_weighted_multiplies_and_names():
    maps = random_maps()
    terms = weigh(*maps, {"masked_l1": 1.0, "edge_gradient": 3.0})
    torch.testing.assert_close(terms["edge_gradient"], 3 * edge_gradient(*maps))
    assert list(terms) == ["masked_l1", "edge_gradient"]


def test_weighted_trims_what_is_asked_to_be_trimmed_and_nothing_else():
    maps = random_maps()
    terms = weigh(*maps, {"silog": LossRecipe(weight=2.0, trim=0.1), "ssi": 1, "ssi_trimmed": 1.0})
    assert torch.equal(terms["silog"], 2 * silog(*maps, trim=0.1))
    assert torch.equal(terms["ssi"], ssi(*maps)) and torch.equal(terms["ssi_trimmed"], ssi(*maps, trim=0.1))
    untrimmed = weigh(*maps, {"ssi_trimmed": LossRecipe(weight=1.0, trim=0.0)})
    assert torch.equal(untrimmed["ssi_trimmed"], ssi(*maps))


def test_a_loss_of_ones_own_needs_no_trim_and_says_so_when_asked_for_one(monkeypatch: pytest.MonkeyPatch):
    def mine(pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return masked_l1(pred, target, mask)

    maps = random_maps()
    monkeypatch.setitem(LOSSES, "mine", mine)
    assert torch.equal(weigh(*maps, {"mine": 2.0})["mine"], 2 * masked_l1(*maps))
    with pytest.raises(ValueError, match=r"loss\.mine\.trim=0\.1: mine takes no trim; leave it out, or give"):
        weigh(*maps, {"mine": LossRecipe(weight=2.0, trim=0.1)})
    monkeypatch.setitem(LOSSES, "mine", masked_l1)
    assert torch.equal(weigh(*maps, {"mine": LossRecipe(weight=1, trim=0.1)})["mine"], masked_l1(*maps, trim=0.1))


LOGARITHMS = ["silog", "silog_bts", "gradient_matching_log", "gradient_matching_sobel_log"]


def test_a_loss_states_its_quantity_and_those_of_logarithms_need_depth_above_0():
    assert all(isinstance(loss, Loss) for loss in LOSSES.values())
    assert [name for name in LOSSES if needs_depth(name)] == LOGARITHMS
    pred, target, mask = random_maps()
    for name in LOSSES:  # what lies below 0 is all the same to a logarithm: it counts as one micrometre
        below, further = (LOSSES[name](pred, torch.where(pred > 1, target, depth), mask) for depth in (-1.0, -2.0))
        assert torch.equal(below, further) == needs_depth(name)


def test_a_loss_of_ones_own_is_a_function_or_a_row_with_its_quantity(monkeypatch: pytest.MonkeyPatch):
    maps = random_maps()
    monkeypatch.setitem(LOSSES, "mine", masked_l1)
    monkeypatch.setitem(LOSSES, "mine_of_depth", Loss(masked_l1, "depth"))
    assert torch.equal(LOSSES["mine"](*maps), LOSSES["mine_of_depth"](*maps))
    assert torch.equal(LOSSES["mine"](*maps, trim=0.2), LOSSES["mine_of_depth"](*maps, trim=0.2))
    assert not needs_depth("mine") and needs_depth("mine_of_depth")
    terms = weigh(*maps, {"mine": 1.0, "mine_of_depth": LossRecipe(weight=2.0, trim=0.1)})
    assert torch.equal(terms["mine_of_depth"], 2 * masked_l1(*maps, trim=0.1))


def test_a_wrong_name_answers_with_the_right_one():
    with pytest.raises(ValueError, match="did you mean 'masked_l1'"):
        weigh(*random_maps(), {"mask_l1": 1.0})


def test_resizing_is_torchs_bicubic_and_so_is_its_gradient():
    pred = torch.rand(2, 13, 29, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.interpolate(pred[:, None], (40, 31), mode="bicubic", align_corners=False)[:, 0]
    weight = torch.rand(2, 40, 31, dtype=torch.float64)
    ours = resize(pred, (40, 31))
    torch.testing.assert_close(ours, expected)
    gradients = [torch.autograd.grad((answer * weight).sum(), pred)[0] for answer in (ours, expected)]
    torch.testing.assert_close(*gradients)


def test_a_value_that_is_missing_stays_where_it_is_when_a_map_is_resized():
    pred = torch.rand(2, 24, 32, generator=torch.Generator().manual_seed(0))
    spoiled = pred.clone()
    spoiled[0, 0, 0] = torch.nan
    found, expected = resize(spoiled, (48, 64)), resize(pred, (48, 64))
    assert found[0, :6, :6].isnan().any() and found.isnan().sum() < 40
    torch.testing.assert_close(found[0, 6:], expected[0, 6:])
    torch.testing.assert_close(found[1], expected[1])


def test_resizing_for_inference_first_does_not_spoil_a_gradient():
    pred = torch.rand(1, 7, 9)
    with torch.inference_mode():
        resize(pred, (13, 17))
    resize(pred.requires_grad_(), (13, 17)).sum().backward()
    assert pred.grad is not None
