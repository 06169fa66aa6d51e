"""A resumed run has the state it had, and follows the recipe it is given now."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_captures import write_bench
from small_recipes import FEW
from trained_runs import killed_at

from sonde import training
from sonde.files import lock_folder
from sonde.runs import resume_command
from sonde.training import describe_kept
from sonde.training.resuming import list_checkpoints, read_step


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_bench(tmp_path_factory.mktemp("captures") / "set", 6)


@pytest.fixture
def settings(base, root, tmp_path, monkeypatch):
    """Overrides of lora-few for a run of four steps that saves after the second; it is not scored at its end."""
    monkeypatch.setattr(training.report, "finish", lambda run: None)

    def make(*more: str) -> list[str]:
        return [
            f"model.name={base}",
            "model.input_size=[32,64]",
            f"data.root={root}",
            f"data.cache={tmp_path / 'cache'}",
            "train.per_device_train_batch_size=1",
            "train.gradient_accumulation_steps=1",
            "train.max_steps=4",
            "train.warmup_steps=0",
            "train.logging_steps=1",
            "train.eval_steps=1",
            "train.save_steps=2",
            f"output_dir={tmp_path / 'run'}",
            *more,
        ]

    return make


def logged_rates(run: Path) -> list[float]:
    """The learning rate of each step, that of its last try where it was taken twice."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rates = {line["step"]: line["learning_rate"] for line in lines if "learning_rate" in line}
    return [rates[step] for step in sorted(rates)]


def groups(checkpoint: Path) -> list[dict[str, float]]:
    """The settings of the optimizer's groups."""
    return torch.load(checkpoint / "optimizer.pt", weights_only=True)["param_groups"]


KINDS = ("linear", "one_cycle", "poly", "cyclic", "reduce_lr_on_plateau")
LINEAR, ONE_CYCLE, POLY, CYCLIC, PLATEAU = (f"train.lr_scheduler_type={kind}" for kind in KINDS)
FLAT = "train.lr_scheduler_kwargs.div_factor=2"


@pytest.mark.parametrize(
    "before,now",
    [
        ([ONE_CYCLE, FLAT], [ONE_CYCLE, FLAT, "train.learning_rate=1e-4", "train.weight_decay=0.25"]),
        pytest.param([CYCLIC], [CYCLIC, "train.lr_scheduler_kwargs.step_size_up=2"], marks=pytest.mark.slow),
        ([ONE_CYCLE, FLAT], [LINEAR]),
        pytest.param([PLATEAU], [POLY], marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_goes_on_at_the_rates_of_the_plan_it_records(settings, tmp_path, before, now):
    with killed_at(2):
        training.train(FEW, settings(*before))
    run = training.train(FEW, settings(*now), resume=True)
    assert logged_rates(run)[2:] == pytest.approx(training.plan_lr(run).rates[2:])
    decays = {group["weight_decay"] for group in groups(run / "checkpoints/checkpoint-4")}
    assert decays == {training.build_arguments(training.recipes.load(run)).weight_decay, 0.0}


def test_a_resumed_plateau_keeps_its_falls_below_the_rate_it_is_given_now(settings, tmp_path):
    driven = [PLATEAU, "train.lr_scheduler_kwargs={patience: 0, factor: 0.5, threshold: 0.9}"]
    with killed_at(2):  # the second validation is a bad one, as all that follow
        training.train(FEW, settings(*driven))
    slower = [PLATEAU, "train.lr_scheduler_kwargs={patience: 0, factor: 0.2, threshold: 0.9}"]
    run = training.train(FEW, settings(*slower, "train.learning_rate=1e-4"), resume=True)
    assert logged_rates(run)[2:] == pytest.approx([5e-5, 1e-5])


def test_a_finished_run_on_one_cycle_takes_the_further_steps_it_is_given(settings):
    run = training.train(FEW, settings(ONE_CYCLE, FLAT, "train.max_steps=2"))
    training.train(run, ["train.max_steps=5"], resume=True)
    assert logged_rates(run)[2:] == pytest.approx(training.plan_lr(run).rates[2:])


@pytest.mark.parametrize("how", ["moved", "from elsewhere"])
def test_a_run_keeps_its_best_checkpoint_wherever_it_is_resumed(settings, tmp_path, monkeypatch, how):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with killed_at(2):
        training.train(FEW, settings("output_dir=run"))
    if how == "moved":
        run = Path(shutil.move("run", "elsewhere"))
    else:
        monkeypatch.chdir(tmp_path)
        run = Path("here/run")
    best = run / "checkpoints" / "checkpoint-2"
    state = json.loads((best / "trainer_state.json").read_text())
    (best / "trainer_state.json").write_text(json.dumps({**state, "best_global_step": 2, "best_metric": -1.0}))
    training.train(FEW, settings(f"output_dir={run}", "train.save_total_limit=1"), resume=True)
    chosen, kept = (load_file(folder / "adapter_model.safetensors") for folder in (best, run / "best"))
    assert all(torch.equal(value, kept[name]) for name, value in chosen.items())


@pytest.mark.parametrize(
    "change", ["loss.relief=10", "train.metric_for_best_model=eval_mae_mm", "train.optim=muon", "ema=0.9"]
)
def test_what_judges_a_run_or_turns_its_steps_stays_as_it_began(settings, tmp_path, change):
    with killed_at(3):
        training.train(FEW, settings())
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    name = change.partition("=")[0].removesuffix(".relief")
    with pytest.raises(ValueError, match=rf"run: {name} changed from .* to .*Restore {name}=.*new output_dir"):
        training.train(FEW, settings(change), resume=True)
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_a_checkpoint_of_weights_alone_cannot_be_continued(settings, tmp_path):
    with killed_at(3):
        training.train(FEW, settings())
    for state in (tmp_path / "run" / "checkpoints").glob("*/scheduler.pt"):
        state.unlink()
    with pytest.raises(ValueError, match=r"checkpoint-\d has no scheduler\.pt.*new output_dir"):
        training.train(FEW, settings(), resume=True)


def logged(run: Path) -> list[dict[str, float]]:
    """Every line of the log without its times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    times = ("runtime", "per_second", "data_wait")
    return [{name: value for name, value in line.items() if not name.endswith(times)} for line in lines]


@pytest.mark.parametrize(
    "killed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_a_resumed_run_logs_what_an_undisturbed_run_logs(settings, tmp_path, killed):
    """The log every three steps falls between the checkpoints."""
    more = ["train.logging_steps=3", "loss.ssi=0.5"]
    whole = training.train(FEW, settings(*more, f"output_dir={tmp_path / 'whole'}"))
    with killed_at(killed):
        training.train(FEW, settings(*more))
    assert logged(training.train(FEW, settings(*more), resume=True)) == logged(whole)


@pytest.mark.parametrize("more", [["train.max_steps=3"], ["early_stopping=1", "train.learning_rate=1e-30"]])
def test_a_run_that_is_over_takes_no_step_more(settings, tmp_path, more):
    run = training.train(FEW, settings(*more, "train.save_steps=1"))
    before = {path: path.read_bytes() for path in run.rglob("*.safetensors")}, logged(run)
    (run / "best" / "card.json").unlink()
    training.train(FEW, settings(*more, "train.save_steps=1"), resume=True)
    assert ({path: path.read_bytes() for path in run.rglob("*.safetensors")}, logged(run)) == before


def test_a_loss_term_is_the_mean_of_training_batches_alone(settings):
    """With one term, of weight 1, the term is the loss; a validation lies between the logs."""
    run = training.train(FEW, settings("loss=null", "loss.silog=1.0", "train.logging_steps=2"))
    lines = [line for line in logged(run) if "silog" in line]
    assert lines and all(line["silog"] == pytest.approx(line["loss"], rel=1e-5) for line in lines)


def test_two_writers_do_not_mix(settings, tmp_path):
    run = tmp_path / "run"
    with lock_folder(run), pytest.raises(ValueError, match=r"is being written by another sonde \(process \d+ on"):
        training.train(FEW, settings())
    assert not (run / "recipe.yaml").exists()


# The command that resumes, and what a resumed run knows by itself.


def write_recipe(folder: Path, settings) -> Path:
    """A recipe of the user's own with all but the captures."""
    left = [each for each in settings() if not each.startswith(("data.root", "output_dir"))]
    path = folder / "mine.yaml"
    path.write_text(training.recipes.dump(training.recipes.load(FEW, left)))
    return path


def test_the_recipe_and_the_folder_are_enough_to_resume(settings, tmp_path, root):
    mine, run = write_recipe(tmp_path, settings), tmp_path / "run"
    with killed_at(2):
        training.train(mine, [f"data.root={root}", "train.learning_rate=3e-4", f"output_dir={run}"])
    training.train(mine, [f"output_dir={run}", "train.weight_decay=0.25"], resume=True)
    recipe = training.recipes.load(run)
    assert (recipe.data.root, recipe.train["learning_rate"], recipe.train["weight_decay"]) == (str(root), 3e-4, 0.25)
    assert json.loads((run / "origin.json").read_text()) == {
        "recipe": str(mine),
        "overrides": [
            f"data.root={root}",
            "train.learning_rate=3e-4",
            f"output_dir={run}",
            "train.weight_decay=0.25",
        ],
    }


def test_what_is_given_now_counts_more_and_the_fixed_settings_are_still_checked(settings, tmp_path, root):
    mine, where = write_recipe(tmp_path, settings), f"output_dir={tmp_path / 'run'}"
    with killed_at(2):
        training.train(mine, [f"data.root={root}", where])
    with pytest.raises(ValueError, match=r"run: ema changed from None to a decay"):
        training.train(mine, [where, "ema=0.9"], resume=True)
    with pytest.raises(ValueError, match="nowhere"):
        training.train(mine, [where, "data.root=nowhere"], resume=True)


def test_a_folder_that_was_moved_is_resumed_where_it_is(settings, tmp_path):
    with killed_at(2):
        training.train(FEW, settings())
    moved = Path(shutil.move(tmp_path / "run", tmp_path / "moved"))
    assert training.train(moved, resume=True) == moved
    assert (moved / "best").is_dir() and not (tmp_path / "run").exists()


def test_another_recipe_takes_nothing_from_the_run(settings, tmp_path):
    with killed_at(2):
        training.train(FEW, settings())
    with pytest.raises(ValueError, match="data/zivid"):
        training.train("lora-zivid", [f"output_dir={tmp_path / 'run'}"], resume=True)


def test_a_run_that_is_there_is_answered_with_both_ways_on(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with killed_at(2):
        training.train(FEW, settings("output_dir=the run"))
    again = r"a run that stopped after step 2: `sonde train 'the run' --resume` continues it; .*output_dir=the run-2"
    for recipe in ("the run", FEW):
        with pytest.raises(ValueError, match=again):
            training.train(recipe, ["output_dir=the run"])
    training.train("the run", resume=True)
    with pytest.raises(
        ValueError, match=r"holds a finished run: `sonde train 'the run' --resume train\.max_steps=STEPS` gives"
    ):
        training.train("the run")


def test_folds_are_resumed_together(settings, tmp_path):
    folds = tmp_path / "run"
    with killed_at(2):
        training.train(FEW, settings("data.split.folds=2"))
    command = shlex.join(["sonde", "train", FEW, "--resume", f"output_dir={folds}"])
    assert resume_command(folds / "fold-0") == resume_command(folds) == command
    assert describe_kept(FEW, settings()) == f"Complete checkpoints are kept: `{command}` goes on from the newest."


def test_processes_of_torchrun_are_started_again_by_it(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert resume_command(tmp_path) == f"torchrun --nproc-per-node 2 -m sonde train {tmp_path} --resume"


def test_a_signal_tells_what_is_kept_and_how_to_go_on(settings, tmp_path):
    assert describe_kept(FEW, settings()) == "No checkpoint was complete yet: give the same command again."
    with killed_at(2):
        training.train(FEW, settings())
    expected = f"`sonde train {tmp_path / 'run'} --resume` goes on from the newest."
    assert describe_kept(FEW, settings()) == f"Complete checkpoints are kept: {expected}"


def test_doctor_says_where_a_run_stopped_and_how_it_goes_on(settings, tmp_path, sonde):
    run = tmp_path / "run"
    with killed_at(3):
        training.train(FEW, settings())
    said = sonde("doctor", run)
    assert said.text.startswith("The run did not finish: it stopped at step 3 of 4, and no process holds it; ")
    newest = read_step(list_checkpoints(run)[-1])
    assert f"complete checkpoint is of step {newest};" in said.text
    assert said.text.endswith(f"Next: `sonde train {run} --resume`\n")
    about = sonde("doctor", run, "--json").json["run"]
    assert (about["phase"], about["step"], about["checkpoint"], about["steps"]) == ("stopped", 3, newest, 4)
    with lock_folder(run):
        assert "and process" in sonde("doctor", run).text
    training.train(run, resume=True)
    assert sonde("doctor", run).text.startswith("The run is finished, at step 4 of 4; last written at 20")


HELD = ("choose=null", "data.split.test=1", "data.split.validation=1")


@pytest.mark.parametrize("name", ["lora-few", "demo"])
def test_ten_steps_train_a_packaged_recipe(settings, tmp_path, name):
    left = [each for each in settings() if not each.startswith(("train.", "output_dir"))]
    run = training.train(name, [*left, "train.max_steps=10", f"output_dir={tmp_path / 'run'}", *HELD])
    assert (run / "best" / "adapter_model.safetensors").is_file() and len(training.plan_lr(run).rates) == 10
