"""Encodings map their range onto [0, 1] and back, exactly, in either array library."""

import json

import numpy as np
import pytest
import torch

from sonde.encoding import ENCODINGS, Encoding, Inverse, from_dict

NEAR, FAR = 0.25174, 3.90745
EXACT = ["inverse", "linear", "log"]


@pytest.fixture(params=EXACT)
def encoding(request: pytest.FixtureRequest) -> Encoding:
    return ENCODINGS[request.param](NEAR, FAR)


def every_depth(dtype: type = np.float32) -> np.ndarray:
    """The range in steps of two micrometres, its ends included."""
    return np.linspace(NEAR, FAR, 1_800_001).astype(dtype).clip(NEAR, FAR)


def test_round_trip_is_within_a_hundredth_of_a_millimetre_in_float32(encoding: Encoding):
    depth = every_depth()
    in_numpy = encoding.decode(encoding.encode(depth))
    in_torch = encoding.decode(encoding.encode(torch.from_numpy(depth))).numpy()
    for back in (in_numpy, in_torch):
        assert back.dtype == np.float32
        assert np.abs(back.astype(np.float64) - depth).max() < 1e-5


def test_round_trip_is_exact_in_float64(encoding: Encoding):
    depth = every_depth(np.float64)
    np.testing.assert_allclose(encoding.decode(encoding.encode(depth)), depth, rtol=1e-12)


def test_values_round_trip_too(encoding: Encoding):
    value = torch.linspace(0, 1, 1001)
    torch.testing.assert_close(encoding.encode(encoding.decode(value)), value, rtol=0, atol=1e-6)


def test_ends_of_the_range_are_zero_and_one_and_near_is_one_only_for_inverse(encoding: Encoding):
    value = encoding.encode(torch.tensor([NEAR, FAR], dtype=torch.float64))
    expected = [1.0, 0.0] if isinstance(encoding, Inverse) else [0.0, 1.0]
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_inverse_is_linear_in_inverse_depth():
    value = ENCODINGS["inverse"](1.0, 4.0).encode(np.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(value, [1.0, 1 / 3, 0.0], atol=1e-15)


@pytest.mark.parametrize("name", ENCODINGS)
def test_encode_never_leaves_the_unit_interval(name: str):
    encoding = ENCODINGS[name](NEAR, FAR)
    depth = np.array([-1.0, 0.0, 1e-30, NEAR, 1.0, FAR, 1e30, np.inf], np.float32)
    for value in (encoding.encode(depth), encoding.encode(torch.from_numpy(depth)).numpy()):
        assert 0.0 <= value.min() < 1e-6
        assert 1.0 - 1e-6 < value.max() <= 1.0
    assert np.isnan(encoding.encode(np.array([np.nan]))).all()


def test_decode_never_leaves_the_range(encoding: Encoding):
    depth = encoding.decode(torch.tensor([-5.0, 0.0, 1.0, 7.0]))
    assert depth.min() == pytest.approx(NEAR)
    assert depth.max() == pytest.approx(FAR)


def test_notebook_formula_is_fifteen_millimetres_short_at_the_far_end():
    notebook = ENCODINGS["inverse_notebook"](NEAR, FAR)
    decoded_mm = 1000 * notebook.decode(notebook.encode(np.array([NEAR, FAR])))
    np.testing.assert_allclose(decoded_mm, [1 / (1 / 251.74 + 1e-6), 1 / (1 / 3907.45 + 1e-6)], rtol=1e-12)
    assert 3907.45 - decoded_mm[1] == pytest.approx(15.2, abs=0.05)


@pytest.mark.parametrize("name", ENCODINGS)
def test_gradients_agree_with_finite_differences(name: str):
    encoding = ENCODINGS[name](NEAR, FAR)
    depth = torch.linspace(0.3, 3.8, 7, dtype=torch.float64, requires_grad=True)
    value = torch.linspace(0.1, 0.9, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: encoding.encode(z), depth)
    assert torch.autograd.gradcheck(lambda v: encoding.decode(v), value)


@pytest.mark.parametrize("name", ENCODINGS)
def test_an_encoding_survives_json(name: str):
    encoding = ENCODINGS[name](0.5, 10)
    assert from_dict(json.loads(json.dumps(encoding.to_dict()))) == encoding


@pytest.mark.parametrize("ends", [(0.0, 4.0), (4.0, 4.0), (4.0, 0.3), (0.3, np.inf), (np.nan, 4.0)])
def test_an_impossible_range_is_refused(ends: tuple[float, float]):
    with pytest.raises(ValueError, match="0 < min_depth < max_depth"):
        ENCODINGS["linear"](*ends)


def test_a_wrong_name_answers_with_the_right_one():
    with pytest.raises(ValueError, match="did you mean 'inverse'"):
        from_dict({"name": "invers", "min_depth": 1.0, "max_depth": 2.0})


@pytest.mark.parametrize("name", ["inverse", "log", "linear"])
def test_half_precision_reaches_both_ends_of_a_range_beyond_its_own(name: str):
    encoding, ends = ENCODINGS[name](1e-3, 80.0), torch.tensor([1e-3, 80.0]).half()
    there = encoding.encode(ends)
    back = encoding.decode(there)
    assert there.dtype == back.dtype == torch.float16
    torch.testing.assert_close(back, ends, rtol=5e-3, atol=1e-3)
    array = encoding.decode(encoding.encode(ends.numpy()))
    assert array.dtype == np.float16
    np.testing.assert_allclose(array, ends.numpy(), rtol=5e-3, atol=1e-3)
    inner = torch.tensor([0.0012, 70.0])
    torch.testing.assert_close(encoding.encode(inner.half()).float(), encoding.encode(inner), rtol=0, atol=1e-3)
