"""A few known points give metres: the formula planted is found, the simpler one is preferred, nonsense is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_captures import INTRINSICS, picture, write_bench
from small_networks import saved
from small_recipes import FEW

from sonde import calibration, cards, datasets, evaluation, exporting, files, labelling, load, models, recipes, training
from sonde.adapters import fold_affine
from sonde.calibration import PointSet, choose, fits
from sonde.calibration.points import Measured
from sonde.geometry import depth_to_distance
from sonde.metrics import METRICS
from sonde.models import CALIBRATION, Calibration
from sonde.types import Space

PLANTED = {
    ("metric", "identity"): lambda x: x,
    ("metric", "scale"): lambda x: 3 * x,
    ("metric", "scale-shift"): lambda x: 3 * x + 0.7,
    ("metric", "log-affine"): lambda x: 3 * x**0.6,
    ("disparity", "scale"): lambda x: 1 / (3 * x),
    ("disparity", "scale-shift"): lambda x: 1 / (3 * x + 0.7),
    ("disparity", "log-affine"): lambda x: 3 * x**-0.6,
}
FOUND = {"identity": (1, 0), "scale": (3, 0), "scale-shift": (3, 0.7), "log-affine": (0.6, np.log(3))}


def network(space: Space, folder: Path) -> Path:
    """A Hugging Face folder whose answers are metres from 0.1 to 0.9, or a disparity."""
    saved("glpn" if space == "metric" else "depth_anything", folder)
    if space == "metric":
        model = models.load_network(folder)
        fold_affine(model.network.get_submodule(model.family.last), 12.0, -3.0)
        model.network.save_pretrained(folder)
    return folder


def points(answer, depth, image: int | np.ndarray = 0) -> PointSet:
    answer, depth = np.asarray(answer, dtype=np.float64), np.asarray(depth, dtype=np.float64)
    return PointSet(answer, depth, np.broadcast_to(image, answer.shape).astype(np.int64))


def write_csv(path: Path, rows, header: str = "image,x,y,depth") -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.fixture
def photo(tmp_path) -> Path:
    """64 wide, 48 high."""
    Image.fromarray(picture(0, 48, 64)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def known(model: str | Path, photo: Path, truth, count: int = 12, name: str = "points.csv") -> Path:
    """A CSV of pixels whose depth is `truth` of the model's answer there."""
    answer = load(model, calibrated=False).predict(photo).depth.astype(np.float64)
    rows = np.sort(np.argsort(answer, axis=None)[np.linspace(0, answer.size - 1, count).astype(int)])
    where = [np.unravel_index(row, answer.shape) for row in rows]
    return write_csv(photo.parent / name, [(photo.name, x, y, repr(float(truth(answer[y, x])))) for y, x in where])


@pytest.mark.parametrize(("space", "kind"), PLANTED)
def test_what_was_planted_on_a_network_is_found(tmp_path, photo, space, kind):
    model = network(space, tmp_path / "model")
    measured = calibration.read_points(known(model, photo, PLANTED[space, kind]))
    before = load(model).predict(photo).depth.astype(np.float64)
    found = calibration.calibrate(model, measured).calibration
    scale, shift = FOUND[kind]
    assert found.kind == kind and found.space == space
    turned = -1 if (space, kind) == ("disparity", "log-affine") else 1
    assert (found.scale, found.shift) == pytest.approx((turned * scale, shift), abs=1e-6)
    after = load(model).predict(photo)
    assert after.space == "metric"
    np.testing.assert_allclose(after.depth, PLANTED[space, kind](before), rtol=1e-5)
    assert found.record["after"] < 1e-6


@pytest.mark.parametrize("space", ["metric", "disparity"])
def test_noise_does_not_buy_a_second_number(space: Space):
    random = np.random.default_rng(0)
    x = random.uniform(0.5, 4, (6, 9))
    noise = np.exp(0.1 * random.standard_normal(x.shape))
    depth = PLANTED[space, "scale"](x) * noise
    chosen = [choose(space, points(*row)) for row in zip(x, depth, strict=True)]
    assert [choice.calibration.kind for choice in chosen].count("scale") >= 5
    better = [choice for choice in chosen if min(choice.scores, key=lambda name: choice.scores[name].mean) != "scale"]
    assert better, "the rule was never needed"


def test_a_shift_that_shows_through_the_noise_is_chosen():
    random = np.random.default_rng(1)
    x = random.uniform(0.5, 4, 30)
    choice = choose("metric", points(x, (2 * x + 2) * np.exp(0.05 * random.standard_normal(30))))
    assert choice.calibration.kind == "scale-shift"
    assert choice.scores["scale-shift"].mean + choice.scores["scale-shift"].standard_error < choice.scores["scale"].mean


def test_one_point_gives_a_scale_and_two_no_more():
    one = choose("disparity", points([0.5], [4.0]))
    assert (one.calibration.kind, one.calibration.scale, one.scores) == ("scale", pytest.approx(0.5), {})
    assert choose("metric", points([0.5], [4.0])).calibration.kind == "scale"
    two = choose("metric", points([1, 2], [2, 6]))
    assert two.calibration.kind == "scale"
    assert two.refused["scale-shift"] == "2 points allow a scale only; scale-shift needs 6 or more"
    with pytest.raises(ValueError, match="5 points allow a scale only; log-affine needs 6"):
        choose("metric", points(range(1, 6), range(1, 6)), "log-affine")
    with pytest.raises(ValueError, match=r"farthest point is 1\.04 times"):
        choose("metric", points(np.linspace(1, 2, 9), np.linspace(2.4, 2.5, 9)), "scale-shift")


def test_affine_depth_needs_its_shift():
    with pytest.raises(ValueError, match="2 points allow a scale only; scale-shift needs 6"):
        choose("affine", points([1, 2], [2, 6]))
    x = np.linspace(-1, 1, 8)
    assert choose("affine", points(x, 2 * x + 3)).calibration.kind == "scale-shift"


def test_a_model_that_runs_the_other_way_is_refused():
    x = np.linspace(0.5, 4, 12)
    with pytest.raises(ValueError, match="the points are farther"):
        choose("metric", points(x, 5 - x))
    with pytest.raises(ValueError, match="the points are farther"):
        choose("disparity", points(x, 2 * x))
    with pytest.raises(ValueError, match=r"scale-shift.*the points are farther"):
        choose("disparity", points(x, 2 * x), "scale-shift")


@pytest.mark.parametrize("wrong", [0.1, 10])
@pytest.mark.parametrize("space", ["metric", "disparity"])
def test_a_mistyped_point_is_named_and_moves_little(tmp_path, photo, space, wrong):
    model = network(space, tmp_path / "model")
    (good,) = calibration.read_points(known(model, photo, PLANTED[space, "scale-shift"], 15))
    bad = good._replace(depth=np.where(np.arange(15) == 4, wrong * good.depth, good.depth))
    found = calibration.calibrate(model, [bad], kind="scale-shift").calibration
    assert (found.scale, found.shift) == pytest.approx((3, 0.7), rel=0.05)
    (told,) = found.record["outliers"]
    assert told.startswith(f"photo.png ({good.x[4]}, {good.y[4]}): {bad.depth[4]:.4g} m, but ")
    assert float(told.split("but ")[1].split()[0]) == pytest.approx(good.depth[4], rel=0.05)
    assert calibration.calibrate(model, [good], kind="scale-shift").calibration.record["outliers"] == []


def test_a_model_with_a_canonical_focal_is_calibrated_in_each_cameras_own_metres(tmp_path, photo, sonde):
    seen = models.load_network(network("metric", tmp_path / "model"))
    seen.spec = replace(seen.spec, canonical_focal=100.0)
    models.save(seen, tmp_path / "model")
    answer = load(tmp_path / "model").predict(photo, INTRINSICS).depth
    depth = np.zeros((48, 64))
    depth[::6, ::8] = 3 * answer[::6, ::8] + 0.7
    np.save(tmp_path / "sparse.npy", depth)
    csv = write_csv(tmp_path / "points.csv", [(photo.name, x, y, depth[y, x]) for y, x in np.argwhere(depth > 0)])
    four = ",".join(str(INTRINSICS[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
    for what in (("--points", csv), ("--depth", tmp_path / "sparse.npy", "--image", photo, "--depth-scale", "1")):
        command = ("calibrate", tmp_path / "model", *what)
        assert "metres need the image's own, as --intrinsics" in sonde(*command).errors
        assert not (tmp_path / "model" / CALIBRATION).exists()
        assert sonde(*command, "--intrinsics", four, "--json").json["kind"] == "scale-shift"
        longer = load(tmp_path / "model").predict(photo, np.diag([2, 2, 1]) @ INTRINSICS).depth
        np.testing.assert_allclose(longer, 3 * (2 * answer) + 0.7, rtol=1e-4)
        calibration.undo(tmp_path / "model")
    (wall,) = calibration.sample_plane("wall,distance=2", photo, (5, 30, 50, 47), intrinsics=INTRINSICS)
    assert calibration.calibrate(tmp_path / "model", [wall]).calibration.kind == "scale"


def test_points_of_several_images_are_left_out_by_image():
    """Each image has a scale of its own: a shift that fits within images must not count as knowledge of others."""
    random = np.random.default_rng(0)
    x = random.uniform(1, 3, (4, 12))
    depth = x * np.array([[1.0], [1.2], [0.9], [1.1]])
    grouped = choose("metric", points(x.ravel(), depth.ravel(), np.repeat(np.arange(4), 12)))
    assert grouped.method == "one image left out at a time"
    assert grouped.scores["scale"].errors.shape == (4,)
    expected = []
    for row in range(4):
        rest = points(np.delete(x, row, 0).ravel(), np.delete(depth, row, 0).ravel())
        alone = fits.fit("scale", "metric", rest)
        expected.append(np.abs(np.log(alone.scale * x[row] / depth[row])).mean())
    np.testing.assert_allclose(grouped.scores["scale"].errors, expected, rtol=1e-6)
    assert choose("metric", points(x.ravel(), depth.ravel())).method == "one point left out at a time"
    walls = choose("disparity", points([1, 1, 1, 1, 2, 2, 2, 2], [2] * 4 + [1] * 4, np.repeat([0, 1], 4)))
    assert walls.calibration.kind == "scale" and "without one part" in walls.refused["scale-shift"]


def test_a_model_that_sees_nothing_of_the_scene_is_told_of(tmp_path, photo, sonde):
    model = network("metric", tmp_path / "model")
    good = known(model, photo, lambda x: 2 * x)
    assert "warning" not in sonde("calibrate", model, "--points", good, "--json").json
    (points_,) = calibration.read_points(good)
    shuffled = points_._replace(depth=points_.depth.min() + np.random.default_rng(0).permutation(points_.depth))
    outcome = calibration.calibrate(model, [shuffled], kind="scale")
    depth = shuffled.depth[np.lexsort((shuffled.x, shuffled.y))]
    expected = [abs(np.log(np.median(np.delete(depth, row)) / depth[row])) for row in range(len(depth))]
    assert outcome.calibration.record["constant"] == pytest.approx(np.mean(expected))
    assert "does not see this scene" in outcome.summary().get("warning", "")


@pytest.mark.parametrize("space", ["metric", "disparity"])
def test_the_formula_in_words_is_what_is_applied(space: Space):
    x = torch.linspace(-0.01, 5, 40, dtype=torch.float64).view(1, 5, 8)
    for kind in models.CANDIDATES[space]:
        numbers = (-0.5, 1.0) if kind == "log-affine" and space == "disparity" else (1.5, -0.3)
        calibration = Calibration(kind, space, *(numbers if kind != "identity" else ()), limits=(0.1, 40.0))
        torch.testing.assert_close(eval(calibration.formula("x"), {"x": x}), calibration.apply(x))
        assert 0.1 <= calibration.apply(x).min() and calibration.apply(x).max() <= 40


def test_a_calibrated_folder_predicts_scores_and_goes_back(tmp_path, photo, sonde):
    model = network("disparity", tmp_path / "model")
    weights = (model / "model.safetensors").read_bytes()
    before = load(model).predict(photo).depth
    csv = known(model, photo, PLANTED["disparity", "scale-shift"])
    said = sonde("calibrate", model, "--points", csv, "--json").json
    assert said["written"] == str(model) and said["kind"] == "scale-shift" and said["points"] == 12
    assert (model / "model.safetensors").read_bytes() == weights
    assert load(model).describe().endswith("metric, calibrated (scale-shift)")
    assert sonde("predict", photo, "-m", model, "-o", tmp_path / "out", "--save", "npy").code == 0
    manifest = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert (manifest["space"], manifest["unit"], manifest["calibration"]["points"]) == ("metric", "m", 12)
    metres = np.load(tmp_path / "out" / "photo.npy")
    np.testing.assert_allclose(metres, 1 / (3 * before + 0.7), rtol=1e-5)
    for folder, data in (("rgb", picture(0, 48, 64)), ("depth", (metres * 1e4).astype(np.uint16))):
        (tmp_path / "set" / folder).mkdir(parents=True)
        Image.fromarray(data).save(tmp_path / "set" / folder / "photo.png")
    datasets.convert(tmp_path / "set/rgb", tmp_path / "set/depth", tmp_path / "captures", depth_scale=1e-4)
    assert evaluation.evaluate(model, "metric", tmp_path / "captures").metrics["abs_rel"] < 1e-3
    with pytest.raises(ValueError, match="is calibrated, and training would make"):
        training.dry_run(recipes.load(FEW), [f"model.name={model}", f"data.root={write_bench(tmp_path / 'bench', 5)}"])
    job = labelling.prepare(load(model), photo, tmp_path / "labels")
    assert (
        job.space == "metric" and job.encoding != labelling.prepare(load(model, calibrated=False), photo, "x").encoding
    )
    assert sonde("calibrate", model, "--undo", "--json").json == {"removed": str(model / CALIBRATION)}
    assert np.array_equal(load(model).predict(photo).depth, before) and load(model).space == "disparity"
    assert "has no calibration.json" in sonde("calibrate", model, "--undo").errors


def test_a_model_without_a_folder_gets_one_that_names_it(tmp_path, photo, sonde, monkeypatch):
    csv = known("sonde-tiny", photo, lambda x: 1 / (2 * x + 1))
    assert "--out" in sonde("calibrate", "sonde-tiny", "--points", csv).errors
    made = sonde("calibrate", "sonde-tiny", "--points", csv, "--out", tmp_path / "mine", "--json").json
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["README.md", CALIBRATION]
    model = load(tmp_path / "mine")
    assert (model.space, model.calibration and model.calibration.kind) == ("metric", "scale-shift")
    assert load("sonde-tiny").space == "disparity" and cards.find_licence(made["written"]) == "mit"
    assert "nothing but a calibration of sonde-tiny" in sonde("calibrate", tmp_path / "mine", "--undo").errors
    again = calibration.calibrate(tmp_path / "mine", calibration.read_points(csv), kind="scale")
    assert (again.folder, again.calibration.base) == (tmp_path / "mine", "sonde-tiny")
    assert "not empty" in sonde("calibrate", "sonde-tiny", "--points", csv, "--out", photo.parent).errors


def test_a_calibration_of_one_model_never_replaces_that_of_anothers_weights(tmp_path, photo):
    model = network("metric", tmp_path / "model")
    calibration.calibrate(model, calibration.read_points(known(model, photo, lambda x: 2 * x)))
    (model / "README.md").write_text("mine")
    before = {path: path.read_bytes() for path in model.iterdir()}
    measured = calibration.read_points(known("sonde-tiny", photo, lambda x: 1 / (2 * x + 1)))
    with pytest.raises(ValueError, match="model is not empty"):
        calibration.calibrate("sonde-tiny", measured, out=model)
    assert {path: path.read_bytes() for path in model.iterdir()} == before


def test_a_local_base_is_found_from_the_calibrations_own_place(tmp_path, photo, monkeypatch):
    network("metric", tmp_path / "home" / "model")
    monkeypatch.chdir(tmp_path / "home")
    measured = calibration.read_points(known("model", photo, lambda x: 2 * x))
    calibration.calibrate("model", measured, out="calibrations/bench")
    expected = load("calibrations/bench").predict(photo).depth
    assert not (tmp_path / "home" / "model" / CALIBRATION).exists()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").rename(tmp_path / "moved")
    assert np.array_equal(load(tmp_path / "moved" / "calibrations" / "bench").predict(photo).depth, expected)


def test_a_calibration_of_other_weights_is_refused(tmp_path, photo):
    model = network("metric", tmp_path / "model")
    calibration.calibrate(model, calibration.read_points(known(model, photo, lambda x: 2 * x)))
    calibrated = models.load_network(model)
    redrawn = models.load_network(model, init="random")
    assert redrawn.calibration is None
    redrawn.network.save_pretrained(model)
    with pytest.raises(ValueError, match="other weights"):
        load(model)
    measured = calibration.read_points(known(model, photo, lambda x: 2 * x))
    assert calibration.calibrate(model, measured).calibration.kind == "scale"
    assert load(model).space == "metric"
    models.save(redrawn, model)
    assert not (model / CALIBRATION).exists()
    (model / CALIBRATION).write_text('{"kind": "cubic"}')
    with pytest.raises(ValueError, match="calibrate again, or delete it"):
        load(model)
    calibration.undo(model)
    exported = exporting.export(calibrated, out=tmp_path / "exported")
    assert np.array_equal(load(exported).predict(photo).depth, calibrated.predict(photo).depth)
    assert calibrated.calibration is not None
    line = f"calibrated_m = {calibrated.calibration.formula('depth_m')}"
    assert line in (exported / "README.md").read_text()


def test_a_card_tells_of_the_calibration_and_forgets_it(tmp_path, photo):
    model = network("metric", tmp_path / "model")
    document: cards.CardDocument = {
        "name": "run",
        "licence": "mit",
        "notes": [],
        "parents": [],
        "data": [],
        "accuracy": {},
        "versions": {},
        "weights_sha256": "0",
        "recipe": {},
    }
    cards.write(model, document)
    plain = (model / "README.md").read_text()
    calibration.calibrate(model, calibration.read_points(known(model, photo, lambda x: 2 * x)))
    assert cards.read(model).get("calibration", {}).get("kind") == "scale"
    assert "**Calibrated** to metres (scale) by 12 points of 1 image from " in (model / "README.md").read_text()
    calibration.undo(model)
    assert (cards.read(model), (model / "README.md").read_text()) == (document, plain)


def test_an_export_whose_card_tells_a_calibration_keeps_it(tmp_path, photo):
    model = network("metric", tmp_path / "model")
    calibration.calibrate(model, calibration.read_points(known(model, photo, lambda x: 2 * x)))
    folder = exporting.export(str(model), out=tmp_path / "out")
    page = (folder / "README.md").read_text()
    with pytest.raises(ValueError, match=r"was exported calibrated, and its README\.md contains that"):
        calibration.calibrate(folder, calibration.read_points(known(model, photo, lambda x: 4 * x)))
    with pytest.raises(ValueError, match="was exported calibrated"):
        calibration.undo(folder)
    assert (folder / "README.md").read_text() == page and load(folder).calibration == load(model).calibration


@pytest.mark.parametrize(
    ("header", "row", "told"),
    [
        ("image,u,v,depth", "photo.png,1,2,3", "expected the header image,x,y,depth"),
        ("image,x,y,depth", "", "has no points below its header"),
        ("image,x,y,depth", "photo.png,1,2", "line 2 is not a point"),
        ("x,y,depth,image", "10,10,1.2", "line 2 is not a point"),
        ("x,y,depth,image", "10,10,1.2,", "line 2 is not a point"),
        ("image,x,y,depth", "photo.png,one,2,3", "line 2 is not a point"),
        ("image,x,y,depth", "photo.png,nan,2,3", "line 2 is not a point"),
        ("image,x,y,depth", "photo.png,1,2,0", "line 2 has depth 0: expected a length above 0"),
        ("image,x,y,depth", "photo.png,1,2,-3", "line 2 has depth -3"),
        ("image,x,y,depth", "photo.png,1,2,nan", "line 2 has depth nan"),
        ("image,x,y,depth", "photo.png,1,2,inf", "line 2 has depth inf"),
        ("image,x,y,depth", "photo.png,64,2,3", r"\(64, 2\) is outside .*photo.png, 64 wide and 48 high"),
        ("image,x,y,depth", "photo.png,1,-1,3", r"\(1, -1\) is outside"),
        ("image,x,y,depth", "absent.png,1,2,3", "absent.png does not exist"),
        ("image,x,y,distance", "photo.png,1,2,3", "holds distances: give the camera's --intrinsics"),
    ],
)
def test_a_point_that_is_none_is_told_in_one_sentence(tmp_path, photo, header, row, told):
    model = network("metric", tmp_path / "model")
    (tmp_path / "points.csv").write_text(f"{header}\n{row}\n")
    with pytest.raises(ValueError, match=told):
        calibration.calibrate(model, calibration.read_points(tmp_path / "points.csv"))
    assert not (model / CALIBRATION).exists()


def test_no_points_and_unknown_words_are_refused(tmp_path, photo, sonde):
    with pytest.raises(ValueError, match="give at least one"):
        calibration.calibrate("sonde-tiny", [], out=tmp_path / "new")
    csv = write_csv(tmp_path / "points.csv", [("photo.png", 1, 2, 3)])
    assert "give one of --points" in sonde("calibrate", "sonde-tiny").errors.lower()
    forced = sonde("calibrate", "sonde-tiny", "--points", csv, "-o", tmp_path / "new", "--kind", "identity")
    assert "expected scale, scale-shift, log-affine" in forced.errors
    assert "No unit 'ft'" in sonde("calibrate", "sonde-tiny", "--points", csv, "--unit", "ft").errors
    plane = ("calibrate", "sonde-tiny", "--image", photo, "--plane")
    assert "Where is the plane?" in sonde(*plane, "wall,distance=2").errors
    assert "need --image" in sonde("calibrate", "sonde-tiny", "--depth", photo).errors
    for wrong in ("floor,height=1", "wall", "wall,distance=-1", "wall,height=2", "ground,height=high"):
        assert "expected wall,distance=2.0 or ground" in sonde(*plane, wrong, "--region", "0,0,9,9").errors
    assert "is not inside" in sonde(*plane, "wall,distance=2", "--region", "0,0,64,9").errors
    assert "expected x0,y0,x1,y1" in sonde(*plane, "wall,distance=2", "--region", "0,0,64").errors
    assert not (tmp_path / "new").exists()


def test_units_and_distances_become_depth(tmp_path, photo):
    rows = [("photo.png", 3, 40, 150), ("photo.png", 60, 5, 300)]
    (measured,) = calibration.read_points(write_csv(tmp_path / "cm.csv", rows), unit="cm")
    assert (measured.image, [*measured.x], [*measured.y]) == (photo, [3, 60], [40, 5])
    np.testing.assert_allclose(measured.depth, [1.5, 3.0])
    depth = np.full((48, 64), 2.0)
    distance = depth_to_distance(depth, INTRINSICS)
    rows = [("photo.png", x, y, distance[y, x]) for x, y in ((3, 40), (60, 5))]
    csv = write_csv(tmp_path / "tape.csv", rows, "image,x,y,distance")
    (measured,) = calibration.read_points(csv, intrinsics=INTRINSICS)
    np.testing.assert_allclose(measured.depth, 2.0)
    with pytest.raises(ValueError, match="belong to another size"):
        calibration.read_points(csv, intrinsics=np.diag([10, 10, 1]) @ INTRINSICS)


def test_a_sparse_map_is_its_pixels(tmp_path, photo):
    depth = np.zeros((48, 64), np.uint16)
    depth[3, 7], depth[40, 60] = 1500, 2500
    Image.fromarray(depth).save(tmp_path / "sparse.png")
    (measured,) = calibration.read_maps(tmp_path / "sparse.png", photo, scale=1e-3)
    assert ([*measured.x], [*measured.y]) == ([7, 60], [3, 40])
    np.testing.assert_allclose(measured.depth, [1.5, 2.5])
    for name, array in (("rgb", picture(1, 48, 64)), ("depth", depth)):
        (tmp_path / name).mkdir()
        Image.fromarray(array).save(tmp_path / name / "a.png")
    (same,) = calibration.read_maps(tmp_path / "depth", tmp_path / "rgb", scale=1e-3)
    twin = next((tmp_path / "rgb").iterdir())
    Image.open(twin).save(twin.with_suffix(".bmp"))
    with pytest.raises(ValueError, match=r"are the same capture: keep one of them"):
        calibration.read_maps(tmp_path / "depth", tmp_path / "rgb", scale=1e-3)
    assert same.image == tmp_path / "rgb" / "a.png" and np.array_equal(same.depth, measured.depth)
    with pytest.raises(ValueError, match="metres per level"):
        calibration.read_maps(tmp_path / "sparse.png", photo)
    Image.fromarray(depth[:24]).save(tmp_path / "half.png")
    with pytest.raises(ValueError, match=r"64x24 and .* is 64x48: project"):
        calibration.read_maps(tmp_path / "half.png", photo, scale=1e-3)
    Image.fromarray(0 * depth).save(tmp_path / "empty.png")
    with pytest.raises(ValueError, match="no pixel with depth"):
        calibration.read_maps(tmp_path / "empty.png", photo, scale=1e-3)


def test_a_ground_lies_where_its_rays_meet_it(photo):
    pitch = np.radians(12)
    plane, region = "ground,height=150,pitch=12", (5, 30, 50, 47)
    (ground,) = calibration.sample_plane(plane, photo, region, unit="cm", intrinsics=INTRINSICS)
    rays = np.linalg.inv(INTRINSICS) @ np.stack([ground.x, ground.y, np.ones(len(ground.x))])
    down = np.array([0, np.cos(pitch), np.sin(pitch)])
    np.testing.assert_allclose(down @ (rays * ground.depth), 1.5)
    (wall,) = calibration.sample_plane("wall,distance=2", photo, region)
    assert set(wall.depth) == {2.0} and len(wall.depth) == 46 * 18
    with pytest.raises(ValueError, match="belong to another size"):
        calibration.sample_plane(plane, photo, region, intrinsics=np.diag([10, 10, 1]) @ INTRINSICS)
    with pytest.raises(ValueError, match="reaches the horizon"):
        calibration.sample_plane("ground,height=1.5", photo, (0, 0, 63, 47), intrinsics=INTRINSICS)
    with pytest.raises(ValueError, match="--intrinsics"):
        calibration.sample_plane("ground,height=1.5", photo, (0, 40, 63, 47))


def test_many_points_are_thinned_and_left_out_in_bands(photo):
    Image.fromarray(picture(0, 240, 320)).save(photo)
    (wall,) = calibration.sample_plane("wall,distance=2", photo, (0, 0, 319, 239))
    assert 1000 < len(wall.depth) <= 2000 and {int(wall.y.min()), int(wall.y.max())} == {0, 239}
    found = choose("metric", points(np.linspace(1, 2, 1000), np.linspace(2, 4, 1000)))
    assert found.method.startswith("one of ten bands") and found.scores["scale"].errors.shape == (10,)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_twenty_true_points_beat_a_scale_alone_on_a_real_frame(realdata, tmp_path, seed):
    """sonde-tiny on a frame it never saw: AbsRel over every pixel of the frame."""
    image, depth = realdata / "tum/rgb/0.png", files.read_depth(realdata / "tum/depth/0.png", 1 / 5000)
    y, x = np.nonzero(np.nan_to_num(depth) > 0)
    rows = np.random.default_rng(seed).choice(len(x), 20, replace=False)
    measured = Measured(image, x[rows], y[rows], depth[y, x][rows].astype(np.float64), "true depth")
    target, mask = torch.from_numpy(np.nan_to_num(depth))[None], torch.from_numpy(np.nan_to_num(depth) > 0)[None]
    errors = {}
    for kind in (None, "scale"):
        calibration.calibrate("sonde-tiny", [measured], kind=kind, out=tmp_path / str(kind))
        answer = torch.from_numpy(load(tmp_path / str(kind)).predict(image).depth)[None]
        errors[kind] = METRICS["abs_rel"](answer, target, mask).item()
    assert errors[None] < 0.11 and errors["scale"] > 3.1 * errors[None]
