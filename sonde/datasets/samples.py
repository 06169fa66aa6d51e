"""Training samples: captures as tensors, augmented by a function of (seed, epoch, index)."""

import math
from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from sonde.augment import augment, cut_depth, draw_cut, paint_border, take_window
from sonde.background import Background
from sonde.datasets.cache import DecodedSet, make_unknown_camera
from sonde.datasets.contract import DepthSet
from sonde.recipes import AugmentRecipe
from sonde.tensors import Batch


class Sample(TypedDict):
    """One capture as tensors, before batching."""

    image: Float[Tensor, "3 h w"]
    """RGB in [0, 1]."""
    depth: Float[Tensor, "H W"]
    """Metres, 0 where untrusted; its own size, never resampled."""
    mask: Bool[Tensor, "H W"]
    intrinsics: Float[Tensor, "3 3"]
    """For the depth's pixels; NaN if unknown, so that every batch can be collated."""
    cut: NotRequired[Float[Tensor, "4"]]
    """CutMix's rectangle, if the recipe uses CutMix."""
    origin: Int64[Tensor, "2"]
    """(epoch, index). With the seed, they determine the sample."""


class DepthDataset(Dataset[Sample]):
    """The captures at `indices`, in this order; the augmentation differs in every epoch.

    Args:
        captures: usually `DecodedSet(open_set(...), image_size, cache)`.
        indices: positions of the captures in the set.
        augment: the augmentation; None applies none.
        seed: with the epoch and the capture's index, determines every random draw. The shape of a crop uses the index
            of the first capture of the batch.
        window: (height, width) of a crop from captures that cover it: random with augmentation, else central.
        max_depth: metres; depths at or beyond it are not trusted, even if the set trusts them.
        background: the bench of a fixed camera; depth is then flattened by it, as the network learns it.
    """

    def __init__(
        self,
        captures: DepthSet | DecodedSet,
        indices: Sequence[int],
        augment: AugmentRecipe | None = None,
        seed: int = 0,
        window: tuple[int, int] | None = None,
        *,
        max_depth: float = math.inf,
        background: Background | None = None,
    ) -> None:
        self.captures = captures if isinstance(captures, DecodedSet) else DecodedSet(captures)
        self.indices = list(indices)
        self.augment = augment or AugmentRecipe()
        self.varies = augment is not None
        self.seed = seed
        self.window = window
        self.max_depth = max_depth
        self.background = background
        if self.augment.cut_depth and not math.isfinite(self.captures.far):
            raise ValueError(
                "augment.cut_depth shows depth as a share of the set's far limit, and this set has none: set "
                "data.max_depth."
            )
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that already run see a change

    def __len__(self) -> int:
        return len(self.indices)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the augmentation; the same epoch gives the same samples, in any process."""
        self._epoch.fill_(epoch)

    def batch(self, epoch: int, indices: Sequence[int]) -> Batch:
        """The batch of these captures in an epoch; `indices` are positions in the set, not in `self.indices`."""
        self.set_epoch(epoch)
        return collate([self._draw(index, indices[0]) for index in indices])

    def __getitem__(self, position: int) -> Sample:
        return self._draw(self.indices[position], self.indices[position])

    def __getitems__(self, positions: Sequence[int]) -> list[Sample]:
        """All samples of a batch, for torch's DataLoader; their crops have one size."""
        return [self._draw(self.indices[position], self.indices[positions[0]]) for position in positions]

    def _draw(self, index: int, leader: int) -> Sample:
        image, depth, camera = self.captures.view(index)
        intrinsics = make_unknown_camera() if camera is None else camera
        key = (self.seed, int(self._epoch), index)
        if self.max_depth < math.inf:
            depth = np.where(depth < self.max_depth, depth, np.float32(0))
        if self.background is not None:
            depth = self.background.flatten(depth)
        if self.window is not None:
            check_window(self.captures.ids[index], image.shape[:2], depth.shape, self.window)
            image, depth, intrinsics = take_window(image, depth, intrinsics, self.window, key if self.varies else None)
        pixels, depth, mask, intrinsics = augment(image, depth, depth > 0, intrinsics, self.augment, key, leader)
        if self.augment.cut_depth:
            pixels = cut_depth(pixels, depth, self.augment, key, self.captures.far)
        if self.augment.border:
            pixels = paint_border(pixels, self.augment, key)
        sample: Sample = {
            "image": pixels,
            "depth": torch.from_numpy(depth),
            "mask": torch.from_numpy(mask),
            "intrinsics": torch.from_numpy(intrinsics.astype(np.float32)),
            "origin": torch.tensor(key[1:]),
        }
        if self.augment.cutmix:
            sample["cut"] = torch.from_numpy(draw_cut(self.augment, key))
        return sample


def collate(items: Sequence[Sample]) -> Batch:
    """Stack samples to a batch, (b, ...).

    Raises:
        ValueError: images or depth maps differ in size; the message has the remedy.
    """
    alone, steps = "train.per_device_eval_batch_size=1", "train.gradient_accumulation_steps"
    for name, remedy in (
        ("image", f"set model.input_size, or, where data.fit=window validates on whole captures, {alone}"),
        ("depth", f"set data.fit=crop, or train.per_device_train_batch_size=1 (with more {steps}) and {alone}"),
    ):
        sizes = {tuple(item[name].shape[-2:]) for item in items}
        if len(sizes) > 1:
            found = " and ".join(f"{width}x{height}" for height, width in sorted(sizes))
            raise ValueError(f"One batch holds {name}s of {found}: {remedy}.")
    return default_collate(list(items))


def check_window(id_: str, image: tuple[int, ...], depth: tuple[int, ...], size: tuple[int, int]) -> None:
    """Check that a window fits into the image and covers whole depth pixels.

    Args:
        id_: the capture's id, for the message.
        image: (height, width) of the image, in pixels.
        depth: (height, width) of the depth map, in pixels.
        size: (height, width) of the window, in pixels.

    Raises:
        ValueError: it does not fit; the message has both sizes.
    """
    found, asked = f"{id_} is {image[1]}x{image[0]}", f"data.fit=window cuts {size[1]}x{size[0]} (crop_h, crop_w)"
    if image[0] < size[0] or image[1] < size[1]:
        raise ValueError(f"{found}, and {asked}: set data.fit=crop, which scales captures, or a smaller window.")
    step = image[0] // depth[0]
    if image != (step * depth[0], step * depth[1]) or size[0] % step or size[1] % step:
        raise ValueError(
            f"{found}, its depth {depth[1]}x{depth[0]}, and {asked}: expected an image and a window that are the same "
            "whole multiple of the depth's pixels; set data.fit=crop, which scales both to one size."
        )
