"""A run is what its recipe says, can be stopped anywhere, and never touches its test captures before the end."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from small_captures import write_bench
from small_recipes import FEW
from trained_runs import killed_at
from transformers import GLPNForDepthEstimation

from sonde import maps, models, recipes, training
from sonde.adapters import fit_start, fold_affine
from sonde.trainer import DepthTrainer
from sonde.training.resuming import read_state


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_bench(tmp_path_factory.mktemp("captures") / "set", 10)


@pytest.fixture
def settings(base, root, tmp_path):
    """Overrides of lora-few for a run of seconds."""

    def make(*more: str) -> list[str]:
        return [
            f"model.name={base}",
            "model.input_size=[32,64]",
            f"data.root={root}",
            f"data.cache={tmp_path / 'cache'}",
            "train.per_device_train_batch_size=1",
            "train.gradient_accumulation_steps=2",
            "train.max_steps=6",
            "train.eval_steps=2",
            "train.save_steps=2",
            "train.save_total_limit=10",
            f"output_dir={tmp_path / 'run'}",
            *more,
        ]

    return make


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(models.load_network(run).network.state_dict())


def logged(run: Path) -> list[dict[str, float]]:
    """Every line of the log without its times."""
    logs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    times = ("runtime", "per_second", "data_wait")
    return [{name: value for name, value in log.items() if not name.endswith(times)} for log in logs]


def validation_losses(run: Path) -> list[float]:
    logs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [log["eval_loss"] for log in logs if "eval_loss" in log]


def test_a_run_stops_when_validations_bring_nothing_better(settings):
    still = ["train.learning_rate=1e-30", "train.max_steps=9", "train.eval_steps=1", "train.save_steps=1"]
    run = training.train(FEW, settings(*still, "early_stopping=2"))
    logs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [log["step"] for log in logs if "eval_loss" in log] == [1, 2, 3]  # the first is the best
    assert (run / "best").is_dir() and (run / "metrics.json").is_file()


@pytest.mark.slow
def test_a_stopped_run_resumes_bit_identically_in_the_middle_of_an_epoch(settings, tmp_path):
    training.train(FEW, settings())
    whole = weights(tmp_path / "run")

    again = settings(f"output_dir={tmp_path / 'stopped'}")
    with killed_at(4):  # three steps an epoch: inside the second
        training.train(FEW, again)
    training.train(FEW, again, resume=True)
    resumed = weights(tmp_path / "stopped")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert validation_losses(tmp_path / "run") == validation_losses(tmp_path / "stopped")


def test_a_run_goes_on_with_the_captures_it_began_with_or_not_at_all(base, settings, tmp_path):
    root = write_bench(tmp_path / "growing", 6)
    words = settings(f"data.root={root}", "train.max_steps=2")
    run = training.train(FEW, words)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"finished after 2 steps.*--resume train\.max_steps=STEPS"):
        training.train(FEW, [*words, "train.learning_rate=0.5"], resume=True)
    for file in root.glob("*/c00*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"the captures or their split have changed.*5 captures.*new output_dir"):
        training.train(run, resume=True)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_finished_run_goes_on_when_it_is_given_more_steps(settings, tmp_path):
    run = training.train(FEW, settings("train.max_steps=2"))
    training.train(run, ["train.max_steps=4"], resume=True)
    assert (run / "checkpoints" / "checkpoint-4").is_dir()


def test_a_checkpoint_bears_its_name_only_when_it_is_whole(settings, tmp_path, monkeypatch):
    def failing(self, *args):
        raise OSError("no space left on device")

    monkeypatch.setattr(DepthTrainer, "_save_rng_state", failing)
    with pytest.raises(OSError):
        training.train(FEW, settings())
    assert not list((tmp_path / "run" / "checkpoints").glob("checkpoint-*"))
    assert read_state(tmp_path / "run") == "empty"


@pytest.mark.parametrize("resume", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_run_that_was_stopped_before_its_first_checkpoint_starts_again(settings, tmp_path, resume):
    whole = training.train(FEW, settings("output_dir=" + str(tmp_path / "whole")))
    with killed_at(1):
        training.train(FEW, settings())
    run = training.train(FEW, settings(), resume=resume)
    assert read_state(run) == "finished"
    assert logged(run) == logged(whole)


def test_nothing_to_resume_is_no_run(settings, tmp_path):
    with pytest.raises(ValueError, match="holds no run"):
        training.train(FEW, settings(), resume=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("more", [[], ["ema=0.9"]])
def test_a_whole_networks_checkpoints_say_what_their_numbers_mean(settings, base, tmp_path, more):
    words = settings("lora=null", "model.train_head=false", "model.affine_start=false", *more)
    with killed_at(2):
        training.train(FEW, words)
    spec = models.load(tmp_path / "run" / "checkpoints" / "checkpoint-2").spec
    assert spec == training.prepare(recipes.load(FEW, words)).model.spec
    assert (spec.space, spec.unit, spec.input_size) == ("metric", "mm", (32, 64))
    assert models.load(base).spec != spec


def test_a_run_folder_is_never_overwritten(settings, tmp_path):
    with killed_at(2):
        training.train(FEW, settings())
    with pytest.raises(ValueError, match="--resume"):
        training.train(FEW, settings())


def test_a_fitted_start_is_refused_where_the_layer_would_not_be_saved(settings, monkeypatch):
    assert [name for name, family in models.FAMILIES.items() if not family.ends_in_head] == [
        "depth_ensemble",
        "zoedepth",
    ]
    monkeypatch.setitem(models.FAMILIES, "glpn", models.FAMILIES["glpn"]._replace(head=("decoder",)))
    with pytest.raises(ValueError, match=r"affine_start sets head.head.2, which .* set model.affine_start=false"):
        training.prepare(recipes.load(FEW, settings()))


def test_a_dry_run_says_what_would_happen_and_writes_nothing(settings, tmp_path):
    plan = training.dry_run(FEW, settings("model.train_head=false", "model.affine_start=false", "lora.r=2"))
    network = models.load_network(plan.model).network
    widths = [8, 16, 24, 32]  # one attention block each, query, key and value: r (in + out)
    assert plan.trainable_parameters == sum(3 * 2 * (width + width) for width in widths)
    assert plan.total_parameters == plan.trainable_parameters + sum(p.numel() for p in network.parameters())
    assert plan.steps == 6
    assert plan.split == {"train": 6, "validation": 2, "test": 2}
    assert plan.learning_rate is not None and plan.learning_rate.highest <= 1e-3
    assert plan.unit == "mm"
    assert plan.range is not None and plan.range[0] < plan.range[1]
    facts = ["model", "trainable_parameters", "total_parameters", "steps", "learning_rate", "split"]
    assert list(plan.document()) == [*facts, "chosen_by", "range", "unit", "checks", "output_dir"]
    assert plan.checks == {"looked_at": 10, "captures": 10, "verdicts": []}
    assert not (tmp_path / "run").exists()


def test_the_published_recipe_counts_its_steps_and_parts(root, base, tmp_path):
    plan = training.dry_run("lora-zivid", [f"model.name={base}", "model.input_size=[32,64]", f"data.root={root}"])
    assert plan.steps == 15  # eight captures, accumulated to one step, in each of 15 epochs
    assert plan.split == {"train": 8, "validation": 0, "test": 2}
    assert plan.chosen_by == "test"


def test_the_range_is_of_the_training_captures_unless_asked(settings, root):
    ours = training.dry_run(FEW, settings()).range
    every = training.dry_run(FEW, settings("data.range=all")).range
    given = training.dry_run(FEW, settings("data.range=[251.74,3907.45]")).range
    assert ours is not None and every is not None
    assert every[0] <= ours[0] < ours[1] <= every[1]
    assert given == pytest.approx([251.74, 3907.45])


def test_half_precision_is_refused_where_it_is_not_real_and_said_once(settings, caplog):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, where half precision is real")
    with caplog.at_level(logging.WARNING, "sonde"):
        arguments = training.build_arguments(recipes.load("lora-zivid", ["train.fp16=true"]))
    assert not arguments.fp16
    assert len([record for record in caplog.records if "fp32" in record.message]) == 1


@pytest.mark.parametrize("native", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_bfloat16_is_kept_by_a_cpu_that_has_it(settings, monkeypatch, native):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, where half precision is real")
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: native)
    arguments = training.build_arguments(recipes.load("teacher-dav2", ["train.max_steps=2"]))
    assert (arguments.bf16, arguments.device.type) == (native, "cpu")
    run = training.train(FEW, settings("train.bf16=true"))
    assert json.loads((run / "metrics.json").read_text())["metrics"]["abs_rel"] > 0


def test_memory_that_does_not_suffice_is_answered_with_what_to_change(settings, monkeypatch):
    def exhausted(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DepthTrainer, "training_step", exhausted)
    with pytest.raises(ValueError, match=r"gradient_checkpointing.*input_size"):
        training.train(FEW, settings())


@pytest.mark.parametrize(
    "override,words",
    [
        ("train.learning_rat=1", "learning_rate"),
        ("lora.alpha=3", "lora_alpha"),
        ("loss.masked_l2=1", "masked_l1"),
        ("model.input_size=[30,64]", r"\[32, 64\]"),
        ("model.train_head=false", "set model.train_head=true"),
        ("data.split.test=10", "leave none for training"),
        ("model.input_size=[0,0]", r"\[32, 32\]"),
        ("train.per_device_train_batch_size=0", "train.per_device_train_batch_size=0: expected"),
        ("train.per_device_train_batch_size=-2", "train.per_device_train_batch_size=-2: expected"),
        ("train.gradient_accumulation_steps=0", "train.gradient_accumulation_steps=0: expected"),
        ("train.max_steps=0", "train.max_steps=0: expected"),
        ("train.max_steps=-5", "train.max_steps=-5: expected"),
        ("train.learning_rate=abc", "train.learning_rate=abc: expected"),
        ("train.weight_decay=little", "train.weight_decay=little: expected a number such as 1e-4"),
        ("train.learning_rate=-1", "train.learning_rate=-1: expected"),
        ("loss.masked_l1=-5", "loss.masked_l1=-5.0: expected"),
        ("loss.masked_l1=nan", "loss.masked_l1=nan: expected"),
    ],
)
def test_a_wrong_setting_is_one_sentence_with_the_right_one(settings, override, words):
    with pytest.raises(ValueError, match=words):
        training.dry_run(FEW, settings(override))


def test_the_fitted_start_is_the_least_squares_line():
    x = torch.linspace(-1, 3, 60).view(1, 6, 10)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[0, 0] = False
    y = torch.where(mask, 0.3 * x + 0.2, 99.0)
    scale, shift = fit_start(x, y, mask)
    assert (scale, shift) == (pytest.approx(0.3), pytest.approx(0.2))
    layer = torch.nn.Conv2d(4, 1, 1)
    image = torch.rand(1, 4, 5, 5)
    before = layer(image)
    fold_affine(layer, scale, shift)
    torch.testing.assert_close(layer(image), 0.3 * before + 0.2)


def test_the_fitted_start_lowers_the_first_loss(settings):
    wide = "data.range=[500,20000]"  # the captures lie at its near end, an untrained answer in its middle
    fitted = training.prepare(recipes.load(FEW, settings(wide)))
    plain = training.prepare(recipes.load(FEW, settings(wide, "model.affine_start=false")))

    def error(plan) -> float:
        item = plan.samples("train")[0]
        answer = maps.resize(plan.model.eval()(item["image"][None]).depth, item["depth"].shape)[0]
        return float((answer.detach() - item["depth"])[item["mask"]].abs().mean())

    assert error(fitted) < 0.7 * error(plain)


def test_a_reporter_that_is_not_installed_is_said_before_the_first_step(settings):
    assert training.build_arguments(recipes.load(FEW, settings("train.report_to=tensorboard")))
    with pytest.raises(ValueError, match="pip install comet_ml"):
        training.build_arguments(recipes.load(FEW, settings("train.report_to=comet_ml")))


def test_an_adapter_on_a_base_that_cannot_be_had_again_is_refused(settings):
    with pytest.raises(ValueError, match="lora=null"):
        training.prepare(recipes.load(FEW, settings("model.init=random")))
    with pytest.raises(ValueError, match=r"model\.depths cannot be combined with lora"):
        training.prepare(recipes.load(FEW, settings("model.depths=[9,9,9,9]")))


def test_an_adapter_is_no_start_for_training(settings, base, tmp_path):
    plan = training.prepare(recipes.load(FEW, settings()))
    models.save(plan.model, tmp_path / "adapter")
    whole = ["lora=null", "model.train_head=false", "model.affine_start=false"]
    refused = "is an adapter, which training cannot start from"
    random = [*whole, "model.init=random"]
    unfit = r"does not fit random weights: .*model\.name=.*adapter/base"
    for more, words in ((whole, refused), ([], refused), (random, unfit)):
        with pytest.raises(ValueError, match=words):
            training.prepare(recipes.load(FEW, settings(f"model.name={tmp_path / 'adapter'}", *more)))


def test_a_network_is_deepened_by_name_and_not_by_size(settings):
    whole = settings("lora=null", "model.train_head=false", "model.affine_start=false", "model.depths=[2,3,5,4]")
    network = training.prepare(recipes.load(FEW, whole)).model.network
    assert isinstance(network, GLPNForDepthEstimation)
    assert [len(list(stage.children())) for stage in network.glpn.encoder.block] == [2, 3, 5, 4]
    with pytest.raises(ValueError, match="both say which network"):
        training.prepare(recipes.load(FEW, [*whole, "model.size=b0", "model.init=random"]))


def test_validation_and_test_captures_are_never_trained_on(settings, monkeypatch):
    seen: set[int] = set()
    plan = training.prepare(recipes.load(FEW, settings()))
    samples = plan.samples("train", augment=True)
    seen.update(samples.indices)
    held = {plan.captures.ids.index(name) for part in ("validation", "test") for name in plan.parts[part]}
    assert not seen & held
    assert len(seen | held) == len(plan.captures)


@pytest.mark.slow
def test_every_fold_validates_once(settings, tmp_path):
    run = training.train(FEW, settings("data.split.folds=2", "train.max_steps=2"))
    chosen = [json.loads((run / f"fold-{fold}" / "split.json").read_text())["validation"] for fold in (0, 1)]
    assert not set(chosen[0]) & set(chosen[1])
    summary = json.loads((run / "metrics.json").read_text())
    assert summary["folds"] == 2
    assert np.isfinite(summary["metrics"]["mae_mm"]["mean"])


def scored_by_steps(run: Path) -> None:
    """In place of a score, which takes seconds: the steps the run has taken."""
    steps = max(int(path.name.rpartition("-")[2]) for path in (run / "checkpoints").glob("checkpoint-*"))
    document = {"metrics": {"steps": float(steps)}, "protocol": "none", "images": 0, "data": "none"}
    (run / "metrics.json").write_text(json.dumps(document))


@pytest.mark.slow
def test_resumed_folds_are_those_of_the_recipe_or_are_refused(settings, monkeypatch):
    monkeypatch.setattr(training.report, "finish", scored_by_steps)
    words = settings("data.split.folds=2", "train.eval_steps=1", "train.save_steps=1")
    run = training.train(FEW, [*words, "train.max_steps=1"])
    before = {path: path.read_bytes() for path in run.glob("fold-?/**/*") if path.is_file()}
    training.train(FEW, [*words, "train.max_steps=1"], resume=True)
    with pytest.raises(ValueError, match="fold-0 is finished after 1 step,"):
        training.train(FEW, [*words, "train.max_steps=1", "train.learning_rate=1e-5"], resume=True)
    assert before == {path: path.read_bytes() for path in run.glob("fold-?/**/*") if path.is_file()}
    with killed_at(2):  # on its way to more steps: the score it had is no longer its own
        training.train(FEW, [*words, "train.max_steps=3"], resume=True)
    training.train(FEW, [*words, "train.max_steps=3"], resume=True)
    assert json.loads((run / "metrics.json").read_text())["metrics"]["steps"] == {"mean": 3.0, "std": 0.0}


def test_folds_in_many_processes_are_asked_for_one_by_one(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"2 processes.*data\.split\.fold=0 with output_dir=.*run/fold-0"):
        training.train(FEW, settings("data.split.folds=2"))
    assert not (tmp_path / "run").exists()


def test_a_trained_run_scores_and_reports_itself(settings, tmp_path):
    run = training.train(FEW, settings("train.max_steps=2"))
    scores = json.loads((run / "metrics.json").read_text())
    assert {"mae_mm", "abs_rel", "rmse_mm", "delta1"} <= set(scores["metrics"])
    assert (run / "report.html").stat().st_size > 1000
    spec = models.load(run).spec
    assert (spec.space, spec.unit) == ("metric", "mm")
    kept = recipes.load(run)
    assert kept.output_dir == str(run)


def test_batch_norm_keeps_the_bases_statistics_while_adapters_train(settings, tmp_path, base):
    run = training.train(FEW, settings("train.max_steps=2", "model.train_head=false", "model.affine_start=false"))
    before = models.load_network(base).network.state_dict()
    after = models.load_network(run).network.state_dict()
    means = [name for name in before if name.endswith("running_mean")]
    assert means
    for name in means:
        assert torch.equal(before[name], after[f"base_model.model.{name}"])


def test_validation_and_checkpoints_keep_their_pace_and_the_best_is_saved(settings, tmp_path):
    by_epoch = ["train.max_steps=-1", "train.num_train_epochs=5"]
    by_epoch += ["train.eval_strategy=epoch", "train.save_strategy=epoch"]
    training.train(FEW, settings(*by_epoch, "val_freq=2", "save_freq=4"))
    logs = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses_by_epoch = {round(log["epoch"]): log["eval_loss"] for log in logs if "eval_loss" in log}
    assert list(losses_by_epoch) == [2, 4, 5]
    steps = sorted(int(path.name.rpartition("-")[2]) for path in (tmp_path / "run/checkpoints").glob("checkpoint-*"))
    improved = [
        epoch
        for epoch in (2, 4, 5)
        if losses_by_epoch[epoch] == min(list(losses_by_epoch.values())[: (2, 4, 5).index(epoch) + 1])
    ]
    assert steps == [3 * epoch for epoch in sorted({4, 5, *improved})]


def test_a_number_given_as_text_is_trained_with_and_recorded_as_a_number(settings, monkeypatch):
    monkeypatch.setattr(training.report, "finish", lambda run: None)
    texts = {"learning_rate": "1e-4", "weight_decay": "1e-2", "max_grad_norm": "5e-1", "adam_epsilon": "1e-8"}
    recipe = recipes.load(FEW, settings("train.max_steps=1"))
    run = training.train(recipe.model_copy(update={"train": {**recipe.train, **texts}}))
    recorded = recipes.load(run).train
    assert {key: recorded[key] for key in texts} == {key: float(text) for key, text in texts.items()}


def test_a_run_may_keep_its_last_weights_alone(settings, tmp_path):
    training.train(FEW, settings("save_model=false", "train.max_steps=2"))
    assert not list((tmp_path / "run" / "checkpoints").glob("checkpoint-*"))
    assert models.load(tmp_path / "run").space == "metric"
