"""Images asked for together: how many at once, and less where the device has too little memory."""

from collections.abc import Sequence
from math import prod

from sonde import models
from sonde.types import MatrixArray, Prediction, RGBArray

MOST = 16
"""Images at once on a GPU where nobody says otherwise: more gain nothing."""
SHARE = 0.5
"""Of a GPU's free memory that a batch may need."""
PER_PIXEL = 8192
"""Bytes that a network needs at most for each pixel of its input: those of a ViT-L and its head."""


class TooLittleMemory(ValueError):
    """A device has too little memory for a batch that was halved already; the message says what to do."""


class BatchModel:
    """Asks a model for images of one shape in batches; where memory is short, the batch is halved once.

    Args:
        model: who answers.
        batch_size: images at once at most; None: 1 on a CPU, on a GPU what its free memory holds.
    """

    def __init__(self, model: "models.DescribedModel", batch_size: int | None = None):
        self.model = model
        self.asked = batch_size
        self.halved = False
        self._found: dict[tuple[int, int], int] = {}

    def find_size(self, shape: tuple[int, ...]) -> int:
        """How many images of a shape (height, width, 3) to give at once."""
        if self.asked is not None:
            return self.asked
        if self.model.placement.device == "cpu":
            return 1
        try:
            seen = self.model.spec.network_size(shape[0], shape[1])
        except ValueError:  # said when the image is asked for
            return 1
        if seen not in self._found:  # once for each size: torch keeps memory that it does not use, and calls it used
            self._found[seen] = choose_batch_size(self.model.placement.device, seen)
        return self._found[seen]

    def predict(self, images: Sequence[RGBArray], camera: MatrixArray | None) -> list[Prediction]:
        """The predictions of images of one shape.

        Raises:
            ValueError: of one image, as `DescribedModel.predict`; of several, one of them is bad: ask one by one.
            TooLittleMemory: too little memory.
        """
        try:
            return self.model.predict_batch(images, camera)
        except MemoryError:
            if self.halved or len(images) == 1:
                raise TooLittleMemory(self._explain(images)) from None
        self.halved = True
        self.asked = (len(images) + 1) // 2
        return [
            answer
            for start in range(0, len(images), self.asked)
            for answer in self.predict(images[start : start + self.asked], camera)
        ]

    def _explain(self, images: Sequence[RGBArray]) -> str:
        device = self.model.placement.device
        height, width = images[0].shape[:2]
        what = f"an image of {width}x{height}" if len(images) == 1 else f"{len(images)} images of {width}x{height}"
        ways = ["give smaller images"] if len(images) == 1 else ["give a smaller --batch-size or smaller images"]
        if device != "cpu":
            ways.append("use --device cpu")
        return f"{device} has too little memory for {what}: {', or '.join(ways)}."


def choose_batch_size(device: str, size: tuple[int, int]) -> int:
    """How many inputs of a (height, width) a GPU takes at once, by its free memory; MOST at most."""
    if not device.startswith("cuda"):
        return 4  # Apple's GPU shares the machine's memory, and does not say how much of it is free
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return min(max(int(SHARE * free / (PER_PIXEL * prod(size))), 1), MOST)
