"""Each row of `sonde bench` measures both sides in small; the row `fixed-camera` has tests of its own."""

import pytest

from sonde.bench import ROWS, bench


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_row_compares_two_sides(name):
    (row,) = bench(name, quick=True).rows.values()
    faster = row.plain / row.sonde
    assert row.sonde > 0 and row.ratio in (pytest.approx(faster), pytest.approx(1 / faster))
