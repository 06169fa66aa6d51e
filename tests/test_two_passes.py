"""Predictions go to disk and are scored from there, without the model; a killed evaluation goes on where it was."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_captures import picture, write_bench
from trained_runs import Killed, relative_model

from sonde import evaluation, files, prediction
from sonde.datasets import Capture
from sonde.models import Calibration
from sonde.types import Prediction


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_bench(tmp_path / "bench", 5)


def guess(capture: Capture) -> Prediction:
    """Different for every image, with values that no short decimal holds."""
    noise = np.random.default_rng(int(capture.id[1:])).normal(0, 0.01, (9, 11))
    return Prediction((0.8 + noise).astype(np.float32), "metric")


def dying(after: int) -> Callable[[Capture], Prediction]:
    """The same answers, until it dies."""
    left = iter(range(after))

    def predict(capture: Capture) -> Prediction:
        if next(left, None) is None:
            raise Killed
        return guess(capture)

    predict.__name__ = guess.__name__
    return predict


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_killed_evaluation_goes_on_and_ends_with_the_same_bytes(root, tmp_path):
    whole = evaluation.evaluate(guess, data=root, out=tmp_path / "whole", keep=tmp_path / "whole" / "kept")
    with pytest.raises(Killed):
        evaluation.evaluate(dying(3), data=root, out=tmp_path / "cut", keep=tmp_path / "cut" / "kept")
    assert len(content(tmp_path / "cut" / "kept")) == 5 and not (tmp_path / "cut" / "metrics.json").exists()
    evaluation.evaluate(dying(2), data=root, out=tmp_path / "cut", keep=tmp_path / "cut" / "kept")
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    assert whole.metrics == evaluation.evaluate(guess, data=root).metrics


def test_what_was_kept_is_scored_without_the_model_under_another_alignment(root, tmp_path):
    direct = evaluation.evaluate(guess, data=root, align="median")
    evaluation.evaluate(guess, data=root, keep=tmp_path / "kept")
    assert evaluation.evaluate(dying(0), data=root, align="median", keep=tmp_path / "kept").rows == direct.rows
    assert evaluation.evaluate(tmp_path / "kept", data=root, align="median").rows == direct.rows


def test_the_answer_to_another_image_of_the_same_name_is_refused(root, tmp_path):
    evaluation.evaluate(guess, data=root, keep=tmp_path / "kept")
    other = write_bench(tmp_path / "other", 5)
    files.write_rgb(other / "images" / "c03.png", picture(9))
    before = content(tmp_path / "kept")
    with pytest.raises(
        ValueError, match=r"kept holds the answer to another image, .*, called c03: give another folder"
    ):
        evaluation.evaluate(guess, data=other, keep=tmp_path / "kept")
    assert content(tmp_path / "kept") == before


def test_the_answer_for_another_camera_is_refused(root, tmp_path):
    evaluation.evaluate(guess, data=root, keep=tmp_path / "kept")
    for depth in (root / "depth").glob("*.npy"):
        cloud = np.load(depth)
        cloud[..., :2] *= 1.1  # a shorter lens
        np.save(depth, cloud)
    with pytest.raises(ValueError, match="or for another camera, called c00"):
        evaluation.evaluate(guess, data=root, keep=tmp_path / "kept")


def test_answers_never_replace_what_no_evaluation_kept(root, tmp_path):
    before = content(root)
    with pytest.raises(ValueError, match=r"c00\.npy is there already and no evaluation kept it: give another folder"):
        evaluation.evaluate(guess, data=root, keep=root / "depth")
    assert content(root) == before
    prediction.predict(root / "images", relative_model(), tmp_path / "predicted", save=["npy"])
    before = content(tmp_path / "predicted")
    with pytest.raises(ValueError, match=r"holds what `sonde predict` wrote|holds predictions of another"):
        evaluation.evaluate(relative_model(), "affine-disparity", root, keep=tmp_path / "predicted")
    assert content(tmp_path / "predicted") == before


def test_an_answer_whose_line_was_cut_short_is_asked_for_again(root, tmp_path):
    whole = evaluation.evaluate(guess, data=root, keep=tmp_path / "kept")
    lines = (tmp_path / "kept" / "images.jsonl").read_text()
    (tmp_path / "kept" / "images.jsonl").write_text(lines[:-20])
    assert evaluation.evaluate(dying(1), data=root, keep=tmp_path / "kept").rows == whole.rows


def test_a_models_own_answers_are_kept_without_loss_and_those_of_other_weights_are_refused(root, tmp_path):
    model = relative_model()
    kept = evaluation.evaluate(model, "affine-disparity", root, keep=tmp_path / "kept")
    assert kept.rows == evaluation.evaluate(model, "affine-disparity", root).rows
    model.calibration = Calibration("scale", "disparity", 2.0)
    with pytest.raises(ValueError, match=r"holds predictions of another calibration \(None, not 1 / 2\.0 \* x\)"):
        evaluation.evaluate(model, "metric", root, keep=tmp_path / "kept")
    model.calibration = None
    next(model.network.parameters()).data.add_(1e-3)
    with pytest.raises(ValueError, match=r"holds predictions of another weights .*give another folder"):
        evaluation.evaluate(model, "affine-disparity", root, keep=tmp_path / "kept")


def test_predictions_of_the_cut_are_not_taken_for_the_whole_frame(root, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "predictions.json").write_text('{"space": "metric", "unit": "m", "cut": "kb"}')
    with pytest.raises(ValueError, match="holds predictions of kb, and the protocol shows a model whole frames"):
        evaluation.evaluate(tmp_path / "kept", data=root)


def test_the_command_keeps_predictions(sonde, root, tmp_path):
    words = (
        "eval",
        "sonde-tiny",
        "--protocol",
        "affine-disparity",
        "--data",
        root,
        "--keep",
        tmp_path / "kept",
        "--json",
    )
    first, again = sonde(*words).json, sonde(*words).json
    assert first == again and len(list((tmp_path / "kept").glob("*.npy"))) == 5
