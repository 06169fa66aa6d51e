"""Files: what is written comes back, whatever a camera writes is read, and a bad file is one clear sentence."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_captures import bench_cloud, picture

from sonde import calibration, files
from sonde.datasets import convert, open_set
from sonde.files.clouds import CLOUDS
from sonde.types import SPACES

DEPTH = np.linspace(0.2, 5, 12 * 16, dtype=np.float32).reshape(12, 16)
CLOUD = bench_cloud(0, 6, 8)
NAN = np.isnan(CLOUD[..., 2])


# colour


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_image_is_read_as_grey_of_its_level(tmp_path: Path, mode: str) -> None:
    level = 255 if mode == "1" else 200
    grey = Image.new("L", (8, 6), level)
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    image = Image.fromarray(np.full((6, 8), level * 257, np.uint16)) if mode == "I;16" else grey.convert(mode)
    image.save(path)
    rgb = files.read_rgb(path)
    assert rgb.shape == (6, 8, 3) and rgb.dtype == np.uint8
    np.testing.assert_allclose(rgb, level, atol=1)


def test_sixteen_bit_colour_is_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 48, dtype=np.uint16).reshape(4, 4, 3)
    cv2.imwrite(str(tmp_path / "deep.png"), ramp[..., ::-1])
    np.testing.assert_allclose(files.read_rgb(tmp_path / "deep.png"), ramp / 257, atol=1)


def test_transparent_pixels_lie_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    assert (files.read_rgb(tmp_path / "clear.png") == 255).all()


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (3, 5)), (6, (0, 3)), (8, (5, 0))])
def test_images_stand_upright_by_exif(tmp_path: Path, orientation: int, corner: tuple[int, int]) -> None:
    image = Image.new("RGB", (6, 4))
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "turned.png", exif=exif)
    rgb = files.read_rgb(tmp_path / "turned.png")
    assert rgb.shape[:2] == files.image_size(tmp_path / "turned.png")
    assert tuple(np.argwhere(rgb[..., 0] == 255)[0]) == corner


UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).T,
    8: np.rot90,
}
"""What EXIF's orientations ask for."""


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_tiffs_stand_upright_too_and_have_the_size_that_is_read(tmp_path: Path, orientation: int) -> None:
    levels = np.arange(30 * 100, dtype=np.uint16).reshape(30, 100) * 20
    upright = UPRIGHT[orientation](levels)
    for name, stored in (("grey16", levels), ("grey", (levels >> 8).astype(np.uint8)), ("colour", None)):
        path = tmp_path / f"{name}.tif"
        image = Image.fromarray(
            np.repeat((levels >> 8).astype(np.uint8)[..., None], 3, 2) if stored is None else stored
        )
        image.save(path, tiffinfo={0x0112: orientation})
        read = files.read_rgb(path)
        assert np.abs(read[..., 0].astype(int) - upright / 257).max() < 1.1
        np.testing.assert_array_equal(files.decode_rgb(path.read_bytes(), "it"), read)
        assert files.image_size(path) == files.image_size(path, path.read_bytes()) == upright.shape
    np.testing.assert_array_equal(files.read_levels(tmp_path / "grey16.tif"), upright)


def test_resizing_agrees_with_the_networks_own_and_with_pillow() -> None:
    image = cv2.GaussianBlur(picture(0, 60, 90), (0, 0), 1)
    ours = files.resize_image(image, (32, 50)).astype(int)
    pillow = np.asarray(Image.fromarray(image).resize((50, 32), Image.Resampling.BICUBIC)).astype(int)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    network = torch.nn.functional.interpolate(planes, (32, 50), mode="bicubic", antialias=True)
    assert abs(ours - pillow).max() <= 1
    assert abs(ours - network[0].permute(1, 2, 0).numpy().clip(0, 255)).max() <= 1.5
    assert files.resize_image(image, (60, 90)) is image


def test_depth_colours_run_from_red_to_violet_and_leave_untrusted_grey() -> None:
    mask = DEPTH > 0.3
    colours = files.colour_depth(DEPTH, mask)
    near, far = colours[mask][0].astype(int), colours[-1, -1].astype(int)
    assert near[0] > near[2] and far[2] > far[0]
    assert (colours[~mask] == 128).all()
    reversed_colours = files.colour_depth(DEPTH, mask, space="disparity")
    np.testing.assert_array_equal(reversed_colours[-1, -1], near)


@pytest.mark.parametrize("depth", [np.full((3, 4), 2.0), np.full((3, 4), np.nan), np.zeros((3, 4))])
def test_depth_of_one_value_or_none_is_still_shown(depth: np.ndarray) -> None:
    assert files.colour_depth(depth).shape == (3, 4, 3)


# depth


@settings(deadline=None, max_examples=40)
@given(high=st.floats(0.01, 5000), seed=st.integers(0, 99))
def test_depth_png_loses_at_most_half_a_step(tmp_path_factory: pytest.TempPathFactory, high: float, seed: int) -> None:
    path = tmp_path_factory.getbasetemp() / "depth.png"
    random = np.random.default_rng(seed)
    depth = random.uniform(high / 10, high, (5, 7)).astype(np.float32)
    depth[0, :3] = np.nan, 0, np.inf
    step = files.write_depth_png(path, depth)
    back = files.read_depth(path)
    np.testing.assert_array_equal(np.isnan(back), ~(np.isfinite(depth) & (depth > 0)))
    assert np.nanmax(abs(np.where(np.isnan(back), np.nan, depth) - back)) <= step * 0.501 + high * 1e-6
    assert step <= max(high / 6000, 1e-5)


@pytest.mark.parametrize(("high", "step"), [(0.6, 1e-5), (6.5, 1e-4), (6.6, 1e-3), (65.5, 1e-3), (80.0, 1e-2)])
def test_depth_png_takes_the_finest_decimal_step_that_fits(tmp_path: Path, high: float, step: float) -> None:
    depth = np.full((2, 2), high, np.float32)
    assert files.write_depth_png(tmp_path / "depth.png", depth) == step


def test_depth_png_says_what_its_numbers_mean(tmp_path: Path) -> None:
    files.write_depth_png(tmp_path / "depth.png", DEPTH, DEPTH > 1)
    with Image.open(tmp_path / "depth.png") as image:
        notes = image.text  # type: ignore[attr-defined]
        codes = np.asarray(image)
    assert codes.dtype == np.uint16 and ((codes == 0) == (DEPTH <= 1)).all()
    assert {key: notes[key] for key in ("Quantity", "Unit", "Scale", "Invalid", "Space")} == {
        **{"Quantity": "depth", "Unit": "m", "Scale": "0.0001", "Invalid": "0", "Space": "metric"}
    }


def test_depth_png_refuses_to_clip(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"reaches 5.*end at 0.65535.*step of 0.0001"):
        files.write_depth_png(tmp_path / "depth.png", DEPTH, step=1e-5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("space", SPACES)
def test_relative_maps_come_back_in_their_own_quantity(tmp_path: Path, space: str) -> None:
    values = DEPTH if space in ("metric", "scale") else DEPTH - 2
    files.write_depth(tmp_path / "map.png", values, space=space)  # type: ignore[arg-type]
    np.testing.assert_allclose(files.read_depth(tmp_path / "map.png"), values, atol=1e-4)


@pytest.mark.parametrize("space", SPACES)
def test_a_relative_map_is_not_taken_for_metres(tmp_path: Path, space: str) -> None:
    files.write_depth(tmp_path / "depth" / "a.depth.png", DEPTH, space=space)  # type: ignore[arg-type]
    files.write_rgb(tmp_path / "rgb" / "a.png", np.zeros((*DEPTH.shape, 3), np.uint8))
    reads = [
        lambda: open_set("folder", tmp_path).read(0),
        lambda: calibration.read_maps(tmp_path / "depth" / "a.depth.png", tmp_path / "rgb" / "a.png"),
        lambda: convert(tmp_path / "rgb", tmp_path / "depth", tmp_path / "new"),
    ]
    for read in reads:
        if space == "metric":
            read()
        else:
            with pytest.raises(ValueError, match=r"a\.depth\.png states that it holds .*: expected measured depth"):
                read()


@pytest.mark.parametrize("suffix", [".npy", ".exr", ".pfm"])
def test_float_formats_are_exact(tmp_path: Path, suffix: str) -> None:
    files.write_depth(tmp_path / f"depth{suffix}", DEPTH, DEPTH > 1)
    np.testing.assert_array_equal(
        files.read_depth(tmp_path / f"depth{suffix}"), np.where(DEPTH > 1, DEPTH, np.nan).astype(np.float32)
    )


def test_a_png_of_unknown_unit_needs_its_scale(tmp_path: Path) -> None:
    levels = (DEPTH * 1000).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "foreign.png")
    with pytest.raises(ValueError, match=r"foreign.png does not state its unit: .*0.001 for millimetres"):
        files.read_depth(tmp_path / "foreign.png")
    np.testing.assert_allclose(files.read_depth(tmp_path / "foreign.png", 0.001), DEPTH, atol=1e-3)
    np.testing.assert_array_equal(files.read_levels(tmp_path / "foreign.png"), levels)


def test_a_preview_is_no_depth_map(tmp_path: Path) -> None:
    files.write_rgb(tmp_path / "preview.png", files.colour_depth(DEPTH))
    with pytest.raises(ValueError, match=r"preview.png cannot be read .*not 16-bit"):
        files.read_depth(tmp_path / "preview.png")


def test_an_unknown_suffix_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no depth format '.jpg'; expected one of .png"):
        files.write_depth(tmp_path / "depth.jpg", DEPTH)
    with pytest.raises(ValueError, match=r"not a depth map: expected a 16-bit PNG"):
        files.read_depth(tmp_path / "depth.jpg")


# point clouds


def _npy(path: Path, xyz: np.ndarray) -> None:
    np.save(path, xyz)


def _npz(path: Path, xyz: np.ndarray) -> None:
    np.savez(path, rgb=np.zeros(xyz.shape, np.uint8), xyz=xyz)


def _ply(kind: str, note: str = "comment width {1}\nobj_info num_rows {0}\n") -> Callable[[Path, np.ndarray], None]:
    def write(path: Path, xyz: np.ndarray) -> None:
        sizes = note.format(*xyz.shape[:2])
        header = f"ply\nformat {kind} 1.0\n{sizes}element vertex {xyz[..., 0].size}\n"
        header += "property float x\nproperty float y\nproperty float z\nproperty uchar red\n"
        header += "element face 0\nproperty list uchar int vertex_indices\nend_header\n"
        order = ">" if "big" in kind else "<"
        rows = np.zeros(xyz[..., 0].size, [(name, f"{order}f4") for name in "xyz"] + [("red", "u1")])
        for name, values in zip("xyz", xyz.reshape(-1, 3).T, strict=True):
            rows[name] = values
        text = "\n".join(" ".join(map(repr, map(float, row))) for row in rows.tolist())
        path.write_bytes(header.encode() + (text.encode() if kind == "ascii" else rows.tobytes()))

    return write


def _pcd(kind: str) -> Callable[[Path, np.ndarray], None]:
    def write(path: Path, xyz: np.ndarray) -> None:
        height, width = xyz.shape[:2]
        rows = np.concatenate([np.zeros((height * width, 1)), xyz.reshape(-1, 3)], axis=1).astype("<f4")
        header = "# .PCD v0.7\nVERSION 0.7\nFIELDS label x y z\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\n"
        header += f"WIDTH {width}\nHEIGHT {height}\nPOINTS {height * width}\nDATA {kind}\n"
        text = "\n".join(" ".join(map(repr, map(float, row))) for row in rows.tolist())
        path.write_bytes(header.encode() + (text.encode() if kind == "ascii" else rows.tobytes()))

    return write


CLOUD_FILES: dict[str, Callable[[Path, np.ndarray], None]] = {
    "a.npy": _npy,
    "a.npz": _npz,
    "ascii.ply": _ply("ascii"),
    "little.ply": _ply("binary_little_endian"),
    "big.ply": _ply("binary_big_endian"),
    "ascii.pcd": _pcd("ascii"),
    "binary.pcd": _pcd("binary"),
}


@pytest.mark.parametrize("name", CLOUD_FILES)
def test_organised_clouds_keep_order_values_and_nan(tmp_path: Path, name: str) -> None:
    CLOUD_FILES[name](tmp_path / name, CLOUD)
    np.testing.assert_array_equal(files.read_xyz(tmp_path / name), CLOUD)
    z = files.read_z(tmp_path / name)
    np.testing.assert_array_equal(z, CLOUD[..., 2])
    assert z.dtype == np.float32 and z.flags.c_contiguous


@pytest.mark.parametrize("array", [CLOUD.astype(np.float64), CLOUD[..., 2], CLOUD[..., 2].astype(">f8")])
def test_double_precision_and_z_alone_are_read(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(files.read_xyz(tmp_path / "a.npy"), array)
    np.testing.assert_array_equal(files.read_z(tmp_path / "a.npy"), CLOUD[..., 2])


def test_a_cloud_without_a_size_takes_the_images(tmp_path: Path) -> None:
    _ply("binary_little_endian", note="")(tmp_path / "a.ply", CLOUD)
    np.testing.assert_array_equal(files.read_xyz(tmp_path / "a.ply", (6, 8)), CLOUD)
    np.testing.assert_array_equal(files.read_xyz(tmp_path / "a.ply", (12, 16)), CLOUD)
    with pytest.raises(ValueError, match=r"48 points are not organised.*export the capture again as an organised"):
        files.read_xyz(tmp_path / "a.ply", (6, 9))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((48, 3, 1)), r"of shape \(48, 3, 1\)"),
        (np.zeros((3, 6, 8), np.float32), r"of shape \(3, 6, 8\)"),
        (np.array([[{}]]), "Python objects"),
        (np.zeros((6, 8, 3), bool), "holds bool"),
    ],
)
def test_a_wrong_array_is_one_sentence_with_the_remedy(tmp_path: Path, array: np.ndarray, reason: str) -> None:
    np.save(tmp_path / "bad.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=rf"bad.npy cannot be read \(.*{reason}.*\): save .* np.save"):
        files.read_xyz(tmp_path / "bad.npy")


def test_an_archive_must_make_clear_which_array_is_the_cloud(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", scan=CLOUD)
    np.savez(tmp_path / "two.npz", scan=CLOUD, other=CLOUD)
    np.savez(tmp_path / "none.npz", scan=CLOUD[0, 0])
    np.testing.assert_array_equal(files.read_xyz(tmp_path / "one.npz"), CLOUD)
    with pytest.raises(ValueError, match="scan, other: which is the cloud is not clear"):
        files.read_xyz(tmp_path / "two.npz")
    with pytest.raises(ValueError, match="holds scan, none of"):
        files.read_xyz(tmp_path / "none.npz")


def test_written_clouds_open_elsewhere(tmp_path: Path) -> None:
    points, colours = CLOUD[~NAN], picture(0, 6, 8)[~NAN]
    files.write_ply(tmp_path / "a.ply", points, colours)
    files.write_glb(tmp_path / "a.glb", points, colours)
    ply = trimesh.load(tmp_path / "a.ply")
    np.testing.assert_allclose(ply.vertices, points, rtol=1e-6)  # type: ignore[union-attr]
    np.testing.assert_array_equal(ply.colors[:, :3], colours)  # type: ignore[union-attr]
    glb = trimesh.load(tmp_path / "a.glb", force="scene")
    (seen,) = glb.geometry.values()  # type: ignore[union-attr]
    np.testing.assert_allclose(seen.vertices, points * [1, -1, -1], rtol=1e-6)


# faults


def _sound_files(folder: Path) -> dict[Path, Callable[[Path], object]]:
    readers: dict[Path, Callable[[Path], object]] = {}
    for name, write in CLOUD_FILES.items():
        write(folder / name, CLOUD)
        readers[folder / name] = files.read_xyz
    for suffix in (".png", ".npy", ".exr", ".pfm"):
        files.write_depth(folder / f"depth{suffix}", DEPTH)
        readers[folder / f"depth{suffix}"] = files.read_depth
    for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp"):
        files.write_rgb(folder / f"image{suffix}", picture(0))
        readers[folder / f"image{suffix}"] = files.read_rgb
    return readers


def test_truncated_files_are_one_sentence_naming_them(tmp_path: Path) -> None:
    for path, read in _sound_files(tmp_path).items():
        whole = path.read_bytes()
        for share in (0, 0.1, 0.6):
            path.write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(ValueError, match=path.name) as caught:
                read(path)
            assert "\n" not in str(caught.value) and ": " in str(caught.value)


@pytest.mark.filterwarnings("ignore")  # Pillow remarks on odd metadata before it gives up
def test_damaged_files_are_read_or_refused_never_worse(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for path, read in _sound_files(tmp_path).items():
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(8):
            damaged = whole.copy()
            damaged[random.integers(0, min(len(whole), 300), 3)] = random.integers(0, 256, 3)
            path.write_bytes(damaged.tobytes())
            try:
                read(path)
            except ValueError as error:
                assert path.name in str(error)


@pytest.mark.parametrize("read", [files.read_rgb, files.read_depth, files.read_levels, files.read_intrinsics])
def test_an_absent_file_is_said_to_be_absent(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(ValueError, match=r"none.png does not exist"):
        read(tmp_path / "none.png")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_write(path) as sibling:
        sibling.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with files.atomic_write(tmp_path / "new" / "deep.txt") as sibling:
        sibling.write_text("whole")
    assert (tmp_path / "new" / "deep.txt").read_text() == "whole"


def test_a_write_does_not_make_the_removed_folder_of_a_job_again(tmp_path: Path) -> None:
    out = files.OutputFolder(tmp_path / "out")
    for path in (out.path / "a.txt", out.path / "day" / "a.txt"):
        with files.atomic_write(path) as sibling:
            sibling.touch()
        out.path.rename(tmp_path / uuid4().hex)
        with pytest.raises(FileNotFoundError) as stop, files.atomic_write(path) as sibling:
            sibling.touch()
        assert str(out.path) in stop.value.filename and not out.path.exists()
        out = files.OutputFolder(out.path)
    del out
    (tmp_path / "out").rmdir()
    with files.atomic_write(tmp_path / "out" / "a.txt") as sibling:
        sibling.touch()
    assert (tmp_path / "out" / "a.txt").exists()


def test_a_folder_that_is_moved_away_while_it_is_made_is_an_error_of_the_write(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Path, "mkdir", raise_there)
    with pytest.raises(FileNotFoundError) as stop, files.atomic_write(tmp_path / "out" / "a.txt") as sibling:
        sibling.touch()
    assert stop.value.filename == str(tmp_path / "out" / "a.txt")
    (tmp_path / "out").touch()
    with pytest.raises(FileExistsError), files.atomic_write(tmp_path / "out" / "a.txt"):
        raise AssertionError


def raise_there(folder: Path, **_: object) -> None:
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))


def test_intrinsics_come_back_exactly_and_from_four_numbers(tmp_path: Path) -> None:
    matrix = np.array([[619.87, 0, 314.24], [0, 619.88, 238.9], [0, 0, 1]])
    files.write_intrinsics(tmp_path / "k.txt", matrix)
    np.testing.assert_array_equal(files.read_intrinsics(tmp_path / "k.txt"), matrix)
    (tmp_path / "four.txt").write_text("619.87, 619.88, 314.24, 238.9\n")
    np.testing.assert_array_equal(files.read_intrinsics(tmp_path / "four.txt"), matrix)
    (tmp_path / "bad.txt").write_text("1 2 3")
    with pytest.raises(ValueError, match=r"bad.txt cannot be read .*expected the three rows"):
        files.read_intrinsics(tmp_path / "bad.txt")


def test_a_real_cloud_and_real_intrinsics_are_read(realdata: Path) -> None:
    xyz = files.read_xyz(realdata / "xyz" / "vertex_map.npy")
    assert xyz.shape == (480, 640, 3)
    assert files.read_intrinsics(realdata / "arc" / "suction_intrinsics.txt")[0, 2] == pytest.approx(311.354492)


def test_every_suffix_of_a_cloud_is_tested() -> None:
    assert {Path(name).suffix for name in CLOUD_FILES} == set(CLOUDS)


def test_a_cloud_with_pcls_padding_is_read(tmp_path):
    """PCL calls all padding _: between x y z and the colour, and after it."""
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("_", "u1", 4), ("rgb", "<f4"), ("__", "u1", 12)]
    points = np.zeros(24, np.dtype(fields))
    points["z"] = np.arange(1, 25)
    header = (
        "VERSION 0.7\nFIELDS x y z _ rgb _\nSIZE 4 4 4 1 4 1\nTYPE F F F U F U\nCOUNT 1 1 1 4 1 12\n"
        "WIDTH 6\nHEIGHT 4\nPOINTS 24\nDATA binary\n"
    )
    (tmp_path / "a.pcd").write_bytes(header.encode() + points.tobytes())
    np.testing.assert_array_equal(files.read_xyz(tmp_path / "a.pcd")[..., 2], np.arange(1, 25).reshape(4, 6))


def test_a_map_without_pixels_and_a_float_map_of_levels_are_one_sentence(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((0, 5), np.float32))
    with pytest.raises(ValueError, match=r"a.npy cannot be read"):
        files.read_depth(tmp_path / "a.npy")
    Image.fromarray(np.ones((4, 5), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="it holds float32"):
        files.read_levels(tmp_path / "a.tif")
