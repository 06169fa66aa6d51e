"""A recipe is what its file says, whatever it leaves out; what is wrong with it is said in one sentence."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sonde import recipes, training
from sonde.datasets.zivid import LIMITS
from sonde.recipes import Recipe

DOCS = Path(__file__).parents[1] / "docs" / "recipes.md"


@pytest.mark.parametrize("name", recipes.list_names())
def test_every_packaged_recipe_comes_back_from_its_own_dump(name, tmp_path):
    recipe = recipes.load(name)
    path = tmp_path / "again.yaml"
    path.write_text(recipes.dump(recipe))
    assert recipes.load(path) == recipe
    assert recipes.load(recipe) == recipe


@pytest.mark.parametrize("name", recipes.list_names())
def test_a_packaged_recipe_is_a_page_that_names_its_own_folder(name):
    text = (Path(str(recipes.RECIPES)) / f"{name}.yaml").read_text()
    assert len(text.splitlines()) <= 36
    assert recipes.load(name).output_dir.startswith("runs/")


def test_lora_zivid_is_the_published_configuration():
    recipe = recipes.load("lora-zivid")
    assert recipe.model.name == "depth-anything/Depth-Anything-V2-Small-hf"
    assert recipe.model.input_size == (756, 1260)
    assert recipe.model.encoding == "inverse"
    assert not recipe.model.train_head and not recipe.model.affine_start
    assert recipe.lora == {
        "r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.05,
        "bias": "none",
        "target_modules": ["query", "key", "value"],
    }
    assert recipe.model_dump()["loss"] == {"masked_l1": 1.0, "edge_gradient": 3.0}
    assert recipe.augment == recipes.AugmentRecipe()
    published = {
        "num_train_epochs": 15,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
        "learning_rate": 5e-5,
        "fp16": True,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
    }
    assert published.items() <= recipe.train.items()
    assert recipe.data.min_depth is None and recipe.data.max_depth is None  # the layout's: 0 and 10000 mm
    assert LIMITS == (0, 10_000)


def test_an_empty_recipe_runs_on_defaults():
    recipe = recipes.load({})
    assert recipe == Recipe()
    assert recipe.model.name == "sonde-tiny"
    assert recipe.data.split.test and recipe.data.split.validation


def test_an_override_wins_and_keeps_what_stands_beside_it():
    recipe = recipes.load(
        "lora-zivid",
        ["train.learning_rate=1e-4", "data.root=captures", "data.range=[250,4000]", "data.split.group=folder"],
    )
    assert recipe.train["learning_rate"] == 1e-4
    assert recipe.train["num_train_epochs"] == 15
    assert recipe.data.root == "captures"
    assert recipe.data.range == (250.0, 4000.0)
    assert recipe.data.split.group == "folder"
    assert recipe.data.split.seed == 42


def test_an_override_switches_off_what_the_recipe_has():
    recipe = recipes.load("lora-zivid", ["lora=null", "model.encoding=null", "data.cache=null"])
    assert recipe.lora is None
    assert recipe.model.encoding is None
    assert recipe.data.cache is None


def test_a_run_folder_is_its_own_recipe(tmp_path):
    recipe = recipes.load("lora-few", ["seed=7"])
    (tmp_path / "recipe.yaml").write_text(recipes.dump(recipe))
    assert recipes.load(tmp_path) == recipe


TRIMMED = {"loss": {"silog": {"weight": 1, "trim": 0.1}, "ssi": 2}}


def losses(recipe, *overrides: str) -> dict:
    """The losses as a recipe's dump writes them."""
    return recipes.load(recipe, list(overrides)).model_dump(mode="json")["loss"]


def test_a_loss_with_a_trim_is_written_in_parts_and_one_without_as_a_number():
    assert losses(TRIMMED) == {"silog": {"weight": 1.0, "trim": 0.1}, "ssi": 2.0}
    again = recipes.load(TRIMMED)
    assert recipes.load(again) == again
    assert recipes.load({"loss": {"ssi": {"weight": 2}}}) == recipes.load({"loss": {"ssi": 2.0}})


@pytest.mark.parametrize(
    "overrides,silog,ssi",
    [
        (["loss.silog=3"], {"weight": 3.0, "trim": 0.1}, 2.0),
        (["loss.silog.weight=3", "loss.silog.trim=0.2"], {"weight": 3.0, "trim": 0.2}, 2.0),
        (["loss.silog.trim=null"], 1.0, 2.0),
        (["loss.ssi.trim=0.3"], {"weight": 1.0, "trim": 0.1}, {"weight": 2.0, "trim": 0.3}),
        (["loss.ssi.trim=0.3", "loss.ssi=5"], {"weight": 1.0, "trim": 0.1}, {"weight": 5.0, "trim": 0.3}),
        (["loss={silog: 3, ssi: {trim: 0}}"], {"weight": 3.0, "trim": 0.1}, {"weight": 2.0, "trim": 0.0}),
        (["loss.silog={weight: 4}"], {"weight": 4.0, "trim": 0.1}, 2.0),
    ],
)
def test_an_override_of_a_weight_keeps_the_trim_and_the_other_way_round(overrides, silog, ssi):
    for recipe in (TRIMMED, recipes.load(TRIMMED)):
        assert losses(recipe, *overrides) == {"silog": silog, "ssi": ssi}


def test_a_trim_of_a_loss_that_a_recipe_leaves_to_the_default_leaves_the_other_default():
    assert losses({}, "loss.masked_l1.trim=0.1") == {"masked_l1": {"weight": 1.0, "trim": 0.1}, "edge_gradient": 3.0}
    assert losses({}, "loss.silog=1") == losses({}, "loss={silog: 1}") == {"silog": 1.0}


def problem(recipe, overrides=None) -> str:
    """The one sentence a bad recipe is answered with."""
    with pytest.raises(ValueError) as caught:
        recipes.load(recipe, overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400  # it may list every recipe
    return message


@pytest.mark.parametrize(
    "override,nearest",
    [
        ("mdl=sonde-tiny", "model.name=sonde-tiny"),
        ("model.nme=sonde-tiny", "model.name=sonde-tiny"),
        ("data.rot=captures", "data.root=captures"),
        ("data.split.tset=3", "data.split.test=3"),
        ("data.spilt.test=3", "data.split.test=3"),
        ("data.test=3", "data.split.test=3"),
        ("augment.flips=0.5", "augment.flip=0.5"),
        ("output=runs/x", "output_dir=runs/x"),
        ("loss.masked_l1.trm=0.1", "loss.masked_l1.trim=0.1"),
        ("max_steps=30", "train.max_steps=30"),
        ("learning_rate=1e-4", "train.learning_rate=1e-4"),
        ("r=8", "lora.r=8"),
        ("rank=8", "lora.r=8"),
        ("root=captures", "data.root=captures"),
        ("data=captures", "data.root=captures"),
        ("model=sonde-tiny", "model.name=sonde-tiny"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(override, nearest):
    message = problem({}, [override])
    assert override.partition("=")[0] in message
    assert f"did you mean {nearest}?" in message


@pytest.mark.parametrize(
    "override,nearest",
    [
        ("train.max_step=30", "train.max_steps=30"),
        ("train.lr=0.5", "train.learning_rate=0.5"),
        ("lora.rank=8", "lora.r=8"),
        ("lora.targets=query", "lora.target_modules=query"),
    ],
)
def test_a_key_of_another_library_is_answered_before_the_data_are_opened(override, nearest):
    with pytest.raises(ValueError, match=f"Unknown key {override.partition('=')[0]}: did you mean {nearest}"):
        training.dry_run("lora-few", [override, "data.root=nowhere"])


def test_an_unknown_key_of_a_further_part_is_answered_with_the_nearest():
    message = problem({"data": {"also": [{"format": "nyu", "root": "x", "rot": "y"}]}})
    assert "data.also.0.rot" in message and "did you mean data.also.0.root=y?" in message


def test_what_is_no_recipe_is_answered_with_what_was_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "captures" / "images").mkdir(parents=True)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "mine.yaml").write_text("seed: 1")
    assert "`sonde train lora-few data.root=captures`" in problem("captures")
    assert "`sonde train lora-few model.name=model`" in problem("model")
    assert "`sonde train lora-few model.name=some.ckpt`" in problem("some.ckpt")
    assert "did you mean 'mine.yaml'?" in problem("mnie.yaml")
    assert "as in `sonde train lora-few data.root=captures`" in problem("data.root=captures")


def test_a_wrong_name_is_answered_with_the_nearest():
    assert "'lora-zivid'?" in problem("lora-zivd")
    assert "lora-few" in problem("xyz")


@pytest.mark.parametrize(
    "overrides,words",
    [
        (["data.split.folds=1"], "data.split.folds"),
        (["augment.flip=2"], "augment.flip"),
        (["model.encoding=inverted"], "inverse"),
        (["model.input_size=[756]"], "model.input_size"),
        (["seed=many"], "seed"),
        (["train.learning_rate"], "key=value"),
        (["data.root=${nowhere}"], "nowhere"),
        (["loss.silog.trim=0.1"], "loss.silog: it has a trim and no weight"),
        (["loss.silog=much"], "loss.silog.weight"),
        (["loss={silog: "], "loss={silog: "),
    ],
)
def test_a_wrong_value_is_told_with_its_place(overrides, words):
    assert words in problem({}, overrides)


def test_the_reference_commands_names_stand_for_our_fields(tmp_path):
    short = ["epochs=8", "lr=1.5e-4", "crop_h=352", "crop_w=704", "workers=4", "log_dir=logs", "batch_size=3"]
    full = [
        "train.num_train_epochs=8",
        "train.learning_rate=1.5e-4",
        "model.input_size=[352,704]",
        "train.dataloader_num_workers=4",
        "output_dir=logs",
        "train.per_device_train_batch_size=3",
    ]
    assert recipes.load("student-distill", short) == recipes.load("student-distill", full)
    assert recipes.load("lora-few", ["max_depth=80"]) == recipes.load(
        "lora-few", ["model.max_depth=80", "data.max_depth=80", "output_dir=./logs"]
    )
    path = tmp_path / "short.yaml"
    path.write_text("dataset: nyu\ndata_path: nyu\nlr: 2.0e-4\n")
    recipe = recipes.load(path, ["lr=3e-4"])
    assert (recipe.data.format, recipe.data.root, recipe.train["learning_rate"]) == ("nyu", "nyu", 3e-4)


def test_a_number_without_a_point_is_a_number_in_a_file_as_in_an_override(tmp_path):
    text = "train: {learning_rate: 1e-4, lr_scheduler_kwargs: {base_lr: 5E-6}, run_name: 1e-4b, weight_decay: '1e-2'}"
    (tmp_path / "mine.yaml").write_text(text)
    settings = recipes.load(tmp_path / "mine.yaml").train
    assert settings["learning_rate"] == 1e-4 and settings["lr_scheduler_kwargs"] == {"base_lr": 5e-6}
    assert (settings["run_name"], settings["weight_decay"]) == ("1e-4b", "1e-2")


def test_a_file_that_is_no_recipe_is_told_so(tmp_path):
    for text in ("model: [unclosed", "- a\n- list\n", "just words"):
        path = tmp_path / "broken.yaml"
        path.write_text(text)
        assert str(path) in problem(str(path))


def fields(schema: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Dotted name and definition of everything a recipe can set."""
    for name, field in schema.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def test_the_documentation_explains_every_field_as_the_schema_does():
    documented = [line for line in DOCS.read_text().splitlines() if line.startswith("| `") and line.count("|") == 4]
    assert all(field.description for _, field in fields())
    assert sorted(documented) == sorted(
        f"| `{name}` | `{json.dumps(field.get_default())}` | {' '.join(str(field.description).split())} |"
        for name, field in fields()
    )


@pytest.mark.parametrize("name", recipes.list_names())
def test_the_documentation_names_every_packaged_recipe(name):
    assert f"| `{name}` |" in DOCS.read_text()
