"""Folders of cached captures: below their bound, the least recently used leaves first, nothing foreign is touched."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_captures import write_bench

from sonde.datasets import DecodedSet, open_set
from sonde.datasets import cache as cache_module
from sonde.datasets.records import GB, RecordFolder, clear_folder, find_folder, find_user_folder, measure_folder

HOUR = 3600


def write_record(folder: Path, number: int, size: int = 1000, age: float = 0.0) -> Path:
    path = folder / f"{number:032x}.npy"
    folder.mkdir(exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def write_foreign(folder: Path, outside: Path) -> list[Path]:
    """What a folder of records may hold by mistake: files of others, and links to them."""
    record = write_record(outside, 1)
    foreign = [folder / "depth.npy", folder / "notes.txt", folder / f"{2:032x}.npz", folder / "sub" / f"{3:032x}.npy"]
    (folder / "sub").mkdir(parents=True)
    for path in foreign:
        path.write_bytes(bytes(1000))
    (folder / f"{4:032x}.npy").symlink_to(record)
    (folder / f"{5:032x}.npy").symlink_to(outside)
    return [*foreign, folder / f"{4:032x}.npy", folder / f"{5:032x}.npy", record]


def test_the_least_recently_used_leaves_first(tmp_path: Path) -> None:
    paths = [write_record(tmp_path / "kept", number, age=(9 - number) * HOUR) for number in range(8)]
    os.utime(paths[0])  # used again
    records = RecordFolder(tmp_path / "kept", 8500)
    assert records.make_room(1000)
    assert [path.exists() for path in paths] == [True, False, *[True] * 6]
    assert records.make_room(900) and measure_folder(tmp_path / "kept").captures == 7


def test_what_this_run_uses_stays_and_the_rest_is_refused(tmp_path: Path) -> None:
    records = RecordFolder(tmp_path / "kept", 2500)
    for number in range(2):
        assert records.make_room(1000)
        write_record(tmp_path / "kept", number)
    assert not records.make_room(1000)
    assert measure_folder(tmp_path / "kept").captures == 2
    assert RecordFolder(tmp_path / "kept").make_room(10**12), "without a bound there is always room"


def test_nothing_foreign_is_counted_or_removed_and_no_link_is_followed(tmp_path: Path) -> None:
    foreign = write_foreign(tmp_path / "kept", tmp_path / "outside")
    old = write_record(tmp_path / "kept", 9, age=HOUR)
    killed = write_record(tmp_path / "kept", 10, age=HOUR).rename(tmp_path / "kept" / f".{10:032x}.npy")
    assert measure_folder(tmp_path / "kept").captures == 2
    assert not RecordFolder(tmp_path / "kept", 500).make_room(1000)
    assert not old.exists() and not killed.exists()
    write_record(tmp_path / "kept", 11)
    assert clear_folder(tmp_path / "kept") == (str(tmp_path / "kept"), 1, 1e-06)
    assert all(path.exists() for path in foreign)
    assert clear_folder(tmp_path / "nowhere").captures == 0


def test_a_bound_keeps_a_part_of_a_set_and_says_so_once(tmp_path: Path) -> None:
    captures = open_set("zivid", write_bench(tmp_path / "set", 4))
    DecodedSet(captures, (14, 28), tmp_path / "one").read(0)
    bound = 2.5 * sum(path.stat().st_size for path in (tmp_path / "one").iterdir()) / GB
    decoded = DecodedSet(captures, (14, 28), tmp_path / "kept", bound_gb=bound)
    with pytest.warns(UserWarning, match=r"kept holds .* GB of decoded captures, the bound of data\.cache_gb") as told:
        for index in (0, 1, 2, 3, 2, 3):
            assert decoded.read(index).id == f"c0{index}"
    assert len(told) == 1
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    assert len(before) == 2
    for index in range(4):
        decoded.read(index)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()} == before


def test_a_record_that_vanishes_is_rebuilt_and_one_that_is_used_becomes_young(tmp_path: Path) -> None:
    decoded = DecodedSet(open_set("zivid", write_bench(tmp_path / "set", 1)), (14, 28), tmp_path / "kept", bound_gb=1)
    decoded.read(0)
    (record,) = (tmp_path / "kept").iterdir()
    record.unlink()
    assert decoded.read(0).id == "c00" and record.is_file()
    os.utime(record, (1, 1))
    decoded.read(0)
    assert record.stat().st_mtime > time.time() - HOUR


def test_a_full_disk_leaves_what_is_cached_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captures = open_set("zivid", write_bench(tmp_path / "set", 2))
    decoded = DecodedSet(captures, (14, 28), tmp_path / "kept")
    decoded.read(0)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.warns(UserWarning, match="cannot be cached in .*No space"):
        decoded.read(1)
    monkeypatch.setattr(type(captures), "read", lambda *_: pytest.fail("decoded again"))
    assert decoded.read(0).id == "c00"


def test_the_folder_is_the_users_own_unless_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_folder(None) is None and find_folder("there") == Path("there")
    monkeypatch.setenv("SONDE_CACHE", str(tmp_path))
    assert find_folder("auto") == tmp_path / "captures"
    monkeypatch.delenv("SONDE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert find_user_folder().is_absolute() and "sonde" in str(find_user_folder())


def test_doctor_says_how_large_the_cache_is_and_clears_it(tmp_path: Path, monkeypatch, sonde) -> None:
    monkeypatch.setenv("SONDE_CACHE", str(tmp_path))
    kept = tmp_path / "captures"
    foreign = write_foreign(kept, tmp_path / "outside")
    write_record(kept, 7, 2_000_000)
    assert sonde("doctor", "--json").json["cache"] == {"folder": str(kept), "captures": 1, "gb": 0.002}
    said = sonde("doctor", "--clear-cache", "--json")
    assert said.code == 0
    assert said.json == {"folder": str(kept), "captures_removed": 1, "gb_freed": 0.002}
    assert all(path.exists() for path in foreign)
    assert "stands alone" in sonde("doctor", "runs", "--clear-cache").errors
