"""A window at the capture's own size resamples nothing; validation sees, trusts and writes whole captures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_captures import INTRINSICS, NORMAL, OFFSET, picture, write_bench
from small_networks import saved
from small_recipes import FEW
from transformers import DPTConfig, DPTForDepthEstimation

from sonde import files, models, recipes, runs, training
from sonde.augment import draw_strip
from sonde.datasets import DecodedSet, DepthDataset, collate, open_set
from sonde.datasets.zivid import open_zivid
from sonde.geometry import unproject
from sonde.recipes import AugmentRecipe

SIZE = (16, 20)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bench(tmp_path_factory.mktemp("captures") / "set", 8, 64, 96)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("glpn", tmp_path_factory.mktemp("base"))


@pytest.fixture
def settings(base: Path, root: Path, tmp_path: Path):
    """Overrides for a run of seconds on windows."""

    def make(*more: str) -> list[str]:
        return [
            f"model.name={base}",
            f"data.root={root}",
            f"data.cache={tmp_path / 'cache'}",
            "data.fit=window",
            "model.input_size=[32,64]",
            "train.max_steps=4",
            "train.eval_steps=2",
            "train.save_steps=2",
            "ema=0.5",
            "train.per_device_train_batch_size=2",
            "train.use_cpu=true",
            f"output_dir={tmp_path / 'run'}",
            *more,
        ]

    return make


def windows(root: Path, size: tuple[int, int] = SIZE, cache: Path | None = None) -> DepthDataset:
    return DepthDataset(DecodedSet(open_set("zivid", root), None, cache), range(8), AugmentRecipe(), 1, size)


@pytest.mark.parametrize("cached", [False, True])
def test_a_window_is_a_part_of_the_capture_with_its_own_camera(root: Path, tmp_path: Path, cached: bool) -> None:
    samples, whole, places = windows(root, cache=tmp_path if cached else None), open_set("zivid", root), set()
    for index in range(8):
        capture, item = whole.read(index), samples[index]
        matrix = item["intrinsics"].double().numpy()
        left, top = np.rint(INTRINSICS[:2, 2] - matrix[:2, 2]).astype(int)
        rows, columns = slice(top, top + 16), slice(left, left + 20)
        np.testing.assert_array_equal(item["depth"], capture.depth[rows, columns])
        np.testing.assert_array_equal((item["image"] * 255).permute(1, 2, 0), capture.image[rows, columns])
        np.testing.assert_allclose(matrix[[0, 1], [0, 1]], INTRINSICS[[0, 1], [0, 1]], rtol=1e-4)
        points = unproject(item["depth"].double().numpy(), matrix)[item["mask"].numpy()]
        everywhere = unproject(capture.depth.astype(np.float64), INTRINSICS)[rows, columns][item["mask"].numpy()]
        np.testing.assert_allclose(points, everywhere, atol=1e-4)
        np.testing.assert_allclose(points @ NORMAL, OFFSET + index / 1000, atol=0.01)
        places.add((top, left))
    assert len(places) > 6


def test_of_a_kept_capture_nothing_is_converted_before_it_is_cut(root: Path, tmp_path: Path) -> None:
    samples = windows(root, cache=tmp_path)
    samples[0]
    image, depth, _ = samples.captures.view(0)
    assert isinstance(image, np.memmap) and isinstance(depth, np.memmap)
    image[:], depth[:] = 0, np.nan  # a map of this view alone: neither reaches the record
    assert samples[0]["depth"].isfinite().all() and samples[0]["image"].any()


def test_an_image_of_twice_the_depths_size_is_cut_on_whole_depth_pixels(tmp_path: Path) -> None:
    write_bench(tmp_path, 8)
    fine = picture(3, 48, 64)
    files.write_rgb(tmp_path / "images" / "c00.png", fine)
    item, capture = windows(tmp_path)[0], open_set("zivid", tmp_path).read(0)
    assert item["image"].shape == (3, 16, 20) and item["depth"].shape == (8, 10)
    left, top = np.rint(INTRINSICS[:2, 2] - item["intrinsics"][:2, 2].double().numpy()).astype(int)
    np.testing.assert_array_equal(item["depth"], capture.depth[top : top + 8, left : left + 10])
    cut = fine[2 * top : 2 * top + 16, 2 * left : 2 * left + 20]
    np.testing.assert_array_equal((item["image"] * 255).permute(1, 2, 0), cut)


@pytest.mark.parametrize(
    "image,size,words",
    [
        ((48, 80), (64, 64), r"c00 is 80x48, and data.fit=window cuts 64x64 .*set data.fit=crop"),
        ((50, 80), SIZE, r"c00 is 80x50, its depth 80x48, .*same whole multiple.*set data.fit=crop"),
        ((24, 40), SIZE, r"c00 is 40x24, its depth 80x48, .*same whole multiple"),
        ((96, 160), (15, 20), r"c00 is 160x96, its depth 80x48, .*20x15.*same whole multiple"),
    ],
)
def test_a_capture_that_no_window_fits_is_one_sentence(root: Path, monkeypatch, image, size, words: str) -> None:
    seen = picture(0, *image), np.ones((48, 80), np.float32), None
    monkeypatch.setattr(DecodedSet, "view", lambda self, index: seen)  # some labels are smaller than their images
    with pytest.raises(ValueError, match=words):
        windows(root, size)[0]


def test_training_sees_windows_and_the_rest_whole_captures_at_their_own_size(settings) -> None:
    plan = training.prepare(recipes.load(FEW, settings()))
    spec = plan.model.spec
    assert spec.input_size is None and spec.short_side is None
    assert plan.samples("train", augment=True)[0]["image"].shape == (3, 32, 64)
    for part in ("train", "validation", "test"):
        assert plan.samples(part)[0]["image"].shape == (3, 64, 96)
    with pytest.raises(ValueError, match=r"data.fit=window needs model.input_size"):
        training.prepare(recipes.load(FEW, settings("model.input_size=null")))


@pytest.mark.parametrize("fit", ["window", "crop"])
def test_a_network_of_one_size_is_told_to_stretch(settings, tmp_path: Path, fit: str) -> None:
    shape = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    shape |= {"image_size": 64, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8] * 4, "is_hybrid": False}
    DPTForDepthEstimation(DPTConfig.from_dict({**shape, "fusion_hidden_size": 8})).save_pretrained(tmp_path / "dpt")
    with pytest.raises(ValueError, match=f"data.fit={fit} .*one size only: set data.fit=stretch"):
        training.prepare(recipes.load(FEW, settings(f"model.name={tmp_path / 'dpt'}", f"data.fit={fit}")))


def test_a_run_shows_depth_as_a_share_of_the_sets_limit(settings) -> None:
    words = settings("augment.cut_depth=1", "augment.crop=1", "data.max_depth=2000")
    samples = training.prepare(recipes.load(FEW, words)).samples("train", augment=True)
    for position, index in enumerate(samples.indices):
        item, columns = samples[position], draw_strip(samples.augment, (42, 0, index), 64)
        depth, image = item["depth"][:, columns], item["image"][..., columns]
        assert all(torch.equal(colour[depth > 0], depth[depth > 0] / 2) for colour in image)


def test_depth_that_is_not_metric_or_has_no_end_is_not_shown(settings, root: Path, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(ValueError, match=r"augment.cut_depth .*set data.max_depth"):
        DepthDataset(open_set("zivid", root, max_depth=np.inf), [0], AugmentRecipe(cut_depth=0.5))
    base = saved("depth_anything", tmp_path / "relative")
    words = settings(f"model.name={base}", "model.encoding=null", "augment.cut_depth=1", "model.affine_start=false")
    monkeypatch.setattr(runs, "open_captures", lambda recipe: replace(open_zivid(root), space="scale"))
    with pytest.raises(ValueError, match=r"augment.cut_depth needs metric depth, .*holds depth without a unit"):
        training.prepare(recipes.load(FEW, words))


def test_whole_captures_of_unlike_sizes_are_validated_one_at_a_time(settings, tmp_path: Path) -> None:
    mixed = write_bench(tmp_path / "mixed", 8, 64, 96)
    for index in (1, 3, 5, 7):
        (mixed / "images" / f"c{index:02}.png").unlink()
    write_bench(tmp_path / "others", 8, 96, 128)
    for kind in ("images", "depth"):
        for index in (1, 3, 5, 7):
            source = next((tmp_path / "others" / kind).glob(f"c{index:02}.*"))
            source.replace(mixed / kind / source.name)
    more = settings(f"data.root={mixed}", "data.split.validation=5", "data.split.test=1", "lora=null")
    more += ["model.affine_start=false"]
    with pytest.raises(ValueError, match=r"96x64 and 128x96: .*data.fit=window.*train.per_device_eval_batch_size=1"):
        training.train(FEW, [*more, "train.per_device_eval_batch_size=5"])
    run = training.train(FEW, [*more, "train.per_device_eval_batch_size=1", f"output_dir={tmp_path / 'again'}"])
    assert (run / "metrics.json").is_file()


def depth_of(capture_id: str, root: Path) -> np.ndarray:
    captures = open_set("zivid", root)
    return captures.read(captures.ids.index(capture_id)).depth


def test_a_cap_of_validation_distrusts_farther_depths_there_alone(settings, root: Path) -> None:
    cap = float(np.median(depth_of("c00", root)[12:])) * 1000
    plan = training.prepare(recipes.load(FEW, settings(f"data.max_depth_eval={cap}")))
    for part in ("validation", "test"):
        item = plan.samples(part)[0]
        full = depth_of(plan.parts[part][0], root)
        np.testing.assert_array_equal(item["mask"], (full > 0) & (full < np.float32(cap / 1000)))
        np.testing.assert_array_equal(item["depth"] > 0, item["mask"])
        assert 0.2 < item["mask"].float().mean() < 0.6
    trained = plan.samples("train", augment=True)
    assert max(float(trained[index]["depth"].max()) for index in range(4)) > cap / 1000
    for words in ("data.max_depth=900", "data.max_depth_eval=20000"):
        with pytest.raises(ValueError, match=r"data.max_depth_eval=.* (raise|larger) data.max_depth"):
            training.prepare(recipes.load(FEW, settings("data.max_depth_eval=950", words)))


@pytest.mark.parametrize("epochs", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_results_of_a_validation_are_its_models_predictions(settings, root: Path, tmp_path: Path, epochs) -> None:
    by_epoch = [
        "train.max_steps=-1",
        "train.num_train_epochs=2",
        "train.eval_strategy=epoch",
        "train.save_strategy=epoch",
    ]
    words = settings(
        "save_result=true", "data.split.validation=2", "data.max_depth_eval=900", *(by_epoch if epochs else [])
    )
    run = training.train(FEW, words)
    logs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    judged = [log for log in logs if "eval_loss" in log]
    names = ["epoch-001", "epoch-002"] if epochs else ["step-000002", "step-000004"]
    assert sorted(path.name for path in (run / "results").iterdir()) == names
    ids = json.loads((run / "split.json").read_text())["validation"]
    for name, log in zip(names, judged, strict=True):
        folder, errors = run / "results" / name, []
        written = {f"{id_}{suffix}" for id_ in ids for suffix in (".depth.png", ".preview.png")}
        assert {path.name for path in folder.iterdir()} == written
        for id_ in ids:
            found, depth = files.read_depth(folder / f"{id_}.depth.png"), depth_of(id_, root)
            trusted = (depth > 0) & (depth < np.float32(0.9))
            errors.append(np.abs(found - depth)[trusted].mean() * 1000)
        assert np.mean(errors) == pytest.approx(log["eval_mae_mm"], abs=0.06)  # steps of 0.1 mm
    best = names[int(np.argmin([log["eval_loss"] for log in judged]))]
    model = models.load(run)
    for id_ in ids:
        answer = model.predict(root / "images" / f"{id_}.png").depth
        found = files.read_depth(run / "results" / best / f"{id_}.depth.png")
        np.testing.assert_allclose(found, answer, rtol=0, atol=0.51e-4)
        picture_ = files.read_rgb(run / "results" / best / f"{id_}.preview.png")
        assert picture_.shape[1] == 96 and picture_.shape[0] > 64


def test_nothing_is_written_unless_asked_and_samples_know_their_place(settings, tmp_path: Path) -> None:
    run = training.train(FEW, settings("train.max_steps=2"))
    assert not (run / "results").exists()
    plan = training.prepare(recipes.load(FEW, settings(f"output_dir={tmp_path / 'other'}")))
    samples = plan.samples("validation")
    origin = collate([samples[0]]).get("origin")
    assert origin is not None
    assert [plan.captures.ids[position] for _, position in origin.tolist()] == plan.parts["validation"][:1]
