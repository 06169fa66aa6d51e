"""DA-2K: points are (row, column), values are compared whatever the order of the pair, scenes are told apart."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_captures import picture, write_bench

from sonde import evaluation, files
from sonde.datasets import Capture
from sonde.types import Prediction

HEIGHT, WIDTH = 20, 30
PAIRS = {
    "images/indoor/a.jpg": [((19, 0), (0, 29), "point1"), ((15, 3), (2, 3), "point1"), ((10, 1), (9, 1), "point1")],
    "images/aerial/b.jpg": [((0, 7), (12, 7), "point2")],
}
"""Everywhere the lower point is the nearer."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    document = {}
    for seed, (path, pairs) in enumerate(PAIRS.items()):
        (tmp_path / path).parent.mkdir(parents=True)
        files.write_rgb(tmp_path / path, picture(seed, HEIGHT, WIDTH))
        document[path] = [{"point1": a, "point2": b, "closer_point": closer} for a, b, closer in pairs]
    (tmp_path / "annotations.json").write_text(json.dumps(document))
    return tmp_path


def ground(capture: Capture, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Disparity that grows towards the lower edge."""
    return np.linspace(0, 1, height, dtype=np.float32)[:, None].repeat(width, 1)


def test_ground_that_comes_nearer_downwards_is_all_right(root):
    result = evaluation.evaluate(lambda capture: Prediction(ground(capture), "disparity"), "da2k", root)
    assert result.metrics == {"ordinal_accuracy": 1.0}
    assert {row["id"]: row["pairs"] for row in result.rows} == {"images/aerial/b": 1, "images/indoor/a": 3}


@pytest.mark.parametrize("space", ["metric", "scale", "affine"])
def test_of_depth_the_smaller_is_the_nearer(root, space):
    result = evaluation.evaluate(lambda capture: Prediction(2 - ground(capture), space), "da2k", root)
    assert result.metrics["ordinal_accuracy"] == 1
    upside_down = evaluation.evaluate(lambda capture: Prediction(1 + ground(capture), space), "da2k", root)
    assert upside_down.metrics["ordinal_accuracy"] == 0


def test_an_answer_that_does_not_look_is_all_wrong_though_the_first_point_is_nearly_always_the_nearer(root):
    result = evaluation.evaluate(lambda capture: Prediction(np.ones((4, 4), np.float32), "disparity"), "da2k", root)
    assert result.metrics["ordinal_accuracy"] == 0


def test_the_mean_is_over_pairs_and_each_scene_is_told(root):
    def right_in_aerial(capture: Capture) -> Prediction:
        return Prediction(ground(capture) * (1 if "aerial" in capture.id else -1), "disparity")

    result = evaluation.evaluate(right_in_aerial, "da2k", root)
    assert result.metrics["ordinal_accuracy"] == pytest.approx(1 / 4)
    assert {scene: found["ordinal_accuracy"] for scene, found in result.groups.items()} == {"aerial": 1, "indoor": 0}


def test_points_are_row_and_column_in_the_pictures_own_size(root):
    """A map of half the size: row 10 and row 9 lie on either side of its middle."""
    result = evaluation.evaluate(lambda capture: Prediction(ground(capture, 10, 15), "disparity"), "da2k", root)
    assert result.metrics["ordinal_accuracy"] == 1


def test_a_point_outside_its_picture_is_named(root):
    document = json.loads((root / "annotations.json").read_text())
    document["images/indoor/a.jpg"][0]["point2"] = [29, 0]
    (root / "annotations.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"point \(29, 0\) in images/indoor/a.jpg, which is 30x20: points are \(row"):
        evaluation.evaluate(lambda capture: Prediction(ground(capture), "disparity"), "da2k", root)


@pytest.mark.parametrize("content", ["", "[]", '{"a.jpg": [{"point1": [0, 0]}]}', '{"a.jpg": 3}'])
def test_annotations_of_another_form_are_one_sentence(root, content):
    (root / "annotations.json").write_text(content)
    with pytest.raises(ValueError, match=r"annotations.json cannot be read .*closer_point"):
        evaluation.evaluate(lambda capture: Prediction(ground(capture), "disparity"), "da2k", root)


def test_the_command_line_tells_accuracy_by_scene(sonde, root, tmp_path):
    said = sonde("eval", "sonde-tiny", "--protocol", "da2k", "--data", root, "--out", tmp_path / "out", "--json").json
    assert set(said["groups"]) == {"indoor", "aerial"} and 0 <= said["metrics"]["ordinal_accuracy"] <= 1
    assert (tmp_path / "out" / "per_image.csv").read_text().startswith("id,pairs,group,ordinal_accuracy")


@pytest.mark.parametrize("words", [{"align": "disparity"}, {"ids": ["a"]}, {"listed": "list.txt"}, {"data": None}])
def test_what_has_no_meaning_for_pairs_is_refused(root, words):
    with pytest.raises(ValueError, match=r"scores all of a folder with annotations\.json: give data=ROOT"):
        evaluation.evaluate(lambda capture: Prediction(ground(capture), "affine"), "da2k", **{"data": root, **words})


def test_a_set_of_depth_is_no_set_of_pairs(root, tmp_path):
    bench = write_bench(tmp_path / "bench", 1)
    with pytest.raises(ValueError, match=r"da2k scores pairs of points, and .*bench holds depth"):
        evaluation.evaluate_many("sonde-tiny", [evaluation.On("zivid", bench, "da2k")])


def test_a_picture_without_pairs_says_nothing(root):
    document = json.loads((root / "annotations.json").read_text())
    (root / "annotations.json").write_text(json.dumps(document | {"images/aerial/none.jpg": []}))
    assert len(evaluation.evaluate(lambda capture: Prediction(ground(capture), "disparity"), "da2k", root).rows) == 2
