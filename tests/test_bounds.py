"""Settings that no machine can take are refused before work; YAML and tables are read with limits."""

from typing import Any

import pytest

from sonde import calibration, files, protocols, recipes, reproduction, scenes, training
from sonde.options.label import LabelOptions, PlanOptions
from sonde.recipes import bounds
from sonde.training.data import check_settings

HUGE = 10**20


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model.input_size=[1000000,1000000]", "model.input_size.0"),
        ("model.input_size=[16384,16384]", "268,435,456 pixels"),
        (f"model.input_pixels={HUGE}", "model.input_pixels"),
        ("model.depths=[1000,1,1,1]", "model.depths.0"),
        ("model.encoder_learning_rate=-1", "model.encoder_learning_rate"),
        ("lora.r=1e9", "lora.r"),
        ("lora.r=0", "lora.r"),
        ("lora.lora_dropout=1", "lora.lora_dropout"),
        ("lora.lora_alpha=.nan", "lora.lora_alpha"),
        ("lora.rank_pattern={query: -4}", "lora.rank_pattern.query"),
        ("train.max_steps=100000000", "train.max_steps"),
        ("train.num_train_epochs=.inf", "train.num_train_epochs"),
        ("train.lr_scheduler_kwargs={power: .nan}", "train.lr_scheduler_kwargs.power"),
        ("train.dataloader_num_workers=1000000", "train.dataloader_num_workers"),
        ("train.seed=-1", "train.seed"),
        (f"data.render={{bench: {HUGE}}}", "data.render.bench"),
        ("data.render={bench: 0}", "data.render.bench"),
        ("data.render_size=[4096,4096]", "data.render_size"),
        ("data.split.test=.nan", "data.split.test"),
        ("data.max_depth=.nan", "data.max_depth"),
        ("data.min_depth=nan", "data.min_depth"),
        ("loss.masked_l1=.nan", "loss.masked_l1.weight"),
        ("augment.blur=1e9", "augment.blur"),
        ("augment.aspect=.inf", "augment.aspect"),
        ("seed=4294967296", "seed"),
        ("model.name=" + "m" * 100_000, "model.name"),
        ("train.run_name=" + "[" * 50 + "]" * 50, "train.run_name"),
        ("loss=" + "[" * 10_000, "loss"),
    ],
)
def test_a_setting_that_no_machine_bears_is_refused_by_its_key(override, key):
    with pytest.raises(ValueError) as refused:
        recipes.load({"lora": {"r": 4}}, [override])
    assert key in str(refused.value) and len(str(refused.value)) < 1000


def test_what_is_within_the_bounds_is_kept_as_it_is_written():
    lora = {"target_modules": ["query"], "lora_dropout": 0, "r": bounds.MOST_RANK, "lora_alpha": 32}
    train = {"report_to": "none", "max_grad_norm": float("inf"), "max_steps": 5, "learning_rate": "1e-4"}
    recipe = recipes.load({"lora": lora, "train": train, "clip_value": float("inf")}, ["data.max_depth=.inf"])
    assert recipe.lora is not None
    assert list(recipe.lora.items()) == list(lora.items()) and list(recipe.train.items()) == list(train.items())
    assert recipe.clip_value == recipe.data.max_depth == float("inf")


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_a_number_of_the_trainer_is_finite_though_it_is_text(text):
    with pytest.raises(ValueError, match=r"train\.num_train_epochs"):
        training.build_arguments(recipes.load({"train": {"num_train_epochs": text}}))


def test_a_run_of_too_many_steps_is_refused_before_its_rate_is_computed():
    recipe = recipes.load("sonde-tiny", ["train.max_steps=-1", "train.num_train_epochs=1e6"])
    with pytest.raises(ValueError, match=r"train\.num_train_epochs"):
        training.plan_recipe_rates(recipe, training.build_arguments(recipe), 25_000)


@pytest.mark.parametrize("override", ["=1", "...=1", "data..root=x", "model[=1", "learning_rate"])
def test_an_override_without_a_key_or_a_value_is_told_as_it_was_typed(override):
    with pytest.raises(ValueError, match="expected key=value") as refused:
        recipes.load({}, [override])
    assert override in str(refused.value)


def test_a_reference_is_to_a_key_and_never_to_the_environment(monkeypatch):
    monkeypatch.setenv("SECRET", "7")
    assert recipes.load({"seed": "${data.split.seed}"}, ["data.split.seed=3"]).seed == 3
    for text in ("${oc.env:SECRET}", "${${data.root}:SECRET}", "${oc.${data.root}:SECRET}", "${"):
        with pytest.raises(ValueError, match=r"expected \$\{key\}"):
            recipes.load({"seed": text, "data": {"root": "oc.env"}})
        with pytest.raises(ValueError, match="seed"):
            recipes.load({}, [f"seed={text}"])


def test_references_that_multiply_are_refused():
    words = {f"a{n}": "${train.a" + str(n - 1) + "}" + "${train.a0}" * 8 for n in range(1, 10)}
    with pytest.raises(ValueError, match="references"):
        recipes.load({"train": {"a0": "x" * 1000, **words}})


def test_a_recipe_of_ones_own_is_named_in_what_is_wrong_with_it(tmp_path):
    path = tmp_path / "mine.yaml"
    for text in ("model: " + "a" * 1_000_000, "seed: 1\nseed: 2", "seed: 9:9", "[1, 2]", "\x00", "augment: {flip: 2}"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"mine\.yaml") as refused:
            recipes.load(path)
        assert len(str(refused.value)) < 1000
    path.write_bytes("seed: 5\noutput_dir: 2026-01-01\n".encode("utf-16"))
    assert recipes.load(path).seed == 5 and recipes.load(path).output_dir == "2026-01-01"


def test_yaml_that_multiplies_or_never_ends_is_refused():
    lists = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    lists += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    for text, said in (
        (lists, "100,000 values"),
        (lists.replace("[", "{<<: [").replace("]", "]}"), "100,000 values"),
        ("a: &a {b: *a}", "repeats"),
        ("[" * 10_000, "nested"),
        ("a: 1\na: 2", "'a' twice"),
        ("!!int ''", "YAML"),
    ):
        with pytest.raises(ValueError, match=said):
            files.parse_yaml(text)
    assert files.parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 1e-4}\nc: [*a, 1:30]") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": 1e-4},
        "c": [{"x": 1}, "1:30"],
    }


def test_renders_that_no_machine_bears_are_refused_before_the_folder_is_made(tmp_path):
    hostile: list[tuple[dict[str, Any], str]] = [
        ({"count": HUGE}, "count="),
        ({"count": 10**12}, "count="),
        ({"height": 10**6, "width": 10**6}, "size=1000000,1000000"),
        ({"height": 1, "width": 10**7}, "size=1,10000000"),
        ({"height": -4}, "size=-4,"),
        ({"workers": 10**6}, "workers="),
    ]
    for settings, said in hostile:
        with pytest.raises(ValueError, match=said):
            scenes.synth("bench", tmp_path / "out", **{"count": 1, **settings})
    assert not (tmp_path / "out").exists()


def test_renders_of_an_unknown_family_are_refused_unless_the_set_says_that_it_is_its_own(tmp_path):
    scenes.synth("bench", tmp_path / "set", 3, height=24, width=32, workers=1)
    changes = [f"data.root={tmp_path / 'set'}", "data.render={castle: 3}"]
    with pytest.raises(ValueError, match="no family 'castle'"):
        check_settings(recipes.load("lora-few", changes))
    card = tmp_path / "set" / "render.json"
    card.write_text(card.read_text().replace('"bench"', '"castle"'))
    assert check_settings(recipes.load("lora-few", changes)).max_steps == 500


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": HUGE}, f"batch_size={HUGE}: expected at most 65,536."),
        ({"batch_size": 10**400}, "expected at most 65,536."),
        ({"workers": 10**6}, "workers=1000000: expected at most 1,024."),
        ({"shard": "0/" + "9" * 5000}, "expected i/n"),
    ],
)
def test_an_option_has_a_largest_value(settings, said):
    with pytest.raises(ValueError, match=said):
        LabelOptions().change(**settings)
    with pytest.raises(ValueError, match="hours=inf"):
        PlanOptions(hours=float("inf"))


@pytest.mark.parametrize(
    "text", ["[", "a: 1\na: 2", "null", "5", "{name: mine}", "name: !!python/name:os.system", "\x00"]
)
def test_a_damaged_protocol_or_table_of_rows_is_named(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    for read in (lambda: protocols.load(str(path)), lambda: reproduction.read_rows(path)):
        with pytest.raises(ValueError, match=r"mine\.yaml cannot be read") as refused:
            read()
        assert "\n" not in str(refused.value)


def test_a_row_is_named_as_a_folder_may_be(tmp_path):
    row = reproduction.read_rows()["dav2-small-nyu"].model_dump_json()
    (tmp_path / "mine.yaml").write_text(f'{{"../../x": {row}}}')
    with pytest.raises(ValueError, match=r"mine\.yaml .*\.\./\.\./x"):
        reproduction.read_rows(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    "row", ["a.png,1,1", "a.png,1,1,1,1", "\x1b]0;x\x07.png,1,1,1", "a.png,1e300,1,1", '"a.png,1,1,1']
)
def test_a_row_that_is_no_point_is_told_by_its_line_in_short(tmp_path, row):
    path = tmp_path / "points.csv"
    path.write_text(f"image,x,y,depth\n\n{row}\n")
    with pytest.raises(ValueError, match=r"points\.csv") as refused:
        calibration.read_points(path)
    assert "\x1b" not in str(refused.value) and len(str(refused.value)) < 500
    assert row.startswith('"') or "line 3" in str(refused.value)


def test_a_table_names_each_column_once_and_fills_each_row(tmp_path):
    path = tmp_path / "table.csv"
    for text, said in (("", "no columns"), ("a,a\n", "twice"), ("a,b\n\n1\n", "row 3 has 1 cells for 2")):
        path.write_text(text)
        with pytest.raises(ValueError, match=said):
            files.read_rows(path, "mend it")
    path.write_text("a,b\n\n1,2\n")
    assert files.read_rows(path, "mend it") == [{"a": "1", "b": "2"}]
    path.write_text("a\n" + "x" * 200_000 + "\n")
    assert len(files.read_table(path, "mend it")[1][0]) == 200_000


def test_the_bounds_fit_every_packaged_recipe_and_protocol():
    assert all(recipes.load(name) for name in recipes.list_names())
    assert all(protocols.load(name) for name in protocols.list_names())
