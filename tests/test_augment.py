"""Augmentation: decided by (seed, epoch, index) alone; what moves the picture moves depth, mask and camera too."""

import cv2
import numpy as np
import pytest
import torch
from small_captures import INTRINSICS, NORMAL, OFFSET, picture, plane_depth

from sonde.augment import augment, cut_depth, draw_strip, paint_border
from sonde.geometry import unproject
from sonde.recipes import AugmentRecipe

EVERYTHING = AugmentRecipe(
    **{"flip": 0.5, "crop": 0.6, "brightness": 0.3, "contrast": 0.3, "saturation": 0.5},
    **{"hue": 0.2, "gamma": 0.3, "value": 0.1, "noise": 0.05, "blur": 1.5},
)
GOLDEN = [slice(812, 907), slice(920, 1001), slice(176, 410)]
"""Of seed 42, epoch 0, the first three captures, 1216 pixels wide."""
PHOTOMETRIC = EVERYTHING.model_copy(update={"flip": 0.0, "crop": 1.0})
DEPTH = plane_depth(24, 32).astype(np.float32)
MASK = np.arange(24 * 32).reshape(24, 32) % 7 > 0


def vary(
    recipe: AugmentRecipe,
    key: tuple[int, int, int] = (0, 0, 0),
    image: np.ndarray | None = None,
    leader: int | None = None,
):
    image = picture(0) if image is None else image
    return augment(image, np.where(MASK, DEPTH, 0), MASK, INTRINSICS, recipe, key, leader)


def same(one: tuple, other: tuple) -> bool:
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True))


def test_the_same_key_gives_the_same_bytes_and_any_other_key_does_not() -> None:
    assert same(vary(EVERYTHING, (1, 2, 3)), vary(EVERYTHING, (1, 2, 3)))
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        assert not torch.equal(vary(PHOTOMETRIC, (1, 2, 3))[0], vary(PHOTOMETRIC, other)[0])


def test_nothing_varied_is_nothing_changed() -> None:
    image, depth, mask, intrinsics = vary(AugmentRecipe())
    np.testing.assert_array_equal((image.permute(1, 2, 0).numpy() * 255).round(), picture(0))
    assert same((depth, mask, intrinsics), (np.where(MASK, DEPTH, 0), MASK, INTRINSICS))
    assert image.is_contiguous() and image.dtype == torch.float32


def test_colours_vary_within_range_and_leave_depth_alone() -> None:
    for index in range(5):
        image, *others = vary(PHOTOMETRIC, (0, 0, index))
        assert same(tuple(others), (np.where(MASK, DEPTH, 0), MASK, INTRINSICS))
        assert 0 <= image.min() and image.max() <= 1 and image.shape == (3, 24, 32)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue", "gamma", "value", "noise", "blur"])
def test_each_colour_change_alone_changes_the_image(name: str) -> None:
    amount = 2.0 if name == "blur" else 0.4
    assert not torch.equal(vary(AugmentRecipe(**{name: amount}), (0, 0, 1))[0], vary(AugmentRecipe())[0])


def test_grey_stays_grey_under_saturation_and_hue_and_luma_is_kept() -> None:
    grey = picture(0)[..., :1].repeat(3, -1)
    recipe = AugmentRecipe(saturation=0.4, hue=0.5)
    np.testing.assert_allclose(vary(recipe, image=grey)[0], vary(AugmentRecipe(), image=grey)[0], atol=2e-3)
    muted = (100 + picture(0) // 8).astype(np.uint8)
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    before, after = vary(AugmentRecipe(), image=muted)[0], vary(recipe, image=muted)[0]
    torch.testing.assert_close((luma * before).sum(0), (luma * after).sum(0), atol=2e-3, rtol=0)


def test_switching_on_one_change_leaves_the_draws_of_the_others() -> None:
    def flipped(recipe: AugmentRecipe) -> list[bool]:
        return [vary(recipe, (0, 0, index))[3][0, 2] != INTRINSICS[0, 2] for index in range(20)]

    flips, both = flipped(AugmentRecipe(flip=0.5)), flipped(EVERYTHING.model_copy(update={"crop": 1.0}))
    assert flips == both and 3 < sum(flips) < 17


def test_a_flip_mirrors_the_plane() -> None:
    image, depth, mask, intrinsics = vary(AugmentRecipe(flip=1.0))
    np.testing.assert_array_equal((image.permute(1, 2, 0).numpy() * 255).round(), picture(0)[:, ::-1])
    points = unproject(depth.astype(np.float64), intrinsics)[mask]
    np.testing.assert_allclose(points @ (NORMAL * [-1, 1, 1]), OFFSET, rtol=1e-6)


def test_a_crop_shows_part_of_the_same_plane_with_untouched_values() -> None:
    for index in range(5):
        _, depth, mask, intrinsics = vary(AugmentRecipe(crop=0.5), (0, 3, index))
        assert depth.shape == mask.shape < (24, 32)
        assert set(depth[mask]) <= set(DEPTH[MASK]) and (depth[~mask] == 0).all()
        points = unproject(depth.astype(np.float64), intrinsics)[mask]
        np.testing.assert_allclose(points @ NORMAL, OFFSET, rtol=1e-6)


def test_crops_of_a_batch_have_one_size_and_many_places() -> None:
    crops = [vary(AugmentRecipe(crop=0.5), (0, 1, index), leader=3) for index in range(8)]
    assert len({crop[1].shape for crop in crops}) == 1
    assert len({tuple(crop[3][:2, 2]) for crop in crops}) > 4
    for keys in ([(0, epoch, 0) for epoch in range(8)], [(0, 1, index) for index in range(8)]):
        assert len({vary(AugmentRecipe(crop=0.5), key)[1].shape for key in keys}) > 4


def test_aspects_vary_from_batch_to_batch_within_the_factor_and_most_stay_near() -> None:
    recipe, image = AugmentRecipe(aspect=2.5), cv2.resize(picture(0), (160, 120))
    shapes = [vary(recipe, (0, 0, index), image)[0].shape[1:] for index in range(600)]
    aspects = np.array([width / height for height, width in shapes]) / (4 / 3)
    assert {min(shape) for shape in shapes} == {120}
    assert 0.39 < aspects.min() < 0.45 and 2.2 < aspects.max() < 2.5
    assert np.mean(np.abs(np.log(aspects)) < np.log(2.5) / 4) == pytest.approx(0.5, abs=0.06)
    assert np.mean(aspects > 1) == pytest.approx(0.5, abs=0.06)
    assert len({vary(recipe, (0, 0, index), image, leader=3)[0].shape for index in range(8)}) == 1


@pytest.mark.parametrize("crop", [1.0, 0.7])
def test_a_strip_shows_the_same_view_in_image_and_depth_and_is_not_squashed(crop: float) -> None:
    down, across = np.mgrid[:120, :160]
    image = np.stack([across, down, across * 0], -1).astype(np.uint8)  # colours tell the place, depth likewise
    for index in range(12):
        recipe, key = AugmentRecipe(aspect=2.5, crop=crop), (0, 5, index)
        seen, place, _, _ = augment(image, across + np.float32(1), across >= 0, INTRINSICS, recipe, key)
        _, low, _, _ = augment(image, down + np.float32(1), across >= 0, INTRINSICS, recipe, key)
        small = torch.nn.functional.interpolate(seen[None, :2] * 255, place.shape, mode="area")[0].numpy()
        np.testing.assert_allclose(small + 1, np.stack([place, low]), atol=1)
        assert seen.shape[2] / seen.shape[1] == pytest.approx(place.shape[1] / place.shape[0], rel=0.03)


@pytest.mark.parametrize("size", [(24, 32), (48, 64), (42, 70), (20, 20)])
def test_image_and_depth_show_the_same_view_after_flip_and_crop(size: tuple[int, int]) -> None:
    height, width = size
    across = ((np.arange(width) + 0.5) / width * 200).round().astype(np.uint8)  # brightness tells the place
    down = ((np.arange(height) + 0.5) / height * 200).round().astype(np.uint8)
    image = np.stack(np.broadcast_arrays(across[None], down[:, None], across[None] * 0), -1)
    v, u = np.mgrid[:24, :32]
    place = ((u + 0.5) / 32 * 200).astype(np.float32)
    for index in range(6):
        recipe = AugmentRecipe(flip=0.5, crop=0.6)
        seen, depth, _, _ = augment(image, place, place > 0, INTRINSICS, recipe, (0, 2, index))
        _, depth_down, _, _ = augment(
            image, ((v + 0.5) / 24 * 200).astype(np.float32), place > 0, INTRINSICS, recipe, (0, 2, index)
        )
        small = torch.nn.functional.interpolate(seen[None, :2] * 255, depth.shape, mode="area")[0].numpy()
        np.testing.assert_allclose(small[0], depth, atol=8 if size == (20, 20) else 4)
        np.testing.assert_allclose(small[1], depth_down, atol=8 if size == (20, 20) else 4)


def test_unknown_intrinsics_stay_unknown() -> None:
    unknown = np.full((3, 3), np.nan)
    result = augment(picture(0), DEPTH, MASK, unknown, AugmentRecipe(flip=1.0, crop=0.5), (0, 0, 0))
    assert np.isnan(result[3][:2]).all()


def test_brightness_and_value_are_albumentations_random_brightness_contrast() -> None:
    """There v' = clip(a v + b) with a in [0.8, 1.2] and b in [-0.2, 0.2], drawn apart."""
    before = vary(AugmentRecipe())[0].double()
    factors, shifts = [], []
    for index in range(40):
        after = vary(AugmentRecipe(brightness=0.2, value=0.2), (0, 0, index))[0].double()
        inside = (after > 0.01) & (after < 0.99)
        (shift, factor), *_ = np.linalg.lstsq(
            np.stack([np.ones(int(inside.sum())), before[inside].numpy()], 1), after[inside].numpy(), rcond=None
        )
        torch.testing.assert_close(after, (factor * before + shift).clamp(0, 1), atol=1e-4, rtol=0)
        factors.append(factor)
        shifts.append(shift)
    assert 0.8 < min(factors) < 0.85 and 1.15 < max(factors) < 1.2
    assert -0.2 < min(shifts) < -0.15 and 0.15 < max(shifts) < 0.2
    assert abs(np.corrcoef(factors, shifts)[0, 1]) < 0.4


def test_each_kind_of_colour_change_has_its_own_chance() -> None:
    kinds = [{"brightness": 0.4, "contrast": 0.4}, {"gamma": 0.4}, {"saturation": 0.4, "hue": 0.2}, {"noise": 0.1}]
    plain = vary(AugmentRecipe())[0]
    made = [
        [not torch.equal(vary(AugmentRecipe(colour=0.5, **kind), (0, 0, index))[0], plain) for index in range(400)]
        for kind in kinds
    ]
    assert np.mean(made, 1) == pytest.approx([0.5] * 4, abs=0.08)
    assert np.abs(np.corrcoef(made) - np.eye(4)).max() < 0.2
    for index in np.flatnonzero(made[1])[:5]:  # where a change is made, it is the one that was always made
        key = (0, 0, int(index))
        assert torch.equal(vary(AugmentRecipe(gamma=0.4, colour=0.5), key)[0], vary(AugmentRecipe(gamma=0.4), key)[0])
    assert torch.equal(vary(PHOTOMETRIC.model_copy(update={"colour": 0.0}))[0], plain)


def test_the_strip_is_drawn_as_glpdepth_draws_it() -> None:
    recipe, width = AugmentRecipe(cut_depth=0.25), 1216
    strips = [draw_strip(recipe, (42, 0, index), width) for index in range(8000)]
    drawn = [columns for columns in strips if columns.stop]
    assert len(drawn) / len(strips) == pytest.approx(0.25, abs=0.02)
    left = np.array([columns.start for columns in drawn])
    wide = np.array([columns.stop - columns.start for columns in drawn])
    assert left.mean() == pytest.approx(width / 2, rel=0.05) and left.min() < 20 and left.max() > 1190
    assert wide.mean() == pytest.approx(width * 0.75 / 4, rel=0.05) and wide.min() == 1  # E[1 - a] E[b] 3/4
    assert (wide <= np.maximum((width - left) * 0.75, 1)).all() and (left + wide <= width).all()
    for index in range(5):
        _, start, share = np.random.default_rng((42, 0, index, 3)).uniform(0, 1, 3)
        found = draw_strip(AugmentRecipe(cut_depth=1.0), (42, 0, index), width)
        assert found.start == int(start * width)
        assert found.stop - found.start == max(int((width - start * width) * share * 0.75), 1)
    golden = [draw_strip(AugmentRecipe(cut_depth=1.0), (42, 0, index), width) for index in range(3)]
    assert golden == GOLDEN


def test_the_strip_shows_depth_and_everything_else_stays() -> None:
    recipe, key = AugmentRecipe(cut_depth=1.0), (0, 0, 1)
    pixels, depth = vary(AugmentRecipe())[0], np.where(MASK, DEPTH, 0).astype(np.float32)
    before = depth.copy()
    shown = cut_depth(pixels.clone(), depth, recipe, key, far=2.0)
    columns = draw_strip(recipe, key, 32)
    within = torch.zeros(24, 32, dtype=torch.bool)
    within[:, columns] = torch.from_numpy(MASK)[:, columns]
    assert 3 < int(within.any(0).sum()) < 24
    for channel, plain in zip(shown, pixels, strict=True):
        np.testing.assert_array_equal(channel[within], DEPTH[within.numpy()] / np.float32(2))
        assert torch.equal(channel[~within], plain[~within])
    np.testing.assert_array_equal(depth, before)
    for small in (DEPTH[::2, ::2], DEPTH.repeat(2, 0).repeat(2, 1)):  # a depth map of another size
        shown = cut_depth(pixels.clone(), np.ascontiguousarray(small), recipe, key, far=2.0)
        assert set(shown[0, :, columns].flatten().tolist()) <= set((small / np.float32(2)).flatten().tolist())


def test_depth_shown_in_the_image_never_wraps() -> None:
    recipe, key = AugmentRecipe(cut_depth=1.0), (0, 0, 1)
    levels = np.linspace(1, 20480, 32).astype(np.uint16)  # a KITTI file's, up to 80 m; bytes would begin anew at 256
    depth = np.broadcast_to((levels / 256).astype(np.float32), (24, 32)).copy()
    row = cut_depth(torch.zeros(3, 24, 32), depth, recipe, key, far=80.0)[0, 0, draw_strip(recipe, key, 32)]
    assert (row.diff() > 0).all() and 0 < row.min() and row.max() <= 1
    assert cut_depth(torch.zeros(3, 24, 32), depth, recipe, key, far=20.0).max() == 1  # of a farther set


def test_a_border_is_one_grey_at_the_edges_alone_and_in_its_share_of_the_images() -> None:
    recipe, plain = AugmentRecipe(border=0.3), torch.full((3, 120, 160), 0.4)
    shown = [paint_border(plain.clone(), recipe, (0, 0, index)) for index in range(1200)]
    framed = [pixels for pixels in shown if not torch.equal(pixels, plain)]
    assert len(framed) / len(shown) == pytest.approx(0.3, abs=0.04)
    greys = []
    for pixels in framed:
        painted = (pixels != plain).any(0)
        assert not painted[6:-6, 8:-8].any()  # a twentieth of each side at most
        assert torch.equal(painted, painted.all(1, keepdim=True) | painted.all(0, keepdim=True))  # whole rows, columns
        grey = pixels[:, painted].unique()
        assert len(grey) == 1
        greys.append(grey.item())
    for kind in (np.equal(greys, 0), np.equal(greys, 1), (np.array(greys) > 0) & (np.array(greys) < 1)):
        assert kind.mean() == pytest.approx(1 / 3, abs=0.08)
    for edge in (
        (slice(0, 1), slice(None)),
        (slice(-1, None), slice(None)),
        (slice(None), slice(0, 1)),
        (slice(None), slice(-1, None)),
    ):
        share = np.mean([bool((pixels[:, *edge] != 0.4).all()) for pixels in framed])
        assert share > 0.8  # else narrower than half a pixel
    assert torch.equal(paint_border(plain.clone(), recipe, (0, 0, 5)), paint_border(plain.clone(), recipe, (0, 0, 5)))
