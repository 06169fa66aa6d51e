"""Scenes: exact depth, seeds that fix bytes, layouts that round-trip, families that fill their pictures."""

import json
from collections import Counter

import cv2
import numpy as np
import pytest

from sonde import scenes
from sonde.datasets import open_set
from sonde.scenes import (
    FAMILIES,
    LAYOUTS,
    RIGS,
    Camera,
    Group,
    Light,
    Photo,
    Render,
    Scene,
    finishes,
    highway,
    layouts,
    photographed,
    prints,
    solids,
    terrain,
    tyre,
    viewpoints,
)  # fmt: skip
from sonde.scenes.layouts import SKY
from sonde.scenes.sensor import photograph
from sonde.scenes.shapes import extrusion, lathe, turn, unit
from sonde.scenes.tracer import Tracer

HEIGHT, WIDTH = 42, 56
OPEN = {"road": 0.45, "highway": 0.4, "outdoor": 0.5, "street": 0.6}
"""Families under the sky, and how much of their median picture is not sky."""
GENERAL = ("indoor", "street", "outdoor", "objects", "abstract")
"""Families whose cameras go anywhere."""
WHITE = finishes.plain(np.random.default_rng(0), (0.8, 0.8, 0.8), 0.0)


def photographed_plane(rotation: np.ndarray, away: float, height: int = 48, width: int = 64) -> Render:
    """A large plane whose nearest point on the optical axis is `away`, turned by `rotation`."""
    slab = Group().add("box", WHITE, at=(0, 0, -200), size=(400, 1, 400))  # its front face is y = -½
    group = Group().include(slab, (0, away, 0) + rotation @ [0, 0.5, 0], rotation=rotation)
    scene = Scene(group, Camera((0, 0, 0), fov_deg=60), [Light((0, -3, 3), (20, 20, 20))])
    return photographed(scene, np.random.default_rng(0), height, width)


def directions(render: Render) -> np.ndarray:
    v, u = np.indices(render.depth.shape)
    k = render.intrinsics
    return np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones_like(u)], -1)


@pytest.mark.parametrize(("yaw", "pitch", "away"), [(0, 0, 1.0), (0.7, 0, 2.0), (0, -1.2, 1.5), (0.4, 0.9, 40.0)])
def test_depth_of_a_tilted_plane_is_analytic(yaw, pitch, away):
    rotation = turn(yaw, pitch)
    render = photographed_plane(rotation, away)
    right, up_, normal = np.eye(3)[0], np.eye(3)[2], rotation @ [0, -1, 0]
    rays = directions(render) @ np.stack([right, -up_, [0, 1, 0]])  # camera axes in the world
    with np.errstate(divide="ignore"):
        expected = (np.array([0, away, 0]) @ normal) / (rays @ normal)
    inside = np.isfinite(render.depth)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(render.depth[inside], expected[inside], rtol=1e-4)


def test_depth_is_along_the_axis_not_along_the_ray():
    depth = photographed_plane(np.eye(3), 2.0).depth
    np.testing.assert_allclose(depth, 2.0, rtol=1e-5)


def test_ground_is_exact_to_the_horizon():
    ground = Group().add("box", WHITE, at=(0, 0, -1), size=(4000, 4000, 1))
    render = photographed(Scene(ground, Camera((0, 0, 1.65), fov_deg=80)), np.random.default_rng(0), 96, 128)
    y = directions(render)[..., 1]
    assert np.isinf(render.depth[y < 0]).all()
    below = y > 1.65 / 250
    np.testing.assert_allclose(render.depth[below], 1.65 / y[below], rtol=1e-4)


def test_camera_axes_are_right_down_forward():
    np.testing.assert_allclose(Camera((0, 0, 0)).axes(), np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]), atol=1e-12)
    camera = scenes.look_at((1, 2, 3), (4, -1, 0.5), 60)
    forward = np.subtract((4, -1, 0.5), (1, 2, 3))
    np.testing.assert_allclose(camera.axes()[:, 2], forward / np.linalg.norm(forward), atol=1e-12)
    assert camera.axes()[2, 1] < 0 and np.isclose(np.linalg.det(camera.axes()), 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_same_seed_same_bytes_and_other_index_other_picture(family):
    first, again = (scenes.render(family, 3, 1, height=HEIGHT, width=WIDTH) for _ in range(2))
    other, seed = (
        scenes.render(family, 3, 2, height=HEIGHT, width=WIDTH),
        scenes.render(family, 4, 1, height=HEIGHT, width=WIDTH),
    )
    for a, b in zip(first, again, strict=True):
        assert a.tobytes() == b.tobytes()
    assert first.image.tobytes() not in (other.image.tobytes(), seed.image.tobytes())
    assert first.depth.tobytes() not in (other.depth.tobytes(), seed.depth.tobytes())


@pytest.mark.parametrize(("family", "count"), [("bench", 9), ("indoor", 5)])
def test_bytes_do_not_depend_on_the_number_of_processes(tmp_path, family, count):
    one, two = (
        scenes.synth(family, tmp_path / str(w), count, seed=5, workers=w, height=HEIGHT, width=WIDTH) for w in (1, 2)
    )
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(names) == 2 * count + 1
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def nearest_crossing(triangles: np.ndarray, ray: np.ndarray) -> float:
    """Smallest multiple of `ray` from the origin that meets a triangle (Cramer's rule, float64); inf if none does."""
    first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    across = np.cross(ray, second)
    scale = (first * across).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = (-triangles[:, 0] * across).sum(1) / scale
        over = np.cross(-triangles[:, 0], first)
        v, along = over @ ray / scale, (second * over).sum(1) / scale
        met = (u >= 0) & (v >= 0) & (u + v <= 1) & (along > 0)
    return float(along[met].min()) if met.any() else np.inf


@pytest.mark.parametrize("family", FAMILIES)
def test_depth_is_that_of_the_nearest_triangle(family):
    rng = np.random.default_rng(8)
    scene = FAMILIES[family](rng)
    render = photographed(scene, rng, HEIGHT, WIDTH)
    tracer = Tracer(scene)
    viewpoints.settle(tracer, HEIGHT, WIDTH)
    camera, flat = tracer.scene.camera, scene.group.flattened()
    np.testing.assert_allclose(render.intrinsics, camera.intrinsics(HEIGHT, WIDTH))
    triangles = np.asarray(flat.vertices - np.array(camera.position), float)[flat.faces]
    rays = directions(render) @ camera.axes().T
    pixels = np.random.default_rng(0).integers(0, (HEIGHT, WIDTH), (24, 2))
    truth = np.array([nearest_crossing(triangles, rays[v, u]) for v, u in pixels])
    depth = render.depth[tuple(pixels.T)]
    seen = ~np.isnan(depth)  # a scanner's holes
    assert seen.sum() >= 12
    close = np.isclose(depth[seen], truth[seen], rtol=2e-3) | (np.isinf(depth[seen]) & np.isinf(truth[seen]))
    assert close.mean() > 0.9  # float32 may take the other side of a silhouette


@pytest.fixture(scope="module")
def gallery() -> dict[str, list[Render]]:
    return {
        family: [scenes.render(family, 1, i, rigs=0, height=HEIGHT, width=WIDTH) for i in range(12)]
        for family in FAMILIES
    }


def test_pictures_are_filled_lit_and_varied(gallery):
    for family, renders in gallery.items():
        valid = [np.isfinite(render.depth).mean() for render in renders]
        assert np.median(valid) > OPEN.get(family, 0.7), family
        means = [render.image.mean() for render in renders]
        assert np.mean([30 < mean < 225 for mean in means]) > 0.8, family
        assert np.median([render.image.std() for render in renders]) > 15, family


def test_ranges_are_those_of_the_real_captures(gallery):
    for render in gallery["bench"]:
        seen = render.depth[np.isfinite(render.depth)]
        assert 0.1 < seen.min() and seen.max() <= 4
        assert not np.isinf(render.depth).any()
    near = np.concatenate([render.depth[np.isfinite(render.depth)] for render in gallery["bench"]])
    assert (near > 0.25).mean() > 0.99
    assert all(render.depth[np.isfinite(render.depth)].max() < 25 for render in gallery["room"])
    room = np.concatenate([render.depth[np.isfinite(render.depth)] for render in gallery["room"]])
    assert (room < 15).mean() > 0.99 and not np.isnan(room).any()
    far = [render.depth[np.isfinite(render.depth)].max() for render in gallery["road"]]
    assert np.median(far) > 80
    assert np.mean([np.isinf(render.depth).any() for render in gallery["road"]]) > 0.7
    finite = [r.depth[np.isfinite(r.depth)] for renders in gallery.values() for r in renders]
    assert max(float(depth.max()) for depth in finite) < SKY and np.hypot(terrain.FAR, terrain.FAR) < SKY - 20
    closest = [np.median(r.depth[np.isfinite(r.depth)]) for r in gallery["objects"]]
    assert 0.1 < min(closest) and np.median(closest) < 4


def ramp_share(depth: np.ndarray) -> float:
    """How much of the variance of inverse depth a vertical ramp explains (R²), sky counted as infinitely far."""
    inverse = (1 / depth).ravel().astype(float)
    ramp = np.repeat(np.arange(depth.shape[0]), depth.shape[1])
    return float(np.corrcoef(ramp, inverse)[0, 1] ** 2)


def test_position_in_the_image_says_less_in_the_general_families(gallery):
    share = {family: np.mean([ramp_share(render.depth) for render in gallery[family]]) for family in FAMILIES}
    assert np.mean([share[family] for family in GENERAL]) < 0.42 < 0.55 < share["road"]
    lenses = [render.intrinsics[0, 0] / WIDTH for family in GENERAL for render in gallery[family]]
    assert min(lenses) < 0.5 and max(lenses) > 1.0  # 90 degrees and 53


def test_viewpoints_cover_their_ranges():
    rng = np.random.default_rng(0)
    lens, pitch, roll = (
        np.array([draw(rng) for _ in range(2000)]) for draw in (viewpoints.lens, viewpoints.pitch, viewpoints.roll)
    )
    assert 25 <= lens.min() < 30 and 95 < lens.max() <= 100
    assert -60 <= np.degrees(pitch.min()) < -55 and 30 < np.degrees(pitch.max()) <= 35
    assert np.median(np.abs(np.degrees(roll))) < 2.5 and 20 < np.degrees(np.abs(roll)).max() < 27


def cameras_of(family: str, count: int) -> list[Camera]:
    scenes_of = (FAMILIES[family](np.random.default_rng([5, i])) for i in range(count))
    return [camera for scene in scenes_of for camera in (scene.camera, *scene.others)]


def test_handheld_cameras_are_upright_and_at_the_height_of_a_person():
    seen = cameras_of("handheld", 12)
    height = np.array([camera.position[2] for camera in seen])
    pitch, roll = np.degrees([(camera.pitch, camera.roll) for camera in seen]).T
    assert np.median(np.abs(roll)) < 1.5 and -15 < np.median(pitch) < -2
    assert np.mean((height > 0.7) & (height < 2.1)) > 0.9 and 1.2 < np.median(height) < 1.7


def test_surround_looks_everywhere_through_wide_lenses():
    seen = cameras_of("surround", 25)
    pitch, lens = np.degrees([camera.pitch for camera in seen]), np.array([camera.fov_deg for camera in seen])
    assert pitch.min() < -60 and pitch.max() > 45 and np.median(np.abs(pitch)) < 25
    assert 65 <= lens.min() < 75 and 110 < lens.max() <= 120
    ahead = np.abs(np.cos([camera.yaw for camera in seen]))
    assert np.mean(ahead < 0.3) > 0.1 and np.mean(ahead > 0.95) > 0.1  # aside, and along the street


def test_bins_are_seen_from_above_and_hold_little_or_much():
    assert max(np.degrees(camera.pitch) for camera in cameras_of("bins", 12)) < -15
    triangles = [len(FAMILIES["bins"](np.random.default_rng([5, i])).group.flattened().faces) for i in range(12)]
    assert max(triangles) > 5 * min(triangles)


def test_the_first_viewpoint_that_sees_enough_is_taken():
    rng = np.random.default_rng(0)
    group = Group().add("box", WHITE, at=(0, 0, -0.5)).add("box", WHITE, at=(0, 5, -9), size=(20, 1, 20))
    group.add("box", WHITE, at=rng.uniform((-3, 2, -2), (3, 4, 2), (60, 3)), size=(0.3, 0.3, 0.3))
    inside, wall, good = Camera((0, 0, 0)), Camera((0, 8, 0), yaw=np.pi), Camera((0, -3, 1.0))
    settled = photographed(Scene(group, inside, others=(wall, good)), np.random.default_rng(1), 48, 64).depth
    alone = photographed(Scene(group, good), np.random.default_rng(1), 48, 64).depth
    np.testing.assert_allclose(settled, alone, rtol=1e-4)
    best = photographed(Scene(group, inside, others=(wall,)), np.random.default_rng(1), 48, 64).depth
    np.testing.assert_allclose(best, 2.5, rtol=1e-4)  # the wall, rather than the inside of a box


def test_muted_colours_keep_their_brightness_and_lose_saturation():
    loud = finishes.plain(np.random.default_rng(0), (0.8, 0.1, 0.3))
    muted = finishes.muted(Group().add("box", loud).add("ball", WHITE), 0.25).batches[0].material
    for before, after in ((loud.dark, muted.dark), (loud.light, muted.light), (loud.mark, muted.mark)):
        assert np.mean(after) == pytest.approx(np.mean(before)) and np.ptp(after) == pytest.approx(np.ptp(before) / 4)
    assert muted._replace(dark=loud.dark, light=loud.light, mark=loud.mark) == loud


def test_some_rooms_are_lit_by_their_windows_and_some_things_stand_before_the_dark():
    rooms, stages = (
        [FAMILIES[name](np.random.default_rng([5, i])) for i in range(40)] for name in ("indoor", "objects")
    )
    daylit = [scene for scene in rooms if any(light.radius == 0.5 and light.fades for light in scene.lights)]
    assert 8 < len(daylit) < 32
    for scene in daylit:  # cool, as the sky is, and within the room
        light = next(light for light in scene.lights if light.radius == 0.5)
        assert light.colour[2] >= light.colour[0] and 0 < light.position[2] < 2.5
    dark = [scene for scene in stages if np.mean([scene.sky.zenith, scene.sky.horizon]) < 0.1]
    assert 2 < len(dark) < 20
    assert np.median([np.mean(scene.sky.horizon) * scene.sky.ambient for scene in dark]) > 0.1  # and still lit


def test_a_lens_blurs_what_is_out_of_focus_and_only_that():
    rng = np.random.default_rng(0)
    light = np.repeat(rng.uniform(0.05, 1, (60, 80, 1)).astype(np.float32), 3, axis=2)
    depth = np.full((60, 80), 1.0, np.float32)
    depth[:, 40:] = np.inf
    photo = Photo(noise=0.0, blur_px=0.0, vignette=0.0)
    sharp, shallow = (
        photograph(light, depth, p, rng).astype(float) for p in (photo, photo._replace(aperture=0.02, focus=1.0))
    )
    detail = [np.abs(np.diff(picture[:, 50:, 0], axis=1)).mean() for picture in (sharp, shallow)]
    assert detail[1] < 0.5 * detail[0]
    assert np.abs(shallow - sharp)[:, :34].mean() < 0.15 * np.abs(shallow - sharp)[:, 50:].mean()
    shaken = photograph(light, depth, photo._replace(motion=(0.05, 0.0)), rng).astype(float)
    across, down = (np.abs(np.diff(shaken[..., 0], axis=axis)).mean() for axis in (1, 0))
    assert across < 0.5 * down


def test_the_highway_rig_is_fixed_above_the_road():
    drive = highway.rig(np.random.default_rng(3))
    for seed in range(3):
        scene = drive(np.random.default_rng(seed))
        matrix = scene.camera.intrinsics(100, 300)
        np.testing.assert_allclose(matrix[0, 0] / 300, 0.58)
        down, _ = Tracer(scene).glimpse(np.array([[0], [0], [-1]], np.float32))
        np.testing.assert_allclose(down, 1.65, atol=0.03)  # the dashes are 1 cm high


def test_things_out_of_doors_stand_on_the_land():
    land = terrain.drawn(np.random.default_rng(2))
    ground = terrain.ground(land, WHITE, WHITE)
    x, y = np.random.default_rng(0).uniform(-30, 30, (2, 40))
    tracer = Tracer(Scene(ground, Camera((0, 0, 500.0))))
    rays = np.stack([x / 500, y / 500, np.full(40, -1.0)]).astype(np.float32)
    depth, back = tracer.glimpse(rays)
    assert not back.any()
    height = 500 - depth
    np.testing.assert_allclose(height, land.height(x * depth / 500, y * depth / 500), atol=0.25)


@pytest.mark.parametrize("solid", dict.fromkeys((*solids.SOLIDS, solids.creature)))
def test_solids_face_outwards_and_take_any_size(solid):
    for seed in range(4):
        thing = solids.sized(solid(np.random.default_rng(seed)), 0.5)
        low, high = thing.bounds()
        np.testing.assert_allclose((high - low).max(), 0.5, rtol=1e-6)
        assert abs(low[2]) < 1e-9
        away = Tracer(Scene(thing, Camera((0.0, -3.0, 0.2))))
        v, u = (a.ravel().astype(np.float32) for a in np.mgrid[0:40, 0:60])
        depth, back = away.glimpse(away.scene.camera.rays(u, v, 40, 60))
        assert back.sum() <= 0.1 * np.isfinite(depth).sum() + 1, seed
        assert len(thing.flattened().faces) < 6000


def test_structured_light_loses_some_pixels_but_not_most(gallery):
    lost = [np.isnan(render.depth).mean() for render in gallery["bench"]]
    assert 0.01 < np.median(lost) < 0.25
    assert not any(np.isnan(r.depth).any() for family in FAMILIES if family != "bench" for r in gallery[family])


def test_grooves_of_a_tyre_have_depth():
    rng = np.random.default_rng(0)
    one = tyre.Tyre(0.3, 0.2, 0.18, groove=0.01, channels=3, pitches=30, skew=0.5)
    tread = Group().add(tyre.tread(one, rng), WHITE)
    standing = Group().include(tread, (-0.1, 0.7, 0), rotation=turn(0.0, 0.0, np.pi / 2))
    render = photographed(Scene(standing, Camera((0, 0, 0), fov_deg=22)), rng, 96, 128)
    middle = render.depth[44:52, 20:108]  # a band across the tread, facing the camera
    row = np.median(middle, axis=0)
    land = np.percentile(row, 20)
    deep = row > land + 0.006
    assert 0.03 < deep.mean() < 0.5
    assert np.diff(np.flatnonzero(np.diff(deep.astype(int)) == 1)).size >= 2 - 1  # more than one groove
    assert np.abs(row[deep] - land - one.groove).max() < 0.006


def test_a_rig_stays_while_its_contents_change():
    first, second = (scenes.render("bench", 7, i, height=HEIGHT, width=WIDTH) for i in (0, 1))
    assert np.array_equal(first.intrinsics, second.intrinsics)
    both = np.isfinite(first.depth) & np.isfinite(second.depth)
    change = np.abs(first.depth - second.depth)[both] / first.depth[both]
    assert np.median(change) < 0.35
    strange = scenes.render("bench", 7, 1, rigs=0, height=HEIGHT, width=WIDTH)
    assert not np.array_equal(first.intrinsics, strange.intrinsics)
    assert np.array_equal(scenes.render("bench", 7, 3, rigs=3, height=HEIGHT, width=WIDTH).intrinsics, first.intrinsics)


def test_zivid_points_project_back_to_their_pixels(tmp_path):
    root = scenes.synth("bench", tmp_path / "bench", 2, seed=2, workers=1, height=HEIGHT, width=WIDTH)
    card = json.loads((root / "render.json").read_text())
    assert (card["format"], card["family"], card["seed"], card["count"], card["size"]) == (
        "zivid",
        "bench",
        2,
        2,
        [42, 56],
    )
    xyz = np.load(root / "depth" / "capture_00001.npy", allow_pickle=False)
    assert xyz.dtype == np.float32 and xyz.shape == (42, 56, 3)
    seen = np.isfinite(xyz).all(-1)
    assert np.array_equal(seen, np.isfinite(xyz).any(-1)) and 250 < np.median(xyz[seen, 2]) < 4000
    pixels = (xyz[seen] / xyz[seen, 2:]) @ np.array(card["intrinsics"]).T
    v, u = np.nonzero(seen)
    np.testing.assert_allclose(pixels[:, :2], np.stack([u, v], 1), atol=1e-3)


def test_nyu_and_driving_layouts_hold_the_depth(tmp_path):
    for family, per_metre, files in (
        ("room", 1000, ("scene_0000/rgb_00000.jpg", "scene_0000/sync_depth_00000.png")),
        ("road", 256, ("left-image-half-size/drive_0000/000000.jpg", "depth-map-half-size/drive_0000/000000.png")),
    ):
        root = scenes.synth(family, tmp_path / family, 1, workers=1, height=HEIGHT, width=WIDTH)
        picture, levels = (cv2.imread(str(root / name), cv2.IMREAD_UNCHANGED) for name in files)
        assert picture is not None and picture.shape == (42, 56, 3)
        assert levels is not None and levels.dtype == np.uint16
        depth = scenes.render(family, 0, 0, height=HEIGHT, width=WIDTH).depth
        known = np.isfinite(depth) & (depth < 65)
        np.testing.assert_allclose(levels[known] / per_metre, depth[known], atol=0.51 / per_metre)
        assert (levels[np.isinf(depth)] == 0).all()


def test_one_car_takes_all_pictures_of_a_driving_set(tmp_path):
    root = scenes.synth("road", tmp_path / "road", 3, workers=1, height=HEIGHT, width=WIDTH)
    captures = [open_set("driving_stereo", root).read(index) for index in range(3)]
    focal = 1.14 * WIDTH  # DrivingStereo's
    for capture in captures:
        assert capture.intrinsics is not None
        np.testing.assert_allclose(np.diag(capture.intrinsics), (focal, focal, 1))
    below = np.array([np.median(capture.depth[-1]) for capture in captures]) * (HEIGHT / 2 / focal)
    assert (below < 2.1).all() and below.max() > 1.3, "the road lies as far below the lens as the car is high"
    card = json.loads((scenes.synth("road", tmp_path / "many", 1, workers=1, rigs=0) / "render.json").read_text())
    assert card["intrinsics"] is None and not (tmp_path / "many" / "intrinsics.txt").exists()


def test_a_second_driving_set_is_written_as_the_first(tmp_path):
    root = scenes.synth("highway", tmp_path, 2, layout="driving_stereo", workers=1, height=HEIGHT, width=WIDTH)
    card = json.loads((root / "render.json").read_text())
    np.testing.assert_allclose(card["intrinsics"][0][0], 0.58 * WIDTH)
    levels = cv2.imread(str(root / "depth-map-half-size/drive_0001/000000.png"), cv2.IMREAD_UNCHANGED)
    depth = scenes.render("highway", 0, 1, height=HEIGHT, width=WIDTH).depth
    assert levels is not None and (levels[np.isinf(depth)] == 0).all()
    known = depth < 100
    np.testing.assert_allclose(levels[known] / 256, depth[known], atol=0.51 / 256)


def test_the_sky_of_a_general_family_is_far_and_can_be_learnt_from(tmp_path):
    root = scenes.synth("street", tmp_path, 4, seed=1, workers=1, height=HEIGHT, width=WIDTH)
    for index in range(4):
        depth = scenes.render("street", 1, index, height=HEIGHT, width=WIDTH).depth
        written = np.load(root / "depth" / f"{index:06d}.npy")
        assert np.isfinite(written).all() and (written[np.isinf(depth)] == SKY).all()
        assert depth[np.isfinite(depth)].max() < SKY


def test_any_family_can_be_written_as_points(tmp_path):
    root = scenes.synth("road", tmp_path / "road", 1, layout="zivid", workers=1, height=HEIGHT, width=WIDTH)
    xyz = np.load(root / "depth" / "capture_00000.npy", allow_pickle=False)
    assert np.array_equal(
        np.isnan(xyz[..., 2]), ~np.isfinite(scenes.render("road", 0, 0, height=HEIGHT, width=WIDTH).depth)
    )


def test_a_second_call_goes_on_where_the_first_stopped(tmp_path):
    done: list[int] = []
    root = scenes.synth("bench", tmp_path / "bench", 3, workers=1, progress=done.append, height=HEIGHT, width=WIDTH)
    assert done == [1, 2, 3]
    before = {path: path.stat().st_mtime_ns for path in root.rglob("capture_*")}
    (root / "depth" / "capture_00001.npy").unlink()
    done.clear()
    scenes.synth("bench", root, 4, workers=1, progress=done.append, height=HEIGHT, width=WIDTH)
    assert done == [3, 4]
    kept = [path for path, time in before.items() if path.stat().st_mtime_ns == time]
    assert len(kept) == 4 and len(list(root.rglob("capture_*"))) == 8
    assert not [path for path in root.rglob(".*") if path.is_file()]


def test_a_set_has_several_drives_whatever_its_size():
    for count, drives, most in ((3, 3, 1), (100, 20, 5), (250, 20, 13), (5000, 20, 250), (6000, 24, 250)):
        per_folder = layouts.count_per_folder(count)
        held = Counter(layouts.arrange("driving_stereo", per_folder)(index).depth.parent for index in range(count))
        assert (len(held), max(held.values())) == (drives, most)


def test_a_set_goes_on_in_the_drives_it_was_begun_with(tmp_path):
    root = scenes.synth("road", tmp_path / "roads", 0, workers=1, height=HEIGHT, width=WIDTH)
    card = json.loads((root / "render.json").read_text())
    assert card.pop("per_folder") == 1
    (root / "render.json").write_text(json.dumps(card))  # as a version before `per_folder` wrote it
    scenes.synth("road", root, 2, workers=1, height=HEIGHT, width=WIDTH)
    assert open_set("driving_stereo", root).ids == ["drive_0000/000000", "drive_0000/000001"]


def test_renders_never_join_what_is_there_already(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "intrinsics.txt").write_text("1006.94 1003.56 440 200")
    with pytest.raises(ValueError, match="not empty, and no set of renders"):
        scenes.synth("road", tmp_path / "mine", 1, workers=1, height=HEIGHT, width=WIDTH)
    assert (tmp_path / "mine" / "intrinsics.txt").read_text() == "1006.94 1003.56 440 200"


def test_two_sets_are_never_mixed_in_one_folder(tmp_path):
    scenes.synth("bench", tmp_path, 1, workers=1, height=HEIGHT, width=WIDTH)
    with pytest.raises(ValueError, match="seed 0, not 1"):
        scenes.synth("bench", tmp_path, 1, seed=1, workers=1, height=HEIGHT, width=WIDTH)


def test_wrong_names_are_answered_with_the_right_ones(tmp_path):
    with pytest.raises(ValueError, match="bench"):
        scenes.render("bensch", 0, 0)
    with pytest.raises(ValueError, match=r"bench.*road.*room"):
        scenes.synth("kitchenette", tmp_path, 1)
    with pytest.raises(ValueError, match="zivid"):
        scenes.synth("bench", tmp_path, 1, layout="zivit")
    assert not list(tmp_path.iterdir())


def cube_family(rng: np.random.Generator) -> Scene:
    """A user's own family."""
    return Scene(Group().add("box", WHITE, at=(0, 2, -0.5)), Camera((float(rng.uniform(-0.1, 0.1)), 0, 0)), [])


def test_a_family_of_ones_own_is_an_assignment(tmp_path, monkeypatch):
    monkeypatch.setitem(FAMILIES, "cube", cube_family)
    render = scenes.render("cube", 0, 0, height=HEIGHT, width=WIDTH)
    np.testing.assert_allclose(np.nanmin(render.depth), 1.5, rtol=1e-5)
    root = scenes.synth("cube", tmp_path / "cube", 1, workers=1, height=HEIGHT, width=WIDTH)
    assert (root / LAYOUTS["zivid"](0).depth).is_file() and "cube" not in RIGS


@pytest.fixture
def stripes(tmp_path):
    """A folder of two photographs that no finish looks like: pure red and pure green."""
    for name, colour in (("a.png", (0, 0, 255)), ("b.jpg", (0, 255, 0))):
        cv2.imwrite(str(make(tmp_path / "photographs") / name), np.full((40, 60, 3), colour, np.uint8))
    return tmp_path / "photographs"


def make(folder):
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize("family", ["room", "street", "bins"])
def test_photographs_change_the_colours_and_never_the_depth(family, stripes):
    for index in range(3):
        plain = render(family, 3, index)
        worn, again = (render(family, 3, index, photographs=stripes) for _ in range(2))
        np.testing.assert_array_equal(worn.depth, plain.depth)
        np.testing.assert_array_equal(worn.image, again.image)
        assert (worn.image != plain.image).any(-1).mean() > 0.02


def render(family, seed, index, **settings):
    return scenes.render(family, seed, index, height=HEIGHT, width=WIDTH, **settings)


def test_a_photograph_repeats_on_a_wall_without_a_seam(tmp_path):
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, :32] = 255
    cv2.imwrite(str(tmp_path / "halves.png"), halves)
    table = Tracer(Scene(Group().add("box", WHITE, at=(0, 5, 0), size=(4, 1, 4)), Camera((0, 0, 0)))).table
    drawn = [prints.draw_prints(table.copy(), tmp_path, 1.0, np.random.default_rng(seed)) for seed in range(8)]
    assert {bool(one.sky) for one in drawn} == {bool(one.row[0] >= 0) for one in drawn} == {True, False}
    zero = np.zeros(2, np.float32)
    for one in drawn:
        light = np.full((3, 2), 0.25, np.float32)
        beside = np.array([0.01, 0.99], np.float32)  # on both sides of where two tiles meet
        one._replace(row=np.zeros(1, int)).cover(light, np.zeros(2, int), beside, zero, zero)
        np.testing.assert_allclose(light[:, 0], light[:, 1])
        assert light[0, 0] != 0.25


def test_the_sky_wears_the_upper_half_of_a_photograph(tmp_path):
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32] = (255, 0, 0)  # blue above, black below
    cv2.imwrite(str(tmp_path / "sky.png"), picture)
    table = np.zeros((23, 1), np.float32)
    hung = prints.draw_prints(table, tmp_path, 0.5, np.random.default_rng(0))._replace(sky=1.0)
    light = np.full((3, 20), 0.1, np.float32)
    hung.cover_sky(light, np.random.default_rng(0).uniform((-1, -1, 0.1), 1, (20, 3)).T.astype(np.float32))
    np.testing.assert_allclose(light, np.repeat([[0.0], [0.0], [1.0]], 20, 1), atol=1e-3)
    hung._replace(sky=0.0).cover_sky(light, np.ones((3, 20), np.float32))
    assert light[2].min() > 0.99


def test_a_set_with_photographs_is_never_mixed_with_one_without(tmp_path, stripes):
    scenes.synth("bins", tmp_path / "set", 1, height=24, width=32, workers=1, photographs=stripes)
    card = json.loads((tmp_path / "set" / "render.json").read_text())
    assert card["photographs"].startswith("2 images, names ")
    with pytest.raises(ValueError, match=r"holds renders of photographs '2 images, .*, not None"):
        scenes.synth("bins", tmp_path / "set", 2, height=24, width=32, workers=1)
    (tmp_path / "none").mkdir()
    for folder, message in (
        ("none", "none holds nothing: expected a folder of photographs"),
        ("absent", "absent does not exist: expected a folder of photographs"),
        ("photographs/a.png", "a.png is a file: expected a folder of photographs"),
    ):
        with pytest.raises(ValueError, match=message):
            scenes.synth("bins", tmp_path / "out", 1, photographs=tmp_path / folder)
    assert not (tmp_path / "out").exists()
    (tmp_path / "none" / "junk.png").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"junk\.png"):
        scenes.render("bins", 0, 0, height=24, width=32, photographs=tmp_path / "none")


@pytest.mark.parametrize(
    "name", ["box", "cylinder", "pole", "bolt", "tube", "cone", "ball", "cushion", "capsule", "roof"]
)
def test_unit_shapes_stand_on_the_origin_and_face_outwards(name):
    mesh = unit(name)
    np.testing.assert_allclose(mesh.vertices.min(0), (-0.5, -0.5, 0), atol=1e-6)
    np.testing.assert_allclose(mesh.vertices.max(0), (0.5, 0.5, 1), atol=1e-6)
    corners = mesh.vertices[mesh.faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.einsum("mc,mkc->mk", flat, mesh.normals) >= -1e-6).all()
    assert np.einsum("mc,mc->", flat, corners.mean(1)) > 0  # encloses a positive volume
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=-1), 1, atol=1e-5)


def test_turned_and_extruded_shapes_face_outwards():
    for mesh in (
        lathe(np.array([(0.0, 0), (1, 0), (1, 2), (0, 2)])),
        extrusion(np.array([(-1.0, 0, 1), (0, 0, 2), (1, 0, 1)]), 1.0),
    ):
        corners = mesh.vertices[mesh.faces]
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert np.einsum("mc,mc->", flat, corners.mean(1)) / 6 > 1
        assert (np.einsum("mc,mkc->mk", flat, mesh.normals) >= -1e-6).all()


def test_placing_a_group_turns_scales_and_moves_it():
    thing = Group().add("box", WHITE, at=(1, 0, 0), size=(2, 1, 1))
    placed = Group().include(thing, (0, 0, 5), yaw=np.pi / 2, scale=2)
    np.testing.assert_allclose(placed.bounds(), [(-1, 0, 5), (1, 4, 7)], atol=1e-9)
    flat = placed.flattened()
    np.testing.assert_allclose(flat.vertices.min(0), (-1, 0, 5), atol=1e-6)
    assert Tracer(Scene(placed, Camera((0, 0, 0)))).material.size == 12
