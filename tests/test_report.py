"""The page says what metrics.json says, shows what was scored, loads nothing, and tells what weakens its numbers."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from small_captures import write_bench
from torch import Tensor
from trained_runs import make_run

from sonde import evaluation, protocols, recipes, report
from sonde.datasets import Capture
from sonde.evaluation import ADAPTED, CONSTANT, MEAN_MAP, TRIVIAL, UNADAPTED, Evaluation, Settings
from sonde.metrics import METRICS, Metric
from sonde.report import Curves, Gallery
from sonde.runs import read_run
from sonde.types import Prediction

SETTINGS = Settings(protocols.load("zivid-mm"), "runs/x", "bench", "test captures", [], {"torch": "2.13.0"})
VOID = ("meta", "img", "br", "link", "input")


def make_evaluation(mae: float, ids: list[str], **more: Any) -> Evaluation:
    scores = {"mae_mm": mae, "abs_rel": mae / 1000, "rmse_mm": 2 * mae, "delta1": 1 - mae / 1e3, "delta105": 0.5}
    rows = [{"id": id_, "pixels": 9, **scores} for id_ in ids]
    return Evaluation("zivid-mm", scores, rows, {}, replace(SETTINGS, ids=ids, **more))


def capture(id_: str, height: int = 24, width: int = 32) -> Capture:
    depth = np.linspace(0.5, 1.5, height * width, dtype=np.float32).reshape(height, width)
    mask = np.ones((height, width), bool)
    mask[:4] = False
    return Capture(id_, np.full((height, width, 3), 90, np.uint8), np.where(mask, depth, np.float32(0)), mask)


def gallery(ids: list[str]) -> Gallery:
    shown = Gallery(worst=3)
    for number, id_ in enumerate(ids):
        seen = capture(id_)
        shown.add(seen, seen.depth + np.float32(0.001 * number), {"mae_mm": float(number), **row(number)})
    return shown


def row(number: int) -> dict[str, float]:
    return {"abs_rel": number / 1e3, "rmse_mm": float(number), "delta1": 1.0, "delta105": 1.0}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return recorded(tmp_path / "run-7")


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a usual run."""
    folder = recorded(tmp_path_factory.mktemp("runs") / "run-7")
    return report.write(folder, score_with_baselines(IDS), gallery(IDS)).read_text(encoding="utf-8")


def recorded(folder: Path) -> Path:
    """A run folder with all that training writes beside the weights."""
    folder.mkdir()
    (folder / "recipe.yaml").write_text(recipes.dump(recipes.load({"lora": {"r": 16}})))
    parts = {"train": ["t0", "t1"], "validation": ["v0"], "test": [f"c{index}" for index in range(6)]}
    (folder / "split.json").write_text(json.dumps(parts))
    (folder / "environment.json").write_text('{"torch": "9.8.7"}')
    steps = [{"step": step, "loss": 1 / step, "learning_rate": 1e-4} for step in (1, 2, 3, 4)]
    scores = [{"step": step, "eval_loss": 1 / step, "eval_mae_mm": 50 / step} for step in (2, 4)]
    lines = [json.dumps(line) for line in [*steps, *scores, {"step": 4, "train_runtime": 3.0}]]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def score_with_baselines(ids: list[str]) -> dict[str, Evaluation]:
    return {
        MEAN_MAP: make_evaluation(64.0, ids),
        UNADAPTED: make_evaluation(32.5, ids),
        ADAPTED: make_evaluation(6.25, ids),
    }


IDS = [f"c{index}" for index in range(6)]


@pytest.mark.parametrize("template", ["report.html", "captures.html"])
def test_every_table_of_a_page_scrolls_in_its_own_box(template):
    text = (Path(report.__file__).parent / template).read_text()
    tables = re.findall(r"(.*)\n<table>", text)
    assert tables and set(tables) == {'<div class="scroll" tabindex="0">'}
    assert 'name="viewport" content="width=device-width' in text


def test_the_style_lets_tables_scroll_and_keeps_their_first_column():
    text = (Path(report.__file__).parent / "report.html").read_text()
    assert ".scroll { overflow-x: auto" in text and ".scroll th:first-child { position: sticky; left: 0" in text


def test_the_page_has_the_numbers_of_every_row_and_marks_the_best(html):
    assert all(number in html for number in ("64.00", "32.50", "6.250", "0.9938", "6.25 mm"))
    own = html[html.index('<tr class="own">') :]
    assert own.count('class="best"') >= 4
    assert html[: html.index('<tr class="own">')].count('<td class="best"') == 2  # all three tie at δ<1.05


def test_the_page_loads_nothing_from_anywhere(html):
    assert not re.search(r"https?:|//cdn|<script|<link|@import", html)
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert sources and all(source.startswith(("data:", "#")) for source in sources)


def test_every_tag_is_closed_and_no_id_is_given_twice(html):
    class Balance(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.ids: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.ids += [value for name, value in attrs if name == "id" and value]
            if tag not in VOID:
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed(html)
    assert not parser.open
    assert len(parser.ids) == len(set(parser.ids))


def test_curves_settings_and_versions_are_there(html):
    assert all(title in html for title in ("Loss", "Validation error", "Error against depth"))
    assert all(
        fact in html for fact in ("sonde-tiny", "LoRA r=16", "2 train, 1 validation, 6 test", "seed 42", "9.8.7")
    )


def test_charts_take_their_colours_from_the_page(html):
    assert "var(--accent)" in html and report.INK not in html


def test_the_worst_come_first_and_no_more_than_asked():
    assert [panel.id for panel in gallery(IDS).panels] == ["c5", "c4", "c3"]


def test_pictures_are_small_and_invalid_pixels_stay_invalid():
    shown = Gallery(width=100)
    seen = capture("wide", 90, 450)
    shown.add(seen, seen.depth, {"mae_mm": 0.0})
    panel = shown.panels[0]
    assert panel.depth.shape == panel.mask.shape == panel.prediction.shape == panel.image.shape[:2] == (18, 90)
    np.testing.assert_array_equal(panel.depth > 0, panel.mask)


def test_the_sample_of_errors_is_bounded_and_signed():
    shown = Gallery(pixels=100)
    seen = capture("c", 90, 450)
    shown.add(seen, seen.depth - np.float32(0.25), {"mae_mm": 250.0})
    assert 100 <= len(shown.errors) < 200
    np.testing.assert_allclose(shown.errors[:, 1], -0.25, atol=1e-6)


def test_bins_hold_the_errors_of_their_depth():
    depth = np.linspace(1, 3, 10_001)
    middles, held = report.bin_errors(np.stack([depth, -depth], axis=1))
    means = [values.mean() for values in held]
    np.testing.assert_allclose(means, middles, atol=0.05)


def test_bins_of_the_logarithm_hold_the_errors_of_their_depth():
    depth = np.geomspace(0.1, 900, 20_001)
    middles, held = report.bin_errors(np.stack([depth, -depth], axis=1), logarithmic=True)
    np.testing.assert_allclose([values.mean() for values in held], middles, rtol=0.05)
    assert max(map(len, held)) - min(map(len, held[:-1])) < 20  # as many in each, of depths spread in this way


def test_the_markdown_beside_the_page_says_the_same(run):
    html = report.write(run, score_with_baselines(IDS), gallery(IDS)).read_text(encoding="utf-8")
    text = (run / "report.md").read_text(encoding="utf-8")
    header, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in (header, *rows)]
    assert cells[0][1:] == ["MAE (mm)", "AbsRel", "RMSE (mm)", "δ1", "δ<1.05"]
    assert all(
        f"<td>{cell}</td>" in html or f'<td class="best">{cell}</td>' in html for row in cells[1:] for cell in row[1:]
    )
    worst = [line for line in text.splitlines() if line.startswith("- `")]
    assert len(worst) == html.count('loading="lazy"') / 4
    assert "name: zivid-mm" in text and "{" not in text.split("## To do it again")[0]


def test_one_depth_everywhere_still_makes_a_chart(run):
    shown, seen = Gallery(), capture("flat")
    shown.add(
        seen._replace(depth=np.where(seen.mask, np.float32(1), np.float32(0))), seen.depth, {"mae_mm": 1.0, **row(1)}
    )
    assert "Error against depth" in report.write(run, score_with_baselines(IDS), shown).read_text(encoding="utf-8")


def test_no_error_is_white_too_far_is_red_and_untrusted_is_grey():
    error = np.array([[0.0, 5.0, -5.0, 1.0]], np.float32)
    colours = report.colour_error(error, np.array([[True, True, True, False]]), 5.0)[0].astype(int)
    assert colours[0].min() > 240
    assert colours[1][0] > colours[1][2] and colours[2][2] > colours[2][0]
    assert (colours[3] == 128).all()


def test_a_perfect_prediction_has_a_page_too(run):
    shown, seen = Gallery(), capture("c0")
    shown.add(seen, seen.depth, {"mae_mm": 0.0, **row(0)})
    perfect = {MEAN_MAP: make_evaluation(5.0, IDS), ADAPTED: make_evaluation(0.0, IDS)}
    assert "0.00 mm" in report.write(run, perfect, shown).read_text(encoding="utf-8")


def test_a_folder_without_a_record_still_gets_its_page(tmp_path):
    html = report.write(tmp_path, score_with_baselines(IDS), gallery(IDS)).read_text(encoding="utf-8")
    assert "6.25" in html and "Loss" not in html


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["t0", "c1", "c2", "c3", "c4"], "was trained on"),
        (["v0", "c1", "c2", "c3", "c4"], "also chose the checkpoint"),
        (["c1", "c2"], "2 captures tell little: 95 % interval"),
    ],
)
def test_what_weakens_the_numbers_is_said_beside_them(run, ids, words):
    assert words in report.describe_caution(read_run(run), make_evaluation(1.0, ids))


def test_without_a_step_no_capture_chose_the_checkpoint(run):
    parts = {"train": ["t0"], "validation": [], "test": IDS}
    (run / "split.json").write_text(json.dumps(parts))
    assert "also chose" in report.describe_caution(read_run(run), make_evaluation(1.0, IDS))
    settings = ["train.max_steps=0", "model.size=lite2", "model.init=random", "lora=null"]
    (run / "recipe.yaml").write_text(recipes.dump(recipes.load(run, settings)))
    assert report.describe_caution(read_run(run), make_evaluation(1.0, IDS)) == ""
    text = report.write(run, score_with_baselines(IDS), gallery(IDS)).with_suffix(".md").read_text(encoding="utf-8")
    assert text.startswith("# lite2 on ") and "- trained: the head, on frozen features" in text


def test_a_range_of_all_captures_is_told_beside_the_numbers(run):
    assert "data.range: all" not in report.describe_caution(read_run(run), make_evaluation(1.0, IDS))
    (run / "recipe.yaml").write_text(recipes.dump(recipes.load(run, ["data.range=all"])))
    said = report.describe_caution(read_run(run), make_evaluation(1.0, ["v0", *IDS]))
    assert said.startswith("The range of the encoding is of all captures") and "also chose the checkpoint" in said


def test_a_fit_that_runs_the_other_way_is_cautioned_of_any_row(run):
    backwards = make_evaluation(64.0, IDS)
    for scores in backwards.rows[:2]:
        scores["fitted_scale"] = -0.5
    backwards = backwards.record(protocol=protocols.load("zivid-mm", "affine"))
    html = report.write(
        run, {**score_with_baselines(IDS), UNADAPTED: backwards, ADAPTED: make_evaluation(6.25, IDS)}, gallery(IDS)
    ).read_text()
    assert f"{UNADAPTED}: 2 of 6 images were fitted with a negative scale" in html


def test_nothing_is_cautioned_where_nothing_is_wrong(html):
    assert "Before you believe it" not in html


def test_names_from_disk_cannot_write_markup(run):
    ids = ["<script>alert(1)</script>", *IDS]
    assert "<script>" not in report.write(run, score_with_baselines(ids), gallery(ids)).read_text(encoding="utf-8")


def test_a_step_logged_twice_counts_once_by_its_later_number(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2, "loss": 3.0}\n{"step": 1, "loss": 5.0}\n{"step": 2, "loss": 4.0}\n')
    assert Curves.read(path).points("loss") == ([1, 2], [5.0, 4.0])


@pytest.mark.parametrize(
    ("settings", "step"),
    [
        ({}, 1000),
        ({"train": {"metric_for_best_model": "eval_delta1"}}, 1500),
        ({"train": {"metric_for_best_model": "mae_mm"}}, 500),
        ({"train": {"load_best_model_at_end": False}}, 1600),
        ({"save_model": False}, 1600),
        ({"train": {"metric_for_best_model": "eval_rmse_mm"}}, None),
    ],
)
def test_the_line_stands_at_the_checkpoint_that_the_recipe_keeps(settings: dict, step: int | None) -> None:
    scores = {"eval_loss": [0.3, 0.25, 0.27], "eval_delta1": [0.6, 0.65, 0.72], "eval_mae_mm": [3, float("nan"), 9]}
    series: dict[str, dict[int, float]] = {"loss": {1500: 1.0, 1600: 0.9}}
    for name, values in scores.items():
        series[name] = dict(zip((500, 1000, 1500), map(float, values), strict=True))
    assert Curves(series).find_kept_step(recipes.load(settings)) == step


@pytest.mark.parametrize(
    ("value", "text"), [(1133.4, "1133"), (12345.6, "12346"), (0.2, "0.2000"), (0.013514, "0.01351"), (0.0, "0.000")]
)
def test_numbers_have_four_digits_and_no_exponent(value, text):
    assert report.format_number(value) == text


def test_the_headline_compares_and_does_not_boast():
    sentences = report.compose_headline(
        {
            MEAN_MAP: make_evaluation(50.0, IDS),
            UNADAPTED: make_evaluation(5.0, IDS),
            ADAPTED: make_evaluation(10.0, IDS),
        }
    )
    assert "5.0 times lower" in sentences[0] and "not lower" in sentences[1]


def test_the_headline_names_the_best_trivial_answer_alone_and_begins_with_what_speaks_against_the_run():
    rows = {
        CONSTANT: make_evaluation(90.0, IDS),
        MEAN_MAP: make_evaluation(50.0, IDS),
        UNADAPTED: make_evaluation(5.0, IDS),
    }
    (first, second) = report.compose_headline({**rows, ADAPTED: make_evaluation(10.0, IDS)})
    assert first.endswith(f"lower than that of the {MEAN_MAP} (50.0 mm).") and UNADAPTED in second
    against = report.compose_headline({**rows, ADAPTED: make_evaluation(49.0, IDS, headline="It does not beat it.")})
    assert against == ["It does not beat it.", against[1]] and UNADAPTED in against[1]


def test_old_names_still_answer():
    with pytest.warns(FutureWarning, match=r"sonde\.report\.number is now called sonde\.report\.format_number"):
        assert getattr(report, "number") is report.format_number  # noqa: B009


@pytest.mark.parametrize("held", ["test", "validation"])
def test_a_finished_run_is_scored_on_what_it_held_out(tmp_path, held):
    parts = {"test": [], "validation": ["c02"], held: ["c03", "c04"]}
    run = make_run(write_bench(tmp_path / "bench", 5), tmp_path / "run", **parts)
    page = report.finish(run)
    assert page is not None
    document = json.loads((run / "metrics.json").read_text())
    assert document["images"] == 2 and set(document["table"]) == {*TRIVIAL, UNADAPTED, ADAPTED}
    assert document["table"][ADAPTED]["MAE (mm)"] == document["metrics"]["mae_mm"]
    assert len((run / "per_image.csv").read_text().splitlines()) == 3
    html = page.read_text(encoding="utf-8")
    assert "c03" in html and ("chose the checkpoint" in html) == (held == "validation")


def test_a_run_that_held_nothing_out_gets_no_score(tmp_path):
    run = make_run(write_bench(tmp_path / "bench", 3), tmp_path / "run", test=[], validation=[])
    assert report.finish(run) is None
    assert not (run / "metrics.json").exists()


def farthest_off(pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The largest error of an image, metres."""
    return torch.where(mask, (pred - target).abs(), 0).amax((1, 2)).double()


def test_a_metric_added_by_one_assignment_is_in_every_table(tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "mine", Metric(farthest_off, unit="m", heading="Mine"))
    monkeypatch.setitem(
        METRICS, "nearness", Metric(lambda *maps: -farthest_off(*maps), better="larger", heading="Near")
    )
    monkeypatch.setitem(METRICS, "plain", farthest_off)
    root = write_bench(tmp_path / "bench", 3)
    names = ["mae", "mine", "nearness", "plain"]
    rules = protocols.load("zivid-mm").model_dump(mode="json") | {"name": "my-rules", "metrics": names}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(rules))
    scoreboard, gallery = {}, report.Gallery()
    for label, off in (("far", 0.02), ("near", 0.01)):
        scoreboard[label] = evaluation.evaluate(
            lambda capture, off=off: Prediction(capture.depth + np.float32(off), "metric"),
            str(tmp_path / "mine.yaml"),
            root,
            out=tmp_path / label,
            watch=gallery.add,
        )
    expected = {"mae_mm": 10, "mine_mm": 10, "nearness": -0.01, "plain": 0.01}
    assert scoreboard["near"].metrics == pytest.approx(expected, abs=1e-4)
    header = (tmp_path / "near" / "per_image.csv").read_text().splitlines()[0]
    assert header.startswith("id,pixels,mae_mm,mine_mm,nearness,plain,")
    assert list(evaluation.table(scoreboard)["near"]) == ["MAE (mm)", "Mine (mm)", "Near"]
    html = report.write(tmp_path / "near", scoreboard, gallery).read_text(encoding="utf-8")
    lines = (tmp_path / "near" / "report.md").read_text(encoding="utf-8").splitlines()
    assert "| far | 20.00 | 20.00 | -0.02000 |" in lines
    assert "| near | **10.00** | **10.00** | **-0.01000** |" in lines
    assert "Near: higher is better." in html and "Mine: higher" not in html
    assert evaluation.read_evaluation(tmp_path / "far") == scoreboard["far"]


def test_a_main_metric_that_is_better_larger_is_compared_so():
    scores = {name: Evaluation("mine", {"delta1": value}, [], {}, SETTINGS) for name, value in FEW_WITHIN.items()}
    assert evaluation.best_trivial(scores) == MEAN_MAP
    assert report.compose_headline(scores) == [
        f"The mean delta1 of the {ADAPTED} is not higher than that of the {MEAN_MAP} (0.800).",
        f"The mean delta1 of the {ADAPTED} is higher than that of the {UNADAPTED} (0.600).",
    ]


FEW_WITHIN = {CONSTANT: 0.5, MEAN_MAP: 0.8, UNADAPTED: 0.6, ADAPTED: 0.7}


def test_a_protocol_of_few_metrics_has_its_table_and_its_page(tmp_path):
    root = write_bench(tmp_path / "bench", 3)
    rules = protocols.load("zivid-mm").model_dump(mode="json") | {"name": "mine", "metrics": ["delta1", "rmse"]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(rules))
    gallery = report.Gallery(worst=1)

    def worse_and_worse(capture: Capture) -> Prediction:
        return Prediction(capture.depth * np.float32(1 + 0.2 * int(capture.id[1:])), "metric")

    scored = evaluation.evaluate(worse_and_worse, str(tmp_path / "mine.yaml"), root, watch=gallery.add)
    assert scored.unit == "mm" and evaluation.table({"it": scored})["it"].keys() == {"RMSE (mm)", "δ1"}
    assert [panel.id for panel in gallery.panels] == ["c02"]  # by delta1, of which the least is the worst
    page = report.write(tmp_path / "out", {"it": scored}, gallery)
    assert "RMSE (mm)" in page.read_text(encoding="utf-8")
