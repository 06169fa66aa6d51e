"""The pinhole camera: round trips, a tilted plane, and clouds a real sensor made."""

from pathlib import Path

import numpy as np
import pytest

from sonde import files
from sonde import geometry as geo

K = np.array([[700.0, 0.0, 310.5], [0.0, 710.0, 241.25], [0.0, 0.0, 1.0]])
SIZE = (48, 64)


def tilted_plane(intrinsics: np.ndarray = K, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Depth where each line of sight meets 0.3 x - 0.2 y + z = 2."""
    v, u = np.indices(size)
    x, y = (u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1]
    return 2 / (0.3 * x - 0.2 * y + 1)


def test_points_of_a_tilted_plane_lie_on_it():
    points, colours = geo.point_cloud(tilted_plane(), K)
    assert points.shape == (48 * 64, 3)
    assert colours is None
    np.testing.assert_allclose(points @ [0.3, -0.2, 1.0], 2.0, rtol=1e-12)


def test_points_project_onto_their_own_pixels():
    xyz = geo.unproject(tilted_plane(), K)
    projected = xyz @ K.T
    np.testing.assert_allclose(projected[..., 0] / projected[..., 2], np.indices(SIZE)[1], atol=1e-9)
    np.testing.assert_allclose(projected[..., 1] / projected[..., 2], np.indices(SIZE)[0], atol=1e-9)


def test_unproject_keeps_dtype_and_holes():
    depth = tilted_plane().astype(np.float32)
    depth[3, 4] = np.nan
    xyz = geo.unproject(depth, K)
    assert xyz.dtype == np.float32
    assert np.isnan(xyz[3, 4]).all()
    assert np.isnan(xyz).sum() == 3


def test_depth_of_a_cloud_is_its_z_where_trusted():
    z = np.array([[np.nan, np.inf, -np.inf, 0.0, -1.0, 5.0, 10_000.0, 9_999.0]], np.float32)
    depth, mask = geo.depth_from_xyz(np.repeat(z[..., None], 3, -1), 0, 10_000)
    np.testing.assert_array_equal(mask, [[0, 0, 0, 0, 0, 1, 0, 1]])
    np.testing.assert_array_equal(depth, [[0, 0, 0, 0, 0, 5, 0, 9_999]])
    assert depth.dtype == np.float32


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-8), (np.float32, 1e-2)])
@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_fitted_intrinsics_are_those_that_made_the_cloud(dtype: type, tolerance: float, unit: float):
    xyz = (geo.unproject(tilted_plane(), K) * unit).astype(dtype)
    xyz[::3] = np.nan
    fitted = geo.fit_intrinsics(xyz)
    assert fitted is not None
    np.testing.assert_allclose(fitted, K, atol=tolerance)


def test_fit_withstands_gross_errors_and_obeys_the_mask():
    random = np.random.default_rng(0)
    xyz = geo.unproject(tilted_plane(), K)
    wrong = random.uniform(size=SIZE) < 0.1
    xyz[wrong] += random.normal(0, 0.5, (wrong.sum(), 3)) * [1, 1, 0]
    fitted, masked = geo.fit_intrinsics(xyz), geo.fit_intrinsics(xyz, ~wrong)
    assert fitted is not None and masked is not None
    np.testing.assert_allclose(masked, K, atol=1e-8)
    np.testing.assert_allclose(fitted, K, atol=5)


def test_no_camera_is_fitted_where_there_is_none():
    xyz = geo.unproject(tilted_plane(), K)
    assert geo.fit_intrinsics(np.full_like(xyz, np.nan)) is None
    assert geo.fit_intrinsics(xyz, np.arange(48 * 64).reshape(SIZE) < 15) is None
    assert geo.fit_intrinsics(np.ones_like(xyz)) is None
    assert geo.fit_intrinsics(xyz * [-1, 1, 1]) is None
    assert geo.fit_intrinsics(np.random.default_rng(0).uniform(1, 2, xyz.shape)) is None


def test_a_real_capture_gives_back_its_intrinsics(realdata: Path):
    matrix = files.read_intrinsics(realdata / "arc" / "suction_intrinsics.txt")
    levels = np.asarray(files.read_levels(realdata / "arc" / "depth" / "suction_test-image.png"))
    xyz = geo.unproject(levels.astype(np.float32) * np.float32(0.1), matrix)
    fitted = geo.fit_intrinsics(xyz)
    assert fitted is not None
    np.testing.assert_allclose(fitted, matrix, atol=1e-2)


def test_distance_and_depth_undo_each_other():
    depth = tilted_plane()
    distance = geo.depth_to_distance(depth, K)
    np.testing.assert_allclose(distance, np.linalg.norm(geo.unproject(depth, K), axis=-1))
    np.testing.assert_allclose(geo.distance_to_depth(distance, K), depth)


def test_hypersim_distance_of_a_wall_is_longest_in_the_corners():
    hypersim = np.array([[886.81, 0, 511.5], [0, 886.81, 383.5], [0, 0, 1]])
    distance = geo.depth_to_distance(np.ones((768, 1024), np.float32), hypersim)
    corner = np.sqrt(1 + (511.5**2 + 383.5**2) / 886.81**2)
    np.testing.assert_allclose(distance[[0, 0, -1, -1], [0, -1, 0, -1]], corner, rtol=1e-6)
    assert distance.min() == pytest.approx(1, abs=1e-6)


def test_scaling_keeps_the_edges_of_the_view():
    scaled = geo.scale_intrinsics(K, (480, 640), (240, 1280))
    for x, y in ((-0.5, -0.5), (639.5, 479.5)):
        ray = (x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1]
        moved = (x + 0.5) * 2 - 0.5, (y + 0.5) / 2 - 0.5
        assert scaled[0, 0] * ray[0] + scaled[0, 2] == pytest.approx(moved[0])
        assert scaled[1, 1] * ray[1] + scaled[1, 2] == pytest.approx(moved[1])
    np.testing.assert_allclose(geo.scale_intrinsics(scaled, (240, 1280), (480, 640)), K)


def test_cropping_a_map_is_cropping_its_rays():
    cropped = geo.crop_intrinsics(K, top=5, left=9)
    np.testing.assert_allclose(geo.unproject(tilted_plane()[5:, 9:], cropped), geo.unproject(tilted_plane(), K)[5:, 9:])


def test_flipping_a_map_mirrors_its_points():
    flipped = geo.unproject(tilted_plane()[:, ::-1], geo.flip_intrinsics(K, SIZE[1]))
    np.testing.assert_allclose(flipped, geo.unproject(tilted_plane(), K)[:, ::-1] * [-1, 1, 1], atol=1e-12)


def test_changing_intrinsics_leaves_the_original_alone_and_unknown_ones_unknown():
    before = K.copy()
    unknown = np.full((3, 3), np.nan)
    for change in (
        lambda k: geo.crop_intrinsics(k, 3, 4),
        lambda k: geo.flip_intrinsics(k, 64),
        lambda k: geo.scale_intrinsics(k, (4, 4), (8, 8)),
    ):
        change(K)
        assert np.isnan(change(unknown)).all()
    np.testing.assert_array_equal(K, before)


def test_a_cloud_holds_trusted_pixels_in_their_colours():
    depth = np.array([[1.0, 0.0, np.nan], [2.0, 3.0, 4.0]])
    rgb = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    mask = np.array([[True, True, True], [True, False, True]])
    points, colours = geo.point_cloud(depth, K, mask, rgb)
    np.testing.assert_array_equal(points[:, 2], [1, 2, 4])
    assert colours is not None
    np.testing.assert_array_equal(colours, rgb[[0, 1, 1], [0, 0, 2]])


def test_colours_of_another_size_are_refused():
    with pytest.raises(ValueError, match="resize the image"):
        geo.point_cloud(np.ones((2, 3)), K, rgb=np.zeros((4, 6, 3), np.uint8))
