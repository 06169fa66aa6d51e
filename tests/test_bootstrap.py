"""Intervals cover as they claim, scenes are drawn whole, and a pair of models is told apart where each alone is not."""

import json

import numpy as np
import pytest
from small_captures import write_bench

from sonde import evaluation
from sonde.datasets import Capture
from sonde.evaluation import bootstrap, read_evaluation
from sonde.evaluation.bootstrap import intervals, paired
from sonde.report import Gallery
from sonde.types import Prediction


def rows_of(values: np.ndarray, scenes: np.ndarray | None = None) -> list[dict]:
    rows = [{"id": str(index), "error": float(value)} for index, value in enumerate(values)]
    return rows if scenes is None else [row | {"scene": str(s)} for row, s in zip(rows, scenes, strict=True)]


def test_the_interval_of_a_mean_is_that_of_the_normal_theory():
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = intervals(rows_of(values), ["error"])["error"]
    half = 1.96 * values.std() / np.sqrt(400)
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert (found.low, found.high) == (
        pytest.approx(found.mean - half, abs=0.02),
        pytest.approx(found.mean + half, abs=0.02),
    )


def test_nineteen_of_twenty_intervals_hold_the_truth(monkeypatch):
    monkeypatch.setattr(bootstrap, "DRAWS", 500)
    random = np.random.default_rng(1)
    found = [intervals(rows_of(random.normal(0, 1, 60)), ["error"])["error"] for _ in range(200)]
    assert 0.88 <= np.mean([each.low < 0 < each.high for each in found]) <= 0.99


def test_frames_of_one_scene_count_as_one_draw():
    scenes = np.arange(8).repeat(50)
    values = np.random.default_rng(2).normal(0, 1, 8)[scenes]
    alone, together = (intervals(rows_of(values, s), ["error"])["error"] for s in (None, scenes))
    assert together.mean == pytest.approx(alone.mean)
    assert (together.high - together.low) > 5 * (alone.high - alone.low)


def test_scenes_of_unequal_size_keep_the_mean_over_images():
    scenes = np.array([0] * 9 + [1])
    found = intervals(rows_of(np.where(scenes == 0, 1.0, 3.0), scenes), ["error"])["error"]
    assert found.mean == pytest.approx(1.2) and (found.low, found.high) == (1.0, 3.0)


def test_pairs_of_points_weigh_by_their_number():
    rows = [{"id": "a", "pairs": 3, "share": 1.0}, {"id": "b", "pairs": 1, "share": 0.0}]
    assert intervals(rows, ["share"])["share"].mean == 0.75


def test_the_same_rows_give_the_same_interval_however_it_is_cut(monkeypatch):
    rows = rows_of(np.random.default_rng(3).uniform(size=30))
    whole = intervals(rows, ["error"])["error"]
    assert intervals(rows, ["error"])["error"] == whole
    monkeypatch.setattr(bootstrap, "BLOCK", 30 * 77)
    assert intervals(rows, ["error"])["error"] == pytest.approx(whole)


def test_a_pair_is_told_apart_where_their_own_intervals_overlap():
    random = np.random.default_rng(4)
    hard = random.uniform(1, 10, 100)
    one, other = rows_of(hard), rows_of(hard + 0.1 + random.normal(0, 0.05, 100))
    first, second = (intervals(rows, ["error"])["error"] for rows in (one, other))
    assert first.high > second.low
    found = paired(one, other[::-1], ["error"])["error"]
    assert found.high < 0 and found.mean == pytest.approx(-0.1, abs=0.02)


def test_other_images_are_not_paired():
    rows = rows_of(np.arange(5.0))
    with pytest.raises(ValueError, match=r"\(4 is in the first alone\): score both on the same captures"):
        paired(rows, rows[:4], ["error"])


@pytest.mark.parametrize("level", [0, 100, -5])
def test_a_level_must_be_one(level):
    with pytest.raises(ValueError, match="between 0 and 100"):
        intervals(rows_of(np.arange(5.0)), ["error"], level)


def test_one_scene_has_no_interval():
    with pytest.raises(ValueError, match="3 images of one scene have no interval"):
        intervals(rows_of(np.arange(3.0), np.zeros(3, int)), ["error"])


def test_one_image_is_scored_and_told_to_have_no_interval(tmp_path):
    result = evaluation.evaluate(off(3), data=write_bench(tmp_path / "one", 1), ci=95)
    assert result.metrics["mae_mm"] == pytest.approx(3, abs=1e-3) and "ci" not in result.summary()
    assert result.notes == ["1 image of one scene has no interval: score more scenes."]


@pytest.fixture
def root(tmp_path):
    return write_bench(tmp_path / "bench", 5)


def off(millimetres: float):
    """Too far by so much, and by one more for every capture."""
    return lambda capture: Prediction(capture.depth + np.float32((millimetres + int(capture.id[1:])) / 1000), "metric")


def test_intervals_stand_beside_the_means_and_survive_the_disk(root, tmp_path):
    result = evaluation.evaluate(off(3), data=root, ci=90, out=tmp_path / "out")
    low, high = json.loads(json.dumps(result.summary()))["ci"]["mae_mm"]
    assert 3 <= low < result.metrics["mae_mm"] < high <= 7
    again = read_evaluation(tmp_path / "out")
    assert again.rows == result.rows and again.summary() == result.summary()


def test_two_evaluations_are_compared_image_by_image(root, tmp_path):
    one, other = (evaluation.evaluate(off(error), data=root) for error in (3, 4))
    found = evaluation.difference(one, other)["mae_mm"]
    assert found == pytest.approx((-1, -1, -1), abs=1e-3)
    relative = evaluation.evaluate(off(4), "zivid-mm", root, align="median")
    with pytest.raises(ValueError, match=r"zivid-mm and zivid-mm\+median differ by protocol"):
        evaluation.difference(one, relative)


def test_a_folder_without_scores_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"metrics.json does not exist"):
        read_evaluation(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(ValueError, match=r"metrics.json cannot be read .*sonde eval --out"):
        read_evaluation(tmp_path)


def test_the_command_tells_intervals_and_writes_a_report(sonde, root, tmp_path):
    said = sonde(
        "eval", "sonde-tiny", "--protocol", "affine-disparity", "--data", root, "--ci", "95", "-o", tmp_path / "o"
    )
    assert said.code == 0 and "95 % interval" in said.text and " to " in said.text
    html = (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    assert "95 % interval, captures drawn again" in html and html.count('class="capture"') == 5


def test_the_worst_ten_are_kept_as_pictures():
    shown = Gallery()
    for index in range(12):
        depth = np.ones((4, 6), np.float32)
        seen = Capture(f"c{index:02}", np.zeros((4, 6, 3), np.uint8), depth, depth > 0)
        shown.add(seen, depth, {"id": seen.id, "pixels": 24, "scene": "s", "mae_mm": float(index)})
    assert [panel.id for panel in shown.panels] == [f"c{index:02}" for index in range(11, 1, -1)]
