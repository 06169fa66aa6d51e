"""A list of rejected captures takes them out of a set, and touches nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_captures import write_bench

from sonde.datasets import DecodedSet, DepthSet, JoinedSet, drop_rejected, open_set, read_rejects, write_rejects


def listed(path: Path, *names: str) -> Path:
    write_rejects(path, [(name, "clipped", f"{name} is clipped.") for name in names])
    return path


def test_listed_captures_are_gone_and_the_others_are_as_they_were(tmp_path: Path) -> None:
    whole = open_set("zivid", write_bench(tmp_path / "set", 5))
    (whole.root / "captures.csv").write_text("capture,tyre\n" + "".join(f"c{i:02},t{i % 2}\n" for i in range(5)))
    kept = drop_rejected(whole, listed(tmp_path / "rejected.jsonl", "c01", "c04"))
    assert isinstance(kept, DepthSet) and kept.ids == ["c00", "c02", "c03"] and len(kept) == 3
    for own, before in enumerate((0, 2, 3)):
        assert kept.read(own).id == whole.ids[before] and kept.key(own) == whole.key(before)
        np.testing.assert_array_equal(kept.read_depth(own), whole.read_depth(before))
        np.testing.assert_array_equal(kept.read(own).image, whole.read(before).image)
    same = ("root", "unit", "unit_m", "space", "limits", "problems")
    assert all(getattr(kept, name) == getattr(whole, name) for name in same)
    assert kept.groups("tyre") == {"c00": "t0", "c02": "t0", "c03": "t1"}
    assert len(list((whole.root / "depth").iterdir())) == 5


def test_what_is_left_can_be_joined_decoded_and_sifted_again(tmp_path: Path) -> None:
    whole = open_set("zivid", write_bench(tmp_path / "set", 4))
    kept = drop_rejected(whole, listed(tmp_path / "first.jsonl", "c00"))
    again = drop_rejected(kept, listed(tmp_path / "second.jsonl", "c02"))
    assert again.ids == ["c01", "c03"] and again.read(1).id == "c03"
    joined = JoinedSet([again, whole])
    assert len(joined) == 6 and joined.read(1).id == "0-set/c03"
    decoded = DecodedSet(again, (12, 16), tmp_path / "cache")
    assert decoded.read(0).id == decoded.read(0).id == "c01"


def test_an_empty_list_rejects_nothing(tmp_path: Path) -> None:
    whole = open_set("zivid", write_bench(tmp_path / "set", 2))
    assert drop_rejected(whole, listed(tmp_path / "rejected.jsonl")).ids == whole.ids


def test_a_list_of_a_larger_set_serves_its_part(tmp_path: Path) -> None:
    whole = open_set("zivid", write_bench(tmp_path / "set", 3))
    assert drop_rejected(whole, listed(tmp_path / "rejected.jsonl", "c01", "c77")).ids == ["c00", "c02"]


def test_a_capture_is_listed_once_with_its_first_fault(tmp_path: Path) -> None:
    path = tmp_path / "lists" / "rejected.jsonl"
    rows = [
        ("", "pairs", "a.png has no depth."),
        ("b", "flat", "b is flat."),
        ("b", "dark", "b is dark."),
        ("a", "x", "y"),
    ]
    assert write_rejects(path, rows) == 2
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"capture": "b", "check": "flat", "reason": "b is flat."},
        {"capture": "a", "check": "x", "reason": "y"},
    ]
    assert read_rejects(path) == {"a", "b"} and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("c00\n", r"rejected.jsonl cannot be read .*: expected lines such as .*capture"),
        ('{"check": "flat"}\n', r"rejected.jsonl cannot be read .*capture.*: expected lines such as"),
        ("[]\n", r"rejected.jsonl cannot be read .*: expected lines such as"),
        ('{"capture": "elsewhere"}\n', r"names 1 capture, first 'elsewhere', and none of them is in .*another set"),
        ('{"capture": "c00"}\n{"capture": "c01"}\n', r"rejects every capture of .*nothing is left"),
    ],
)
def test_a_list_that_cannot_serve_is_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    whole = open_set("zivid", write_bench(tmp_path / "set", 2))
    path = tmp_path / "rejected.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        drop_rejected(whole, path)
    assert "\n" not in str(caught.value)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    whole = open_set("zivid", write_bench(tmp_path / "set", 2))
    with pytest.raises(ValueError, match=r"nowhere.jsonl does not exist"):
        drop_rejected(whole, tmp_path / "nowhere.jsonl")
