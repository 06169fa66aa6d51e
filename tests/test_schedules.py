"""A run's learning rate is the one its recipe names, is known before the first step, and is refused where it harms."""

import json
import math
from pathlib import Path

import pytest
import torch
from small_captures import write_bench
from small_recipes import FEW
from torch.optim.lr_scheduler import CyclicLR
from trained_runs import killed_at

from sonde import models, recipes, schedules, training

OURS = ("cyclic", "one_cycle", "poly", "glp")
NO_WARMUP = ("cyclic", "glp", *schedules.BY_SCORE)


def original_glp(step: int, epochs: int, per_epoch: int = 2019) -> float:
    """GLPDepth's own rate as its code computes it, with its count of iterations per epoch."""
    half = per_epoch * (epochs // 2)
    if step < half:
        return (1e-4 - 3e-5) * (step / half) ** 0.9 + 3e-5
    return (3e-5 - 1e-4) * (step / half - 1) ** 0.9 + 1e-4


GOLDEN = {1: 3.00079e-5, 2019: 3.74789e-5, 12114: 6.75121e-5, 24228: 1.0e-4, 36342: 6.24879e-5, 50475: 2.47712e-5}


@pytest.mark.parametrize("step,rate", GOLDEN.items())
def test_glp_is_the_originals_curve_while_the_original_is_safe(step, rate):
    assert original_glp(step, 25) == pytest.approx(rate, rel=1e-5)
    ours = schedules.glp(step, 2 * 12 * 2019, 1e-4)
    assert ours == pytest.approx(max(rate, 3e-5), rel=1e-5)


def test_glp_never_falls_below_its_start_where_the_original_turns_negative():
    assert next(step for step in range(24228, 70000) if original_glp(step, 25) < 0) == 60_239
    steps = 25 * 6057  # NYU in batches of four
    assert original_glp(steps, 25) < 0
    assert min(schedules.glp(step, steps, 1e-4) for step in range(0, steps + 2, 97)) >= 3e-5
    for epochs in (3, 5):  # the original with the right count of iterations
        assert min(original_glp(step, epochs, 100) for step in range(100 * epochs)) < 0
        ours = schedules.simulate_rates("glp", 1e-4, 100 * epochs)
        assert (ours[0], max(ours)) == (pytest.approx(3e-5), pytest.approx(1e-4))
        assert ours[50 * epochs] == max(ours) and min(ours) >= 3e-5


def test_poly_and_cosine_are_their_formulas():
    steps, warmup, lr = 120, 20, 1e-3
    rise = [lr * step / warmup for step in range(warmup)]
    left = [(steps - step) / (steps - warmup) for step in range(warmup, steps)]
    poly = schedules.simulate_rates("poly", lr, steps, warmup)
    assert poly == pytest.approx([*rise, *(lr * share**0.9 for share in left)])
    cosine = schedules.simulate_rates("cosine", lr, steps, warmup)
    assert cosine == pytest.approx([*rise, *(lr * (1 - math.cos(math.pi * share)) / 2 for share in left)])


def test_poly_is_transformers_polynomial_to_the_bit_but_for_a_group_at_another_rate():
    def step_both(kind: str, **options: float) -> list[list[float]]:
        first, second = (torch.nn.Parameter(torch.ones(())) for _ in range(2))
        sgd = torch.optim.SGD([{"params": [first]}, {"params": [second], "lr": 3e-5}], lr=1e-3)
        scheduler, rates = schedules.build(kind, sgd, 200, 20, options), []
        sgd.step()
        for _ in range(200):
            rates.append([group["lr"] for group in sgd.param_groups])
            scheduler.step()
        return [list(column) for column in zip(*rates, strict=True)]

    ours, theirs = step_both("poly", power=0.9), step_both("polynomial", power=0.9, lr_end=0.0)
    assert ours[0] == theirs[0]
    assert ours[1] != theirs[1] and ours[1] == pytest.approx(theirs[1], rel=1e-15)


@pytest.mark.parametrize("mode", ["triangular2", "triangle2"])
def test_each_cycle_is_half_as_high_as_the_one_before(mode):
    rates = schedules.simulate_rates("cyclic", 1e-3, 80, options={"mode": mode, "base_lr": 2e-4, "step_size_up": 10})
    expected = [2e-4 + 8e-4 * (1 - abs(step % 20 - 10) / 10) / 2 ** (step // 20) for step in range(80)]
    assert rates == pytest.approx(expected)


def test_one_cycle_peaks_at_the_end_of_its_rise_and_ends_after_the_last_step():
    rates = schedules.simulate_rates("one_cycle", 1e-3, 100, 25)
    assert rates[0] == pytest.approx(1e-3 / 25)
    assert rates.index(max(rates)) == 25 and rates[25] == pytest.approx(1e-3)
    end = 1e-3 / 25 / 1e4
    fall = [end + (1e-3 - end) * (1 + math.cos(math.pi * step / 75)) / 2 for step in range(75)]
    assert rates[25:] == pytest.approx(fall)


@pytest.mark.parametrize("kind", OURS)
def test_a_schedule_leaves_adams_betas_alone_and_keeps_the_groups_in_proportion(kind):
    first, second = (torch.nn.Parameter(torch.ones(())) for _ in range(2))
    adam = torch.optim.AdamW([{"params": [first]}, {"params": [second], "lr": 1e-4}], lr=1e-3, betas=(0.87, 0.99))
    scheduler = schedules.build(kind, adam, 40)
    simulated = schedules.simulate_rates(kind, 1e-3, 40)
    for step in range(40):
        (first + second).backward()
        adam.step()
        fast, slow = adam.param_groups
        assert fast["lr"] == pytest.approx(simulated[step])
        assert slow["lr"] == pytest.approx(simulated[step] / 10)
        assert fast["betas"] == slow["betas"] == (0.87, 0.99)
        scheduler.step()


def test_torchs_own_cyclic_schedule_would_have_changed_adams_beta():
    adam = torch.optim.AdamW([torch.nn.Parameter(torch.ones(()))], lr=1e-3, betas=(0.87, 0.99))
    CyclicLR(adam, 1e-4, 1e-3)
    assert adam.param_groups[0]["betas"][0] != 0.87


@pytest.mark.parametrize(
    "metric,mode",
    [
        ("eval_loss", "min"),
        ("delta1", "max"),
        ("eval_delta1", "max"),
        ("eval_delta3", "max"),
        ("boundary_f1", "max"),
        ("eval_mae_mm", "min"),
        ("rmse_log", "min"),
        ("abs_rel", "min"),
    ],
)
def test_a_plateau_is_sought_where_the_metric_is_better(metric, mode):
    assert schedules.find_mode(metric) == mode
    assert training.build_arguments(recipes.load({"train": {"metric_for_best_model": metric}})).greater_is_better is (
        mode == "max"
    )


def test_an_unknown_metric_or_a_mode_against_it_is_refused():
    with pytest.raises(ValueError, match="abs_rel"):
        schedules.find_mode("eval_absrel")
    with pytest.raises(ValueError, match="leave it out"):
        schedules.simulate_rates("reduce_lr_on_plateau", 1e-3, 10, options={"mode": "min"}, metric="eval_delta1")


@pytest.mark.parametrize(
    "metric,scores,falls", [("eval_delta1", (0.5, 0.6, 0.7), False), ("loss", (0.5, 0.6, 0.7), True)]
)
def test_a_plateau_falls_only_when_its_metric_gets_no_better(metric, scores, falls):
    adam = torch.optim.AdamW([torch.nn.Parameter(torch.ones(()))], lr=1e-3)
    plateau = schedules.build("reduce_lr_on_plateau", adam, 10, 0, {"patience": 0, "factor": 0.5}, metric)
    for score in scores:
        plateau.step(score)
    assert adam.param_groups[0]["lr"] == (2.5e-4 if falls else 1e-3)


def test_the_floor_of_a_plateau_is_what_it_falls_to_at_worst():
    options = {"factor": 0.5, "patience": 1, "min_lr": 1e-4}
    kind = "reduce_lr_on_plateau"
    assert schedules.simulate_falls(kind, 1e-3, 30, options) == pytest.approx([1e-3, 5e-4, 2.5e-4, 1.25e-4, 1e-4])
    assert schedules.simulate_falls(kind, 1e-3, 3, options) == pytest.approx([1e-3, 5e-4])
    said = schedules.describe_floor(kind, 1e-3, 30, options, "eval_delta1")
    assert (
        "by 0.5" in said and "2 validations" in said and "higher eval_delta1" in said and "no less than 0.0001" in said
    )


@pytest.mark.parametrize(
    "rates,warmup,restarts,words",
    [
        ([0.0, 0.5, 1.0, 0.5, 0.1], 2, (), []),
        ([0.0, 1.0, 0.5, 0.0], 1, (), []),  # it may end in zero
        ([1.0, 0.5, -0.1, -0.2], 0, (), ["negative at step 2 and 1 more, -0.1"]),
        ([0.0, 1.0, 0.5, 0.5], 0, (), ["zero at step 0,"]),
        ([1.0, 0.0, 1.0], 0, (), ["zero at step 1,"]),
        ([1.0, 0.09, 0.05], 0, (), ["tenfold into step 1, from 1 to 0.09"]),
        ([1.0, 0.1, 1.0], 0, (), []),  # ten times is not more
        ([1.0, 0.2, 0.02, 1.0, 0.2], 0, (), ["tenfold into step 3"]),
        ([1.0, 0.2, 0.01, 1.0, 0.2], 0, {3}, []),
        ([1.0, float("nan"), 1.0], 0, (), ["finite number at step 1"]),
    ],
)
def test_a_rate_that_harms_is_told_with_its_step(rates, warmup, restarts, words):
    said = schedules.lint(rates, warmup, restarts)
    assert len(said) == len(words)
    assert all(word in sentence for word, sentence in zip(words, said, strict=True))


@pytest.mark.parametrize("kind", [kind for kind in schedules.SCHEDULES if kind != "warmup_stable_decay"])
@pytest.mark.parametrize("steps", [50, 997])
def test_every_schedule_is_sound_as_it_comes(kind, steps):
    warmup = 0 if kind in NO_WARMUP else 10
    options = {"min_lr": 1e-5} if "min_lr" in kind else {"num_cycles": 7} if "restarts" in kind else {}
    rates = schedules.simulate_rates(kind, 1e-3, steps, warmup, options)
    assert len(rates) == steps and max(rates) <= 1e-3 * (1 + 1e-9)
    jumps = schedules.find_restarts(kind, steps, warmup, options)
    assert schedules.lint(rates, warmup, jumps) == []
    assert len(jumps) == (6 if "restarts" in kind else 0)
    assert not jumps or schedules.lint(rates, warmup)  # undeclared, they would be refused


def test_a_schedule_of_ones_own_is_one_assignment_and_is_judged_like_ours(monkeypatch):
    def sinking(optimizer, steps, warmup):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - 2 * step / steps)

    monkeypatch.setitem(schedules.SCHEDULES, "sinking", sinking)
    planned = training.plan_lr(FEW, ["train.lr_scheduler_type=sinking", "train.max_steps=10"])
    assert planned.rates == pytest.approx([1e-3 * (1 - step / 5) for step in range(10)])
    assert ["negative at step 6" in said for said in planned.complaints].count(True) == 1


@pytest.mark.parametrize(
    "overrides,words",
    [
        (["train.lr_scheduler_type=cyclik"], "did you mean 'cyclic'"),
        (["train.lr_scheduler_type=cyclic"], "train.warmup_steps=0"),
        (["train.lr_scheduler_type=poly", "train.lr_scheduler_kwargs.powr=2"], "powr"),
        (["train.lr_scheduler_type=poly", "train.lr_scheduler_kwargs=2"], "names and values"),
        (
            ["train.lr_scheduler_type=one_cycle", "train.warmup_steps=80", "train.max_steps=80"],
            "a run of 80 steps is too short for its rise",
        ),
        (["train.lr_scheduler_type=glp", "train.warmup_steps=0", "train.lr_scheduler_kwargs.a=1"], "glp with .*a=1"),
        (
            ["train.lr_scheduler_type=cyclic", "train.lr_scheduler_kwargs.cycle_momentum=true", "train.warmup_steps=0"],
            "momentum",
        ),
    ],
)
def test_a_wrong_option_is_one_sentence(overrides, words):
    with pytest.raises(ValueError, match=words):
        training.plan_lr(FEW, overrides)


def test_the_chart_loses_no_spike_and_names_its_ends():
    rates = [1e-3] * 10_000
    rates[5000] = -5e-4
    lines = schedules.draw(rates).splitlines()
    assert len(lines) == 12 and max(map(len, lines)) == min(map(len, lines[:11]))
    assert lines[0].split(" ┤")[0].strip() == "0.001" and lines[9].split(" ┤")[0].strip() == "-0.0005"
    assert "9,999 step" in lines[-1] and "5,000" in lines[-1]
    columns = [sum(character != "⠀" for character in line.split("┤")[1]) for line in lines[:10]]
    assert columns == [60] + [1] * 9  # a full line on top, one spike to the bottom


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_bench(tmp_path_factory.mktemp("captures") / "set", 6)


@pytest.fixture
def settings(base, root, tmp_path):
    """Overrides of lora-few for a run of four steps that validates and saves after the second."""

    def make(run: str, *more: str) -> list[str]:
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
            "train.load_best_model_at_end=false",
            f"output_dir={tmp_path / run}",
            *more,
        ]

    return make


def logged_rates(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["learning_rate"] for line in lines if "learning_rate" in line}


@pytest.mark.parametrize(
    "kind,options",
    [
        pytest.param("cyclic", ["mode=triangle2", "step_size_up=2"], marks=pytest.mark.slow),
        pytest.param("glp", [], marks=pytest.mark.slow),
        pytest.param("one_cycle", ["div_factor=2"], marks=pytest.mark.slow),
        ("reduce_lr_on_plateau", ["patience=0", "factor=0.5", "threshold=0.9"]),
    ],
)
def test_a_run_follows_its_schedule_and_resumes_exactly(settings, tmp_path, monkeypatch, kind, options):
    monkeypatch.setattr(training.report, "finish", lambda run: None)
    chosen = [f"train.lr_scheduler_type={kind}", *(f"train.lr_scheduler_kwargs.{option}" for option in options)]
    whole = training.train(FEW, settings("whole", *chosen))
    rates = logged_rates(whole)
    if kind == "reduce_lr_on_plateau":  # every validation after the first is a bad one
        assert rates == pytest.approx({1: 1e-3, 2: 1e-3, 3: 5e-4, 4: 2.5e-4})
    else:
        planned = training.plan_lr(FEW, settings("planned", *chosen)).rates
        assert list(rates.values()) == pytest.approx(planned)

    with killed_at(3):
        training.train(FEW, settings("stopped", *chosen))
    assert [path.name for path in (tmp_path / "stopped/checkpoints").glob("checkpoint-*")] == ["checkpoint-2"]
    resumed = training.train(FEW, settings("stopped", *chosen), resume=True)
    assert logged_rates(resumed) == rates
    again = models.load_network(resumed).network.state_dict()
    assert all(
        torch.equal(value, again[name]) for name, value in models.load_network(whole).network.state_dict().items()
    )


def test_training_refuses_a_rate_that_harms_before_any_file(settings, tmp_path):
    steep = ["train.lr_scheduler_type=reduce_lr_on_plateau", "train.lr_scheduler_kwargs={factor: 0.01, patience: 0}"]
    zero = ["train.lr_scheduler_type=cyclic", "train.lr_scheduler_kwargs={base_lr: 0.0, step_size_up: 1}"]
    by_epochs = ["train.max_steps=-1", "train.num_train_epochs=4"]
    for harmful in (steep, zero, [*zero, *by_epochs]):
        for verb in (training.train, training.dry_run):
            with pytest.raises(ValueError, match=r"tenfold into step 1|zero at step"):
                verb(FEW, settings("run", *harmful))
    rendering = [*zero, "data.render={bench: 6}", f"data.root={tmp_path / 'renders'}"]
    with pytest.raises(ValueError, match="zero at step"):
        training.train(FEW, settings("run", *rendering))
    assert not (tmp_path / "run").exists() and not (tmp_path / "renders").exists()


def test_a_metric_that_validation_does_not_report_is_refused_before_the_first_step(settings):
    with pytest.raises(ValueError, match="mae_mm"):
        training.dry_run(FEW, settings("run", "train.metric_for_best_model=eval_mae"))


def test_the_command_draws_the_rate_and_refuses_a_harmful_one(settings, sonde, tmp_path):
    words = settings("run", "train.max_steps=-1", "train.num_train_epochs=3", "train.lr_scheduler_type=glp")
    said = sonde("train", FEW, *words, "--plan-lr")
    assert said.code == 0 and "0.001 ┤" in said.text and "steps" in said.text
    document = sonde("train", FEW, *words, "--plan-lr", "--json").json
    images = len(training.prepare(recipes.load(FEW, words)).parts["train"])
    assert document["steps"] == 3 * images and document["complaints"] == []
    assert document["curve"][0] == [0, pytest.approx(3e-4)]
    assert [rate for _, rate in document["curve"]] == training.plan_lr(FEW, words).rates
    said = sonde("train", FEW, *words, "train.learning_rate=0", "--plan-lr")
    assert said.code == 2 and "zero at step 0" in said.errors and "┤" in said.text
    plateau = ["train.lr_scheduler_type=reduce_lr_on_plateau", "train.metric_for_best_model=eval_delta1"]
    plateau.append("train.lr_scheduler_kwargs={patience: 2}")
    said = sonde("train", FEW, *words, *plateau, "--plan-lr")
    assert said.code == 0 and "no higher eval_delta1" in said.text and "floor" in said.text
    assert not (tmp_path / "run").exists()


def test_rates_that_are_no_numbers_leave_a_gap_in_the_chart():
    lines = schedules.draw([1e-3] * 30 + [math.nan] * 30).splitlines()
    assert lines[0].split("┤")[1].count("⠀") == 30
    assert all(set(line.split("┤")[1]) == {"⠀"} for line in lines[1:10])


def test_the_rate_of_a_recipe_that_counts_steps_needs_no_data():
    planned = training.plan_lr("teacher-dav2", ["train.max_steps=2000", "data.root=nowhere"])
    assert len(planned.rates) == 2000 and planned.complaints == []
