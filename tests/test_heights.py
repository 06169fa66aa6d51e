"""A known bench tells objects and bench apart, gives the errors by height, and shows that the camera has moved."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from left_out_runs import leave_out, plain_bench
from small_captures import write_bench
from trained_runs import make_run

from sonde import evaluation, models, report
from sonde.datasets import Capture
from sonde.datasets.zivid import open_zivid
from sonde.evaluation import (
    ADAPTED,
    MEAN_MAP,
    Evaluation,
    Heights,
    height_table,
    read_evaluation,
    score_with_baselines,
    table,
)
from sonde.evaluation.heights import edges_of
from sonde.types import DepthArray, Prediction

WALL = 0.8
SPANS = ["under 10 mm", "10-25 mm", "25-50 mm", "50-100 mm", "100+ mm"]


def cloud(depth: np.ndarray) -> np.ndarray:
    return np.repeat(depth.astype(np.float32)[..., None] * 1000, 3, -1)


def heights_of(scored: Evaluation) -> Heights:
    """The errors by height, which must be there."""
    assert scored.heights is not None
    return scored.heights


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A bench at 800 mm; c00 shows a box of 60 mm on a quarter of it, c01 steps of 5 to 150 mm, c02 no object."""
    root = write_bench(tmp_path / "bench", 3)
    depths = np.full((3, 24, 32), WALL)
    depths[0, :12, :16] -= 0.06
    for number, height in enumerate((0.005, 0.02, 0.04, 0.15)):
        depths[1, :, 4 * number : 4 * number + 4] -= height
    depths[:, -2:] = np.nan
    for number, depth in enumerate(depths):
        np.save(root / "depth" / f"c0{number}.npy", cloud(depth))
    return root


def worse_on_objects(capture: Capture) -> Prediction:
    """Off by 2 mm on the bench, by a tenth of their height on objects."""
    height = np.maximum(WALL - capture.depth, 0) * capture.mask
    error = np.where(height > 0.008, 0.1 * height, 0.002)
    return Prediction(capture.depth + error.astype(np.float32), "metric")


@pytest.fixture
def scored(root) -> evaluation.Evaluation:
    return evaluation.evaluate(worse_on_objects, "zivid-mm", root, bench=plain_bench(np.full((24, 32), WALL)))


def test_objects_and_bench_have_their_own_errors(scored):
    boxed, stepped, empty = scored.rows
    assert boxed["mae_objects_mm"] == pytest.approx(6, abs=1e-3)
    assert boxed["mae_bench_mm"] == empty["mae_bench_mm"] == pytest.approx(2, abs=1e-3)
    assert boxed["objects_share"] == pytest.approx(12 * 16 / (22 * 32))
    assert empty["mae_objects_mm"] is None and empty["objects_share"] == 0
    assert stepped["mae_objects_mm"] == pytest.approx((2 + 4 + 15) / 3, abs=1e-3)  # 5 mm is no object at 800
    heights = scored.summary()["heights"]
    assert heights["mae_objects_mm"] == pytest.approx((6 + 7) / 2, abs=1e-3)
    assert heights["mae_bench_mm"] == pytest.approx(2, abs=1e-3)


def test_every_pixel_counts_at_one_height(scored):
    for row in scored.rows:
        pixels = {span: row[f"pixels_above[{span}]"] for span in SPANS}
        assert sum(pixels.values()) == row["pixels"]
        total = sum((row[f"mae_mm[{span}]"] or 0) * pixels[span] for span in SPANS)
        assert total / row["pixels"] == pytest.approx(row["mae_mm"])
    spans = scored.summary()["heights"]["spans"]
    assert list(spans) == SPANS
    assert spans["50-100 mm"] == {"mae_mm": pytest.approx(6, abs=1e-3), "images": 1, "pixels": 192}
    assert spans["100+ mm"]["mae_mm"] == pytest.approx(15, abs=1e-3) and spans["10-25 mm"]["images"] == 1
    assert spans["under 10 mm"]["images"] == 3


def test_a_table_of_heights_begins_with_bench_and_objects(scored):
    lines = height_table(scored)
    assert list(lines) == ["bench", "objects", *(f"height {span}" for span in SPANS)]
    assert list(lines["bench"]) == ["MAE (mm)", "images", "pixels"]
    assert lines["objects"]["images"] == 2 and lines["bench"]["images"] == 3
    assert lines["objects"]["pixels"] == 192 + 3 * 4 * 22
    assert lines["bench"]["pixels"] == sum(row["pixels"] for row in scored.rows) - (192 + 3 * 4 * 22)


def test_heights_are_the_same_after_they_were_written_and_read(scored, tmp_path):
    scored.write(tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["heights"] == heights_of(scored).document()
    again = read_evaluation(tmp_path)
    assert again.heights == scored.heights and again.rows == scored.rows


def test_a_capture_of_another_aspect_has_no_heights_and_is_scored(root):
    write_bench(root.parent / "wide", 1, width=64)
    for folder, ending in (("images", "png"), ("depth", "npy")):
        (root.parent / "wide" / folder / f"c00.{ending}").rename(root / folder / f"c03.{ending}")
    bench = plain_bench(np.full((24, 32), WALL))
    scored = evaluation.evaluate(worse_on_objects, "zivid-mm", root, bench=bench)
    assert len(scored.rows) == 4 and scored.rows[3].keys() == scored.rows[0].keys()
    assert scored.rows[3]["mae_bench_mm"] is None and scored.rows[3]["pixels_above[10-25 mm]"] == 0
    assert heights_of(scored).spans["under 10 mm"].images == 3
    alone = evaluation.evaluate(worse_on_objects, "zivid-mm", root, ids=["c03"], bench=bench)
    assert alone.heights is None and height_table(alone) == {} and "heights" not in alone.summary()


def test_without_a_bench_there_are_no_heights(root):
    scored = evaluation.evaluate(worse_on_objects, "zivid-mm", root)
    assert scored.heights is None and not [name for name in scored.rows[0] if "object" in name or "above" in name]


def test_heights_have_the_sets_unit_and_grow_with_a_far_bench(root):
    bench = plain_bench(np.full((24, 32), WALL))
    in_metres = evaluation.evaluate(worse_on_objects, "hypersim", root, bench=bench)
    assert list(heights_of(in_metres).spans)[1] == "0.01-0.025 m"
    assert heights_of(in_metres).objects == pytest.approx(0.0065, abs=1e-6)
    assert edges_of(plain_bench(np.full((4, 4), 6.0))) == pytest.approx((0.1, 0.25, 0.5, 1.0))


def test_the_error_of_objects_is_a_column_where_every_row_knows_it(root, scored):
    plain = evaluation.evaluate(worse_on_objects, "zivid-mm", root)
    assert list(table({"one": scored, "other": scored})["one"])[:3] == ["MAE (mm)", "MAE of objects (mm)", "AbsRel"]
    assert "MAE of objects (mm)" not in table({"one": plain, "other": scored})["other"]


@pytest.fixture
def run(root, tmp_path) -> Path:
    """A run whose model knows the bench, and whose last capture alone is kept for the test."""
    run = make_run(root, tmp_path / "run", ["c00", "c02"], ["c01"])
    model = models.load_network(run)
    model.background = plain_bench(np.full((24, 32), WALL))
    model.spec = replace(model.spec, background=WALL)
    models.save(model, run / "best")
    return run


def test_every_row_of_a_runs_board_tells_objects_and_bench_apart(run):
    (run / "split.json").write_text(json.dumps({"train": ["c01"], "validation": ["c02"], "test": ["c00"]}))
    scoreboard = score_with_baselines(run)
    assert len(scoreboard) == 6 and all(heights_of(scored).objects is not None for scored in scoreboard.values())
    assert (heights_of(scoreboard[MEAN_MAP]).bench or 0) > 0 and "MAE of objects (mm)" in table(scoreboard)[ADAPTED]


def test_a_model_that_knows_a_bench_is_scored_by_height_wherever_it_is_scored(run, root):
    by_run, by_model = evaluation.evaluate(run, data=root), evaluation.evaluate(models.load(run), "zivid-mm", root)
    assert heights_of(by_run).spans and heights_of(by_model).spans
    assert by_run.rows == [row for row in by_model.rows if row["id"] != "c01"]
    scoreboard = evaluation.evaluate_many(run, [evaluation.On("zivid", root, "zivid-mm")])
    assert all(scored.heights for scored in scoreboard.values())


def test_the_command_prints_the_heights(sonde, run):
    said = sonde("eval", run)
    assert said.code == 0 and "by height above the bench" in said.text and "height 50-100 mm" in said.text
    assert "\nobjects " in said.text and "standard deviation of the mean absolute error" in said.text
    assert list(sonde("eval", run, "--json").json["heights"]["spans"]) == SPANS


def test_the_page_shows_the_bench_and_the_errors_by_height(root, tmp_path):
    def answer(capture: Capture) -> DepthArray:
        return worse_on_objects(capture).depth

    run = leave_out(root, tmp_path / "run", [["c00"], ["c01"], ["c02"]], answer)
    plain_bench(np.full((24, 32), WALL)).write(run / "best")
    page = report.finish(run)
    assert page is not None
    html, text = page.read_text(encoding="utf-8"), (run / "report.md").read_text(encoding="utf-8")
    for said in (html, text):
        assert "By height above the bench" in said and "height 25-50 mm" in said
        assert "The bench that the model knows" in said and "the farthest depth on which captures agree" in said
        assert "MAE of objects (mm)" in said
    assert html.count('alt="the bench: ') == 2
    (run / "best" / "background.npy").unlink()
    assert "The bench that" not in report.write(run, score_with_baselines(run), report.Gallery()).read_text(
        encoding="utf-8"
    )


def test_an_interval_stands_under_its_own_column(run, root):
    scored = evaluation.evaluate(run, data=root, ci=95)
    html = report.write(run, {"it": scored}, report.Gallery()).read_text(encoding="utf-8")
    cells = html[html.index("95 % interval</th><td>") :].partition("</tr>")[0]
    assert cells.count("<td>") == 6 and cells.split("<td>")[2].startswith("\N{EN DASH}")


def test_a_note_beside_the_numbers_says_that_the_camera_moved(root):
    bench = plain_bench(np.full((24, 32), WALL))
    assert not evaluation.evaluate(worse_on_objects, "zivid-mm", root, bench=bench).notes
    for name in ("c01", "c02"):
        wall = np.linspace(WALL + 0.05, WALL + 0.050001, 32)  # no sensor gives one value for all pixels
        np.save(root / "depth" / f"{name}.npy", cloud(np.tile(wall, (24, 1))))
    (note,) = evaluation.evaluate(worse_on_objects, "zivid-mm", root, bench=bench).notes
    assert note.startswith("2 of 3 captures do not lie on the bench that this model knows, first c01 (50.0 mm in depth")
    assert "0 pixels off" in note and "adapt again" in note


def test_depth_that_is_not_in_metres_has_no_heights(root):
    captures = replace(open_zivid(root), space="scale")
    bench = plain_bench(np.full((24, 32), WALL))
    assert evaluation.evaluate(worse_on_objects, "zivid-mm", captures, bench=bench).heights is None
