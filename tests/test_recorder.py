"""A step that is not finite is not taken, leaves a black box that explains it, and can be taken again."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from safetensors.torch import load_file
from small_captures import write_bench
from small_networks import saved
from small_recipes import FEW
from transformers import TrainerControl, TrainerState, TrainingArguments

from sonde import losses, models, training
from sonde.datasets import DepthDataset
from sonde.trainer import DepthTrainer, Stopped, blackbox
from sonde.trainer.clock import Clock
from sonde.training import replaying, steps


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return saved("glpn", tmp_path_factory.mktemp("base") / "small")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_bench(tmp_path_factory.mktemp("captures") / "set", 10)


@pytest.fixture
def settings(base, root, tmp_path):
    """Overrides of lora-few for six steps of every weight, four to an epoch."""

    def make(*more: str) -> list[str]:
        return [
            "lora=null",
            "model.train_head=false",
            "model.affine_start=false",
            f"model.name={base}",
            "model.input_size=[32,64]",
            f"data.root={root}",
            f"data.cache={tmp_path / 'cache'}",
            "data.split.test=1",
            "data.split.validation=1",
            "train.per_device_train_batch_size=2",
            "train.gradient_accumulation_steps=1",
            "train.max_steps=6",
            "train.eval_steps=2",
            "train.save_steps=2",
            "train.logging_steps=1",
            "train.save_total_limit=10",
            f"output_dir={tmp_path / 'run'}",
            *more,
        ]

    return make


@pytest.fixture(autouse=True)
def unscored(monkeypatch, request) -> None:
    """Runs end without scores and page, but for the tests that read them."""
    if "report" not in request.node.name:
        monkeypatch.setattr("sonde.report.finish", lambda run: None)


@pytest.fixture
def spoiled(monkeypatch):
    """Puts a value into the first pixel of some samples' image or depth: those for which `when(epoch, index)` holds."""
    make = DepthDataset._draw

    def spoil(what: str, value: float, when) -> None:
        def item(self: DepthDataset, index: int, leader: int):
            sample = make(self, index, leader)
            if self.varies and when(int(self._epoch), index):
                sample[what][..., -1, -1] = value
            return sample

        monkeypatch.setattr(DepthDataset, "_draw", item)

    return spoil


def logs(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def boxes(run: Path) -> list[blackbox.SkippedStep]:
    return [blackbox.read(folder) for folder in blackbox.list_boxes(run)]


def state(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Weights, buffers, their average, and the optimizer's moments."""
    moments = torch.load(checkpoint / "optimizer.pt", weights_only=True)["state"]
    flat = {f"{index}.{name}": value for index, own in moments.items() for name, value in own.items()}
    return {**load_file(checkpoint / "model.safetensors"), **load_file(checkpoint / "ema.safetensors"), **flat}


def test_a_bad_step_in_the_middle_changes_nothing_and_the_run_ends_well_and_reports_it(settings, spoiled, tmp_path):
    spoiled("image", math.inf, lambda epoch, index: epoch == 1 and index == 4)
    run = training.train(FEW, settings("train.max_steps=9", "train.save_steps=1", "ema=0.9", "train.eval_steps=1"))
    (box,) = boxes(run)
    before, after = (state(run / "checkpoints" / f"checkpoint-{step}") for step in (box.step - 1, box.step))
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    moved = state(run / "checkpoints" / f"checkpoint-{box.step + 1}")
    assert not all(torch.equal(value, moved[name]) for name, value in before.items())

    assert box.list_suspects() == ["c04"] and "image of c04" in box.find_cause()[0]
    by_step = {line["step"]: line for line in logs(run) if "learning_rate" in line}
    assert by_step[box.step]["loss"] is None and by_step[box.step + 1]["loss"] > 0
    assert by_step[box.step - 1]["skipped_steps"] == 0 and by_step[9]["skipped_steps"] == 1
    assert math.isfinite(logs(run)[-1]["train_loss"]) and logs(run)[-1]["skipped_steps"] == 1
    assert all(value.isfinite().all() for value in models.load_network(run).network.state_dict().values())
    assert "1 skipped" in (run / "report.html").read_text()


def test_a_bad_batch_inside_an_accumulated_step_skips_all_of_it(settings, spoiled):
    spoiled("depth", math.inf, lambda epoch, index: epoch == 0 and index == 5)
    run = training.train(FEW, settings("train.gradient_accumulation_steps=2", "train.max_steps=3"))
    (box,) = boxes(run)
    assert [batch.finite for batch in box.batches].count(False) == 1 and len(box.batches) == 2
    assert box.list_suspects() == ["c05"] and "depth of c05" in box.find_cause()[0]


def log_error(pred, target, mask):
    """As one should not: the mask comes before the logarithm, as a zero."""
    return (pred.log() - (target * mask).log()).abs().mean((1, 2))


def test_three_in_a_row_stop_the_run_with_the_cause_and_doctor_says_what_to_do(settings, monkeypatch, sonde):
    monkeypatch.setitem(losses.LOSSES, "log_error", log_error)
    words = settings("loss={masked_l1: 1.0, log_error: 1.0}")
    said = sonde("train", FEW, *words)
    run = Path(words[-2].partition("=")[2])
    assert said.code == 2 and "3 steps in a row" in said.errors and "logarithm of depth that is 0" in said.errors
    assert f"`sonde train {run} --resume` continues from the newest checkpoint" in said.errors
    assert "best checkpoint" not in said.errors
    explained = sonde("doctor", run, "--json").json
    assert list(explained) == ["step-000001", "step-000002", "step-000003", "run"]
    first = explained["step-000001"]
    assert "loss log_error takes the logarithm" in first["why"] and "data.min_depth" in first["what_to_do"]
    assert len(first["captures"]) == 2 and first["weights"].endswith("MB in step-000001")
    assert explained["step-000003"]["weights"] == first["weights"]  # one copy for a burst
    assert "first_forward" not in first


@pytest.mark.slow
def test_a_stopped_run_keeps_its_best_and_resumes_as_if_nothing_had_been(settings, monkeypatch, tmp_path):
    whole = training.train(FEW, settings("train.save_steps=3", "train.eval_steps=3"))
    again = settings("train.save_steps=3", "train.eval_steps=3", f"output_dir={tmp_path / 'stopped'}")
    with monkeypatch.context() as patch:
        take = DepthTrainer.training_step

        def broken(self, model, inputs, *more):
            if self.state.global_step >= 3:
                inputs["image"][0, 0, 0, 0] = torch.nan
            return take(self, model, inputs, *more)

        patch.setattr(DepthTrainer, "training_step", broken)
        with pytest.raises(Stopped, match=r"best checkpoint so far.*doctor.*`sonde train .*/stopped --resume`"):
            training.train(FEW, again)
    run = tmp_path / "stopped"
    assert [box.step for box in boxes(run)] == [4, 5, 6]
    chosen = load_file(run / "checkpoints" / "checkpoint-3" / "model.safetensors")
    assert all(
        torch.equal(value, chosen[name]) for name, value in models.load_network(run).network.state_dict().items()
    )
    training.train(FEW, again, resume=True)
    assert not boxes(run) and logs(run)[-1]["skipped_steps"] == 0
    clean, resumed = (models.load_network(one).network.state_dict() for one in (whole, run))
    assert all(torch.equal(value, resumed[name]) for name, value in clean.items())


def test_a_learning_rate_too_high_is_told_by_the_norms_of_the_last_good_steps(settings, tmp_path):
    hot = ("train.learning_rate=1e14", "train.max_grad_norm=0", "train.warmup_steps=0", "train.save_strategy=epoch")
    told = r"learning rate of 1e\+14 is too high: the norm of the weights grew .* start again with a new output_dir"
    with pytest.raises(Stopped, match=told):
        training.train(FEW, settings(*hot, "train.eval_strategy=epoch"))
    box = boxes(tmp_path / "run")[0]
    assert box.norms.steps and box.norms.measure_growth("weights") > 1e3
    taken = load_file(blackbox.list_boxes(tmp_path / "run")[0] / "weights.safetensors")
    for name, norms in box.norms.weights.items():
        assert norms[-1] == pytest.approx(taken[name].norm().item(), rel=1e-4)


def test_an_overflow_of_half_precision_is_named_with_its_module_and_replayed(settings, monkeypatch, tmp_path, sonde):
    module = "decoder.stages.1.convolution"
    make = steps.make_trainer

    def halved(*args):
        trainer = make(*args)
        assert trainer.model is not None

        def half(layer, inputs, output):
            return (output * (65504 / output.abs().amax().detach() * 1.2)).half().float() if bad(trainer) else output

        trainer.model.get_submodule(module).register_forward_hook(half)
        return trainer

    def bad(trainer) -> bool:
        return trainer.state.global_step == 3 or broken

    broken = False
    monkeypatch.setattr(steps, "make_trainer", halved)
    monkeypatch.setattr(replaying, "make_trainer", halved)
    run = training.train(FEW, settings())
    (box,) = boxes(run)
    assert box.step == 4 and box.list_faults("forward")[0].module == module and "65504" in box.find_cause()[0]
    cured = sonde("doctor", run, "--replay").text
    assert "does not show again" in cured
    broken = True
    shown = sonde("doctor", run, "--replay", 4, "--json").json
    assert shown["fault"] == "shows again" and shown["first_forward"].startswith(module)
    assert sonde("doctor", run, "--replay", 5).code == 2


def test_a_replay_takes_the_same_step_again(settings, spoiled, monkeypatch):
    spoiled("image", math.nan, lambda epoch, index: epoch == 1 and index == 2)
    varied = ("augment.flip=0.5", "augment.brightness=0.3", "augment.cutmix=0.5")
    run = training.train(FEW, settings("train.gradient_accumulation_steps=2", "train.max_steps=4", *varied))
    ((box, shown),) = [training.replay(run)]
    assert box.batches[len(shown) - 1].image == shown[-1].image == ["c02"]
    for once, again in zip(box.batches, shown, strict=False):
        assert str(once.terms) == str(again.terms) and once.captures == again.captures


def test_float16s_own_skips_are_counted_apart_and_stop_nothing(settings, monkeypatch):
    make = steps.make_trainer

    def scaled(*args):
        trainer = make(*args)
        trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-12)
        return trainer

    monkeypatch.setattr(steps, "make_trainer", scaled)
    run = training.train(FEW, settings("train.max_grad_norm=0", "train.max_steps=12"))
    last = logs(run)[-1]
    assert not boxes(run) and last["skipped_steps"] == 0 and 3 < last["scaler_skips"] < 12
    assert math.isfinite(last["train_loss"])


def test_boxes_keep_the_weights_of_the_newest_mishaps_alone(tmp_path):
    norms = blackbox.Norms()
    for step in (2, 4, 6, 8):
        box = blackbox.SkippedStep(step, 1e-3, "no", 1.0, [], norms)
        blackbox.write(tmp_path, box, [], {"weight": torch.full((3,), float(step))})
    blackbox.write(tmp_path, blackbox.SkippedStep(9, 1e-3, "no", 1.0, [], norms), [], None)
    folders = {int(folder.name[5:]): folder for folder in blackbox.list_boxes(tmp_path)}
    assert blackbox.read_state(folders[9], blackbox.read(folders[9]))[0]["weight"][0] == 8
    with pytest.raises(ValueError, match="kept no more"):
        blackbox.read_state(folders[2], blackbox.read(folders[2]))


@pytest.fixture
def steps_taken(monkeypatch) -> list[tuple[float, torch.Tensor, torch.Tensor]]:
    """(learning rate, weights, gradient) of the first decayed tensor around every step."""
    taken: list = []
    step = AcceleratedOptimizer.step

    def watched(self, *args):
        group = self.param_groups[0]
        value = group["params"][0]
        taken.append((group["lr"], value.detach().clone(), value.grad.clone()))
        step(self, *args)
        taken.append((group["lr"], value.detach().clone(), value.grad))

    monkeypatch.setattr(AcceleratedOptimizer, "step", watched)
    return taken


@pytest.mark.parametrize("optim,coupled", [("adam", True), ("adamw_torch", False)])
def test_weight_decay_is_coupled_in_adam_and_decoupled_in_adamw(settings, steps_taken, optim, coupled):
    decay, beta1, beta2, eps = 0.3, 0.8, 0.9, 1e-6
    training.train(
        FEW,
        settings(
            f"train.optim={optim}",
            f"train.weight_decay={decay}",
            f"train.adam_beta1={beta1}",
            f"train.adam_beta2={beta2}",
            f"train.adam_epsilon={eps}",
            "train.max_steps=2",
            "train.learning_rate=0.01",
            "train.warmup_steps=0",
        ),
    )
    weights = steps_taken[0][1].double()
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    for count, (rate, _, gradient) in enumerate(steps_taken[::2], 1):
        total = gradient.double() + (decay * weights if coupled else 0)
        first = beta1 * first + (1 - beta1) * total
        second = beta2 * second + (1 - beta2) * total**2
        unbiased = second / (1 - beta2**count)
        move = first / (1 - beta1**count) / (unbiased.sqrt() + eps)
        weights = weights * (1 if coupled else 1 - rate * decay) - rate * move
    torch.testing.assert_close(steps_taken[-1][1].double(), weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_gradients_are_clipped_by_value_when_the_step_is_taken(settings, monkeypatch, accumulated):
    largest: list[float] = []
    step = AcceleratedOptimizer.step

    def watched(self, *args):
        values = [value.grad.abs().max() for group in self.param_groups for value in group["params"]]
        largest.append(float(max(values)))
        step(self, *args)

    monkeypatch.setattr(AcceleratedOptimizer, "step", watched)
    more = (f"train.gradient_accumulation_steps={accumulated}", "train.max_steps=2")
    training.train(FEW, settings("clip_value=1e-3", "train.max_grad_norm=0", *more))
    assert largest == pytest.approx([1e-3] * 2)
    norms = [line["grad_norm"] for line in logs(Path(settings()[-1].partition("=")[2])) if "grad_norm" in line]
    assert norms and max(norms) < 1


def test_the_wait_for_data_is_a_share_of_the_steps_without_the_first(monkeypatch):
    now = 0.0
    monkeypatch.setattr("sonde.trainer.clock.time.perf_counter", lambda: now)
    clock = Clock()
    for wait, work in [(9.0, 1.0), (1.0, 3.0), (2.0, 2.0)]:
        with clock.time_wait():
            now += wait
        now += work
        clock.on_step_end(TrainingArguments(), TrainerState(), TrainerControl())
        now += 100  # a validation
    assert clock.read_share() == pytest.approx(3 / 8)
    assert clock.read_lap() == pytest.approx(3 / 8) and clock.read_lap() == 0


def test_a_run_and_its_report_say_how_long_it_waited_for_data(settings, sonde):
    said = sonde("train", FEW, *settings("train.max_steps=3"))
    assert "waiting for data" in said.text and "none skipped" in said.text
    run = Path(settings()[-1].partition("=")[2])
    assert all(0 <= line["data_wait"] < 1 for line in logs(run) if "loss" in line or "train_loss" in line)
    assert "waiting for data" in (run / "report.html").read_text()


SPOILED = """
import sys
from sonde import training
from sonde.datasets import DepthDataset
make = DepthDataset._draw
def item(self, index, leader):
    sample = make(self, index, leader)
    if self.varies and index == 4:
        sample["image"][..., 0, 0] = float("nan")
    return sample
DepthDataset._draw = item
if __name__ == "__main__":
    training.train(sys.argv[1], sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["train.fsdp=null", "train.fsdp=full_shard"])
def test_two_processes_skip_together_and_leave_one_box(settings, tmp_path, how):
    script = tmp_path / "spoiled.py"
    script.write_text(SPOILED)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    words = settings(
        "train.per_device_train_batch_size=1",
        "train.use_cpu=true",
        "train.max_steps=4",
        "train.save_steps=4",
        "train.eval_steps=4",
        how,
    )
    done = subprocess.run([*launcher, FEW, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / "run"
    (box,) = boxes(run)
    assert box.list_suspects() == ["c04"] and sorted(batch.process for batch in box.batches) == [0, 1]
    assert done.stderr.count("was skipped") == 1 and logs(run)[-1]["skipped_steps"] == 1
    taken = load_file(blackbox.list_boxes(run)[0] / "weights.safetensors")
    for name, norms in box.norms.weights.items():
        assert norms[-1] == pytest.approx(taken[name].norm().item(), rel=1e-4)


def test_an_image_without_an_answer_leaves_no_score_and_no_best_checkpoint(settings, monkeypatch):
    forward_raw, asked = models.DepthModel.forward_raw, []

    def at_times(self, network, image):
        asked.append(network.training)
        answer = forward_raw(self, network, image)
        return answer if network.training or asked.count(False) % 2 else answer * torch.nan

    monkeypatch.setattr(models.DepthModel, "forward_raw", at_times)
    run = training.train(
        FEW,
        settings(
            "data.split.validation=2",
            "train.max_steps=2",
            "train.per_device_eval_batch_size=1",
            "train.metric_for_best_model=eval_abs_rel",
        ),
    )
    (scores,) = [line for line in logs(run) if "eval_loss" in line]
    assert [scores[name] for name in ("eval_abs_rel", "eval_mae_mm", "eval_delta1")] == [None] * 3  # NaN
    state = json.loads((run / "checkpoints" / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["best_metric"] is None
