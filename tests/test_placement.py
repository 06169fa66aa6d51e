"""Where a network runs is what was asked for, and a device that is not there is told before any work."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_captures import picture
from small_exports import run_by_torch, write_export
from small_networks import saved

from sonde import doctor, files, models
from sonde.models import DepthModel, Placement, choose_device, placement, processor
from sonde.models.placement import choose_precision

MISSING = [
    ("cuda", "there is no CUDA device here"),
    ("cuda:3", "there is no CUDA device here"),
    ("mps", "there is no Apple GPU here"),
    ("gpu", "expected auto, cpu, cuda, cuda:0"),
    ("cuda:x", "expected auto, cpu, cuda, cuda:0"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return saved("depth_anything", tmp_path_factory.mktemp("network"))


@pytest.fixture
def without_gpu(monkeypatch) -> None:
    monkeypatch.setattr(placement, "may_have_gpu", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def give_gpus(monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool = False) -> None:
    """Let torch see so many CUDA devices."""
    monkeypatch.setattr(placement, "may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_auto_takes_the_fastest_device_that_is_present(monkeypatch):
    for cuda, mps, taken in ((2, False, "cuda:0"), (1, True, "cuda:0"), (0, True, "mps"), (0, False, "cpu")):
        give_gpus(monkeypatch, cuda, mps)
        assert choose_device("auto") == taken
    give_gpus(monkeypatch, 2)
    assert [choose_device(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda:0", "cuda:1"]
    with pytest.raises(ValueError, match=r"device=cuda:2: this machine has 2 CUDA devices, numbered from cuda:0"):
        choose_device("cuda:2")


@pytest.mark.parametrize(("asked", "sentence"), MISSING)
def test_a_device_that_is_not_there_is_one_sentence(asked, sentence, without_gpu):
    with pytest.raises(ValueError, match=sentence) as caught:
        choose_device(asked)
    assert "\n" not in str(caught.value) and asked in str(caught.value)


def test_auto_computes_in_bf16_on_a_cuda_device_alone():
    assert [choose_precision("auto", device) for device in ("cuda:1", "cpu", "mps")] == ["bf16", "fp32", "fp32"]
    with pytest.raises(ValueError, match=r"precision='fp8': expected fp32, bf16, fp16 or auto"):
        choose_precision("fp8", "cpu")


def test_a_model_is_placed_where_it_was_asked_to_be(folder, monkeypatch):
    placed: list[tuple[str, str]] = []
    monkeypatch.setattr(DepthModel, "place", lambda self, device, precision: placed.append((device, precision)))
    give_gpus(monkeypatch, 2)
    models.load(folder)
    models.load(folder, precision="auto")
    models.load(folder, device="cuda:1", precision="fp16")
    models.load_network(folder)
    assert placed == [("cuda:0", "fp32"), ("cuda:0", "bf16"), ("cuda:1", "fp16"), ("cpu", "fp32")]


def test_it_is_said_by_name_where_a_network_runs(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert Placement().describe() == "on cpu by torch in fp32"
    assert Placement("cpu", "int8", "openvino").describe() == "on cpu by OpenVINO in int8"
    assert Placement("cuda:0", "bf16").describe() == "on cuda:0 (NVIDIA H200) by torch in bf16"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["sonde-tiny", "small"])
def test_half_precision_answers_in_float32_and_within_a_few_per_cent(folder, name, precision):
    model, image = models.load_network(folder if name == "small" else name), picture(1, 96, 128)
    exact = model.predict(image).depth
    model.place("cpu", precision)
    depth = model.predict(image).depth
    assert model.placement == Placement("cpu", precision) and depth.dtype == np.float32
    assert not np.array_equal(depth, exact)
    assert np.abs(depth - exact).max() < 0.05 * np.ptp(exact)
    assert all(value.dtype == torch.float32 for value in model.network.parameters())
    model.place("cpu", "fp32")
    assert np.array_equal(model.predict(image).depth, exact)


def test_an_exported_file_computes_in_what_it_was_exported_in(folder, tmp_path, monkeypatch):
    run_by_torch(monkeypatch)
    network = models.load_network(folder)
    fp32 = write_export(network, folder, tmp_path / "model.onnx")
    int8 = write_export(network, folder, tmp_path / "small.onnx", precision="int8")
    for path, precision in ((fp32, "fp32"), (int8, "int8")):
        for asked in (None, "auto"):
            assert models.load(path, precision=asked).placement == Placement("cpu", precision, "onnx")
        with pytest.raises(ValueError, match=f"precision=bf16: .* computes in {precision}, as it was exported"):
            models.load(path, precision="bf16")
    with pytest.raises(ValueError, match=r"precision=fp32: .* computes in int8"):
        models.load(int8, precision="fp32")
    with pytest.raises(ValueError, match="is an exported file, and this needs a network"):
        models.load_network(int8)


VERBS = {
    "label": ("label", "MODEL", "IMAGES", "OUT"),
    "label --plan": ("label", "MODEL", "IMAGES", "OUT", "--plan"),
    "calibrate": ("calibrate", "MODEL", "--points", "POINTS", "--out", "OUT"),
    "features": ("features", "IMAGES", "-m", "MODEL", "-o", "OUT"),
    "doctor": ("doctor", "--online", "-m", "MODEL"),
    "reproduce": ("reproduce", "dav2-small-nyu", "--data", "IMAGES", "-m", "MODEL", "-o", "OUT"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("wrong", [("--device", "cuda"), ("--device", "gpu"), ("--precision", "fp8")])
def test_every_verb_refuses_a_device_that_is_not_there_before_work(verb, wrong, folder, tmp_path, sonde, without_gpu):
    photo = tmp_path / "images" / "a.png"
    files.write_rgb(photo, picture(0, 48, 64))
    (tmp_path / "points.csv").write_text(f"image,x,y,depth\n{photo},1,1,1.5\n{photo},9,9,1.5\n")
    places = {
        "MODEL": folder,
        "IMAGES": tmp_path / "images",
        "OUT": tmp_path / "out",
        "POINTS": tmp_path / "points.csv",
    }
    said = sonde(*(places.get(word, word) for word in VERBS[verb]), *wrong)
    assert said.code == 2 and wrong[0] in said.errors and wrong[1] in said.errors, said
    assert said.errors.count("\n") == 1 and said.text == ""
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_words_for_the_online_check_alone_are_refused_without_it(sonde):
    assert "--online --device cuda" in sonde("doctor", "--device", "cuda").errors
    assert "--online --precision bf16" in sonde("doctor", "--precision", "bf16").errors


@pytest.mark.parametrize(
    ("text", "units", "words"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni amx_int8 avx_vnni\n", ["VNNI", "AMX"], "native (VNNI, AMX)"),
        ("flags\t\t: fpu avx2\n", [], "emulated: about as slow as fp32"),
        ("Features\t: fp asimd asimddp i8mm\n", ["dot products", "int8 matrix products"], "native (dot products, int8"),
        ("nothing\n", None, "not known"),
    ],
)
def test_int8_is_told_as_the_processor_states_it(text, units, words, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor.sys, "platform", "linux")
    assert processor.list_int8_units() == units and processor.describe_int8().startswith(words)


def test_an_apple_processor_and_one_that_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "nothing")
    monkeypatch.setattr(processor, "sys", SimpleNamespace(platform="win32"))
    assert processor.list_int8_units() is None
    monkeypatch.setattr(processor, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(processor.platform, "machine", lambda: "arm64")
    assert processor.list_int8_units() == ["dot products"]


def test_the_doctor_says_what_auto_takes_and_what_runs_exported_files(without_gpu, monkeypatch):
    machine = doctor.describe_machine()
    assert machine.auto == "cpu in fp32, by ONNX Runtime where the model has a file for it, else torch"
    assert str(machine.runtimes["onnxruntime"]).endswith("CPU)") and "openvino" in machine.runtimes
    assert machine.int8 == processor.describe_int8()
    give_gpus(monkeypatch, 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    machine = doctor.describe_machine()
    assert machine.devices[0] == "cuda:0 NVIDIA H200" and machine.auto == "cuda:0 in bf16, by torch"
