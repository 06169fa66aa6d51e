"""Training, scoring and calibrating ask the checks first, before a network is loaded, and record what they said."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_captures import picture, write_bench
from small_recipes import FEW
from trained_runs import killed_at, make_run

from sonde import calibration, evaluation, models, training
from sonde.checks import screening
from sonde.datasets import Capture
from sonde.evaluation import On
from sonde.types import Prediction

ROUND = {"checked": True, "captures": 6, "looked_at": [f"c{index:02}" for index in range(6)], "verdicts": []}
"""What is recorded of a sound bench of six captures."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_bench(tmp_path / "bench", 6)


@pytest.fixture
def metres(tmp_path: Path) -> Path:
    """The same in metres, where millimetres are declared."""
    return scale_depth(write_bench(tmp_path / "metres", 6), 0.001)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """The same in centimetres, which may be true of another camera."""
    return scale_depth(write_bench(tmp_path / "odd", 6), 0.1)


def scale_depth(root: Path, factor: float) -> Path:
    for path in (root / "depth").iterdir():
        np.save(path, np.load(path) * np.float32(factor))
    return root


@pytest.fixture
def settings(base: Path, tmp_path: Path):
    """Overrides for a run of two steps."""

    def make(root: Path, *more: str) -> list[str]:
        sizes = ["train.per_device_train_batch_size=1", "train.max_steps=2", "train.eval_steps=1", "train.save_steps=1"]
        start = [f"model.name={base}", "model.input_size=[32,64]", f"data.root={root}", "data.cache=null"]
        return [*start, *sizes, "train.warmup_steps=0", f"output_dir={tmp_path / 'run'}", *more]

    return make


@pytest.fixture
def no_network(monkeypatch):
    """Fails a test that loads a network."""
    for module in ("sonde.training.networks.models.load", "sonde.evaluation.predictions.models.load"):
        monkeypatch.setattr(module, lambda *words, **options: pytest.fail("a network was loaded"))


@pytest.fixture
def screened(monkeypatch) -> list[Path]:
    """The roots of the sets that were screened, in order."""
    roots: list[Path] = []
    look = screening.screen

    def note(captures, *words, **options):
        roots.append(captures.root)
        return look(captures, *words, **options)

    monkeypatch.setattr(screening, "screen", note)
    return roots


def perfect(capture: Capture) -> Prediction:
    return Prediction(capture.depth, "metric")


def read(path: Path):
    return json.loads(path.read_text())


# train


def test_training_refuses_metres_before_a_network_is_loaded(settings, metres, no_network, tmp_path):
    for start in (training.train, training.dry_run):
        with pytest.raises(ValueError, match=r"metres is not sound: c00 ends at .* looks like metres; .*check=False"):
            start(FEW, settings(metres))
    assert not (tmp_path / "run" / "checks.json").exists()


def test_a_run_records_what_the_checks_said_and_keeps_it_when_it_continues(settings, root, screened):
    with killed_at(1):
        training.train(FEW, settings(root))
    run = training.train(FEW, settings(root), resume=True)
    assert screened == [root]
    assert read(run / "checks.json") == ROUND == read(run / "metrics.json")["settings"]["checks"]
    assert "notes" not in read(run / "metrics.json")


def test_a_likely_fault_is_one_warning_and_stays_with_the_scores(settings, odd, caplog):
    with caplog.at_level(logging.WARNING, "sonde"):
        run = training.train(FEW, settings(odd))
    assert [line.partition(":")[0] for line in caplog.messages if "sound" in line] == [f"{odd} may not be sound"]
    (verdict,) = read(run / "checks.json")["verdicts"]
    assert (verdict["check"], verdict["verdict"]) == ("unit", "likely")
    assert any(verdict["message"] in note for note in read(run / "metrics.json")["notes"])


def test_who_knows_better_trains_anyhow_and_the_record_says_so(settings, metres, screened):
    run = training.train(FEW, settings(metres), check=False)
    assert read(run / "checks.json") == {"checked": False} and screened == []
    assert read(run / "metrics.json")["notes"][0] == "The captures were not checked."
    assert training.dry_run(FEW, settings(metres), check=False).checks == {"checked": False}


def test_a_dry_run_tells_the_verdicts(settings, odd):
    checks = training.dry_run(FEW, settings(odd)).checks
    assert checks is not None and (checks["looked_at"], checks["captures"]) == (6, 6)
    assert str(checks["verdicts"]).startswith("['likely: The usual depth of this set is ")


def test_folds_are_screened_once_and_each_has_the_record(settings, root, screened, tmp_path):
    training.train(FEW, settings(root, "data.split.folds=2", "data.split.validation=0", "train.max_steps=1"))
    assert screened == [root]
    assert all(read(tmp_path / "run" / f"fold-{number}" / "checks.json") == ROUND for number in range(2))


def test_windows_are_compared_with_the_captures_that_were_looked_at(settings, root, monkeypatch):
    with pytest.raises(ValueError, match="is 32x24"):
        training.dry_run(FEW, settings(root, "data.fit=window", "model.input_size=[64,64]"))
    monkeypatch.setattr(screening, "screen", lambda captures, ids, **options: screening.Screening(shapes={}))
    with pytest.raises(ValueError, match="is 32x24"):
        training.dry_run(FEW, settings(root, "data.fit=window", "model.input_size=[64,64]"))


def test_the_command_line_refuses_with_its_own_option(sonde, settings, metres, odd):
    said = sonde("train", FEW, *settings(metres))
    assert said.code == 2 and said.text == "" and said.errors.rstrip().endswith("Give --no-check to use it as it is.")
    said = sonde("train", FEW, *settings(odd), "--dry-run", "--json")
    assert said.code == 0 and len(said.json["checks"]["verdicts"]) == 1
    assert sonde("train", FEW, *settings(metres), "--dry-run", "--no-check", "--json").json["checks"] == {
        "checked": False
    }


# eval


def test_scoring_refuses_metres_before_a_network_is_loaded(base, metres, no_network):
    with pytest.raises(ValueError, match=r"metres is not sound: .*check=False"):
        evaluation.evaluate(str(base), "zivid-mm", metres)


def test_an_evaluation_records_what_the_checks_said(root, odd, metres, tmp_path):
    assert evaluation.evaluate(perfect, "zivid-mm", root).settings.checks == ROUND
    scored = evaluation.evaluate(perfect, "zivid-mm", odd, out=tmp_path / "scores")
    assert scored.notes[0].startswith("The captures may not be sound: The usual depth of this set is ")
    again = evaluation.read_evaluation(tmp_path / "scores")
    assert again.settings == scored.settings and again.notes == scored.notes
    assert read(tmp_path / "scores" / "metrics.json")["checks"] == scored.settings.checks
    scored = evaluation.evaluate(perfect, "zivid-mm", metres, check=False)
    assert scored.summary()["checks"] == {"checked": False}
    assert scored.notes[0] == "The captures were not checked."


def test_only_the_captures_to_score_are_looked_at(root, screened):
    scored = evaluation.evaluate(perfect, "zivid-mm", root, ids=["c01", "c04"])
    assert scored.settings.checks is not None
    assert scored.settings.checks.get("looked_at") == ["c01", "c04"]


def test_a_run_is_scored_on_its_own_captures_without_looking_twice(root, screened, tmp_path):
    run = make_run(root, tmp_path / "run", ["c04", "c05"], ["c03"])
    scored = evaluation.evaluate(str(run))
    assert screened == [root] and scored.settings.checks is not None  # it has no record yet
    (run / "checks.json").write_text(json.dumps(ROUND))
    assert evaluation.evaluate(str(run)).settings.checks == ROUND and screened == [root]


def test_every_set_is_looked_at_before_the_model_is_loaded(base, root, metres, odd, no_network, screened):
    with pytest.raises(ValueError, match="metres is not sound"):
        evaluation.evaluate_many(str(base), [On("zivid", root), On("zivid", metres)], "zivid-mm")
    assert screened == [root, metres]


def test_the_rows_of_several_sets_have_their_own_record(base, root, odd):
    scores = evaluation.evaluate_many(str(base), [On("zivid", root), On("zivid", odd)], "zivid-mm", align="disparity")
    kept = [scored.settings.checks for scored in scores.values()]
    assert [len(checks["verdicts"]) for checks in kept if checks is not None and "verdicts" in checks] == [0, 1]


def test_the_command_line_scores_what_it_is_told_to(sonde, base, metres):
    words = ("eval", base, "--data", metres, "--align", "disparity")
    said = sonde(*words)
    assert said.code == 2 and said.errors.rstrip().endswith("Give --no-check to use it as it is.")
    assert sonde(*words, "--no-check", "--json").json["checks"] == {"checked": False}


# calibrate


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(picture(0, 48, 64)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def write_points(photo: Path, depths: list[float]) -> Path:
    lines = [f"{photo.name},{10 * index + 5},{8 * index + 3},{depth}" for index, depth in enumerate(depths)]
    path = photo.with_name("points.csv")
    path.write_text("\n".join(["image,x,y,depth", *lines]) + "\n")
    return path


def test_a_tape_in_millimetres_that_is_given_as_metres_is_refused(base, photo, tmp_path, monkeypatch):
    points = calibration.read_points(write_points(photo, [812, 845, 880]))
    monkeypatch.setattr("sonde.calibration.models.load", lambda *words, **options: pytest.fail("loaded"))
    with pytest.raises(
        ValueError, match=r"points.csv is not sound: All known depths are .* correct --unit.*check=False"
    ):
        calibration.calibrate(base, points, out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_calibration_records_what_the_check_of_its_points_said(base, photo, tmp_path):
    def calibrate(depths: list[float], **options: bool):
        points = calibration.read_points(write_points(photo, depths))
        made = calibration.calibrate(base, points, out=tmp_path / "new", **options)
        return models.read_calibration(made.folder).record["checks"], made.summary().get("checks")

    assert calibrate([0.812, 0.845, 0.88]) == ({**ROUND, "captures": 1, "looked_at": ["photo.png"]}, None)
    record, told = calibrate([112.5, 130.0, 150.0])
    assert record["verdicts"][0]["verdict"] == "likely" and told is not None and "unit looks wrong" in told[0]
    record, told = calibrate([812, 845, 880], check=False)
    assert record == {"checked": False} and told == ["The known depths were not checked."]
