"""The command line: it says what it can do, answers in JSON when asked, and tells a mistake in one sentence."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_captures import picture, write_bench
from small_networks import saved
from typer.testing import CliRunner

from sonde import cli, files

VERBS = ["demo", "doctor", "train", "label", "eval", "predict", "features", "export", "bench", "data"]
DATA_VERBS = ["check", "stats", "convert", "download", "synth"]


@pytest.fixture
def sentence(sonde) -> Callable[..., str]:
    """What `sonde WORDS…` answers to a user's mistake: one line on stderr, nothing on stdout, exit code 2."""

    def run(*words: object) -> str:
        said = sonde(*words)
        assert (said.code, said.text) == (2, ""), said.errors
        lines = said.errors.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("error "), said.errors
        return lines[0]

    return run


@pytest.fixture
def bench(tmp_path) -> Path:
    """A Zivid set of three captures."""
    return write_bench(tmp_path / "bench", 3)


def test_the_help_names_every_verb():
    listed = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "100"}).stdout
    assert [verb for verb in VERBS if f" {verb} " not in listed] == []


@pytest.mark.parametrize("words", [[verb] for verb in VERBS] + [["data", verb] for verb in DATA_VERBS])
def test_every_verb_explains_itself(words):
    answer = CliRunner().invoke(cli.app, [*words, "--help"], env={"COLUMNS": "100"})
    assert answer.exit_code == 0
    assert " ".join(["Usage:", "sonde", *words]) in answer.stdout


def test_the_help_shows_what_is_in_brackets():
    answer = CliRunner().invoke(cli.app, ["eval", "--help"], env={"COLUMNS": "200"}).stdout
    assert "FORMAT:ROOT[@PROTOCOL][#LIST]" in answer and "for --on: metric" in answer


def test_python_dash_m_is_the_same_program():
    done = subprocess.run([sys.executable, "-m", "sonde", "data", "-h"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "convert" in done.stdout


@pytest.mark.parametrize(
    "words,answer",
    [
        ("train lora-zivd", "'lora-zivid'?"),
        ("train lora-few mdel=x", "did you mean model.name=x?"),
        ("train lora-few train.learning_rat=1", "did you mean train.learning_rate=1?"),
        ("train lora-few loss.masked_l2=1 --dry-run", "'masked_l1'?"),
        ("train lora-few data.root=nowhere", "nowhere"),
        ("train lora-few data.format=zvid", "'zivid'?"),
        ("train lora-few model", "key=value"),
        ("data check nowhere", "nowhere"),
        ("data stats nowhere", "nowhere"),
        ("data stats . --format zvid", "'zivid'?"),
        ("data synth shelf out", "bench"),
        ("data synth bench out --size 12", "height,width"),
        ("data synth bench out --size 12,[b]", "[b]"),
        ("data synth bench out --layout zvid", "'zivid'?"),
        ("data convert here there out", "here"),
        ("data convert here there out --intrinsics 1,2", "fx,fy,cx,cy"),
        ("predict photo.jpg -m sonde-tny", "'sonde-tiny'?"),
        ("predict photo.jpg -m nothing.pth", "nothing.pth"),
        ("eval sonde-tiny --protocol zivid-m", "'zivid-mm'?"),
        ("eval nowhere --data nowhere", "nowhere"),
        ("export sonde-tny", "'sonde-tiny'?"),
        ("export sonde-tiny --to hg", "'hf'?"),
        ("bench --only decode", "'decoding'?"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(sentence, words, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert answer in sentence(*words.split())
    assert list(tmp_path.iterdir()) == []


def test_a_size_the_network_cannot_see_is_answered_with_one_it_can(sentence, bench, tmp_path):
    network = saved("glpn", tmp_path / "network")
    words = [f"model.name={network}", f"data.root={bench}", "model.input_size=[100,130]", "data.cache=null"]
    assert "[96, 128]" in sentence("train", "lora-few", *words)


def test_a_dry_run_counts_everything_and_writes_nothing(sonde, bench, tmp_path):
    network = saved("glpn", tmp_path / "network")
    words = [f"model.name={network}", f"data.root={bench}", "data.cache=null", f"output_dir={tmp_path / 'run'}"]
    said = sonde("train", "lora-few", *words, "--dry-run", "--json")
    assert said.code == 0, said.errors
    plan = said.json
    assert 0 < plan["trainable_parameters"] < plan["total_parameters"]
    assert plan["steps"] == 500
    assert plan["split"] == {"train": 3, "validation": 0, "test": 0}
    assert not (tmp_path / "run").exists()


def test_a_sound_set_is_checked_and_described(sonde, bench):
    said = sonde("data", "check", bench, "--json")
    assert (said.code, said.json["captures"], said.json["problems"]) == (0, 3, [])
    figures = sonde("data", "stats", bench, "--json").json
    assert (figures["captures"], figures["unit"], figures["sizes"]) == (3, "mm", ["32x24"])
    assert figures["min"] < figures["max"]
    assert figures["valid"] == pytest.approx(15 / 16)
    assert [row["id"] for row in figures["each"]] == ["c00", "c01", "c02"]
    assert "mm" in sonde("data", "stats", bench).text


def test_a_fault_of_a_set_is_told_and_the_exit_code_says_so(sonde, bench):
    (bench / "depth" / "c01.npy").write_bytes(b"")
    said = sonde("data", "check", bench, "--json")
    assert said.code == 1
    assert ["c01.npy" in problem for problem in said.json["problems"]] == [True]
    assert "c01.npy" in sonde("data", "check", bench).text


def test_foreign_pairs_become_a_zivid_set(sonde, tmp_path):
    for name in ("left-0", "right-0"):
        files.write_rgb(tmp_path / "rgb" / f"{name}.png", picture(len(name)))
        (tmp_path / "depth").mkdir(exist_ok=True)
        levels = np.linspace(3000, 9000, 24 * 32).reshape(24, 32).astype(np.uint16)
        Image.fromarray(levels).save(tmp_path / "depth" / f"{name}.png")
    (tmp_path / "camera.txt").write_text("40 0 16\n0 40 12\n0 0 1\n")
    words = ["--depth-scale", "1e-4", "--intrinsics", f"left-*={tmp_path / 'camera.txt'}", "--json"]
    said = sonde("data", "convert", tmp_path / "rgb", tmp_path / "depth", tmp_path / "out", *words)
    assert said.code == 0, said.errors
    document = said.json
    assert document.pop("note").startswith("1 of 2 captures hold only Z")
    assert document == {"written": str(tmp_path / "out"), "captures": 2, "problems": []}
    assert files.read_xyz(tmp_path / "out" / "depth" / "left-0.npy").shape == (24, 32, 3)
    assert files.read_xyz(tmp_path / "out" / "depth" / "right-0.npy").shape == (24, 32)
    twice = sonde("data", "convert", tmp_path / "rgb", tmp_path / "depth", tmp_path / "new", *words, *words[2:4])
    assert twice.code == 2 and "a pattern is given twice" in twice.errors and not (tmp_path / "new").exists()
    figures = sonde("data", "stats", tmp_path / "out", "--json").json
    assert (figures["min"], figures["max"]) == (pytest.approx(300), pytest.approx(900))


def test_renders_are_a_set_like_any_other(sonde, tmp_path):
    said = sonde("data", "synth", "bench", tmp_path / "set", "-n", 2, "--size", "24,32", "--json")
    assert said.code == 0, said.errors
    assert {"written": str(tmp_path / "set"), "captures": 2}.items() <= said.json.items()
    assert sonde("data", "stats", tmp_path / "set", "--json").json["captures"] == 2


def test_images_are_predicted_and_a_bad_one_is_told(sonde, tmp_path):
    network = saved("glpn", tmp_path / "network")
    files.write_rgb(tmp_path / "in" / "good.png", picture(0))
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    said = sonde("predict", tmp_path / "in", "-m", network, "-o", tmp_path / "out", "--save", "npy", "--json")
    assert said.code == 1
    assert str(tmp_path / "out" / "good.npy") in said.json["written"]
    assert [Path(path).name for path in said.json["failed"]] == ["bad.png"]
    assert np.load(tmp_path / "out" / "good.npy").shape == (24, 32)


def test_names_to_save_may_have_blanks_and_a_failure_names_its_image(sonde, tmp_path):
    files.write_rgb(tmp_path / "in" / "good.png", picture(0))
    files.write_rgb(tmp_path / "in" / "strip.png", np.zeros((1, 300, 3), np.uint8))
    said = sonde("predict", tmp_path / "in", "-o", tmp_path / "out", "--save", "png16, npy")
    assert said.code == 1 and "strip.png: The image is 300x1" in " ".join(said.text.split())
    assert (tmp_path / "out" / "good.npy").is_file() and (tmp_path / "out" / "good.depth.png").is_file()


def test_an_output_that_is_a_file_is_told_before_the_model_is_loaded(sentence, tmp_path):
    files.write_rgb(tmp_path / "photo.png", picture(0))
    assert "photo.png is a file" in sentence(
        "predict", tmp_path / "photo.png", "-m", "nothing", "-o", tmp_path / "photo.png"
    )


def test_a_model_is_scored_in_json(sonde, bench, tmp_path):
    network = saved("glpn", tmp_path / "network")
    said = sonde("eval", network, "--data", bench, "-o", tmp_path / "scores", "--json")
    assert said.code == 0, said.errors
    assert {"mae_mm", "abs_rel", "rmse_mm", "delta1"} <= said.json["metrics"].keys()
    assert said.json["images"] == 3
    assert len((tmp_path / "scores" / "per_image.csv").read_text().splitlines()) == 4


def test_the_doctor_answers_in_json(sonde):
    about = sonde("doctor", "--json").json
    assert about["devices"][-1] == "cpu"
    assert about["torch"]


def test_a_full_disk_is_told_without_a_traceback(sentence, monkeypatch, tmp_path):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr("sonde.scenes.synth", full)
    assert f"{tmp_path}: the disk is full; free some space" in sentence("data", "synth", "bench", tmp_path / "out")
