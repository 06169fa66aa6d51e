"""The checks: each finds its fault where it is planted, and none speaks of sound captures, real or rendered."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_captures import bench_cloud, picture, write_bench

from sonde import files, scenes
from sonde.checks import CHECKS, Problem, check, examine, find_edge_shift, screen
from sonde.checks.duplicates import DuplicateIndex, compute_difference_hash, look
from sonde.datasets import DATASETS, Capture, PairSet, open_set

RNG = np.random.default_rng(0)
ANY_SET = PairSet("folder", Path(), [], lambda path, size: (np.ones(size, np.float32), None), "m", (0.0, 1000.0))


@cache
def render(family: str = "room", index: int = 0, height: int = 168, width: int = 224) -> Capture:
    """A rendered capture, exact and dense."""
    view = scenes.render(family, 5, index, height=height, width=width)
    depth = np.where(np.isfinite(view.depth), view.depth, 0).astype(np.float32)
    return Capture(f"{family}{index}", view.image, depth, depth > 0, view.intrinsics)


def moved(depth: np.ndarray, down: int, right: int) -> np.ndarray:
    """The map moved by whole pixels, with nothing where it left."""
    height, width = depth.shape
    result = np.zeros_like(depth)
    to = slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))
    source = slice(max(0, -down), height + min(0, -down)), slice(max(0, -right), width + min(0, -right))
    result[to] = depth[source]
    return result


def write_folder(root: Path, captures: dict[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    """A folder set of (image, depth in metres)."""
    (root / "rgb").mkdir(parents=True)
    for name, (image, depth) in captures.items():
        files.write_rgb(root / "rgb" / f"{name}.png", image)
        files.write_depth(root / "depth" / f"{name}.npy", depth, depth > 0)
    return root


def repeated(captures: list[Capture]) -> list[bool]:
    """Whether each is like an earlier one."""
    index, answers = DuplicateIndex(), []
    for capture in captures:
        digest = look(ANY_SET, capture)
        answers.append(bool(index.like(digest)))
        index.add(digest)
    return answers


def told(root: Path, format_: str = "folder") -> dict[tuple[str, str], str]:
    return {(name, known): line for name, known, line in check(open_set(format_, root, strict=False))}


def is_sound(root: Path, format_: str = "folder") -> bool:
    """Whether no check finds a fault, neither in every capture nor in the few that are looked at before training."""
    return told(root, format_) == {} and screen(open_set(format_, root)).verdicts == []


# every check finds its fault


def far_clip(capture: Capture) -> Capture:
    return capture._replace(depth=np.minimum(capture.depth, np.percentile(capture.depth, 85)).astype(np.float32))


def near_clip(capture: Capture) -> Capture:
    return capture._replace(depth=np.maximum(capture.depth, np.percentile(capture.depth, 8)).astype(np.float32))


def one_depth(capture: Capture) -> Capture:
    return capture._replace(depth=np.full_like(capture.depth, 0.7))


def nearly_one_depth(capture: Capture) -> Capture:
    noise = RNG.normal(0, 0.0005, capture.depth.shape).astype(np.float32)  # 0.5 mm at 0.7 m
    return capture._replace(depth=np.float32(0.7) + noise)


def hardly_any(capture: Capture) -> Capture:
    depth = np.zeros_like(capture.depth)
    depth[::20, ::20] = capture.depth[::20, ::20]
    return capture._replace(depth=depth)


def unexposed(capture: Capture) -> Capture:
    return capture._replace(image=np.full_like(capture.image, 7))


def shifted(capture: Capture) -> Capture:
    return capture._replace(depth=moved(capture.depth, 6, -5))


def disparity(capture: Capture) -> Capture:
    return capture._replace(depth=(4 / np.maximum(capture.depth, 0.1) * (capture.depth > 0)).astype(np.float32))


def coded(capture: Capture) -> Capture:
    rows = np.arange(len(capture.depth))[:, None] < 4
    return capture._replace(depth=np.where(rows, np.float32(65.535), capture.depth))


FAULTS: dict[str, tuple[str, Callable[[Capture], Capture], str]] = {
    "clipped far": ("clipped", far_clip, r"its farthest depth, in 15% of its trusted pixels"),
    "clipped near": ("clipped", near_clip, r"its nearest depth, in 8% of its trusted pixels"),
    "constant": ("flat", one_depth, r"is 0.7 m everywhere, within 0.00%"),
    "flat": ("flat", nearly_one_depth, r"is 0.7 m everywhere, within 0\.\d+%"),
    "empty": ("coverage", hardly_any, r"depth in 0\.\d+% of its pixels"),
    "dark": ("dark", unexposed, r"image of one colour"),
    "disparity": ("disparity", disparity, r"holds disparity, not depth: in \d+ of \d+ flat areas"),
    "a code": ("code", coded, r"is exactly 65.535 m in 2\.\d+% of its trusted pixels"),
    "shifted": ("misaligned", shifted, r"moved by [+]5 pixels to the right and -6 down"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_nothing_else(tmp_path: Path, fault: str) -> None:
    name, spoil, words = FAULTS[fault]
    sound = [render(index=index) for index in range(3)]
    spoilt = spoil(sound[0])
    pairs = {"bad": (spoilt.image, spoilt.depth)} | {one.id: (one.image, one.depth) for one in sound[1:]}
    problems = told(write_folder(tmp_path, pairs))
    assert list(problems) == [("bad", name)]
    assert re.match(f"bad .*{words}", problems["bad", name])


def test_a_map_in_metres_is_told_where_millimetres_are_expected(tmp_path: Path) -> None:
    root = write_bench(tmp_path, 2)
    np.save(root / "depth" / "c01.npy", bench_cloud(1) / 1000)
    assert list(told(root, "zivid")) == [("c01", "unit")]


def test_every_check_of_the_register_has_its_fault_here() -> None:
    elsewhere = {"unit", "camera", "distance", "swapped", "duplicate"}  # here, or in test_planted.py
    elsewhere |= {"orientation", "size"}  # in test_reports.py
    assert {name for name, *_ in FAULTS.values()} | elsewhere == set(CHECKS)


def test_a_capture_with_far_less_depth_than_the_others_is_told(tmp_path: Path) -> None:
    pairs = {one.id: (one.image, one.depth) for one in (render(index=index) for index in range(4))}
    image, depth = pairs["room2"]
    pairs["room2"] = image, np.where(np.arange(224) < 20, depth, 0).astype(np.float32)  # a camera inside a cupboard
    problems = told(write_folder(tmp_path, pairs))
    assert list(problems) == [("room2", "coverage")]
    assert "in 8.9% of its pixels, and the set usually in 95%" in problems["room2", "coverage"]


def test_the_sky_of_a_relative_teacher_is_no_clipping(tmp_path: Path) -> None:
    captures = open_set("folder", write_folder(tmp_path, {"a": (render().image, far_clip(render()).depth)}))
    assert isinstance(captures, PairSet)
    assert [problem.check for problem in check(captures)] == ["clipped"]
    assert check(replace(captures, space="disparity")) == []


def test_a_set_that_is_sparse_throughout_is_as_it_should_be(tmp_path: Path) -> None:
    pairs = {}
    for one in (render("road", index) for index in range(3)):
        lidar = RNG.random(one.depth.shape) < 0.05
        pairs[one.id] = one.image, np.where(lidar, one.depth, 0).astype(np.float32)
    assert told(write_folder(tmp_path, pairs)) == {}


# depth edges and image edges


@pytest.mark.parametrize("down,right", [(0, 4), (-5, 0), (6, 7)])
@pytest.mark.parametrize("index", [1, 2])
def test_a_shift_of_depth_is_measured(index: int, down: int, right: int) -> None:
    capture = render(index=index, height=240, width=320)
    assert find_edge_shift(capture.image, capture.depth) is None
    found = find_edge_shift(capture.image, moved(capture.depth, down, right))
    assert found is not None and np.abs(np.add(found, (down, right))).max() <= 1


def test_a_shift_of_large_depth_is_given_in_its_own_pixels() -> None:
    capture = render(index=1, height=480, width=640)
    image = capture.image.repeat(2, 0).repeat(2, 1)
    large = capture.depth.repeat(2, 0).repeat(2, 1)
    found = find_edge_shift(image, moved(large, 12, 8))
    assert found is not None and np.abs(np.add(found, (12, 8))).max() <= 2
    assert find_edge_shift(image, moved(capture.depth, 6, 4)) == (
        found[0] / 2,
        found[1] / 2,
    )  # a larger image is no matter


@pytest.mark.parametrize("down,right", [(1, 0), (0, -2), (2, 2)])
def test_a_pixel_or_two_is_what_registration_leaves(down: int, right: int) -> None:
    capture = render(index=1, height=240, width=320)
    assert find_edge_shift(capture.image, moved(capture.depth, down, right)) is None


def test_a_picture_of_noise_or_a_smooth_map_says_nothing_of_a_shift() -> None:
    capture = render(index=1)
    assert find_edge_shift(picture(0, 168, 224), capture.depth) is None
    v, u = np.mgrid[:168, :224]
    assert find_edge_shift(capture.image, (1 + 0.001 * u + 0.002 * v).astype(np.float32)) is None
    assert find_edge_shift(capture.image[:15, :15], capture.depth[:15, :15]) is None


def test_a_real_capture_shifted_by_hand_is_found(realdata: Path) -> None:
    image = files.read_rgb(realdata / "redwood_synthetic" / "rgb" / "00002.jpg")
    depth = files.read_levels(realdata / "redwood_synthetic" / "depth" / "00002.png").astype(np.float32) / 1000
    assert find_edge_shift(image, depth) is None
    found = find_edge_shift(image, moved(depth, 6, -5))
    assert found is not None and np.abs(np.add(found, (6, -5))).max() <= 1


# captures that are there twice


def copied(capture: Capture, path: Path, quality: int, step: float) -> Capture:
    """The capture as another program wrote it: a JPEG, and depth in steps of some metres."""
    Image.fromarray(capture.image).save(path, quality=quality)
    return capture._replace(
        image=files.read_rgb(path), depth=np.rint(capture.depth / step).astype("f4") * np.float32(step)
    )


@pytest.mark.parametrize("family", ["bench", "room", "road"])
@pytest.mark.parametrize("quality", [95, 75])
def test_a_copy_encoded_anew_is_found(tmp_path: Path, family: str, quality: int) -> None:
    pairs = {}
    for index in range(3):
        one = render(family, index)
        again = copied(one, tmp_path / "copy.jpg", quality, 0.001)
        pairs |= {f"a{index}": (one.image, one.depth), f"b{index}": (again.image, again.depth)}
    problems = told(write_folder(tmp_path / "set", pairs))
    assert list(problems) == [("b0", "duplicate"), ("b1", "duplicate"), ("b2", "duplicate")]
    assert "b1 looks like a copy of a1, with the same depth" in problems["b1", "duplicate"]


def test_an_exact_copy_is_found(tmp_path: Path) -> None:
    one = render()
    problems = told(write_folder(tmp_path, {"a": (one.image, one.depth), "b": (one.image, one.depth)}))
    assert list(problems) == [("b", "duplicate")] and "b has the content of a" in problems["b", "duplicate"]


@pytest.mark.parametrize("family,metres", [("room", 0.02), ("room", 0.1), ("road", 0.3)])
def test_the_next_frame_of_a_moving_camera_is_no_copy(tmp_path: Path, family: str, metres: float) -> None:
    pairs = {}
    scene = scenes.FAMILIES[family](np.random.default_rng(3))
    forward = scene.camera.axes()[:, 2]
    for step in range(4):
        at = tuple(float(x) for x in np.add(scene.camera.position, forward * metres * step))
        view = scenes.photographed(
            replace(scene, camera=scene.camera._replace(position=at)), np.random.default_rng(step), 168, 224
        )
        pairs[f"frame{step}"] = view.image, np.where(np.isfinite(view.depth), view.depth, 0).astype(np.float32)
    assert told(write_folder(tmp_path, pairs)) == {}


def test_the_next_frame_of_a_real_camera_has_the_hash_of_the_last_but_not_its_depth(realdata: Path) -> None:
    root = realdata / "redwood_synthetic"
    frames = []
    for path in sorted((root / "rgb").iterdir()):
        depth = files.read_levels(root / "depth" / f"{path.stem}.png").astype(np.float32) / 1000
        frames.append(Capture(path.stem, files.read_rgb(path), depth, depth > 0))
    hashes = [compute_difference_hash(frame.image) for frame in frames]
    assert (hashes[2] ^ hashes[3]).bit_count() <= 1  # the hash alone would call it a copy
    again = frames[2]._replace(id="again", depth=frames[2].depth * np.float32(1.0005))
    assert repeated([*frames, again]) == [False] * 5 + [True]


def test_equal_pictures_with_other_depth_are_no_copies(tmp_path: Path) -> None:
    one = render()
    farther = (one.depth * np.float32(1.05)).astype(np.float32)
    assert told(write_folder(tmp_path, {"a": (one.image, one.depth), "b": (one.image, farther)})) == {}


def test_the_hash_sees_light_and_not_size() -> None:
    image = render().image
    assert compute_difference_hash(image) == compute_difference_hash(image.repeat(2, 0).repeat(2, 1))
    assert 0 < (compute_difference_hash(image) ^ compute_difference_hash(image[:, ::-1])).bit_count() <= 64
    ramp = np.broadcast_to(np.arange(90, dtype=np.uint8)[None, :, None], (80, 90, 3))
    assert compute_difference_hash(np.ascontiguousarray(ramp)) == 2**64 - 1


# sound sets are passed over

SCALES = {"tum": 1 / 5000, "arc": 1e-4, "nyu": 1e-3, "kitti": 1 / 256, "redwood_synthetic": 1e-3}


@pytest.mark.parametrize("name", SCALES)
def test_real_captures_are_sound(tmp_path: Path, realdata: Path, name: str) -> None:
    for folder in ("rgb", "depth"):
        (tmp_path / folder).symlink_to(realdata / name / folder)
    (tmp_path / "dataset.json").write_text(json.dumps({"depth_scale": SCALES[name]}))
    assert len(open_set("folder", tmp_path)) == len(list((realdata / name / "rgb").iterdir()))
    assert is_sound(tmp_path)


def test_a_real_corridor_is_sound(tmp_path: Path, realdata: Path) -> None:
    for folder, name in (("rgb", "SUN_color.jpg"), ("depth", "SUN_depth.png")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).symlink_to(realdata / "sunrgbd" / name)
    (tmp_path / "dataset.json").write_text(json.dumps({"rotated_bits": 3}))
    assert len(open_set("folder", tmp_path)) == 1 and is_sound(tmp_path)


def test_real_depth_without_colour_of_its_own_is_sound(tmp_path: Path, realdata: Path) -> None:
    geometry = tmp_path / "hypersim" / "ai_001_001" / "images" / "scene_cam_00_geometry_hdf5"
    preview = geometry.with_name("scene_cam_00_final_preview")
    geometry.mkdir(parents=True)
    preview.mkdir()
    (geometry / "frame.0000.depth_meters.hdf5").symlink_to(realdata / "hypersim" / "frame.0000.depth_meters.hdf5")
    files.write_rgb(preview / "frame.0000.tonemap.jpg", picture(0, 768, 1024))
    assert is_sound(tmp_path / "hypersim", "hypersim")
    cloud = np.load(realdata / "xyz" / "vertex_map.npy")
    root = write_bench(tmp_path / "zivid", 0)
    np.save(root / "depth" / "cloud.npy", cloud * 1000)
    files.write_rgb(root / "images" / "cloud.png", picture(1, *cloud.shape[:2]))
    assert is_sound(root, "zivid")


@pytest.mark.parametrize("family,layout", [("bench", "zivid"), ("room", "nyu"), ("road", "driving_stereo")])
def test_renders_are_sound(tmp_path: Path, family: str, layout: str) -> None:
    assert is_sound(scenes.synth(family, tmp_path / family, 5, seed=11, workers=1), layout)


def test_a_sound_set_has_no_problems(tmp_path: Path) -> None:
    assert check(open_set("zivid", write_bench(tmp_path / "set", 3))) == []


# the whole, and the command line


def test_every_fault_is_found_and_the_rest_still_checked(tmp_path: Path) -> None:
    root = write_bench(tmp_path / "set", 8)
    sparse = np.full((24, 32), np.nan, np.float32)
    sparse[0, :2] = 500, 600
    np.save(root / "depth" / "c00.npy", np.full((24, 32), 700, np.float32))
    np.save(root / "depth" / "c01.npy", bench_cloud(1) / 1000)
    np.save(root / "depth" / "c02.npy", sparse)
    (root / "depth" / "c03.npy").write_bytes(b"")
    (root / "images" / "c04.png").unlink()
    files.write_rgb(root / "images" / "c05.png", picture(5) * 0)
    files.write_rgb(root / "images" / "c07.png", picture(6))
    np.save(root / "depth" / "c07.npy", bench_cloud(6))
    problems = told(root, "zivid")
    assert {key: problems[key].split()[0] for key in problems} == {
        ("", "pairs"): str(root / "depth" / "c04.npy"),
        ("c00", "flat"): "c00",
        ("c01", "unit"): "c01",
        ("c02", "coverage"): "c02",
        ("c03", "files"): str(root / "depth" / "c03.npy"),
        ("c05", "dark"): "c05",
        ("c07", "duplicate"): "c07",
    }
    assert "looks like metres; multiply X, Y and Z by 1000" in problems["c01", "unit"]
    assert "c07 has the content of c06" in problems["c07", "duplicate"]
    assert not any("\n" in line for line in problems.values())


def test_progress_counts_every_capture(tmp_path: Path) -> None:
    done: list[int] = []
    (write_bench(tmp_path, 3) / "depth" / "c01.npy").write_bytes(b"")
    check(open_set("zivid", tmp_path), done.append)
    assert done == [1, 2, 3]


def test_rejected_captures_are_listed_and_nothing_is_deleted(sonde, tmp_path: Path) -> None:
    root = write_bench(tmp_path / "set", 4)
    np.save(root / "depth" / "c01.npy", bench_cloud(1) / 1000)
    files.write_rgb(root / "images" / "c01.png", picture(1) * 0)
    (root / "depth" / "c03.npy").write_bytes(b"")
    before = sorted(root.rglob("*"))
    list_ = tmp_path / "lists" / "rejected.jsonl"
    said = sonde("data", "check", root, "--reject", list_, "--json")
    assert said.code == 1 and said.json["rejected"] == 2 and len(said.json["problems"]) == 3
    rows = [json.loads(line) for line in list_.read_text().splitlines()]
    assert [(row["capture"], row["check"]) for row in rows] == [("c01", "unit"), ("c03", "files")]
    assert all(row["reason"] in said.json["problems"] for row in rows)
    assert sorted(root.rglob("*")) == before and sorted(list_.parent.iterdir()) == [list_]
    sonde("data", "check", write_bench(tmp_path / "sound", 2), "--reject", list_)
    assert list_.read_text() == ""


def test_a_file_that_is_no_list_or_page_is_not_replaced(sonde, tmp_path: Path) -> None:
    root = write_bench(tmp_path / "set", 2)
    image = next((root / "images").iterdir())
    before = image.read_bytes()
    for option, said in (("--reject", "expected lines such as"), ("--page", "expected a name that ends in .html")):
        refused = sonde("data", "check", root, option, image)
        assert refused.code == 2 and said in " ".join(refused.errors.split())
    assert image.read_bytes() == before


def test_the_help_names_every_format() -> None:
    from sonde import cli

    assert cli.FORMATS.split(", ") == list(DATASETS)


def test_a_problem_reads_as_its_message() -> None:
    assert str(Problem("c00", "flat", "c00 is flat.")) == "c00 is flat."


def test_the_sky_of_our_own_renders_is_a_depth_by_convention_and_elsewhere_a_mark(tmp_path: Path) -> None:
    root = scenes.synth("road", tmp_path / "roads", 4, seed=3, height=84, width=112, layout="folder", workers=1, rigs=0)
    assert any((open_set("folder", root).read(index).depth == 999).mean() > 0.1 for index in range(4))
    assert check(open_set("folder", root)) == []
    (root / "render.json").unlink()
    assert "999 m" in " ".join(problem.message for problem in check(open_set("folder", root)))


def test_what_of_another_set_could_not_be_compared_is_told(tmp_path: Path) -> None:
    test, train = (open_set("zivid", write_bench(tmp_path / name, 3)) for name in ("test", "train"))
    assert [problem.check for problem in examine(test, against=[train]).problems] == ["shared"] * 3
    for path in (tmp_path / "train" / "depth").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    (problem,) = examine(test, against=[train]).problems
    assert "3 captures of" in problem.message and "could not be compared, first: " in problem.message


def test_a_declared_split_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    root = write_bench(tmp_path / "set", 2)
    (root / "captures.csv").write_text("capture,split\nc00,train\n")
    (problem,) = check(open_set("zivid", root))
    assert (
        problem.message.startswith("The declared split of the set cannot be read: ")
        and "lacks 1 capture," in problem.message
    )
    (root / "captures.csv").write_text("capture,operator\nc00,me\n")  # declares none
    assert not check(open_set("zivid", root))
