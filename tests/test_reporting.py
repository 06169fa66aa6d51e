"""The curves of TensorBoard and W&B are those of metrics.jsonl, in the run folder; what keeps W&B from it is said."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from small_captures import write_bench
from small_recipes import FEW
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerControl, TrainerState, TrainingArguments

from sonde import recipes, training
from sonde.trainer import reporting

wandb = pytest.importorskip("wandb", reason="W&B is not installed: pip install 'sonde[wandb]'")
VARIABLES = ("DIR", "PROJECT", "NAME", "API_KEY", "IDENTITY_TOKEN_FILE", "INIT_TIMEOUT", "MODE")
CURVES = {"train/loss": "loss", "train/learning_rate": "learning_rate", "eval/loss": "eval_loss"}
"""What transformers calls a curve -> its name in metrics.jsonl."""

Curve = list[tuple[int, float]]
"""(step, value)."""


@pytest.fixture(scope="module")
def outside(tmp_path_factory) -> Iterator[Path]:
    """A home without a login, W&B quiet and offline, and the environment as it was before afterwards."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(f"WANDB_{name}", raising=False)
        for name in ("CACHE_DIR", "CONFIG_DIR", "DATA_DIR"):
            patch.setenv(f"WANDB_{name}", str(home))
        patch.setenv("NETRC", str(home / "netrc"))
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_CONSOLE", "off")
        patch.setenv("WANDB_MODE", "offline")
        patch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
        yield home


@pytest.fixture
def anew(outside, monkeypatch) -> Iterator[pytest.MonkeyPatch]:
    """To change the environment by: W&B reads it once, and then no more before it is torn down."""
    wandb.teardown()
    yield monkeypatch
    wandb.finish()
    wandb.teardown()


class Reported(NamedTuple):
    """A run that was trained in a folder, and what lay in that folder afterwards."""

    folder: Path
    beside: list[str]


@pytest.fixture(scope="module")
def reported(outside, base, tmp_path_factory) -> Reported:
    """A run of six steps with both reporters, trained in a folder of its own."""
    here = tmp_path_factory.mktemp("here")
    root = write_bench(tmp_path_factory.mktemp("captures") / "set", 6)
    words = [
        f"model.name={base}",
        "model.input_size=[32,64]",
        f"data.root={root}",
        "data.cache=null",
        "train.max_steps=6",
        "train.logging_steps=2",
        "train.eval_steps=3",
        "train.save_steps=3",
        "train.per_device_train_batch_size=1",
        "train.report_to=[tensorboard,wandb]",
        "output_dir=runs/mine",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        training.train(FEW, words)
    return Reported(here / "runs" / "mine", [path.name for path in here.iterdir()])


def logged(run: Path, name: str) -> Curve:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line[name]) for line in lines if name in line]


def records(folder: Path) -> list[dict]:
    """Every record of a W&B run's log, by W&B's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    return [json.loads(line) for line in said.stdout.splitlines()]


def begun(folder: Path) -> dict:
    """What the one W&B run below a folder says of itself."""
    [run] = folder.glob("wandb/offline-run-*")
    return next(record["run"] for record in records(run) if record["type"] == "run")


def test_wandb_offline_leaves_the_runs_curves_in_its_folder(reported):
    [folder] = reported.folder.glob("wandb/offline-run-*")
    lines = [record["history"]["item"] for record in records(folder) if record["type"] == "history"]
    for theirs, ours in CURVES.items():
        curve = [(line["train/global_step"], line[theirs]) for line in lines if theirs in line]
        assert [step for step, _ in curve] == ([3, 6] if theirs == "eval/loss" else [2, 4, 6])
        assert curve == logged(reported.folder, ours)
    about = begun(reported.folder)
    assert (about["display_name"], about["project"]) == ("mine", "sonde")
    assert wandb.run is None, "a run that is done is closed, or the next one would go on in it"


def test_tensorboard_finds_the_runs_curves_in_its_folder(reported):
    assert not list((reported.folder / "checkpoints").rglob("events.*"))
    events = EventAccumulator(str(reported.folder / "tensorboard"))
    events.Reload()
    for theirs, ours in CURVES.items():
        curve = [(event.step, event.value) for event in events.Scalars(theirs)]
        wanted = logged(reported.folder, ours)
        assert [step for step, _ in curve] == [step for step, _ in wanted] and len(wanted) >= 2
        assert [value for _, value in curve] == pytest.approx([value for _, value in wanted], rel=1e-6)


def test_nothing_of_either_lands_in_the_folder_where_training_was_started(reported):
    assert reported.beside == ["runs"]


def settings(run: Path, *names: str) -> tuple[recipes.Recipe, TrainingArguments]:
    recipe = recipes.load(FEW, [f"train.report_to=[{','.join(names)}]", f"output_dir={run}"])
    return recipe, training.build_arguments(recipe)


def test_what_the_user_set_in_the_environment_stands(anew, tmp_path):
    for name, value in {"DIR": str(tmp_path / "theirs"), "PROJECT": "depth", "NAME": "second try"}.items():
        anew.setenv(f"WANDB_{name}", value)
    anew.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    (tmp_path / "theirs").mkdir()
    scoreboard, biases = reporting.make_reporters(*settings(tmp_path / "run", "tensorboard", "wandb"))
    assert isinstance(scoreboard, reporting.TensorBoard) and scoreboard.logging_dir == str(tmp_path / "events")
    assert isinstance(biases, reporting.WeightsAndBiases)
    wandb.finish()
    about = begun(tmp_path / "theirs")
    assert (about["display_name"], about["project"]) == ("second try", "depth")
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_stopped_does_not_take_the_next_ones_curves_and_the_users_own_stays_open(anew, tmp_path):
    recipe, args = settings(tmp_path / "one", "wandb")
    for name in ("one", "two"):
        reporting.begin(tmp_path / name, recipe)
    assert wandb.run.name == "two" and begun(tmp_path / "one")["display_name"] == "one"
    wandb.finish()
    with wandb.init(dir=str(tmp_path), name="mine") as own:
        reporting.check_reporters(["wandb"])
        [callback] = reporting.make_reporters(recipe, args)
        callback.on_train_end(args, TrainerState(), TrainerControl())
        assert wandb.run is own


@pytest.mark.parametrize("mode", [None, "online"])
def test_wandb_without_a_login_is_told_in_a_sentence_and_the_remedy_works_at_once(anew, tmp_path, mode):
    anew.delenv("WANDB_MODE") if mode is None else anew.setenv("WANDB_MODE", mode)
    with pytest.raises(ValueError, match=r"report_to=wandb: W&B .*no login.*WANDB_MODE=offline.*`wandb login`") as no:
        settings(tmp_path / "run", "wandb")
    assert "\n" not in str(no.value)
    anew.setenv("WANDB_MODE", "offline")
    settings(tmp_path / "run", "wandb")


def test_only_the_process_that_reports_needs_a_login(anew):
    anew.setenv("WANDB_MODE", "online")
    reporting.check_reporters(["wandb"], main=False)
    anew.setenv("WANDB_API_KEY", "short")
    with pytest.raises(ValueError, match=r"WANDB_API_KEY invalid.*WANDB_MODE=offline"):
        reporting.check_reporters(["wandb"])


def test_a_server_that_is_not_there_is_told_in_a_sentence_before_there_is_a_checkpoint(anew, tmp_path):
    for name, value in {"MODE": "online", "BASE_URL": "http://127.0.0.1:9", "INIT_TIMEOUT": "1"}.items():
        anew.setenv(f"WANDB_{name}", value)
    anew.setenv("WANDB_API_KEY", "a" * 40)
    with pytest.raises(ValueError, match=r"report_to=wandb: W&B cannot report \(.*127.*\): set WANDB_MODE=off") as no:
        reporting.make_reporters(*settings(tmp_path / "run", "wandb"))
    assert "\n" not in str(no.value) and not (tmp_path / "run" / "checkpoints").exists()


def test_a_reporter_that_is_not_here_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr(reporting, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"train\.report_to=wandb: it is not installed here; `pip install 'sonde\[wandb\]'`"
    ):
        reporting.check_reporters(["wandb"])
    with pytest.raises(ValueError, match="report_to=wanb: did you mean 'wandb'"):
        reporting.check_reporters(["wanb"])


@pytest.mark.slow
def test_wandb_is_imported_by_those_who_ask_for_it_alone_and_stdout_stays_for_json():
    code = (
        "import sys; from sonde import recipes, training; "
        "training.build_arguments(recipes.load('lora-few', ['train.report_to=tensorboard'])); "
        "assert 'wandb' not in sys.modules"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "WANDB_MODE": "offline"},
    )
    assert said.stdout == ""
