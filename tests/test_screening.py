"""Before a set trains or scores: certain faults are refused, likely ones told, sound sets pass, and it is recorded."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from small_captures import write_bench

from sonde import checks, files, scenes
from sonde.checks import SCREENS, Screener, screen, screen_lengths
from sonde.checks.screening import MOST, choose_sample, shrink_capture
from sonde.datasets import Capture, JoinedSet, PairSet, open_set

RNG = np.random.default_rng(0)


@cache
def render(family: str = "room", index: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Image and depth in metres, exact and dense."""
    view = scenes.render(family, 5, index, height=120, width=160)
    return view.image, np.where(np.isfinite(view.depth), view.depth, 0).astype(np.float32)


def write_folder(root: Path, pairs: list[tuple[np.ndarray, np.ndarray]], unit: str = "m") -> Path:
    """A folder set of images and depth in metres."""
    (root / "rgb").mkdir(parents=True)
    (root / "depth").mkdir()
    (root / "dataset.json").write_text(json.dumps({"unit": unit}))
    for index, (image, depth) in enumerate(pairs):
        files.write_rgb(root / "rgb" / f"c{index:02}.png", image)
        np.save(root / "depth" / f"c{index:02}.npy", depth)
    return root


def rooms(count: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
    return [render("room", index) for index in range(count)]


def scaled_bench(root: Path, count: int, factor: float) -> Path:
    """A Zivid set whose clouds are multiplied."""
    write_bench(root, count)
    for path in (root / "depth").iterdir():
        np.save(path, np.load(path) * np.float32(factor))
    return root


def verdicts(root: Path, format_: str = "folder") -> dict[str, bool]:
    """Check -> whether it is certain."""
    return {found.check: found.certain for found in screen(open_set(format_, root)).verdicts}


# what is certain, and what is likely

FAULTS: dict[str, tuple[Callable[[Path], Path], dict[str, bool]]] = {
    "metres as millimetres": (lambda root: scaled_bench(root, 3, 0.001), {"unit": True}),
    "one capture of metres": (lambda root: scaled_bench(root, 1, 0.001), {"unit": True}),
    "centimetres as millimetres": (lambda root: scaled_bench(root, 3, 0.1), {"unit": False}),
    "tenths as millimetres": (lambda root: scaled_bench(root, 3, 10), {"unit": False}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_unit_of_a_bench_is_certain_where_no_camera_is_so_near(tmp_path: Path, fault: str) -> None:
    write, found = FAULTS[fault]
    assert verdicts(write(tmp_path / "set"), "zivid") == found


def disparity(image: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return image, (4 / np.maximum(depth, 0.1) * (depth > 0)).astype(np.float32)


SPOILT: dict[str, tuple[Callable[[], list[tuple[np.ndarray, np.ndarray]]], dict[str, bool]]] = {
    "one depth for all": (lambda: [(image, np.full_like(depth, 0.7)) for image, depth in rooms()], {"flat": True}),
    "black images": (lambda: [(np.zeros_like(image), depth) for image, depth in rooms()], {"dark": True}),
    "dim images": (lambda: [((image // 64).astype(np.uint8), depth) for image, depth in rooms()], {"dark": False}),
    "one black image": (lambda: [(np.zeros_like(rooms()[0][0]), rooms()[0][1]), *rooms()[1:]], {"dark": False}),
    "kilometres": (lambda: [(image, depth * 150) for image, depth in rooms()], {"unit": False}),
    "thousandths": (lambda: [(image, depth / 3000) for image, depth in rooms()], {"unit": True}),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_fault_of_most_captures_is_certain_only_if_no_sound_set_has_it(tmp_path: Path, fault: str) -> None:
    pairs, found = SPOILT[fault]
    assert verdicts(write_folder(tmp_path / "set", pairs())) == found


def test_disparity_is_certain_only_under_a_stated_pinhole_camera(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", [disparity(*pair) for pair in rooms(3)])
    assert verdicts(root) == {"disparity": False}  # so a height map of parallel rays looks
    camera = [[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]]
    (root / "dataset.json").write_text(json.dumps({"intrinsics": camera}))
    assert verdicts(root)["disparity"]


def test_pairs_that_slipped_by_one_file_are_certain_and_one_wrong_pair_is_likely(tmp_path: Path) -> None:
    sound = [render("bench", index) for index in range(6)]
    slipped = [(image, sound[(index + 1) % 6][1]) for index, (image, _) in enumerate(sound)]
    assert verdicts(write_folder(tmp_path / "slipped", slipped)) == {"swapped": True}
    traded = [(sound[0][0], sound[1][1]), (sound[1][0], sound[0][1]), *sound[2:]]
    assert verdicts(write_folder(tmp_path / "traded", traded)) == {"swapped": False}


# sound sets


def test_walls_at_several_known_distances_are_measured_on_purpose(tmp_path: Path) -> None:
    walls = [(image, np.full_like(depth, 0.5 + 0.1 * index)) for index, (image, depth) in enumerate(rooms())]
    assert verdicts(write_folder(tmp_path / "walls", walls)) == {"flat": False}


def test_a_bench_that_is_nearly_flat_is_sound(tmp_path: Path) -> None:
    nearly = [(image, (0.8 + RNG.normal(0, 0.0005, depth.shape)).astype(np.float32)) for image, depth in rooms(2)]
    assert verdicts(write_folder(tmp_path / "bench", [*nearly, *rooms(4)])) == {}


@pytest.mark.parametrize("family,count", [("outdoor", 1), ("highway", 2), ("bins", 2)])
def test_few_renders_are_sound_with_their_sky(tmp_path: Path, family: str, count: int) -> None:
    scenes.synth(family, tmp_path / "set", count, height=96, width=128, layout="folder", workers=1)
    assert verdicts(tmp_path / "set") == {}


def test_sparse_lidar_is_sound(tmp_path: Path) -> None:
    pairs = [render("road", index) for index in range(3)]
    sparse = [(image, np.where(RNG.random(depth.shape) < 0.04, depth, 0).astype(np.float32)) for image, depth in pairs]
    assert verdicts(write_folder(tmp_path / "set", sparse)) == {}


def test_real_captures_of_a_structured_light_camera_are_sound(realdata: Path) -> None:
    assert verdicts(realdata / "phoxi", "zivid") == {}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_small_bench_with_pictures_of_noise_is_sound(tmp_path: Path, count: int) -> None:
    assert verdicts(write_bench(tmp_path / "set", count), "zivid") == {}


def test_a_capture_that_cannot_be_read_is_left_to_whoever_needs_it(tmp_path: Path) -> None:
    root = write_bench(tmp_path / "set", 3)
    (root / "depth" / "c01.npy").write_bytes(b"no array")
    found = screen(open_set("zivid", root))
    assert found.looked_at == ["c00", "c02"] and found.verdicts == []


# what is looked at


def test_a_large_set_is_sampled_by_neighbours_evenly_spread() -> None:
    assert choose_sample(5) == [0, 1, 2, 3, 4]
    found = choose_sample(1000)
    assert len(found) == MOST and found[0] == 0 and found[-1] == 999
    assert all(later - index == 1 for index, later in zip(found[::2], found[1::2], strict=True))
    assert len(set(choose_sample(17))) == len(choose_sample(17)) <= MOST


def test_a_large_capture_is_shrunk_with_its_camera() -> None:
    image, depth = render()
    camera = np.array([[200.0, 0, 80], [0, 200, 60], [0, 0, 1]])
    large = Capture(
        "c",
        image.repeat(6, 0).repeat(6, 1),
        depth.repeat(6, 0).repeat(6, 1),
        depth.repeat(6, 0).repeat(6, 1) > 0,
        camera,
    )
    small = shrink_capture(large, 160)
    assert small.depth.shape == small.image.shape[:2] == (120, 160)
    assert small.intrinsics is not None and np.allclose(small.intrinsics[:2] * 6, camera[:2])
    assert np.array_equal(small.depth, depth)


def test_each_part_of_joined_sets_is_judged_by_its_own_layout(tmp_path: Path) -> None:
    bench = open_set("zivid", scaled_bench(tmp_path / "bench", 3, 0.001))
    room = open_set("folder", write_folder(tmp_path / "room", rooms(3)))
    joined = JoinedSet([room, bench])
    found = screen(joined)
    assert [(each.check, each.certain) for each in found.verdicts] == [("unit", True)]
    assert found.verdicts[0].message.startswith(f"{tmp_path / 'bench'}: c00 ends at ")
    assert found.looked_at == joined.ids and set(found.shapes) == set(joined.ids)
    assert screen(joined, joined.ids[:3]).verdicts == []
    with pytest.raises(ValueError, match=r"One of .*room, .*bench is not sound: .*bench: c00 ends at"):
        Screener().screen(joined)


def test_labels_without_a_unit_have_no_wrong_one(tmp_path: Path) -> None:
    captures = open_set("zivid", scaled_bench(tmp_path / "bench", 3, 0.001))
    assert isinstance(captures, PairSet)
    assert screen(replace(captures, space="scale")).verdicts == []


def test_who_scores_a_folder_of_predictions_needs_no_images(tmp_path: Path) -> None:
    captures = open_set("folder", write_folder(tmp_path / "set", [(np.zeros_like(i), d) for i, d in rooms()]))
    assert screen(captures, sees=False).verdicts == []


def test_every_screen_says_how_much_is_certain_and_how_much_is_likely() -> None:
    for name, each in SCREENS.items():
        assert each.certain is None or each.certain >= each.likely, name
        assert name in checks.CHECKS


# a screener


def test_a_screener_refuses_once_warns_once_and_can_be_switched_off(tmp_path: Path, caplog) -> None:
    bad = open_set("zivid", scaled_bench(tmp_path / "bad", 3, 0.001))
    with pytest.raises(
        ValueError, match=r"bad is not sound: c00 ends at 0\.\d+ mm: .* by 1000\. The same .*check=False"
    ):
        Screener().screen(bad)
    assert Screener(False).screen(bad).document() == {"checked": False}
    odd, screener = open_set("zivid", scaled_bench(tmp_path / "odd", 3, 0.1)), Screener()
    with caplog.at_level(logging.WARNING, "sonde"):
        assert screener.screen(odd) is screener.screen(odd)
    assert len(caplog.messages) == 1 and "odd may not be sound: The usual depth of this set is" in caplog.text


# known depths, as from a tape measure


@pytest.mark.parametrize(
    "lengths,found",
    [
        ([0.4, 0.9, 1.2], None),
        ([5.0, 60.0, 180.0], None),
        ([400.0, 850.0, 1200.0], True),
        ([400.5, 850.0, 1200.0], False),
        ([2400.0, 3850.0, 5200.0], True),
        ([0.0011, 0.0013], True),
        ([0.008, 0.012], False),
        ([120.0, 131.0], False),
        ([0.015, 0.4], None),
    ],
)
def test_lengths_that_nobody_measures_are_of_another_unit(lengths: list[float], found: bool | None) -> None:
    answer = screen_lengths(np.array(lengths), ["a.png"]).verdicts
    assert [each.certain for each in answer] == ([] if found is None else [found])


def test_no_lengths_are_no_fault() -> None:
    assert screen_lengths(np.empty(0), []).verdicts == []
