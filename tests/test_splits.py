"""Splits: disjoint, complete, decided by the seed alone, and never without training captures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonde.datasets import split
from sonde.recipes import SplitRecipe

IDS = [f"c{index:02}" for index in range(58)]


def sizes(parts: dict[str, list[str]]) -> tuple[int, ...]:
    return tuple(len(parts[name]) for name in ("train", "validation", "test"))


@given(
    total=st.integers(3, 80),
    test=st.one_of(st.integers(0, 20), st.floats(0, 0.9)),
    validation=st.one_of(st.integers(0, 20), st.floats(0, 0.9)),
    seed=st.integers(0, 5),
)
def test_parts_are_disjoint_complete_and_never_without_training(
    total: int, test: float, validation: float, seed: int
) -> None:
    ids = [f"{index}" for index in range(total)]
    recipe = SplitRecipe(test=test, validation=validation, seed=seed)
    try:
        parts = split(ids, recipe)
    except ValueError as error:
        assert "leave none for training" in str(error)
        return
    assert sorted(parts["train"] + parts["validation"] + parts["test"]) == sorted(ids)
    assert parts["train"]
    assert (len(parts["test"]) > 0) == (test > 0) and (len(parts["validation"]) > 0) == (validation > 0)


def test_the_reference_set_splits_46_to_12() -> None:
    assert sizes(split(IDS, SplitRecipe(test=12, validation=0))) == (46, 0, 12)
    assert sizes(split(IDS, SplitRecipe(test=0.2, validation=0))) == (46, 0, 12)
    assert sizes(split(IDS, SplitRecipe())) == (40, 6, 12)


def test_a_split_is_a_function_of_seed_and_names_alone() -> None:
    first = split(IDS, SplitRecipe(seed=1))
    again = split(IDS[::-1], SplitRecipe(seed=1))
    assert {name: set(part) for name, part in first.items()} == {name: set(part) for name, part in again.items()}
    assert split(IDS, SplitRecipe(seed=2)) != first


def test_the_test_set_does_not_depend_on_validation() -> None:
    assert split(IDS, SplitRecipe(validation=0))["test"] == split(IDS, SplitRecipe(validation=9))["test"]
    assert split(IDS, SplitRecipe(folds=5, fold=2))["test"] == split(IDS, SplitRecipe())["test"]


def test_three_captures_are_one_for_each_and_two_get_advice() -> None:
    assert sizes(split(IDS[:3], SplitRecipe())) == (1, 1, 1)
    assert sizes(split(IDS[:2], SplitRecipe(validation=0))) == (1, 0, 1)
    with pytest.raises(ValueError, match=r"2 captures leave none.*test=0.2.*validation=0"):
        split(IDS[:2], SplitRecipe())


def test_folds_validate_every_capture_once() -> None:
    recipe = SplitRecipe(test=2, folds=4)
    folds = [split(IDS[:11], recipe.model_copy(update={"fold": fold})) for fold in range(4)]
    validated = [capture for parts in folds for capture in parts["validation"]]
    assert sorted(validated + folds[0]["test"]) == IDS[:11]
    assert all(set(parts["train"]).isdisjoint(parts["validation"]) for parts in folds)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (SplitRecipe(test=0, folds=9), "folds=9, but only 5 .* use 5 folds or fewer"),
        (SplitRecipe(test=0, folds=2, fold=2), "fold=2: folds are counted from 0 to 1"),
        (SplitRecipe(test=1.5), "expected a count such as 12, or a share such as 0.2"),
        (SplitRecipe(test=-1), "test=-1: expected a count"),
    ],
)
def test_an_impossible_recipe_says_what_would_work(recipe: SplitRecipe, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split(IDS[:5], recipe)


def test_captures_of_one_group_stay_on_one_side() -> None:
    groups = {capture: f"bin{int(capture[1:]) // 6}" for capture in IDS}
    parts = split(IDS, SplitRecipe(test=0.2, validation=0.1), groups)
    sides = [{groups[capture] for capture in part} for part in parts.values()]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert len(parts["test"]) >= 12 and len(parts["validation"]) >= 6
    with pytest.raises(ValueError, match="58 captures in 2 groups leave none"):
        split(IDS, SplitRecipe(), {capture: (capture[1] < "3" and "a") or "b" for capture in IDS})


def test_one_group_is_named_and_what_divides_it_is_offered() -> None:
    with pytest.raises(
        ValueError, match=r"58 captures in 1 group leave none.*group=folder finds 'day1'\..*data\.split\.group=null"
    ):
        split(IDS, SplitRecipe(group="folder"), dict.fromkeys(IDS, "day1"))
    with pytest.raises(ValueError, match=r"finds '\.'"):
        split(IDS, SplitRecipe(group="folder"), dict.fromkeys(IDS, ""))
    many = SplitRecipe(test=40, validation=40, group="folder")
    with pytest.raises(ValueError, match=r"in 58 groups .* finds 'c00', 'c01', 'c02' …\. Either hold out fewer"):
        split(IDS, many, {name: name for name in IDS})
