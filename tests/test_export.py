"""What leaves sonde answers the same without it: a merged folder by plain transformers, an adapter by plain peft."""

import re
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraModel, PeftModel
from PIL import Image
from small_networks import saved
from transformers import AutoModelForDepthEstimation, pipeline

from sonde import exporting, load, models
from sonde.adapters import add_lora
from sonde.background import Background
from sonde.encoding import ENCODINGS
from sonde.models import DepthModel, ModelSpec

SIZES = {"glpn": (64, 96), "depth_anything": (56, 84)}
"""(height, width) each network sees."""


def picture(height: int, width: int) -> Image.Image:
    """Smooth colours and a few edges."""
    coarse = np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def adapted(family: str, folder: Path, encoding: str | None = "inverse") -> Path:
    """A run folder of a network whose adapters and head have moved."""
    base = saved(family, folder / "base")
    network = AutoModelForDepthEstimation.from_pretrained(base)
    about = models.FAMILIES[family]
    spec = ModelSpec(
        "metric" if encoding else "disparity",
        short_side=None,
        multiple=about.spec.multiple,
        input_size=SIZES[family],
        encoding=ENCODINGS[encoding](0.25174, 3.90745).to_dict() if encoding else None,
        unit="mm",
        base=str(base),
        fingerprint=models.fingerprint(network),
    )
    lora = {"r": 4, "lora_alpha": 8, "target_modules": ["query", "key", "value"]}
    torch.manual_seed(1)
    tuned = add_lora(network, lora, about.head)
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn_like(parameter)
    models.save(DepthModel(tuned, spec, "run"), folder / "run" / "best")
    return folder / "run"


def raw(network: torch.nn.Module, image: Image.Image) -> torch.Tensor:
    """A network's own answer to an image of the size it sees, standardised as both families are taught."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in models.IMAGENET)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    with torch.inference_mode():
        return network.eval()(pixel_values=((pixels - mean) / std)[None]).predicted_depth[0]


@pytest.mark.parametrize("family", SIZES)
def test_an_adapted_run_answers_the_same_in_plain_transformers(family, tmp_path):
    run = adapted(family, tmp_path)
    folder = exporting.export(run)
    assert folder == tmp_path / "run-hf"
    image = picture(*SIZES[family])
    answer = pipeline("depth-estimation", model=str(folder))(image)["predicted_depth"]
    torch.testing.assert_close(
        answer, raw(models.load_network(run).network, image), rtol=0, atol=exporting.TOLERANCE * float(answer.max())
    )
    base = raw(AutoModelForDepthEstimation.from_pretrained(tmp_path / "base"), image)
    assert (answer - base).abs().max() > 0.01, "the adapters changed nothing: the test would prove nothing"


def by_the_card(folder: Path, image: Image.Image, lines: int = 5) -> np.ndarray:
    """What the card's own lines make of an image: millimetres."""
    found = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert found and len(found[1].splitlines()) == lines
    names: dict = {"image": image}
    with chdir(folder.parent):
        exec(found[1], names)
    return names["depth_mm"].numpy()


@pytest.mark.parametrize(
    "family,encoding", [("glpn", "inverse"), ("glpn", "linear"), ("glpn", "log"), ("depth_anything", "inverse")]
)
def test_the_cards_five_lines_give_millimetres(family, encoding, tmp_path):
    run = adapted(family, tmp_path, encoding)
    folder, model = exporting.export(run), load(run)
    height, width = SIZES[family]
    seen = picture(height, width)
    # The far end of an inverse range turns float32 noise of the network into some 0.02 % of depth.
    np.testing.assert_allclose(by_the_card(folder, seen), 1000 * model.predict(seen).depth, rtol=1e-3)
    larger = picture(2 * height + 7, 2 * width - 5)  # resized by others than ours: nearly the same
    expected = 1000 * model.predict(larger).depth
    difference = np.abs(by_the_card(folder, larger) / expected - 1)
    assert difference.shape == (2 * height + 7, 2 * width - 5)
    assert np.median(difference) < 0.005


@pytest.mark.parametrize("family", SIZES)
def test_the_adapter_loads_in_plain_peft(family, tmp_path):
    run = adapted(family, tmp_path)
    base = AutoModelForDepthEstimation.from_pretrained(tmp_path / "base")
    image = picture(*SIZES[family])
    plain = PeftModel.from_pretrained(base, str(run / "best"))
    assert torch.equal(raw(plain, image), raw(models.load_network(run).network, image))


def test_an_export_is_a_model_of_sonde_like_any_other(tmp_path):
    run = adapted("glpn", tmp_path)
    image = picture(*SIZES["glpn"])
    again = load(exporting.export(run, out=tmp_path / "out"))
    assert again.spec.encoding == load(run).spec.encoding
    np.testing.assert_allclose(again.predict(image).depth, load(run).predict(image).depth, rtol=1e-5)


def test_a_loaded_model_is_left_as_it_is(tmp_path):
    model = models.load_network(adapted("glpn", tmp_path))
    image = picture(80, 100)
    before = model.predict(image).depth
    exporting.export(model, out=tmp_path / "out")
    assert isinstance(model.network, PeftModel)
    assert np.array_equal(model.predict(image).depth, before)


def test_a_relative_models_card_claims_no_unit(tmp_path):
    text = (exporting.export(adapted("glpn", tmp_path, None), out=tmp_path / "out") / "README.md").read_text()
    assert "up to an unknown scale and shift" in text
    assert "mm" not in text and str(tmp_path) not in text


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"not empty.*--out"):
        exporting.export(adapted("glpn", tmp_path), out=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_a_result_that_differs_is_not_exported(tmp_path, monkeypatch):
    run = adapted("glpn", tmp_path)
    monkeypatch.setattr(LoraModel, "merge_and_unload", lambda self: self.unload())  # forgets the adapters
    with pytest.raises(ValueError, match="gives another output"):
        exporting.export(run)
    assert not (tmp_path / "run-hf").exists()


def test_the_card_tells_of_images_smaller_than_the_short_side(tmp_path):
    assert "short side is below 518 pixels" in exporting.render_card(
        models.load_network(saved("depth_anything", tmp_path)), "mit"
    )


# The bench of a fixed camera


def above_a_bench(folder: Path, kind: str = "farthest") -> Path:
    """A run folder that answers within 80 mm of a tilted bench, half the size of the images its camera takes."""
    base = saved("glpn", folder / "base")
    height, width = SIZES["glpn"]
    depth = np.linspace(0.7, 0.9, height * width // 4, dtype=np.float32).reshape(height // 2, width // 2)
    bench = Background(depth, np.asarray(picture(*depth.shape)), kind)
    reference = bench.reference
    encoding = ENCODINGS["linear"](reference - 0.08, reference + 0.08).to_dict()
    about = {"encoding": encoding, "background": reference, "unit": "mm", "input_size": SIZES["glpn"]}
    network = AutoModelForDepthEstimation.from_pretrained(base)
    model = DepthModel(network, ModelSpec("metric", None, 32, **about), "run").eval()
    model.background = bench
    models.save(model, folder / "run" / "best")
    return folder / "run"


def test_an_exported_bench_answers_the_same_with_sonde_and_by_the_cards_lines(tmp_path):
    run, seen = above_a_bench(tmp_path), picture(*SIZES["glpn"])
    folder, model = exporting.export(run), load(run)
    depth, bench = model.predict(seen).depth, model.background
    assert bench is not None and np.ptp(depth - bench.depth_at(depth.shape)) > 0.001, "the network answers nothing"
    np.testing.assert_allclose(load(folder).predict(seen).depth, depth, rtol=1e-6)
    np.testing.assert_allclose(by_the_card(folder, seen, lines=10), 1000 * depth, rtol=0, atol=0.01)
    larger = picture(*(2 * side for side in SIZES["glpn"]))  # the camera's image at another scale
    np.testing.assert_allclose(load(folder).predict(larger).depth, model.predict(larger).depth, rtol=1e-6)
    difference = by_the_card(folder, larger, lines=10) - 1000 * model.predict(larger).depth
    assert np.median(np.abs(difference)) < 0.5


def test_the_bench_itself_is_exported_as_it_was(tmp_path):
    run = above_a_bench(tmp_path)
    folder = exporting.export(run)
    for name in ("background.npy", "background.png", "background.json"):
        assert (folder / name).read_bytes() == (run / "best" / name).read_bytes()
    adapted_bench, exported = load(run).spec, load(folder).spec
    assert (exported.background, exported.encoding) == (adapted_bench.background, adapted_bench.encoding)


@pytest.mark.parametrize(
    "kind,words", [("farthest", "the farthest depth of its captures"), ("empty.npy", "captured empty as empty.npy")]
)
def test_the_card_names_the_bench(kind, words, tmp_path):
    text = (exporting.export(above_a_bench(tmp_path, kind)) / "README.md").read_text()
    assert f"`background.npy`, 48x32 pixels of metres ({words})" in text
    assert "as if the bench of its fixed camera lay at 900.00 mm everywhere" in text
    assert "above the bench of a fixed camera" in text and str(tmp_path) not in text


def test_an_adapter_above_a_bench_is_merged_with_it(tmp_path):
    run = adapted("glpn", tmp_path, "linear")
    model = models.load_network(run)
    model.spec = replace(model.spec, background=3.9)
    model.background = Background(np.full((32, 48), 3.9, np.float32) - 0.1, np.zeros((32, 48, 3), np.uint8), "median")
    models.save(model, run / "best")
    seen = picture(*SIZES["glpn"])
    folder = exporting.export(run)
    np.testing.assert_allclose(by_the_card(folder, seen, lines=10), 1000 * load(run).predict(seen).depth, atol=0.5)


# What plain transformers has not


def test_a_network_that_transformers_has_not_is_refused_in_a_sentence(tmp_path, sonde):
    torch.manual_seed(0)
    plain = models.build("lite0")
    models.save(plain, tmp_path / "lite")
    spec = replace(plain.spec, base=str(tmp_path / "lite"), fingerprint=models.fingerprint(plain.network))
    models.save(DepthModel(add_lora(plain.network, {"r": 2}), spec, "run"), tmp_path / "run" / "best")
    for name in ("lite", "run"):
        with pytest.raises(ValueError, match=r"cannot hold this network \(efficientnet_lite\): use it with sonde.load"):
            exporting.export(tmp_path / name)
        said = sonde("export", tmp_path / name, "--to", "hf")
        assert said.code == 2 and said.errors.count("\n") == 1 and "GLPN or Depth Anything" in said.errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lite", "run"]
