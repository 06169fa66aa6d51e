"""Augmentation: decided by (seed, epoch, index) alone; what moves the picture moves depth, mask and camera too."""

import numpy as np
import pytest
import torch
from small_captures import INTRINSICS, NORMAL, OFFSET, picture, plane_depth

from sonde.augment import augmented
from sonde.geometry import unproject
from sonde.recipes import AugmentRecipe

EVERYTHING = AugmentRecipe(
    **{"flip": 0.5, "crop": 0.6, "brightness": 0.3, "contrast": 0.3, "saturation": 0.5},
    **{"hue": 0.2, "gamma": 0.3, "noise": 0.05, "blur": 1.5},
)
PHOTOMETRIC = EVERYTHING.model_copy(update={"flip": 0.0, "crop": 1.0})
DEPTH = plane_depth(24, 32).astype(np.float32)
MASK = np.arange(24 * 32).reshape(24, 32) % 7 > 0


def vary(recipe: AugmentRecipe, key: tuple[int, int, int] = (0, 0, 0), image: np.ndarray | None = None):
    image = picture(0) if image is None else image
    return augmented(image, np.where(MASK, DEPTH, 0), MASK, INTRINSICS, recipe, key)


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


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue", "gamma", "noise", "blur"])
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


def test_crops_of_an_epoch_have_one_size_and_many_places() -> None:
    crops = [vary(AugmentRecipe(crop=0.5), (0, 1, index)) for index in range(8)]
    assert len({crop[1].shape for crop in crops}) == 1
    assert len({tuple(crop[3][:2, 2]) for crop in crops}) > 4
    assert len({vary(AugmentRecipe(crop=0.5), (0, epoch, 0))[1].shape for epoch in range(8)}) > 4


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
        seen, depth, _, _ = augmented(image, place, place > 0, INTRINSICS, recipe, (0, 2, index))
        _, depth_down, _, _ = augmented(
            image, ((v + 0.5) / 24 * 200).astype(np.float32), place > 0, INTRINSICS, recipe, (0, 2, index)
        )
        small = torch.nn.functional.interpolate(seen[None, :2] * 255, depth.shape, mode="area")[0].numpy()
        np.testing.assert_allclose(small[0], depth, atol=8 if size == (20, 20) else 4)
        np.testing.assert_allclose(small[1], depth_down, atol=8 if size == (20, 20) else 4)


def test_unknown_intrinsics_stay_unknown() -> None:
    unknown = np.full((3, 3), np.nan)
    result = augmented(picture(0), DEPTH, MASK, unknown, AugmentRecipe(flip=1.0, crop=0.5), (0, 0, 0))
    assert np.isnan(result[3][:2]).all()
