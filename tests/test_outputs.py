"""Every output of `sonde predict` is in one unit, says so, and is read back as the same metres."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import test_predict as predicting
import trimesh
from PIL import Image
from small_captures import bench_cloud, picture, write_bench
from test_predict import CAMERA, paint

from sonde import evaluation, files, prediction
from sonde.datasets import open_set
from sonde.evaluation.pictures import Pictures
from sonde.models import Calibration, DepthModel, ModelSpec
from sonde.prediction import SAVERS
from sonde.units import UNITS

PAGE = Path(__file__).parent.parent / "docs" / "outputs.md"
HALF_STEP = 6e-5
"""Metres."""


def manifest(out: Path) -> dict:
    return json.loads((out / "predictions.json").read_text())


@pytest.mark.parametrize("unit", ["m", "cm", "mm"])
def test_all_outputs_that_can_are_in_the_unit_that_is_asked_for_and_each_says_so(tmp_path, unit):
    source, out, model = paint(tmp_path / "cup.png"), tmp_path / "out", predicting.model()
    prediction.predict(source, model, out, save=list(SAVERS), intrinsics=CAMERA, unit=unit)
    metres = model.predict(source).depth
    np.testing.assert_allclose(np.load(out / "cup.npy") * UNITS[unit], metres, rtol=1e-6)
    note = json.loads((out / "cup.npy.json").read_text())
    assert (note["unit"], note["space"], note["shape"], note["source"]) == (unit, "metric", [6, 8], str(source))
    np.testing.assert_allclose(trimesh.load(out / "cup.ply").vertices[:, 2] * UNITS[unit], metres.ravel(), rtol=1e-6)  # pyright: ignore
    assert f"comment unit {unit}\n".encode() in (out / "cup.ply").read_bytes()[:300]
    scene = trimesh.load(out / "cup.glb")
    assert scene.metadata["unit"] == "m" and np.ptp(scene.bounds[:, 2]) == pytest.approx(np.ptp(metres))  # pyright: ignore
    assert b'"asset":{"version":"2.0","generator":' in (out / "cup.glb").read_bytes()[:2000]
    np.testing.assert_allclose(files.read_depth(out / "cup.depth.png"), metres, atol=HALF_STEP)
    assert (
        predicting.notes(out / "cup.depth.png")["Description"] == "depth = 0.0001 * code + 0.0, in metres; code 0: none"
    )
    stated = manifest(out)
    assert stated["unit"] == unit and stated["predictions"][0]["max"] * UNITS[unit] == pytest.approx(1.5)
    units = {kind: about["unit"] for kind, about in stated["files"].items()}
    assert units == {"png16": "m", "npy": unit, "preview": unit, "relief": unit, "ply": unit, "glb": "m"}


def test_the_unit_is_the_models_own_and_that_of_a_calibrated_model_is_metres(tmp_path):
    relative = DepthModel(predicting.RedIsFar(), ModelSpec("affine", None, 1, *predicting.models.PLAIN), "tape")
    relative.calibration = Calibration("scale", "affine", 2.0)
    for number, (model, unit) in enumerate([(predicting.model(unit="cm"), "cm"), (relative, "m")]):
        out = tmp_path / str(number)
        prediction.predict(paint(tmp_path / "cup.png"), model, out, save=["npy", "ply"], intrinsics=CAMERA)
        assert manifest(out)["unit"] == unit and files.read_stated_unit(out / "cup.ply") == unit


def test_relative_depth_has_no_unit_to_choose(tmp_path):
    source = paint(tmp_path / "cup.png")
    with pytest.raises(
        ValueError, match=r"answers relative depth \(disparity\), which has no unit: leave --unit mm out"
    ):
        prediction.predict(source, predicting.model("disparity"), tmp_path / "out", unit="mm")
    with pytest.raises(ValueError, match=r"unit.*inch.*: expected one of: cm, m, mm"):
        prediction.predict(source, predicting.model(), tmp_path / "out", unit="inch")
    assert not (tmp_path / "out").exists()
    prediction.predict(source, predicting.model("disparity"), tmp_path / "out", save=["npy"])
    assert manifest(tmp_path / "out")["files"]["npy"]["unit"] == "1"


def test_one_folder_holds_one_unit(tmp_path):
    source, out = paint(tmp_path / "cup.png"), tmp_path / "out"
    prediction.predict(source, predicting.model(), out, save=["npy"])
    with pytest.raises(ValueError, match=r"another unit \(mm, not m\): give --unit mm or another folder"):
        prediction.predict(source, predicting.model(), out, save=["npy"], unit="m")
    prediction.predict(paint(tmp_path / "b.png"), predicting.model(unit="m"), out, save=["npy"], unit="mm")
    assert len(manifest(out)["predictions"]) == 2


def test_point_clouds_of_an_earlier_version_are_not_mixed_with_others(tmp_path):
    source, out = paint(tmp_path / "cup.png"), tmp_path / "out"
    prediction.predict(source, predicting.model(), out, save=["ply"], intrinsics=CAMERA)
    stated = manifest(out)
    del stated["files"]
    (out / "predictions.json").write_text(json.dumps(stated))
    with pytest.raises(ValueError, match=r"holds \.ply files in m, not in mm: give another folder"):
        prediction.predict(source, predicting.model(), out, save=["ply"], intrinsics=CAMERA)
    prediction.predict(source, predicting.model(), out, save=["npy"])
    assert {kind: about["unit"] for kind, about in manifest(out)["files"].items()} == {"ply": "m", "npy": "mm"}


@pytest.mark.parametrize("save", ["npy", "png16"])
def test_predictions_score_the_same_whatever_their_unit(tmp_path, save):
    root = write_bench(tmp_path / "bench", 3)
    scores = {}
    for unit in UNITS:
        out = tmp_path / unit
        prediction.predict(root / "images", predicting.model(), out, save=[save], unit=unit)
        scores[unit] = evaluation.evaluate(out, data=root).metrics
        stated = manifest(out)
        (out / "predictions.json").write_text(json.dumps({"space": "metric", "unit": stated["unit"]}))  # an old one
        assert evaluation.evaluate(out, data=root).metrics == scores[unit]
        (out / "predictions.json").unlink()
        assert evaluation.evaluate(out, data=root).metrics == scores[unit]
    assert scores["mm"] == pytest.approx(scores["m"], rel=1e-5) and scores["cm"] == pytest.approx(scores["m"], rel=1e-5)


def test_a_folder_and_a_file_that_state_different_units_are_not_scored(tmp_path):
    root, out = write_bench(tmp_path / "bench", 3), tmp_path / "out"
    prediction.predict(root / "images", predicting.model(), out, save=["npy"])
    (out / "predictions.json").write_text('{"space": "metric", "unit": "m"}')
    with pytest.raises(
        ValueError, match=r"c00\.npy\.json beside it states that its unit is mm, and it is declared as m"
    ):
        evaluation.evaluate(out, data=root)


def test_depth_maps_of_an_evaluation_state_their_unit(tmp_path):
    root = write_bench(tmp_path / "bench", 3)
    evaluation.evaluate(predicting.model(), data=root, watch=Pictures(tmp_path, ("npy",)))
    assert files.read_array_note(tmp_path / "c00.npy")["unit"] == "m"  # pyright: ignore[reportOptionalSubscript]


def test_an_array_is_read_in_the_unit_beside_it(tmp_path):
    path = tmp_path / "a.npy"
    depth = np.linspace(500, 1500, 48, dtype=np.float32).reshape(6, 8)
    files.write_npy(path, depth, "metric", "mm")
    np.testing.assert_allclose(files.read_depth(path), depth / 1000)
    np.testing.assert_allclose(files.read_depth(path, 0.001), depth / 1000)
    with pytest.raises(
        ValueError, match=r"a\.npy: a\.npy\.json beside it states that its unit is mm, .* declared as m:"
    ):
        files.read_depth(path, 1.0)
    with pytest.raises(
        ValueError, match=r"states that its unit is mm, and it is declared as m: .*--depth-scale 0\.001"
    ):
        files.read_z(path, unit_m=1.0)
    files.write_depth(path, depth)  # metres: what was stated of the array before no longer holds
    np.testing.assert_array_equal(files.read_depth(path), depth)
    files.write_npy(path, depth, "disparity", "1")
    with pytest.raises(ValueError, match="holds inverse depth up to scale and shift: expected measured depth"):
        files.read_depth(path, metric=True)


def test_a_json_of_another_program_beside_an_array_says_nothing(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.ones((6, 8), np.float32))
    (tmp_path / "a.npy.json").write_text('{"unit": "mm"}')
    assert files.read_depth(path).max() == 1
    (tmp_path / "a.npy.json").write_text('{"software": "sonde", "unit": 3}')
    with pytest.raises(ValueError, match=r"a\.npy\.json cannot be read .*: correct it, or remove it"):
        files.read_depth(path)


def write_ply_bench(root: Path, comment: str) -> Path:
    """A set of one PLY in millimetres."""
    for folder in ("images", "depth"):
        (root / folder).mkdir(parents=True)
    Image.fromarray(picture(0)).save(root / "images" / "a.png")
    points = bench_cloud(0).reshape(-1, 3)
    head = f"ply\nformat ascii 1.0\n{comment}\nelement vertex {len(points)}\nproperty float x\nproperty float y\n"
    rows = "\n".join(" ".join(f"{number:.9g}" for number in row) for row in points)
    (root / "depth" / "a.ply").write_text(f"{head}property float z\nend_header\n{rows}\n")
    return root


@pytest.mark.parametrize("comment", ["comment unit mm", "comment Units: millimeters", "comment made by a camera"])
def test_a_cloud_that_states_the_declared_unit_or_none_is_read(tmp_path, comment):
    assert open_set("zivid", write_ply_bench(tmp_path, comment)).read(0).depth.max() < 5  # metres


def test_a_cloud_that_states_another_unit_than_the_declared_one_is_refused(tmp_path):
    captures = open_set("zivid", write_ply_bench(tmp_path / "set", "comment unit m"))
    with pytest.raises(
        ValueError, match=r"a\.ply states that its unit is m, and it is declared as mm: .*--depth-scale 1`"
    ):
        captures.read(0)


def test_a_folder_reads_a_cloud_by_the_unit_that_it_states(tmp_path):
    root = write_ply_bench(tmp_path / "set", "comment unit mm")
    capture = open_set("folder", root).read(0)
    assert capture.depth[capture.mask].max() < 5  # metres
    (root / "dataset.json").write_text('{"depth_scale": 1}')
    with pytest.raises(ValueError, match=r'states that its unit is mm, .* with {"depth_scale": 0\.001}'):
        open_set("folder", root).read(0)


def test_a_predicted_cloud_is_a_capture_with_the_right_depth(tmp_path):
    source = paint(tmp_path / "set" / "rgb" / "cup.png")
    prediction.predict(source, predicting.model(), tmp_path / "set" / "depth", save=["ply"], intrinsics=CAMERA)
    np.testing.assert_allclose(
        open_set("folder", tmp_path / "set").read(0).depth, predicting.model().predict(source).depth, rtol=1e-5
    )


# Calls that end, and calls that do not


def test_a_call_that_ends_leaves_nothing_begun(tmp_path):
    source, out = paint(tmp_path / "in" / "a.png"), tmp_path / "out"
    for _ in range(2):
        prediction.predict(tmp_path / "in", predicting.model(), out, sheet=True)
        assert "begun" not in manifest(out) and manifest(out)["sheets"] == ["sheet.png"]
    whole = source.read_bytes()
    source.write_bytes(b"torn")
    prediction.predict(tmp_path / "in", predicting.model(), out)
    assert "begun" not in manifest(out) and manifest(out)["outdated"] == ["a.depth.png", "a.preview.png"]
    source.write_bytes(whole)
    prediction.predict(tmp_path / "in", predicting.model(), out)
    assert not {"begun", "outdated"} & manifest(out).keys()


def test_what_an_interrupted_call_left_is_noted_until_a_call_ends(tmp_path, monkeypatch):
    out = tmp_path / "out"
    for name in ("a.png", "b.png"):
        paint(tmp_path / "in" / name)

    def stop(path, answer):
        if path.name.startswith("b"):
            raise KeyboardInterrupt

    monkeypatch.setitem(SAVERS, "preview", prediction.Saver(".preview.png", stop))
    with pytest.raises(KeyboardInterrupt):
        prediction.predict(tmp_path / "in", predicting.model(), out, save=["npy", "preview"])
    assert manifest(out)["begun"] == ["b.npy", "b.npy.json"]
    prediction.predict(tmp_path / "in" / "b.png", predicting.model(), out, save=["npy"])
    assert not {"begun", "outdated"} & manifest(out).keys()


# docs/outputs.md


def test_the_page_of_outputs_names_every_kind_and_its_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    save = re.search(r"--save (\S+) --sheet", text)
    assert save is not None and save[1].split(",") == list(SAVERS)
    prediction.predict(
        paint(tmp_path / "photos" / "cup.png"),
        predicting.model(),
        "depth",
        save=list(SAVERS),
        intrinsics=CAMERA,
        sheet=True,
    )
    named = set(re.findall(r"`(cup\.[a-z.]+|sheet\.png|predictions\.json)`", text))
    assert named == {path.name for path in (tmp_path / "depth").iterdir() if not path.name.startswith(".")}
    for kind, saver in SAVERS.items():
        assert f"| `{kind}` | `cup{saver.suffix}`" in text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    exec(code, names)
    np.testing.assert_allclose(names["levels"] * names["scale"], names["metres"], atol=HALF_STEP)
    np.testing.assert_allclose(names["depth"] * 0.001, names["metres"], rtol=1e-6)
    assert names["unit"] == "mm" and names["scene"].metadata["unit"] == "m" and names["points"].shape == (48, 3)
    assert names["manifest"]["files"]["npy"]["unit"] == "mm" and names["colours"].dtype == np.uint8
