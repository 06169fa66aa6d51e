"""The row `fixed-camera`: both sides see the same captures of one bench, and a figure says what was measured."""

import sys

import numpy as np
import pytest
import torch

from sonde.bench.fixed import CAPTURES, PlainBench, write_bench
from sonde.bench.processes import run_command
from sonde.bench.training import measure_fixed_camera
from sonde.datasets import open_set
from sonde.training.fixed import explain_no_bench, read_bench


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_bench(tmp_path_factory.mktemp("bench") / "set", (96, 128))


def test_the_rendered_camera_does_not_move(root):
    captures = open_set("zivid", root)
    assert len(captures) == CAPTURES
    assert explain_no_bench(read_bench(captures, captures.ids), [[id_] for id_ in captures.ids]) is None


def test_the_plain_side_reads_all_but_one_capture_and_decodes_what_it_encodes(root):
    plain = PlainBench(root, (64, 96), 1)
    assert len(plain) == CAPTURES - 1 and plain.kept == [0, 2, 3, 4]
    item, depth = plain[1], plain.read_depth(2)
    assert item["pixel_values"].shape == (3, 64, 96)
    assert torch.equal(item["mask"], torch.from_numpy(depth > 0))
    decoded = plain.decode(item["depth"]).numpy()
    np.testing.assert_allclose(decoded[depth > 0], depth[depth > 0], rtol=1e-4)


def test_both_sides_read_the_same_depth(root):
    captures, plain = open_set("zivid", root), PlainBench(root, (64, 96), 0)
    np.testing.assert_allclose(1000 * captures.read(3).depth, plain.read_depth(3), rtol=1e-5)


def test_a_verb_that_fails_says_its_own_last_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"failed: .*absent\.png"):
        run_command([sys.executable, "-m", "sonde", "predict", str(tmp_path / "absent.png")])


@pytest.mark.slow
def test_the_row_tells_seconds_memory_and_errors_of_both_sides():
    row = measure_fixed_camera(quick=True)
    assert row.ratio == pytest.approx(row.plain / row.sonde) and row.memory_mb is not None and row.figures is not None
    assert set(row.memory_mb) == {"sonde", "plain"}
    assert row.plain == pytest.approx((CAPTURES + 1) * row.figures["plain_fit_s"])
    assert row.figures["mae_mm_sonde"] > 0 and row.figures["mae_mm_plain"] > 0
