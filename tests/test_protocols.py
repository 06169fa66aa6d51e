"""Protocols score the pixels that their sources score: the crops of every size of KITTI's frames, row by row."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from sonde import protocols
from sonde.align import ALIGN
from sonde.datasets import Capture
from sonde.evaluation.scoring import apply_protocol_view, crop_prediction, score
from sonde.metrics import METRICS
from sonde.protocols.windows import Box, find_box
from sonde.types import Prediction

GARG = {
    (375, 1242): (153, 371, 44, 1197),
    (352, 1216): (143, 349, 43, 1172),
    (370, 1224): (151, 366, 43, 1180),
    (376, 1241): (153, 372, 44, 1196),
    (374, 1238): (152, 370, 44, 1193),
}
EIGEN = {(375, 1242): (124, 342, 44, 1197), (352, 1216): (117, 321, 43, 1172)}
KB_CORNERS = {
    (375, 1242): (23, 13),
    (370, 1224): (18, 4),
    (376, 1241): (24, 12),
    (374, 1238): (22, 11),
    (370, 1226): (18, 5),
}


def frame(size: tuple[int, int], depth: float = 20.0) -> Capture:
    """A frame whose depth grows by 10 µm a pixel, so that every pixel is known by its depth."""
    values = depth + 1e-5 * np.arange(size[0] * size[1], dtype=np.float32).reshape(size)
    return Capture("frame", np.zeros((*size, 3), np.uint8), values, np.ones(size, bool))


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of a mask that is one full rectangle."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    found = Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    assert mask[found.top : found.bottom, found.left : found.right].all()
    return found


@pytest.mark.parametrize("name", protocols.list_names())
def test_every_packaged_protocol_names_what_exists(name):
    rules = protocols.load(name)
    assert rules.name == name
    assert rules.align in ALIGN
    assert rules.average == "pair" or set(rules.metrics) <= set(METRICS)
    assert rules.average == "pair" or {"mae", "abs_rel", "rmse", "delta1", "delta105"} <= set(rules.metrics)
    assert list(rules.ranges) == sorted(rules.ranges)


def test_a_protocol_cannot_be_changed():
    rules = protocols.load("zivid-mm")
    with pytest.raises(ValueError, match="frozen"):
        rules.max_depth = 5.0  # pyright: ignore[reportAttributeAccessIssue]


WINDOWS = [
    *(("garg", size, expected) for size, expected in GARG.items()),
    *(("eigen", size, expected) for size, expected in EIGEN.items()),
]


@pytest.mark.parametrize(("name", "size", "expected"), WINDOWS)
def test_windows_are_the_fields_for_every_size_of_frame(name, size, expected):
    assert find_box(name, size) == expected


@pytest.mark.parametrize("size", KB_CORNERS)
def test_the_kb_cut_shows_the_model_the_bottom_and_the_middle(size):
    seen = apply_protocol_view(frame(size), protocols.load("kitti-garg-kb"))
    top, left = KB_CORNERS[size]
    assert seen.image.shape[:2] == seen.depth.shape == (352, 1216)
    assert seen.depth[0, 0] == frame(size).depth[top, left]


@pytest.mark.parametrize("size", KB_CORNERS)
def test_cut_then_garg_scores_one_window_whatever_the_frame(size):
    assert bounds(apply_protocol_view(frame(size), protocols.load("kitti-garg-kb")).mask) == GARG[352, 1216]


@pytest.mark.parametrize("size", [size for size in GARG if size != (352, 1216)])
def test_garg_of_the_whole_frame_scores_other_pixels_than_garg_of_the_cut(size):
    top, left = KB_CORNERS[size]
    seen = apply_protocol_view(frame(size), protocols.load("kitti-garg"))
    rows, columns = GARG[size][:2], GARG[size][2:]
    assert bounds(seen.mask) == (rows[0] - top, rows[1] - top, columns[0] - left, columns[1] - left)
    assert bounds(seen.mask) != GARG[352, 1216]


def test_the_whole_frames_window_in_the_cut_is_bts_own():
    """FIELD: rows 130:348 and columns 31:1184 of the cut, for a frame of 375x1242."""
    assert bounds(apply_protocol_view(frame((375, 1242)), protocols.load("kitti-garg")).mask) == (130, 348, 31, 1184)


def test_pasting_into_the_frame_and_scoring_there_gives_the_same_number():
    """BTS's own order of steps, written out: a zero canvas, the answer pasted, Garg's window of the frame."""
    capture, rules = frame((370, 1226)), protocols.load("kitti-garg")
    answer = np.random.default_rng(0).uniform(15, 25, (352, 1216)).astype(np.float32)
    canvas = np.zeros((370, 1226))
    canvas[18:370, 5:1221] = answer
    inside = np.zeros((370, 1226), bool)
    inside[151:366, 44:1181] = True
    truth = capture.depth[inside].astype(np.float64)
    expected = np.mean(np.abs(canvas[inside] - truth) / truth)
    scores, _ = score(Prediction(answer, "metric"), apply_protocol_view(capture, rules), rules)
    assert scores["abs_rel"] == pytest.approx(expected, rel=1e-12)


def test_a_frame_that_was_cut_when_read_has_no_window_of_the_whole_frame():
    with pytest.raises(ValueError, match="read the set as kitti"):
        apply_protocol_view(frame((352, 1216)), protocols.load("kitti-garg"))
    assert bounds(apply_protocol_view(frame((352, 1216)), protocols.load("kitti-garg-kb")).mask) == GARG[352, 1216]


def test_a_frame_smaller_than_the_cut_is_told_so():
    with pytest.raises(ValueError, match="smaller than the KB crop"):
        apply_protocol_view(frame((300, 1216)), protocols.load("kitti-garg-kb"))


def test_a_prediction_of_the_whole_frame_is_cut_and_one_of_the_cut_is_not():
    capture, rules = frame((375, 1242)), protocols.load("kitti-garg-kb")
    whole = crop_prediction(Prediction(capture.depth, "metric"), capture, rules)
    np.testing.assert_array_equal(whole.depth, apply_protocol_view(capture, rules).depth)
    half = Prediction(np.ones((176, 608), np.float32), "metric")
    assert crop_prediction(half, capture, rules) is half


def test_half_a_frame_is_of_the_frame_and_a_shape_that_is_neither_is_refused():
    capture, rules = frame((375, 1242)), protocols.load("kitti-garg-kb")
    down = (20 + (np.arange(375) + 0.5) / 375).astype(np.float32)[:, None]
    capture = capture._replace(depth=np.repeat(down, 1242, 1))
    half = (20 + (np.arange(187) + 0.5) / 187).astype(np.float32)[:, None]
    seen = crop_prediction(Prediction(np.repeat(half, 621, 1), "metric"), capture, rules)
    assert score(seen, apply_protocol_view(capture, rules), rules)[0]["abs_rel"] < 1e-4
    for shape in ((192, 640), (384, 384), (1242, 375)):
        with pytest.raises(ValueError, match=f"is {shape[1]}x{shape[0]}: expected the shape of the frame"):
            crop_prediction(Prediction(np.ones(shape, np.float32), "metric"), capture, rules)
    with pytest.raises(ValueError, match="expected the shape of the frame"):  # of the frame, and the set is cut
        crop_prediction(Prediction(np.ones((375, 1242), np.float32), "metric"), frame((352, 1216)), rules)


@pytest.mark.parametrize("size", [(375, 1242), (370, 1224)])
def test_a_baseline_of_whole_frames_is_brought_to_each_frame_before_it_is_cut(size):
    """Depth by row alone, given at one size of frame, is right in frames of every size."""
    rows = {height: (20 + (np.arange(height) + 0.5) / height).astype(np.float32)[:, None] for height in (375, size[0])}
    capture, rules = frame(size), protocols.load("kitti-garg-kb")
    capture = capture._replace(depth=np.repeat(rows[size[0]], size[1], 1))
    baseline = Prediction(np.repeat(rows[375], 1242, 1), "metric")
    seen = apply_protocol_view(capture, rules)
    scores, _ = score(crop_prediction(baseline, capture, rules, whole=True), seen, rules)
    assert scores["abs_rel"] < 1e-4
    assert score(crop_prediction(baseline, capture, rules), seen, rules)[0]["abs_rel"] < 1e-4  # its shape tells


def test_the_prediction_is_clamped_and_the_ground_truth_is_not():
    capture, rules = frame((352, 1216), 77.5), protocols.load("kitti-garg-kb")
    assert capture.depth.max() > 80
    far = Prediction(np.full((352, 1216), 500, np.float32), "metric")
    scores, depth = score(far, apply_protocol_view(capture, rules), rules)
    assert depth.max() == 80 and scores["mae"] < 1


def test_a_fit_may_see_thinned_maps_and_is_applied_to_all():
    rules = protocols.load("eth3d")
    capture = frame((600, 2048))
    rng = np.random.default_rng(0)
    answer = (capture.depth * 0.5 + 3 + rng.normal(0, 0.1, capture.depth.shape)).astype(np.float32)
    _, depth = score(Prediction(answer, "affine"), apply_protocol_view(capture, rules), rules)
    thin = np.s_[::2, ::2]
    slope, shift = np.polyfit(
        answer[thin].ravel().astype(np.float64), capture.depth[thin].ravel().astype(np.float64), 1
    )
    np.testing.assert_allclose(depth, slope * answer + shift, rtol=1e-6)


def test_a_disparity_ends_at_the_protocols_own_limit_and_not_at_the_maps():
    rules = protocols.load("sintel")
    capture = frame((8, 8))
    far = 1 / capture.depth
    far[0, 0] = -1.0  # beyond infinity
    mask = capture.mask.copy()
    mask[0, 0] = False
    _, depth = score(Prediction(far, "disparity"), apply_protocol_view(capture._replace(mask=mask), rules), rules)
    assert depth[0, 0] == pytest.approx(70)
    np.testing.assert_allclose(depth[mask], capture.depth[mask], rtol=1e-5)


def test_corners_are_held_where_the_protocol_says_so():
    capture, rules = frame((352, 1216)), protocols.load("kitti-garg-kb")
    ramp = np.linspace(10, 20, 608, dtype=np.float32)[None].repeat(176, 0)
    _, depth = score(Prediction(ramp, "metric"), apply_protocol_view(capture, rules), rules)
    np.testing.assert_allclose(depth, np.linspace(10, 20, 1216)[None].repeat(352, 0), rtol=1e-5)


def own(tmp_path: Path, **changes: object) -> str:
    """A file made from the protocol `metric`."""
    document = protocols.load("metric").model_dump(mode="json") | {"name": "mine"} | changes
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(document))
    return str(tmp_path / "mine.yaml")


def test_a_protocol_of_ones_own_has_a_name_of_its_own(tmp_path):
    assert protocols.load(own(tmp_path, max_depth=5.0)).max_depth == 5
    assert protocols.load(own(tmp_path), "median").name == "mine+median"
    with pytest.raises(ValueError, match=r"the name nyu-eigen is taken\. Give your protocol another name"):
        protocols.load(own(tmp_path, name="nyu-eigen"))


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"align": "medain"}, "median"),
        ({"metrics": ["absrel"]}, "abs_rel"),
        ({"crop": "kb"}, "every key of a packaged"),
    ],
)
def test_a_wrong_word_in_a_protocol_of_ones_own_is_one_sentence(tmp_path, change, answer):
    with pytest.raises(ValueError, match=answer) as caught:
        protocols.load(own(tmp_path, **change))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="does not exist"):
        protocols.load(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("name", ["metric", "affine-disparity"])
def test_a_hole_where_nothing_is_trusted_costs_nothing(name):
    rules = protocols.load(name)
    mask = np.ones((48, 64), bool)
    mask[:16, :16] = False
    capture = Capture("hole", np.zeros((48, 64, 3), np.uint8), np.full((48, 64), 2.0, np.float32), mask)
    answer = np.linspace(0.4, 0.6, 24 * 32, dtype=np.float32).reshape(24, 32)
    space = "disparity" if name == "affine-disparity" else "metric"
    whole, _ = score(Prediction(answer, space), apply_protocol_view(capture, rules), rules)
    answer = answer.copy()
    answer[0, 0] = np.nan
    holed, _ = score(Prediction(answer, space), apply_protocol_view(capture, rules), rules)
    assert holed["abs_rel"] == pytest.approx(whole["abs_rel"], rel=1e-6)
    answer[12, 16] = np.inf
    with pytest.raises(ValueError, match="has no value at"):
        score(Prediction(answer, space), apply_protocol_view(capture, rules), rules)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clamp": [10, 0.001]}, "clamp: .* do not run upwards"),
        ({"fit_side": 0}, "fit_side"),
        ({"window": [-100, 471, 41, 601]}, "window: .* do not run upwards"),
        ({"window": [45, 471, 601, 41]}, "window's columns: .* do not run upwards"),
        ({"ranges": [10, 5, 0]}, "ranges: .* do not run upwards"),
        ({"min_depth": 10, "max_depth": 1}, "max_depth: .* do not run upwards"),
        ({"metrics": []}, "no metric"),
    ],
)
def test_constants_that_cannot_be_are_refused(tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        protocols.load(own(tmp_path, **change))


def test_a_protocol_for_pairs_may_be_copied_and_scores_that_alone(tmp_path):
    pairs = {**protocols.load("da2k").model_dump(mode="json"), "name": "mine"}
    assert protocols.load(own(tmp_path, **pairs)).metrics == ["ordinal_accuracy"]
    with pytest.raises(ValueError, match="no metric 'abs_rel'"):
        protocols.load(own(tmp_path, **pairs | {"metrics": ["abs_rel"]}))
