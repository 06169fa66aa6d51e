"""The doctor: every fault of a set is found at once, and the machine is described without a network."""

import json
from pathlib import Path

import numpy as np
from small_captures import bench_cloud, picture, write_bench

from sonde import files
from sonde.datasets import open_set
from sonde.doctor import check, machine


def found(root: Path) -> dict[tuple[str, str], str]:
    return {(capture, name): line for capture, name, line in check(open_set("zivid", root, strict=False))}


def test_a_sound_set_has_no_problems(tmp_path: Path) -> None:
    assert check(open_set("zivid", write_bench(tmp_path / "set", 3))) == []


def test_every_fault_is_found_and_the_rest_still_checked(tmp_path: Path) -> None:
    root = write_bench(tmp_path / "set", 8)
    flat = np.full((24, 32), 700, np.float32)
    sparse = np.full((24, 32), np.nan, np.float32)
    sparse[0, :2] = 500, 600
    np.save(root / "depth" / "c00.npy", flat)
    np.save(root / "depth" / "c01.npy", bench_cloud(1) / 1000)
    np.save(root / "depth" / "c02.npy", sparse)
    (root / "depth" / "c03.npy").write_bytes(b"")
    (root / "images" / "c04.png").unlink()
    files.write_rgb(root / "images" / "c05.png", picture(5) * 0)
    files.write_rgb(root / "images" / "c07.png", picture(6))
    np.save(root / "depth" / "c07.npy", bench_cloud(6))
    problems = found(root)
    assert {key: problems[key].split()[0] for key in problems} == {
        ("", "pairs"): str(root / "depth" / "c04.npy"),
        ("c00", "constant"): "c00",
        ("c01", "unit"): "c01",
        ("c02", "coverage"): "c02",
        ("c03", "files"): str(root / "depth" / "c03.npy"),
        ("c05", "dark"): "c05",
        ("c07", "duplicate"): "c07",
    }
    assert "looks like metres; multiply X, Y and Z by 1000" in problems["c01", "unit"]
    assert "c07 has the content of c06" in problems["c07", "duplicate"]
    assert not any("\n" in line for line in problems.values())


def test_the_machine_is_described_in_json() -> None:
    facts = json.loads(json.dumps(machine()))
    assert facts["devices"][-1] == "cpu" and facts["threads"] >= 1 and facts["disk_free_gb"] > 0
    assert facts["codecs"]["jpeg"] and facts["parts"]["torch"].startswith(facts["torch"].split("+")[0])
