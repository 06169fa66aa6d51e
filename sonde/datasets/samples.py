"""What a training loop draws from: captures as tensors, augmented by a function of (seed, epoch, index)."""

from collections.abc import Sequence
from typing import NotRequired, Protocol, TypedDict, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from sonde.augment import augmented, cut, window
from sonde.datasets.cache import unknown
from sonde.datasets.contract import Capture
from sonde.recipes import AugmentRecipe
from sonde.types import Sample


class Item(TypedDict):
    """One Sample before it is batched."""

    image: Float[Tensor, "3 h w"]
    """RGB in [0, 1]."""
    depth: Float[Tensor, "H W"]
    """Metres, 0 where untrusted; its own size, never resampled."""
    mask: Bool[Tensor, "H W"]
    intrinsics: Float[Tensor, "3 3"]
    """For the depth's pixels; NaN where unknown, so that batches always collate."""
    cut: NotRequired[Float[Tensor, "4"]]
    """CutMix's rectangle, where the recipe mixes."""
    origin: Int64[Tensor, "2"]
    """(epoch, index): with the seed, all that this is a function of."""


@runtime_checkable
class Readable(Protocol):
    """A DepthSet, or one already `Decoded`."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Capture:
        """The capture at `index`."""
        ...


class Samples(Dataset[Item]):
    """The captures at `indices`, in that order, each augmented anew in every epoch.

    Args:
        captures: usually `Decoded(open_set(...), image_size, cache)`.
        indices: which of them, by position in the set.
        augment: what is varied; None varies nothing.
        seed: with the epoch and the capture's index, decides every draw.
        window: (height, width) to cut from captures that cover it: at random where something is varied, else central.
    """

    def __init__(
        self,
        captures: Readable,
        indices: Sequence[int],
        augment: AugmentRecipe | None = None,
        seed: int = 0,
        window: tuple[int, int] | None = None,
    ) -> None:
        self.captures = captures
        self.indices = list(indices)
        self.augment = augment or AugmentRecipe()
        self.varies = augment is not None
        self.seed = seed
        self.window = window
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by workers already running

    def __len__(self) -> int:
        return len(self.indices)

    def set_epoch(self, epoch: int) -> None:
        """Draws anew; the same epoch gives the same samples, in any process."""
        self._epoch.fill_(epoch)

    def batch(self, epoch: int, indices: Sequence[int]) -> Sample:
        """The captures at positions of the set (not of `indices`) as they were in an epoch."""
        self.set_epoch(epoch)
        return collate([self._item(index) for index in indices])

    def __getitem__(self, position: int) -> Item:
        return self._item(self.indices[position])

    def _item(self, index: int) -> Item:
        capture = self.captures.read(index)
        intrinsics = unknown() if capture.intrinsics is None else capture.intrinsics
        image, depth = capture.image, capture.depth
        key = (self.seed, int(self._epoch), index)
        if self.window is not None:
            place = key if self.varies else None
            image, depth, intrinsics = window(image, depth, intrinsics, self.window, place)
        pixels, depth, mask, intrinsics = augmented(image, depth, depth > 0, intrinsics, self.augment, key)
        item: Item = {
            "image": pixels,
            "depth": torch.from_numpy(depth),
            "mask": torch.from_numpy(mask),
            "intrinsics": torch.from_numpy(intrinsics.astype(np.float32)),
            "origin": torch.tensor(key[1:]),
        }
        if self.augment.cutmix:
            item["cut"] = torch.from_numpy(cut(self.augment, key))
        return item


def collate(items: Sequence[Item]) -> Sample:
    """A batch, (b, ...).

    Raises:
        ValueError: images or depth maps of different sizes, and what to do.
    """
    for name, remedy in (
        ("image", "set model.input_size"),
        ("depth", "set data.fit=crop, or train.per_device_train_batch_size=1 and train.gradient_accumulation_steps"),
    ):
        sizes = {tuple(item[name].shape[-2:]) for item in items}
        if len(sizes) > 1:
            found = " and ".join(f"{width}x{height}" for height, width in sorted(sizes))
            raise ValueError(f"One batch holds {name}s of {found}: {remedy}.")
    return default_collate(list(items))
