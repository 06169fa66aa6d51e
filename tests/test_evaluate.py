"""Scores are those of the protocol, in its unit, of the captures asked for; what cannot be compared is refused."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_captures import write_bench
from trained_runs import make_run, relative_model

from sonde import baselines, evaluation, files, models, prediction, protocols
from sonde.datasets import Capture, open_set
from sonde.datasets.zivid import open_zivid
from sonde.evaluation import (
    ADAPTED,
    CONSTANT,
    FAR_MAP,
    MEAN_MAP,
    MEAN_MAP_OF_JUDGES,
    MEDIAN_MAP,
    UNADAPTED,
    Displacement,
    Settings,
    score_with_baselines,
    table,
)
from sonde.runs import LeftOutRecord
from sonde.types import Prediction


def ten_millimetres_far(capture: Capture) -> Prediction:
    return Prediction(capture.depth + np.float32(0.01), "metric")


def true_disparity(capture: Capture) -> Prediction:
    """Affine in 1 / depth, and nonsense where depth is not trusted."""
    return Prediction(np.where(capture.mask, 3 / np.maximum(capture.depth, 1e-3) + 7, 1e6), "disparity")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_bench(tmp_path / "bench", 5)


def test_ten_millimetres_too_far_is_a_mean_error_of_ten(root):
    result = evaluation.evaluate(ten_millimetres_far, "zivid-mm", root)
    assert result.metrics["mae_mm"] == pytest.approx(10, abs=1e-4)
    assert result.metrics["rmse_mm"] == pytest.approx(10, abs=1e-4)
    assert result.metrics["delta1"] == 1
    assert len(result.rows) == 5


def test_a_perfect_prediction_scores_perfectly(root):
    result = evaluation.evaluate(lambda capture: Prediction(capture.depth, "metric"), "zivid-mm", root)
    assert result.metrics["mae_mm"] == result.metrics["abs_rel"] == 0
    assert result.metrics["delta105"] == 1


def test_the_mean_is_over_images_not_over_pixels(root):
    def off_by_its_number(capture: Capture) -> Prediction:
        return Prediction(capture.depth + np.float32(0.001 * int(capture.id[1:])), "metric")

    result = evaluation.evaluate(off_by_its_number, "zivid-mm", root)
    assert [row["mae_mm"] for row in result.rows] == pytest.approx([0, 1, 2, 3, 4], abs=1e-3)
    assert result.metrics["mae_mm"] == pytest.approx(2, abs=1e-3)


def test_a_disparity_is_refused_under_a_metric_protocol_and_told_the_way_out(root):
    with pytest.raises(ValueError, match=r"sonde train .*align='disparity'.*zivid-mm\+disparity"):
        evaluation.evaluate(true_disparity, "zivid-mm", root)


def test_an_alignment_that_was_asked_for_renames_the_result(root):
    result = evaluation.evaluate(true_disparity, "zivid-mm", root, align="disparity")
    assert result.protocol == "zivid-mm+disparity"
    assert result.metrics["mae_mm"] < 0.01


def test_the_protocols_own_alignment_keeps_its_name(root):
    result = evaluation.evaluate(true_disparity, "affine-disparity", root, align="disparity")
    assert result.protocol == "affine-disparity"
    assert result.metrics["abs_rel"] < 1e-5


def test_metric_depth_is_scored_as_disparity_after_inversion(root):
    result = evaluation.evaluate(
        lambda capture: Prediction(2 * np.maximum(capture.depth, 0.1), "metric"), "affine-disparity", root
    )
    assert result.metrics["abs_rel"] < 1e-5


@pytest.mark.parametrize("space", ["affine", "scale"])
def test_depth_up_to_a_scale_is_not_metric(root, space):
    with pytest.raises(ValueError, match="cannot be scored"):
        evaluation.evaluate(lambda capture: Prediction(capture.depth, space), "zivid-mm", root)


def test_a_prediction_of_another_size_is_resized_to_the_ground_truth(root):
    small = evaluation.evaluate(lambda capture: Prediction(np.full((3, 4), 0.8, np.float32), "metric"), data=root)
    full = evaluation.evaluate(lambda capture: Prediction(np.full((24, 32), 0.8, np.float32), "metric"), data=root)
    assert small.metrics == pytest.approx(full.metrics)


def test_holes_in_a_prediction_are_an_error_not_a_better_score(root):
    def with_a_hole(capture: Capture) -> Prediction:
        depth = capture.depth.copy()
        depth[-1, -1] = np.nan
        return Prediction(depth, "metric")

    with pytest.raises(ValueError, match=r"c00 has no value at 1 of \d+ trusted pixels"):
        evaluation.evaluate(with_a_hole, data=root)


def test_a_capture_without_trusted_depth_is_reported_and_skipped(root):
    np.save(root / "depth" / "c01.npy", np.full((24, 32, 3), np.nan, np.float32))
    np.save(root / "depth" / "c02.npy", np.full((24, 32, 3), 50_000, np.float32))
    result = evaluation.evaluate(ten_millimetres_far, data=root)
    assert list(result.skipped) == ["c01", "c02"]
    assert len(result.rows) == 3
    assert result.summary()["skipped"] == result.skipped


def test_ground_truth_at_ten_metres_is_not_scored_whatever_the_set_allows(root):
    cloud = np.full((24, 32, 3), 1000, np.float32)
    cloud[0, :, 2] = 10_000
    np.save(root / "depth" / "c00.npy", cloud)
    captures = open_set("zivid", root, max_depth=20_000)
    result = evaluation.evaluate(ten_millimetres_far, "zivid-mm", captures, ids=["c00"])
    assert result.rows[0]["pixels"] == 23 * 32


def test_nothing_to_score_is_an_error(root):
    np.save(root / "depth" / "c01.npy", np.full((24, 32, 3), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"None of 1 capture could be scored.*c01"):
        evaluation.evaluate(ten_millimetres_far, data=root, ids=["c01"])


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"protocol": "zivid_mm"}, "zivid-mm"),
        ({"align": "disparty"}, "disparity"),
        ({"ids": ["c9"]}, "no capture 'c9'"),
        ({"data": None}, "data=ROOT"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(root, settings, answer):
    with pytest.raises(ValueError, match=answer):
        evaluation.evaluate(ten_millimetres_far, **{"data": root, **settings})


def test_rows_and_settings_are_written(root, tmp_path):
    result = evaluation.evaluate(ten_millimetres_far, data=root, out=tmp_path / "out")
    document = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert document["protocol"] == "zivid-mm" and document["images"] == 5
    assert document["metrics"] == result.metrics
    assert document["settings"]["ids"] == [f"c0{index}" for index in range(5)]
    with (tmp_path / "out" / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == document["settings"]["ids"]
    assert float(rows[3]["mae_mm"]) == result.rows[3]["mae_mm"]


def test_predictions_on_disk_score_as_the_model_that_wrote_them(root, tmp_path):
    run = make_run(root, tmp_path / "run", ["c04"], [])
    for save in ("npy", "png16"):
        prediction.predict(root / "images", models.load(run), tmp_path / save, save=(save,))
        ours, theirs = (evaluation.evaluate(source, data=root, ids=["c02", "c03"]) for source in (tmp_path / save, run))
        assert ours.metrics == pytest.approx(theirs.metrics, rel=1e-3)


def test_a_relative_prediction_on_disk_says_that_it_is_none_in_metres(root, tmp_path):
    prediction.predict(root / "images", relative_model(), tmp_path / "out")
    with pytest.raises(ValueError, match="disparity"):
        evaluation.evaluate(tmp_path / "out", data=root)
    (tmp_path / "out" / "predictions.json").unlink()
    with pytest.raises(ValueError, match="disparity"):
        evaluation.evaluate(tmp_path / "out", data=root)


def test_a_missing_prediction_is_an_error_that_names_it(root, tmp_path):
    files.write_depth_png(tmp_path / "c00.png", np.ones((24, 32), np.float32))
    with pytest.raises(ValueError, match="no prediction for c01"):
        evaluation.evaluate(tmp_path, data=root)


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ('{"space": "metric", "unit": "inch"}', "its unit is 'inch', none of m, cm, mm"),
        ('{"space": "depth"}', "`space`: should be 'metric', .* got 'depth'"),
        ('{"space": ["metric"]}', "`space`"),
        ("[1]", "should be a valid dictionary"),
        ('{"predictions": {}}', "`predictions`: should be a valid list"),
        ('{"predictions": [{"source": "a", "outputs": ["../b"]}]}', r"`predictions.0.outputs.0`: the path '../b' has"),
        ('{"space":', "Expecting value"),
    ],
)
def test_a_faulty_manifest_is_told_in_one_sentence_with_its_name(root, tmp_path, manifest, told):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.json").write_text(manifest)
    with pytest.raises(
        ValueError, match=rf"out/predictions\.json cannot be read \(.*{told}.*: expected what `sonde pr"
    ):
        evaluation.evaluate(tmp_path / "out", data=root)


def test_a_folder_for_predictions_may_be_given_as_text(root, tmp_path):
    kept = evaluation.evaluate(
        ten_millimetres_far, data=root, keep=str(tmp_path / "kept"), out=str(tmp_path / "scores")
    )
    assert (tmp_path / "kept" / "c00.npy").is_file() and kept.settings.predictions == str(tmp_path / "kept")


def test_a_run_is_scored_on_its_own_test_captures_and_on_all_of_another_set(root, tmp_path):
    run = make_run(root, tmp_path / "run", ["c03", "c04"], ["c02"])
    own = evaluation.evaluate(run)
    assert [row["id"] for row in own.rows] == ["c03", "c04"]
    assert evaluation.evaluate(str(run), data=root).rows == own.rows
    assert len(evaluation.evaluate(run, data=write_bench(tmp_path / "other", 3)).rows) == 3


def test_the_scoreboard_has_what_does_not_look_at_the_image_the_base_and_the_model_of_the_run(root, tmp_path):
    run = make_run(root, tmp_path / "run", ["c03", "c04"], ["c02"])
    seen = []
    scoreboard = score_with_baselines(run, watch=lambda capture, depth, row: seen.append(capture.id))
    assert list(scoreboard) == [CONSTANT, MEAN_MAP, MEDIAN_MAP, FAR_MAP, UNADAPTED, ADAPTED]
    assert seen == ["c03", "c04"]
    assert scoreboard[UNADAPTED].protocol == "zivid-mm+disparity"
    assert scoreboard[MEAN_MAP].metrics["mae_mm"] == pytest.approx(3, abs=0.01)  # c03, c04 against c00, c01
    assert scoreboard[FAR_MAP].metrics["mae_mm"] == pytest.approx(2.5, abs=0.01)  # against c01
    assert (
        scoreboard[CONSTANT].metrics["mae_mm"] > scoreboard[MEDIAN_MAP].metrics["mae_mm"] == pytest.approx(3, abs=0.01)
    )
    assert list(table(scoreboard)[ADAPTED]) == ["MAE (mm)", "AbsRel", "RMSE (mm)", "δ1", "δ<1.05"]


def test_a_set_without_metres_whose_test_captures_chose_has_no_mean_map(root, tmp_path, monkeypatch):
    run = make_run(root, tmp_path / "run", ["c03", "c04"], [])
    monkeypatch.setattr(
        "sonde.evaluation.rivals.open_captures", lambda recipe: replace(open_zivid(root), space="scale")
    )
    assert list(score_with_baselines(run)) == [UNADAPTED, ADAPTED]
    chosen = make_run(root, tmp_path / "chosen", ["c03", "c04"], ["c02"])
    assert list(score_with_baselines(chosen)) == [MEAN_MAP_OF_JUDGES, UNADAPTED, ADAPTED]


def test_the_mean_map_is_the_mean_of_what_was_seen_and_elsewhere_of_all(root):
    captures = open_set("zivid", root)
    answer = baselines.fit_mean_map(captures, [0, 2]).depth
    first, third = captures.read(0), captures.read(2)
    expected = (first.depth + third.depth) / 2
    np.testing.assert_allclose(answer[first.mask], expected[first.mask], rtol=1e-6)
    np.testing.assert_allclose(answer[~first.mask], expected[first.mask].mean(), rtol=1e-6)


def test_the_constant_and_the_ramp_are_means_of_the_mean_map(root):
    captures = open_set("zivid", root)
    truth = captures.read(1)
    rows = baselines.fit_mean_rows(captures, [1]).depth
    np.testing.assert_allclose(rows[-1, 0], truth.depth[-1].mean(), rtol=1e-6)
    assert baselines.fit_mean_depth(captures, [1]).depth.item() == pytest.approx(truth.depth[truth.mask].mean())


def test_captures_of_another_size_enter_the_mean_map_without_mixing_in_untrusted_pixels(root, tmp_path):
    images = np.zeros((48, 64, 3), np.uint8)
    files.write_rgb(root / "images" / "c01.png", images)
    cloud = np.full((48, 64, 3), 900, np.float32)
    cloud[:, :32] = np.nan
    np.save(root / "depth" / "c01.npy", cloud)
    captures = open_set("zivid", root)
    answer, first = baselines.fit_mean_map(captures, [0, 1]).depth, captures.read(0)
    np.testing.assert_allclose(answer[-1, 16:], (first.depth[-1, 16:] + 0.9) / 2, rtol=1e-6)
    np.testing.assert_allclose(answer[-1, :16], first.depth[-1, :16], rtol=1e-6)


def test_groups_are_told_apart_where_the_protocol_says_so(tmp_path):
    for part, error in (("near", 0.01), ("far", 0.03)):
        for name in "ab":
            write_pair(tmp_path, f"{part}/{name}", 1 + error)
    result = evaluation.evaluate(
        lambda capture: Prediction(np.ones((4, 5), np.float32), "metric"), "folder", tmp_path, format="folder"
    )
    assert list(result.groups) == ["far", "near"]
    assert result.groups["far"]["mae_m"] == pytest.approx(0.03, abs=1e-6) and result.groups["far"]["images"] == 2
    assert [row["scene"] for row in result.rows] == ["far", "far", "near", "near"]
    assert result.summary()["groups"] == result.groups


def write_pair(root: Path, name: str, depth: float) -> None:
    for folder in ("rgb", "depth"):
        (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
    files.write_rgb(root / "rgb" / f"{name}.png", np.zeros((4, 5, 3), np.uint8))
    np.save(root / "depth" / f"{name}.npy", np.full((4, 5), depth, np.float32))


def test_disparity_scored_as_depth_is_said_to_run_the_other_way(root):
    def mislabelled(capture: Capture) -> Prediction:
        disparity = 1 / np.maximum(capture.depth, 0.1)
        return Prediction(capture.depth if capture.id == "c00" else disparity, "affine")

    result = evaluation.evaluate(mislabelled, "zivid-mm", root, align="affine")
    assert [row["fitted_scale"] < 0 for row in result.rows] == [False, True, True, True, True]
    assert result.notes[0].startswith("4 of 5 images were fitted with a negative scale")
    assert "as disparity does that is scored as depth" in result.notes[0]
    assert result.summary()["notes"] == result.notes


def test_depth_scored_as_disparity_is_said_to_run_the_other_way_too(root):
    result = evaluation.evaluate(lambda capture: Prediction(capture.depth, "disparity"), "affine-disparity", root)
    assert (
        result.notes[0].startswith("5 of 5 images") and "as depth does that is scored as disparity" in result.notes[0]
    )


def test_the_fields_golden_case_of_the_wrong_convention():
    depth = np.array([[1.0, 2.0, 4.0, 8.0]], np.float32)
    seen = Capture("golden", np.zeros((1, 4, 3), np.uint8), depth, depth > 0)
    wrong = Prediction(np.array([[5.0, 3.0, 2.0, 1.5]], np.float32), "affine")
    scored = evaluation.score_fully(wrong, seen, protocols.load("metric", "affine"))
    assert scored.fitted == pytest.approx(-1.68696, abs=1e-5) and scored.metrics["abs_rel"] == pytest.approx(
        0.538, abs=1e-3
    )
    right = evaluation.score_fully(wrong._replace(space="disparity"), seen, protocols.load("affine-disparity"))
    assert right.fitted == pytest.approx(0.25) and right.metrics["abs_rel"] == pytest.approx(0, abs=1e-6)


def test_another_number_of_images_than_the_published_is_told(root):
    result = evaluation.evaluate(ten_millimetres_far, "hypersim", root)
    assert result.notes[0].startswith("Published numbers under hypersim are of 7,387 images")
    assert result.notes[0].endswith("these of 5.")
    assert not evaluation.evaluate(ten_millimetres_far, data=root).notes


def test_a_protocols_range_that_the_set_did_not_read_is_told_and_not_compared(root):
    whole, near = (
        evaluation.evaluate(ten_millimetres_far, "zivid-mm", open_set("zivid", root, max_depth=limit))
        for limit in (None, 850)
    )
    assert not whole.notes
    assert near.notes == ["Depth from 0.85 m was not read, and zivid-mm scores it: these numbers are of the rest."]
    with pytest.raises(ValueError, match="differ by that: read both alike"):
        evaluation.difference(whole, near)


def test_an_opened_set_is_scored_under_the_protocol_of_its_layout(tmp_path):
    write_pair(tmp_path, "a", 1.0)
    write_pair(tmp_path, "b", 12.0)
    given = evaluation.evaluate(ten_millimetres_far, data=open_set("folder", tmp_path))
    named = evaluation.evaluate(ten_millimetres_far, data=tmp_path, format="folder")
    assert given.protocol == named.protocol == "metric" and given.metrics == named.metrics
    assert [row["pixels"] for row in given.rows] == [20, 20]


def test_captures_that_could_not_be_scored_are_told_beside_the_numbers(root):
    (root / "depth" / "c02.npy").write_bytes((root / "depth" / "c02.npy").read_bytes()[:500])
    (note,) = evaluation.evaluate(ten_millimetres_far, "zivid-mm", root).notes
    assert note.startswith("1 of 5 captures could not be scored, first c02: ")


def test_captures_that_trained_the_model_are_told_wherever_they_are_scored(root, tmp_path):
    run = make_run(root, tmp_path / "run", ["c02", "c03"], ["c04"])
    (tmp_path / "all.txt").write_text("\n".join(open_set("zivid", root).ids))
    assert not any("trained this model" in note for note in evaluation.evaluate(run).notes)
    for model, words in ((run, {"listed": tmp_path / "all.txt"}), (run / "best", {"data": root})):
        notes = evaluation.evaluate(model, "zivid-mm", **words).notes
        assert any(note.startswith("2 of 5 captures trained this model") for note in notes)


def test_answers_at_another_input_size_are_not_those_that_were_kept(root, tmp_path):
    model = relative_model()
    evaluation.evaluate(model, "affine-disparity", root, keep=tmp_path / "kept")
    model.spec = replace(model.spec, short_side=96)
    with pytest.raises(ValueError, match="holds predictions of another settings"):
        evaluation.evaluate(model, "affine-disparity", root, keep=tmp_path / "kept")
    with pytest.raises(ValueError, match="there is nothing to keep"):
        evaluation.evaluate(tmp_path / "kept", "affine-disparity", root, keep=tmp_path / "again")


def test_settings_survive_the_disk(root, tmp_path):
    run = make_run(root, tmp_path / "run", ["c03", "c04"], ["c02"])
    record = LeftOutRecord("2-fold", [["c00"], ["c01"]], {"steps": 100}, "A sentence.")
    full = {
        "moved": {"c03": Displacement(1.5, 2.0)},
        "encoding": "log",
        "predictions": "kept",
        "left_out": record,
        "headline": "It does not.",
        "ci": 95,
    }
    for scored in (evaluation.evaluate(run), evaluation.evaluate(run).record(**full)):
        settings = scored.settings
        document = json.loads(json.dumps(settings.document()))
        assert Settings.from_document(document, scored.protocol) == settings
        assert Settings.from_document(settings.document(), scored.protocol) == settings
        assert Settings.from_document(document | {"of_another_version": 1}, scored.protocol) == settings
    del document["protocol"]["clamp"]
    with pytest.raises(ValueError, match="settings of zivid-mm do not fit this sonde at 'clamp': score again"):
        Settings.from_document(document, "zivid-mm")


@pytest.mark.parametrize("level", [0, 100, -5])
def test_a_level_that_is_none_is_told_before_anything_is_predicted(root, level):
    asked = []
    with pytest.raises(ValueError, match="between 0 and 100"):
        evaluation.evaluate(lambda capture: asked.append(capture), "zivid-mm", root, ci=level)
    assert not asked


def test_a_text_that_a_spreadsheet_would_run_is_quoted_and_read_back(root, tmp_path):
    scored = evaluation.evaluate(lambda capture: Prediction(capture.depth, "metric"), "zivid-mm", root)
    names = ["=1+1", "-a", "'=b", "'c", "@d", "plain"]
    rows = [row | {"id": name, "group": name} for row, name in zip(scored.rows, names, strict=False)]
    replace(scored, rows=rows).write(tmp_path)
    text = (tmp_path / "per_image.csv").read_text()
    assert "\n'=1+1," in text and "\n'-a," in text and "\n''=b," in text
    assert evaluation.read_evaluation(tmp_path).rows == rows


def test_an_id_that_leaves_its_folder_is_not_kept(root, tmp_path):
    captures = open_zivid(root)
    strange = replace(captures, pairs=[captures.pairs[0]._replace(id="../x")])
    with pytest.raises(ValueError, match=r"the id '\.\./x' has an empty part"):
        evaluation.evaluate(
            lambda capture: Prediction(capture.depth, "metric"), "zivid-mm", strange, keep=tmp_path / "kept"
        )
    assert not (tmp_path / "x.npy").exists()
