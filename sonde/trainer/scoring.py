"""The scores of a validation: a network's raw answers in the set's unit, one image at a time."""

import math

import torch
from accelerate import Accelerator

from sonde import metrics
from sonde.align import ALIGN
from sonde.models import DepthModel
from sonde.tensors import Batch, Depth, Mask, PerImage
from sonde.units import UNITS

SCORES = ("mae", "abs_rel", "delta1")
"""What validation reports beside the loss; `mae` in the set's unit."""


def name_scores(unit: str) -> list[str]:
    """What may choose the checkpoint or drive a plateau, as validation reports it without `eval_`."""
    return ["loss", *(f"{name}_{unit}" if name == "mae" else name for name in SCORES)]


class ValidationScores:
    """Collects the scores of every validation image, of all processes."""

    def __init__(self, model: DepthModel, accelerator: Accelerator):
        self.model = model
        self.accelerator = accelerator
        self._values: dict[str, list[PerImage]] = {}

    def clear(self) -> None:
        """Before a validation."""
        self._values = {}

    def add(self, answer: Depth, depth: Depth, mask: Mask) -> None:
        """Score a batch of answers, as `decode` gives them; every process must call it."""
        unit = self.model.spec.unit
        answer = ALIGN["disparity" if self.model.space == "disparity" else "none"](answer, depth, mask)
        # An answer that is not finite must not drop out of the mean as an image without trusted pixels does.
        broken = (mask & ~answer.isfinite()).flatten(1).any(1)
        for name, found in metrics.score(answer, depth, mask, SCORES).items():
            score, in_unit = torch.where(broken, torch.inf, found), name == "mae"
            values = self._values.setdefault(f"mae_{unit}" if in_unit else name, [])
            shared = self.accelerator.gather_for_metrics(score / UNITS[unit] if in_unit else score)
            values.append(torch.as_tensor(shared))

    def average(self) -> dict[str, float]:
        """The mean of each score over all images with a trusted pixel; NaN if an answer was not finite."""
        means = {name: torch.cat(values).nanmean().item() for name, values in self._values.items()}
        return {name: mean if math.isfinite(mean) else math.nan for name, mean in means.items()}


def decode(model: DepthModel, pred: Depth, batch: Batch) -> Depth:
    """The quantity that the model's space names, from a raw answer: metres in the batch's own camera, or disparity."""
    encoding = model.encoding
    return (pred if encoding is None else encoding.decode(pred)) * model.focal_scale_of(batch)
