"""The start of a trained head: a least-squares scale and shift in its last layer, before the first step."""

import torch
from torch import Tensor
from torch.nn import functional

from sonde import adapters, datasets
from sonde.datasets import DepthDataset
from sonde.models import DepthModel
from sonde.tensors import Batch

IMAGES = 8
"""Captures, at most, that the scale and shift are fitted to."""


@torch.no_grad()
def fit_last_layer(model: DepthModel, samples: DepthDataset) -> None:
    """Fold into the last layer the scale and shift that bring its output nearest to its target on a few captures."""
    layer = model.network.get_submodule(model.family.last)
    assert isinstance(layer, torch.nn.Conv2d)
    # The last layer's output has no name in what a network returns.
    outputs: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: outputs.append(output[:, 0]))
    rows = []
    for index in range(min(IMAGES, len(samples))):
        batch = datasets.collate([samples[index]])
        model.forward_raw(model.network, batch["image"])
        rows.append(_compare(model, batch, outputs.pop()))
    hook.remove()
    raw, target, mask = (torch.cat(column)[None, None] for column in zip(*rows, strict=True))
    adapters.fold_affine(layer, *adapters.fit_start(raw, target, mask))


def _compare(model: DepthModel, batch: Batch, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, target and mask of the last layer for one capture, each as a row of pixels."""
    encoding = model.encoding
    assert encoding is not None
    if model.spec.pads:
        raw = raw[:, : batch["image"].shape[-2], : batch["image"].shape[-1]]
    size = raw.shape[-2:]
    # Untrusted depth is replaced before the encoding, which divides or takes logarithms.
    target = encoding.encode(torch.where(batch["mask"], batch["depth"] / model.focal_scale_of(batch), 1.0))
    target = functional.interpolate(target[:, None], size, mode="nearest-exact")[:, 0]
    mask = functional.interpolate(batch["mask"][:, None].float(), size, mode="nearest-exact")[:, 0] > 0.5
    # Before a sigmoid the target is the logit, which is infinite at the ends of [0, 1].
    wanted = torch.logit(target.clamp(0.02, 0.98)) if model.sigmoid else target
    return raw.flatten(), wanted.flatten(), mask.flatten()
