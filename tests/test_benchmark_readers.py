"""The sets that others publish scores on: each read from a small tree in its published layout."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_captures import INTRINSICS, picture, plane_depth

from sonde import files
from sonde.datasets import open_set
from sonde.types import MaskArray

HEIGHT, WIDTH = 24, 32
TAG = np.float32(202021.25).tobytes()


def holes() -> MaskArray:
    """Where the planted files hold no depth."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:3, :4] = True
    return mask


def plane() -> np.ndarray:
    return plane_depth(HEIGHT, WIDTH).astype(np.float32)


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_rgb(path, picture(0, HEIGHT, WIDTH))


def saved(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def eth3d(root: Path) -> Path:
    for name in ("DSC_0286", "DSC_0287"):
        image = root / "courtyard_dslr_jpg" / "courtyard" / "images" / "dslr_images" / f"{name}.JPG"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(0, HEIGHT, WIDTH)).save(image, "JPEG")
        depth = root / "courtyard_dslr_depth" / "courtyard" / "ground_truth_depth" / "dslr_images" / f"{name}.JPG"
        depth.parent.mkdir(parents=True, exist_ok=True)
        depth.write_bytes(np.where(holes(), np.inf, plane()).astype("<f4").tobytes())
    return root / "courtyard_dslr_depth" / "courtyard" / "ground_truth_depth" / "dslr_images" / "DSC_0286.JPG"


def diode(root: Path) -> Path:
    for part in ("indoors", "outdoor"):
        stem = f"00019_00183_{part}_000_010"
        scan = root / "val" / part / "scene_00019" / "scan_00183"
        write_image(scan / f"{stem}.png")
        saved(scan / f"{stem}_depth.npy", np.where(holes(), 7, plane())[..., None].astype(np.float32))
        saved(scan / f"{stem}_depth_mask.npy", (~holes()).astype(np.float32))
    return root / "val" / "indoors" / "scene_00019" / "scan_00183" / "00019_00183_indoors_000_010_depth.npy"


def sintel(root: Path) -> Path:
    camera = TAG + INTRINSICS.astype("<f8").tobytes() + np.zeros((3, 4)).tobytes()
    for name in ("frame_0001", "frame_0002"):
        write_image(root / "MPI-Sintel-complete" / "training" / "final" / "alley_1" / f"{name}.png")
        write_image(root / "MPI-Sintel-complete" / "training" / "clean" / "alley_1" / f"{name}.png")
        write_image(root / "MPI-Sintel-complete" / "test" / "final" / "ambush_1" / f"{name}.png")
        depths = root / "MPI-Sintel-depth" / "training"
        for folder, suffix in (("depth", "dpt"), ("camdata_left", "cam")):
            (depths / folder / "alley_1").mkdir(parents=True, exist_ok=True)
            header = TAG + np.array([WIDTH, HEIGHT], "<i4").tobytes()
            content = header + np.where(holes(), 2e4, plane()).astype("<f4").tobytes() if suffix == "dpt" else camera
            (depths / folder / "alley_1" / f"{name}.{suffix}").write_bytes(content)
    return root / "MPI-Sintel-depth" / "training" / "depth" / "alley_1" / "frame_0001.dpt"


def ibims(root: Path) -> Path:
    core = root / "ibims1_core_raw"
    levels = np.rint(plane() * 65535 / 50).astype(np.uint16)
    levels[0, :4] = 65535
    invalid, glass = np.full((HEIGHT, WIDTH), 255, np.uint8), np.full((HEIGHT, WIDTH), 255, np.uint8)
    invalid[1, :4] = 0
    glass[2, :4] = 0
    for name in ("corridor_01", "kitchen_02"):
        write_image(core / "rgb" / f"{name}.png")
        for folder, array in (("depth", levels), ("mask_invalid", invalid), ("mask_transp", glass)):
            (core / folder).mkdir(exist_ok=True)
            Image.fromarray(array).save(core / folder / f"{name}.png")
        (core / "calib").mkdir(exist_ok=True)
        (core / "calib" / f"{name}.txt").write_text(
            ", ".join(str(value) for value in INTRINSICS[[0, 1, 0, 1], [0, 1, 2, 2]])
        )
    return core / "depth" / "corridor_01.png"


SETS = {
    "eth3d": (eth3d, ["courtyard/DSC_0286", "courtyard/DSC_0287"], 0.0, False),
    "diode": (
        diode,
        [f"{part}/scene_00019/scan_00183/00019_00183_{part}_000_010" for part in ("indoors", "outdoor")],
        0.0, False,
    ),
    "sintel": (sintel, ["alley_1/frame_0001", "alley_1/frame_0002"], 0.0, True),
    "ibims": (ibims, ["corridor_01", "kitchen_02"], 25 / 65535, True),
}  # fmt: skip
"""Format -> writer, capture ids, what rounding on disk costs in metres, whether a camera is given."""

every_set = pytest.mark.parametrize("name", SETS)


@every_set
def test_depth_is_the_plane_in_metres_and_what_was_not_measured_is_not_trusted(tmp_path, name):
    plant, ids, rounding, camera = SETS[name]
    plant(tmp_path)
    captures = open_set(name, tmp_path)
    assert (captures.ids, captures.unit, captures.problems, captures.space) == (ids, "m", [], "metric")
    capture = captures.read(0)
    np.testing.assert_array_equal(capture.mask, ~holes())
    np.testing.assert_allclose(capture.depth[~holes()], plane()[~holes()], atol=rounding * 1.001)
    assert capture.depth.dtype == np.float32 and capture.image.shape == (HEIGHT, WIDTH, 3)
    assert (capture.intrinsics is not None) == camera
    assert capture.intrinsics is None or np.allclose(capture.intrinsics, INTRINSICS)
    np.testing.assert_array_equal(captures.read_depth(0), capture.depth)


@every_set
def test_ids_do_not_depend_on_how_the_folder_is_spelt(tmp_path, name, monkeypatch):
    for folder in [tmp_path, *(path for path in SETS[name][0](tmp_path).parents if tmp_path in path.parents)]:
        try:
            whole = open_set(name, folder).ids
        except ValueError:  # half of a pair
            continue
        monkeypatch.chdir(folder)
        assert open_set(name, ".").ids == whole


@every_set
def test_a_missing_partner_is_told(tmp_path, name):
    SETS[name][0](tmp_path).unlink()
    with pytest.raises(ValueError, match="has no depth of the same name"):
        open_set(name, tmp_path)


@every_set
@pytest.mark.parametrize("content", [b"", b"hello", "half"])
def test_a_corrupt_file_is_one_sentence(tmp_path, name, content):
    depth = SETS[name][0](tmp_path)
    whole = depth.read_bytes()
    depth.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(ValueError, match=rf"{depth.name} cannot be read \(.*\): .*expected") as caught:
        open_set(name, tmp_path).read(0)
    assert "\n" not in str(caught.value)


@every_set
def test_a_folder_of_something_else_is_refused(tmp_path, name):
    write_image(tmp_path / "images" / "a.png")
    with pytest.raises(ValueError, match=f"holds no captures in the {name} layout"):
        open_set(name, tmp_path)


@pytest.mark.parametrize(("name", "mask"), [("diode", "_depth_mask.npy"), ("ibims", "mask_transp/corridor_01.png")])
def test_depth_without_its_mask_is_refused(tmp_path, name, mask):
    SETS[name][0](tmp_path)
    captures = open_set(name, tmp_path)
    for path in tmp_path.rglob("*"):
        if path.as_posix().endswith(mask):
            path.unlink()
    with pytest.raises(ValueError, match="does not exist"):
        captures.read(0)


def test_diode_knows_rooms_from_streets(tmp_path):
    diode(tmp_path)
    assert list(open_set("diode", tmp_path).groups("part").values()) == ["indoors", "outdoor"]
    assert open_set("diode", tmp_path / "val" / "outdoor").ids == SETS["diode"][1][1:]


def test_the_frames_of_sintel_are_grouped_by_scene_and_its_camera_is_optional(tmp_path):
    depth = sintel(tmp_path)
    assert set(open_set("sintel", tmp_path).groups("folder").values()) == {"alley_1"}
    for path in tmp_path.rglob("*.cam"):
        path.unlink()
    assert open_set("sintel", tmp_path).read(0).intrinsics is None
    depth.write_bytes(b"\0\0\0\0" + depth.read_bytes()[4:])
    with pytest.raises(ValueError, match="does not begin with the tag"):
        open_set("sintel", tmp_path).read(0)


@pytest.mark.parametrize(("name", "pattern"), [
    ("diode", "val/indoors/**/*_depth_mask.npy"), ("ibims", "**/mask_invalid/corridor_01.png"),
    ("ibims", "**/mask_transp/corridor_01.png"), ("ibims", "**/calib/corridor_01.txt"),
])  # fmt: skip
def test_what_lies_beside_a_map_is_part_of_its_captures_key(tmp_path, name, pattern):
    SETS[name][0](tmp_path)
    key, other = (open_set(name, tmp_path).key(index) for index in (0, 1))
    (file,) = tmp_path.glob(pattern)
    os.utime(file, ns=(1, 1))
    captures = open_set(name, tmp_path)
    assert captures.key(0) != key and captures.key(1) == other
    assert pickle.loads(pickle.dumps(captures)).key(0) == captures.key(0)
