"""Two writers of one folder do not mix: the second is refused, or each leaves the other alone."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from verbs import VERBS, differing, read_tree, run_undisturbed

pytestmark = [pytest.mark.faults, pytest.mark.slow]

HOLD = """
import sys, time
from pathlib import Path
from sonde.files import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
"""A process that holds a folder's lock."""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the output folder of `work`."""
    folder = tmp_path / "work" / "out"
    folder.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def _locked(name: str) -> tuple[str, ...]:
    """The verb's words with an output that it locks."""
    words = VERBS[name].words
    return tuple("out" if word == "out/kept" else word for word in words)


@pytest.mark.parametrize("name", ["train", "predict", "eval"])
def test_the_second_writer_is_refused_and_a_dead_one_is_no_writer(runner, tmp_path, holder, name):
    words, folder = _locked(name), tmp_path / "work"
    refused = runner.command(words, folder)
    assert refused.kind == "refused" and f"process {holder.pid} on" in refused.sentence, refused
    assert not read_tree(folder / "out")
    holder.kill()
    holder.wait()
    assert runner.command(words, folder).kind == "ok"


@pytest.mark.parametrize("name", ["export", "convert"])
def test_two_at_once_leave_each_other_alone(runner, tmp_path, name):
    verb, folder = VERBS[name], tmp_path / "work"
    shutil.copytree(runner.sound("network"), tmp_path / "network")
    _, whole = run_undisturbed(runner, verb, tmp_path / "alone")
    folder.mkdir()
    words = [sys.executable, "-m", "sonde", *(str(_resolve(runner, word)) for word in verb.words)]
    both = [subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate()[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 0], [0, 2]), answers
    assert all("is not empty" in answer for answer, process in zip(answers, both, strict=True) if process.returncode)
    assert not differing(read_tree(folder / verb.out), whole)
    assert [path.name for path in folder.iterdir()] == ["out"]


def _resolve(runner, word: str) -> str | Path:
    return runner.sound(word[1:]) if word.startswith("@") else word


def test_a_run_whose_training_was_killed_is_free_at_once(runner, tmp_path):
    verb, folder = VERBS["train"], tmp_path / "work"
    outcome, _ = run_undisturbed(runner, verb, tmp_path / "alone")
    folder.mkdir()
    runner.command(verb.words, folder, kill_after=outcome.seconds * 0.7)
    began = time.monotonic()
    again = runner.command([*verb.words, "--resume"], folder)
    assert again.kind == "ok" and time.monotonic() - began < 5 * outcome.seconds + 15
