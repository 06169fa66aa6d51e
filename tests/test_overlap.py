"""Threads work ahead of the caller, in order and never far."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sonde.overlap import map_ahead


@pytest.fixture
def pool():
    with ThreadPoolExecutor(3) as threads:
        yield threads


def test_answers_come_in_order_and_no_item_is_taken_too_early(pool):
    taken = []

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    for done, answer in enumerate(map_ahead(pool, lambda number: number * 10, items(), 4)):
        assert answer == done * 10
        assert len(taken) <= done + 5


def test_what_a_thread_raises_is_raised_in_its_turn(pool):
    def fail_at_three(number: int) -> int:
        if number == 3:
            raise OSError("the disk is full")
        return number

    seen = []
    with pytest.raises(OSError, match="full"):
        for answer in map_ahead(pool, fail_at_three, range(6), 5):
            seen.append(answer)
    assert seen == [0, 1, 2]


def test_the_next_item_is_worked_on_while_the_caller_has_one(pool):
    second = threading.Event()

    def work(number: int) -> int:
        if number == 1:
            second.set()
        return number

    answers = map_ahead(pool, work, range(3), 1)
    assert next(answers) == 0 and second.wait(10)
    assert list(answers) == [1, 2]
