"""Verbs take an exported file as they take the model it was made of; a device or a precision is told and recorded."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_captures import picture, write_bench
from small_exports import run_by_torch, write_export
from small_networks import saved

from sonde import calibration, cards, files, labelling, models
from sonde.labelling import engines
from sonde.labelling.job import find_placement
from sonde.labelling.quality import sees_one_size
from sonde.models import CALIBRATION, GRAPH, Calibration, DepthModel, ExportedModel, Placement, hash_files
from sonde.models.bridge import BridgedModel, as_network

SIZES = [(40, 60), (64, 64), (60, 40), (56, 84)]


def small(folder: Path, family: str = "depth_anything") -> Path:
    """A network that sees small images, as a folder."""
    model = models.load_network(saved(family, folder / "drawn"))
    model.spec = replace(model.spec, short_side=56 if family == "depth_anything" else None)
    models.save(model, folder / family)
    return folder / family


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return small(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def metric(tmp_path_factory) -> Path:
    return small(tmp_path_factory.mktemp("metric"), "glpn")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for index in range(8):
        files.write_rgb(root / f"{index:02}.png", picture(index, *SIZES[index % 4]))
    return root


@pytest.fixture(autouse=True)
def exported_files_run_by_torch(monkeypatch) -> None:
    run_by_torch(monkeypatch)


def export(folder: Path, path: Path, precision: str = "fp32", size: tuple[int, int] | None = None) -> Path:
    return write_export(models.load_network(folder), folder, path, precision=precision, size=size)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same_labels(one: Path, other: Path, level: float | None = None) -> None:
    """Labels that differ by rounding alone: by two levels, of which a relative label has 65534."""
    names = sorted(path.name for path in (one / "labels").iterdir())
    assert names == sorted(path.name for path in (other / "labels").iterdir())
    for name in names:
        depth, expected = (files.read_depth(out / "labels" / name) for out in (one, other))
        np.testing.assert_allclose(depth, expected, rtol=0, atol=2 * (level or np.ptp(expected) / 65534))


@pytest.mark.parametrize("more", [{}, {"views": (0.75, 1.0)}, {"size": "network"}, {"batch_size": 4}])
def test_labels_of_an_exported_file_are_those_of_the_network(folder, photos, tmp_path, more):
    path = export(folder, tmp_path / "model.onnx")
    own = labelling.label(path, photos, tmp_path / "file", **more)
    theirs = labelling.label(folder, photos, tmp_path / "network", **more)
    assert_same_labels(tmp_path / "file", tmp_path / "network")
    assert (own.placement, theirs.placement) == (Placement("cpu", "fp32", "onnx"), Placement())
    for one, other in zip(lines(own.manifest), lines(theirs.manifest), strict=True):
        assert one["confidence"] == pytest.approx(other["confidence"], abs=2e-3) and one["dtype"] == "float32"
        assert one["teacher"]["range"] == other["teacher"]["range"]
        assert one["teacher"] | {"weights": hash_files([path]), "name": str(path)} == one["teacher"]
        assert one["teacher"]["licence"] == "apache-2.0"


def test_metres_of_an_exported_file_are_those_of_the_network(metric, photos, tmp_path):
    labelling.label(export(metric, tmp_path / "model.onnx"), photos, tmp_path / "file")
    labelling.label(metric, photos, tmp_path / "network")
    assert_same_labels(tmp_path / "file", tmp_path / "network", level=1e-3)


def test_a_file_of_one_size_labels_what_it_can_see(metric, folder, photos, tmp_path):
    fixed = export(folder, tmp_path / "fixed.onnx", size=(56, 84))
    teacher = labelling.load_teacher(fixed)
    assert sees_one_size(teacher) and teacher.spec.input_size == (56, 84)
    assert labelling.label(fixed, photos, tmp_path / "resized").labels == 8
    padded = export(metric, tmp_path / "padded.onnx", size=(64, 96))
    made = labelling.label(padded, photos, tmp_path / "kept")
    assert (made.labels, made.failed) == (2, 6)  # 56x84 is padded to 64x96
    reason = lines(made.rejected)[0]["reason"]
    assert reason.startswith("The image is 60x40, and ") and "made for inputs of 96x64" in reason
    with pytest.raises(ValueError, match="sees one size only: give views=1"):
        labelling.label(fixed, photos, tmp_path / "views", views=(0.75, 1))


def test_a_job_knows_what_ran_its_network(folder, photos, tmp_path):
    path = export(folder, tmp_path / "model.onnx")
    labelling.label(path, photos, tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "job.json").read_text())
    assert stored["runtime"] == "onnx" and stored["dtype"] == "float32"
    labelling.label(folder, photos, tmp_path / "torch")
    assert "runtime" not in json.loads((tmp_path / "torch" / "job.json").read_text())
    int8 = labelling.label(export(folder, tmp_path / "small.onnx", "int8"), photos, tmp_path / "int8")
    assert lines(int8.manifest)[0]["dtype"] == "int8"


def test_the_graph_beside_the_weights_labels_only_where_it_is_asked_for(folder, photos, tmp_path):
    model = models.load_network(folder)
    models.save(model, tmp_path / "model")
    path = write_export(model, folder, tmp_path / "model" / GRAPH)
    stored = json.loads(path.read_text())
    weights = tmp_path / "model" / "model.safetensors"
    note = json.loads(stored["note"]) | {"beside": {weights.name: hash_files([weights])}}
    path.write_text(json.dumps(stored | {"note": json.dumps(note)}))
    by = {name: labelling.label(tmp_path / "model", photos, tmp_path / str(name), runtime=name) for name in RUNTIMES}
    assert [made.placement.runtime for made in by.values()] == ["torch", "torch", "onnx", "onnx"]
    for name in RUNTIMES[1:]:
        assert_same_labels(tmp_path / "None", tmp_path / str(name))
    teachers = [lines(made.manifest)[0]["teacher"]["weights"] for made in by.values()]
    assert len(set(teachers)) == 1  # the same weights
    with pytest.raises(ValueError, match="runtime torch, not onnx"):
        labelling.label(tmp_path / "model", photos, tmp_path / "None", runtime="onnx")
    with pytest.raises(ValueError, match="has no file for it; make one with `sonde export"):
        labelling.label(folder, photos, tmp_path / "no", runtime="onnx")


RUNTIMES = (None, "torch", "onnx", "auto")


def test_a_precision_is_recorded_and_kept_to(folder, photos, tmp_path):
    made = labelling.label(folder, photos, tmp_path / "out", precision="bf16")
    assert made.placement == Placement("cpu", "bf16") and lines(made.manifest)[0]["dtype"] == "bfloat16"
    exact = labelling.label(folder, photos, tmp_path / "exact")
    for one, other in zip(lines(made.manifest), lines(exact.manifest), strict=True):
        depth, truth = (
            files.read_depth(made.manifest.parent / one["label"]),
            files.read_depth(tmp_path / "exact" / other["label"]),
        )
        assert 0 < np.abs(depth - truth).mean() < 0.05 * np.abs(truth).mean()
    with pytest.raises(ValueError, match=r"begun with other settings .*dtype bfloat16, not float32"):
        labelling.label(folder, photos, tmp_path / "out")
    with pytest.raises(ValueError, match="computes in fp32, as it was exported"):
        labelling.label(export(folder, tmp_path / "model.onnx"), photos, tmp_path / "no", precision="bf16")
    assert not (tmp_path / "no").exists()


def test_a_loaded_teacher_stays_where_and_as_it_is(folder, photos, tmp_path):
    teacher = models.load_network(folder)
    made = labelling.label(teacher, photos, tmp_path / "out", precision="bf16")
    assert made.placement.precision == "bf16" and teacher.placement == Placement() and not teacher.training
    for word in ({"device": "cpu"}, {"runtime": "torch"}, {"max_depth": 10}):
        with pytest.raises(ValueError, match=r"is for a model given by name; .* is already loaded"):
            labelling.label(teacher, photos, tmp_path / "no", **word)
    teacher.place("cpu", "bf16")
    job = labelling.prepare(teacher, photos, tmp_path / "no")
    assert job.dtype == "bfloat16" and find_placement(job, teacher) == Placement("cpu", "bf16")
    opened = models.load(export(folder, tmp_path / "model.onnx"))
    assert labelling.label(opened, photos, tmp_path / "file").placement.runtime == "onnx"
    with pytest.raises(ValueError, match=r"precision=bf16: .* computes in fp32"):
        labelling.label(opened, photos, tmp_path / "no", precision="bf16")


def test_a_plan_says_what_it_measured(folder, photos, tmp_path):
    found = labelling.plan(export(folder, tmp_path / "model.onnx"), photos, total=100, seconds=0.1)
    assert (found.measured.device, found.measured.dtype, found.measured.runtime) == ("cpu", "float32", "onnx")


def test_workers_of_ray_get_the_device_the_precision_and_the_runtime(folder, photos, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    with pytest.raises(ValueError, match="device=cuda:1: Ray gives each of its workers a GPU; use --device cuda"):
        labelling.label(folder, photos, tmp_path / "out", engine="ray", device="cuda:1")
    teacher = labelling.load_teacher(folder)
    job = labelling.prepare(teacher, photos, tmp_path / "out")
    asked: list[dict] = []

    def load(name: str, max_depth: float | None, **where: str) -> DepthModel:
        asked.append(where)
        return teacher

    monkeypatch.setattr(ray, "get", lambda given: given)
    monkeypatch.setattr(engines, "load_teacher", load)
    for placement in (Placement("cuda:1", "bf16"), Placement("cpu", "int8", "onnx")):
        engines.Labeller(engines.RayWorker(job, str(folder), None, teacher.spec, placement, 1), 1)
    assert asked == [
        {"device": "cuda", "precision": "bf16", "runtime": "torch"},
        {"device": "cpu", "precision": "auto", "runtime": "onnx"},
    ]


def test_the_command_line_says_where_it_ran(folder, photos, tmp_path, sonde):
    words = ("label", export(folder, tmp_path / "model.onnx"), photos)
    assert re.search(r"^ran +on cpu by ONNX Runtime in fp32$", sonde(*words, tmp_path / "one").text, re.MULTILINE)
    placement = {"device": "cpu", "precision": "fp32", "runtime": "onnx"}
    assert sonde(*words, tmp_path / "two", "--json").json["placement"] == placement
    torch = {"device": "cpu", "precision": "bf16", "runtime": "torch"}
    said = sonde("label", folder, photos, tmp_path / "three", "--precision", "bf16", "--device", "cpu", "--json")
    assert said.json["placement"] == torch
    said = sonde("features", photos / "00.png", "-m", folder, "-o", tmp_path / "pictures", "--precision", "bf16")
    assert said.code == 0 and "ran" in said.text and "on cpu by torch in bf16" in said.text
    said = sonde("features", photos / "00.png", "-m", words[1], "-o", tmp_path / "pictures")
    assert said.code == 2 and "is an exported file, and this needs a network" in said.errors


def test_the_bridge_answers_as_the_file_and_keeps_its_names(metric, tmp_path):
    model = models.load_network(metric)
    model.spec = replace(model.spec, scale=10.5)
    models.save(model, tmp_path / "scaled")
    opened = models.load(write_export(models.load_network(tmp_path / "scaled"), metric, tmp_path / "model.onnx"))
    assert isinstance(opened, ExportedModel)
    network = as_network(opened)
    assert isinstance(network, BridgedModel) and as_network(model) is model
    for name in ("name", "space", "max_depth", "config_end", "parameter_count", "placement"):
        assert getattr(network, name) == getattr(opened, name)
    assert (network.hash(), network.identify()) == (opened.hash(), opened.identify())
    image = picture(0, 48, 64)
    np.testing.assert_allclose(network.predict(image).depth, opened.predict(image).depth, rtol=1e-5)


def known(model: str | Path, photo: Path, folder: Path) -> Path:
    """Points of a photograph whose depth is twice a metric model's answer."""
    depth = models.load(model, calibrated=False).predict(photo).depth
    places = [(x, y) for x in range(4, 56, 8) for y in range(4, 36, 8)]
    rows = "".join(f"{photo},{x},{y},{2 * depth[y, x]}\n" for x, y in places)
    (folder / "points.csv").write_text("image,x,y,depth\n" + rows)
    return folder / "points.csv"


def test_an_exported_file_is_calibrated_into_a_folder_of_its_own(metric, photos, tmp_path, sonde):
    photo, path = photos / "00.png", export(metric, tmp_path / "model.onnx")
    points = known(path, photo, tmp_path)
    said = sonde("calibrate", path, "--points", points)
    assert said.code == 2 and "has no folder to write a calibration to" in said.errors
    words = ("calibrate", path, "--points", points, "--kind", "scale", "--out", tmp_path / "mine")
    made = sonde(*words, "--json").json
    assert made["kind"] == "scale" and made["placement"]["runtime"] == "onnx"
    stored = models.read_calibration(tmp_path / "mine")
    assert stored.base == "../model.onnx" and stored.fingerprint == models.load_network(metric).identify()
    assert "license: apache-2.0" in (tmp_path / "mine" / "README.md").read_text()
    model = models.load(tmp_path / "mine")
    assert isinstance(model, ExportedModel) and model.calibration == stored
    np.testing.assert_allclose(model.predict(photo).depth, 2 * models.load(path).predict(photo).depth, rtol=1e-4)
    assert models.load(tmp_path / "mine", calibrated=False).calibration is None
    assert "holds nothing but a calibration of ../model.onnx" in sonde("calibrate", tmp_path / "mine", "--undo").errors
    assert "ran" in sonde(*words).text  # again, over the first


def test_a_file_and_its_network_share_calibrations_but_int8_has_its_own(metric, photos, tmp_path):
    photo, path = photos / "00.png", export(metric, tmp_path / "model.onnx")
    measured = calibration.read_points(known(metric, photo, tmp_path))
    calibration.calibrate(metric, measured, out=tmp_path / "mine", kind="scale")
    stored = models.read_calibration(tmp_path / "mine")
    for base in (path, export(metric, tmp_path / "small.onnx", "int8")):
        replace(stored, base=str(base)).write(tmp_path / "mine")
        if base == path:
            assert models.load(tmp_path / "mine").calibration is not None
        else:
            with pytest.raises(ValueError, match="was measured with other weights"):
                models.load(tmp_path / "mine")
    own = calibration.calibrate(tmp_path / "small.onnx", measured, out=tmp_path / "own", kind="scale")
    assert own.placement == Placement("cpu", "int8", "onnx")
    assert models.load(tmp_path / "own").calibration == own.calibration


def test_a_new_calibration_replaces_the_one_that_a_file_carries(metric, photos, tmp_path):
    model = models.load_network(metric)
    model.calibration = Calibration("scale", "metric", 3.0)
    path = write_export(model, metric, tmp_path / "model.onnx")
    photo = photos / "00.png"
    plain = models.load(metric).predict(photo).depth
    np.testing.assert_allclose(models.load(path).predict(photo).depth, 3 * plain, rtol=1e-5)
    calibration.calibrate(path, calibration.read_points(known(path, photo, tmp_path)), out=tmp_path / "mine")
    np.testing.assert_allclose(models.load(tmp_path / "mine").predict(photo).depth, 2 * plain, rtol=1e-3)


def test_a_calibration_is_measured_in_fp32_unless_another_precision_is_asked_for(metric, photos, tmp_path):
    measured = calibration.read_points(known(metric, photos / "00.png", tmp_path))
    first = calibration.calibrate(metric, measured, out=tmp_path / "a", kind="scale")
    half = calibration.calibrate(metric, measured, out=tmp_path / "b", kind="scale", precision="bf16")
    assert (first.placement.precision, half.placement.precision) == ("fp32", "bf16")
    assert first.calibration.scale == pytest.approx(2, rel=1e-4)
    assert half.calibration.scale != first.calibration.scale
    assert half.calibration.scale == pytest.approx(2, rel=0.1)
    assert (tmp_path / "a" / CALIBRATION).is_file()


def test_an_exported_file_states_its_licence(metric, tmp_path):
    assert cards.find_licence(str(export(metric, tmp_path / "model.onnx"))) == "apache-2.0"


def test_evaluations_of_a_file_and_of_its_network_are_compared(metric, tmp_path, sonde):
    root, path = write_bench(tmp_path / "set", 3), export(metric, tmp_path / "model.onnx")
    for name, model in (("file", path), ("network", metric)):
        words = (
            "--protocol",
            "zivid-mm",
            "--data",
            root,
            "--no-check",
            "-o",
            tmp_path / name,
            "--keep",
            tmp_path / "kept" / name,
        )
        said = sonde("eval", model, *words, "--json")
        assert said.code == 0, said.errors
        assert said.json["placement"]["runtime"] == ("onnx" if name == "file" else "torch")
    found = sonde("compare", tmp_path / "network", tmp_path / "file", "--json").json
    assert found["settings"] == {}
    assert found["images"] == 3
    assert all(abs(row["difference"]) < 1e-3 for row in found["difference"].values()), found["difference"]
    said = sonde(
        "eval", path, "--protocol", "zivid-mm", "--data", root, "--no-check", "--keep", tmp_path / "kept" / "network"
    )
    assert said.code == 2 and "predictions of another" in said.errors
