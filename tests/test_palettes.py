"""The colours of depth are those of matplotlib, which is not needed to write them."""

import numpy as np
import pytest
from matplotlib import colormaps

from sonde.files.palettes import ANCHORS, draw_ramp, make_palette


@pytest.mark.parametrize("name", ANCHORS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_palette_is_matplotlibs_at_every_level(name, reverse):
    theirs = colormaps[f"{name}_r" if reverse else name](np.arange(256), bytes=True)[:, :3]
    np.testing.assert_array_equal(make_palette(name, reverse=reverse), theirs)


@pytest.mark.parametrize("name", ANCHORS)
@pytest.mark.parametrize("width", [1, 2, 97, 180, 256, 4000])
def test_a_ramp_is_matplotlibs_at_every_width(name, width):
    theirs = colormaps[name](np.linspace(0, 1, width), bytes=True)[:, :3]
    np.testing.assert_array_equal(draw_ramp(width, name), theirs)


def test_nobody_changes_the_palette_that_all_share():
    with pytest.raises(ValueError, match="read-only"):
        make_palette()[0] = 0
