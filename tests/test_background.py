"""The bench of a fixed camera is found under whatever lies on it, kept on disk, and told from one that has moved."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from sonde import background
from sonde.background import Background, fill_holes, find_farthest, find_median, read_background, register

SIZE = (96, 128)
"""(height, width); up to 130 every pixel has its own place in the plate, above it several share one."""


def plane(height: int, width: int) -> np.ndarray:
    """Depth of a bench that is tilted either way, linear in the pixels: 0.7 to 0.95 m, whatever the size."""
    down, across = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    return (0.7 + 0.15 * down + 0.1 * across).astype(np.float32)


def seen(bench: np.ndarray, boxes: list[tuple[float, float]], side: float = 0.2, top: float = 0.05) -> np.ndarray:
    """What a capture shows of a bench: boxes `top` above it (corners and side are shares of the map), and holes."""
    depth, (height, width) = bench.copy(), bench.shape
    for row, column in boxes:
        place = tuple(
            slice(round(at * size), round((at + side) * size)) for at, size in ((row, height), (column, width))
        )
        depth[place] = depth[place].min() - top
    depth[np.random.default_rng(len(boxes)).random(bench.shape) < 0.02] = 0
    return depth


PLACES = [[(0.1, 0.1), (0.6, 0.5)], [(0.1, 0.6), (0.6, 0.1)], [(0.35, 0.35)], [(0.1, 0.35), (0.7, 0.7)]]


# Depth


@pytest.mark.parametrize("size", [SIZE, (240, 320)])
def test_boxes_that_move_leave_the_bench(size):
    bench = plane(*size)
    depths = np.stack([seen(bench, places) for places in PLACES])
    found = find_farthest(depths)
    shown = ((depths > 0) & (np.abs(depths - bench) < 1e-6)).sum(0) >= 2
    assert shown.mean() > 0.9
    assert np.abs(found - bench)[shown].max() < 1e-4
    assert np.abs(found - bench).max() < 1e-3  # what one capture shows alone, or none


def test_where_a_box_always_lies_the_plate_goes_on():
    bench = plane(*SIZE)
    tops = zip(PLACES, (0.02, 0.03, 0.04, 0.06), strict=True)  # of one height in all captures they would be bench
    depths = np.stack([seen(bench, [*places, (0.4, 0.4)], side=0.15, top=top) for places, top in tops])
    found = find_farthest(depths)
    under = np.s_[round(0.4 * SIZE[0]) : round(0.55 * SIZE[0]), round(0.4 * SIZE[1]) : round(0.55 * SIZE[1])]
    assert (bench - depths.max(0))[under].min() > 0.015  # nobody shows it
    assert np.abs(found - bench)[under].max() < 1e-3


def test_a_bench_that_sensors_see_with_noise_is_found_within_it():
    bench, random = plane(*SIZE), np.random.default_rng(5)
    noise = random.normal(0, 2e-4, (len(PLACES), *SIZE)).astype(np.float32)
    depths = np.stack([seen(bench, places) for places in PLACES])
    found = find_farthest(np.where(depths > 0, depths + noise, 0).astype(np.float32))
    assert np.median(np.abs(found - bench)) < 4e-4 and np.abs(found - bench).max() < 3e-3


def test_a_lone_far_speckle_is_not_taken():
    bench = plane(*SIZE)
    depths = np.stack([seen(bench, places) for places in PLACES])
    for number, (row, column) in enumerate([(20, 20), (50, 70), (80, 100)]):
        depths[number, row, column] = 1.5
    assert np.abs(find_farthest(depths) - bench).max() < 1e-3


def test_what_is_seen_beyond_the_plate_is_bench():
    """A hole that only one capture sees into: the plate over it would be nearer than what was seen."""
    bench = plane(*SIZE)
    bench[40:60, 50:80] += 0.05
    depths = np.stack([bench, bench])
    depths[1, 38:62, 48:82] = 0.6
    slope = 0.15 / SIZE[0] + 0.1 / SIZE[1]  # metres a pixel: the nearest of neighbours is taken, against speckle
    assert np.abs(find_farthest(depths) - bench)[42:58, 52:78].max() < 1.1 * slope


def test_one_capture_alone_is_the_bench_itself():
    depth = seen(plane(*SIZE), PLACES[0])
    found = find_farthest(depth[None])
    np.testing.assert_array_equal(found[depth > 0], depth[depth > 0])
    assert (found > 0).all()


def test_the_median_is_the_middle_depth_and_fills_holes():
    bench = plane(*SIZE)
    depths = np.stack([seen(bench, places) for places in PLACES])
    depths[:, 10:14, 10:14] = 0
    found = find_median(depths)
    assert found.dtype == np.float32 and np.median(np.abs(found - bench)) < 1e-6
    assert np.abs(found - bench)[10:14, 10:14].max() < 1e-3


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("find", [find_farthest, find_median])
def test_captures_without_depth_show_no_bench(find, count):
    with pytest.raises(ValueError, match="no trusted depth"):
        find(np.zeros((count, *SIZE), np.float32))


HIDDEN = {
    "a corner": np.s_[:0.4, :0.4],
    "the middle": np.s_[0.35:0.6, 0.35:0.6],
    "a border": np.s_[:, 0.75:],
    "half": np.s_[:, 0.5:],
}


def hidden(size: tuple[int, int], part: tuple[slice, slice]) -> np.ndarray:
    """A mask (h, w), False in a part given in shares of height and width."""
    known = np.ones(size, bool)
    down, across = (
        slice(round((share.start or 0) * side), round((share.stop or 1) * side))
        for share, side in zip(part, size, strict=True)
    )
    known[down, across] = False
    return known


@pytest.mark.parametrize("part", HIDDEN)
@pytest.mark.parametrize("size", [SIZE, (97, 131), (600, 960)])
def test_a_tilted_plane_is_continued_exactly(size, part):
    bench, known = plane(*size), hidden(size, HIDDEN[part])
    found = fill_holes(np.where(known, bench, 0), known)
    assert np.abs(found - bench).max() < 5e-5
    np.testing.assert_array_equal(found[known], bench[known])


def test_a_curved_bench_is_continued_smoothly():
    down, across = np.mgrid[-1:1:96j, -1:1:128j]
    bench = (0.8 + 0.01 * down**2 - 0.02 * across * down).astype(np.float32)
    known = hidden(SIZE, HIDDEN["the middle"])
    assert np.abs(fill_holes(np.where(known, bench, 0), known) - bench).max() < 5e-4


def test_a_plate_on_one_point_is_level_and_one_on_all_is_left():
    known = np.zeros(SIZE, bool)
    known[30, 40] = True
    np.testing.assert_allclose(fill_holes(np.where(known, plane(*SIZE), 0), known), plane(*SIZE)[30, 40], rtol=1e-5)
    np.testing.assert_array_equal(fill_holes(plane(*SIZE), np.ones(SIZE, bool)), plane(*SIZE))
    with pytest.raises(ValueError, match="no bench to find"):
        fill_holes(plane(*SIZE), np.zeros(SIZE, bool))


# Colours


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Scratches and grain of a bench: (h, w, 3) uint8, with something to see at any place."""
    random = np.random.default_rng(seed)
    coarse = cv2.resize(
        random.uniform(0, 255, (height // 4, width // 4, 3)), (width, height), interpolation=cv2.INTER_CUBIC
    )
    return coarse.clip(0, 255).astype(np.uint8)


def test_colours_are_those_of_the_bench_and_painted_in_under_what_always_lies_there():
    bench, wall = plane(*SIZE), np.full((*SIZE, 3), (90, 120, 60), np.uint8)
    depths = np.stack([seen(bench, [*places, (0.4, 0.4)], side=0.15) for places in PLACES])
    on_top = (depths > 0) & (bench - depths > 0.01)
    images = np.where(on_top[..., None], np.uint8(255), wall)
    found = background.find_colours(images, depths, bench)
    assert np.abs(found.astype(int) - wall).max() < 5  # the painter rounds


# What a model's folder holds


def bench_of(size: tuple[int, int] = SIZE, kind: str = "farthest") -> Background:
    return Background(plane(*size), texture(*size), kind)


@pytest.mark.parametrize("kind", ["farthest", "median", "empty bench.npy"])
def test_a_background_comes_back_as_it_was_written(kind, tmp_path):
    bench = bench_of(kind=kind)
    bench.write(tmp_path / "model")
    again = read_background(tmp_path / "model")
    np.testing.assert_array_equal(again.depth, bench.depth)
    np.testing.assert_array_equal(again.image, bench.image)
    assert (again.kind, again.depth.dtype, again.reference) == (kind, np.float32, bench.reference)
    names = [path.name for path in (tmp_path / "model").iterdir()]
    assert sorted(names) == ["background.json", "background.npy", "background.png"]


def with_hole(depth: np.ndarray, value: float) -> np.ndarray:
    depth = depth.copy()
    depth[3, 4] = value
    return depth


DAMAGED = {
    "no depth": lambda folder: (folder / "background.npy").unlink(),
    "cut depth": lambda folder: (folder / "background.npy").write_bytes((folder / "background.npy").read_bytes()[:900]),
    "no array": lambda folder: (folder / "background.npy").write_bytes(b"no depth"),
    "pickled": lambda folder: np.save(folder / "background.npy", np.array([{}, 1]), allow_pickle=True),
    "doubles": lambda folder: np.save(folder / "background.npy", plane(*SIZE).astype(np.float64)),
    "a hole": lambda folder: np.save(folder / "background.npy", with_hole(plane(*SIZE), 0)),
    "not a number": lambda folder: np.save(folder / "background.npy", with_hole(plane(*SIZE), np.nan)),
    "three axes": lambda folder: np.save(folder / "background.npy", plane(*SIZE)[None]),
    "another size": lambda folder: np.save(folder / "background.npy", plane(48, 64)),
    "no image": lambda folder: (folder / "background.png").unlink(),
    "cut image": lambda folder: (folder / "background.png").write_bytes((folder / "background.png").read_bytes()[:900]),
    "no words": lambda folder: (folder / "background.json").unlink(),
    "no JSON": lambda folder: (folder / "background.json").write_text("{"),
    "a list": lambda folder: (folder / "background.json").write_text("[1]"),
    "no kind": lambda folder: (folder / "background.json").write_text(json.dumps({"unit": "m"})),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_folder_is_one_sentence(damage, tmp_path):
    bench_of().write(tmp_path)
    DAMAGED[damage](tmp_path)
    with pytest.raises(ValueError, match=r"background\.(npy|png|json)") as caught:
        read_background(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(list(Path(tmp_path).iterdir())) >= 2  # nothing was tidied away


def test_depth_at_another_scale_is_the_same_bench():
    bench = bench_of()
    np.testing.assert_array_equal(bench.depth_at(SIZE), bench.depth)
    for height, width in ((192, 256), (48, 64), (144, 192), (97, 128)):  # the last differs by rounding alone
        found, (rows, columns) = bench.depth_at((height, width)), SIZE
        assert found.shape == (height, width)
        down = ((np.arange(height) + 0.5) * rows / height - 0.5)[:, None] / rows
        across = ((np.arange(width) + 0.5) * columns / width - 0.5)[None] / columns
        inner = np.s_[3:-3, 3:-3]
        np.testing.assert_allclose(found[inner], (0.7 + 0.15 * down + 0.1 * across)[inner], atol=1e-5)


def test_depth_at_another_aspect_is_refused():
    with pytest.raises(ValueError, match=r"The image is 128x128.*images are 128x96") as caught:
        bench_of().depth_at((128, 128))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="expected an image of that camera"):
        bench_of().depth_at((128, 96))


def test_flattened_depth_keeps_heights_and_what_is_not_trusted():
    bench = bench_of()
    depth = seen(bench.depth, [(0.3, 0.3)], top=0.02)
    flat = bench.flatten(depth)
    assert flat.dtype == np.float32 and (flat[depth == 0] == 0).all()
    trusted = depth > 0
    np.testing.assert_allclose((bench.reference - flat)[trusted], (bench.depth - depth)[trusted], atol=1e-6)
    empty = bench.flatten(bench.depth)
    np.testing.assert_allclose(empty, bench.reference, atol=1e-6)
    half = cv2.resize(depth, (64, 48), interpolation=cv2.INTER_NEAREST)
    assert ((half > 0) == (bench.flatten(half) > 0)).all()


def test_objects_are_what_is_clearly_above_the_bench():
    bench = bench_of()
    depth = seen(bench.depth, [(0.3, 0.3)], top=0.02)
    np.testing.assert_array_equal(bench.mask_objects(depth), (depth > 0) & (bench.depth - depth > 0.01 * bench.depth))
    assert 0.02 < bench.mask_objects(depth).mean() < 0.05 and not bench.mask_objects(bench.depth).any()


# Whether the camera stands


WIDE = (240, 320)


@pytest.mark.parametrize("shift", [(0, 12), (12, 0), (-9, 12)])
def test_an_image_shifted_by_12_pixels_is_seen(shift):
    whole = texture(WIDE[0] + 40, WIDE[1] + 40)
    bench = Background(plane(*WIDE), whole[20:-20, 20:-20], "farthest")
    top, left = 20 - shift[0], 20 - shift[1]
    found = register(bench, whole[top : top + WIDE[0], left : left + WIDE[1]])
    assert found.moved and found.agrees is None
    assert found.shift_px == pytest.approx(float(np.hypot(*shift)), abs=3)
    assert "moved" in found.describe("c01") and "pixels" in found.describe("c01")


def test_a_camera_that_stands_is_not_taken_to_have_moved():
    bench = bench_of(WIDE)
    darker = (0.6 * bench.image + 10).astype(np.uint8)  # other light
    darker[60:120, 80:160] = 255  # and an object
    depth = seen(bench.depth, PLACES[0])
    for found in (register(bench, bench.image), register(bench, darker), register(bench, darker, depth)):
        assert not found.moved and found.shift_px == 0
    assert register(bench, darker, depth).agrees == pytest.approx(0.92, abs=0.02)
    assert register(bench, darker, depth).offset == pytest.approx(0, abs=1e-6)
    twice = cv2.resize(bench.image, (640, 480), interpolation=cv2.INTER_CUBIC)
    assert not register(bench, twice).moved


def test_depth_of_a_moved_camera_is_seen_though_its_image_shows_nothing():
    bench = bench_of(WIDE)
    grey = np.full((*WIDE, 3), 128, np.uint8)
    found = register(bench, grey, bench.depth + np.float32(0.01))
    assert found.moved and found.shift_px == 0 and found.agrees == 0
    assert found.offset == pytest.approx(0.01, abs=1e-5)
    assert "10.0 mm in depth" in found.describe("c02")
    assert not register(bench, grey, np.zeros(WIDE, np.float32)).moved  # nothing is known


def test_a_bench_without_texture_says_nothing_of_an_image():
    bench = Background(plane(*WIDE), np.full((*WIDE, 3), 128, np.uint8), "empty.npy")
    assert not register(bench, texture(*WIDE)).moved
