"""A fixed camera: the network learns what differs from the bench, and no capture is scored by a model that saw it."""

import json
from pathlib import Path

import numpy as np
import pytest
import small_bench
import torch
from small_networks import saved
from typer.testing import CliRunner

from sonde import evaluation, features, models, prediction, recipes, training
from sonde.background import register
from sonde.cli import app
from sonde.datasets import open_set
from sonde.training.arguments import scores_nothing
from sonde.training.fixed import explain_no_bench, read_bench, register_captures
from sonde.training.heads import CapturePixels


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return small_bench.write(tmp_path_factory.mktemp("bench") / "set", 6)


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    return small_bench.write(tmp_path_factory.mktemp("other") / "set", 3, first=100)


def words(base: str | Path, root: Path, run: Path, *more: str) -> list[str]:
    """Overrides of fixed-camera for a run of seconds on a small network."""
    return [
        f"model.name={base}",
        "model.size=null",
        "model.init=pretrained",
        "model.encoder=null",
        "model.input_pixels=null",
        "model.input_size=[96,128]",
        "choose.steps=80",
        f"data.root={root}",
        "data.cache=null",
        f"output_dir={run}",
        *more,
    ]


@pytest.fixture(scope="module")
def run(base, root, tmp_path_factory) -> Path:
    return training.train("fixed-camera", words(base, root, tmp_path_factory.mktemp("runs") / "run"))


def errors(model: models.DepthModel, root: Path) -> list[float]:
    captures = open_set("zivid", root)
    read = [captures.read(index) for index in range(len(captures))]
    return [float(np.abs(model.predict(each.image).depth - each.depth)[each.mask].mean()) for each in read]


def test_the_model_beats_the_empty_bench_on_captures_of_elsewhere(run, other):
    model = models.load_network(run)
    assert model.background is not None
    captures = open_set("zivid", other)
    bench = [np.abs(model.background.depth - each.depth)[each.mask].mean() for each in map(captures.read, range(3))]
    assert np.mean(errors(model, other)) < 0.6 * np.mean(bench)


def test_the_bench_is_found_to_a_tenth_of_a_millimetre(run):
    background = models.load(run).background
    assert background is not None and background.kind == "farthest"
    assert np.abs(background.depth - small_bench.bench_depth()).max() < 1e-4 + 0.003


def test_every_capture_teaches_and_none_is_scored_by_a_model_that_saw_it(run, root):
    parts = json.loads((run / "split.json").read_text())
    ids = open_set("zivid", root).ids
    assert parts == {"train": ids, "validation": [], "test": []}
    choice = json.loads((run / "choice.json").read_text())
    assert sorted(id_ for fold in choice["folds"] for id_ in fold) == ids and all(len(f) == 1 for f in choice["folds"])
    kept = sorted(path.stem for path in (run / "left-out").glob("*.npy"))
    assert kept == ids
    assert {each["background"] for each in choice["candidates"]} == {"none", "farthest", "median"}
    assert choice["chosen"]["background"] == "farthest"


def test_the_estimate_is_what_a_head_makes_without_the_capture(base, root, run, tmp_path):
    """Training on all but one by hand gives the answer that was kept for that one."""
    held = json.loads((run / "choice.json").read_text())["folds"][0][0]
    (tmp_path / "set").mkdir()
    for kind in ("images", "depth"):
        (tmp_path / "set" / kind).mkdir()
        for path in (root / kind).iterdir():
            if path.stem != held:
                (tmp_path / "set" / kind / path.name).symlink_to(path)
    plan = training.prepare(recipes.load("fixed-camera", words(base, tmp_path / "set", tmp_path / "run")), fitting=True)
    captures = open_set("zivid", root)
    capture = captures.read(captures.ids.index(held))
    mine, kept = plan.model.eval().predict(capture.image).depth, np.load(run / "left-out" / f"{held}.npy")
    bench = small_bench.bench_depth()
    assert np.abs(mine - kept).mean() < 0.35 * np.abs(bench - capture.depth).mean()  # other pixels drawn, so not equal
    assert not np.array_equal(mine, kept)


def test_the_first_answer_is_the_bench_itself(base, root, tmp_path):
    for head in ("pixels", "decoder"):
        recipe = recipes.load(
            "fixed-camera", words(base, root, tmp_path / head, f"model.head={head}", "choose=null", "train.max_steps=1")
        )
        model = training.prepare(recipe).model.eval()
        assert model.background is not None
        image, _ = small_bench.capture(3)
        np.testing.assert_allclose(model.predict(image).depth, model.background.depth, atol=2e-6)


def test_a_run_is_loaded_whole_at_any_size_of_its_camera(run):
    model = models.load(run)
    image, _ = small_bench.capture(50)
    one = model.predict(image).depth
    twice = model.predict(np.repeat(np.repeat(image, 2, 0), 2, 1)).depth
    assert twice.shape == (96, 128) and np.abs(twice[::2, ::2] - one).mean() < 2e-3
    with pytest.raises(ValueError, match=r"64x64.*fixed camera"):
        model.predict(np.zeros((64, 64, 3), np.uint8))


def test_a_lost_bench_is_an_error_not_another_number(run, tmp_path):
    copied = tmp_path / "best"
    copied.mkdir()
    for path in (run / "best").iterdir():
        if path.name != "background.npy":
            (copied / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=r"background\.npy is missing"):
        models.load(copied)


@pytest.mark.slow
def test_a_camera_that_moves_comes_out_as_without_a_bench(base, tmp_path, caplog):
    root = small_bench.write(tmp_path / "set", 5, moving=True)
    with caplog.at_level("WARNING", logger="sonde"):
        found = training.train("fixed-camera", words(base, root, tmp_path / "auto"))
    without = training.train("fixed-camera", words(base, root, tmp_path / "none", "model.background=none"))
    one, other = (models.load_network(folder) for folder in (found, without))
    assert one.background is None and other.background is None
    for name, value in other.network.state_dict().items():
        assert torch.equal(value, one.network.state_dict()[name])
    sentence = json.loads((found / "choice.json").read_text())["sentence"]
    assert "the camera has moved" in sentence and "mm" in sentence


def test_a_capture_of_the_empty_bench_may_be_given(base, root, tmp_path):
    np.save(tmp_path / "empty.npy", small_bench.bench_depth() * 1000)
    made = training.train(
        "fixed-camera", words(base, root, tmp_path / "run", f"model.background={tmp_path / 'empty.npy'}")
    )
    background = models.load(made).background
    assert background is not None and background.kind == "empty.npy"
    np.testing.assert_allclose(background.depth, small_bench.bench_depth(), atol=1e-6)


@pytest.mark.parametrize(
    "value,message",
    [("nearest", "model.background=nearest"), ("absent.npy", "model.background=absent.npy")],
)
def test_a_bench_that_is_none_is_refused_by_name(base, root, tmp_path, value, message):
    with pytest.raises(ValueError, match=message):
        training.train("fixed-camera", words(base, root, tmp_path / "run", f"model.background={value}"))


def test_no_test_and_no_validation_mean_all_captures_and_no_choice(base, root, tmp_path):
    made = training.train(
        "lora-zivid",
        [
            f"model.name={base}",
            "model.input_size=[32,64]",
            f"data.root={root}",
            "data.cache=null",
            "data.split.test=0",
            "data.split.validation=0",
            "train.max_steps=2",
            f"output_dir={tmp_path / 'run'}",
        ],
    )
    assert len(json.loads((made / "split.json").read_text())["train"]) == 6
    assert models.load(made).space == "metric" and not (made / "metrics.json").exists()
    assert scores_nothing(recipes.load(made))
    with pytest.raises(ValueError, match="--data"):
        evaluation.evaluate(made)


def test_lora_goes_on_from_the_fitted_head_and_is_kept_with_its_bench(base, root, tmp_path):
    lora = "lora={r: 2, target_modules: [query, value]}"
    made = training.train(
        "fixed-camera", words(base, root, tmp_path / "run", lora, "train.max_steps=3", "choose.steps=40")
    )
    model = models.load_network(made)
    assert (made / "best" / "adapter_config.json").is_file() and model.background is not None
    assert model.spec.head == "pixels" and model.spec.base == str(made / "best" / "base")
    assert np.mean(errors(model, root)) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["lora={r: 2}", "train.max_steps=2"]])
def test_a_foundation_model_takes_the_same_way(root, other, tmp_path, more):
    base = saved("depth_anything", tmp_path / "base")
    size = ["model.input_size=[112,168]", "choose.steps=60"]
    made = training.train("fixed-camera", words(base, root, tmp_path / "run", *size, *more))
    model = models.load_network(made)
    assert model.background is not None and model.spec.head == "pixels"
    bench = [np.abs(small_bench.bench_depth() - small_bench.capture(100 + index)[1]).mean() for index in range(3)]
    assert np.mean(errors(model, other)) < np.mean(bench)
    assert len(features.features(root / "images" / "b00.png", model, tmp_path / "pictures")) == 5


def test_a_bench_under_the_networks_own_decoder_learns_too(base, root, tmp_path):
    made = training.train(
        "fixed-camera",
        words(
            base,
            root,
            tmp_path / "run",
            "model.head=decoder",
            "choose=null",
            "train.max_steps=4",
            "train.learning_rate=1e-3",
            "model.background=farthest",
            "train.save_strategy=steps",
            "train.save_steps=4",
        ),
    )
    model = models.load(made)
    assert model.background is not None and model.spec.head == "decoder"
    assert models.load(made / "checkpoints" / "checkpoint-4").background is not None


@pytest.mark.parametrize(
    "more", [pytest.param([], marks=pytest.mark.slow), ["model.background=farthest", "choose=null"]]
)
def test_lora_few_trains_on_all_and_is_loaded_with_its_bench(base, root, tmp_path, more):
    settings = ["model.input_size=[64,96]", "train.max_steps=3", "train.save_steps=3", "data.cache=null"]
    words = [f"model.name={base}", f"data.root={root}", f"output_dir={tmp_path / 'run'}", *settings, *more]
    made = training.train("lora-few", words)
    model = models.load(made)
    assert model.background is not None and len(json.loads((made / "split.json").read_text())["train"]) == 6
    with pytest.raises(ValueError, match=r"model\.train_head=true"):
        training.prepare(recipes.load("lora-few", [*words, "model.train_head=false", "model.affine_start=false"]))


def test_the_quick_form_is_what_the_recipe_says(monkeypatch):
    assert recipes.list_quick_overrides("fixed-camera")
    seen: list[list[str]] = []
    nothing = training.DryRun("none", 0, 0, None, None, None, "runs/none", data_ready=False)
    monkeypatch.setattr(training, "dry_run", lambda recipe, overrides, check: seen.append(overrides) or nothing)
    result = CliRunner().invoke(app, ["train", "fixed-camera", "--quick", "--dry-run", "seed=3"])
    assert result.exit_code == 0, result.output
    assert seen == [[*recipes.list_quick_overrides("fixed-camera"), "seed=3"]]
    with pytest.raises(ValueError, match="no quick overrides"):
        recipes.list_quick_overrides("lora-zivid")


def test_predict_says_that_the_camera_has_moved(run, tmp_path):
    from PIL import Image

    image, _ = small_bench.capture(60, boxes=2)
    (tmp_path / "in").mkdir()
    Image.fromarray(image).save(tmp_path / "in" / "still.png")
    Image.fromarray(np.roll(image, (0, 3), (0, 1))).save(tmp_path / "in" / "moved.png")
    outcome = prediction.predict(tmp_path / "in", models.load(run), tmp_path / "out")
    assert not outcome.failed and len(outcome.notes) == 1
    assert "1 of 2 images" in outcome.notes[0] and "moved.png" in outcome.notes[0] and "3 pixels" in outcome.notes[0]


def test_a_pixel_seen_has_the_value_of_its_place_mirrored_or_not():
    values = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    seen = CapturePixels(torch.zeros(2, 1), torch.tensor([0, 5]), (3, 4))
    assert seen.sample(values).tolist() == [0.0, 5.0]
    assert seen.sample(values.repeat(2, 0).repeat(2, 1)).tolist() == [0.0, 5.0]


def test_a_real_bin_is_one_bench_and_repeats(realdata):
    captures = open_set("zivid", realdata / "phoxi")
    bench = read_bench(captures, captures.ids)
    folds = [[id_] for id_ in captures.ids]
    assert bench is not None and explain_no_bench(bench, folds) is None
    for found in register_captures(bench, folds).values():
        assert found.shift_px == 0 and (found.offset or 1) < 1e-3 and (found.agrees or 0) > 0.5
    moved = bench.images[0].copy()
    moved[:] = np.roll(moved, (4, 15), (0, 1))
    known = bench.compute_background("farthest")
    assert register(known, moved).moved and not register(known, bench.images[0]).moved
    far = register(known, bench.images[0][::-1, ::-1])
    assert far.lost and "none of it is recognised" in far.describe("far.png")


@pytest.mark.slow
def test_five_real_captures_beat_every_answer_that_does_not_look(realdata, tmp_path):
    """Leaving one out: the farthest, mean and median map err by 15.8, 13.9 and 13.4 mm."""
    root = realdata / "phoxi"
    words = [f"data.root={root}", "data.cache=null", f"output_dir={tmp_path / 'run'}"]
    made = training.train("fixed-camera", [*recipes.list_quick_overrides("fixed-camera"), *words])
    scored = json.loads((made / "metrics.json").read_text())
    assert scored["images"] == 5 and scored["metrics"]["mae_mm"] < 10
    assert "headline" not in scored  # it is the place of the sentence that the model gains nothing
