"""A run of a few steps works with every recipe: it is how a user tries one."""

import logging

import pytest

from sonde import recipes, training

SOME_STEPS = (1, 2, 3, 5, 10, 30)


@pytest.mark.parametrize("name", recipes.list_names())
def test_the_rates_of_a_few_steps_are_accepted_for_every_recipe(name):
    for steps in SOME_STEPS:
        plan = training.plan_lr(name, [f"train.max_steps={steps}"])
        training.refuse_bad_rates(plan)
        assert len(plan.rates) == steps and 2 * plan.warmup <= steps
        assert steps < 10 or max(plan.rates) > 0


@pytest.mark.parametrize(
    "kind", ["cosine", "linear", "one_cycle", "poly", "polynomial", "glp", "cyclic", "inverse_sqrt"]
)
def test_a_smooth_curve_is_no_jump_in_a_short_run(kind):
    plan = training.plan_lr({}, [f"train.lr_scheduler_type={kind}", "train.max_steps=4", "train.learning_rate=1e-3"])
    assert not plan.complaints


def test_a_rate_that_jumps_at_any_length_is_refused_in_a_short_run_too():
    steep = ["train.lr_scheduler_type=cyclic", "train.lr_scheduler_kwargs={base_lr: 1e-9, step_size_up: 1}"]
    for steps in (8, 800):
        with pytest.raises(ValueError, match=rf"tenfold into step 1.*{'more steps' if steps == 8 else '--plan-lr'}"):
            training.refuse_bad_rates(training.plan_lr({}, [*steep, f"train.max_steps={steps}"]))


def test_a_shortened_run_is_told_its_warm_up_once(caplog):
    caplog.set_level(logging.INFO, "sonde")
    assert recipes.load("lora-few", ["train.max_steps=10"]).train["warmup_steps"] == 1
    assert [record.getMessage() for record in caplog.records] == [
        "The warm-up of this recipe, 25 steps, is too long for a run of 10 steps: it is 1 step here "
        "(train.warmup_steps=1)."
    ]


@pytest.mark.parametrize(
    "settings",
    [["train.max_steps=50"], ["train.max_steps=5000"], ["seed=1"], ["train.max_steps=10", "train.warmup_steps=9"]],
)
def test_the_warm_up_of_a_long_run_and_one_that_is_given_stay(settings):
    given = 9 if "train.warmup_steps=9" in settings else 25
    assert recipes.load("lora-few", settings).train["warmup_steps"] == given


def test_a_warm_up_that_is_given_and_never_ends_is_told(caplog):
    recipes.load("lora-few", ["train.max_steps=30", "train.warmup_steps=40"])
    assert (
        "too short for its warm-up of 40 steps" in caplog.text and "train.warmup_steps=3, or more steps" in caplog.text
    )


def test_one_cycle_says_that_the_run_is_too_short_for_its_rise():
    cycle = ["train.lr_scheduler_type=one_cycle", "train.max_steps=5", "train.warmup_steps=9"]
    with pytest.raises(ValueError, match=r"a run of 5 steps is too short for its rise: lower train\.warmup_steps=9"):
        training.plan_lr({}, cycle)
