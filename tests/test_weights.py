"""Weights are read strictly, V1 is not V2, and what a folder says of its images comes before its family."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_networks import saved, small_depth_anything
from test_models import built, official_of
from transformers import DPTConfig, DPTImageProcessorPil, pipeline

import sonde
from sonde import architectures, evaluation, labelling, models, prediction
from sonde.architectures import depth_anything_v2
from sonde.models import DepthModel, ModelSpec
from sonde.models.preprocessing import apply_preprocessor

SOURCES = sorted(Path(sonde.__file__).parent.rglob("*.py"))


def change(folder: Path, how) -> Path:
    """Write a folder's tensors again."""
    path = folder / "model.safetensors"
    save_file(how(load_file(path)), path, {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    "how,words",
    [
        (lambda state: {key: value for key, value in state.items() if "head" not in key}, r"it lacks head\.head\.0"),
        (lambda state: state | {"more.weight": torch.zeros(2)}, "it holds the foreign more.weight"),
        (lambda state: state | {"head.head.0.weight": torch.zeros(2, 3)}, "of another shape is head.head.0.weight"),
        (lambda state: {}, r"it lacks .* and \d+ more"),
        (
            lambda state: state | {"head.head.0.bias": torch.full_like(state["head.head.0.bias"], torch.nan)},
            "not finite",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(how, words, tmp_path):
    folder = change(saved("glpn", tmp_path / "m"), how)
    with pytest.raises(ValueError, match=words) as caught:
        models.load(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_tensor_that_no_answer_depends_on_may_be_missing_or_be_there(tmp_path):
    folder = saved("depth_anything", tmp_path / "m")
    name = "backbone.embeddings.mask_token"
    change(
        folder,
        lambda state: {key: value for key, value in state.items() if key != name} | {"x.position_ids": torch.ones(1)},
    )
    first, second = models.load_network(folder), models.load_network(folder)
    assert models.fingerprint(first.network) == models.fingerprint(second.network)


@pytest.mark.parametrize(
    "fields,words",
    [
        ({"hidden_sizes": [10**9] * 4}, "hidden_sizes.0 is 1,000,000,000"),
        ({"hidden_sizes": [2**19] * 4, "num_attention_heads": [1] * 4}, r"config\.json claims"),
        ({"depths": [10**5] * 4}, "expected at most 1,000 layers"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config"),
        ({"depths": {"a": 1}}, "depths"),
    ],
)
def test_a_config_that_claims_more_than_the_files_hold_takes_no_memory(fields, words, tmp_path):
    path = saved("glpn", tmp_path / "m") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    with pytest.raises(ValueError, match=words):
        models.load(tmp_path / "m")


def test_a_byte_order_mark_is_no_part_of_a_config(tmp_path):
    path = saved("glpn", tmp_path / "m") / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert models.load(tmp_path / "m").space == "metric"


def test_a_part_outside_its_folder_is_refused(tmp_path):
    folder = saved("glpn", tmp_path / "m")
    (folder / "model.safetensors").rename(tmp_path / "w.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../w.safetensors"}}))
    with pytest.raises(ValueError, match=r"which is no file beside it"):
        models.load(folder)


def test_a_base_that_leads_back_is_refused(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    spec = {"space": "metric", "short_side": 64, "multiple": 32}
    for folder, other in ((one, two), (two, one)):
        folder.mkdir()
        (folder / "adapter_config.json").write_text("{}")
        (folder / "sonde.json").write_text(json.dumps(spec | {"base": str(other)}))
    with pytest.raises(ValueError, match="must end at weights"):
        models.load(one)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best").symlink_to(".")
    with pytest.raises(ValueError, match="must end at weights"):
        models.load(tmp_path / "run")


def test_code_of_a_model_is_never_run():
    calls = re.compile(r"\b(?:Auto\w+\.from_pretrained|pipeline)\(")
    # The cards of models, and the line after an export, show calls to their readers; they are text.
    shown = re.compile(r"""pipe = (f')?pipeline\("depth-estimation", .*""")
    texts = [shown.sub("", path.read_text()) for path in SOURCES]
    found = [text[call.start() : call.start() + 300] for text in texts for call in calls.finditer(text)]
    assert len(found) >= 5
    assert [call for call in found if "trust_remote_code=False" not in call] == []


# Answers that are not finite.


def broken() -> DepthModel:
    """A network that was sound when it was loaded."""
    model = models.load_network("sonde-tiny")
    with torch.no_grad():
        model.network.head.head[2].bias.fill_(torch.nan)
    return model


def test_an_answer_that_is_not_finite_is_a_failure_of_its_image(tmp_path):
    from small_bench import write
    from small_captures import picture

    (tmp_path / "in").mkdir()
    from PIL import Image

    for number in range(2):
        Image.fromarray(picture(number, 64, 64)).save(tmp_path / "in" / f"{number}.png")
    done = prediction.predict(tmp_path / "in", broken(), tmp_path / "out", save=["npy"])
    assert len(done.failed) == 2 and "not finite at 4096 of 4096" in done.failed[0][1]
    labelling.label(broken(), tmp_path / "in", tmp_path / "labels")
    lines = [json.loads(line) for line in (tmp_path / "labels" / "rejected.jsonl").read_text().splitlines()]
    assert ["not finite" in line["reason"] for line in lines] == [True, True]
    write(tmp_path / "bench", 2)
    with pytest.raises(ValueError, match="b00: The answer of sonde-tiny is not finite"):
        evaluation.evaluate(broken(), "affine-disparity", tmp_path / "bench")
    with pytest.raises(ValueError, match="not finite"):
        sonde.export(broken(), out=tmp_path / "exported")


# V1 and V2, and files of other projects.


@pytest.fixture
def small(monkeypatch):
    """Depth Anything's `small` with 24 channels: its tensors, saved as an official file."""
    shape = depth_anything_v2.SIZES["small"]._replace(width=24, heads=2, neck=(8, 12, 16, 24), fusion=8)
    monkeypatch.setitem(depth_anything_v2.SIZES, "small", shape)
    return built(architectures.depth_anything("small"))


def taps(model: DepthModel) -> list[int]:
    return list(model.network.config.backbone_config.out_indices)


def test_a_file_of_v1_takes_v1s_taps_by_its_name(small, tmp_path):
    for name, wanted in (
        ("depth_anything_vits14.pth", [9, 10, 11, 12]),
        ("depth_anything_v2_vits.pth", [3, 6, 9, 12]),
        ("depth_anything_v2_vits_fp16.safetensors", [3, 6, 9, 12]),
    ):
        state = {key: value.clone() for key, value in official_of(small).items()}
        save = save_file if name.endswith("safetensors") else torch.save
        save(state, tmp_path / name)
        assert taps(models.load_network(tmp_path / name)) == wanted


def test_a_file_whose_name_says_nothing_asks(small, tmp_path):
    path = tmp_path / "latest.pth"
    torch.save({"model": {f"module.{key}": value for key, value in official_of(small).items()}, "epoch": 3}, path)
    with pytest.raises(ValueError, match=r"--max_depth 20.*latest\.pth\?version=v2.*depth_anything_vits14\.pth"):
        models.load(path)
    assert taps(models.load_network(f"{path}?version=v1")) == [9, 10, 11, 12]
    assert taps(models.load_network(f"{path}?version=v2")) == [3, 6, 9, 12]
    model = models.load(path, max_depth=20)
    assert (model.space, model.max_depth) == ("metric", 20)
    for name in (f"{path}?version=v3", f"{path}?version="):
        with pytest.raises(ValueError, match="the version is v1 or v2"):
            models.load(name)
    with pytest.raises(ValueError, match="leave out version=v1"):
        models.load(f"{path}?version=v1", max_depth=20)


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "teacher", "ema", "ema_state_dict"])
def test_what_training_scripts_add_is_removed(small, wrapper, tmp_path):
    state = {f"_orig_mod.module.model.{key}": value for key, value in official_of(small).items()}
    torch.save({wrapper: state, "epoch": 1}, tmp_path / "depth_anything_v2_vits.pt")
    answer = models.load_network(tmp_path / "depth_anything_v2_vits.pt").network.state_dict()
    assert all(torch.equal(value, answer[key]) for key, value in small.state_dict().items())


# Image processors.


def dpt_on_dinov2() -> torch.nn.Module:
    backbone: Any = small_depth_anything().backbone_config
    backbone = backbone.to_dict() | {"out_indices": [1, 2, 3, 4]}
    return built(
        DPTConfig(
            backbone_config=backbone, neck_hidden_sizes=[8, 12, 16, 24], fusion_hidden_size=256, add_projection=True
        )
    )


def test_a_dpt_on_dinov2_answers_as_transformers_pipeline_does(tmp_path):
    from PIL import Image

    dpt_on_dinov2().save_pretrained(tmp_path)  # pyright: ignore[reportCallIssue]
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    DPTImageProcessorPil(
        do_resize=False, do_rescale=False, do_pad=True, size_divisor=14, image_mean=mean, image_std=std
    ).save_pretrained(tmp_path)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (56, 84, 3), dtype=np.uint8))
    model = models.load(tmp_path)
    assert (model.space, model.spec.pads, model.spec.multiple) == ("metric", True, 14)
    theirs = pipeline("depth-estimation", model=str(tmp_path), device="cpu", trust_remote_code=False)(image)
    ours = model.predict(image).depth
    # transformers lets bicubic overshoot.
    theirs = theirs["predicted_depth"].numpy().clip(ours.min(), ours.max())
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_settings_of_an_image_processor_come_before_the_familys():
    spec = ModelSpec("disparity", 518, 14)
    size = {"height": 392, "width": 392}
    told = {
        "size": size,
        "keep_aspect_ratio": True,
        "ensure_multiple_of": 28,
        "image_mean": [0.5] * 3,
        "image_std": 0.5,
    }
    found = apply_preprocessor(told, spec)
    assert (found.short_side, found.multiple, found.mean, found.std) == (392, 28, (0.5,) * 3, (0.5,) * 3)
    assert apply_preprocessor({"size": size, "keep_aspect_ratio": False}, spec).input_size == (392, 392)
    assert apply_preprocessor({"do_normalize": False, "rescale_factor": 1 / 127.5}, spec).std == (0.5,) * 3
    for wrong in ({"size": "large"}, {"size": {"longest": 4}}, {"image_std": [0, 1, 1]}, {"size": 10**9}):
        with pytest.raises(ValueError):
            apply_preprocessor(wrong, spec)
    with pytest.raises(ValueError, match="square"):
        apply_preprocessor(
            {"size": {"height": 384, "width": 512}}, ModelSpec("disparity", 384, 32, input_size=(384, 384)), square=True
        )
