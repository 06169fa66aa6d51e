"""The sets metric models are scored on: each read from a small tree in its published layout, and their real lists."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat
from small_captures import picture, plane_depth, write_bench
from torch.utils.data import DataLoader

from sonde import files, recipes
from sonde.datasets import Capture, DepthDataset, kb_crop, keep_listed, kitti, open_set, read_listed_ids, split
from sonde.recipes import SplitRecipe
from sonde.runs import open_captures

DAY = "2011_09_26"
DRIVE = "2011_09_26_drive_0002_sync"
FRAME = f"{DAY}/{DRIVE}/image_02"
KITTI_CAMERA = np.array([[721.5377, 0, 609.5593], [0, 721.5377, 172.854], [0, 0, 1]])
NYU_CAMERA = np.array([[518.8579, 0, 325.5824], [0, 519.4696, 253.7362], [0, 0, 1]])


def write_image(path: Path, height: int = 6, width: int = 8, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_rgb(path, picture(seed, height, width))


def write_levels(path: Path, metres: np.ndarray, levels_per_metre: float = 256) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(metres * levels_per_metre).astype(np.uint16)).save(path)


def raw(root: Path, drive: str, number: int, camera: str = "image_02", suffix: str = ".png", **size: int) -> Path:
    path = root / drive[:10] / drive / camera / "data" / f"{number:010}{suffix}"
    write_image(path, **size)
    return path


def annotated(root: Path, drive: str, number: int, camera: str = "image_02", depth: np.ndarray | None = None) -> Path:
    path = root / drive / "proj_depth" / "groundtruth" / camera / f"{number:010}.png"
    write_levels(path, np.full((6, 8), 5.5) if depth is None else depth)
    return path


def calibration(camera: str, matrix: np.ndarray, size: tuple[int, int]) -> str:
    """A file in KITTI's form, whose baseline is none of our matter."""
    rows = [f"{value:.6e}" for value in np.hstack([matrix, [[44.85728], [0.2163791], [0.002745884]]]).ravel()]
    sides = f"{size[1]:.6e} {size[0]:.6e}"
    return f"calib_time: 09-Jan-2012 13:57:47\nS_rect_{camera}: {sides}\nP_rect_{camera}: {' '.join(rows)}\n"


def write_calibration(root: Path, size: tuple[int, int]) -> None:
    right = KITTI_CAMERA + np.array([[0, 0, 1], [0, 0, 0], [0, 0, 0]])
    text = calibration("02", KITTI_CAMERA, size) + calibration("03", right, size)
    (root / DAY).mkdir(parents=True, exist_ok=True)
    (root / DAY / "calib_cam_to_cam.txt").write_text(text)


# KITTI


@pytest.mark.parametrize(
    ("images", "depths"),
    [("", "train"), ("raw", "train"), ("raw", "annotated/train"), ("raw", "val"), ("", ""), ("", DAY)],
)
def test_kitti_is_read_side_by_side_or_merged(tmp_path: Path, images: str, depths: str) -> None:
    metres = np.tile([0.0, 3.25, 79.9, 80.0, 255.9, 1, 1, 1], (6, 1))
    raw(tmp_path / images, DRIVE, 7)
    annotated(tmp_path / depths, DRIVE, 7, depth=metres)
    write_calibration(tmp_path / images, (6, 8))
    captures = open_set("kitti", tmp_path)
    assert (captures.ids, captures.unit, captures.problems) == ([f"{FRAME}/0000000007"], "m", [])
    capture = captures.read(0)
    np.testing.assert_allclose(capture.depth[0], [0, 3.25, 79.9, 0, 0, 1, 1, 1], atol=2e-3)
    np.testing.assert_array_equal(capture.intrinsics, KITTI_CAMERA)  # type: ignore[arg-type]
    np.testing.assert_array_equal(captures.read_depth(0), capture.depth)


@pytest.mark.parametrize("here", [False, True])
def test_a_single_days_folder_has_its_cameras_too(tmp_path: Path, monkeypatch, here: bool) -> None:
    raw(tmp_path, DRIVE, 7)
    annotated(tmp_path / DAY, DRIVE, 7)
    write_calibration(tmp_path, (6, 8))
    monkeypatch.chdir(tmp_path / DAY)
    captures = open_set("kitti", Path() if here else tmp_path / DAY)
    np.testing.assert_array_equal(captures.read(0).intrinsics, KITTI_CAMERA)  # type: ignore[arg-type]


def test_frames_without_annotation_and_drives_without_images_are_no_captures(tmp_path: Path) -> None:
    for number in range(4):
        raw(tmp_path, DRIVE, number, suffix=".jpg")
    for number in (1, 2):
        annotated(tmp_path / "train", DRIVE, number)
    annotated(tmp_path / "train", "2011_09_28_drive_0001_sync", 5)
    annotated(tmp_path / "train", DRIVE, 1, "image_03")
    captures = open_set("kitti", tmp_path)
    assert captures.ids == [f"{FRAME}/0000000001", f"{FRAME}/0000000002"]
    assert captures.read(0).intrinsics is None


def test_an_annotation_whose_image_is_missing_is_told(tmp_path: Path) -> None:
    raw(tmp_path, DRIVE, 1)
    annotated(tmp_path / "train", DRIVE, 1)
    lonely = annotated(tmp_path / "train", DRIVE, 2)
    with pytest.raises(ValueError, match=rf"{lonely.name} has no image of the same name"):
        open_set("kitti", tmp_path)
    assert len(open_set("kitti", tmp_path, strict=False)) == 1


def test_folder_groups_both_cameras_of_a_drive(tmp_path: Path) -> None:
    other = "2011_09_26_drive_0005_sync"
    for drive in (DRIVE, other):
        for camera in ("image_02", "image_03"):
            raw(tmp_path, drive, 5, camera)
            annotated(tmp_path / "train", drive, 5, camera)
    write_calibration(tmp_path, (6, 8))
    captures = open_set("kitti", tmp_path)
    groups = captures.groups("folder")
    assert len(groups) == 4 and set(groups.values()) == {f"{DAY}/{DRIVE}", f"{DAY}/{other}"}
    parts = split(captures.ids, SplitRecipe(test=1, validation=0), groups)
    assert [len({id_.split("/")[1] for id_ in parts[name]}) for name in ("train", "test")] == [1, 1]
    left, right = captures.read(0).intrinsics, captures.read(1).intrinsics
    assert left is not None and right is not None and right[0, 2] - left[0, 2] == pytest.approx(1, abs=1e-3)


def test_images_alone_are_told_what_is_missing(tmp_path: Path) -> None:
    raw(tmp_path, DRIVE, 1)
    with pytest.raises(ValueError, match=r"has 1 image and 0 annotated maps .*expected DATE/DRIVE/image_02/data"):
        open_set("kitti", tmp_path)


def test_a_broken_calibration_is_one_sentence(tmp_path: Path) -> None:
    raw(tmp_path, DRIVE, 1)
    annotated(tmp_path / "train", DRIVE, 1)
    (tmp_path / DAY / "calib_cam_to_cam.txt").write_text("S_rect_02: 8 6\nP_rect_02: 1 2 3\n")
    with pytest.raises(ValueError, match=r"calib_cam_to_cam.txt cannot be read .*P_rect_02 of 12"):
        open_set("kitti", tmp_path)


@pytest.mark.parametrize("place", ["", "val_selection_cropped", "depth_selection/val_selection_cropped"])
def test_the_benchmark_s_selection_is_read_with_its_cameras(tmp_path: Path, place: str) -> None:
    folder = tmp_path / place
    for camera in ("image_02", "image_03"):
        write_image(folder / "image" / f"{DRIVE}_image_0000000005_{camera}.png")
        write_levels(
            folder / "groundtruth_depth" / f"{DRIVE}_groundtruth_depth_0000000005_{camera}.png", np.ones((6, 8))
        )
    note = folder / "intrinsics" / f"{DRIVE}_image_0000000005_image_02.txt"
    note.parent.mkdir()
    note.write_text(" ".join(str(value) for value in KITTI_CAMERA.ravel()))
    captures = open_set("kitti", tmp_path)
    assert captures.ids == [f"{FRAME}/0000000005", f"{DAY}/{DRIVE}/image_03/0000000005"]
    assert set(captures.groups("folder").values()) == {f"{DAY}/{DRIVE}"}
    np.testing.assert_array_equal(captures.read(0).intrinsics, KITTI_CAMERA)  # type: ignore[arg-type]
    assert captures.read(1).intrinsics is None and (captures.read(1).depth == 1).all()
    key = captures.key(0)
    note.unlink()
    assert captures.key(0) != key


@pytest.mark.parametrize(
    ("height", "width", "top", "left"),
    [(375, 1242, 23, 13), (370, 1224, 18, 4), (376, 1241, 24, 12), (374, 1238, 22, 11), (370, 1226, 18, 5)],
)
def test_the_kb_crop_of_every_size_of_kitti(height: int, width: int, top: int, left: int) -> None:
    v, u = np.mgrid[:height, :width]
    depth = (1 + v + u / 10000).astype(np.float32)
    image = np.stack([v % 251, u % 251, v * 0], axis=-1).astype(np.uint8)
    cut = kb_crop(Capture("a", image, depth, depth > 0, KITTI_CAMERA))
    assert cut.image.shape == (352, 1216, 3) and cut.depth.shape == cut.mask.shape == (352, 1216)
    assert cut.depth[0, 0] == depth[top, left] and cut.depth[-1, -1] == depth[height - 1, left + 1215]
    assert tuple(cut.image[0, 0]) == (top % 251, left % 251, 0)
    np.testing.assert_array_equal(cut.intrinsics, KITTI_CAMERA - [[0, 0, left], [0, 0, top], [0, 0, 0]])  # type: ignore[arg-type]


def test_a_frame_smaller_than_the_kb_crop_is_told(tmp_path: Path) -> None:
    raw(tmp_path, DRIVE, 1)
    annotated(tmp_path / "train", DRIVE, 1)
    captures = open_set("kitti_kb", tmp_path)
    with pytest.raises(ValueError, match=r"0000000001 is 8x6, smaller than the KB crop of 1216x352"):
        captures.read(0)
    with pytest.raises(ValueError, match="smaller than the KB crop"):
        captures.read_depth(0)


@pytest.fixture
def real_kitti(realdata: Path, tmp_path: Path) -> Path:
    """The real frame, laid out as published."""
    name = "0000000005.png"
    places = {
        "rgb": tmp_path / "raw" / DAY / DRIVE / "image_02" / "data",
        "depth": tmp_path / "train" / DRIVE / "proj_depth" / "groundtruth" / "image_02",
    }
    for folder, place in places.items():
        place.mkdir(parents=True)
        (place / name).symlink_to(realdata / "kitti" / folder / name)
    write_calibration(tmp_path / "raw", (375, 1242))
    return tmp_path


def test_a_real_frame_of_kitti_whole_and_cut(real_kitti: Path, realdata: Path) -> None:
    levels = np.asarray(Image.open(realdata / "kitti" / "depth" / "0000000005.png"))
    whole = open_set("kitti", real_kitti).read(0)
    expected = np.where(levels < 80 * 256, levels / 256, 0)
    np.testing.assert_allclose(whole.depth, expected, rtol=1e-6)
    assert whole.image.shape == (375, 1242, 3) and 0.15 < whole.mask.mean() < 0.25
    captures = open_set("kitti_kb", real_kitti)
    cut = captures.read(0)
    np.testing.assert_allclose(cut.depth, expected[23:375, 13:1229], rtol=1e-6)
    np.testing.assert_array_equal(cut.image, whole.image[23:375, 13:1229])
    np.testing.assert_array_equal(captures.read_depth(0), cut.depth)
    assert cut.intrinsics is not None and cut.intrinsics[1, 2] == pytest.approx(172.854 - 23)
    assert captures.key(0) != open_set("kitti", real_kitti).key(0)
    assert open_set("kitti_kb", real_kitti, max_depth=20).read(0).depth.max() < 20


# lists


def test_the_real_list_of_eigen_names_652_annotated_frames(realdata: Path, tmp_path: Path) -> None:
    source = realdata / "splits" / "kitti_eigen_test_697.txt"
    lines = source.read_text().splitlines()
    assert len(lines) == 697 and not source.read_text().endswith("\n")
    ids = read_listed_ids(source)
    assert len(ids) == len(set(ids)) == 652
    assert ids[0] == f"{FRAME}/0000000069" and ids[-1].endswith("2011_10_03_drive_0047_sync/image_02/0000000768")
    ended = tmp_path / "ended.txt"
    ended.write_text("\n".join(lines) + "\n\n")
    assert read_listed_ids(ended) == ids


def test_a_list_keeps_exactly_what_it_names(tmp_path: Path) -> None:
    for number in range(5):
        raw(tmp_path / "raw", DRIVE, number)
        annotated(tmp_path / "train", DRIVE, number)
    captures = open_set("kitti", tmp_path)
    list_ = tmp_path / "list.txt"
    row = "{0}/{1}/image_02/data/{2:010}.png {3} 721.5377"
    truth = f"{DRIVE}/proj_depth/groundtruth/image_02/{{:010}}.png"
    forms = [
        "\n".join(
            row.format(DAY, DRIVE, number, truth.format(number) if number != 2 else "None") for number in (3, 2, 1)
        ),
        f"{DAY}/{DRIVE} 3 l\n{DAY}/{DRIVE} 0000000001 l\n",
        f"{FRAME}/0000000001\n{FRAME}/0000000003",
        f"/kitti_raw/{FRAME}/data/0000000001.jpg\r\n/kitti_raw/{FRAME}/data/0000000003.jpg\r\n",
        "\n".join(f"{DRIVE}/image_02/data/{number:010}.png {truth.format(number)}" for number in (3, 1)),
    ]
    for text in forms:
        list_.write_text(text)
        kept = keep_listed(captures, list_)
        assert kept.ids == [f"{FRAME}/0000000001", f"{FRAME}/0000000003"], text
        assert kept.read(1).id == kept.ids[1] and kept.key(0) == captures.key(1)
        assert set(kept.groups("folder")) == set(kept.ids)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{FRAME}/0000000000\n{FRAME}/0000000009", r"names 2 captures; 1 of them is not in .*first .*0000000009'"),
        (f"{DAY}/{DRIVE} 0 r", r"image_03/0000000000'"),
        ("\n\n", r"list.txt cannot be read \(it names no capture with ground truth\)"),
        (f"{FRAME}/data/0000000000.png None 721.5377", "names no capture with ground truth"),
        (f"{FRAME}/0000000000\nother/{FRAME}/0000000000", r"names 2 captures, which match only 1 capture of"),
    ],
)
def test_a_list_that_does_not_fit_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    raw(tmp_path, DRIVE, 0)
    annotated(tmp_path, DRIVE, 0)
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        keep_listed(open_set("kitti", tmp_path), tmp_path / "list.txt")
    with pytest.raises(ValueError, match=r"nowhere\.txt does not exist"):
        keep_listed(open_set("kitti", tmp_path), tmp_path / "nowhere.txt")


def test_the_real_lists_of_nyu_are_the_same_654_frames(realdata: Path) -> None:
    names = read_listed_ids(realdata / "splits" / "nyu_test_654.txt")
    numbers = read_listed_ids(realdata / "splits" / "nyu_official_splits.mat")
    assert len(names) == 654 and names[0] == "bathroom/rgb_00045"
    assert sorted(int(name[-5:]) + 1 for name in names) == [int(number) for number in numbers]  # BTS counts from 0
    train = read_listed_ids(realdata / "splits" / "nyu_official_splits.mat", part="train")
    assert len(train) == 795 and sorted(train + numbers) == [f"{number:04}" for number in range(1, 1450)]


def test_a_list_of_bts_selects_from_its_own_layout(realdata: Path, tmp_path: Path) -> None:
    for scene in ("kitchen", "bath"):
        for role, folder, suffix in (("rgb", "rgb", ".jpg"), ("sync_depth", "depth", ".png")):
            (tmp_path / scene).mkdir(exist_ok=True)
            real = realdata / "nyu" / folder / f"{role}_00000{suffix}"
            (tmp_path / scene / real.name).symlink_to(real)
    (tmp_path / "list.txt").write_text("/kitchen/rgb_00000.jpg /kitchen/sync_depth_00000.png 518.8579")
    kept = keep_listed(open_set("nyu", tmp_path), tmp_path / "list.txt")
    assert kept.ids == ["kitchen/rgb_00000"] and kept.read(0).image.shape == (480, 640, 3)


# NYU, labeled


@pytest.fixture
def labeled(tmp_path: Path) -> Path:
    """Three small frames in the published file's form: MATLAB's userblock, reversed axes, scenes as references."""
    truth = plane_depth(6, 8).astype(np.float32)
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
        image = np.stack([picture(seed, 6, 8) for seed in range(3)])
        file["images"] = image.transpose(0, 3, 2, 1)
        depth = np.stack([truth + number for number in range(3)])
        file["depths"] = depth.transpose(0, 2, 1)
        depth[:, 0, :3], depth[:, 1, 0] = 0, 10
        file["rawDepths"] = depth.transpose(0, 2, 1)
        cells = file.create_dataset("scenes", (1, 3), h5py.ref_dtype)
        for number, scene in enumerate(("kitchen_0004", "kitchen_0004", "office_0002")):
            text = file.create_dataset(f"#refs#/{number}", data=np.array([list(scene.encode())], np.uint16).T)
            cells[0, number] = text.ref
    savemat(
        tmp_path / "splits.mat", {"trainNdxs": np.array([[2]], np.uint16), "testNdxs": np.array([[1], [3]], np.uint16)}
    )
    return tmp_path


def test_the_labeled_file_is_raw_depth_up_to_10_m(labeled: Path) -> None:
    captures = open_set("nyu_labeled", labeled)
    assert (captures.ids, captures.unit, captures.limits) == (["0001", "0002", "0003"], "m", (0, 10))
    capture = captures.read(1)
    expected = plane_depth(6, 8) + 1
    expected[0, :3] = expected[1, 0] = 0
    np.testing.assert_allclose(capture.depth, expected, rtol=1e-6)
    np.testing.assert_array_equal(capture.mask, expected > 0)
    np.testing.assert_array_equal(capture.image, picture(1, 6, 8))
    np.testing.assert_array_equal(capture.intrinsics, NYU_CAMERA)  # type: ignore[arg-type]
    np.testing.assert_array_equal(captures.read_depth(1), capture.depth)
    assert len({captures.key(index) for index in range(3)}) == 3
    assert open_set("nyu_labeled", labeled, max_depth=2).read_depth(1).max() < 2
    with pytest.raises(ValueError, match=r"Frame 0003 of .*labeled.mat has no depth between 0 and 0.5 m"):
        open_set("nyu_labeled", labeled, max_depth=0.5).read_depth(2)


def test_the_official_split_is_a_list_and_a_grouping(labeled: Path) -> None:
    captures = open_set("nyu_labeled", labeled)
    assert keep_listed(captures, labeled / "splits.mat").ids == ["0001", "0003"]
    assert keep_listed(captures, labeled / "splits.mat", part="train").ids == ["0002"]
    assert captures.groups("split") == {"0001": "test", "0002": "train", "0003": "test"}
    assert captures.groups("folder") == captures.groups("scene")
    assert list(captures.groups("scene").values()) == ["kitchen_0004", "kitchen_0004", "office_0002"]
    (labeled / "captures.csv").write_text("capture,light\n0001,day\n0002,day\n0003,night\n")
    assert captures.groups("light")["0003"] == "night"
    (labeled / "splits.mat").unlink()
    with pytest.raises(ValueError, match=r"splits.mat does not exist"):
        captures.groups("split")


def test_the_official_split_of_a_partial_file_names_what_is_missing(labeled: Path, realdata: Path) -> None:
    with pytest.raises(ValueError, match=r"names 654 captures; 652 of them are not in .*first '0009'"):
        keep_listed(open_set("nyu_labeled", labeled), realdata / "splits" / "nyu_official_splits.mat")
    assert loadmat(realdata / "splits" / "nyu_official_splits.mat")["testNdxs"][2, 0] == 9


def test_a_worker_process_reads_the_labeled_file(labeled: Path) -> None:
    captures = open_set("nyu_labeled", labeled)
    captures.read(0)  # before the worker is there
    again = pickle.loads(pickle.dumps(captures))
    np.testing.assert_array_equal(again.read_depth(2), captures.read_depth(2))
    loader = DataLoader(
        DepthDataset(captures, [0, 1, 2]), batch_size=None, num_workers=1, multiprocessing_context="spawn"
    )
    for index, item in enumerate(loader):
        np.testing.assert_array_equal(item["depth"], captures.read_depth(index))


@pytest.mark.parametrize("content", [b"", b"MATLAB 7.3 MAT-file"])
def test_a_cut_labeled_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"holds no nyu_depth_v2_labeled.mat.*sonde data download nyu"):
        open_set("nyu_labeled", tmp_path)
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"labeled.mat cannot be read .*images, rawDepths and scenes; download it again"
    ):
        open_set("nyu_labeled", tmp_path)
    with h5py.File(path, "w") as file:
        file["images"], file["rawDepths"] = np.zeros((2, 3, 8, 6), np.uint8), np.zeros((2, 6, 8), np.float32)
    with pytest.raises(ValueError, match=r"its images have shape \(2, 3, 8, 6\) and its rawDepths \(2, 6, 8\)"):
        open_set("nyu_labeled", tmp_path)


# DrivingStereo

RAINY, FOGGY = "2018-08-17-09-45-58", "2018-10-25-07-37-44"
DS_CAMERA = np.array([[1003.556, 0, 440.5], [0, 1006.938, 200.5], [0, 0, 1]])


def drive_frame(left: Path, depth: Path, name: str) -> None:
    write_image(left / f"{name}.jpg")
    write_levels(depth / f"{name}.png", np.full((6, 8), 7.25))


@pytest.mark.parametrize("twice", [False, True])
def test_the_weathers_are_read_together_and_grouped_by_drive(tmp_path: Path, twice: bool) -> None:
    for weather, drive in (("rainy", RAINY), ("foggy", FOGGY)):
        folder = tmp_path / weather / (weather if twice else "")
        for time in ("2018-08-17-09-46-00-100", "2018-08-17-09-46-01-200"):
            drive_frame(folder / "left-image-half-size", folder / "depth-map-half-size", f"{drive}_{time}")
        write_image(folder / "left-image-full-size" / "ignored.jpg")
    captures = open_set("driving_stereo", tmp_path)
    assert len(captures) == 4 and captures.ids[0] == f"{RAINY}/{RAINY}_2018-08-17-09-46-00-100"
    assert set(captures.groups("folder").values()) == {RAINY, FOGGY}
    assert {id_[:19]: weather for id_, weather in captures.groups("weather").items()} == {
        RAINY: "rainy",
        FOGGY: "foggy",
    }
    assert (captures.read_depth(0) == 7.25).all()
    alone = open_set("driving_stereo", tmp_path / "rainy" / ("rainy" if twice else ""))
    assert alone.ids == captures.ids[:2]


def test_drives_are_groups_whether_they_have_folders_or_not(tmp_path: Path) -> None:
    left, depth = tmp_path / "test-left-image" / "left-image-half-size", tmp_path / "test-depth-map"
    for drive in (RAINY, FOGGY):
        for time in ("2018-08-17-09-46-00-100", "2018-08-17-09-46-01-200"):
            write_image(left / f"{drive}_{time}.jpg")
            write_levels(depth / "depth-map-half-size" / drive / f"{drive}_{time}.png", np.full((6, 8), 7.25))
    captures = open_set("driving_stereo", tmp_path)
    groups = captures.groups("folder")
    assert len(groups) == 4 and set(groups.values()) == {RAINY, FOGGY}
    parts = split(captures.ids, SplitRecipe(test=1, validation=0), groups)
    assert [len(parts["train"]), len(parts["test"])] == [2, 2]
    assert {groups[id_] for id_ in parts["train"]}.isdisjoint({groups[id_] for id_ in parts["test"]})


@pytest.mark.parametrize("place", ["half-image-calib", "calib/half-image-calib", "half-image-calib/half-image-calib"])
def test_each_drive_has_the_camera_of_its_calibration(tmp_path: Path, place: str) -> None:
    for drive in (RAINY, FOGGY):
        name = f"{drive}_2018-08-17-09-46-00-100"
        drive_frame(tmp_path / "train-left-image" / drive, tmp_path / "train-depth-map" / drive, name)
    before = open_set("driving_stereo", tmp_path)
    assert before.read(0).intrinsics is None
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / f"{RAINY}.txt").write_text(calibration("101", DS_CAMERA, (6, 8)))
    captures = open_set("driving_stereo", tmp_path)
    np.testing.assert_array_equal(captures.read(0).intrinsics, DS_CAMERA)  # type: ignore[arg-type]
    assert captures.read(1).intrinsics is None and captures.key(0) != before.key(0)
    files.write_intrinsics(tmp_path / "intrinsics.txt", KITTI_CAMERA)
    captures = open_set("driving_stereo", tmp_path)
    np.testing.assert_array_equal(captures.read(0).intrinsics, DS_CAMERA)  # type: ignore[arg-type]
    np.testing.assert_array_equal(captures.read(1).intrinsics, KITTI_CAMERA)  # type: ignore[arg-type]
    (tmp_path / place / f"{RAINY}.txt").write_text(calibration("101", DS_CAMERA, (12, 16)))
    halved = open_set("driving_stereo", tmp_path).read(0).intrinsics  # the published full size, seen at half
    np.testing.assert_allclose(halved, [[501.778, 0, 220], [0, 503.469, 100], [0, 0, 1]])  # type: ignore[arg-type]
    (tmp_path / place / f"{RAINY}.txt").write_text("R_101: 1\n")
    with pytest.raises(ValueError, match=rf"{RAINY}.txt cannot be read .*P_rect_101 of 12"):
        open_set("driving_stereo", tmp_path)


def test_a_weather_without_depth_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "sunny" / "left-image-half-size" / "a.jpg")
    with pytest.raises(ValueError, match=r"is not a DrivingStereo set: expected .*sunny, cloudy, foggy, rainy"):
        open_set("driving_stereo", tmp_path)


def test_a_recipe_takes_only_what_a_list_names(tmp_path):
    write_bench(tmp_path / "set", 5)
    (tmp_path / "few.txt").write_text("c01\nc03")
    recipe = recipes.load({"data": {"root": str(tmp_path / "set"), "only": str(tmp_path / "few.txt")}})
    assert open_captures(recipe).ids == ["c01", "c03"]


def test_a_calibration_file_may_begin_with_a_byte_order_mark(tmp_path):
    text = "S_rect_02: 1242 375\nP_rect_02: 700 0 600 0 0 700 180 0 0 0 1 0\n"
    (tmp_path / "calib.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    camera = kitti.read_rectified(tmp_path / "calib.txt", "02")
    np.testing.assert_array_equal(camera[0], [[700, 0, 600], [0, 700, 180], [0, 0, 1]])
