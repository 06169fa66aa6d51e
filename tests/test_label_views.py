"""Labels averaged over sizes and mirrors: the mean of what the network answers to each view, and how far they agree."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_captures import picture
from small_networks import saved
from torch import nn
from torch.nn import functional

from sonde import files, labelling, models
from sonde.labelling.views import list_sizes, predict_views
from sonde.models import DepthModel, ModelSpec


class RedByTheWay(nn.Module):
    """Disparity that is the red channel, in a scale and a shift that change with the size of the input."""

    config = SimpleNamespace(model_type="depth_anything")

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        """What a network of transformers would answer."""
        width = pixel_values.shape[-1]
        return SimpleNamespace(predicted_depth=pixel_values[:, 0] * width + width)


@pytest.fixture
def relative() -> DepthModel:
    return DepthModel(RedByTheWay(), ModelSpec("disparity", 32, 4, *models.PLAIN), "red").eval()


@pytest.fixture
def photo() -> torch.Tensor:
    """A smooth picture, which looks the same at every size: (1, 3, 48, 64)."""
    coarse = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(3))
    return functional.interpolate(coarse, (48, 64), mode="bicubic").clamp(0, 1)


def test_views_in_another_scale_and_shift_are_fitted_before_the_mean(relative, photo):
    mean, agreed = predict_views(relative, photo, (1.0, 1.5, 0.75))
    alone, _ = predict_views(relative, photo, (1.0,))
    assert mean.shape == alone.shape == (1, 32, 44)
    assert float((mean - alone).abs().max()) < 0.05 * float(alone.max() - alone.min())
    assert float(agreed) > 0.99


def test_the_mean_of_a_metric_network_is_that_of_its_answers(tmp_path):
    model = models.load_network(saved("glpn", tmp_path))
    model.spec = replace(model.spec, short_side=64)
    rgb = torch.from_numpy(picture(4, 64, 96)).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        straight = model.forward_raw(model.network, rgb)
        mirrored = model.forward_raw(model.network, rgb.flip(-1)).flip(-1)
        mean, _ = predict_views(model, rgb, (1.0,))
    torch.testing.assert_close(mean, (straight + mirrored) / 2, rtol=1e-4, atol=1e-5)


def test_sizes_are_multiples_and_each_comes_once(relative):
    assert list_sizes(relative, (32, 44), (1.0, 0.5, 1.01)) == [(32, 44), (16, 24)]


def test_labels_of_views_say_so_and_are_another_job(tmp_path):
    model = models.load(saved("glpn", tmp_path / "network"))
    model.spec = replace(model.spec, short_side=64)
    for index in range(2):
        files.write_rgb(tmp_path / "photos" / f"{index}.png", picture(index, 64, 96))
    labelling.label(model, tmp_path / "photos", tmp_path / "out", views="0.75,1")
    assert files.read_json(tmp_path / "out" / "job.json", dict[str, object], "")["views"] == [0.75, 1.0]
    plain = labelling.label(model, tmp_path / "photos", tmp_path / "plain")
    assert "views" not in files.read_json(tmp_path / "plain" / "job.json", dict[str, object], "")
    one, other = (files.read_depth(folder / "labels" / "0.png") for folder in (tmp_path / "out", tmp_path / "plain"))
    assert plain.labels == 2 and 0 < float(np.abs(one - other).max()) < 1
    with pytest.raises(ValueError, match="views"):
        labelling.label(model, tmp_path / "photos", tmp_path / "out", views="1")
    with pytest.raises(ValueError, match=r"views none, not \[1\.0\]"):
        labelling.label(model, tmp_path / "photos", tmp_path / "plain", views="1")


@pytest.mark.parametrize("given", ["0", "1,x", "9", "", (100.0,), ()])
def test_a_view_that_cannot_be_is_one_sentence(given, tmp_path):
    model = models.load(saved("glpn", tmp_path / "network"))
    files.write_rgb(tmp_path / "photos" / "0.png", picture(0, 64, 96))
    with pytest.raises(ValueError, match=r"views=.*expected sizes from 0\.25 to 4 times"):
        labelling.label(model, tmp_path / "photos", tmp_path / "out", views=given)


def test_a_network_that_sees_images_at_their_own_size_takes_only_their_mirror(tmp_path):
    model = models.load(saved("glpn", tmp_path / "network"))
    files.write_rgb(tmp_path / "photos" / "0.png", picture(0, 64, 96))
    with pytest.raises(ValueError, match="sees images at their own size: give views=1"):
        labelling.label(model, tmp_path / "photos", tmp_path / "out", views=(0.5, 1))
    assert labelling.label(model, tmp_path / "photos", tmp_path / "out", views=(1,)).labels == 1


def test_several_teachers_are_fitted_to_the_first_and_averaged(relative, photo):
    other = DepthModel(RedByTheWay(), ModelSpec("disparity", 48, 4, *models.PLAIN), "larger").eval()
    both, agreed = predict_views(relative, photo, (1,), [other])
    alone, _ = predict_views(relative, photo, (1,))
    assert both.shape == alone.shape and not torch.equal(both, alone)
    assert float((both - alone).abs().max()) < 0.05 * float(alone.max() - alone.min())
    assert float(agreed) > 0.99


def test_labels_of_several_teachers_name_them_all_and_are_another_job(tmp_path):
    teacher, other = (models.load(saved("depth_anything", tmp_path / name)) for name in "ab")
    files.write_rgb(tmp_path / "photos" / "0.png", picture(0, 64, 96))
    both = labelling.label(teacher, tmp_path / "photos", tmp_path / "both", also=str(tmp_path / "b"))
    line = json.loads(both.manifest.read_text())
    assert line["teacher"]["name"] == f"{teacher.name} + {other.name}"
    assert line["teacher"]["weights"] not in (teacher.hash(), other.hash())
    assert 0 <= line["confidence"] <= 1
    with pytest.raises(ValueError, match=r"was begun with other settings .the weights of"):
        labelling.label(teacher, tmp_path / "photos", tmp_path / "both")


def test_a_metric_teacher_is_not_averaged_with_another(tmp_path):
    metric = models.load(saved("glpn", tmp_path / "network"))
    files.write_rgb(tmp_path / "photos" / "0.png", picture(0, 64, 96))
    with pytest.raises(ValueError, match=r"also=sonde-tiny: .* is not a plain relative model .*space metric"):
        labelling.label(metric, tmp_path / "photos", tmp_path / "out", also=("sonde-tiny",))


def test_a_teacher_that_pads_is_not_averaged_with_another(relative, tmp_path):
    files.write_rgb(tmp_path / "photos" / "0.png", picture(0, 64, 96))
    relative.spec = replace(relative.spec, short_side=None)
    with pytest.raises(ValueError, match=r"also=sonde-tiny: red sees images at their own size, padded"):
        labelling.prepare(relative, tmp_path / "photos", tmp_path / "out", also=("sonde-tiny",))
