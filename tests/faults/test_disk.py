"""On a full disk every verb that writes says so in one sentence; with more space it ends in the same bytes."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from runner import judge_sentence
from small_captures import unpack
from test_kills import _go_on
from verbs import VERBS, Tree, differing, read_tree, run_undisturbed, settle

pytestmark = pytest.mark.faults

PAGE = 4096
SHARES = {"predict": 0.5, "train": 0.3, "export": 0.4, "calibrate": 0}
"""How much of what a verb writes the disk holds; a third of it for the others."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("this machine mounts no tmpfs for the tests")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def _resize(place: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={max(size, 4 * PAGE)}", place], check=True)


def _measure(tree: Tree) -> int:
    return sum(-(-len(data) // PAGE) * PAGE for data in tree.values())


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in VERBS])
def test_a_full_disk_is_one_sentence(runner, tmp_path, disk, name):
    verb = VERBS[name]
    shutil.copytree(runner.sound("network"), tmp_path / "network")
    _, whole = run_undisturbed(runner, verb, tmp_path / "work")
    settle(disk, verb)
    before = _measure(read_tree(disk))
    _resize(disk, before + int((_measure(whole) - before) * SHARES.get(name, 0.33)))
    outcome = runner.command(verb.words, disk)
    assert outcome.kind == "refused" and outcome.code == 2, outcome
    fault = judge_sentence(outcome.sentence, "out")
    assert not fault, fault
    assert re.search(r"disk\b.* is full.* free some space", outcome.sentence), outcome.sentence
    # Kept documents of a job change while it works; every other file is whole.
    for path, data in read_tree(disk / verb.out).items():
        if not path.endswith((".json", ".jsonl", ".yaml", ".html", ".md")):
            assert unpack(data) == unpack(whole.get(path, data)), path
    _resize(disk, 1 << 30)
    last = _go_on(runner, verb.words, disk)
    assert last.kind == "ok", last
    assert not differing(read_tree(disk / verb.out), whole)
