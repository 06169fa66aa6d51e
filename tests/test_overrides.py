"""transformers' Trainer is still the one that sonde.trainer.overrides overrides: same signatures, calls and habits.

Each override has a test here, of transformers' own code alone. One that fails names what a new version has changed:
change the override, or drop it where transformers no longer needs it.
"""

import inspect
import json
import math
import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from safetensors.torch import load_file, save_file
from small_networks import GLPN
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import GLPNForDepthEstimation, PreTrainedConfig, PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_utils import rotate_checkpoints

from sonde.trainer import DepthTrainer
from sonde.trainer.checkpoints import redirect_output

OVERRIDES = [name for name in vars(DepthTrainer) if name[:2] != "__" and name in dir(Trainer)]
"""Every attribute of Trainer that DepthTrainer replaces."""
RATE, DECAY = 0.125, 0.5


class Line(PreTrainedModel):
    """y = a x + b by transformers' contract: the loss comes with the answer."""

    config_class = PreTrainedConfig

    def __init__(self, config: PreTrainedConfig):
        super().__init__(config)
        self.linear = nn.Linear(1, 1)
        nn.init.ones_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Of (b, 1) points."""
        answer = self.linear(x)
        return {"loss": (answer - labels).square().mean(), "answer": answer}


class Call(NamedTuple):
    """A call of one of OVERRIDES, or of clipping, that transformers made."""

    name: str
    arguments: dict[str, Any]
    training: bool
    sync: bool


POINTS = [{"x": torch.tensor([float(i)]), "labels": torch.tensor([3.0])} for i in range(8)]


def arguments(folder: Path, **more: Any) -> TrainingArguments:
    """Two batches to a step; a validation and a checkpoint after each."""
    settings: dict[str, Any] = {
        "learning_rate": RATE / 8,
        "weight_decay": DECAY,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 2,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "load_best_model_at_end": True,
        "label_names": ["labels"],
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(output_dir=str(folder), **{**settings, **more})


def plain(folder: Path, kind: type[Trainer] = Trainer, **more: Any) -> Trainer:
    network, args = Line(PreTrainedConfig()), arguments(folder, **more)
    return kind(network, args, train_dataset=POINTS, eval_dataset=POINTS[:2])  # pyright: ignore[reportArgumentType]


def prepared(folder: Path, **more: Any) -> Trainer:
    """One that has an optimizer, a scheduler, and a step behind it."""
    trainer = plain(folder, **more)
    trainer.train()
    return trainer


def watching(calls: list[Call]) -> type[Trainer]:
    """transformers' Trainer, whose calls of what we override go into a list."""

    def record(name: str) -> Callable[..., object]:
        own = getattr(Trainer, name)
        signature = inspect.signature(own)

        def method(self: Trainer, *args: object, **kwargs: object) -> object:
            given: dict[str, Any] = {}
            for key, value in signature.bind(self, *args, **kwargs).arguments.items():
                given[key] = dict(value) if isinstance(value, dict) else value  # transformers changes them later
            assert isinstance(self.model, nn.Module)
            calls.append(Call(name, given, self.model.training, self.accelerator.sync_gradients))
            return own(self, *args, **kwargs)

        return method

    return type("Watched", (Trainer,), {name: record(name) for name in [*OVERRIDES, "_clip_grad_norm"]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("plain")


@pytest.fixture(scope="module")
def calls(folder) -> list[Call]:
    """Those of a run of two steps."""
    made: list[Call] = []
    plain(folder, watching(made)).train()
    return made


@pytest.fixture(scope="module")
def resumed(folder, calls) -> list[Call]:
    """Those of the same run, resumed for a third step from its second."""
    made: list[Call] = []
    trainer = plain(folder, watching(made), max_steps=3)
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    return made


def of(calls: list[Call], name: str) -> list[Call]:
    return [call for call in calls if call.name == name]


def order(calls: list[Call], *names: str) -> list[str]:
    return [call.name for call in calls if call.name in names]


@pytest.mark.parametrize("name", OVERRIDES)
def test_an_override_has_transformers_own_signature_and_a_test(name):
    ours, theirs = (inspect.signature(getattr(kind, name)).parameters.values() for kind in (DepthTrainer, Trainer))
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]
    assert any(test.startswith(f"test_{name.strip('_')}_") for test in globals())


def test_nothing_of_transformers_is_overridden_by_accident():
    public = {"log", "compute_loss", "create_optimizer", "create_scheduler", "evaluation_loop", "training_step"}
    assert DepthTrainer.__bases__ == (Trainer,)
    private = {name for name in OVERRIDES if name[0] == "_"}
    assert len(private) == 7 and public | private | {"get_batch_samples"} == set(OVERRIDES)


def test_compute_loss_wants_a_loss_of_the_network_and_is_asked_for_in_training_and_validation(calls, tmp_path):
    network = GLPNForDepthEstimation(deepcopy(GLPN))
    trainer = Trainer(network, arguments(tmp_path), eval_dataset=POINTS)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"GLPN.*forward\(\)"):
        trainer.compute_loss(network, {"image": torch.zeros(1, 3, 32, 32), "depth": torch.ones(1, 32, 32)})
    made = of(calls, "compute_loss")
    assert [call.training for call in made] == [True, True, False] * 2  # two batches, then a validation
    assert all("x" in call.arguments["inputs"] for call in made)
    assert [call.arguments.get("return_outputs", False) for call in made] == [False, False, True] * 2


@pytest.mark.parametrize("scaled,share", [(False, 0.5), (None, 1.0)])
def test_compute_loss_of_a_batch_is_divided_by_accumulation_where_we_say_it_is_a_mean(
    tmp_path, monkeypatch, scaled, share
):
    trainer = prepared(tmp_path)
    trainer.model_accepts_loss_kwargs = True  # as transformers reads it off forward(**kwargs)

    monkeypatch.setattr(trainer, "compute_loss", lambda model, *_, **__: next(model.parameters()).sum() * 0 + 1)
    trainer.loss_is_scaled_for_ga, trainer.current_gradient_accumulation_steps = scaled, 2
    batch = {"x": torch.zeros(2, 1), "labels": torch.zeros(2, 1)}
    loss = trainer.training_step(trainer.model, batch, torch.tensor(4))  # pyright: ignore[reportArgumentType]
    assert loss.item() == share


def test_get_batch_samples_draws_the_batches_of_one_step(calls, tmp_path):
    made = of(calls, "get_batch_samples")
    assert [call.arguments["num_batches"] for call in made] == [2, 2]
    batches, count = plain(tmp_path).get_batch_samples(iter(POINTS), 3, torch.device("cpu"))
    assert batches == POINTS[:3] and (count is None or int(count) == 3)


def test_training_step_comes_before_clipping_and_knows_a_steps_last_batch(calls):
    steps = ["get_batch_samples", "training_step", "training_step", "_clip_grad_norm"]
    assert order(calls, *steps) == steps * 2
    assert [call.sync for call in of(calls, "training_step")] == [False, True] * 2


def test_training_step_adds_what_it_returns_to_one_running_sum(tmp_path):
    sums: list[Tensor] = []

    class Skipping(Trainer):
        def training_step(self, *args, **kwargs):
            sums.append(self._tr_loss)
            taken = super().training_step(*args, **kwargs)
            return taken * 0 + (1.0 if self.state.global_step else 0.0)

    trainer = plain(tmp_path, Skipping, logging_steps=2)
    trainer.train()
    assert all(value is sums[0] for value in sums)  # the guard sets it back in place
    (line,) = [line for line in trainer.state.log_history if "loss" in line]
    assert line["loss"] == pytest.approx(1.0)  # (0 + 0 + 1 + 1) / two steps, though the first was not taken


def test_create_optimizer_makes_two_groups_of_one_rate_and_keeps_what_it_made(calls, tmp_path):
    assert len(of(calls, "create_optimizer")) == 1
    trainer = plain(tmp_path)
    optimizer = trainer.create_optimizer()
    assert [group["weight_decay"] for group in optimizer.param_groups] == [DECAY, 0.0]
    assert [group["lr"] for group in optimizer.param_groups] == [RATE / 8] * 2
    assert trainer.create_optimizer() is optimizer


def test_create_scheduler_knows_transformers_names_alone_and_makes_one_for_each_training(calls, tmp_path):
    with pytest.raises(ValueError, match="poly"):
        TrainingArguments(lr_scheduler_type="poly")
    (made,) = of(calls, "create_scheduler")
    assert made.arguments["num_training_steps"] == 2 and order(calls, "create_optimizer", "create_scheduler") == [
        "create_optimizer",
        "create_scheduler",
    ]
    trainer = prepared(tmp_path)
    first = trainer.lr_scheduler
    assert trainer._created_lr_scheduler and isinstance(first, LRScheduler)
    assert trainer._get_learning_rate() == first.get_last_lr()[0]
    trainer.train()
    assert trainer.lr_scheduler is not first


def test_evaluation_loop_gives_metrics_that_may_be_added_to_and_keeps_no_answers(calls, tmp_path):
    made = of(calls, "evaluation_loop")
    assert len(made) == 2 and all(call.arguments["metric_key_prefix"] == "eval" for call in made)

    class Scoring(Trainer):
        def evaluation_loop(self, *args, **kwargs):
            output = super().evaluation_loop(*args, **kwargs)
            assert output.predictions is None and output.metrics is not None
            output.metrics["eval_score"] = 7.0
            return output

    trainer = plain(tmp_path, Scoring, metric_for_best_model="eval_score", greater_is_better=True)
    trainer.train()
    assert [line["eval_score"] for line in trainer.state.log_history if "eval_score" in line] == [7.0, 7.0]
    assert trainer.state.best_metric == 7.0 and trainer.state.best_global_step == 1


def test_determine_best_metric_leaves_an_infinite_best_after_nan_and_does_not_save_the_best(calls, tmp_path):
    names = ("evaluation_loop", "_determine_best_metric", "_save_checkpoint")
    assert order(calls, *names) == list(names) * 2
    trainer = plain(tmp_path)
    assert not trainer._determine_best_metric({"eval_loss": float("nan")}, None)
    assert trainer.state.best_metric == math.inf  # ours leaves it None, which JSON can hold
    assert trainer._determine_best_metric({"eval_loss": 0.5}, None)
    assert not trainer.control.should_save


def test_log_is_called_for_steps_validations_and_the_end(calls):
    kinds = [set(call.arguments["logs"]) for call in of(calls, "log")]
    wanted = [{"loss", "grad_norm", "learning_rate"}, {"eval_loss"}] * 2 + [{"train_loss"}]
    assert len(kinds) == 5 and all(part <= kind for part, kind in zip(wanted, kinds, strict=True))
    assert [{"loss", "train_loss"} & kind for kind in kinds] == [{"loss"}, set(), {"loss"}, set(), {"train_loss"}]


FILES = ["model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json"]


def test_save_checkpoint_leaves_half_a_checkpoint_under_its_name_when_it_dies(folder, calls, tmp_path, monkeypatch):
    assert len(of(calls, "_save_checkpoint")) == 2
    assert {*FILES} <= {path.name for path in (folder / "checkpoint-2").iterdir()}
    trainer = prepared(tmp_path / "here", save_strategy="no", load_best_model_at_end=False)

    def fail(self: Trainer, output_dir: str) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Trainer, "_save_rng_state", fail)
    with pytest.raises(OSError, match="no space"):
        trainer._save_checkpoint(trainer.model, None)  # pyright: ignore[reportArgumentType]
    left = {path.name for path in (tmp_path / "here" / "checkpoint-2").iterdir()}
    assert "model.safetensors" in left and "trainer_state.json" not in left


def test_save_checkpoint_writes_wherever_output_dir_is_at_that_moment(tmp_path):
    trainer = prepared(tmp_path / "here", save_strategy="no", load_best_model_at_end=False)
    with redirect_output(trainer.args, tmp_path / "aside"):
        trainer._save_checkpoint(trainer.model, None)  # pyright: ignore[reportArgumentType]
    assert {*FILES} <= {path.name for path in (tmp_path / "aside" / "checkpoint-2").iterdir()}
    assert not list((tmp_path / "here").glob("checkpoint-*"))


@pytest.mark.parametrize("by_time,kept", [(True, "checkpoint-2"), (False, "checkpoint-3")])
def test_save_checkpoint_rotates_by_time_and_may_rotate_by_step(tmp_path, by_time, kept):
    for step in (1, 2, 3):
        (tmp_path / f"checkpoint-{step}").mkdir()
        os.utime(tmp_path / f"checkpoint-{step}", (100 - step, 100 - step))  # as if copied in another order
    rotate_checkpoints(str(tmp_path), 2, str(tmp_path / "checkpoint-1"), use_mtime=by_time)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1", kept]
    assert "use_mtime=True" in inspect.getsource(Trainer._save_checkpoint)


@pytest.mark.parametrize("placed", [False, True])
def test_save_is_for_the_main_process_unless_the_weights_are_placed(calls, tmp_path, monkeypatch, placed):
    assert all(call.arguments.get("state_dict") is None for call in of(calls, "_save")) and len(of(calls, "_save")) == 2
    trainer = plain(tmp_path)
    trainer.is_distributed_loading_by_transformers = placed
    saved: list[dict] = []
    monkeypatch.setattr(trainer.model, "save_pretrained", lambda folder, **given: saved.append(given))
    monkeypatch.setattr(TrainingArguments, "should_save", False)
    state = {"whole": torch.zeros(1)}
    trainer._save(str(tmp_path), state)
    assert saved == ([{"state_dict": state, "is_main_process": False}] if placed else [])


def test_save_optimizer_and_scheduler_writes_this_process_states_into_the_files_we_read(calls, tmp_path):
    assert (
        order(calls, "_save_checkpoint", "_save_optimizer_and_scheduler")
        == [
            "_save_checkpoint",
            "_save_optimizer_and_scheduler",
        ]
        * 2
    )
    trainer = prepared(tmp_path / "run")
    (tmp_path / "states").mkdir()
    trainer._save_optimizer_and_scheduler(str(tmp_path / "states"))
    assert isinstance(trainer.optimizer, AcceleratedOptimizer) and isinstance(trainer.lr_scheduler, LRScheduler)
    written = torch.load(tmp_path / "states" / "optimizer.pt", weights_only=True)
    assert written["param_groups"] == trainer.optimizer.optimizer.state_dict()["param_groups"]
    schedule = torch.load(tmp_path / "states" / "scheduler.pt", weights_only=True)
    assert schedule["last_epoch"] == trainer.lr_scheduler.state_dict()["last_epoch"] == 2


def weights(trainer: Trainer) -> dict[str, Tensor]:
    assert isinstance(trainer.model, nn.Module)
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def rename_weights(checkpoint: Path) -> None:
    """As a file of an older version may name them."""
    weights = load_file(checkpoint / "model.safetensors")
    save_file({f"older.{name}": value + 5 for name, value in weights.items()}, checkpoint / "model.safetensors")


def test_load_from_checkpoint_ignores_names_it_does_not_know(resumed, tmp_path, capfd):
    names = ("_load_from_checkpoint", "create_scheduler", "_load_optimizer_and_scheduler", "training_step")
    assert order(resumed, *names)[:4] == list(names) and len(of(resumed, "_load_from_checkpoint")) == 1
    assert str(of(resumed, "_load_from_checkpoint")[0].arguments["resume_from_checkpoint"]).endswith("checkpoint-2")
    trainer = prepared(tmp_path)
    before = weights(trainer)
    rename_weights(tmp_path / "checkpoint-2")
    trainer._load_from_checkpoint(str(tmp_path / "checkpoint-2"))
    assert all(torch.equal(value, before[name]) for name, value in weights(trainer).items())


def test_load_optimizer_and_scheduler_brings_the_old_settings_back(resumed, tmp_path):
    (made,) = of(resumed, "_load_optimizer_and_scheduler")
    assert str(made.arguments["checkpoint"]).endswith("checkpoint-2")
    prepared(tmp_path)
    trainer = plain(tmp_path, learning_rate=RATE, weight_decay=0.25, lr_scheduler_type="constant")
    trainer.create_optimizer_and_scheduler(num_training_steps=2)
    trainer._load_optimizer_and_scheduler(str(tmp_path / "checkpoint-1"))
    assert isinstance(trainer.optimizer, torch.optim.Optimizer)
    groups = trainer.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [DECAY, 0.0]
    assert all(group["lr"] < RATE / 4 and group["initial_lr"] == RATE / 8 for group in groups)


def test_load_best_model_comes_last_and_ignores_names_it_does_not_know(calls, tmp_path):
    assert order(calls, "training_step", "log", "_load_best_model")[-2:] == ["log", "_load_best_model"]
    assert len(of(calls, "_load_best_model")) == 1
    trainer = prepared(tmp_path)
    best = Path(str(trainer.state.best_model_checkpoint))
    before = weights(trainer)
    rename_weights(best)
    trainer._load_best_model()
    assert all(torch.equal(value, before[name]) for name, value in weights(trainer).items())


def test_the_state_that_we_write_again_has_the_names_that_a_resumed_run_reads(folder, calls):
    state = json.loads((folder / "checkpoint-2" / "trainer_state.json").read_text())
    assert {"best_metric", "best_global_step", "best_model_checkpoint", "global_step"} <= set(state)
    assert state["best_model_checkpoint"] == str(folder / f"checkpoint-{state['best_global_step']}")
