"""The demo's promise, in its short form: adapting beats every baseline on captures that chose nothing."""

import json

import pytest

from sonde import demo, files, scenes, training
from sonde.evaluation import ADAPTED


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> dict[str, dict[str, float]]:
    """The table of a short run of the demo's own recipe."""
    output = tmp_path_factory.mktemp("demo")
    root = scenes.synth("bench", output / "bench", demo.CAPTURES, seed=demo.SEED, height=120, width=160)
    run = training.train("demo", [*demo.list_overrides(root, output, output / "run"), *SHORT])
    parts = json.loads((run / "split.json").read_text())
    assert not set(parts["test"]) & {*parts["train"], *parts["validation"]}
    assert (run / "report.html").is_file()
    return json.loads((run / "metrics.json").read_text())["table"]


SHORT = [
    "model.input_size=[96,128]",
    "train.max_steps=100",
    "train.eval_steps=50",
    "train.save_steps=50",
]


@pytest.mark.parametrize("error", ["MAE (mm)", "AbsRel", "RMSE (mm)"])
def test_the_adapted_models_errors_are_the_lowest(scores, error):
    assert len(scores) == 6
    others = [row[error] for name, row in scores.items() if name != ADAPTED]
    assert scores[ADAPTED][error] < min(others), scores


@pytest.mark.parametrize("share", ["δ1", "δ<1.05"])
def test_no_baseline_has_more_pixels_close_by(scores, share):
    others = [row[share] for name, row in scores.items() if name != ADAPTED]
    assert scores[ADAPTED][share] >= max(others), scores


@pytest.mark.slow
def test_a_demo_that_was_stopped_goes_on_and_the_next_one_has_a_folder_of_its_own(tmp_path, monkeypatch):
    few = ["train.max_steps=3", "train.eval_steps=2", "train.save_steps=2", "model.input_size=[32,64]"]
    sizes = [
        "train.per_device_train_batch_size=2",
        "train.warmup_steps=0",
        "data.split.test=2",
        "data.split.validation=2",
    ]
    given = demo.list_overrides
    monkeypatch.setattr(demo, "list_overrides", lambda *places: [*given(*places), *few, *sizes])
    root = scenes.synth("bench", tmp_path / "bench", 12, seed=demo.SEED, height=48, width=64, workers=1)
    seen = []

    def stop(done: int, total: int, numbers: dict[str, float]) -> None:
        seen.append(done)
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.adapt(root, tmp_path, stop)
    seen.clear()
    assert demo.adapt(root, tmp_path, lambda done, total, numbers: seen.append(done)) == tmp_path / "run-1"
    assert min(seen) > 2
    assert demo.adapt(root, tmp_path) == tmp_path / "run-2"


@pytest.mark.slow
def test_distilling_leaves_three_rows_and_pictures_and_goes_on_from_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SYNTHETIC", {"room": 2, "road": 2})
    monkeypatch.setattr(demo, "UNLABELED", 4)
    monkeypatch.setattr(demo, "JUDGES", 4)
    short = ["train.max_steps=2", "train.eval_steps=2", "train.save_steps=2", "train.per_device_train_batch_size=2"]
    told = []
    made = demo.distil(tmp_path, lambda task, *progress: told.append(task), short)
    assert list(made.table) == [demo.TEACHER, demo.ON_SYNTHETIC, demo.ON_LABELS]
    assert all(0 <= row["δ1"] <= 1 and row["AbsRel"] > 0 for row in made.table.values())
    assert made.images == 2 and json.loads((tmp_path / "table.json").read_text()) == made.document()
    height, width = demo.SMALL
    assert files.read_rgb(tmp_path / "comparison.png").shape == (24 + 2 * height, 5 * width, 3)
    recipes = [training.recipes.load(run) for run in made.runs.values()]
    assert recipes[0].model == recipes[1].model and recipes[0].train == recipes[1].train
    assert recipes[0].data.measured == recipes[1].data.measured and recipes[1].data.format == "pseudo"
    assert "labelling" in told and "rendering synthetic-room" in told

    told.clear()
    demo.distil(tmp_path, lambda task, *progress: told.append(task), short)
    assert not [task for task in told if task.startswith("rendering")]
    assert len(list(tmp_path.glob("student-*"))) == 4
