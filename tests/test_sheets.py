"""A sheet shows every image beside its depth, with its name and range; memory does not grow with their number."""

import numpy as np
import pytest
import test_predict as predicting
from PIL import Image
from test_predict import paint

from sonde import files, prediction
from sonde.prediction import sheets
from sonde.prediction.savers import spell_value


def test_a_sheet_shows_every_image_beside_its_depth(tmp_path):
    sources = [paint(tmp_path / "in" / f"{n}.png", 60, 80) for n in range(5)]
    (tmp_path / "in" / "torn.png").write_bytes(b"no picture")
    outcome = prediction.predict(tmp_path / "in", predicting.model(), tmp_path / "out", save=(), sheet=True)
    assert [path.name for path in outcome.written] == ["sheet.png", "predictions.json"] and len(outcome.failed) == 1
    seen, wide = files.read_rgb(tmp_path / "out" / "sheet.png"), prediction.TILE[0]
    left, top, high = sheets.MARGIN, sheets.HEADER + sheets.CAPTION, wide * 60 // 80
    first = np.asarray(Image.open(sources[0]).resize((wide, high), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(seen[top : top + high, left : left + wide], first)
    start = left + wide + sheets.GAP
    near, far = seen[top + high // 2, start + 4], seen[top + high // 2, start + wide - 4]
    assert near[0] > near[2] and far[2] > far[0]  # red at the left, violet at the right
    caption = seen[sheets.HEADER : top, left : start + wide]
    assert (caption[:, :20] < 128).any() and (caption[:, -20:] < 128).any()  # the name and the range
    assert (seen[-high:, seen.shape[1] // 2 :] == 255).all()  # there is no sixth image


def test_many_images_have_several_sheets_and_a_later_call_replaces_them(tmp_path, monkeypatch):
    monkeypatch.setattr(sheets, "PER_SHEET", 2)
    for number in range(5):
        paint(tmp_path / "in" / f"{number}.png")
    for source, names in (
        (tmp_path / "in", ["sheet.png", "sheet-002.png", "sheet-003.png"]),
        (tmp_path / "in" / "0.png", ["sheet.png"]),
    ):
        outcome = prediction.predict(source, predicting.model(), tmp_path / "out", save=(), sheet=True)
        assert [path.name for path in outcome.written[:-1]] == names
        assert {path.name for path in (tmp_path / "out").glob("sheet*")} == set(names)


@pytest.mark.parametrize("size", [(375, 1242), (1242, 375), (2, 900), (900, 2), (1, 1)])
@pytest.mark.parametrize("space", ["metric", "disparity"])
def test_an_image_of_any_shape_is_shown_whole_and_large_enough(size, space):
    image = np.zeros((*size, 3), np.uint8)
    answer = prediction.PredictedImage(
        image,
        np.linspace(1, 2, image[..., 0].size, dtype=np.float32).reshape(size),
        space,
        "m" if space == "metric" else "1",
        None,
    )
    shown = sheets._fit_picture(image).size
    assert max(shown) == sheets.TILE[0] >= 320 and min(shown) >= 1
    tile = sheets.draw_tile("a" * 300, answer)
    assert tile.shape[1] == 2 * sheets.TILE[0] + sheets.GAP + sheets.MARGIN and tile.shape[0] >= shown[1]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.41234, "0.4123"), (1310.4, "1310"), (71234.5, "71230"), (0.0, "0"), (-3.25, "-3.25"), (9999.7, "10000")],
)
def test_a_number_is_never_a_power_of_ten(value, text):
    assert spell_value(value) == text
