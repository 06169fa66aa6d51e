"""An ablation from one evaluation to another gives each setting its effect, and the effects sum to the difference."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small_captures import write_bench

from sonde import evaluation, protocols
from sonde.comparison import Ablation, Comparison, compare, list_differences
from sonde.datasets import Capture
from sonde.evaluation import read_evaluation
from sonde.types import Prediction

IDS = [f"c{index:02}" for index in range(6)]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_bench(tmp_path_factory.mktemp("captures") / "bench", 6)


@pytest.fixture
def scored(root: Path, tmp_path: Path) -> Callable[..., Path]:
    """Scores what a function makes of the true depth, under zivid-mm with changes, into a folder."""

    def run(name: str, answer: Callable[[Capture], np.ndarray], keep: bool = True, data: Path = root, **changes: Any):
        rules = protocols.load("zivid-mm").model_dump(mode="json") | changes | {"name": f"{name}-rules"}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(rules))
        out = tmp_path / name
        evaluation.evaluate(
            lambda capture: Prediction(answer(capture).astype(np.float32), "metric"),
            str(tmp_path / f"{name}.yaml"),
            data,
            ids=None,
            out=out,
            keep=out / "kept" if keep else None,
        )
        return out

    return run


def ablation_of(found: Comparison) -> Ablation:
    """Its ablation, which must be there."""
    assert found.ablation is not None
    return found.ablation


def filled(capture: Capture) -> np.ndarray:
    return np.where(capture.mask, capture.depth, 0.8)


def wrong_above(capture: Capture) -> np.ndarray:
    """A tenth too far in the upper half."""
    rows = np.arange(24)[:, None]
    return filled(capture) * np.where(rows < 12, 1.1, 1.0)


def wrong_far(capture: Capture) -> np.ndarray:
    return np.where(filled(capture) > 0.9, 1.5, 1.0) * filled(capture)


def out_of_range(capture: Capture) -> np.ndarray:
    """Right, but for one row far beyond any depth of the bench."""
    answer = filled(capture)
    answer[-1] = 90
    return answer


PLANTED = {
    "crop": (wrong_above, {}, {"window": [12, 24, 0, 32]}),
    "range": (wrong_far, {}, {"max_depth": 0.9}),
    "clamp": (out_of_range, {"clamp": None}, {"clamp": [0.1, 2.0]}),
    "resize": (lambda capture: filled(capture)[::3, ::4], {"resize": "nearest"}, {"resize": "bilinear"}),
    "alignment": (lambda capture: 1.3 * filled(capture), {}, {"align": "scale"}),
}


@pytest.mark.parametrize("step", PLANTED)
def test_the_one_setting_that_differs_explains_the_whole_difference(scored, step):
    answer, before, after = PLANTED[step]
    found = compare(scored("one", answer, **before), scored("other", answer, **after))
    assert list(found.settings) == [step]
    first, model = ablation_of(found).steps
    assert (first.name, model.name) == (step, "model")
    assert first.effect == pytest.approx(ablation_of(found).total, abs=1e-9) and abs(first.effect) > 0.1
    assert model.effect == pytest.approx(0, abs=1e-9)
    assert first.interval is not None and first.interval.low <= first.effect <= first.interval.high


def test_what_no_setting_explains_is_the_models(scored):
    one = scored("one", lambda capture: filled(capture) + 0.01)
    other = scored("other", lambda capture: filled(capture) + 0.03, window=[12, 24, 0, 32])
    crop, model = ablation_of(compare(one, other)).steps
    assert crop.effect == pytest.approx(0, abs=1e-3) and model.effect == pytest.approx(20, abs=1e-3)


def test_the_steps_of_many_settings_sum_to_the_difference_in_order(scored):
    noise = np.random.default_rng(0).normal(1, 0.05, (24, 32))
    one = scored("one", lambda capture: 1.2 * (wrong_above(capture) * noise)[::2, ::2])
    changes = {"window": [4, 20, 2, 30], "max_depth": 1.1, "resize": "bilinear", "align_corners": True}
    other = scored("other", wrong_far, **changes, clamp=[0.1, 1.0], align="affine", metrics=["abs_rel", "mae"])
    for metric in ("mae_mm", "abs_rel"):
        found = ablation_of(compare(one, other, metric=metric))
        assert [step.name for step in found.steps] == ["crop", "range", "resize", "clamp", "alignment", "model"]
        whole = read_evaluation(other).metrics[metric] - read_evaluation(one).metrics[metric]
        assert sum(step.effect for step in found.steps) == pytest.approx(whole, abs=1e-9)
        values = [found.start, *(step.value for step in found.steps)]
        assert np.diff(values) == pytest.approx([step.effect for step in found.steps], abs=1e-9)


def test_the_last_step_is_the_firsts_score_under_the_others_rules(scored, root, tmp_path):
    one, other = scored("one", wrong_above), scored("other", wrong_far, window=[6, 24, 0, 32], align="median")
    direct = evaluation.evaluate(one / "kept", str(tmp_path / "other.yaml"), root)
    found = compare(one, other)
    assert ablation_of(found).steps[-2].value == pytest.approx(direct.metrics["mae_mm"], rel=1e-12)
    assert found.means["delta1"][0] == pytest.approx(direct.metrics["delta1"], rel=1e-12)


def test_other_ground_truth_is_a_step(scored, root, tmp_path):
    nearer = shutil.copytree(root, tmp_path / "nearer")
    for path in (nearer / "depth").iterdir():
        np.save(path, np.load(path) * np.float32(0.9))
    one = scored("one", filled)
    other = tmp_path / "other"
    evaluation.evaluate(one / "kept", "zivid-mm", nearer, out=other)
    found = compare(one, other)
    assert list(found.settings) == ["ground truth"] and str(nearer) in found.settings["ground truth"]
    assert ablation_of(found).steps[0].effect == pytest.approx(ablation_of(found).total, abs=1e-9)
    assert ablation_of(found).steps[0].effect > 50


def test_images_that_are_not_shared_are_a_step_and_are_told(scored, root, tmp_path):
    one = scored("one", lambda capture: filled(capture) + 0.001 * int(capture.id[1:]))
    other = tmp_path / "other"
    evaluation.evaluate(one / "kept", "zivid-mm", root, ids=IDS[:4], align="scale", out=other)
    found = compare(one, other)
    assert found.images == 4 and found.alone == (2, 0)
    images, _alignment, _model = ablation_of(found).steps
    assert images.effect == pytest.approx(1.5 - 2.5, abs=1e-3) and images.interval is None
    assert sum(step.effect for step in ablation_of(found).steps) == pytest.approx(ablation_of(found).total, abs=1e-9)
    assert any("2 images of the first and 0 of the second are not shared" in note for note in found.notes)


def test_under_the_same_rules_the_difference_is_paired_and_has_no_ablation(scored):
    one, other = scored("one", lambda c: filled(c) + 0.01 * int(c.id[1:])), scored("other", filled)
    same = compare(one, other)  # the rules have other names, and say the same
    assert same.ablation is None and not same.settings and not same.refused
    values = [row["mae_mm"] for row in read_evaluation(one).rows]
    interval = same.differences["mae_mm"]
    assert interval is not None and interval.mean == pytest.approx(-np.mean(values), rel=1e-9)
    assert interval.low < interval.high < 0


def test_without_predictions_nothing_is_claimed_and_the_settings_are_told(scored, sonde):
    one = scored("one", wrong_above, keep=False)
    other = scored("other", wrong_far, window=[12, 24, 0, 32])
    said = sonde("compare", one, other)
    assert said.code == 1 and "crop" in said.text and "--keep FOLDER" in said.text and "mae_mm" not in said.text
    document = sonde("compare", one, other, "--json").json
    assert document["difference"] == {} and document["ladder"] is None
    assert document["settings"] == {"crop": "window none → [12, 24, 0, 32]"}


def test_predictions_that_changed_since_are_refused(scored):
    one, other = scored("one", wrong_above), scored("other", wrong_far, align="scale")
    np.save(one / "kept" / "c02.npy", np.full((24, 32), 0.7, np.float32))
    with pytest.raises(ValueError, match=r"do not give the first evaluation's mae_mm of c02"):
        compare(one, other)


def test_evaluations_of_other_captures_are_refused(scored, tmp_path):
    one = scored("one", filled)
    path = tmp_path / "one" / "per_image.csv"
    other = shutil.copytree(one, tmp_path / "elsewhere")
    (other / "per_image.csv").write_text(path.read_text().replace("\nc0", "\nx0"))
    with pytest.raises(ValueError, match="share no capture"):
        compare(one, other)


def test_a_folder_moves_with_its_predictions(scored, tmp_path):
    scored("one", wrong_above)
    other = scored("other", wrong_above, window=[12, 24, 0, 32])
    moved = (tmp_path / "one").rename(tmp_path / "archive")
    assert json.loads((moved / "metrics.json").read_text())["settings"]["predictions"] == "kept"
    assert ablation_of(compare(moved, other)).steps[0].effect < 0


def test_the_command_prints_the_ablation_and_writes_it(scored, sonde, tmp_path):
    one, other = scored("one", wrong_above), scored("other", filled, window=[12, 24, 0, 32], align="scale")
    said = sonde("compare", one / "metrics.json", other, "-o", tmp_path / "page")
    assert said.code == 0 and "1 crop" in said.text and "2 alignment" in said.text and "3 model" in said.text
    document = json.loads((tmp_path / "page" / "comparison.json").read_text())
    effects = [step["effect"] for step in document["ladder"]["steps"]]
    assert sum(effects) == pytest.approx(document["ladder"]["total"], abs=1e-9)
    page = (tmp_path / "page" / "comparison.md").read_text()
    assert "| 1 crop |" in page and "window none → [12, 24, 0, 32]" in page
    assert sonde("compare", one, other, "--json").json["ladder"] == document["ladder"]


def test_a_command_on_kept_predictions_can_be_explained(sonde, root, tmp_path):
    """As a user does it: two alignments of one folder of predictions, by the command line alone."""
    kept, words = tmp_path / "kept", ("eval", "sonde-tiny", "--data", root, "--protocol", "affine-disparity")
    assert sonde(*words, "--keep", kept, "-o", tmp_path / "one").code == 0
    changes = protocols.load("affine-disparity").model_dump(mode="json") | {"name": "mine", "window": [12, 24, 0, 32]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(changes))
    assert sonde("eval", kept, "--data", root, "--protocol", tmp_path / "mine.yaml", "-o", tmp_path / "two").code == 0
    document = sonde("compare", tmp_path / "one", tmp_path / "two", "--json").json
    crop, model = document["ladder"]["steps"]
    assert crop["effect"] == pytest.approx(document["ladder"]["total"], abs=1e-9)
    assert model["effect"] == pytest.approx(0, abs=1e-9)


def test_the_ablation_answers_to_its_old_name(scored):
    found = compare(scored("one", filled), scored("other", filled, align="scale"))
    with pytest.warns(FutureWarning, match=r"Comparison\.ladder is now called Comparison\.ablation"):
        assert found.ladder is found.ablation


def test_what_one_side_does_not_tell_is_taken_from_the_other_whichever_comes_first(root, scored):
    one, other = (read_evaluation(scored(name, filled)) for name in ("one", "other"))
    one = one.record(format=None)  # as in a run's own scores
    other = other.record(protocol=one.settings.protocol)
    assert list_differences(one, other) == list_differences(other, one) == {}
