"""What surrounds a network in NumPy is what surrounds it in torch, whatever its numbers mean."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_captures import picture
from small_exports import compare, wrap
from small_networks import saved

from sonde import models
from sonde.background import Background
from sonde.encoding import ENCODINGS
from sonde.models import Calibration, DepthModel
from sonde.models.arrays import prepare

SIZES = [(48, 64), (75, 101), (33, 200), (240, 320), (600, 400)]
"""Height and width of images."""
ENDS = (0.2, 5.0)
METRIC = [("identity", 1.0, 0.0), ("scale", 2.0, 0.0), ("scale-shift", 2.0, 0.3), ("log-affine", 1.1, 0.2)]
RELATIVE = [("scale", 2.0, 0.0), ("scale-shift", 2.0, 0.3), ("log-affine", -1.1, 0.2)]

SPECS = {
    "padded": ("glpn", {}),
    "padded, scaled": ("glpn", {"scale": 10.5}),
    "canonical focal": ("glpn", {"canonical_focal": 100.0}),
    "canonical focal, one size": ("glpn", {"canonical_focal": 100.0, "input_size": (64, 96)}),
    "one size": ("depth_anything", {"input_size": (56, 84)}),
    "short side": ("depth_anything", {"short_side": 56}),
    **{name: ("glpn", {"encoding": ENCODINGS[name](0.25, 4.0).to_dict()}) for name in ENCODINGS},
}
CALIBRATIONS = {
    **{f"metric {kind}": Calibration(kind, "metric", scale, shift, ENDS) for kind, scale, shift in METRIC},
    **{f"disparity {kind}": Calibration(kind, "disparity", scale, shift, ENDS) for kind, scale, shift in RELATIVE},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {family: saved(family, tmp_path_factory.mktemp(family)) for family in ("glpn", "depth_anything")}


def make(folder: Path, **changes: object) -> DepthModel:
    network = models.load_network(folder)
    return DepthModel(network.network, replace(network.spec, **changes), "small").eval()


def camera(height: int, width: int) -> np.ndarray:
    return np.array([[300.0, 0, width / 2], [0, 300, height / 2], [0, 0, 1]])


@pytest.mark.parametrize("name", SPECS)
def test_the_networks_input_is_that_of_torch_whatever_the_size(folders, name):
    family, changes = SPECS[name]
    model = make(folders[family], **changes)
    for size in SIZES:
        image = picture(sum(size), *size)
        expected = model.prepare(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)[0].numpy()
        np.testing.assert_allclose(prepare(image, model.spec), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", SPECS)
def test_depth_is_that_of_torch_whatever_the_numbers_mean(folders, name):
    family, changes = SPECS[name]
    model = make(folders[family], **changes)
    exported = wrap(model)
    assert exported.space == model.space and exported.max_depth == model.max_depth
    for size in SIZES:
        assert compare(exported, model, picture(sum(size), *size), camera(*size)) < 1e-4


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_a_calibration_of_any_kind_is_that_of_torch(folders, name):
    calibration = CALIBRATIONS[name]
    metric = calibration.space == "metric"
    model = make(folders["glpn" if metric else "depth_anything"], **({} if metric else {"short_side": 56}))
    model.calibration = calibration
    exported = wrap(model)
    assert exported.calibration == calibration and exported.space == "metric"
    assert exported.uncalibrate().space == model.spec.space and exported.calibration is not None
    for size in SIZES:
        assert compare(exported, model, picture(sum(size), *size)) < 1e-3


def test_the_bench_of_a_fixed_camera_travels_with_its_file(folders):
    bench = np.random.default_rng(0).uniform(3, 4, (48, 64)).astype(np.float32)
    model = make(folders["glpn"], background=3.0)
    model.background = Background(bench, picture(0, 48, 64), "median")
    exported = wrap(model)
    assert exported.background is not None and np.array_equal(exported.background.depth, bench)
    for scale in (1, 2):
        assert compare(exported, model, picture(3, 48 * scale, 64 * scale)) < 1e-4
    with pytest.raises(ValueError, match="64"):
        exported.predict(picture(3, 64, 64))


def test_a_batch_answers_as_its_images_do_alone(folders):
    exported = wrap(make(folders["depth_anything"], short_side=56))
    images = [picture(number, 60, 80) for number in range(3)]
    for image, together in zip(images, exported.predict_batch(images), strict=True):
        np.testing.assert_allclose(together.depth, exported.predict(image).depth, rtol=1e-5)


def test_without_a_camera_metres_of_a_canonical_focal_are_refused(folders):
    exported = wrap(make(folders["glpn"], canonical_focal=100.0))
    with pytest.raises(ValueError, match="answers for a focal length of 100 pixels"):
        exported.predict(picture(0, 48, 64))


def test_a_file_of_one_size_pads_what_is_smaller_and_refuses_what_is_larger(folders):
    model = make(folders["glpn"])
    exported = wrap(model, size=(64, 96))
    assert exported.predict(picture(0, 60, 90)).depth.shape == (60, 90)
    assert compare(exported, model, picture(0, 64, 96)) < 1e-5
    with pytest.raises(ValueError, match=r"The image is 97x64, and .* was made for 96x64 at most"):
        exported.predict(picture(0, 64, 97))


@pytest.mark.parametrize("module", ["arrays", "exported", "sessions", "described", "processor"])
def test_no_torch_is_imported_around_an_exported_file(module):
    code = f"import sys, sonde.models.{module}; print([n for n in ('torch', 'transformers') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
