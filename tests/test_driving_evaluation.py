"""Driving is scored near and far apart, its scale is told, and several sets make one table."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_captures import picture, write_bench
from trained_runs import make_run

from sonde import evaluation, report, scenes, training
from sonde.baselines import ConstantPredictor
from sonde.datasets import Capture
from sonde.evaluation import MEAN_MAP, On, evaluate_many, parse_on, range_table
from sonde.types import Prediction

DEPTHS = np.array([5.0, 15.0, 30.0, 60.0], np.float32)


def write_drive(root: Path, depths: list[np.ndarray], name: str = "drive") -> Path:
    """A half-size DrivingStereo set, level / 256 m."""
    for folder in ("left-image-half-size", "depth-map-half-size"):
        (root / folder / name).mkdir(parents=True, exist_ok=True)
    for index, depth in enumerate(depths):
        levels = np.round(depth * 256).astype(np.uint16)
        Image.fromarray(levels).save(root / "depth-map-half-size" / name / f"{index}.png")
        pixels = picture(index, *depth.shape)
        Image.fromarray(pixels).save(root / "left-image-half-size" / name / f"{index}.jpg")
    return root


@pytest.fixture
def road(tmp_path: Path) -> Path:
    """Two frames of 16x32: one with all four depths in stripes, one that ends at 15 m."""
    stripes = DEPTHS.repeat(8)[None].repeat(16, 0)
    return write_drive(tmp_path / "road", [stripes, np.minimum(stripes, 15)])


def too_near(capture: Capture) -> Prediction:
    """By a tenth in the first 20 m, by a half behind."""
    return Prediction(capture.depth * np.where(capture.depth < 20, 0.9, 0.5).astype(np.float32), "metric")


def test_errors_are_told_by_range_and_an_image_without_pixels_there_is_left_out(road):
    result = evaluation.evaluate(too_near, "driving-stereo", road, format="driving_stereo")
    near, middle, far = (result.ranges[name] for name in ("0-20", "20-40", "40-80"))
    assert near["abs_rel"] == pytest.approx(0.1, abs=1e-6)
    assert middle["abs_rel"] == far["abs_rel"] == pytest.approx(0.5)
    assert far["rmse_m"] == pytest.approx(30) and middle["delta1"] == 0 and near["delta1"] == 1
    assert (near["images"], middle["images"], far["images"]) == (2, 1, 1)
    assert (near["pixels"], middle["pixels"], far["pixels"]) == (256 + 512, 128, 128)
    assert result.rows[1]["pixels[40-80]"] == 0 and result.rows[1]["abs_rel[40-80]"] is None


def test_one_of_several_sets_scores_as_it_does_alone(tmp_path):
    bench = write_bench(tmp_path / "bench", 5)
    run = make_run(bench, tmp_path / "run", ["c03", "c04"], ["c02"])
    other = write_bench(tmp_path / "other", 3)
    sets = [On("zivid", bench, "zivid-mm"), On("zivid", other, "zivid-mm")]
    many = evaluate_many(run, sets, ci=90)
    for root in (bench, other):
        alone = evaluation.evaluate(run, "zivid-mm", root, format="zivid", ci=90)
        assert many[f"zivid-mm on {root.name}"] == alone


def test_pixels_of_the_ranges_add_up_to_those_scored(road):
    result = evaluation.evaluate(too_near, "driving-stereo", road, format="driving_stereo")
    for row in result.rows:
        assert sum(row[f"pixels[{span}]"] for span in result.spans) == row["pixels"]
        weighted = sum((row[f"abs_rel[{span}]"] or 0) * row[f"pixels[{span}]"] for span in result.spans)
        assert weighted / row["pixels"] == pytest.approx(row["abs_rel"])


def test_a_range_begins_at_its_lower_end_and_ends_before_its_upper(tmp_path):
    root = write_drive(tmp_path / "road", [np.full((8, 8), 20, np.float32)])
    result = evaluation.evaluate(too_near, "driving-stereo", root, format="driving_stereo")
    assert [found["pixels"] for found in result.ranges.values()] == [0, 64, 0]


def test_the_ratio_of_the_medians_is_that_of_the_focal_lengths(road):
    result = evaluation.evaluate(
        lambda capture: Prediction(capture.depth / np.float32(1.25), "metric"),
        "driving-stereo",
        road,
        format="driving_stereo",
    )
    assert result.scale_ratio == {"mean": pytest.approx(1.25), "median": pytest.approx(1.25)}
    assert [row["scale_ratio"] for row in result.rows] == pytest.approx([1.25, 1.25])
    assert result.summary()["scale_ratio"] == result.scale_ratio


def test_a_ratio_of_medians_is_not_a_median_of_ratios(road):
    result = evaluation.evaluate(too_near, "driving-stereo", road, format="driving_stereo")
    predicted = np.array([4.5, 13.5, 15, 30])
    assert result.rows[0]["scale_ratio"] == pytest.approx(np.median(DEPTHS) / np.median(predicted))


def test_the_ratio_is_that_of_the_prediction_before_any_alignment(road):
    result = evaluation.evaluate(too_near, "driving-stereo", road, format="driving_stereo", align="median")
    plain = evaluation.evaluate(too_near, "driving-stereo", road, format="driving_stereo")
    assert [row["scale_ratio"] for row in result.rows] == [row["scale_ratio"] for row in plain.rows]


def test_a_relative_prediction_has_no_ratio(road):
    result = evaluation.evaluate(
        lambda capture: Prediction(1 / np.maximum(capture.depth, 1), "disparity"),
        "affine-disparity",
        road,
        format="driving_stereo",
    )
    assert result.scale_ratio == {} and "scale_ratio" not in result.summary()


def test_ranges_and_ratios_are_on_disk(road, tmp_path):
    result = evaluation.evaluate(too_near, "driving-stereo", road, format="driving_stereo", out=tmp_path / "out")
    document = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert document["ranges"] == result.ranges and document["scale_ratio"] == result.scale_ratio
    with (tmp_path / "out" / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["rmse_m[40-80]"]) == pytest.approx(30)
    assert rows[1]["rmse_m[40-80]"] == "" and rows[1]["pixels[40-80]"] == "0"


def test_the_report_shows_the_ranges_and_the_ratio(road, tmp_path):
    shown = report.Gallery()
    result = evaluation.evaluate(too_near, "driving-stereo", road, format="driving_stereo", watch=shown.add)
    html = report.write(tmp_path, {"model": result}, shown).read_text(encoding="utf-8")
    assert "By true depth" in html and "40-80 m" in html and "30.00" in html
    assert "times the predicted one" in html


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(write_bench(tmp_path / "bench", 4), tmp_path / "run", ["c03"], ["c02"])


def test_several_sets_make_one_board_with_the_mean_map_beside_each(run, road, tmp_path):
    other = write_drive(tmp_path / "night", [np.full((40, 20), 10, np.float32)])
    sets = [On("driving_stereo", road, "driving-stereo"), On("driving_stereo", other)]
    scoreboard = evaluate_many(run, sets, ci=95, out=tmp_path / "out")
    names = ["driving-stereo on road", "metric on night"]
    assert list(scoreboard) == [names[0], f"{names[0]}: {MEAN_MAP}", names[1], f"{names[1]}: {MEAN_MAP}"]
    assert [len(scored.rows) for scored in scoreboard.values()] == [2, 2, 1, 1]
    bench = np.load(tmp_path / "bench" / "depth" / "c00.npy")[..., 2]
    error = 10 - (np.nanmean(bench) + 0.5) / 1000  # the mean map of c00 and c01, resized, on a wall at 10 m
    assert scoreboard[f"{names[1]}: {MEAN_MAP}"].metrics["mae_m"] == pytest.approx(error, abs=0.05)
    document = json.loads((tmp_path / "out" / "metric-on-night" / "metrics.json").read_text())
    assert set(document["table"]) == set(list(scoreboard)[2:])
    assert "2 images of one scene have no interval" in " ".join(scoreboard[names[0]].notes)


def test_a_set_of_the_runs_own_root_is_its_test_captures(run, tmp_path):
    scoreboard = evaluate_many(run, [On("zivid", tmp_path / "bench", "zivid-mm")])
    assert [row["id"] for row in scoreboard["zivid-mm on bench"].rows] == ["c03"]


def test_a_set_is_not_scored_twice_under_one_name(run, road):
    with pytest.raises(ValueError, match="Two sets are both 'driving-stereo on road'"):
        evaluate_many(run, [On("driving_stereo", road, "driving-stereo")] * 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kitti:data/kitti", On("kitti", Path("data/kitti"))),
        ("kitti:data/kitti@kitti-garg", On("kitti", Path("data/kitti"), "kitti-garg")),
        ("nyu:/d/nyu@nyu-eigen#lists/test.txt", On("nyu", Path("/d/nyu"), "nyu-eigen", Path("lists/test.txt"))),
    ],
)
def test_a_set_is_spelled_as_layout_folder_protocol_and_list(text, expected):
    assert parse_on(text) == expected


def test_a_folder_may_have_an_at_in_its_name(tmp_path):
    (tmp_path / "a@b").mkdir()
    assert parse_on(f"zivid:{tmp_path}/a@b").root == tmp_path / "a@b"


@pytest.mark.parametrize(("text", "answer"), [("data/kitti", "FORMAT:ROOT"), ("kiti:data", "did you mean 'kitti'")])
def test_a_set_that_is_misspelled_is_answered_with_the_right_form(text, answer):
    with pytest.raises(ValueError, match=answer):
        parse_on(text)


def test_the_command_prints_ranges_and_boards(sonde, run, road, tmp_path):
    one = sonde("eval", run, "--data", road, "--format", "driving_stereo", "--protocol", "driving-stereo")
    assert one.code == 0 and "40-80 m" in one.text and "true depth is " in one.text
    several = sonde("eval", run, "--on", f"driving_stereo:{road}@driving-stereo", "--on", f"zivid:{tmp_path / 'bench'}")
    assert several.code == 0 and "metric on bench" in several.text and MEAN_MAP[:20] in several.text
    told = sonde("eval", run, "--on", f"driving_stereo:{road}@driving-stereo", "--json").json
    assert set(told["driving-stereo on road"]["ranges"]) == {"0-20", "20-40", "40-80"}
    words = ("--on", f"driving_stereo:{road}@driving-stereo", "--out", tmp_path / "out")
    assert sonde("eval", run, *words).code == 0
    html = (tmp_path / "out" / "driving-stereo-on-road" / "report.html").read_text(encoding="utf-8")
    assert "40-80 m" in html and MEAN_MAP in html
    clash = sonde("eval", run, "--on", f"zivid:{road}", "--data", road)
    assert clash.code == 2 and "--on names set" in clash.errors


def test_the_command_says_what_weakens_the_numbers_of_each_set(sonde, run, road, tmp_path):
    (tmp_path / "wrong").mkdir()
    for index in (0, 1):
        depth = np.minimum(DEPTHS.repeat(8)[None].repeat(16, 0), 60 if index == 0 else 15)
        (tmp_path / "wrong" / "drive").mkdir(exist_ok=True)
        np.save(tmp_path / "wrong" / "drive" / f"{index}.npy", depth)
    (tmp_path / "wrong" / "predictions.json").write_text('{"space": "disparity"}')
    said = sonde("eval", tmp_path / "wrong", "--on", f"driving_stereo:{road}@affine-disparity")
    assert said.code == 0 and "affine-disparity on road: 2 of 2 images were fitted with a negative scale" in said.text


def test_a_table_of_ranges_says_where_nothing_was_seen(tmp_path):
    root = write_drive(tmp_path / "road", [np.full((8, 8), 30, np.float32)])
    ranges = range_table(evaluation.evaluate(too_near, "driving-stereo", root, format="driving_stereo"))
    assert ranges["0-20 m"] == {"AbsRel": None, "RMSE (m)": None, "δ1": None, "images": 0, "pixels": 0}


def write_kitti(root: Path) -> Path:
    """One annotated frame of 375x1242."""
    drive = "2011_09_26_drive_0001_sync"
    image = root / "2011_09_26" / drive / "image_02" / "data" / "0000000005.png"
    depth = root / "train" / drive / "proj_depth" / "groundtruth" / "image_02" / "0000000005.png"
    levels = np.random.default_rng(0).integers(3 * 256, 90 * 256, (375, 1242)).astype(np.uint16)
    for path, array in ((image, picture(5, 375, 1242)), (depth, levels)):
        path.parent.mkdir(parents=True)
        Image.fromarray(array).save(path, compress_level=1)
    return root


def test_frames_cut_by_the_reader_and_by_the_protocol_score_the_same(tmp_path):
    root = write_kitti(tmp_path / "kitti")
    cut, whole = (evaluation.evaluate(too_near, "kitti-garg-kb", root, format=name) for name in ("kitti_kb", "kitti"))
    assert cut.rows == whole.rows and cut.rows[0]["scene"].endswith("drive_0001_sync")
    bts = evaluation.evaluate(too_near, "kitti-garg", root, format="kitti")
    assert bts.rows[0]["pixels"] != whole.rows[0]["pixels"]
    with pytest.raises(ValueError, match="read the set as kitti"):
        evaluation.evaluate(too_near, "kitti-garg", root, format="kitti_kb")


def test_predictions_of_whole_frames_on_disk_score_as_those_of_the_cut(tmp_path):
    root = write_kitti(tmp_path / "kitti")
    levels = np.asarray(Image.open(next(root.glob("train/**/*.png")))).astype(np.float32) / 256
    name = Path("2011_09_26/2011_09_26_drive_0001_sync/image_02/0000000005.npy")
    scores = []
    for folder, array in (("whole", levels * 1.1), ("cut", levels[23:, 13:1229] * 1.1)):
        (tmp_path / folder / name.parent).mkdir(parents=True)
        np.save(tmp_path / folder / name, array.astype(np.float32))
        scores.append(evaluation.evaluate(tmp_path / folder, "kitti-garg-kb", root, format="kitti").rows)
    assert scores[0] == scores[1] and scores[0][0]["scale_ratio"] == pytest.approx(1 / 1.1)


def test_a_mean_map_answers_for_whole_frames_under_a_protocol_that_cuts_them(tmp_path):
    root = write_kitti(tmp_path / "kitti")
    levels = np.asarray(Image.open(next(root.glob("train/**/*.png")))).astype(np.float32) / 256
    rows = np.repeat(levels.mean(1, keepdims=True), 1242, 1)
    once = evaluation.evaluate(ConstantPredictor(rows), "kitti-garg-kb", root, format="kitti").rows
    ramp = evaluation.evaluate(ConstantPredictor(rows[:, :1]), "kitti-garg-kb", root, format="kitti").rows
    assert ramp[0]["abs_rel"] == pytest.approx(once[0]["abs_rel"], rel=1e-6)


def test_where_nobody_says_how_a_run_is_scored_as_its_own_test_was(tmp_path, sonde):
    root = scenes.synth("road", tmp_path / "roads", 5, height=32, width=64, workers=1)
    settings = [
        f"data.root={root}",
        "data.cache=null",
        f"output_dir={tmp_path / 'run'}",
        "model.input_size=[32,64]",
        "train.max_steps=1",
        "train.eval_strategy=no",
        "train.save_strategy=no",
        "train.load_best_model_at_end=false",
        "data.split={test: 2, validation: 1, group: null}",
        "train.dataloader_num_workers=0",
    ]
    run = training.train("metric-road", settings)
    assert evaluation.evaluate(run).protocol == "driving-stereo"
    assert sonde("eval", run, "--json").json["protocol"] == "driving-stereo"
    assert evaluation.evaluate(run, data=root, format="driving_stereo").protocol == "driving-stereo"
