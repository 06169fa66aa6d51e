"""The recipes of metric depth: the reference's settings under its own names, and a run of each kind on renders."""

import json
import re
from pathlib import Path

import pytest

from sonde import models, recipes, scenes, training

DOCS = Path(__file__).parents[1] / "docs" / "metric.md"
SMALL = ["model.size=b0", "model.encoder=null", "train.max_steps=2", "train.dataloader_num_workers=0"]


@pytest.mark.parametrize(
    ("name", "epochs", "rate", "crop", "far", "workers"),
    [
        ("metric-driving", 25, 1e-4, (352, 704), 80, 8),
        ("metric-driving-short", 8, 1.5e-4, (352, 704), 80, 4),
        ("metric-indoor", 25, 1e-4, (448, 576), 10, 8),
    ],
)
def test_the_recipes_are_the_references_commands(name, epochs, rate, crop, far, workers):
    recipe = recipes.load(name)
    assert (recipe.train["num_train_epochs"], recipe.train["learning_rate"]) == (epochs, rate)
    assert (recipe.train["optim"], recipe.train["weight_decay"], recipe.train["lr_scheduler_type"]) == (
        "adam",
        0,
        "glp",
    )
    assert (recipe.model.input_size, recipe.model.max_depth, recipe.data.fit) == (crop, far, "window")
    assert (recipe.train["per_device_train_batch_size"], recipe.train["dataloader_num_workers"]) == (12, workers)
    assert (recipe.val_freq, recipe.save_freq, recipe.model_dump()["loss"]) == (1, 10, {"silog": 1.0})


def test_the_documentation_maps_every_name_of_the_reference():
    rows = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*) \|$", DOCS.read_text(), re.M))
    for name, fields in recipes.SHORT.items():
        assert all(f"`{field}`" in rows[name] for field in fields), name
    assert {"val_freq", "save_freq", "save_model", "save_result", "do_evaluate", "save_visualize"} <= set(rows)


def test_metric_driving_runs_on_renders_in_the_same_layout(tmp_path):
    root = scenes.synth("road", tmp_path / "roads", 8, height=48, width=96, workers=1)
    settings = [
        *SMALL,
        f"data.root={root}",
        f"data.cache={tmp_path / 'cache'}",
        f"output_dir={tmp_path / 'run'}",
        "crop_h=32",
        "crop_w=64",
        "batch_size=2",
        "data.split={test: 2, validation: 2, group: null}",
        "train.eval_strategy=steps",
        "train.eval_steps=2",
        "train.save_strategy=steps",
        "train.save_steps=2",
        "save_result=true",
    ]
    run = training.train("metric-driving", settings)
    model = models.load_network(run)
    assert model.space == "metric" and model.network.config.max_depth == 80
    assert len(list((run / "results" / "step-000002").rglob("*.depth.png"))) == 2
    logs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("eval_delta1" in log for log in logs)


def test_metric_indoor_learns_rooms_up_to_ten_metres(tmp_path):
    root = scenes.synth("room", tmp_path / "rooms", 6, height=48, width=64, workers=1)
    settings = [
        *SMALL,
        f"data.root={root}",
        f"data.cache={tmp_path / 'cache'}",
        f"output_dir={tmp_path / 'run'}",
        "crop_h=32",
        "crop_w=32",
        "batch_size=2",
        "data.split={test: 1, validation: 1, group: null}",
    ]
    plan = training.prepare(recipes.load("metric-indoor", settings))
    assert plan.captures.limits[1] == 10 and plan.model.network.config.max_depth == 10
    assert plan.samples("train", augment=True)[0]["image"].shape == (3, 32, 32)
    assert plan.samples("validation")[0]["image"].shape == (3, 48, 64)


def test_metric_road_renders_its_own_set_by_one_camera(tmp_path):
    settings = [
        f"data.root={tmp_path / 'roads'}",
        "data.render.road=6",
        "data.render_size=[32,64]",
        "model.input_size=[32,64]",
        f"data.cache={tmp_path / 'cache'}",
        f"output_dir={tmp_path / 'run'}",
        "train.max_steps=2",
        "train.eval_steps=2",
        "train.save_steps=2",
        "train.per_device_train_batch_size=2",
        "data.split={test: 2, validation: 2, group: null}",
    ]
    run = training.train("metric-road", settings)
    assert json.loads((tmp_path / "roads" / "render.json").read_text())["rigs"] == 1
    assert models.load(run).spec.canonical_focal == 219
    assert json.loads((run / "metrics.json").read_text())["metrics"]["abs_rel"] > 0
