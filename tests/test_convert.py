"""Conversion: real captures of other layouts become Zivid sets, losslessly, and nothing is overwritten."""

import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_captures import INTRINSICS, cloud, picture, plane_depth

from sonde import files
from sonde.datasets import convert, open_set, read_cameras


def write_pair(root: Path, image: str, depth: str, metres: np.ndarray, per_metre: float = 1000) -> None:
    (root / "rgb").mkdir(parents=True, exist_ok=True)
    (root / "depth").mkdir(exist_ok=True)
    files.write_rgb(root / "rgb" / image, picture(0, *metres.shape))
    Image.fromarray(np.rint(metres * per_metre).astype(np.uint16)).save(root / "depth" / depth)


def test_a_pair_with_its_camera_becomes_a_cloud(tmp_path: Path) -> None:
    metres = plane_depth(24, 32)
    metres[:4, :4] = 0
    write_pair(tmp_path, "rgb_01.png", "sync_depth_01.png", metres, 10_000)
    done = convert(
        tmp_path / "rgb", tmp_path / "depth", tmp_path / "out", depth_scale=1e-4, intrinsics={"*": INTRINSICS}
    )
    assert done == (["01"], [])
    xyz = files.read_xyz(tmp_path / "out" / "depth" / "01.npy")
    assert xyz.dtype == np.float32 and np.isnan(xyz[:4, :4]).all()
    np.testing.assert_allclose(xyz[4:], 1000 * cloud(metres)[4:], atol=0.06, rtol=1e-4)
    capture = open_set("zivid", tmp_path / "out").read(0)
    np.testing.assert_array_equal(capture.image, picture(0))
    np.testing.assert_allclose(capture.intrinsics, INTRINSICS, atol=1e-3)  # type: ignore[arg-type]


def test_the_first_fitting_pattern_names_the_camera_and_none_leaves_z_alone(tmp_path: Path) -> None:
    for name in ("left-0.png", "right-0.png"):
        write_pair(tmp_path, name, name, plane_depth(24, 32))
    convert(
        tmp_path / "rgb", tmp_path / "depth", tmp_path / "out", depth_scale=0.001, intrinsics={"right-*": INTRINSICS}
    )
    assert files.read_xyz(tmp_path / "out" / "depth" / "left-0.npy").shape == (24, 32)
    assert files.read_xyz(tmp_path / "out" / "depth" / "right-0.npy").shape == (24, 32, 3)


def test_cameras_are_named_by_file_or_by_pattern_and_file(tmp_path: Path) -> None:
    files.write_intrinsics(tmp_path / "k.txt", INTRINSICS)
    named = read_cameras([f"right-*={tmp_path / 'k.txt'}", str(tmp_path / "k.txt")])
    assert list(named) == ["right-*", "*"]
    np.testing.assert_array_equal(named["*"], INTRINSICS)


def test_single_files_and_patterns_are_sources_too(tmp_path: Path) -> None:
    write_pair(tmp_path, "SUN_color.jpg", "SUN_depth.png", plane_depth(24, 32))
    (tmp_path / "depth" / "SUN_depth.png").rename(tmp_path / "rgb" / "SUN_depth.png")
    folder = tmp_path / "rgb"
    done = convert(folder / "*_color.jpg", folder / "SUN_depth.png", tmp_path / "out", depth_scale=1e-3)
    assert done.captures == ["SUN"]


def test_turned_bits_are_turned_back(tmp_path: Path) -> None:
    millimetres = (plane_depth(24, 32) * 9000).astype(np.uint16)
    turned = (millimetres << 3) | (millimetres >> 13)
    write_pair(tmp_path, "a.png", "a.png", turned / 1000)
    convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "out", depth_scale=0.001, rotated_bits=3)
    np.testing.assert_allclose(files.read_z(tmp_path / "out" / "depth" / "a.npy"), millimetres, rtol=1e-6)


def test_nothing_is_overwritten_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    write_pair(tmp_path, "a.png", "a.png", plane_depth(24, 32))
    sources = (tmp_path / "rgb", tmp_path / "depth")
    with pytest.raises(ValueError, match=r"None of 1 capture could be converted: .*does not state its unit"):
        convert(*sources, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    convert(*sources, tmp_path / "out", depth_scale=0.001)
    with pytest.raises(ValueError, match="out is not empty: choose a new folder"):
        convert(*sources, tmp_path / "out", depth_scale=0.001)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["depth", "out", "rgb"]


def test_files_left_out_are_listed(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write_pair(tmp_path, name, name, plane_depth(24, 32))
    (tmp_path / "depth" / "b.png").write_bytes(b"")
    (tmp_path / "depth" / "c.png").unlink()
    done = convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "out", depth_scale=0.001)
    assert done.captures == ["a"] and len(done.problems) == 2
    assert "c.png has no depth" in done.problems[0] and "b.png cannot be read" in done.problems[1]
    with pytest.raises(
        ValueError, match=r"No image in .*rgb \(3 images\) has the name of a depth map in .* \(0 maps\)"
    ):
        (tmp_path / "empty").mkdir()
        convert(tmp_path / "rgb", tmp_path / "empty", tmp_path / "other", depth_scale=0.001)


def test_a_wrong_source_names_what_is_near(tmp_path: Path) -> None:
    write_pair(tmp_path, "a.png", "a.png", plane_depth(24, 32))
    for words, message in (
        (("rgb", "depht"), r"depht does not exist: expected .* depth maps; did you mean .*/depth\?"),
        (("rbg", "depth"), r"rbg does not exist: expected .* colour images; did you mean .*/rgb\?"),
        (("rgb/*.jpg", "depth"), r"rgb/\*\.jpg stands for no file: .*rgb holds 1 .png"),
        (("rgb", "depht/*.png"), r"depht/\*\.png stands for no file: there is no folder .*depht"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(tmp_path / words[0], tmp_path / words[1], tmp_path / "out", depth_scale=0.001)
    convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "captures", depth_scale=0.001)
    with pytest.raises(ValueError, match=r"captres does not exist: .* a zivid set; did you mean .*/captures\?"):
        open_set("zivid", tmp_path / "captres")
    (tmp_path / "captures" / "depth").rename(tmp_path / "captures" / "depths")
    with pytest.raises(ValueError, match=r"captures/depth does not exist: .*did you mean .*/depths\?"):
        open_set("zivid", tmp_path / "captures")


def test_a_conversion_without_a_camera_says_what_is_missing(tmp_path: Path, sonde) -> None:
    write_pair(tmp_path, "a.png", "a.png", plane_depth(24, 32))
    sources = (tmp_path / "rgb", tmp_path / "depth")
    said = sonde("data", "convert", *sources, tmp_path / "flat", "--depth-scale", 1e-3, "--json")
    assert said.code == 0 and "X and Y are missing" in said.json["note"] and "--intrinsics" in said.json["note"]
    camera = ",".join(str(INTRINSICS[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
    words = ("--depth-scale", 1e-3, "--intrinsics", camera, "--json")
    said = sonde("data", "convert", *sources, tmp_path / "cloud", *words)
    assert said.code == 0 and "note" not in said.json
    files.write_intrinsics(tmp_path / "calib.txt", INTRINSICS)
    said = sonde("data", "convert", *sources, tmp_path / "no", "--intrinsics", tmp_path / "calb.txt")
    assert said.code == 2 and "calib.txt?" in said.errors


def write_mixed(root: Path, *names: str) -> Path:
    """A folder that holds colour and depth side by side; names with depth in them are maps."""
    root.mkdir()
    for name in names:
        if "depth" in name:
            Image.fromarray((plane_depth(24, 32) * 1000).astype(np.uint16)).save(root / name)
        else:
            files.write_rgb(root / name, picture(0))
    return root


def test_colour_and_depth_in_one_folder_are_told_apart_by_their_names(tmp_path: Path) -> None:
    names = [f"{index}_{role}.png" for index in range(2) for role in ("color", "depth")]
    mixed = write_mixed(tmp_path / "mixed", *names)
    sources = {"both": (mixed, mixed), "maps": (mixed, mixed / "*_depth.png"), "images": (mixed / "*_color.png", mixed)}
    for name, (images, depths) in sources.items():
        done = convert(images, depths, tmp_path / name, depth_scale=1e-3)
        assert done == (["0", "1"], [])
        np.testing.assert_array_equal(files.read_rgb(tmp_path / name / "images" / "1.png"), picture(0))


def test_no_file_is_paired_with_itself(tmp_path: Path) -> None:
    same = write_mixed(tmp_path / "same", "0.png", "1.png")
    way_out = r"their names do not tell colour from depth: .*'.*/same/\*_color.png' and '.*/same/\*_depth.png'"
    with pytest.raises(ValueError, match=rf"same and .*same are the same 2 files, and {way_out}"):
        convert(same, same, tmp_path / "out", depth_scale=1e-3)
    with pytest.raises(ValueError, match=rf"are the same 1 file, and {way_out}"):
        convert(same / "0.png", same / "0.png", tmp_path / "out", depth_scale=1e-3)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pattern", ["", "*"])
def test_two_files_of_one_capture_are_reported(tmp_path: Path, pattern: str) -> None:
    write_pair(tmp_path, "0.png", "0.png", plane_depth(24, 32))
    write_pair(tmp_path, "0.jpg", "0.tif", plane_depth(24, 32))
    done = convert(tmp_path / "rgb" / pattern, tmp_path / "depth" / pattern, tmp_path / "out", depth_scale=1e-3)
    assert done.captures == ["0"]
    assert [line.rpartition("/")[2] for line in done.problems] == [
        "0.png and 0.jpg are the same capture: keep one of them.",
        "0.tif and 0.png are the same capture: keep one of them.",
    ]


def test_what_a_zivid_set_does_not_give_back_is_said(tmp_path: Path) -> None:
    near = np.full((24, 32), 2.0)
    far = np.repeat([0, 5.0, 10.0, 10.0], 6)[:, None] * np.ones((24, 32))
    for name, metres in {"far": far, "near": near, "sky": near + 10}.items():
        write_pair(tmp_path, f"{name}.png", f"{name}.png", metres)
    done = convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "out", depth_scale=1e-3)
    assert done.captures == ["far", "near"] and len(done.problems) == 2
    some, none = done.problems
    assert "depth/far.png: 384 of 576 trusted pixels lie at 10000 mm or beyond and will not be read" in some
    assert "depth/sky.png: 768 of 768 trusted pixels" in none and "so the capture is left out" in none
    assert all("folder layout, with dataset.json" in line for line in done.problems)
    captures = open_set("zivid", tmp_path / "out")
    assert [captures.read(index).mask.sum() for index in range(2)] == [192, 768]


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (["zz*"], r"intrinsics 'zz\*' match no capture: expected a pattern of names such as 'a' or 'b'"),
        (["*", "a*"], r"intrinsics 'a\*' are never used: an earlier pattern matches the same .*; give 'a\*' first"),
    ],
)
def test_intrinsics_that_no_capture_would_use_are_refused(tmp_path: Path, patterns: list[str], said: str) -> None:
    for name in ("a.png", "b.png"):
        write_pair(tmp_path, name, name, plane_depth(24, 32))
    known = dict.fromkeys(patterns, INTRINSICS)
    with pytest.raises(ValueError, match=said):
        convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "out", depth_scale=1e-3, intrinsics=known)
    assert not (tmp_path / "out").exists()


def test_a_camera_of_another_size_is_a_problem_of_its_captures(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_pair(tmp_path, name, name, plane_depth(24, 32))
    known = {"a": INTRINSICS, "b": np.diag([4, 4, 1]) @ INTRINSICS}
    done = convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "out", depth_scale=1e-3, intrinsics=known)
    assert done.captures == ["a"] and len(done.problems) == 1
    assert "depth/b.png: The intrinsics' centre (60.8, 46.8) is outside this image of 32x24" in done.problems[0]


@pytest.mark.parametrize("bits", [40, 16, -3])
def test_bits_turn_by_0_to_15(tmp_path: Path, bits: int) -> None:
    write_pair(tmp_path, "a.png", "a.png", plane_depth(24, 32))
    with pytest.raises(ValueError, match=f"^rotated_bits={bits}: expected 0 to 15, such as 3 for SUN RGB-D"):
        convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "out", rotated_bits=bits)
    (tmp_path / "dataset.json").write_text(f'{{"rotated_bits": {bits}}}')
    with pytest.raises(ValueError, match=r"dataset.json cannot be read .*rotated_bits.* equal to (0|15)"):
        open_set("folder", tmp_path)


def test_a_map_of_unknown_unit_asks_for_what_its_reader_takes(tmp_path: Path) -> None:
    write_pair(tmp_path, "a.png", "a.png", plane_depth(24, 32))
    with pytest.raises(
        ValueError, match=r"does not state its unit: give its metres .*--depth-scale 0.001.*millimetres"
    ) as told:
        convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "out")
    assert "dataset.json" not in str(told.value)
    with pytest.raises(ValueError, match=r'does not state its unit: write \{"depth_scale": 0.001\}.*dataset.json'):
        open_set("folder", tmp_path).read(0)


@pytest.mark.parametrize("out", [".", "../here"])
def test_the_current_folder_may_be_filled_where_it_is_empty(tmp_path: Path, monkeypatch, out: str) -> None:
    write_pair(tmp_path, "a.png", "a.png", plane_depth(24, 32))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    convert(tmp_path / "rgb", tmp_path / "depth", out, depth_scale=0.001)
    assert sorted(path.name for path in Path().iterdir()) == ["depth", "images"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["depth", "here", "rgb"]
    assert open_set("zivid", here).ids == ["a"]


REAL = {
    "arc": (("rgb", "depth", 1e-4, 0), (100, 1310)),
    "tum": (("rgb", "depth", 1 / 5000, 0), (500, 10500)),
    "nyu": (("rgb", "depth", 1e-3, 0), (1300, 6700)),
    "kitti": (("rgb", "depth", 1 / 256, 0), (5000, 85000)),
    "sunrgbd": (("SUN_color.jpg", "SUN_depth.png", 1e-3, 3), (1000, 9900)),
    "redwood_synthetic": (("rgb", "depth", 1e-3, 0), (900, 2710)),
}
FAR = {"tum": 1, "kitti": 1}
"""Captures with depth beyond what a Zivid set is read to, 10 m."""


@pytest.mark.parametrize("name", REAL)
def test_real_captures_of_every_kind_convert(realdata: Path, tmp_path: Path, name: str) -> None:
    (images, depths, scale, bits), (low, high) = REAL[name]
    arc = {"pj_*": "pj_camera-0.intrinsics.txt", "suction_*": "suction_intrinsics.txt"} if name == "arc" else {}
    known = read_cameras(f"{pattern}={realdata / name / file}" for pattern, file in arc.items())
    done = convert(
        *(realdata / name / images, realdata / name / depths, tmp_path / "out"),
        **{"depth_scale": scale, "rotated_bits": bits, "intrinsics": known},
    )
    beyond = [line for line in done.problems if "trusted pixels lie at 10000 mm or beyond" in line]
    assert done.captures and done.problems == beyond and len(beyond) == FAR.get(name, 0)
    captures = open_set("zivid", tmp_path / "out", max_depth=1e5)
    for index, capture in enumerate(map(captures.read, range(len(captures)))):
        assert low < capture.depth[capture.mask].min() * 1000 and capture.depth.max() * 1000 < high
        if name == "arc":
            expected = next(camera for key, camera in known.items() if captures.ids[index].startswith(key[:-1]))
            np.testing.assert_allclose(capture.intrinsics, expected, rtol=1e-4)  # type: ignore[arg-type]


def test_a_set_that_is_removed_while_it_is_written_is_an_error(tmp_path: Path, monkeypatch) -> None:
    for index in range(3):
        write_pair(tmp_path, f"{index}.png", f"{index}.png", plane_depth(24, 32))
    write = files.write_rgb

    def remove(path: Path, image: np.ndarray) -> None:
        if path.stem == "2":
            shutil.rmtree(next(tmp_path.glob(".out.*.partial")) / "depth")
        write(path, image)

    monkeypatch.setattr(import_module("sonde.datasets.convert"), "write_rgb", remove)  # the name is the function
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "out", depth_scale=0.001)
    assert not (tmp_path / "out").exists()
