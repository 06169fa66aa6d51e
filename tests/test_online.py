"""The first day's check finds a working model well, a changed preprocessor wrong, and says what it could not check."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_networks import saved

from sonde import files, models, online, scenes
from sonde.encoding import ENCODINGS


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small Depth Anything as the hub has it: network and image processor."""
    folder = saved("depth_anything", tmp_path_factory.mktemp("hub") / "small")
    models.make_image_processor(models.load(folder).spec).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_every_step_is_taken_and_told(folder, sonde):
    said = sonde("doctor", "--online", "--model", folder, "--json")
    assert said.code == 0 and list(said.json) == ["fetch", "predict", "compare", "adapt"]
    assert all(sentence.startswith("ok: ") for sentence in said.json.values())
    assert "space 'disparity'" in said.json["fetch"] and "640x480" in said.json["predict"]
    assert "10 steps of LoRA" in said.json["adapt"] and "mm" in said.json["adapt"]


@pytest.mark.slow
def test_networks_of_other_sizes_and_of_an_encoding_are_taken_as_they_are(tmp_path):
    network = models.load_network(saved("glpn", tmp_path / "glpn"))
    encoding = ENCODINGS["inverse"](0.5, 4.0).to_dict()
    network.spec = replace(network.spec, space="metric", encoding=encoding)
    models.save(network, tmp_path / "encoded")
    checks = online.check_model(str(tmp_path / "encoded"))
    assert [check.outcome for check in checks] == ["ok"] * 4, checks


@pytest.mark.parametrize("change", [{"image_mean": [0.5] * 3}, {"size": {"height": 504, "width": 504}}])
def test_another_preprocessing_is_not_taken_for_ours(folder, tmp_path, change):
    other = shutil.copytree(folder, tmp_path / "other")
    path = other / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    ours, theirs = (
        online.compare_with_transformers(models.load_network(folder), str(place)) for place in (folder, other)
    )
    assert ours.close and not theirs.close and theirs.mean > 10 * ours.mean


def test_a_network_in_half_precision_still_agrees_and_the_check_says_where_it_ran(folder, monkeypatch):
    monkeypatch.setattr(online, "_adapt", lambda model, name: "adapted")
    checks = online.check_model(str(folder), device="cpu", precision="bf16")
    assert [check.outcome for check in checks] == ["ok"] * 4, checks
    assert checks[0].sentence.endswith("predictions in space 'disparity', on cpu by torch in bf16.")


def test_a_step_that_fails_is_told_and_the_others_are_still_taken(folder, tmp_path, monkeypatch):
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "preprocessor_config.json").unlink()
    monkeypatch.setattr(online, "_adapt", lambda model, name: "adapted")
    told: list[online.OnlineStep] = []
    checks = online.check_model(str(other), told.append)
    assert [check.outcome for check in checks] == ["ok", "ok", "failed", "ok"] and told == checks


def test_without_the_hub_nothing_is_claimed(monkeypatch, sonde):
    monkeypatch.setattr("sonde.models.reading._is_hub_reachable", lambda: False)
    said = sonde("doctor", "--online", "--model", "nobody/has-this-model", "--json")
    assert said.code == 1 and "it cannot be reached" in said.json["fetch"]
    assert all(said.json[step].startswith("not checked: ") for step in ("predict", "compare", "adapt"))


def test_the_picture_is_our_own_render_and_small(tmp_path):
    scenes.synth("indoor", tmp_path, 1, seed=21, height=480, width=640, layout="folder", workers=1)
    render = files.read_rgb(next((tmp_path / "rgb").iterdir())).astype(float)
    assert online.PICTURE.stat().st_size <= 60_000
    assert np.abs(files.read_rgb(online.PICTURE) - render).mean() < 4


def test_words_that_do_not_belong_together_are_refused(sonde, tmp_path):
    assert "leave the run" in sonde("doctor", tmp_path, "--online").errors
    assert "--online --model NAME" in sonde("doctor", "--model", "sonde-tiny").errors
