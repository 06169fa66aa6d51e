"""Faults of whole sets, planted on renders and on real captures: found, or said to be out of sight; never imagined."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from small_captures import write_bench

from sonde import files, scenes
from sonde.checks import CHECKS, Check, Problem, check, examine
from sonde.checks.edges import Overlay, find_breaks, overlay
from sonde.checks.maps import check_clipped, check_code
from sonde.checks.pairing import find_swapped
from sonde.checks.planes import vote_on_disparity, vote_on_distance
from sonde.datasets import Capture, PairSet
from sonde.datasets.pairs import ImageDepthPair
from sonde.geometry import depth_to_distance

CAMERA = np.array([[200.0, 0, 111.5], [0, 200.0, 83.5], [0, 0, 1]])
SLANTED = np.array([0.5, -0.8, 1.0])


@cache
def captures_of(family: str, seed: int = 7, count: int = 5) -> list[Capture]:
    views = [scenes.render(family, seed, index, height=168, width=224) for index in range(count)]
    depths = [np.where(np.isfinite(view.depth), view.depth, 0).astype(np.float32) for view in views]
    return [
        Capture(f"c{index}", view.image, depth, depth > 0, view.intrinsics)
        for index, (view, depth) in enumerate(zip(views, depths, strict=True))
    ]


def set_of(captures: list[Capture], layout: str = "folder", unit: str = "m", limit: float = 1000.0) -> PairSet:
    """A set that holds these, without files."""
    by_id = {capture.id: capture for capture in captures}
    unit_m = np.float32({"m": 1, "mm": 1e-3}[unit])
    return PairSet(
        layout,
        Path("nowhere"),
        [ImageDepthPair(name, Path(name), Path(name)) for name in by_id],
        lambda path, size: (by_id[str(path)].depth / unit_m, by_id[str(path)].intrinsics),
        unit,
        (0.0, limit),
        read_image=lambda path: by_id[str(path)].image,
    )


def planted(captures: list[Capture], fault: Callable[[Capture], np.ndarray]) -> list[Capture]:
    return [capture._replace(depth=fault(capture).astype(np.float32)) for capture in captures]


def inverse(capture: Capture) -> np.ndarray:
    return np.where(capture.mask, 3 / np.where(capture.mask, capture.depth, 1), 0)


def distance(capture: Capture) -> np.ndarray:
    assert capture.intrinsics is not None
    return depth_to_distance(capture.depth, capture.intrinsics)


def moved(capture: Capture) -> np.ndarray:
    depth = np.roll(capture.depth, (6, -5), (0, 1))
    depth[:6], depth[:, -5:] = 0, 0
    return depth


def checks_of(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.capture, problem.check) for problem in problems]


# what a plane looks like


def plane() -> np.ndarray:
    """Depth of a slanted plane, (168, 224)."""
    v, u = np.mgrid[:168, :224]
    rays = np.stack([(u - 111.5) / 200, (v - 83.5) / 200, np.ones_like(u, float)], -1)
    return (1 / (rays @ SLANTED)).astype(np.float32)


def test_every_tile_of_a_plane_tells_depth_from_disparity_and_from_distance() -> None:
    depth, far = plane(), depth_to_distance(plane(), CAMERA)
    for votes in (vote_on_disparity(depth), *vote_on_distance(depth, [CAMERA])):
        assert votes[0] > 100 and votes[1] == 0
    for votes in (vote_on_disparity(1 / depth), vote_on_disparity(5 / depth + 3), *vote_on_distance(far, [CAMERA])):
        assert votes[0] == 0 and votes[1] > 100


def test_a_plane_in_steps_of_a_centimetre_tells_nothing() -> None:
    depth = (np.rint(plane() * 20) / 20).astype(np.float32)
    assert sum(vote_on_disparity(depth)) == sum(vote_on_distance(depth, [CAMERA])[0]) == 0


def test_depth_breaks_at_steps_and_on_no_plane() -> None:
    depth = plane()
    assert not find_breaks(depth).any()
    depth[40:80, 100:140] *= 0.8
    found = np.argwhere(find_breaks(depth))
    assert found.min(0).tolist() == [39, 99] and found.max(0).tolist() == [80, 140]
    depth[40:80, 94:100] = 0  # the shadow beside the nearer thing belongs to the farther
    assert find_breaks(depth)[41:79, 99:101].all() and not find_breaks(depth)[41:79, 95:99].any()


# whole sets


@pytest.mark.parametrize("family", ["bench", "room", "road"])
@pytest.mark.parametrize("name,fault", [("disparity", inverse), ("distance", distance), ("misaligned", moved)])
def test_a_set_with_one_fault_throughout_has_one_line(family: str, name: str, fault: Callable) -> None:
    sound = captures_of(family)
    assert check(set_of(sound)) == []
    assert checks_of(check(set_of(planted(sound, fault)))) == [("", name)]


def test_distance_is_told_without_intrinsics_where_the_maps_are_exact() -> None:
    unknown = [capture._replace(intrinsics=None) for capture in planted(captures_of("room"), distance)]
    assert checks_of(check(set_of(unknown))) == [("", "distance")]


@pytest.mark.parametrize("step", [1e-3, 1 / 256, 5e-3])
def test_rounded_depth_is_depth(step: float) -> None:
    for family in ("bench", "road"):
        assert check(set_of(planted(captures_of(family), lambda one: np.rint(one.depth / step) * step))) == []


@pytest.mark.parametrize(
    "layout,unit,limit,factor,words",
    [
        ("zivid", "mm", 1e4, 1e-3, "multiply X, Y and Z by 1000"),
        ("zivid", "mm", 1e4, 0.1, "0.15 to 6 m: .* multiply it by 10"),
        ("folder", "m", 1e3, 1000, "sees 0.02 to 200 m: .* divide it by 1000"),
        ("folder", "m", 1e3, 1e-3, "multiply it by 1000"),
    ],
)
def test_another_unit_is_told_by_what_such_a_camera_sees(layout, unit, limit, factor, words) -> None:
    wrong = planted(captures_of("bench"), lambda one: one.depth * factor)
    problems = check(set_of(wrong, layout, unit, limit))
    assert {problem.check for problem in problems} == {"unit"} and re.search(words, problems[0].message)
    assert check(set_of(captures_of("bench"), layout, unit, limit)) == []


@pytest.mark.parametrize("factor,words", [(10, "divide it by 10,"), (0.01, "multiply it by 100,"), (0.1, "by 10,")])
def test_one_capture_of_another_unit_is_told_by_the_others(factor: float, words: str) -> None:
    sound = captures_of("bench", count=6)
    wrong = [sound[0], *planted(sound[1:2], lambda one: one.depth * factor), *sound[2:]]
    problems = check(set_of(wrong))
    assert checks_of(problems) == [("c1", "unit")] and words in problems[0].message


@pytest.mark.parametrize("factor,told", [(10, False), (0.1, False), (100, True), (0.01, True)])
def test_rooms_vary_by_more_than_ten_times_but_not_by_a_hundred(factor: float, told: bool) -> None:
    sound = captures_of("room", seed=11, count=6)
    usual = np.median([np.median(one.depth[one.mask]) for one in sound])
    wrong = [sound[0], *planted(sound[1:2], lambda one: one.depth * factor * usual / np.median(one.depth)), *sound[2:]]
    assert checks_of(check(set_of(wrong))) == [("c1", "unit")] * told


def test_intrinsics_of_another_size_are_told() -> None:
    sound = captures_of("bench")
    double = [capture._replace(intrinsics=np.diag([2, 2, 1]) @ capture.intrinsics) for capture in sound]
    assert {problem.check for problem in check(set_of(double))} == {"camera"}


def test_one_moved_capture_does_not_speak_for_its_set() -> None:
    weak = [np.random.default_rng(seed).normal(0, 1, (49, 49)) for seed in (1, 2)]
    strong = np.zeros((49, 49))
    strong[24, 36] = 20
    seen = {str(n): Overlay(fits.astype(np.float32), 1.0) for n, fits in enumerate([*weak, strong])}
    answer = CHECKS["misaligned"].judge(set_of([]), seen)
    assert [fault.capture for fault in answer.faults] == ["2"] and "by +12 pixels" in answer.faults[0].message


@pytest.mark.parametrize("step", [1e-3, 4e-3])
def test_a_board_seen_nearly_head_on_in_steps_is_not_clipped_and_a_clipped_one_is(step: float) -> None:
    u = np.broadcast_to(np.arange(224), (168, 224))
    scoreboard = (np.rint((1 + 0.1 * u / 224) / step) * step).astype(np.float32)
    one = captures_of("bench")[0]._replace(depth=scoreboard, mask=scoreboard > 0)
    assert check_clipped(set_of([one]), one) is None
    assert check_clipped(set_of([one]), one._replace(depth=np.minimum(scoreboard, np.float32(1.06)))) is not None


def test_the_first_levels_of_a_coarse_map_are_no_code() -> None:
    one = captures_of("bench")[0]
    levels = np.broadcast_to(1 + np.arange(224) // 2, (168, 224)).astype(np.float32)  # 1 and 2 are far apart by ratio
    assert check_code(set_of([one]), one._replace(depth=levels, mask=levels > 0)) is None
    assert (
        check_code(set_of([one]), one._replace(depth=np.where(levels < 3, 2550, levels).astype(np.float32))) is not None
    )


# pairs


@pytest.mark.parametrize("family", ["bench", "room", "road"])
def test_two_depth_maps_that_changed_places_are_both_told(family: str) -> None:
    one, two, *others = captures_of(family)
    wrong = [one._replace(depth=two.depth, mask=two.mask), two._replace(depth=one.depth, mask=one.mask), *others]
    problems = check(set_of(wrong))
    assert checks_of(problems) == [("c0", "swapped"), ("c1", "swapped")]
    assert "c0 has the depth of another capture: its image fits the depth of c1 by" in problems[0].message


def test_a_list_that_slipped_by_one_names_every_partner() -> None:
    sound = captures_of("room")
    slipped = [
        one._replace(depth=next_.depth, mask=next_.mask)
        for one, next_ in zip(sound, [*sound[1:], sound[0]], strict=True)
    ]
    problems = check(set_of(slipped))
    assert checks_of(problems) == [(f"c{n}", "swapped") for n in range(5)]
    assert "fits the depth of c4 " in problems[0].message


def test_a_pair_is_wrong_only_where_both_its_halves_fit_elsewhere() -> None:
    own = np.full((4, 4), 0.5) + 9.5 * np.eye(4)
    assert find_swapped(own) == []
    traded = own[[1, 0, 2, 3]]
    assert [pair[:2] for pair in find_swapped(traded)] == [(0, 1), (1, 0)]
    twice = own.copy()
    twice[0, 1] = 25  # the image fits another's depth, which fits its own image as well: a copy, say
    twice[1, 1] = 24
    assert find_swapped(twice) == []
    assert find_swapped(np.eye(4)) == []


def test_one_capture_has_no_other_to_be_taken_for() -> None:
    diagnosis = examine(set_of(captures_of("room")[:1]))
    assert diagnosis.problems == [] and diagnosis.answers["swapped"].note == "This check needs two captures with edges."


# two sides of a split, two sets


def test_a_copy_on_two_sides_of_a_split_is_told() -> None:
    one, two, three, *_ = captures_of("bench")
    split = [
        one._replace(id="train/a"),
        two._replace(id="train/b"),
        two._replace(id="test/b"),
        three._replace(id="test/c"),
    ]
    problems = check(set_of(split))
    assert checks_of(problems) == [("test/b", "duplicate")]
    assert "has the content of train/b: remove one, or test and train share it" in problems[0].message


def test_one_depth_under_two_lights_is_a_copy_across_a_split_alone() -> None:
    one, two, *_ = captures_of("bench")
    lit = one._replace(image=255 - one.image)
    assert check(set_of([one, two, lit._replace(id="c9")])) == []
    split = [one._replace(id="train/a"), two._replace(id="train/b"), lit._replace(id="val/a")]
    problems = check(set_of(split))
    assert checks_of(problems) == [("val/a", "duplicate")] and "has exactly the depth of train/a" in problems[0].message


def test_captures_that_another_set_holds_are_told(sonde, tmp_path: Path) -> None:
    write_bench(tmp_path / "train", 3)
    other = write_bench(tmp_path / "test", 5)
    for folder, suffix in (("images", "png"), ("depth", "npy")):
        for name in ("c00", "c01"):
            (other / folder / f"{name}.{suffix}").unlink()
    said = sonde("data", "check", tmp_path / "test", "--against", tmp_path / "train", "--json")
    assert said.code == 1 and said.json["checks"]["shared"]["faults"] == 1
    (line,) = said.json["problems"]
    assert line.startswith("c02 has the content of c02 in ") and str(tmp_path / "train") in line


# real captures


REAL = {"tum": 1 / 5000, "nyu": 1e-3, "kitti": 1 / 256, "redwood_synthetic": 1e-3}


def real(realdata: Path, name: str) -> list[Capture]:
    captures = []
    pairs = zip(*(sorted((realdata / name / role).iterdir()) for role in ("rgb", "depth")), strict=True)
    for index, (image, levels) in enumerate(pairs):
        depth = files.read_levels(levels).astype(np.float32) * np.float32(REAL[name])
        captures.append(Capture(f"c{index}", files.read_rgb(image), depth, depth > 0))
    return captures


@pytest.mark.parametrize("name", REAL)
def test_disparity_of_a_real_sensor_is_told(realdata: Path, name: str) -> None:
    sound = real(realdata, name)
    assert check(set_of(sound)) == []
    assert [problem.check for problem in check(set_of(planted(sound, inverse)))] == ["disparity"]


def test_a_published_map_of_distance_is_told_and_its_depth_is_not(realdata: Path) -> None:
    import h5py

    from sonde.datasets.hypersim import CAMERA as HYPERSIM
    from sonde.geometry import distance_to_depth

    with h5py.File(realdata / "hypersim" / "frame.0000.depth_meters.hdf5") as file:
        stored = np.asarray(file["dataset"]).astype(np.float32)
    depth, other = vote_on_distance(stored, [HYPERSIM])[0]
    assert other > 40 and depth < 0.1 * other
    depth, other = vote_on_distance(distance_to_depth(stored, HYPERSIM), [HYPERSIM])[0]
    assert depth > 40 and other < 0.1 * depth


# the whole


def test_a_question_of_your_own_is_one_line(monkeypatch) -> None:
    monkeypatch.setitem(
        CHECKS, "mine", Check("captures named c3", lambda captures, one: "no" if one.id == "c3" else None)
    )
    assert checks_of(check(set_of(captures_of("room")))) == [("c3", "mine")]


def test_a_check_that_looks_at_some_captures_spreads_them(monkeypatch) -> None:
    monkeypatch.setitem(CHECKS, "mine", CHECKS["flat"]._replace(most=2))
    answers = examine(set_of(captures_of("room"))).answers
    assert answers["mine"].asked == 2 and answers["flat"].asked == 5


def test_too_small_or_sparse_a_map_has_no_say_in_registration() -> None:
    one = captures_of("room")[0]
    assert overlay(one.image[:30, :30], one.depth[:30, :30]) is None
    lidar = np.where(np.random.default_rng(0).random(one.depth.shape) < 0.05, one.depth, 0)
    assert overlay(one.image, lidar) is None


def test_the_page_shows_every_fault_and_loads_nothing(sonde, tmp_path: Path) -> None:
    root = write_bench(tmp_path / "set", 4)
    np.save(root / "depth" / "c01.npy", np.full((24, 32), 700, np.float32))
    (root / "depth" / "c03.npy").write_bytes(b"")
    page = tmp_path / "pages" / "bench.html"
    said = sonde("data", "check", root, "--page", page, "--json")
    html = page.read_text()
    assert said.code == 1 and said.json["page"] == str(page) and "2 faults" in html
    assert "c01 is 700 mm everywhere" in html and html.count("<article") == 3  # c03 cannot be shown
    assert not re.search(r'(?:src|href)="(?!data:|#)', html) and html.count("data:image/webp") == 9
    assert all(f'<th scope="row">{name}</th>' in html for name in CHECKS)
    assert said.json["checks"]["flat"] == {"faults": 1, "asked": 3, "note": ""}


def test_a_set_that_cannot_be_read_still_has_its_page(sonde, tmp_path: Path) -> None:
    root = write_bench(tmp_path / "set", 1)
    (root / "depth" / "c00.npy").write_bytes(b"")
    said = sonde("data", "check", root, "--page", tmp_path / "page.html")
    assert said.code == 1 and "1 fault" in (tmp_path / "page.html").read_text()
