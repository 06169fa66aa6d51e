"""A canonical focal: the network answers for one camera, and every image's own gives its metres."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_captures import INTRINSICS, write_bench
from small_networks import saved, small_glpn
from transformers import AutoModelForDepthEstimation, pipeline

from sonde import evaluation, exporting, features, labelling, models, prediction, recipes, training
from sonde.datasets import Capture
from sonde.encoding import ENCODINGS
from sonde.evaluation.predictions import of_network
from sonde.models import Calibration, DepthModel, ModelSpec
from sonde.tensors import Batch
from sonde.trainer import Objective
from sonde.types import MatrixArray, Prediction

ENCODING = ENCODINGS["inverse"](0.5, 20.0).to_dict()


def camera(focal: float, width: int = 96, height: int = 64) -> MatrixArray:
    return np.array([[focal, 0, width / 2], [0, 1.1 * focal, height / 2], [0, 0, 1]])


def constant(value: float, spec: ModelSpec) -> DepthModel:
    """A network that answers one number, whatever it sees."""
    torch.manual_seed(0)
    network = AutoModelForDepthEstimation.from_config(small_glpn())
    torch.nn.init.zeros_(network.head.head[2].weight)
    torch.nn.init.constant_(network.head.head[2].bias, float(np.log(value / (1 - value))))
    return DepthModel(network, spec, "constant").eval()


def batch(focal: float, depth: float = 4.0, height: int = 64, width: int = 96) -> Batch:
    plane = torch.full((1, height, width), depth)
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    intrinsics = torch.from_numpy(camera(focal)).float()[None]
    return {"image": image, "depth": plane, "mask": plane > 0, "intrinsics": intrinsics}


METRES = ModelSpec("metric", None, 32, *models.PLAIN, canonical_focal=100.0)


@pytest.mark.parametrize("spec", [METRES, replace(METRES, encoding=ENCODING), replace(METRES, scale=10.5)])
def test_depth_is_proportional_to_the_focal_length(spec):
    model, image = constant(0.5, spec), np.zeros((70, 90, 3), np.uint8)
    at_canonical = model.predict(image, camera(100.0)).depth
    plain = constant(0.5, replace(spec, canonical_focal=None)).predict(image).depth
    np.testing.assert_allclose(at_canonical, plain, rtol=1e-6)
    for focal in (50.0, 200.0, 731.5):
        np.testing.assert_allclose(model.predict(image, camera(focal)).depth, plain * focal / 100, rtol=1e-6)


def test_the_focal_length_is_that_of_what_the_network_sees():
    """A camera of twice the pixels has twice the focal length: the same view, the same depth."""
    model = constant(0.5, replace(METRES, short_side=64))
    small = model.predict(np.zeros((64, 96, 3), np.uint8), camera(100.0)).depth
    large = model.predict(np.zeros((128, 192, 3), np.uint8), camera(200.0)).depth
    np.testing.assert_allclose(small, 0.5, rtol=1e-6)
    np.testing.assert_allclose(large, 0.5, rtol=1e-6)


def test_images_of_a_batch_have_cameras_of_their_own():
    model, rgb = constant(0.5, METRES), torch.zeros(2, 3, 64, 96)
    cameras = torch.from_numpy(np.stack([camera(50.0), camera(200.0)]))
    together = model(rgb, cameras)
    assert together.depth.dtype == torch.float32 and torch.equal(together.intrinsics, cameras)
    alone = [model(rgb[:1], one).depth[0] for one in cameras]
    torch.testing.assert_close(together.depth, torch.stack(alone), rtol=0, atol=0)


@pytest.mark.parametrize("spec", [METRES, replace(METRES, encoding=ENCODING)])
def test_twice_the_focal_length_and_twice_the_depth_are_one_target(spec):
    model = constant(0.5, spec)
    objective = Objective(model, {"masked_l1": 1.0})
    (near_pred, near), (far_pred, far) = (
        objective(model.network, batch(*pair)) for pair in ((80.0, 2.0), (160.0, 4.0))
    )
    assert torch.equal(near_pred, far_pred)
    torch.testing.assert_close(near["masked_l1"], far["masked_l1"])
    wanted = 2.0 * 100 / 80 if spec.encoding is None else model.encoding.encode(torch.tensor(2.0 * 100 / 80))  # pyright: ignore
    assert near["masked_l1"].item() == pytest.approx(abs(float(wanted) - 0.5), rel=1e-5)


def test_a_depth_map_of_another_size_than_the_image_has_a_focal_length_of_its_own():
    """Half the columns: the matrix, which is of the depth's pixels, is of twice the lens on the image."""
    model = constant(0.5, METRES)
    objective = Objective(model, {"masked_l1": 1.0})
    _, whole = objective(model.network, batch(160.0, 4.0))
    _, halved = objective(model.network, batch(80.0, 4.0, 32, 48))
    torch.testing.assert_close(whole["masked_l1"], halved["masked_l1"])


def test_each_part_of_a_mixed_image_keeps_its_own_camera():
    model = constant(0.5, METRES)
    model.network.train()
    one, two = batch(80.0, 2.0), batch(160.0, 4.0)  # the same target, so mixing costs nothing
    mixed: Batch = {key: torch.cat([one[key], two[key]]) for key in one}  # pyright: ignore
    mixed["cut"] = torch.tensor([[0.0, 0.0, 1.0, 0.5], [0.25, 0.25, 0.75, 1.0]])
    _, terms = Objective(model, {"masked_l1": 1.0})(model.network, mixed)
    torch.testing.assert_close(terms["masked_l1"], torch.full((2,), 2.0), rtol=1e-5, atol=0)


def test_without_intrinsics_there_is_one_clear_sentence(tmp_path):
    model, image = constant(0.5, METRES), np.zeros((64, 96, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png")
    unknown = {**batch(80.0), "intrinsics": torch.full((1, 3, 3), torch.nan)}
    for ask in (
        lambda: model.predict(image),
        lambda: prediction.predict(tmp_path / "photo.png", model, tmp_path / "out"),
        lambda: Objective(model, {"masked_l1": 1.0})(model.network, unknown),  # pyright: ignore
        lambda: labelling.label(model, tmp_path / "photo.png", tmp_path / "labels"),
    ):
        with pytest.raises(ValueError, match=r"model\.canonical_focal") as caught:
            ask()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() and not (tmp_path / "labels").exists()
    assert len(features.features(tmp_path / "photo.png", model, tmp_path / "features")) == 5  # its colours need none


def test_the_focal_survives_the_disk_and_predict_writes_the_cameras_metres(tmp_path):
    models.save(constant(0.5, METRES), tmp_path / "model")
    model = models.load(tmp_path / "model")
    assert model.spec.canonical_focal == 100.0
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(tmp_path / "photo.png")
    prediction.predict(
        tmp_path / "photo.png", model, tmp_path / "out", save=["npy"], intrinsics=(300.0, 300.0, 48.0, 32.0)
    )
    np.testing.assert_allclose(np.load(tmp_path / "out" / "photo.npy"), 1.5, rtol=1e-6)


@pytest.mark.parametrize("spec", [METRES, replace(METRES, encoding=ENCODING, unit="mm"), replace(METRES, scale=10.5)])
def test_the_cards_lines_give_metres_of_the_camera(spec, tmp_path):
    model, image = constant(0.4, spec), np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    torch.nn.init.normal_(model.network.head.head[2].weight)  # transformers' own picture divides by the map's range
    depth = model.predict(image, camera(250.0)).depth
    model.calibration = Calibration("scale-shift", "metric", 1.5, 0.2)
    folder = exporting.export(model, out=tmp_path / "out")
    code = (folder / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    names = {"pipe": pipeline("depth-estimation", model=str(folder)), "image": Image.fromarray(image), "focal": 250.0}
    exec("\n".join(code.splitlines()[2:]), names)
    metres = names["depth_m"] if "depth_m" in names else names["depth_mm"] / 1000  # pyright: ignore
    np.testing.assert_allclose(metres.numpy(), depth, rtol=1e-4)  # pyright: ignore
    calibrated = models.load(folder).predict(image, camera(250.0)).depth
    np.testing.assert_allclose(calibrated, 1.5 * depth + 0.2, rtol=1e-5)
    np.testing.assert_allclose(names["calibrated_m"].numpy(), calibrated, rtol=1e-4)  # pyright: ignore


def settings(tmp_path: Path, *more: str, **data) -> recipes.Recipe:
    root = tmp_path / "set"
    if not root.exists():
        write_bench(root, 6)
    words = [
        f"model.name={saved('glpn', tmp_path / 'base')}", "model.input_size=[32,64]", "model.canonical_focal=30",
        f"data.root={root}", "data.cache=null", "train.max_steps=2", "train.eval_steps=1", "train.save_steps=1",
        "train.eval_strategy=steps", "train.save_strategy=steps", f"output_dir={tmp_path / 'run'}", *more,
    ]  # fmt: skip
    return recipes.load({"data": data} if data else {}, words)


@pytest.mark.parametrize(
    "encoding,loss",
    [
        ("inverse", "masked_l1"),
        pytest.param("log", "masked_l1", marks=pytest.mark.slow),
        pytest.param("null", "silog", marks=pytest.mark.slow),
    ],
)
def test_a_run_is_scored_in_real_metres(encoding, loss, tmp_path):
    recipe = settings(tmp_path, f"model.encoding={encoding}", f"loss={{{loss}: 1.0}}", "data.range=all")
    run = training.train(recipe)
    model = models.load(run)
    assert model.spec.canonical_focal == 30.0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    chosen = json.loads((run / "split.json").read_text())["validation"]
    found = evaluation.evaluate(model, "zivid-mm", tmp_path / "set", format="zivid", ids=chosen).metrics["mae_mm"]
    best = min((line for line in lines if "eval_loss" in line), key=lambda line: line["eval_loss"])
    assert best["eval_mae_mm"] == pytest.approx(found, rel=0.02)  # one resized before decoding, one after
    if encoding != "null":  # the range is of depth as the canonical camera sees it
        plain = training.prepare(settings(tmp_path, "model.canonical_focal=null", "data.range=all")).model.spec.encoding
        assert plain is not None and model.spec.encoding is not None
        for end in ("min_depth", "max_depth"):
            assert model.spec.encoding[end] == pytest.approx(plain[end] * 30 / (INTRINSICS[0, 0] * 64 / 32), rel=2e-3)


def test_the_fitted_start_is_of_the_canonical_depth(tmp_path):
    """A camera like the canonical one or not, encoded depth is the same: its range is scaled as it is."""
    fitted = ["lora={r: 2}", "model.train_head=true", "model.affine_start=true"]
    start, plain = (
        training.prepare(settings(tmp_path, *fitted, f"model.canonical_focal={focal}")).model for focal in (20, "null")
    )
    state = plain.network.state_dict()
    for name, value in start.network.state_dict().items():
        if "lora" not in name:
            torch.testing.assert_close(value, state[name], rtol=1e-3, atol=1e-5)


def test_a_capture_is_scored_with_the_camera_of_its_image():
    capture = Capture(
        "a", np.zeros((64, 96, 3), np.uint8), np.ones((32, 48), np.float32), np.ones((32, 48), bool), camera(50)
    )
    seen: list[Prediction] = []
    model = constant(0.5, METRES)

    class Watched(DepthModel):
        def predict(self, image, intrinsics=None):
            seen.append(super().predict(image, intrinsics))
            return seen[-1]

    predictor = of_network(Watched(model.network, METRES, "watched"))
    depth = predictor(capture).depth
    assert seen[0].intrinsics[0, 0] == pytest.approx(100.0)  # twice the pixels of the depth's camera
    np.testing.assert_allclose(depth, 0.5, rtol=1e-6)


def test_captures_without_intrinsics_and_relative_models_are_refused(tmp_path):
    root = tmp_path / "plain"
    (root / "images").mkdir(parents=True)
    (root / "depth").mkdir()
    for index in range(5):
        Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(root / "images" / f"c{index}.png")
        np.save(root / "depth" / f"c{index}.npy", np.full((24, 32), 800.0, np.float32))
    with pytest.raises(
        ValueError, match=r"model.canonical_focal needs the intrinsics of every capture, and .* has none for c\d"
    ):
        training.prepare(settings(tmp_path, f"data.root={root}"))
    with pytest.raises(ValueError, match="canonical_focal=30 is for metric depth"):
        training.prepare(settings(tmp_path, "model.name=sonde-tiny", "model.encoding=null", "loss={ssi: 1.0}"))
