"""One entry of a folder that nobody can read neither ends nor hangs a job: it is listed, and the rest is done."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import test_benchmark_readers as benchmarks
import test_predict as predicting
import test_synthetic_readers as synthetic
from PIL import Image
from small_captures import picture, plane_depth, write_bench

from sonde import calibration, checks, evaluation, files, labelling, prediction
from sonde.datasets import convert, describe, open_set
from sonde.files.sources import explain_bad_name, explain_unreadable, open_file
from sonde.unlabeled import open_images


def bind(path: Path) -> None:
    """A socket."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def named(name: bytes) -> Callable[[Path], None]:
    """Any file of another name in the folder of a path, with its suffix."""

    def put(path: Path) -> None:
        place = os.fsencode(path.parent) + b"/" + name + os.fsencode(path.suffix)
        Path(os.fsdecode(place)).write_bytes(b"junk")

    return put


ENTRIES: dict[str, tuple[Callable[[Path], None], str]] = {
    "FIFO": (os.mkfifo, "a FIFO"),
    "socket": (bind, "a socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    "loop": (lambda path: path.symlink_to(path.name), "form a loop"),
    "link to nothing": (lambda path: path.symlink_to("nowhere"), "a link to nothing"),
    "not UTF-8": (named(b"bad\xff"), "not UTF-8"),
    "control character": (named(b"\x1b]0;bad\x07"), "control character"),
    "two lines": (named(b"bad\nline"), "control character"),
    "long": (named(b"n" * 246), "more than 240 bytes"),
}
"""What stands at a path -> why it is passed over."""

every_entry = pytest.mark.parametrize("entry", ENTRIES)


def put_photos(folder: Path, count: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        files.write_rgb(folder / f"p{index}.png", picture(index))
    return folder


def put_bad(folder: Path, entry: str, suffix: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put the entry; what a list must say of it."""
    monkeypatch.chdir(folder)  # the path of a socket is short
    ENTRIES[entry][0](Path(f"bad{suffix}"))
    return ENTRIES[entry][1]


@every_entry
def test_an_entry_that_is_no_file_is_passed_over_with_its_reason(tmp_path, monkeypatch, entry):
    put_photos(tmp_path / "in")
    says = put_bad(tmp_path / "in", entry, ".png", monkeypatch)
    found = files.list_files(tmp_path / "in", (".png",))
    assert found.names == ["p0.png", "p1.png", "p2.png"]
    ((name, reason),) = found.passed_over
    assert says in reason and name.endswith(".png")
    assert len(found.wanted) == 4 and not found.closed


def test_linked_folders_are_entered_once_and_hidden_ones_never(tmp_path):
    put_photos(tmp_path / "disk" / "day", 1)
    put_photos(tmp_path / "in" / ".hidden", 1)
    put_photos(tmp_path / "in" / "lost+found", 1)
    (tmp_path / "in" / "a").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "z").symlink_to(".")
    assert files.list_files(tmp_path / "in").names == ["a/day/p0.png"]
    assert not files.list_files(tmp_path / "in", without=tmp_path / "disk").names


def test_a_pattern_fits_the_last_parts_of_a_name_as_glob_has_it(tmp_path):
    for name in ("images/1.png", "x/images/2.png", "x/images/y/3.png", "x/notimages/4.png", "images/5.PNG"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = files.list_files(tmp_path)
    for pattern in ("images/*.png", "*.png", "i*s/[0-9].png", "x/*/*.png"):
        assert found.match(pattern) == sorted(tmp_path.glob(f"**/{pattern}")), pattern


@pytest.mark.slow
def test_folders_deeper_than_functions_are_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        Path("a").mkdir()
        os.chdir("a")
    Path("1.png").touch()
    assert len(files.list_files(tmp_path).names) == 1
    Path("1.png").unlink()
    for _ in range(1200):  # `rmtree` is a function in itself
        os.chdir("..")
        Path("a").rmdir()


def test_a_folder_that_cannot_be_named_is_one_line(tmp_path):
    put_photos(tmp_path / "in" / "\x1b]0;x\x07", 2)
    found = files.list_files(tmp_path / "in")
    assert not found.names and "\\x1b]0;x\\x07" in found.problems[0]


def test_a_file_is_opened_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "a")
    with pytest.raises(ValueError, match="FIFO"):
        open_file(tmp_path / "a")
    assert explain_unreadable(tmp_path / "a\0b") and not explain_unreadable(__file__)
    assert not explain_bad_name("ein Bild (1) é.png")


@pytest.mark.parametrize("suffix", [*((".heic", ".HEIC") if ".heic" in files.FOREIGN else ()), ".avif", ".dng"])
def test_a_picture_of_a_foreign_format_is_listed_with_the_way_out(tmp_path, suffix):
    put_photos(tmp_path / "in")
    (tmp_path / "in" / f"phone{suffix}").write_bytes(b"ftypheic")
    (tmp_path / "in" / "p0.CR2").touch()  # its photograph is read
    outcome = prediction.predict(tmp_path / "in", predicting.model(), tmp_path / "out")
    ((path, reason),) = outcome.failed
    assert path.name == f"phone{suffix}" and "convert it to PNG" in reason
    images = open_images(tmp_path / "in")
    assert images.ids == ["p0", "p1", "p2"] and [Path(where).name for where, _ in images.unread] == [path.name]


@every_entry
def test_predict_lists_it_and_predicts_the_rest(tmp_path, monkeypatch, entry):
    put_photos(tmp_path / "in")
    says = put_bad(tmp_path / "in", entry, ".png", monkeypatch)
    outcome = prediction.predict(tmp_path / "in", predicting.model(), tmp_path / "out", save=("npy",))
    assert len(outcome.written) == 7 and [says in reason for _, reason in outcome.failed] == [True]
    assert len(prediction.read_manifest(tmp_path / "out").get("failed", {})) == 1


@every_entry
def test_label_lists_it_and_labels_the_rest(tmp_path, monkeypatch, entry):
    put_photos(tmp_path / "in")
    put_bad(tmp_path / "in", entry, ".png", monkeypatch)
    outcome = labelling.label(predicting.model(), tmp_path / "in", tmp_path / "out", confidence=False)
    assert (outcome.labels, outcome.failed + outcome.unread) == (3, 1)
    listed = outcome.rejected.read_text() + (outcome.list.read_text() if outcome.list else "")
    assert "bad" in listed or "nnn" in listed


@every_entry
def test_a_set_lists_it_in_every_verb(tmp_path, monkeypatch, entry):
    root = write_bench(tmp_path / "set", 3)
    put_bad(root / "images", entry, ".png", monkeypatch)
    (name,) = {path.name for path in (root / "images").iterdir()} - {f"c0{index}.png" for index in range(3)}
    shutil.copy(root / "depth" / "c00.npy", (root / "depth" / name).with_suffix(".npy"))
    captures = open_set("zivid", root)
    assert len(captures) == 4 and not any(letter in id_ for id_ in captures.ids for letter in "\x1b\n\udcff")
    found = describe(captures)
    assert found["captures"] == 3 and len(found.get("failed", {})) == 1
    assert any(problem.check == "files" for problem in checks.check(captures))
    scored = evaluation.evaluate(predicting.model(), "zivid-mm", captures)
    assert len(scored.rows) == 3 and len(scored.skipped) == 1


@every_entry
def test_convert_lists_it_and_converts_the_rest(tmp_path, monkeypatch, entry):
    for place in ("rgb", "depth"):
        (tmp_path / place).mkdir()
    for index in range(2):
        files.write_rgb(tmp_path / "rgb" / f"{index}.png", picture(index))
        np.save(tmp_path / "depth" / f"{index}.npy", plane_depth(24, 32).astype(np.float32))
    put_bad(tmp_path / "rgb", entry, ".png", monkeypatch)
    done = convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "out")
    assert done.captures == ["0", "1"] and len(done.problems) == 1


@every_entry
def test_calibrate_lists_it_and_takes_the_rest(tmp_path, monkeypatch, entry):
    put_photos(tmp_path / "in")
    (tmp_path / "maps").mkdir()
    for index in range(2):
        np.save(tmp_path / "maps" / f"p{index}.npy", np.ones((24, 32), np.float32))
    put_bad(tmp_path / "maps", entry, ".npy", monkeypatch)
    (name,) = {path.name for path in (tmp_path / "maps").iterdir()} - {"p0.npy", "p1.npy"}
    shutil.copy(tmp_path / "in" / "p0.png", (tmp_path / "in" / name).with_suffix(".png"))
    failed: dict[str, str] = {}
    assert len(calibration.read_maps(tmp_path / "maps", tmp_path / "in", failed=failed)) == 2
    assert len(failed) == 1


@pytest.mark.parametrize("kind", ["FIFO", "socket", "device", "loop", "link to nothing"])
def test_a_source_that_is_no_file_is_refused_at_once(tmp_path, monkeypatch, kind):
    says = put_bad(tmp_path, kind, ".png", monkeypatch)
    for refused in (
        lambda: open_images("bad.png"),
        lambda: prediction.predict("bad.png", predicting.model(), tmp_path / "out"),
    ):
        with pytest.raises(ValueError, match=rf"bad\.png .*{says}"):
            refused()


@pytest.mark.parametrize("out", ["loop", "loop/below", "nothing", "FIFO"])
def test_an_output_that_leads_nowhere_is_refused_before_any_work(tmp_path, out):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nothing").symlink_to("nowhere")
    os.mkfifo(tmp_path / "FIFO")
    photos = put_photos(tmp_path / "in", 1)
    for refused in (
        lambda: prediction.predict(photos, predicting.model(), tmp_path / out),
        lambda: labelling.label(predicting.model(), photos, tmp_path / out),
        lambda: convert(photos, photos, tmp_path / out),
    ):
        with pytest.raises(ValueError, match=f"{out.split('/')[0]} is"):
            refused()


PLANTS = {name: (plant[0], plant[1], plant[3]) for name, plant in synthetic.SETS.items()}
PLANTS |= {name: (name, plant, ids) for name, (plant, ids, _, _) in benchmarks.SETS.items()}


def link_all(root: Path, disk: Path) -> None:
    """Move all below a root to another disk and leave links."""
    disk.mkdir()
    for entry in list(root.iterdir()):
        entry.rename(disk / entry.name)
        entry.symlink_to(disk / entry.name)


@pytest.mark.parametrize("name", PLANTS)
def test_scenes_that_are_links_are_read(tmp_path, name):
    layout, plant, ids = PLANTS[name]
    plant(tmp_path / "set")
    link_all(tmp_path / "set", tmp_path / "disk")
    captures = open_set(layout, tmp_path / "set")
    assert captures.ids == ids
    captures.read(0)


def test_linked_drives_of_driving_stereo_are_read(tmp_path):
    for place in ("left-image-half-size", "depth-map-half-size"):
        (tmp_path / "set" / place / "drive").mkdir(parents=True)
    files.write_rgb(tmp_path / "set" / "left-image-half-size" / "drive" / "1.jpg", picture(0))
    levels = Image.fromarray(np.full((24, 32), 2560, np.uint16))
    levels.save(tmp_path / "set" / "depth-map-half-size" / "drive" / "1.png")
    for place in ("left-image-half-size", "depth-map-half-size"):
        link_all(tmp_path / "set" / place, tmp_path / place)
    assert open_set("driving_stereo", tmp_path / "set").ids == ["drive/1"]


def test_linked_photographs_are_predicted_and_converted(tmp_path):
    put_photos(tmp_path / "in" / "day", 2)
    (tmp_path / "maps" / "day").mkdir(parents=True)
    for index in range(2):
        np.save(tmp_path / "maps" / "day" / f"p{index}.npy", plane_depth(24, 32).astype(np.float32))
    for place in ("in", "maps"):
        link_all(tmp_path / place, tmp_path / f"{place}-disk")
    outcome = prediction.predict(tmp_path / "in", predicting.model(), tmp_path / "out", save=("npy",))
    assert len(outcome.written) == 5
    assert convert(tmp_path / "in", tmp_path / "maps", tmp_path / "set").captures == ["day/p0", "day/p1"]


def test_kept_answers_that_are_removed_midway_are_an_error(tmp_path):
    captures = open_set("zivid", write_bench(tmp_path / "set", 3))
    network = predicting.model()

    def answer(capture):
        if capture.id == "c02":
            shutil.rmtree(tmp_path / "kept")
        return network.predict(capture.image)

    with pytest.raises(FileNotFoundError, match="kept"):
        evaluation.evaluate(answer, "zivid-mm", captures, keep=tmp_path / "kept")
