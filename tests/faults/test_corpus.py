"""Every hostile input is refused in one sentence, read, or listed while the rest is done."""

from dataclasses import replace

import pytest
from case import Case
from corpus import CASES, sample
from runner import Outcome, judge, judge_sentence

SAMPLE = sample()
COUNT = 400
"""The corpus has at least so many cases."""


def _marked(case: Case):
    marks = [pytest.mark.faults] if case.name in SAMPLE else [pytest.mark.faults, pytest.mark.slow]
    return pytest.param(case, marks=marks, id=case.name)


@pytest.mark.parametrize("case", [_marked(case) for case in CASES.values()])
def test_a_hostile_input_does_no_harm(runner, case):
    fault = judge(case, runner.run(case))
    assert not fault, fault


@pytest.mark.faults
def test_the_corpus_is_large_and_of_every_kind():
    kinds = {case.kind for case in CASES.values()}
    assert kinds == {"images", "depth", "clouds", "documents", "weights", "containers", "folders", "settings"}
    assert len(CASES) >= COUNT
    assert sample() == SAMPLE and len(SAMPLE) <= 40 and {CASES[name].kind for name in SAMPLE} == kinds


@pytest.mark.faults
@pytest.mark.parametrize(
    ("sentence", "fault"),
    [
        ("a.png cannot be read (it is empty): save it again.", ""),
        ("", "without a word"),
        ("b.png cannot be read.", "does not name"),
        ("a.png\ncannot be read.", "control character"),
        ("a.png \x1b]0;x\x07 cannot be read.", "control character"),
        ("Traceback (most recent call last): a.png", "not its own"),
    ],
)
def test_a_sentence_names_the_file_and_nothing_else(sentence, fault):
    assert fault in judge_sentence(sentence, "a.png") and bool(fault) == bool(judge_sentence(sentence, "a.png"))


@pytest.mark.faults
def test_the_judge_tells_each_fault_from_what_is_right():
    command = Case("a/b/c", lambda: None, ("predict", "a.png"), "listed", "a.png", done=("out/*", 2))
    sound = Outcome("refused", 1, "a.png cannot be read.", "failed 1\n a.png", outputs=2)
    assert not judge(command, sound)
    for changes, said in (
        ({"kind": "hung"}, "hung"),
        ({"kind": "traceback"}, "traceback"),
        ({"code": 2}, "stopped"),
        ({"outputs": 1}, "only 1 of 2"),
        ({"stdout": ""}, "not listed"),
        ({"stdout": "a.png \x1b[2J"}, "reaches the terminal"),
        ({"stderr": "UserWarning: x"}, "library"),
        ({"growth": 2 << 30}, "memory"),
        ({"appeared": ("ran",)}, "wrote ran"),
    ):
        assert said in judge(command, replace(sound, **changes))
