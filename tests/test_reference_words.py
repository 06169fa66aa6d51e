"""GLPDepth's words: its command lines as pasted, its weights to go on from, and its defaults in our recipes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sonde import exporting, models, recipes, scenes, training
from sonde.cli.words import translate_scoring, translate_training

TRAIN = "--max_depth 80.0 --max_depth_eval 80.0 --crop_h 352 --crop_w 704 --workers 4 --lr 0.00015 --epochs 8"
SWITCHES = "--save_model --save_result"
TEST = "--do_evaluate --save_visualize --max_depth 80.0 --max_depth_eval 80.0"
SMALL = ["train.max_steps=2", "train.dataloader_num_workers=0", "batch_size=2", "crop_h=32", "crop_w=64"]

DEFAULTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "epochs": (25, {"metric-driving-short": 8}),
    "lr": (1e-4, {"metric-driving-short": 1.5e-4}),
    "batch_size": (12, {}),
    "workers": (8, {"metric-driving-short": 4}),
    "crop_h": (448, {"metric-driving": 352, "metric-driving-short": 352}),
    "crop_w": (576, {"metric-driving": 704, "metric-driving-short": 704}),
    "max_depth": (10, {"metric-driving": 80, "metric-driving-short": 80}),
    "val_freq": (1, {}),
    "save_freq": (10, {}),
}
"""Word → its default there, and what a published command gives it instead, by our recipe of that command."""


@pytest.fixture(scope="module")
def roads(tmp_path_factory) -> Path:
    """The folder that `--data_path` names: DrivingStereo lies in it."""
    above = tmp_path_factory.mktemp("datasets")
    scenes.synth("road", above / "DrivingStereo", 8, height=48, width=96, workers=1)
    return above


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A GLPDepth .ckpt whose name does not say how far it sees."""
    torch.manual_seed(0)
    model = models.build("b0", max_depth=80)
    folder = exporting.export(model, to="glpdepth", out=tmp_path_factory.mktemp("ckpt") / "out")
    return next(folder.glob("*.ckpt")).rename(folder / "epoch_08_model.ckpt")


def field(recipe: recipes.Recipe, name: str) -> Any:
    """A dotted field of a recipe, such as train.learning_rate or model.input_size[0]."""
    found: Any = recipe.model_dump()
    for part in name.replace("[", ".").replace("]", "").split("."):
        found = found[int(part)] if part.isdigit() else found[part]
    return found


@pytest.mark.parametrize("recipe", ["metric-driving", "metric-driving-short", "metric-indoor"])
@pytest.mark.parametrize("word", DEFAULTS)
def test_a_recipe_states_the_default_or_what_its_command_gives(word, recipe):
    default, given = DEFAULTS[word]
    resolved = recipes.load(recipe)
    for name in recipes.SHORT.get(word, (word,)):
        if name != "data.max_depth":  # the layout's own limit, which is the same
            assert field(resolved, name) == given.get(recipe, default), name


def test_a_run_asked_for_in_these_words_goes_to_their_logs_unless_told_where():
    assert recipes.load("metric-driving", ["epochs=8"]).output_dir == "./logs"
    assert recipes.load({"epochs": 8}).output_dir == "./logs"
    assert recipes.load({"epochs": 8, "output_dir": "there"}).output_dir == "there"
    assert recipes.load("metric-driving", ["epochs=8", "output_dir=there"]).output_dir == "there"
    assert recipes.load("metric-driving", ["epochs=8", "log_dir=there"]).output_dir == "there"
    assert recipes.load("metric-driving", ["train.num_train_epochs=8"]).output_dir == "runs/metric-driving"


def test_their_training_line_is_ours_with_dashes_and_without(roads):
    flags = f"--dataset DrivingStereo --data_path {roads} {TRAIN} {SWITCHES}".split()
    bare = ["dataset=DrivingStereo", f"data_path={roads}", *"max_depth=80.0 max_depth_eval=80.0 crop_h=352".split()]
    bare += "crop_w=704 workers=4 lr=0.00015 epochs=8 save_model save_result".split()
    lines = [translate_training(["metric-driving", *words]) for words in (flags, bare)]
    assert lines[0] == lines[1] and lines[0][0] == "metric-driving"
    recipe = recipes.load(lines[0][0], lines[0][1:])
    assert (recipe.data.format, recipe.data.root) == ("driving_stereo", str(roads / "DrivingStereo"))
    assert (recipe.model.max_depth, recipe.data.max_depth, recipe.data.max_depth_eval) == (80, 80, 80)
    assert recipe.model.input_size == (352, 704) and recipe.train["dataloader_num_workers"] == 4
    assert (recipe.train["learning_rate"], recipe.train["num_train_epochs"]) == (1.5e-4, 8)
    assert recipe.save_model and recipe.save_result and recipe.output_dir == "./logs"
    assert translate_training(flags)[0] == "metric-driving"  # the line as it is, after `sonde train`


def test_the_last_of_a_repeated_option_counts_and_options_of_ours_stay():
    line = translate_training("metric-driving --workers 1 --lr=0.00015 --workers 4 --dry-run seed=3".split())
    assert line[:3] == ["metric-driving", "--dry-run", "seed=3"]
    assert [word for word in line if "workers" in word] == ["train.dataloader_num_workers=4"]


def test_other_sets_and_crops_have_their_layouts_and_protocols(tmp_path):
    assert translate_training(["--dataset", "nyudepthv2", "--exp_name", "mine"]) == [
        "metric-indoor", "data.format=nyu", f"output_dir={Path('logs/mine')}",
    ]  # fmt: skip
    (tmp_path / "kitti").mkdir()
    words = ["best.ckpt", "--dataset", "kitti", "--data_path", str(tmp_path), "--kitti_crop", "garg_crop"]
    expected = ["--format", "kitti", "--protocol", "kitti-garg-kb", "--data", str(tmp_path / "kitti"), "best.ckpt"]
    assert translate_scoring(words) == expected
    assert translate_training(["--dataset", "kitti", "--do_kb_crop", "0"])[1:3] == [
        "data.format=kitti_kb",
        "data.format=kitti",
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("eval a.ckpt --dataset DrivingStero", "did you mean 'DrivingStereo'"),
        ("eval a.ckpt --dataset imagepath", "sonde predict"),
        ("eval a.ckpt --kitti_crop eigen_crop", "--protocol FILE"),
        ("eval a.ckpt --max_depth far", "--max_depth far: expected a number"),
        ("eval a.ckpt --max_depth", "--max_depth needs a value"),
        ("train metric-driving --lr", "--lr needs a value"),
    ],
)
def test_what_cannot_be_followed_is_said_in_a_sentence(sonde, line, words):
    said = sonde(*line.split())
    assert said.code == 2 and words in " ".join(said.errors.split())


def test_their_test_line_prints_the_metrics_and_writes_the_pictures(sonde, roads, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = f"--dataset DrivingStereo --data_path {roads} {TEST}".split()
    said = sonde("eval", checkpoint, *flags)
    assert said.code == 0, said.errors
    assert "abs_rel" in said.text and "delta3" in said.text and "silog" in said.text
    assert len(list((tmp_path / "results" / "test" / "depth").rglob("*.preview.png"))) == 8
    document = json.loads((tmp_path / "results" / "test" / "metrics.json").read_text())
    assert document["protocol"] == "driving-stereo" and document["images"] == 8
    same = sonde("eval", *flags[:4], "--ckpt_dir", checkpoint, *flags[4:], "--json")
    assert same.json["metrics"] == pytest.approx(document["metrics"])


def test_what_each_option_became_is_told_once(roads, checkpoint, caplog):
    with caplog.at_level("INFO", "sonde"):
        translate_scoring([str(checkpoint), "--dataset", "DrivingStereo", "--do_evaluate", "--max_depth", "80.0"])
    assert caplog.messages == [
        "--dataset DrivingStereo is --format driving_stereo --protocol driving-stereo",
        "--do_evaluate has no effect here: sonde eval always scores",
        "--max_depth 80.0 is --max-depth 80",
    ]


def test_another_end_of_the_protocol_has_another_name(sonde, roads, checkpoint):
    words = ["--data", roads / "DrivingStereo", "--format", "driving_stereo", "--max-depth", 80, "--json"]
    whole, near = (sonde("eval", checkpoint, *words, *more).json for more in ((), ("--max-depth-eval", 20)))
    assert (whole["protocol"], near["protocol"]) == ("driving-stereo", "driving-stereo+20m")
    assert near["metrics"]["rmse_m"] != whole["metrics"]["rmse_m"]
    said = sonde("eval", checkpoint, *words[:-1], "--max-depth-eval", 0)
    assert said.code == 2 and "--max-depth-eval 0" in said.errors


def test_weights_to_go_on_from_win_over_the_recipes_own_network(roads, checkpoint, tmp_path):
    settings = [*SMALL, f"data_path={roads / 'DrivingStereo'}", f"output_dir={tmp_path / 'run'}", "data.cache=null"]
    settings += ["data.split={test: 2, validation: 2, group: null}", f"ckpt_dir={checkpoint}"]
    plan = training.prepare(recipes.load("metric-driving", settings))
    began = plan.model.network.state_dict()
    assert plan.recipe.model.size is None and plan.recipe.model.encoder is None
    assert all(
        torch.equal(began[key], value)
        for key, value in models.load_network(checkpoint, max_depth=80).network.state_dict().items()
    )
    other = models.build("b0", max_depth=10)
    models.save(other, tmp_path / "ten")
    plan = training.prepare(recipes.load("metric-driving", [*settings, f"ckpt_dir={tmp_path / 'ten'}"]))
    assert plan.model.network.config.max_depth == 10  # its own, not the recipe's 80
    with pytest.raises(ValueError, match="ends at 10 m by itself"):
        training.prepare(recipes.load("metric-driving", [*settings, f"ckpt_dir={tmp_path / 'ten'}", "max_depth=80"]))


@pytest.mark.parametrize("recipe", ["metric-driving", "metric-road", "lora-few", "student-distill"])
def test_weights_that_are_not_there_are_refused_before_anything_is_written(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"nonexistent\.ckpt"):
        training.train(recipe, ["ckpt_dir=nonexistent.ckpt"])
    assert not list(tmp_path.iterdir())


def test_a_name_and_a_size_are_never_both_the_network():
    with pytest.raises(ValueError, match=r"model: name=mine and size=b0 both say which network"):
        recipes.load({"model": {"name": "mine", "size": "b0"}})
    with pytest.raises(ValueError, match="both say which network"):
        recipes.load("metric-driving", ["model.name=mine", "model.size=b0"])
    assert recipes.load("student-distill", ["model.size=small"]).model.name is None
    assert recipes.load({}).model.name == "sonde-tiny"


def test_a_run_folder_of_an_earlier_version_still_reads(tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: {name: sonde-tiny, size: b0, init: random, max_depth: 80}\n")
    for source in (tmp_path, tmp_path / "recipe.yaml"):
        assert recipes.load(source).model.origin == "b0"


@pytest.mark.parametrize("how", ["dry", "run"])
def test_a_crop_larger_than_the_captures_is_refused_before_the_first_step(roads, checkpoint, tmp_path, how):
    settings = [f"data_path={roads / 'DrivingStereo'}", f"ckpt_dir={checkpoint}", f"output_dir={tmp_path / 'run'}"]
    settings += ["data.split={test: 2, validation: 2, group: null}", "crop_h=448", "crop_w=576"]
    with pytest.raises(ValueError, match=r"96x48.*576x448") as refused:
        (training.dry_run if how == "dry" else training.train)("metric-driving", settings)
    assert "Traceback" not in str(refused.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "schedule", "decay"),
    [
        ("metric-driving-plateau", "reduce_lr_on_plateau", 5e-5),
        pytest.param("metric-driving-cyclic", "cyclic", 0, marks=pytest.mark.slow),
    ],
)
def test_the_forks_schedules_are_recipes(name, schedule, decay, roads, checkpoint, tmp_path):
    recipe = recipes.load(name)
    assert (recipe.train["lr_scheduler_type"], recipe.train["weight_decay"]) == (schedule, decay)
    assert recipe.train["optim"] == "adam" and recipe.train["max_grad_norm"] == 1.0
    settings = [*SMALL[1:], f"data.root={roads / 'DrivingStereo'}", f"model.name={checkpoint}", "data.cache=null"]
    settings += ["data.split={test: 2, validation: 2, group: null}", "epochs=6", f"output_dir={tmp_path / 'run'}"]
    rates = training.plan_lr(name, settings)
    assert not rates.idle and not rates.complaints
    run = training.train(name, [*settings, "train.lr_scheduler_kwargs.threshold=10"] if decay else settings)
    logs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lowest = min(log["learning_rate"] for log in logs if "learning_rate" in log)
    assert lowest == pytest.approx(5e-5) if decay else lowest < 1e-4


def test_a_plateau_that_cannot_fire_within_the_run_is_told(sonde, roads, checkpoint):
    settings = [f"data.root={roads / 'DrivingStereo'}", f"model.name={checkpoint}", *SMALL[2:]]
    settings += ["data.split={test: 2, validation: 2, group: null}", "train.lr_scheduler_kwargs.patience=10"]
    said = sonde("train", "metric-driving-plateau", *settings, "epochs=8", "--plan-lr")
    assert said.code == 0 and "never lowers the rate here" in said.text and "less than 6" in said.text
    said = sonde("train", "metric-driving-plateau", *settings, "epochs=14", "--plan-lr")
    assert "never lowers" not in said.text


def test_the_published_range_is_of_all_pairs():
    assert recipes.load("lora-zivid").data.range == "all"  # 251.74 to 3907.45 mm are of all 58


def test_every_verb_takes_the_metres_that_a_checkpoint_does_not_hold(sonde, roads, checkpoint, tmp_path):
    photographs = roads / "DrivingStereo" / "left-image-half-size"
    for words in (("predict", photographs, "-m", checkpoint, "-o"), ("label", checkpoint, photographs)):
        said = sonde(*words, tmp_path / "nothing")
        assert said.code == 2 and "--max_depth 80" in said.errors
        said = sonde(*words, tmp_path / words[0], "--max-depth", 80, "--json")
        assert said.code == 0, said.errors
    state = json.loads((tmp_path / "label" / "job.json").read_text())
    assert state["teacher"]["range"] == {"max_depth": 80, "scale": 1.0}
