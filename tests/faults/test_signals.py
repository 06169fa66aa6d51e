"""Ctrl-C and SIGTERM end every verb with one sentence, no process stays behind, and the same command goes on."""

import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from runner import list_group
from test_kills import _go_on
from verbs import VERBS, differing, mark_by_kills, read_tree, run_undisturbed, settle

pytestmark = pytest.mark.faults

CODES = {signal.SIGINT: (130, "Stopped by Ctrl-C. "), signal.SIGTERM: (143, "Stopped by SIGTERM. ")}
FEWEST, MOST = 2, 6


@pytest.mark.parametrize(
    ("name", "stops"), [mark_by_kills(name, stops, MOST) for stops in (FEWEST, MOST) for name in VERBS]
)
def test_a_verb_that_is_stopped_says_what_is_kept(runner, tmp_path, name, stops):
    verb, folder = VERBS[name], tmp_path / "work"
    shutil.copytree(runner.sound("network"), tmp_path / "network")
    undisturbed, whole = run_undisturbed(runner, verb, folder)
    settle(folder, verb)
    moments = random.Random(f"stopped {name}")
    for number in range(stops):
        by = list(CODES)[number % 2]
        begun = name == "train" and (folder / verb.out / "recipe.yaml").exists()
        words = [*verb.words, "--resume"] if begun else verb.words
        outcome = runner.command(words, folder, kill_after=moments.uniform(0.05, 0.9) * undisturbed.seconds, by=by)
        assert outcome.left == 0, f"{outcome.left} processes stay behind"
        if outcome.kind == "ok":  # it ended before the signal
            settle(folder, verb)
            continue
        code, said = CODES[by]
        assert outcome.code == code, outcome
        assert outcome.stderr.splitlines()[-1].startswith(said), outcome.stderr
        assert "Traceback" not in outcome.stderr and "Exception" not in outcome.stderr, outcome.stderr
        if verb.begins_anew and (folder / verb.out).exists():  # the signal came after its last step
            assert not differing(read_tree(folder / verb.out), whole)
            settle(folder, verb)
    last = _go_on(runner, verb.words, folder)
    assert last.kind == "ok", last
    assert not differing(read_tree(folder / verb.out), whole)


@pytest.mark.slow
def test_no_worker_outlives_a_parent_that_is_killed(tmp_path):
    words = [sys.executable, "-m", "sonde", "data", "synth", "bench", "out", "-n", "400", "--size", "96,128"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True) as parent:
        while len(list(tmp_path.glob("out/depth/*.npy"))) < 4:
            time.sleep(0.05)
        assert list_group(parent.pid) > 2
        parent.kill()
    deadline = time.monotonic() + 10
    while list_group(parent.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list_group(parent.pid) == 0
