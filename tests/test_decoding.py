"""The published notebook's millimetres of a model taught `inverse`, wherever depth is decoded: 3892.24 for 3907.45."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_captures import write_bench
from small_networks import saved
from small_recipes import FEW
from transformers import AutoModelForDepthEstimation

from sonde import evaluation, exporting, models, recipes, training
from sonde.encoding import ENCODINGS, list_decoders
from sonde.models import Calibration, DepthModel, ModelSpec, decode_as

NEAR, FAR = 0.25174, 3.90745
PIXELS = np.zeros((64, 96, 3), np.uint8)


def notebook_mm(value: float) -> float:
    """The notebook's own arithmetic, in millimetres: the inverse of the value, and 1 / (inverse + 1e-6)."""
    nearest, farthest = 1 / (1000 * NEAR), 1 / (1000 * FAR)
    return 1 / (value * (nearest - farthest) + farthest + 1e-6)


def answering(value: float, folder: Path, encoding: str = "inverse", slope: float = 0.0) -> Path:
    """A run folder whose network answers one value everywhere, or with a slope others around it."""
    network = AutoModelForDepthEstimation.from_pretrained(saved("glpn", folder / "base"))
    last = network.get_submodule("head.head.2")
    last.weight.data *= slope
    logit = torch.logit(torch.tensor(value, dtype=torch.float64))
    torch.nn.init.constant_(last.bias, float(logit.clamp(-200, 200)))  # 0 and 1 to the last bit, by finite weights
    spec = ENCODINGS[encoding](NEAR, FAR).to_dict()
    spec = ModelSpec("metric", None, 32, *models.PLAIN, input_size=(64, 96), encoding=spec, unit="mm")
    models.save(DepthModel(network, spec, "run"), folder / "run" / "best")
    return folder / "run"


def millimetres(model: DepthModel) -> float:
    depth = 1000 * model.predict(PIXELS).depth.astype(np.float64)
    assert np.ptp(depth) == 0
    return float(depth[0, 0])


@pytest.mark.parametrize("kept", ["inverse", "inverse_notebook"])
def test_the_farthest_depth_is_3892_24_by_the_notebooks_formula_and_3907_45_exactly(kept, tmp_path):
    model = models.load_network(answering(0.0, tmp_path, kept))
    assert model.spec.encoding is not None and model.spec.encoding["name"] == kept
    assert f"{millimetres(decode_as(model, 'inverse')):.2f}" == "3907.45"
    assert f"{millimetres(decode_as(model, 'inverse_notebook')):.2f}" == "3892.24"
    assert f"{millimetres(model):.2f}" == {"inverse": "3907.45", "inverse_notebook": "3892.24"}[kept]


@pytest.mark.parametrize("value", [0.1, 0.5, 0.999])
def test_every_value_is_decoded_as_the_notebook_decodes_it(value, tmp_path):
    model = models.load_network(answering(value, tmp_path))
    assert millimetres(decode_as(model, "inverse_notebook")) == pytest.approx(notebook_mm(value), rel=1e-6)


def test_a_model_stays_as_it_is_when_another_decodes_its_answer(tmp_path):
    model = models.load_network(answering(0.0, tmp_path))
    other = decode_as(model, "inverse_notebook")
    assert other.network is model.network and other.name == model.name and not other.training
    assert model.encoding == ENCODINGS["inverse"](NEAR, FAR)
    assert other.spec == replace(model.spec, encoding=ENCODINGS["inverse_notebook"](NEAR, FAR).to_dict())


def test_only_an_encoding_that_encodes_alike_may_decode():
    assert list_decoders("inverse") == ["inverse", "inverse_notebook"]
    assert list_decoders("inverse_notebook") == ["inverse_notebook", "inverse"]
    assert list_decoders("log") == ["log"] and list_decoders("linear") == ["linear"]


def test_what_cannot_be_decoded_otherwise_is_said(tmp_path):
    model = models.load_network(answering(0.5, tmp_path))
    with pytest.raises(ValueError, match=r"taught inverse, .*expected inverse or inverse_notebook\."):
        decode_as(model, "linear")
    with pytest.raises(ValueError, match="did you mean 'inverse_notebook'"):
        decode_as(model, "inverse_notebok")
    with pytest.raises(ValueError, match=r"regresses no encoding \(its space is disparity\)"):
        decode_as(models.load_network("sonde-tiny"), "inverse_notebook")
    model.calibration = Calibration("scale", "metric", 1.1)
    with pytest.raises(ValueError, match=r"is calibrated .*--undo"):
        decode_as(model, "inverse_notebook")


def test_an_evaluation_in_millimetres_is_by_the_formula_that_was_asked_for(tmp_path, sonde):
    root, run = write_bench(tmp_path / "set", 3), answering(0.4, tmp_path)
    depths = [np.load(path)[..., 2] for path in sorted((root / "depth").glob("*.npy"))]

    def error(answer: float) -> float:
        trusted = [depth[np.isfinite(depth) & (depth > 0) & (depth < 10_000)] for depth in depths]
        return float(np.mean([np.abs(depth - answer).mean() for depth in trusted]))

    exact = 1 / (0.4 / (1000 * NEAR) + 0.6 / (1000 * FAR))
    words = ("eval", run, "--protocol", "zivid-mm", "--data", root, "--json")
    assert sonde(*words).json["metrics"]["mae_mm"] == pytest.approx(error(exact), rel=1e-4)
    found = sonde(*words, "--encoding", "inverse_notebook", "--out", tmp_path / "out").json
    assert found["metrics"]["mae_mm"] == pytest.approx(error(notebook_mm(0.4)), rel=1e-4)
    assert abs(error(exact) - error(notebook_mm(0.4))) > 0.1
    assert evaluation.read_evaluation(tmp_path / "out").settings.encoding == "inverse_notebook"


def test_the_card_of_an_export_has_the_notebooks_formula(tmp_path):
    folder = exporting.export(answering(0.25, tmp_path, "inverse_notebook", slope=1.0))
    found = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert found and "+ 1e-06)" in found[1]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, PIXELS.shape, dtype=np.uint8))
    names: dict = {"image": image}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        exec(found[1], names)
    model = models.load_network(folder)
    exact = 1000 * decode_as(model, "inverse").predict(image).depth.astype(np.float64)
    np.testing.assert_allclose(names["depth_mm"].numpy(), 1 / (1 / exact + 1e-6), rtol=1e-5)
    np.testing.assert_allclose(1000 * model.predict(image).depth, 1 / (1 / exact + 1e-6), rtol=1e-5)


def settings(base: Path, root: Path, run: Path, encoding: str) -> list[str]:
    every = ("train.max_steps=2", "train.eval_steps=2", "train.save_steps=2", "train.per_device_train_batch_size=1")
    return [
        f"model.name={base}",
        "model.input_size=[32,64]",
        f"model.encoding={encoding}",
        f"data.root={root}",
        "data.cache=null",
        f"output_dir={run}",
        *every,
    ]


def test_a_run_that_was_trained_so_speaks_the_notebooks_millimetres_throughout(base, tmp_path):
    root = write_bench(tmp_path / "set", 5)
    run = training.train(FEW, settings(base, root, tmp_path / "run", "inverse_notebook"))
    assert json.loads((run / "best" / "sonde.json").read_text())["encoding"]["name"] == "inverse_notebook"
    model = models.load_network(run)
    exact = 1000 * decode_as(model, "inverse").predict(PIXELS).depth.astype(np.float64)
    np.testing.assert_allclose(1000 * model.predict(PIXELS).depth, 1 / (1 / exact + 1e-6), rtol=1e-5)
    own = json.loads((run / "metrics.json").read_text())["metrics"]["mae_mm"]
    assert evaluation.evaluate(run).metrics["mae_mm"] == pytest.approx(own, rel=1e-6)
    assert evaluation.evaluate(run, encoding="inverse").metrics["mae_mm"] != pytest.approx(own, rel=1e-5)
    trained = training.prepare(recipes.load(FEW, settings(base, root, tmp_path / "plan", "inverse"))).model.encoding
    depth = torch.linspace(0.6, 0.9, 50)
    assert trained is not None and model.encoding is not None
    assert torch.equal(trained.encode(depth), model.encoding.encode(depth)), "it is taught as inverse is"


def test_a_bench_is_decoded_exactly_so_the_notebooks_formula_is_refused_beside_it(base, tmp_path):
    root = write_bench(tmp_path / "set", 5)
    words = [*settings(base, root, tmp_path / "run", "inverse_notebook"), "model.background=farthest"]
    with pytest.raises(
        ValueError, match=r"inverse_notebook .*model\.background=farthest.*: set model\.background=none"
    ):
        training.prepare(recipes.load(FEW, words))
