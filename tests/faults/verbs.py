"""Every verb that writes, as the tests stop it: its command line, and what it leaves."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from runner import Outcome, Runner
from small_captures import unpack
from sound import FEW, SHORT_RUN

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
    "export-onnx": Verb(
        ("export", "@network", "--to", "onnx", "-o", "out/m.onnx", "--size", "64,96"), begins_anew=True
    ),
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
    one, other = ({name: unpack(data) for name, data in tree.items()} for tree in (found, whole))
    return [name for name in sorted(one | other) if one.get(name) != other.get(name)]


def settle(folder: Path, verb: Verb) -> None:
    """An empty folder for a verb, with what it needs in it."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():  # emptied, not removed: it may be a disk of its own
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if verb.settle is not None:
        verb.settle(folder)


def run_undisturbed(runner: Runner, verb: Verb, folder: Path) -> tuple[Outcome, Tree]:
    """What the verb answers and leaves where nothing disturbs it."""
    settle(folder, verb)
    outcome = runner.command(verb.words, folder)
    assert outcome.kind == "ok", outcome
    whole = read_tree(folder / verb.out)
    assert whole
    return outcome, whole


LONG = ("train", "label", "label-shards", "synth-workers", "export-onnx")
"""Verbs that take seconds each time."""


def mark_by_kills(verb: str, kills: int, most: int):
    """A case of a test of kills; the long form is slow, and so are the verbs that take long."""
    marks = [pytest.mark.slow] if kills == most or verb in LONG else []
    return pytest.param(verb, kills, marks=marks, id=f"{verb}-{kills}")
