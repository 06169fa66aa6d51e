"""A newcomer's hour: each verb with its likeliest mistakes, and the sentence that helps; what a command ends with.

The commands of the README, in its order and without a mistake, are in test_readme.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_captures import INTRINSICS, picture, plane_depth

HEIGHT, WIDTH = 120, 160
CAMERA = "154,154,77.5,57.5"
SHORT = ["train.max_steps=2", "train.eval_steps=2", "train.save_steps=2", "model.input_size=[32,64]", "data.cache=null"]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with what a newcomer has: colour and depth of a camera in levels of 0.1 mm, and photographs."""
    root = tmp_path_factory.mktemp("home")
    for folder in ("rgb", "depth", "photos"):
        (root / folder).mkdir()
    for index in range(6):
        levels = (plane_depth(HEIGHT, WIDTH, np.diag([5, 5, 1]) @ INTRINSICS) * 1e4 + 20 * index).astype(np.uint16)
        Image.fromarray(levels).save(root / "depth" / f"{index}.png")
        Image.fromarray(picture(index, HEIGHT, WIDTH)).save(root / "rgb" / f"{index}.png")
    for index in range(3):
        Image.fromarray(picture(10 + index, 48, 64)).save(root / "photos" / f"{index}.jpg")
    (root / "clip.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42")
    return root


@pytest.fixture
def type_(home, monkeypatch, sonde):
    """Types a command in that folder."""
    monkeypatch.chdir(home)
    return lambda line: sonde(*line.split())


MISTAKES = {
    "sonde predit photos": "Did you mean 'predict'?",
    "sonde predict phto.jpg": "does not exist",
    "sonde predict https://example.org/a.jpg": "curl -L -o a.jpg https://example.org/a.jpg",
    "sonde predict clip.mp4": "ffmpeg -i clip.mp4",
    "sonde predict photos/*.png": "photos holds 3 .jpg",
    "sonde predict photos -m runs/nosuch": "runs/nosuch does not exist",
    "sonde predict photos -m lora-few": "lora-few",
    "sonde predict photos -o clip.mp4": "-o clip.mp4 is a file",
    "sonde predict photos --save ply": "relative depth",
    "sonde predict photos --save pngg": "did you mean",
    "sonde predict photos --unit mm": "--unit mm",
    "sonde data convert rgb depht out --depth-scale 1e-4": "did you mean depth?",
    "sonde data convert rgb depth out": "--depth-scale",
    "sonde data convert rgb depth photos --depth-scale 1e-4": "photos is not empty",
    "sonde data check captres": "captres does not exist",
    "sonde data synth benhc out": "did you mean 'bench'?",
    "sonde train lora_few data.root=rgb": "did you mean 'lora-few'?",
    "sonde train lora-few root=rgb": "data.root=rgb",
    "sonde train lora-few data.root=captres": "captres does not exist",
    "sonde train lora-few max_steps=30": "train.max_steps=30",
    "sonde train lora-few data.root": "data.root",
    "sonde train rgb": "rgb",
    "sonde train lora-few --resume output_dir=runs/none data.root=rgb": "Start it without --resume",
    "sonde eval runs/nosuch": "runs/nosuch does not exist",
    "sonde eval sonde-tiny --data photos --align disparty": "did you mean 'disparity'?",
    "sonde eval sonde-tiny --data photos --protocol zivid_mm": "zivid-mm",
    "sonde eval photos": "--data ROOT",
    "sonde calibrate sonde-tiny --points nopoints.csv": "nopoints.csv",
    "sonde calibrate sonde-tiny": "--points FILE",
    "sonde export sonde-tiny --to onxx": "--to onxx",
    "sonde label sonde-tiny fotos out": "fotos",
    "sonde compare runs/a runs/b": "runs/a",
    "sonde doctor runs/nosuch": "runs/nosuch",
    "sonde reproduce nyu": "dav2-small-nyu",
    "sonde features fotos -m sonde-tiny": "did you mean photos?",
}
"""What a newcomer types wrongly, and a part of the sentence that helps."""


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_answered_by_one_sentence_and_nothing_is_written(type_, home, line):
    before = sorted(home.rglob("*"))
    said = type_(line.removeprefix("sonde "))
    assert said.code == 2 and said.text == ""
    assert MISTAKES[line] in " ".join(said.errors.replace("│", " ").split())
    assert "Traceback" not in said.errors and sorted(home.rglob("*")) == before


def test_captures_in_metres_under_mm_are_refused_before_anything_is_trained_or_scored(type_, home):
    assert type_(f"data convert rgb depth sound --depth-scale 1e-4 --intrinsics {CAMERA}").code == 0
    shutil.copytree(home / "sound", home / "metres")
    for path in (home / "metres" / "depth").glob("*.npy"):
        np.save(path, np.load(path) / 1000)
    for line in (
        "train lora-few data.root=metres output_dir=runs/metres",
        "train fixed-camera data.root=metres output_dir=runs/metres --dry-run",
        "eval sonde-tiny --data metres --format zivid --align disparity",
    ):
        said = type_(line)
        assert said.code == 2 and "metres; multiply X, Y and Z by 1000" in said.errors and "--no-check" in said.errors
    assert not (home / "runs").exists()


def test_an_hour_from_captures_to_depth_in_mm_says_what_comes_next(type_, home):
    """Convert, check, train, stop too early, score, predict: each ends with the next command."""
    said = type_(f"data convert rgb depth bench --depth-scale 1e-4 --intrinsics {CAMERA}")
    assert said.text.splitlines()[-1] == "Next: `sonde data check bench`"
    said = type_("data check bench")
    assert said.code == 0 and "sonde train fixed-camera data.root=bench" in said.text.splitlines()[-1]
    said = type_(" ".join(["train lora-few data.root=bench output_dir=runs/bench choose.steps=5", *SHORT]))
    assert said.code == 0, said.errors
    assert "sonde predict photos -m runs/bench" in said.text.splitlines()[-1] and "report.html" in said.text
    said = type_("train lora-few data.root=bench output_dir=runs/bench")
    assert said.code == 2 and "`sonde train runs/bench --resume" in said.errors
    said = type_("eval runs/bench")
    assert said.code == 0 and "95 % interval" in said.text and "sonde eval runs/bench -o results" in said.text
    said = type_("predict photos rgb/0.png -m runs/bench -o out --save npy,png16")
    assert said.code == 0 and len(list((home / "out").rglob("*.npy"))) == 4
    assert type_("doctor runs/bench").code == 0
