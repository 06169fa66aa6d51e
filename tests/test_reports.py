"""What people meet who bring captures of other programs: other scales, sizes, names, clocks and turned photographs."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from small_captures import INTRINSICS, picture, plane_depth
from typer.testing import CliRunner

from sonde import cli, evaluation, files
from sonde.datasets import convert, open_set
from sonde.datasets.matching import match_times, read_stamp
from sonde.geometry import scale_intrinsics


def write_levels(path: Path, metres: np.ndarray, per_metre: float = 1000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(metres * per_metre).astype(np.uint16)).save(path)


def write_photo(path: Path, pixels: np.ndarray, orientation: int = 1) -> None:
    """A photograph whose stored pixels EXIF turns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, quality=95, exif=exif)


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit | ValueError), done.exception
    return done.exit_code, done.output + str(done.exception or "")


# Predictions as whole levels


@pytest.fixture
def kitti_like(tmp_path: Path) -> tuple[Path, Path]:
    """A set of one capture, and a folder of predictions in levels of 1/256 m."""
    metres = plane_depth(24, 32) * 10
    write_levels(tmp_path / "set" / "depth" / "a.png", metres)
    write_photo(tmp_path / "set" / "rgb" / "a.png", picture(0))
    (tmp_path / "set" / "dataset.json").write_text(json.dumps({"depth_scale": 0.001}))
    write_levels(tmp_path / "answers" / "a.png", metres, 256)
    return tmp_path / "set", tmp_path / "answers"


def test_predictions_in_levels_are_scored_by_the_scale_that_is_given(kitti_like, tmp_path):
    root, answers = kitti_like
    scored = evaluation.evaluate(answers, "metric", root, format="folder", depth_scale=1 / 256, out=tmp_path / "out")
    assert scored.metrics["abs_rel"] < 1e-3
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["settings"]["depth_scale"] == 1 / 256
    assert evaluation.read_evaluation(tmp_path / "out").settings.depth_scale == 1 / 256


@pytest.mark.parametrize("name", ["predictions.json", "dataset.json"])
def test_a_folder_of_predictions_states_its_scale(kitti_like, name):
    root, answers = kitti_like
    (answers / name).write_text(json.dumps({"depth_scale": 1 / 256}))
    assert evaluation.evaluate(answers, "metric", root, format="folder").metrics["abs_rel"] < 1e-3
    with pytest.raises(ValueError, match=rf"0\.001 m per level, and .*{name} 0\.00390625: keep one"):
        evaluation.evaluate(answers, "metric", root, format="folder", depth_scale=0.001)


def test_without_a_scale_the_message_names_every_way_to_state_it(kitti_like):
    root, answers = kitti_like
    with pytest.raises(ValueError, match=r"give its scale .*--depth-scale.*predictions\.json or dataset\.json"):
        evaluation.evaluate(answers, "metric", root, format="folder")


def test_a_scale_is_refused_beside_another_and_for_a_model(kitti_like):
    root, answers = kitti_like
    files.write_depth(answers / "a.png", plane_depth(24, 32).astype(np.float32))
    with pytest.raises(ValueError, match=r"a\.png states 0\.0001 m per level itself, not depth_scale 0\.00390625"):
        evaluation.evaluate(answers, "metric", root, format="folder", depth_scale=1 / 256)
    with pytest.raises(ValueError, match="no folder of predictions: depth_scale is for one"):
        evaluation.evaluate(lambda capture: None, "metric", root, format="folder", depth_scale=1 / 256)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected more than 0"):
        evaluation.evaluate(answers, "metric", root, format="folder", depth_scale=0)


# Sizes


def write_sizes(root: Path, image: tuple[int, int], depth: tuple[int, int]) -> Path:
    write_photo(root / "rgb" / "a.png", picture(0, *image))
    write_levels(root / "depth" / "a.png", plane_depth(*depth))
    (root / "dataset.json").write_text(json.dumps({"depth_scale": 0.001, "intrinsics": INTRINSICS.tolist()}))
    return root


@pytest.mark.parametrize(
    ("image", "depth", "read"), [((180, 240), (24, 32), (168, 224)), ((242, 324), (120, 160), (240, 320))]
)
def test_an_image_of_no_whole_multiple_is_read_at_the_next_smaller_one(tmp_path, caplog, image, depth, read):
    captures = open_set("folder", write_sizes(tmp_path, image, depth))
    with caplog.at_level(logging.WARNING):
        capture = captures.read(0)
        captures.read(0)
        captures.read_depth(0)
    assert capture.image.shape == (*read, 3) and capture.depth.shape == depth
    np.testing.assert_array_equal(capture.intrinsics, INTRINSICS)  # type: ignore[arg-type]
    seen = scale_intrinsics(INTRINSICS, depth, read)
    assert seen[0, 0] / INTRINSICS[0, 0] == seen[1, 1] / INTRINSICS[1, 1] == read[0] // depth[0]
    assert [record.message for record in caplog.records] == [caplog.records[0].message]
    assert f"{image[1]}x{image[0]}" in caplog.text and f"{read[1]}x{read[0]}" in caplog.text


@pytest.mark.parametrize("image", [(24, 34), (23, 32), (12, 16), (48, 32)])
def test_another_shape_or_a_smaller_image_is_refused(tmp_path, image):
    with pytest.raises(ValueError, match=r"a\.png is 32x24 but a\.png is .*export both from one capture"):
        open_set("folder", write_sizes(tmp_path, image, (24, 32))).read(0)


def test_a_check_tells_the_ratio_and_finds_no_fault_in_it(tmp_path):
    _, text = run("data", "check", write_sizes(tmp_path, (180, 240), (24, 32)), "--format", "folder", "--json")
    document = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert "7.5 times" in document["checks"]["size"]["told"] and document["checks"]["size"]["faults"] == 0


# Names


@pytest.mark.parametrize(
    ("image", "depth"),
    [
        ("{}_colors.png", "{}_depth.png"),
        ("{}_colours.png", "{}_depths.png"),
        ("rgbs_{}.png", "disparities_{}.png"),
        ("rgb{}.png", "depth{}.png"),
        ("{}Color.png", "{}RawDepth.png"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_a_role_may_stand_anywhere_in_a_name(tmp_path, image, depth, together):
    images, depths = (tmp_path / "in",) * 2 if together else (tmp_path / "rgb", tmp_path / "depth")
    for name in ("0001", "0002"):
        write_photo(images / image.format(name), picture(0))
        write_levels(depths / depth.format(name), plane_depth(24, 32))
    done = convert(images, depths, tmp_path / "out", depth_scale=0.001)
    assert done == (["0001", "0002"], [])


def test_names_match_by_what_the_star_of_each_pattern_stands_for(tmp_path):
    for name in ("x1", "x2"):
        write_photo(tmp_path / "in" / f"{name}_a.png", picture(0))
        write_levels(tmp_path / "in" / f"{name}_b.png", plane_depth(24, 32))
    folder = tmp_path / "in"
    with pytest.raises(ValueError, match=r"give a pattern for each"):
        convert(folder, folder, tmp_path / "out", depth_scale=0.001)
    with pytest.raises(ValueError, match=r"No image .*what \* stands for is the capture's name"):
        convert(folder / "x1_a.png", folder / "*_b.png", tmp_path / "out", depth_scale=0.001)
    (folder / "x2_b.png").rename(folder / "x3_b.png")
    done = convert(folder / "*_a.png", folder / "*_b.png", tmp_path / "out", depth_scale=0.001)
    assert done.captures == ["x1"] and len(done.problems) == 2


def test_8_bit_depth_is_refused_with_the_remedy_and_read_at_a_scale_that_fits(tmp_path):
    grey = np.arange(1, 24 * 32 + 1).reshape(24, 32) % 255 + 1
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"8-bit is a preview, or depth in 256 levels; export 16-bit .*--depth-scale"):
        files.read_depth(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"8-bit .*0\.001 m per level, as stated, would end at 0\.255 m"):
        files.read_depth(tmp_path / "a.png", 0.001)
    np.testing.assert_allclose(files.read_depth(tmp_path / "a.png", 10 / 255), grey * 10 / 255, rtol=1e-6)
    with pytest.raises(ValueError, match="8-bit"):
        files.read_levels(tmp_path / "a.png")


# Clocks


def test_the_nearest_stamps_pair_one_to_one(tmp_path):
    for stamp in ("1305031102.175304", "1305031102.211214", "1305031109.000000"):
        write_photo(tmp_path / "rgb" / f"{stamp}.png", picture(0))
    for stamp in ("1305031102.160407", "1305031102.194330", "1305031102.226738"):
        write_levels(tmp_path / "depth" / f"{stamp}.png", plane_depth(24, 32))
    with pytest.raises(ValueError, match=r"the names are time stamps, give --by-time 0\.02"):
        convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "out", depth_scale=0.001)
    code, text = run(
        *("data", "convert", tmp_path / "rgb", tmp_path / "depth", tmp_path / "out"),
        *("--depth-scale", "0.001", "--by-time", "0.02", "--json"),
    )
    assert code == 1 and json.loads(text[: text.rindex("}") + 1])["captures"] == 2
    assert open_set("zivid", tmp_path / "out").ids == ["1305031102.175304", "1305031102.211214"]
    done = convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "again", depth_scale=0.001, by_time=0.02)
    assert ["1305031109" in done.problems[0], "102.194330" in done.problems[1], len(done.problems)] == [True, True, 2]
    with pytest.raises(ValueError, match=r"time stamp within 1e-06"):
        convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "none", depth_scale=0.001, by_time=1e-6)
    with pytest.raises(ValueError, match=r"by_time=-1: expected"):
        convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "none", depth_scale=0.001, by_time=-1)


def associate(images: list[float], depths: list[float], limit: float) -> dict[float, float]:
    """As TUM's associate.py does it."""
    near = sorted((abs(a - b), a, b) for a in images for b in depths if abs(a - b) <= limit)
    found: dict[float, float] = {}
    for _, image, depth in near:
        if image not in found and depth not in found.values():
            found[image] = depth
    return found


def test_stamps_pair_as_in_associate():
    rng = np.random.default_rng(0)
    for limit in (0.01, 0.3, 100.0):
        images, depths = ([round(float(time), 6) for time in rng.uniform(0, 30, size)] for size in (80, 100))
        rgb, maps = ({f"{time:.6f}": Path(f"{time:.6f}.png") for time in times} for times in (images, depths))
        pairs, problems = match_times(rgb, maps, limit)
        assert {float(pair.id): float(pair.depth.stem) for pair in pairs} == associate(images, depths, limit)
        assert len(problems) == 180 - 2 * len(pairs)


def test_a_stamp_is_the_longest_number_of_a_name():
    assert str(read_stamp("seq/rgb_1305031102.175304")) == "1305031102.175304"
    assert str(read_stamp("cam0-1403636579763555584")) == "1403636579763555584"
    assert read_stamp("1_2") is None and read_stamp("left") is None


# Photographs that EXIF turns


def blocks(height: int, width: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its depth, metres, of boxes at several depths: their edges agree."""
    rng = np.random.default_rng(seed)
    image, depth = np.full((height, width, 3), 90, np.uint8), np.full((height, width), 3.0)
    for _ in range(14):
        top, left = int(rng.integers(0, height - 40)), int(rng.integers(0, width - 50))
        image[top : top + 36, left : left + 44] = rng.integers(0, 256, 3)
        depth[top : top + 36, left : left + 44] = rng.uniform(0.6, 2.5)
    return image, depth


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """What EXIF makes of stored pixels."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture_ = Image.fromarray(values)
    picture_.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(picture_))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_depth_in_the_order_of_the_sensor_turns_with_its_image(tmp_path, orientation):
    image, depth = blocks(120, 160)
    depth[0, 0] = 1.25
    write_photo(tmp_path / "rgb" / "a.jpg", image, orientation)
    write_levels(tmp_path / "depth" / "a.png", depth)
    said = {"depth_scale": 0.001, "intrinsics": INTRINSICS.tolist()}
    for stated in ("sensor", "image"):
        (tmp_path / "dataset.json").write_text(json.dumps(said | {"orientation": stated}))
        capture = open_set("folder", tmp_path).read(0)
        turned = stated == "sensor" or orientation > 4
        expected = upright(depth.astype(np.float32), orientation) if turned else depth
        np.testing.assert_allclose(capture.depth, expected, atol=1e-3)
        np.testing.assert_array_equal(capture.image, files.read_rgb(tmp_path / "rgb" / "a.jpg"))
        # The pixel at the stored camera's centre stays at its centre.
        marked = np.zeros((120, 160), np.float32)
        marked[12, 15] = 1
        row, column = np.argwhere(upright(marked, orientation) if turned else marked)[0]
        camera = capture.intrinsics
        assert camera is not None
        assert abs(camera[0, 2] - column) < 0.5 and abs(camera[1, 2] - row) < 0.5
        assert camera[0, 0] == INTRINSICS[1, 1] if turned and orientation > 4 else INTRINSICS[0, 0]


def test_depth_that_is_upright_already_is_not_turned(tmp_path):
    image, depth = blocks(120, 160)
    write_photo(tmp_path / "rgb" / "a.jpg", image, 6)
    write_levels(tmp_path / "depth" / "a.png", upright(depth.astype(np.float32), 6))
    (tmp_path / "dataset.json").write_text(json.dumps({"depth_scale": 0.001}))
    np.testing.assert_allclose(
        open_set("folder", tmp_path).read(0).depth, upright(depth.astype(np.float32), 6), atol=1e-3
    )


def test_a_conversion_turns_depth_and_the_camera_that_is_given(tmp_path):
    image, depth = blocks(120, 160)
    camera = np.array([[150.0, 0, 70], [0, 150, 50], [0, 0, 1]])
    for orientation, said in ((6, "image"), (3, "sensor")):
        write_photo(tmp_path / "rgb" / "a.jpg", image, orientation)
        write_levels(tmp_path / "depth" / "a.png", depth)
        out = tmp_path / f"out{orientation}"
        done = convert(
            *(tmp_path / "rgb", tmp_path / "depth", out),
            depth_scale=0.001,
            intrinsics={"*": camera},
            orientation=said,
        )
        assert done == (["a"], [])
        capture = open_set("zivid", out).read(0)
        np.testing.assert_allclose(capture.depth, upright(depth.astype(np.float32), orientation), atol=1e-3)
        centre = (69, 70) if orientation == 6 else (89, 69)
        np.testing.assert_allclose(capture.intrinsics[:2, 2], centre, atol=0.1)  # type: ignore[index]
    with pytest.raises(ValueError, match="orientation='up': expected image, or sensor"):
        convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "none", orientation="up")


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_check_measures_which_way_edges_agree_and_names_exif(tmp_path, orientation):
    image, depth = blocks(240, 320)
    write_photo(tmp_path / "rgb" / "a.jpg", image, orientation)
    (tmp_path / "dataset.json").write_text(json.dumps({"depth_scale": 0.001}))

    def lines() -> list[str]:
        _, text = run("data", "check", tmp_path, "--format", "folder", "--json")
        return [line for line in json.loads(text[: text.rindex("}") + 1])["problems"] if "EXIF" in line]

    write_levels(tmp_path / "depth" / "a.png", depth)
    found = lines()
    assert len(found) == 1 and f"EXIF orientation {orientation}" in found[0] and '"orientation": "sensor"' in found[0]
    (tmp_path / "dataset.json").write_text(json.dumps({"depth_scale": 0.001, "orientation": "sensor"}))
    assert not lines()
    write_levels(tmp_path / "depth" / "a.png", upright(depth.astype(np.float32), orientation))
    assert len(lines()) == 1
    (tmp_path / "dataset.json").write_text(json.dumps({"depth_scale": 0.001}))
    assert not lines()


def test_a_whole_set_in_the_order_of_the_sensor_has_one_line(tmp_path):
    for seed in range(4):
        image, depth = blocks(240, 320, seed)
        write_photo(tmp_path / "rgb" / f"{seed}.jpg", image, 3)
        write_levels(tmp_path / "depth" / f"{seed}.png", depth)
    (tmp_path / "dataset.json").write_text(json.dumps({"depth_scale": 0.001}))
    _, text = run("data", "check", tmp_path, "--format", "folder", "--json")
    document = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert [line[:42] for line in document["problems"] if "EXIF" in line] == [
        "Depth fits its image better in 4 captures "
    ]
    assert "EXIF orientation 3: 4; depth maps turned with them: 0" in document["checks"]["orientation"]["told"]
