"""The sets a teacher is trained on: each read from a small tree in its published layout, of a plane known exactly."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from small_captures import picture, plane_depth

from sonde import files
from sonde.datasets import Capture, DepthSet, JoinedSet, open_set
from sonde.datasets.hypersim import tone_map
from sonde.geometry import depth_to_distance, distance_to_depth
from sonde.types import MaskArray

HEIGHT, WIDTH = 24, 32

Plant = Callable[[Path], Path]
"""Writes two frames below a root and answers the first one's depth file."""


def camera(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


HALF_WIDTH = camera(16, 16, 16, 12)
"""90 degrees across, with the centre where TartanAir's documentation has it."""
CENTRED = camera(16, 16, 15.5, 11.5)
HYPERSIM = camera(886.81 / 32, 886.81 / 32, 15.5, 11.5)
"""The published camera, whose centre is the middle of 1024 x 768 pixels, at a 32nd of that size."""
VKITTI2 = camera(725.0087, 725.0087, 620.5, 187)
BLENDED = camera(40, 41, 15.2, 11.7)


def write_image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_rgb(path, picture(seed, HEIGHT, WIDTH))


def write_hdf5(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("dataset", data=values, compression="gzip")
    return path


def hypersim(root: Path) -> Path:
    scene = root / "ai_001_001" / "images"
    for frame in ("0000", "0007"):
        distance = depth_to_distance(plane_depth(HEIGHT, WIDTH, HYPERSIM), HYPERSIM).astype(np.float16)
        distance[:2, :3], distance[2, 0], distance[2, 1] = np.nan, 0, np.inf
        write_hdf5(scene / "scene_cam_00_geometry_hdf5" / f"frame.{frame}.depth_meters.hdf5", distance)
        write_image(scene / "scene_cam_00_final_preview" / f"frame.{frame}.tonemap.jpg")
        write_image(scene / "scene_cam_00_final_preview" / f"frame.{frame}.diff.jpg")
    return scene / "scene_cam_00_geometry_hdf5" / "frame.0000.depth_meters.hdf5"


def vkitti2(root: Path) -> Path:
    frames = root / "Scene01" / "15-deg-left" / "frames"
    for frame in ("00000", "00001"):
        centimetres = np.rint(plane_depth(HEIGHT, WIDTH, VKITTI2) * 100).astype(np.uint16)
        centimetres[:2, :3], centimetres[2, :3] = 65535, (0, 8000, 8001)
        (frames / "depth" / "Camera_1").mkdir(parents=True, exist_ok=True)
        Image.fromarray(centimetres).save(frames / "depth" / "Camera_1" / f"depth_{frame}.png")
        write_image(frames / "rgb" / "Camera_1" / f"rgb_{frame}.jpg")
    return frames / "depth" / "Camera_1" / "depth_00000.png"


def tartanair(root: Path) -> Path:
    flight = root / "soulcity" / "Easy" / "P000"
    for side in ("left", "right"):
        metres = plane_depth(HEIGHT, WIDTH, HALF_WIDTH).astype(np.float32)
        metres[:2, :3], metres[2, 0], metres[2, 1] = 10_000, 0, np.inf
        (flight / f"depth_{side}").mkdir(parents=True)
        np.save(flight / f"depth_{side}" / f"000000_{side}_depth.npy", metres)
        write_image(flight / f"image_{side}" / f"000000_{side}.png")
    (flight / "seg_left").mkdir()
    np.save(flight / "seg_left" / "000000_left_seg.npy", np.zeros((HEIGHT, WIDTH), np.uint8))
    return flight / "depth_left" / "000000_left_depth.npy"


def tartanair_v2(root: Path) -> Path:
    flight = root / "AbandonedCable" / "Data_easy" / "P000"
    (flight / "depth_lcam_front").mkdir(parents=True)
    for frame in ("000000", "000001"):
        metres = plane_depth(HEIGHT, WIDTH, HALF_WIDTH).astype("<f4")
        metres[:2, :3], metres[2, 0], metres[2, 1] = 10_000, 0, np.inf
        blue, green, red, alpha = np.moveaxis(metres.view(np.uint8).reshape(HEIGHT, WIDTH, 4), -1, 0)
        rgba = Image.fromarray(np.stack([red, green, blue, alpha], axis=-1), mode=None)
        rgba.save(flight / "depth_lcam_front" / f"{frame}_lcam_front_depth.png")
        write_image(flight / "image_lcam_front" / f"{frame}_lcam_front.png")
    write_image(flight / "image_lcam_fish" / "000000_lcam_fish.png")
    return flight / "depth_lcam_front" / "000000_lcam_front_depth.png"


def irs(root: Path) -> Path:
    folder = root / "Home" / "ArchVizInterior03Data"
    for frame in ("00001", "00057"):
        disparity = (16 * 0.1 / plane_depth(HEIGHT, WIDTH, CENTRED)).astype(np.float32)
        disparity[:2, :3], disparity[2, 0], disparity[2, 1] = 0.001, 0, -1
        write_image(folder / f"l_{frame}.png")
        write_image(folder / f"r_{frame}.png")
        files.write_depth(folder / f"d_{frame}.exr", disparity, np.ones((HEIGHT, WIDTH), bool), space="disparity")
    return folder / "d_00001.exr"


def blendedmvs(root: Path) -> Path:
    project = root / "5a3ca9cb270f0e3f14d0eddb"
    extrinsic = "\n".join(" ".join(map(str, row)) for row in np.eye(4))
    intrinsic = "\n".join(" ".join(map(str, row)) for row in BLENDED)
    for frame in ("00000000", "00000001"):
        depth = plane_depth(HEIGHT, WIDTH, BLENDED).astype(np.float32)
        trusted = np.ones((HEIGHT, WIDTH), bool)
        trusted[:2, :3] = trusted[2, :2] = False
        files.write_depth(project / "rendered_depth_maps" / f"{frame}.pfm", np.where(trusted, depth, 0), space="affine")
        write_image(project / "blended_images" / f"{frame}.jpg")
        write_image(project / "blended_images" / f"{frame}_masked.jpg")
        cam = project / "cams" / f"{frame}_cam.txt"
        cam.parent.mkdir(exist_ok=True)
        cam.write_text(f"extrinsic\n{extrinsic}\n\nintrinsic\n{intrinsic}\n\n0.42 0.01 128 1.7 \n")
    return project / "rendered_depth_maps" / "00000000.pfm"


SETS: dict[str, tuple[str, Plant, np.ndarray, list[str], float]] = {
    "hypersim": ("hypersim", hypersim, HYPERSIM, ["ai_001_001/cam_00_0000", "ai_001_001/cam_00_0007"], 1e-3),
    "vkitti2": (
        "vkitti2", vkitti2, VKITTI2,
        ["Scene01/15-deg-left_Camera_1_00000", "Scene01/15-deg-left_Camera_1_00001"], 5e-3,
    ),
    "tartanair": (
        "tartanair", tartanair, HALF_WIDTH,
        ["soulcity/Easy/P000/000000_left", "soulcity/Easy/P000/000000_right"], 1e-6,
    ),
    "tartanair v2": (
        "tartanair", tartanair_v2, HALF_WIDTH,
        ["AbandonedCable/Data_easy/P000/000000_lcam_front", "AbandonedCable/Data_easy/P000/000001_lcam_front"], 1e-6,
    ),
    "irs": (
        "irs", irs, CENTRED,
        ["Home/ArchVizInterior03Data/00001", "Home/ArchVizInterior03Data/00057"], 1e-6,
    ),
    "blendedmvs": (
        "blendedmvs", blendedmvs, BLENDED,
        ["5a3ca9cb270f0e3f14d0eddb/00000000", "5a3ca9cb270f0e3f14d0eddb/00000001"], 1e-6,
    ),
}  # fmt: skip
"""Name -> format, writer, the true camera, capture ids, what rounding on disk costs in metres."""

every_set = pytest.mark.parametrize("name", SETS)


def sound() -> MaskArray:
    """Where the planted files hold the plane: everywhere but in a corner of sky and nonsense."""
    mask = np.ones((HEIGHT, WIDTH), bool)
    mask[:2, :3] = mask[2, :2] = False
    return mask


def first(captures: DepthSet) -> Capture:
    return captures.read(0)


@every_set
def test_depth_is_the_plane_in_metres_and_the_sky_is_not_trusted(tmp_path: Path, name: str) -> None:
    format_, plant, matrix, ids, rounding = SETS[name]
    plant(tmp_path)
    captures = open_set(format_, tmp_path)
    assert (captures.ids, captures.unit, captures.problems) == (ids, "m", [])
    assert captures.space == ("scale" if name == "blendedmvs" else "metric")
    capture = first(captures)
    mask = sound()
    if name == "vkitti2":
        mask[2, :3] = False, True, False  # 80 m is the last that counts
        assert capture.depth[2, 1] == 80
    np.testing.assert_array_equal(capture.mask, mask)
    mask[2, :3] = False
    np.testing.assert_allclose(capture.depth[mask], plane_depth(HEIGHT, WIDTH, matrix)[mask], atol=rounding)
    np.testing.assert_allclose(capture.intrinsics, matrix, rtol=1e-12)  # type: ignore[arg-type]
    assert capture.image.shape == (HEIGHT, WIDTH, 3) and capture.depth.dtype == np.float32
    np.testing.assert_array_equal(captures.read_depth(0), capture.depth)


@every_set
def test_a_missing_partner_is_told(tmp_path: Path, name: str) -> None:
    format_, plant, *_ = SETS[name]
    depth = plant(tmp_path)
    depth.unlink()
    with pytest.raises(ValueError, match="has no depth of the same name: add it, or remove the file"):
        open_set(format_, tmp_path)
    captures = open_set(format_, tmp_path, strict=False)
    assert captures.ids == SETS[name][3][1:] and len(captures.problems) == 1


@every_set
@pytest.mark.parametrize("content", [b"", b"hello", "half"])
def test_a_corrupt_file_is_one_sentence(tmp_path: Path, name: str, content: bytes | str) -> None:
    format_, plant, *_ = SETS[name]
    depth = plant(tmp_path)
    whole = depth.read_bytes()
    depth.write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
    with pytest.raises(
        ValueError, match=rf"{depth.name} cannot be read \(.*\): .*expected|{depth.name}.*save"
    ) as caught:
        first(open_set(format_, tmp_path))
    assert "\n" not in str(caught.value)


@every_set
def test_a_folder_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "images" / "a.png")
    with pytest.raises(ValueError, match=f"holds no captures in the {SETS[name][0]} layout"):
        open_set(SETS[name][0], tmp_path)


def test_a_set_may_lie_deeper_and_in_the_parts_it_was_published_in(tmp_path: Path) -> None:
    vkitti2(tmp_path / "vkitti_2.0.3_rgb")
    frames = tmp_path / "vkitti_2.0.3_rgb" / "Scene01" / "15-deg-left" / "frames"
    apart = tmp_path / "vkitti_2.0.3_depth" / "Scene01" / "15-deg-left" / "frames"
    apart.mkdir(parents=True)
    (frames / "depth").rename(apart / "depth")
    assert len(open_set("vkitti2", tmp_path)) == 2
    assert set(open_set("vkitti2", tmp_path).groups("folder").values()) == {"Scene01"}


def test_vkitti2_takes_the_camera_of_its_table(tmp_path: Path) -> None:
    vkitti2(tmp_path)
    table = tmp_path / "Scene01" / "15-deg-left" / "intrinsic.txt"
    rows = ["frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]", "0 0 1 2 3 4", "0 1 700 710 620.5 187", "1 1 5 6 7 8"]
    before = open_set("vkitti2", tmp_path)
    table.write_text("\n".join(rows) + "\n")
    captures = open_set("vkitti2", tmp_path)
    np.testing.assert_array_equal(first(captures).intrinsics, camera(700, 710, 620.5, 187))  # type: ignore[arg-type]
    np.testing.assert_array_equal(captures.read(1).intrinsics, camera(5, 6, 7, 8))  # type: ignore[arg-type]
    assert captures.key(0) != before.key(0)
    table.write_text("\n".join([*rows, "2 1 5 6"]))
    with pytest.raises(ValueError, match=r"intrinsic.txt cannot be read .*expected the columns frame cameraID"):
        open_set("vkitti2", tmp_path)


def test_the_limit_of_vkitti2_can_be_moved_but_never_to_the_sky(tmp_path: Path) -> None:
    vkitti2(tmp_path)
    assert not (first(open_set("vkitti2", tmp_path, max_depth=1.0)).depth > 1.0).any()
    depth = first(open_set("vkitti2", tmp_path, max_depth=1000)).depth
    assert depth[2, 2] == np.float32(80.01) and (depth[:2, :3] == 0).all()


def test_a_packed_map_that_is_a_mere_picture_is_refused(tmp_path: Path) -> None:
    write_image(tartanair_v2(tmp_path))
    with pytest.raises(
        ValueError, match=r"cannot be read \(its pixels are RGB\): .*four 8-bit channels are one float32"
    ):
        first(open_set("tartanair", tmp_path))


def test_a_project_of_blendedmvs_keeps_its_name_however_it_is_spelt(tmp_path: Path, monkeypatch) -> None:
    project = blendedmvs(tmp_path).parents[1]
    whole = open_set("blendedmvs", project).ids
    monkeypatch.chdir(project)
    assert open_set("blendedmvs", ".").ids == whole and whole[0].startswith(f"{project.name}/")


def test_blendedmvs_works_without_cameras_and_names_a_broken_one(tmp_path: Path) -> None:
    depth = blendedmvs(tmp_path)
    cam = depth.parents[1] / "cams" / "00000000_cam.txt"
    cam.write_text("extrinsic\n1 0 0 0\n")
    with pytest.raises(ValueError, match=r"00000000_cam.txt cannot be read .*expected the word intrinsic"):
        first(open_set("blendedmvs", tmp_path))
    key = open_set("blendedmvs", tmp_path).key(0)
    cam.unlink()
    assert first(open_set("blendedmvs", tmp_path)).intrinsics is None
    assert open_set("blendedmvs", tmp_path).key(0) != key


def test_a_view_without_mesh_is_named(tmp_path: Path) -> None:
    depth = blendedmvs(tmp_path)
    files.write_depth(depth, np.zeros((HEIGHT, WIDTH), np.float32), space="affine")
    with pytest.raises(ValueError, match=r"00000000.pfm has no depth between 0 and inf m"):
        first(open_set("blendedmvs", tmp_path))


# Hypersim's colour


def test_linear_colour_shows_its_90th_percentile_as_80_percent() -> None:
    grey = np.linspace(0, 10, 101, dtype=np.float32)  # the percentile is 9
    colour = np.repeat(grey[None, :, None], 3, axis=2)
    shown = tone_map(colour, np.ones((1, 101), bool))
    np.testing.assert_array_equal(shown[0, 90], np.rint(0.8 * 255))
    np.testing.assert_array_equal(shown[0, 45], np.rint(0.8 * 0.5 ** (1 / 2.2) * 255))
    np.testing.assert_array_equal(shown[0, 0], 0)
    np.testing.assert_array_equal(tone_map(colour * 7, np.ones((1, 101), bool)), shown)  # exposure does not matter
    surface = np.arange(101)[None] <= 50  # the percentile is 4.5
    np.testing.assert_array_equal(tone_map(colour, surface)[0, 45], np.rint(0.8 * 255))


def test_linear_colour_without_light_or_numbers_is_black() -> None:
    colour = np.full((4, 4, 3), 1e-6, np.float32)
    everywhere = np.ones((4, 4), bool)
    assert not tone_map(colour, everywhere).any()
    colour[:] = 1
    colour[0, 0], colour[0, 1] = np.nan, np.inf
    shown = tone_map(colour, everywhere)
    assert (shown[0, 0] == 0).all() and (shown[0, 1] == 255).all() and (shown[1:] == 204).all()
    assert (tone_map(np.ones((4, 4, 3), np.float32), ~everywhere) == 255).all()  # no surface: as it is


def test_hypersim_prefers_linear_colour_over_the_preview(tmp_path: Path) -> None:
    depth = hypersim(tmp_path)
    scene = depth.parents[1]
    colour = np.random.default_rng(0).uniform(0, 5, (HEIGHT, WIDTH, 3)).astype(np.float16)
    colour[:, :4] *= 100
    entities = np.ones((HEIGHT, WIDTH), np.int32)
    entities[:, :4] = -1
    linear = write_hdf5(scene / "scene_cam_00_final_hdf5" / "frame.0000.color.hdf5", colour)
    captures = open_set("hypersim", tmp_path)
    everywhere = tone_map(colour.astype(np.float32), np.ones((HEIGHT, WIDTH), bool))
    np.testing.assert_array_equal(first(captures).image, everywhere)
    key = captures.key(0)
    beside = write_hdf5(scene / "scene_cam_00_geometry_hdf5" / "frame.0000.render_entity_id.hdf5", entities)
    surfaces = tone_map(colour.astype(np.float32), entities != -1)
    assert np.median(surfaces) > np.median(everywhere) + 50
    np.testing.assert_array_equal(first(captures).image, surfaces)
    assert captures.key(0) != key
    assert captures.read(1).image.std() > 20  # a preview of noise
    np.testing.assert_array_equal(captures.read_depth(0), first(captures).depth)
    write_hdf5(beside, entities[1:])
    with pytest.raises(ValueError, match=r"render_entity_id.hdf5 has another size than frame.0000.color.hdf5"):
        first(captures)
    write_hdf5(linear, colour[..., 0])
    with pytest.raises(ValueError, match=r"color.hdf5 cannot be read \(its array has shape \(24, 32\)\)"):
        first(captures)


def test_hypersim_s_own_file_is_distance_and_becomes_depth(tmp_path: Path, realdata: Path) -> None:
    real = realdata / "hypersim" / "frame.0000.depth_meters.hdf5"
    scene = tmp_path / "ai_001_001" / "images"
    geometry = scene / "scene_cam_00_geometry_hdf5"
    geometry.mkdir(parents=True)
    (geometry / real.name).symlink_to(real)
    preview = scene / "scene_cam_00_final_preview" / "frame.0000.tonemap.jpg"
    preview.parent.mkdir()
    files.write_rgb(preview, picture(0, 768, 1024))
    capture = first(open_set("hypersim", tmp_path))
    with h5py.File(real) as file:
        distance = np.asarray(file["dataset"]).astype(np.float64)
    ratio = distance / capture.depth
    corner = np.sqrt(1 + (511.5 / 886.81) ** 2 + (383.5 / 886.81) ** 2)
    assert capture.mask.all() and (capture.depth <= distance).all()
    np.testing.assert_allclose(ratio[[0, 0, -1, -1], [0, -1, 0, -1]], corner, rtol=1e-6)
    np.testing.assert_allclose(ratio[383:385, 511:513], 1, atol=1e-6)
    np.testing.assert_allclose(capture.intrinsics, camera(886.81, 886.81, 511.5, 383.5))  # type: ignore[arg-type]
    np.testing.assert_allclose(capture.depth, distance_to_depth(distance, capture.intrinsics), rtol=1e-6)  # type: ignore[arg-type]


# all together


def test_five_sets_are_concatenated_as_they_are(tmp_path: Path) -> None:
    names = [name for name in SETS if name != "tartanair v2"]
    for name in names:
        SETS[name][1](tmp_path / name)
    (tmp_path / "irs" / "Home" / "ArchVizInterior03Data" / "l_00057.png").unlink()
    (tmp_path / "irs" / "Home" / "ArchVizInterior03Data" / "d_00057.exr").unlink()
    parts = {name: open_set(SETS[name][0], tmp_path / name) for name in names}
    joined = JoinedSet(list(parts.values()))
    assert [len(part) for part in parts.values()] == [2, 2, 2, 1, 2] and len(joined) == len(set(joined.ids)) == 9
    assert joined.space == "scale"
    assert JoinedSet([part for name, part in parts.items() if name != "blendedmvs"]).space == "metric"
    start = 0
    for part in parts.values():
        for own in range(len(part)):
            np.testing.assert_array_equal(joined.read_depth(start + own), part.read_depth(own))
        start += len(part)
