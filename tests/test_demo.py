"""The demo's promise, in its short form: adapting beats both baselines on captures that chose nothing."""

import json

import pytest

from sonde import demo, scenes, train
from sonde.evaluate import ADAPTED


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> dict[str, dict[str, float]]:
    """The table of a short run of the demo's own recipe."""
    output = tmp_path_factory.mktemp("demo")
    root = scenes.synth("bench", output / "bench", demo.CAPTURES, seed=demo.SEED, height=120, width=160)
    run = train.train("demo", [*demo.settings(root, output, output / "run"), *SHORT])
    parts = json.loads((run / "split.json").read_text())
    assert not set(parts["test"]) & {*parts["train"], *parts["validation"]}
    assert (run / "report.html").is_file()
    return json.loads((run / "metrics.json").read_text())["table"]


SHORT = [
    "model.input_size=[96,128]",
    "train.max_steps=200",
    "train.eval_steps=50",
    "train.save_steps=50",
]


@pytest.mark.parametrize("error", ["MAE (mm)", "AbsRel", "RMSE (mm)"])
def test_the_adapted_models_errors_are_the_lowest(scores, error):
    assert len(scores) == 3
    others = [row[error] for name, row in scores.items() if name != ADAPTED]
    assert scores[ADAPTED][error] < min(others), scores


@pytest.mark.parametrize("share", ["δ1", "δ<1.05"])
def test_no_baseline_has_more_pixels_close_by(scores, share):
    others = [row[share] for name, row in scores.items() if name != ADAPTED]
    assert scores[ADAPTED][share] >= max(others), scores
