"""Killed again and again at random moments, every verb that writes ends in the bytes of a run that was not."""

import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from runner import Outcome, Runner
from sound import FEW, SHORT_RUN

pytestmark = pytest.mark.faults

FEWEST, MOST = 2, 20
"""Kills in the short form and in the long one."""
TIMES = re.compile(rb'"[a-z_]*(?:runtime|per_second|seconds|date|data_wait)": *[^,\n}]+|[0-9.]+ % of their time')
"""What two runs cannot have in common: how long they took, and when."""

Words = tuple[str, ...]
Tree = dict[str, bytes]


@dataclass(frozen=True)
class Verb:
    """A verb that writes below the folder it runs in."""

    words: Words
    """Its command line; @NAME is a sound input."""
    out: str = "out"
    begins_anew: bool = False
    """Whether it refuses a folder that holds something: then a finished one is removed before the next kill."""
    settle: Callable[[Path], None] | None = None
    """What must lie in the folder before the first call."""


def _put_model(folder: Path) -> None:
    shutil.copytree(folder.parent / "network", folder / "out")


VERBS: dict[str, Verb] = {
    "label": Verb(("label", "@network", "@many-photos", "out", "--no-confidence")),
    "label-shards": Verb(("label", "@network", "@many-photos", "out", "--format", "webdataset", "--no-confidence")),
    "predict": Verb(("predict", "@several-photos", "-m", "@network", "-o", "out", "--save", "png16,npy,preview")),
    "eval": Verb(
        ("eval", "@network", "--data", "@large-bench", "--protocol", "zivid-mm", "--keep", "out/kept", "-o", "out")
    ),
    "synth": Verb(("data", "synth", "bench", "out", "-n", "4", "--size", "48,64")),  # in this process
    "synth-workers": Verb(("data", "synth", "bench", "out", "-n", "8", "--size", "48,64")),
    "convert": Verb(
        ("data", "convert", "@many-pairs/rgb", "@many-pairs/depth", "out", "--depth-scale", "0.001"), begins_anew=True
    ),
    "export": Verb(("export", "@network", "-o", "out"), begins_anew=True),
    "train": Verb(("train", FEW, "data.root=@bench", "output_dir=out", *SHORT_RUN)),
    "calibrate": Verb(("calibrate", "out", "--points", "@points.csv"), settle=_put_model),
}


def read_tree(folder: Path) -> Tree:
    """Every file below a folder without the times in it; hidden files are what a kill may leave."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    shown = [path for path in paths if not any(part[0] == "." for part in path.relative_to(folder).parts)]
    return {str(path.relative_to(folder)): TIMES.sub(b"", path.read_bytes()) for path in sorted(shown)}


def differing(found: Tree, whole: Tree) -> list[str]:
    """Names of the files that are not the same."""
    return [name for name in sorted(found | whole) if found.get(name) != whole.get(name)]


def _settle(folder: Path, verb: Verb) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if verb.settle is not None:
        verb.settle(folder)


def _go_on(runner: Runner, words: Words, folder: Path, kill_after: float | None = None) -> Outcome:
    """Call the verb as a user would: again, and with --resume where it asks for that."""
    outcome = runner.command(words, folder, kill_after=kill_after)
    if words[0] == "train" and outcome.kind == "refused" and "--resume" in outcome.sentence:
        return runner.command([*words, "--resume"], folder, kill_after=kill_after)
    return outcome


def _marked(verb: str, kills: int):
    # Workers take seconds to start.
    marks = [pytest.mark.slow] if kills == MOST or verb == "synth-workers" else []
    return pytest.param(verb, kills, marks=marks, id=f"{verb}-{kills}")


@pytest.mark.parametrize(("name", "kills"), [_marked(name, kills) for kills in (FEWEST, MOST) for name in VERBS])
def test_a_verb_that_is_killed_goes_on_to_the_same_bytes(runner, tmp_path, name, kills):
    verb, folder = VERBS[name], tmp_path / "work"
    shutil.copytree(runner.sound("network"), tmp_path / "network")
    words = verb.words
    _settle(folder, verb)
    undisturbed = runner.command(words, folder)
    assert undisturbed.kind == "ok", undisturbed
    whole = read_tree(folder / verb.out)
    assert whole
    _settle(folder, verb)
    moments, killed = random.Random(name), 0
    for _ in range(4 * kills):
        if killed == kills:
            break
        outcome = _go_on(runner, words, folder, moments.uniform(0, undisturbed.seconds))
        killed += outcome.kind == "hung"
        if outcome.kind == "ok" or (verb.begins_anew and (folder / verb.out).exists()):
            _settle(folder, verb)
    assert killed == kills, f"only {killed} of {kills} kills found it at work"
    last = _go_on(runner, words, folder)
    assert last.kind == "ok", last
    others = differing(read_tree(folder / verb.out), whole)
    assert not others, "\n".join(others)


@pytest.mark.parametrize("name", ["predict", "convert"])
def test_no_half_file_stands_under_a_final_name(runner, tmp_path, name):
    verb, folder = VERBS[name], tmp_path / "work"
    _settle(folder, verb)
    undisturbed = runner.command(verb.words, folder)
    whole = read_tree(folder / verb.out)
    moments = random.Random(f"half {name}")
    for _ in range(FEWEST):
        _settle(folder, verb)
        runner.command(verb.words, folder, kill_after=moments.uniform(0.3, 1) * undisturbed.seconds)
        for path, data in read_tree(folder / verb.out).items():
            if not path.endswith((".json", ".jsonl")):
                assert data == whole.get(path, data), path
            elif path.endswith(".json"):
                json.loads(data)
