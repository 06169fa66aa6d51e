"""What a recipe alone can tell is refused before a folder is made; what is not there yet is forecast."""

import json
from pathlib import Path

import pytest

from sonde import recipes, scenes, training
from sonde.recipes import rules
from sonde.training.rendering import render_missing

BROKEN = {
    "_check_one_input_size": ("metric-road", ["model.input_pixels=20000"], "model.input_pixels both say"),
    "_check_encoder_has_size": ("metric-road", ["model.encoder=nvidia/mit-b0"], "is for a model.size"),
    "_check_depths_have_name": ("teacher-lite", ["model.depths=[3,3,3,3]"], "cannot be combined with model.size=lite2"),
    "_check_one_depth_limit": (
        "teacher-lite",
        ["model.max_depth=10", "model.encoding=inverse"],
        "both say where depth ends",
    ),
    "_check_metric_size_has_limit": ("teacher-lite", ["model.size=b0", "model.encoder=null"], "needs model.max_depth"),
    "_check_window_has_size": ("metric-road", ["data.fit=window", "model.input_size=null"], "needs model.input_size"),
    "_check_start_trains_head": (
        "metric-road",
        ["model.affine_start=true", "model.train_head=false"],
        "set model.train_head=true",
    ),
    "_check_adapter_base_loads_again": (
        "teacher-lite",
        ["lora={r: 8}"],
        "model.init=random cannot be combined with lora",
    ),
    "_check_bench_is_metric": ("teacher-lite", ["model.background=median"], "is for metric depth from one camera"),
    "_check_pixel_head_is_metric": ("teacher-lite", ["model.head=pixels"], "needs metric depth"),
    "_check_labels_do_not_judge": ("student-distill", ["data.measured=null"], "not judged by its teacher's labels"),
    "_check_repeats_train_only": ("metric-road", ["data.repeat=3"], "would let a capture train and judge"),
    "_check_judged_depth_is_read": ("metric-road", ["data.max_depth=50", "data.max_depth_eval=80"], "is larger than"),
    "_check_bench_decodes_exactly": ("lora-few", ["model.encoding=inverse_notebook"], "needs an exact decoding"),
    "_check_stopping_has_validations": (
        "metric-road",
        ["early_stopping=2", "train.eval_strategy=no"],
        "needs validations",
    ),
    "_check_fold_is_in_folds": ("metric-road", ["data.split.folds=3", "data.split.fold=3"], "from 0 to 2"),
    "_check_weights_can_shard": ("metric-road", ["train.fsdp=full_shard", "train.optim=muon"], "train.fsdp cuts them"),
}
"""Rule → a packaged recipe, the overrides that break the rule, and words of its sentence."""

COMMON = ["model", "trainable_parameters", "total_parameters", "steps", "learning_rate", "split", "output_dir"]
"""Keys of every dry run, in their order."""


def test_every_rule_has_its_case():
    assert {rule.__name__ for rule in rules.RULES} == set(BROKEN)


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_one_sentence_before_anything_is_made(rule, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scenes, "synth", lambda *words, **more: pytest.fail("rendered"))
    recipe, overrides, words = BROKEN[rule]
    for verb in (training.train, training.dry_run, training.plan_lr):
        with pytest.raises(ValueError, match=words.replace("[", r"\[")) as refused:
            verb(recipe, overrides)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 300
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "setting", ["loss.silog.trim=2", "train.learning_rate=-1", "train.optim=adem", "train.nonsense=1"]
)
def test_other_settings_are_refused_before_a_render_too(setting, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scenes, "synth", lambda *words, **more: pytest.fail("rendered"))
    with pytest.raises(ValueError, match=r"silog|learning_rate|adem|nonsense"):
        training.train("teacher-synthetic", [setting])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("small", 24_785_089), ("base", 97_470_785), ("large", 335_315_649), ("giant", 1_258_132_225)],
)
def test_a_dry_run_counts_weights_without_their_memory(size, parameters, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = training.dry_run("teacher-synthetic", [f"model.size={size}"])
    assert told.total_parameters == told.trainable_parameters == parameters
    assert [(part.family, part.count) for part in told.render] == [
        ("room", 2200),
        ("bench", 1000),
        ("road", 1500),
    ]
    assert all(part.seconds > 0 for part in told.render)
    assert told.split == {"train": 4500, "validation": 100, "test": 100} and told.steps == 9000
    assert list(told.document()) == [*COMMON[:-1], "render", "missing", COMMON[-1]]
    assert not list(tmp_path.iterdir())


ALIKE = ("metric-driving-cyclic", "metric-driving-plateau", "metric-driving-short")
"""Recipes that differ from metric-driving by their schedule alone."""


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name
        for name in recipes.list_names()
        if name != "lora-zivid"  # its base is on the hub
    ],
)
def test_every_packaged_recipe_has_a_dry_run_in_a_fresh_folder(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sonde.training.rendering._measure_seconds", lambda family, size: 0.1)
    told = training.dry_run(recipe)
    assert told.total_parameters > 0 and (told.render or "is missing" in str(told.missing))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_rate_is_drawn_for_the_published_size_of_a_set_that_is_not_there(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level("INFO", "sonde"):
        drawn = training.plan_lr("metric-driving")
    train_images = 174_437 - 2 * round(0.02 * 174_437)
    assert len(drawn.rates) == 25 * -(-train_images // 12)
    assert f"{train_images:,} training captures" in caplog.text
    with pytest.raises(ValueError, match="data/nyu is missing"):
        training.plan_lr("metric-indoor")


def test_a_half_rendered_set_is_finished_and_a_whole_one_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    part = {"format": "folder", "root": "rooms", "render": {"room": 4}, "render_size": [32, 48]}
    recipe = recipes.load({"data": {**part, "split": {"test": 1, "validation": 1}}})
    render_missing(recipe)
    files = {path: path.read_bytes() for path in Path("rooms").rglob("*") if path.is_file()}
    lost = sorted(path for path in files if "depth" in str(path))[-1]
    lost.unlink()
    render_missing(recipe)
    assert {path: path.read_bytes() for path in files} == files
    written = Path("rooms/render.json").stat().st_mtime_ns
    render_missing(recipe)
    assert Path("rooms/render.json").stat().st_mtime_ns == written
    card = json.loads(Path("rooms/render.json").read_text())
    assert card["count"] == 4
    smaller = recipes.load({"data": {**part, "render": {"room": 9}, "split": {"test": 1, "validation": 1}}})
    render_missing(smaller)  # another count was rendered on purpose
    assert {path for path in Path("rooms").rglob("*") if path.is_file()} == set(files)
