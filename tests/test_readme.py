"""What the README tells a newcomer to type, typed: every command and every piece of Python, in its order."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_captures import INTRINSICS, picture, plane_depth

from sonde import scenes

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line.partition("  #")[0].strip()
    for language, text in BLOCKS
    for line in text.splitlines()
    if not language and re.match(r"(sonde|make) ", line)
]
SHORT = {
    "sonde train": "train.max_steps=2 train.eval_steps=2 train.save_steps=2 model.input_size=[32,64]",
    "sonde train fixed-camera": "model.input_pixels=null choose.steps=5 train.max_steps=0",
    "sonde train lora-few": "choose.steps=5",
    "sonde train teacher-synthetic": "data.split.test=1 data.split.validation=1",
    "sonde train student": "data.measured.render.room=2 data.split.test=1 data.split.validation=1",
    "sonde bench": "--quick",
}
"""What keeps a command short here; the rest of it is run as it stands."""
ELSEWHERE = ("sonde demo", "sonde train metric-", "sonde doctor runs/")
"""Run by other tests: test_demo, test_metric_recipes, test_recorder."""


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A folder with what the README supposes: RGB + depth of a camera, photographs, renders made earlier."""
    monkeypatch.chdir(tmp_path)
    for folder in ("rgb", "depth", "photos"):
        (tmp_path / folder).mkdir()
    for index in range(6):
        levels = (plane_depth(480, 640, np.diag([20, 20, 1]) @ INTRINSICS) * 1e4 + index).astype(np.uint16)
        Image.fromarray(levels).save(tmp_path / "depth" / f"{index}.png")
        Image.fromarray(picture(index, 480, 640)).save(tmp_path / "rgb" / f"{index}.png")
    Image.fromarray(picture(7, 48, 64)).save(tmp_path / "photos" / "one.png")
    Image.fromarray(picture(8, 48, 64)).save(tmp_path / "photo.jpg")
    (tmp_path / "points.csv").write_text("image,x,y,depth\nphoto.jpg,10,40,1.5\nphoto.jpg,50,8,4.2\n")
    for family in ("room", "bench", "road"):
        scenes.synth(family, f"data/scenes/{family}", 4, height=48, width=64, layout="folder", workers=1)
    return tmp_path


def test_the_readmes_commands_run_in_its_order(home, sonde):
    ran = [line for line in COMMANDS if line.startswith("sonde ") and not line.startswith(ELSEWHERE)]
    assert len(ran) >= 10
    for line in ran:
        extra = " ".join(words for start, words in SHORT.items() if line.startswith(start))
        count = re.sub(r"-n \d+", "-n 2", line)
        said = sonde(*shlex.split(f"{count} {extra}")[1:])
        assert said.code == 0, f"{line}: {said.errors} {said.text}"
    assert any((home / "depth-of-photos").iterdir())


def test_the_readmes_make_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = {line.split()[1] for line in COMMANDS if line.startswith("make ")}
    assert wanted and wanted <= targets


def test_the_readmes_python_runs(home):
    pieces = [text for language, text in BLOCKS if language == "python"]
    assert pieces
    for piece in pieces:
        exec(compile(piece, "README.md", "exec"), {})
