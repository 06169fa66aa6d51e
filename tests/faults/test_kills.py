"""Killed again and again at random moments, every verb that writes ends in the bytes of a run that was not."""

import json
import random
import shutil
from pathlib import Path

import pytest
from runner import Outcome, Runner
from small_captures import unpack
from verbs import VERBS, Words, differing, mark_by_kills, read_tree, run_undisturbed, settle

pytestmark = pytest.mark.faults

FEWEST, MOST = 2, 20
"""Kills in the short form and in the long one."""


def _go_on(runner: Runner, words: Words, folder: Path, kill_after: float | None = None) -> Outcome:
    """Call the verb as a user would: again, and with --resume where it asks for that."""
    outcome = runner.command(words, folder, kill_after=kill_after)
    if words[0] == "train" and outcome.kind == "refused" and "--resume" in outcome.sentence:
        return runner.command([*words, "--resume"], folder, kill_after=kill_after)
    return outcome


@pytest.mark.parametrize(
    ("name", "kills"), [mark_by_kills(name, kills, MOST) for kills in (FEWEST, MOST) for name in VERBS]
)
def test_a_verb_that_is_killed_goes_on_to_the_same_bytes(runner, tmp_path, name, kills):
    verb, folder = VERBS[name], tmp_path / "work"
    shutil.copytree(runner.sound("network"), tmp_path / "network")
    undisturbed, whole = run_undisturbed(runner, verb, folder)
    settle(folder, verb)
    moments, killed = random.Random(name), 0
    for _ in range(4 * kills):
        if killed == kills:
            break
        outcome = _go_on(runner, verb.words, folder, moments.uniform(0, undisturbed.seconds))
        killed += outcome.kind == "hung"
        if outcome.kind == "ok" or (verb.begins_anew and (folder / verb.out).exists()):
            settle(folder, verb)
    assert killed == kills, f"only {killed} of {kills} kills found it at work"
    last = _go_on(runner, verb.words, folder)
    assert last.kind == "ok", last
    others = differing(read_tree(folder / verb.out), whole)
    assert not others, "\n".join(others)


@pytest.mark.parametrize("name", ["predict", "convert"])
def test_no_half_file_stands_under_a_final_name(runner, tmp_path, name):
    verb, folder = VERBS[name], tmp_path / "work"
    undisturbed, whole = run_undisturbed(runner, verb, folder)
    moments = random.Random(f"half {name}")
    for _ in range(FEWEST):
        settle(folder, verb)
        runner.command(verb.words, folder, kill_after=moments.uniform(0.3, 1) * undisturbed.seconds)
        for path, data in read_tree(folder / verb.out).items():
            if not path.endswith((".json", ".jsonl")):
                assert unpack(data) == unpack(whole.get(path, data)), path
            elif path.endswith(".json"):
                json.loads(data)
