"""Sets: every layout answers one contract, and every fault is one line naming the file and the remedy."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_captures import INTRINSICS, bench_cloud, picture, plane_depth, write_bench

from sonde import files
from sonde.datasets import DATASETS, JoinedSet, describe, find_depth_range, measure_capture, open_set
from sonde.recipes import Recipe
from sonde.runs import measured_ids, open_captures
from sonde.training.forecast import count_captures


def levels(path: Path, metres: np.ndarray, per_metre: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(metres * per_metre).astype(np.uint16)).save(path)


# zivid


@pytest.mark.parametrize("rewrite", ["float64", "z", "npz"])
def test_a_zivid_capture_is_z_in_metres_where_it_was_seen(tmp_path: Path, rewrite: str) -> None:
    root = write_bench(tmp_path / "set", 1)
    path, xyz = root / "depth" / "c00.npy", bench_cloud(0)
    if rewrite == "npz":
        path.unlink()
        np.savez(path.with_suffix(".npz"), xyz=xyz)
    else:
        np.save(path, xyz.astype(np.float64) if rewrite == "float64" else xyz[..., 2])
    captures = open_set("zivid", root)
    capture = captures.read(0)
    assert (captures.ids, captures.unit, captures.unit_m, captures.limits) == (["c00"], "mm", 1e-3, (0, 10_000))
    np.testing.assert_array_equal(capture.image, picture(0))
    np.testing.assert_array_equal(capture.mask, np.isfinite(xyz[..., 2]))
    np.testing.assert_allclose(capture.depth[capture.mask], plane_depth(24, 32)[capture.mask], rtol=1e-6)
    assert (capture.depth[~capture.mask] == 0).all() and capture.depth.dtype == np.float32
    np.testing.assert_array_equal(captures.read_depth(0), capture.depth)
    if rewrite == "z":
        assert capture.intrinsics is None
    else:
        np.testing.assert_allclose(capture.intrinsics, INTRINSICS, atol=1e-3)  # type: ignore[arg-type]


def test_the_trusted_range_is_open_and_can_be_set(tmp_path: Path) -> None:
    root = write_bench(tmp_path / "set", 1)
    z = np.array([[0, -5, 500, 501], [np.nan, np.inf, 899, 900]], np.float32).repeat(8, 1).repeat(12, 0)
    np.save(root / "depth" / "c00.npy", z)
    mask = open_set("zivid", root, min_depth=500, max_depth=900).read(0).mask
    np.testing.assert_array_equal(mask, (z == 501) | (z == 899))


def test_colour_may_be_a_whole_multiple_of_depth(tmp_path: Path) -> None:
    root = write_bench(tmp_path / "set", 1)
    files.write_rgb(root / "images" / "c00.png", picture(0, 48, 64))
    capture = open_set("zivid", root).read(0)
    assert capture.image.shape == (48, 64, 3) and capture.depth.shape == (24, 32)


def test_the_intrinsics_of_a_large_cloud_are_those_of_its_own_pixels(tmp_path: Path) -> None:
    root = write_bench(tmp_path / "set", 1)
    large = bench_cloud(0, 240, 320)
    np.save(root / "depth" / "c00.npy", large)
    files.write_rgb(root / "images" / "c00.png", picture(0, 240, 320))
    np.testing.assert_allclose(open_set("zivid", root).read(0).intrinsics, INTRINSICS, atol=1e-2)  # type: ignore[arg-type]


def overwrite(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(content)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickled": (
        lambda root: np.save(root / "depth" / "c00.npy", np.array([{}]), allow_pickle=True),
        r"depth/c00.npy cannot be read \(.*Python objects.*\): save the capture again",
    ),
    "not an array": (overwrite("depth/c00.npy", b"hello"), r"c00.npy cannot be read .*: save the capture again"),
    "empty": (overwrite("depth/c00.npy", b""), r"c00.npy cannot be read .*: save the capture again"),
    "wrong shape": (
        lambda root: np.save(root / "depth" / "c00.npy", np.zeros((7, 3, 2))),
        r"c00.npy .*\(7, 3, 2\).*\(height, width, 3\)",
    ),
    "another size": (
        lambda root: np.save(root / "depth" / "c00.npy", bench_cloud(0, 24, 30)),
        r"c00.npy is 30x24 but c00.png is 32x24: .*export both from one capture",
    ),
    "nothing seen": (
        lambda root: np.save(root / "depth" / "c00.npy", np.full((24, 32, 3), np.nan, np.float32)),
        r"c00.npy has no depth between 0 and 10000 mm \(it has no values\): .*remove the capture",
    ),
    "micrometres": (
        lambda root: np.save(root / "depth" / "c00.npy", bench_cloud(0) * 1000),
        r"c00.npy has no depth .*its values run from .*check its unit",
    ),
    "no image": (overwrite("images/c00.png", b"\x89PNG\r\n\x1a\n"), r"c00.png cannot be read .*: save it again"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_one_line_with_the_remedy(tmp_path: Path, fault: str) -> None:
    root = write_bench(tmp_path / "set", 1)
    spoil, message = FAULTS[fault]
    spoil(root)
    with pytest.raises(ValueError, match=message) as caught:
        open_set("zivid", root).read(0)
    assert "\n" not in str(caught.value)


def test_missing_partners_are_refused_or_listed(tmp_path: Path) -> None:
    root = write_bench(tmp_path / "set", 3)
    (root / "images" / "c00.png").unlink()
    (root / "depth" / "c02.npy").unlink()
    with pytest.raises(ValueError, match=r"2 problems, see `sonde data check.*c02.png has no depth of the same name"):
        open_set("zivid", root)
    captures = open_set("zivid", root, strict=False)
    assert captures.ids == ["c01"] and len(captures) == 1
    assert any("c00.npy has no image of the same name: add it, or remove" in line for line in captures.problems)


def test_two_files_of_one_name_are_a_problem(tmp_path: Path) -> None:
    root = write_bench(tmp_path / "set", 1)
    files.write_rgb(root / "images" / "c00.jpg", picture(0))
    (line,) = open_set("zivid", root, strict=False).problems
    assert "c00.png and c00.jpg are the same capture: keep one" in line


def test_subfolders_and_hidden_files(tmp_path: Path) -> None:
    root = write_bench(tmp_path / "set", 2)
    for folder, suffix in (("images", ".png"), ("depth", ".npy")):
        (root / folder / "day1").mkdir()
        (root / folder / f"c00{suffix}").rename(root / folder / "day1" / f"c00{suffix}")
        (root / folder / f"._c01{suffix}").write_bytes(b"left by a Mac")
    captures = open_set("zivid", root)
    assert captures.ids == ["c01", "day1/c00"]
    assert captures.groups("folder") == {"c01": "", "day1/c00": "day1"}


def test_groups_come_from_a_table(tmp_path: Path) -> None:
    root = write_bench(tmp_path / "set", 2)
    captures = open_set("zivid", root)
    with pytest.raises(ValueError, match=r"group=tyre needs .*captures.csv"):
        captures.groups("tyre")
    (root / "captures.csv").write_text("capture,tyre\nc00,summer\nc01,winter\n")
    assert captures.groups("tyre") == {"c00": "summer", "c01": "winter"}
    with pytest.raises(ValueError, match=r"no column 'tyres': did you mean 'tyre'\?"):
        captures.groups("tyres")
    for rows, said in (
        ("c00,summer\n", "lacks 1 capture, first 'c01'"),
        ("c00,summer\nc01\n", "row 3 has 1 cells for 2 columns"),
        ("c00,summer\nc01,winter\n../c01,winter\n", r"row 4: the capture '\.\./c01' has an empty part"),
    ):
        (root / "captures.csv").write_text("capture,tyre\n" + rows)
        with pytest.raises(ValueError, match=said):
            captures.groups("tyre")
    (root / "captures.csv").write_text("capture,tyre\nc00,summer\nc01,winter\n", encoding="utf-8-sig")  # as from Excel
    assert captures.groups("tyre") == {"c00": "summer", "c01": "winter"}
    (root / "captures.csv").write_text("capture,tyre\nc00,summer\nc01,winter\nc00,winter\n")
    with pytest.raises(ValueError, match="has two entries for 'c00', 'summer' and 'winter': keep one"):
        captures.groups("tyre")


@pytest.mark.parametrize(
    ("format_", "folder", "message"),
    [
        ("zivvid", "", "No dataset format 'zivvid'; did you mean 'zivid'?"),
        ("zivid", "nowhere", r"nowhere does not exist: expected the folder of a zivid set"),
        ("zivid", "", r"images does not exist: expected .* a Zivid set, .*sonde data convert"),
        ("folder", "", "expected a folder named rgb or images"),
        ("driving_stereo", "", "not a DrivingStereo set: expected left-image-half-size with depth-map-half-size"),
        ("nyu", "", "holds no captures in the nyu layout"),
    ],
)
def test_a_wrong_format_or_root_says_what_is_expected(tmp_path: Path, format_: str, folder: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_set(format_, tmp_path / folder)


# the other layouts


def test_nyu_is_read_from_scenes_whose_levels_are_millimetres(tmp_path: Path) -> None:
    (tmp_path / "bath").mkdir()
    files.write_rgb(tmp_path / "bath" / "rgb_00007.jpg", picture(0))
    levels(tmp_path / "bath" / "sync_depth_00007.png", plane_depth(24, 32), 1000)
    captures = open_set("nyu", tmp_path)
    assert captures.ids == ["bath/rgb_00007"] and captures.unit == "m"
    np.testing.assert_allclose(captures.read_depth(0), plane_depth(24, 32), atol=6e-4)
    assert captures.read(0).intrinsics is None
    files.write_intrinsics(tmp_path / "intrinsics.txt", INTRINSICS)
    np.testing.assert_array_equal(open_set("nyu", tmp_path).read(0).intrinsics, INTRINSICS)  # type: ignore[arg-type]


def test_driving_stereo_is_256_levels_a_metre_up_to_80_m(tmp_path: Path) -> None:
    metres = np.tile(np.array([[0.0, 5.5, 79.9, 80.0, 255.9]]), (4, 1))
    levels(tmp_path / "depth-map-half-size" / "drive" / "a.png", metres, 256)
    (tmp_path / "left-image-half-size" / "drive").mkdir(parents=True)
    files.write_rgb(tmp_path / "left-image-half-size" / "drive" / "a.jpg", picture(0, 4, 5))
    captures = open_set("driving_stereo", tmp_path)
    assert captures.ids == ["drive/a"] and captures.unit == "m"
    np.testing.assert_allclose(captures.read_depth(0)[0], [0, 5.5, 79.9, 0, 0], atol=2e-3)


@pytest.mark.parametrize("suffix", [".png", ".npy", ".exr", ".pfm"])
def test_a_folder_of_our_own_depth_needs_no_description(tmp_path: Path, suffix: str) -> None:
    files.write_rgb(tmp_path / "images" / "a.png", picture(0)) if (tmp_path / "images").mkdir() is None else None
    depth = plane_depth(24, 32).astype(np.float32)
    files.write_depth(tmp_path / "depth" / f"a{suffix}", depth, depth > 0.7)
    captures = open_set("folder", tmp_path)
    np.testing.assert_allclose(captures.read_depth(0), np.where(depth > 0.7, depth, 0), atol=1e-4)
    assert captures.unit == "m"


def test_a_folder_says_its_scale_unit_and_camera(tmp_path: Path) -> None:
    levels(tmp_path / "depth" / "depth_01.png", plane_depth(24, 32), 5000)
    (tmp_path / "rgb").mkdir()
    files.write_rgb(tmp_path / "rgb" / "rgb_01.png", picture(0))
    with pytest.raises(ValueError, match=r"does not state its unit: write .*depth_scale.* into dataset\.json"):
        open_set("folder", tmp_path).read_depth(0)
    description = {"depth_scale": 1 / 5000, "unit": "mm", "intrinsics": INTRINSICS.tolist()}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    captures = open_set("folder", tmp_path)
    assert captures.ids == ["01"] and captures.limits == (0, 1e6)
    np.testing.assert_allclose(captures.read(0).depth, plane_depth(24, 32), atol=2e-4)
    np.testing.assert_array_equal(captures.read(0).intrinsics, INTRINSICS)  # type: ignore[arg-type]
    (tmp_path / "dataset.json").write_text(json.dumps({"depth_scal": 1}))
    with pytest.raises(
        ValueError, match=r"dataset.json cannot be read .*depth_scal.*: expected JSON with .*depth_scale"
    ):
        open_set("folder", tmp_path)


def test_every_format_is_opened_by_name() -> None:
    driving = {"driving_stereo", "kitti", "kitti_kb", "vkitti2"}
    teacher = {"hypersim", "tartanair", "irs", "blendedmvs"}
    benchmarks = {"eth3d", "diode", "sintel", "ibims"}
    assert set(DATASETS) == {"zivid", "folder", "nyu", "nyu_labeled", "pseudo"} | driving | teacher | benchmarks


# several sets, and figures


def test_a_set_named_twice_would_train_and_be_judged(tmp_path: Path) -> None:
    part = {"format": "zivid", "root": str(write_bench(tmp_path / "set", 4))}
    for more in ({"also": [part]}, {"measured": {**part, "root": str(tmp_path / "set" / ".." / "set")}}):
        with pytest.raises(ValueError, match="twice, with 4 shared captures, first 'c00'"):
            open_captures(Recipe.model_validate({"data": part | more}))
    (tmp_path / "first.txt").write_text("c00\nc01\n")
    (tmp_path / "second.txt").write_text("c02\nc03\n")
    halves = [part | {"only": str(tmp_path / f"{name}.txt")} for name in ("first", "second")]
    assert len(open_captures(Recipe.model_validate({"data": halves[0] | {"also": [halves[1]]}}))) == 4


def test_a_repeated_set_trains_as_often_and_never_judges(tmp_path: Path) -> None:
    own, more, judges = (
        write_bench(tmp_path / name, count) for name, count in (("own", 2), ("more", 3), ("judges", 2))
    )
    repeated = {"format": "zivid", "root": str(own), "repeat": 3, "also": [{"format": "zivid", "root": str(more)}]}
    recipe = Recipe.model_validate({"data": repeated | {"measured": {"format": "zivid", "root": str(judges)}}})
    captures = open_captures(recipe)
    assert len(set(captures.ids)) == len(captures) == 3 * 2 + 3 + 2
    assert measured_ids(recipe, captures) == ["4-judges/c00", "4-judges/c01"]
    for id_ in ("0-own/c01", "2-own/c01"):
        np.testing.assert_array_equal(captures.read_depth(captures.ids.index(id_)), captures.read_depth(1))
    assert count_captures(recipe) == {"train": 9, "validation": 1, "test": 1}


def test_linked_folders_are_read_and_hidden_ones_are_not(tmp_path: Path) -> None:
    root, disk = write_bench(tmp_path / "set", 1), write_bench(tmp_path / "disk", 2)
    for folder in ("images", "depth"):
        (root / folder / "day2").symlink_to(disk / folder)
        (disk / folder / "back").symlink_to(root / folder)  # no end, if followed
        (root / folder / ".ipynb_checkpoints").mkdir()
    (root / "images" / ".ipynb_checkpoints" / "c00-checkpoint.png").write_bytes(b"")
    assert open_set("zivid", root).ids == ["c00", "day2/c00", "day2/c01"]


def test_a_table_in_another_encoding_is_one_sentence(tmp_path: Path) -> None:
    root = write_bench(tmp_path / "set", 1)
    for content in ("capture,split\nc00,J\u00f6rg\n".encode("latin-1"), b'capture,split\nc00,"' + b"x" * 200_000):
        (root / "captures.csv").write_bytes(content)
        with pytest.raises(ValueError, match=r"captures.csv cannot be read .* table in UTF-8"):
            open_set("zivid", root).groups("split")


@pytest.mark.parametrize("rows", [[[500, 500, 32, 24]], [[1, 0, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0], [0, 0, 1]]])
def test_intrinsics_of_a_description_are_a_camera(tmp_path: Path, rows: list[list[float]]) -> None:
    (tmp_path / "rgb").mkdir()
    (tmp_path / "depth").mkdir()
    (tmp_path / "dataset.json").write_text(json.dumps({"intrinsics": rows}))
    with pytest.raises(ValueError, match=r"dataset.json cannot be read .*fx, 0, cx"):
        open_set("folder", tmp_path)


def test_joined_sets_keep_every_capture_and_its_own_limits(tmp_path: Path) -> None:
    first, second = write_bench(tmp_path / "a", 2), write_bench(tmp_path / "b", 3)
    joined = JoinedSet([open_set("zivid", first), open_set("zivid", second, max_depth=850)])
    assert len(joined) == len(set(joined.ids)) == 5 and joined.ids[3] == "1-b/c01"
    assert joined.read(3).id == "1-b/c01"
    assert joined.read_depth(3).max() < 0.85 < joined.read_depth(1).max()
    assert joined.key(3) != joined.key(1)
    assert set(joined.groups("folder").values()) == {"0-a/", "1-b/"}


def test_ranges_and_figures_are_those_of_the_trusted_depth(tmp_path: Path) -> None:
    captures = open_set("zivid", write_bench(tmp_path / "set", 3))
    z = [bench_cloud(index)[..., 2] for index in range(3)]
    low, high = find_depth_range(captures, [0, 2])
    assert low == pytest.approx(np.nanmin(z[0]) / 1000) and high == pytest.approx(np.nanmax(z[2]) / 1000)
    shown = measure_capture(captures, 1)
    assert (shown.id, shown.height, shown.width) == ("c01", 24, 32)
    assert shown.valid == pytest.approx(np.isfinite(z[1]).mean())
    assert (shown.min, shown.median, shown.max) == pytest.approx((np.nanmin(z[1]), np.nanmedian(z[1]), np.nanmax(z[1])))
    whole = describe(captures)
    assert (whole["captures"], whole["unit"], whole["sizes"]) == (3, "mm", ["32x24"])
    assert (whole["min"], whole["max"]) == pytest.approx((low * 1000, high * 1000))
    means = [np.nanmean(each) for each in z]
    assert (whole["mean"], whole["std"]) == pytest.approx((np.mean(means), np.std(means)))
    assert json.loads(json.dumps(whole))["per_capture"][1]["id"] == "c01"
    with pytest.raises(ValueError, match=r"No depth range: .* has no training captures"):
        find_depth_range(captures, [])


def test_zivids_own_names_pair_by_what_they_share(tmp_path):
    root = write_bench(tmp_path / "bench", 3)
    for index, path in enumerate(sorted((root / "images").iterdir())):
        path.rename(path.with_name(f"21-12-03-18-52-3{index}_Zivid_acquisition_color.png"))
    for index, path in enumerate(sorted((root / "depth").iterdir())):
        path.rename(path.with_name(f"21-12-03-18-52-3{index}_Zivid_acquisition_rawDepth.npy"))
    captures = open_set("zivid", root)
    assert list(captures.ids) == [f"21-12-03-18-52-3{index}_Zivid_acquisition" for index in range(3)]
    (root / "images" / "21-12-03-18-52-30_Zivid_acquisition_rgb.png").write_bytes(b"")  # now nobody knows which
    with pytest.raises(ValueError, match="no depth of the same name"):
        open_set("zivid", root)
