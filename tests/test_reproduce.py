"""A published row within its tolerance is reproduced, outside it is not; what is missing is named to the file."""

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from scipy.io import savemat
from small_captures import picture, plane_depth
from small_exports import run_by_torch, write_export
from small_networks import saved

from sonde import datasets, download, evaluation, models, protocols, reproduction
from sonde.metrics import METRICS, column_of


@pytest.fixture(scope="module")
def nyu(tmp_path_factory) -> Path:
    """Three frames in the published file's form, of which the split's test has two."""
    root = tmp_path_factory.mktemp("data") / "nyu"
    root.mkdir()
    zoom = np.diag([20, 20, 1]) @ np.array([[40.0, 0, 15.2], [0, 41.0, 11.7], [0, 0, 1]])
    depth = np.stack([plane_depth(480, 640, zoom) + number for number in range(3)]).astype(np.float32)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
        file["images"] = np.stack([picture(seed, 480, 640) for seed in range(3)]).transpose(0, 3, 2, 1)
        file["rawDepths"] = depth.transpose(0, 2, 1)
        cells = file.create_dataset("scenes", (1, 3), h5py.ref_dtype)
        for number, scene in enumerate(("kitchen_0004", "office_0001", "office_0002")):
            text = file.create_dataset(f"#refs#/{number}", data=np.array([list(scene.encode())], np.uint16).T)
            cells[0, number] = text.ref
    parts = {"trainNdxs": np.array([[2]], np.uint16), "testNdxs": np.array([[1], [3]], np.uint16)}
    savemat(root / "splits.mat", parts)
    return root


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    return saved("depth_anything", tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def truth(nyu: Path, network: Path) -> dict[str, float]:
    """What the network scores, by the plain verb."""
    listed = nyu / "splits.mat"
    scored = evaluation.evaluate(str(network), "nyu-eigen", nyu, format="nyu_labeled", listed=listed, align="disparity")
    return scored.metrics


def planted(path: Path, metrics: dict[str, float], **changes: Any) -> Path:
    """A file of one row, `dav2-small-nyu` with other numbers, on two images."""
    row = reproduction.read_rows()["dav2-small-nyu"].model_dump()
    row |= {"images": 2, "metrics": metrics, "tolerance": dict.fromkeys(metrics, 0.01)} | changes
    path.write_text(yaml.safe_dump({"mine": row}))
    return path


def test_every_packaged_row_is_of_sets_protocols_and_metrics_that_are_there():
    for name, row in reproduction.read_rows().items():
        rules = protocols.load(row.protocol, row.align)
        named = {column_of(metric, "m") if metric in METRICS else metric for metric in rules.metrics}
        assert set(row.metrics) == set(row.tolerance) and set(row.metrics) <= named, name
        assert download.find(row.set).title
        assert row.format is None or row.format in datasets.DATASETS
        assert row.images is None or row.images == rules.count
        assert all(0 < value for value in row.tolerance.values())


def test_numbers_within_their_tolerance_are_reproduced(nyu, network, truth, tmp_path):
    metrics = {"abs_rel": truth["abs_rel"] + 0.009, "rmse_m": truth["rmse_m"] - 0.009}
    rows = planted(tmp_path / "rows.yaml", metrics)
    made = reproduction.reproduce("mine", data=nyu, model=str(network), path=rows, out=tmp_path / "out")
    assert made.reproduced and not made.missing
    assert made.table()["abs_rel"]["observed"] == pytest.approx(truth["abs_rel"], rel=1e-12)
    document = json.loads((tmp_path / "out" / "reproduction.json").read_text())
    assert document["reproduced"] and document["table"]["rmse_m"]["verdict"] == "reproduced"
    assert (tmp_path / "out" / "report.html").is_file() and (tmp_path / "out" / "per_image.csv").is_file()


def test_a_row_is_scored_again_by_an_exported_file_and_where_it_ran_is_told(
    nyu, network, truth, tmp_path, monkeypatch, sonde
):
    run_by_torch(monkeypatch)
    path = write_export(models.load_network(network), network, tmp_path / "model.onnx")
    rows = planted(tmp_path / "rows.yaml", {"abs_rel": truth["abs_rel"]})
    words = ("reproduce", "mine", "--data", nyu, "-m", path, "--rows", rows, "-o", tmp_path / "out")
    assert re.search(r"^ran +on cpu by ONNX Runtime in fp32$", sonde(*words).text, re.MULTILINE)
    said = sonde(*words, "--json")
    assert said.json["reproduced"] and said.json["placement"]["runtime"] == "onnx"


def test_one_number_outside_is_not_reproduced(nyu, network, truth, tmp_path, sonde):
    metrics = {"abs_rel": truth["abs_rel"] + 0.009, "delta1": truth["delta1"] - 0.011}
    rows = planted(tmp_path / "rows.yaml", metrics)
    said = sonde("reproduce", "mine", "--data", nyu, "-m", network, "--rows", rows, "-o", tmp_path / "out", "--json")
    assert said.code == 1 and not said.json["reproduced"]
    verdicts = {name: line["verdict"] for name, line in said.json["table"].items()}
    assert verdicts == {"abs_rel": "reproduced", "delta1": "not reproduced"}


def test_another_number_of_images_reproduces_nothing(nyu, network, truth, tmp_path, sonde):
    rows = planted(tmp_path / "rows.yaml", {"abs_rel": truth["abs_rel"]}, images=654)
    said = sonde("reproduce", "mine", "--data", nyu, "-m", network, "--rows", rows, "-o", tmp_path / "out")
    assert said.code == 1 and "of 2 images, not 654" in said.text


def test_what_is_missing_is_named_with_its_place_and_its_remedy(tmp_path, monkeypatch, sonde):
    monkeypatch.chdir(tmp_path)
    said = sonde("reproduce", "dav2-small-nyu", "--json")
    folder, list_, weights = said.json["missing"]
    assert said.code == 1 and said.json["table"] == {}
    assert str(tmp_path / "data" / "nyu") in folder and "sonde data download nyu" in folder and "--data" in folder
    assert str(tmp_path / "data" / "nyu" / "splits.mat") in list_ and "--only" in list_
    assert "models--depth-anything--Depth-Anything-V2-Small-hf" in weights and "--model" in weights
    assert not (tmp_path / "scores").exists()


def test_only_what_is_missing_is_asked_for(nyu, network, tmp_path):
    row = reproduction.read_rows()["dav2-small-nyu"]
    assert reproduction.find_sources(row, nyu, str(network)).missing == []
    (asked,) = reproduction.find_sources(row, nyu, str(network), tmp_path / "other.mat").missing
    assert str(tmp_path / "other.mat") in asked
    pairs = reproduction.read_rows()["dav2-small-da2k"]
    (asked,) = reproduction.find_sources(pairs, tmp_path, str(network)).missing
    assert asked.startswith("annotations.json of da-2k")


def test_weights_that_the_hub_does_not_give_are_told_after_the_data_are_there(nyu, tmp_path, monkeypatch):
    monkeypatch.setattr("sonde.models.reading._is_hub_reachable", lambda: False)
    made = reproduction.reproduce("dav2-small-nyu", data=nyu)
    assert not made.reproduced and len(made.missing) == 2
    assert "could not be downloaded from the Hugging Face hub" in made.missing[1]


def test_pairs_of_points_are_found_below_the_sets_folder_and_scored(network, tmp_path):
    place = tmp_path / "da-2k" / "DA-2K" / "DA-2K"
    (place / "images" / "indoor").mkdir(parents=True)
    from PIL import Image

    Image.fromarray(picture(1, 56, 70)).save(place / "images" / "indoor" / "a.png")
    points = [{"point1": [row, 9], "point2": [50, 60], "closer_point": "point1"} for row in (2, 20, 40)]
    (place / "annotations.json").write_text(json.dumps({"images/indoor/a.png": points}))
    direct = evaluation.evaluate(str(network), "da2k", place).metrics["ordinal_accuracy"]
    row = reproduction.read_rows()["dav2-small-da2k"].model_dump() | {"metrics": {"ordinal_accuracy": direct}}
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump({"mine": row}))
    made = reproduction.reproduce(
        "mine", data=tmp_path / "da-2k", model=str(network), path=tmp_path / "rows.yaml", out=tmp_path / "out"
    )
    assert made.reproduced


def test_an_unknown_row_and_a_file_without_rows_are_one_sentence(sonde, tmp_path):
    assert "dav2-small-nyu" in sonde("reproduce", "dav2-smal-nyu").errors
    (tmp_path / "rows.yaml").write_text("mine: {paper: x}")
    assert "cannot be read" in sonde("reproduce", "mine", "--rows", tmp_path / "rows.yaml").errors
    assert "--list" in sonde("reproduce").errors


def test_the_list_names_every_row(sonde):
    assert [row["name"] for row in sonde("reproduce", "--list", "--json").json] == list(reproduction.read_rows())
    assert "zoedepth-kitti" in sonde("reproduce", "--list").text


def test_a_row_of_numbers_that_its_protocol_does_not_give_is_told_before_it_is_scored(sonde, tmp_path):
    row = yaml.safe_load(reproduction.ROWS.read_text())["dav2-small-nyu"]
    name = next(iter(row["metrics"]))
    row |= {"metrics": {"rmse": 0.2}, "tolerance": {"rmse": row["tolerance"][name]}}
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump({"mine": row}))
    errors = sonde("reproduce", "mine", "--rows", tmp_path / "rows.yaml").errors
    assert "mine asks for 'rmse'" in errors and "'rmse_m'" in errors
