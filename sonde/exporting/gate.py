"""The gate of an exported file: its answers beside those of torch in fp32, and the limits that they must keep."""

from collections.abc import Sequence
from statistics import fmean, median
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch

from sonde import models
from sonde.exporting.pictures import GatePicture
from sonde.models import DepthModel, ExportedModel
from sonde.types import DepthArray, Space

RAW_LIMIT = 1e-4
"""Of fp32: the largest difference of the network's raw answers to one input, relative to their range."""
DEPTH_LIMIT = 1e-3
"""Of fp32: the largest difference of the predictions, preparation included, relative to their range."""
WORST_SHARE = 0.97
"""Of int8: the share of pixels within NEAR of torch's answer, at the worst image."""
CLOSE, NEAR = 1.05, 1.25
"""Factors between two depths."""
SMALLEST_RANGE = 1e-2
"""Of the largest value: a range below it is taken for this, since rounding is relative to the values."""
SMALLEST_DISPARITY = 0.05
"""Of its range: aligned disparities are shifted so that the smallest of torch's is at least this."""


class TorchAnswer(NamedTuple):
    """What torch answers to a picture in fp32."""

    picture: GatePicture
    pixels: np.ndarray
    """(1, 3, H, W) standardised."""
    raw: DepthArray
    """The network's answer, times `spec.scale`."""
    depth: DepthArray
    """The prediction."""
    seconds: float
    """Of the network alone."""


class GateRow(NamedTuple):
    """How a file answers one picture."""

    image: tuple[int, int]
    """(height, width)."""
    seen: tuple[int, int]
    """(height, width) of the network's input."""
    raw_largest: float
    raw_mean: float
    """Differences of the raw answers to the same input, relative to their range."""
    depth_largest: float
    """Of the predictions, relative to their range."""
    within_close: float
    within_near: float
    """Shares of pixels whose depth is within CLOSE and NEAR of torch's."""
    seconds: float
    torch_seconds: float


class GateTable(NamedTuple):
    """How a file answers, picture by picture."""

    rows: list[GateRow]
    quantity: str
    """What the shares are of."""
    precision: str
    """fp32 or int8."""

    def find_fault(self) -> str | None:
        """What is past its limit and where; None: nothing is."""
        if self.precision == "fp32":
            for name, limit in (("raw_largest", RAW_LIMIT), ("depth_largest", DEPTH_LIMIT)):
                worst = max(self.rows, key=lambda row: _rank(row._asdict()[name]))
                value = worst._asdict()[name]
                if not value <= limit:
                    what = "the network's answer" if name == "raw_largest" else "the prediction"
                    return (
                        f"{what} differs by {value:.2g} of its range at an input of "
                        f"{_name_size(worst.seen)}, and at most {limit:g} is allowed"
                    )
            return None
        worst = min(self.rows, key=lambda row: row.within_near)
        if worst.within_near >= WORST_SHARE:
            return None
        return (
            f"{worst.within_near:.3f} of the pixels of an image of {_name_size(worst.image)} are within a factor of "
            f"{NEAR:g}, and at least {WORST_SHARE:g} are expected"
        )

    def list_rows(self) -> dict[str, dict[str, int | float | str | None]]:
        """The table in words and numbers: a row for each picture, then the mean and the worst."""
        heads = {
            "raw_largest": "largest, network",
            "raw_mean": "mean, network",
            "depth_largest": "largest, image to depth",
            "within_close": f"within {CLOSE:g}",
            "within_near": f"within {NEAR:g}",
        }

        def write(values: dict[str, float]) -> dict[str, int | float | str | None]:
            return {
                heads[name]: f"{value:.4f}" if name.startswith("within") else f"{value:.1e}"
                for name, value in values.items()
            }

        found = {
            f"{number}: {_name_size(row.image)}, seen at {_name_size(row.seen)}": write(
                {name: row._asdict()[name] for name in heads}
            )
            for number, row in enumerate(self.rows, 1)
        }
        return found | {"mean": write(self._mean()), "worst": write(self._worst())}

    def document(self) -> dict[str, object]:
        """The table for JSON."""
        rows = [row._asdict() for row in self.rows]
        return {
            "quantity": self.quantity, "precision": self.precision, "mean": self._mean(), "worst": self._worst(),
            "seconds": self.seconds, "torch_seconds": self.torch_seconds, "images": rows,
        }  # fmt: skip

    @property
    def title(self) -> str:
        """What the numbers are."""
        return (
            f"{self.precision} beside torch in fp32: differences relative to the range of the answer, and the share of "
            f"pixels whose {self.quantity} is within a factor"
        )

    @property
    def seconds(self) -> float:
        """Median time of the file's network for an image."""
        return median(row.seconds for row in self.rows)

    @property
    def torch_seconds(self) -> float:
        """Median time of torch's network for an image."""
        return median(row.torch_seconds for row in self.rows)

    def _mean(self) -> dict[str, float]:
        return {name: fmean(row._asdict()[name] for row in self.rows) for name in COMPARED}

    def _worst(self) -> dict[str, float]:
        return {
            name: (min if name.startswith("within") else max)(row._asdict()[name] for row in self.rows)
            for name in COMPARED
        }


COMPARED = ("raw_largest", "raw_mean", "depth_largest", "within_close", "within_near")


class ExportRefused(ValueError):
    """An exported file answers otherwise than the model; `table` tells where."""

    def __init__(self, message: str, table: GateTable):
        super().__init__(message)
        self.table = table


@torch.inference_mode()
def ask_torch(model: DepthModel, pictures: Sequence[GatePicture]) -> list[TorchAnswer]:
    """The answers of a network in torch, which those of the file are compared with.

    Raises:
        ValueError: an answer that is not finite.
    """
    answers = []
    for picture in pictures:
        rgb = torch.from_numpy(picture.image).to(model.mean.device).permute(2, 0, 1)[None].float() / 255
        pixels = model.prepare(rgb)
        begun = perf_counter()
        raw = model.read(model.network(pixel_values=pixels), pixels.shape[-1])[0]
        models.check_finite(raw, model.name)
        seconds = perf_counter() - begun
        depth = model.predict(picture.image, _find_camera(model, picture)).depth
        answers.append(TorchAnswer(picture, pixels.cpu().numpy(), raw.cpu().numpy(), depth, seconds))
    return answers


def judge(model: ExportedModel, answers: Sequence[TorchAnswer], *, inverse: bool = False) -> GateTable:
    """A file's answers beside torch's.

    Args:
        model: the file as it is read back.
        answers: of `ask_torch`.
        inverse: whether the network regresses the inverse of its raw answer, and that is compared.

    Raises:
        ValueError: an answer that is not finite, or of another size.
    """
    rows = [_compare(model, answer, inverse) for answer in answers]
    aligned = model.space in ("disparity", "affine")
    quantity = "depth" if not aligned else f"{model.space} after the best scale and shift, shifted to be positive"
    return GateTable(rows, quantity, model.document["precision"])


def check_gate(table: GateTable, name: str) -> None:
    """Refuse a file that is past a limit.

    Raises:
        ExportRefused: with the table.
    """
    fault = table.find_fault()
    if fault is not None:
        raise ExportRefused(f"{name} was not written: {fault}.", table)


def _compare(model: ExportedModel, answer: TorchAnswer, inverse: bool) -> GateRow:
    begun = perf_counter()
    raw = model.run(answer.pixels)[0]
    seconds = perf_counter() - begun
    expected = answer.raw
    if raw.shape != expected.shape:
        raise ValueError(f"{model.name} answers maps of {_name_size(raw.shape)}, not of {_name_size(expected.shape)}.")
    if inverse:
        raw, expected = 1 / raw, 1 / expected
    depth = model.predict(answer.picture.image, _find_camera(model, answer.picture)).depth
    close, near = share_within(depth, answer.depth, model.space)
    raw_largest, raw_mean = _differ(raw, expected)
    return GateRow(
        answer.picture.image.shape[:2],
        answer.pixels.shape[2:],
        raw_largest,
        raw_mean,
        _differ(depth, answer.depth)[0],
        close,
        near,
        seconds,
        answer.seconds,
    )


def share_within(given: DepthArray, expected: DepthArray, space: Space) -> tuple[float, float]:
    """The shares of pixels within the factors CLOSE and NEAR.

    In `disparity` and `affine` the best scale and shift are applied first, and both are shifted to be positive.
    """
    one, other = given.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    if space in ("disparity", "affine"):
        spread = one - one.mean()
        power = float(spread @ spread)
        scale = float(spread @ (other - other.mean())) / power if power > 0 else 1.0
        one = scale * spread + other.mean()
        shift = max(0.0, SMALLEST_DISPARITY * _find_range(other) - other.min())
        one, other = one + shift, other + shift
    ratio = np.full(one.shape, np.inf)
    positive = (one > 0) & (other > 0)
    ratio[positive] = np.maximum(one[positive] / other[positive], other[positive] / one[positive])
    ratio[one == other] = 1
    return float((ratio <= CLOSE).mean()), float((ratio <= NEAR).mean())


def _differ(given: DepthArray, expected: DepthArray) -> tuple[float, float]:
    """The largest and the mean difference, relative to the range of what is expected."""
    difference = np.abs(given.astype(np.float64) - expected) / _find_range(expected)
    return float(difference.max()), float(difference.mean())


def _find_range(values: np.ndarray) -> float:
    return max(float(np.ptp(values)), SMALLEST_RANGE * float(np.abs(values).max()), 1e-30)


def _find_camera(model: DepthModel | ExportedModel, picture: GatePicture) -> np.ndarray | None:
    return None if model.spec.canonical_focal is None else picture.camera


def _rank(value: float) -> float:
    """NaN is the worst of all."""
    return np.inf if np.isnan(value) else value


def _name_size(size: Sequence[int]) -> str:
    return f"{size[1]}x{size[0]}"
