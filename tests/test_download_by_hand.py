"""Files that a person fetched are checked, brought to where a reader finds them, never taken away or taken on trust."""

import errno
import hashlib
import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from small_server import Served, Server, serving

from sonde import datasets, unlabeled
from sonde.download import DownloadResult, Entry, compute_digests, download, load_known, registry, transfer
from sonde.download.gathering import FoundFile, gather

DRIVE, TIME = "2018-07-09-16-11-56", "2018-07-09-16-12-01-123"
TESTED = "2018-07-11-14-48-52_2018-07-11-14-50-08-769"
CALIBRATION = "S_rect_101: 6 4\nP_rect_101: 100 0 2.5 0 0 100 1.5 0 0 0 1 0\n"


def photo(seed: int = 0) -> bytes:
    """A tiny JPEG."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def depth(metres: float = 5.0) -> bytes:
    """A tiny depth map as DrivingStereo has them, 1/256 m a level."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 6), metres * 256, np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def shard(folder: Path, number: int) -> Path:
    """A tar of SA-1B with two photographs."""
    names = [f"./sa_{2 * number + k}" for k in (1, 2)]
    members = {f"{name}.jpg": photo(number) for name in names} | {f"{name}.json": b"{}" for name in names}
    return tar(folder / f"sa_{number:06}.tar", members)


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def record(out: Path) -> dict[str, dict]:
    return json.loads((out / "sources.lock.json").read_text())["files"]


def here(outcome: DownloadResult) -> dict[str, str]:
    return {state.path.relative_to(outcome.out).as_posix(): state.here for state in outcome.files}


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    """On loopback; nobody waits between attempts."""
    monkeypatch.setattr(transfer, "PAUSES", (0.0,) * 2)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as running:
        yield running


# ── SA-1B: tars that stay as they are ──


@pytest.fixture
def tars(tmp_path) -> Path:
    """Three shards in a folder of downloads, with another file beside them."""
    for number in (0, 1, 7):
        shard(tmp_path / "Downloads", number)
    (tmp_path / "Downloads" / "holiday.zip").write_bytes(b"not of the set")
    return tmp_path / "Downloads"


def test_tars_are_a_second_name_of_the_users_own_and_sonde_label_takes_the_folder(tars, tmp_path):
    before, out = bytes_below(tars), tmp_path / "data" / "sa-1b"
    outcome = download("sa-1b", out, brought=[tars])
    assert here(outcome) == {f"sa_00000{number}.tar": "whole" for number in (0, 1, 7)}
    assert (out / "sa_000007.tar").samefile(tars / "sa_000007.tar")
    assert bytes_below(tars) == before
    assert outcome.left_out == ["no files of the set: 1, first holiday.zip"] and not outcome.problems
    assert record(out)["sa_000000.tar"]["sha256"] == hashlib.sha256(before["sa_000000.tar"]).hexdigest()
    images = unlabeled.open_images(out)
    assert outcome.roots == [out] and len(images) == 6 and images.ids[0] == "sa_000000/sa_1"


def test_a_file_is_copied_where_a_second_name_cannot_be(tars, tmp_path, monkeypatch):
    def far(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", far)
    out = tmp_path / "out"
    download("sa-1b", out, brought=tars / "sa_00000?.tar")
    assert not (out / "sa_000001.tar").samefile(tars / "sa_000001.tar")
    assert (out / "sa_000001.tar").read_bytes() == (tars / "sa_000001.tar").read_bytes()
    reads = []
    monkeypatch.setattr("sonde.download.by_hand.compute_digests", lambda *given: reads.append(given))
    assert not download("sa-1b", out, brought=[tars]).problems and not reads, "what was copied is known again"


def test_a_second_call_reads_nothing_again_and_brings_what_is_new(tars, tmp_path, monkeypatch):
    out = tmp_path / "out"
    download("sa-1b", out, brought=[tars], only="sa_000000.tar")
    assert set(record(out)) == {"sa_000000.tar"}
    honest, read = compute_digests, []
    monkeypatch.setattr(
        "sonde.download.by_hand.compute_digests", lambda path, *rest: read.append(path.name) or honest(path, *rest)
    )
    assert len(download("sa-1b", out, brought=[tars]).files) == 3
    assert sorted(read) == ["sa_000001.tar", "sa_000007.tar"]


def test_files_that_lie_in_the_sets_folder_already_are_checked_there(tars, tmp_path):
    before = bytes_below(tars)
    download("sa-1b", tars, brought=[tars])
    assert {name: data for name, data in bytes_below(tars).items() if name != "sources.lock.json"} == before
    assert len(record(tars)) == 3


def test_a_tar_that_has_changed_since_is_told(tars, tmp_path):
    out = tmp_path / "out"
    download("sa-1b", out, brought=[tars])
    (tars / "sa_000001.tar").unlink()  # the set keeps its own name of it
    tar(tars / "sa_000001.tar", {"sa_3.jpg": photo(99)})
    outcome = download("sa-1b", out, brought=[tars])
    (problem,) = outcome.problems
    assert "sa_000001.tar is another file than the earlier sa_000001.tar (its sha256 is" in problem
    assert len(unlabeled.open_images(out)) == 6, "what was there stays"


def test_what_the_set_holds_under_that_name_is_never_replaced(tars, tmp_path):
    tar(tmp_path / "out" / "sa_000000.tar", {"sa_1.jpg": photo(99)})
    before = (tmp_path / "out" / "sa_000000.tar").read_bytes()
    (problem,) = download("sa-1b", tmp_path / "out", brought=[tars]).problems
    assert "exists already and is another file" in problem
    assert (tmp_path / "out" / "sa_000000.tar").read_bytes() == before


@pytest.mark.parametrize("share", [0.15, 0.35])
def test_a_truncated_tar_is_told_and_the_others_are_brought(sonde, tars, tmp_path, share):
    whole = (tars / "sa_000001.tar").read_bytes()
    (tars / "sa_000001.tar").write_bytes(whole[: int(share * len(whole))])
    out = tmp_path / "out"
    said = sonde("data", "download", "sa-1b", "--from", tars, "--out", out, "--json")
    assert said.code == 1
    (problem,) = said.json["problems"]
    assert "sa_000001.tar is truncated or damaged (the last complete member is" in problem and "file again" in problem
    assert sorted(path.name for path in out.glob("*.tar")) == ["sa_000000.tar", "sa_000007.tar"]
    assert said.json["held"][0]["images"] == 4


def test_a_tar_cut_between_two_members_is_cut_too(tmp_path):
    path = shard(tmp_path / "some", 0)
    path.write_bytes(path.read_bytes()[: 2 * 1024])
    with pytest.raises(ValueError, match="is truncated or damaged"):
        download("sa-1b", tmp_path / "out", brought=[path])
    assert not (tmp_path / "out" / path.name).exists() and path.exists()


def test_a_web_page_in_place_of_a_file_is_told(sonde, tmp_path):
    for name in ("sa_000000.tar", f"train-left-image/{DRIVE}.zip"):
        path = tmp_path / "some" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\n<!DOCTYPE html><html>Quota exceeded</html>")
        said = sonde(
            "data", "download", "sa-1b" if "sa_" in name else "driving-stereo", "--from", path, "-o", tmp_path / "out"
        )
        assert (said.code, said.text) == (2, "") and said.errors.count("\n") == 1
        assert f"{path.name} is a web page, not the file itself" in said.errors
    assert bytes_below(tmp_path / "out") == {}


def test_an_empty_file_is_told(tmp_path):
    (tmp_path / "sa_000000.tar").write_bytes(b"")
    with pytest.raises(ValueError, match="is empty: download the complete file again"):
        download("sa-1b", tmp_path / "out", brought=[tmp_path / "sa_000000.tar"])


def test_a_browsers_second_copy_bears_the_name_of_the_first(tars, tmp_path):
    (tars / "sa_000000.tar").rename(tars / "sa_000000 (1).tar")
    download("sa-1b", tmp_path / "out", brought=[tars / "sa_000000 (1).tar"])
    assert (tmp_path / "out" / "sa_000000.tar").is_file()


def test_a_dry_run_says_what_would_be_done_and_does_nothing(sonde, tars, tmp_path):
    said = sonde("data", "download", "sa-1b", "--from", tars, "--dry-run", "-o", tmp_path / "out")
    assert said.code == 0, said.errors
    assert said.text.count("to keep, no published checksum") == 3 and "holiday.zip" in said.text
    assert not (tmp_path / "out").exists()


class Disk(NamedTuple):
    """What `shutil.disk_usage` answers, bytes."""

    total: int
    used: int
    free: int


def test_too_little_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    zipped(tmp_path / "train-left-image" / f"{DRIVE}.zip", {"a.jpg": photo()})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(10, 5, 7))
    with pytest.raises(ValueError, match=r"DrivingStereo does not fit into .*: .* but its disk has 7 B free"):
        download("driving-stereo", tmp_path / "out", brought=[tmp_path / "train-left-image"])
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_is_one_sentence_and_the_same_command_goes_on(tars, tmp_path, monkeypatch):
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(ValueError, match=r"The disk of .*out is full: free some space and run the same command again"):
        download("sa-1b", tmp_path / "out", brought=[tars])
    monkeypatch.undo()
    assert len(download("sa-1b", tmp_path / "out", brought=[tars]).files) == 3


def test_names_of_nothing_are_one_sentence(sonde, tmp_path):
    said = sonde("data", "download", "sa-1b", "--from", tmp_path / "nowhere", "-o", tmp_path / "out")
    assert said.code == 2 and "--from" in said.errors and "no such file or folder" in said.errors
    (tmp_path / "cat.jpg").write_bytes(photo())
    said = sonde("data", "download", "sa-1b", "--from", tmp_path / "cat.jpg", "-o", tmp_path / "out")
    assert said.code == 2
    assert "holds nothing of SA-1B" in said.errors and "expected sa_000000.tar (photographs" in said.errors


# ── SA-1B: the list of links ──


def links(server: Server, path: Path, *numbers: int) -> Path:
    """The publisher's list, and a server that has its files."""
    lines = ["file_name\tcdn_link"]
    for number in numbers:
        name = f"sa_{number:06}.tar"
        server.files[f"m1/{number}.tar?oh=secret"] = Served(shard(path.parent / "served", number).read_bytes())
        lines.append(f"{name}\t{server.url(f'm1/{number}.tar?oh=secret')}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_list_of_links_is_fetched_resumed_and_read_by_label(sonde, server, tmp_path):
    listed = links(server, tmp_path / "sa-1b-links.txt", 0, 1, 2)
    server.files["m1/1.tar?oh=secret"].moods = ["cut"]
    out = tmp_path / "out"
    said = sonde("data", "download", "sa-1b", "--from", listed, "-o", out, "--json")
    assert said.code == 0, said.errors
    (held,) = said.json["held"]
    assert (held["root"], held["images"], held["next"]) == (str(out), 6, f"sonde label MODEL {out} labels")
    assert [asked[1] for asked in server.asked if "/1.tar" in asked[0]][1].startswith("bytes=")
    assert "secret" not in (out / "sources.lock.json").read_text(), "a signature is nobody's business"
    assert not list(out.glob("*.part*"))
    server.asked.clear()
    assert sonde("data", "download", "sa-1b", "--from", listed, "-o", out).code == 0
    assert server.asked == []


def test_only_some_of_a_list_are_fetched(server, tmp_path):
    listed = links(server, tmp_path / "list.txt", 3, 40)
    plan = download("sa-1b", tmp_path / "out", brought=[listed], only="sa_00000?.tar", dry_run=True)
    assert here(plan) == {"sa_000003.tar": "to fetch"} and plan.to_fetch is None and server.asked == []
    download("sa-1b", tmp_path / "out", brought=[listed], only="sa_00000?.tar")
    assert [path.name for path in (tmp_path / "out").glob("*.tar")] == ["sa_000003.tar"]


def test_links_that_have_expired_say_so_and_a_new_list_goes_on(server, tmp_path):
    listed = links(server, tmp_path / "list.txt", 0, 1, 2)
    server.files["m1/1.tar?oh=secret"].moods = ["403"]
    outcome = download("sa-1b", tmp_path / "out", brought=[listed])
    (problem,) = outcome.problems
    assert "refuses sa_000001.tar (HTTP 403): the links of" in problem and "expire after some days" in problem
    assert "download a new list from https://ai.meta.com" in problem
    assert here(outcome) == {"sa_000000.tar": "whole"} and len(server.asked) == 2, "the others would be refused too"
    assert len(download("sa-1b", tmp_path / "out", brought=[listed]).files) == 3


def test_a_fetched_file_that_is_no_tar_is_put_aside(server, tmp_path):
    listed = links(server, tmp_path / "list.txt", 0, 1)
    server.files["m1/0.tar?oh=secret"].body = b"no tar at all" * 99
    outcome = download("sa-1b", tmp_path / "out", brought=[listed])
    assert "is truncated or damaged" in outcome.problems[0] and "sa_000000.tar.refused" in outcome.problems[0]
    assert here(outcome) == {"sa_000001.tar": "whole"}


def test_a_list_in_a_folder_fetches_nothing_unasked(server, tars, tmp_path):
    links(server, tars / "sa-1b-links.txt", 5)
    download("sa-1b", tmp_path / "out", brought=[tars])
    assert server.asked == []


def test_a_text_without_links_is_told(tmp_path):
    (tmp_path / "notes.txt").write_text("sa_000000.tar is on the old disk\n")
    with pytest.raises(
        ValueError, match=r"notes.txt names no file of SA-1B.* with a link: expected lines with a name such as"
    ):
        download("sa-1b", tmp_path / "out", brought=[tmp_path / "notes.txt"])


# ── DrivingStereo: zips that are unpacked into the reader's layout ──


def frames(count: int, role: str) -> dict[str, bytes]:
    """A drive's files, flat as in the published zips."""
    stems = [f"{DRIVE}_{TIME[:-3]}{number:03}" for number in range(count)]
    return (
        {f"{stem}.jpg": photo(k) for k, stem in enumerate(stems)}
        if role == "left"
        else {f"{s}.png": depth() for s in stems}
    )


@pytest.fixture
def drives(tmp_path) -> Path:
    """Left images and depth maps of a drive, and what is not needed, as the drive's folders are called."""
    root = tmp_path / "Downloads"
    for folder, role in (("train-left-image", "left"), ("train-depth-map", "depth")):
        zipped(root / folder / f"{DRIVE}.zip", frames(3, role))
    zipped(root / "train-right-image" / f"{DRIVE}.zip", frames(3, "left"))
    (root / "train-disparity-map").mkdir()
    (root / "train-disparity-map" / f"{DRIVE}.zip").write_bytes(b"<html>broken, and not needed</html>")
    zipped(root / "half-image-calib.zip", {f"half-image-calib/{DRIVE}.txt": CALIBRATION.encode()})
    return root


def test_drives_are_unpacked_into_what_the_reader_takes(sonde, drives, tmp_path):
    before, out = bytes_below(drives), tmp_path / "data" / "driving-stereo"
    said = sonde("data", "download", "driving-stereo", "--from", drives, "-o", out)
    assert said.code == 0, said.errors
    assert f"{out}: 3 captures" in said.text and f"sonde train metric-driving data.root={out}" in said.text
    assert "right images, which are not needed: 1 file" in said.text
    assert bytes_below(drives) == before
    captures = datasets.open_set("driving_stereo", out)
    assert len(captures) == 3 and {name.partition("/")[0] for name in captures.ids} == {DRIVE}
    capture = captures.read(0)
    assert capture.image.shape == (4, 6, 3) and np.all(capture.depth == 5.0)
    np.testing.assert_array_equal(capture.intrinsics, [[100, 0, 2.5], [0, 100, 1.5], [0, 0, 1]])
    assert not [path for path in out.rglob(".*")], "nothing half done is left"


def test_a_second_call_unpacks_nothing_again(drives, tmp_path):
    out = tmp_path / "out"
    download("driving-stereo", out, brought=[drives])
    edited = next((out / "train-left-image").rglob("*.jpg"))
    edited.write_bytes(b"edited")
    outcome = download("driving-stereo", out, brought=[drives])
    assert set(here(outcome).values()) == {"unpacked"} and edited.read_bytes() == b"edited"


def test_a_folder_that_was_removed_is_unpacked_anew_and_a_stop_before_the_record_does_no_harm(drives, tmp_path):
    out = tmp_path / "out"
    download("driving-stereo", out, brought=[drives])
    before = bytes_below(out)
    shutil.rmtree(out / "train-left-image")
    (out / "sources.lock.json").write_text(json.dumps({"files": {}}))
    download("driving-stereo", out, brought=[drives])
    assert {name for name in bytes_below(out)} == set(before)


def test_roles_are_brought_one_after_the_other(sonde, drives, tmp_path):
    out = tmp_path / "out"
    said = sonde("data", "download", "driving-stereo", "--from", drives / "train-left-image", "-o", out)
    assert said.code == 1 and "no captures yet" in said.text and "expected left-image-half-size with" in said.text
    said = sonde("data", "download", "driving-stereo", "--from", drives / "train-depth-map", "-o", out, "--json")
    assert said.code == 0 and said.json["held"][0]["captures"] == 3


def test_a_zip_whose_role_nothing_tells_is_refused(drives, tmp_path):
    shutil.copy(drives / "train-left-image" / f"{DRIVE}.zip", drives / f"{DRIVE}.zip")
    with pytest.raises(
        ValueError, match=r"may hold left or right images.*into a folder train-left-image and depth maps"
    ):
        download("driving-stereo", tmp_path / "out", brought=[drives / f"{DRIVE}.zip"])


def test_what_a_drive_packs_of_a_whole_folder_is_taken_as_it_is(drives, tmp_path):
    inner = {f"train-left-image/{DRIVE}.zip": (drives / "train-left-image" / f"{DRIVE}.zip").read_bytes()}
    bundle = zipped(tmp_path / "google" / "train-left-image-20240101T000000Z-001.zip", inner)
    out = tmp_path / "out"
    outcome = download("driving-stereo", out, brought=[bundle, drives / "train-depth-map"])
    assert len(datasets.open_set("driving_stereo", out)) == 3 and not outcome.problems
    assert {path.name for path in out.iterdir()} == {"train-left-image", "train-depth-map", "sources.lock.json"}
    plan = download("driving-stereo", out, brought=[bundle], dry_run=True)
    assert [state.here for state in plan.files] == ["unpacked"]
    shutil.rmtree(out / "train-left-image")
    assert [state.here for state in download("driving-stereo", out, brought=[bundle], dry_run=True).files] == [
        "to open"
    ]


def test_test_set_and_weathers_are_roots_of_their_own(drives, tmp_path):
    some = tmp_path / "more"
    for folder, name, end, data in (
        ("test-left-image", "left-image", "jpg", photo()),
        ("test-depth-map", "depth-map", "png", depth()),
    ):
        for size in ("half", "full"):
            zipped(some / folder / f"{name}-{size}-size.zip", {f"{name}-{size}-size/{TESTED}.{end}": data})
        zipped(some / "foggy" / f"{name}-half-size.zip", {f"{TESTED}.{end}": data})
        zipped(some / f"{name}-half-size.zip", {f"rainy/{name}-half-size/{TESTED}.{end}": data})
    zipped(
        some / "sunny.zip",
        {f"sunny/left-image-half-size/{TESTED}.jpg": photo(), f"sunny/depth-map-half-size/{TESTED}.png": depth()},
    )
    out = tmp_path / "out"
    outcome = download("driving-stereo", out, brought=[drives, some])
    assert outcome.roots == [out, out / "test", out / "weather"] and not outcome.problems
    counts = [len(datasets.open_set("driving_stereo", root)) for root in outcome.roots[:2]]
    assert counts == [3, 1]
    weathers = [len(datasets.open_set("driving_stereo", out / "weather" / name)) for name in ("foggy", "rainy")]
    assert weathers == [1, 1] and (out / "weather" / "sunny" / "sunny").is_dir()
    assert (out / "test" / "left-image-full-size").is_dir()


def test_a_truncated_zip_is_told_and_nothing_of_it_is_there(drives, tmp_path):
    path = drives / "train-depth-map" / f"{DRIVE}.zip"
    path.write_bytes(path.read_bytes()[:-40])
    out = tmp_path / "out"
    outcome = download("driving-stereo", out, brought=[drives])
    assert any("is truncated, or not a zip: download the complete file" in one for one in outcome.problems)
    assert not (out / "train-depth-map").exists() and (out / "train-left-image").is_dir()


def test_a_zip_that_reaches_out_is_refused(tmp_path):
    evil = zipped(tmp_path / "train-left-image" / f"{DRIVE}.zip", {"../../outside.jpg": photo()})
    with pytest.raises(ValueError, match="would be written outside its folder"):
        download("driving-stereo", tmp_path / "deep" / "out", brought=[evil])
    assert not list(tmp_path.rglob("outside.jpg"))


# ── every set behind a form, and open sets ──

FORMS = {name: entry for name, entry in load_known().items() if entry.access == "form"}


@pytest.mark.parametrize("entry", FORMS.values(), ids=FORMS.keys())
def test_every_example_of_a_form_is_what_it_stands_for(entry, tmp_path):
    for kind in entry.brings:
        assert kind.do in ("skip", "unclear") or kind.example or kind.like == ["(?P<role>left[-_ ]image|depth[-_ ]map)"]
        if kind.example:
            called = f"{entry.name}/{kind.example}"
            path = tmp_path / called
            members = {"a.jpg": photo()}
            (zipped if path.suffix == ".zip" else tar)(path, members)
            (piece,) = gather(entry, [FoundFile(path, called, True)], "*").pieces
            assert piece.kind == kind


@pytest.mark.parametrize("name", FORMS)
def test_the_command_says_each_step_and_how_it_goes_on(sonde, name, tmp_path):
    said = sonde("data", "download", name, "--out", tmp_path / "out")
    assert said.code == 1 and said.errors == "", "nothing has come"
    assert "1. Open https://" in said.text and f"sonde data download {name} --from " in said.text
    told = sonde("data", "download", name, "--json").json
    assert len(told["steps"]) >= 2 and told["files"] and told["then"].startswith("sonde data download")
    assert not (tmp_path / "out").exists()


def test_a_pattern_that_is_none_is_a_mistake_of_the_registry():
    with pytest.raises(ValueError, match="is not a regular expression"):
        registry.BroughtFile.model_validate({"like": ["("], "do": "keep", "what": "x"})


def open_registry(*files: dict) -> dict[str, Entry]:
    """An open set, `bench`, whose addresses nobody answers."""
    fields = {
        "name": "bench", "title": "Bench", "role": "evaluation", "purpose": "tests", "homepage": "http://bench.invalid",
        "licence": "MIT", "allows": "Anything.", "size_bytes": None, "size_is": None, "images": 1, "files": list(files),
    }  # fmt: skip
    return {"bench": Entry.model_validate(fields)}


def test_files_of_an_open_set_are_taken_by_name_checked_and_unpacked(tmp_path):
    archive = zipped(tmp_path / "Downloads" / "scene.zip", {"rgb/0.png": b"red"})
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    entries = open_registry(
        {"url": "http://bench.invalid/scene.zip", "md5": md5, "extract": True}, {"url": "http://bench.invalid/b.bin"}
    )
    out = tmp_path / "out"
    plan = download("bench", out, brought=[tmp_path / "Downloads"], dry_run=True, registry=entries)
    assert [state.here for state in plan.files] == ["to unpack"] and not out.exists()
    outcome = download("bench", out, brought=[tmp_path / "Downloads"], registry=entries)
    assert (out / "scene" / "rgb" / "0.png").read_bytes() == b"red" and archive.exists()
    assert [state.checked for state in outcome.files] == ["published md5"]
    (out / "scene" / "rgb" / "0.png").write_bytes(b"edited")
    download("bench", out, brought=[archive], registry=entries)
    assert (out / "scene" / "rgb" / "0.png").read_bytes() == b"edited"


def test_a_file_of_an_open_set_that_is_another_never_bears_its_name(tmp_path):
    (tmp_path / "b.bin").write_bytes(b"other")
    entries = open_registry({"url": "http://bench.invalid/b.bin", "md5": hashlib.md5(b"right").hexdigest()})
    with pytest.raises(ValueError, match=r"b.bin is not the expected file \(its md5 is .*\): download it again"):
        download("bench", tmp_path / "out", brought=[tmp_path / "b.bin"], registry=entries)
    assert not (tmp_path / "out" / "b.bin").exists() and (tmp_path / "b.bin").exists()


def test_names_that_many_files_have_are_told_apart_by_their_folders(tmp_path):
    source = {"url": "http://bench.invalid/{w}/left.bin", "path": "{w}/left.bin", "each": {"w": ["sea", "land"]}}
    entries = open_registry(source)
    for world in ("sea", "land"):
        (tmp_path / "some" / world).mkdir(parents=True)
        (tmp_path / "some" / world / "left.bin").write_bytes(world.encode())
    download("bench", tmp_path / "out", brought=[tmp_path / "some"], registry=entries)
    assert (tmp_path / "out" / "land" / "left.bin").read_bytes() == b"land"
    (tmp_path / "left.bin").write_bytes(b"which")
    with pytest.raises(ValueError, match=r"could be any of 2 files, such as sea/left.bin: put it into such folders"):
        download("bench", tmp_path / "out", brought=[tmp_path / "left.bin"], registry=entries)


def test_the_command_counts_the_captures_of_an_open_set(sonde, tmp_path):
    for kind, name in (("image", "01_left.png"), ("depth", "01_left_depth.npy")):
        buffer = io.BytesIO()
        if kind == "image":
            Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(buffer, "PNG")
        else:
            np.save(buffer, np.ones((4, 6), np.float32))
        members = {f"ocean/ocean/Easy/P000/{kind}_left/{name}": buffer.getvalue()}
        zipped(tmp_path / "got" / "ocean" / "Easy" / f"{kind}_left.zip", members)
    said = sonde("data", "download", "tartanair", "--from", tmp_path / "got", "-o", tmp_path / "out", "--json")
    assert said.code == 0, said.errors
    assert said.json["held"][0]["captures"] == 1
