"""A run that kept no captures is scored by answers to captures left out, beside baselines made in the same way."""

import json
from pathlib import Path

import numpy as np
import pytest
from left_out_runs import leave_out
from small_captures import write_bench
from trained_runs import make_run

from sonde import baselines, evaluation, recipes, report
from sonde.datasets import Capture, open_set
from sonde.evaluation import (
    ADAPTED,
    CONSTANT,
    FAR_MAP,
    LEFT_OUT,
    MEAN_MAP,
    MEDIAN_MAP,
    UNADAPTED,
    score_with_baselines,
    verdict,
)
from sonde.recipes import Recipe
from sonde.runs import read_run
from sonde.types import DepthArray, Prediction

ONE_EACH = [["c00"], ["c01"], ["c02"], ["c03"], ["c04"]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five captures of a plane; each lies a millimetre farther than the one before."""
    return write_bench(tmp_path / "bench", 5)


def off(millimetres: float):
    """An answer that is always so much too far."""

    def answer(capture: Capture) -> DepthArray:
        return capture.depth + np.float32(millimetres / 1000)

    return answer


@pytest.fixture
def run(root, tmp_path) -> Path:
    return leave_out(root, tmp_path / "run", ONE_EACH, off(0.5))


def test_a_median_and_a_farthest_map_are_those_of_the_captures_that_show_the_pixel(root):
    captures = open_set("zivid", root)
    for number, depth in enumerate((700, 900, 1000)):
        cloud = np.full((24, 32, 3), depth, np.float32)
        cloud[:, : 8 * number] = np.nan
        cloud[-1] = np.nan
        np.save(root / "depth" / f"c0{number}.npy", cloud)
    median, far = (make(captures, [0, 1, 2]).depth for make in (baselines.fit_median_map, baselines.fit_farthest_map))
    np.testing.assert_allclose(median[0, [0, 8, 16]], [0.7, 0.8, 0.9])  # of two the middle, of three the second
    np.testing.assert_allclose(far[0, [0, 8, 16]], [0.7, 0.9, 1.0])
    mean = (32 * 0.7 + 24 * 0.9 + 16 * 1.0) / 72
    np.testing.assert_allclose(median[-1], mean, rtol=1e-6)
    np.testing.assert_allclose(far[-1], mean, rtol=1e-6)


def test_a_baseline_without_captures_is_refused(root):
    for make in (
        baselines.fit_median_map,
        baselines.fit_farthest_map,
        baselines.fit_mean_map,
        baselines.fit_mean_depth,
    ):
        with pytest.raises(ValueError, match=r"No training captures of .*bench"):
            make(open_set("zivid", root), [])


def test_a_median_of_more_than_memory_holds_is_known_before_it_is_made(root, monkeypatch):
    captures = open_set("zivid", root)
    assert baselines.fits_in_memory(captures, [0, 1])
    monkeypatch.setattr(baselines, "MOST_BYTES", 2 * 24 * 32 * 4 - 1)
    assert not baselines.fits_in_memory(captures, [0, 1]) and baselines.fits_in_memory(captures, [0])


def test_a_capture_is_answered_by_the_other_folds_and_each_baseline_is_made_once_a_fold(root):
    captures, asked = open_set("zivid", root), []

    def make(captures, indices):
        asked.append(list(indices))
        return baselines.fit_mean_map(captures, indices)

    predictor = baselines.fit_left_out(make, captures, [["c00", "c03"], ["c01"], ["c04"]])
    assert asked == [[1, 4], [0, 3, 4], [0, 3, 1]]
    one, other, alone = (predictor(captures.read(index)).depth for index in (0, 3, 1))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(alone, baselines.fit_mean_map(captures, [0, 3, 4]).depth)
    with pytest.raises(ValueError, match="c02 is in no fold"):
        predictor(captures.read(2))


def test_baselines_of_a_run_without_test_captures_come_from_the_other_folds(run):
    seen = []
    scoreboard = score_with_baselines(run, watch=lambda capture, depth, row: seen.append(capture.id))
    assert list(scoreboard) == [CONSTANT, MEAN_MAP, MEDIAN_MAP, FAR_MAP, UNADAPTED, LEFT_OUT]
    assert seen == ["c00", "c01", "c02", "c03", "c04"]
    errors = {row: scoreboard[row].metrics["mae_mm"] for row in (MEAN_MAP, MEDIAN_MAP, FAR_MAP, LEFT_OUT)}
    expected = {MEAN_MAP: 1.5, MEDIAN_MAP: 1.6, FAR_MAP: 2.2, LEFT_OUT: 0.5}  # of 0, 1, 2, 3, 4, each left out
    assert errors == pytest.approx(expected, abs=1e-3)
    assert scoreboard[CONSTANT].metrics["mae_mm"] > 20


def test_larger_folds_leave_more_out(root, tmp_path):
    run = leave_out(root, tmp_path / "run", [["c00", "c04"], ["c01", "c02", "c03"]], off(0.5))
    scoreboard = score_with_baselines(run)
    assert scoreboard[FAR_MAP].rows[0]["mae_mm"] == pytest.approx(3, abs=1e-3)  # c03 against c00
    assert "2-fold scores" in scoreboard[LEFT_OUT].notes[0] and "(2-fold)" in scoreboard[LEFT_OUT].settings.captures


def test_a_finished_run_without_test_captures_has_its_scores_and_its_page(root, tmp_path):
    found = "c02 shows a lamp; it is bench here."
    run = leave_out(
        root, tmp_path / "run", ONE_EACH, lambda capture: off(0.1 * (1 + int(capture.id[1:])))(capture), found
    )
    page = report.finish(run)
    assert page is not None
    document = json.loads((run / "metrics.json").read_text())
    assert document["images"] == 5 and list(document["table"])[-1] == LEFT_OUT
    assert document["metrics"]["mae_mm"] == pytest.approx(0.3, abs=1e-3)
    assert document["spread"]["mae_mm"] == pytest.approx(np.std([0.1, 0.2, 0.3, 0.4, 0.5], ddof=1), abs=1e-3)
    assert document["spread"].keys() == document["metrics"].keys() and "headline" not in document
    assert len((run / "per_image.csv").read_text().splitlines()) == 6
    html, text = page.read_text(encoding="utf-8"), (run / "report.md").read_text(encoding="utf-8")
    for said in (html, text):
        assert "on 5 left-out captures" in said and "not of the model that ships" in said and found in said
        assert "background farthest, steps 100, by leave-one-out scores" in said
        assert "flatter" not in said and "chose the checkpoint" not in said
    assert "The mean error of left-out heads on frozen features is 5.0 times lower than that of the mean depth" in text
    assert html.count('loading="lazy"') == 4 * 5


def test_a_moved_run_is_still_compared_by_its_answers(run, tmp_path):
    report.finish(run)
    moved = run.rename(tmp_path / "moved")
    scored = evaluation.read_evaluation(moved)
    assert (moved / scored.settings.predictions).is_dir() and scored.left_out


def test_the_command_scores_the_answers_to_captures_left_out_and_says_so(sonde, run):
    said = sonde("eval", run, "--json").json
    assert said["images"] == 5 and said["metrics"]["mae_mm"] == pytest.approx(0.5, abs=1e-3)
    assert said["captures"] == f"5 captures of {run}, left out in turn (leave-one-out)"
    (note,) = said["notes"]
    assert note.startswith("These are the leave-one-out scores that the run was chosen by")
    assert "of heads on frozen features that did not see the capture, not of the model that ships" in note


def test_one_of_several_sets_is_scored_by_the_answers_too_without_a_map_that_saw_them(run, root):
    scores = evaluation.evaluate_many(run, [evaluation.On("zivid", root, "zivid-mm")])
    assert scores == {"zivid-mm on bench": evaluation.evaluate(run, "zivid-mm", root, format="zivid")}


def test_other_captures_are_scored_by_the_model_that_ships(sonde, run, tmp_path):
    other = write_bench(tmp_path / "other", 2)
    said = sonde("eval", run, "--data", other, "--protocol", "zivid-mm", "--json").json
    assert said["images"] == 2 and said["captures"] == "all captures" and "notes" not in said
    assert said["metrics"]["mae_mm"] == evaluation.evaluate(run / "best", "zivid-mm", other).metrics["mae_mm"]


def test_a_run_that_kept_nothing_asks_for_captures(sonde, root, tmp_path):
    run = make_run(root, tmp_path / "run", [], [])
    said = sonde("eval", run)
    assert said.code == 2 and "kept no captures for a test: give --data ROOT" in said.errors
    assert report.finish(run) is None
    with pytest.raises(ValueError, match="kept no captures to be scored on"):
        score_with_baselines(run)


@pytest.mark.parametrize("gone", ["left-out", "fold"])
def test_without_answers_or_a_second_fold_nothing_is_scored(run, gone):
    if gone == "left-out":
        (run / "left-out").rename(run / "elsewhere")
    else:
        choice = json.loads((run / "choice.json").read_text())
        (run / "choice.json").write_text(json.dumps(choice | {"folds": [["c00"]]}))
    assert report.finish(run) is None and not (run / "metrics.json").exists()


def test_a_missing_answer_and_a_faulty_choice_are_named(run):
    (run / "left-out" / "c03.npy").unlink()
    with pytest.raises(ValueError, match="left-out has no prediction for c03"):
        evaluation.evaluate(run)
    (run / "choice.json").write_text('{"folds": 3}')
    with pytest.raises(ValueError, match=r"choice\.json cannot be read .*train again"):
        evaluation.evaluate(run)


def test_a_run_that_kept_test_captures_is_scored_on_them_however_it_was_chosen(run):
    parts = {"train": ["c00", "c01", "c02"], "validation": [], "test": ["c03", "c04"]}
    (run / "split.json").write_text(json.dumps(parts))
    assert list(score_with_baselines(run))[-1] == ADAPTED
    assert [row["id"] for row in evaluation.evaluate(run).rows] == ["c03", "c04"]


def test_a_run_that_beats_no_trivial_answer_says_so_first(sonde, root, tmp_path):
    run = leave_out(root, tmp_path / "run", ONE_EACH, off(4))
    page = report.finish(run)
    assert page is not None
    headline = json.loads((run / "metrics.json").read_text())["headline"]
    start = "Left-out heads on frozen features do not beat the mean depth map of the training set: 4 against 1.5 mm"
    assert headline.startswith(start) and "5 captures" in headline and "95 % interval +" in headline
    assert "try more captures, for a camera that stands still model.background=auto, or more steps" in headline
    lines = (run / "report.md").read_text(encoding="utf-8").splitlines()
    assert lines[lines.index("Mean absolute error on 5 left-out captures.") + 1] == headline
    html = page.read_text(encoding="utf-8")
    assert html.index(headline) < html.index("Before you believe it")
    assert sonde("eval", run).text.split("\n")[0] == headline
    assert next(iter(sonde("eval", run, "--json").json)) == "headline"
    assert "headline" not in sonde("eval", run, "--align", "scale", "--json").json


def scored(errors: list[float], root: Path) -> evaluation.Evaluation:
    """Captures c00, c01, … with these errors, mm."""

    def answer(capture: Capture) -> Prediction:
        return Prediction(off(errors[int(capture.id[1:])])(capture), "metric")

    return evaluation.evaluate(answer, "zivid-mm", root, ids=[f"c0{number}" for number in range(len(errors))])


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ([2, 2, 2, 2, 2], ""),  # lower every time
        ([1, 1, 1, 1, 9], "does not beat the farthest depth map of the training set beyond chance: 2.6 against 4 mm"),
        ([5, 5, 5, 5, 5], "does not beat the farthest depth map of the training set: 5 against 4 mm"),
        ([3], ""),  # of one capture the mean decides
        (
            [4.5],
            "does not beat the farthest depth map of the training set: 4.5 against 4 mm mean absolute error, on 1 ",
        ),
    ],
)
def test_a_model_beats_a_baseline_where_the_paired_interval_says_so(root, own, words):
    count = len(own)
    scoreboard = {
        CONSTANT: scored([50] * count, root),
        FAR_MAP: scored([4] * count, root),
        UNADAPTED: scored([6] * count, root),
        ADAPTED: scored(own, root),
    }
    said = verdict(scoreboard, recipes.load("lora-few"))
    assert said == "" if not words else words in said
    with_bench = verdict(scoreboard, recipes.load("lora-few", ["model.background=farthest"]))
    assert "model.background" not in with_bench
    chosen = verdict(scoreboard, recipes.load("lora-few", ["choose.steps=9", "train.max_steps=0"]))
    assert "model.background" not in chosen and bool(chosen) == ("more steps (choose.steps)" in chosen)


def test_the_unadapted_model_aligned_is_a_rival_too(root):
    scoreboard = {
        CONSTANT: scored([9, 9], root),
        UNADAPTED: scored([1, 1], root),
        ADAPTED: scored([2, 3], root),
    }
    assert "does not beat the unadapted model, aligned per image: 2.5 against 1 mm" in verdict(scoreboard, Recipe())


def test_a_result_is_printed_after_what_speaks_against_it(run, capsys):
    from sonde.cli.printing import print_run

    report.finish(run)
    print_run(run, as_json=False)
    first = capsys.readouterr().out.splitlines()
    assert first[0].startswith("report") and any("5 left-out captures" in line for line in first)
    scores = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({"headline": "It does not.", **scores}))
    print_run(run, as_json=False)
    assert capsys.readouterr().out.startswith("It does not.\n")


def test_runs_of_random_weights_meet_the_mean_map_alone_unless_they_ask_for_a_bench(root, tmp_path):
    run = make_run(root, tmp_path / "run", ["c03", "c04"], ["c02"])
    drawn = recipes.load(run, ["model.init=random"])
    (run / "recipe.yaml").write_text(recipes.dump(drawn))
    assert list(score_with_baselines(run)) == [MEAN_MAP, evaluation.TRAINED]
    (run / "recipe.yaml").write_text(recipes.dump(recipes.load(drawn, ["model.background=auto"])))
    assert list(score_with_baselines(run)) == [CONSTANT, MEAN_MAP, MEDIAN_MAP, FAR_MAP, evaluation.TRAINED]
    assert read_run(run) is not None
