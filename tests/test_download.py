"""Sets by name, against a server on this machine that breaks off, lies and changes its mind; nothing else is asked."""

import errno
import gzip
import hashlib
import io
import json
import re
import runpy
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from small_server import Handler, Served, Server, serving

from sonde import datasets
from sonde.download import (
    Entry,
    archives,
    download,
    find,
    find_licence,
    format_manifest,
    list_sets,
    load,
    load_known,
    transfer,
)

ROOT = Path(__file__).parent.parent
BODY = np.random.default_rng(3).bytes(300_000)
"""A file no archive is like: more than two chunks, and not to be compressed."""


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    """On loopback; nobody waits between attempts."""
    monkeypatch.setattr(transfer, "PAUSES", (0.0,) * 4)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as running:
        yield running


def one_set(*files: dict[str, Any], **facts: Any) -> dict[str, Entry]:
    """A registry of one set, `bench`."""
    fields = {
        "name": "bench", "title": "Bench", "role": "evaluation", "purpose": "tests", "homepage": "http://bench.invalid",
        "licence": "MIT", "allows": "Anything.", "size_bytes": None, "size_is": None, "images": 1, "files": list(files),
    }  # fmt: skip
    return {"bench": Entry.model_validate(fields | facts)}


def fetched(server: Server, out: Path, body: bytes = BODY, moods: tuple[str, ...] = (), **facts: Any) -> Path:
    """The one file of a set, as the server's moods leave it."""
    server.files["photos.bin"] = Served(body, moods=list(moods))
    registry = one_set({"url": server.url("photos.bin"), **facts})
    return download("bench", out, accept_licence=True, registry=registry).files[0].path


def md5(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


# ── a transfer that breaks ──


def test_a_whole_file_bears_its_name_and_its_digest_is_kept(server, tmp_path):
    path = fetched(server, tmp_path / "set", md5=md5(BODY), bytes=len(BODY))
    assert path.read_bytes() == BODY
    assert names(tmp_path / "set") == {"photos.bin", "sources.lock.json"}
    record = json.loads((tmp_path / "set" / "sources.lock.json").read_text())["files"]["photos.bin"]
    assert record["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert record["checked"] == "published md5"


@pytest.mark.parametrize("moods,half", [(("cut",), 2), (("cut", "cut"), 4), (("cut", "503", "cut"), 4)])
def test_a_cut_connection_is_continued_from_the_byte_where_it_stopped(server, tmp_path, moods, half):
    assert fetched(server, tmp_path, moods=moods).read_bytes() == BODY
    first, *later = server.ranges
    assert first is None
    assert later[0] == f"bytes={len(BODY) // 2}-"
    assert later[-1] == f"bytes={len(BODY) - len(BODY) // half}-"
    assert {version for _, header, version in server.asked if header} == {'"one"'}


def test_a_body_short_of_its_length_is_completed(server, tmp_path):
    assert fetched(server, tmp_path, moods=("short",)).read_bytes() == BODY
    assert server.ranges == [None, f"bytes={len(BODY) - 1}-"]


def test_a_server_that_is_busy_twice_is_asked_a_third_time(server, tmp_path):
    assert fetched(server, tmp_path, moods=("503", "503")).read_bytes() == BODY
    assert len(server.asked) == 3


def test_a_server_that_stays_busy_is_given_up_and_what_came_is_kept_for_the_next_run(server, tmp_path):
    with pytest.raises(
        ValueError, match=r"503.*check the network and run the same command again; .* kept in .*photos.bin.part"
    ):
        fetched(server, tmp_path, moods=("cut", *["503"] * 5))
    assert (tmp_path / "photos.bin.part").read_bytes() == BODY[: len(BODY) // 2]
    server.asked.clear()
    assert fetched(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [f"bytes={len(BODY) // 2}-"]


def test_attempts_begin_again_whenever_bytes_have_come(server, tmp_path):
    assert fetched(server, tmp_path, moods=("cut",) * 8).read_bytes() == BODY
    assert len(server.asked) == 9


def test_a_file_that_changed_on_the_server_starts_anew(server, tmp_path):
    assert fetched(server, tmp_path, moods=("cut", "changed")).read_bytes() == BODY[::-1]
    assert server.asked[1][1:] == (f"bytes={len(BODY) // 2}-", '"one"')


def test_a_server_deaf_to_ranges_starts_anew(server, tmp_path):
    assert fetched(server, tmp_path, moods=("cut", "deaf")).read_bytes() == BODY


@pytest.mark.parametrize("checksum,second", [({}, None), ({"md5": md5(BODY)}, f"bytes={len(BODY) // 2}-")])
def test_a_part_of_no_known_version_is_continued_only_where_a_checksum_would_tell(server, tmp_path, checksum, second):
    server.files["photos.bin"] = Served(BODY, etag="", moods=["cut"])
    registry = one_set({"url": server.url("photos.bin"), **checksum})
    path = download("bench", tmp_path, accept_licence=True, registry=registry).files[0].path
    assert path.read_bytes() == BODY
    assert server.ranges == [None, second]


def test_a_part_that_was_whole_already_only_gets_its_name(server, tmp_path):
    (tmp_path / "photos.bin.part").write_bytes(BODY)
    (tmp_path / "photos.bin.part.version").write_text('"one"')
    assert fetched(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [f"bytes={len(BODY)}-"]


def test_a_part_longer_than_the_file_is_no_part_of_it(server, tmp_path):
    (tmp_path / "photos.bin.part").write_bytes(BODY + b"more")
    (tmp_path / "photos.bin.part.version").write_text('"one"')
    assert fetched(server, tmp_path).read_bytes() == BODY


# ── what is refused ──


def test_corrupted_bytes_never_bear_the_files_name(server, tmp_path):
    with pytest.raises(ValueError, match=r"photos.bin is not the expected file \(its md5 is .*photos.bin.refused"):
        fetched(server, tmp_path, body=BODY[:-1] + b"!", md5=md5(BODY))
    assert names(tmp_path) == {"photos.bin.refused"}
    assert fetched(server, tmp_path, md5=md5(BODY)).read_bytes() == BODY


def test_a_size_other_than_the_registered_one_is_told_before_the_body(server, tmp_path):
    with pytest.raises(ValueError, match=f"is {len(BODY)} bytes, but 7 are registered"):
        fetched(server, tmp_path, bytes=7)
    assert names(tmp_path) == set()


def test_a_length_nobody_told_is_noticed_by_the_registered_one(server, tmp_path):
    with pytest.raises(ValueError, match=f"{len(BODY)} bytes, expected {len(BODY) + 1}"):
        fetched(server, tmp_path, moods=("silent",), bytes=len(BODY) + 1)


@pytest.mark.parametrize(
    "code,words",
    [("404", "does not exist .* the publisher may have moved it"), ("403", "may need a login"), ("418", "418")],
)
def test_an_answer_that_will_not_change_is_one_sentence_at_once(server, tmp_path, code, words):
    with pytest.raises(ValueError, match=words):
        fetched(server, tmp_path, moods=(code,))
    assert len(server.asked) == 1


def test_a_page_in_place_of_a_file_is_refused(server, tmp_path):
    server.files["photos.zip"] = Served(b"<html>Please log in</html>", kind="text/html")
    with pytest.raises(ValueError, match="returns a web page instead of the file"):
        download("bench", tmp_path, accept_licence=True, registry=one_set({"url": server.url("photos.zip")}))
    assert names(tmp_path) == set()


def test_no_network_is_one_sentence(server, tmp_path):
    registry = one_set({"url": f"http://127.0.0.1:{unused_port()}/photos.bin"})
    with pytest.raises(ValueError, match=r"cannot be downloaded \(.*\): check the network and try again\."):
        download("bench", tmp_path, accept_licence=True, registry=registry)


def unused_port() -> int:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        return server.server_port


def test_a_licence_not_accepted_asks_nothing_of_the_server(server, tmp_path):
    registry = one_set({"url": server.url("photos.bin")})
    with pytest.raises(ValueError, match=r"^Bench has the licence MIT \(Anything\): read it and pass --yes .*$"):
        download("bench", tmp_path / "set", registry=registry)
    assert server.asked == [] and not (tmp_path / "set").exists()


def test_a_dry_run_asks_nothing_and_says_what_would_be_fetched(server, tmp_path):
    registry = one_set({"url": server.url("{n}.bin"), "each": {"n": ["08..10"]}}, size_bytes=5_000, size_is="published")
    plan = download("bench", tmp_path / "set", dry_run=True, registry=registry)
    assert server.asked == [] and not (tmp_path / "set").exists()
    assert [state.path.name for state in plan.files] == ["08.bin", "09.bin", "10.bin"]
    assert plan.to_fetch == 5_000 and plan.free > 0
    assert all("no published checksum" in line for line in plan.summary()["files"])


def test_a_part_of_a_set_is_fetched_by_a_pattern(server, tmp_path):
    server.files |= {f"{n}.bin": Served(BODY) for n in (1, 2)}
    registry = one_set({"url": server.url("{n}.bin"), "each": {"n": ["1..2"]}})
    download("bench", tmp_path, accept_licence=True, only="2*", registry=registry)
    assert [path for path, _, _ in server.asked] == ["/2.bin"]
    with pytest.raises(ValueError, match="No file of Bench matches 'x'"):
        download("bench", tmp_path, dry_run=True, only="x", registry=registry)


def test_a_set_behind_a_form_says_where_to_go(tmp_path):
    brings = [{"like": ["\\.tar$"], "do": "keep", "what": "images"}]
    registry = one_set(access="form", steps=["Sign."], brings=brings, given=["a.tar"])
    with pytest.raises(ValueError, match=r"from http://bench.invalid, then .*`sonde data download bench --from FILES`"):
        download("bench", tmp_path, accept_licence=True, registry=registry)


# ── the disk ──


class Disk(NamedTuple):
    """What `shutil.disk_usage` answers, bytes."""

    total: int
    used: int
    free: int


def test_too_little_disk_is_told_before_the_first_byte(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(10, 5, 1000))
    with pytest.raises(ValueError, match=r"Bench does not fit .*: 300 kB are missing, but its disk has 1 kB free"):
        fetched(server, tmp_path, bytes=len(BODY))
    assert server.asked == []
    with pytest.raises(ValueError, match=r"photos.bin needs 300000 more bytes, but the disk of .* has 1000"):
        fetched(server, tmp_path)
    assert names(tmp_path) == set()


def test_a_disk_that_fills_keeps_the_part_and_the_next_run_goes_on(server, tmp_path, monkeypatch):
    honest, room = transfer._open_part, 150_000

    class Full(io.BufferedWriter):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(transfer, "_open_part", lambda part, start: Full(io.FileIO(part, "ab" if start else "wb")))
    with pytest.raises(ValueError, match=r"The disk of .* is full: free some space and run the same command again"):
        fetched(server, tmp_path)
    came = (tmp_path / "photos.bin.part").stat().st_size
    assert 0 < came <= room
    monkeypatch.setattr(transfer, "_open_part", honest)
    assert fetched(server, tmp_path).read_bytes() == BODY
    assert server.ranges[-1] == f"bytes={came}-"


# ── what is there already ──


def test_a_second_run_asks_nothing(server, tmp_path):
    fetched(server, tmp_path)
    server.asked.clear()
    assert fetched(server, tmp_path).read_bytes() == BODY
    assert server.asked == []


def test_without_a_published_checksum_later_runs_are_held_to_the_first(server, tmp_path):
    path = fetched(server, tmp_path)
    state = download("bench", tmp_path, dry_run=True, registry=one_set({"url": server.url("photos.bin")})).files[0]
    assert state.checked == "no published checksum, the first download's digest"
    path.write_bytes(BODY[:-1] + b"!")
    with pytest.raises(ValueError, match=r"photos.bin is not the expected file .*: move it away"):
        fetched(server, tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=r"photos.bin.refused"):
        fetched(server, tmp_path, body=BODY[::-1])
    assert fetched(server, tmp_path).read_bytes() == BODY


def test_a_file_put_there_by_hand_is_checked_and_not_fetched(server, tmp_path):
    (tmp_path / "photos.bin").write_bytes(BODY)
    fetched(server, tmp_path, md5=md5(BODY))
    assert server.asked == []
    (tmp_path / "sources.lock.json").unlink()
    (tmp_path / "photos.bin").write_bytes(BODY[::-1])
    with pytest.raises(ValueError, match="is not the expected file"):
        fetched(server, tmp_path, md5=md5(BODY))
    assert (tmp_path / "photos.bin").read_bytes() == BODY[::-1], "a user's file stays where it is"


def test_a_published_list_of_checksums_is_asked_for(server, tmp_path):
    server.files["md5.txt"] = Served(f"{md5(BODY)}  photos.bin\n".encode())
    fetched(server, tmp_path, md5_url=server.url("md5.txt"))
    server.files["md5.txt"] = Served(b"moved")
    (tmp_path / "photos.bin").unlink()
    with pytest.raises(ValueError, match=r"md5.txt holds no MD5"):
        fetched(server, tmp_path, md5_url=server.url("md5.txt"))


def test_a_damaged_record_is_one_sentence(server, tmp_path):
    (tmp_path / "sources.lock.json").write_text('{"files": ')
    with pytest.raises(ValueError, match=r"sources.lock.json cannot be read .*: it is not a record of downloads"):
        fetched(server, tmp_path)


# ── archives ──


def tar_of(*members: tuple[str, Any], mode: Any = "w") -> bytes:
    """A tar of files (bytes), or of what a dictionary of TarInfo's attributes describes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
                continue
            for key, value in content.items():
                setattr(info, key, value)
            file.addfile(info)
    return buffer.getvalue()


def zip_of(*members: tuple[str, bytes], link: bool = False) -> bytes:
    """A zip of files; the first is a symbolic link if `link`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for index, (name, content) in enumerate(members):
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o120777 if link and index == 0 else 0o100644) << 16
            file.writestr(info, content)
    return buffer.getvalue()


LINK = {"type": tarfile.SYMTYPE}
HARD = {"type": tarfile.LNKTYPE}
SCENE = (("scene/rgb/0.png", b"red"), ("scene/depth/0.png", b"far"))


def unpacked(server: Server, out: Path, body: bytes, name: str = "scene.tar", **facts: Any) -> Path:
    """The folder an archive was unpacked into."""
    server.files[name] = Served(body)
    registry = one_set({"url": server.url(name), "extract": True, **facts})
    download("bench", out, accept_licence=True, registry=registry)
    return out / registry["bench"].sources()[0].into


@pytest.mark.parametrize("suffix,mode", [("tar", "w"), ("tar.gz", "w:gz"), ("tar.bz2", "w:bz2"), ("tar.xz", "w:xz")])
def test_tars_of_every_kind_are_unpacked(server, tmp_path, suffix, mode):
    folder = unpacked(server, tmp_path, tar_of(*SCENE, mode=mode), f"all.scenes.{suffix}")
    assert folder.name == "all.scenes"
    assert {name: (folder / name).read_bytes() for name in names(folder)} == dict(SCENE)


def test_a_zip_is_unpacked_once(server, tmp_path):
    folder = unpacked(server, tmp_path, zip_of(*SCENE), "scene.zip")
    assert names(folder) == set(dict(SCENE))
    (folder / "scene/rgb/0.png").write_bytes(b"edited")
    unpacked(server, tmp_path, zip_of(*SCENE), "scene.zip")
    assert (folder / "scene/rgb/0.png").read_bytes() == b"edited"
    assert len(server.asked) == 1


def test_an_archive_removed_after_unpacking_is_not_fetched_again(server, tmp_path):
    unpacked(server, tmp_path, tar_of(*SCENE))
    (tmp_path / "scene.tar").unlink()
    folder = unpacked(server, tmp_path, tar_of(*SCENE))
    assert len(server.asked) == 1
    shutil.rmtree(folder)
    assert names(unpacked(server, tmp_path, tar_of(*SCENE))) == set(dict(SCENE))


def test_archives_that_share_a_folder_are_merged_and_never_overwrite(server, tmp_path):
    for name, member in (("rgb.tar", SCENE[0]), ("depth.tar", SCENE[1])):
        folder = unpacked(server, tmp_path, tar_of(member), name, into="scenes")
    assert names(folder) == set(dict(SCENE))
    with pytest.raises(ValueError, match=r"other.tar is kept but not unpacked: it holds scene/rgb/0.png, which"):
        unpacked(
            server, tmp_path, tar_of(("new.png", b"new"), ("scene/rgb/0.png", b"blue")), "other.tar", into="scenes"
        )
    assert {name: (folder / name).read_bytes() for name in names(folder)} == dict(SCENE)


def test_links_inside_an_archive_are_kept(server, tmp_path):
    body = tar_of(
        *SCENE, ("scene/last.png", {**LINK, "linkname": "rgb/0.png"}), ("same", {**HARD, "linkname": SCENE[0][0]})
    )
    folder = unpacked(server, tmp_path, body)
    assert (folder / "scene/last.png").is_symlink()
    assert (folder / "scene/last.png").read_bytes() == (folder / "same").read_bytes() == b"red"


EVIL: dict[str, bytes] = {
    "slip.tar": tar_of(("../outside.txt", b"gone")),
    "deep.tar": tar_of(("a/b/../../../outside.txt", b"gone")),
    "absolute.tar": tar_of(("/tmp/outside.txt", b"gone")),
    "drive.tar": tar_of(("C:\\outside.txt", b"gone")),
    "link.tar": tar_of(("a", {**LINK, "linkname": "../.."}), ("a/outside.txt", b"gone")),
    "link-absolute.tar": tar_of(("a", {**LINK, "linkname": "/tmp"})),
    "link-through.tar": tar_of(("a", {**LINK, "linkname": "b"}), ("a/outside.txt", b"gone")),
    "link-chain.tar": tar_of(("d/e", b"."), ("a", {**LINK, "linkname": "d"}), ("b", {**LINK, "linkname": "a/../.."})),
    "link-turn.tar": tar_of(("d/e", b"."), ("a", {**LINK, "linkname": "d"}), ("b", {**LINK, "linkname": "a/../f"})),
    "link-case.tar": tar_of(("A", {**LINK, "linkname": "b"}), ("a/outside.txt", b"gone")),
    "link-overwritten.tar": tar_of(("a", {**LINK, "linkname": "b"}), ("a", b"gone")),
    "hardlink.tar": tar_of(("a", {**HARD, "linkname": "../outside.txt"})),
    "hardlink-absolute.tar": tar_of(("a", {**HARD, "linkname": "/etc/hostname"})),
    "hardlink-nowhere.tar": tar_of(("a", {**HARD, "linkname": "b"})),
    "device.tar": tar_of(("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})),
    "pipe.tar": tar_of(("pipe", {"type": tarfile.FIFOTYPE})),
    "slip.zip": zip_of(("../outside.txt", b"gone")),
    "absolute.zip": zip_of(("/tmp/outside.txt", b"gone")),
    "backslash.zip": zip_of(("..\\outside.txt", b"gone")),
    "link.zip": zip_of(("a", b"../.."), ("a/outside.txt", b"gone"), link=True),
    "link-through.zip": zip_of(("a", b"b"), ("a/outside.txt", b"gone"), link=True),
}  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
def test_an_archive_that_reaches_out_is_refused_kept_and_leaves_nothing(server, tmp_path, name):
    out = tmp_path / "deep" / "set"
    with pytest.raises(ValueError, match=rf"{name} is kept but not unpacked: "):
        unpacked(server, out, EVIL[name], name)
    assert names(tmp_path) == {f"deep/set/{name}", "deep/set/sources.lock.json"}
    assert not Path("/tmp/outside.txt").exists()


def test_an_archive_larger_than_the_disk_bears_is_refused(server, tmp_path, monkeypatch):
    bomb = {
        "bomb.zip": zip_of(("zeros", bytes(1_000_000))),
        "bomb.tar.gz": tar_of(("zeros", bytes(1_000_000)), mode="w:gz"),
    }
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(0, 0, 1_100_000))
    for name, body in bomb.items():
        assert len(body) < 10_000
        with pytest.raises(ValueError, match=rf"{name} is kept but not unpacked: .* more than 90% of the free disk"):
            unpacked(server, tmp_path, body, name)
    assert names(tmp_path) == {*bomb, "sources.lock.json"}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(0, 0, 1_200_000))
    assert names(unpacked(server, tmp_path, bomb["bomb.zip"], "bomb.zip")) == {"zeros"}


def test_a_disk_that_fills_while_unpacking_is_one_sentence(server, tmp_path, monkeypatch):
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives, "_unzip", full)
    with pytest.raises(ValueError, match=r"scene.zip is kept but not unpacked: the disk is full"):
        unpacked(server, tmp_path, zip_of(*SCENE), "scene.zip")
    monkeypatch.undo()
    archives.extract(tmp_path / "scene.zip", tmp_path / "scene")
    assert names(tmp_path / "scene") == set(dict(SCENE))


@pytest.mark.parametrize("name", ["scene.zip", "scene.tar.gz", "scene.tar.xz", "scene.tar"])
def test_a_broken_archive_is_one_sentence_and_leaves_nothing(server, tmp_path, name):
    whole = {
        "zip": zip_of(*SCENE),
        "gz": tar_of(*SCENE, mode="w:gz"),
        "xz": tar_of(*SCENE, mode="w:xz"),
        "tar": b"no tar" * 99,
    }
    body = whole[name.rpartition(".")[2]]
    with pytest.raises(ValueError, match=r"is kept but cannot be unpacked \(.*\): .* damaged; download it again\."):
        unpacked(server, tmp_path, body[: len(body) // 2], name)
    assert names(tmp_path) == {name, "sources.lock.json"}


@pytest.mark.parametrize("how", ["flipped", "cut"])
@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_a_tar_with_a_damaged_header_is_not_taken_for_a_shorter_one(server, tmp_path, how, suffix):
    body = bytearray(tar_of(*((f"{name}.png", b"pixels") for name in "abc")))
    body = bytes(body[: 2 * 512 + 100]) if how == "cut" else bytes(body[:1024]) + bytes([255]) + bytes(body[1025:])
    with pytest.raises(ValueError, match="damaged"):
        unpacked(server, tmp_path, gzip.compress(body) if suffix == "tar.gz" else body, f"scene.{suffix}")
    assert not (tmp_path / "scene").exists()


def test_what_a_stopped_run_left_of_an_archive_is_begun_anew(server, tmp_path):
    (tmp_path / ".scene.tar.partial" / "scene").mkdir(parents=True)
    (tmp_path / ".scene.tar.partial" / "stale.png").write_bytes(b"old")
    assert names(unpacked(server, tmp_path, tar_of(*SCENE))) == set(dict(SCENE))
    assert not (tmp_path / ".scene.tar.partial").exists()


# ── the registry ──

RECIPE = {
    "synthetic": {"blendedmvs", "hypersim", "irs", "tartanair", "vkitti2"},
    "unlabeled": {
        "bdd100k", "google-landmarks", "imagenet-21k", "lsun", "objects365", "open-images-v7", "places365", "sa-1b",
    },
    "evaluation": {"nyu", "kitti", "sintel", "eth3d", "diode", "da-2k"},
    "driving": {"driving-stereo"},
}  # fmt: skip


def test_every_set_of_the_recipe_is_registered():
    by_role = {role: {name for name, entry in load_known().items() if entry.role == role} for role in RECIPE}
    assert by_role == RECIPE


def test_every_format_is_one_that_a_reader_takes():
    formats = {entry.format for entry in load_known().values()} - {None}
    assert formats <= set(datasets.DATASETS)
    read = {"hypersim", "vkitti2", "tartanair", "irs", "blendedmvs", "nyu_labeled", "kitti", "driving_stereo"}
    assert read <= formats


@pytest.mark.parametrize("entry", load_known().values(), ids=load_known().keys())
def test_an_entry_keeps_to_what_it_may_claim(entry):
    assert (entry.size_bytes is None) == (entry.size_is is None)
    assert entry.size_bytes is not None or entry.unverified, "an unknown size is a doubt"
    assert entry.licence != "none-stated" or "licence" in (entry.doubt or "")
    sizes = [source.bytes for source in entry.sources()]
    if sizes and all(sizes):
        assert sum(size or 0 for size in sizes) == entry.size_bytes
    assert entry.access == "open" or entry.homepage in entry.by_hand


def test_known_counts_of_files():
    counts = {
        name: len(load_known()[name].sources()) for name in ("hypersim", "tartanair", "google-landmarks", "kitti")
    }
    assert counts == {"hypersim": 457, "tartanair": 18 * 2 * 2, "google-landmarks": 501, "kitti": 1 + 28 + 5}
    hypersim = {source.path for source in load_known()["hypersim"].sources()}
    assert {"ai_001_001.zip", "ai_055_010.zip"} <= hypersim and not {"ai_003_003.zip", "ai_020_001.zip"} & hypersim


def test_the_official_split_of_nyu_is_the_one_registered(realdata):
    split = (realdata / "splits" / "nyu_official_splits.mat").read_bytes()
    source = load_known()["nyu"].sources()[1]
    assert (source.bytes, source.md5, source.sha256) == (len(split), md5(split), hashlib.sha256(split).hexdigest())


def test_the_drives_of_kitti_are_those_of_the_test_list(realdata):
    listed = (realdata / "splits" / "kitti_eigen_test_697.txt").read_text().split("\n")
    drives = {line.split("/")[1] for line in listed if line}
    assert {Path(source.path).stem for source in load_known()["kitti"].sources() if "_drive_" in source.path} == drives


def test_the_committed_manifest_is_what_the_registry_gives(capsys):
    assert (ROOT / "docs" / "data_manifest.json").read_text(encoding="utf-8") == format_manifest()
    runpy.run_module("sonde.download", run_name="__main__")
    assert capsys.readouterr().out == format_manifest()


def test_the_page_for_people_names_every_set_its_licence_and_its_reader():
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    rows = {row["set"]: row for row in list_sets()}
    for name, row in rows.items():
        line = next(line for line in page.splitlines() if line.startswith(f"| `{name}` "))
        assert all(row[key] in line for key in ("images", "licence", "size", "format", "access")), line


def test_the_licence_of_a_set_is_found_by_any_spelling_and_none_for_a_stranger():
    assert find_licence("hypersim") == "CC-BY-SA-3.0"
    assert find_licence("driving_stereo") == find_licence("Driving-Stereo") == "MIT"
    assert find_licence("captures") is None


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"No data set 'hyperism' in the registry; did you mean 'hypersim'\?"):
        find("hyperism")


GOOD = """
bench: {title: B, role: evaluation, purpose: p, homepage: h, licence: MIT, allows: all, size_bytes: null, size_is: null,
  images: 1, files: [{url: "https://h/a.zip"}]}
"""


@pytest.mark.parametrize(
    "change,words",
    [
        (("licence: MIT, ", ""), "licence"),
        (("role: evaluation", "role: test"), "role"),
        (("https://h", "ftp://h"), "not an http or https address"),
        (("a.zip", "a.7z\", extract: true, path: \"a.7z"), "cannot be unpacked"),
        (("a.zip", "a.zip\", path: \"../a.zip"), "not a path below"),
        (("a.zip", "a.zip\", md5: \"12"), "md5"),
        (("a.zip", "{n}.zip\", each: {n: [1..2]}, bytes: 3, path: \""), "cannot share a size"),
        (("a.zip", "{m}.zip\", each: {n: [1..2]}, path: \""), "has no 'm'"),
        (("a.zip", "a.zip\", each: {n: [1..2]}, path: \""), "two files have the same path"),
        (("files", "access: form, files"), "a form needs steps"),
        (("bench:", "- bench:"), "not a registry of sets"),
    ],
)  # fmt: skip
def test_a_registry_with_a_mistake_is_one_sentence(tmp_path, change, words):
    path = tmp_path / "registry.yaml"
    path.write_text(GOOD)
    assert list(load(path)) == ["bench"]
    path.write_text(GOOD.replace(*change))
    with pytest.raises(ValueError, match=re.escape(words)) as told:
        load(path)
    assert "\n" not in str(told.value)


# ── the command line ──


@pytest.fixture
def served(server, monkeypatch) -> Callable[[], Server]:
    """The packaged registry replaced by a set of one file."""

    def serve() -> Server:
        server.files["photos.bin"] = Served(BODY)
        registry = one_set({"url": server.url("photos.bin")}, doubt="the licence.")
        monkeypatch.setattr("sonde.download.load_known", lambda: registry)
        monkeypatch.setattr("sonde.download.registry.load_known", lambda: registry)
        return server

    return serve


def test_the_command_shows_the_licence_fetches_and_says_what_is_uncertain(sonde, served, tmp_path):
    served()
    said = sonde("data", "download", "bench", "--out", tmp_path, "--yes")
    assert said.code == 0, said.errors
    assert "Bench: MIT. Anything." in said.errors
    assert "no published checksum" in said.text and "unverified   the licence." in said.text
    assert (tmp_path / "photos.bin").read_bytes() == BODY


def test_the_command_without_yes_and_without_a_terminal_is_one_sentence(sonde, served, tmp_path, monkeypatch):
    server = served()
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    said = sonde("data", "download", "bench", "--out", tmp_path / "set")
    assert (said.code, said.text) == (2, "")
    assert said.errors == "error Bench has the licence MIT (Anything): read it and pass --yes to accept.\n"
    assert server.asked == [] and not (tmp_path / "set").exists()


@pytest.mark.parametrize("answer,code", [("y\n", 0), ("n\n", 2)])
def test_the_command_asks_at_a_terminal(sonde, served, tmp_path, monkeypatch, answer, code):
    server = served()
    keyboard = io.StringIO(answer)
    keyboard.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", keyboard)
    assert sonde("data", "download", "bench", "--out", tmp_path).code == code
    assert len(server.asked) == (code == 0)


def test_the_command_in_json_is_one_document(sonde, served, tmp_path):
    served()
    plan = sonde("data", "download", "bench", "--out", tmp_path, "--dry-run", "--json").json
    assert (plan["name"], plan["unverified"], plan["files"][0]["here"]) == ("bench", True, "missing")
    done = sonde("data", "download", "bench", "--out", tmp_path, "--yes", "--json").json
    assert (done["files"][0]["bytes"], done["files"][0]["here"], done["to_fetch"]) == (len(BODY), "whole", 0)


def test_the_command_lists_every_set(sonde):
    listed = sonde("data", "download", "--list").text
    assert [name for name in load_known() if f"\n{name} " not in listed] == []
    assert sonde("data", "download", "--list", "--json").text == format_manifest()


def test_the_command_without_a_name_points_to_the_list(sonde):
    said = sonde("data", "download")
    assert (said.code, said.errors) == (2, "error No set is named: `sonde data download --list` lists the names.\n")
