"""Metrics agree with golden vectors, with plain NumPy and with torchmetrics; a batch is many images."""

from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics.functional as independent
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import mean_squared_error
from torch import Tensor

from sonde import align, metrics
from sonde.bench.inputs import make_maps
from sonde.bench.plain import score_in_numpy
from sonde.metrics import METRICS, boundary_f1, ordinal, score

GOLDEN = {
    "abs_rel": 0.1625,
    "sq_rel": 0.19125,
    "mae": 0.8,
    "rmse": 1.120267825120404,
    "rmse_log": 0.18991383028,
    "rmse_log10": 0.08247852853,
    "log10": 0.07137945737,
    "irmse": 0.05743059876,
    "delta1": 0.5,
    "delta2": 1.0,
    "delta3": 1.0,
    "delta105": 0.0,
    "silog": 18.98445201629,
    "silog_half": 0.18987917838,
    "silog_unbiased": 21.92135696405,
    "silog_log10": 0.08244842753,
}


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[None, None]


def random_maps(seed: int, b: int = 2, h: int = 30, w: int = 40, noise: float = 0.2) -> tuple[Tensor, Tensor, Tensor]:
    random = np.random.default_rng(seed)
    target = random.uniform(0.3, 80, (b, h, w))
    pred = target * np.exp(random.normal(0, noise, target.shape))
    mask = random.uniform(size=target.shape) > 0.3
    return torch.from_numpy(pred), torch.from_numpy(target), torch.from_numpy(mask)


def in_numpy(p: np.ndarray, g: np.ndarray) -> dict[str, Any]:
    """The definitions, written out over the trusted pixels of one image."""
    worse, e, e10 = np.maximum(p / g, g / p), np.log(p) - np.log(g), np.log10(p) - np.log10(g)
    return {
        "abs_rel": np.mean(np.abs(p - g) / g),
        "sq_rel": np.mean((p - g) ** 2 / g),
        "mae": np.mean(np.abs(p - g)),
        "rmse": np.sqrt(np.mean((p - g) ** 2)),
        "rmse_log": np.sqrt(np.mean(e**2)),
        "rmse_log10": np.sqrt(np.mean(e10**2)),
        "log10": np.mean(np.abs(e10)),
        "irmse": np.sqrt(np.mean((1 / p - 1 / g) ** 2)),
        "delta1": np.mean(worse < 1.25),
        "delta2": np.mean(worse < 1.25**2),
        "delta3": np.mean(worse < 1.25**3),
        "delta105": np.mean(worse < 1.05),
        "silog": 100 * np.std(e),
        "silog_half": np.sqrt(np.mean(e**2) - np.mean(e) ** 2 / 2),
        "silog_unbiased": 100 * np.std(e, ddof=1),
        "silog_log10": np.std(e10),
    }


def boundary_in_numpy(pred: np.ndarray, target: np.ndarray) -> float:
    """Depth Pro's definition, one threshold and one direction at a time."""
    thresholds, total = np.linspace(1.05, 1.25, 10), 0.0
    near = [1 / maps.clip(1e-6) for maps in (pred, target)]
    for threshold in thresholds:
        precision, recall = [], []
        for turns in range(4):
            found, true = (np.rot90(maps, turns) for maps in near)
            found, true = (maps[:, 1:] / maps[:, :-1] > threshold for maps in (found, true))
            hits = np.count_nonzero(found & true)
            precision.append(hits / max(np.count_nonzero(found), 1))
            recall.append(hits / max(np.count_nonzero(true), 1))
        p, r = np.mean(precision), np.mean(recall)
        total += threshold * (2 * p * r / (p + r) if p + r else 0.0)
    return float(total / thresholds.sum())


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_vector(name: str):
    target, pred = row(1, 2, 4, 8), row(1.1, 1.9, 5, 6)
    value = METRICS[name](pred, target, target > 0)
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(GOLDEN[name], abs=1e-9)


def test_every_pointwise_metric_has_a_golden_value():
    assert set(METRICS) == {*GOLDEN, "boundary_f1"}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), noise=st.sampled_from([1e-4, 0.05, 0.3, 2.0]), trusted=st.floats(0.05, 1))
def test_all_metrics_agree_with_plain_numpy(seed: int, noise: float, trusted: float):
    pred, target, _ = random_maps(seed, h=5, w=7, noise=noise)
    mask = torch.from_numpy(np.random.default_rng(seed).uniform(size=(2, 5, 7)) < trusted)
    mask[:, 0, :2] = True
    scores = score(pred, target, mask, GOLDEN)
    for image in range(2):
        expected = in_numpy(pred[image][mask[image]].numpy(), target[image][mask[image]].numpy())
        for name, value in expected.items():
            assert scores[name][image].item() == pytest.approx(value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("case", ["one pixel", "threshold", "tiny", "huge", "wide", "same"])
def test_all_metrics_agree_with_plain_numpy_where_it_is_hard(case: str):
    random = np.random.default_rng(8)
    target = random.uniform(0.5, 5, (1, 6, 7))
    pred = target * np.exp(random.normal(0, 0.3, target.shape))
    mask = np.ones(target.shape, bool)
    if case == "one pixel":
        mask[:] = False
        mask[0, 2, 3] = True
    elif case == "threshold":
        target, pred = np.full_like(target, 4.0), np.where(pred > target, 5.0, 3.2)
    elif case in ("tiny", "huge"):
        target, pred = (maps * (1e-5 if case == "tiny" else 1e6) for maps in (target, pred))
    elif case == "wide":
        target, pred = 10 ** random.uniform(-4, 4, (2, 1, 6, 7))
    else:
        pred = target
    scores = score(*(torch.from_numpy(maps) for maps in (pred, target, mask)), GOLDEN)
    with np.errstate(invalid="ignore", divide="ignore"):
        names = [name for name in GOLDEN if not (case == "one pixel" and name == "silog_unbiased")]  # 0/0
        expected = in_numpy(pred[mask], target[mask]) if case != "one pixel" else one_pixel(pred[mask], target[mask])
    for name in names:
        assert scores[name].item() == pytest.approx(expected[name], rel=1e-9, abs=1e-7)  # of 1e-15, a root is 3e-8


def one_pixel(p: np.ndarray, g: np.ndarray) -> dict[str, Any]:
    """As of two pixels alike, whose sample deviation is defined."""
    return in_numpy(np.repeat(p, 2), np.repeat(g, 2))


def test_the_plain_side_of_the_bench_scores_the_same():
    maps = make_maps((330, 640))  # with edges
    pred, target, mask = (torch.from_numpy(array)[None] for array in maps)
    scores = score(align.affine(pred.double(), target, mask), target, mask)
    plain = score_in_numpy(*maps)
    assert plain["boundary_f1"] > 0.5 and set(plain) == set(METRICS)
    for name, value in plain.items():
        assert scores[name].item() == pytest.approx(value, rel=1e-9, abs=1e-9)


def test_scikit_image_agrees():
    pred, target, mask = random_maps(9, b=1)
    error = mean_squared_error(target[mask].numpy(), pred[mask].numpy()) ** 0.5
    assert score(pred, target, mask, ["rmse"])["rmse"].item() == pytest.approx(error, rel=1e-12)


def test_torchmetrics_agrees():
    pred, target, mask = random_maps(1, b=1)
    p, g = pred[mask], target[mask]
    scores = score(pred, target, mask)
    assert scores["mae"].item() == pytest.approx(independent.mean_absolute_error(p, g).item(), rel=1e-12)
    assert scores["rmse"].item() == pytest.approx(independent.mean_squared_error(p, g, squared=False).item(), rel=1e-12)
    assert scores["abs_rel"].item() == pytest.approx(independent.mean_absolute_percentage_error(p, g).item(), rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), noise=st.sampled_from([0.0, 0.03, 0.1, 0.5]))
def test_boundary_f1_agrees_with_depth_pro_on_full_masks(seed: int, noise: float):
    pred, target, mask = random_maps(seed, b=1, h=9, w=11, noise=noise)
    target, pred = 3 + target / 40, 3 + pred / 40
    value = boundary_f1(pred, target, torch.ones_like(mask)).item()
    assert value == pytest.approx(boundary_in_numpy(pred[0].numpy(), target[0].numpy()), abs=1e-12)


def test_boundary_f1_of_shallow_steps_sees_a_groove_that_the_published_one_does_not():
    target = torch.full((1, 8, 12), 0.8)
    target[:, :, 4:7] += 0.01
    mask, flat, blurred = torch.ones_like(target, dtype=torch.bool), torch.full_like(target, 0.8), target.clone()
    blurred[:, :, 3:8] = torch.tensor([0.8033, 0.8067, 0.81, 0.8067, 0.8033])
    published = [boundary_f1(p, target, mask).item() for p in (target, flat)]
    shallow = [boundary_f1(p, target, mask, 1.002, 1.012).item() for p in (target, blurred, flat)]
    assert published == [0, 0] and shallow[0] > shallow[1] > shallow[2] == 0


def test_boundary_f1_knows_sharp_from_smooth_and_near_from_far():
    target = torch.full((1, 8, 8), 2.0)
    target[:, :, 4:] = 1.0
    mask = torch.ones_like(target, dtype=torch.bool)
    # One of four directions holds an edge: precision and recall are 1/4 at best.
    assert boundary_f1(target, target, mask).item() == pytest.approx(0.25)
    assert boundary_f1(3 * target, target, mask).item() == pytest.approx(0.25)
    assert boundary_f1(3 - target, target, mask).item() == 0
    assert boundary_f1(torch.full_like(target, 2.0), target, mask).item() == 0
    assert boundary_f1(torch.full_like(target, torch.nan), target, mask).item() == 0
    mask[:, :, 3] = False
    assert boundary_f1(target, target, mask).item() == 0


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("junk", [0.0, -1.0, torch.nan, torch.inf])
def test_untrusted_pixels_do_not_count(name: str, junk: float):
    pred, target, mask = random_maps(2)
    spoilt_pred, spoilt_target = (torch.where(mask, maps, junk) for maps in (pred, target))
    spoilt = METRICS[name](spoilt_pred, spoilt_target, mask)
    torch.testing.assert_close(spoilt, METRICS[name](pred, target, mask), rtol=0, atol=0)


@pytest.mark.parametrize("name", METRICS)
def test_each_image_is_scored_by_itself(name: str):
    pred, target, mask = random_maps(3, b=3)
    mask[1] = False
    together = METRICS[name](pred, target, mask)
    alone = [METRICS[name](pred[i : i + 1], target[i : i + 1], mask[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), equal_nan=True, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", METRICS)
def test_an_image_without_ground_truth_has_no_score(name: str):
    pred, target, mask = random_maps(4)
    mask[0] = False
    value = METRICS[name](pred, target, mask)
    assert value[0].isnan()
    assert not value[1].isnan()


def test_a_perfect_prediction_is_perfect():
    _, target, mask = random_maps(5)
    for name, value in score(target, target, mask, GOLDEN).items():
        assert (value == (1.0 if name.startswith("delta") else 0.0)).all()


def test_one_pass_gives_what_single_metrics_give_however_it_is_cut(monkeypatch: pytest.MonkeyPatch):
    maps = random_maps(6, h=10, w=12)
    single = {name: metric(*maps) for name, metric in METRICS.items()}
    for block in (7, 100, 1 << 20):
        monkeypatch.setattr(metrics, "BLOCK", block)
        torch.testing.assert_close(score(*maps), single, rtol=1e-12, atol=1e-12)


def test_scale_changes_neither_unbiased_silog_nor_silog():
    pred, target, mask = random_maps(7)
    for name in ("silog", "silog_unbiased", "silog_log10"):
        torch.testing.assert_close(METRICS[name](7 * pred, target, mask), METRICS[name](pred, target, mask))


def test_a_threshold_is_a_miss_in_single_precision_too():
    target = torch.tensor([[[4.0, 5.0, 4.0]]])
    pred = torch.tensor([[[5.0, 4.0, 4.99]]])
    assert METRICS["delta1"](pred, target, target > 0).item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("bad", [0.0, -3.0, torch.nan])
def test_an_impossible_prediction_is_a_miss_and_never_a_hit(bad: float):
    target = torch.full((1, 2, 2), 2.0)
    pred = target.clone()
    pred[0, 0, 0] = bad
    assert METRICS["delta3"](pred, target, target > 0).item() == 0.75
    assert METRICS["rmse_log"](pred, target, target > 0).isnan().item() == (bad != bad)


def test_a_wrong_name_answers_with_the_right_one():
    with pytest.raises(ValueError, match="did you mean 'abs_rel'"):
        score(*random_maps(0), ["absrel"])


# points and videos


def test_a_pair_is_right_only_where_the_values_say_so_and_a_tie_is_wrong():
    depth = torch.tensor([[[1.0, 2.0], [2.0, 3.0]]])
    points = torch.tensor([[[0, 0], [0, 1], [1, 1]]])
    others = torch.tensor([[[1, 1], [1, 0], [0, 0]]])
    assert ordinal(depth, points, others).tolist() == [[True, False, False]]
    assert ordinal(torch.ones_like(depth), points, others).tolist() == [[False, False, False]]


def wall(frames: int = 3, height: int = 12, width: int = 20, depth: float = 2.0) -> tuple[Tensor, Tensor, Tensor]:
    """A wall seen by a camera that moves aside by exactly two pixels a frame: depth, poses, intrinsics."""
    maps = torch.full((frames, height, width), depth, dtype=torch.float64)
    poses = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    poses[:, 0, 3] = torch.arange(frames) * 2 * depth / 10
    camera = torch.tensor([[10.0, 0, 9.5], [0, 10, 5.5], [0, 0, 1]], dtype=torch.float64)
    return maps, poses, camera.repeat(frames, 1, 1)


def test_a_steady_video_agrees_with_itself_and_a_flicker_is_its_size():
    maps, poses, cameras = wall()
    assert metrics.temporal_alignment_error(maps, poses, cameras) == pytest.approx(0, abs=1e-12)
    maps[1] *= 1.1  # seen from its neighbours it is 1/11 off, and they are 1/10 off seen from it
    assert metrics.temporal_alignment_error(maps, poses, cameras) == pytest.approx(100 * (1 / 11 + 1 / 10) / 2)


def test_a_video_in_the_wrong_scale_disagrees_with_its_poses():
    maps, poses, cameras = wall()
    slanted = maps * torch.linspace(0.5, 2, maps.shape[2], dtype=torch.float64)
    assert metrics.temporal_alignment_error(slanted, poses, cameras) > 5


def carried_in_numpy(depth: np.ndarray, there: np.ndarray, move: np.ndarray, camera: np.ndarray) -> float:
    """One carry, pixel by pixel in reading order: the last that falls on a pixel stays."""
    found: dict[tuple[int, int], float] = {}
    for v in range(depth.shape[0]):
        for u in range(depth.shape[1]):
            ray = np.array([(u - camera[0, 2]) / camera[0, 0], (v - camera[1, 2]) / camera[1, 1], 1.0])
            x, y, z = move[:3, :3] @ (ray * depth[v, u]) + move[:3, 3]
            column = int(np.round(x * camera[0, 0] / z + camera[0, 2]))
            row = int(np.round(y * camera[1, 1] / z + camera[1, 2]))
            if 0 <= row < depth.shape[0] and 0 <= column < depth.shape[1]:
                found[row, column] = z
    return float(np.mean([abs(there[place] - z) / there[place] for place, z in found.items()]))


def test_the_error_of_a_video_agrees_with_a_plain_loop():
    random = np.random.default_rng(3)
    maps, poses, cameras = wall()
    maps = torch.from_numpy(random.uniform(1.5, 3, maps.shape))
    angle = 0.05
    poses[1, :2, :2] = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    terms = []
    for i in (0, 1):
        move = np.linalg.inv(poses[i + 1].numpy()) @ poses[i].numpy()
        first, second, camera = maps[i].numpy(), maps[i + 1].numpy(), cameras[i].numpy()
        terms += [carried_in_numpy(first, second, move, camera)]
        terms += [carried_in_numpy(second, first, np.linalg.inv(move), camera)]
    assert metrics.temporal_alignment_error(maps, poses, cameras) == pytest.approx(100 * np.mean(terms), rel=1e-9)


def test_frames_that_share_nothing_have_no_error_rather_than_none_to_speak_of():
    maps, poses, cameras = wall()
    poses[:, 0, 3] *= 100
    assert np.isnan(metrics.temporal_alignment_error(maps, poses, cameras))
    assert np.isnan(metrics.temporal_alignment_error(maps[:1], poses[:1], cameras[:1]))


def test_boundaries_of_half_precision_are_those_of_double():
    depth = torch.full((1, 4, 6), 1.0068359375)
    depth[..., 3:] = 1.0576171875  # a step of 1.05044
    mask = torch.ones_like(depth, dtype=torch.bool)
    exact = boundary_f1(depth.double(), depth.double(), mask)
    assert exact > 0
    torch.testing.assert_close(boundary_f1(depth.half(), depth.half(), mask), exact)
