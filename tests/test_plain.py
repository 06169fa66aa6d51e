"""A folder that sonde leaves loads without sonde: plain transformers and PEFT give its network's answer."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from small_networks import CONFIGS, saved
from transformers import AutoModelForDepthEstimation

import sonde
from sonde import adapters, models
from sonde.encoding import ENCODINGS
from sonde.models import DepthModel, ModelSpec

HUB = "someone/small-depth"
SIDE = 64
ENCODING = ENCODINGS["inverse"](0.5, 1.5).to_dict()

OUTSIDE = """
import json, os, re, sys
import numpy, torch
from PIL import Image
from safetensors.numpy import save_file
from peft import PeftModel
from transformers import AutoModelForDepthEstimation

out, picture, *folders = sys.argv[1:]
image, kept = Image.open(picture), {}
pixels = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64).sin()
for number, folder in enumerate(folders):
    os.chdir(folder)
    names = {"image": image, "focal": 1.0}
    exec(re.search(r"```python\\n(.*?)```", open("README.md").read(), re.DOTALL)[1], names)
    if "depth" in names:
        kept[f"{number}-depth"] = numpy.ascontiguousarray(names["depth"].float().numpy())
    if os.path.exists("adapter_config.json"):
        base = re.search(r"^base = (.*)$", open("README.md").read(), re.MULTILINE)[1]
        network = PeftModel.from_pretrained(eval(base, names), ".").eval()
        more = {"max_depth": 1} if "max_depth=1" in base else {}
        alone = AutoModelForDepthEstimation.from_pretrained(".", **more).eval()
    else:
        network = alone = AutoModelForDepthEstimation.from_pretrained(".").eval()
    with torch.no_grad():
        kept[f"{number}-raw"] = network(pixel_values=pixels).predicted_depth.numpy()
        kept[f"{number}-alone"] = alone(pixel_values=pixels).predicted_depth.numpy()
assert "sonde" not in sys.modules
save_file(kept, out)
"""
"""What somebody without sonde does with each folder: the card's own code, plain PEFT, and transformers alone."""


def make_adapter(network: torch.nn.Module, base: str) -> DepthModel:
    """An adapter with a trained head, its weights drawn at random."""
    model = DepthModel(network, ModelSpec("metric", None, 32, input_size=(SIDE, SIDE)), base)
    spec = {"encoding": ENCODING, "base": base, "fingerprint": models.fingerprint(network)}
    model.spec = ModelSpec("metric", None, 32, input_size=(SIDE, SIDE), unit="mm", **spec)
    models.set_max_depth(network, 1)
    torch.manual_seed(1)
    model.network = adapters.add_lora(network, {"r": 2}, model.family.head)
    for name, parameter in model.network.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


def write_card(folder: Path) -> None:
    (folder / "README.md").write_text(models.describe_use(folder))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, tuple[Path, DepthModel]]:
    """Kind of base -> the folder of an adapter, or of a whole network, and the model that it was saved from."""
    root = tmp_path_factory.mktemp("left")
    local = saved("glpn", root / "local")
    (local / "LICENSE").write_text("A licence.")
    torch.manual_seed(2)
    config = CONFIGS["glpn"].to_dict() | {"max_depth": 10}
    hub = AutoModelForDepthEstimation.from_config(type(CONFIGS["glpn"])(**config))
    models.reinit_head(hub)
    snapshot = root / "hub" / f"models--{HUB.replace('/', '--')}" / "snapshots" / "1234"
    hub.save_pretrained(snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("1234")
    found = {
        "local": make_adapter(models.load_network(local).network, str(local)),
        "hub": make_adapter(hub, HUB),
        "tiny": make_adapter(models.load_network("sonde-tiny").network, "sonde-tiny"),
        "whole": models.load_network("sonde-tiny"),
    }
    for name, model in found.items():
        models.save(model, root / "runs" / name / "best")
        write_card(root / "runs" / name / "best")
    shutil.rmtree(local)
    moved = Path(shutil.move(root / "runs", root / "moved"))
    return {name: (moved / name / "best", model) for name, model in found.items()}


@pytest.fixture(scope="module")
def answers(made, tmp_path_factory) -> dict[str, np.ndarray]:
    """What a process without sonde gets from the folders, after they were moved and the local base was removed."""
    folder = tmp_path_factory.mktemp("outside")
    Image.fromarray(picture()).save(folder / "image.png")
    hub = made["hub"][0].parents[2] / "hub"
    words = [folder / "answers.safetensors", folder / "image.png", *(path for path, _ in made.values())]
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OUTSIDE, *map(str, words)],
        check=True,
        cwd=folder,
        env=os.environ | {"HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1"},
    )
    found = load_file(folder / "answers.safetensors")
    return {
        key.replace(str(number), name, 1): found[key]
        for number, name in enumerate(made)
        for key in found
        if key[0] == str(number)
    }


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


KINDS = ("local", "hub", "tiny", "whole")


@pytest.mark.parametrize("kind", KINDS)
def test_plain_peft_and_plain_transformers_give_the_answer_of_sonde(made, answers, kind):
    pixels = torch.linspace(-1, 1, 3 * SIDE * SIDE).reshape(1, 3, SIDE, SIDE).sin()
    with torch.no_grad():
        expected = made[kind][1].network(pixel_values=pixels).predicted_depth.numpy()
    np.testing.assert_allclose(answers[f"{kind}-raw"], expected, atol=1e-6)
    np.testing.assert_allclose(answers[f"{kind}-alone"], expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["local", "hub", "tiny"])
def test_the_code_of_the_card_gives_the_depth_of_sonde(made, answers, kind):
    expected = made[kind][1].predict(picture()).depth
    np.testing.assert_allclose(answers[f"{kind}-depth"], expected, rtol=1e-3)


@pytest.mark.parametrize("kind", ["local", "tiny", "whole"])
def test_sonde_loads_the_moved_folder_too(made, kind):
    folder, model = made[kind]
    assert models.hash_weights(models.load_network(folder).network) == models.hash_weights(model.network)


def test_no_file_names_a_path_of_the_machine(made):
    for kind in ("local", "hub", "tiny"):
        folder = made[kind][0]
        for path in folder.rglob("*"):
            if path.suffix in (".json", ".md"):
                assert str(folder.parents[2]) not in path.read_text(), path
        name = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
        assert name == (HUB if kind == "hub" else "./base") and (folder / "base").exists() == (kind != "hub")
    assert (made["local"][0] / "base" / "LICENSE").read_text() == "A licence."
    assert re.match("---\nlicense: mit\n", (made["tiny"][0] / "base" / "README.md").read_text())


def test_another_base_beside_the_adapter_is_refused_and_a_missing_one_named(made, tmp_path):
    folder = Path(shutil.copytree(made["local"][0], tmp_path / "best"))
    torch.manual_seed(5)
    models.save(
        DepthModel(other := AutoModelForDepthEstimation.from_config(CONFIGS["glpn"]), models.read_spec(other), "x"),
        folder / "base",
    )
    with pytest.raises(ValueError, match="was trained on other weights"):
        sonde.load(folder)
    shutil.rmtree(folder / "base")
    with pytest.raises(ValueError, match=r"lacks base/.*copy the whole folder again"):
        sonde.load(folder)


def test_a_base_that_changed_meanwhile_is_not_saved_and_told(tmp_path, caplog):
    local = saved("glpn", tmp_path / "local")
    model = make_adapter(models.load_network(local).network, str(local))
    torch.manual_seed(5)
    AutoModelForDepthEstimation.from_config(CONFIGS["glpn"]).save_pretrained(local)
    models.save(model, tmp_path / "best")
    assert "saved without its base" in caplog.text and not (tmp_path / "best" / "base").exists()
